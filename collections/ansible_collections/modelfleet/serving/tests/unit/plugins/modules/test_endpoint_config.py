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


def test_writes_what_the_plugin_reads(configure, args):
    result = configure()
    assert result["changed"] and result["path"] == args["path"]
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
        }
    assert stat.S_IMODE(os.stat(args["path"]).st_mode) == 0o600


def test_idempotent(configure):
    configure()
    result = configure()
    assert not result["changed"]
    assert result["diff"]["before"] == result["diff"]["after"]


def test_check_mode_writes_nothing(configure, args):
    assert configure(check=True)["changed"]
    assert not os.path.exists(args["path"])


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
        ({"incoming_dir": "relative/dir"}, "incoming_dir"),
        ({"storage": {"s3": {"bucket": "NO", "access_key": "a", "secret_key": SECRET}}}, "storage.s3.bucket"),
        ({"storage": {"s3": {"access_key": "a", "secret_key": SECRET}}}, "missing required arguments: bucket found in storage -> s3"),
        ({"storage": {}}, "storage has none of the keys s3"),
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
