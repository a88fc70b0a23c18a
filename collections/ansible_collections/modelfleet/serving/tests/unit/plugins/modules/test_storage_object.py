# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import io
import json

import pytest

pytest.importorskip("boto3")

from ansible_collections.modelfleet.serving.plugins.modules import storage_object
from botocore.exceptions import ClientError, EndpointConnectionError

SECRET = "PLANTEDSECRETKEY"
CONTENT = b"model"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Bucket:
    """What a store does, in memory."""

    def __init__(self):
        self.objects = {}
        self.calls = []
        self.created_with = None
        self.error = None

    def client(self, _service, **options):
        self.created_with = options
        return self

    def _called(self, name):
        self.calls.append(name)
        if self.error is not None:
            raise self.error

    def head_object(self, Bucket, Key):
        self._called("head")
        if Key not in self.objects:
            raise answer(404, "404")
        content, metadata = self.objects[Key]
        return {"ContentLength": len(content), "Metadata": metadata}

    def get_object(self, Bucket, Key):
        self._called("get")
        content = self.objects[Key][0]

        class Body(io.BytesIO):
            def iter_chunks(self, size):
                return iter(lambda: self.read(size), b"")

        return {"Body": Body(content)}

    def upload_file(self, src, bucket, key, ExtraArgs, Config):
        self._called("put")
        with open(src, "rb") as handle:
            self.objects[key] = (handle.read(), ExtraArgs["Metadata"])

    def delete_object(self, Bucket, Key):
        self._called("delete")
        del self.objects[Key]


def answer(status, code):
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Operation")


@pytest.fixture
def bucket(monkeypatch):
    bucket = Bucket()
    monkeypatch.setattr(storage_object.boto3, "client", bucket.client)
    return bucket


@pytest.fixture
def publish(run_module, bucket, tmp_path):
    (tmp_path / "model.mar").write_bytes(CONTENT)
    args = {
        "storage": {"s3": {"bucket": "models", "access_key": "READ", "secret_key": "READ" + SECRET, "session_token": "READTOKEN" + SECRET}},
        "credentials": {"s3": {"access_key": "WRITE", "secret_key": SECRET}},
        "object": "models/a.mar",
        "src": str(tmp_path / "model.mar"),
    }

    def run(check=False, **changes):
        values = {name: value for name, value in {**args, **changes}.items() if value is not None}
        result = run_module(storage_object.main, values, check=check, diff=True)
        assert SECRET not in json.dumps(result)
        return result

    return run


def test_publishes_with_the_digest(publish, bucket):
    result = publish(sha256=SHA256.upper())
    assert result["changed"] and result["sha256"] == SHA256 and result["bytes"] == len(CONTENT)
    assert result["object"] == "s3://models/models/a.mar"
    assert bucket.objects["models/a.mar"] == (CONTENT, {"sha256": SHA256})
    assert result["diff"]["before"] == "" and SHA256 in result["diff"]["after"]


def test_idempotent(publish, bucket):
    publish()
    bucket.calls.clear()
    assert not publish()["changed"]
    assert bucket.calls == ["head"]


def test_check_mode_writes_nothing(publish, bucket):
    assert publish(check=True)["changed"]
    assert bucket.objects == {}


def test_uses_the_publishing_credentials_alone(publish, bucket):
    publish()
    assert bucket.created_with["aws_access_key_id"] == "WRITE"
    assert bucket.created_with["aws_secret_access_key"] == SECRET
    assert bucket.created_with["aws_session_token"] is None
    assert bucket.created_with["endpoint_url"] == "https://s3.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("options", "verify"), [({}, True), ({"ca_path": "/ca.pem"}, "/ca.pem"), ({"validate_certs": False, "ca_path": "/ca.pem"}, False)]
)
def test_certificates(publish, bucket, options, verify):
    publish(**options)
    assert bucket.created_with["verify"] == verify


def test_other_content_is_never_replaced_unasked(publish, bucket):
    bucket.objects["models/a.mar"] = (b"other", {"sha256": "0" * 64})
    result = publish()
    assert result["failed"] and "overwrite=true" in result["msg"] and "0" * 64 in result["msg"] and SHA256 in result["msg"]
    assert bucket.objects["models/a.mar"][0] == b"other"
    result = publish(overwrite=True)
    assert result["changed"] and "0" * 64 in result["diff"]["before"]
    assert bucket.objects["models/a.mar"][0] == CONTENT


def test_an_object_without_a_recorded_digest_is_read(publish, bucket):
    bucket.objects["models/a.mar"] = (CONTENT, {})
    assert not publish()["changed"]
    assert "get" in bucket.calls
    bucket.objects["models/a.mar"] = (CONTENT[::-1], {})
    assert publish()["failed"]


def test_absent(publish, bucket):
    publish()
    assert publish(check=True, state="absent", src=None)["changed"]
    assert bucket.objects
    assert publish(state="absent", src=None)["changed"]
    assert bucket.objects == {}
    assert not publish(state="absent", src=None)["changed"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sha256": "1" * 64}, "has the sha256 " + SHA256),
        ({"sha256": "short"}, "must be 64 hexadecimal digits"),
        ({"src": "/nonexistent/model.mar"}, "/nonexistent/model.mar"),
        ({"src": None}, "src"),
        ({"object": "../a"}, "object key"),
        ({"object": "/a"}, "object key"),
        ({"storage": {"s3": {"bucket": "NO", "access_key": "a", "secret_key": SECRET}}}, "storage.s3.bucket"),
        ({"credentials": {"gcs": {}}}, "credentials.gcs"),
    ],
)
def test_bad_input(publish, bucket, changes, said):
    result = publish(**changes)
    assert result["failed"] and said in result["msg"]
    assert "put" not in bucket.calls


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (answer(403, "AccessDenied"), "Failed to look at s3://models/models/a.mar: the store answered 403 AccessDenied"),
        (answer(404, "NoSuchBucket"), "the store answered 404 NoSuchBucket"),
        (EndpointConnectionError(endpoint_url="https://s3.example.com"), "Check the endpoint, the network"),
    ],
)
def test_what_the_store_says_is_one_sentence(publish, bucket, error, said):
    bucket.error = error
    result = publish()
    assert result["failed"] and said in result["msg"] and "exception" not in result


def test_boto3_missing_is_said(publish, bucket, monkeypatch):
    monkeypatch.setattr(storage_object, "BOTO3_ERROR", "Traceback")
    assert "boto3" in publish()["msg"]
