# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HMAC-SHA1 signature that OSS and OBS each made from S3's second version, in a URL and in the Authorization header."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from .messages import Request
from .xmlstore import Place, Proof, XmlStore, expiry


class HmacSha1(XmlStore):
    SCHEME: str  # first word of the Authorization header
    ID: str  # parameter of the access key
    TOKEN: str  # parameter of the security token
    PREFIX: str  # of the store's headers
    SUBRESOURCES: re.Pattern  # parameters of requests for objects that are signed, in lower case

    def resource(self, place: Place) -> str:
        """The object in the form that is signed."""
        raise NotImplementedError

    def signed_date(self, request: Request) -> str:
        """The Date line of a request that is signed in its header."""
        raise NotImplementedError

    def verify_hmac_sha1(self, request: Request, place: Place) -> Proof:
        params = dict(request.params)
        authorization = request.headers.get("Authorization")
        names = [name.lower() for name, _ in request.params]
        if len(names) != len(set(names)):
            raise self.refuse("twice")
        in_query = {self.ID, "Signature"} & set(params)
        if authorization and in_query:
            raise self.refuse("two mechanisms", ArgumentName="Authorization")
        if authorization:
            scheme, _, rest = authorization.partition(" ")
            name, _, given = rest.partition(":")
            if scheme != self.SCHEME or not name or not given:
                raise self.refuse("malformed", ArgumentName="Authorization")
            self._check_date(request)
            date = self.signed_date(request)
        elif in_query:
            if any(not params.get(needed) for needed in (self.ID, "Expires", "Signature")):
                raise self.refuse("incomplete")
            name, date, given = params[self.ID], params["Expires"], params["Signature"]
            self._check_expiry(date)
        else:
            raise self.refuse("anonymous")

        tokens = [params[self.TOKEN]] if params.get(self.TOKEN) else []
        tokens += request.headers.get_all(self.PREFIX + "security-token", [])
        key = self.known_key(name, tokens, **{self.ID: name})
        to_sign = self._string_to_sign(request, place, date)
        expected = base64.b64encode(hmac.new(key.secret.encode(), to_sign.encode(), hashlib.sha1).digest())
        if not hmac.compare_digest(expected, given.encode()):
            raise self.refuse(
                "mismatch",
                **{self.ID: name},
                SignatureProvided=given,
                StringToSign=to_sign,
                StringToSignBytes=to_sign.encode().hex(" ").upper(),
            )
        return Proof(key, self.PREFIX)

    def _check_date(self, request: Request) -> None:
        told = request.headers.get(self.PREFIX + "date") or request.headers.get("Date") or ""
        try:
            made = parsedate_to_datetime(told).astimezone(timezone.utc)
        except (TypeError, ValueError, OverflowError):
            raise self.refuse("no date") from None
        self.check_clock(made, told)

    def _check_expiry(self, expires: str) -> None:
        if not expires.isascii() or not expires.isdecimal() or len(expires) > 11:
            raise self.refuse("bad expiry")
        now = self.now()
        if now.timestamp() > int(expires):
            raise self.refuse("expired", **expiry(datetime.fromtimestamp(int(expires), timezone.utc), now))

    def _string_to_sign(self, request: Request, place: Place, date: str) -> str:
        own = sorted((name.lower(), value.strip()) for name, value in request.headers.items() if name.lower().startswith(self.PREFIX))
        signed = sorted((name, value) for name, value in request.params if self.SUBRESOURCES.fullmatch(name.lower()))
        query = "&".join(f"{name}={value}" if value else name for name, value in signed)
        return "\n".join(
            [
                request.method,
                request.headers.get("Content-MD5", ""),
                request.headers.get("Content-Type", ""),
                date,
                *(f"{name}:{value}" for name, value in own),
                self.resource(place) + ("?" + query if query else ""),
            ]
        )
