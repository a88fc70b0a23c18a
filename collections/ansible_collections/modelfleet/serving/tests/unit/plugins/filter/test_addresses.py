# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter import addresses as module

addresses = module.FilterModule().filters()["addresses"]
DAEMONS = ("scheduler", "dfdaemon", "torchserve")
HOST = {"modelfleet_address": "10.0.0.21"}


def authorities(daemon, **variables):
    return {name: listener["authority"] for name, listener in addresses({**HOST, **variables}, daemon).items()}


def test_what_nobody_moved():
    assert authorities("scheduler") == {"api": "10.0.0.21:8002", "metrics": "127.0.0.1:8000"}
    assert authorities("dfdaemon") == {
        "upload": "10.0.0.21:4000",
        "proxy": "127.0.0.1:4001",
        "metrics": "127.0.0.1:4002",
        "health": "127.0.0.1:4003",
        "stats": "127.0.0.1:4004",
        "storage": "10.0.0.21:4005",
        "quic": "10.0.0.21:4006",
    }
    assert authorities("torchserve") == {
        "inference": "127.0.0.1:8080",
        "management": "127.0.0.1:8081",
        "metrics": "127.0.0.1:8082",
        "grpc_inference": "127.0.0.1:7070",
        "grpc_management": "127.0.0.1:7071",
    }


def test_a_listener():
    assert addresses(HOST, "dfdaemon")["proxy"] == {
        "bind": {"address": "127.0.0.1", "port": 4001, "unit": "dfdaemon.service"},
        "host": "127.0.0.1",
        "authority": "127.0.0.1:4001",
        "url": "http://127.0.0.1:4001",
    }


@pytest.mark.parametrize(
    ("variables", "daemon", "name", "bind", "authority"),
    [
        ({"dragonfly_scheduler_port": "9002"}, "scheduler", "api", ("10.0.0.21", 9002), "10.0.0.21:9002"),
        ({"dragonfly_scheduler_config": {"server": {"port": 9003}}}, "scheduler", "api", ("10.0.0.21", 9003), "10.0.0.21:9003"),
        ({"dragonfly_scheduler_config": {"server": {"listenIP": "0.0.0.0"}}}, "scheduler", "api", ("0.0.0.0", 8002), "10.0.0.21:8002"),
        ({"dragonfly_scheduler_config": {"metrics": {"addr": ":9000"}}}, "scheduler", "metrics", ("::", 9000), "127.0.0.1:9000"),
        ({"dragonfly_scheduler_config": {"metrics": {"addr": "[::1]:9000"}}}, "scheduler", "metrics", ("::1", 9000), "[::1]:9000"),
        ({"dfdaemon_config": {"upload": {"server": {"port": 14000}}}}, "dfdaemon", "upload", ("10.0.0.21", 14000), "10.0.0.21:14000"),
        ({"dfdaemon_config": {"storage": {"server": {"tcpPort": 14005}}}}, "dfdaemon", "storage", ("10.0.0.21", 14005), "10.0.0.21:14005"),
        ({"dfdaemon_config": {"storage": {"server": {"ip": "0.0.0.0"}}}}, "dfdaemon", "storage", ("0.0.0.0", 4005), "10.0.0.21:4005"),
        ({"dfdaemon_config": {"proxy": {"server": {"port": 14001}}}}, "dfdaemon", "proxy", ("127.0.0.1", 14001), "127.0.0.1:14001"),
        ({"dfdaemon_config": {"metrics": {"server": {"ip": "0.0.0.0"}}}}, "dfdaemon", "metrics", ("0.0.0.0", 4002), "127.0.0.1:4002"),
        ({"dfdaemon_config": {"health": {"server": {"ip": "::"}}}}, "dfdaemon", "health", ("::", 4003), "[::1]:4003"),
        ({"torchserve_management_port": 18081}, "torchserve", "management", ("127.0.0.1", 18081), "127.0.0.1:18081"),
        ({"torchserve_config": {"grpc_inference_port": 17070}}, "torchserve", "grpc_inference", ("127.0.0.1", 17070), "127.0.0.1:17070"),
        (
            {"torchserve_inference_port": 1, "torchserve_config": {"inference_address": "http://0.0.0.0:9080"}},
            "torchserve",
            "inference",
            ("0.0.0.0", 9080),
            "127.0.0.1:9080",
        ),
        (
            {"torchserve_config": {"inference_address": "http://localhost:9080"}},
            "torchserve",
            "inference",
            ("127.0.0.1", 9080),
            "localhost:9080",
        ),
        (
            {"torchserve_config": {"management_address": "http://10.0.0.21:9081"}},
            "torchserve",
            "management",
            ("10.0.0.21", 9081),
            "10.0.0.21:9081",
        ),
        ({"modelfleet_address": "fd00::21"}, "dfdaemon", "upload", ("fd00::21", 4000), "[fd00::21]:4000"),
    ],
)
def test_what_somebody_moved(variables, daemon, name, bind, authority):
    listener = addresses({**HOST, **variables}, daemon)[name]
    assert (listener["bind"]["address"], listener["bind"]["port"]) == bind
    assert (listener["authority"], listener["url"]) == (authority, f"http://{authority}")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"dragonfly_scheduler_config": {"server": {"listenIP": "127.0.0.1"}}},
            "server.listenIP in dragonfly_scheduler_config does not cover",
        ),
        (
            {"dragonfly_scheduler_config": {"server": {"advertiseIP": "10.9.0.1"}}},
            "server.advertiseIP in dragonfly_scheduler_config is not",
        ),
        ({"dragonfly_scheduler_config": {"server": {"advertisePort": 9}}}, "server.advertisePort in dragonfly_scheduler_config is not"),
        (
            {"dragonfly_scheduler_config": {"server": {"tls": {"cert": "/a"}}}},
            "server.tls in dragonfly_scheduler_config is what modelfleet_mtls",
        ),
        ({"dragonfly_scheduler_config": {"seedPeer": {"tls": {}}}}, "seedPeer.tls in dragonfly_scheduler_config is what modelfleet_mtls"),
        ({"dfdaemon_config": {"host": {"ip": "10.9.0.1"}}}, "host.ip in dfdaemon_config is not modelfleet_address (10.0.0.21)"),
        ({"dfdaemon_config": {"upload": {"server": {"ip": "127.0.0.1"}}}}, "upload.server.ip in dfdaemon_config does not cover"),
        ({"dfdaemon_config": {"storage": {"server": {"ip": "10.9.0.1"}}}}, "storage.server.ip in dfdaemon_config does not cover"),
        ({"dfdaemon_config": {"upload": {"server": {"key": "/a"}}}}, "upload.server.key in dfdaemon_config is what modelfleet_mtls sets"),
        ({"dfdaemon_config": {"scheduler": {"caCert": "/a"}}}, "scheduler.caCert in dfdaemon_config is what modelfleet_mtls sets"),
        ({"dfdaemon_config": {"storage": {"dir": "/data"}}}, "storage.dir in dfdaemon_config must stay /var/lib/modelfleet/pieces"),
        ({"dfdaemon_config": {"download": {"server": {"socketPath": "/x"}}}}, "must stay /run/dragonfly/dfdaemon.sock"),
        ({"torchserve_config": {"inference_address": "https://127.0.0.1:8443"}}, "inference_address in torchserve_config is https://127"),
        (
            {"torchserve_config": {"management_address": "unix:/run/ts.sock"}},
            "management_address in torchserve_config is unix:/run/ts.sock",
        ),
        ({"torchserve_config": {"metrics_address": "http://127.0.0.1"}}, "metrics_address in torchserve_config is http://127.0.0.1, which"),
        ({"torchserve_config": {"metrics_address": "http://127.0.0.1:x"}}, "which names no port; write http://127.0.0.1 with a port"),
    ],
)
def test_what_the_fleet_could_not_use(variables, words):
    with pytest.raises(AnsibleFilterError) as error:
        for daemon in DAEMONS:
            addresses({**HOST, **variables}, daemon)
    assert words in str(error.value)


