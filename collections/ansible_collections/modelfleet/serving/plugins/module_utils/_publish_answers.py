# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the publishing clients have in common: answers, the network's own troubles, progress.

PRIVATE to the collection: it can have breaking changes at any time.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import socket
import ssl
import sys
import threading
import time

from ansible.module_utils.compat.version import LooseVersion
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._text import human_bytes

# An object as its store describes it: bytes (None: the store does not say), recorded sha256 ("" if none), what names exactly this content.
Found = collections.namedtuple("Found", "size sha256 generation", defaults=(None,))

_CODE = re.compile(r"[A-Za-z0-9_.-]{1,60}\Z")


class Refusal(Exception):
    """The store, or the way to it, did not do what was asked; in our own words, since a library's may hold a signature."""

    def __init__(self, reason, remedy):
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Taken(Exception):
    """Since it was looked at, another publisher has written the object."""


class MissingLibrary(Exception):
    def __init__(self, library, trace):
        super().__init__(library)
        self.library = library
        self.trace = trace


def need_version(library, found, least):
    """Refuse a library that is older than what this code was written for, before it fails in the middle of something."""
    if LooseVersion(found) < LooseVersion(least):
        raise ModelFleetError(
            "Failed to publish: {0} {1} of {2} is too old. Install {0}>={3} there, or set ansible_python_interpreter to a Python"
            " that has it.".format(library, found, sys.executable, least)
        )


# What each store calls these things is in its client's NAMES.
_REFUSALS = {
    "id": ("the store does not know the {id}", "Check {id} and that it still exists"),
    "secret": ("the store does not accept the signature", "Check {secret}, and that it belongs to {id}"),
    "account": (
        "the token server does not accept the key of the {id}",
        "Check {secret}, that the key has not been deleted, and the clock of this machine",
    ),
    "expired": ("the {token} has expired", "Get new temporary credentials"),
    "token": ("the {token} does not fit the credentials", "Give the {token} that was issued with them, and none with permanent ones"),
    "clock": ("the clock of this machine is wrong, says the store", "Correct the clock"),
    "denied": ("permission is denied", "Allow these credentials to {rights}"),
    "key": (
        "the store cannot use the key of the encryption",
        "Check {key}: that it exists, is enabled, is where the bucket is, and that these credentials or the store may use it",
    ),
    "policy": ("a policy demands encryption with a key of your own", "Set {key} in the credentials, or make that key the bucket's default"),
    "customer key": (
        "the object is encrypted with a key of its publisher",
        "Publish under another key: hosts read by URLs, and such a key would have to be in a header",
    ),
    "retained": ("the object is under retention or a legal hold", "Publish under another key, or wait until that ends"),
    "payer": ("whoever asks has to pay for it", "Set user_project in modelfleet_storage to the project that pays"),
    "bucket": ("there is no {bucket} of this name", "Create it, or correct {bucket}"),
    "region": ("the {bucket} belongs to {right}, not to {wrong}", "Set {option} to {right}"),
    "busy": ("the store is overloaded or out of order", "Try again later"),
    "other": ("the store refuses", "Check {bucket}, endpoint and credentials"),
}


def refusal(kind, names, status=None, code=None, **facts):
    """The Refusal of a kind, with the store's own status and code."""
    reason, remedy = _REFUSALS[kind]
    said = " ".join(str(part) for part in (status, code) if part and _CODE.match(str(part)))
    facts = {**names, **facts}
    return Refusal(reason.format(**facts) + (" ({})".format(said) if said else ""), remedy.format(**facts))


def causes(exc):
    """An exception and everything that libraries have wrapped in it."""
    queue, seen = [exc], []
    while queue:
        one = queue.pop(0)
        if isinstance(one, BaseException) and not any(one is other for other in seen):
            seen.append(one)
            inner = [one.__cause__, getattr(one, "reason", None), getattr(one, "inner_exception", None), *one.args]
            # __context__ comes last: it may be something that was handled.
            queue += [*inner, one.__context__]
    return seen


