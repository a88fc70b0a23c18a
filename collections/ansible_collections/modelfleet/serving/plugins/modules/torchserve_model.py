#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: torchserve_model
short_description: Register models at TorchServe
description:
  - Makes each model of a list registered at its version with a number of READY workers, optionally as the default version, or absent.
  - A model reaches the host through the endpoint plugin and Dragonfly (O(via=plugin)), or is a file in the model store already
    (O(via=api)).
  - A bundle is a directory in the model store that M(modelfleet.serving.model_artifact) brought. TorchServe serves it without unpacking it.
  - A version that serves other content, or with other parameters than asked, is never replaced. That fails before anything is changed.
  - Where the C(model-config.yaml) in an archive wins over a parameter that the list gives, the module fails and names both values, and the
    model is not served.
  - What this host serves is recorded in O(record), so that C(torchserve-models.service) can restore it without Ansible.
version_added: 0.1.0
author: ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
attributes:
  check_mode:
    support: partial
    details: Where TorchServe does not answer yet, the prediction comes from O(record), since that is what a start restores.
options:
  models:
    description: The models.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the model, equal to the one in the archive's manifest.
        type: str
        required: true
      version:
        description: Version of the model, equal to the one in the archive's manifest.
        type: str
        required: true
      object:
        description:
          - Key of the C(.mar) in the object store.
          - One of this and O(models[].bundle) is required with O(via=plugin) and O(models[].state=present), never both.
        type: str
      bundle:
        description:
          - Key prefix of the bundle in the object store.
          - Whatever O(via) says, its directory must be in O(model_store). It is verified against its manifest and registered.
        type: str
      sha256:
        description:
          - The sha256 of the C(.mar), or of the bundle's manifest, 64 hexadecimal digits. Required with O(models[].state=present).
        type: str
      workers:
        description: Number of READY workers.
        type: int
        default: 1
      default:
        description: Make this version answer requests that name no version. The first version of a model is that by itself.
        type: bool
        default: false
      state:
        description:
          - Whether the version is served. V(absent) also removes it from the record, and its file from the model store.
          - A bundle's directory goes with M(modelfleet.serving.model_artifact), which knows what other bundles need of it.
        type: str
        choices: [present, absent]
        default: present
      batch_size:
        description: Largest batch of inference requests. Without it C(model-config.yaml) decides.
        type: int
      max_batch_delay:
        description: Longest wait for a batch to fill, in milliseconds.
        type: int
      response_timeout:
        description: Longest time of one inference, in seconds. Where the archive has a C(model-config.yaml), that decides.
        type: int
      startup_timeout:
        description:
          - Longest time for a worker to load the model, in seconds. TorchServe 0.12.0 or newer.
          - Where the archive has a C(model-config.yaml), that decides.
        type: int
      device:
        description:
          - Where the workers of this model must be, by default O(device).
          - On a host with GPUs, TorchServe keeps a model off them only when the C(model-config.yaml) in its archive
            says C(deviceType) V(cpu). V(cpu) for any other model fails there.
          - With V(gpu) a worker that fell back to the CPU is not ready, nor is one whose handler waits for a request before it uses
            the GPU.
        type: str
        choices: [cpu, gpu]
  via:
    description: How a model gets to TorchServe.
    type: str
    choices:
      plugin: TorchServe's endpoint plugin downloads, verifies and registers it.
      api: The file lies in O(model_store) already under the name C(NAME-VERSION-SHA12.mar); it is verified and registered.
    default: plugin
  replace_default:
    description:
      - Whether another version may become the default one of a model that has one. With V(false) that is refused before anything is
        changed, and so is a model that M(modelfleet.serving.model_rollout) has half-way.
    type: bool
    default: true
  device:
    description: Where the workers of a model without O(models[].device) must be. With V(gpu), one that fell back to the CPU is not ready.
    type: str
    choices: [cpu, gpu]
    default: cpu
  base_url:
    description: URL of TorchServe's management API.
    type: str
    default: http://127.0.0.1:8081
  key_file:
    description: The file with TorchServe's keys. It is read again for every call and never printed.
    type: path
    default: /var/lib/torchserve/key_file.json
  model_store:
    description: TorchServe's model store.
    type: path
    default: /var/lib/modelfleet/models
  manifest_store:
    description: Directory with the manifests of the bundles on this host.
    type: path
    default: /var/lib/modelfleet/manifests
  record:
    description: The file that records what this host serves.
    type: path
    default: /var/lib/modelfleet/state/models.json
  record_group:
    description: Group that may read O(record), the one of TorchServe's user.
    type: str
    default: torchserve
  dfdaemon_metrics_url:
    description: Metrics of this host's dfdaemon, from which the bytes by source come.
    type: str
    default: http://127.0.0.1:4002/metrics
  timeout:
    description: Longest time for one model to be downloaded and registered, and again for its workers to become READY, in seconds.
    type: int
    default: 1800
