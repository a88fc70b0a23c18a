#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Read the NVIDIA GPUs of a host
description:
  - Reads driver, CUDA version and GPUs with their memory, MIG, ECC, fabric and processes from C(nvidia-smi).
  - What a driver or a GPU does not have is nothing.
  - A host without a GPU or without C(nvidia-smi) has an empty list, which is not a failure. A C(nvidia-smi) that fails is one.
version_added: 0.1.0
author: ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
options:
  nvidia_smi:
    description: The program C(nvidia-smi), a path or a name to look up.
    type: str
    default: nvidia-smi
seealso:
  - module: modelfleet.serving.preflight_info
"""

EXAMPLES = r"""
- name: Read the GPUs
  modelfleet.serving.gpu_info:
  register: gpu

- name: Show them
  ansible.builtin.debug:
    msg: "{{ gpu.gpus | map(attribute='name') | list }}, driver {{ gpu.driver }}"
"""

RETURN = r"""
driver:
  description: Version of the driver; nothing without one.
  returned: success
  type: str
  sample: 570.86.15
cuda:
  description: Newest CUDA version that the driver supports; nothing without a driver.
  returned: success
  type: str
  sample: "12.8"
gpus:
  description: The GPUs.
  returned: success
  type: list
  elements: dict
  contains:
    index:
      description: Number of the GPU, as in C(CUDA_VISIBLE_DEVICES).
      type: int
    name:
      description: Name of the product.
      type: str
    uuid:
      description: Its unique id.
      type: str
    bus_id:
      description: Its PCI address.
      type: str
    memory_total_mib:
      description: Memory in MiB; nothing on GPUs that share the host's memory.
      type: int
    memory_used_mib:
      description: Memory in use in MiB.
      type: int
    temperature_c:
      description: Temperature in degrees Celsius; nothing where the driver does not tell.
      type: int
    temperature_margin_c:
      description:
        - Degrees Celsius that are left until the GPU is as warm as it may be, after which it slows down. It counts its hottest part.
        - Nothing on GPUs that do not tell, which are those before Ada and Hopper.
      type: int
    mig:
      description: Whether MIG is enabled.
      type: bool
    mig_pending:
      description: Whether MIG will be enabled after the next reset of the GPU.
      type: bool
    mig_instances:
      description: How many MIG devices there are.
      type: int
    compute_mode:
      description: Who may use the GPU, for example V(Default) or V(Exclusive_Process).
      type: str
    persistence:
      description: Whether the driver stays loaded while nobody uses the GPU.
      type: bool
    ecc_uncorrectable:
      description: Uncorrectable memory errors since the driver was loaded; nothing without ECC.
      type: int
    repair_pending:
      description: Whether memory that failed waits for a reset of the GPU to be replaced.
      type: bool
    repair_failed:
      description: Whether memory that failed can no longer be replaced.
      type: bool
    recovery:
      description: What the driver says must be done before the GPU works again, for example V(Reset); nothing if it works.
      type: str
    fabric:
      description: State of the NVLink fabric, for example V(Completed); nothing on GPUs and drivers without it.
      type: str
    fabric_status:
      description: How joining the fabric ended, for example V(Success).
      type: str
    processes:
      description: Who uses the GPU, each with C(pid), C(type), C(name) and C(memory_mib).
      type: list
      elements: dict
  sample:
    - index: 0
      name: NVIDIA H100 80GB HBM3
      uuid: GPU-1e5a2ac9-6a4b-8f0e-2f5d-0d4a5b3c2e1f
      bus_id: 00000000:18:00.0
      memory_total_mib: 81559
      memory_used_mib: 0
      temperature_c: 36
      temperature_margin_c: 51
      mig: false
      mig_pending: false
      mig_instances: 0
      compute_mode: Default
      persistence: true
      ecc_uncorrectable: 0
      repair_pending: false
      repair_failed: false
      recovery: null
      fabric: Completed
      fabric_status: Success
      processes: []
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._gpu import read_gpus
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule


def main():
    module = CheckedModule(argument_spec={"nvidia_smi": {"type": "str", "default": "nvidia-smi"}}, supports_check_mode=True)
    try:
        result = read_gpus(module.run_command, module.params["nvidia_smi"])
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
