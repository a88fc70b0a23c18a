"""In their order: each test begins with what the one before left. Whoever asks from outside gets an answer all the time."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pytest
from conftest import HOSTS
from fleet import recap, wait_until

HOST = "http://127.0.0.1:8081/models/demo"


def serves(host):
    """(the default version, all versions) of the demo model."""
    status, default = host.request("GET", HOST)
    assert status == 200, default
    _status, every = host.request("GET", f"{HOST}/all")
    return default[0]["modelVersion"], sorted(one["modelVersion"] for one in every)


def failed(answers, but=()):
    return [answer for answer in answers if answer[0] != 200 and answer[1] not in but]


def switches(answers, server):
    """How often a host's answers turned from one version to another."""
    seen = [answer[2] for answer in answers if answer[1] == server and answer[0] == 200]
    return sum(one != other for one, other in zip(seen, seen[1:], strict=False))


def outcomes(done):
    """{host: outcome} of the table."""
    return dict(re.findall(r"(gpu-\d)\s+demo\s+\S+\s+\S+\s+(activated|finished|went back|untouched|rolled back|NOT UNDONE)", done.stdout))


@pytest.fixture(scope="module")
def good(versions):
    return versions("2.0", seed=2)


def test_a_good_version(fleet, load, rollout, good, record):
    done = rollout(good)
    answers = load.answers()
    assert done.returncode == 0, done.stdout[-5000:]
    assert failed(answers) == []
    for name in HOSTS:
        assert serves(fleet[name]) == ("2.0", ["2.0"])
        assert switches(answers, name) == 1, "an answer of the old version came after one of the new"
        found = record(fleet[name])
        assert (list(found["models"]), list(found["previous"]), list(found["staged"])) == (["2.0"], ["1.0"], [])
        assert found["previous"]["1.0"]["file"] in fleet[name].stored()
    assert outcomes(done) == dict.fromkeys(HOSTS, "activated")
    assert "(access log)" in done.stdout or "5 passed" in done.stdout or "4 passed" in done.stdout


def test_again_it_changes_nothing(load, rollout, good):
    done = rollout(good)
    assert done.returncode == 0, done.stdout[-5000:]
    assert {name: count["changed"] for name, count in recap(done).items()} == dict.fromkeys(recap(done), 0)
    assert failed(load.answers()) == []


