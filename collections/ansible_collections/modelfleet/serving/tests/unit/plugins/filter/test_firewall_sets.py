# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter.firewall_sets import FilterModule

firewall_sets = FilterModule().filters()["firewall_sets"]
HOSTS = {
    "one": {"modelfleet_address": "10.0.0.10"},
    "seed": {"modelfleet_address": "10.0.0.9", "modelfleet_firewall_addresses": ["10.9.0.9", "FD00::9"]},
    "gpu-1": {"modelfleet_address": "FD00:0::1"},
}


def sets_of(hosts, schedulers=("one",), peers=("seed", "gpu-1")):
    return {entry["name"]: entry["elements"] for entry in firewall_sets(hosts, schedulers, peers)}


def test_a_fleet():
    assert sets_of(HOSTS) == {
        "schedulers4": ["10.0.0.10"],
        "schedulers6": [],
        "peers4": ["10.0.0.9"],
        "peers6": ["fd00::1"],
        "callers4": ["10.9.0.9"],
        "callers6": ["fd00::9"],
        "scheduler_ports": ["8002"],
        "peer_ports": ["4000", "4005"],
        "peer_udp_ports": ["4006"],
    }
    assert {entry["type"] for entry in firewall_sets(HOSTS)} == {"ipv4_addr", "ipv6_addr", "inet_service"}


def test_ports_that_were_moved_on_some_hosts():
    moved = {"upload": {"server": {"port": 14000}}, "storage": {"server": {"tcpPort": 14005, "quicPort": 14006}}}
    hosts = {**HOSTS, "one": {**HOSTS["one"], "dragonfly_scheduler_port": "9002"}, "seed": {**HOSTS["seed"], "dfdaemon_config": moved}}
    found = sets_of(hosts)
    assert found["scheduler_ports"] == ["9002"]
    assert found["peer_ports"] == ["4000", "4005", "14000", "14005"] and found["peer_udp_ports"] == ["4006", "14006"]


def test_addresses_are_in_their_order_as_numbers():
    hosts = {f"gpu-{number}": {"modelfleet_address": f"10.0.0.{number}"} for number in (10, 9, 100)}
    assert sets_of(hosts, (), list(hosts))["peers4"] == ["10.0.0.9", "10.0.0.10", "10.0.0.100"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"gpu-1": {}}, "The host gpu-1 has no modelfleet_address; set it in the inventory"),
        ({"gpu-1": {"modelfleet_address": "gpu-1.example.com"}}, "of the host gpu-1 is not an IP address ('gpu-1.example.com')"),
        ({"gpu-1": {"modelfleet_address": "10.0.0.9"}}, "The hosts seed, gpu-1 have one modelfleet_address (10.0.0.9)"),
        (
            {"gpu-1": {"modelfleet_address": "10.0.0.1", "modelfleet_firewall_addresses": ["10.0.0.0/8"]}},
            "The entry '10.0.0.0/8' in modelfleet_firewall_addresses is not an IP address; write that in place of a name",
        ),
        (
            {"gpu-1": {"modelfleet_address": "10.0.0.1", "modelfleet_firewall_addresses": "10.0.0.2"}},
            "The modelfleet_firewall_addresses is not a list; make each entry an element. (On gpu-1.)",
        ),
        (
            {"gpu-1": {"modelfleet_address": "10.0.0.1", "dfdaemon_config": {"upload": {"server": {"ip": "127.0.0.1"}}}}},
            "The key upload.server.ip in dfdaemon_config does not cover modelfleet_address",
        ),
    ],
)
def test_a_host_that_cannot_be_admitted_is_named(changed, words):
    with pytest.raises(AnsibleFilterError, match=re.escape(words)):
        sets_of({**HOSTS, **changed})
