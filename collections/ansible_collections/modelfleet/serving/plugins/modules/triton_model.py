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
from ansible_collections.modelfleet.serving.plugins.module_utils._model import check_list, content_title, file_of, title
from ansible_collections.modelfleet.serving.plugins.module_utils._model_record import Record
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime_triton import TritonRuntime

RUNTIME = "triton"


class TritonModels:
    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.runtime = TritonRuntime(module)
        self.record = Record(module)
        self.wanted = [
            # As other runtimes have it, for what all of them share.
            {**model, "sha256": (model["sha256"] or "").lower(), "object": None, "workers": 1, "default": True, "runtime": RUNTIME}
            for model in self.params["models"]
        ]

    def run(self):
        self._check_list()
        results = []
        with self.record.locked():
            # {name: directory}: what is served, and in check mode what would be.
            self.served = self.runtime.served()
            before = self._lines()
            self._refuse_all()
            try:
                # The memory of one is free before another comes.
                for model in sorted(self.wanted, key=lambda one: one["state"] == "present"):
                    results.append(self._ensure(model) if model["state"] == "present" else self._remove(model))
            except ModelFleetError as exc:
                exc.result.update(models=results, changed=self._changed(results))
                raise
            finally:
                self.record.write()
        order = [(model["name"], model["version"]) for model in self.wanted]
        result = {
            "changed": self._changed(results),
            "models": sorted(results, key=lambda one: order.index((one["name"], one["version"]))),
        }
        if self.module._diff:
            place = self.runtime.place
            result["diff"] = {"before": before, "after": self._lines(), "before_header": place, "after_header": place}
        return result

    def _changed(self, results):
        return self.record.changed or any(result["action"] != "unchanged" for result in results)

    def _present(self):
        return [model for model in self.wanted if model["state"] == "present"]

    def _check_list(self):
        # Versions of one name would all be the default, which is said better below.
        check_list([{**model, "default": False} for model in self.wanted], "api")
        names = set()
        for model in self._present():
            if not model["bundle"]:
                raise ModelFleetError(f"The {title(model)} in the list of models has no bundle. Give the one that it is.")
            if model["name"] in names:
                raise ModelFleetError(
                    f"The list of models has several versions of {model['name']}. Keep one, or give each a name of its own."
                )
            names.add(model["name"])

    def _lines(self):
        return "".join(f"{name}: {file}\n" for name, file in sorted(self.served.items()))

    def _refuse_all(self):
        """Fail on what cannot be loaded or would take the place of something else, before anything is changed."""
        coming = [model for model in self._present() if self.served.get(model["name"]) != file_of(model)]
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
        retired = self.record.previous.get((model["name"], model["version"]))
        if retired and retired["file"] != file_of(model):
            raise ModelFleetError(
                f"Refused {title(model)}: this host keeps {retired['file']} of that version for the way back from a rollout, and "
                f"{content_title(model)} would be {file_of(model)}. Nothing was changed: publish the new content under a new version."
            )
        version = self.runtime.version(model["name"])
        if not version or self._leaves(model["name"], version):
            return
        if version == model["version"]:
            raise ModelFleetError(
                f"Refused {title(model)}: this host serves {self.served[model['name']]} under that version, and {content_title(model)} "
                f"would be {file_of(model)}. Nothing was changed: publish the new content under a new version."
            )
        raise ModelFleetError(
            f"Refused {title(model)}: this host serves version {version}, and one version at a time. Nothing was changed: run the playbook "
            f"rollout, or list {version} with state: absent."
        )

    def _leaves(self, name, version):
        return any((model["name"], model["version"], model["state"]) == (name, version, "absent") for model in self.wanted)

    def _ensure(self, model):
        name, file = model["name"], file_of(model)
        result = _outcome(model, file, "unchanged" if self.served.get(name) == file else "loaded")
        if not self.module.check_mode:
            began = time.monotonic()
            if result["action"] == "unchanged":
                self.runtime.wait_ready(model)
            else:
                self.runtime.load(model)
                result["register_seconds"] = round(time.monotonic() - began, 3)
            result["workers_ready"] = 1
        self.served[name] = file
        self.record.put(model, file, self.runtime.device(model), {})
        self.record.models[name, model["version"]]["default"] = True
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
        return _outcome(model, file, "removed" if served or recorded else "unchanged")


def _outcome(model, file, action):
    return {
        "name": model["name"],
        "version": model["version"],
        "file": file,
        "action": action,
        "register_seconds": 0.0,
        "workers_ready": 0,
        "bytes": {},
    }


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
