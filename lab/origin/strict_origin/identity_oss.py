# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metadata service of ECS at Alibaba Cloud, security hardening mode only, and of STS the operation that needs no signature."""

from __future__ import annotations

import re
import secrets
from datetime import datetime, timedelta, timezone

from .identity import Roles, Untrusted, form_of, iso, json_response
from .messages import Request, Response
from .xmlstore import Key

# Status, code and message for a token that is not accepted.
REFUSALS = {
    "malformed": (400, "AuthenticationFail.OIDCToken.Invalid", "This JsonWebToken is invalid."),
    "signature": (400, "AuthenticationFail.OIDCToken.Invalid", "This JsonWebToken is invalid."),
    "issuer": (400, "AuthenticationFail.OIDCToken.IssuerNotMatch", "The issuer of the OIDC token is not that of the provider."),
    "audience": (400, "AuthenticationFail.OIDCToken.AudienceNotMatch", "The audience of the OIDC token is not allowed."),
    "expired": (400, "AuthenticationFail.OIDCToken.Expired", "This JsonWebToken is expired."),
    "subject": (403, "AuthenticationFail.NoPermission", "This operation is forbidden by permission system."),
}


class OssIdentity(Roles):
    """config: also {role_arn: what a token may assume, oidc_provider_arn}"""

    NAMES = re.compile(r"100\.100\.100\.200|sts\.([a-z0-9-]+\.)?aliyuncs\.com")
    PATH = "/latest/meta-data/ram/security-credentials/"
    HEADER = "X-aliyun-ecs-metadata-token"

    def __init__(self, config: dict, store, now):
        super().__init__(config, store, now)
        self.role_arn = config.get("role_arn", "")
        self.oidc_provider_arn = config.get("oidc_provider_arn", "")

    def issue(self, until: datetime) -> dict[str, str]:
        # Tokens there have every character of base64.
        key = Key("STS." + secrets.token_urlsafe(18), secrets.token_urlsafe(30), secrets.token_urlsafe(60) + "+/==", self.publish, until)
        self.store.keys[key.id] = key
        return {"AccessKeyId": key.id, "AccessKeySecret": key.secret, "SecurityToken": key.token, "Expiration": iso(until)}

    def answer(self, request: Request) -> Response:
        if request.method == "POST" and request.path == "/":
            return self._assume(dict(request.params), form_of(request))
        return self.of_instance(request)

    def _assume(self, query: dict[str, str], form: dict[str, str]) -> Response:
        common = {"Action": "AssumeRoleWithOIDC", "Version": "2015-04-01", "Format": "JSON"}
        if any(query.get(name) != value for name, value in common.items()):
            return refusal(400, "InvalidAction.NotFound", "Specified api is not found, please check your url and method.")
        try:
            asked = datetime.strptime(query.get("Timestamp", ""), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        except ValueError:
            return refusal(400, "InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted.")
        if abs(asked - self.now()) > timedelta(minutes=15) or not query.get("SignatureNonce"):
            return refusal(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")
        if not re.fullmatch(r"[\w.@-]{2,64}", form.get("RoleSessionName", ""), re.ASCII) or not form.get("OIDCToken"):
            return refusal(400, "InvalidParameter.RoleSessionName", "The parameter RoleSessionName is wrongly formed.")
        if form.get("OIDCProviderArn") != self.oidc_provider_arn:
            return refusal(404, "EntityNotExist.OIDCProvider", "The OIDC provider does not exist.")
        try:
            self.check_token(form["OIDCToken"])
        except Untrusted as why:
            return refusal(*REFUSALS[str(why)])
        if form.get("RoleArn") != self.role_arn:
            return refusal(*REFUSALS["subject"])
        return json_response(200, {"RequestId": secrets.token_hex(8), "Credentials": self.fresh()})


def refusal(status: int, code: str, message: str) -> Response:
    return json_response(status, {"RequestId": secrets.token_hex(8), "HostId": "sts.aliyuncs.com", "Code": code, "Message": message})
