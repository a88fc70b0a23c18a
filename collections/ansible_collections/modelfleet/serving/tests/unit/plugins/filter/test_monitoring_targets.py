# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter.monitoring_targets import FilterModule

monitoring_targets = FilterModule().filters()["monitoring_targets"]
GPU = {"modelfleet_address": "10.0.0.1"}


def pages_of(variables, **jobs):
    return {one["name"]: one for one in monitoring_targets({"a": variables}, **{job: ["a"] for job in jobs})}


def test_a_gpu_host():
    found = pages_of(GPU, gpus=True)
    assert {name: one["upstream"] for name, one in found.items()} == {
        "host": "",
        "dfdaemon": "127.0.0.1:4002",
        "torchserve": "127.0.0.1:8082",
    }
    assert found["dfdaemon"]["entry"] == {
        "targets": ["10.0.0.1:9443"],
        "labels": {"__metrics_path__": "/dfdaemon/metrics", "instance": "a", "daemon": "dfdaemon", "peer": "gpu"},
    }


def test_each_job_has_its_pages():
    assert list(pages_of(GPU, schedulers=True, managers=True)) == ["host", "scheduler", "manager"]
    assert pages_of(GPU, schedulers=True)["scheduler"]["upstream"] == "127.0.0.1:8000"
    assert pages_of(GPU, managers=True)["manager"]["upstream"] == "127.0.0.1:8001"
    both = pages_of(GPU, seeds=True, gpus=True)
    assert both["dfdaemon"]["entry"]["labels"]["peer"] == "seed" and "torchserve" in both


def test_triton_where_a_model_is_for_it():
    model = {"name": "m", "version": "1", "runtime": "triton"}
    assert pages_of({**GPU, "modelfleet_models": [model]}, gpus=True)["triton"]["upstream"] == "127.0.0.1:8202"
    moved = {**GPU, "modelfleet_models": [model], "triton_metrics_port": 9202}
    assert pages_of(moved, gpus=True)["triton"]["upstream"] == "127.0.0.1:9202"
    assert "triton" not in pages_of({**GPU, "modelfleet_models": [{"name": "m", "version": "1"}]}, gpus=True)


def test_ports_and_addresses_that_were_moved():
    moved = {
        "modelfleet_address": "fd00::1",
        "monitoring_port": 9999,
        "dfdaemon_config": {"metrics": {"server": {"port": 4444}}},
        "torchserve_metrics_port": 8888,
        "dragonfly_scheduler_config": {"metrics": {"addr": "127.0.0.1:8111"}},
    }
    found = pages_of(moved, gpus=True, schedulers=True)
    assert {one["target"] for one in found.values()} == {"[fd00::1]:9999"}
    assert [found[name]["upstream"] for name in ("scheduler", "dfdaemon", "torchserve")] == [
        "127.0.0.1:8111",
        "127.0.0.1:4444",
        "127.0.0.1:8888",
    ]
    assert pages_of({**GPU, "monitoring_address": "10.9.0.1"})["host"]["target"] == "10.9.0.1:9443"


def test_pages_of_the_users_own():
    found = pages_of({**GPU, "monitoring_pages": [{"name": "node", "address": "127.0.0.1:9100"}]})
    assert list(found) == ["host", "node"] and found["node"]["path"] == "/node/metrics"
    # Then node_exporter says what the looks found.
    assert list(pages_of({**GPU, "monitoring_textfile_directory": "/var/lib/prometheus/node-exporter"})) == []


def test_a_host_whose_metrics_nobody_could_find_is_named():
    with pytest.raises(AnsibleFilterError, match=r"Failed to find the metrics of a: .*https://0.0.0.0"):
        pages_of({**GPU, "torchserve_config": {"metrics_address": "https://0.0.0.0:1"}}, gpus=True)
