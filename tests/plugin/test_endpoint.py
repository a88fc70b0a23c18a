# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""POST /dragonfly/models on real TorchServe frontends, with a proxy that answers as dfdaemon does."""

from __future__ import annotations

import hashlib
import json
import os
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import KEYS, service_account

KEY = "models/tiny/1.0/tiny ü+%2F~.mar"


def header(request, name):
    return {key.lower(): value for key, value in request["headers"].items()}.get(name.lower())


@pytest.fixture
def published(dfdaemon, mar, torchserve):
    content, sha256 = mar()
    dfdaemon.objects[KEY] = content
    return {"file_name": KEY, "sha256": sha256}


def test_registers_a_verified_file(torchserve, dfdaemon, published):
    status, answer = torchserve.register(**published, model_name="tiny", model_version="1.0")
    assert status == 200
    file = f"tiny-1.0-{published['sha256'][:12]}.mar"
    assert answer["status"].startswith('Model "tiny" Version: 1.0 registered with 0 initial workers')
    assert {name: answer[name] for name in ("model_name", "model_version", "file", "sha256", "downloaded")} == {
        "model_name": "tiny",
        "model_version": "1.0",
        "file": file,
        "sha256": published["sha256"],
        "downloaded": True,
    }
    assert answer["bytes"] == len(dfdaemon.objects[KEY]) and answer["seconds"] >= 0
    assert torchserve.files() == [file]
    assert torchserve.registered() == {"tiny"}


def test_the_request_names_the_task_by_content(torchserve, dfdaemon, published):
    torchserve.register(**published)
    (request,) = dfdaemon.requests
    assert request["url"].scheme == "http" and request["url"].netloc == "models.s3.eu-west-1.amazonaws.com"
    assert request["url"].path == "/models/tiny/1.0/tiny%20%C3%BC%2B%252F~.mar"
    assert header(request, "X-Dragonfly-Content-For-Calculating-Task-ID") == f"sha256:{published['sha256']};piece_length=auto"
    assert header(request, "X-Dragonfly-Use-P2P") == "true"
    assert header(request, "X-Dragonfly-Force-Hard-Link") == "true"
    assert header(request, "X-Dragonfly-Output-Path").startswith(str(torchserve.incoming))
    assert header(request, "X-Dragonfly-Tag") == "fleet"
    assert header(request, "X-Dragonfly-Filtered-Query-Params") == "a,b"
    assert header(request, "X-Dragonfly-Piece-Length") is None


def test_a_piece_length_is_part_of_the_name(torchserve, dfdaemon, published, config):
    config(piece_length="16MiB")
    torchserve.register(**published)
    (request,) = dfdaemon.requests
    assert header(request, "X-Dragonfly-Piece-Length") == "16MiB"
    assert header(request, "X-Dragonfly-Content-For-Calculating-Task-ID").endswith(";piece_length=16MiB")


def test_without_incoming_dir_the_plugin_writes_the_file(torchserve, dfdaemon, published, config):
    config(incoming_dir=None)
    assert torchserve.register(**published)[0] == 200
    assert torchserve.files() == [f"tiny-1.0-{published['sha256'][:12]}.mar"]
    assert header(dfdaemon.requests[0], "X-Dragonfly-Output-Path") is None


def test_the_same_version_again_is_a_conflict_and_no_download(torchserve, dfdaemon, published):
    torchserve.register(**published)
    for names in ({}, {"model_name": "tiny", "model_version": "1.0"}):
        status, answer = torchserve.register(**published, **names)
        assert status == 409
        assert "Model version 1.0 is already registered for model tiny, from the file tiny-1.0-" in answer["message"]
    assert len(dfdaemon.requests) == 1
    assert len(torchserve.files()) == 1


def test_a_file_in_the_store_needs_no_network(torchserve, dfdaemon, published):
    torchserve.register(**published)
    torchserve.call("DELETE", "/models/tiny/1.0")
    status, answer = torchserve.register(**published)
    assert (status, answer["downloaded"]) == (200, False)
    assert len(dfdaemon.requests) == 1


def test_a_damaged_file_in_the_store_is_replaced(torchserve, dfdaemon, published):
    (torchserve.store / f"tiny-1.0-{published['sha256'][:12]}.mar").write_bytes(b"damaged")
    status, answer = torchserve.register(**published)
    assert (status, answer["downloaded"]) == (200, True)
    assert hashlib.sha256((torchserve.store / answer["file"]).read_bytes()).hexdigest() == published["sha256"]


