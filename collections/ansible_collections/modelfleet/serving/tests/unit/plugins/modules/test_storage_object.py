# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module decides, with a store in memory. Each store's real client is tested in the repository, against stores that verify."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import pytest
from ansible.module_utils.common import parameters
from ansible_collections.modelfleet.serving.plugins.module_utils import _publish_object
from ansible_collections.modelfleet.serving.plugins.module_utils._publish_answers import MissingLibrary, Refusal, Taken
from ansible_collections.modelfleet.serving.plugins.modules import storage_object
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_bucket import Bucket

SECRET = "PLANTEDSECRETKEY"
CONTENT = b"model"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def bucket(monkeypatch):
    bucket = Bucket()
    monkeypatch.setattr(_publish_object, "CLIENTS", {"s3": bucket})
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


def test_publishes_with_the_digest_and_looks_what_arrived(publish, bucket):
    result = publish(sha256=SHA256.upper())
    assert result["changed"] and result["sha256"] == SHA256 and result["bytes"] == len(CONTENT)
    assert result["object"] == "s3://models/models/a.mar"
    assert bucket.objects["models/a.mar"] == (CONTENT, SHA256)
    assert bucket.calls == ["head", "put", "head"]
    assert result["diff"]["before"] == "" and SHA256 in result["diff"]["after"]


def test_idempotent(publish, bucket):
    publish()
    bucket.calls.clear()
    result = publish()
    assert not result["changed"] and result["sha256"] == SHA256
    assert bucket.calls == ["head"]


def test_check_mode_writes_nothing(publish, bucket):
    assert publish(check=True)["changed"]
    assert bucket.objects == {}


def test_uses_the_publishing_credentials_alone(publish, bucket):
    publish()
    store, ca_path, validate_certs = bucket.made_with
    assert (store.access_key, store.secret_key, store.session_token) == ("WRITE", SECRET, None)
    assert ca_path is None and validate_certs is True


def test_without_publishing_credentials_those_of_the_store(publish, bucket):
    publish(credentials=None, validate_certs=False)
    store, _ca_path, validate_certs = bucket.made_with
    assert (store.access_key, store.session_token) == ("READ", "READTOKEN" + SECRET)
    assert validate_certs is False


def test_other_content_is_never_replaced_unasked(publish, bucket):
    bucket.objects["models/a.mar"] = (b"other", "0" * 64)
    result = publish()
    assert result["failed"] and "overwrite=true" in result["msg"] and "0" * 64 in result["msg"] and SHA256 in result["msg"]
    assert bucket.objects["models/a.mar"][0] == b"other"
    result = publish(overwrite=True)
    assert result["changed"] and "0" * 64 in result["diff"]["before"]
    assert bucket.objects["models/a.mar"][0] == CONTENT


def test_an_object_without_a_recorded_digest_is_read(publish, bucket):
    bucket.objects["models/a.mar"] = (CONTENT, "")
    assert not publish()["changed"]
    assert "read" in bucket.calls
    bucket.objects["models/a.mar"] = (CONTENT[::-1], "")
    assert "other content" in publish()["msg"]
    bucket.calls.clear()
    bucket.objects["models/a.mar"] = (b"of another size", "")
    assert "other content" in publish()["msg"]
    assert "read" not in bucket.calls


def test_a_server_that_does_not_tell_the_size(publish, bucket, monkeypatch):
    head = bucket.head
    monkeypatch.setattr(bucket, "head", lambda key: (found := head(key)) and found._replace(size=None))
    assert publish()["changed"]
    assert not publish()["changed"]
    bucket.objects["models/a.mar"] = (b"other", "")
    assert "other content" in publish()["msg"]


@pytest.mark.parametrize(
    ("meanwhile", "said"),
    [((CONTENT, SHA256), None), ((CONTENT, ""), None), ((b"other", "0" * 64), "other content already")],
    ids=["the same", "the same without digest", "other"],
)
def test_two_publishers_at_once(publish, bucket, meanwhile, said):
    bucket.meanwhile = meanwhile
    result = publish()
    assert bucket.objects["models/a.mar"] == meanwhile
    if said:
        assert result["failed"] and said in result["msg"]
    else:
        assert result["changed"] and not result.get("failed")


