"""The next version of all, and the way back; each test begins with what the one before left."""

from __future__ import annotations

import re

import pytest
from conftest import FIRST, MODEL_NAMES, SAYS, SECOND, record, said, serves, triton_has, unit_of
from fleet import GPU_HOSTS, recap


def outcomes(done):
    """{(host, model): outcome} of the table."""
    found = re.findall(r"(gpu-\d) (demo|letters|table) \S+ \S+ (activated|finished|went back|untouched|rolled back|NOT UNDONE)", said(done))
    return {(host, model): outcome for host, model, outcome in found}


def everywhere(outcome, *models):
    return {(host, model): outcome for host in GPU_HOSTS for model in models}


def test_the_next_version_of_all(fleet, play, first, second):
    done = play("rollout", second)
    assert {name: serves(fleet[name]) for name in GPU_HOSTS} == dict.fromkeys(GPU_HOSTS, SECOND)
    assert outcomes(done) == everywhere("activated", *MODEL_NAMES)
    for name in GPU_HOSTS:
        found = record(fleet[name])
        assert set(found["models"]) == {(model, "2.0") for model in MODEL_NAMES} and found["staged"] == {}
        assert set(found["previous"]) == {(model, "1.0") for model in MODEL_NAMES}
        assert triton_has(fleet[name]) == {"table": "READY"}
        # The unit of the way back waits.
        assert fleet[name].run("systemctl is-enabled %s", unit_of(first[1])).stdout.strip() == "disabled"
        assert not fleet[name].active(unit_of(first[1]))


@pytest.mark.parametrize("playbook", ["rollout", "site"])
def test_again_it_changes_nothing(fleet, play, second, playbook):
    units = (unit_of(second[1]), "triton", "torchserve")
    pids = {name: [fleet[name].main_pid(unit) for unit in units] for name in GPU_HOSTS}
    done = play(playbook, second)
    assert {name: row["changed"] for name, row in recap(done).items()} == dict.fromkeys(recap(done), 0)
    assert {name: [fleet[name].main_pid(unit) for unit in units] for name in GPU_HOSTS} == pids


OLDER = {
    1: "Refused model letters 1.0: this host serves version 2.0 at port 8101, and one version at a time",
    2: "Refused model table 1.0: this host serves version 2.0, and one version at a time",
}


@pytest.mark.parametrize("number", OLDER)
def test_site_puts_no_other_version_in_the_place_of_the_one_that_serves(number, fleet, play, first, second):
    done = play("site", [*second[:number], first[number], *second[number + 1 :]], code=2)
    assert OLDER[number] in said(done), done.stdout[-5000:]
    assert {name: serves(fleet[name]) for name in GPU_HOSTS} == dict.fromkeys(GPU_HOSTS, SECOND)


def test_prune_keeps_what_the_fleet_goes_back_to(fleet, play, second):
    done = play("prune", second, dfdaemon_prune_keep=0)
    for name in GPU_HOSTS:
        for model in ("letters", "table"):
            assert re.search(rf"{name} {model} 1\.0 recorded ", said(done)), done.stdout[-5000:]
            assert record(fleet[name])["previous"][model, "1.0"]["file"] in fleet[name].stored()


def test_back_without_the_origin(fleet, play, second, origin):
    before = origin.call("GET", "/counters")["objects"]
    done = play("rollback", second)
    assert origin.call("GET", "/counters")["objects"] == before
    assert {name: serves(fleet[name]) for name in GPU_HOSTS} == dict.fromkeys(GPU_HOSTS, FIRST)
    assert outcomes(done) == everywhere("rolled back", *MODEL_NAMES)
    again = play("rollback", second)
    assert {row["changed"] for row in recap(again).values()} == {0}


# The model, its version, the gate that sees it, and what it says besides.
BAD = {
    "server does not load": ("letters", "3.1", "ready", ""),
    "server answers wrongly": ("letters", "3.2", "answers", SAYS[3]),
    "triton does not load": ("table", "3.1", "ready", "this version does not load"),
    "triton answers wrongly": ("table", "3.2", "answers", "[0].data[0] is 122, expected 123"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_version_of(kind, fleet, play, first, letters, table):
    model, version, gate, words = BAD[kind]
    entry = {"letters": letters, "table": table}[model][version]
    units = ["torchserve", *([unit_of(first[1])] if model == "table" else ["triton"])]
    before = {name: [fleet[name].main_pid(unit) for unit in units] for name in GPU_HOSTS}
    server = {name: fleet[name].main_pid(unit_of(first[1])) for name in GPU_HOSTS}
    done = play("rollout", [entry if one["name"] == model else one for one in first], code=2)
    assert {name: serves(fleet[name]) for name in GPU_HOSTS} == dict.fromkeys(GPU_HOSTS, FIRST)
    assert outcomes(done) == {**everywhere("untouched", model), ("gpu-1", model): "went back"}
    assert re.search(rf"gpu-1 {model} 1\.0 {re.escape(version)} went back {gate} ", said(done)), done.stdout[-5000:]
    assert words in said(done), done.stdout[-5000:]
    for name in GPU_HOSTS:
        assert record(fleet[name])["staged"] == {}
        assert [fleet[name].main_pid(unit) for unit in units] == before[name]
        assert triton_has(fleet[name]) == {"table": "READY"}
    # Only the first host was asked to serve it.
    for name in GPU_HOSTS[1:]:
        assert fleet[name].main_pid(unit_of(first[1])) == server[name]
        assert fleet[name].run("journalctl -u %s --output=cat | grep -F Start", unit_of(letters[version])).stdout == ""


def test_a_bad_version_of_one_runtime_takes_the_others_back_with_it(fleet, play, letters, table, demo):
    done = play("rollout", [table["2.0"], letters["2.0"], demo("3.3", seed=33, fault="load")], code=2)
    assert {name: serves(fleet[name]) for name in GPU_HOSTS} == dict.fromkeys(GPU_HOSTS, FIRST)
    found = outcomes(done)
    assert {found["gpu-1", model] for model in MODEL_NAMES} == {"went back"}
    assert [record(fleet[name])["staged"] for name in GPU_HOSTS] == [{}] * len(GPU_HOSTS)


def test_a_host_that_joins_would_serve_what_the_others_serve(play, second, fleet):
    done = play("add", second, "--limit", "gpu-3", "--check", code=2)
    assert "gpu-1 serves letters 1.0, which modelfleet_models does not list" in said(done)
    assert serves(fleet["gpu-3"]) == FIRST
