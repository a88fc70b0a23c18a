# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service account of a machine at Google, and workload identity federation. PRIVATE to the collection.

As in Google Cloud's documentation: "About VM metadata" and "Authenticate workloads to Google Cloud APIs using service accounts"; the method
token of the Security Token Service; signBlob and generateAccessToken of the IAM Service Account Credentials API. Nobody has a key: IAM
signs, with one of its own that is good for 12 hours at least.
"""

from __future__ import annotations

import base64
import json
import re

from ansible_collections.modelfleet.serving.plugins.module_utils._identity import (
    Identity,
    Refused,
    Renewed,
    Token,
    code_of,
    identity_option,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_signing import encode_query

_STS = "https://sts.googleapis.com"
_IAM = "https://iamcredentials.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_ACCOUNT = "/computeMetadata/v1/instance/service-accounts/default/"
_EMAIL = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+\Z")
# Of a provider in a pool, the whole name.
_AUDIENCE = re.compile(r"//[!-~]{1,1024}\Z")
_STATUS = '"status" *: *"([A-Z_]+)"'
SIGNED_S = 12 * 3600


class GCSIdentity(Identity):
    OPTION = identity_option(
        ["instance", "web_identity"],
        ("audience", "service_account", "token_path"),
        audience={"type": "str"},
        service_account={"type": "str"},
        token_path={"type": "path", "no_log": False},
        iam_endpoint={"type": "str"},
    )
    instance_advice = (
        "Use it on a machine of Google Cloud with a service account; TorchServe's plugin needs the address in"
        " modelfleet_firewall_destinations, and those of iamcredentials.googleapis.com"
    )
    OF_INSTANCE = ("iam_endpoint",)

    def __init__(self, store, options):
        super().__init__(store, options)
        email, audience = self.options.get("service_account"), self.options.get("audience")
        if email is not None and not _EMAIL.match(email):
            raise store.refuse("identity.service_account", email, "it is the email of a service account")
        if audience is not None and not _AUDIENCE.match(audience):
            raise store.refuse(
                "identity.audience", audience, "it is the name of a provider, //iam.googleapis.com/projects/…/workloadIdentityPools/…"
            )
        self._email = email
        self._access = Renewed(self._access_token)

    def _url(self):
        return self._endpoint(self.instance_url if self.source == "instance" else _STS)

    def _iam(self):
        return (self.options.get("iam_endpoint") or _IAM).rstrip("/")

    def servers(self):
        return [self._url(), self._iam()]

    def email(self):
        """Whose signatures these are."""
        if self._email is None:
            found = self._ask_machine(_ACCOUNT + "email").strip()
            if not _EMAIL.match(found):
                raise self.error(self._url(), "it names no service account", self.instance_advice)
            self._email = found
        return self._email

    def access_token(self, now=None):
        """A ``Token`` of the service account itself, to publish with."""
        return self._access.get(now)

    def sign(self, content, now=None):
        """The signature (bytes) of the service account."""
        answer = self._call("signBlob", {"payload": base64.b64encode(content).decode()}, now)
        try:
            signature = base64.b64decode(str(answer.get("signedBlob", "")), validate=True)
        except ValueError:
            signature = b""
        if not signature:
            raise self.error(self._iam(), "it answers with something else than a signature", "Check identity.iam_endpoint")
        return signature

    def _call(self, method, body, now):
        url, email = self._iam(), self.email()
        headers = {"Authorization": "Bearer " + self.current(now).value, "Content-Type": "application/json"}
        target = f"{url}/v1/projects/-/serviceAccounts/{email}:{method}"
        answer = self.ask("POST", target, headers, json.dumps(body).encode(), shown=url)
        if isinstance(answer, Refused):
            said = f"({answer.status}{code_of(answer.text, _STATUS)})"
            if answer.status in (401, 403, 404):
                raise self.error(
                    url,
                    f"the identity may not sign as {email} {said}",
                    "Give it the role Service Account Token Creator on that service account, which of a machine is the account itself, have"
                    " the IAM Service Account Credentials API enabled, and the machine the access scope cloud-platform",
                )
            raise self.error(url, f"it refuses to sign as {email} {said}", "Check identity.iam_endpoint")
        return self.json(url, answer)

    def _access_token(self, now):
        if self.source == "instance":
            return self.current(now)
        url = self._iam()
        found = self._call("generateAccessToken", {"scope": [_SCOPE]}, now)
        return Token(self._checked(url, found.get("accessToken")), self.expiry(url, found.get("expireTime"), now))

    def _issue(self, now):
        url = self._url()
        text = self._ask_machine(_ACCOUNT + "token") if self.source == "instance" else self._exchange(url)
        found = self.json(url, text)
        return Token(self._checked(url, found.get("access_token")), self.lifetime(url, found.get("expires_in"), now))

    def _checked(self, url, token):
        if not re.match(r"[!-~]+\Z", str(token or "")):
            raise self.error(url, "it answers with something else than a token", f"Check {self._store.option('identity.endpoint')}")
        return token

    def _ask_machine(self, path):
        url = self._url()
        answer = self.ask("GET", url + path, {"Metadata-Flavor": "Google"}, direct=True, shown=url)
        if isinstance(answer, Refused):
            if answer.status == 404:
                raise self.error(url, "this machine has no service account (404)", "Attach one that may read the bucket")
            raise self.error(url, f"it gives no token ({answer.status})", self.instance_advice)
        return answer

    def _exchange(self, url):
        form = {
            "audience": self.options["audience"],
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "scope": _SCOPE,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "subject_token": self.web_token(),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self.ask("POST", url + "/v1/token", headers, encode_query(form).encode())
        if not isinstance(answer, Refused):
            return answer
        code = code_of(answer.text, '"error" *: *"([^"]*)"')
        said, path = f"({answer.status}{code})", self.options["token_path"]
        if code == " invalid_grant" and ("expired" in answer.text or "is stale" in answer.text):
            raise self.error(url, f"the token in {path} has expired {said}", "Have whoever writes it renew it, and check the clock")
        if answer.status in (400, 401, 403) and code in (" invalid_grant", " unauthorized_client", " access_denied"):
            raise self.error(
                url,
                f"it does not accept the token in {path} {said}",
                "Check the provider of the pool: its issuer is the token's, the token's audience is allowed, and its condition and mapping"
                " fit the token's claims",
            )
        raise self.error(url, f"it refuses {said}", f"Check {self._store.option('identity.audience')}")
