# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

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
    try:
        links = Links(origin_mbits * MEGA, (seed_mbits or host_mbits) * MEGA, host_mbits * MEGA)
        return plan(size, hosts, links, seeds, files, copies, piece_length, disk_mbytes * MEGA, unpacked)
    except ModelFleetError as exc:
        raise AnsibleFilterError(str(exc)) from exc
    except OverflowError as exc:
        raise AnsibleFilterError("Failed to plan with a number of 300 digits: give one that a fleet can have.") from exc


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
