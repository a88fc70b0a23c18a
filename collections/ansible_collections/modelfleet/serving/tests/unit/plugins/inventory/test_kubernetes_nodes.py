# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader

from ..fake_kubernetes import FakeKubernetes

ZONE = "topology.kubernetes.io/zone"
GROUPS = {"gpu_hosts": "kubernetes_node.gpus > 0", "dragonfly_seed_peers": "'seed' in kubernetes_node.labels"}
KEYED = [{"key": f"kubernetes_node.labels['{ZONE}'] | default('none')", "prefix": "zone"}]


def status(address, gpus=0, ready="True"):
    addresses = [{"type": "Hostname", "address": "x"}, {"type": "InternalIP", "address": address}] if address else []
    return {
        "addresses": addresses,
        "allocatable": {"nvidia.com/gpu": str(gpus)} if gpus else {"cpu": "4"},
        "conditions": [{"type": "Ready", "status": ready}],
    }


@pytest.fixture
def cluster():
    fake = FakeKubernetes()
    fake.add("Node", "gpu-2", labels={ZONE: "b"}, status=status("10.0.0.32", gpus=4, ready="Unknown"), spec={"unschedulable": True})
    fake.add("Node", "gpu-1", labels={ZONE: "a"}, status=status("10.0.0.31", gpus=8), spec={"taints": [{"key": "gpu"}]})
    fake.add("Node", "store-1", labels={"seed": "", "text": "{{ 7 * 7 }}"}, status=status("10.0.0.21"))
    fake.add("Node", "odd-1", status=status(""))
    return fake


@pytest.fixture
def inventory(cluster, tmp_path):
    def read(**options):
        path = tmp_path / "kubernetes_nodes.yml"
        path.write_text(yaml.safe_dump({"plugin": "modelfleet.serving.kubernetes_nodes", **options}), encoding="utf-8")
        plugin = inventory_loader.get("modelfleet.serving.kubernetes_nodes")
        assert plugin.verify_file(str(path))
        if cluster:
            plugin.cluster = lambda: cluster
        found = InventoryData()
        plugin.parse(found, DataLoader(), str(path))
        return found

    return read


def members(found, group):
    return [host.name for host in found.groups[group].hosts] if group in found.groups else []


def test_nodes_are_hosts_in_groups(inventory):
    found = inventory(groups=GROUPS, keyed_groups=KEYED, compose={"ansible_user": "'ops'"}, strict=True)
    assert members(found, "kubernetes_nodes") == ["gpu-1", "gpu-2", "odd-1", "store-1"]
    assert members(found, "gpu_hosts") == ["gpu-1", "gpu-2"] and members(found, "dragonfly_seed_peers") == ["store-1"]
    assert members(found, "zone_a") == ["gpu-1"] and members(found, "zone_none") == ["odd-1", "store-1"]
    host = found.get_host("gpu-2").get_vars()
    assert host["ansible_host"] == host["modelfleet_address"] == "10.0.0.32" and host["ansible_user"] == "ops"
    assert host["kubernetes_node"] == {
        "name": "gpu-2",
        "gpus": 4,
        "ready": False,
        "labels": {ZONE: "b"},
        "taints": [],
        "unschedulable": True,
    }
    assert found.get_host("gpu-1").get_vars()["kubernetes_node"]["taints"] == [{"key": "gpu"}]


def test_a_node_without_an_address_says_so_by_having_none(inventory):
    host = inventory().get_host("odd-1").get_vars()
    assert "modelfleet_address" not in host and "ansible_host" not in host


def test_what_the_server_says_is_no_template(inventory):
    found = inventory(compose={"text": "kubernetes_node.labels.text | default('')"})
    assert found.get_host("store-1").get_vars()["text"] == "{{ 7 * 7 }}"


def test_labels_select(inventory):
    assert members(inventory(label_selector=f"{ZONE}=a"), "kubernetes_nodes") == ["gpu-1"]


def test_only_a_file_of_that_name(tmp_path):
    plugin = inventory_loader.get("modelfleet.serving.kubernetes_nodes")
    for name, taken in (("a.kubernetes_nodes.yaml", True), ("hosts.yml", False)):
        (tmp_path / name).write_text("plugin: modelfleet.serving.kubernetes_nodes\n", encoding="utf-8")
        assert plugin.verify_file(str(tmp_path / name)) is taken


def test_an_account_that_may_not_is_one_sentence(inventory, cluster):
    cluster.refusals["get", "Node", None] = (403, 'nodes is forbidden: User "stranger" cannot list resource "nodes"')
    with pytest.raises(AnsibleError) as stopped:
        inventory()
    assert "Failed to list the nodes at https://10.0.0.1:6443: nodes is forbidden" in str(stopped.value)
    assert "Let an administrator grant that" in str(stopped.value)


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "kubernetes_nodes.yml"
    path.write_text(f"plugin: modelfleet.serving.kubernetes_nodes\nkubeconfig: {tmp_path}/none\n", encoding="utf-8")
    plugin = inventory_loader.get("modelfleet.serving.kubernetes_nodes")
    with pytest.raises(AnsibleError, match=r"Failed to read the kubeconfig .*none: "):
        plugin.parse(InventoryData(), DataLoader(), str(path))


def test_a_wrong_word_is_named(inventory):
    with pytest.raises(AnsibleError, match="gpus_typo"):
        inventory(groups={"gpu_hosts": "kubernetes_node.gpus_typo > 0"}, strict=True)
