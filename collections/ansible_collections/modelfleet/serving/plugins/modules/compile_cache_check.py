#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compile_cache_check
short_description: Have every worker of a model compile or load what it compiled, and answer as it should
description:
  - Sends the known input of each model to as many of its workers as there are, side by side, and waits as long as TorchServe waits for an
    answer of that model. So no user is the first, who waits for a compiler.
  - Where an answer is not the known one, or there is none, the workers are stopped, what was compiled is thrown away, the workers start
    again and are asked once more. The module fails if the answer is wrong then too.
  - In check mode nobody is asked.
version_added: 0.1.0
author: ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
attributes:
  idempotent:
    description: When run twice in a row outside check mode with the same arguments, the second invocation changes nothing.
    support: partial
    details: It asks the models every time, and with O(anew) it throws away each time what they compiled.
options:
  checks:
    description: The known inputs and answers, each as for M(modelfleet.serving.inference_check), of models of TorchServe.
    type: list
    elements: dict
    required: true
    suboptions:
      model:
        description: Name of the model.
        type: str
        required: true
      version:
        description: Version of the model.
        type: str
        required: true
      input:
        description: Body of the request. Text is sent as it is, anything else as JSON.
        type: raw
      input_base64:
        description: Body of the request in base64, for example of an image.
        type: str
      expected:
        description: The expected answer, as JSON data, JSON text or plain text.
        type: raw
      expected_base64:
        description: The expected answer, byte for byte, in base64.
        type: str
      content_type:
        description: Content type of the request. Without it V(application/json) for JSON, V(application/octet-stream) otherwise.
        type: str
      tolerance:
        description: Largest allowed absolute difference of a number.
        type: float
        default: 0.0001
  anew:
    description:
      - Throw away what was compiled before anybody is asked, to have what M(modelfleet.serving.compile_cache) packs be of these requests
        and nothing else.
    type: bool
    default: false
  base_url:
    description: URL of TorchServe's management API.
    type: str
    default: http://127.0.0.1:8081
  inference_url:
    description: URL of TorchServe's inference API.
    type: str
    default: http://127.0.0.1:8080
  key_file:
    description: The file with TorchServe's keys. It is never printed.
    type: path
    default: /var/lib/torchserve/key_file.json
  device:
    description: Where workers must be to be ready.
    type: str
    choices: [cpu, gpu]
    default: cpu
  timeout:
    description: How long workers may take to stop, and to be READY again, in seconds.
    type: int
    default: 1800
  directory:
    description: Directory of the caches.
    type: path
    default: /var/lib/modelfleet/compile-caches
  list:
    description: The file that M(modelfleet.serving.compile_cache) writes for the workers.
    type: path
    default: /var/lib/modelfleet/state/compile_caches.json
  started:
    description: Where the unit of TorchServe keeps the fingerprint that its workers use.
    type: path
    default: /run/torchserve/compile_cache.json
  user:
    description: Who runs the workers.
    type: str
    default: torchserve
  group:
    description: Group of the caches.
    type: str
    default: torchserve
seealso:
  - module: modelfleet.serving.compile_cache
  - module: modelfleet.serving.inference_check
"""

EXAMPLES = r"""
- name: Be the first who asks
  modelfleet.serving.compile_cache_check:
    checks:
      - model: resnet50
        version: "1.0"
        input: {x: [1, 1, 1, 1]}
        expected: {y: [-0.011194, 0.051883, 0.136672]}
"""

RETURN = r"""
checks:
  description: What became of each check, in the order of O(checks). Empty in check mode.
  returned: always
  type: list
  elements: dict
  contains:
    model:
      description: Name of the model.
      type: str
    version:
      description: Version of the model.
      type: str
    ok:
      description: Whether all workers gave the known answer.
      type: bool
    workers:
      description: How many were asked.
      type: int
    seconds:
      description: How long the slowest first answer took.
      type: float
    cold:
      description: Whether what was compiled before was thrown away.
      type: bool
    detail:
      description: What was wrong, before it was thrown away or after.
      type: str
  sample:
    - model: resnet50
      version: "1.0"
      ok: true
      workers: 2
      seconds: 1.61
      cold: false
      detail: ""
