# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: inventory_findings
short_description: Find everything that is wrong in a fleet's inventory
version_added: 0.1.0
description:
  - Checks what an argument specification cannot say, such as a model listed twice or two hosts with one address.
  - Returns every finding at once, as sentences that say what is wrong, where, and what to do. An empty list means that nothing is wrong.
positional: _input
options:
  _input:
    description: The list of models, see C(modelfleet_models) of the role P(modelfleet.serving.modelfleet#role).
    type: list
    elements: dict
    required: true
  files_dir:
    description: Directory on the controller with the files of the models' checks. Without it, the files are not looked for.
    type: path
  groups:
    description: The groups of the inventory that must have hosts, each with its list of hosts.
    type: dict
    default: {}
  addresses:
    description: The C(modelfleet_address) of every host of the fleet, by host.
    type: dict
    default: {}
  storage:
    description: The storage description, keyed by the store's type, as in O(modelfleet.serving.endpoint_config#module:storage).
    type: dict
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Check the list of models
  ansible.builtin.assert:
    that: (modelfleet_models | modelfleet.serving.inventory_findings) | length == 0
"""

RETURN = r"""
_value:
  description: The findings, one sentence each.
  type: list
  elements: str
"""

import ipaddress
import os
import re

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import object_key_problem, store_from_unchecked

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
SHA256 = re.compile(r"[0-9a-f]{64}\Z")
SIZE = re.compile(r"[0-9]+([.][0-9]+)? ?([KMGT]i?)?B?\Z")


def model_findings(model, files_dir=None):
    """Yield what is wrong with one entry of the list."""
    label = _label(model)
    for key in ("name", "version", "object", "sha256"):
        value = model.get(key)
        if value is None or value == "":
            yield f"The {label} has no {key}; add it to the entry in modelfleet_models."
        elif not isinstance(value, str):
            yield f"The {key} of the {label} is not text; write it in quotes in modelfleet_models, for YAML reads 1.10 as the number 1.1."
        elif key in ("name", "version") and not NAME.match(value):
            yield f"The {key} of the {label} may have letters, digits, '.', '_' and '-' only, and begins with a letter or digit; rename it."
        elif key == "sha256" and not SHA256.match(value):
            yield f"The sha256 of the {label} is not 64 hexadecimal digits in lower case; write what sha256sum prints for the file."
        elif key == "object":
            yield from _object_findings(label, value)
    if model.get("size") is not None and not SIZE.match(str(model["size"])):
        yield f"The size of the {label} is not a size ('{model['size']}'); write a number with a unit, for example 2GiB."
    check = model.get("check")
    if files_dir and isinstance(check, dict) and model.get("state", "present") == "present":
        for key in ("input_file", "expected_file"):
            path = os.path.join(files_dir, str(check.get(key, "")))
            if check.get(key) and not os.path.isfile(path):
                yield f"The {key} of the {label} is not at {path} on the controller; put it there or correct modelfleet_files_dir."


def _object_findings(label, key):
    problem = object_key_problem(key)
    if problem:
        yield f"The object of the {label} is not a plain key ({key!r}); {problem}."


def list_findings(models):
    """Yield what is wrong with the list as a whole."""
    present = [model for model in models if model.get("state", "present") == "present"]
    for label in _repeated(_label(model) for model in models):
        yield f"The {label} is listed more than once in modelfleet_models; keep one entry."
    for name in _repeated(model.get("name") for model in present if model.get("default") is True):
        versions = ", ".join(str(model.get("version")) for model in present if model.get("name") == name and model.get("default") is True)
        yield f"The model {name} has more than one default version ({versions}) in modelfleet_models; set default: true on one of them."
    for model in models:
        if model.get("default") is True and model.get("state") == "absent":
            yield f"The {_label(model)} is absent and the default at once in modelfleet_models; make another version the default."


def group_findings(groups):
    for group, hosts in groups.items():
        if not hosts:
            yield f"The group {group} has no host; add at least one to the inventory."


def address_findings(addresses):
    hosts_of = {}
    for host, address in addresses.items():
        if not address:
            yield f"The host {host} has no modelfleet_address; set it in the inventory to the IP address that the fleet reaches."
            continue
        try:
            parsed = ipaddress.ip_address(str(address))
        except ValueError:
            yield f"The modelfleet_address of the host {host} is not an IP address ('{address}'); names and prefixes are not accepted."
            continue
        if parsed.is_unspecified or parsed.is_loopback or parsed.is_multicast:
            yield f"The modelfleet_address of the host {host} is local to it ({address}); use its address on the fleet's network."
        hosts_of.setdefault(parsed, []).append(host)
    for address, hosts in hosts_of.items():
        if len(hosts) > 1:
            yield f"The hosts {', '.join(hosts)} have one modelfleet_address ({address}); give each host its own."


def storage_findings(storage):
    try:
        store_from_unchecked(storage)
    except ModelFleetError as exc:
        yield str(exc)


def _label(model):
    name = model.get("name")
    return f"model {name} {model.get('version')}" if name else f"model without a name (object {model.get('object')})"


def _repeated(values):
    seen = {}
    for value in values:
        seen[value] = seen.get(value, 0) + 1
    return [value for value, count in seen.items() if count > 1]


def inventory_findings(models, files_dir=None, groups=None, addresses=None, storage=None):
    findings = [*group_findings(groups or {}), *address_findings(addresses or {})]
    if storage is not None:
        findings.extend(storage_findings(storage))
    for model in models:
        findings.extend(model_findings(model, files_dir))
    findings.extend(list_findings(models))
    return findings


class FilterModule:
    def filters(self):
        return {"inventory_findings": inventory_findings}
