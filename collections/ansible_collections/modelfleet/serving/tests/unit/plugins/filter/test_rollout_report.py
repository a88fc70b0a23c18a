# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.rollout_report import FilterModule
from ansible_collections.modelfleet.serving.tests.unit.plugins.rollout_facts import BYTES, GATE, SAMPLES, host

rollout_report = FilterModule().filters()["rollout_report"]


def seed(before, after):
    return {
        "plan": [],
        "outcome": "untouched",
        "gates": [],
        "problem": "",
        "timeline": [],
        "brought": {},
        "seed": {"before": before, "after": after},
    }


def test_one_host():
    report = rollout_report({"gpu-1": host()}, "rollout", 1020.0, ["gpu-1"], [["gpu-1"]])
    one = report["hosts"]["gpu-1"]
    assert report["ok"] and (report["began"], report["ended"], report["play"]) == (1000.0, 1020.0, "rollout")
    assert one["batch"] == 1 and one["models"] == [{"name": "demo", "from": "1.0", "to": "2.0"}]
    assert one["phases"] == [
        {"phase": "check", "began": 0.0, "ended": 2.0, "failed": False},
        {"phase": "bring", "began": 3.25, "ended": 7.25, "failed": False},
        {"phase": "ready", "began": 10.0, "ended": 15.5, "failed": False},
    ]
    assert one["gates"] == [GATE] and one["brought"]["samples"] == SAMPLES
    assert report["bytes"] == BYTES


def test_the_hosts_of_a_batch_stand_as_in_the_inventory():
    """In a group they are in the order in which they came into it."""
    report = rollout_report({}, "rollout", 5.0, ["gpu-1", "gpu-2", "gpu-3"], [["gpu-1"], ["gpu-3", "gpu-2"]])
    assert report["batches"] == [["gpu-1"], ["gpu-2", "gpu-3"]]


def test_a_phase_fails_where_its_end_says_so():
    timeline = [{"phase": "traffic", "at": 5.0}, {"phase": "idle", "at": 9.0, "failed": True}, {"phase": "undo", "at": 10.0}]
    timeline.append({"phase": "idle", "at": 12.0})
    facts = host(timeline=timeline, problem="slow", outcome="went back", brought={})
    report = rollout_report({"gpu-1": facts}, "rollout", 20.0, ["gpu-1"])
    assert [(one["phase"], one["failed"], one["ended"]) for one in report["hosts"]["gpu-1"]["phases"]] == [
        ("traffic", True, 4.0),
        ("undo", False, 7.0),
    ]
    assert not report["ok"] and report["problems"] == [{"host": "gpu-1", "message": "slow"}]
    assert report["hosts"]["gpu-1"]["batch"] is None


@pytest.mark.parametrize(("phases", "outcome"), [(["check"], "untouched"), (["check", "plan", "idle"], "unchanged")])
def test_nothing_was_to_be_changed_where_that_was_planned(phases, outcome):
    facts = host(plan=[], outcome="untouched", timeline=[{"phase": phase, "at": 5.0} for phase in phases])
    assert rollout_report({"gpu-1": facts}, "rollout", 20.0, ["gpu-1"])["hosts"]["gpu-1"]["outcome"] == outcome


@pytest.mark.parametrize("problem", ["", "locked"])
def test_a_host_that_was_set_aside_failed_in_its_last_phase(problem):
    timeline = [{"phase": "check", "at": 5.0}, {"phase": "plan", "at": 9.0}]
    report = rollout_report({"gpu-1": host(timeline=timeline, problem=problem, brought={})}, "rollout", 20.0, ["gpu-1"])
    assert [(one["phase"], one["failed"]) for one in report["hosts"]["gpu-1"]["phases"]] == [("check", False), ("plan", problem != "")]


def test_what_could_not_be_brought_failed():
    brought = {"artifacts": [{"name": "demo", "version": "2.0", "action": "failed", "seconds": 3.0}], "began": 1001.0}
    report = rollout_report({"gpu-1": host(brought=brought, timeline=[])}, "rollout", 1020.0, ["gpu-1"])
    assert report["hosts"]["gpu-1"]["phases"][0]["failed"] and report["bytes"] == dict.fromkeys(BYTES, 0)


def test_every_host_is_there_whatever_is_known_of_it():
    report = rollout_report({"gpu-1": {}, "scheduler-1": {"problem": "down"}}, "rollback", 5.0, ["gpu-1", "gpu-2"])
    assert list(report["hosts"]) == ["gpu-1", "gpu-2"]
    assert report["hosts"]["gpu-1"]["outcome"] == "untouched" and report["hosts"]["gpu-1"]["phases"] == []
    assert report["problems"] == [{"host": "scheduler-1", "message": "down"}]
    assert rollout_report({"gpu-1": host(outcome="untouched")}, "rollout", 5.0, ["gpu-1"])["hosts"]["gpu-1"]["outcome"] == "untouched"


@pytest.mark.parametrize(
    ("seeds", "sent"),
    [
        ({}, 1),
        ({"seed-1": seed({"origin": 5}, {"origin": 15})}, 11),
        ({"seed-1": seed({"origin": 50}, {"origin": 10})}, 11),
        ({"seed-1": seed({"origin": 5}, None)}, None),
        # It serves too, and its dfdaemon has counted what it took for itself.
        ({"gpu-1": host(seed={"before": {"origin": 0}, "after": {"origin": 12}})}, 12),
    ],
)
def test_what_the_origin_sent(seeds, sent):
    report = rollout_report({"gpu-1": host(), **seeds}, "rollout", 1020.0, ["gpu-1"])
    assert report["origin"] == {"bytes": sent, "model_bytes": 10, "ratio": None if sent is None else sent / 10}


def test_nothing_was_brought():
    report = rollout_report({"gpu-1": host(brought={})}, "rollout", 1020.0, ["gpu-1"])
    assert report["origin"] == {"bytes": None, "model_bytes": 0, "ratio": None}
