# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.rollout_table import rollout_plan_table, rollout_table

PLAN = [{"name": "demo", "version": "2.0", "from": "1.0", "on_disk": False, "bytes": 64 * 1024 * 1024}]


def gate(name, ok=True, saw="fine", model="demo"):
    return {"model": model, "version": "2.0", "gate": name, "ok": ok, "saw": saw, "allowed": "the known answer"}


def test_what_stopped_it_and_who_was_not_touched():
    hosts = {
        "gpu-1": {"plan": PLAN, "outcome": "activated", "gates": [gate("ready"), gate("answers")]},
        "gpu-2": {
            "plan": PLAN,
            "outcome": "went back",
            "gates": [gate("ready"), gate("answers", False, "$.y is 3,\nexpected 2")],
            "problem": "Stop at the gate: wrong.",
        },
        "gpu-3": {"plan": PLAN},
        "gpu-4": {"plan": []},
    }
    assert rollout_table(hosts) == [
        "host   model  from  to   outcome    gate      saw                   allowed",
        "------------------------------------------------------------------------------------",
        "gpu-1  demo   1.0   2.0  activated  2 passed  -                     -",
        "gpu-2  demo   1.0   2.0  went back  answers   $.y is 3, expected 2  the known answer",
        "gpu-3  demo   1.0   2.0  untouched  -         -                     -",
        "",
        "Wrong:",
        "gpu-2: Stop at the gate: wrong.",
    ]


def test_how_long_a_rollback_took():
    hosts = {f"gpu-{n}": {"plan": PLAN, "outcome": "rolled back", "seconds": seconds} for n, seconds in enumerate(("1.234", 3.456, None))}
    assert rollout_table(hosts)[-2:] == ["", "The host that took longest was back after 3.5 s."]


def test_nothing_changes():
    assert rollout_table({"gpu-1": {"plan": []}, "gpu-2": {}}) == ["No host serves another version than before."]
    assert rollout_table({"gpu-1": {"problem": "It is down."}})[1:] == ["", "Wrong:", "gpu-1: It is down."]


@pytest.mark.parametrize(
    ("old", "new", "row"),
    [
        (500, 500, "2 passed  -                           -"),
        (0, 0, "1 passed  traffic: none to compare    the known answer"),
        (0, 3, "1 passed  traffic: none to compare    the known answer"),
    ],
)
def test_a_gate_that_had_nothing_to_compare_says_so(old, new, row):
    seen = {**gate("traffic", saw="none to compare"), "old": {"requests": old}, "new": {"requests": new}}
    lines = rollout_table({"gpu-1": {"plan": PLAN, "outcome": "activated", "gates": [gate("ready"), seen]}})
    assert lines[2].split("activated  ")[1].split() == row.split()
    # Of a run that did not look, nothing is known.
    assert "2 passed" in rollout_table({"gpu-1": {"plan": PLAN, "gates": [gate("ready"), {**gate("traffic"), "old": {}, "new": {}}]}})[2]


def test_a_gate_of_the_whole_host_and_a_long_text():
    lines = rollout_table({"gpu-1": {"plan": PLAN, "outcome": "went back", "gates": [gate("gpu", False, "x" * 200, model="-")]}})
    assert "  gpu   " in lines[2] and "x" * 97 + "..." in lines[2] and "x" * 98 not in lines[2]


def test_the_plan():
    there = [{**PLAN[0], "from": "", "on_disk": True}]
    unknown = [{**PLAN[0], "bytes": 0}]
    hosts = {"gpu-1": {"plan": PLAN, "free": 1024**3}, "gpu-2": {"plan": there, "free": 0}, "gpu-3": {"plan": unknown}, "gpu-4": {}}
    assert rollout_plan_table(hosts) == [
        "host   model  from  to   to bring    free",
        "-----------------------------------------",
        "gpu-1  demo   1.0   2.0   64.0MiB  1.0GiB",
        "gpu-2  demo   -     2.0     there       -",
        "gpu-3  demo   1.0   2.0   unknown       -",
    ]
    assert rollout_plan_table({"gpu-1": {"plan": []}}) == ["Every host serves what modelfleet_models names."]
