#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kubernetes_info
short_description: Read which cluster a kubeconfig leads to, and what a fleet has there
version_added: 0.1.0
description:
  - Reads which cluster it is, its nodes, to whom a namespace belongs, and where the workloads and services in it are.
  - What the account may not read is empty and named in RV(forbidden), where the rest can be told without it.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
  - modelfleet.serving.kubernetes
options:
  namespace:
    description: The namespace of the fleet.
    type: str
    default: modelfleet
  node_selector:
    description: Only nodes with all of these labels.
    type: dict
    default: {}
seealso:
  - module: modelfleet.serving.kubernetes_objects
"""

EXAMPLES = r"""
- name: See which cluster this is
  modelfleet.serving.kubernetes_info:
    context: prod
  register: found

- name: Show its nodes
  ansible.builtin.debug:
    msg: "{{ found.cluster.server }} has {{ found.nodes | map(attribute='name') | join(', ') }}"
"""

RETURN = r"""
cluster:
  description: Which cluster it is.
  returned: success
  type: dict
  contains:
    server:
      description: URL of the API server.
      type: str
    context:
      description: The context.
      type: str
    version:
      description: The version of the API server.
      type: str
    uid:
      description: That of the namespace kube-system, which stays the same for as long as there is this cluster, and which no other has.
      type: str
  sample: {server: "https://10.0.0.1:6443", context: prod, version: v1.34.4, uid: 4d3a7a0e-8a53-4d2b-9f1c-2a6f6d1d7c11}
namespace:
  description: The namespace.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    exists:
      description: Whether there is one.
      type: bool
    ours:
      description: Whether this collection has made it.
      type: bool
    helm:
      description: The release of Helm that owns it or something in it, V(?) where its name is not known, empty without one.
      type: str
    pod_security:
      description: The level of PodSecurity that is enforced in it.
      type: str
  sample: {name: modelfleet, exists: true, ours: true, helm: "", pod_security: privileged}
nodes:
  description: The nodes, in the order of their names.
  returned: success
  type: list
  elements: dict
  sample:
    - {name: gpu-1, address: 10.0.0.31, ready: true, gpus: 4, pod_networks: [10.244.1.0/24]}
services:
  description: The services of the fleet in the namespace, by name.
  returned: success
  type: dict
  sample: {scheduler-0: {cluster_ip: 10.96.0.12}}
rollouts:
  description: Where each workload of the fleet is.
  returned: success
  type: list
  elements: dict
  sample:
    - {kind: DaemonSet, name: dfdaemon, wanted: 12, updated: 12, ready: 12, done: true}
pods:
  description: The pods of the fleet, in the order of their names.
  returned: success
  type: list
  elements: dict
  sample:
    - {name: dfdaemon-x7k2p, component: dfdaemon, node: gpu-1, address: 10.0.0.31, ready: true, waits: ""}
claims:
  description: The volume claims of the fleet.
  returned: success
  type: list
  elements: str
  sample: [store-seed-0]
forbidden:
  description: What the account may not read, as a sentence each.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.modelfleet.serving.plugins.module_utils import _kubernetes, _kubernetes_kinds
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule

COMPONENT = "app.kubernetes.io/component"
OURS = f"{_kubernetes_kinds.MANAGED_BY}={_kubernetes_kinds.FIELD_MANAGER}"
ENFORCED = "pod-security.kubernetes.io/enforce"


class Reader:
    def __init__(self, cluster, params):
        self.cluster = cluster
        self.params = params
        self.name = params["namespace"]
        self.forbidden = []

    def listed(self, kind, namespace=None, selector=""):
        try:
            return self.cluster.list(kind, namespace, selector)
        except _kubernetes.Refused as exc:
            if exc.status != 403:
                raise
            self.forbidden.append(str(exc))
            return []

    def which(self):
        version = self.cluster.ask("get", "/version", "read the version of the API server")
        try:
            system = self.cluster.get("Namespace", "kube-system") or {}
        except _kubernetes.Refused as exc:
            if exc.status != 403:
                raise
            self.forbidden.append(str(exc))
            system = {}
        return {
            "server": self.cluster.server,
            "context": self.cluster.context,
            "version": version.get("gitVersion", ""),
            "uid": (system.get("metadata") or {}).get("uid", ""),
        }

    def namespace(self):
        found = self.cluster.get("Namespace", self.name)
        labels = ((found or {}).get("metadata") or {}).get("labels") or {}
        return {
            "name": self.name,
            "exists": found is not None,
            "ours": labels.get(_kubernetes_kinds.MANAGED_BY) == _kubernetes_kinds.FIELD_MANAGER,
            "helm": self.helm(found) if found else "",
            "pod_security": labels.get(ENFORCED, ""),
        }

    def helm(self, namespace):
        """A release marks what it made; its record is a Secret that names it."""
        releases = [_kubernetes.belongs_to_helm(namespace)]
        for record in self.listed("Secret", self.name, "owner=helm"):
            releases.append(((record.get("metadata") or {}).get("labels") or {}).get("name", "?"))
        for kind in _kubernetes_kinds.WORKLOADS if not any(releases) else ():
            releases += map(_kubernetes.belongs_to_helm, self.listed(kind, self.name, f"{_kubernetes_kinds.MANAGED_BY}=Helm"))
        return next((one for one in releases if one and one != "?"), next(filter(None, releases), ""))

    def nodes(self):
        selector = ",".join(f"{key}={value}" for key, value in sorted(self.params["node_selector"].items()))
        return [_kubernetes.node(one) for one in sorted(self.listed("Node", selector=selector), key=lambda one: one["metadata"]["name"])]

    def services(self):
        return {
            one["metadata"]["name"]: {"cluster_ip": one["spec"].get("clusterIP", "")} for one in self.listed("Service", self.name, OURS)
        }

    def rollouts(self):
        found = [(kind, one) for kind in _kubernetes_kinds.WORKLOADS for one in self.listed(kind, self.name, OURS)]
        return [_kubernetes.rollout({"kind": kind, **one}) for kind, one in found]

    def pods(self):
        return [_pod(one) for one in sorted(self.listed("Pod", self.name, OURS), key=lambda one: one["metadata"]["name"])]

    def claims(self):
        return sorted(one["metadata"]["name"] for one in self.listed("PersistentVolumeClaim", self.name, OURS))


def _pod(pod):
    status = pod.get("status") or {}
    return {
        "name": pod["metadata"]["name"],
        "component": (pod["metadata"].get("labels") or {}).get(COMPONENT, ""),
        "node": (pod.get("spec") or {}).get("nodeName", ""),
        "address": status.get("podIP", ""),
        "ready": _kubernetes.condition(status, "Ready") and not pod["metadata"].get("deletionTimestamp"),
        "waits": _kubernetes.pod_waits(pod),
    }


def run(cluster, params):
    reader = Reader(cluster, params)
    result = {"changed": False, "cluster": reader.which(), "namespace": reader.namespace(), "nodes": reader.nodes()}
    empty = {"services": {}, "rollouts": [], "pods": [], "claims": []}
    for name, nothing in empty.items():
        result[name] = getattr(reader, name)() if result["namespace"]["exists"] else nothing
    return {**result, "forbidden": reader.forbidden}


def main():
    module = DiscreetModule(
        argument_spec={
            **_kubernetes.OPTIONS,
            "namespace": {"type": "str", "default": "modelfleet"},
            "node_selector": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    try:
        result = run(_kubernetes.Cluster(module.params), module.params)
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
