# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metadata service of EC2, version 2 only, and of STS the one operation that needs no signature."""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from xml.sax.saxutils import escape

from .identity import Roles, Untrusted, form_of, iso
from .messages import Request, Response
from .xmlstore import Key

# Status, code and message for a token that is not accepted.
REFUSALS = {
    "malformed": (400, "InvalidIdentityToken", "The ID Token provided is not a valid JWT."),
    "signature": (400, "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider"),
    "issuer": (400, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for this issuer"),
    "audience": (400, "InvalidIdentityToken", "Incorrect token audience"),
    "expired": (400, "ExpiredTokenException", "Token expired"),
    "subject": (403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"),
}


class S3Identity(Roles):
    """config: also {role_arn: what a token may assume}"""

    NAMES = re.compile(r"169\.254\.169\.254|sts\.([a-z0-9-]+\.)?amazonaws\.com")

    PATH = "/latest/meta-data/iam/security-credentials/"
    HEADER = "X-aws-ec2-metadata-token"

    def __init__(self, config: dict, store, now):
        super().__init__(config, store, now)
        self.role_arn = config.get("role_arn", "")

    def issue(self, until: datetime) -> dict[str, str]:
        key = Key("ASIA" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30), secrets.token_urlsafe(60), self.publish, until)
        self.store.keys[key.id] = key
        return {"AccessKeyId": key.id, "SecretAccessKey": key.secret, "Token": key.token, "Expiration": iso(until)}

    def answer(self, request: Request) -> Response:
        if request.method == "POST" and request.path == "/":
            return self._assume(form_of(request))
        return self.of_instance(request)

    def _assume(self, form: dict[str, str]) -> Response:
        if form.get("Action") != "AssumeRoleWithWebIdentity" or form.get("Version") != "2011-06-15":
            return refusal(400, "InvalidAction", "Could not find operation in this version")
        name = form.get("RoleSessionName", "")
        if not re.fullmatch(r"[\w+=,.@-]{2,64}", name, re.ASCII) or not form.get("WebIdentityToken"):
            return refusal(400, "ValidationError", "Validation errors detected")
        try:
            self.check_token(form["WebIdentityToken"])
        except Untrusted as why:
            return refusal(*REFUSALS[str(why)])
        if form.get("RoleArn") != self.role_arn:
            return refusal(*REFUSALS["subject"])
        made = self.fresh()
        made["SessionToken"] = made.pop("Token")
        rows = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in made.items())
        result = f"<AssumeRoleWithWebIdentityResult><Credentials>{rows}</Credentials></AssumeRoleWithWebIdentityResult>"
        return xml(200, "AssumeRoleWithWebIdentityResponse", result)


def refusal(status: int, code: str, message: str) -> Response:
    return xml(status, "ErrorResponse", f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error>")


def xml(status: int, root: str, content: str) -> Response:
    body = f'<{root} xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{content}</{root}>'
    return Response(status, {"Content-Type": "text/xml"}, body.encode())
