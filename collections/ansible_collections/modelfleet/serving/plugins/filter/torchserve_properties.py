# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: torchserve_properties
author: ModelFleet developers (@modelfleet)
version_added: 0.1.0
short_description: TorchServe's config.properties as text, strictly checked
description:
  - Checks keys and values as M(modelfleet.serving.torchserve_config) does, and returns the text that it would write.
positional: _input, version
options:
  _input:
    description: Keys and values of C(config.properties).
    type: dict
    required: true
  version:
    description: Version of the TorchServe that reads the file.
    type: str
    required: true
  allow:
    description: What is refused unless it is named here, as O(modelfleet.serving.torchserve_config#module:allow).
    type: list
    elements: str
    default: []
seealso:
  - module: modelfleet.serving.torchserve_config
"""

EXAMPLES = r"""
- name: Show what TorchServe would read
  ansible.builtin.debug:
    msg: "{{ {'job_queue_size': 200} | modelfleet.serving.torchserve_properties('0.12.0') }}"
"""

RETURN = r"""
_value:
  description: The text of the file.
  type: str
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._torchserve_config import file_text


def torchserve_properties(config, version, allow=()):
    try:
        return file_text(version, config, allow, "config.properties")
    except ModelFleetError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    def filters(self):
        return {"torchserve_properties": torchserve_properties}
