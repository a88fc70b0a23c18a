# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Google's metadata server, its Security Token Service, and IAM's API of credentials, which signs for those who have no key."""

from __future__ import annotations

import base64
import json
import re
import secrets
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from .identity import Identity, Untrusted, form_of, iso, json_response, text
from .messages import Request, Response

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
ACCOUNT = "/computeMetadata/v1/instance/service-accounts/default/"
IAM = re.compile(r"/v1/projects/-/serviceAccounts/(?P<email>[^/:]+):(?P<method>signBlob|generateAccessToken)")
EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "scope": SCOPE,
}
# What is said of a token that is not accepted.
REFUSALS = {
    "malformed": "Unable to parse the ID Token.",
    "signature": "Error connecting to the given credential's issuer.",
    "issuer": "The issuer in ID Token does not match the expected ones.",
    "audience": "The audience in ID Token does not match the expected audience.",
    "expired": "ID Token issued at 0 is stale to sign-in.",
    "subject": "The given credential is rejected by the attribute condition.",
}


class GcsIdentity(Identity):
    """config: also {client_email: the service account, audience: the name of the pool's provider}

    ``creator``: whether the identity may sign, and be given tokens, for the service account.
    """

    NAMES = re.compile(r"169\.254\.169\.254|metadata\.google\.internal|sts\.googleapis\.com|iamcredentials\.googleapis\.com")

    def __init__(self, config: dict, store, now):
        super().__init__(config, store, now)
        self.email = config["client_email"]
        self.audience = config.get("audience", "")
        self.creator = True
        self._key = rsa.generate_private_key(65537, 2048)
        # Tokens of identities of a pool, which the store itself does not know.
        self.federated: dict[str, datetime] = {}
        store.accounts[self.email] = {"client_email": self.email, "publish": self.publish}
        store.public_keys[self.email] = self._key.public_key()

    def issue(self, until: datetime) -> str:
        token = "ya29.d." + secrets.token_urlsafe(48)
        self.store.know(token, self.email, {SCOPE}, until)
        return token

    def answer(self, request: Request) -> Response:
        if request.method == "POST" and request.path == "/v1/token":
            return self._exchange(form_of(request))
        match = IAM.fullmatch(request.path.replace("%40", "@"))
        if request.method == "POST" and match:
            return self._iam(request, match["email"], match["method"])
        return self._of_instance(request)

    def _of_instance(self, request: Request) -> Response:
        if request.headers.get("Metadata-Flavor") != "Google" or request.headers.get("X-Forwarded-For"):
            return text(403, "Missing Metadata-Flavor:Google header.")
        if request.method != "GET":
            return text(405, "Method Not Allowed")
        if not self.attached or not request.path.startswith(ACCOUNT):
            return text(404, "Not Found")
        if request.path == ACCOUNT + "email":
            answer = text(200, self.email)
        elif request.path == ACCOUNT + "token":
            token = self.for_instance()
            left = int((self.store.expiry_of(token) - self.now()).total_seconds())
            answer = json_response(200, {"access_token": token, "expires_in": left, "token_type": "Bearer"})
        else:
            return text(404, "Not Found")
        answer.headers["Metadata-Flavor"] = "Google"
        return answer

    def _exchange(self, form: dict[str, str]) -> Response:
        if any(form.get(name) != value for name, value in EXCHANGE.items()) or not form.get("subject_token"):
            return json_response(400, {"error": "invalid_request", "error_description": "Invalid value in the request."})
        if form.get("audience") != self.audience:
            return json_response(400, {"error": "invalid_target", "error_description": "The target service indicated is invalid."})
        try:
            self.check_token(form["subject_token"])
        except Untrusted as why:
            code = "unauthorized_client" if str(why) == "subject" else "invalid_grant"
            return json_response(400, {"error": code, "error_description": REFUSALS[str(why)]})
        self.issued += 1
        token, until = "ya29.f." + secrets.token_urlsafe(48), self.until()
        self.federated[token] = until
        return json_response(
            200,
            {
                "access_token": token,
                "issued_token_type": EXCHANGE["requested_token_type"],
                "token_type": "Bearer",
                "expires_in": self.lifetime,
            },
        )

    def _iam(self, request: Request, email: str, method: str) -> Response:
        token = (request.headers.get("Authorization") or "").partition("Bearer ")[2]
        until = self.federated.get(token) or self.store.expiry_of(token)
        if until is None or until <= self.now():
            return error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        if email != self.email or not self.creator:
            return error(403, "PERMISSION_DENIED", "Permission denied on the service account.")
        try:
            body = json.loads(request.body.read(1 << 20))
            if method == "signBlob":
                content = base64.b64decode(body["payload"], validate=True)
                signed = base64.b64encode(self._key.sign(content, PKCS1v15(), SHA256())).decode()
                return json_response(200, {"keyId": "1", "signedBlob": signed})
            if body["scope"] != [SCOPE]:
                raise ValueError
        except (ValueError, KeyError, TypeError):
            return error(400, "INVALID_ARGUMENT", "Request contains an invalid argument.")
        until = self.until()
        return json_response(200, {"accessToken": self.issue(until), "expireTime": iso(until)})


def error(status: int, code: str, message: str) -> Response:
    return json_response(status, {"error": {"code": status, "message": message, "status": code}})