def test_an_upload_that_the_store_has_changed(publish, bucket, monkeypatch):
    monkeypatch.setattr(bucket, "put", lambda key, *_args: bucket.objects.update({key: (b"mode", SHA256)}))
    result = publish()
    assert result["failed"] and "afterwards the store has 4 bytes" in result["msg"]


def rewrite(path):
    """Of the same size, as a program does that writes in place."""
    with open(path, "r+b") as handle:
        handle.write(CONTENT[::-1])
    os.utime(path, ns=(1, 1))


def replace(path):
    with open(path + ".new", "wb") as handle:
        handle.write(CONTENT[::-1])
    shutil.copystat(path, path + ".new")
    os.replace(path + ".new", path)


@pytest.mark.parametrize("change", [rewrite, replace, os.unlink])
def test_a_file_that_changes_while_it_is_sent(publish, bucket, change):
    def sent(src):
        bucket.objects["models/a.mar"] = (CONTENT[::-1], SHA256)
        change(src)

    bucket.put = lambda key, src, *_more: sent(src)
    result = publish()
    assert result["failed"] and "changed while it was uploaded" in result["msg"] and "was deleted again. Publish again" in result["msg"]
    assert bucket.objects == {}, "no digest stands for other content"


def test_a_changed_file_whose_object_stays(publish, bucket):
    bucket.before_put = rewrite
    bucket.raises["delete"] = Refusal("permission is denied (403)", "Allow it")
    result = publish()
    assert result["failed"] and "changed while it was uploaded" in result["msg"]
    assert "delete the object first (state=absent). Failed to delete s3://models/models/a.mar" in result["msg"]


@pytest.mark.parametrize("raises", [Taken(), ValueError("more bytes expected"), Refusal("the connection broke", "Check")])
def test_a_changed_file_whose_upload_fails(publish, bucket, raises):
    bucket.before_put = rewrite
    bucket.raises["put"] = raises
    result = publish()
    assert result["failed"] and "changed while it was uploaded" in result["msg"] and "exception" not in result
    assert "delete" not in bucket.calls, "the object may be another's"


def test_a_file_that_changes_before_it_is_sent(publish, bucket, tmp_path):
    bucket.head = lambda key: rewrite(str(tmp_path / "model.mar"))
    result = publish()
    assert result["failed"] and "Nothing was sent" in result["msg"] and bucket.objects == {}


def test_a_file_that_changes_while_it_is_read(publish, bucket, monkeypatch):
    states = iter(range(9))
    monkeypatch.setattr(_publish_object, "_state", lambda _file: next(states))
    result = publish()
    assert result["failed"] and "it changed meanwhile" in result["msg"] and bucket.calls == []


@pytest.mark.parametrize(
    ("step", "options", "verb"),
    [("head", {}, "look at"), ("read", {}, "read"), ("delete", {"state": "absent"}, "delete")],
)
def test_overtaken_where_nothing_is_written(publish, bucket, step, options, verb):
    bucket.objects["models/a.mar"] = (CONTENT, "")
    bucket.raises[step] = Taken()
    result = publish(**options)
    assert result["failed"] and result["msg"].startswith("Failed to {} s3://".format(verb)) and "another publisher" in result["msg"]


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
        ({"sha256": ""}, "Failed to use sha256 '': it must be 64 hexadecimal digits"),
        ({"sha256": "short"}, "must be 64 hexadecimal digits"),
        ({"src": "/nonexistent/model.mar"}, "/nonexistent/model.mar"),
        ({"src": None}, "src"),
        ({"object": "../a"}, "object key"),
        ({"object": "/a"}, "object key"),
        ({"object": "models//a.mar"}, "object key"),
        ({"object": "m" * 1025}, "1024 bytes"),
        ({"storage": {"s3": {"bucket": "NO", "access_key": "a", "secret_key": SECRET}}}, "Failed to use storage.s3.bucket"),
        ({"credentials": {"swift": {}}}, "credentials.swift"),
        ({"credentials": {"abs": {"account_key": SECRET}}}, "credentials has no s3"),
        ({"ca_path": "/nonexistent/ca.pem"}, "Failed to use ca_path /nonexistent/ca.pem: No such file or directory"),
        ({"progress_path": "/nonexistent/progress"}, "Failed to write progress_path /nonexistent/progress"),
    ],
)
def test_bad_input(publish, bucket, changes, said):
    result = publish(**changes)
    assert result["failed"] and said in result["msg"]
    assert "put" not in bucket.calls


