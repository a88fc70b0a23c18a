#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bentoml_model
short_description: Serve models by servers of BentoML
description:
  - Makes each model of a list served by a server of its own, ready and started at every boot, or absent.
  - The unit of a version must be on the host, as the role P(modelfleet.serving.bentoml#role) writes it. This module starts it, and stops
    it, and has the port of the model lead to the default version.
  - A server is ready when systemd says that it runs and C(/readyz) answers 200. For V(gpu) a process of it must use one.
  - Before a server is started, its bundle is looked at and verified against its manifest.
  - Versions of a model are served beside each other. The first one becomes the default, and no other one takes its place here. That fails
    before anything is changed, unless the list makes the default one absent.
  - What this host serves is recorded in O(record) as well, which other modules read. systemd needs it not.
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
        description: Name of the model.
        type: str
        required: true
      version:
        description: Version of the model.
        type: str
        required: true
      bundle:
        description: Key prefix of the bundle in the object store. Required with O(models[].state=present).
        type: str
      sha256:
        description: The sha256 of the bundle's manifest, 64 hexadecimal digits. Required with O(models[].state=present).
        type: str
      port:
        description: The port of the model, the same for all its versions. Required with O(models[].state=present).
        type: int
      default:
        description: Whether this version is to answer at the port where several are listed.
        type: bool
        default: false
      device:
        description: Where it must run. Without it O(device).
        type: str
        choices: [cpu, gpu]
      state:
        description: Whether the model is served. The unit of an absent one stays, stopped.
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
    description: Longest time for a server to become ready, in seconds.
    type: int
    default: 1800
seealso:
  - module: modelfleet.serving.bentoml_info
  - module: modelfleet.serving.model_rollout
"""

EXAMPLES = r"""
- name: Serve a model
  modelfleet.serving.bentoml_model:
    models:
      - name: letters
        version: "1.0"
        bundle: models/letters
        sha256: 0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a
        port: 8301

- name: Have its next version answer, without a gate
  modelfleet.serving.bentoml_model:
    models:
      - {name: letters, version: "1.0", state: absent}
      - name: letters
        version: "2.0"
        bundle: models/letters
        sha256: 9f2c1a4be3f2d6c7b8a90123456789abcdef0123456789abcdef0123456789ab
        port: 8301
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
      description: What was done, V(started), V(default_set), V(removed) or V(unchanged).
      type: str
    register_seconds:
      description: How long it took until the server was ready; 0 where it was.
      type: float
    workers_ready:
      description: Number of servers that are ready, V(1) or V(0).
      type: int
    bytes:
      description: Always empty. The bundle came before.
      type: dict
  sample:
    - name: letters
      version: "1.0"
      file: letters-1.0-0f3a5e9c1f0c
      action: started
      register_seconds: 2.1
      workers_ready: 1
      bytes: {}
"""

import os
import time

from ansible_collections.modelfleet.serving.plugins.module_utils._bentoml import read_sections
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._model import file_of, title, version_key
from ansible_collections.modelfleet.serving.plugins.module_utils._model_list import ModelList, outcome
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime_bentoml import BentoMLRuntime


class BentoMLModels(ModelList):
    RUNTIME = "bentoml"

    def __init__(self, module):
        super().__init__(module, BentoMLRuntime(module))

    def _read(self):
        """{name: {version: {"file", "is_default"}}}"""
        return {name: self._versions(name) for name in sorted({model["name"] for model in self.wanted})}

    def _settle(self):
        self.record.set_defaults(self.served)

    def _versions(self, name):
        default = self.runtime.default(name)
        return {
            one.version: {"file": one.file, "is_default": default is not None and one.unit == default.unit}
            for one in self.runtime.servers().values()
            if one.name == name and one.served
        }

    def _lines(self):
        return "".join(
            f"{name} {version}: {one['file']}{', default' if one['is_default'] else ''}\n"
            for name, versions in sorted(self.served.items())
            for version, one in sorted(versions.items(), key=lambda item: version_key(item[0]))
        )

    def _check(self, model):
        if not model["bundle"]:
            raise ModelFleetError(f"The {title(model)} in the list of models has no bundle. Give the one that it is.")
        self.check_port(model)

    def _check_list(self):
        super()._check_list()
        self.check_shared_ports()
        names = {}
        for model in self.present():
            name = model["name"]
            if names.setdefault(name, model["port"]) != model["port"]:
                raise ModelFleetError(f"The list of models gives versions of {name} several ports. Give all of them the same.")

    def _refuse_all(self):
        """Fail on what cannot be served or would take the place of something else, before anything is changed."""
        sections = read_sections()
        for model in self.present():
            for name, section in sections.items():
                if name != model["name"] and section.port == model["port"] and not self._all_leave(name):
                    raise ModelFleetError(
                        f"Refused {title(model)}: this host serves {name} at its port {section.port}. Nothing was changed: give it another "
                        f"port, or list {name} with state: absent."
                    )
            self._refuse(model)
        for name in self.served:
            self._refuse_replacement(name)

    def _all_leave(self, name):
        """Whether the list makes absent whatever serves of a model."""
        return name in self.served and self.served[name].keys() <= self._leaving(name)

    def _leaving(self, name):
        return {model["version"] for model in self.wanted if model["name"] == name and model["state"] == "absent"}

    def _refuse(self, model):
        here = self.served[model["name"]].get(model["version"])
        self.refuse_retired(model)
        if here and here["file"] != file_of(model):
            self.refuse_same_version(model, here["file"])
        # In check mode it may be what a run before this one would bring.
        if not here and (not self.module.check_mode or os.path.exists(self.runtime.path(model))):
            self.runtime.check(model)

    def _refuse_replacement(self, name):
        present = [model for model in self.present() if model["name"] == name]
        staged = self.record.of(self.record.staged, name)
        if staged and present:
            raise ModelFleetError(
                f"Refused model {name}: a rollout to {staged['version']} came to no end on this host. Nothing was changed: run the "
                "playbook rollout, which goes on, or takes away what is half-way."
            )
        live, new = self._live(name), self._successor(name)
        if live and new and new != live and live not in self._leaving(name):
            raise ModelFleetError(
                f"Refused model {name}: this host answers with version {live}, and would with {new}. Nothing was changed: run the playbook "
                f"rollout with {new} as the default version in the list of models."
            )

    def _live(self, name):
        return next((version for version, one in self.served[name].items() if one["is_default"]), None)

    def _successor(self, name):
        """The version that is to answer when the list is done: the one that says so, or else the one that does, or else the newest.

        Where no port leads to any, the recorded one counts as the one that does.
        """
        wanted = [model for model in self.wanted if model["name"] == name]
        leaving = self._leaving(name)
        present = [model["version"] for model in wanted if model["state"] == "present"]
        named = next((model["version"] for model in wanted if model["default"] and model["state"] == "present"), None)
        current = self.record.current(name)
        live = self._live(name) or (current["version"] if current and current["version"] in self.served[name] else None)
        others = (self.served[name].keys() | set(present)) - leaving
        return named or (live if live and live not in leaving else max(others, key=version_key, default=None))

    def _ensure(self, model):
        name, version, file = model["name"], model["version"], file_of(model)
        here = self.served[name].get(version)
        answers = self._successor(name) == version
        becomes = answers and not self.runtime.leads(name, version)
        result = outcome(model, file, "started" if not here else "default_set" if becomes else "unchanged")
        if self.module.check_mode:
            for other in self.served[name].values() if becomes else ():
                other["is_default"] = False
            # The first one is the default, whatever its number.
            self.served[name][version] = {"file": file, "is_default": becomes or self._live(name) in (None, version)}
        else:
            began = time.monotonic()
            if here:
                self.runtime.wait_ready(model)
            else:
                self.runtime.load(model)
                result["register_seconds"] = round(time.monotonic() - began, 3)
            # Also where its port leads elsewhere than is written, as after a run that ended in between.
            if answers and (not self.runtime.leads(name, version) or self.runtime.why_not_reached(name)):
                self.runtime.set_default(name, version)
                if here:
                    result["action"] = "default_set"
            result["workers_ready"] = 1
            self.served[name] = self._versions(name)
        self.record.put(model, file, self.runtime.device(model), {})
        return result

    def _remove(self, model):
        name, version = model["name"], model["version"]
        here, recorded = self.served[name].get(version), self.record.known(model)
        file = here["file"] if here else recorded["file"] if recorded else ""
        if here and not self.module.check_mode:
            successor = self._successor(name)
            if here["is_default"] and successor in self.served[name]:
                self.runtime.set_default(name, successor)
            self.runtime.unload(name, version)
            self.served[name] = self._versions(name)
        elif here:
            del self.served[name][version]
        self.record.drop(model)
        return outcome(model, file, "removed" if here or recorded else "unchanged")


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
                    "port": {"type": "int"},
                    "default": {"type": "bool", "default": False},
                    "device": {"type": "str", "choices": ["cpu", "gpu"]},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
            "record": {"type": "path", "default": "/var/lib/modelfleet/state/models.json"},
            "record_group": {"type": "str", "default": "torchserve"},
            **BentoMLRuntime.OPTIONS,
        },
        supports_check_mode=True,
    )
    try:
        result = BentoMLModels(module).run()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
