# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alibaba Cloud OSS. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import hashlib
import re

from ansible_collections.modelfleet.serving.plugins.module_utils._identity_oss import OSSIdentity
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_checks import BaseStore, has_address
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_signing import (
    SEVEN_DAYS,
    TWENTY_YEARS,
    basic_time,
    derived_signature,
    encode_path,
    encode_query,
    epoch,
    hmac_base64,
    keys_of,
    text_to_sign,
)

_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]\Z")
_REGION = re.compile(r"[a-z]{2,}(-[a-z0-9]+)+\Z")
_PUBLIC_HOST = re.compile(r"(https?://)(oss-[a-z0-9-]+\.aliyuncs\.com(?::\d+)?)\Z")


class OSSStore(BaseStore):
    name = "oss"
    title = "OSS"
    CREDENTIALS = {
        "access_key_id": {"type": "str", "no_log": False},
        "access_key_secret": {"type": "str", "no_log": True},
        "security_token": {"type": "str", "no_log": True},
        "identity": OSSIdentity.OPTION,
        "endpoint": {"type": "str"},
    }
    OPTIONS = {
        "bucket": {"type": "str", "required": True},
        "region": {"type": "str", "required": True},
        "signature_version": {"type": "str", "choices": ["v4", "v1"], "default": "v4"},
        **CREDENTIALS,
    }
    SECRETS = ("access_key_secret", "security_token")
    IDENTITY = OSSIdentity

    def __init__(self, options, from_credentials=()):
        super().__init__(options, from_credentials)
        self.bucket = options["bucket"]
        self.region = options["region"]
        self.access_key = options.get("access_key_id") or None
        self.secret_key = options.get("access_key_secret") or None
        self.session_token = options.get("security_token") or None
        self.endpoint = options.get("endpoint") or None
        self.signature_version = options.get("signature_version") or "v4"
        self._check()
        self._identify(options, "access_key_id", "access_key_secret")
        url = self.endpoint or "https://oss-{}.aliyuncs.com".format(self.region)
        self.path_style = has_address(url)
        self._locate(url, "" if self.path_style else self.bucket)
        # OSS speaks the protocol of S3 under a name of its own; an endpoint that is none of its public names is taken as it is.
        self.s3_endpoint_url = _PUBLIC_HOST.sub(r"\1s3.\2", self.endpoint_url)

    def _check(self):
        self._need(bucket=self.bucket, region=self.region)
        if not _BUCKET.match(self.bucket):
            raise self.refuse("bucket", self.bucket, "it must be 3 to 63 lower-case letters, digits or '-', with no '-' at either end")
        if self.region.startswith("oss-"):
            raise self.refuse("region", self.region, "write the region without the oss- of its host name, {}".format(self.region[4:]))
        self._check_region(self.region, None if self.endpoint else _REGION, "cn-hangzhou")
        if self.endpoint is not None:
            self._check_endpoint(self.endpoint)

    def to_config(self):
        config = {
            "type": self.name,
            "bucket_name": self.bucket,
            "endpoint": self.endpoint_url,
            "region": self.region,
            **self._credentials_config(access_key_id=self.access_key, access_key_secret=self.secret_key),
        }
        if self.session_token:
            config["security_token"] = self.session_token
        if self.signature_version != "v4":
            config["signature_version"] = self.signature_version
        return config

    def describe(self, key):
        return "oss://{}/{}".format(self.bucket, key)

    def presign(self, method, key, expires_s, now=None):
        path = encode_path("/{}/{}".format(self.bucket, key) if self.path_style else "/" + key)
        self._check_expiry(key, expires_s, TWENTY_YEARS if self.signature_version == "v1" else SEVEN_DAYS)
        expires_s, keys = self.signed_s(expires_s, now), keys_of(self, now)
        if self.signature_version == "v1":
            query = self._sign_v1(method, key, epoch(now, expires_s), keys)
        else:
            query = self._sign_v4(method, key, expires_s, basic_time(now), keys)
        return "{}{}?{}".format(self.base_url, path, encode_query(query))

    def _sign_v4(self, method, key, expires_s, time, keys):
        scope = "/".join((time[:8], self.region, "oss", "aliyun_v4_request"))
        query = {
            "x-oss-signature-version": "OSS4-HMAC-SHA256",
            "x-oss-credential": "{}/{}".format(keys.access_key, scope),
            "x-oss-date": time,
            "x-oss-expires": str(expires_s),
        }
        if keys.session_token:
            query["x-oss-security-token"] = keys.session_token
        # The bucket is part of the signed path wherever it is in the URL, and no header is signed, not even the host.
        request = (method, encode_path("/{}/{}".format(self.bucket, key)), encode_query(query), "", "", "UNSIGNED-PAYLOAD")
        text = text_to_sign("OSS4-HMAC-SHA256", time, scope, request)
        query["x-oss-signature"] = derived_signature("aliyun_v4", keys.secret_key, scope, text)
        return query

    def _sign_v1(self, method, key, expires, keys):
        query = {"OSSAccessKeyId": keys.access_key, "Expires": expires}
        resource = "/{}/{}".format(self.bucket, key)
        if keys.session_token:
            query["security-token"] = keys.session_token
            resource += "?security-token=" + keys.session_token
        text = "\n".join((method, "", "", expires, resource))
        query["Signature"] = hmac_base64(keys.secret_key.encode(), text, hashlib.sha1)
        return query
