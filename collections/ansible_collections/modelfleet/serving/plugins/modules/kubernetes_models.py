#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kubernetes_models
short_description: See that the pods of a cluster serve a list of models and give the known answers
version_added: 0.1.0
description:
  - Asks TorchServe in each pod of a fleet by a port-forward of the API server, so that nothing of it need be open. Its key is read in
    the pod and never shown.
  - Each pod registers the list by itself, from a ConfigMap that M(modelfleet.serving.kubernetes_objects) applies. With O(register=true)
    this module registers at once what a pod has not taken up yet, by the same call of the endpoint plugin.
  - Waits until everything is served with its workers READY, then sends the known inputs to each pod.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - modelfleet.serving.kubernetes
attributes:
  check_mode:
    support: full
    details: Says what it would register, and waits for nothing.
  diff_mode:
    support: N/A
    details: It changes no file and no object.
options:
  namespace:
    description: The namespace of the fleet.
    type: str
    default: modelfleet
  models:
    description: The models, all of them objects of the store.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the model.
        type: str
        required: true
      version:
        description: Its version.
        type: str
        required: true
      object:
        description: Key of the C(.mar) in the object store.
        type: str
      sha256:
        description: Its sha256.
        type: str
      workers:
        description: Number of READY workers.
        type: int
        default: 1
      default:
        description: Whether it is the default version.
        type: bool
        default: false
      state:
        description: Whether it is served.
        type: str
        choices: [present, absent]
        default: present
  checks:
    description: Inputs and their expected answers, as O(modelfleet.serving.inference_check#module:checks), of TorchServe.
    type: list
    elements: dict
    default: []
    suboptions:
      model:
        description: Name of the model.
        type: str
        required: true
      version:
        description: Its version. Without it the default version answers.
        type: str
      input:
        description: Body of the request. Text is sent as it is, anything else as JSON.
        type: raw
      input_base64:
        description: Body of the request in base64.
        type: str
      expected:
        description: The expected answer, as JSON data, JSON text or plain text.
        type: raw
      expected_base64:
        description: The expected answer, byte for byte, in base64.
        type: str
      content_type:
        description: Content type of the request.
        type: str
      tolerance:
        description: Largest allowed absolute difference of a number.
        type: float
        default: 0.0001
  register:
    description: Register what a pod does not serve yet, rather than wait for the pod to do so.
    type: bool
    default: true
  management_port:
    description: Port of TorchServe's management API in the pods.
    type: int
    default: 8081
  inference_port:
    description: Port of its inference API.
    type: int
    default: 8080
  device:
    description: Where the workers must be.
    type: str
    choices: [cpu, gpu]
    default: cpu
  timeout:
    description: How long each pod may take, in seconds.
    type: int
    default: 1800
  check_timeout:
    description: How long an answer may take, in seconds.
    type: int
    default: 120
seealso:
  - module: modelfleet.serving.kubernetes_objects
  - module: modelfleet.serving.inference_check
"""

EXAMPLES = r"""
- name: See that every pod serves the model
  modelfleet.serving.kubernetes_models:
    context: prod
    models:
      - name: resnet50
        version: "1.0"
        object: models/resnet50/1.0/resnet50.mar
        sha256: "{{ sha256 }}"
        workers: 2
    checks:
      - model: resnet50
        input: {data: [1, 2]}
        expected: {sum: 3}
"""

RETURN = r"""
pods:
  description: The pods, in the order of their names.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the pod.
      type: str
    node:
      description: The node on which it is.
      type: str
    registered:
      description: What this module registered or removed, or would.
      type: list
      elements: str
    checks:
      description: The checks, with C(ok), C(seconds) and C(detail), which says what differs.
      type: list
      elements: dict
  sample:
    - {name: torchserve-7d9f-x2k4p, node: gpu-1, registered: [resnet50 1.0], checks: []}
summary:
  description: A line for each pod.
  returned: success
  type: list
  elements: str
  sample: ["torchserve-7d9f-x2k4p on gpu-1: 1 model served, 1 of 1 answers as known"]
"""

import json
import time
from functools import partial

from ansible_collections.modelfleet.serving.plugins.module_utils import _kubernetes, _kubernetes_kinds, _port_forward
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._inference import CHECK, run_check
from ansible_collections.modelfleet.serving.plugins.module_utils._model import file_of, title
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._torchserve import (
    KEY_FILE,
    WORKER_BOOT_S,
    TorchServe,
)

SELECTOR = f"{_kubernetes_kinds.MANAGED_BY}={_kubernetes_kinds.FIELD_MANAGER},app.kubernetes.io/component=torchserve"
CONTAINER = "torchserve"


class InPod(TorchServe):
    """TorchServe's API behind a port-forward, with the key from the pod."""

    def __init__(self, module, forward, read_key, api="management", timeout=30):
        super().__init__(module, forward.url, KEY_FILE, api, timeout)
        self.read_key = read_key

    def _key(self):
        try:
            key = json.loads(self.read_key() or "{}").get(self.api, {}).get("key") or ""
        except (AttributeError, ValueError):
            return None  # half-written, or no file: token authorization is off
        if key:
            self.module.no_log_values.add(key)
        return key


class Pod:
    def __init__(self, module, cluster, pod):
        self.module = module
        self.params = module.params
        self.cluster = cluster
        self.name = pod["metadata"]["name"]
        self.node = (pod.get("spec") or {}).get("nodeName") or ""
        self.result = {"name": self.name, "node": self.node, "registered": [], "checks": []}

    def forward(self, port):
        return _port_forward.Forward(partial(_port_forward.connect, self.cluster, self.params["namespace"], self.name, port))

    def key(self):
        return _port_forward.read_file(self.cluster, self.params["namespace"], self.name, CONTAINER, KEY_FILE)

    def settle(self):
        with self.forward(self.params["management_port"]) as forward:
            server = InPod(self.module, forward, self.key)
            try:
                self.management(server)
            except ModelFleetError as exc:
                raise self.explained(forward.problem or exc) from exc
        if not self.module.check_mode and self.params["checks"]:
            with self.forward(self.params["inference_port"]) as forward:
                server = InPod(self.module, forward, self.key, "inference")
                self.result["checks"] = [run_check(server, check, self.params["check_timeout"]) for check in self.params["checks"]]
        return self.result

    def explained(self, exc):
        return ModelFleetError(f"{str(exc).rstrip('.')} (pod {self.name} on {self.node or 'no node'}).")

    def management(self, server):
        deadline = time.monotonic() + self.params["timeout"]
        # What goes makes room for what comes.
        for model in sorted(self.params["models"], key=lambda one: one["state"] == "present"):
            here = server.describe(model["name"]).get(model["version"])
            if model["state"] == "absent":
                if here:
                    self.note(model)
                    if not self.module.check_mode:
                        server.unregister(model["name"], model["version"])
                continue
            wanted = file_of(model)
            found = here["modelUrl"].rsplit("/", 1)[-1] if here else wanted
            if found != wanted:
                raise ModelFleetError(
                    f"Failed to serve {title(model)}: {found} is served under its name, which is never replaced. Publish it as another "
                    f"version."
                )
            if here is None and self.params["register"]:
                self.note(model)
                if not self.module.check_mode:
                    self.register(server, model)
            if self.module.check_mode:
                continue
            self.wait(server, model, max(1, deadline - time.monotonic()))
            if model["default"] and not server.describe(model["name"])[model["version"]]["is_default"]:
                server.set_default(model["name"], model["version"])

    def note(self, model):
        self.result["registered"].append(f"{model['name']} {model['version']}")

    def register(self, server, model):
        query = {"file_name": model["object"], "sha256": model["sha256"], "model_name": model["name"], "model_version": model["version"]}
        query.update(initial_workers=model["workers"], synchronous="true")
        answer = server.register(query, "/dragonfly/models", self.params["timeout"] + WORKER_BOOT_S)
        # 409: the pod itself is about it, or was quicker.
        if answer.status >= 300 and answer.status != 409:
            raise ModelFleetError(
                f"Failed to register {title(model)}: TorchServe answered {answer.status}: {answer.message.rstrip('.')}. See the log of the "
                "container torchserve, and that of dfdaemon on its node."
            )

    def wait(self, server, model, seconds):
        deadline = time.monotonic() + seconds
        # It may be on its way, by the pod itself.
        while server.describe(model["name"]).get(model["version"]) is None:
            if time.monotonic() >= deadline:
                raise ModelFleetError(f"Failed to see {title(model)} served within {int(seconds)} s. See the log of the container models.")
            time.sleep(2)
        # Whether a worker truly uses its GPU is seen on its node only; what TorchServe says of it is the limit here.
        server.wait_ready(model["name"], model["version"], model["workers"], max(1, deadline - time.monotonic()), "cpu")


def check(models):
    for model in models:
        if model["state"] == "present" and not (model["object"] and model["sha256"]):
            raise ModelFleetError(f"Failed to use the list: the {title(model)} has no object or no sha256. Add it, or leave the entry out.")


def pods_of(cluster, namespace):
    found = cluster.list("Pod", namespace, SELECTOR)
    running = [pod for pod in found if not pod["metadata"].get("deletionTimestamp") and (pod.get("status") or {}).get("phase") == "Running"]
    if not running:
        raise ModelFleetError(
            f"Failed to ask TorchServe in {namespace} of {cluster.server}: of its {len(found)} pods none runs. Run the play kubernetes, "
            f"which says why."
        )
    return sorted(running, key=lambda pod: pod["metadata"]["name"])


def summary(result, count):
    good = sum(check["ok"] for check in result["checks"])
    answers = f", {good} of {len(result['checks'])} answers as known" if result["checks"] else ""
    return f"{result['name']} on {result['node']}: {count} model{'' if count == 1 else 's'} served{answers}"


def run(module, cluster):
    params = module.params
    check(params["models"])
    results = [Pod(module, cluster, pod).settle() for pod in pods_of(cluster, params["namespace"])]
    served = sum(model["state"] == "present" for model in params["models"])
    wrong = [
        f"{result['name']}: {one['model']} {one['version']}".rstrip() + f": {one['detail']}"
        for result in results
        for one in result["checks"]
        if not one["ok"]
    ]
    found = {
        "changed": any(result["registered"] for result in results),
        "pods": results,
        "summary": [summary(result, served) for result in results],
    }
    if wrong:
        raise ModelFleetError(f"Failed to get the known answers from pods of {cluster.server}: {'; '.join(wrong[:5])}.", **found)
    return found


def main():
    check_options = {key: value for key, value in CHECK["options"].items() if key != "runtime"}
    module = CheckedModule(
        argument_spec={
            **_kubernetes.OPTIONS,
            "namespace": {"type": "str", "default": "modelfleet"},
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "version": {"type": "str", "required": True},
                    "object": {"type": "str"},
                    "sha256": {"type": "str"},
                    "workers": {"type": "int", "default": 1},
                    "default": {"type": "bool", "default": False},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
            "checks": {"type": "list", "elements": "dict", "default": [], **{**CHECK, "options": check_options}},
            "register": {"type": "bool", "default": True},
            "management_port": {"type": "int", "default": 8081},
            "inference_port": {"type": "int", "default": 8080},
            "device": {"type": "str", "choices": ["cpu", "gpu"], "default": "cpu"},
            "timeout": {"type": "int", "default": 1800},
            "check_timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module, _kubernetes.Cluster(module.params))
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