BAD = {
    "does not load": ({"version": "3.1", "seed": 31, "fault": "load"}, "ready"),
    "answers wrongly": ({"version": "3.2", "seed": 32, "knows": 99}, "answers"),
    "is slow": ({"version": "3.3", "seed": 33, "fault": "slow"}, "traffic"),
    "crashes": ({"version": "3.4", "seed": 34, "fault": "crash"}, "traffic"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_version_that(kind, fleet, load, rollout, versions, record):
    made, gate = BAD[kind]
    entry = versions(**made)
    done = rollout(entry)
    answers = load.answers()
    assert done.returncode == 2, done.stdout[-5000:]
    assert failed(answers, but=("gpu-1",)) == []
    if kind != "crashes":
        assert failed(answers) == []
    assert outcomes(done) == {**dict.fromkeys(HOSTS, "untouched"), "gpu-1": "went back"}
    assert re.search(rf"gpu-1\s+demo\s+2\.0\s+{re.escape(entry['version'])}\s+went back\s+{gate}\s", done.stdout), done.stdout[-5000:]
    for name in HOSTS:
        assert serves(fleet[name]) == ("2.0", ["2.0"])
        assert record(fleet[name])["staged"] == {}
    # Only the first host was asked to serve it.
    for name in HOSTS[1:]:
        assert fleet[name].run("journalctl -u torchserve --output=cat | grep -F %s", f"url=demo-{entry['version']}").stdout == ""


def test_the_other_content_of_a_version_is_refused(fleet, rollout, good, versions):
    done = rollout({**good, "sha256": "f" * 64})
    assert done.returncode == 2 and "Refused model demo 2.0" in done.stdout
    assert [serves(fleet[name]) for name in HOSTS] == [("2.0", ["2.0"])] * len(HOSTS)


def test_back_without_the_origin(fleet, load, rollout, good, origin, record):
    before = origin.call("GET", "/counters")["objects"]
    done = rollout(good, playbook="rollback")
    assert done.returncode == 0, done.stdout[-5000:]
    assert failed(load.answers()) == []
    assert origin.call("GET", "/counters")["objects"] == before
    for name in HOSTS:
        assert serves(fleet[name]) == ("1.0", ["1.0"])
        assert list(record(fleet[name])["previous"]) == ["2.0"]
    assert outcomes(done) == dict.fromkeys(HOSTS, "rolled back")
    again = rollout(good, playbook="rollback")
    assert again.returncode == 0 and {count["changed"] for count in recap(again).values()} == {0}


def kill_once(process, condition, what):
    """Kill a run and all that it started on the controller once a condition holds."""
    try:
        wait_until(condition, what)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_controller_that_dies_between_two_hosts(fleet, load, rollout, good, record):
    process = rollout(good, wait=False)
    kill_once(process, lambda: record(fleet["gpu-2"])["staged"], "the second batch")
    assert list(record(fleet["gpu-1"])["models"]) == ["2.0"]
    assert list(record(fleet["gpu-2"])["models"]) == ["1.0"]
    # A reboot comes back with what was recorded.
    subprocess.run(["podman", "restart", "--time", "0", fleet["gpu-2"].container], check=True, capture_output=True)
    wait_until(lambda: serves(fleet["gpu-2"]) == ("1.0", ["1.0"]), "the old version after a reboot")
    load.answers()
    done = rollout(good)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "came to no end here" in done.stdout
    assert [serves(fleet[name]) for name in HOSTS] == [("2.0", ["2.0"])] * len(HOSTS)
    assert failed(load.answers()) == []


def test_torchserve_that_is_killed_in_the_middle(fleet, load, rollout, versions, record):
    third = versions("4.0", seed=4)
    process = rollout(third, wait=False)
    wait_until(lambda: record(fleet["gpu-1"])["staged"], "the first batch")
    fleet["gpu-1"].check_output("systemctl kill --signal=KILL torchserve.service")
    process.communicate(timeout=900)
    assert failed(load.answers(), but=("gpu-1", "<NOSRV>", "-")) == []
    done = rollout(third)
    assert done.returncode == 0, done.stdout[-5000:]
    assert [serves(fleet[name]) for name in HOSTS] == [("4.0", ["4.0"])] * len(HOSTS)


def test_a_host_that_goes_away_after_the_first_batch(fleet, load, rollout, versions, record):
    fourth = versions("5.0", seed=5)
    process = rollout(fourth, wait=False)
    wait_until(lambda: record(fleet["gpu-2"])["staged"], "the second batch")
    subprocess.run(["podman", "stop", "--time", "0", fleet["gpu-3"].container], check=True, capture_output=True)
    output, _nothing = process.communicate(timeout=900)
    assert process.returncode != 0, output[-5000:]
    assert serves(fleet["gpu-1"]) == ("5.0", ["5.0"])
    for name in ("gpu-2", "gpu-4", "gpu-5"):
        assert serves(fleet[name]) == ("4.0", ["4.0"])
    assert failed(load.answers(), but=("gpu-3", "-")) == []
    subprocess.run(["podman", "start", fleet["gpu-3"].container], check=True, capture_output=True)
    wait_until(lambda: serves(fleet["gpu-3"]) == ("4.0", ["4.0"]), "the old version after a start")
    done = rollout(fourth)
    assert done.returncode == 0, done.stdout[-5000:]
    assert [serves(fleet[name]) for name in HOSTS] == [("5.0", ["5.0"])] * len(HOSTS)


def test_a_second_run_is_told_who_works_there(fleet, rollout, good, versions, record):
    process = rollout(versions("6.0", seed=6), wait=False)
    try:
        wait_until(lambda: record(fleet["gpu-1"])["staged"], "the first batch")
        done = rollout(good)
        assert done.returncode == 2 and "Refused: a run of" in done.stdout, done.stdout[-5000:]
    finally:
        output, _nothing = process.communicate(timeout=900)
    assert process.returncode == 0, output[-5000:]
    assert [serves(fleet[name]) for name in HOSTS] == [("6.0", ["6.0"])] * len(HOSTS)


def test_a_version_in_the_place_of_the_old_one(fleet, load, rollout, versions):
    load.answers()
    done = rollout(versions("7.0", seed=7), modelfleet_rollout_replace=True)
    assert done.returncode == 0, done.stdout[-5000:]
    assert failed(load.answers()) == [], "a host that answers nothing is out of the balancing"
    assert [serves(fleet[name]) for name in HOSTS] == [("7.0", ["7.0"])] * len(HOSTS)
