# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Azure Blob Storage. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import base64
import datetime
import hashlib
import re

from ansible_collections.modelfleet.serving.plugins.module_utils._identity_abs import VERSION, ABSIdentity
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_checks import BaseStore, has_address
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_signing import (
    TWENTY_YEARS,
    encode_path,
    encode_query,
    hmac_base64,
    utc,
)

_ACCOUNT = re.compile(r"[a-z0-9]{3,24}\Z")
_CONTAINER = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*\Z")
_PERMISSIONS = {"GET": "r", "HEAD": "r", "PUT": "cw"}


class ABSStore(BaseStore):
    name = "abs"
    title = "ABS"
    CREDENTIALS = {
        "account_key": {"type": "str", "no_log": True},
        "identity": ABSIdentity.OPTION,
        "endpoint": {"type": "str"},
    }
    OPTIONS = {
        "account_name": {"type": "str", "required": True},
        "container": {"type": "str", "required": True},
        "endpoint_suffix": {
            "type": "str",
            "choices": ["core.windows.net", "core.usgovcloudapi.net", "core.chinacloudapi.cn"],
            "default": "core.windows.net",
        },
        "path_style": {"type": "bool", "default": False},
        **CREDENTIALS,
    }
    WRITES = {"encryption_scope": {"type": "str"}}
    RULES = {"mutually_exclusive": [("endpoint_suffix", "endpoint")]}
    SECRETS = ("account_key",)
    IDENTITY = ABSIdentity

    def __init__(self, options, from_credentials=()):
        super().__init__(options, from_credentials)
        self.account_name = options["account_name"]
        self.account_key = options.get("account_key") or None
        self.container = self.bucket = options["container"]
        self.endpoint = options.get("endpoint") or None
        self.endpoint_suffix = options.get("endpoint_suffix") or "core.windows.net"
        self._check()
        # With an endpoint of its own an account is in the path, or the host name stands for it.
        self.path_style = bool(self.endpoint) and (bool(options.get("path_style")) or has_address(self.endpoint))
        self._locate(self.endpoint or "https://{}.blob.{}".format(self.account_name, self.endpoint_suffix))
        self.account_url = "{}/{}".format(self.base_url, self.account_name) if self.path_style else self.base_url
        self._identify(options, "account_key")
        self._key = None if self.identity else self._decoded()

    def _check(self):
        self._need(account_name=self.account_name, container=self.container)
        if not _ACCOUNT.match(self.account_name):
            raise self.refuse("account_name", self.account_name, "it must be 3 to 24 lower-case letters or digits")
        if not _CONTAINER.match(self.container):
            raise self.refuse(
                "container", self.container, "it must be 3 to 63 lower-case letters, digits or single '-', with no '-' at either end"
            )
        if self.endpoint is not None:
            self._check_endpoint(self.endpoint)

    def _decoded(self):
        try:
            key = base64.b64decode(self.account_key, validate=True)
        except ValueError:
            key = b""
        if not key:
            raise self.refuse_secret("account_key", "it is not base64. Give one of the account's two access keys, unchanged")
        return key

    def to_config(self):
        config = {
            "type": self.name,
            "account_name": self.account_name,
            **self._credentials_config(account_key=self.account_key),
            "container_name": self.container,
        }
        if self.endpoint:
            config["endpoint"] = self.endpoint_url
        elif self.endpoint_suffix != "core.windows.net":
            config["endpoint_suffix"] = self.endpoint_suffix
        if self.path_style:
            config["path_style"] = True
        return config

    def describe(self, key):
        return "{}/{}".format(self.account_url, encode_path("{}/{}".format(self.container, key)))

    def presign(self, method, key, expires_s, now=None):
        """A SAS for one blob, of an identity a user delegation SAS. A PUT needs ``x-ms-blob-type: BlockBlob``, which it does not cover."""
        self._check_expiry(key, expires_s, TWENTY_YEARS)
        expires_s = self.signed_s(expires_s, now)
        expires = (utc(now) + datetime.timedelta(seconds=expires_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
        query = {"sv": VERSION, "sr": "b", "sp": _PERMISSIONS[method], "se": expires}
        if self.tls:
            query["spr"] = "https"
        blob = "/blob/{}/{}/{}".format(self.account_name, self.container, key)
        secret, by = self._key, ("",)  # an identifier, which is left empty
        if self.identity:
            delegation = self.identity.current(now)
            query.update(zip(("skoid", "sktid", "skt", "ske", "sks", "skv"), delegation.signed))
            # The objects and the correlation that a user delegation SAS may name are left empty.
            secret, by = delegation.value, (*delegation.signed, "", "", "")
        # So are start, address, snapshot, encryption scope and five response headers.
        signed = (query["sp"], "", expires, blob, *by, "", query.get("spr", ""), VERSION, "b", "", "", "", "", "", "", "")
        query["sig"] = hmac_base64(secret, "\n".join(signed), hashlib.sha256)
        return "{}?{}".format(self.describe(key), encode_query(query))
