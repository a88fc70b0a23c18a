# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.swarm_settings import FilterModule

swarm_settings = FilterModule().filters()["swarm_settings"]
swarm_shortages = FilterModule().filters()["swarm_shortages"]


def test_takes_megabits():
    assert swarm_settings(100, origin_mbits=40)["seed_peer"] == {"download": {"backToSourceConcurrentPieceCount": 2}}
    assert swarm_settings(100)["seed_peer"] == {"download": {"backToSourceConcurrentPieceCount": 8}}
    assert swarm_settings(100)["scheduler"] == {"server": {"requestRateLimit": 4000}, "scheduler": {"backToSourceCount": 3}}


@pytest.mark.parametrize(
    ("hosts", "seeds", "schedulers", "said"),
    [
        (100, 2, 1, []),
        (500, 2, 1, []),
        (1, 0, 1, []),
        (1, 1, 1, []),
        # That there is none of them is an error of the inventory.
        (1000, 2, 0, []),
        (2, 0, 1, ["There is no seed peer"]),
        (2, 1, 1, ["There is one seed peer: while it is away the object store sends each new file to up to 3 GPU hosts."]),
        (501, 2, 1, ["There are too few schedulers for 501 GPU hosts (1): give the group dragonfly_schedulers 2 hosts, one for each 500."]),
        (10000, 1, 19, ["There is one seed peer", "There are too few schedulers for 10000 GPU hosts (19)"]),
    ],
)
def test_says_what_there_is_too_little_of(hosts, seeds, schedulers, said):
    sentences = swarm_shortages(hosts, seeds, schedulers)
    assert len(sentences) == len(said)
    assert all(sentence.startswith(beginning) for sentence, beginning in zip(sentences, said))
