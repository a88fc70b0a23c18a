# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: rollback_models
short_description: Say which versions the last rollout of a fleet brought, so that a rollback can leave them
version_added: 0.1.0
description:
  - Looks for the run that brought a version last, to whatever host, and returns each model that it brought with that version.
  - A host that this rollout did not reach serves another version, and a rollback leaves it alone.
  - What a rollback has left already does not count.
positional: _input
options:
  _input:
    description: What M(modelfleet.serving.model_rollout_info) said on each host, as lists of C(models).
    type: list
    elements: list
    required: true
  only:
    description: Names of models. Of these the last version of each, whatever run brought it.
    type: list
    elements: str
    default: []
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Choose what to leave
  ansible.builtin.set_fact:
    leave: "{{ ansible_play_hosts | map('extract', hostvars, ['found', 'models']) | modelfleet.serving.rollback_models }}"
"""

RETURN = r"""
_value:
  description: C(name) and C(version) of each, the one to leave.
  type: list
  elements: dict
"""


def rollback_models(hosts, only=()):
    brought = [one for models in hosts for one in models if (one["staged"] or one["previous"]) and not one["rolled_back"]]
    brought.sort(key=lambda one: one["since"])
    if not only and brought:
        brought = [one for one in brought if one["run"] == brought[-1]["run"]]
    last = {one["name"]: one["staged"] or one["current"] for one in brought if not only or one["name"] in only}
    return [{"name": name, "version": version} for name, version in sorted(last.items())]


class FilterModule:
    def filters(self):
        return {"rollback_models": rollback_models}
