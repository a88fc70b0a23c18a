# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _dragonfly_config
from ansible_collections.modelfleet.serving.plugins.module_utils._swarm import settings


def requests(hosts):
    return settings(hosts)["scheduler"]["server"]["requestRateLimit"]


def origin_pieces(mbits):
    return settings(100, mbits * 1e6)["seed_peer"]["download"]["backToSourceConcurrentPieceCount"]


@pytest.mark.parametrize(
    ("hosts", "limit"), [(0, 4000), (3, 4000), (1000, 4000), (1001, 40000), (10000, 40000), (10001, 400000), (100000, 400000)]
)
def test_a_scheduler_answers_a_fleet_that_begins_at_once(hosts, limit):
    assert requests(hosts) == limit


@pytest.mark.parametrize(("mbits", "pieces"), [(0, 8), (1, 2), (40, 2), (67, 2), (68, 4), (134, 4), (135, 8), (5000, 8)])
def test_a_slow_origin_is_asked_for_few_pieces_at_once(mbits, pieces):
    """One second's worth: a piece of 4 MiB is 33.6 Mbit."""
    assert origin_pieces(mbits) == pieces


def test_the_tree_is_the_same_for_every_fleet():
    assert settings(3)["scheduler_dynconfig"] == settings(10000, 40e6)["scheduler_dynconfig"]
    assert settings(3)["scheduler_dynconfig"]["schedulerClusterConfig"]["candidateParentLimit"] == 2


@pytest.mark.parametrize("hosts", [0, 3, 10000, 10**6])
def test_the_daemons_know_every_key(hosts):
    chosen = settings(hosts, 40e6)
    for component, config in (("scheduler", "scheduler"), ("scheduler_dynconfig", "scheduler_dynconfig"), ("dfdaemon", "seed_peer")):
        assert list(_dragonfly_config.problems(component, chosen[config])) == []


def test_a_caller_may_change_what_it_got():
    settings(3)["scheduler_dynconfig"]["schedulerClusterConfig"]["candidateParentLimit"] = 3
    assert settings(3)["scheduler_dynconfig"]["schedulerClusterConfig"]["candidateParentLimit"] == 2
