# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the services have in common that give out credentials: the metadata service of an instance, and who changes the tokens of others.

What they give is put into the store that they belong to, which refuses it when its time is over.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qsl

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from .messages import Request, Response

FORM = "application/x-www-form-urlencoded"


class Untrusted(Exception):
    """A token of another authority that is not accepted; the argument is why: malformed, signature, issuer, audience, subject, expired."""


class Identity:
    """config: {listen: a port where it answers under any name, names: [host, ..], publish: whether what it gives may write,
    issuer: {url, public_key: PEM, audience, subject}: the one authority, and the one token of it, that is trusted}

    ``lifetime`` (seconds) and ``attached`` (whether the instance has an identity at all) may be changed while it runs.
    """

    # Under which names its vendor has it.
    NAMES: re.Pattern

    def __init__(self, config: dict, store, now):
        self.store = store
        self.now = now
        self.publish = config.get("publish", False)
        self.names = {name.lower() for name in config.get("names", [])}
        self.issuer = config.get("issuer", {})
        self.lifetime = 3600
        self.attached = True
        self.issued = 0
        self._last = None
        self._lock = threading.Lock()

    def claims(self, hostname: str) -> bool:
        return hostname in self.names or bool(self.NAMES.fullmatch(hostname))

    def answer(self, request: Request) -> Response:
        raise NotImplementedError

    def issue(self, until: datetime):
        """Make credentials that are good until then, and let the store know them."""
        raise NotImplementedError

    def for_instance(self):
        """An instance is given the same until half of their time is over."""
        with self._lock:
            if self._last is None or self._last[0] <= self.now():
                made = self.fresh()
                self._last = self.now() + timedelta(seconds=self.lifetime / 2), made
            return self._last[1]

    def fresh(self):
        self.issued += 1
        return self.issue(self.until())

    def until(self) -> datetime:
        """When what is given now expires."""
        return self.now().replace(microsecond=0) + timedelta(seconds=self.lifetime)

    def settings(self) -> dict:
        return {"lifetime": self.lifetime, "attached": self.attached, "issued": self.issued}

    def change(self, settings: dict) -> None:
        for name, value in settings.items():
            if name not in ("lifetime", "attached") or not isinstance(value, int):
                raise ValueError("lifetime is a number of seconds, attached is true or false")
            setattr(self, name, value)
        self._last = None

    def check_token(self, token: str) -> None:
        """Verify a JWT of the one issuer that is trusted."""
        try:
            signed, _, signature = token.rpartition(".")
            header, claims = (json.loads(unbase64(part)) for part in signed.split("."))
            signature, expires = unbase64(signature), int(claims["exp"])
            audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
            algorithm, issuer, subject = header["alg"], claims["iss"], claims["sub"]
        except (KeyError, ValueError, TypeError, AttributeError):
            raise Untrusted("malformed") from None
        if issuer != self.issuer["url"]:
            raise Untrusted("issuer")
        try:
            load_pem_public_key(self.issuer["public_key"].encode()).verify(signature, signed.encode(), PKCS1v15(), SHA256())
        except InvalidSignature:
            raise Untrusted("signature") from None
        if algorithm != "RS256":
            raise Untrusted("signature")
        if expires <= self.now().timestamp():
            raise Untrusted("expired")
        if self.issuer["audience"] not in audience:
            raise Untrusted("audience")
        if subject != self.issuer["subject"]:
            raise Untrusted("subject")


class Sessions:
    """The sessions of a metadata service of the second version: a token by PUT, and nothing without it."""

    def __init__(self, path: str, header: str, now, ttl: str = "-ttl-seconds"):
        self.ttl = header + ttl
        self.path = path
        self.header = header
        self.now = now
        self._tokens: dict[str, datetime] = {}

    def opened(self, request: Request) -> Response | None:
        """The answer to a request for a session, None for another request."""
        if request.path != self.path:
            return None
        if request.method != "PUT":
            return text(405, "Method Not Allowed")
        # Whatever forwards requests, so that somebody else is answered.
        if request.headers.get("X-Forwarded-For"):
            return text(403, "Forbidden")
        seconds = request.headers.get(self.ttl, "")
        if not re.fullmatch("[0-9]{1,5}", seconds) or not 1 <= int(seconds) <= 21600:
            return text(400, "Bad Request")
        token = secrets.token_urlsafe(42)
        self._tokens[token] = self.now() + timedelta(seconds=int(seconds))
        return text(200, token)

    def refused(self, request: Request) -> Response | None:
        """The refusal of a request that belongs to no session."""
        until = self._tokens.get(request.headers.get(self.header, ""))
        return None if until and until > self.now() else text(401, "Unauthorized")


class Roles(Identity):
    """A metadata service that gives the credentials of a role by its name. config: also {role: that name}"""

    PATH: str  # where the roles are
    HEADER: str  # of a session

    def __init__(self, config: dict, store, now):
        super().__init__(config, store, now)
        self.role = config.get("role", "reader")
        self.sessions = Sessions("/latest/api/token", self.HEADER, now)

    def of_instance(self, request: Request) -> Response:
        answer = self.sessions.opened(request) or self.sessions.refused(request)
        if answer:
            return answer
        if request.method != "GET":
            return text(405, "Method Not Allowed")
        if self.attached and request.path in (self.PATH, self.PATH.rstrip("/")):
            return text(200, self.role)
        if self.attached and request.path == self.PATH + self.role:
            return text(200, json.dumps({"Code": "Success", "LastUpdated": iso(self.now()), **self.for_instance()}, indent=2))
        return text(404, "Not Found")


def form_of(request: Request) -> dict[str, str]:
    """The fields of a form, each of which stands in it once."""
    pairs = parse_qsl(request.body.read(64 * 1024).decode("utf-8", "replace"), keep_blank_values=True)
    return dict(pairs) if len(dict(pairs)) == len(pairs) and request.headers.get("Content-Type", "").partition(";")[0] == FORM else {}


def text(status: int, body: str) -> Response:
    return Response(status, {"Content-Type": "text/plain"}, body.encode())


def json_response(status: int, value: dict) -> Response:
    return Response(status, {"Content-Type": "application/json; charset=utf-8"}, json.dumps(value).encode())


def iso(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def unbase64(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
