# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Azure's metadata service, as far as it gives the tokens of a managed identity, and Entra's tokens for federated credentials."""

from __future__ import annotations

import re
import secrets
from datetime import datetime

from .identity import Identity, Untrusted, form_of, json_response
from .messages import Request, Response

RESOURCE = "https://storage.azure.com/"
ASKED = {
    "grant_type": "client_credentials",
    "scope": RESOURCE + ".default",
    "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
}
# Number and message for a token that is not accepted.
REFUSALS = {
    "malformed": (50027, "JWT token is invalid or malformed."),
    "signature": (50027, "JWT token is invalid or malformed."),
    "issuer": (700211, "No matching federated identity record found for presented assertion issuer."),
    "audience": (700212, "No matching federated identity record found for presented assertion audience."),
    "subject": (700213, "No matching federated identity record found for presented assertion subject."),
    "expired": (700024, "Client assertion is not within its valid time range."),
}


class AbsIdentity(Identity):
    """config: also {tenant_id, client_id, delegator: whether the identity may have a user delegation key}"""

    NAMES = re.compile(r"169\.254\.169\.254|login\.microsoftonline\.com")

    def __init__(self, config: dict, store, now):
        super().__init__(config, store, now)
        self.tenant_id = config["tenant_id"]
        self.client_id = config["client_id"]
        self.delegator = config.get("delegator", True)
        self.oid = "00000000-0000-4000-8000-" + secrets.token_hex(6)

    def issue(self, until: datetime) -> str:
        token = "eyJ0." + secrets.token_urlsafe(90)
        facts = {"oid": self.oid, "tid": self.tenant_id, "publish": self.publish, "delegator": self.delegator, "until": until}
        self.store.tokens[token] = facts
        return token

    def answer(self, request: Request) -> Response:
        if request.method == "POST" and request.path.endswith("/oauth2/v2.0/token"):
            return self._for_token(request.path.split("/")[1], form_of(request))
        if request.method != "GET" or request.path != "/metadata/identity/oauth2/token":
            return refusal(404, "not_found", "No such resource.")
        params = dict(request.params)
        if request.headers.get("Metadata") != "true" or request.headers.get("X-Forwarded-For"):
            return refusal(400, "invalid_request", "Required metadata header not specified")
        if params.get("api-version") != "2018-02-01" or params.get("resource") != RESOURCE:
            return refusal(400, "invalid_request", "Required query variable is missing, or is not supported")
        if not self.attached or params.get("client_id", self.client_id) != self.client_id:
            return refusal(400, "invalid_request", "Identity not found")
        token = self.for_instance()
        left = int((self.store.tokens[token]["until"] - self.now()).total_seconds())
        # Numbers are texts here.
        return json_response(200, {"access_token": token, "expires_in": str(left), "resource": RESOURCE, "token_type": "Bearer"})

    def _for_token(self, tenant: str, form: dict[str, str]) -> Response:
        if tenant != self.tenant_id:
            return refusal(400, "invalid_request", f"AADSTS90002: Tenant '{tenant}' not found.")
        if any(form.get(name) != value for name, value in ASKED.items()) or not form.get("client_assertion"):
            return refusal(400, "invalid_request", "AADSTS900144: The request body must contain the parameter.")
        if form.get("client_id") != self.client_id:
            return refusal(400, "unauthorized_client", "AADSTS700016: Application was not found in the directory.")
        try:
            self.check_token(form["client_assertion"])
        except Untrusted as why:
            number, message = REFUSALS[str(why)]
            return refusal(401, "invalid_client", f"AADSTS{number}: {message}")
        return json_response(200, {"token_type": "Bearer", "expires_in": self.lifetime, "access_token": self.fresh()})


def refusal(status: int, code: str, message: str) -> Response:
    return json_response(status, {"error": code, "error_description": message})
