# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.removal_findings import removal_findings

GROUPS = {
    "all": ["origin", "one", "two", "seed", "gpu-1", "gpu-2"],
    "dragonfly_schedulers": ["one", "two"],
    "dragonfly_seed_peers": ["two", "seed"],
    "gpu_hosts": ["gpu-1", "gpu-2"],
}


@pytest.mark.parametrize("leaving", [["one"], ["two"], ["gpu-2", "seed"]])
def test_the_rest_goes_on(leaving):
    assert removal_findings(leaving, GROUPS, pattern=":".join(leaving)) == []


@pytest.mark.parametrize(
    ("leaving", "words"),
    [
        ([], "nobody said which; say it, as in -e modelfleet_remove_hosts=gpu-3."),
        (["origin"], "Refused to remove origin: it is in none of the groups"),
        (["one", "two"], "Refused to remove one, two: it is the last scheduler, and without one nobody downloads; add another one first"),
        (["seed", "two"], "Refused to remove two, seed: it is the last seed peer"),
        (["gpu-1", "gpu-2"], "modelfleet.serving.uninstall"),
    ],
)
def test_the_rest_could_not(leaving, words):
    (finding,) = removal_findings(leaving, GROUPS)
    assert words in finding


def test_who_is_meant():
    assert removal_findings([], GROUPS, pattern="gpu-9") == [
        "Refused to remove 'gpu-9': no host of the inventory is called so; correct modelfleet_remove_hosts."
    ]
    (finding,) = removal_findings(["gpu-2"], GROUPS, limited=True)
    assert "--limit" in finding
    # A fleet without seed peers has none to lose.
    assert removal_findings(["gpu-2"], {**GROUPS, "dragonfly_seed_peers": []}) == []


def test_the_manager_stays_as_long_as_the_others_ask_it():
    assert removal_findings(["one"], GROUPS, managers=["two"]) == []
    (finding,) = removal_findings(["one"], GROUPS, managers=["one"])
    assert finding.startswith("Refused to remove one: it runs the manager that the others ask; first move it")
