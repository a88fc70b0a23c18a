#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: traffic_check
short_description: Compare a version of a model with the one before it under its real requests
description:
  - Watches for O(seconds) how a version of a model answers on this host, and compares its error rate and its 95th percentile of latency
    with those of the version that answered before, on the same host.
  - The requests are those of the runtime's own account, of TorchServe its access log in the journal. A request that names no version counts
    for the version that was the default at that time.
  - Where either version had fewer than O(requests), both are asked with the known inputs instead, in turn. RV(source) tells which it was.
  - An answer with a status of 500 or more is an error, others are the client's.
  - It ends as soon as the version cannot pass any more.
version_added: 0.1.0
author: ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
options:
  model:
    description: Name of the model.
    type: str
    required: true
  version:
    description: The version to be judged.
    type: str
    required: true
  old_version:
    description: The version that answered before; empty without one, then only the errors are judged.
    type: str
    default: ""
  since:
    description: Since when the version answers requests that name none, in seconds since the epoch on this host.
    type: float
    required: true
  before:
    description: Until when the old version answered them.
    type: float
    required: true
  seconds:
    description: How long to watch, and how long before O(before) the old version is looked at.
    type: int
    default: 60
  requests:
    description: Fewest requests that say something, from 1 to 100000.
    type: int
    default: 50
  error_rate:
    description: How much larger the error rate may be than the old version's, in percent of the requests.
    type: float
    default: 0.0
  latency_factor:
    description: How many times as long the 95th percentile may be.
    type: float
    default: 1.5
  latency_margin_ms:
    description: How much longer it may be in any case, in milliseconds, as small times differ by themselves.
    type: int
    default: 20
  checks:
    description: Known inputs, as O(modelfleet.serving.inference_check#module:checks); their answers do not matter here.
    type: list
    elements: dict
    default: []
    suboptions:
      model:
        description: Name of the model.
        type: str
        required: true
      version:
        description: Version of the model. Both versions are asked.
        type: str
      input:
        description: Body of the request. Text is sent as it is, anything else as JSON.
        type: raw
      input_base64:
        description: Body of the request in base64, for example of an image.
        type: str
      expected:
        description: The expected answer.
        type: raw
      expected_base64:
        description: The expected answer in base64.
        type: str
      content_type:
        description: Content type of the request.
        type: str
      tolerance:
        description: Largest allowed absolute difference of a number.
        type: float
        default: 0.0001
      runtime:
        description: What serves the model. O(runtime) says who is asked.
        type: str
        choices: [torchserve, openai, triton, bentoml]
        default: torchserve
  runtime:
    description: What serves. V(openai), V(triton) and V(bentoml) keep no account of each request, so that they are asked with known inputs.
    type: str
    choices: [torchserve, openai, triton, bentoml]
    default: torchserve
  device:
    description: Where the workers must be.
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
  timeout:
    description: Longest time for one answer, in seconds.
    type: int
    default: 120
seealso:
  - module: modelfleet.serving.model_rollout
  - module: modelfleet.serving.inference_check
"""

EXAMPLES = r"""
- name: See how the new version does
  modelfleet.serving.traffic_check:
    model: resnet50
    version: "2.0"
    old_version: "1.0"
    since: "{{ switched.time }}"
    before: "{{ began.time }}"
    seconds: 120
  register: traffic
  failed_when: not traffic.ok
"""

RETURN = r"""
ok:
  description: Whether the version may stay.
  returned: success
  type: bool
  sample: true
source:
  description:
    - Where the numbers come from, V(access log), V(known inputs) or V(nothing) where there were neither requests nor known inputs.
  returned: success
  type: str
  sample: access log
old:
  description: What the old version did; the numbers are 0 without any request.
  returned: success
  type: dict
  sample: {requests: 1200, errors: 0, p95_ms: 24}
new:
  description: What the version did.
  returned: success
  type: dict
  sample: {requests: 1180, errors: 0, p95_ms: 26}
saw:
  description: What it saw, in words.
  returned: success
  type: str
  sample: p95 26 ms, errors 0.0 % of 1180 requests (access log)
allowed:
  description: What it allows, in words.
  returned: success
  type: str
  sample: p95 44 ms, errors 0.0 %
"""

import math
import time

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._inference import CHECK, request_of
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._rollout_phases import MOST_REQUESTS
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime import runtime_of, runtime_options

LOOK_EVERY_S = 2


def summary(answers):
    """Of [(status, milliseconds)]."""
    times = sorted(milliseconds for _status, milliseconds in answers)
    return {
        "requests": len(answers),
        "errors": sum(status >= 500 for status, _milliseconds in answers),
        "p95_ms": round(times[math.ceil(0.95 * len(times)) - 1], 1) if times else 0,
    }


class Traffic:
    def __init__(self, params, runtime, clock=time.time, sleep=time.sleep):
        self.params = params
        self.runtime = runtime
        self.clock = clock
        self.sleep = sleep

    def run(self):
        if not 1 <= self.params["requests"] <= MOST_REQUESTS:
            raise ModelFleetError(f"Failed to use requests {self.params['requests']}: it must be from 1 to {MOST_REQUESTS}.")
        old = self.logged(self.params["before"] - self.params["seconds"], self.params["before"], self.params["old_version"])
        # One in the future would be waited for.
        end = min(self.params["since"], self.clock()) + self.params["seconds"]
        while True:
            new = self.logged(self.params["since"], self.clock(), self.params["version"])
            if self.clock() >= end or self.hopeless(summary(old), summary(new)):
                break
            self.sleep(min(LOOK_EVERY_S, max(0.1, end - self.clock())))
        source = "access log"
        enough = len(new) >= self.params["requests"] and (len(old) >= self.params["requests"] or not self.params["old_version"])
        if not enough and self.errors_pass(summary(old), summary(new)):
            source, old, new = self.ask(old, new)
        return self.judge(source, summary(old), summary(new))

    def hopeless(self, old, new):
        """Whether there are too many errors even if all that is to come goes well."""
        share = min(1.0, max(0.001, self.clock() - self.params["since"]) / max(1, self.params["seconds"]))
        return new["requests"] >= self.params["requests"] and not self.errors_pass(old, {**new, "requests": new["requests"] / share})

    def logged(self, since, until, version):
        """What was answered in the name of a version that was the default one in this time."""
        found = self.runtime.traffic(self.params["model"], since, until) or []
        return [(status, milliseconds) for named, status, milliseconds in found if named in (None, version)]

    def ask(self, old, new):
        requests = [request_of(check) for check in self.params["checks"]]
        if not requests:
            return ("access log" if new else "nothing"), old, new
        asked = {self.params["version"]: [], self.params["old_version"]: []}
        there = self.runtime.describe(self.params["model"])
        if self.params["version"] not in there:
            raise ModelFleetError(
                f"Failed to ask the model {self.params['model']}: this host does not serve its version {self.params['version']}, only "
                f"{', '.join(sorted(there)) or 'none'}. Roll the version out again."
            )
        versions = [version for version in asked if version in there]
        for turn in range(self.params["requests"]):
            for version in versions:
                asked[version].append(self.answer(version, *requests[turn % len(requests)]))
        # What real requests said against it stands.
        errors = [one for one in new if one[0] >= 500]
        return "known inputs", asked[self.params["old_version"]], asked[self.params["version"]] + errors

    def answer(self, version, body, content_type):
        started = time.monotonic()
        try:
            status = self.runtime.predict(self.params["model"], version, body, content_type, self.params["timeout"]).status
        except ModelFleetError:
            status = 599
        return status, (time.monotonic() - started) * 1000

    def errors_pass(self, old, new):
        return percent(new) <= percent(old) + self.params["error_rate"] + 1e-9

    def judge(self, source, old, new):
        limit = old["p95_ms"] * self.params["latency_factor"] + self.params["latency_margin_ms"]
        compared = old["requests"] > 0 and new["requests"] > 0
        ok = self.errors_pass(old, new) and (not compared or new["p95_ms"] <= limit)
        allowed = f"errors {percent(old) + self.params['error_rate']:.1f} %"
        nothing = "no requests of the old version" if self.params["old_version"] else "no old version"
        return {
            "changed": False,
            "ok": ok,
            "source": source,
            "old": old,
            "new": new,
            "saw": f"p95 {new['p95_ms']:.0f} ms, errors {percent(new):.1f} % of {new['requests']} requests ({source})"
            if new["requests"]
            else "no requests to compare and no known input to ask with",
            "allowed": f"p95 {limit:.0f} ms, {allowed}" if compared else f"{allowed}, {nothing} to compare with",
        }


def percent(counted):
    return 100 * counted["errors"] / counted["requests"] if counted["requests"] else 0.0


def main():
    module = CheckedModule(
        argument_spec={
            **runtime_options(),
            "model": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "old_version": {"type": "str", "default": ""},
            "since": {"type": "float", "required": True},
            "before": {"type": "float", "required": True},
            "seconds": {"type": "int", "default": 60},
            "requests": {"type": "int", "default": 50},
            "error_rate": {"type": "float", "default": 0.0},
            "latency_factor": {"type": "float", "default": 1.5},
            "latency_margin_ms": {"type": "int", "default": 20},
            "checks": {"type": "list", "elements": "dict", "default": [], **CHECK},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    try:
        result = Traffic(module.params, runtime_of(module)).run()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
