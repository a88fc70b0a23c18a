# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import torchserve_info
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_torchserve import FakeTorchServe, description


@pytest.fixture
def fake(tmp_path):
    server = FakeTorchServe(tmp_path)
    yield server
    server.close()


@pytest.fixture
def read(fake, run_module):
    return lambda check=False, **options: run_module(
        torchserve_info.main, {"base_url": fake.url, "key_file": str(fake.key_file), **options}, check=check
    )


def test_models(fake, read):
    fake.put("demo", description("1.0", "/store/demo-1.0-abc.mar", 2), description("2.0", "demo-2.0-def.mar", 1))
    result = read()
    assert (result["changed"], result["reachable"], result["healthy"], result["version"]) == (False, True, True, "0.12.0")
    assert [(m["name"], m["version"], m["default"], m["file"], m["workers_ready"]) for m in result["models"]] == [
        ("demo", "1.0", True, "demo-1.0-abc.mar", 2),
        ("demo", "2.0", False, "demo-2.0-def.mar", 1),
    ]


def test_no_models_is_healthy(read):
    assert read(check=True)["healthy"]


@pytest.mark.parametrize("item", [description("1.0", "x", 2, status="UNLOADING"), description("1.0", "x", 0)])
def test_model_without_ready_workers_is_not_healthy(fake, read, item):
    fake.put("demo", item)
    assert not read()["healthy"]


def test_unreachable_is_an_answer(read):
    result = read(base_url="http://127.0.0.1:9")
    assert (result["reachable"], result["healthy"], result["models"], result["version"]) == (False, False, [], "")


def test_record(fake, read, tmp_path):
    record = tmp_path / "models.json"
    assert (read(record=str(record))["not_restored"], read(record=str(record))["recorded"]) == ([], [])
    record.write_text(json.dumps({"models": [{"name": "demo", "version": "1.0"}, {"name": "other", "version": "1"}]}))
    fake.put("demo", description("1.0", "x"))
    result = read(record=str(record))
    assert result["not_restored"] == ["other 1"]
    assert not result["healthy"]
    record.write_text("{")
    assert f"{record}: it is damaged" in read(record=str(record))["msg"]


@pytest.mark.parametrize(("device", "healthy"), [("cpu", True), ("gpu", False)])
def test_a_worker_on_the_cpu_is_not_ready_for_a_model_recorded_for_a_gpu(fake, read, tmp_path, device, healthy):
    record = tmp_path / "models.json"
    record.write_text(json.dumps({"models": [{"name": "demo", "version": "1.0", "device": device}]}))
    fake.put("demo", description("1.0", "x"))
    result = read(record=str(record))
    assert (result["healthy"], result["not_restored"]) == (healthy, [] if healthy else ["demo 1.0"])
    assert result["recorded"] == [{"name": "demo", "version": "1.0", "device": device}]


def test_the_record_is_read_where_torchserve_is_down(read, tmp_path):
    record = tmp_path / "models.json"
    record.write_text(json.dumps({"models": [{"name": "demo", "version": "1.0"}]}))
    result = read(base_url="http://127.0.0.1:9", record=str(record))
    assert not result["reachable"]
    assert result["recorded"] == [{"name": "demo", "version": "1.0", "device": "cpu"}]
