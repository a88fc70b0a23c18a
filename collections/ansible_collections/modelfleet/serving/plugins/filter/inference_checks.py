# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: inference_checks
short_description: Load the known inputs and answers of a list of models
version_added: 0.1.0
description:
  - Reads, on the controller, the files that the models' C(check) entries name, and returns what M(modelfleet.serving.inference_check) takes.
  - Models that are absent or have no C(check) are left out.
positional: _input
options:
  _input:
    description: The list of models, see C(modelfleet_models) of the role P(modelfleet.serving.modelfleet#role).
    type: list
    elements: dict
    required: true
  files_dir:
    description: Directory on the controller with the files.
    type: path
    required: true
  only:
    description: Keep only the models that are in this list of names and versions.
    type: list
    elements: dict
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Ask every model for its known answer
  modelfleet.serving.inference_check:
    checks: "{{ modelfleet_models | modelfleet.serving.inference_checks(modelfleet_files_dir) }}"
"""

RETURN = r"""
_value:
  description: The checks.
  type: list
  elements: dict
"""

import json
import os

from ansible.errors import AnsibleFilterError

DEFAULT_TOLERANCE = 1e-4


def inference_checks(models, files_dir, only=None):
    kept = None if only is None else {(one["name"], str(one["version"])) for one in only}
    checks = []
    for model in models:
        known, key = model.get("check"), (model["name"], str(model["version"]))
        if model.get("state", "present") != "present" or not known or (kept is not None and key not in kept):
            continue
        checks.append(
            {
                "model": key[0],
                "version": key[1],
                "input": _read(files_dir, known["input_file"]),
                "expected": _json(files_dir, known["expected_file"]),
                "tolerance": known.get("tolerance", DEFAULT_TOLERANCE),
            }
        )
    return checks


def _read(files_dir, name):
    path = os.path.join(files_dir, name)
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except (OSError, UnicodeError) as exc:
        raise AnsibleFilterError(
            f"Failed to read {path} on the controller: {exc}. Put a text file there or correct modelfleet_files_dir."
        ) from exc


def _json(files_dir, name):
    try:
        return json.loads(_read(files_dir, name))
    except ValueError as exc:
        path = os.path.join(files_dir, name)
        raise AnsibleFilterError(f"Failed to parse {path} on the controller: {exc}. An expected answer is written as JSON.") from exc


class FilterModule:
    def filters(self):
        return {"inference_checks": inference_checks}
