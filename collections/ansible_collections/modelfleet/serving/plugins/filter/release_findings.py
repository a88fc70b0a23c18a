# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: release_findings
short_description: Find releases of a fleet that do not work together
version_added: 0.1.0
description:
  - Compares the versions that meet in a fleet with a list of those that are known not to work.
  - A version that does not begin with a number is not compared.
positional: _input
options:
  _input:
    description:
      - The versions of every host, by host and there by program, each a list. While a fleet is upgraded that is more than one.
    type: dict
    required: true
  incompatible:
    description: Entries with a C(reason), and for each program the conditions that are all true of the versions meant, such as C(<2.3.1).
    type: list
    elements: dict
    required: true
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Refuse what does not work together
  ansible.builtin.assert:
    that: versions | modelfleet.serving.release_findings(incompatible) | length == 0
  vars:
    versions:
      scheduler-1: {scheduler: ["2.5.1"]}
      gpu-1: {client: ["1.5.9", "1.5.10"]}
    incompatible:
      - {scheduler: ["<2.3.1"], client: [">=1.0.11"], reason: such a scheduler does not find such a seed peer}
"""

RETURN = r"""
_value:
  description: The findings, one sentence each.
  type: list
  elements: str
"""

import operator
import re

from ansible.errors import AnsibleFilterError

PROGRAMS = {"scheduler": "the scheduler", "manager": "the manager", "client": "dfdaemon", "torchserve": "TorchServe"}
VARIABLES = {
    "scheduler": "dragonfly_scheduler_version",
    "manager": "dragonfly_manager_version",
    "client": "dfdaemon_version",
    "torchserve": "torchserve_version",
}
OPERATORS = {"<": operator.lt, "<=": operator.le, "==": operator.eq, ">=": operator.ge, ">": operator.gt}
CONDITION = re.compile(r"(<=|>=|==|<|>)(\d+(?:\.\d+)*)\Z")
NUMBERS = re.compile(r"\d+(?:\.\d+)*")


def _numbers(text, length=6):
    """A version as numbers of one length, so that 1.0 is 1.0.0; None where it is none."""
    found = NUMBERS.match(text)
    parts = [int(part) for part in found.group().split(".")] if found else None
    return parts and parts + [0] * (length - len(parts))


def _meets(version, conditions):
    numbers = _numbers(str(version))
    if numbers is None:
        return False
    for condition in conditions:
        found = CONDITION.match(condition)
        if not found:
            raise AnsibleFilterError(f"{condition!r} is no condition of a version; write one as in '<2.3.1'.")
        if not OPERATORS[found.group(1)](numbers, _numbers(found.group(2))):
            return False
    return True


def release_findings(hosts, incompatible):
    findings = []
    for entry in incompatible:
        meant = {program: conditions for program, conditions in entry.items() if program != "reason"}
        # The first host of each program that has such a version.
        found = {}
        for program, conditions in meant.items():
            for host, versions in hosts.items():
                for version in versions.get(program, []):
                    if program not in found and _meets(version, conditions):
                        found[program] = f"{PROGRAMS[program]} {version} of {host}"
        if found and len(found) == len(meant):
            variables = " or ".join(VARIABLES[program] for program in meant)
            verb = "do not work together" if len(found) > 1 else "does not work here"
            findings.append(f"Refused {' and '.join(found.values())}, which {verb}: {entry['reason']}. Choose another {variables}.")
    return findings


class FilterModule:
    def filters(self):
        return {"release_findings": release_findings}
