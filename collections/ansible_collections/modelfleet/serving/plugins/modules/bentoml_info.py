#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bentoml_info
short_description: Read what servers of BentoML serve
description:
  - Reads from the units of this host which models have servers of BentoML, and asks each whether it is ready, as
    M(modelfleet.serving.bentoml_model) does, and the default version also at the port of the model.
version_added: 0.1.0
author: ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
options:
  record:
    description: The record of what this host serves. Without it, it is not read.
    type: path
seealso:
  - module: modelfleet.serving.bentoml_model
  - module: modelfleet.serving.torchserve_info
"""

EXAMPLES = r"""
- name: Ask the servers of this host
  modelfleet.serving.bentoml_info:
    record: /var/lib/modelfleet/state/models.json
  register: bentoml

- name: Require that every model is ready
  ansible.builtin.assert:
    that: bentoml.healthy
"""

RETURN = r"""
healthy:
  description: Whether every server is ready, and every model of O(record) has one.
  returned: success
  type: bool
  sample: true
models:
  description: The versions whose servers run or would run after the next boot.
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
      description: Whether this version answers at the port of the model.
      type: bool
    file:
      description: Name of its directory in the model store.
      type: str
    unit:
      description: Name of the unit of its server.
      type: str
    port:
      description: The port of the model on the loopback address.
      type: int
    url:
      description: Where this version answers, whether it is the default or not.
      type: str
    workers:
      description: Number of servers that there should be, which is always V(1).
      type: int
    workers_ready:
      description: Number of servers that are ready.
      type: int
    gpu:
      description: Number of servers that are ready and use a GPU.
      type: int
    detail:
      description: Why it is not ready; empty where it is.
      type: str
  sample:
    - name: letters
      version: "1.0"
      default: true
      file: letters-1.0-0f3a5e9c1f0c
      unit: bentoml-letters-1.0-0f3a5e9c1f0c.service
      port: 8301
      url: http://127.72.4.19:8301
      workers: 1
      workers_ready: 1
      gpu: 0
      detail: ""
recorded:
  description: What O(record) says is served by BentoML. Empty without O(record).
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
    - name: letters
      version: "1.0"
      device: cpu
units:
  description: Every unit of such a server on this host, also of versions that are not served.
  returned: success
  type: list
  elements: str
  sample: [bentoml-letters-1.0-0f3a5e9c1f0c.service]
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._model_record import of_runtime, read_record
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime_bentoml import BentoMLRuntime
from ansible_collections.modelfleet.serving.plugins.module_utils._torchserve import family_uses_gpu


def described(runtime, server):
    default = runtime.default(server.name)
    is_default = default is not None and default.unit == server.unit
    ready = runtime.why_not_ready(server, server.device)
    # A version that nobody's requests reach is not served, whatever it says itself.
    detail = ready or (runtime.why_not_reached(server.name) if is_default or default is None else "")
    return {
        "name": server.name,
        "version": server.version,
        "default": is_default,
        "file": server.file,
        "unit": server.unit,
        "port": server.port,
        "url": server.url,
        "workers": 1,
        "workers_ready": 0 if detail else 1,
        "gpu": 1 if not detail and family_uses_gpu(server.state["pid"]) else 0,
        "detail": detail,
    }


def run(module):
    runtime = BentoMLRuntime(module)
    servers = runtime.servers()
    models = [described(runtime, one) for one in servers.values() if one.served]
    entries = of_runtime(read_record(module.params["record"]), "bentoml") if module.params["record"] else {}
    served = {(one["name"], one["version"]) for one in models}
    return {
        "changed": False,
        "healthy": entries.keys() <= served and all(one["workers_ready"] for one in models),
        "models": models,
        "recorded": [{key: entry[key] for key in ("name", "version", "device")} for entry in entries.values()],
        "units": list(servers),
    }


def main():
    module = CheckedModule(argument_spec={"record": {"type": "path"}}, supports_check_mode=True)
    try:
        module.exit_json(**run(module))
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
