# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The play plan on this machine: it needs no host, and no inventory either."""

from __future__ import annotations

import json

import pytest

LINKS = {"plan_origin_mbits": 40, "plan_host_mbits": 100}
MODELS = [
    {"name": "tiny", "version": "1.0", "object": "tiny.mar", "sha256": "0" * 64, "size": "64MiB"},
    {"name": "llama", "version": "3.1", "bundle": "llama", "sha256": "1" * 64, "size": "1GiB"},
    {"name": "old", "version": "1.0", "bundle": "old", "sha256": "2" * 64, "size": "9GiB", "state": "absent"},
]


@pytest.fixture
def planned(run, tmp_path):
    def play(inventory="localhost,", **variables):
        return run("ansible-playbook", "-i", inventory, "modelfleet.serving.plan", "-e", json.dumps({**LINKS, **variables}))

    return play


def test_needs_no_inventory(planned):
    finished = planned(plan_size="256MiB", plan_seeds=1)
    assert finished.returncode == 0, finished.stdout
    assert "changed=0" in finished.stdout
    for hosts in ("  100 ", " 1000 ", "10000 "):
        assert f"- '{hosts}" in finished.stdout or f"- {hosts}" in finished.stdout
    assert "Size 256.0 MiB, files 1, pieces of 4.0 MiB, seed peers 1." in finished.stdout


def test_takes_what_the_inventory_says(planned, tmp_path):
    """The number of its hosts, what is present on them, the scheduler's settings and the length of a piece."""
    hosts = {
        "all": {
            "vars": {
                "modelfleet_models": MODELS,
                "modelfleet_piece_length": "16MiB",
                "dragonfly_scheduler_dynconfig": {"schedulerClusterConfig": {"candidateParentLimit": 3}},
            },
            "children": {
                "gpu_hosts": {"hosts": {f"gpu-{number}": {} for number in range(7)}},
                "dragonfly_seed_peers": {"hosts": {"seed-1": {}, "seed-2": {}, "seed-3": {}}},
            },
        }
    }
    (tmp_path / "hosts.json").write_text(json.dumps(hosts))
    finished = planned(inventory=tmp_path / "hosts.json")
    assert finished.returncode == 0, finished.stdout
    assert "To set for 7: forks 7, dfdaemon_disk_budget 3GiB, candidateParentLimit 3" in finished.stdout
    assert "Size 1.1 GiB, files 2, pieces of 16.0 MiB, seed peers 3." in finished.stdout
    assert "2.1GiB" in finished.stdout, "an object is on the disk twice"


@pytest.mark.parametrize(
    "variables",
    [{}, {"plan_size": "much"}, {"modelfleet_models": [{name: value for name, value in MODELS[0].items() if name != "size"}]}],
)
def test_refuses_to_plan_without_a_size(planned, variables):
    finished = planned(**variables)
    assert finished.returncode != 0
    assert "Failed to plan without a size: give plan_size" in " ".join(finished.stdout.split())


def test_names_what_cannot_be(planned):
    finished = planned(plan_size="1GiB", plan_host_mbits=0)
    assert finished.returncode != 0
    assert "give more than 0" in " ".join(finished.stdout.split())
