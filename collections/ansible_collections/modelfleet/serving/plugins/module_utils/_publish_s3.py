# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing to S3, and to OSS and OBS, which speak its protocol too. PRIVATE to the collection: it can have breaking changes."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import re
import traceback
from urllib.parse import urlsplit

from ansible_collections.modelfleet.serving.plugins.module_utils._publish_answers import (
    Found,
    MissingLibrary,
    Refusal,
    Taken,
    need_version,
    network_refusal,
    refusal,
)

_MULTIPART_FROM = 64 << 20
_EXTRA = {"server_side_encryption": "ServerSideEncryption", "sse_kms_key_id": "SSEKMSKeyId", "checksum_algorithm": "ChecksumAlgorithm"}
_WRITING = ("PutObject", "CreateMultipartUpload")
_KINDS = {
    "InvalidAccessKeyId": "id",
    "SignatureDoesNotMatch": "secret",
    "ExpiredToken": "expired",
    "SecurityTokenExpired": "expired",
    "InvalidToken": "token",
    "InvalidSecurityToken": "token",
    "RequestTimeTooSkewed": "clock",
    "NoSuchBucket": "bucket",
    "SlowDown": "busy",
    "ServiceUnavailable": "busy",
    "InternalError": "busy",
    "FileImmutable": "retained",
    "AccessDenied": "denied",
    "AllAccessDisabled": "denied",
    "AccessForbidden": "denied",
}


