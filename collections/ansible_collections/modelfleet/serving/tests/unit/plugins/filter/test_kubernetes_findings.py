# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.kubernetes_findings import kubernetes_findings
from ansible_collections.modelfleet.serving.tests.unit.plugins.kubernetes_settings import DIGEST, found, serving, settings

HOSTS = {
    "schedulers": ["s-1"],
    "peers": ["seed-1", "gpu-9"],
    "addresses": {"s-1": "10.0.0.1", "gpu-9": "10.0.0.9"},
    "mtls": {"s-1": True, "gpu-9": True},
    "firewall": True,
    "callers": ["10.0.0.31", "10.0.0.32"],
}


def hybrid(**changes):
    return settings(schedulers=0, seeds=0, addresses={}, hosts={**HOSTS, **changes})


def test_nothing_is_wrong():
    for given in (settings(), serving(), hybrid()):
        assert kubernetes_findings(given) == []
        assert kubernetes_findings(given, found()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": {"client": "docker.io/dragonflyoss/client:v1.5.10", "scheduler": f"x{DIGEST}"}}, "has no digest, and what a tag"),
        ({"images": {"client": f"x{DIGEST}", "scheduler": ""}}, "The variable dragonfly_kubernetes_scheduler_image is empty"),
        ({"namespace": "kube-system"}, "The namespace kube-system in dragonfly_kubernetes_namespace is the cluster's own"),
        ({"namespace": "Fleet_1"}, "which is none; write small letters"),
        ({"seeds": -1}, "The variable dragonfly_kubernetes_seeds is -1"),
        ({"seed_storage": {"class": "", "size": "big"}}, "write a size such as 120Gi"),
        ({"max_unavailable": "0"}, "write a number of nodes from 1 on"),
        ({"node_path": "/var/lib/"}, "which belongs to the node"),
        ({"more_admitted": ["10.0.0.0/33"]}, "is no address and no prefix"),
        ({"more_admitted": ["0.0.0.0/0"]}, "is everybody"),
        ({"schedulers": 0}, "There is no scheduler in the cluster and none on a host"),
        ({"own_certificates": True}, "The certificates are your own (modelfleet_pki_ca_path), so none is issued for pods"),
        ({"pods": {"client": {}}}, "The key client in dragonfly_kubernetes_pods is none of scheduler, seed, dfdaemon, torchserve"),
        ({"pods": {"seed": {"hostNetwork": True}}}, "The key hostNetwork of seed in dragonfly_kubernetes_pods is what this role says"),
        ({"resources": {"seed": "2Gi"}}, "The key seed in dragonfly_kubernetes_resources is no dictionary"),
    ],
)
def test_what_is_wrong_with_the_variables(changes, said):
    (finding,) = kubernetes_findings(settings(**changes))
    assert said in finding and finding.count(". ") <= 1


def test_a_key_that_the_daemon_does_not_know():
    given = settings()
    given["configs"]["seed"]["storage"]["keeep"] = True
    (finding,) = kubernetes_findings(given)
    assert finding.startswith("The key storage.keeep of the configuration of seed ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schedulers": 1, "hosts": HOSTS}, "two lists of schedulers are two swarms"),
        ({"seeds": 1, "hosts": HOSTS}, "There are seed peers in the cluster, at addresses that only the cluster knows"),
        ({"schedulers": 1, "seeds": 0, "hosts": {**HOSTS, "schedulers": []}}, "gpu-9, seed-1 cannot reach them; put a scheduler on a host"),
        ({"hosts": {**HOSTS, "mtls": {"gpu-9": False}}}, "The variable modelfleet_mtls is another one for gpu-9 than for the cluster"),
    ],
)
def test_what_hosts_and_pods_cannot_reach_of_each_other(changes, said):
    given = {**hybrid(), **changes}
    assert any(said in one for one in kubernetes_findings(given))


def test_nodes_and_hosts():
    (finding,) = kubernetes_findings(hybrid(callers=["10.0.0.31"]), found())
    assert "The firewall of the hosts does not admit the nodes gpu-2; add their addresses (10.0.0.32) to modelfleet_firewall" in finding
    assert kubernetes_findings(hybrid(callers=[], firewall=False), found()) == []
    (finding,) = kubernetes_findings(hybrid(addresses={"gpu-9": "10.0.0.32"}), found())
    assert "The node gpu-2 is the host gpu-9 of the inventory (10.0.0.32)" in finding
    nowhere = found(nodes=[{"name": "a", "address": "", "gpus": 0}])
    assert "The nodes a have no InternalIP" in kubernetes_findings(settings(), nowhere)[0]
    assert "No node has all labels" in kubernetes_findings(settings(), found(nodes=[]))[0]


def test_a_cluster_that_is_not_meant():
    (finding,) = kubernetes_findings(settings(cluster_uid=""), found())
    assert finding == (
        "Refused to change the cluster at https://10.0.0.1:6443 (context prod, v1.34.4, uid u-1): the inventory names none. If that is the "
        "one, write "
        "dragonfly_kubernetes_cluster_uid: u-1."
    )
    (finding,) = kubernetes_findings(settings(cluster_uid="u-2"), found())
    assert "dragonfly_kubernetes_cluster_uid is u-2, another cluster." in finding
    assert "confirm it by dragonfly_kubernetes_cluster_uid=u-1" in finding
    unread = found()
    unread["cluster"]["uid"] = ""
    assert "may not read the namespace kube-system" in kubernetes_findings(settings(), unread)[0]


def test_a_namespace_of_others():
    of_helm = {"name": "modelfleet", "exists": True, "ours": False, "helm": "d7y", "pod_security": ""}
    (finding,) = kubernetes_findings(settings(), found(namespace=of_helm))
    assert finding.startswith("The namespace modelfleet of https://10.0.0.1:6443 belongs to the release d7y of Helm;")
    (finding,) = kubernetes_findings(settings(), found(namespace={**of_helm, "helm": ""}))
    assert "was made by somebody else" in finding
    assert kubernetes_findings(settings(), found(namespace={**of_helm, "helm": "", "ours": True})) == []


def test_gpus_that_the_nodes_do_not_have():
    assert kubernetes_findings(serving(gpus=1), found()) == []
    (finding,) = kubernetes_findings(serving(gpus=4), found())
    assert "TorchServe is to run on 2 nodes with 4 GPUs each, and 0 of 2 nodes have them" in finding
    assert "modelfleet_plugin_downloads is false" in kubernetes_findings(serving(plugin=False))[0]
