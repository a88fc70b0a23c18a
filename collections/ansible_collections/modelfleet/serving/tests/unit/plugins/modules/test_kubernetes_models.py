# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _kubernetes, _port_forward
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.modules import kubernetes_models
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_kubernetes import FakeKubernetes
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_torchserve import FakeTorchServe, description

LABELS = {"app.kubernetes.io/managed-by": "modelfleet.serving", "app.kubernetes.io/component": "torchserve"}
MODEL = {"name": "demo", "version": "1.0", "object": "models/demo.mar", "sha256": "b" * 64, "workers": 1, "default": True}
FILE = "demo-1.0-bbbbbbbbbbbb.mar"


@pytest.fixture
def server(tmp_path):
    fake = FakeTorchServe(tmp_path)
    yield fake
    fake.close()


@pytest.fixture
def cluster(monkeypatch, server):
    """A cluster with one pod, whose ports lead to the server."""
    fake = FakeKubernetes()
    fake.add("Pod", "torchserve-x", "modelfleet", labels=LABELS, status={"phase": "Running"}, spec={"nodeName": "gpu-1"})
    monkeypatch.setattr(_kubernetes, "Cluster", lambda _params: fake)

    def connect(_cluster, namespace, pod, port):
        assert (namespace, pod) == ("modelfleet", "torchserve-x") and port in (8080, 8081)
        return socket.create_connection(("127.0.0.1", urlsplit(server.url).port))

    monkeypatch.setattr(_port_forward, "connect", connect)
    monkeypatch.setattr(_port_forward, "read_file", lambda *_args: server.key_file.read_text())
    return fake


@pytest.fixture
def run(cluster, run_module):
    def call(models=(MODEL,), check=False, **options):
        return run_module(kubernetes_models.main, {"models": [dict(one) for one in models], "timeout": 5, **options}, check=check)

    return call


def test_registers_what_a_pod_does_not_serve_yet(server, run):
    assert run(check=True)["changed"] and server.models == {}
    result = run()
    assert result["changed"] and result["pods"][0]["registered"] == ["demo 1.0"]
    assert list(server.models) == ["demo"]
    assert result["summary"] == ["torchserve-x on gpu-1: 1 model served"]
    assert not run()["changed"]


def test_asks_for_the_known_answers(server, run):
    server.put("demo", description("1.0", FILE))
    server.answer = lambda _name, _body: (200, b'{"sum": 3}')
    check = {"model": "demo", "input": {"data": [1, 2]}, "expected": {"sum": 3}}
    assert run(checks=[check])["summary"] == ["torchserve-x on gpu-1: 1 model served, 1 of 1 answers as known"]
    result = run(checks=[{**check, "expected": {"sum": 4}}])
    said = "Failed to get the known answers from pods of https://10.0.0.1:6443: torchserve-x: demo: $.sum is 3, expected 4"
    assert result["msg"].startswith(said)


def test_never_replaces_what_is_served(server, run):
    server.put("demo", description("1.0", "demo-1.0-cccccccccccc.mar"))
    result = run()
    assert "demo-1.0-cccccccccccc.mar is served under its name, which is never replaced" in result["msg"]
    assert "(pod torchserve-x on gpu-1)." in result["msg"]


def test_removes_what_is_absent(server, run):
    server.put("demo", description("1.0", FILE))
    gone = {"name": "demo", "version": "1.0", "state": "absent"}
    assert run([gone], check=True)["changed"] and "demo" in server.models
    assert run([gone])["changed"]
    assert not run([gone])["changed"]


def test_a_pod_that_cannot_be_reached(monkeypatch, run):
    def refuse(*_args):
        raise ModelFleetError("Failed to reach port 8081 of the pod torchserve-x in modelfleet by way of x: forbidden. See that.")

    monkeypatch.setattr(_port_forward, "connect", refuse)
    assert run()["msg"].endswith("in modelfleet by way of x: forbidden. See that (pod torchserve-x on gpu-1).")


def test_no_pod_runs(cluster, run):
    cluster.things["Pod", "modelfleet", "torchserve-x"]["status"]["phase"] = "Pending"
    assert "of its 1 pods none runs" in run()["msg"]


def test_an_entry_without_its_digest(run):
    assert run([{**MODEL, "sha256": None}])["msg"].startswith("Failed to use the list: the model demo 1.0 has no object or no sha256.")


def test_the_key_is_not_shown(server, run):
    assert "mgmtKEY1" not in str(dict(run()))
