#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_info
short_description: Find everything that would stop a host from serving models
version_added: 0.1.0
description:
  - Looks at a host before anything is changed on it and reports every finding at once, never only the first.
  - It reads only, and needs no program beyond Python and systemd.
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
options:
  data_dir:
    description: Directory that will hold the piece store and the model store. It need not exist yet.
    type: path
    default: /var/lib/modelfleet
  one_filesystem:
    description:
      - Directories that must lie on one mounted filesystem that supports hard links, because a model is one file with two names.
      - A directory that does not exist yet is judged by the nearest parent that does.
    type: list
    elements: path
    default:
      - /var/lib/modelfleet/pieces
      - /var/lib/modelfleet/incoming
      - /var/lib/modelfleet/blobs
      - /var/lib/modelfleet/manifests
      - /var/lib/modelfleet/models
      - /var/lib/modelfleet/huggingface
  required_bytes:
    description: Bytes that O(data_dir) must be able to hold in all. What it already holds counts.
    type: int
    default: 0
  unpack_dir:
    description: Directory into which TorchServe unpacks models. It need not exist yet.
    type: path
    default: /var/lib/torchserve/tmp
  unpack_bytes:
    description: Bytes that O(unpack_dir) must be able to hold in all. What it already holds counts.
    type: int
    default: 0
  required_memory_bytes:
    description: Memory below this size is a warning.
    type: int
    default: 0
  allow_unsupported_os:
    description: Report an operating system that is not supported as a warning instead of an error.
    type: bool
    default: false
  controller_epoch:
    description:
      - Time of the controller before the call, in seconds since the epoch. A host whose clock is behind it has the wrong time.
      - A clock that is ahead cannot be told from a call that took long. Compare C(clock.epoch) of RV(facts) with the time after the call.
    type: float
  clock_tolerance:
    description:
      - How far the clock of the host may be behind O(controller_epoch), in seconds.
      - Object stores refuse requests that are signed at the wrong time.
    type: int
    default: 60
  ports:
    description: TCP ports that must be free, or taken by the unit they are meant for.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: The port.
        type: int
        required: true
      address:
        description: Address that the daemon will listen on.
        type: str
        default: 0.0.0.0
      unit:
        description: The systemd unit that may already listen there, for example V(dfdaemon.service). It may have C(*) in it.
        type: str
        required: true
  names:
    description: Host names that this host must be able to resolve. IP addresses are accepted and need no resolving.
    type: list
    elements: str
    default: []
  java:
    description: Path of the Java that runs TorchServe. Without it, none is looked for.
    type: str
    default: ""
  java_from_packages:
    description: Whether a package that is about to be installed brings a Java.
    type: bool
    default: false
  curl:
    description: Whether this host must have the program curl already, which asks dfdaemon for artifacts.
    type: bool
    default: false
  programs:
    description: Programs that must be on this host already.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the program.
        type: str
        required: true
      variable:
        description: The variable that names it, for the message.
        type: str
        required: true
  images:
    description:
      - Container images, by digest or id, that podman of this host must have or must be able to bring. Nothing is brought.
      - Where podman uses a proxy, or C(/etc/containers/registries.conf) leads elsewhere, it is not tried whether a registry answers.
    type: list
    elements: dict
    default: []
    suboptions:
      image:
        description: The image. One that has no digest is left to whoever checks the variables.
        type: str
        required: true
      variable:
        description: The variable that names it, for the message.
        type: str
        required: true
      archive:
        description: Whether it comes as a file of the controller where it is not here.
        type: bool
        default: false
  podman_from_packages:
    description: Whether a package that is about to be installed brings podman.
    type: bool
    default: false
  cdi:
    description: Whether the NVIDIA devices must be described for containers.
    type: bool
    default: false
  look_for:
    description:
      - Paths of which C(found) in RV(facts) is to say which are there, such as those that an earlier inventory left. None is a finding.
    type: list
    elements: path
    default: []
  cryptography:
    description: Whether this host's Python must have the library cryptography already, which signs URLs for Google Cloud Storage.
    type: bool
    default: false
  firewall:
    description: Whether the host is to have a table of nftables, for which it needs the program C(nft) and a kernel with nf_tables.
    type: bool
    default: false
  firewall_from_packages:
    description: Whether a package that is about to be installed brings C(nft).
    type: bool
    default: false
  firewall_members:
    description: IP addresses that this host calls. The kernel is asked from which address it would, and nothing is sent.
    type: list
    elements: str
    default: []
  firewall_addresses:
    description: IP addresses from which the others are called by this host, as far as they know.
    type: list
    elements: str
    default: []
  firewall_users:
    description: Users by name or number that must exist.
    type: list
    elements: str
    default: []
  gpu:
    description: Whether the host must have a working NVIDIA GPU and driver.
    type: bool
    default: false
  cuda:
    description: Version of CUDA that torch is built for, for example V(12.4). It is compared with what the driver supports.
    type: str
    default: ""
  nvidia_smi:
    description: The program C(nvidia-smi), by name or by path.
    type: str
    default: nvidia-smi
  service_path:
    description: Where TorchServe's unit looks for programs, as in C(PATH). With O(gpu) it must have C(nvidia-smi), which TorchServe runs.
    type: str
    default: /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  fail_on_error:
    description: Fail when there is a finding of severity V(error). The findings are returned either way.
    type: bool
    default: true
author:
  - ModelFleet developers (@modelfleet)
seealso:
  - module: modelfleet.serving.gpu_info
"""

EXAMPLES = r"""
- name: Check that the host can hold 200 GB of models
  modelfleet.serving.preflight_info:
    required_bytes: 200000000000