@pytest.mark.parametrize("value", [None, "", [], {}, {"upload": None}, {"upload": {"server": None}}, "text"])
def test_a_configuration_that_is_none_is_judged_elsewhere(value):
    variables = {"dfdaemon_config": value, "dragonfly_scheduler_config": value, "torchserve_config": value}
    for daemon in DAEMONS:
        assert addresses({**HOST, **variables}, daemon) == addresses(HOST, daemon)


@pytest.mark.parametrize(
    ("daemon", "role", "count"), [("scheduler", "dragonfly_scheduler", 1), ("torchserve", "torchserve", 5), ("gateway", "gateway", 1)]
)
def test_the_roles_document_the_same_ports(daemon, role, count):
    with open(os.path.dirname(module.__file__) + f"/../../roles/{role}/defaults/main.yml", encoding="utf-8") as handle:
        ports = {name: value for name, value in yaml.safe_load(handle).items() if name.endswith("_port")}
    assert len(ports) == count
    assert addresses({**HOST, **ports}, daemon) == addresses(HOST, daemon)


def test_a_door_to_the_metrics():
    (found,) = addresses(HOST, "monitoring").values()
    assert (found["bind"]["port"], found["bind"]["unit"]) == (9443, "modelfleet-monitoring.service")
    assert found["authority"] == f"{HOST['modelfleet_address']}:9443"
    assert (
        addresses({**HOST, "monitoring_address": "10.9.9.9", "monitoring_port": 9999}, "monitoring")["door"]["authority"] == "10.9.9.9:9999"
    )


def test_a_gateway():
    (found,) = addresses(HOST, "gateway").values()
    assert (found["bind"]["port"], found["bind"]["unit"], found["host"]) == (8443, "modelfleet-gateway.service", HOST["modelfleet_address"])
    every = addresses({**HOST, "gateway_address": "0.0.0.0", "gateway_port": 9443}, "gateway")["api"]
    assert (every["bind"]["address"], every["authority"]) == ("0.0.0.0", "127.0.0.1:9443")