"""

import copy
import os
import time
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.modelfleet.serving.plugins.module_utils._compile_cache import (
    DIRECTORY,
    LIST,
    STARTED,
    cache_path,
    empty,
    owner_of,
    read_list,
    started_fingerprint,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._inference import CHECK, run_check
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._torchserve import INFERENCE_URL, KEY_FILE, MANAGEMENT_URL, TorchServe

# What TorchServe waits where it does not say.
RESPONSE_S = 120
# After that it ends the worker and says so.
MARGIN_S = 30
POLL_S = 0.5


class Checks:
    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.server = TorchServe(module, self.params["base_url"], self.params["key_file"])
        self.inference = TorchServe(module, self.params["inference_url"], self.params["key_file"], api="inference")
        self.started = started_fingerprint(self.params["started"])
        self.listed = read_list(self.params["list"])

    def run(self):
        results = []
        for check in self.params["checks"] if not self.module.check_mode else ():
            try:
                results.append(self._of(check))
            except OSError as exc:
                raise ModelFleetError(
                    f"Failed to empty {exc.filename or self.params['directory']}: {exc.strerror}. Check the directory and the disk."
                ) from exc
        changed = any(result["cold"] for result in results)
        wrong = [result for result in results if not result["ok"]]
        if wrong:
            sentences = "; ".join(f"model {one['model']} {one['version']}: {one['detail']}" for one in wrong)
            raise ModelFleetError(
                f"{len(wrong)} of {len(results)} compiled models at {self.inference.place} answer wrongly: {sentences}. Check the model, "
                "its expected answer and its response timeout; see journalctl -u torchserve on this host.",
                checks=results,
                changed=changed,
            )
        return {"changed": changed, "checks": results, "diff": self._diff(results)}

    def _diff(self, results):
        place = self.params["directory"]
        cold = "".join(f"{one['model']} {one['version']}\n" for one in results if one["cold"])
        return {"before_header": place, "after_header": place, "before": cold, "after": ""}

    def _of(self, check):
        here = self.server.describe(check["model"]).get(check["version"])
        if here is None:
            raise ModelFleetError(
                f"Failed to ask model {check['model']} {check['version']}: {self.server.place} does not serve it. Register it first."
            )
        workers = max(1, here["minWorkers"])
        timeout = (here.get("responseTimeout") or RESPONSE_S) + MARGIN_S
        path = self._path(check)
        if self.params["anew"]:
            if not path:
                raise ModelFleetError(
                    f"Failed to compile model {check['model']} {check['version']} anew: its workers have no directory of their own for "
                    "that on this host. Run the playbook site, and see journalctl -u torchserve for why it is not known what the host "
                    "compiles for."
                )
            self._go_cold(check, workers, path)
            return {**self._ask(check, workers, timeout), "cold": True}
        result = self._ask(check, workers, timeout)
        if result["ok"] or not path:
            return result
        self.module.warn(
            f"Model {check['model']} {check['version']} did not give the known answer with the compile cache {path}: it was thrown away."
        )
        self._go_cold(check, workers, path)
        again = self._ask(check, workers, timeout)
        detail = f"after a cold start {again['detail']}" if not again["ok"] else result["detail"]
        return {**again, "cold": True, "detail": detail}

    def _ask(self, check, workers, timeout):
        """All workers at once: one that works takes no other request."""
        with ThreadPoolExecutor(workers) as pool:
            answers = list(pool.map(lambda _number: run_check(self.inference, check, timeout), range(workers)))
        wrong = [answer["detail"] for answer in answers if not answer["ok"]]
        return {
            "model": check["model"],
            "version": check["version"],
            "ok": not wrong,
            "workers": workers,
            "seconds": max(answer["seconds"] for answer in answers),
            "cold": False,
            "detail": wrong[0] if wrong else "",
        }

    def _path(self, check):
        """Where the workers of a model have what they compile; None where they have no directory of their own."""
        sha256 = self.listed.get(f"{check['model']} {check['version']}")
        path = cache_path(self.params["directory"], sha256, self.started) if sha256 and self.started else None
        return path if path and os.path.isdir(path) else None

    def _go_cold(self, check, workers, path):
        """What a process has loaded stays in it, so the workers go as well."""
        name, version = check["model"], check["version"]
        owner = owner_of(self.params["user"], self.params["group"])
        self.server.scale(name, version, 0)
        try:
            self._wait_gone(name, version)
            empty(path, owner)
        finally:
            self.server.scale(name, version, workers)
        self.server.wait_ready(name, version, workers, self.params["timeout"], self.params["device"])

    def _wait_gone(self, name, version):
        deadline = time.monotonic() + self.params["timeout"]
        while (self.server.describe(name).get(version) or {}).get("workers"):
            if time.monotonic() >= deadline:
                raise ModelFleetError(
                    f"Failed to stop the workers of model {name} {version} within {self.params['timeout']} s. See journalctl -u torchserve "
                    "on this host."
                )
            time.sleep(POLL_S)


def main():
    one = copy.deepcopy(CHECK)
    one["options"].pop("runtime")
    one["options"]["version"]["required"] = True
    module = CheckedModule(
        argument_spec={
            "checks": {"type": "list", "elements": "dict", "required": True, **one},
            "anew": {"type": "bool", "default": False},
            "base_url": {"type": "str", "default": MANAGEMENT_URL},
            "inference_url": {"type": "str", "default": INFERENCE_URL},
            "key_file": {"type": "path", "default": KEY_FILE, "no_log": False},
            "device": {"type": "str", "choices": ["cpu", "gpu"], "default": "cpu"},
            "timeout": {"type": "int", "default": 1800},
            "directory": {"type": "path", "default": DIRECTORY},
            "list": {"type": "path", "default": LIST},
            "started": {"type": "path", "default": STARTED},
            "user": {"type": "str", "default": "torchserve"},
            "group": {"type": "str", "default": "torchserve"},
        },
        supports_check_mode=True,
    )
    try:
        result = Checks(module).run()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
