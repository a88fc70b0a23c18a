# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: inference_checks
short_description: Load the known inputs and answers of a list of models
version_added: 0.1.0
description:
  - Reads, on the controller, the files that the C(check) entries name, and returns what M(modelfleet.serving.inference_check) takes.
  - An input file that is named C(*.json) is sent as JSON, any other byte for byte.
  - An expected answer that is JSON is compared as JSON, other text but for one line end at its end, anything else byte for byte.
  - Models that are absent or have no C(check) are left out.
positional: _input
options:
  _input:
    description: The list of models, see C(modelfleet_models) of the role P(modelfleet.serving.variables#role).
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

import base64
import os

from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime import DEFAULT, runtime_name
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json

DEFAULT_TOLERANCE = 1e-4


def inference_checks(models, files_dir, only=None):
    kept = None if only is None else {(one["name"], str(one["version"])) for one in only}
    checks = []
    for model in models:
        known, key = model.get("check"), (model["name"], str(model["version"]))
        if model.get("state", "present") != "present" or not known or (kept is not None and key not in kept):
            continue
        check = {"model": key[0], "version": key[1], "tolerance": known.get("tolerance", DEFAULT_TOLERANCE)}
        if runtime_name(model) != DEFAULT:
            check["runtime"] = runtime_name(model)
        check.update(_input(os.path.join(files_dir, known["input_file"])))
        check.update(_expected(os.path.join(files_dir, known["expected_file"])))
        checks.append(check)
    return checks


def _input(path):
    content = _read(path)
    if not path.endswith(".json"):
        return {"input_base64": base64.b64encode(content).decode("ascii")}
    try:
        return {"input": from_json(content)}
    except ValueError as exc:
        raise AnsibleFilterError(
            f"Failed to parse {path} on the controller as JSON: {exc}. Correct the file, or give it another suffix."
        ) from exc


def _expected(path):
    content = _read(path)
    try:
        return {"expected": from_json(content)}
    except ValueError:
        pass
    try:
        text = content.decode("utf-8")
    except ValueError:
        text = "\0"
    # No text has a NUL.
    return {"expected_base64": base64.b64encode(content).decode("ascii")} if "\0" in text else {"expected": text}


def _read(path):
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except OSError as exc:
        raise AnsibleFilterError(
            f"Failed to read {path} on the controller: {exc.strerror}. Put it there or correct modelfleet_files_dir."
        ) from exc


class FilterModule:
    def filters(self):
        return {"inference_checks": inference_checks}
