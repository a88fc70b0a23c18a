# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""S3 and what speaks its protocol. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import ipaddress
import re
from urllib.parse import quote, urlsplit

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

_BUCKET = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_REGION = re.compile(r"[a-z0-9-]+\Z")


class S3Store:
    name = "s3"
    CREDENTIALS = {
        "access_key": {"type": "str", "required": True, "no_log": False},
        "secret_key": {"type": "str", "required": True, "no_log": True},
        "session_token": {"type": "str", "no_log": True},
    }
    OPTIONS = {
        "bucket": {"type": "str", "required": True},
        "region": {"type": "str", "default": "us-east-1"},
        "endpoint": {"type": "str"},
        "path_style": {"type": "bool", "default": False},
        **CREDENTIALS,
    }
    SECRETS = ("secret_key", "session_token")

    def __init__(self, options):
        self.bucket = options["bucket"]
        self.region = options.get("region") or "us-east-1"
        self.access_key = options["access_key"]
        self.secret_key = options["secret_key"]
        self.session_token = options.get("session_token") or None
        self.endpoint = options.get("endpoint") or None
        self._check()
        domain = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        self.endpoint_url = self.endpoint or "https://s3.{}.{}".format(self.region, domain)
        url = urlsplit(self.endpoint_url)
        self.tls = url.scheme == "https"
        default_port = 443 if self.tls else 80
        self.port = url.port or default_port
        self.server = "[{}]".format(url.hostname) if ":" in url.hostname else url.hostname
        # A name with dots does not fit the wildcard certificate of a store, and an address takes no subdomain.
        self.path_style = bool(options.get("path_style")) or "." in self.bucket or _is_address(url.hostname)
        self.hostname = self.server if self.path_style else "{}.{}".format(self.bucket, self.server)
        self.authority = self.hostname if self.port == default_port else "{}:{}".format(self.hostname, self.port)

    def _check(self):
        for key in ("bucket", "access_key", "secret_key"):
            if not getattr(self, key):
                raise ModelFleetError("Failed to use storage.s3: {} is empty. Set it in modelfleet_storage.".format(key))
        if not _BUCKET.match(self.bucket) or _is_address(self.bucket):
            raise ModelFleetError(
                "Failed to use storage.s3.bucket {!r}: it must be 3 to 63 lower-case letters, digits, '-' or '.', no address.".format(
                    self.bucket
                )
            )
        if not _REGION.match(self.region):
            raise ModelFleetError("Failed to use storage.s3.region {!r}: a region looks like us-east-1.".format(self.region))
        if self.endpoint is not None:
            _check_endpoint(self.endpoint)

    def to_config(self):
        config = {
            "type": self.name,
            "bucket_name": self.bucket,
            "region": self.region,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
        }
        if self.endpoint:
            config["endpoint"] = self.endpoint
        if self.session_token:
            config["session_token"] = self.session_token
        if self.path_style:
            config["path_style"] = True
        return config

    def origin_hosts(self):
        return [{"host": self.hostname, "port": self.port, "tls": self.tls}]

    def describe(self, key):
        return "s3://{}/{}".format(self.bucket, key)

    def presign(self, method, key, expires_s, now=None):
        """AWS Signature Version 4 in the query string; ``now`` is an aware datetime."""
        if not 1 <= expires_s <= 604800:
            raise ModelFleetError("Failed to sign a URL for {}: S3 allows 1 to 604800 seconds.".format(self.describe(key)))
        now = (now or datetime.datetime.now(datetime.timezone.utc)).strftime("%Y%m%dT%H%M%SZ")
        scope = "/".join((now[:8], self.region, "s3", "aws4_request"))
        path = quote("/{}/{}".format(self.bucket, key) if self.path_style else "/" + key, safe="/~")
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": "{}/{}".format(self.access_key, scope),
            "X-Amz-Date": now,
            "X-Amz-Expires": str(expires_s),
            "X-Amz-SignedHeaders": "host",
        }
        if self.session_token:
            query["X-Amz-Security-Token"] = self.session_token
        query = "&".join("{}={}".format(name, quote(value, safe="~")) for name, value in sorted(query.items()))
        request = "\n".join((method, path, query, "host:" + self.authority, "", "host", "UNSIGNED-PAYLOAD"))
        to_sign = "\n".join(("AWS4-HMAC-SHA256", now, scope, hashlib.sha256(request.encode()).hexdigest()))
        key4 = ("AWS4" + self.secret_key).encode()
        for part in scope.split("/"):
            key4 = hmac.new(key4, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key4, to_sign.encode(), hashlib.sha256).hexdigest()
        scheme = "https" if self.tls else "http"
        return "{}://{}{}?{}&X-Amz-Signature={}".format(scheme, self.authority, path, query, signature)


def _is_address(host):
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_endpoint(endpoint):
    try:
        url = urlsplit(endpoint)
        good = url.scheme in ("http", "https") and url.hostname and (url.port is None or url.port > 0)
    except ValueError:
        good = False
    if not good or url.path not in ("", "/") or url.query or url.fragment or url.username is not None:
        raise ModelFleetError(
            "Failed to use storage.s3.endpoint {!r}: it must be http:// or https:// with a host and perhaps a port, without user, path and"
            " query. The bucket has its own key.".format(endpoint.split("?")[0].rsplit("@")[-1])
        )
