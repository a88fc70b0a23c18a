# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""S3 and what speaks its protocol. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import re

from ansible_collections.modelfleet.serving.plugins.module_utils._identity_s3 import S3Identity
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_checks import BaseStore, has_address, is_address
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_signing import SEVEN_DAYS, encode_path, presign_aws4

# What the regions of AWS begin with that have another domain than amazonaws.com.
_DOMAINS = {
    "cn-": "amazonaws.com.cn",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
    "eu-isoe-": "cloud.adc-e.uk",
}
# Of another store than AWS, RegionOne for example.
_OWN_REGION = re.compile(r"[A-Za-z0-9_-]+\Z")
_BUCKET = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")


class S3Store(BaseStore):
    name = "s3"
    title = "S3"
    CREDENTIALS = {
        "access_key": {"type": "str", "no_log": False},
        "secret_key": {"type": "str", "no_log": True},
        "session_token": {"type": "str", "no_log": True},
        "identity": S3Identity.OPTION,
        "endpoint": {"type": "str"},
    }
    OPTIONS = {
        "bucket": {"type": "str", "required": True},
        "region": {"type": "str", "default": "us-east-1"},
        "path_style": {"type": "bool", "default": False},
        "requester_pays": {"type": "bool", "default": False},
        **CREDENTIALS,
    }
    WRITES = {
        "server_side_encryption": {"type": "str", "choices": ["AES256", "aws:kms", "aws:kms:dsse"]},
        "sse_kms_key_id": {"type": "str", "no_log": False},
        "checksum_algorithm": {"type": "str", "choices": ["CRC32", "SHA1", "SHA256"]},
    }
    SECRETS = ("secret_key", "session_token")
    IDENTITY = S3Identity

    def __init__(self, options, from_credentials=()):
        super().__init__(options, from_credentials)
        self.bucket = options["bucket"]
        self.region = options.get("region") or "us-east-1"
        self.access_key = options.get("access_key") or None
        self.secret_key = options.get("secret_key") or None
        self.session_token = options.get("session_token") or None
        self.endpoint = options.get("endpoint") or None
        self.requester_pays = bool(options.get("requester_pays"))
        self._check()
        self._identify(options, "access_key", "secret_key")
        domain = next((domain for start, domain in _DOMAINS.items() if self.region.startswith(start)), "amazonaws.com")
        url = self.endpoint or "https://s3.{}.{}".format(self.region, domain)
        self.sts_url = "https://sts.{}.{}".format(self.region, domain)
        # A name with dots does not fit the wildcard certificate of a store, and an address takes no subdomain.
        self.path_style = bool(options.get("path_style")) or "." in self.bucket or has_address(url)
        self._locate(url, "" if self.path_style else self.bucket)
        self.s3_endpoint_url = self.endpoint_url

    def _check(self):
        self._check_encryption()
        self._need(bucket=self.bucket)
        if not _BUCKET.match(self.bucket) or is_address(self.bucket):
            raise self.refuse("bucket", self.bucket, "it must be 3 to 63 lower-case letters, digits, '-' or '.', no address")
        self._check_region(self.region, _OWN_REGION if self.endpoint else None, "us-east-1")
        if self.endpoint is not None:
            self._check_endpoint(self.endpoint)

    def to_config(self):
        config = {
            "type": self.name,
            "bucket_name": self.bucket,
            "region": self.region,
            **self._credentials_config(access_key=self.access_key, secret_key=self.secret_key),
        }
        if self.endpoint:
            config["endpoint"] = self.endpoint_url
        if self.session_token:
            config["session_token"] = self.session_token
        if self.path_style:
            config["path_style"] = True
        if self.requester_pays:
            config["requester_pays"] = True
        return config

    def describe(self, key):
        return "s3://{}/{}".format(self.bucket, key)

    def presign(self, method, key, expires_s, now=None):
        self._check_expiry(key, expires_s, SEVEN_DAYS)
        expires_s = self.signed_s(expires_s, now)
        path = encode_path("/{}/{}".format(self.bucket, key) if self.path_style else "/" + key)
        payer = {"x-amz-request-payer": "requester"} if self.requester_pays else {}
        return presign_aws4(self, method, path, expires_s, now, "X-Amz-Security-Token", payer)
