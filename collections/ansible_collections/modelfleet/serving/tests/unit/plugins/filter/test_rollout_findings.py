# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.rollout_findings import rollout_findings

GOOD = {
    "modelfleet_rollout_batches": ["1", "20%", "100%"],
    "modelfleet_rollout_soak_seconds": 0,
    "modelfleet_rollout_soak_requests": 1,
    "modelfleet_rollout_error_rate": 0.0,
    "modelfleet_rollout_latency_factor": 1.5,
    "modelfleet_rollout_latency_margin_ms": 0,
    "modelfleet_rollout_gpu_memory_percent": 95,
    "modelfleet_rollout_gpu_temperature": 85,
    "modelfleet_drain_seconds": 60,
    "modelfleet_drain": "",
    "modelfleet_return": "",
    "modelfleet_haproxy_group": "load_balancers",
}


@pytest.mark.parametrize("batches", [["1"], [1, "20%", "100%"], ["1", "5", "10%"], ["100%"]])
def test_nothing_is_wrong(batches):
    assert (
        rollout_findings({**GOOD, "modelfleet_rollout_batches": batches}, [{"name": "a", "version": "1", "check": {"tolerance": 0}}]) == []
    )


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        ([], "it is empty"),
        (["0"], "a size that is none (0)"),
        (["some"], "a size that is none (some)"),
        (["-1", "2"], "a size that is none (-1)"),
        (["2", "1"], "does not increase (2, 1)"),
        (["1", "1"], "does not increase"),
        (["1", "50%", "20%"], "does not increase (1, 50%, 20%)"),
        (["20%", "5"], "a number of hosts after a share"),
    ],
)
def test_batches_that_do_not_grow(batches, words):
    (finding,) = rollout_findings({**GOOD, "modelfleet_rollout_batches": batches})
    assert words in finding


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("modelfleet_rollout_soak_seconds", -1),
        ("modelfleet_rollout_soak_requests", 0),
        ("modelfleet_rollout_error_rate", -0.1),
        ("modelfleet_rollout_latency_margin_ms", -1),
        ("modelfleet_rollout_gpu_memory_percent", 0),
        ("modelfleet_rollout_gpu_temperature", 0),
    ],
)
def test_a_gate_that_nothing_could_pass(name, value):
    (finding,) = rollout_findings({**GOOD, name: value})
    assert finding.startswith(f"The {name} is {value}, which nothing could pass; set it ")


def test_a_gate_that_would_ask_for_hours():
    (finding,) = rollout_findings({**GOOD, "modelfleet_rollout_soak_requests": 100_001})
    assert finding.startswith("The modelfleet_rollout_soak_requests is 100001, ") and finding.endswith("set it to 100000 or less.")
    assert rollout_findings({**GOOD, "modelfleet_rollout_soak_requests": 100_000}) == []


@pytest.mark.parametrize("factor", [0, 0.99, -1])
def test_a_version_that_must_be_faster_than_the_same_again(factor):
    (finding,) = rollout_findings({**GOOD, "modelfleet_rollout_latency_factor": factor})
    assert finding == (
        f"The modelfleet_rollout_latency_factor is {factor}, which not even the same version would pass; set it to 1 or more."
    )
    assert rollout_findings({**GOOD, "modelfleet_rollout_latency_factor": 1}) == []


def test_a_tolerance_that_nothing_could_pass():
    (finding,) = rollout_findings(GOOD, [{"name": "demo", "version": "2.0", "check": {"tolerance": -1}}])
    assert "The tolerance of the model demo 2.0 is below 0" in finding


def test_versions_of_which_none_is_the_one():
    (finding,) = rollout_findings(GOOD, [{"name": "demo", "version": "1.0"}, {"name": "demo", "version": "2.0"}])
    assert "The model demo has several versions" in finding


def test_hooks():
    (finding,) = rollout_findings({**GOOD, "modelfleet_drain": ["/usr/bin/true"]})
    assert "set modelfleet_return" in finding
    hooks = {"modelfleet_drain": "haproxy", "modelfleet_return": "haproxy"}
    (finding,) = rollout_findings({**GOOD, **hooks}, groups={"load_balancers": []})
    assert "The group load_balancers has no host" in finding
    assert rollout_findings({**GOOD, **hooks}, groups={"load_balancers": ["balancer-1"]}) == []
    own = {"modelfleet_drain": "gateway", "modelfleet_return": "gateway", "inventory_hostname": "gpu-2"}
    (finding,) = rollout_findings({**GOOD, **own}, groups={"gpu_hosts": ["gpu-1", "gpu-2"], "modelfleet_gateways": ["gpu-1"]})
    assert finding == "The modelfleet_drain is gateway, and gpu-2 has none; add it to the group modelfleet_gateways."
    assert rollout_findings({**GOOD, **own}, groups={"gpu_hosts": ["gpu-1", "gpu-2"], "modelfleet_gateways": ["gpu-2"]}) == []
