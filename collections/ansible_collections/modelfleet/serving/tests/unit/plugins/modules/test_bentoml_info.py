# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import bentoml_info, bentoml_model
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_bentoml import FakeBentoML


@pytest.fixture
def host(tmp_path, monkeypatch):
    fake = FakeBentoML(tmp_path, monkeypatch)
    yield fake
    fake.close()


@pytest.fixture
def read(host, run_module):
    return lambda check=False, **options: run_module(bentoml_info.main, options, check=check)


@pytest.fixture
def serve(host, run_module):
    return lambda *models: run_module(bentoml_model.main, host.arguments(*models))


def test_a_host_without_one(read):
    assert read(check=True) == {"changed": False, "healthy": True, "models": [], "recorded": [], "units": []} | {
        "invocation": {"module_args": {"record": None}}
    }


def test_what_serves_and_what_only_lies_there(host, read, serve):
    model = host.model("1.0")
    beside, other = (host.model(version, port=model["port"]) for version in ("2.0", "3.0"))
    (host.units / "bentoml-mine.service").write_text("[Service]\nExecStart=/bin/mine\n")
    serve(model, beside)
    result = read(record=str(host.record))
    one, two = result["models"]
    assert (one["name"], one["version"], one["unit"], one["port"]) == ("letters", "1.0", host.unit_of(model), model["port"])
    assert one["url"] == f"http://{host.address_of(model)}:{model['port']}"
    assert (one["workers"], one["workers_ready"], one["gpu"], one["default"], one["detail"]) == (1, 1, 0, True, "")
    assert (two["version"], two["default"], two["detail"]) == ("2.0", False, "")
    assert result["healthy"] and [one["version"] for one in result["recorded"]] == ["1.0", "2.0"]
    assert result["units"] == sorted(host.unit_of(entry) for entry in (model, beside, other))


def test_one_that_does_not_answer(host, read, serve):
    model = host.model("1.0")
    serve(model)
    host.served.pop(host.unit_of(model)).close()
    result = read()
    assert not result["healthy"] and result["models"][0]["workers_ready"] == 0
    assert result["models"][0]["detail"].startswith(f"Failed to call GET http://{host.address_of(model)}:")


def test_a_port_that_leads_nowhere(host, read, serve):
    model = host.model("1.0")
    serve(model)
    host.systemctl(["systemctl", "stop", "modelfleet-bentoml.service"])
    host.states["modelfleet-bentoml.service"].update(ActiveState="failed", SubState="failed", Result="exit-code")
    (one,) = read()["models"]
    assert one["detail"].startswith(f"Failed to call GET http://127.0.0.1:{model['port']}/readyz: ")
    assert one["detail"].endswith("(modelfleet-bentoml.service: systemd says failed, failed, exit-code)") and one["workers_ready"] == 0
    host.sections.unlink()
    (one,) = read()["models"]
    assert (one["default"], one["detail"]) == (False, "no port leads to it")


def test_a_port_that_leads_to_somebody_else(host, read, serve):
    model = host.model("1.0")
    serve(model)
    host.ports[model["port"]].headers.clear()
    (one,) = read()["models"]
    assert one["detail"] == (
        f"port {model['port']} leads to somebody else and not to {host.file_of(model)}; see journalctl -u modelfleet-bentoml.service"
    )


def test_one_that_is_recorded_and_gone(host, read, serve):
    serve(host.model("1.0"))
    for unit in host.units.glob("bentoml-letters*"):
        unit.unlink()
    result = read(record=str(host.record))
    assert not result["healthy"] and result["models"] == [] and len(result["recorded"]) == 1
