# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing to Azure Blob Storage. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import contextlib
import hashlib
import traceback

from ansible_collections.modelfleet.serving.plugins.module_utils._publish_answers import (
    Found,
    MissingLibrary,
    Refusal,
    Taken,
    need_version,
    network_refusal,
    refusal,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_abs import VERSION

_BLOCK = 16 << 20  # a blob has 50000 blocks at most
_KINDS = {
    "AuthenticationFailed": "secret",
    "InvalidAuthenticationInfo": "secret",
    "ContainerNotFound": "bucket",
    "ContainerBeingDeleted": "bucket",
    "BlobImmutableDueToPolicy": "retained",
    "BlobUsesCustomerSpecifiedEncryption": "customer key",
    "ServerBusy": "busy",
    "InternalError": "busy",
    "OperationTimedOut": "busy",
}
_LEASED = ("LeaseIdMissing", "LeaseIdMismatchWithBlobOperation", "LeaseLost")


class _Credential:
    """What an identity gives, as azure-core has it."""

    def __init__(self, identity):
        self._identity = identity

    def get_token(self, *_scopes, **_options):
        from azure.core.credentials import AccessToken

        token = self._identity.token()
        return AccessToken(token.value, int(token.expires))


class AbsObjects:
    """The blobs of one container."""

    NAMES = {
        "id": "account_name",
        "secret": "account_key",
        "token": "token",
        "bucket": "container",
        "key": "encryption_scope",
        "rights": "read and write blobs, with an account key and from this network",
    }

    def __init__(self, store, ca_path=None, validate_certs=True):
        try:
            import azure.storage.blob

            # The first that speaks the version of the service below.
            need_version("azure-storage-blob", azure.storage.blob.__version__, "12.15")
            from azure.core.exceptions import AzureError, HttpResponseError
            from azure.storage.blob import BlobServiceClient, ExponentialRetry
        except ImportError:
            raise MissingLibrary("azure-storage-blob", traceback.format_exc()) from None
        self.place = store.account_url
        self._extra = dict(store.writes)
        self._error = HttpResponseError
        self._errors = (AzureError, OSError)
        client = BlobServiceClient(
            store.account_url,
            credential=_Credential(store.identity)
            if store.identity
            else {"account_name": store.account_name, "account_key": store.account_key},
            # The version that the hosts' URLs are signed with; emulators and Azure Stack lag behind the library's own.
            api_version=VERSION,
            max_single_put_size=_BLOCK,
            max_block_size=_BLOCK,
            connection_verify=(ca_path or True) if validate_certs else False,
            connection_timeout=10,
            retry_policy=ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=4, retry_connect=1),
        )
        self.container = client.get_container_client(store.container)

    def head(self, key):
        with self._answers():
            try:
                found = self.container.get_blob_client(key).get_blob_properties()
            except self._error as exc:
                if exc.status_code == 404 and _code(exc) in ("BlobNotFound", ""):
                    return None
                raise
        return Found(found.size, ((found.metadata or {}).get("sha256") or "").lower(), found.etag)

    def read_sha256(self, key):
        digest = hashlib.sha256()
        with self._answers():
            for block in self.container.get_blob_client(key).download_blob().chunks():
                digest.update(block)
        return digest.hexdigest()

    def put(self, key, src, size, sha256, found, progress):
        with self._answers(), open(src, "rb") as handle:
            self.container.get_blob_client(key).upload_blob(
                handle,
                length=size,
                metadata={"sha256": sha256},
                overwrite=found is not None,  # otherwise Azure itself refuses where there is a blob
                max_concurrency=4,
                progress_hook=progress.at,
                **self._extra,
            )

    def delete(self, key):
        with self._answers():
            self.container.get_blob_client(key).delete_blob()

    @contextlib.contextmanager
    def _answers(self):
        try:
            yield
        except self._errors as exc:
            raise self._refusal(exc) from None

    def _refusal(self, exc):
        if not isinstance(exc, self._error) or exc.status_code is None:
            return network_refusal(exc, self.place)
        status, code = exc.status_code, _code(exc)
        if code in ("ConditionNotMet", "BlobAlreadyExists"):
            return Taken()
        if code == "KeyBasedAuthenticationNotPermitted":
            return Refusal("the account takes no account keys ({} {})".format(status, code), "Allow shared key access for the account")
        if code == "RequestForbiddenByContainerEncryptionPolicy":
            return Refusal(
                "the container takes objects of one encryption scope only ({} {})".format(status, code),
                "Name that in encryption_scope of the credentials, or leave it out",
            )
        if code in _LEASED:
            return Refusal("the blob is leased ({} {})".format(status, code), "Break the lease, or wait until it ends")
        kind = _KINDS.get(code) or {401: "secret", 403: "denied"}.get(status) or ("busy" if status >= 500 else "other")
        return refusal(kind, self.NAMES, status, code)


def _code(exc):
    code = getattr(exc, "error_code", None)
    return str(getattr(code, "value", code) or "")
