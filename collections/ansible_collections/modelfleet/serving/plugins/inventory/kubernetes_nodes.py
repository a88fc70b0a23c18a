# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kubernetes_nodes
short_description: The nodes of a Kubernetes cluster as hosts
version_added: 0.1.0
description:
  - Makes a host of each node of a cluster, for machines that are nodes and are to have Dragonfly and TorchServe on the metal.
  - Each has C(ansible_host) and C(modelfleet_address), the internal address of the node, and C(kubernetes_node), a dictionary with its
    C(name), C(labels), C(taints), C(gpus), C(ready) and C(unschedulable). By these O(groups) and O(keyed_groups) sort them.
  - All of them are in the group C(kubernetes_nodes).
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - ansible.builtin.constructed
  - modelfleet.serving.kubernetes
options:
  plugin:
    description: That this file is for this plugin. Its name must end with C(kubernetes_nodes.yml) or C(kubernetes_nodes.yaml).
    type: str
    required: true
    choices: [modelfleet.serving.kubernetes_nodes]
  label_selector:
    description: Only nodes whose labels are so, as the API server takes it.
    type: str
    default: ""
notes:
  - A host that is no longer in the inventory is shut out of the fleet by the firewalls of the others. So do not sort by C(ready), which may
    change at any time.
  - What the API server says is never a template.
  - Where the cluster cannot be asked, Ansible warns and goes on with the hosts of other sources. With
    E(ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED) set to V(true) it stops, which is what a fleet needs.
  - A machine is a host of the group C(gpu_hosts) or has a dfdaemon as a pod, not both.
"""

EXAMPLES = r"""
# inventory/prod/kubernetes_nodes.yml
plugin: modelfleet.serving.kubernetes_nodes
context: prod
label_selector: node-role.kubernetes.io/control-plane!=
groups:
  gpu_hosts: kubernetes_node.gpus > 0
  dragonfly_seed_peers: "'modelfleet.example.com/seed' in kubernetes_node.labels"
keyed_groups:
  - key: kubernetes_node.labels['topology.kubernetes.io/zone'] | default('none')
    prefix: zone
compose:
  ansible_user: "'ops'"
"""

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible_collections.modelfleet.serving.plugins.module_utils import _kubernetes
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

GROUP = "kubernetes_nodes"
ENDINGS = ("kubernetes_nodes.yml", "kubernetes_nodes.yaml")


class InventoryModule(BaseInventoryPlugin, Constructable):
    NAME = "modelfleet.serving.kubernetes_nodes"

    def verify_file(self, path):
        return super().verify_file(path) and path.endswith(ENDINGS)

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        try:
            cluster = self.cluster()
            nodes = cluster.list("Node", selector=self.get_option("label_selector"))
        except ModelFleetError as exc:
            raise AnsibleParserError(str(exc)) from exc
        self.inventory.add_group(GROUP)
        for node in sorted(nodes, key=lambda one: one["metadata"]["name"]):
            self.add(node)

    def cluster(self):
        return _kubernetes.Cluster({"kubeconfig": self.get_option("kubeconfig"), "context": self.get_option("context")})

    def add(self, node):
        said = _kubernetes.node(node)
        spec, host = node.get("spec") or {}, said["name"]
        self.inventory.add_host(host, group=GROUP)
        variables = {"ansible_host": said["address"], "modelfleet_address": said["address"]} if said["address"] else {}
        variables["kubernetes_node"] = {
            **{key: said[key] for key in ("name", "gpus", "ready")},
            "labels": node["metadata"].get("labels") or {},
            "taints": spec.get("taints") or [],
            "unschedulable": bool(spec.get("unschedulable")),
        }
        for name, value in variables.items():
            self.inventory.set_variable(host, name, value)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)
