# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_findings
short_description: Find what is wrong with the variables of a rollout
version_added: 0.1.0
description:
  - Checks what an argument specification cannot say, such as batches that do not grow or a gate that nothing could pass.
  - Returns every finding at once, as sentences that say what is wrong and what to do. An empty list means that nothing is wrong.
positional: _input
options:
  _input:
    description: The variables, by name.
    type: dict
    required: true
  models:
    description: The list of models, see C(modelfleet_models) of the role P(modelfleet.serving.variables#role).
    type: list
    elements: dict
    default: []
  groups:
    description: The groups of the inventory, each with its list of hosts.
    type: dict
    default: {}
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Check the batches
  ansible.builtin.assert:
    that: dict(modelfleet_rollout_batches=modelfleet_rollout_batches) | modelfleet.serving.rollout_findings | length == 0
"""

RETURN = r"""
_value:
  description: The findings, one sentence each.
  type: list
  elements: str
"""

import re

from ansible_collections.modelfleet.serving.plugins.filter.rollout_models import rollout_models
from ansible_collections.modelfleet.serving.plugins.module_utils._rollout_phases import MOST_REQUESTS

# A smaller one could not be passed by anything.
LEAST = {
    "modelfleet_rollout_soak_seconds": 0,
    "modelfleet_rollout_soak_requests": 1,
    "modelfleet_rollout_error_rate": 0,
    "modelfleet_rollout_latency_margin_ms": 0,
    "modelfleet_drain_seconds": 0,
    "modelfleet_rollback_grace_seconds": 0,
}
MOST = {"modelfleet_rollout_soak_requests": MOST_REQUESTS}
# Nothing is measured below these.
ABOVE = {
    "modelfleet_rollout_gpu_memory_percent": 0,
    "modelfleet_rollout_gpu_temperature": 0,
}


def batch_findings(sizes):
    sizes = [str(size) for size in sizes]
    wrong = [size for size in sizes if not re.fullmatch(r"[1-9][0-9]{0,8}%?", size)]
    if wrong or not sizes:
        yield (
            f"The modelfleet_rollout_batches has a size that is none ({wrong[0] if wrong else 'it is empty'}); write numbers of hosts or "
            'shares such as "20%".'
        )
        return
    for kind in ("hosts", "percent"):
        numbers = [int(size.rstrip("%")) for size in sizes if size.endswith("%") == (kind == "percent")]
        if any(one >= other for one, other in zip(numbers, numbers[1:])):
            yield (
                f"The modelfleet_rollout_batches does not increase ({', '.join(sizes)}); begin with the smallest, as the first is the one "
                "that tries the change."
            )
            return
    # A number after a share may be any size of it.
    if any(one.endswith("%") and not other.endswith("%") for one, other in zip(sizes, sizes[1:])):
        yield f"The modelfleet_rollout_batches has a number of hosts after a share ({', '.join(sizes)}); write the numbers first."


def limit_findings(settings):
    for name, least in LEAST.items():
        if name in settings and float(settings[name]) < least:
            yield f"The {name} is {settings[name]}, which nothing could pass; set it to {least} or more."
    for name, most in MOST.items():
        if name in settings and float(settings[name]) > most:
            yield f"The {name} is {settings[name]}, for which a version would be asked for hours; set it to {most} or less."
    for name, bound in ABOVE.items():
        if name in settings and float(settings[name]) <= bound:
            yield f"The {name} is {settings[name]}, which nothing could pass; set it above {bound}."
    factor = settings.get("modelfleet_rollout_latency_factor", 1)
    if float(factor) < 1:
        yield f"The modelfleet_rollout_latency_factor is {factor}, which not even the same version would pass; set it to 1 or more."


def model_findings(models):
    done = rollout_models(models)
    targets = {target["name"] for target in done["targets"]}
    for name in dict.fromkeys(model["name"] for model in done["keep"] if model["name"] not in targets):
        yield f"The model {name} has several versions in modelfleet_models and none with default: true; set it on the one that is to serve."
    for model in models:
        check = model.get("check") or {}
        if float(check.get("tolerance", 0)) < 0:
            yield f"The tolerance of the model {model['name']} {model['version']} is below 0, which no answer could pass; leave it out."


def hook_findings(settings, groups):
    hooks = {name: settings.get(name) or "" for name in ("modelfleet_drain", "modelfleet_return")}
    if bool(hooks["modelfleet_drain"]) != bool(hooks["modelfleet_return"]):
        missing = "modelfleet_return" if hooks["modelfleet_drain"] else "modelfleet_drain"
        yield f"Only one of modelfleet_drain and modelfleet_return is set, so that a host would not come back; set {missing}."
    group = settings.get("modelfleet_haproxy_group", "")
    if "haproxy" in hooks.values() and not groups.get(group):
        yield f"The group {group} has no host, and modelfleet_drain is haproxy; add the balancers, or set modelfleet_haproxy_group."
    # Hosts may have other hooks each.
    host = settings.get("inventory_hostname")
    if "gateway" in hooks.values() and host not in (groups.get("modelfleet_gateways") or []):
        yield f"The modelfleet_drain is gateway, and {host} has none; add it to the group modelfleet_gateways."


def rollout_findings(settings, models=(), groups=None):
    return [
        *batch_findings(settings.get("modelfleet_rollout_batches", ["1"])),
        *limit_findings(settings),
        *model_findings(models),
        *hook_findings(settings, groups or {}),
    ]


class FilterModule:
    def filters(self):
        return {"rollout_findings": rollout_findings}
