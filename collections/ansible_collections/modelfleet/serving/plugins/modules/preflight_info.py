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
      - /var/lib/modelfleet/models
  required_bytes:
    description: Bytes that O(data_dir) must be able to hold in all. What it already holds counts.
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
    description: Time of the controller in seconds since the epoch. Without it, the clocks are not compared.
    type: float
  clock_tolerance:
    description:
      - Largest difference, in seconds, between the clock of the host and O(controller_epoch).
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
        description: The systemd unit that may already listen there, for example V(dfdaemon.service).
        type: str
        required: true
  names:
    description: Host names that this host must be able to resolve. IP addresses are accepted and need no resolving.
    type: list
    elements: str
    default: []
  gpu:
    description: Whether the host must have a working NVIDIA GPU and driver.
    type: bool
    default: false
  nvidia_smi:
    description: The program C(nvidia-smi), by name or by path.
    type: str
    default: nvidia-smi
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
    clock: {offset_s: 0.21, synchronized: true}
    disk: {filesystem: ext4, free_bytes: 812345678901, held_bytes: 0, mount: /var, path: /var/lib}
    gpus: []
    memory_bytes: 270582939648
    os: Debian GNU/Linux 13 (trixie)
    python: 3.13.5
    systemd: 257
"""

import ipaddress
import os
import platform
import re
import socket
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.modelfleet.serving.plugins.module_utils import _proc
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._gpu import read_gpus
from ansible_collections.modelfleet.serving.plugins.module_utils._text import human_bytes

SUPPORTED_OS = {"debian": ("12", "13"), "ubuntu": ("22.04", "24.04")}
EL_IDS = ("rhel", "centos", "rocky", "almalinux", "ol")
SUPPORTED_OS_TEXT = "Debian 12 and 13, Ubuntu 22.04 and 24.04, and Enterprise Linux 9"
MIN_PYTHON = (3, 9)
MIN_SYSTEMD = 249
ARCHITECTURES = ("x86_64", "aarch64")
NO_HARD_LINKS = ("vfat", "exfat", "msdos", "ntfs", "ntfs3", "fuseblk")
NETWORK_FILESYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "lustre", "fuse.sshfs", "fuse.s3fs", "fuse.juicefs")


def parse_os_release(lines):
    """Return what /etc/os-release says; a value may be quoted."""
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, value in pairs}


def existing_parent(path):
    """The nearest directory above ``path``, or itself, that exists."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def held_bytes(directory):
    """Bytes on disk of the files under ``directory``; a file with several names counts once."""
    sizes = {}
    for parent, _directories, names in os.walk(directory):
        for name in names:
            try:
                status = os.lstat(os.path.join(parent, name))
            except OSError:  # gone since
                continue
            sizes[(status.st_dev, status.st_ino)] = status.st_blocks * 512
    return sum(sizes.values())