@pytest.mark.parametrize(
    ("step", "options", "verb"),
    [("head", {}, "look at"), ("put", {}, "write"), ("read", {}, "read"), ("delete", {"state": "absent"}, "delete")],
)
def test_what_the_store_says_is_one_sentence(publish, bucket, step, options, verb):
    if step in ("read", "delete"):
        bucket.objects["models/a.mar"] = (CONTENT, "")
    bucket.raises[step] = Refusal("permission is denied (403)", "Allow it")
    result = publish(**options)
    place = "s3://models/models/a.mar at https://s3.us-east-1.amazonaws.com"
    assert result["failed"] and result["msg"] == "Failed to {} {}: permission is denied (403). Allow it.".format(verb, place)
    assert "exception" not in result


@pytest.mark.parametrize(
    "changes",
    [
        {"storage": {"s3": {"bucket": "models", "access_key": "a", "secretkey": SECRET}}},
        {"storage": {"s3": {"bucket": "models", "access_key": "a", "secret_key": {"value": SECRET}}, "oss": SECRET}},
        {"storage": {"http": {"url": "https://files.example.com", "headers": {"X-Key": SECRET}}}},
        {"storage": {"http": {"url": "https://files.example.com", "headers": ["X-Key: " + SECRET]}}},
        {"storage": {"http": {"url": "https://files.example.com", "headers": [{"name": "X-Key", "valeu": SECRET}]}}},
        {"storage": {"http": {"url": "https://files.example.com", "headers": [{"X-Key": SECRET}]}}},
        {"storage": "s3: {secret_key: " + SECRET + "}"},
        {"storage": {"s3": SECRET}},
        {"credentials": [{"s3": {"secret_key": SECRET}}]},
        {"credentials": {"s3": {"access_key": "a", "secret_key": SECRET, "token": SECRET}}},
        {"secret_key": SECRET},
        {},
    ],
)
def test_no_result_shows_the_options(publish, bucket, changes):
    """Not even those of a task that failed because it has a secret in another place than where one is expected."""
    # Newer versions of Ansible ask for the options when they want them.
    wanted = {"_ansible_inject_invocation": True} if "inject_invocation" in parameters.PASS_VARS else {}
    result = publish(**changes, **wanted)
    assert bool(result.get("failed")) == bool(changes) and "_ansible" not in result.get("msg", "")
    assert result["invocation"] == {}


def test_a_service_account_that_is_a_mapping(publish, bucket, monkeypatch):
    monkeypatch.setattr(_publish_object, "CLIENTS", {"gcs": bucket})
    key = "-----BEGIN PRIVATE" + " KEY-----\n{}\n-----END PRIVATE KEY-----\n".format(SECRET)
    account = {"type": "service_account", "project_id": "models", "client_email": "a@b.iam.example.com", "private_key": key}
    for given in account, json.dumps(account):
        bucket.objects.clear()
        result = publish(storage={"gcs": {"bucket": "models", "service_account_json": given}}, credentials=None)
        assert result["changed"] and result["object"] == "gs://models/models/a.mar", result
        assert bucket.made_with[0].service_account == account
    account["type"] = "authorized_user"
    for options in (
        {"storage": {"gcs": {"bucket": "models", "service_account_json": account}}, "credentials": None},
        {"storage": {"gcs": {"bucket": "models", "service_account_file": "/a"}}, "credentials": {"gcs": {"service_account_json": account}}},
    ):
        place = "{}.gcs.service_account_json".format("credentials" if options["credentials"] else "storage")
        assert publish(**options)["msg"].startswith("Failed to use {}: its type is not service_account. ".format(place))


def test_the_library_that_is_missing_is_said(publish, monkeypatch):
    def client(*_args):
        raise MissingLibrary("the-library", "Traceback")

    monkeypatch.setattr(_publish_object, "CLIENTS", {"s3": client})
    assert "the-library" in publish()["msg"]
