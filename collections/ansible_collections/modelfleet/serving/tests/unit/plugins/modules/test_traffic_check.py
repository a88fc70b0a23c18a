# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime_torchserve import requests_of
from ansible_collections.modelfleet.serving.plugins.modules import traffic_check
from ansible_collections.modelfleet.serving.plugins.modules.traffic_check import Traffic, summary
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_torchserve import FakeTorchServe, description

PARAMS = {
    "model": "demo",
    "version": "2.0",
    "old_version": "1.0",
    "since": 1000.0,
    "before": 900.0,
    "seconds": 60,
    "requests": 10,
    "error_rate": 1.0,
    "latency_factor": 1.5,
    "latency_margin_ms": 5,
    "checks": [],
    "timeout": 5,
}


class Runtime:
    """Requests at their times: (second, version, status, milliseconds)."""

    def __init__(self, *requests):
        self.requests = requests

    def traffic(self, name, since, until):
        assert name == "demo"
        return [request[1:] for request in self.requests if since <= request[0] <= until]

    def describe(self, name):
        return {"1.0": {}, "2.0": {}}


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def steady(start, count, milliseconds, version=None, errors=0):
    return [(start + 0.1 * n, version, 503 if n < errors else 200, milliseconds) for n in range(count)]


def judged(*requests, **changed):
    clock = Clock()
    result = Traffic({**PARAMS, **changed}, Runtime(*requests), clock, clock.sleep).run()
    return result, clock.now


@pytest.mark.parametrize(
    ("milliseconds", "errors", "ok"),
    [(20, 0, True), (35, 0, True), (36, 0, False), (20, 1, True), (20, 2, False)],
)
def test_against_the_old_version_on_the_same_host(milliseconds, errors, ok):
    result, _end = judged(*steady(850, 100, 20), *steady(1001, 100, milliseconds, errors=errors))
    assert (result["ok"], result["source"]) == (ok, "access log")
    assert result["old"] == {"requests": 100, "errors": 0, "p95_ms": 20}
    assert result["new"] == {"requests": 100, "errors": errors, "p95_ms": milliseconds}
    assert result["saw"] == f"p95 {milliseconds} ms, errors {errors}.0 % of 100 requests (access log)"
    assert result["allowed"] == "p95 35 ms, errors 1.0 %"


def test_watches_the_whole_time_for_a_yes_and_not_for_a_no():
    assert judged(*steady(850, 100, 20), *steady(1001, 100, 20))[1] >= 1060
    result, end = judged(*steady(850, 100, 20), *steady(1001, 100, 20, errors=100))
    assert not result["ok"] and end < 1030


def test_only_what_the_version_answered_counts():
    other = steady(1001, 50, 500, version="1.0", errors=50)
    before = steady(950, 50, 500, errors=50)
    result, _end = judged(*steady(850, 100, 20), *before, *other, *steady(1001, 60, 20), *steady(1001, 40, 20, version="2.0"))
    assert result["ok"] and result["new"]["requests"] == 100 and result["old"]["requests"] == 100


def test_errors_of_few_requests_count_too():
    result, _end = judged(*steady(850, 100, 20), *steady(1001, 3, 20, errors=3))
    assert not result["ok"]


def test_without_requests_and_inputs_it_says_so():
    result, _end = judged()
    assert (result["ok"], result["source"], result["saw"]) == (True, "nothing", "no requests to compare and no known input to ask with")
    assert result["allowed"] == "errors 1.0 %, no requests of the old version to compare with"


@pytest.mark.parametrize("requests", [-1, 0, 100_001])
def test_asks_a_number_of_times_that_ends(requests):
    with pytest.raises(ModelFleetError, match=f"Failed to use requests {requests}: it must be from 1 to 100000"):
        judged(requests=requests)


def test_a_version_that_is_gone_does_not_pass():
    check = {"model": "demo", "version": "3.0", "input": {"x": 1}, "input_base64": None, "content_type": None}
    with pytest.raises(ModelFleetError, match=r"this host does not serve its version 3\.0, only 1\.0, 2\.0\. Roll the version out"):
        judged(version="3.0", checks=[check])


def test_a_first_version_has_nothing_to_compare_with():
    result, _end = judged(*steady(1001, 100, 900), old_version="")
    assert result["ok"] and result["allowed"] == "errors 1.0 %, no old version to compare with"


def test_the_95th_percentile():
    assert summary([(200, n) for n in range(1, 101)])["p95_ms"] == 95
    assert summary([(200, 7)])["p95_ms"] == 7


LOG = """\
[INFO ] epollEventLoopGroup-3-1 ACCESS_LOG - /127.0.0.1:5 "POST /predictions/demo HTTP/1.1" 200 12
[INFO ] epollEventLoopGroup-3-1 ACCESS_LOG - /127.0.0.1:5 "POST /predictions/demo/2.0?x=/predictions/other HTTP/1.1" 503 7
[INFO ] epollEventLoopGroup-3-1 ACCESS_LOG - /127.0.0.1:5 "POST /predictions/%64emo HTTP/1.1" 200 3
[INFO ] epollEventLoopGroup-3-1 ACCESS_LOG - /127.0.0.1:5 "POST /predictions/demo2 HTTP/1.1" 200 12
[INFO ] epollEventLoopGroup-3-1 ACCESS_LOG - /127.0.0.1:5 "GET /models/demo/all HTTP/1.1" 200 1
[INFO ] W-9000-demo_1.0-stdout MODEL_LOG - ACCESS_LOG - "POST /predictions/demo" is what a model may print
"""


def test_reads_the_access_log_of_torchserve():
    assert list(requests_of(LOG, "demo")) == [(None, 200, 12), ("2.0", 503, 7), (None, 200, 3)]


@pytest.fixture
def fake(tmp_path):
    server = FakeTorchServe(tmp_path)
    server.put("demo", description("1.0", "a"), description("2.0", "b"))
    yield server
    server.close()


@pytest.mark.parametrize(("status", "ok"), [(200, True), (500, False)])
def test_asks_both_where_nobody_else_does(fake, run_module, monkeypatch, status, ok):
    asked = []

    def answer(name, body):
        asked.append(body)
        # In turn, the new one first.
        return (status if len(asked) % 2 else 200), json.dumps({"y": 1}).encode()

    fake.answer = answer
    # A host without a journal.
    monkeypatch.setenv("PATH", "/nonexistent")
    check = {"model": "demo", "version": "2.0", "input": {"x": 1}, "expected": {"y": 2}}
    args = {**PARAMS, "seconds": 0, "checks": [check], "inference_url": fake.url, "base_url": fake.url, "key_file": str(fake.key_file)}
    result = run_module(traffic_check.main, {**args, "latency_margin_ms": 60000})
    assert (result["ok"], result["source"], result["changed"]) == (ok, "known inputs", False)
    assert result["new"]["requests"] == result["old"]["requests"] == 10
    assert [call for call in fake.calls if "predictions" in call][:2] == ["POST /predictions/demo/2.0", "POST /predictions/demo/1.0"]
    assert set(asked) == {b'{"x": 1}'}


def test_a_runtime_that_is_gone_is_an_error_of_its_own(tmp_path, run_module):
    check = {"model": "demo", "input": "x", "expected": "y"}
    gone = {**PARAMS, "seconds": 0, "checks": [check], "base_url": "http://127.0.0.1:9", "key_file": str(tmp_path / "none")}
    result = run_module(traffic_check.main, gone)
    assert result["failed"] and "127.0.0.1:9" in result["msg"]
