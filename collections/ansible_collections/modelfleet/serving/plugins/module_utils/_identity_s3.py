# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role of an EC2 instance, and AWS's roles for the tokens of another authority. PRIVATE to the collection.

As in the EC2 User Guide, "Use the Instance Metadata Service" (version 2 only) and "Retrieve security credentials from instance metadata",
and in the API reference of STS, "AssumeRoleWithWebIdentity", which MinIO and others have too.
"""

from __future__ import annotations

import re

from ansible_collections.modelfleet.serving.plugins.module_utils._identity import Refused, RoleIdentity, code_of, identity_option
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_signing import encode_query

_ROLE_ARN = re.compile(r"[!-~]{1,2048}\Z")


class S3Identity(RoleIdentity):
    OPTION = identity_option(["instance", "web_identity"], role_arn={"type": "str"}, token_path={"type": "path", "no_log": False})
    instance_advice = (
        "Use it on an EC2 instance, with its metadata service on, and with a hop limit (HttpPutResponseHopLimit) of as many as there are"
        " networks between it and who asks, 2 for a container; TorchServe's plugin needs the address in modelfleet_firewall_destinations"
    )
    SESSION = "X-aws-ec2-metadata-token"
    ROLES = "/latest/meta-data/iam/security-credentials/"
    NAMES = ("AccessKeyId", "SecretAccessKey", "Token", "Expiration")
    UNATTACHED = "Attach an instance profile whose role may read the bucket"
    ASSUMED_BY = "Let the service ec2.amazonaws.com assume that role"

    def __init__(self, store, options):
        super().__init__(store, options)
        role = self.options.get("role_arn")
        if role is not None and not _ROLE_ARN.match(role):
            raise store.refuse("identity.role_arn", role, "it looks like arn:aws:iam::123456789012:role/reader")

    def servers(self):
        return [self._endpoint(self.instance_url if self.source == "instance" else self._store.sts_url)]

    def _for_token(self, now):
        url = self._endpoint(self._store.sts_url)
        form = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": self.options["role_arn"],
            "RoleSessionName": "modelfleet",
            "WebIdentityToken": self.web_token(),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self.ask("POST", url + "/", headers, encode_query(form).encode())
        if isinstance(answer, Refused):
            raise self._refusal(url, answer)
        found = dict(re.findall(r"<(AccessKeyId|SecretAccessKey|SessionToken|Expiration)>([^<>&]+)</", answer))
        return self.keys(url, found, ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"), now)

    def _refusal(self, url, refused):
        code = code_of(refused.text, "<Code>([^<]*)</Code>")
        said = f"({refused.status}{code})"
        path, role = self.options["token_path"], self.options["role_arn"]
        if "ExpiredToken" in code:
            return self.error(url, f"the token in {path} has expired {said}", "Have whoever writes it renew it, and check the clock")
        if "InvalidIdentityToken" in code or "IDPRejectedClaim" in code:
            return self.error(
                url,
                f"it does not accept the token in {path} {said}",
                "Check the identity provider in IAM: its URL is the token's issuer, and the token's audience is among its audiences",
            )
        if refused.status in (401, 403):
            return self.error(
                url, f"it does not let the token in {path} assume {role} {said}", "Allow its subject and audience in the trust policy there"
            )
        return self.error(url, f"it refuses {said}", f"Check {self._store.option('identity.role_arn')} and the endpoint of STS")