def network_refusal(exc, place):
    """Why ``place`` (scheme, host and port) could not be reached."""
    found = causes(exc)

    def first(*kinds):
        return next((one for one in found if isinstance(one, kinds)), None)

    network = "Check the endpoint, the network and the proxy variables"
    untrusted = first(ssl.SSLCertVerificationError)
    if untrusted is not None:
        return Refusal(
            "its certificate is not trusted ({})".format(untrusted.verify_message),
            "Give the CA bundle of the store in ca_path (modelfleet_publish_ca_path), or correct the endpoint",
        )
    if first(ssl.SSLError) is not None or any("SSLError" in type(one).__name__ for one in found):
        return Refusal("TLS failed ({})".format(getattr(first(ssl.SSLError), "reason", None) or "unknown reason"), network)
    if any("ProxyError" in type(one).__name__ or "ProxyConnection" in type(one).__name__ for one in found) or any(
        str(one).startswith("Tunnel connection failed") for one in found
    ):
        return Refusal("the proxy does not connect to it", "Check the proxy variables and what the proxy allows")
    if first(socket.gaierror) is not None or any("NameResolution" in type(one).__name__ for one in found):
        return Refusal("its name is not known here", "Check the endpoint, DNS and the proxy variables")
    if first(ConnectionRefusedError) is not None:
        return Refusal("nothing listens there", network)
    if any("Timeout" in type(one).__name__ for one in found):
        return Refusal("it does not answer in time", network)
    if first(ConnectionError) is not None or any("Disconnected" in type(one).__name__ for one in found):
        return Refusal("the connection broke", network + ", and what the store or a proxy before it says in its log")
    number = next((one.errno for one in found if isinstance(one, OSError) and one.errno), None)
    return Refusal(os.strerror(number) if number else "the connection failed ({})".format(type(exc).__name__), network)


def check_ca(ca_path):
    """Refuse a CA bundle that is none before a library does in its own words."""
    if not ca_path:
        return
    try:
        ssl.create_default_context(cafile=ca_path)
    except (OSError, ValueError) as exc:
        why = "it holds no certificate" if isinstance(exc, ssl.SSLError) else getattr(exc, "strerror", None) or "it cannot be read"
        raise ModelFleetError("Failed to use ca_path {}: {}. Give a file with CA certificates in PEM.".format(ca_path, why)) from None


class Progress:
    """How far an upload of one or several objects is, as lines appended to a file, one a second at most. Without a file it says nothing."""

    def __init__(self, path, total, clock=time.monotonic):
        self.total = total
        self.done = 0
        self._base = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._started = self._said = clock()
        self._file = None
        if path:
            try:
                self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
            except OSError as exc:
                raise ModelFleetError(
                    "Failed to write progress_path {}: {}. Check its directory.".format(path, os.strerror(exc.errno))
                ) from None

    def add(self, count):
        """``count`` more bytes are sent; negative when some are sent again. Any thread may call it."""
        with self._lock:
            self.done += count
            if self._file and self._clock() - self._said >= 1:
                self._say()

    def at(self, done, _total=None):
        self.add(self._base + done - self.done)

    def finish(self, size):
        """One of several objects is sent, ``size`` bytes; what comes counts on from there."""
        self.at(size)
        self._base = self.done

    def _say(self):
        self._said = self._clock()
        percent = 100 * self.done // self.total if self.total else 100
        rate = self.done / max(self._said - self._started, 0.001)
        line = "{} of {} ({} %), {}/s\n".format(human_bytes(self.done), human_bytes(self.total), percent, human_bytes(int(rate)))
        with contextlib.suppress(OSError):  # a full disk does not stop an upload
            self._file.write(line)
            self._file.flush()

    def close(self):
        if self._file:
            with contextlib.suppress(OSError):
                self._file.close()


class Reader:
    """A file whose reading is an upload's progress. What was read last is not counted: it may be on its way still."""

    def __init__(self, handle, progress):
        self._handle = handle
        self._progress = progress

    def read(self, size=-1):
        self._progress.at(self._handle.tell())
        return self._handle.read(size)

    def seek(self, *where):
        return self._handle.seek(*where)

    def tell(self):
        return self._handle.tell()
