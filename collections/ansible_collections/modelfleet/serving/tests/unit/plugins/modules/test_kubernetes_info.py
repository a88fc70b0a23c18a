# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _kubernetes
from ansible_collections.modelfleet.serving.plugins.modules import kubernetes_info
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_kubernetes import FakeKubernetes

OURS = {"app.kubernetes.io/managed-by": "modelfleet.serving"}


@pytest.fixture
def cluster(monkeypatch):
    fake = FakeKubernetes()
    monkeypatch.setattr(_kubernetes, "Cluster", lambda _params: fake)
    return fake


@pytest.fixture
def run(cluster, run_module):
    return lambda **options: run_module(kubernetes_info.main, options)


def add_node(cluster, name, gpus="0", labels=None):
    status = {
        "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": f"10.0.0.{len(cluster.things)}"}],
        "allocatable": {"nvidia.com/gpu": gpus},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    cluster.add("Node", name, labels=labels, status=status, spec={"podCIDRs": ["10.244.1.0/24"]})


def test_which_cluster_it_is(cluster, run):
    add_node(cluster, "b", "4")
    add_node(cluster, "a", labels={"gpu": "yes"})
    result = run()
    assert result["cluster"] == {"server": "https://10.0.0.1:6443", "context": "prod", "version": "v1.34.4", "uid": "u-1"}
    assert [(one["name"], one["gpus"], one["ready"]) for one in result["nodes"]] == [("a", 0, True), ("b", 4, True)]
    assert result["nodes"][1]["address"] == "10.0.0.1" and result["nodes"][1]["pod_networks"] == ["10.244.1.0/24"]
    assert result["namespace"] == {"name": "modelfleet", "exists": False, "ours": False, "helm": "", "pod_security": ""}
    assert not result["changed"] and result["forbidden"] == []
    assert [one["name"] for one in run(node_selector={"gpu": "yes"})["nodes"]] == ["a"]


def test_to_whom_a_namespace_belongs(cluster, run):
    cluster.add("Namespace", "modelfleet", labels=OURS)
    assert run()["namespace"]["ours"] and run()["namespace"]["helm"] == ""
    cluster.add("StatefulSet", "of-helm", "modelfleet", labels={"app.kubernetes.io/managed-by": "Helm"})
    assert run()["namespace"]["helm"] == "?"
    cluster.add("Secret", "sh.helm.release.v1.d7y.v1", "modelfleet", labels={"owner": "helm", "name": "d7y"})
    assert run()["namespace"]["helm"] == "d7y"
    cluster.add("Namespace", "modelfleet", annotations={"meta.helm.sh/release-name": "chart"})
    assert run()["namespace"]["helm"] == "chart" and not run()["namespace"]["ours"]


def test_what_the_fleet_has_there(cluster, run):
    cluster.add("Namespace", "modelfleet", labels=OURS)
    cluster.add("Service", "seed-0", "modelfleet", labels=OURS, spec={"clusterIP": "10.96.0.9"})
    cluster.add("Service", "of-others", "modelfleet", spec={"clusterIP": "10.96.0.8"})
    numbers = {"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 2, "observedGeneration": 1}
    cluster.add("DaemonSet", "dfdaemon", "modelfleet", labels=OURS, status=numbers, spec={})
    cluster.add("PersistentVolumeClaim", "store-seed-0", "modelfleet", labels=OURS)
    status = {"podIP": "10.0.0.2", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes have room"}]}
    cluster.add(
        "Pod", "dfdaemon-x", "modelfleet", labels={**OURS, "app.kubernetes.io/component": "dfdaemon"}, status=status, spec={"nodeName": "a"}
    )
    result = run()
    assert result["services"] == {"seed-0": {"cluster_ip": "10.96.0.9"}} and result["claims"] == ["store-seed-0"]
    assert result["rollouts"] == [{"kind": "DaemonSet", "name": "dfdaemon", "wanted": 3, "updated": 3, "ready": 2, "done": False}]
    (pod,) = result["pods"]
    assert pod["component"] == "dfdaemon" and pod["waits"] == "has no node: 0/3 nodes have room" and not pod["ready"]


def test_what_may_not_be_read(cluster, run):
    cluster.refusals["get", "Node", None] = (403, 'nodes is forbidden: User "x" cannot list resource "nodes"')
    result = run()
    assert result["nodes"] == [] and 'nodes is forbidden: User "x"' in result["forbidden"][0]
    cluster.refusals["get", "Namespace", "modelfleet"] = (401, "Unauthorized")
    assert run()["msg"] == (
        "Failed to read the Namespace modelfleet at https://10.0.0.1:6443: Unauthorized. The credentials of the context prod are not known "
        "to it, "
        "or have ended; renew them."
    )
