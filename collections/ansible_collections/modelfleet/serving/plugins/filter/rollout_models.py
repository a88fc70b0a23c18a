# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_models
short_description: Say which version of each model a rollout is to make the serving one
version_added: 0.1.0
description:
  - Of the versions of a model that are to be present, the one that says C(default) is it, or the only one.
  - A model with several versions of which none is the default has none.
positional: _input
options:
  _input:
    description: The list of models, see C(modelfleet_models) of the role P(modelfleet.serving.variables#role).
    type: list
    elements: dict
    required: true
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Show what a rollout would bring up
  ansible.builtin.debug:
    msg: "{{ (modelfleet_models | modelfleet.serving.rollout_models).targets }}"
"""

RETURN = r"""
_value:
  description:
    - C(targets) are the entries as M(modelfleet.serving.model_rollout) takes them.
    - C(keep) are the names and versions that are served beside them.
  type: dict
"""

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.modelfleet.serving.plugins.module_utils._model import MODEL_OPTIONS, is_served


def rollout_models(models):
    present = [model for model in models if model.get("state", "present") == "present" and is_served(model)]
    targets, keep = [], []
    for name in dict.fromkeys(model["name"] for model in present):
        versions = [model for model in present if model["name"] == name]
        wanted = [model for model in versions if boolean(model.get("default", False))] or (versions if len(versions) == 1 else [])
        targets += [{key: value for key, value in model.items() if key in (*MODEL_OPTIONS, "huggingface", "runtime")} for model in wanted]
        keep += [{"name": name, "version": model["version"]} for model in versions if model not in wanted]
    return {"targets": targets, "keep": keep}


class FilterModule:
    def filters(self):
        return {"rollout_models": rollout_models}
