# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import copy

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _kubernetes, _kubernetes_kinds
from ansible_collections.modelfleet.serving.plugins.modules import kubernetes_objects
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_kubernetes import FakeKubernetes

LABELS = {"app.kubernetes.io/managed-by": "modelfleet.serving", "app.kubernetes.io/part-of": "modelfleet"}
TYPED = "failed to create typed patch object (fleet/dfdaemon; apps/v1, Kind=DaemonSet)"
PRUNE = {"namespace": "fleet", "labels": LABELS}


def thing(kind, name, **rest):
    version, _plural, spaced = _kubernetes_kinds.KINDS[kind]
    metadata = {"name": name, "labels": dict(LABELS), **({"namespace": "fleet"} if spaced else {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


SPACE = thing("Namespace", "fleet")
CONFIG = thing("ConfigMap", "dfdaemon", data={"dfdaemon.yaml": "storage:\n  keep: true\n"})
SECRET = thing("Secret", "tls", data={"key.pem": base64.b64encode(b"the key").decode()})
WORK = thing("DaemonSet", "dfdaemon", spec={"selector": {"matchLabels": {"a": "b"}}, "template": {}})
ALL = [WORK, SECRET, CONFIG, SPACE]


@pytest.fixture
def cluster(monkeypatch):
    fake = FakeKubernetes()
    monkeypatch.setattr(_kubernetes, "Cluster", lambda _params: fake)
    monkeypatch.setattr(kubernetes_objects, "_POLL_S", 0.01)
    return fake


@pytest.fixture
def run(cluster, run_module):
    def call(objects=None, check=False, diff=False, **options):
        objects = copy.deepcopy(ALL if objects is None else objects)
        return run_module(kubernetes_objects.main, {"objects": objects, **options}, check=check, diff=diff)

    return call


def actions(result):
    return {one["name"]: one["action"] for one in result["objects"]}


def test_applies_in_an_order_in_which_each_finds_what_it_needs(cluster, run):
    result = run()
    assert result["changed"] and [kind for _method, kind, _name in cluster.requests] == ["Namespace", "ConfigMap", "Secret", "DaemonSet"]
    assert [(one["name"], one["done"]) for one in result["rollouts"]] == [("dfdaemon", True)]
    assert not run()["changed"]
    assert len(cluster.requests) == 4


def test_check_mode_before_there_is_a_namespace(cluster, run):
    result = run(check=True, diff=True)
    assert result["changed"] and cluster.requests == []
    assert {one["action"] for one in result["objects"]} == {"created"}
    assert "keep: true" in next(one["after"] for one in result["diff"] if one["after_header"] == "ConfigMap dfdaemon in fleet")


def test_diff_of_one_changed_value(cluster, run):
    run()
    changed = copy.deepcopy(ALL)
    changed[2]["data"]["dfdaemon.yaml"] = "storage:\n  keep: false\n"
    result = run(changed, check=True, diff=True)
    (diff,) = result["diff"]
    assert "  dfdaemon.yaml: |\n    storage:\n      keep: true\n" in diff["before"] and "keep: false" in diff["after"]
    assert "managedFields" not in diff["before"] + diff["after"] and "resourceVersion" not in diff["after"]
    assert actions(result)["tls"] == "unchanged"
    assert run(changed)["changed"] and not run(changed)["changed"]


def test_a_diff_shows_no_secret(cluster, run):
    run()
    changed = copy.deepcopy(ALL)
    changed[1]["data"] = {"key.pem": base64.b64encode(b"another key").decode(), "ca.pem": "YQ=="}
    result = run(changed, diff=True)
    (diff,) = result["diff"]
    assert "key.pem: '********'" in diff["before"] and "key.pem: '******** (new)'" in diff["after"]
    text = str(dict(result))
    assert SECRET["data"]["key.pem"] not in text and changed[1]["data"]["key.pem"] not in text


def test_refusals_are_told_before_anything_is_changed(cluster, run):
    run([SPACE])
    cluster.refusals["patch", "DaemonSet", "dfdaemon"] = (400, f"{TYPED}: .spec.templat: field not declared in schema")
    cluster.refusals["patch", "Secret", "tls"] = (403, 'secrets "tls" is forbidden: User "x" cannot patch resource "secrets"')
    before = list(cluster.requests)
    result = run()
    assert cluster.requests == before
    assert result["msg"] == (
        'Failed to apply the Secret tls in fleet at https://10.0.0.1:6443: secrets "tls" is forbidden: User "x" cannot patch resource '
        '"secrets". '
        "Let an administrator grant that to the account; docs/kubernetes.md has all that it needs. Failed to apply the DaemonSet dfdaemon "
        "in fleet "
        "at https://10.0.0.1:6443: .spec.templat: field not declared in schema. It is misspelt, or this cluster is too old for it; correct "
        "it. "
        "Nothing was changed."
    )


def test_conflicts_are_named(cluster, run):
    cluster.refusals["patch", "ConfigMap", "dfdaemon"] = (409, 'Apply failed with 1 conflict: conflict with "kubectl": .data.dfdaemon.yaml')
    assert "Somebody else has set the same" in run([SPACE, CONFIG])["msg"]


def test_removes_what_is_not_wanted_any_more_and_nothing_of_others(cluster, run):
    run()
    cluster.add("ConfigMap", "of-somebody", "fleet", labels={"app.kubernetes.io/managed-by": "Helm"})
    wanted = [SPACE, CONFIG, WORK]
    assert actions(run(wanted, check=True, prune=PRUNE))["tls"] == "removed"
    assert ("Secret", "fleet", "tls") in cluster.things
    assert actions(run(wanted, prune=PRUNE))["tls"] == "removed"
    assert ("Secret", "fleet", "tls") not in cluster.things and ("ConfigMap", "fleet", "of-somebody") in cluster.things
    assert not run(wanted, prune=PRUNE)["changed"]


def test_absent(cluster, run):
    run()
    assert run([SPACE], check=True, state="absent", prune=PRUNE)["changed"] and ("Namespace", None, "fleet") in cluster.things
    result = run([SPACE], state="absent", prune=PRUNE)
    assert actions(result) == {"dfdaemon": "removed", "tls": "removed", "fleet": "removed"}
    assert list(cluster.things) == [("Namespace", None, "kube-system")]
    assert not run([SPACE], state="absent", prune=PRUNE)["changed"]


def test_a_workload_that_does_not_roll_out_is_told_with_its_reason(cluster, run):
    cluster.rolls_out = False
    waiting = {"name": "dfdaemon", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1}}}
    cluster.add("Pod", "dfdaemon-x", "fleet", labels={"a": "b"}, status={"containerStatuses": [waiting]})
    result = run(wait_timeout=0)
    assert result["msg"] == (
        "Failed to roll out the DaemonSet dfdaemon in fleet within 0 s: 0 of 2 pods are ready; the pod dfdaemon-x waits in dfdaemon: "
        "CrashLoopBackOff (it ended with 1). Mend that, or raise the time, and run again."
    )
    del cluster.things["Pod", "fleet", "dfdaemon-x"]
    about = {"kind": "DaemonSet", "name": "dfdaemon"}
    cluster.add("Event", "e", "fleet", type="Warning", involvedObject=about, message="violates PodSecurity")
    assert "0 of 2 pods are ready; violates PodSecurity." in run(wait_timeout=0)["msg"]


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}}, "objects[0] has the kind 'Pod', which is none of Namespace"),
        ({"kind": "Secret", "apiVersion": "v2", "metadata": {"name": "a"}}, "has the apiVersion 'v2' with the kind Secret; write v1"),
        ({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "A/.."}}, "has no metadata.name that Kubernetes takes"),
        ({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "a"}}, "is the Secret a without a namespace"),
        ({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "a", "namespace": "b"}}, "which is in no namespace"),
    ],
)
def test_what_is_no_object_of_a_fleet(run, definition, said):
    assert said in run([definition])["msg"]


def test_an_object_twice(run):
    assert "is the ConfigMap dfdaemon in fleet once more; keep one" in run([CONFIG, CONFIG])["msg"]