def test_calls_at_one_time_are_one_download(torchserve, dfdaemon, published):
    dfdaemon.body_delay = 1.0
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: torchserve.register(**published), range(4)))
    assert sorted(status for status, _ in answers) == [200, 409, 409, 409]
    assert len(dfdaemon.requests) == 1
    assert len(torchserve.files()) == 1


def at_once(torchserve, *queries):
    """The answers to calls of which each begins a moment after the one before."""

    def call(number):
        time.sleep(number * 0.2)
        return torchserve.register(**queries[number])

    with ThreadPoolExecutor(len(queries)) as pool:
        return list(pool.map(call, range(len(queries))))


@pytest.mark.parametrize("mistake", [{"runtime": "cobol"}, {"model_name": "other"}])
def test_a_call_does_not_pay_for_the_mistake_of_another(torchserve, dfdaemon, published, mistake):
    dfdaemon.body_delay = 0.5
    (bad, _), (good, answer) = at_once(torchserve, {**published, **mistake}, published)
    assert (bad, good) == (400, 200), answer
    assert torchserve.files() == [answer["file"]] and torchserve.registered() == {"tiny"}


def test_a_waiting_call_uses_the_configuration_of_its_turn(torchserve, dfdaemon, published, config):
    config(addr="http://127.0.0.1:1", retry_seconds=4)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(torchserve.register, **published)
        time.sleep(0.5)
        second = pool.submit(torchserve.register, **published)
        time.sleep(0.5)
        config()
        assert (first.result()[0], second.result()[0]) == (502, 200)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file_name": ""}, "Parameter file_name is required"),
        ({"file_name": "../secret.mar"}, "Parameter file_name must not have"),
        ({"file_name": ".."}, "Parameter file_name must not have"),
        ({"file_name": "a/../b.mar"}, "Parameter file_name must not have"),
        ({"file_name": "a/./b.mar"}, "Parameter file_name must not have"),
        ({"file_name": "/rooted.mar"}, "Parameter file_name must be a key"),
        ({"file_name": "//rooted.mar"}, "Parameter file_name must be a key"),
        ({"file_name": "directory/"}, "Parameter file_name must be a key"),
        ({"file_name": "line\nfeed.mar"}, "Parameter file_name must not have control characters"),
        ({"model_name": "tiny\n[ERROR] forged"}, "Parameter model_name must not have control characters"),
        ({"sha256": ""}, "Parameter sha256 is required"),
        ({"sha256": "123"}, "Parameter sha256 must be 64 hexadecimal digits"),
        ({"initial_workers": "many"}, "Parameter initial_workers must be a whole number"),
        ({"batch_size": "-7"}, "Parameter batch_size must be a whole number"),
        ({"synchronous": "perhaps"}, "Parameter synchronous must be true or false"),
        ({"model_name": "other"}, "model_name is other, but the manifest of the archive says tiny"),
        ({"model_version": "2.0"}, "model_version is 2.0, but the manifest of the archive says 1.0"),
        ({"runtime": "cobol"}, "Invalid RuntimeType value: cobol"),
    ],
)
def test_a_bad_parameter_is_400(torchserve, published, change, said):
    status, answer = torchserve.register(**{**published, **change})
    assert status == 400
    assert said in answer["message"]
    assert torchserve.files() == [] and torchserve.registered() == set()


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        (None, None, "it is not a zip file"),
        ("../up", "1.0", "modelName in its manifest"),
        ("a..b", "1.0", "modelName in its manifest"),
        ("tiny", "1/0", "modelVersion in its manifest"),
    ],
)
def test_what_is_no_model_archive_is_400(torchserve, dfdaemon, mar, name, version, said):
    content = mar(name, version)[0] if name else b"no zip file at all"
    dfdaemon.objects[KEY] = content
    status, answer = torchserve.register(file_name=KEY, sha256=hashlib.sha256(content).hexdigest())
    assert status == 400
    assert said in answer["message"] and f"s3://models/{KEY}" in answer["message"]
    assert torchserve.files() == []


def test_a_missing_object_is_404_at_once(torchserve, dfdaemon):
    status, answer = torchserve.register(file_name="none.mar", sha256="0" * 64)
    assert status == 404 and "s3://models/none.mar" in answer["message"]
    assert len(dfdaemon.requests) == 1


