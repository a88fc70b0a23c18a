# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison of servers: how load becomes numbers, and numbers a report."""

from __future__ import annotations

import compare
import once
import pytest
import servers
import timing
import verdict
from servers import SERVERS
from verdict import Cell, Found, Value


def vegeta(number, at, took, code=200, error=""):
    return f"{round(at * 1e9)},{code},{round(took * 1e9)},0,0,{error},,,{number},POST,http://127.0.0.1/,"


def test_percentiles_are_values_that_were_measured():
    assert [timing.percentile([5, 1, 4, 2, 3], share) for share in (1, 50, 99, 100)] == [1, 3, 5, 5]


def test_an_error_is_never_answered():
    assert timing.latencies([0.1] * 19, 1) == {"p50": 100, "p95": 100, "p99": None}
    assert timing.latencies([], 0) == {"p50": None, "p95": None, "p99": None}


def test_a_request_that_left_late_has_waited():
    """The generator stood still for half a second with the third request; each took a tenth of a second."""
    rows = [vegeta(0, 100.0, 0.1), vegeta(1, 100.1, 0.1), vegeta(2, 100.7, 0.1), vegeta(3, 100.7, 0.1)]
    found = timing.constant_rate(rows, 10)
    assert (found["sent"], found["errors"]) == (4, 0)
    assert found["p50"] == pytest.approx(100, abs=0.01)
    assert found["p95"] == pytest.approx(600, abs=0.01), "due at 100.2, answered at 100.8"
    assert found["lag_p99"] == pytest.approx(500, abs=0.01)
    assert found["throughput"] == pytest.approx(4 / 0.8), "until the last answer, which came after the step's 0.4 s"


def test_requests_are_due_by_their_numbers_and_not_by_the_order_of_answers():
    rows = [vegeta(1, 100.1, 0.01), vegeta(0, 100.0, 0.5)]
    assert timing.constant_rate(rows, 10)["lag_p99"] == pytest.approx(0, abs=1e-3)


def test_errors_of_a_step_are_counted_and_the_most_frequent_is_named():
    rows = [
        vegeta(0, 1.0, 0.1),
        *(vegeta(number, 1 + number / 10, 0.1, 503, "503 Busy") for number in (1, 2)),
        vegeta(3, 1.3, 9, 0, "timeout"),
    ]
    found = timing.constant_rate(rows, 10)
    assert (found["errors"], found["error"]) == (3, "503 503 Busy")
    assert found["p50"] is None


def test_of_a_closed_loop_counts_what_all_users_did():
    rows = [(9.0, 2.0, ""), (10.0, 1.0, ""), (11.0, 2.0, ""), (12.0, 0.1, "busy"), (19.5, 1.0, "")]
    found = timing.closed_loop(rows, 10, 20, late_s=1.5)
    assert (found["sent"], found["errors"], found["error"], found["late"]) == (3, 1, "busy", 1)
    assert found["throughput"] == pytest.approx(0.2)
    assert found["p50"] == pytest.approx(2000)


@pytest.mark.parametrize("kind", once.KINDS)
def test_the_whole_picture_is_sent(kind):
    picture = bytes(range(256)) + b"\r\n--\r\n"
    body, headers = once.KINDS[kind][0](picture)
    assert body.count(picture) == 1
    if kind == "tensor":
        assert len(body) - int(headers["Inference-Header-Content-Length"]) == len(picture) + 4


def test_answers_are_equal_where_only_the_order_of_additions_differs():
    known = {"classes": [3, 1], "scores": [0.5, 0.25]}
    assert once.equal({"classes": [3, 1], "scores": [0.500001, 0.25]}, known)
    assert not once.equal({"classes": [3, 1], "scores": [0.501, 0.25]}, known)
    assert not once.equal({"classes": [1, 3], "scores": [0.5, 0.25]}, known)


def test_torchserve_runs_as_the_role_runs_it():
    before, default = (servers.spec(SERVERS[name], 1) for name in ("torchserve-before", "torchserve"))
    assert default["argv"][0] == "/usr/bin/java"
    assert "-Xmx512m" in default["argv"]
    assert default["argv"][-1] == "-ncs"
    assert default["environment"]["PATH"].startswith("/cache/venv/bin:")
    assert "metrics_mode=prometheus\n" in default["files"]["/etc/torchserve/config.properties"]
    assert 'name="ACCESS_LOG" level="info"' in default["files"]["/etc/torchserve/log4j2.xml"]
    assert "initial_workers=1&" in before["register"]
    assert "initial_workers=2&" in default["register"]


def test_a_variant_changes_what_it_names():
    default, tuned = (servers.spec(SERVERS[name], 8) for name in ("torchserve", "torchserve-tuned"))
    assert "-XX:+UseSerialGC" in tuned["argv"]
    assert "-XX:+UseSerialGC" not in default["argv"]
    assert "job_queue_size=1000\n" in tuned["files"]["/etc/torchserve/config.properties"]
    assert 'Root level="warn"' in tuned["files"]["/etc/torchserve/log4j2.xml"]
    assert "batch_size=8&max_batch_delay=5" in tuned["register"]


