# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import stat

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import endpoint_config

SECRET = "PLANTEDSECRETKEY"
ACCOUNT = {
    "type": "service_account",
    "project_id": "example",
    "client_email": "reader@example.iam.gserviceaccount.com",
    "private_key": "-----BEGIN {0}-----\n{1}\n-----END {0}-----\n".format("PRIVATE KEY", SECRET),
}
GCS = {"gcs": {"bucket": "models", "service_account_json": json.dumps(ACCOUNT)}}
HTTP = {
    "http": {
        "url": "https://files.example.com",
        "headers": [{"name": "X-Key", "value": SECRET}],
        "headers_reach_daemon_logs": True,
        "headers_reach_unverified_server": True,
    }
}
STORES = [
    GCS,
    HTTP,
    {"oss": {"bucket": "models", "region": "cn-hangzhou", "access_key_id": "a", "access_key_secret": SECRET, "security_token": SECRET}},
    {"obs": {"bucket": "models", "region": "cn-north-4", "access_key_id": "a", "secret_access_key": SECRET, "security_token": SECRET}},
    {"abs": {"account_name": "example", "container": "models", "account_key": SECRET}},
    {"s3": {"bucket": "models", "access_key": "a", "secret_key": SECRET, "session_token": SECRET}},
]


@pytest.fixture
def args(tmp_path):
    return {
        "path": str(tmp_path / "config.json"),
        "storage": {"s3": {"bucket": "models", "access_key": "AKIAEXAMPLE", "secret_key": SECRET}},
        "incoming_dir": "/var/lib/modelfleet/incoming",
    }


@pytest.fixture
def configure(run_module, args):
    def run(check=False, **changes):
        result = run_module(endpoint_config.main, {**args, **changes}, check=check, diff=True)
        assert SECRET not in json.dumps(result)
        return result

    return run


def test_an_identity_takes_the_place_of_keys(configure, args):
    configure(storage=GCS)
    side_file = os.path.join(os.path.dirname(args["path"]), "service-account.json")
    assert os.path.exists(side_file)
    identity = {"source": "instance", "iam_endpoint": "https://iam.example.com"}
    result = configure(storage={"gcs": {"bucket": "models", "identity": identity}})
    assert result["files"] == [args["path"], side_file] and not os.path.exists(side_file)
    with open(args["path"], encoding="utf-8") as handle:
        assert json.load(handle)["object_storage"] == {"type": "gcs", "bucket_name": "models", "identity": identity}
    assert "https://iam.example.com" in result["diff"][0]["after"]
    assert not configure(storage={"gcs": {"bucket": "models", "identity": identity}})["changed"]


def test_writes_what_the_plugin_reads(configure, args):
    result = configure()
    assert result["changed"] and result["path"] == args["path"] and result["files"] == [args["path"]]
    with open(args["path"], encoding="utf-8") as handle:
        assert json.load(handle) == {
            "addr": "http://127.0.0.1:4001",
            "header": {},
            "filter": [],
            "object_storage": {
                "type": "s3",
                "bucket_name": "models",
                "region": "us-east-1",
                "access_key": "AKIAEXAMPLE",
                "secret_key": SECRET,
            },
            "require_sha256": True,
            "incoming_dir": "/var/lib/modelfleet/incoming",
            "piece_length": "auto",
            "retry_seconds": 120,
            "url_expiry": 3600,
        }
    assert stat.S_IMODE(os.stat(args["path"]).st_mode) == 0o600


def test_idempotent(configure):
    configure()
    result = configure()
    assert not result["changed"] and result["files"] == []
    assert result["diff"]["before"] == result["diff"]["after"]


def test_check_mode_writes_nothing(configure, args):
    assert configure(check=True)["changed"]
    assert not os.path.exists(args["path"])


def test_absent_leaves_no_credentials(configure, args, side):
    configure(storage=GCS)
    assert os.path.exists(args["path"]) and os.path.exists(side)
    assert configure(state="absent", check=True)["changed"] and os.path.exists(args["path"]) and os.path.exists(side)
    result = configure(state="absent", storage=GCS)
    assert result["files"] == [args["path"], str(side)] and not os.path.exists(args["path"]) and not os.path.exists(side)
    assert result["diff"][0] == {
        "before_header": args["path"],
        "after_header": args["path"],
        "before": "(credentials of the store)\n",
        "after": "",
    }
    again = configure(state="absent", storage=GCS, jar=args["path"], jar_sha256="0" * 64)
    assert not again["changed"] and again["jar_differs"]


def test_check_mode_without_the_directory(configure, tmp_path):
    assert configure(check=True, path=str(tmp_path / "not/there/config.json"))["changed"]