@pytest.mark.parametrize("code", [400, 401, 403])
def test_refused_by_the_origin_is_502_at_once(torchserve, dfdaemon, published, code):
    dfdaemon.failures = [(code, "backend")]
    status, answer = torchserve.register(**published)
    assert status == 502 and f"the origin refused with {code}. Check credentials, region and clock" in answer["message"]
    assert len(dfdaemon.requests) == 1


@pytest.mark.parametrize(
    ("failure", "said"), [((416, "backend"), "the origin answered 416"), ((403, "proxy"), "refused with 403. Look at its journal")]
)
def test_another_refusal_is_502_at_once(torchserve, dfdaemon, published, failure, said):
    dfdaemon.failures = [failure]
    status, answer = torchserve.register(**published)
    assert status == 502 and said in answer["message"] and f"s3://models/{KEY}" in answer["message"]
    assert len(dfdaemon.requests) == 1


@pytest.mark.parametrize("failure", [(500, "dfdaemon"), (503, "proxy"), (429, "proxy"), (503, "backend")])
def test_what_may_pass_is_tried_again(torchserve, dfdaemon, published, failure):
    dfdaemon.failures = [failure]
    assert torchserve.register(**published)[0] == 200
    assert len(dfdaemon.requests) == 2
    outputs = {header(request, "X-Dragonfly-Output-Path") for request in dfdaemon.requests}
    assert len(outputs) == 2, "dfdaemon refuses a path that exists"


@pytest.mark.parametrize(("changes", "seconds"), [({}, "3600"), ({"url_expiry": 7200}, "7200")])
def test_a_signed_url_expires(torchserve, dfdaemon, published, config, changes, seconds):
    config(**changes)
    assert torchserve.register(**published)[0] == 200
    assert urllib.parse.parse_qs(dfdaemon.requests[0]["url"].query)["X-Amz-Expires"] == [seconds]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://files.example.invalid", "no address is known on this host for the origin files.example.invalid"),
        ("http://127.0.0.1", "or cannot be reached"),
    ],
)
def test_an_origin_without_an_answer(torchserve, dfdaemon, config, url, said):
    config(object_storage={"type": "http", "url": url}, retry_seconds=0)
    dfdaemon.failures = [(500, "backend")]
    status, answer = torchserve.register(file_name="a.mar", sha256="0" * 64)
    assert status == 502 and said in answer["message"] and f"{url}/a.mar" in answer["message"]


def test_a_body_that_ends_early_is_tried_again(torchserve, dfdaemon, published):
    dfdaemon.truncate = 1
    assert torchserve.register(**published)[0] == 200
    assert len(torchserve.files()) == 1


def test_a_dead_dfdaemon_is_502_after_the_retries(torchserve, published, config):
    config(addr="http://127.0.0.1:1", retry_seconds=2)
    started = time.monotonic()
    status, answer = torchserve.register(**published)
    assert status == 502 and "through dfdaemon at 127.0.0.1:1" in answer["message"]
    assert time.monotonic() - started < 10


def test_silence_is_504(torchserve, dfdaemon, published, config):
    config(read_timeout=1, retry_seconds=0)
    dfdaemon.body_delay = 3
    status, answer = torchserve.register(**published)
    assert status == 504 and "sent nothing for too long" in answer["message"]
    assert torchserve.files() == []


def test_a_wrong_object_is_refused_and_a_repaired_one_heals(torchserve, dfdaemon, mar, published):
    good = dfdaemon.objects[KEY]
    dfdaemon.objects[KEY] = bad = mar(filler=b"other")[0]
    for _ in range(2):
        status, answer = torchserve.register(**published)
        assert status == 502
        assert published["sha256"] in answer["message"] and hashlib.sha256(bad).hexdigest() in answer["message"]
        assert f"s3://models/{KEY}" in answer["message"]
        assert torchserve.files() == []
    names = [header(request, "X-Dragonfly-Content-For-Calculating-Task-ID") for request in dfdaemon.requests]
    assert names[2] == f"{names[0]};generation={hashlib.md5(bad).hexdigest()}", "hosts agree on it: it is the origin's ETag"
    assert names[1] != names[4], "a probe must not be answered from dfdaemon's cache"

    dfdaemon.objects[KEY] = good
    assert torchserve.register(**published)[0] == 200


