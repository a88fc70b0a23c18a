#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_model
short_description: Serve models by Triton
description:
  - Makes each model of a list loaded by the Triton of this host, ready and loaded again at every start, or absent.
  - Triton must run under the unit that the role P(modelfleet.serving.triton#role) writes, with explicit model control.
  - A model is a bundle with the directory of a model of Triton, C(config.pbtxt) and one directory of a version. Its files get other names,
    hard links, in Triton's repository and are verified there against the manifest of the bundle.
  - A bundle whose C(config.pbtxt) is missing, cannot be read, has another name, no backend, or instances on another device is refused
    before anything is changed, and a Triton with known holes as well.
  - A version never takes the place of another one here. That fails before anything is changed, unless the list makes the other one absent.
  - What this host serves is recorded in O(record) as well, which other modules read. Triton needs it not.
version_added: 0.1.0
author: ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
options:
  models:
    description: The models.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the model, equal to the one in C(config.pbtxt) where that has one.
        type: str
        required: true
      version:
        description: Version of the model. Which number its directory in the bundle has says nothing of it.
        type: str
        required: true
      bundle:
        description: Key prefix of the bundle in the object store. Required with O(models[].state=present).
        type: str
      sha256:
        description: The sha256 of the bundle's manifest, 64 hexadecimal digits. Required with O(models[].state=present).
        type: str
      device:
        description: Where the instances of this model must be, by default O(device).
        type: str
        choices: [cpu, gpu]
      state:
        description: Whether the model is served.
        type: str
        choices: [present, absent]
        default: present
  device:
    description: Where models run that do not say it themselves.
    type: str
    choices: [cpu, gpu]
    default: cpu
  model_store:
    description: The directory with the models.
    type: path
    default: /var/lib/modelfleet/models
  manifest_store:
    description: The directory with the manifests of bundles.
    type: path
    default: /var/lib/modelfleet/manifests
  record:
    description: The record of what this host serves.
    type: path
    default: /var/lib/modelfleet/state/models.json
  record_group:
    description: Group of O(record).
    type: str
    default: torchserve
  timeout:
    description: Longest time for a model to be loaded and ready, in seconds.
    type: int
    default: 1800
seealso:
  - module: modelfleet.serving.triton_info
  - module: modelfleet.serving.torchserve_model
"""

EXAMPLES = r"""
- name: Serve a model
  modelfleet.serving.triton_model:
    models:
      - name: resnet50
        version: "2.0"
        bundle: models/resnet50
        sha256: 0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a

- name: Serve it no more
  modelfleet.serving.triton_model:
    models:
      - {name: resnet50, version: "2.0", state: absent}
"""

RETURN = r"""
models:
  description: What was done for each model, in the order of O(models).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model.
      type: str
    version:
      description: Version of the model.
      type: str
    file:
      description: Name of its directory in the model store; empty for an absent one that had none.
      type: str
    action:
      description: What was done, V(loaded), V(removed) or V(unchanged).
      type: str
    register_seconds:
      description: How long it took until the model was ready; 0 where it was.
      type: float
    workers_ready:
      description: Whether it is ready, V(1) or V(0).
      type: int
    bytes:
      description: Always empty. The bundle came before.
      type: dict
  sample:
    - name: resnet50
      version: "2.0"
      file: resnet50-2.0-0f3a5e9c1f0c
      action: loaded
      register_seconds: 3.5
      workers_ready: 1
      bytes: {}
"""

import os
import time

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._http import Unreachable
from ansible_collections.modelfleet.serving.plugins.module_utils._model import file_of, title
from ansible_collections.modelfleet.serving.plugins.module_utils._model_list import ModelList, outcome
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime_triton import TritonRuntime


class TritonModels(ModelList):
    RUNTIME = "triton"

    def __init__(self, module):
        super().__init__(module, TritonRuntime(module))

    def _read(self):
        """{name: directory}"""
        return self.runtime.served()

    def _check(self, model):
        if not model["bundle"]:
            raise ModelFleetError(f"The {title(model)} in the list of models has no bundle. Give the one that it is.")

    def _lines(self):
        return "".join(f"{name}: {file}\n" for name, file in sorted(self.served.items()))

    def _refuse_all(self):
        """Fail on what cannot be loaded or would take the place of something else, before anything is changed."""
        coming = [model for model in self.present() if self.served.get(model["name"]) != file_of(model)]
        for model in coming:
            self._refuse(model)
            # In check mode it may be what a run before this one would bring.
            if not self.module.check_mode or os.path.exists(self.runtime.path(model)):
                self.runtime.check(model)
        try:
            if coming:
                self.runtime.check_release()
        except Unreachable:
            if not self.module.check_mode:
                raise

    def _refuse(self, model):
        self.refuse_retired(model)
        version = self.runtime.version(model["name"])
        if not version or self.leaves(model["name"], version):
            return
        if version == model["version"]:
            self.refuse_same_version(model, self.served[model["name"]])
        raise ModelFleetError(
            f"Refused {title(model)}: this host serves version {version}, and one version at a time. Nothing was changed: run the playbook "
            f"rollout, or list {version} with state: absent."
        )

    def _ensure(self, model):
        name, file = model["name"], file_of(model)
        result = outcome(model, file, "unchanged" if self.served.get(name) == file else "loaded")
        if not self.module.check_mode:
            began = time.monotonic()
            if result["action"] == "unchanged":
                self.runtime.wait_ready(model)
            else:
                self.runtime.load(model)
                result["register_seconds"] = round(time.monotonic() - began, 3)
            result["workers_ready"] = 1
        self.served[name] = file
        self.keep(model)
        return result

    def _remove(self, model):
        name = model["name"]
        served = name in self.served and self.runtime.version(name) == model["version"]
        recorded = self.record.known(model)
        file = self.served[name] if served else recorded["file"] if recorded else ""
        if served:
            if not self.module.check_mode:
                self.runtime.unload(name, model["version"])
            del self.served[name]
        self.record.drop(model)
        return outcome(model, file, "removed" if served or recorded else "unchanged")


def main():
    module = CheckedModule(
        argument_spec={
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "version": {"type": "str", "required": True},
                    "bundle": {"type": "str"},
                    "sha256": {"type": "str"},
                    "device": {"type": "str", "choices": ["cpu", "gpu"]},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
            "record": {"type": "path", "default": "/var/lib/modelfleet/state/models.json"},
            "record_group": {"type": "str", "default": "torchserve"},
            **TritonRuntime.OPTIONS,
        },
        supports_check_mode=True,
    )
    try:
        result = TritonModels(module).run()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
