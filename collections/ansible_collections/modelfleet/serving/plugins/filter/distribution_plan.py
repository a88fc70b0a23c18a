# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: distribution_plan
short_description: Estimate how long a model takes to every host of a fleet
version_added: 0.1.0
description:
  - Says of a number of hosts how long the play P(modelfleet.serving.distribute#playbook) takes on it, what the object store sends, what it
    needs on disk, and how many seed peers and schedulers it should have. It asks no host.
  - P(modelfleet.serving.plan_table#filter) shows such plans as lines of text, with what they assume.
positional: _input
options:
  _input:
    description: Number of hosts.
    type: int
    required: true
  size:
    description: Bytes of the model.
    type: int
    required: true
  files:
    description: In how many files of one size it comes. A bundle has one for each file of more than 4 MiB and for each pack.
    type: int
    default: 1
  origin_mbits:
    description: What the object store sends, in Mbit/s.
    type: float
    required: true
  host_mbits:
    description: Link of a host, in Mbit/s, the same in either direction.
    type: float
    required: true
  seed_mbits:
    description: Link of a seed peer. Without it that of a host.
    type: float
  seeds:
    description: Number of seed peers.
    type: int
    default: 2
  copies:
    description: The C(candidateParentLimit) of the scheduler. So many copies of a file a seed peer uploads.
    type: int
    default: 2
  piece_length:
    description: Length of a piece in bytes. Without it dfdaemon chooses by the size of the file.
    type: int
  disk_mbytes:
    description: What the disk of a host writes, in MB/s.
    type: float
    default: 2000
  unpacked:
    description: Whether the runtime unpacks a copy of its own, as TorchServe does with a C(.mar).
    type: bool
    default: false
author:
  - ModelFleet developers (@modelfleet)
seealso:
  - plugin: modelfleet.serving.plan_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the seconds for 1,000 hosts
  ansible.builtin.debug:
    msg: "{{ (1000 | modelfleet.serving.distribution_plan(150323855360, files=30, origin_mbits=5000, host_mbits=10000)).seconds }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    hosts:
      description: Number of hosts.
      type: int
    given:
      description: What it was made from, links in bits and the disk in bytes a second.
      type: dict
    seconds:
      description: Expected time until every host has verified the model.
      type: float
    uneven_seconds:
      description: The same where no host evens out from which parent it takes pieces, and the first ones upload for all.
      type: float
    wall:
      description: What they wait for, V(origin), V(seed_upload), V(host_link), V(host_upload) or V(host_disk).
      type: str
    bound_seconds:
      description: No way to do it is quicker, whatever the program.
      type: float
    direct_seconds:
      description: Expected time where every host asks the object store itself.
      type: float
    origin_bytes:
      description: What the object store sends.
      type: int
    direct_origin_bytes:
      description: What it would send if every host asked itself.
      type: int
    origin_requests:
      description: Requests for a single byte, one from every host for each file.
      type: int
    host_disk_bytes:
      description: What the model takes on a host once it serves.
      type: int
    seed_disk_bytes:
      description: What it takes on the seed peers, all together.
      type: int
    seeds:
      description: Seed peers that the fleet should have.
      type: int
    schedulers:
      description: Schedulers that the fleet should have.
      type: int
    settings:
      description:
        - What to set, Ansible's C(forks) and C(dfdaemon_disk_budget).
      type: dict
    role_settings:
      description:
        - What the roles set themselves, by key, for V(scheduler) (C(dragonfly_scheduler_config) changes it), V(scheduler_dynconfig)
          (C(dragonfly_scheduler_dynconfig)) and V(seed_peer) (C(dfdaemon_config) of the group C(dragonfly_seed_peers)).
      type: dict
    shortages:
      description: What there is too little of for so many hosts, and how much it should be, as sentences.
      type: list
      elements: str
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._plan import Links, plan
from ansible_collections.modelfleet.serving.plugins.module_utils._text import human_bytes, table

MEGA = 1e6
# Where a user changes what a role sets.
VARIABLES = {
    "scheduler": "dragonfly_scheduler_config",
    "scheduler_dynconfig": "dragonfly_scheduler_dynconfig",
    "seed_peer": "dfdaemon_config",
}


def distribution_plan(
    hosts, size, origin_mbits, host_mbits, seed_mbits=None, seeds=2, files=1, copies=2, piece_length=None, disk_mbytes=2000, unpacked=False
):
    links = Links(origin_mbits * MEGA, (seed_mbits or host_mbits) * MEGA, host_mbits * MEGA)
    try:
        return plan(size, hosts, links, seeds, files, copies, piece_length, disk_mbytes * MEGA, unpacked)
    except ModelFleetError as exc:
        raise AnsibleFilterError(str(exc)) from exc


def plan_table(plans):
    """What is printed: the table, what to set, and what was assumed. The plans differ in the number of hosts only."""
    header = ("hosts", "expected", "uneven", "bound", "direct", "wall", "origin", "direct", "host-disk", "seeds", "schedulers")
    rows = [header] + [
        (
            str(one["hosts"]),
            *(duration(one[name]) for name in ("seconds", "uneven_seconds", "bound_seconds", "direct_seconds")),
            one["wall"],
            # No single spaces inside a line: Ansible's YAML output would wrap it there.
            *(human_bytes(one[name]).replace(" ", "") for name in ("origin_bytes", "direct_origin_bytes", "host_disk_bytes")),
            str(one["seeds"]),
            str(one["schedulers"]),
        )
        for one in plans
    ]
    return [
        *table(rows, right=(0, 1, 2, 3, 4, 6, 7, 8, 9, 10)),
        "",
        *(f"To set for {one['hosts']}: " + ", ".join(f"{name} {value}" for name, value in one["settings"].items()) for one in plans),
        "",
        *_role_settings(plans),
        "",
        *_shortages(plans),
        *_assumptions(plans[0]["given"]),
    ]


def _role_settings(plans):
    rows = [("set-by-the-roles", *(str(one["hosts"]) for one in plans), "changed-by")]
    for part, chosen in plans[0]["role_settings"].items():
        rows += [(key, *(str(one["role_settings"][part][key]) for one in plans), VARIABLES[part]) for key in chosen]
    return table(rows, right=range(1, len(plans) + 1))


def _shortages(plans):
    """Each sentence once, with the numbers of hosts that it is about."""
    hosts_of = {}
    for one in plans:
        for sentence in one["shortages"]:
            hosts_of.setdefault(sentence, []).append(str(one["hosts"]))
    yield from (f"For {', '.join(hosts)}: {sentence}" for sentence, hosts in hosts_of.items())
    if hosts_of:
        yield ""


def _assumptions(given):
    size, piece = human_bytes(given["size"]), human_bytes(given["piece"])
    yield "Assumed:"
    yield f"Size {size}, files {given['files']}, pieces of {piece}, seed peers {given['seeds']}."
    yield f"Links of origin {_rate(given['origin'])}, seed peer {_rate(given['seed'])}, host {_rate(given['host'])}."
    yield f"The disk of a host writes {given['disk'] / MEGA:g} MB/s."
    yield "All hosts begin at once and have nothing of it. No seed peer dies."
    yield "Ansible's own time is not in it: about 0.3 CPU seconds a host and module."
    yield "expected: hosts even out from whom they take pieces; uneven: not at all."
    yield "bound: no program is quicker. direct: every host asks the origin itself."
    yield "Measured with 1 and 8 hosts; for more it follows from how the scheduler"
    yield "chooses parents, and was not tried."


def _rate(bits):
    return f"{bits / 1e9:g} Gbit/s" if bits >= 1e9 else f"{bits / 1e6:g} Mbit/s"


def duration(seconds):
    """95 -> '95s', 250 -> '4m10s', 9000 -> '2h30m'."""
    whole = round(seconds)
    if whole < 100:
        return f"{seconds:.1f}s" if seconds < 10 else f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


class FilterModule:
    def filters(self):
        return {"distribution_plan": distribution_plan, "plan_table": plan_table}
