#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_info
short_description: Read what Triton serves, and whether it has known holes
description:
  - Reads which models the Triton of this host is to serve, and asks it whether each is ready, as M(modelfleet.serving.triton_model) does.
  - Compares the release of an installed Triton, and of the one that answers, with the last that whoever reaches it can take over.
version_added: 0.1.0
author: ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
options:
  record:
    description: The record of what this host serves. Without it, it is not read.
    type: path
  home:
    description: A directory with Triton, whose program and release are looked at as well.
    type: path
seealso:
  - module: modelfleet.serving.triton_model
  - module: modelfleet.serving.torchserve_info
"""

EXAMPLES = r"""
- name: Ask the Triton of this host
  modelfleet.serving.triton_info:
    record: /var/lib/modelfleet/state/models.json
  register: triton

- name: Require that every model is ready
  ansible.builtin.assert:
    that: triton.healthy
"""

RETURN = r"""
healthy:
  description: Whether every model that is to be served is ready, and every one of O(record) is among them.
  returned: success
  type: bool
  sample: true
models:
  description: The models that Triton is to serve, also after a start.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model.
      type: str
    version:
      description: Version of the model.
      type: str
    default:
      description: Whether requests that name no version go to it, which is always so.
      type: bool
    file:
      description: Name of its directory in the model store.
      type: str
    unit:
      description: The unit of Triton.
      type: str
    workers:
      description: Always V(1). How many instances there are is said in C(config.pbtxt).
      type: int
    workers_ready:
      description: Whether it is ready, V(1) or V(0).
      type: int
    gpu:
      description: Whether it is ready and has instances on a GPU, V(1) or V(0).
      type: int
    detail:
      description: Why it is not ready; empty where it is.
      type: str
  sample:
    - name: resnet50
      version: "2.0"
      default: true
      file: resnet50-2.0-0f3a5e9c1f0c
      unit: triton.service
      workers: 1
      workers_ready: 1
      gpu: 0
      detail: ""
recorded:
  description: What O(record) says is served by Triton. Empty without O(record).
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model.
      type: str
    version:
      description: Version of the model.
      type: str
    device:
      description: Where it must run, V(cpu) or V(gpu).
      type: str
  sample:
    - name: resnet50
      version: "2.0"
      device: cpu
release:
  description: The release that the server names; empty where none answers.
  returned: success
  type: str
  sample: 2.62.0
release_problem:
  description: What is wrong with the release that the server names; empty where nothing is, or none answers.
  returned: success
  type: str
  sample: ""
home_problem:
  description: What is wrong with what is in O(home); empty where nothing is, or without O(home).
  returned: success
  type: str
  sample: ""
"""

import os

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._model_record import of_runtime, read_record
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime_triton import TritonRuntime
from ansible_collections.modelfleet.serving.plugins.module_utils._triton import UNIT, read_unit, release_problem


def described(runtime, name, file, device):
    detail = runtime.why_not_ready(name, device)
    return {
        "name": name,
        "version": runtime.version(name),
        "default": True,
        "file": file,
        "unit": UNIT,
        "workers": 1,
        "workers_ready": 0 if detail else 1,
        "gpu": 1 if not detail and not runtime.why_not_ready(name, "gpu") else 0,
        "detail": detail,
    }


def home_problem(home):
    program, version = os.path.join(home, "bin/tritonserver"), read_text(os.path.join(home, "TRITON_VERSION"))
    if not os.access(program, os.X_OK):
        return f"has no program {program}; copy /opt/tritonserver out of the container there, or set triton_image"
    if version is None:
        return "has no file TRITON_VERSION, so that nobody knows its release; copy the whole /opt/tritonserver out of the container there"
    return release_problem(version) or ""


def run(module):
    runtime = TritonRuntime(module)
    entries = of_runtime(read_record(module.params["record"]), "triton") if module.params["record"] else {}
    models = []
    for name, file in runtime.served().items():
        entry = entries.get((name, runtime.version(name)))
        models.append(described(runtime, name, file, entry["device"] if entry else "cpu"))
    release, problem = "", None
    if read_unit():
        try:
            release, problem = runtime.release()
        except ModelFleetError:
            # Where it has models to serve, each says so.
            pass
    served = {(one["name"], one["version"]) for one in models}
    return {
        "changed": False,
        "healthy": entries.keys() <= served and all(one["workers_ready"] for one in models) and not problem,
        "models": models,
        "recorded": [{key: entry[key] for key in ("name", "version", "device")} for entry in entries.values()],
        "release": release,
        "release_problem": problem or "",
        "home_problem": home_problem(module.params["home"]) if module.params["home"] else "",
    }


def main():
    module = CheckedModule(argument_spec={"record": {"type": "path"}, "home": {"type": "path"}}, supports_check_mode=True)
    try:
        module.exit_json(**run(module))
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