def test_a_repaired_object_heals_from_an_origin_without_ranges(torchserve, dfdaemon, mar, published):
    dfdaemon.ranges = False
    good, dfdaemon.objects[KEY] = dfdaemon.objects[KEY], mar(filler=b"other")[0]
    assert torchserve.register(**published)[0] == 502
    dfdaemon.objects[KEY] = good
    assert torchserve.register(**published)[0] == 200


def test_a_linked_file_that_differs_is_refused(torchserve, dfdaemon, published, config):
    config(retry_seconds=0)
    dfdaemon.link = "wrong"
    status, answer = torchserve.register(**published)
    assert status == 502 and "differs from the bytes it sent" in answer["message"]
    assert torchserve.files() == []


def test_a_missing_directory_is_500(torchserve, published, config):
    config(incoming_dir="/nonexistent/incoming")
    status, answer = torchserve.register(**published)
    assert status == 500 and "/nonexistent/incoming" in answer["message"]


def test_abandoned_files_are_swept(torchserve, published):
    old, young = torchserve.incoming / ".endpoint-1-old", torchserve.incoming / f".endpoint-{time.time():.0f}-young"
    for path in (old, young):
        path.write_bytes(b"x")
        # The age of a link is that of dfdaemon's own file.
        os.utime(path, (1, 1))
    assert torchserve.register(**published)[0] == 200
    assert not old.exists() and young.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no such file"),
        ('{"addr": ', "not a valid JSON object"),
        ("[]", "not a valid JSON object"),
        ("{}", "addr is missing"),
        ('{"addr": "https://127.0.0.1:4001"}', "addr must begin with http://"),
        ('{"addr": "http://127.0.0.1:4001/x"}', "addr must be a URL without path"),
        ('{"addr": "http://127.0.0.1:4001"}', "object_storage is missing"),
        ('{"addr": "127.0.0.1", "object_storage": {"type": "floppy"}}', "object_storage.type names the store floppy"),
        ('{"addr": "127.0.0.1", "object_storage": {"type": "s3"}}', "object_storage.bucket_name is missing"),
        (
            '{"addr": "127.0.0.1", "url_expiry": 1e6, "object_storage": {"type": "http", "url": "http://o"}}',
            "url_expiry must be a number of seconds from 60 to 604800",
        ),
        (
            '{"addr": "127.0.0.1", "read_timeout": 2592000, "object_storage": {"type": "http", "url": "http://o"}}',
            "read_timeout must be a number of seconds from 1 to 86400",
        ),
        (
            '{"addr": "127.0.0.1", "incoming_dir": "/ü", "object_storage": {"type": "http", "url": "http://o"}}',
            "incoming_dir must be a path that this locale can write",
        ),
        ('{"addr": "127.0.0.1", "object_storage": {"type": "http", "url": "http://[1:2]"}}', "object_storage.url must be a URL"),
        (
            '{"addr": "127.0.0.1", "object_storage": {"type": "s3", "bucket_name": "b", "access_key": "a", "secret_key": ["PLANTED"]}}',
            "object_storage.secret_key must be a single value",
        ),
    ],
)
def test_a_broken_configuration_is_an_answer_and_heals_without_a_restart(torchserve, published, config, text, said):
    torchserve.config.unlink()
    if text is not None:
        torchserve.config.write_text(text)
    status, answer = torchserve.register(**published)
    assert status == 500
    assert said in answer["message"] and str(torchserve.config) in answer["message"] and "PLANTED" not in answer["message"]
    config()
    assert torchserve.register(**published)[0] == 200


def test_without_a_digest_the_file_keeps_its_name(torchserve, dfdaemon, mar, config):
    config(require_sha256=None, incoming_dir=None, retry_seconds=None)
    dfdaemon.objects["some/where/plain.mar"] = mar("plain", "3")[0]
    status, answer = torchserve.register(file_name="some/where/plain.mar")
    assert (status, answer["file"], answer["model_version"]) == (200, "plain.mar", "3")
    assert header(dfdaemon.requests[0], "X-Dragonfly-Content-For-Calculating-Task-ID") is None
    assert torchserve.register(file_name="some/where/plain.mar")[0] == 409
    status, answer = torchserve.register(file_name="some/where/plain.mar", model_name="renamed")
    assert (status, answer["model_name"]) == (200, "renamed")


