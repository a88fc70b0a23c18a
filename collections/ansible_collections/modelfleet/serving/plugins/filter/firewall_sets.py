# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: firewall_sets
short_description: Who belongs to a fleet, as sets of nftables
version_added: 0.1.0
description:
  - Makes of the inventory the sets that the rules of P(modelfleet.serving.firewall#role) name, the same on every host of the fleet.
  - A host without an address, or with one that is none, is an error that names the host.
positional: _input
options:
  _input:
    description: The variables of every host of the fleet, by host.
    type: dict
    required: true
  schedulers:
    description: Which of them run a scheduler.
    type: list
    elements: str
    default: []
  managers:
    description: Which of the schedulers' hosts runs the manager too.
    type: list
    elements: str
    default: []
  peers:
    description: Which of them run dfdaemon.
    type: list
    elements: str
    default: []
author:
  - ModelFleet developers (@modelfleet)
seealso:
  - module: modelfleet.serving.nft_table
"""

EXAMPLES = r"""
- name: Show whom the firewall of a fleet of two hosts admits
  ansible.builtin.debug:
    msg: "{{ fleet | modelfleet.serving.firewall_sets(schedulers=['one'], peers=['gpu-1']) }}"
  vars:
    fleet:
      one: {modelfleet_address: 10.0.0.1}
      gpu-1: {modelfleet_address: 10.0.0.2, modelfleet_firewall_addresses: [10.9.0.2]}
"""

RETURN = r"""
_value:
  description:
    - The sets, as O(modelfleet.serving.nft_table#module:sets) takes them. C(schedulers), C(peers) and C(callers) with the version of IP at
      the end of the name are addresses, the last those of C(modelfleet_firewall_addresses).
    - C(scheduler_ports), those of the manager among them, C(peer_ports) and, of UDP, C(peer_udp_ports) are where these listen, on any
      host of the fleet.
  type: list
  elements: dict
"""

import ipaddress

from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter.inventory_findings import address_findings, firewall_findings
from ansible_collections.modelfleet.serving.plugins.module_utils import _addresses
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._nft import ordered


def firewall_sets(hosts, schedulers=(), peers=(), managers=()):
    own = {host: str(variables.get("modelfleet_address") or "") for host, variables in hosts.items()}
    more = {host: variables.get("modelfleet_firewall_addresses") or [] for host, variables in hosts.items()}
    problems = list(address_findings(own))
    for host, addresses in more.items():
        problems += [f"{one} (On {host}.)" for one in firewall_findings({"modelfleet_firewall_addresses": addresses})]
    if problems:
        raise AnsibleFilterError(" ".join(problems))
    try:
        apis = [_addresses.addresses(hosts[host], "scheduler")["api"] for host in schedulers]
        apis += [_addresses.addresses(hosts[host], "manager")[name] for host in managers for name in ("grpc", "redis")]
        daemons = [_addresses.addresses(hosts[host], "dfdaemon") for host in peers]
    except ModelFleetError as exc:
        raise AnsibleFilterError(str(exc)) from exc
    groups = {
        "schedulers": [own[host] for host in schedulers],
        "peers": [own[host] for host in peers],
        "callers": [one for addresses in more.values() for one in addresses],
    }
    ports = {
        "scheduler_ports": [api["bind"]["port"] for api in apis],
        "peer_ports": [daemon[name]["bind"]["port"] for daemon in daemons for name in ("upload", "storage")],
        "peer_udp_ports": [daemon["quic"]["bind"]["port"] for daemon in daemons],
    }
    return [*_families(groups), *(_set(name, "inet_service", found) for name, found in ports.items())]


def _families(groups):
    for name, addresses in groups.items():
        parsed = [ipaddress.ip_address(str(one)) for one in addresses]
        for version in (4, 6):
            yield _set(f"{name}{version}", f"ipv{version}_addr", [one for one in parsed if one.version == version])


def _set(name, kind, found):
    return {"name": name, "type": kind, "elements": [str(one) for one in ordered(kind, found)]}


class FilterModule:
    def filters(self):
        return {"firewall_sets": firewall_sets}
