# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials that are in no file: a cloud gives them to its instances, or for the token of another authority.

PRIVATE to the collection: it can have breaking changes at any time. They are kept in memory only, and renewed before they expire.

An identity is one file ``_identity_<store>.py`` with one class beside the class of its store. The class has

- ``OPTION``, the argument spec of ``identity`` in the store's options, made by ``identity_option``;
- ``instance_url`` and ``instance_advice``: where instances ask, and what to check where nobody answers there;
- ``current(now=None)``: what signs now, with ``expires``, in seconds since 1970;
- ``servers()``: the URLs that the signing machine itself must reach.
"""

from __future__ import annotations

import collections
import datetime
import http.client
import os
import random
import re
import socket
import ssl
import threading
import time
import urllib.error

from ansible.module_utils.urls import ConnectionError as UrlsConnectionError
from ansible.module_utils.urls import open_url
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_signing import Keys, utc
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json

# An answer of another status than 200: its status and text.
Refused = collections.namedtuple("Refused", "status text")
# What lets one in as the header Authorization: Bearer.
Token = collections.namedtuple("Token", "value expires")

_TIMEOUT_S = 5
_ATTEMPTS = 3
# 410 is Azure's, while its metadata service is updated.
_PASSING = (408, 410, 425, 429, 500, 502, 503, 504)
_MOST_BYTES = 1 << 20
# What every vendor has the next credentials ready for, before the last ones expire.
_RENEW_S = 300
# A metadata service gives a session of that many seconds; each is used once.
SESSION_S = 60
# What may be shown of a refusal: a code, and no text, which may quote a token.
CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.]{1,60}\Z")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|\+00:?00)\Z")


def identity_option(sources, needed=(), **options):
    """The argument spec of an identity. ``options`` are those of web_identity, all of them needed but those that ``needed`` leaves out."""
    spec = {"source": {"type": "str", "required": True, "choices": list(sources)}, **options, "endpoint": {"type": "str"}}
    rules = {"required_if": [("source", "web_identity", list(needed or options))]} if "web_identity" in sources else {}
    return {"type": "dict", "options": spec, **rules}


class Renewed:
    """What ``issue(now)`` gives, asked for again before its ``expires``. Threads that want it at one time ask once."""

    def __init__(self, issue):
        self._issue = issue
        self._lock = threading.Lock()
        self._found = None
        self._margin = 0

    def get(self, now=None):
        moment = utc(now).timestamp()
        with self._lock:
            if self._found is None or self._found.expires - moment < self._margin:
                try:
                    self._found = self._issue(now)
                except ModelFleetError:
                    # What is good yet is good enough for now.
                    if self._found is None or self._found.expires - moment < 1:
                        raise
                self._margin = min(_RENEW_S, (self._found.expires - moment) / 2)
            return self._found


class Identity:
    OPTION = {}
    instance_url = "http://169.254.169.254"
    instance_advice = ""
    # The options that source: instance knows beside endpoint.
    OF_INSTANCE = ()

    def __init__(self, store, options):
        self._store = store
        self.source = options["source"]
        self.options = {key: value for key, value in options.items() if value is not None}
        for key, value in self.options.items():
            store.check_text(f"identity.{key}", value)
            if self.source == "instance" and key not in ("source", "endpoint", *self.OF_INSTANCE):
                raise store.refuse(f"identity.{key}", value, "it is for source: web_identity. Leave it out, or change source")
        for key in ("endpoint", "iam_endpoint"):
            if key in self.options:
                store.check_endpoint(f"identity.{key}", self.options[key])
        path = self.options.get("token_path")
        if path is not None and not os.path.isabs(path):
            raise store.refuse("identity.token_path", path, "it must be an absolute path")
        self._renewed = Renewed(self._issue)

    def current(self, now=None):
        return self._renewed.get(now)

    def to_config(self):
        return dict(self.options)

    def _issue(self, now):
        raise NotImplementedError

    # -- whom to ask, and how ------------------------------------------------------------------------------------------

    def _endpoint(self, default):
        """Without a slash at its end: that of the options, or the vendor's own."""
        return (self.options.get("endpoint") or default).rstrip("/")

    def servers(self):
        return [self._endpoint(self.instance_url)]

    def error(self, url, reason, remedy):
        place = self._store.describe("").rstrip("/")
        return ModelFleetError(f"Failed to get credentials for {place} from {url}: {reason}. {remedy}.")

    def ask(self, method, url, headers=None, data=None, direct=False, shown=None):
        """The text that answers a request, or a ``Refused``. ``shown`` is the URL in an error, where a part of it differs between calls.

        What may pass is asked again. ``direct`` leaves out the proxies of the environment: a metadata service knows who asks by the
        address that it is asked from.
        """
        for left in reversed(range(_ATTEMPTS)):
            try:
                with open_url(
                    url,
                    data=data,
                    headers=headers,
                    method=method,
                    use_proxy=not direct,
                    timeout=_TIMEOUT_S,
                    http_agent="modelfleet",
                    follow_redirects="none",
                    use_netrc=False,
                ) as answer:
                    return answer.read(_MOST_BYTES).decode("utf-8", "replace")
            except urllib.error.HTTPError as exc:
                if exc.code not in _PASSING or not left:
                    return Refused(exc.code, _text_of(exc))
            except (urllib.error.URLError, UrlsConnectionError, http.client.HTTPException, OSError) as exc:
                if not left:
                    raise self._unreachable(shown or url, exc, direct) from None
            time.sleep(random.uniform(0.2, 1))
        raise AssertionError("the last attempt ends in an answer or an error")

    def _unreachable(self, url, exc, direct):
        reason = getattr(exc, "reason", exc)
        if isinstance(reason, ssl.SSLCertVerificationError):
            why = f"its certificate is not trusted ({reason.verify_message})"
        elif isinstance(reason, (socket.timeout, TimeoutError)) or "timed out" in str(reason):
            why = f"it does not answer in {_TIMEOUT_S} s"
        elif isinstance(reason, socket.gaierror):
            why = "its name is not known here"
        elif isinstance(reason, ConnectionRefusedError):
            why = "nothing listens there, or a firewall refuses it"
        else:
            why = getattr(reason, "strerror", None) or f"the connection failed ({type(reason).__name__})"
        return self.error(url, why, self.instance_advice if direct else "Check endpoint, network, firewall and the proxy variables")

    def json(self, url, text):
        """A JSON object (dict) that answers."""
        try:
            found = from_json(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self.error(url, "it answers with something else than credentials", f"Check {self._store.option('identity.endpoint')}")
        return found

    def session(self, url, ttl_header):
        """The token of a metadata service for one session; it is asked for by PUT, which a server that is tricked into a GET cannot do."""
        token = self.ask("PUT", url, {ttl_header: str(SESSION_S)}, b"", direct=True)
        if not isinstance(token, Refused) and not re.match(r"[!-~]{1,4096}\Z", token.strip()):
            raise self.error(url, "it answers with something else than a token", f"Check {self._store.option('identity.endpoint')}")
        return token if isinstance(token, Refused) else token.strip()

    def web_token(self):
        """The token of the other authority, as whoever renews it wrote it last."""
        path = self.options["token_path"]
        option = self._store.option("identity.token_path")
        remedy = "Have the token there, on the machine that uses it, readable for the user that does"
        try:
            with open(path, encoding="ascii") as handle:
                token = handle.read(_MOST_BYTES).strip()
        except OSError as exc:
            raise ModelFleetError(f"Failed to read {option} {path}: {exc.strerror}. {remedy}.") from None
        except UnicodeError:
            token = ""
        if not re.match(r"[!-~]+\Z", token):
            raise ModelFleetError(f"Failed to use {option} {path}: it holds no token, which is one word of plain ASCII. {remedy}.")
        return token

    # -- what is given -------------------------------------------------------------------------------------------------

    def expiry(self, url, text, now):
        """A time in ISO 8601, in seconds since 1970. One that is over is an error: a clock is wrong, or the answer is an old one."""
        match = _MOMENT.match(str(text))
        if not match:
            raise self.error(url, "it does not say when its credentials expire", f"Check {self._store.option('identity.endpoint')}")
        moment = datetime.datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc)
        return self.checked_expiry(url, int(moment.timestamp()), now)

    def lifetime(self, url, seconds, now):
        """The same for a number of seconds from now."""
        if not re.match(r"[0-9]{1,9}\Z", str(seconds)):
            raise self.error(url, "it does not say when its credentials expire", f"Check {self._store.option('identity.endpoint')}")
        return self.checked_expiry(url, int(utc(now).timestamp()) + int(seconds), now)

    def checked_expiry(self, url, moment, now):
        if moment <= utc(now).timestamp():
            said = datetime.datetime.fromtimestamp(moment, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            raise self.error(url, f"what it gives expired at {said}", "Correct the clock of this machine")
        return moment

    def keys(self, url, found, names, now):
        """``Keys`` from an answer (dict); ``names`` are what it calls id, secret, token and the end of their time."""
        values = [found.get(name) for name in names]
        if not all(isinstance(value, str) and value for value in values):
            raise self.error(url, "it answers with something else than credentials", f"Check {self._store.option('identity.endpoint')}")
        return Keys(*values[:3], self.expiry(url, values[3], now))


class RoleIdentity(Identity):
    """The role of an instance, as AWS has it and Alibaba Cloud too: a session, the name of the role, the credentials.

    ``SESSION`` is the header of a session, ``ROLES`` where the roles are, ``NAMES`` what the parts of the credentials are called there, and
    ``UNATTACHED`` and ``ASSUMED_BY`` say what to do where there is no role, and where its service may not assume it.
    """

    _ROLE_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{1,128}\Z")
    SESSION = ROLES = UNATTACHED = ASSUMED_BY = ""
    NAMES = ()

    def _issue(self, now):
        return self.of_instance(now) if self.source == "instance" else self._for_token(now)

    def _for_token(self, now):
        raise NotImplementedError

    def of_instance(self, now):
        url = self._endpoint(self.instance_url)
        token = self.session(url + "/latest/api/token", self.SESSION + "-ttl-seconds")
        if isinstance(token, Refused):
            if token.status == 403:
                raise self.error(url, "its metadata service is off (403)", "Switch it on for this instance")
            raise self.error(url, f"it gives no session ({token.status})", self.instance_advice)
        roles = self.ask("GET", url + self.ROLES, {self.SESSION: token}, direct=True)
        refused = isinstance(roles, Refused)
        if roles.status == 404 if refused else not roles.strip():
            raise self.error(url, "no role is attached to this instance", self.UNATTACHED)
        name = "" if refused else roles.split()[0]
        if not self._ROLE_NAME.match(name):
            raise self.error(url, "it names no role" + (f" ({roles.status})" if refused else ""), self.instance_advice)
        answer = self.ask("GET", url + self.ROLES + name, {self.SESSION: token}, direct=True)
        if isinstance(answer, Refused):
            raise self.error(url, f"it gives nothing for the role {name} ({answer.status})", self.UNATTACHED)
        found = self.json(url, answer)
        if found.get("Code", "Success") != "Success":
            raise self.error(url, f"the role {name} cannot be assumed", self.ASSUMED_BY)
        return self.keys(url, found, self.NAMES, now)


def _text_of(exc):
    try:
        return exc.read(_MOST_BYTES).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""


def code_of(text, pattern):
    """The code that a refusal holds, in brackets and ready for an error; empty without one."""
    match = re.search(pattern, text)
    return f" {match[1]}" if match and CODE.match(match[1]) else ""
