# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of a store that get exactly the content of a file. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import hashlib
import os

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._publish import CLIENTS
from ansible_collections.modelfleet.serving.plugins.module_utils._publish_answers import Refusal, Taken, check_ca
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import (
    check_object_key,
    credentials_argument_spec,
    publishing_store,
    storage_argument_spec,
)


def publishing_argument_spec():
    """The options of a module that publishes, for ``Publisher`` and ``Progress``."""
    return {
        "storage": storage_argument_spec(),
        "credentials": credentials_argument_spec(),
        "progress_path": {"type": "path"},
        "ca_path": {"type": "path"},
        "validate_certs": {"type": "bool", "default": True},
    }


class Source:
    """A file as it was when its digest was made: ``size`` (int) and ``sha256`` (str) of the file ``path`` (str)."""

    def __init__(self, path):
        digest = hashlib.sha256()
        self.path = path
        self.size = 0
        try:
            with open(path, "rb") as handle:
                self._state = _state(handle.fileno())
                for block in iter(lambda: handle.read(1 << 20), b""):
                    digest.update(block)
                    self.size += len(block)
                changed = _state(handle.fileno()) != self._state
        except OSError as exc:
            raise ModelFleetError("Failed to read {}: {}. Check src.".format(path, os.strerror(exc.errno))) from exc
        if changed:
            raise ModelFleetError("Failed to read {}: it changed meanwhile. Publish it when nothing writes to it.".format(path))
        self.sha256 = digest.hexdigest()

    def has_changed(self):
        return _state(self.path) != self._state


class Publisher:
    """The store that a module's options describe, to write to. ``key`` is what it is used for, for errors."""

    def __init__(self, params, key):
        check_object_key(key)
        self._store = publishing_store(params["storage"], params["credentials"])
        check_ca(params["ca_path"])
        try:
            self._client = CLIENTS[self._store.name](self._store, params["ca_path"], params["validate_certs"])
        except Refusal as exc:
            raise ModelFleetError(
                "Failed to use the credentials for {}: {}. {}.".format(self._store.describe(key), exc.reason, exc.remedy)
            ) from None

    def object(self, key, overwrite):
        return StoredObject(self._store, self._client, key, overwrite)


class StoredObject:
    """One object, there or not. Raises ModelFleetError in the words of its user.

    With ``overwrite`` other content under its key is replaced, otherwise that is an error.
    """

    def __init__(self, store, client, key, overwrite):
        self.key = key
        self.name = store.describe(key)
        self._client = client
        self._overwrite = overwrite
        self._where = self.name if self.name.startswith(client.place) else "{} at {}".format(self.name, client.place)

    def head(self):
        """The object as its store describes it, a ``Found``, None where there is none."""
        return self._call("look at", self._client.head)

    def look(self, size):
        """The same, with its digest if it has ``size`` bytes. If none is recorded the object is read: only its bytes tell."""
        found = self.head()
        if found and found.size is None:  # some web servers do not say
            found = found._replace(size=size)
        if found and not found.sha256 and found.size == size:
            found = found._replace(sha256=self._call("read", self._client.read_sha256))
        return found

    def delete(self):
        self._call("delete", self._client.delete)

    def check_replacement(self, before, source):
        """Refuse to put ``source`` in the place of what ``before`` (of ``look``) describes, unless that is the same or may be replaced."""
        if before and not self._overwrite and not same(before, source):
            raise ModelFleetError(
                "Failed to publish {}: the object has other content already (sha256 {}, {} bytes) than {} (sha256 {}, {} bytes)."
                " Publish under another key, or set overwrite=true.".format(
                    self._where, before.sha256 or "not recorded", before.size, source.path, source.sha256, source.size
                )
            )

    def write(self, source, before, progress):
        """Make the object, described by ``before`` (of ``look``), have the content of ``source``, and look what has arrived."""
        self._check_source(source, "Nothing was sent")
        unsure = "Something else may be there now{}".format("" if self._overwrite else ": delete the object first (state=absent)")
        try:
            self._call("write", self._client.put, source.path, source.size, source.sha256, before, progress)
        except Taken:
            # Another publisher, or this one's own upload whose answer got lost.
            self._check_source(source, unsure)
            now = self.look(source.size)
            if not same(now, source):
                self.check_replacement(now, source)
                raise self._overtaken("write") from None
            return
        except Exception:
            # A library says in its own words that a file has become shorter.
            self._check_source(source, unsure)
            raise
        self._check_source(source, unsure, undo=True)
        stored = self.look(source.size)
        if not same(stored, source):
            raise ModelFleetError(
                "Failed to write {}: afterwards the store has {} bytes with the sha256 {}, but {} bytes with {} were sent."
                " Check whether something else writes there; {}publish again.".format(
                    self._where,
                    stored.size if stored else "no",
                    stored.sha256 or "not recorded" if stored else "none",
                    source.size,
                    source.sha256,
                    "" if self._overwrite else "delete the object (state=absent) and ",
                )
            )

    def _check_source(self, source, remedy, undo=False):
        """Refuse a file that is another one than at its digest. With ``undo`` the object has its content and the digest of before."""
        if not source.has_changed():
            return
        if undo:
            try:
                self.delete()
                remedy = "The object was deleted again"
            except ModelFleetError as exc:
                remedy = "{}. {}".format(remedy, str(exc).rstrip("."))
        raise ModelFleetError(
            "Failed to publish {}: the file changed while it was uploaded to {}. {}. Publish again when nothing writes to the file.".format(
                source.path, self._where, remedy
            )
        ) from None

    def _overtaken(self, verb):
        return ModelFleetError("Failed to {} {}: another publisher changed it at the same time. Run again.".format(verb, self._where))

    def _call(self, verb, method, *args):
        try:
            return method(self.key, *args)
        except Refusal as exc:
            raise ModelFleetError("Failed to {} {}: {}. {}.".format(verb, self._where, exc.reason, exc.remedy)) from None
        except Taken:
            if verb == "write":
                raise
            raise self._overtaken(verb) from None


def same(found, source):
    """Whether the object that ``found`` (``Found`` or None) describes has the content of ``source`` (anything with size and sha256)."""
    return found is not None and (found.size, found.sha256) == (source.size, source.sha256)


def _state(file):
    """What changes with the content of a file, given by its path or descriptor; None for one that is gone."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev
