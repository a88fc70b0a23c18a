# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The play kubernetes against a real API server with real controllers, from an empty cluster to one that is empty again.

The tests are in the order in which they run: each begins where the one before it ended. Nodes are played, so nothing runs in a pod.
"""

from __future__ import annotations

import json
import re
import urllib.error
from pathlib import Path

import pytest
import yaml
from cluster import KubernetesCluster, programs_of

REPOSITORY = Path(__file__).resolve().parent.parent
ACCOUNT = REPOSITORY / "collections/ansible_collections/modelfleet/serving/roles/dragonfly_kubernetes/files/account.yml"
IMAGES = {
    "dragonfly_kubernetes_scheduler_image": f"docker.io/dragonflyoss/scheduler@sha256:{'a' * 64}",
    "dragonfly_kubernetes_client_image": f"docker.io/dragonflyoss/client@sha256:{'b' * 64}",
}
NAMESPACE = "/api/v1/namespaces/modelfleet"
PLURALS = {"Namespace": "/api/v1/namespaces", "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles"}
PLURALS["ClusterRoleBinding"] = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
for _kind in ("Role", "RoleBinding"):
    PLURALS[_kind] = f"/apis/rbac.authorization.k8s.io/v1/namespaces/modelfleet/{_kind.lower()}s"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    programs = programs_of()
    if programs is None:
        pytest.skip("there are no programs of Kubernetes here: run lab/kubernetes/programs")
    running = KubernetesCluster(programs, tmp_path_factory.mktemp("cluster"))
    try:
        running.start()
        for number in (1, 2):
            running.add_node(f"gpu-{number}", f"10.0.0.3{number}")
            running.add_volume(f"volume-{number}")
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def play(cluster, run, tmp_path_factory):
    directory = tmp_path_factory.mktemp("inventory")
    uid = cluster.ask("/api/v1/namespaces/kube-system")["metadata"]["uid"]

    def call(name, *options, user="admin", uid=uid, **variables):
        host = {
            **IMAGES,
            "dragonfly_kubernetes_kubeconfig": cluster.kubeconfig(user),
            "dragonfly_kubernetes_cluster_uid": uid,
            "modelfleet_storage": {"http": {"url": "https://files.example.com"}},
            "modelfleet_pki_directory": str(directory / "pki"),
            **variables,
        }
        inventory = {"kubernetes_clusters": {"hosts": {"cluster-1": host}}}
        (directory / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
        return run("ansible-playbook", "-i", directory / "hosts.yml", f"modelfleet.serving.{name}", *options)

    return call


def changed(done):
    assert done.returncode == 0, done.stdout
    return int(re.search(r"cluster-1\s+: ok=\d+\s+changed=(\d+)", done.stdout)[1])


def message(done):
    """What the play said when it stopped, in one line."""
    assert done.returncode != 0, done.stdout
    return " ".join(done.stdout.split())


def names(cluster, path):
    return sorted(one["metadata"]["name"] for one in cluster.ask(path)["items"])


def test_a_cluster_that_nobody_named_is_named_and_left_alone(cluster, play):
    done = play("kubernetes", uid="")
    assert f"Refused to change the cluster at {cluster.server} (context admin, v" in message(done)
    assert "modelfleet" not in names(cluster, "/api/v1/namespaces")
    done = play("kubernetes", uid="00000000-0000-0000-0000-000000000000")
    assert "another cluster. Correct kubeconfig or context" in message(done)


def test_an_image_by_its_tag_is_refused(cluster, play):
    done = play("kubernetes", dragonfly_kubernetes_client_image="docker.io/dragonflyoss/client:v1.5.10")
    assert "has no digest, and what a tag names may be another image tomorrow" in message(done)


def test_check_mode_before_there_is_anything(cluster, play):
    done = play("kubernetes", "--check", "--diff")
    assert changed(done) > 0
    assert "StatefulSet seed in modelfleet" in done.stdout and "PRIVATE KEY" not in done.stdout
    assert "modelfleet" not in names(cluster, "/api/v1/namespaces")


def test_what_is_applied_is_rolled_out_and_stays(cluster, play):
    assert changed(play("kubernetes")) > 0
    assert names(cluster, f"{NAMESPACE}/services") == ["scheduler", "scheduler-0", "seed", "seed-0", "seed-1"]
    pods = cluster.ask(f"{NAMESPACE}/pods")["items"]
    assert len(pods) == 5 and {pod["status"]["phase"] for pod in pods} == {"Running"}
    # What a node's own certificate and address are for.
    assert set(cluster.ask(f"{NAMESPACE}/secrets/dfdaemon-tls")["data"]) == {"ca.pem", "gpu-1.pem", "gpu-2.pem"}
    service = cluster.ask(f"{NAMESPACE}/services/scheduler-0")["spec"]["clusterIP"]
    assert f"{service}:8002" in cluster.ask(f"{NAMESPACE}/configmaps/dfdaemon")["data"]["dynconfig.yaml"]
    again = play("kubernetes")
    assert changed(again) == 0, again.stdout


def test_what_serves_is_taken_by_the_api_server_and_shows_no_secret(play):
    """Without effect, since no pod of this cluster runs what is in it."""
    models = [{"name": "demo", "version": "1.0", "object": "models/demo.mar", "sha256": "b" * 64, "workers": 2, "default": True}]
    storage = {"s3": {"bucket": "models", "region": "us-east-1", "access_key": "AKIALAB", "secret_key": "PLANTED-secret"}}
    image = f"docker.io/pytorch/torchserve@sha256:{'c' * 64}"
    done = play(
        *("kubernetes", "--check", "--diff"),
        dragonfly_kubernetes_torchserve_image=image,
        modelfleet_models=models,
        modelfleet_storage=storage,
    )
    assert changed(done) > 0
    assert "Deployment torchserve in modelfleet" in done.stdout and image in done.stdout
    assert "Secret torchserve-endpoint in modelfleet" in done.stdout and "PLANTED" not in done.stdout


def test_a_diff_of_one_changed_value(cluster, play):
    done = play("kubernetes", "--check", "--diff", dfdaemon_disk_budget="200GiB")
    assert changed(done) > 0
    removed, added = (re.findall(rf"^\{sign} .*diskThreshold.*$", done.stdout, re.MULTILINE) for sign in "-+")
    assert len(removed) == len(added) >= 1 and "100GiB" in removed[0] and "200GiB" in added[0]
    assert "200GiB" not in cluster.ask(f"{NAMESPACE}/configmaps/dfdaemon")["data"]["dfdaemon.yaml"]


def test_a_misspelt_field_is_one_sentence(play):
    done = play("kubernetes", dragonfly_kubernetes_pods={"seed": {"priorityClasName": "high"}})
    said = message(done)
    assert re.search(r"Failed to apply the StatefulSet seed in modelfleet at \S+: \S*priorityClasName: field not declared in schema", said)
    assert "Nothing was changed." in said and "Traceback" not in said


def test_an_account_that_may_not_is_one_sentence(play):
    said = message(play("kubernetes", user="stranger"))
    assert 'User "stranger" cannot get resource "namespaces"' in said and "Let an administrator grant that to the account" in said


def test_the_account_of_the_documentation_may_all_that_is_needed(cluster, play):
    for definition in yaml.safe_load(ACCOUNT.read_text(encoding="utf-8"))["items"]:
        cluster.create(PLURALS[definition["kind"]], definition)
    done = play("kubernetes", user="deployer", dfdaemon_disk_budget="200GiB")
    assert changed(done) > 0
    with pytest.raises(urllib.error.HTTPError):
        cluster.ask("/api/v1/namespaces/kube-system/secrets", user="deployer")


def test_nodes_are_hosts_of_an_inventory(cluster, run, tmp_path):
    sample = (REPOSITORY / "inventory/dynamic/kubernetes_nodes.yml").read_text(encoding="utf-8")

    def listed(user):
        (tmp_path / "kubernetes_nodes.yml").write_text(f"{sample}kubeconfig: {cluster.kubeconfig(user)}\n", encoding="utf-8")
        return run("ansible-inventory", "-i", tmp_path / "kubernetes_nodes.yml", "--list")

    done = listed("admin")
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert found["kubernetes_nodes"]["hosts"] == ["gpu-1", "gpu-2"]
    # Not to be taken for a template, as everything that the API server says.
    assert found["_meta"]["hostvars"]["gpu-2"]["modelfleet_address"] == {"__ansible_unsafe": "10.0.0.32"}
    assert found["gpu_hosts"]["hosts"] == ["gpu-1", "gpu-2"]
    done = listed("stranger")
    assert done.returncode != 0 and 'User "stranger" cannot list resource "nodes"' in " ".join(done.stdout.split())


def test_a_namespace_of_helm_is_refused(cluster, play):
    release = {"name": "sh.helm.release.v1.d7y.v1", "labels": {"owner": "helm", "name": "d7y"}}
    cluster.create("/api/v1/namespaces", {"metadata": {"name": "dragonfly-system"}})
    cluster.create("/api/v1/namespaces/dragonfly-system/secrets", {"metadata": release})
    said = message(play("kubernetes", dragonfly_kubernetes_namespace="dragonfly-system"))
    assert "The namespace dragonfly-system of" in said and "belongs to the release d7y of Helm" in said


def test_fewer_seed_peers_leave_nothing_behind(cluster, play):
    assert changed(play("kubernetes", dragonfly_kubernetes_seeds=1, dfdaemon_disk_budget="200GiB")) > 0
    assert names(cluster, f"{NAMESPACE}/services") == ["scheduler", "scheduler-0", "seed", "seed-0"]


def test_uninstall(cluster, play):
    assert "Refused to uninstall cluster-1" in message(play("kubernetes_uninstall"))
    looked = play("kubernetes_uninstall", "--check")
    assert changed(looked) > 0 and "seed-0" in str(names(cluster, f"{NAMESPACE}/services"))
    done = play("kubernetes_uninstall", "-e", "modelfleet_uninstall_confirm=true")
    assert changed(done) > 0 and "Left in the cluster: the namespace modelfleet" in done.stdout
    assert names(cluster, f"{NAMESPACE}/services") == [] and names(cluster, f"{NAMESPACE}/secrets") == []
    done = play("kubernetes_uninstall", "-e", "modelfleet_uninstall_confirm=true", "-e", "modelfleet_uninstall_purge=true")
    assert changed(done) == 1
    assert "modelfleet" not in names(cluster, "/api/v1/namespaces")
    assert changed(play("kubernetes_uninstall", "-e", "modelfleet_uninstall_confirm=true")) == 0


def test_values_for_the_chart(play, tmp_path):
    chart = tmp_path / "chart"
    chart.mkdir()
    (chart / "values.yaml").write_text("replicaCount: 1\n", encoding="utf-8")
    path = tmp_path / "values.yml"
    variables = {"dragonfly_kubernetes_values_path": str(path)}
    compared = play("kubernetes_values", dragonfly_kubernetes_chart_path=str(chart), **variables)
    assert "name the directory of Dragonfly's chart" in message(compared)
    done = play("kubernetes_values", **variables)
    assert changed(done) == 1 and "Mutual TLS: the chart mounts no certificates" in " ".join(done.stdout.split())
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert values["client"]["image"]["digest"] == f"sha256:{'b' * 64}" and path.stat().st_mode & 0o777 == 0o600
    assert changed(play("kubernetes_values", **variables)) == 0
