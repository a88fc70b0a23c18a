#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_rollout
short_description: Change step by step which version of a model a host serves
description:
  - Each O(state) is one step of a rollout, for a list of models. A step that is done already changes nothing, so that an interrupted run
    goes on by running it again.
  - The new version is registered beside the one that serves (V(prepared)), made the default (V(switched)) and, only after whatever is
    checked between the steps, made the current one of O(record) (V(finished)). Until then a reboot comes back with the old one.
  - Everything is loaded from the disk of the host. M(modelfleet.serving.model_artifact) brings it there before.
  - A version that serves other content is never replaced. That fails before anything is changed.
version_added: 0.1.0
author: ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
attributes:
  check_mode:
    support: full
    details: With O(state=prepared) it is the plan of a rollout, which needs nothing on the disk yet.
options:
  models:
    description: The models, each with the version that is to serve.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the model, equal to the one in the archive's manifest.
        type: str
        required: true
      version:
        description: Version of the model. With O(state=rolled_back), the one to leave; a host that serves another one is left alone.
        type: str
        required: true
      object:
        description:
          - Key of the file in the object store.
          - This, O(models[].bundle) or O(models[].huggingface) is required, unless O(state=rolled_back).
        type: str
      bundle:
        description: Key prefix of the bundle in the object store.
        type: str
      sha256:
        description:
          - The sha256 of the file, or of the bundle's manifest, 64 hexadecimal digits.
          - Required with O(models[].object) and O(models[].bundle).
        type: str
      huggingface:
        description: The commit of a repository of a Hugging Face hub, for a O(models[].runtime) that serves one.
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
      runtime:
        description: What serves it. Without it what O(record) says of the version, or O(runtime).
        type: str
        choices: [torchserve, openai, triton, bentoml]
      workers:
        description: Number of READY workers.
        type: int
        default: 1
      batch_size:
        description: Largest batch of inference requests.
        type: int
      max_batch_delay:
        description: Longest wait for a batch to fill, in milliseconds.
        type: int
      response_timeout:
        description: Longest time of one inference, in seconds.
        type: int
      startup_timeout:
        description: Longest time for a worker to load the model, in seconds.
        type: int
      device:
        description: Where the workers of this model must be, by default O(device).
        type: str
        choices: [cpu, gpu]
  state:
    description: The step.
    type: str
    required: true
    choices:
      prepared: The version is registered and its workers are READY. Another one that an earlier run left half-way is taken away before.
      switched: The version answers requests that name none.
      finished: The version is what a restart restores. The one before is unregistered, stays on the disk, and is recorded as the previous.
      undone: The version is unregistered again, and the recorded one answers. It is loaded from the disk where it is not there any more.
      rolled_back: The previous version serves, verified and loaded from the disk, and the one that served is the previous one.
  replace:
    description: Unregister the old version before the new one is registered, where memory does not hold both. Nothing answers meanwhile.
    type: bool
    default: false
  keep:
    description: Versions that go on being served beside the new one, instead of being retired.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the model.
        type: str
        required: true
      version:
        description: Version of the model.
        type: str
        required: true
  grace_s:
    description:
      - How long a version that was the default until this call stays registered, in seconds, so that the requests on their way to it are
        answered.
    type: int
    default: 5
  run:
    description: Text that no other run has, recorded with what is retired.
    type: str
    default: ""
  runtime:
    description:
      - What serves a model without O(models[].runtime) that O(record) does not know.
      - V(openai) serves one version at a time, so that the new one takes the place of the other as with O(replace=true). Its unit must be
        on the host, see M(modelfleet.serving.openai_model).
      - V(triton) has one version of a model loaded at a time, so that it is the same, see M(modelfleet.serving.triton_model).
      - V(bentoml) serves versions beside each other. The unit of the new one must be on the host, see
        M(modelfleet.serving.bentoml_model).
    type: str
    choices: [torchserve, openai, triton, bentoml]
    default: torchserve
  device:
    description: Where the workers of a model without O(models[].device) must be. With V(gpu), one that fell back to the CPU is not ready.
    type: str
    choices: [cpu, gpu]
    default: cpu
  base_url:
    description: URL of the management API.
    type: str
    default: http://127.0.0.1:8081
  inference_url:
    description: URL of the inference API.
    type: str
    default: http://127.0.0.1:8080
  key_file:
    description: The file with TorchServe's keys. It is never printed.
    type: path
    default: /var/lib/torchserve/key_file.json
  model_store:
    description: The model store.
    type: path
    default: /var/lib/modelfleet/models
  manifest_store:
    description: Directory with the manifests of the bundles on this host.
    type: path
    default: /var/lib/modelfleet/manifests
  huggingface_home:
    description: The directory with the caches of a hub's models.
    type: path
    default: /var/lib/modelfleet/huggingface
  record:
    description: The file that records what this host serves.
    type: path
    default: /var/lib/modelfleet/state/models.json
  record_group:
    description: Group that may read O(record).
    type: str
    default: torchserve
  timeout:
    description: Longest time for one model to be registered, and again for its workers to become READY, in seconds.
    type: int
    default: 1800