@pytest.fixture
def without_digests(config, dfdaemon, mar):
    """Archives of one name in two directories."""
    config(require_sha256=None, incoming_dir=None)
    for name, version in (("one", "1"), ("two", "2")):
        dfdaemon.objects[f"{name}/x.mar"], sha256 = mar(name, version)
    return f"x-{sha256[:12]}.mar"


def test_a_file_without_digest_never_replaces_another(torchserve, without_digests):
    assert torchserve.register(file_name="one/x.mar")[1]["file"] == "x.mar"
    content = (torchserve.store / "x.mar").read_bytes()
    assert torchserve.register(file_name="two/x.mar", runtime="cobol")[0] == 400
    assert torchserve.register(file_name="one/x.mar", model_name="renamed", runtime="cobol")[0] == 400
    assert torchserve.files() == ["x.mar"]
    status, answer = torchserve.register(file_name="two/x.mar")
    assert (status, answer["file"]) == (200, without_digests)
    assert (torchserve.store / "x.mar").read_bytes() == content
    assert torchserve.registered() == {"one", "two"}


def test_files_of_one_name_at_one_time(torchserve, dfdaemon, without_digests):
    dfdaemon.body_delay = 0.5
    answers = at_once(torchserve, {"file_name": "one/x.mar"}, {"file_name": "two/x.mar"})
    assert [(status, answer["model_name"]) for status, answer in answers] == [(200, "one"), (200, "two")]
    assert torchserve.files() == sorted(["x.mar", without_digests]) and torchserve.registered() == {"one", "two"}


def test_another_bucket_is_another_object(torchserve, dfdaemon, mar, config):
    config(require_sha256=None, incoming_dir=None)
    dfdaemon.body_delay = 0.5
    dfdaemon.objects["a.mar"] = mar()[0]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(torchserve.register, file_name="a.mar")
        time.sleep(0.2)
        config(require_sha256=None, incoming_dir=None, object_storage={"type": "http", "url": "http://elsewhere.example.com"})
        second = pool.submit(torchserve.register, file_name="a.mar")
        assert (first.result()[0], second.result()[0]) == (200, 409)
    assert [request["url"].netloc for request in dfdaemon.requests] == ["models.s3.eu-west-1.amazonaws.com", "elsewhere.example.com"]


def test_archives_that_torchserve_alone_can_read_at_one_time(torchserve, dfdaemon, config):
    config(require_sha256=None, incoming_dir=None)
    dfdaemon.objects["m.tar.gz"] = b"no archive"
    dfdaemon.body_delay = 0.5
    answers = at_once(torchserve, {"file_name": "m.tar.gz"}, {"file_name": "m.tar.gz"})
    assert len(dfdaemon.requests) == 2 and torchserve.files() == []
    assert answers[0] == answers[1] and "endpoint plugin failed" not in answers[0][1]["message"]


def test_without_a_digest_any_name_that_torchserve_takes_is_good(torchserve, dfdaemon, mar, config):
    config(require_sha256=None, incoming_dir=None)
    dfdaemon.objects["q.mar"] = mar("_q", "1.0 beta")[0]
    status, answer = torchserve.register(file_name="q.mar")
    assert (status, answer["model_name"], answer["model_version"], answer["file"]) == (200, "_q", "1.0 beta", "q.mar")


def test_a_name_that_the_locale_cannot_write_needs_a_digest(torchserve, dfdaemon, mar, config):
    config(require_sha256=None, incoming_dir=None)
    dfdaemon.objects["plain ü.mar"], sha256 = mar()
    status, answer = torchserve.register(file_name="plain ü.mar")
    assert status == 400 and "Give the sha256" in answer["message"]
    assert torchserve.files() == []
    assert torchserve.register(file_name="plain ü.mar", sha256=sha256)[0] == 200


