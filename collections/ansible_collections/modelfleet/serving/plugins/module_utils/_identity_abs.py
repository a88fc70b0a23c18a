# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The managed identity of an Azure machine, and Entra's applications for the tokens of another authority. PRIVATE to the collection.

As in Microsoft's documentation: "How to use managed identities for Azure resources on a virtual machine to acquire an access token",
"Microsoft identity platform and the OAuth 2.0 client credentials flow" (with a federated credential), and "Get User Delegation Key" and
"Create a user delegation SAS" of the Blob service.
"""

from __future__ import annotations

import base64
import collections
import datetime
import re

from ansible_collections.modelfleet.serving.plugins.module_utils._identity import (
    Identity,
    Refused,
    Renewed,
    Token,
    code_of,
    identity_option,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_signing import encode_query, utc

# Of the service. What a SAS signs, and in which order, has not changed from 2020-12-06 up to it; emulators and Azure Stack lag behind the
# newest.
VERSION = "2021-12-02"
_RESOURCE = "https://storage.azure.com/"
_LOGIN = {
    "core.usgovcloudapi.net": "https://login.microsoftonline.us",
    "core.chinacloudapi.cn": "https://login.partner.microsoftonline.cn",
}
_NAME = re.compile(r"[A-Za-z0-9.-]{1,253}\Z")
_KEY = ("SignedOid", "SignedTid", "SignedStart", "SignedExpiry", "SignedService", "SignedVersion")
_TIME = "%Y-%m-%dT%H:%M:%SZ"
# As Microsoft advises for clocks that differ.
_EARLIER = datetime.timedelta(minutes=15)

# ``signed`` is what a SAS says of the key, in the order in which it is signed; ``value`` is the key itself.
UserDelegationKey = collections.namedtuple("UserDelegationKey", "signed value expires")


class ABSIdentity(Identity):
    OPTION = identity_option(
        ["instance", "web_identity"],
        tenant_id={"type": "str"},
        client_id={"type": "str"},
        token_path={"type": "path", "no_log": False},
    )
    instance_advice = (
        "Use it on an Azure machine, or give endpoint; TorchServe's plugin needs the address in modelfleet_firewall_destinations, and the"
        " addresses of the storage account"
    )
    OF_INSTANCE = ("client_id",)

    def __init__(self, store, options):
        super().__init__(store, options)
        for key in ("tenant_id", "client_id"):
            if key in self.options and not _NAME.match(self.options[key]):
                raise store.refuse(f"identity.{key}", self.options[key], "it is an identifier of letters, digits, '-' and '.'")
        if not store.tls:
            raise store.refuse("endpoint", store.endpoint, "with identity it must be https://, for Azure takes tokens by TLS only")
        self._tokens = Renewed(self._token)

    def _url(self):
        return self._endpoint(
            self.instance_url if self.source == "instance" else _LOGIN.get(self._store.endpoint_suffix, "https://login.microsoftonline.com")
        )

    def servers(self):
        return [self._url(), self._store.base_url]

    def token(self, now=None):
        return self._tokens.get(now)

    def _issue(self, now):
        """A key that lives as long as the token for which the account gives it."""
        token, url = self.token(now), self._store.account_url
        start = (utc(now) - _EARLIER).strftime(_TIME)
        end = datetime.datetime.fromtimestamp(token.expires, datetime.timezone.utc).strftime(_TIME)
        body = f'<?xml version="1.0" encoding="utf-8"?><KeyInfo><Start>{start}</Start><Expiry>{end}</Expiry></KeyInfo>'
        headers = {"Authorization": "Bearer " + token.value, "x-ms-version": VERSION, "Content-Type": "application/xml"}
        answer = self.ask("POST", url + "/?restype=service&comp=userdelegationkey", headers, body.encode(), shown=url)
        if isinstance(answer, Refused):
            said = f"({answer.status}{code_of(answer.text, '<Code>([^<]*)</Code>')})"
            if answer.status == 403:
                raise self.error(
                    url,
                    f"the identity may not have a user delegation key {said}",
                    "Give it the role Storage Blob Data Reader on the account, or Storage Blob Delegator there and Reader on the container,"
                    " and check the firewall of the account and the clock",
                )
            raise self.error(url, f"it gives no user delegation key {said}", "Check account_name, endpoint and the clock")
        found = dict(re.findall(r"<(Signed[A-Za-z]+|Value)>([^<>&]+)</", answer))
        try:
            signed, value = tuple(found[name] for name in _KEY), base64.b64decode(found["Value"], validate=True)
        except (KeyError, ValueError):
            raise self.error(url, "it answers with something else than a user delegation key", "Check endpoint") from None
        return UserDelegationKey(signed, value, self.expiry(url, found["SignedExpiry"], now))

    def _token(self, now):
        url = self._url()
        answer = self._of_instance(url) if self.source == "instance" else self._for_token(url)
        found = self.json(url, answer)
        if not re.match(r"[!-~]+\Z", str(found.get("access_token", ""))):
            raise self.error(url, "it answers with something else than a token", f"Check {self._store.option('identity.endpoint')}")
        return Token(found["access_token"], self.lifetime(url, found.get("expires_in"), now))

    def _of_instance(self, url):
        query = {"api-version": "2018-02-01", "resource": _RESOURCE}
        if "client_id" in self.options:
            query["client_id"] = self.options["client_id"]
        path = "/metadata/identity/oauth2/token?" + encode_query(query)
        answer = self.ask("GET", url + path, {"Metadata": "true"}, direct=True, shown=url)
        if isinstance(answer, Refused):
            if answer.status == 400:
                raise self.error(
                    url,
                    "this machine has no such managed identity (400)",
                    "Assign one to it that may read the container; of several, name one in identity.client_id",
                )
            raise self.error(url, f"it gives no token ({answer.status})", self.instance_advice)
        return answer

    def _for_token(self, url):
        form = {
            "client_id": self.options["client_id"],
            "scope": _RESOURCE + ".default",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": self.web_token(),
            "grant_type": "client_credentials",
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self.ask("POST", f"{url}/{self.options['tenant_id']}/oauth2/v2.0/token", headers, encode_query(form).encode())
        if isinstance(answer, Refused):
            raise self._refusal(url, answer)
        return answer

    def _refusal(self, url, refused):
        code = code_of(refused.text, "(AADSTS[0-9]+)")
        said = f"({refused.status}{code})"
        path = self.options["token_path"]
        if code == " AADSTS700024":
            return self.error(url, f"the token in {path} has expired {said}", "Have whoever writes it renew it, and check the clock")
        if code.startswith((" AADSTS70021", " AADSTS50027")):
            return self.error(
                url,
                f"it does not accept the token in {path} {said}",
                "Check the federated credential of the application: issuer, subject and audience are those of the token",
            )
        return self.error(url, f"it refuses {said}", "Check identity.tenant_id and identity.client_id")
