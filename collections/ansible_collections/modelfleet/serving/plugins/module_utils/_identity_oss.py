# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The RAM role of an ECS instance, and RAM roles for the tokens of another authority. PRIVATE to the collection.

As in the documentation of Alibaba Cloud: ECS, "Instance metadata" (security hardening mode only) and "Instance RAM roles"; STS,
"AssumeRoleWithOIDC", which needs no signature.
"""

from __future__ import annotations

import datetime
import re
import uuid

from ansible_collections.modelfleet.serving.plugins.module_utils._identity import Refused, RoleIdentity, code_of, identity_option
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_signing import encode_query

_ARN = re.compile(r"acs:ram::[!-~]{1,512}\Z")
_STS = "https://sts.aliyuncs.com"


class OSSIdentity(RoleIdentity):
    OPTION = identity_option(
        ["instance", "web_identity"],
        role_arn={"type": "str"},
        oidc_provider_arn={"type": "str"},
        token_path={"type": "path", "no_log": False},
    )
    instance_url = "http://100.100.100.200"
    instance_advice = (
        "Use it on an ECS instance, with its metadata service on; TorchServe's plugin needs the address in modelfleet_firewall_destinations"
    )
    SESSION = "X-aliyun-ecs-metadata-token"
    ROLES = "/latest/meta-data/ram/security-credentials/"
    NAMES = ("AccessKeyId", "AccessKeySecret", "SecurityToken", "Expiration")
    UNATTACHED = "Attach a RAM role to it that may read the bucket"
    ASSUMED_BY = "Let the service ecs.aliyuncs.com assume that role"

    def __init__(self, store, options):
        super().__init__(store, options)
        for key in ("role_arn", "oidc_provider_arn"):
            if key in self.options and not _ARN.match(self.options[key]):
                raise store.refuse(f"identity.{key}", self.options[key], "it looks like acs:ram::123456789012:role/reader")

    def servers(self):
        return [self._endpoint(self.instance_url if self.source == "instance" else _STS)]

    def _for_token(self, now):
        url = self._endpoint(_STS)
        query = {
            "Action": "AssumeRoleWithOIDC",
            "Format": "JSON",
            "Version": "2015-04-01",
            "Timestamp": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "SignatureNonce": str(uuid.uuid4()),
        }
        form = {
            "RoleArn": self.options["role_arn"],
            "OIDCProviderArn": self.options["oidc_provider_arn"],
            "RoleSessionName": "modelfleet",
            "OIDCToken": self.web_token(),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self.ask("POST", f"{url}/?{encode_query(query)}", headers, encode_query(form).encode(), shown=url)
        if isinstance(answer, Refused):
            raise self._refusal(url, answer)
        found = self.json(url, answer).get("Credentials")
        return self.keys(url, found if isinstance(found, dict) else {}, self.NAMES, now)

    def _refusal(self, url, refused):
        code = code_of(refused.text, '"Code" *: *"([^"]*)"')
        said = f"({refused.status}{code})"
        path, role = self.options["token_path"], self.options["role_arn"]
        if "OIDCToken.Expired" in code:
            return self.error(url, f"the token in {path} has expired {said}", "Have whoever writes it renew it, and check the clock")
        if "OIDCToken" in code:
            return self.error(
                url,
                f"it does not accept the token in {path} {said}",
                "Check the identity provider in RAM: its issuer is the token's, the token's audience is among its client IDs, and its"
                " fingerprint is that of the issuer's certificate",
            )
        if refused.status in (401, 403) or "NoPermission" in code:
            return self.error(
                url, f"it does not let the token in {path} assume {role} {said}", "Allow its subject and audience in the trust policy there"
            )
        option = self._store.option("identity.role_arn")
        return self.error(url, f"it refuses {said}", f"Check {option}, oidc_provider_arn and the clock")
