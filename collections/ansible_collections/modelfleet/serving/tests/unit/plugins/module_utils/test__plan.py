# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._plan import Links, direct_bound, lower_bound, piece_length, plan
from ansible_collections.modelfleet.serving.plugins.module_utils._swarm import MIB

LAB = Links(origin=40e6, seed=100e6, host=100e6)
CENTRE = Links(origin=5e9, seed=10e9, host=10e9)


def test_the_bounds():
    size = 125 * 10**6  # 1 Gbit
    assert lower_bound(size, LAB) == pytest.approx(25)
    assert lower_bound(size, LAB._replace(origin=400e6)) == pytest.approx(10)
    assert direct_bound(size, 8, LAB) == pytest.approx(200)
    assert direct_bound(size, 1, LAB._replace(origin=400e6)) == pytest.approx(10)


@pytest.mark.parametrize(
    ("hosts", "size", "copies", "measured"),
    [(1, 64, 2, 1.12), (8, 64, 2, 1.52), (8, 256, 2, 1.155), (8, 64, 3, 1.655), (8, 256, 3, 1.42)],
)
def test_agrees_with_what_was_measured(hosts, size, copies, measured):
    planned = plan(size * MIB, hosts, LAB, seeds=1, copies=copies)
    assert planned["seconds"] / planned["bound_seconds"] == pytest.approx(measured, rel=0.05)


def test_no_plan_beats_the_bound():
    for links in (LAB, LAB._replace(origin=400e6), CENTRE, CENTRE._replace(seed=1e9)):
        for hosts in (1, 2, 8, 1000):
            for files in (1, 30):
                planned = plan(1 << 30, hosts, links, files=files)
                assert planned["bound_seconds"] < planned["seconds"] <= planned["uneven_seconds"]


@pytest.mark.parametrize(
    ("links", "hosts", "options", "wall"),
    [
        (LAB, 8, {}, "origin"),
        (LAB._replace(origin=400e6), 1, {}, "host_link"),
        (LAB._replace(origin=400e6), 8, {}, "host_upload"),
        (LAB._replace(origin=400e6, seed=50e6), 8, {}, "seed_upload"),
        (LAB._replace(origin=400e6, seed=50e6), 8, {"seeds": 2, "files": 2}, "host_upload"),
        (LAB._replace(origin=400e6), 1, {"disk": 1e6}, "host_disk"),
    ],
)
def test_says_what_everybody_waits_for(links, hosts, options, wall):
    assert plan(1 << 30, hosts, links, **options)["wall"] == wall


def test_a_file_is_with_one_seed_peer():
    """A second one helps a model of several files only, and only such a model is told to have more."""
    slow = CENTRE._replace(origin=20e9, seed=2e9)
    assert plan(1 << 30, 8, slow, seeds=2, files=1)["seconds"] == plan(1 << 30, 8, slow, seeds=1, files=1)["seconds"]
    assert plan(1 << 30, 8, slow, seeds=2, files=8)["seconds"] < plan(1 << 30, 8, slow, seeds=1, files=8)["seconds"]
    assert plan(1 << 30, 8, slow, files=1)["seeds"] == 2
    wanted = plan(1 << 30, 8, slow, files=8)["seeds"]
    assert wanted == 5
    assert plan(1 << 30, 8, slow, seeds=wanted, files=8)["wall"] != "seed_upload"
    assert plan(1 << 30, 8, slow, seeds=wanted - 1, files=8)["wall"] == "seed_upload"


def test_the_fleet_grows_and_the_origin_does_not_notice():
    ten, thousand = (plan(1 << 30, hosts, CENTRE, files=3, unpacked=True) for hosts in (10, 1000))
    assert ten["origin_bytes"] == thousand["origin_bytes"] == 1 << 30
    assert (ten["origin_requests"], thousand["origin_requests"]) == (30, 3000)
    assert (ten["direct_origin_bytes"], thousand["direct_origin_bytes"]) == (10 << 30, 1000 << 30)
    assert thousand["direct_seconds"] == pytest.approx(100 * ten["direct_seconds"])
    assert ten["seconds"] < thousand["seconds"] < 2 * ten["seconds"]
    assert ten["host_disk_bytes"] == 2 << 30
    assert ten["seed_disk_bytes"] == 1 << 30
    assert (ten["schedulers"], thousand["schedulers"]) == (2, 2)
    assert plan(1 << 30, 1001, CENTRE)["schedulers"] == 3
    assert thousand["settings"] == {"forks": 1000, "dfdaemon_disk_budget": "2GiB"}


def test_says_what_the_roles_set():
    """That of the number of hosts that is planned for, and the one setting that it was planned with."""
    planned = plan(1 << 30, 10000, LAB, copies=3)["role_settings"]
    assert planned["scheduler"] == {"server.requestRateLimit": 40000, "scheduler.backToSourceCount": 3}
    assert planned["scheduler_dynconfig"]["schedulerClusterConfig.candidateParentLimit"] == 3
    assert planned["seed_peer"] == {"download.backToSourceConcurrentPieceCount": 2}


def test_says_how_many_seed_peers_end_the_wait_for_their_upload():
    slow = CENTRE._replace(origin=20e9, seed=2e9)
    assert plan(1 << 30, 8, slow, seeds=2, files=8)["shortages"] == [
        "The hosts wait for the upload of the seed peers: 5 instead of 2 would end that."
    ]
    assert plan(1 << 30, 8, slow, seeds=5, files=8)["shortages"] == []
    assert plan(1 << 30, 8, CENTRE)["shortages"] == []
    (one,) = plan(1 << 30, 8, CENTRE, seeds=1)["shortages"]
    assert one.startswith("There is one seed peer")


def test_a_seed_peer_of_one_file_needs_a_link_and_not_company():
    slow = CENTRE._replace(origin=20e9, seed=2e9)
    (said,) = plan(1 << 30, 8, slow, files=1)["shortages"]
    assert "As many as there are files (1), with links of 10000 Mbit/s, would end that" in said
    assert plan(1 << 30, 8, slow._replace(seed=10e9), files=1)["shortages"] == []


@pytest.mark.parametrize(
    ("size", "length"),
    [(1, 4), (500 * 4, 4), (500 * 5, 8), (500 * 8, 8), (500 * 64, 64), (1000 * 64, 64)],
)
def test_the_length_of_a_piece_is_that_of_dfdaemon(size, length):
    assert piece_length(size * MIB) == length * MIB


def test_a_small_file_is_one_short_piece():
    assert plan(1000, 8, LAB)["given"]["piece"] == 1000
    assert plan(1 << 30, 8, LAB, piece=16 * MIB)["given"]["piece"] == 16 * MIB


@pytest.mark.parametrize("name", ["size", "hosts", "seeds", "files", "copies", "disk"])
@pytest.mark.parametrize("value", [0, -1])
def test_refuses_what_is_no_fleet(name, value):
    with pytest.raises(ModelFleetError, match=rf"Failed to plan with {name} {value}: give more than 0\."):
        plan(**{"size": 1 << 30, "hosts": 8, "links": LAB, name: value})


def test_refuses_links_and_files_that_cannot_be():
    with pytest.raises(ModelFleetError, match=r"Failed to plan with host 0: give more than 0\."):
        plan(1 << 30, 8, LAB._replace(host=0))
    with pytest.raises(ModelFleetError, match=r"Failed to plan with 3 files in 2 bytes"):
        plan(2, 8, LAB, files=3)