# Where each store's objects are, and as what an error names them.
STORAGES = {
    "s3": (
        {"bucket_name": "models", "region": "eu-west-1", "access_key": "PLANTED", "secret_key": "PLANTED"},
        "http://models.s3.eu-west-1.amazonaws.com/", "s3://models/a.mar",
    ),
    "oss": (
        {"bucket_name": "models", "endpoint": "oss-cn-hangzhou.aliyuncs.com", "access_key_id": "PLANTED", "access_key_secret": "PLANTED"},
        "http://models.oss-cn-hangzhou.aliyuncs.com/", "oss://models/a.mar",
    ),
    "gcs": (
        {"bucket_name": "models", "project_id": "fleet"},
        "http://storage.googleapis.com/models/", "gs://models/a.mar",
    ),
    "abs": (
        {"account_name": "fleet", "account_key": "UExBTlRFRA==", "container_name": "models"},
        "http://fleet.blob.core.windows.net/models/", "https://fleet.blob.core.windows.net/models/a.mar",
    ),
    "obs": (
        {"bucket_name": "models", "region": "cn-north-4", "access_key_id": "PLANTED", "secret_access_key": "PLANTED"},
        "http://models.obs.cn-north-4.myhuaweicloud.com/", "obs://models/a.mar",
    ),
    "http": (
        {"url": "https://under_score.example.com:8443/archives", "headers": {"X-Key": "PLANTED"}, "headers_reach_daemon_logs": True},
        "http://under_score.example.com:8443/archives/", "https://under_score.example.com:8443/archives/a.mar",
    ),
}  # fmt: skip
PUBLIC = ("s3", "oss", "gcs", "abs")


@pytest.mark.parametrize("bucket", ["My-Bucket", "under_score", "with.dots"])
def test_a_bucket_that_is_no_host_name_is_in_the_path(torchserve, dfdaemon, config, bucket):
    # The public plugin takes the type in any case.
    config(object_storage={"type": "S3", "bucket_name": bucket, "access_key": "PLANTED", "secret_key": "PLANTED"})
    assert torchserve.register(file_name="a.mar", sha256="0" * 64)[0] == 404
    assert dfdaemon.requests[-1]["target"].startswith(f"http://s3.us-east-1.amazonaws.com/{bucket}/a.mar?")


@pytest.fixture(scope="module")
def account_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("account") / "service-account.json"
    path.write_text(json.dumps(service_account()))
    return path


@pytest.fixture
def storage(request, account_path):
    """The block object_storage of the test's type of store."""
    block = {"type": request.param, **STORAGES[request.param][0]}
    return {**block, "service_account_path": str(account_path)} if request.param == "gcs" else block


@pytest.mark.parametrize("storage", STORAGES, indirect=True)
def test_the_request_line_has_the_signed_path_to_the_letter(torchserve, dfdaemon, config, storage):
    config(object_storage=storage)
    place = STORAGES[storage["type"]][1]
    for key in KEYS:
        assert torchserve.register(file_name=key, sha256="0" * 64)[0] == 404
        assert dfdaemon.requests[-1]["target"].split("?")[0] == place + urllib.parse.quote(key, safe="/~")


@pytest.mark.parametrize("storage", STORAGES, indirect=True)
def test_an_error_names_the_object_and_no_secret(torchserve, dfdaemon, config, storage):
    config(object_storage=storage)
    for code in (401, 403, 404, 416):
        dfdaemon.failures = [(code, "backend")]
        status, answer = torchserve.register(file_name="a.mar", sha256="0" * 64)
        assert status == (404 if code == 404 else 502)
        assert f"Failed to get {STORAGES[storage['type']][2]}: the origin" in answer["message"] and "PLANTED" not in answer["message"]
    status, _headers, body = torchserve.call("GET", "/dragonfly/models")
    assert status == 200 and json.loads(body)["storage"] == STORAGES[storage["type"]][2].removesuffix("a.mar")


