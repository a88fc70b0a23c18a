#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_model
short_description: Serve models by servers of the OpenAI protocol
description:
  - Makes each model of a list served by a server of its own, ready and started at every boot, or absent.
  - The unit of a version must be on the host, as the role P(modelfleet.serving.openai_server#role) writes it. This module starts it, and
    stops it.
  - A server is ready when systemd says that it runs, C(/health) answers 200 and C(/v1/models) has the name of the model. For V(gpu) a
    process of it must use one.
  - Before a server is started, its bundle is verified against its manifest, and of a commit each file against its name in the cache.
  - A version never takes the place of another one here. That fails before anything is changed, unless the list makes the other one absent.
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
        description: Name of the model, which C(/v1/models) of its server says.
        type: str
        required: true
      version:
        description: Version of the model.
        type: str
        required: true
      bundle:
        description:
          - Key prefix of the bundle in the object store.
          - With O(models[].state=present) either this or O(models[].huggingface) is required.
        type: str
      sha256:
        description: The sha256 of the bundle's manifest, 64 hexadecimal digits. Required with O(models[].bundle).
        type: str
      huggingface:
        description: The commit of a repository of a Hugging Face hub, in the place of a bundle.
        type: dict
        suboptions:
          repo:
            description: Name of the repository, as in V(org/bert).
            type: str
            required: true
          revision:
            description: The commit, 40 hexadecimal digits.
            type: str
            required: true
          include:
            description: Which of its files were brought. Not looked at here.
            type: list
            elements: str
          exclude:
            description: Which of its files were not brought. Not looked at here.
            type: list
            elements: str
          group:
            description: The group in whose cache it lies.
            type: str
            default: modelfleet-hf
          ref:
            description: The branch that leads to the commit there. Not looked at here.
            type: str
            default: main
      port:
        description: The port of its server. Required with O(models[].state=present).
        type: int
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
  huggingface_home:
    description: The directory with the caches of a hub's models.
    type: path
    default: /var/lib/modelfleet/huggingface
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
  - module: modelfleet.serving.openai_info
  - module: modelfleet.serving.torchserve_model
"""

EXAMPLES = r"""
- name: Serve a model
  modelfleet.serving.openai_model:
    models:
      - name: llama
        version: "3.1"
        bundle: models/llama
        sha256: 0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a
        port: 8101

- name: Serve its next version in its place, without a gate
  modelfleet.serving.openai_model:
    models:
      - {name: llama, version: "3.1", state: absent}
      - name: llama
        version: "3.2"
        bundle: models/llama
        sha256: 9f2c1a4be3f2d6c7b8a90123456789abcdef0123456789abcdef0123456789ab
        port: 8101
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
      description: Name of its directory in the model store, or the commit; empty for an absent one that had none.
      type: str
    action:
      description: What was done, V(started), V(removed) or V(unchanged).
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
    - name: llama
      version: "3.1"
      file: llama-3.1-0f3a5e9c1f0c
      action: started
      register_seconds: 42.1
      workers_ready: 1
      bytes: {}
"""

import time

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._huggingface import COMMIT_OPTIONS, source_problem
from ansible_collections.modelfleet.serving.plugins.module_utils._model import file_of, title
from ansible_collections.modelfleet.serving.plugins.module_utils._model_list import ModelList, outcome
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._openai_server import predicted, unit_of
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime_openai import OpenAIRuntime


class OpenAIModels(ModelList):
    RUNTIME = "openai"

    def __init__(self, module):
        super().__init__(module, OpenAIRuntime(module))

    def _read(self):
        """{unit: Server}"""
        return {unit: one for unit, one in self.runtime.servers().items() if one.served}

    def _check(self, model):
        problem = source_problem(model["huggingface"]) if model["huggingface"] else None
        if problem:
            raise ModelFleetError(f"The huggingface of {title(model)} in the list of models cannot be used: {problem}.")
        if bool(model["bundle"]) == bool(model["huggingface"]):
            has = "a bundle and huggingface" if model["bundle"] else "no bundle and no huggingface"
            raise ModelFleetError(f"The {title(model)} in the list of models has {has}. Give the one that it is.")
        self.check_port(model)

    def _check_list(self):
        super()._check_list()
        self.check_shared_ports()

    def _lines(self):
        return "".join(f"{one.name} {one.version}: {one.file}, port {one.port}\n" for _unit, one in sorted(self.served.items()))

    def _refuse_all(self):
        for model in self.present():
            self._refuse(model)

    def _refuse(self, model):
        """Fail on what would take the place of something that serves, before anything is changed."""
        unit = unit_of(model)
        self.refuse_retired(model)
        for other in self.served.values():
            if other.unit == unit or self.leaves(other.name, other.version):
                continue
            if (other.name, other.version) == (model["name"], model["version"]):
                self.refuse_same_version(model, other.file)
            if other.name == model["name"]:
                raise ModelFleetError(
                    f"Refused {title(model)}: this host serves version {other.version} at port {other.port}, and one version at a time. "
                    f"Nothing was changed: run the playbook rollout, or list {other.version} with state: absent."
                )
            if other.port == model["port"]:
                raise ModelFleetError(
                    f"Refused {title(model)}: this host serves {other.name} {other.version} at its port {other.port}. Nothing was changed: "
                    f"give it another port, or list {other.name} {other.version} with state: absent."
                )

    def _ensure(self, model):
        unit, file = unit_of(model), file_of(model)
        result = outcome(model, file, "unchanged" if unit in self.served else "started")
        if self.module.check_mode:
            self.served.setdefault(unit, predicted(model, self.runtime.device(model)))
        else:
            began = time.monotonic()
            if unit in self.served:
                self.runtime.wait_ready(model)
            else:
                self.runtime.load(model)
                result["register_seconds"] = round(time.monotonic() - began, 3)
            self.served[unit] = self.runtime.servers()[unit]
            result["workers_ready"] = 1
        self.keep(model)
        return result

    def _remove(self, model):
        key = model["name"], model["version"]
        served = [one for one in self.served.values() if (one.name, one.version) == key]
        recorded = self.record.known(model)
        file = served[0].file if served else recorded["file"] if recorded else ""
        if not self.module.check_mode:
            for _one in served:
                self.runtime.unload(*key)
        for one in served:
            del self.served[one.unit]
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
                    "huggingface": {"type": "dict", "options": COMMIT_OPTIONS},
                    "port": {"type": "int"},
                    "device": {"type": "str", "choices": ["cpu", "gpu"]},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
            "record": {"type": "path", "default": "/var/lib/modelfleet/state/models.json"},
            "record_group": {"type": "str", "default": "torchserve"},
            **OpenAIRuntime.OPTIONS,
        },
        supports_check_mode=True,
    )
    try:
        result = OpenAIModels(module).run()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
