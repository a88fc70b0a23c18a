# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: removal_findings
short_description: Find why hosts cannot leave a fleet
version_added: 0.1.0
description:
  - Says in sentences why the rest of a fleet could not go on without these hosts, and what to do first. An empty list means that it can.
positional: _input
options:
  _input:
    description: The hosts that are to leave.
    type: list
    elements: str
    required: true
  groups:
    description: All groups of the inventory, each with its hosts.
    type: dict
    required: true
  pattern:
    description: How the user named the hosts.
    type: str
    default: ""
  limited:
    description: Whether the run is limited to some hosts.
    type: bool
    default: false
  managers:
    description: The host of the manager that the others ask, if they ask one.
    type: list
    elements: str
    default: []
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: See whether a host can leave
  ansible.builtin.assert:
    that: leaving | modelfleet.serving.removal_findings(groups) | length == 0
  vars:
    leaving: [gpu-3]
"""

RETURN = r"""
_value:
  description: The findings, one sentence each.
  type: list
  elements: str
"""

FIRST = "add another one first (to the inventory, then modelfleet.serving.add), then remove this one"
LAST = {
    "dragonfly_schedulers": f"is the last scheduler, and without one nobody downloads; {FIRST}",
    "dragonfly_seed_peers": f"is the last seed peer, and without one every host goes to the object store; {FIRST}",
    "gpu_hosts": "is the last GPU host; what takes away a whole fleet is modelfleet.serving.uninstall",
}


def removal_findings(leaving, groups, pattern="", limited=False, managers=()):
    findings = []
    if not leaving:
        findings.append(
            f"Refused to remove '{pattern}': no host of the inventory is called so; correct modelfleet_remove_hosts."
            if pattern
            else "Refused to remove hosts: nobody said which; say it, as in -e modelfleet_remove_hosts=gpu-3."
        )
    if limited:
        findings.append("Refused to remove hosts with --limit: the other hosts must learn of it; run the play without.")
    fleet = {host for group in LAST for host in groups.get(group, [])}
    findings += [
        f"Refused to remove {host}: it is in none of the groups {', '.join(LAST)}; correct modelfleet_remove_hosts."
        for host in leaving
        if host not in fleet
    ]
    for group, reason in LAST.items():
        hosts = groups.get(group, [])
        if hosts and not set(hosts) - set(leaving):
            findings.append(f"Refused to remove {', '.join(hosts)}: it {reason}.")
    findings += [
        f"Refused to remove {host}: it runs the manager that the others ask; first move it to another host of dragonfly_managers, or set "
        "modelfleet_manager_mode to false, with modelfleet.serving.site."
        for host in managers
        if host in leaving
    ]
    return findings


class FilterModule:
    def filters(self):
        return {"removal_findings": removal_findings}
