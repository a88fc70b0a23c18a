"""The next version of both, and the way back; each test begins with what the one before left."""

from __future__ import annotations

import re

import pytest
from conftest import FIRST, SAYS, SECOND, record, said, serves, unit_of
from fleet import GPU_HOSTS, recap


def outcomes(done):
    """{(host, model): outcome} of the table."""
    found = re.findall(r"(gpu-\d) (demo|letters) \S+ \S+ (activated|finished|went back|untouched|rolled back|NOT UNDONE)", said(done))
    return {(host, model): outcome for host, model, outcome in found}


def everywhere(outcome, *models):
    return {(host, model): outcome for host in GPU_HOSTS for model in models}


def test_the_next_version_of_both(fleet, play, first, second):
    done = play("rollout", second)
    assert {name: serves(fleet[name]) for name in GPU_HOSTS} == dict.fromkeys(GPU_HOSTS, SECOND)
    assert outcomes(done) == everywhere("activated", "demo", "letters")
    for name in GPU_HOSTS:
        found = record(fleet[name])
        assert set(found["models"]) == {("demo", "2.0"), ("letters", "2.0")} and found["staged"] == {}
        assert set(found["previous"]) == {("demo", "1.0"), ("letters", "1.0")}
        # The unit of the way back waits.
        assert fleet[name].run("systemctl is-enabled %s", unit_of(first[1])).stdout.strip() == "disabled"
        assert not fleet[name].active(unit_of(first[1]))


@pytest.mark.parametrize("playbook", ["rollout", "site"])
def test_again_it_changes_nothing(fleet, play, second, playbook):
    pids = {name: fleet[name].main_pid(unit_of(second[1])) for name in GPU_HOSTS}
    done = play(playbook, second)
    assert {name: row["changed"] for name, row in recap(done).items()} == dict.fromkeys(recap(done), 0)
    assert {name: fleet[name].main_pid(unit_of(second[1])) for name in GPU_HOSTS} == pids


def test_site_puts_no_other_version_in_the_place_of_the_one_that_serves(fleet, play, first, second):
    done = play("site", [second[0], first[1]], code=2)
    assert "Refused model letters 1.0: this host serves version 2.0 at port 8101, and one version at a time" in said(done)
    assert {name: serves(fleet[name]) for name in GPU_HOSTS} == dict.fromkeys(GPU_HOSTS, SECOND)


def test_prune_keeps_what_the_fleet_goes_back_to(fleet, play, second):
    done = play("prune", second, dfdaemon_prune_keep=0)
    for name in GPU_HOSTS:
        assert re.search(rf"{name} letters 1\.0 recorded ", said(done)), done.stdout[-5000:]
        assert record(fleet[name])["previous"]["letters", "1.0"]["file"] in fleet[name].stored()


def test_back_without_the_origin(fleet, play, second, origin):
    before = origin.call("GET", "/counters")["objects"]
    done = play("rollback", second)
    assert origin.call("GET", "/counters")["objects"] == before
    assert {name: serves(fleet[name]) for name in GPU_HOSTS} == dict.fromkeys(GPU_HOSTS, FIRST)
    assert outcomes(done) == everywhere("rolled back", "demo", "letters")
    again = play("rollback", second)
    assert {row["changed"] for row in recap(again).values()} == {0}


BAD = {"does not load": ("3.1", "ready"), "answers wrongly": ("3.2", "answers")}


@pytest.mark.parametrize("kind", BAD)
def test_a_version_of_a_server_that(kind, fleet, play, first, letters):
    version, gate = BAD[kind]
    before = {name: (fleet[name].main_pid("torchserve"), fleet[name].main_pid(unit_of(first[1]))) for name in GPU_HOSTS}
    done = play("rollout", [first[0], letters[version]], code=2)
    assert {name: serves(fleet[name]) for name in GPU_HOSTS} == dict.fromkeys(GPU_HOSTS, FIRST)
    assert outcomes(done) == {**everywhere("untouched", "letters"), ("gpu-1", "letters"): "went back"}
    assert re.search(rf"gpu-1 letters 1\.0 {re.escape(version)} went back {gate} ", said(done)), done.stdout[-5000:]
    if gate == "answers":
        assert SAYS[3] in said(done)
    for name in GPU_HOSTS:
        assert record(fleet[name])["staged"] == {}
        assert fleet[name].main_pid("torchserve") == before[name][0]
    # Only the first host was asked to serve it.
    for name in GPU_HOSTS[1:]:
        assert fleet[name].main_pid(unit_of(first[1])) == before[name][1]
        assert fleet[name].run("journalctl -u %s --output=cat | grep -F Start", unit_of(letters[version])).stdout == ""


def test_a_bad_version_of_one_runtime_takes_the_other_back_with_it(fleet, play, letters, demo):
    done = play("rollout", [letters["2.0"], demo("3.3", seed=33, fault="load")], code=2)
    assert {name: serves(fleet[name]) for name in GPU_HOSTS} == dict.fromkeys(GPU_HOSTS, FIRST)
    found = outcomes(done)
    assert found["gpu-1", "demo"] == found["gpu-1", "letters"] == "went back"
    assert [record(fleet[name])["staged"] for name in GPU_HOSTS] == [{}] * len(GPU_HOSTS)


def test_a_host_that_joins_would_serve_what_the_others_serve(play, second, fleet):
    done = play("add", second, "--limit", "gpu-3", "--check", code=2)
    assert "gpu-1 serves letters 1.0, which modelfleet_models does not list" in said(done)
    assert serves(fleet["gpu-3"]) == FIRST
