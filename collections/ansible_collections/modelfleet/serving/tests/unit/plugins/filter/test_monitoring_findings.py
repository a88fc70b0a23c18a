# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.monitoring_findings import FilterModule

monitoring_findings = FilterModule().filters()["monitoring_findings"]
GOOD = {
    "inventory_hostname": "gpu-1",
    "modelfleet_mtls": True,
    "monitoring_address": "10.0.0.1",
    "monitoring_port": 9443,
    "monitoring_pages": [{"name": "node", "address": "127.0.0.1:9100"}, {"name": "dcgm", "address": "[::1]:9400"}],
    "monitoring_interval_seconds": 30,
    "monitoring_smoke_seconds": 300,
    "monitoring_textfile_directory": "",
    "prometheus": {"watch.example.com": "10.0.0.9"},
    "daemons": ["scheduler", "dfdaemon", "torchserve", "gateway"],
    "listening": {"modelfleet_address": "10.0.0.1", "gateway_port": 8443},
}


def test_nothing_is_wrong():
    assert monitoring_findings(GOOD) == []
    assert monitoring_findings({**GOOD, "monitoring_textfile_directory": "/var/lib/prometheus/node-exporter"}) == []
    assert monitoring_findings({"monitoring_pages": []}) == []
    # Who cannot be asked is told of by others.
    assert monitoring_findings({**GOOD, "listening": None}) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"modelfleet_mtls": False}, "modelfleet_mtls is false"),
        ({"prometheus": {"watch": ""}}, "The host watch of modelfleet_prometheus has no modelfleet_address"),
        ({"prometheus": {"watch": "watch.example.com"}}, "is an IP address ('watch.example.com')"),
        ({"prometheus": {"watch tower": "10.0.0.9"}}, "'watch tower' of modelfleet_prometheus has a name"),
        ({"monitoring_address": "gpu-1"}, "The monitoring_address is not an IP address ('gpu-1')"),
        ({"monitoring_port": 443}, "The monitoring_port is 443"),
        ({"monitoring_port": "many"}, "The monitoring_port is many"),
        ({"monitoring_port": 8082}, "which TorchServe has on this host (metrics)"),
        ({"monitoring_port": 4000}, "which dfdaemon has on this host (upload)"),
        ({"monitoring_port": 8002}, "which the scheduler has on this host (api)"),
        ({"monitoring_port": 8443}, "which the gateway has on this host (api)"),
        ({"monitoring_pages": [{"name": "Node", "address": "127.0.0.1:9100"}]}, "The name of the page monitoring_pages[0] must be"),
        ({"monitoring_pages": [{"name": "host", "address": "127.0.0.1:9100"}]}, "(host) has the name of a page that every such host has"),
        ({"monitoring_pages": [{"name": "a", "address": "127.0.0.1:1"}] * 2}, "monitoring_pages[1] (a) has the name of another one"),
        ({"monitoring_pages": [{"name": "a", "address": "127.0.0.1"}]}, "is not an IP address and a port ('127.0.0.1')"),
        ({"monitoring_pages": [{"name": "a", "address": "node:9100"}]}, "is not an IP address and a port ('node:9100')"),
        ({"monitoring_pages": [{"name": "a", "address": "10.0.0.1:9100"}]}, "is not one of loopback ('10.0.0.1:9100')"),
        ({"monitoring_interval_seconds": 1}, "The monitoring_interval_seconds is 1; set it to 10 or more"),
        ({"monitoring_interval_seconds": 600}, "set it to 120 or less"),
        ({"monitoring_smoke_seconds": 1}, "The monitoring_smoke_seconds is 1; set it to 30 or more"),
        ({"monitoring_textfile_directory": "node exporter"}, "no absolute path of usual characters ('node exporter')"),
    ],
)
def test_a_mistake_is_one_sentence(change, said):
    (finding,) = monitoring_findings({**GOOD, **change})
    assert said in finding and finding.endswith(".") and "; " in finding


def test_odd_shapes_are_left_to_the_specification():
    assert monitoring_findings({**GOOD, "monitoring_pages": "node", "daemons": "all"}) == []
    assert monitoring_findings({**GOOD, "monitoring_pages": ["node"]}) == []