@pytest.mark.parametrize("storage", PUBLIC, indirect=True)
def test_a_configuration_of_the_public_plugin_works_unchanged(torchserve, dfdaemon, mar, storage):
    content, _sha256 = mar("plain", "3")
    place = STORAGES[storage["type"]][1]
    dfdaemon.objects[urllib.parse.urlsplit(place).path[1:] + "some/where/plain.mar"] = content
    torchserve.config.write_text(json.dumps({
        "addr": dfdaemon.url,
        "header": {"X-Dragonfly-Tag": "fleet"},
        "filter": ["X-Amz-Algorithm", "X-Amz-Credential&X-Amz-Date", "se"],
        "object_storage": storage,
    }))  # fmt: skip
    status, answer = torchserve.register(file_name="some/where/plain.mar")
    assert (status, answer["file"], answer["model_version"]) == (200, "plain.mar", "3")
    (request,) = dfdaemon.requests
    assert request["target"].startswith(place)
    filtered = header(request, "X-Dragonfly-Filtered-Query-Params").split(",")
    assert len(filtered) == len(set(filtered)), "a parameter of both lists is there once"
    assert {"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "se"} < set(filtered)
    assert set(urllib.parse.parse_qs(request["url"].query)) <= set(filtered), "two signatures must be one task"


@pytest.mark.parametrize(
    ("changes", "users"),
    [
        ({"filter": ["a", "b"]}, {"a", "b"}),
        ({"filter": "a&b"}, {"a", "b"}),
        ({"filter": []}, set()),
        ({"filter": None, "header": {"X-Dragonfly-Filter": "a&b"}}, {"a", "b"}),
        ({"filter": ["a"], "header": {"x-dragonfly-filter": "b", "X-Dragonfly-Filtered-Query-Params": "a,c"}}, {"a", "b", "c"}),
    ],
)
def test_what_the_user_and_the_store_filter(torchserve, dfdaemon, config, changes, users):
    def filtered(**query):
        torchserve.register(file_name="none.mar", **query)
        request = dfdaemon.requests[-1]
        assert header(request, "X-Dragonfly-Filter") is None, "dfdaemon knows no such header"
        value = header(request, "X-Dragonfly-Filtered-Query-Params")
        return value and set(value.split(","))

    config(require_sha256=False, **changes)
    signature = {f"X-Amz-{name}" for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature", "Security-Token")}
    assert filtered() == users | signature
    assert filtered(sha256="0" * 64) == (users or None)
    config(require_sha256=False, object_storage={"type": "http", "url": "http://models.example.com"}, **changes)
    assert filtered() == (users or None), "without a word dfdaemon keeps its own list"


@pytest.mark.parametrize("storage", ["http"], indirect=True)
def test_headers_of_a_web_server_are_sent_when_their_way_into_logs_is_accepted(torchserve, dfdaemon, config, storage):
    storage["headers"] = {"Authorization": "Bearer PLANTED", "X-Key": "PLANTED two"}
    config(object_storage=storage, header={"X-Key": "of all requests"})
    torchserve.register(file_name="none.mar", sha256="0" * 64)
    assert header(dfdaemon.requests[0], "Authorization") == "Bearer PLANTED"
    assert header(dfdaemon.requests[0], "X-Key") == "PLANTED two"

    del storage["headers_reach_daemon_logs"]
    config(object_storage=storage)
    status, answer = torchserve.register(file_name="none.mar", sha256="0" * 64)
    assert status == 500 and "daemons forward these headers and write them to their logs" in answer["message"]
    assert "PLANTED" not in answer["message"] and len(dfdaemon.requests) == 1


@pytest.mark.parametrize("storage", ["gcs"], indirect=True)
def test_a_service_account_is_read_at_every_call(torchserve, dfdaemon, config, storage, tmp_path):
    def signer():
        assert torchserve.register(file_name="none.mar", sha256="0" * 64)[0] == 404
        return urllib.parse.parse_qs(dfdaemon.requests[-1]["url"].query)["X-Goog-Credential"][0].split("@")[0]

    path = tmp_path / "rotated.json"
    path.write_text(json.dumps(service_account(1)))
    config(object_storage={**storage, "service_account_path": str(path)})
    assert signer() == "reader-1"
    path.write_text(json.dumps(service_account(2)))
    assert signer() == "reader-2"
    path.unlink()
    for method, query in (("POST", f"?file_name=none.mar&sha256={'0' * 64}"), ("GET", "")):
        status, _headers, body = torchserve.call(method, "/dragonfly/models" + query)
        assert status == 500 and f"service_account_path names {path}, which does not exist" in json.loads(body)["message"]


def test_get_says_whether_the_configuration_is_good(torchserve, config):
    status, _headers, body = torchserve.call("GET", "/dragonfly/models")
    assert status == 200 and json.loads(body)["storage"] == "s3://models/"
    assert torchserve.call("GET", "/dragonfly/other")[0] == 404


def test_no_secret_in_any_log(torchserve, dfdaemon, published):
    torchserve.register(**published)
    dfdaemon.failures = [(403, "backend")]
    torchserve.register(file_name="other.mar", sha256="1" * 64)
    logs = "".join(path.read_text(errors="replace") for path in [torchserve.home / "out.log", *(torchserve.home / "logs").glob("*.log")])
    assert "s3://models/other.mar" in logs
    for secret in ("PLANTED", "X-Amz-Signature"):
        assert secret not in logs
