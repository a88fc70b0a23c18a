#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: torchserve_info
short_description: Read what TorchServe serves
description:
  - Reads the version of TorchServe and its models with their versions, workers and default version.
  - A TorchServe that does not answer is an answer too (RV(reachable)=false), not a failure.
  - A worker that fell back to the CPU is not ready for a model that is recorded for a GPU.
version_added: 0.1.0
author: ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
options:
  base_url:
    description: URL of TorchServe's management API.
    type: str
    default: http://127.0.0.1:8081
  key_file:
    description: The file with TorchServe's keys. It is never printed.
    type: path
    default: /var/lib/torchserve/key_file.json
  record:
    description:
      - The file that records what this host serves. With it, the module waits for a restore in progress, RV(recorded) tells what it says,
        and RV(not_restored) what of it is not served.
    type: path
  wait_for_record:
    description:
      - Whether to wait for whoever changes O(record) or restores what it says, which takes as long as a model takes to load. Otherwise
        RV(busy) says that somebody does.
    type: bool
    default: true
  wait_s:
    description: How long to wait for TorchServe to answer, in seconds.
    type: int
    default: 0
seealso:
  - module: modelfleet.serving.torchserve_model
"""

EXAMPLES = r"""
- name: Read what TorchServe serves
  modelfleet.serving.torchserve_info:
  register: torchserve

- name: Wait until TorchServe is up and has restored what it served before
  modelfleet.serving.torchserve_info:
    record: /var/lib/modelfleet/state/models.json
    wait_s: 60
  register: torchserve
  failed_when: not torchserve.reachable
"""

RETURN = r"""
reachable:
  description: Whether TorchServe answers.
  returned: success
  type: bool
  sample: true
healthy:
  description: Whether it answers and every registered version has its workers READY. TorchServe's own /ping does not tell that.
  returned: success
  type: bool
  sample: true
version:
  description: Version of TorchServe; empty when it does not answer.
  returned: success
  type: str
  sample: 0.12.0
models:
  description: Every registered version of every model.
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
      description: Whether this version answers requests that name none.
      type: bool
    file:
      description: Name of its file in the model store.
      type: str
    workers:
      description: Number of workers that there should be.
      type: int
    workers_ready:
      description: Number of READY workers.
      type: int
    gpu:
      description: Number of READY workers that use a GPU.
      type: int
  sample:
    - name: resnet50
      version: "1.0"
      default: true
      file: resnet50-1.0-0f3a5e9c1f0c.mar
      workers: 2
      workers_ready: 2
      gpu: 2
recorded:
  description: What O(record) says is served, and restored at every start of TorchServe. Empty without O(record).
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
      description: Where its workers must be, V(cpu) or V(gpu).
      type: str
  sample:
    - name: resnet50
      version: "1.0"
      device: gpu
other_runtimes:
  description: Runtimes other than TorchServe that serve something, as O(record) says. Empty without O(record).
  returned: success
  type: list
  elements: str
  sample: [openai]
busy:
  description: Whether somebody changes O(record) or restores what it says, so that all this may be half-way. Never where the module waits.
  returned: success
  type: bool
  sample: false
not_restored:
  description: Models of O(record) that are not served, as C(NAME VERSION). Empty without O(record).
  returned: success
  type: list
  elements: str
  sample: []
"""

import time

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._model_record import TORCHSERVE, of_runtime, read_record, unchanged
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._torchserve import (
    KEY_FILE,
    MANAGEMENT_URL,
    TorchServe,
    read_models,
)


def run(params, server):
    result = {"changed": False, "reachable": False, "healthy": False, "version": "", "models": [], "recorded": [], "not_restored": []}
    result["busy"] = False
    description = server.api_description(params["wait_s"])
    if description is not None and params["record"]:
        # The restore starts a moment after TorchServe's process.
        time.sleep(0.5 if params["wait_s"] else 0)
        with unchanged(params["record"], params["wait_for_record"]) as alone:
            result["busy"] = not alone
    recorded = read_record(params["record"]) if params["record"] else {}
    entries = of_runtime(recorded, TORCHSERVE)
    result["other_runtimes"] = sorted({entry["runtime"] for entry in recorded.values()} - {TORCHSERVE})
    result["recorded"] = [{key: entry[key] for key in ("name", "version", "device")} for entry in entries.values()]
    if description is None:
        return result
    models, info = read_models(server), description.get("info")
    ready = {}
    for model in models:
        key = (model["name"], model["version"])
        # READY where the record says that they must be.
        ready[key] = model["gpu" if entries.get(key, {}).get("device") == "gpu" else "workers_ready"]
    missing = [f"{name} {version}" for name, version in entries if not ready.get((name, version))]
    result.update(
        reachable=True,
        version=str(info.get("version", "")) if isinstance(info, dict) else "",
        models=models,
        not_restored=missing,
        healthy=not missing and all(ready[model["name"], model["version"]] >= max(1, model["workers"]) for model in models),
    )
    return result


def main():
    module = CheckedModule(
        argument_spec={
            "base_url": {"type": "str", "default": MANAGEMENT_URL},
            "key_file": {"type": "path", "default": KEY_FILE, "no_log": False},
            "record": {"type": "path"},
            "wait_for_record": {"type": "bool", "default": True},
            "wait_s": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, TorchServe(module, module.params["base_url"], module.params["key_file"]))
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