def test_the_diff_says_that_a_secret_changed_and_not_what(configure):
    first = configure()
    assert '"secret_key": "(set, changed)"' in first["diff"]["after"]
    other = {"s3": {"bucket": "models", "access_key": "AKIAEXAMPLE", "secret_key": "ANOTHER" + SECRET[::-1]}}
    result = configure(storage=other)
    assert result["changed"]
    assert '"secret_key": "(set)"' in result["diff"]["before"]
    assert '"secret_key": "(set, changed)"' in result["diff"]["after"]


@pytest.fixture
def side(tmp_path):
    return tmp_path / "service-account.json"


@pytest.fixture
def account_file(tmp_path):
    """The user's own file."""
    path = tmp_path / "elsewhere.json"
    path.write_text(json.dumps(ACCOUNT), encoding="utf-8")
    return path


def from_file(path):
    return {"gcs": {"bucket": "models", "service_account_file": str(path)}}


@pytest.mark.parametrize("before", STORES, ids=lambda storage: next(iter(storage)))
@pytest.mark.parametrize("after", STORES, ids=lambda storage: next(iter(storage)))
def test_from_any_store_to_any_other(configure, args, side, before, after):
    """Every step of the fixture looks for the secret in the output: the one of the file on disk is of another store."""
    configure(storage=before)
    expected = configure(storage=after, check=True)
    result = configure(storage=after)
    assert (result["changed"], result["diff"]) == (expected["changed"], expected["diff"]), "check mode tells the truth"
    assert result["changed"] == (before != after)
    with open(args["path"], encoding="utf-8") as handle:
        assert json.load(handle)["object_storage"]["type"] == next(iter(after))
    assert side.exists() == (after == GCS)
    assert not configure(storage=after)["changed"]


def test_the_key_of_a_service_account_is_a_file_beside_the_configuration(configure, args, side):
    result = configure(storage=GCS)
    with open(args["path"], encoding="utf-8") as handle:
        assert json.load(handle)["object_storage"] == {
            "type": "gcs",
            "bucket_name": "models",
            "project_id": "example",
            "service_account_path": str(side),
        }
    assert json.loads(side.read_text(encoding="utf-8")) == ACCOUNT
    assert stat.S_IMODE(side.stat().st_mode) == 0o600
    assert [diff["before_header"] for diff in result["diff"]] == [args["path"], str(side)]
    assert '"private_key": "(set, changed)"' in result["diff"][1]["after"]
    assert '"client_email": "reader@example.iam.gserviceaccount.com"' in result["diff"][1]["after"]


def test_a_rotated_service_account_changes_its_file_only(configure, side):
    configure(storage=GCS)
    rotated = json.dumps({**ACCOUNT, "private_key_id": "2", "private_key": ACCOUNT["private_key"].replace(SECRET, SECRET[::-1])})
    result = configure(storage={"gcs": {"bucket": "models", "service_account_json": rotated}})
    assert result["changed"] and SECRET[::-1] not in json.dumps(result)
    config, account = result["diff"]
    assert config["before"] == config["after"]
    assert '"private_key": "(set)"' in account["before"] and '"private_key": "(set, changed)"' in account["after"]
    assert json.loads(side.read_text(encoding="utf-8"))["private_key_id"] == "2"


def test_permissions_of_the_key_are_repaired(configure, side):
    configure(storage=GCS)
    side.chmod(0o644)
    assert configure(storage=GCS)["changed"]
    assert stat.S_IMODE(side.stat().st_mode) == 0o600


def test_check_mode_writes_and_removes_no_key(configure, args, side):
    assert configure(storage=GCS, check=True)["changed"]
    assert not side.exists()
    configure(storage=GCS)
    result = configure(check=True)
    assert result["changed"] and result["diff"][1]["after"] == "" and result["files"] == [args["path"], str(side)]
    assert side.exists()


def test_a_key_that_a_dead_run_left_is_removed(configure, side):
    configure()
    side.write_text(SECRET, encoding="utf-8")
    result = configure()
    assert result["changed"] and not side.exists()
    assert not configure()["changed"]


def test_check_mode_on_an_empty_host_with_a_key(configure, tmp_path):
    assert configure(storage=GCS, check=True, path=str(tmp_path / "not/there/config.json"))["changed"]


def test_the_users_own_key_file_is_used_where_it_is(configure, args, side, account_file):
    configure(storage=GCS)
    assert configure(storage=from_file(account_file))["changed"]
    with open(args["path"], encoding="utf-8") as handle:
        assert json.load(handle)["object_storage"]["service_account_path"] == str(account_file)
    assert account_file.exists() and not side.exists()
    assert not configure(storage=from_file(account_file))["changed"]


