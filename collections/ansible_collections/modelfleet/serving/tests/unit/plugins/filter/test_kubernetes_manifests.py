# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter.kubernetes_manifests import kubernetes_manifests, models_of
from ansible_collections.modelfleet.serving.plugins.module_utils import _kubernetes, _kubernetes_kinds
from ansible_collections.modelfleet.serving.tests.unit.plugins.kubernetes_settings import MODEL, serving, settings


def objects(given, part="all"):
    return {(one["kind"], one["metadata"]["name"]): one for one in kubernetes_manifests(given, part)}


def pod(found, kind, name):
    return found[kind, name]["spec"]["template"]["spec"]


def test_everything_is_an_object_that_can_be_applied():
    for part in ("base", "all"):
        for one in kubernetes_manifests(serving(), part):
            assert _kubernetes.problem(one) is None, one
            assert one["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "modelfleet.serving"
    assert set(objects(settings(), "base")) < set(objects(settings()))


def test_each_pod_has_its_own_address_in_its_configuration():
    found = objects(settings())
    schedulers = found["ConfigMap", "scheduler"]["data"]
    assert set(schedulers) == {"scheduler-0.yaml", "scheduler-1.yaml", "dynconfig.yaml"}
    assert "10.96.0.2" in schedulers["scheduler-1.yaml"] and "scheduler-1" in schedulers["scheduler-1.yaml"]
    assert "10.96.0.3" in found["ConfigMap", "seed"]["data"]["seed-0.yaml"]
    node = found["ConfigMap", "dfdaemon"]["data"]["dfdaemon.yaml"]
    assert "192.0.2.1" in node and "modelfleet-node" in node
    prepare = pod(found, "DaemonSet", "dfdaemon")["initContainers"][0]["command"][2]
    assert "s/192[.]0[.]2[.]1/$NODE_ADDRESS/g" in prepare and "s/modelfleet-node/$NODE_NAME/g" in prepare
    assert "10.96.0.1:8002" in found["ConfigMap", "dfdaemon"]["data"]["dynconfig.yaml"]


def test_a_pod_can_hard_link():
    found = pod(objects(settings()), "DaemonSet", "dfdaemon")
    (container,) = found["containers"]
    assert found["hostNetwork"] and not {"hostPID", "hostIPC"} & set(found)
    mounts = [one["mountPath"] for one in container["volumeMounts"] if one["mountPath"].startswith("/var/lib/modelfleet")]
    assert mounts == ["/var/lib/modelfleet"]
    assert {"name": "store", "hostPath": {"path": "/var/lib/modelfleet", "type": "DirectoryOrCreate"}} in found["volumes"]


def test_no_container_has_more_than_it_needs():
    found = objects(serving())
    for (kind, name), one in found.items():
        if kind not in _kubernetes_kinds.WORKLOADS:
            continue
        spec = one["spec"]["template"]["spec"]
        assert spec["automountServiceAccountToken"] is False and spec["serviceAccountName"] == name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            context = {**spec["securityContext"], **container["securityContext"]}
            assert context["runAsNonRoot"] and context["runAsUser"] > 0 and context["capabilities"] == {"drop": ["ALL"]}
            assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True
            assert "@sha256:" in container["image"]


def test_what_makes_another_pod():
    """A configuration does; what a daemon reads again, a certificate and a node that joins do not."""

    def annotation(given):
        return pod_template(given)["metadata"]["annotations"]

    def pod_template(given):
        return objects(given)["DaemonSet", "dfdaemon"]["spec"]["template"]

    before = annotation(settings())
    changed = settings()
    changed["configs"]["dfdaemon_dynconfig"]["scheduler"]["addrs"] = ["10.96.0.9:8002"]
    assert annotation(changed) == before
    joined = settings(nodes=["gpu-1", "gpu-2", "gpu-3"], admitted=["10.0.0.33"])
    joined["tls"]["certificates"]["gpu-3"] = "KEY-gpu-3"
    assert pod_template(joined) == pod_template(settings())
    assert "gpu-3.pem" in objects(joined)["Secret", "dfdaemon-tls"]["data"]
    changed["configs"]["dfdaemon"]["storage"]["keep"] = False
    assert annotation(changed) != before


def test_keys_are_in_secrets_and_go_where_they_are_needed():
    found = objects(settings())
    assert set(found["Secret", "scheduler-tls"]["data"]) == {"ca.pem", "scheduler-0.pem", "scheduler-1.pem"}
    assert base64.b64decode(found["Secret", "seed-tls"]["data"]["seed-0.pem"]) == b"KEY-seed-0"
    assert "KEY-" not in json.dumps([one for key, one in found.items() if key[0] != "Secret"])
    volume = next(one for one in pod(found, "DaemonSet", "dfdaemon")["volumes"] if one["name"] == "tls")
    assert volume["secret"] == {"secretName": "dfdaemon-tls", "defaultMode": 0o440}
    own = objects(settings(tls_secret="mine"))
    assert [key for key in own if key[0] == "Secret"] == []
    assert next(one for one in pod(own, "StatefulSet", "seed")["volumes"] if one["name"] == "tls")["secret"]["secretName"] == "mine"
    assert "tls" not in [one["name"] for one in pod(objects(settings(mtls=False)), "DaemonSet", "dfdaemon")["volumes"]]


def test_a_configuration_with_a_secret_is_a_secret():
    given = settings()
    given["configs"]["dfdaemon"]["backend"] = {"requestHeader": {"Authorization": "Bearer s3cret"}}
    found = objects(given)
    assert ("ConfigMap", "dfdaemon") not in found and b"s3cret" in base64.b64decode(found["Secret", "dfdaemon"]["data"]["dfdaemon.yaml"])
    assert {"secretName": "dfdaemon", "defaultMode": 0o440} in [one.get("secret") for one in pod(found, "DaemonSet", "dfdaemon")["volumes"]]
    assert ("ConfigMap", "seed") in found


def test_who_may_call():
    found = objects(settings())
    assert found["NetworkPolicy", "default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    (rule,) = found["NetworkPolicy", "scheduler"]["spec"]["ingress"]
    assert [one["port"] for one in rule["ports"]] == [8002]
    cidrs = [one["ipBlock"]["cidr"] for one in rule["from"] if "ipBlock" in one]
    assert cidrs == ["10.0.0.31/32", "10.0.0.32/32", "10.244.1.0/32", "10.244.1.1/32"]
    assert [one["port"] for one in found["NetworkPolicy", "seed"]["spec"]["ingress"][0]["ports"]] == [4000, 4005]
    assert found["Namespace", "modelfleet"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"


def test_a_cluster_beside_hosts_has_dfdaemons_alone():
    given = settings(schedulers=0, seeds=0, addresses={})
    assert sorted({key[1] for key in objects(given) if key[0] in (*_kubernetes_kinds.WORKLOADS, "Service")}) == ["dfdaemon"]


def test_more_of_a_pod_is_merged():
    found = pod(
        objects(settings(pods={"dfdaemon": {"tolerations": [{"operator": "Exists"}], "securityContext": {"fsGroup": 1}}})),
        "DaemonSet",
        "dfdaemon",
    )
    assert found["tolerations"] == [{"operator": "Exists"}] and found["securityContext"]["fsGroup"] == 1
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_torchserve():
    found = objects(serving(gpus=2))
    spec = pod(found, "Deployment", "torchserve")
    server, models = spec["containers"]
    assert server["resources"] == {"limits": {"nvidia.com/gpu": 2}} and models["resources"] == {}
    config = json.loads(base64.b64decode(found["Secret", "torchserve-endpoint"]["data"]["config.json"]))
    assert config["object_storage"]["secret_key"] == "very-secret" and config["addr"] == "http://127.0.0.1:4001"
    assert "very-secret" not in json.dumps([one for key, one in found.items() if key[0] != "Secret"])
    listed = json.loads(found["ConfigMap", "torchserve"]["data"]["models.json"])["models"]
    assert listed[0]["file"] == "demo-1.0-bbbbbbbbbbbb.mar" and listed[0]["query"]["sha256"] == "b" * 64
    # dfdaemon's pieces are not for model code.
    assert {"name": "nothing", "mountPath": "/var/lib/modelfleet/pieces", "readOnly": True} in server["volumeMounts"]
    assert "endpoint" not in [one["name"] for one in models["volumeMounts"]]


def test_another_list_of_models_makes_no_other_pod():
    template = [objects(serving(models=models))["Deployment", "torchserve"]["spec"]["template"] for models in ([], [MODEL])]
    assert template[0] == template[1]


def test_what_only_hosts_serve():
    models = [
        {**MODEL, "workers": 1},
        {"name": "llm", "version": "1", "runtime": "openai", "object": "o", "sha256": "c" * 64},
        {"name": "tree", "version": "1", "bundle": "b", "sha256": "c" * 64},
        {"name": "old", "version": "1", "object": "o", "state": "absent"},
    ]
    here, elsewhere = models_of(models)
    assert [(one["name"], one["state"]) for one in here] == [("demo", "present"), ("old", "absent")]
    assert [one["name"] for one in elsewhere] == ["llm", "tree"]


def test_a_key_that_the_daemon_does_not_know():
    given = settings()
    given["configs"]["dfdaemon"]["storage"]["keeep"] = True
    with pytest.raises(AnsibleFilterError, match=r"storage\.keeep"):
        kubernetes_manifests(given)
