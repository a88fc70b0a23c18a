# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: monitoring_targets
short_description: What Prometheus reads of a fleet
version_added: 0.1.0
description:
  - Makes of the inventory the pages of metrics behind the door of each host, see the role P(modelfleet.serving.monitoring#role). The door
    of a host leads to these pages, and Prometheus asks for them, so neither knows more than the other.
  - A host whose variables name no usable address is an error that names the host.
positional: _input
options:
  _input:
    description: The variables of every host that is watched, by host.
    type: dict
    required: true
  schedulers:
    description: Which of them run a scheduler.
    type: list
    elements: str
    default: []
  managers:
    description: Which of them run the manager.
    type: list
    elements: str
    default: []
  seeds:
    description: Which of them are seed peers.
    type: list
    elements: str
    default: []
  gpus:
    description: Which of them serve models.
    type: list
    elements: str
    default: []
author:
  - ModelFleet developers (@modelfleet)
seealso:
  - plugin: modelfleet.serving.addresses
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show what Prometheus reads of a host
  ansible.builtin.debug:
    msg: "{{ {'gpu-1': hostvars['gpu-1']} | modelfleet.serving.monitoring_targets(gpus=['gpu-1']) }}"
"""

RETURN = r"""
_value:
  description:
    - A page each. C(host) has it, C(name) is the daemon, C(path) that of its page at the door C(target) (host and port), C(upstream)
      where it lies behind the door, empty for what the door serves itself.
    - C(entry) is the page as file_sd of Prometheus has it.
  type: list
  elements: dict
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.module_utils import _addresses
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime import runtime_name

TRITON_PORT = 8202
HOST = "host"


def monitoring_targets(hosts, schedulers=(), managers=(), seeds=(), gpus=()):
    found = []
    for host, variables in hosts.items():
        try:
            target = _addresses.addresses(variables, "monitoring")["door"]["authority"]
            pages = list(_pages(variables, host in schedulers, host in managers, host in seeds, host in gpus))
        except ModelFleetError as exc:
            raise AnsibleFilterError(f"Failed to find the metrics of {host}: {exc}") from exc
        for name, upstream, labels in pages:
            path = f"/{name}/metrics"
            entry = {"targets": [target], "labels": {"__metrics_path__": path, "instance": host, "daemon": name, **labels}}
            found.append({"host": host, "name": name, "path": path, "target": target, "upstream": upstream, "entry": entry})
    return found


def _pages(variables, scheduler, manager, seed, gpu):
    """Yield (name, address behind the door, labels) of each page of a host."""
    if not variables.get("monitoring_textfile_directory"):
        yield HOST, "", {}
    if scheduler:
        yield "scheduler", _metrics(variables, "scheduler"), {}
    if manager:
        yield "manager", _metrics(variables, "manager"), {}
    if seed or gpu:
        # What a seed peer takes from the origin is its work; what another peer takes from there is not.
        yield "dfdaemon", _metrics(variables, "dfdaemon"), {"peer": "seed" if seed else "gpu"}
    if gpu:
        yield "torchserve", _metrics(variables, "torchserve"), {}
        if any(runtime_name(model) == "triton" for model in variables.get("modelfleet_models") or []):
            yield "triton", f"127.0.0.1:{variables.get('triton_metrics_port') or TRITON_PORT}", {}
    for page in variables.get("monitoring_pages") or []:
        yield str(page["name"]), str(page["address"]), {}


def _metrics(variables, daemon):
    return _addresses.addresses(variables, daemon)["metrics"]["authority"]


class FilterModule:
    def filters(self):
        return {"monitoring_targets": monitoring_targets}
