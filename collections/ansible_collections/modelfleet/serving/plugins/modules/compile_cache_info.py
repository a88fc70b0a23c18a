#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compile_cache_info
short_description: Say what the code that torch compiles on a host depends on
description:
  - Asks the Python of TorchServe, in a process of its own, for what the result of C(torch.compile) depends on, and makes a fingerprint of
    it. Hosts with one fingerprint may use one compile cache.
  - The key that torch itself gives to what it compiled leaves out the instruction set of the processor. A cache of another one gives wrong
    answers, or ends the process.
version_added: 0.1.0
author: ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
options:
  python:
    description: The Python that TorchServe runs on, V(/opt/torchserve/venv-…/bin/python).
    type: path
    required: true
  environment:
    description:
      - The environment of TorchServe, as far as it is not the same everywhere. C(ATEN_CPU_CAPABILITY), C(OMP_NUM_THREADS), C(CXX) and
        C(CUDA_VISIBLE_DEVICES) in it change what is found.
    type: dict
    default: {}
  program:
    description: What asks it, which the role P(modelfleet.serving.torchserve#role) installs.
    type: path
    default: /opt/torchserve/compile_cache.py
  started:
    description: Where the unit of TorchServe keeps what it found before its last start.
    type: path
    default: /run/torchserve/compile_cache.json
  timeout:
    description: Longest time for the answer, in seconds. To import torch from a cold disk takes a while.
    type: int
    default: 300
seealso:
  - module: modelfleet.serving.compile_cache
"""

EXAMPLES = r"""
- name: Read what this host compiles for
  modelfleet.serving.compile_cache_info:
    python: /opt/torchserve/venv-0.12.0-1a2b3c4d/bin/python
    environment:
      OMP_NUM_THREADS: "8"
  register: compiled
"""

RETURN = r"""
fingerprint:
  description: 16 hexadecimal digits. Empty where it cannot be known, see RV(detail).
  returned: always
  type: str
  sample: 9240cc4586a5d699
parts:
  description: What it was made of.
  returned: always
  type: dict
  sample:
    torch: 2.6.0 2236df1770800ffea5697b11b0bb0d910b2e59e1
    triton: 3.2.0
    cuda: "12.4"
    gpus: [NVIDIA H100 80GB HBM3 9.0]
    cpu: x86_64 AVX512
    cpu_flags: 25fc08b1fed3d885
    threads: 8
    python: CPython 3.13.5
    compiler: g++ (Debian 14.2.0-19) 14.2.0
started:
  description: The fingerprint that the workers of the TorchServe use that runs now. Empty where none runs that uses compile caches.
  returned: always
  type: str
  sample: 9240cc4586a5d699
of_workers:
  description: What that was made of. Empty where RV(started) is.
  returned: always
  type: dict
detail:
  description: Why the fingerprint is not known. Such a host starts cold.
  returned: always
  type: str
  sample: ""
"""

import os

from ansible_collections.modelfleet.serving.plugins.module_utils._compile_cache import STARTED, parse_fingerprint, started
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule

# What timeout ends with when it had to end the program.
TIMED_OUT = 124


def ask(module):
    """(fingerprint, parts, why there is none)"""
    python, program = module.params["python"], module.params["program"]
    for path in (python, program):
        if not os.path.exists(path):
            return "", {}, f"this host has no {path}; run the role modelfleet.serving.torchserve"
    environment = {name: str(value) for name, value in module.params["environment"].items()}
    command = ["timeout", "--kill-after=5", str(max(1, module.params["timeout"])), python, "-I", program]
    code, out, err = module.run_command(command, environ_update=environment, errors="surrogate_then_replace")
    if code == TIMED_OUT:
        return "", {}, f"{python} gave no answer within {module.params['timeout']} s; see whether import torch ends there"
    try:
        # A library may have said something before it.
        found = parse_fingerprint((out.splitlines() or [""])[-1])
    except ValueError:
        said = " ".join((err or out).split())[-300:]
        return "", {}, f"{python} ended with {code}: {said}"
    return (*found, "")


def main():
    module = DiscreetModule(
        argument_spec={
            "python": {"type": "path", "required": True},
            "environment": {"type": "dict", "default": {}},
            "program": {"type": "path", "default": "/opt/torchserve/compile_cache.py"},
            "started": {"type": "path", "default": STARTED},
            "timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    now, of_workers = started(module.params["started"])
    fingerprint, parts, detail = ask(module)
    module.exit_json(changed=False, fingerprint=fingerprint, parts=parts, started=now, of_workers=of_workers, detail=detail)


if __name__ == "__main__":
    main()