def test_the_users_own_key_file_of_our_name_stays(configure, side, account_file):
    account_file.rename(side)
    configure(storage=from_file("{}/./{}".format(side.parent, side.name)))
    assert side.exists()


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), ("{}", "its type is not service_account")])
def test_the_users_own_key_file_is_checked_on_the_host(configure, args, account_file, check, content, said):
    account_file.unlink()
    if content:
        account_file.write_text(content, encoding="utf-8")
    result = configure(storage=from_file(account_file), check=check)
    assert result["failed"] and str(account_file) in result["msg"] and said in result["msg"]
    assert not os.path.exists(args["path"])


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ({"Authorization": "Bearer " + SECRET}, "Failed to use header Authorization: dfdaemon logs the headers that pass"),
        ({"X-Api-Key": SECRET}, "a server that asks for a header gets it from storage.http.headers."),
        ({"X-Dragonfly-Tag": "models\n"}, "Failed to use header X-Dragonfly-Tag: its value ends with a line end. Write it on one line"),
    ],
)
def test_a_header_of_every_request_is_no_secret(configure, header, sentence):
    result = configure(header=header)
    assert result["failed"] and sentence in result["msg"] and SECRET not in str(result)


def test_the_value_of_a_header_is_masked_and_its_name_is_not(configure):
    configure(storage=HTTP)
    changed = {"http": {**HTTP["http"], "headers": [{"name": "X-Key", "value": SECRET[::-1]}, {"name": "X-More", "value": SECRET}]}}
    result = configure(storage=changed)
    assert SECRET[::-1] not in json.dumps(result)
    assert json.loads(result["diff"]["before"])["object_storage"]["headers"] == {"X-Key": "(set)"}
    assert json.loads(result["diff"]["after"])["object_storage"]["headers"] == {"X-Key": "(set, changed)", "X-More": "(set, changed)"}


def test_a_file_of_something_else_is_replaced_and_not_shown(configure, args):
    with open(args["path"], "w", encoding="utf-8") as handle:
        json.dump({"password": SECRET}, handle)
    assert configure()["diff"]["before"] == "(not what this module writes)\n"


def test_a_broken_file_is_replaced_and_not_shown(configure, args):
    with open(args["path"], "w", encoding="utf-8") as handle:
        handle.write('{"object_storage": {"secret_key": "PLANTEDSECRETKEY"')
    result = configure()
    assert result["changed"] and result["diff"]["before"] == "(not valid JSON)\n"


def test_permissions_are_repaired(configure, args):
    configure()
    os.chmod(args["path"], 0o644)
    assert configure()["changed"]
    assert stat.S_IMODE(os.stat(args["path"]).st_mode) == 0o600


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"proxy_url": "https://127.0.0.1:4001"}, "proxy_url"),
        ({"proxy_url": "http://127.0.0.1"}, "proxy_url"),
        ({"proxy_url": "http://u:PW@127.0.0.1:4001"}, "proxy_url"),
        ({"piece_length": "1MiB"}, "piece_length '1MiB'"),
        ({"piece_length": "big"}, "piece_length 'big'"),
        ({"retry_seconds": -1}, "retry_seconds -1"),
        ({"url_expiry": 59}, "url_expiry 59"),
        ({"url_expiry": 604801}, "url_expiry 604801"),
        ({"incoming_dir": "relative/dir"}, "incoming_dir"),
        ({"storage": {"s3": {"bucket": "NO", "access_key": "a", "secret_key": SECRET}}}, "storage.s3.bucket"),
        ({"storage": {"s3": {"access_key": "a", "secret_key": SECRET}}}, "missing required arguments: bucket found in storage -> s3"),
        ({"storage": {}}, "one of the following is required: s3, oss, gcs, abs, obs, http found in storage"),
        ({"storage": {**GCS, **HTTP}}, "mutually exclusive: s3|oss|gcs|abs|obs|http found in storage"),
        (
            {"storage": {"gcs": {"bucket": "models"}}},
            "required: service_account_json, service_account_file, identity found in storage -> gcs",
        ),
        (
            {"storage": {"gcs": {**GCS["gcs"], "service_account_file": "/a"}}},
            "mutually exclusive: service_account_json|service_account_file|identity found in storage -> gcs",
        ),
        ({"storage": {"gcs": {"bucket": "models", "service_account_file": "reader.json"}}}, "must be an absolute path"),
        ({"storage": {"http": {**HTTP["http"], "headers_reach_daemon_logs": False}}}, "headers_reach_daemon_logs to true"),
        ({"storage": {"s3": {"bucket": "models", "access_key": "a", "secret_key": SECRET, "container": "x"}}}, "storage.s3.container"),
    ],
)
def test_bad_input(configure, args, changes, said):
    result = configure(**changes)
    assert result["failed"] and said in result["msg"]
    assert not os.path.exists(args["path"])


def test_a_missing_directory_is_named(configure, tmp_path):
    result = configure(path=str(tmp_path / "not/there/config.json"))
    assert result["failed"] and str(tmp_path / "not/there") in result["msg"]