seealso:
  - module: modelfleet.serving.model_artifact
  - module: modelfleet.serving.torchserve_info
  - module: modelfleet.serving.inference_check
"""

EXAMPLES = r"""
- name: Serve a model
  modelfleet.serving.torchserve_model:
    models:
      - name: resnet50
        version: "1.0"
        object: models/resnet50/1.0/resnet50.mar
        sha256: 0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a
        workers: 2

- name: Serve a bundle that is on this host
  modelfleet.serving.torchserve_model:
    models:
      - name: llama
        version: "3.1"
        bundle: bundles/llama
        sha256: 9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e

- name: Add a version, make it the default and remove the old one
  modelfleet.serving.torchserve_model:
    models:
      - name: resnet50
        version: "2.0"
        object: models/resnet50/2.0/resnet50.mar
        sha256: 5b7a8e9d6c2b1a0f3a5e9c1f0c3c0d4f0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a
        default: true
      - name: resnet50
        version: "1.0"
        state: absent
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
      description: Name of its file or directory in the model store; empty for an absent one that had none.
      type: str
    action:
      description: What was done, V(registered), V(reregistered), V(scaled), V(default_set), V(removed) or V(unchanged).
      type: str
    register_seconds:
      description: How long the download and the registration took; 0 when it was registered before.
      type: float
    workers_ready:
      description: Number of READY workers.
      type: int
    bytes:
      description: Bytes that dfdaemon moved meanwhile, by source. Empty when nothing was downloaded.
      type: dict
  sample:
    - name: resnet50
      version: "1.0"
      file: resnet50-1.0-0f3a5e9c1f0c.mar
      action: registered
      register_seconds: 4.2
      workers_ready: 2
      bytes: {origin: 0, remote_peer: 102760448, local_peer: 0}
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._model import MODEL_OPTIONS
from ansible_collections.modelfleet.serving.plugins.module_utils._model_manager import ModelManager
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._torchserve import KEY_FILE, MANAGEMENT_URL


def main():
    module = CheckedModule(
        argument_spec={
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    **MODEL_OPTIONS,
                    "default": {"type": "bool", "default": False},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
            "via": {"type": "str", "choices": ["plugin", "api"], "default": "plugin"},
            "replace_default": {"type": "bool", "default": True},
            "device": {"type": "str", "choices": ["cpu", "gpu"], "default": "cpu"},
            "base_url": {"type": "str", "default": MANAGEMENT_URL},
            "key_file": {"type": "path", "default": KEY_FILE, "no_log": False},
            "model_store": {"type": "path", "default": "/var/lib/modelfleet/models"},
            "manifest_store": {"type": "path", "default": "/var/lib/modelfleet/manifests"},
            "record": {"type": "path", "default": "/var/lib/modelfleet/state/models.json"},
            "record_group": {"type": "str", "default": "torchserve"},
            "dfdaemon_metrics_url": {"type": "str", "default": "http://127.0.0.1:4002/metrics"},
            "timeout": {"type": "int", "default": 1800},
        },
        supports_check_mode=True,
    )
    try:
        result = ModelManager(module).run()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
