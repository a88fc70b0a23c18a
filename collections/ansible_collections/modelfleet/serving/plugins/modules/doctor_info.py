#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: doctor_info
short_description: Look for the causes of what is wrong on a host
version_added: 0.1.0
description:
  - Reads how the daemons are by systemd, their journals and the kernel, what this host reaches, how full its disks are, and what expires.
  - It judges nothing and fails for nothing that it finds; P(modelfleet.serving.doctor_report#filter) judges.
  - Lines of a journal are returned without the query of a URL and without what follows the name of a secret.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
options:
  daemons:
    description: The daemons of this host.
    type: list
    elements: dict
    default: []
    suboptions:
      unit:
        description: Name of the unit, with its suffix.
        type: str
        required: true
      release:
        description: The link to the current release, whose name is its version. Empty for a daemon without one.
        type: path
        default: ""
      started_record:
        description:
          - The file in which M(modelfleet.serving.daemon) has every start note what the daemon was started from. Empty without one.
        type: path
        default: ""
  reach:
    description: Where this host must get a connection.
    type: list
    elements: dict
    default: []
    suboptions:
      what:
        description: What listens there, for example V(scheduler).
        type: str
        required: true
      name:
        description: The host that it is on, or the name of the server.
        type: str
        required: true
        aliases: [host]
      addresses:
        description: Each with host and port, an IPv6 address in brackets.
        type: list
        elements: str
        default: []
      port:
        description: The port of the server O(reach[].name), instead of O(reach[].addresses).
        type: int
      tls:
        description: Whether it shows a certificate.
        type: bool
        default: false
  schedulers_file:
    description: The file in which dfdaemon finds its schedulers. Empty for a host without dfdaemon.
    type: path
    default: ""
  filesystems:
    description: Directories whose filesystems are looked at. One that does not exist stands for the nearest parent that does.
    type: list
    elements: path
    default: []
  key_file:
    description: The file with TorchServe's keys. They are never printed. Empty for a host without TorchServe.
    type: path
    default: ""
  certificates:
    description: Files with certificates of this host's daemons. What else is in them, such as a key, is never printed.
    type: list
    elements: path
    default: []
  timeout_s:
    description: Longest time for one connection, in seconds. They are tried at the same time.
    type: int
    default: 5
seealso:
  - module: modelfleet.serving.preflight_info
  - plugin: modelfleet.serving.doctor_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Look at dfdaemon and at what it needs
  modelfleet.serving.doctor_info:
    daemons:
      - unit: dfdaemon.service
        release: /opt/dragonfly/client/current
        started_record: /run/dragonfly/started.sha256
    reach:
      - {what: scheduler, name: scheduler-1, addresses: ["10.0.0.1:8002"]}
      - {what: origin, name: models.example.com, port: 443, tls: true}
    schedulers_file: /etc/dragonfly/dfdaemon-dynconfig.yaml
    filesystems: [/var/lib/modelfleet]
  register: look
"""

RETURN = r"""
daemons:
  description: The daemons, in the order of O(daemons).
  returned: success
  type: list
  elements: dict
  contains:
    unit:
      description: Name of the unit.
      type: str
    load:
      description: V(loaded), V(not-found), V(masked), or what else systemd says; empty without systemd.
      type: str
    enabled:
      description: Whether it starts at a boot, as systemd says it, for example V(enabled).
      type: str
    active:
      description: V(active), V(inactive), V(failed), V(activating) and so on.
      type: str
    sub:
      description: The same more closely, for example V(auto-restart).
      type: str
    result:
      description: How the last run ended, for example V(exit-code); V(success) for one that was stopped.
      type: str
    exit_status:
      description: The exit code of the last run.
      type: int
    restarts:
      description: How often systemd has restarted it by itself.
      type: int
    pid:
      description: Its process; 0 if it does not run.
      type: int
    since:
      description: Since when it is active, in seconds since the epoch; nothing if it never was.
      type: int
    version:
      description: The release that the process is of; empty if it does not run, or is of none.
      type: str
    installed:
      description: The release that is current; empty without one.
      type: str
    stale:
      description: The files that are not any more what the process was started from.
      type: list
      elements: str
    trouble:
      description: The last line of its journal that tells of trouble, of a daemon that runs since its start; empty without one.
      type: str
  sample:
    - unit: dfdaemon.service
      load: loaded
      enabled: enabled
      active: activating
      sub: auto-restart
      result: exit-code
      exit_status: 1
      restarts: 12
      pid: 0
      since: null
      version: ""
      installed: 1.5.10
      stale: []
      trouble: "Address already in use (os error 98)"
reach:
  description: The addresses of O(reach), each with what became of it.
  returned: success
  type: list
  elements: dict
  contains:
    what:
      description: What listens there.
      type: str
    name:
      description: The host that it is on, or the name of the server.
      type: str
    address:
      description: Host and port.
      type: str
    problem:
      description: Why there was no connection; empty if there was one.
      type: str
    connections:
      description: How many connections this host had to that address before.
      type: int
    certificate_expires:
      description: When the certificate expires, in seconds since the epoch; nothing without one.
      type: int
  sample:
    - {what: scheduler, name: scheduler-1, address: "10.0.0.1:8002", problem: "", connections: 4, certificate_expires: null}
schedulers:
  description: The addresses in O(schedulers_file); nothing without that file.
  returned: success
  type: list
  elements: str
  sample: ["10.0.0.1:8002"]
filesystems:
  description: The filesystems, each once.
  returned: success
  type: list
  elements: dict
  contains:
    point:
      description: Where it is mounted.
      type: str
    paths:
      description: The directories of O(filesystems) that lie on it.
      type: list
      elements: str
    total:
      description: Its size in bytes.
      type: int
    free:
      description: Free bytes, for others than root.
      type: int
    free_inodes:
      description: The share of its inodes that is free; 1.0 where they cannot run out.
      type: float
    read_only:
      description: Whether it is mounted read-only.
      type: bool
  sample:
    - {point: /var, paths: [/var/lib/modelfleet], total: 107374182400, free: 1073741824, free_inodes: 0.98, read_only: false}
keys_expire:
  description: When the first key in O(key_file) expires, in seconds since the epoch; nothing without one.
  returned: success
  type: int
  sample: 2082758400
certificates:
  description: The files of O(certificates).
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The file.
      type: str
    expires:
      description: When the first certificate in it expires, in seconds since the epoch; nothing without one.
      type: int
  sample: [{path: /etc/dragonfly/tls/dfdaemon.pem, expires: 1798761600}]
now:
  description: What the clock of this host says, in seconds since the epoch.
  returned: success
  type: int
  sample: 1767225600
"""

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.modelfleet.serving.plugins.module_utils import _doctor_daemon, _doctor_expiry, _proc
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._preflight_disk import existing_parent
from ansible_collections.modelfleet.serving.plugins.module_utils._reach import connects, split_address


def addresses_of(entry):
    """The addresses of an entry of ``reach``."""
    host = entry["name"] if ":" not in entry["name"] or entry["name"].startswith("[") else f"[{entry['name']}]"
    return [*entry["addresses"], *([f"{host}:{entry['port']}"] if entry["port"] else [])]


def reached(wanted, timeout_s, connected):
    """What became of each of ``wanted``; ``connected`` are the (address, port) of the connections that were there before."""

    def ask(one):
        entry, address = one
        found = {"what": entry["what"], "name": entry["name"], "address": address, "certificate_expires": None}
        found["connections"] = sum(one == split_address(address) for one in connected)
        found["problem"] = connects(address, timeout_s)
        if entry["tls"] and not found["problem"]:
            try:
                found["certificate_expires"] = _doctor_expiry.certificate_expires(address, entry["name"].strip("[]"), timeout_s)
            except (OSError, ValueError) as exc:
                found["problem"] = f"it takes connections, and TLS fails: {getattr(exc, 'reason', None) or exc}"
        return found

    every = [(entry, address) for entry in wanted for address in addresses_of(entry)]
    if not every:
        return []
    with ThreadPoolExecutor(min(len(every), 32)) as pool:
        return list(pool.map(ask, every))


def schedulers_in(path):
    """Whoever wrote it: its own module leaves comments, a person another style."""
    try:
        text = read_text(path) if path else None
    except ModelFleetError:
        return None
    if text is None:
        return None
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return re.findall(r"(?:\[[0-9a-fA-F:.]+\]|[\w.-]+):\d+", " ".join(lines))


def filesystems(paths):
    found = {}
    for path in paths:
        parent = existing_parent(path)
        try:
            status, device = os.statvfs(parent), os.stat(parent).st_dev
        except OSError:
            continue
        mount = _proc.mount_of(parent)
        one = found.setdefault(
            device,
            {
                "point": mount["point"],
                "paths": [],
                "total": status.f_blocks * status.f_frsize,
                "free": status.f_bavail * status.f_frsize,
                "free_inodes": round(status.f_favail / status.f_files, 4) if status.f_files else 1.0,
                "read_only": mount["read_only"],
            },
        )
        one["paths"].append(path)
    return list(found.values())


def main():
    module = CheckedModule(
        argument_spec={
            "daemons": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "unit": {"type": "str", "required": True},
                    "release": {"type": "path", "default": ""},
                    "started_record": {"type": "path", "default": ""},
                },
            },
            "reach": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "what": {"type": "str", "required": True},
                    "name": {"type": "str", "required": True, "aliases": ["host"]},
                    "addresses": {"type": "list", "elements": "str", "default": []},
                    "port": {"type": "int"},
                    "tls": {"type": "bool", "default": False},
                },
            },
            "schedulers_file": {"type": "path", "default": ""},
            "filesystems": {"type": "list", "elements": "path", "default": []},
            "key_file": {"type": "path", "default": "", "no_log": False},
            "certificates": {"type": "list", "elements": "path", "default": []},
            "timeout_s": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        # Before this module makes connections of its own.
        connected = [(str(one["address"]), one["port"]) for one in _proc.connections()]
        result = {
            "reach": reached(params["reach"], params["timeout_s"], connected),
            "daemons": [_doctor_daemon.daemon(module.run_command, one) for one in params["daemons"]],
            "schedulers": schedulers_in(params["schedulers_file"]),
            "filesystems": filesystems(params["filesystems"]),
            "certificates": [{"path": path, "expires": _doctor_expiry.file_expires(path)} for path in params["certificates"]],
            "keys_expire": _doctor_expiry.keys_expire(params["key_file"]) if params["key_file"] else None,
        }
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(changed=False, now=int(time.time()), **result)


if __name__ == "__main__":
    main()
