# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.kubernetes_manifests import models_of
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_torchserve import FakeTorchServe, description
from ansible_collections.modelfleet.serving.tests.unit.plugins.kubernetes_settings import MODEL

SCRIPT = Path(__file__).parents[3] / "roles/dragonfly_kubernetes/files/serve_models.py"


@pytest.fixture
def server(tmp_path):
    fake = FakeTorchServe(tmp_path)
    yield fake
    fake.close()


@pytest.fixture
def run(server, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("serve_models", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script.time, "sleep", lambda _seconds: None)
    ready = tmp_path / "ready"

    def call(*models, rounds=1, url=None):
        (tmp_path / "models.json").write_text(json.dumps({"models": models_of(models)[0]}))
        arguments = ["--models", str(tmp_path / "models.json"), "--url", url or server.url, "--key-file", str(server.key_file)]
        status = script.main([*arguments, "--ready", str(ready), "--rounds", str(rounds)])
        assert ready.exists() == (status == 0)
        return status

    return call


def test_a_pod_serves_the_list_and_is_ready_then(server, run):
    assert run(MODEL) == 0
    (version,) = server.models["demo"].values()
    assert version["minWorkers"] == 2 and server.defaults["demo"] == "1.0"
    before = len(server.changes())
    assert run(MODEL) == 0 and len(server.changes()) == before


def test_what_is_absent_goes(server, run):
    server.put("demo", description("1.0", "demo-1.0-bbbbbbbbbbbb.mar"))
    assert run({"name": "demo", "version": "1.0", "object": "o", "state": "absent"}) == 0
    assert not server.models.get("demo")


def test_what_serves_is_never_replaced(server, run, capsys):
    server.put("demo", description("1.0", "demo-1.0-cccccccccccc.mar", workers=2))
    assert run(MODEL, rounds=2) == 1
    said = capsys.readouterr().err
    # Once, not in every round.
    assert said.count("demo-1.0-cccccccccccc.mar is served under its name, which stays") == 1


def test_one_that_fails_keeps_no_other_from_serving(server, run, capsys):
    server.failures.append((502, "BadGateway", "the origin refuses", None))
    other = {**MODEL, "name": "other"}
    assert run(MODEL, other) == 1
    assert "Not served yet: model demo 1.0: it did not register: TorchServe answered 502: the origin refuses." in capsys.readouterr().err
    assert "other" in server.models


def test_without_a_torchserve(run, capsys):
    assert run(MODEL, url="http://127.0.0.1:9") == 1
    assert "TorchServe does not answer at http://127.0.0.1:9" in capsys.readouterr().err
