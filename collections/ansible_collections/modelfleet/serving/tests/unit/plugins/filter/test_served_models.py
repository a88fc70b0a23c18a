# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.served_models import served_models


def listed(version, **more):
    return {"name": "llama", "version": version, **more}


def served(version, default=True):
    return {"name": "llama", "version": version, "default": default}


OTHER = {"name": "other", "version": "1.0", "default": True}
HUB = listed("1", huggingface={"repo": "org/llama"})
GONE = {"name": "llama", "version": "0.9", "state": "absent"}


@pytest.mark.parametrize(
    ("models", "hosts", "kept", "left_out"),
    [
        # Nobody serves it yet, or nobody was asked.
        ([listed("3.1", default=True)], {"gpu-1": []}, [listed("3.1", default=True)], []),
        ([listed("3.1")], {}, [listed("3.1")], []),
        # As listed.
        ([listed("3.1", default=True), GONE, OTHER], {"gpu-1": [served("3.1")]}, [listed("3.1", default=True), GONE, OTHER], []),
        # The next version is listed already, and the one that serves still is.
        ([listed("3.0"), listed("3.1", default=True)], {"gpu-1": [served("3.0")]}, [listed("3.0")], ["llama 3.1"]),
        ([listed("3.0", default=False), listed("3.1")], {"gpu-1": [served("3.0")]}, [listed("3.0", default=True)], ["llama 3.1"]),
        # What is of a hub is not served, whatever its name.
        ([HUB, listed("3.0")], {"gpu-1": [served("3.0")]}, [HUB, listed("3.0")], []),
        # Both serve; which one answers is what the others say.
        (
            [listed("3.0", default=True), listed("3.1", default=False)],
            {"gpu-1": [served("3.0", default=False), served("3.1")]},
            [listed("3.0", default=False), listed("3.1", default=True)],
            [],
        ),
    ],
)
def test_what_is_chosen(models, hosts, kept, left_out):
    assert served_models(models, hosts) == {"models": kept, "left_out": left_out, "problems": []}


def test_a_version_that_is_not_listed_cannot_be_brought():
    found = served_models([listed("3.1")], {"gpu-1": [served("3.0")], "gpu-2": [served("3.0")]})
    assert found["left_out"] == ["llama 3.1"]
    (problem,) = found["problems"]
    assert problem.startswith("gpu-1 serves llama 3.0, which modelfleet_models does not list; list it")


def test_hosts_that_disagree_are_in_the_middle_of_something():
    found = served_models([listed("3.0"), listed("3.1")], {"gpu-1": [served("3.1")], "gpu-2": [served("3.0")]})
    assert found["problems"] == [
        "The default version of llama is 3.1 on gpu-1 and 3.0 on gpu-2; finish that rollout, or take it back, and add hosts then."
    ]
    # Of models that are not listed, nothing is asked.
    assert served_models([], {"gpu-1": [served("3.1")], "gpu-2": [served("3.0")]})["problems"] == []