seealso:
  - module: modelfleet.serving.torchserve_model
  - module: modelfleet.serving.inference_check
  - module: modelfleet.serving.traffic_check
"""

EXAMPLES = r"""
- name: Bring up version 2.0 beside the one that serves
  modelfleet.serving.model_rollout:
    models: &models
      - name: resnet50
        version: "2.0"
        object: models/resnet50/2.0/resnet50.mar
        sha256: 0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a
    state: prepared

- name: Make it the default
  modelfleet.serving.model_rollout:
    models: *models
    state: switched

- name: Retire the old version
  modelfleet.serving.model_rollout:
    models: *models
    state: finished

- name: Go back to the version before, from local disk
  modelfleet.serving.model_rollout:
    models: [{name: resnet50, version: "2.0"}]
    state: rolled_back
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
      description: Version of the model, as in O(models).
      type: str
    runtime:
      description: What serves it.
      type: str
    file:
      description: Name of its file or directory in the model store; empty with O(state=rolled_back).
      type: str
    from:
      description: The version that O(record) said is current before; empty without one.
      type: str
    previous:
      description: The version that O(record) said is the previous one before; empty without one.
      type: str
    on_disk:
      description: Whether the file or directory was on this host before.
      type: bool
    workers:
      description: Number of workers that there should be.
      type: int
    workers_ready:
      description: Number of workers that are READY.
      type: int
    action:
      description: What was done, V(prepared), V(switched), V(finished), V(undone), V(rolled_back) or V(unchanged).
      type: str
    removable:
      description:
        - Versions that nothing goes back to any more, as O(modelfleet.serving.model_artifact#module:artifacts) takes them.
        - They are left on the disk.
      type: list
      elements: dict
  sample:
    - name: resnet50
      version: "2.0"
      file: resnet50-2.0-0f3a5e9c1f0c.mar
      from: "1.0"
      previous: ""
      on_disk: true
      workers: 2
      workers_ready: 2
      action: prepared
      removable: []
time:
  description: The time on this host when it was done, in seconds since the epoch.
  returned: success
  type: float
  sample: 1767225600.5
seconds:
  description: How long it took, in seconds, without O(grace_s).
  returned: success
  type: float
  sample: 2.5
"""

import time

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._huggingface import COMMIT_OPTIONS
from ansible_collections.modelfleet.serving.plugins.module_utils._model import MODEL_OPTIONS
from ansible_collections.modelfleet.serving.plugins.module_utils._model_record import read_parts
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._rollout import Rollout
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime import RUNTIMES, runtime_of, runtime_options


def recorded_runtime(module, model):
    """What serves a version by the record; a damaged one says nothing, and is written anew."""
    try:
        record = read_parts(module.params["record"])
    except ModelFleetError:
        record = {}
    key = model["name"], model["version"]
    return next((part[key]["runtime"] for part in record.values() if key in part), module.params["runtime"])


def step(module):
    """The step of all models, those of each runtime together."""
    parts = {}
    for model in module.params["models"]:
        parts.setdefault(model.pop("runtime", None) or recorded_runtime(module, model), []).append(model)
    done = []
    for name, models in parts.items():
        try:
            done.append(Rollout(module, runtime_of(module, name), name, models).run())
        except ModelFleetError as exc:
            before = [one for result in done for one in result["models"]]
            exc.result["models"] = before + exc.result.get("models", [])
            exc.result["changed"] = exc.result.get("changed", False) or any(result["changed"] for result in done)
            raise
    return merged(done, module.params["models"])


def merged(done, models):
    """What the steps of several runtimes did, as that of one."""
    if len(done) == 1:
        return done[0]
    order = [(model["name"], model["version"]) for model in models]
    result = {
        "changed": any(one["changed"] for one in done),
        "models": sorted((one for part in done for one in part["models"]), key=lambda one: order.index((one["name"], one["version"]))),
        "time": max((one["time"] for one in done), default=time.time()),
        "seconds": round(sum(one["seconds"] for one in done), 3),
    }
    if any("diff" in one for one in done):
        result["diff"] = [one["diff"] for one in done]
    return result


def main():
    module = CheckedModule(
        argument_spec={
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    **MODEL_OPTIONS,
                    "huggingface": {"type": "dict", "options": COMMIT_OPTIONS},
                    "runtime": {"type": "str", "choices": list(RUNTIMES)},
                },
            },
            "state": {"type": "str", "required": True, "choices": ["prepared", "switched", "finished", "undone", "rolled_back"]},
            "replace": {"type": "bool", "default": False},
            "keep": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"name": {"type": "str", "required": True}, "version": {"type": "str", "required": True}},
            },
            "grace_s": {"type": "int", "default": 5},
            "run": {"type": "str", "default": ""},
            "record": {"type": "path", "default": "/var/lib/modelfleet/state/models.json"},
            "record_group": {"type": "str", "default": "torchserve"},
            **runtime_options(),
        },
        supports_check_mode=True,
    )
    try:
        result = step(module)
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
