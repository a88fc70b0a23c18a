# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The play plan on this machine: it needs no host, and no inventory either."""

from __future__ import annotations

import json

import pytest

LINKS = {"modelfleet_origin_mbits": 40, "modelfleet_host_mbits": 100}
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
    assert "Links of origin 40 Mbit/s, seed peer 100 Mbit/s, host 100 Mbit/s." in finished.stdout
    assert "For 100, 1000, 10000: There is one seed peer" in " ".join(finished.stdout.split())


def test_assumes_the_links_that_nobody_named(run):
    finished = run(
        "ansible-playbook", "-i", "localhost,", "modelfleet.serving.plan", "-e", "plan_size=1GiB", "-e", "modelfleet_host_mbits=2500"
    )
    assert "Links of origin 5 Gbit/s, seed peer 2.5 Gbit/s, host 2.5 Gbit/s." in finished.stdout


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
    assert "To set for 7: forks 7, dfdaemon_disk_budget 3GiB" in finished.stdout
    settings = {row[0]: row[1:] for row in (line.strip(" -'").split() for line in finished.stdout.splitlines()) if len(row) == 6}
    assert settings["set-by-the-roles"] == ["7", "100", "1000", "10000", "changed-by"]
    assert settings["schedulerClusterConfig.candidateParentLimit"] == [*"3333", "dragonfly_scheduler_dynconfig"]
    assert settings["server.requestRateLimit"] == ["4000", "4000", "4000", "40000", "dragonfly_scheduler_config"]
    assert settings["download.backToSourceConcurrentPieceCount"] == [*"2222", "dfdaemon_config"]
    assert "There is one seed peer" not in finished.stdout
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
    finished = planned(plan_size="1GiB", modelfleet_host_mbits=-1)
    assert finished.returncode != 0
    assert "give more than 0" in " ".join(finished.stdout.split())