class S3Objects:
    """The objects of one bucket."""

    NAMES = {
        "id": "access_key",
        "secret": "secret_key",
        "token": "session_token",
        "bucket": "bucket",
        "key": "sse_kms_key_id",
        "rights": "list the bucket and to read and write objects (s3:ListBucket, s3:GetObject, s3:PutObject)",
    }
    # What turns on encryption by the store, where a bucket's policy can demand that of a request.
    ENCRYPTION = "server_side_encryption (AES256, aws:kms or aws:kms:dsse)"
    # Whether its buckets can let their requesters pay, and refuse those who do not say so without a reason.
    REQUESTER_PAYS = True
    # Whether the store is known to heed If-None-Match when it writes.
    CREATES_ONLY = True

    def __init__(self, store, ca_path=None, validate_certs=True):
        try:
            import boto3
            import botocore

            # The first that can leave out checksums that other stores than AWS do not know.
            need_version("boto3", boto3.__version__, "1.36")
            need_version("botocore", botocore.__version__, "1.36")
            from boto3.exceptions import Boto3Error
            from boto3.s3.transfer import TransferConfig
            from boto3.session import Session
            from botocore.config import Config
            from botocore.credentials import CredentialProvider, RefreshableCredentials
            from botocore.exceptions import BotoCoreError, ClientError, InvalidRegionError
            from botocore.session import Session as CoreSession
        except ImportError:
            raise MissingLibrary("boto3", traceback.format_exc()) from None
        self.store = store
        self.place = store.s3_endpoint_url
        self.error = ClientError
        self.errors = (BotoCoreError, Boto3Error, ClientError, OSError)
        self.transfer = TransferConfig(multipart_threshold=_MULTIPART_FROM, multipart_chunksize=_MULTIPART_FROM)
        # The options say everything; a profile that this machine is set to may not even exist.
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
        core = CoreSession()
        if store.identity:

            class Provider(CredentialProvider):
                METHOD = "modelfleet"

                def load(self):
                    return RefreshableCredentials.create_from_metadata(_metadata(store), lambda: _metadata(store), self.METHOD)

            core.get_component("credential_provider").insert_before("env", Provider())
        try:
            self.client = Session(botocore_session=core).client(
                "s3",
                region_name=store.region,
                endpoint_url=self.place,
                aws_access_key_id=store.access_key,
                aws_secret_access_key=store.secret_key,
                aws_session_token=store.session_token,
                verify=(ca_path or True) if validate_certs else False,
                config=Config(
                    signature_version="s3v4",
                    s3={"addressing_style": "path" if store.path_style else "virtual"},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    retries={"max_attempts": 5, "mode": "standard"},
                    connect_timeout=10,
                ),
            )
        except InvalidRegionError:
            raise Refusal(
                "boto3 takes no region like {}".format(store.region), "Publish with a region of letters, digits and '-', or another program"
            ) from None
        self._only_create = False
        self._payer = {"RequestPayer": "requester"} if getattr(store, "requester_pays", False) else {}
        self._extra = {_EXTRA[option]: value for option, value in store.writes.items()}
        events = self.client.meta.events
        # A bucket in another region is an error: boto3 would find its way, but the hosts' URLs would not.
        events.register("before-parameter-build.s3", _stay_in_region)
        for operation in ("PutObject", "CompleteMultipartUpload"):
            events.register("provide-client-params.s3." + operation, self._with_precondition)

    def _with_precondition(self, params, **_event):
        return {**params, "IfNoneMatch": "*"} if self._only_create else params

    def head(self, key):
        with self._answers():
            try:
                found = self.client.head_object(Bucket=self.store.bucket, Key=key, **self._payer)
            except self.error as exc:
                if exc.response["ResponseMetadata"]["HTTPStatusCode"] not in (400, 403, 404):
                    raise
                # An answer to HEAD has no body to say why.
                try:
                    self.client.get_object(Bucket=self.store.bucket, Key=key, Range="bytes=0-0", **self._payer)["Body"].close()
                except self.error as why:
                    if why.response["Error"].get("Code") == "NoSuchKey":
                        return None
                    raise
                raise
        return Found(found["ContentLength"], found["Metadata"].get("sha256", "").lower(), found.get("ETag"))

    def read_sha256(self, key):
        digest = hashlib.sha256()
        with self._answers():
            for block in self.client.get_object(Bucket=self.store.bucket, Key=key, **self._payer)["Body"].iter_chunks(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def put(self, key, src, size, sha256, found, progress):
        with self._answers():
            self._only_create = self.CREATES_ONLY and found is None
            while True:
                try:
                    return self._upload(key, src, sha256, progress)
                except self.errors as exc:
                    if not self._yields(self._answer(exc)):
                        raise
                progress.at(0)

    def _yields(self, answer):
        """Whether another attempt does what this answer asks for."""
        status, error = (answer["ResponseMetadata"].get("HTTPStatusCode"), answer["Error"]) if answer else (None, {})
        # Older self-hosted stores do not know the precondition.
        if status == 501 and self._only_create:
            self._only_create = False
            return True
        # Buckets with Object Lock demand a checksum, which others do not know.
        if (
            error.get("Code") == "InvalidRequest"
            and "x-amz-checksum" in error.get("Message", "")
            and "ChecksumAlgorithm" not in self._extra
        ):
            self._extra["ChecksumAlgorithm"] = "CRC32"
            return True
        return False

    def _upload(self, key, src, sha256, progress):
        extra = {"Metadata": {"sha256": sha256}, **self._extra, **self._payer}
        self.client.upload_file(src, self.store.bucket, key, ExtraArgs=extra, Config=self.transfer, Callback=progress.add)

    def delete(self, key):
        with self._answers():
            self.client.delete_object(Bucket=self.store.bucket, Key=key, **self._payer)

    def _answer(self, exc):
        # An upload's error comes wrapped, with the store's answer as its context.
        answer = exc if isinstance(exc, self.error) else exc.__context__
        return {**answer.response, "Operation": answer.operation_name} if isinstance(answer, self.error) else None

    @contextlib.contextmanager
    def _answers(self):
        try:
            yield
        except self.errors as exc:
            answer = self._answer(exc)
            if answer is None:
                raise network_refusal(exc, self.place) from None
            raise self._refusal(answer) from None

    def _refusal(self, answer):
        status = answer["ResponseMetadata"].get("HTTPStatusCode")
        error = answer["Error"]
        code = error.get("Code", "")
        if status == 412 or code in ("PreconditionFailed", "ConditionalRequestConflict"):
            return Taken()
        said = {"status": status, "code": code if code != str(status) else None}
        right = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region") or error.get("Region", "")
        if right != self.store.region and re.match(r"[A-Za-z0-9_-]{2,40}\Z", right):
            return refusal("region", self.NAMES, option="region", right=right, wrong=self.store.region, **said)
        right = error.get("Endpoint", "")
        if right and right not in urlsplit(self.place).netloc and re.match(r"[A-Za-z0-9.-]+\Z", right):
            return refusal("region", self.NAMES, option="region or endpoint", right=right, wrong=urlsplit(self.place).netloc, **said)
        kind = _kind_by_words(code, error.get("Message", "")) or _KINDS.get(code) or {301: "other", 403: "denied"}.get(status)
        refused = refusal(kind or ("busy" if (status or 0) >= 500 else "other"), self.NAMES, **said)
        # A policy that demands encryption refuses with the same answer as one that allows nothing.
        if kind == "denied" and answer.get("Operation") in _WRITING and self.ENCRYPTION and "ServerSideEncryption" not in self._extra:
            refused.remedy += ", or where a policy demands encrypted objects set {} in the credentials".format(self.ENCRYPTION)
        if kind == "denied" and self.REQUESTER_PAYS and not self._payer and "amazonaws.com" in self.place:
            refused.remedy += ", or where the requesters of the bucket pay set requester_pays in modelfleet_storage"
        return refused


class OssObjects(S3Objects):
    NAMES = {
        "id": "access_key_id",
        "secret": "access_key_secret",
        "token": "security_token",
        "bucket": "bucket",
        "key": "the encryption of the bucket",
        "rights": "list the bucket and to read and write objects (oss:ListObjects, oss:GetObject, oss:PutObject)",
    }
    # Its policies have no such condition: the encryption of the bucket is that of its objects.
    ENCRYPTION = ""
    REQUESTER_PAYS = False
    CREATES_ONLY = False


class ObsObjects(S3Objects):
    NAMES = {
        "id": "access_key_id",
        "secret": "secret_access_key",
        "token": "security_token",
        "bucket": "bucket",
        "key": "sse_kms_key_id",
        "rights": "list the bucket and to read and write objects (ListBucket, GetObject, PutObject)",
    }
    ENCRYPTION = "server_side_encryption (AES256 or kms)"
    REQUESTER_PAYS = False
    CREATES_ONLY = False

    def __init__(self, store, ca_path=None, validate_certs=True):
        super().__init__(store, ca_path, validate_certs)
        # In the words of the protocol that is spoken.
        if self._extra.get("ServerSideEncryption") == "kms":
            self._extra["ServerSideEncryption"] = "aws:kms"


def _metadata(store):
    """What an identity gives now, as botocore has it."""
    keys = store.identity.current()
    expiry = datetime.datetime.fromtimestamp(keys.expires, datetime.timezone.utc)
    return {
        "access_key": keys.access_key,
        "secret_key": keys.secret_key,
        "token": keys.session_token,
        "expiry_time": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _kind_by_words(code, message):
    """The kind of a refusal that shares its code with others."""
    if code.startswith("KMS.") or "kms:" in message:
        return "key"
    if "stored using a form of Server Side Encryption" in message:
        return "customer key"
    return "retained" if "WORM protected" in message else None


def _stay_in_region(context, **_event):
    """Tell botocore that it has followed a redirect already."""
    context.get("s3_redirect", {})["redirected"] = True
