# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Google Cloud Storage. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import json
import os
import re

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._identity_gcs import SIGNED_S, GCSIdentity
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_checks import BaseStore, is_address
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_signing import (
    SEVEN_DAYS,
    basic_time,
    encode_path,
    encode_query,
    text_to_sign,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json

_BUCKET = re.compile(r"(?!goog)(?!.*google)(?!.*\.\.)(?=[a-z0-9])[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*(?<=[a-z0-9])\Z")
# Its content is checked where it is used: the library that can do so is not on the hosts.
_PRIVATE_KEY = re.compile(r"\s*-----BEGIN PRIVATE\sKEY-----\s[A-Za-z0-9+/=\s]+-----END PRIVATE\sKEY-----\s*\Z")
_EMAIL = re.compile(r"[!-~]+@[!-~]+\Z")


class GCSStore(BaseStore):
    name = "gcs"
    title = "GCS"
    CREDENTIALS = {
        "service_account_json": {"type": "json", "no_log": True},
        "service_account_file": {"type": "path"},
        "identity": GCSIdentity.OPTION,
        "endpoint": {"type": "str"},
    }
    OPTIONS = {
        "bucket": {"type": "str", "required": True},
        "project_id": {"type": "str"},
        "user_project": {"type": "str"},
        **CREDENTIALS,
    }
    WRITES = {"kms_key_name": {"type": "str", "no_log": False}}
    RULES = CREDENTIAL_RULES = {
        "mutually_exclusive": [("service_account_json", "service_account_file", "identity")],
        "required_one_of": [("service_account_json", "service_account_file", "identity")],
    }
    SECRETS = ()
    IDENTITY = GCSIdentity

    def __init__(self, options, from_credentials=()):
        super().__init__(options, from_credentials)
        self.bucket = options["bucket"]
        self.endpoint = options.get("endpoint") or None
        self.service_account_file = options.get("service_account_file") or None
        text = options.get("service_account_json") or None
        self._check(text, options.get("identity"))
        # A file is that of the machine which uses the key: nothing reads it before.
        self._service_account = self._parsed(text, self.option("service_account_json")) if text else None
        self._project_id = options.get("project_id") or None
        self.user_project = options.get("user_project") or None
        self.path_style = True
        self._locate(self.endpoint or "https://storage.googleapis.com")
        if options.get("identity"):
            self.identity = GCSIdentity(self, options["identity"])
        if text:
            content = json.dumps(self._service_account, indent=2) + "\n"
            self.side_file = {"key": "service_account_path", "name": "service-account.json", "content": content}

    def _check(self, text, identity):
        self._need(bucket=self.bucket)
        plain = max(map(len, self.bucket.split("."))) == len(self.bucket)
        if not _BUCKET.match(self.bucket) or not 3 <= len(self.bucket) <= (63 if plain else 222) or is_address(self.bucket):
            raise self.refuse(
                "bucket",
                self.bucket,
                "it must be 3 to 63 (with dots 222) lower-case letters, digits, '-', '_' or '.', begin and end with a letter or digit,"
                " not begin with goog, not hold google, and be no address",
            )
        if self.endpoint is not None:
            self._check_endpoint(self.endpoint)
        if not text and not self.service_account_file and not identity:
            self._need(service_account_json=None)
        if self.service_account_file and not os.path.isabs(self.service_account_file):
            raise self.refuse("service_account_file", self.service_account_file, "it must be an absolute path")

    @property
    def service_account(self):
        """The key file's content as a dict."""
        if self._service_account is None:
            path = self.service_account_file
            try:
                with open(path, encoding="utf-8") as handle:
                    text = handle.read()
            except OSError as exc:
                raise ModelFleetError(
                    "Failed to read {} {}: {}. Put the key file there, on the machine that uses it, or give service_account_json.".format(
                        self.option("service_account_file"), path, exc.strerror
                    )
                ) from exc
            except UnicodeError:
                text = ""
            self._service_account = self._parsed(text, "{} {}".format(self.option("service_account_file"), path))
        return self._service_account

    @property
    def project_id(self):
        account = {} if self.identity else self.service_account
        return self._project_id or account.get("project_id") or None

    @staticmethod
    def _parsed(text, name):
        try:
            account = from_json(text)
        except ValueError:
            account = None
        problem = None
        if not isinstance(account, dict):
            problem = "it is not a JSON object"
        elif account.get("type") != "service_account":
            problem = "its type is not service_account"
        elif not _EMAIL.match(str(account.get("client_email", ""))):
            problem = "it has no client_email"
        elif not _PRIVATE_KEY.match(str(account.get("private_key", ""))):
            problem = "its private_key is not a key in PEM"
        elif not str(account.get("token_uri", "https://")).startswith(("http://", "https://")):
            problem = "its token_uri is not a URL"
        if problem:
            raise ModelFleetError(
                "Failed to use {}: {}. Give the key file of a service account, unchanged, as Google Cloud makes it.".format(name, problem)
            )
        return account

    def to_config(self):
        """For a key given as text, whoever writes ``side_file`` adds its path."""
        config = {"type": self.name, "bucket_name": self.bucket}
        # Read in any case: a bad key file fails here and not at the first download.
        account = {} if self.identity else self.service_account
        project_id = self._project_id or account.get("project_id")
        if project_id:
            config["project_id"] = project_id
        if self.identity:
            config["identity"] = self.identity.to_config()
        if self.user_project:
            config["user_project"] = self.user_project
        if self.service_account_file:
            config["service_account_path"] = self.service_account_file
        if self.endpoint:
            config["endpoint"] = self.endpoint_url
        return config

    def describe(self, key):
        return "gs://{}/{}".format(self.bucket, key)

    def signed_s(self, expires_s, now=None):
        return min(expires_s, SIGNED_S) if self.identity else expires_s

    def presign(self, method, key, expires_s, now=None):
        self._check_expiry(key, expires_s, SEVEN_DAYS)
        expires_s = self.signed_s(expires_s, now)
        email = self.identity.email() if self.identity else self.service_account["client_email"]
        time = basic_time(now)
        scope = time[:8] + "/auto/storage/goog4_request"
        query = {
            "X-Goog-Algorithm": "GOOG4-RSA-SHA256",
            "X-Goog-Credential": "{}/{}".format(email, scope),
            "X-Goog-Date": time,
            "X-Goog-Expires": str(expires_s),
            "X-Goog-SignedHeaders": "host",
        }
        if self.user_project:
            query["userProject"] = self.user_project
        query = encode_query(query)
        path = encode_path("/{}/{}".format(self.bucket, key))
        request = (method, path, query, "host:" + self.authority, "", "host", "UNSIGNED-PAYLOAD")
        text = text_to_sign("GOOG4-RSA-SHA256", time, scope, request)
        signature = self.identity.sign(text.encode(), now).hex() if self.identity else self._sign(text, self.describe(key))
        return "{}{}?{}&X-Goog-Signature={}".format(self.base_url, path, query, signature)

    def _sign(self, text, name):
        try:
            from cryptography.exceptions import UnsupportedAlgorithm
            from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
            from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
            from cryptography.hazmat.primitives.hashes import SHA256
            from cryptography.hazmat.primitives.serialization import load_pem_private_key
        except ImportError as exc:
            raise ModelFleetError(
                "Failed to sign a URL for {}: the Python library cryptography is missing. Install it on the machine that signs.".format(
                    name
                )
            ) from exc
        try:
            key = load_pem_private_key(self.service_account["private_key"].strip().encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, RSAPrivateKey):
            raise ModelFleetError(
                "Failed to sign a URL for {}: the private_key of the service account is not a whole RSA key."
                " Give the key file unchanged, as Google Cloud makes it.".format(name)
            )
        return key.sign(text.encode(), PKCS1v15(), SHA256()).hex()
