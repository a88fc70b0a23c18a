# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing to Google Cloud Storage. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import socket
import ssl
import traceback

from ansible_collections.modelfleet.serving.plugins.module_utils._publish_answers import (
    Found,
    MissingLibrary,
    Reader,
    Refusal,
    Taken,
    causes,
    need_version,
    network_refusal,
    refusal,
)

_CHUNK = 16 << 20  # of a resumable upload; a multiple of 256 KiB
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_UNIVERSE = "googleapis.com"
_AGAIN = (408, 429, 500, 502, 503, 504)


class GcsObjects:
    """The objects of one bucket."""

    NAMES = {
        "id": "service account",
        "secret": "service_account_json or service_account_file",
        "token": "access token",
        "bucket": "bucket",
        "key": "kms_key_name",
        "rights": "read and write objects (the role Storage Object User, roles/storage.objectUser)",
    }

    def __init__(self, store, ca_path=None, validate_certs=True):
        try:
            from google.cloud import storage

            # The first with errors of its own.
            need_version("google-cloud-storage", storage.__version__, "3.0")
            import requests
            from google.api_core.exceptions import GoogleAPICallError, RetryError
            from google.api_core.retry import Retry
            from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
            from google.auth.transport.requests import AuthorizedSession, Request
            from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
            from google.oauth2.service_account import Credentials
        except ImportError:
            raise MissingLibrary("google-cloud-storage", traceback.format_exc()) from None
        self.store = store
        self.place = store.endpoint_url
        self._status_errors = (GoogleAPICallError, InvalidResponse)
        self._refresh_error = RefreshError
        self._corruption = DataCorruption
        self._network = (TransportError, RetryError, requests.RequestException, OSError)
        self._errors = (*self._status_errors, *self._network, GoogleAuthError, DataCorruption)
        try:
            if store.identity:
                credentials = self._of_identity(store.identity)
            else:
                credentials = Credentials.from_service_account_info(store.service_account, scopes=[_SCOPE])
        except (ValueError, KeyError, TypeError, GoogleAuthError):
            raise Refusal("the service account's private_key cannot be read", "Give the JSON key file as Google issued it") from None
        if ca_path or not validate_certs:
            for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # would win against a session's own
                os.environ.pop(name, None)
        token_session = requests.Session()
        session = AuthorizedSession(credentials, auth_request=Request(token_session))
        session.verify = token_session.verify = (ca_path or True) if validate_certs else False
        # Where the accounts have another domain than Google's own, the library wants to hear it twice.
        universe = getattr(credentials, "universe_domain", None) or _UNIVERSE
        if universe != _UNIVERSE and not store.endpoint:
            raise Refusal("the service account is one of {}".format(universe), "Set endpoint to the storage server there")
        options = {"api_endpoint": self.place, "universe_domain": universe}
        client = storage.Client(project=store.project_id, credentials=credentials, _http=session, client_options=options)
        self.bucket = client.bucket(store.bucket, user_project=store.user_project)
        self.retry = Retry(predicate=self._again, initial=1.0, multiplier=2.0, maximum=8.0, timeout=30.0)

    @staticmethod
    def _of_identity(identity):
        from google.auth.credentials import Credentials

        class OfIdentity(Credentials):
            def refresh(self, request):
                token = identity.access_token()
                self.token = token.value
                # Without its zone, as the library compares it.
                self.expiry = datetime.datetime.fromtimestamp(token.expires, datetime.timezone.utc).replace(tzinfo=None)

        return OfIdentity()

    def _again(self, exc):
        status = _status(exc)
        if status is not None:
            return status in _AGAIN
        hopeless = (self._refresh_error, ssl.SSLError, socket.gaierror, ConnectionRefusedError)
        return isinstance(exc, self._network) and not any(isinstance(one, hopeless) for one in causes(exc))

    def head(self, key):
        blob = self.bucket.blob(key)
        with self._answers():
            try:
                blob.reload(retry=self.retry)
            except self._status_errors as exc:
                # The two answers 404 differ in their text only.
                if _status(exc) == 404 and "bucket does not exist" not in str(exc):
                    return None
                raise
        return Found(blob.size, ((blob.metadata or {}).get("sha256") or "").lower(), blob.generation)

    def read_sha256(self, key):
        sink = _Digest()
        with self._answers():
            self.bucket.blob(key).download_to_file(sink, raw_download=True, retry=self.retry)
        return sink.digest.hexdigest()

    def put(self, key, src, size, sha256, found, progress):
        blob = self.bucket.blob(key, chunk_size=_CHUNK, kms_key_name=self.store.writes.get("kms_key_name"))
        blob.metadata = {"sha256": sha256}
        with self._answers(), open(src, "rb") as handle:
            blob.upload_from_file(
                Reader(handle, progress),
                size=size,
                content_type="application/octet-stream",
                # 0: only where there is no object.
                if_generation_match=found.generation if found else 0,
                checksum="crc32c",
                retry=self.retry,
            )

    def delete(self, key):
        with self._answers():
            self.bucket.blob(key).delete(retry=self.retry)

    @contextlib.contextmanager
    def _answers(self):
        try:
            yield
        except self._errors as exc:
            raise self._refusal(exc) from None

    def _refusal(self, exc):
        status = _status(exc)
        if status is not None:
            reasons = _reasons(exc)
            if status == 412 and "conditionNotMet" in reasons:
                return Taken()
            kind = _kind_by_words(str(exc), reasons) or {401: "secret", 403: "denied", 404: "bucket"}.get(status)
            kind = kind or ("busy" if status in _AGAIN else "other")
            return refusal(kind, self.NAMES, status, reasons[0] if reasons else None)
        if isinstance(exc, self._refresh_error):
            answer = next((part for part in exc.args if isinstance(part, dict)), {})
            return refusal("account", self.NAMES, code=answer.get("error"))
        if isinstance(exc, self._corruption):
            return Refusal("the content was damaged on its way, says the store", "Try again")
        return network_refusal(exc, self.place)


class _Digest:
    """A file that keeps only the sha256 of what is written."""

    def __init__(self):
        self.digest = hashlib.sha256()

    def write(self, block):
        self.digest.update(block)
        return len(block)

    def flush(self):
        pass


def _status(exc):
    code = getattr(exc, "code", None)
    if code is None:
        code = getattr(getattr(exc, "response", None), "status_code", None)
    return int(code) if isinstance(code, int) else None


def _kind_by_words(text, reasons):
    """The kind of a refusal whose status others have too."""
    if "retentionPolicyNotMet" in reasons or "objectUnderActiveHold" in reasons:
        return "retained"
    if "requester pays bucket" in text:
        return "payer"
    if "customer-supplied encryption key" in text or "resourceIsEncryptedWithCustomerEncryptionKey" in reasons:
        return "customer key"
    if "orgPolicyConstraintFailed" in reasons:
        return "policy"
    return "key" if "Cloud KMS" in text else None


def _reasons(exc):
    """The store's own words for a failure; of an upload only its answer has them."""
    errors = getattr(exc, "errors", None)
    if not errors:
        try:
            errors = exc.response.json()["error"]["errors"]
        except (AttributeError, KeyError, TypeError, ValueError):
            errors = None
    return [error.get("reason") for error in errors or () if isinstance(error, dict)]