- name: Check a GPU host before the first change
  modelfleet.serving.preflight_info:
    gpu: true
    controller_epoch: "{{ (now(utc=true) - '1970-01-01' | to_datetime('%Y-%m-%d')).total_seconds() }}"
    ports:
      - {port: 4000, unit: dfdaemon.service}
      - {port: 8080, address: 127.0.0.1, unit: torchserve.service}
    names:
      - models.s3.us-east-1.amazonaws.com
"""

RETURN = r"""
findings:
  description: Everything found, errors first.
  returned: always
  type: list
  elements: dict
  contains:
    check:
      description: What was checked.
      type: str
      sample: port
    severity:
      description: Either V(error) or V(warning).
      type: str
      sample: error
    message:
      description: One sentence with what is wrong, where, and what to do.
      type: str
      sample: Port 4000 on 0.0.0.0 is taken by nginx (pid 812, nginx.service); stop that process or give dfdaemon.service another port.
facts:
  description: What the checks saw.
  returned: always
  type: dict
  sample:
    architecture: x86_64
    curl: true
    clock: {epoch: 1767225600.5, synchronized: true}
    found: []
    disk: {filesystem: ext4, free_bytes: 812345678901, held_bytes: 0, mount: /var, path: /var/lib}
    gpus: []
    memory_bytes: 270582939648
    nftables: true
    os: Debian GNU/Linux 13 (trixie)
    os_family: Debian
    python: 3.13.5
    systemd: 257
ansible_facts:
  description: What the roles need to know of a host, under the names of M(ansible.builtin.setup), so that they gather no facts.
  returned: success
  type: dict
  sample: {architecture: x86_64, os_family: Debian}
"""

import os

from ansible_collections.modelfleet.serving.plugins.module_utils import (
    _preflight_containers,
    _preflight_disk,
    _preflight_gpu,
    _preflight_network,
    _preflight_system,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule


class Preflight:
    """Runs every check and keeps what each of them found."""

    def __init__(self, module):
        self.params = module.params
        self.run_command = module.run_command
        self.findings = []
        self.facts = {}

    def run(self):
        for job in (_preflight_system, _preflight_disk, _preflight_network, _preflight_gpu, _preflight_containers):
            for check in job.CHECKS:
                check(self)
        self.findings.sort(key=lambda finding: finding["severity"] != "error")

    def error(self, check, message):
        self.findings.append({"check": check, "severity": "error", "message": message})

    def warning(self, check, message):
        self.findings.append({"check": check, "severity": "warning", "message": message})


def main():
    module = CheckedModule(
        argument_spec={
            "data_dir": {"type": "path", "default": "/var/lib/modelfleet"},
            "one_filesystem": {
                "type": "list",
                "elements": "path",
                "default": [
                    f"/var/lib/modelfleet/{name}" for name in ("pieces", "incoming", "blobs", "manifests", "models", "huggingface")
                ],
            },
            "required_bytes": {"type": "int", "default": 0},
            "unpack_dir": {"type": "path", "default": "/var/lib/torchserve/tmp"},
            "unpack_bytes": {"type": "int", "default": 0},
            "required_memory_bytes": {"type": "int", "default": 0},
            "allow_unsupported_os": {"type": "bool", "default": False},
            "controller_epoch": {"type": "float"},
            "clock_tolerance": {"type": "int", "default": 60},
            "ports": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "port": {"type": "int", "required": True},
                    "address": {"type": "str", "default": "0.0.0.0"},
                    "unit": {"type": "str", "required": True},
                },
            },
            "names": {"type": "list", "elements": "str", "default": []},
            "java": {"type": "str", "default": ""},
            "java_from_packages": {"type": "bool", "default": False},
            "curl": {"type": "bool", "default": False},
            "programs": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": {"type": "str", "required": True}, "variable": {"type": "str", "required": True}},
            },
            "images": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "image": {"type": "str", "required": True},
                    "variable": {"type": "str", "required": True},
                    "archive": {"type": "bool", "default": False},
                },
            },
            "podman_from_packages": {"type": "bool", "default": False},
            "cdi": {"type": "bool", "default": False},
            "look_for": {"type": "list", "elements": "path", "default": []},
            "cryptography": {"type": "bool", "default": False},
            "firewall": {"type": "bool", "default": False},
            "firewall_from_packages": {"type": "bool", "default": False},
            "firewall_members": {"type": "list", "elements": "str", "default": []},
            "firewall_addresses": {"type": "list", "elements": "str", "default": []},
            "firewall_users": {"type": "list", "elements": "str", "default": []},
            "gpu": {"type": "bool", "default": False},
            "cuda": {"type": "str", "default": ""},
            "nvidia_smi": {"type": "str", "default": "nvidia-smi"},
            "service_path": {"type": "str", "default": _preflight_gpu.SERVICE_PATH},
            "fail_on_error": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    preflight = Preflight(module)
    preflight.run()
    preflight.facts["found"] = [path for path in module.params["look_for"] if os.path.lexists(path)]
    result = {"findings": preflight.findings, "facts": preflight.facts}
    for finding in preflight.findings:
        if finding["severity"] == "warning":
            module.warn(finding["message"])
    errors = [finding["message"] for finding in preflight.findings if finding["severity"] == "error"]
    if errors and module.params["fail_on_error"]:
        count = "1 problem" if len(errors) == 1 else f"{len(errors)} problems"
        module.fail_json(msg=f"This host is not ready, {count} found: {' '.join(errors)}", **result)
    known = {name: preflight.facts[name] for name in ("architecture", "os_family")}
    module.exit_json(changed=False, ansible_facts=known, **result)


if __name__ == "__main__":
    main()
