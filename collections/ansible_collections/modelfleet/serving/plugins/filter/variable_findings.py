# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: variable_findings
short_description: Find every variable that the roles of this collection would refuse
version_added: 0.1.0
description:
  - Checks the variables of hosts against the argument specifications of all roles of this collection.
  - Finds white space around texts and control characters in them, which nobody means to write into a name, a credential or a URL.
  - Ansible checks an argument specification too, but stops at the first role and prints the whole specification with it.
  - Returns every finding at once, as sentences that say what is wrong, where, and what to do. No sentence holds a secret.
positional: _input
options:
  _input:
    description: The variables of every host, by host.
    type: dict
    required: true
  common:
    description: Variables that every host has and that are not among those of the hosts, such as those of the play.
    type: dict
    default: {}
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Check the variables of this host
  ansible.builtin.assert:
    that: dict([[inventory_hostname, hostvars[inventory_hostname]]]) | modelfleet.serving.variable_findings | length == 0
"""

RETURN = r"""
_value:
  description: The findings, one sentence each. An empty list means that nothing is wrong.
  type: list
  elements: str
"""

import glob
import os
import re
from collections import ChainMap

import yaml
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.modelfleet.serving.plugins.filter.inventory_findings import host_findings
from ansible_collections.modelfleet.serving.plugins.module_utils._text import OUTER_REMEDY, outer_problem
from jinja2 import Undefined, UndefinedError

_ROLES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "roles")
# The quicker one where PyYAML was built with it: these are thousands of lines.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNDEFINED = re.compile(r"'(\w+)' is undefined")


def _options():
    """The options of all roles, by variable."""
    options = {}
    for path in sorted(glob.glob(os.path.join(_ROLES, "*", "meta", "argument_specs.yml"))):
        with open(path, encoding="utf-8") as handle:
            options.update(yaml.load(handle, Loader=_LOADER)["argument_specs"]["main"]["options"])
    return options


def _read(value):
    """A copy with every value read: templates are resolved when a value is read. Raises what a template raises."""
    if isinstance(value, Undefined):
        raise UndefinedError(value._undefined_message)
    if isinstance(value, dict):
        return {key: _read(value[key]) for key in value}
    return [_read(one) for one in value] if isinstance(value, list) else value


def _specification_findings(name, option, value, where=None):
    try:
        messages = ArgumentSpecValidator({name: option}).validate({name: value}).error_messages
    except (AttributeError, OverflowError, TypeError):
        # It stumbles over false for a dictionary, or a number of 400 digits.
        messages = ["it is not of its type, or something in it is not"]
    for message in dict.fromkeys(messages):
        yield f"The variable {where or name} is not what its role takes: {message}."


def _entry(name, number, entry):
    """How a user finds an entry of a list again."""
    called = entry.get("name") or entry.get("object") or entry.get("bundle") or entry.get("src") if isinstance(entry, dict) else None
    return f"{name}[{number}]" + (f" ({called})" if isinstance(called, str) and not outer_problem(called) else "")


def _text_findings(option, value, where):
    """Look at every text, a free dictionary's as well. What is read as JSON may have space around it, or be the mapping itself."""
    if option.get("type") == "json":
        return
    if isinstance(value, dict):
        below = option.get("options", {})
        for key, one in value.items():
            yield from _text_findings(below.get(key, {}), one, f"{where}.{key}")
    elif isinstance(value, list):
        below = {"options": option.get("options", {})}
        for number, one in enumerate(value):
            yield from _text_findings(below, one, _entry(where, number, one))
    elif isinstance(value, str):
        problem = outer_problem(value)
        if problem:
            yield f"The variable {where} {problem}; {OUTER_REMEDY}."


def _findings(variables, options):
    for name, option in options.items():
        if name not in variables:
            continue
        try:
            value = _read(variables[name])
        except (AnsibleError, UndefinedError) as exc:
            undefined = _UNDEFINED.search(str(exc))
            # What a role, a host or its facts say is not known yet, and Ansible reads no variable of another host by way of this one's.
            if undefined and undefined[1] not in (*options, "hostvars") and not undefined[1].startswith(("ansible_", "__")):
                yield f"The variable {name} cannot be read: '{undefined[1]}' is undefined; define it, a secret in vault.yml."
            elif not undefined and not isinstance(exc, (UndefinedError, AnsibleUndefinedVariable)):
                yield f"The variable {name} cannot be read: {exc}; correct it."
            continue
        texts = list(_text_findings(option, value, name))
        yield from texts
        if isinstance(value, list) and option.get("elements") == "dict":
            for number, one in enumerate(value):
                yield from _specification_findings(name, option, [one], _entry(name, number, one))
        else:
            yield from _specification_findings(name, {**option, "required": False}, value)


def variable_findings(hosts, common=None):
    options = _options()
    return list(host_findings({host: list(_findings(ChainMap(hosts[host], common or {}), options)) for host in hosts}))


class FilterModule:
    def filters(self):
        return {"variable_findings": variable_findings}
