# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from urllib.parse import parse_qsl, urlsplit

import methods
import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils._fetcher import Fetcher
from ansible_collections.modelfleet.serving.plugins.module_utils._model import model_file
from methods import METHODS, QUICK, Job

STORAGE = {"s3": {"bucket": "models", "region": "us-east-1", "access_key": "AKIA", "secret_key": "secret"}}
JOB = Job(
    "https://models.s3.us-east-1.amazonaws.com/bench/1/bench.mar?X-Amz-Signature=a%2Fb&x=1",
    "bench/1/bench.mar",
    "ab" * 32,
    STORAGE,
    "10.0.0.2",
)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_says_what_runs_and_where_the_file_is(method):
    spec = json.loads(json.dumps(method.work(JOB)))
    assert ("command" in spec) != ("module" in spec)
    assert spec["output"].startswith("/")
    assert set(spec) <= {"command", "module", "arguments", "environment", "output", "before", "files", "done", "torrent"}
    assert method.held in ("", "seed", "host")
    assert not method.held or method.one_host, "the others would have it from it"


def test_quick_methods_are_there():
    assert set(QUICK) <= set(METHODS)


def test_the_seed_peer_gets_it_under_the_name_that_the_collection_gives_it():
    fetcher = Fetcher({"piece_length": "auto", "parallel": 1}, None, None)
    task = next(fetcher._tasks(JOB.key, JOB.sha256))
    fetcher.close()
    assert f"--content-for-calculating-task-id={task}" in methods.dfget(JOB, "/x")


def test_the_file_is_where_the_collection_puts_it():
    assert methods.archive(JOB) == f"{methods.STORE}/{model_file(*methods.MODEL, JOB.sha256)}"


def test_upstream_is_told_nothing_of_ours():
    command = " ".join(methods.dfget_upstream(JOB)["command"])
    assert "content-for" not in command
    assert "disable-back-to-source" not in command


def test_torchserve_is_given_the_whole_url():
    url = methods.torchserve(JOB)["command"][-1]
    query = dict(parse_qsl(urlsplit(url).query))
    assert query["url"] == JOB.url.replace("https", "http", 1)
    assert query["initial_workers"] == "0"


def test_nginx_is_asked_for_the_signed_object():
    assert methods.nginx(JOB)["command"][-1] == "http://10.0.0.2:8088/bench/1/bench.mar?X-Amz-Signature=a%2Fb&x=1"
    (config,) = methods.nginx_cache(JOB).files.values()
    assert "proxy_pass https://models.s3.us-east-1.amazonaws.com;" in config
    assert "listen 8088;" in config
    assert "@" not in config


def test_rclone_takes_its_keys_from_the_environment():
    spec = methods.rclone(JOB)
    assert "origin:models/bench/1/bench.mar" in spec["command"]
    assert spec["environment"]["RCLONE_CONFIG_ORIGIN_SECRET_ACCESS_KEY"] == "secret"