class Preflight:
    """Runs every check and keeps what each of them found."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.findings = []
        self.facts = {}

    def run(self):
        for check in (
            self.operating_system,
            self.python,
            self.systemd,
            self.architecture,
            self.memory,
            self.disk,
            self.filesystem,
            self.clock,
            self.ports,
            self.names,
            self.gpus,
        ):
            check()
        self.findings.sort(key=lambda finding: finding["severity"] != "error")

    def error(self, check, message):
        self.findings.append({"check": check, "severity": "error", "message": message})

    def warning(self, check, message):
        self.findings.append({"check": check, "severity": "warning", "message": message})

    def operating_system(self):
        release = parse_os_release(_proc.read_lines("/etc/os-release"))
        system, version = release.get("ID", "unknown"), release.get("VERSION_ID", "")
        self.facts["os"] = name = release.get("PRETTY_NAME", f"{system} {version}")
        enterprise = system in EL_IDS or "rhel" in release.get("ID_LIKE", "").split()
        if version in SUPPORTED_OS.get(system, ()) or (enterprise and version.split(".")[0] == "9"):
            return
        report = self.warning if self.params["allow_unsupported_os"] else self.error
        report(
            "os",
            f"The operating system {name} is not supported; use {SUPPORTED_OS_TEXT}, or set preflight_allow_unsupported_os.",
        )

    def python(self):
        self.facts["python"] = version = platform.python_version()
        if tuple(int(part) for part in platform.python_version_tuple()[:2]) < MIN_PYTHON:
            wanted = ".".join(str(part) for part in MIN_PYTHON)
            self.error("python", f"Python {version} runs the modules; point ansible_python_interpreter at {wanted} or newer.")

    def systemd(self):
        self.facts["systemd"] = None
        if not os.path.isdir("/run/systemd/system"):
            self.error("systemd", "systemd is not the init system of this host; boot it with systemd, which runs the daemons.")
            return
        rc, out, _err = self.module.run_command(["systemctl", "--version"])
        match = re.match(r"systemd (\d+)", out)
        if rc != 0 or not match:
            self.error("systemd", "systemctl --version gave no version; repair the systemd installation of this host.")
            return
        self.facts["systemd"] = version = int(match.group(1))
        if version < MIN_SYSTEMD:
            self.error(
                "systemd",
                f"systemd {version} is too old for the sandbox of the units; upgrade the host to one with {MIN_SYSTEMD} or newer.",
            )

    def architecture(self):
        self.facts["architecture"] = machine = platform.machine()
        if machine not in ARCHITECTURES:
            self.error("architecture", f"There are no Dragonfly programs for the architecture {machine}; use {' or '.join(ARCHITECTURES)}.")

    def memory(self):
        self.facts["memory_bytes"] = size = _proc.memory_bytes()
        wanted = self.params["required_memory_bytes"]
        if size is not None and size < wanted:
            self.warning(
                "memory",
                f"The host has {human_bytes(size)} of memory and {human_bytes(wanted)} are advised; add memory or run fewer workers.",
            )

    def disk(self):
        data_dir, required = self.params["data_dir"], self.params["required_bytes"]
        path = existing_parent(data_dir)
        status = os.statvfs(path)
        mount = _proc.mount_of(path)
        free, held = status.f_bavail * status.f_frsize, held_bytes(data_dir)
        self.facts["disk"] = {"path": path, "mount": mount["point"], "filesystem": mount["type"], "free_bytes": free, "held_bytes": held}
        if free + held < required:
            self.error(
                "disk",
                f"{data_dir} needs {human_bytes(required - held)} more and the filesystem {mount['point']} has {human_bytes(free)} free; "
                "free some space, mount a larger disk there, or lower dfdaemon_disk_budget.",
            )

    def filesystem(self):
        places = {}
        for path in self.params["one_filesystem"]:
            parent = existing_parent(path)
            mount = _proc.mount_of(parent)
            # Both: a bind mount keeps the device number and a btrfs subvolume keeps the mount, and neither lets a hard link pass.
            places.setdefault((mount["point"], os.stat(parent).st_dev), (mount, []))[1].append(path)
        if len(places) > 1:
            where = "; ".join(f"{', '.join(paths)} on {mount['point']}" for mount, paths in places.values())
            self.error(
                "filesystem",
                f"The piece store and the model store lie on different filesystems ({where}), so a model cannot be hard-linked; "
                f"mount one disk at {self.params['data_dir']} and none below it.",
            )
        for mount, paths in places.values():
            where = f"{', '.join(paths)} on {mount['point']} ({mount['type']})"
            if mount["read_only"]:
                self.error("filesystem", f"The filesystem of {where} is mounted read-only; mount it writable.")
            if mount["type"] in NO_HARD_LINKS:
                self.error("filesystem", f"The filesystem of {where} has no hard links; use ext4 or xfs.")
            if mount["type"] in NETWORK_FILESYSTEMS:
                self.warning(
                    "filesystem", f"The filesystem of {where} is a network filesystem; use a local disk, which is what peers share from."
                )

    def clock(self):
        # In a container the clock belongs to the machine below it, which may be synchronised in a way that is not visible here.
        synchronized = None if os.path.exists("/run/systemd/container") else _proc.clock_synchronized()
        epoch, tolerance = self.params["controller_epoch"], self.params["clock_tolerance"]
        offset = None if epoch is None else round(time.time() - epoch, 2)
        self.facts["clock"] = {"offset_s": offset, "synchronized": synchronized}
        if offset is not None and abs(offset) > tolerance:
            self.error(
                "clock",
                f"The clock differs by {offset:.0f} s from the controller's, more than {tolerance} s, and object stores refuse requests "
                "signed at the wrong time; start a time service such as chrony on both.",
            )
        elif synchronized is False:
            self.warning(
                "clock",
                "No time service keeps the clock of this host; start chrony or systemd-timesyncd before it drifts and signatures fail.",
            )

    def ports(self):
        listeners = _proc.listeners()
        taken = []
        for wanted in self.params["ports"]:
            try:
                address = ipaddress.ip_address(wanted["address"])
            except ValueError:
                self.error(
                    "port", f"The address {wanted['address']} of {wanted['unit']} is not an IP address; correct it in the inventory."
                )
                continue
            matching = (one for one in listeners if one["port"] == wanted["port"] and _proc.overlaps(one["address"], address))
            taken.extend((wanted, one) for one in matching)
        owners = _proc.socket_owners([one["inode"] for _wanted, one in taken]) if taken else {}
        foreign = {}
        for wanted, one in taken:
            owner = owners.get(one["inode"])
            if owner is None or owner["unit"] != wanted["unit"]:
                foreign.setdefault((wanted["port"], wanted["unit"]), (wanted, owner))
        for wanted, owner in foreign.values():
            self.error(
                "port",
                f"Port {wanted['port']} on {wanted['address']} is taken by {describe(owner)}; stop that process "
                f"or give {wanted['unit']} another port.",
            )

    def names(self):
        for name in dict.fromkeys(self.params["names"]):
            try:
                socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as exc:
                reason = getattr(exc, "strerror", None) or exc
                self.error(
                    "name", f"The name {name} does not resolve ({reason}); correct it in the inventory, or add it to DNS or /etc/hosts."
                )

    def gpus(self):
        self.facts.update(driver=None, cuda=None, gpus=[])
        if not self.params["gpu"]:
            return
        try:
            self.facts.update(read_gpus(self.module.run_command, self.params["nvidia_smi"]))
        except ModelFleetError as exc:
            self.error("gpu", str(exc))
            return
        if not self.facts["gpus"]:
            program = self.params["nvidia_smi"]
            self.error("gpu", f"No NVIDIA GPU was found with {program}; install the driver, or set torchserve_device to cpu for this host.")


def describe(owner):
    if owner is None:
        return "a process that only root can see"
    return f"{owner['program']} (pid {owner['pid']}, {owner['unit'] or 'no systemd unit'})"


def main():
    module = AnsibleModule(
        argument_spec={
            "data_dir": {"type": "path", "default": "/var/lib/modelfleet"},
            "one_filesystem": {
                "type": "list",
                "elements": "path",
                "default": ["/var/lib/modelfleet/pieces", "/var/lib/modelfleet/incoming", "/var/lib/modelfleet/models"],
            },
            "required_bytes": {"type": "int", "default": 0},
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
            "gpu": {"type": "bool", "default": False},
            "nvidia_smi": {"type": "str", "default": "nvidia-smi"},
            "fail_on_error": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    preflight = Preflight(module)
    preflight.run()
    result = {"findings": preflight.findings, "facts": preflight.facts}
    for finding in preflight.findings:
        if finding["severity"] == "warning":
            module.warn(finding["message"])
    errors = [finding["message"] for finding in preflight.findings if finding["severity"] == "error"]
    if errors and module.params["fail_on_error"]:
        count = "1 problem" if len(errors) == 1 else f"{len(errors)} problems"
        module.fail_json(msg=f"This host is not ready, {count} found: {' '.join(errors)}", **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