def test_batches_are_asked_for_only_where_they_are():
    one, eight = (servers.spec(SERVERS["triton"], batch)["files"]["/var/lib/triton/models/bench/config.pbtxt"] for batch in (1, 8))
    assert "dynamic_batching" not in one
    assert "max_batch_size: 8" in eight
    assert "max_queue_delay_microseconds: 5000" in eight


def step(p95, errors=0, cpu_s=1.0, others=0.0):
    times = {"p50": p95 / 2, "p95": p95, "p99": p95, "lag_p99": 1.0}
    return {"rate": 50.0, "sent": 100, "errors": errors, "throughput": 50.0, "cpu_s": cpu_s, "others": others, **times}


def run(server, repeat, p95=10.0, throughput=100.0, batch=1, others=0.0, problem=""):
    times = {"p50": 1.0, "p95": 2.0, "p99": 3.0}
    closed = {"sent": 100, "answered": 100, "errors": 0, "late": 3, "throughput": throughput, "cpu_s": 1.0, "others": others, **times}
    measured = {"start_s": 2.0, "memory": 2**20, "steps": [step(p95)], "closed": closed}
    return {"server": server, "batch": batch, "repeat": repeat, "problem": problem, **measured}


def alone(repeat):
    measured = {"p50": 4.0, "p95": 5.0, "throughput": 400.0, "cpu_ms": 4.0, "others": 0.0}
    return {"server": "model", "batch": 1, "repeat": repeat, "problem": "", **measured}


def results(*runs):
    return {"machine": {"cores": "2"}, "load": {}, "rates": [50.0], "runs": list(runs)}


def test_an_interval_holds_the_median_and_is_the_same_every_time():
    one = verdict.interval([3.0, 1.0, 2.0, 5.0, 4.0])
    assert one == verdict.interval([3.0, 1.0, 2.0, 5.0, 4.0])
    assert one.median == 3
    assert 1 <= one.low < 3 < one.high <= 5
    assert verdict.interval([2.0]) == Value(2, 2, 2)


def test_where_half_of_the_runs_have_no_number_there_is_none():
    assert verdict.interval([None, 1.0]) is None
    assert verdict.interval([]) is None
    assert verdict.interval([None, 1.0, 2.0]).median == 1.5


def test_ratios_are_of_the_same_repeat():
    assert verdict.ratio({1: 2.0, 2: 20.0, 3: 7.0}, {1: 1.0, 2: 10.0}).text(2) == "2.00"
    assert verdict.ratio({1: 2.0}, {2: 1.0}) is None


def test_a_disturbed_run_does_not_count():
    disturbed = run("triton", 1, others=0.2)
    assert verdict.judge(disturbed) == "something else took 20% of the processors"
    assert verdict.done(results(disturbed, run("triton", 2))) == {(Cell("triton", 1), 2)}
    assert Found(results(disturbed)).cells(1) == []
    assert Found(results(disturbed), every=True).cells(1) == [Cell("triton", 1)]


def test_a_failed_run_needs_no_numbers():
    failed = {"server": "triton", "batch": 1, "repeat": 1, "problem": "The server does not answer"}
    found = Found(results(failed), every=True)
    assert found.cells(1) == []
    assert "Triton, batches of 1, repeat 1: The server does not answer" in verdict.markdown(results(failed), found)


def test_report():
    runs = [alone(1), run("fastapi", 1, 9.0), run("torchserve", 1, 15.0, 90.0), run("triton", 1, 10.0, 120.0), run("bentoml", 1, 12.0)]
    runs += [run("torchserve-tuned", 1, 11.0, 108.0)]
    text = verdict.markdown(results(*runs), Found(results(*runs)))
    assert "| TorchServe | 7.5 | +3.5 | 10.0 | +6.0 |" in text, "half of its p95 is its p50, and 100 requests took a second"
    assert "| TorchServe | 1.50 | 0.75 |" in text
    assert "| TorchServe, tuned | 1.10 | 0.90 |" in text
    assert "FastAPI (control) | 0." not in text, "the control is none of the three"


def test_every_cell_is_in_each_repeat_in_another_order():
    wanted = [Cell(name, 1) for name in SERVERS]
    runs = compare.order(wanted, 3, done={(wanted[0], 2)})
    by_repeat = {repeat: [cell for cell, number in runs if number == repeat] for repeat in (1, 2, 3)}
    assert sorted(by_repeat[1]) == sorted(by_repeat[3]) == sorted(wanted)
    assert sorted(by_repeat[2]) == sorted(wanted[1:])
    assert by_repeat[1] != by_repeat[3]


def test_the_plan_needs_no_container(capsys):
    assert compare.main(["--plan", "--name", "none", "--server", "triton", "--batch", "1", "--repeats", "2"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("2 runs, about ")
    assert said[1:] == ["1 triton 1", "2 triton 1"]


def test_page():
    pytest.importorskip("matplotlib")
    from page import html

    given = results(alone(1), run("triton", 1), run("torchserve", 1), run("torchserve", 2, problem="<ended>"))
    first = html(given, Found(given))
    assert first == html(given, Found(given)), "the same results give the same page"
    assert first.count("<svg") == 1
    assert "repeat 2: &lt;ended&gt;" in first
