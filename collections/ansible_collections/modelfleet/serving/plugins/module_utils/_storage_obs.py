# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Huawei Cloud OBS. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import hashlib
import re

from ansible_collections.modelfleet.serving.plugins.module_utils._identity_obs import OBSIdentity
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_checks import BaseStore, has_address, is_address
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_signing import (
    SEVEN_DAYS,
    TWENTY_YEARS,
    encode_path,
    encode_query,
    epoch,
    hmac_base64,
    keys_of,
    presign_aws4,
)

_BUCKET = re.compile(r"(?!.*(\.\.|-\.|\.-))[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_REGION = re.compile(r"[a-z]{2,}(-[a-z0-9]+)*-\d+\Z")


class OBSStore(BaseStore):
    name = "obs"
    title = "OBS"
    CREDENTIALS = {
        "access_key_id": {"type": "str", "no_log": False},
        "secret_access_key": {"type": "str", "no_log": True},
        "security_token": {"type": "str", "no_log": True},
        "identity": OBSIdentity.OPTION,
        "endpoint": {"type": "str"},
    }
    OPTIONS = {
        "bucket": {"type": "str", "required": True},
        "region": {"type": "str", "required": True},
        "path_style": {"type": "bool", "default": False},
        "signature": {"type": "str", "choices": ["obs", "v4"], "default": "obs"},
        **CREDENTIALS,
    }
    WRITES = {
        "server_side_encryption": {"type": "str", "choices": ["AES256", "kms"]},
        "sse_kms_key_id": {"type": "str", "no_log": False},
    }
    SECRETS = ("secret_access_key", "security_token")
    IDENTITY = OBSIdentity

    def __init__(self, options, from_credentials=()):
        super().__init__(options, from_credentials)
        self.bucket = options["bucket"]
        self.region = options["region"]
        self.access_key = options.get("access_key_id") or None
        self.secret_key = options.get("secret_access_key") or None
        self.session_token = options.get("security_token") or None
        self.endpoint = options.get("endpoint") or None
        self.signature = options.get("signature") or "obs"
        self._check()
        self._identify(options, "access_key_id", "secret_access_key")
        domain = "myhuaweicloud.eu" if self.region == "eu-west-101" else "myhuaweicloud.com"
        url = self.endpoint or "https://obs.{}.{}".format(self.region, domain)
        self.path_style = bool(options.get("path_style")) or has_address(url)
        self._locate(url, "" if self.path_style else self.bucket)
        self.s3_endpoint_url = self.endpoint_url

    def _check(self):
        self._check_encryption()
        self._need(bucket=self.bucket, region=self.region)
        if not _BUCKET.match(self.bucket) or is_address(self.bucket):
            raise self.refuse(
                "bucket", self.bucket, "it must be 3 to 63 lower-case letters, digits, '-' or '.', no '.' beside '.' or '-', and no address"
            )
        if self.region.startswith("obs."):
            raise self.refuse("region", self.region, "write the region without the rest of its host name, for example cn-north-4")
        self._check_region(self.region, None if self.endpoint else _REGION, "cn-north-4")
        if self.endpoint is not None:
            self._check_endpoint(self.endpoint)

    def to_config(self):
        config = {
            "type": self.name,
            "bucket_name": self.bucket,
            "region": self.region,
            "endpoint": self.endpoint_url,
            **self._credentials_config(access_key_id=self.access_key, secret_access_key=self.secret_key),
        }
        if self.session_token:
            config["security_token"] = self.session_token
        if self.signature != "obs":
            config["signature"] = self.signature
        if self.path_style:
            config["path_style"] = True
        return config

    def describe(self, key):
        return "obs://{}/{}".format(self.bucket, key)

    def presign(self, method, key, expires_s, now=None):
        path = encode_path("/{}/{}".format(self.bucket, key) if self.path_style else "/" + key)
        if self.signature == "v4":
            self._check_expiry(key, expires_s, SEVEN_DAYS)
            expires_s = self.signed_s(expires_s, now)
            # In lower case, as Huawei's own clients send it.
            return presign_aws4(self, method, path, expires_s, now, "x-amz-security-token")
        self._check_expiry(key, expires_s, TWENTY_YEARS)
        expires, keys = epoch(now, self.signed_s(expires_s, now)), keys_of(self, now)
        query = {"AccessKeyId": keys.access_key, "Expires": expires}
        resource = encode_path("/{}/{}".format(self.bucket, key))
        if keys.session_token:
            query["x-obs-security-token"] = keys.session_token
            resource += "?x-obs-security-token=" + keys.session_token
        text = "\n".join((method, "", "", expires, resource))
        query["Signature"] = hmac_base64(keys.secret_key.encode(), text, hashlib.sha1)
        return "{}{}?{}".format(self.base_url, path, encode_query(query))
