# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import fcntl
import json
import os

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


def entry(name, version):
    return {"name": name, "version": version, "file": f"{name}-{version}-{'a' * 12}.mar"}


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
    record.write_text(json.dumps({"models": [entry("demo", "1.0"), entry("other", "1")]}))
    fake.put("demo", description("1.0", "x"))
    result = read(record=str(record))
    assert result["not_restored"] == ["other 1"]
    assert not result["healthy"]
    record.write_text("{")
    assert f"{record}: it is damaged" in read(record=str(record))["msg"]


@pytest.mark.parametrize(("device", "healthy"), [("cpu", True), ("gpu", False)])
def test_a_worker_on_the_cpu_is_not_ready_for_a_model_recorded_for_a_gpu(fake, read, tmp_path, device, healthy):
    record = tmp_path / "models.json"
    record.write_text(json.dumps({"models": [{**entry("demo", "1.0"), "device": device}]}))
    fake.put("demo", description("1.0", "x"))
    result = read(record=str(record))
    assert (result["healthy"], result["not_restored"]) == (healthy, [] if healthy else ["demo 1.0"])
    assert result["recorded"] == [{"name": "demo", "version": "1.0", "device": device}]


def test_who_changes_the_record_is_not_waited_for_where_nobody_wants_to(read, tmp_path):
    """A model may take minutes to load."""
    record = tmp_path / "state/models.json"
    record.parent.mkdir()
    record.write_text(json.dumps({"models": [entry("demo", "1.0")]}))
    handle = os.open(record.parent, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    found = read(record=str(record), wait_for_record=False)
    assert found["busy"] and [one["name"] for one in found["recorded"]] == ["demo"]
    os.close(handle)
    assert not read(record=str(record), wait_for_record=False)["busy"] and not read(record=str(record))["busy"]


def test_what_a_rollout_keeps_beside_the_models_is_not_served(read, tmp_path):
    """Neither the version to go back to nor the one that is on its way."""
    record = tmp_path / "models.json"
    parts = {part: [entry("demo", version)] for part, version in (("models", "2.0"), ("previous", "1.0"), ("staged", "3.0"))}
    record.write_text(json.dumps(parts))
    result = read(record=str(record))
    assert [one["version"] for one in result["recorded"]] == ["2.0"] and result["not_restored"] == ["demo 2.0"]


def test_the_record_is_read_where_torchserve_is_down(read, tmp_path):
    record = tmp_path / "models.json"
    record.write_text(json.dumps({"models": [entry("demo", "1.0")]}))
    result = read(base_url="http://127.0.0.1:9", record=str(record))
    assert not result["reachable"]
    assert result["recorded"] == [{"name": "demo", "version": "1.0", "device": "cpu"}]


def test_what_another_runtime_serves_is_none_of_it(read, tmp_path):
    record = tmp_path / "models.json"
    record.write_text(json.dumps({"models": [entry("demo", "1.0"), {**entry("llama", "1.0"), "runtime": "openai"}]}))
    result = read(record=str(record))
    assert [one["name"] for one in result["recorded"]] == ["demo"] and result["not_restored"] == ["demo 1.0"]
    assert result["other_runtimes"] == ["openai"]
