#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: inference_check
short_description: Compare a model's answers with the known ones
description:
  - Sends known inputs to TorchServe's inference API, or to what else serves on this host, compares the answers with the expected ones, and
    records the latency.
  - Numbers in JSON are compared with a tolerance at any depth; anything else must be equal. The order of keys and the format do not matter.
  - Text must be equal but for one line end at its end, which editors add.
  - It waits for nothing. M(modelfleet.serving.torchserve_model) has waited for the workers already.
version_added: 0.1.0
author: ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
options:
  checks:
    description: The inputs and their expected answers.
    type: list
    elements: dict
    required: true
    suboptions:
      model:
        description: Name of the model.
        type: str
        required: true
      version:
        description: Version of the model. Without it the default version answers.
        type: str
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
      runtime:
        description:
          - What serves the model.
          - For V(openai) the input is a request of OpenAI's protocol with C(prompt), C(messages) or C(input). Where it does not say
            otherwise, it is sent with C(temperature) and C(seed) 0.
          - Of the answer the text of the first choice counts, or the vectors of embeddings.
          - For V(bentoml) the input goes to the route that the unit of the version names, at the port of the model where the version is the
            default one, and at its own address otherwise.
        type: str
        choices: [torchserve, openai, triton, bentoml]
        default: torchserve
  base_url:
    description: URL of TorchServe's inference API.
    type: str
    default: http://127.0.0.1:8080
  key_file:
    description: The file with TorchServe's keys. It is never printed.
    type: path
    default: /var/lib/torchserve/key_file.json
  timeout:
    description: Longest time for one answer, in seconds.
    type: int
    default: 120
  fail_on_mismatch:
    description: Fail unless every answer is the expected one.
    type: bool
    default: true
seealso:
  - module: modelfleet.serving.torchserve_model
"""

EXAMPLES = r"""
- name: Check one answer
  modelfleet.serving.inference_check:
    checks:
      - model: resnet50
        input: {x: [1, 1, 1, 1]}
        expected: {y: [-0.011194, 0.051883, 0.136672]}

- name: Check a picture
  modelfleet.serving.inference_check:
    checks:
      - model: resnet50
        version: "2.0"
        input_base64: "{{ lookup('ansible.builtin.file', 'cat.jpg', rstrip=false) | b64encode }}"
        expected: "{{ lookup('ansible.builtin.file', 'cat.expected.json') }}"
        tolerance: 0.001

- name: Check what a language model says
  modelfleet.serving.inference_check:
    checks:
      - model: llama
        runtime: openai
        input: {prompt: "The capital of France is", max_tokens: 1}
        expected: " Paris"
"""

RETURN = r"""
checks:
  description: The outcome of each check, in the order of O(checks).
  returned: always
  type: list
  elements: dict
  contains:
    model:
      description: Name of the model.
      type: str
    version:
      description: Version of the model; empty for the default version.
      type: str
    ok:
      description: Whether the answer was the expected one.
      type: bool
    seconds:
      description: How long the answer took.
      type: float
    detail:
      description: The first difference; empty when there is none.
      type: str
  sample:
    - model: resnet50
      version: "1.0"
      ok: true
      seconds: 0.012
      detail: ""
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._inference import CHECK, run_check
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime import RUNTIMES
from ansible_collections.modelfleet.serving.plugins.module_utils._torchserve import INFERENCE_URL, KEY_FILE, TorchServe


def _title(result):
    return f"model {result['model']} {result['version']}".rstrip()


def run(params, servers):
    """``servers``: {runtime: what predicts, with ``place`` and ``journal``, see _runtime.py}"""
    results = [run_check(servers[check["runtime"]], check, params["timeout"]) for check in params["checks"]]
    wrong = [(check, result) for check, result in zip(params["checks"], results) if not result["ok"]]
    if wrong and params["fail_on_mismatch"]:
        sentences = "; ".join(f"{_title(result)}: {result['detail']}" for _check, result in wrong)
        asked = [servers[check["runtime"]] for check, _result in wrong]
        places = " and ".join(dict.fromkeys(server.place for server in asked))
        journals = " and ".join(
            dict.fromkeys(server.journal(check["model"], check["version"]) for server, (check, _result) in zip(asked, wrong))
        )
        raise ModelFleetError(
            f"{len(wrong)} of {len(results)} answers at {places} are wrong: {sentences}. "
            f"Check the model and its expected answer; see {journals} on this host.",
            checks=results,
        )
    return {"changed": False, "checks": results}


def main():
    module = CheckedModule(
        argument_spec={
            "checks": {
                "type": "list",
                "elements": "dict",
                "required": True,
                **CHECK,
            },
            "base_url": {"type": "str", "default": INFERENCE_URL},
            "key_file": {"type": "path", "default": KEY_FILE, "no_log": False},
            "timeout": {"type": "int", "default": 120},
            "fail_on_mismatch": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    servers = {name: runtime(module) for name, runtime in RUNTIMES.items() if name != "torchserve"}
    servers["torchserve"] = TorchServe(module, module.params["base_url"], module.params["key_file"], api="inference")
    try:
        result = run(module.params, servers)
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
