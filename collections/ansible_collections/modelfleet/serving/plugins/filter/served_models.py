# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: served_models
short_description: Choose of a list of models what a fleet serves now
version_added: 0.1.0
description:
  - A host that joins a fleet must answer as the others do, also while the list names a version that they do not serve yet, or serve no
    more.
  - Of a model that others serve only the versions stay that they serve, and the default version is theirs.
  - A model that none of them serves stays as the list has it, because hosts may have lists of their own.
positional: _input
options:
  _input:
    description: The list of models, see C(modelfleet_models) of the role P(modelfleet.serving.variables#role).
    type: list
    elements: dict
    required: true
  served:
    description: What other hosts serve, RV(modelfleet.serving.torchserve_info#module:models) by host.
    type: dict
    required: true
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Choose what the others serve
  ansible.builtin.set_fact:
    chosen: "{{ modelfleet_models | modelfleet.serving.served_models({'gpu-1': torchserve.models}) }}"
"""

RETURN = r"""
_value:
  description: What was chosen.
  type: dict
  contains:
    models:
      description: The entries of the list that stay.
      type: list
      elements: dict
    left_out:
      description: The others, as C(NAME VERSION).
      type: list
      elements: str
    problems:
      description: Why nothing can be chosen, one sentence each.
      type: list
      elements: str
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._model import is_served


def served_models(models, served):
    defaults, versions = {}, {}
    for host, ones in served.items():
        for one in ones:
            name, version = one["name"], str(one["version"])
            versions.setdefault(name, {}).setdefault(version, host)
            if one["default"]:
                defaults.setdefault(name, {}).setdefault(version, host)
    kept, left_out, problems = [], [], []
    listed = {}
    for model in models:
        name, version = model["name"], str(model["version"])
        if model.get("state", "present") != "present" or not is_served(model):
            kept.append(model)
            continue
        listed.setdefault(name, []).append(version)
        if name not in versions:
            kept.append(model)
        elif version in versions[name]:
            # One that is alone is the default in any case.
            several = len([one for one in models if one["name"] == name and str(one["version"]) in versions[name]]) > 1
            kept.append({**model, "default": version in defaults.get(name, {})} if several or "default" in model else model)
        else:
            left_out.append(f"{name} {version}")
    for name in listed:
        answering = defaults.get(name, {})
        if len(answering) > 1:
            said = " and ".join(f"{version} on {host}" for version, host in answering.items())
            problems.append(f"The default version of {name} is {said}; finish that rollout, or take it back, and add hosts then.")
        for version, host in versions.get(name, {}).items():
            if version not in listed[name]:
                problems.append(
                    f"{host} serves {name} {version}, which modelfleet_models does not list; list it, as the other hosts serve it, "
                    "and roll out the next version when the new hosts are there."
                )
    return {"models": kept, "left_out": left_out, "problems": problems}


class FilterModule:
    def filters(self):
        return {"served_models": served_models}
