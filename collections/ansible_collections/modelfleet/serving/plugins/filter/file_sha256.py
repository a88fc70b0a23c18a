# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: file_sha256
author: ModelFleet developers (@modelfleet)
version_added: 0.1.0
short_description: The SHA-256 of a file on the controller
description:
  - Lets a module see whether a host has a file of the controller already, so that it is sent only where it is missing.
positional: _input
options:
  _input:
    description: Path of the file.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Show the digest of an archive
  ansible.builtin.debug:
    msg: "{{ 'files/model.mar' | modelfleet.serving.file_sha256 }}"
"""

RETURN = r"""
_value:
  description: 64 hexadecimal digits.
  type: str
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._started import NO_FILE, digest_of_file


def file_sha256(path):
    try:
        digest = digest_of_file(path)
    except ModelFleetError as exc:
        raise AnsibleFilterError(str(exc)) from exc
    if digest == NO_FILE:
        raise AnsibleFilterError(f"Failed to read {path} on the controller: there is no such file.")
    return digest


class FilterModule:
    def filters(self):
        return {"file_sha256": file_sha256}
