# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: of_runtime
author: ModelFleet developers (@modelfleet)
version_added: 0.1.0
short_description: Choose the models that one runtime serves
description:
  - Returns the entries of a list of models whose C(runtime) is the one that is asked for, as they are and in their order.
  - An entry that names no runtime is for TorchServe.
positional: _input, runtime
options:
  _input:
    description: The list of models, see C(modelfleet_models) of the role P(modelfleet.serving.variables#role).
    type: list
    elements: dict
    required: true
  runtime:
    description: The runtime, for example V(torchserve).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what TorchServe serves
  ansible.builtin.debug:
    msg: "{{ modelfleet_models | modelfleet.serving.of_runtime('torchserve') | map(attribute='name') }}"
"""

RETURN = r"""
_value:
  description: The entries.
  type: list
  elements: dict
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._runtime import runtime_name


def of_runtime(models, runtime):
    return [model for model in models if runtime_name(model) == runtime]


class FilterModule:
    def filters(self):
        return {"of_runtime": of_runtime}
