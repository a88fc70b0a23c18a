# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import openai_info, openai_model
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_openai import FakeOpenAI


@pytest.fixture
def host(tmp_path, monkeypatch):
    fake = FakeOpenAI(tmp_path, monkeypatch)
    yield fake
    fake.close()


@pytest.fixture
def read(host, run_module):
    return lambda check=False, **options: run_module(openai_info.main, options, check=check)


def test_a_host_without_one(read):
    result = read(check=True)
    # Not every release of ansible-core says what it was called with.
    result.pop("invocation", None)
    assert result == {"changed": False, "healthy": True, "models": [], "recorded": [], "units": []}


def test_what_serves_and_what_only_lies_there(host, read, run_module):
    model = host.model("1.0")
    other = host.model("2.0")
    (host.units / "openai-server-mine.service").write_text("[Service]\nExecStart=/bin/mine\n")
    run_module(openai_model.main, host.arguments(model))
    result = read(record=str(host.record))
    (one,) = result["models"]
    assert (one["name"], one["version"], one["unit"], one["port"]) == ("letters", "1.0", host.unit_of(model), model["port"])
    assert (one["workers"], one["workers_ready"], one["gpu"], one["default"], one["detail"]) == (1, 1, 0, True, "")
    assert result["healthy"] and result["recorded"] == [{"name": "letters", "version": "1.0", "device": "cpu"}]
    assert result["units"] == sorted([host.unit_of(model), host.unit_of(other)])


def test_one_that_does_not_answer(host, read, run_module):
    model = host.model("1.0")
    run_module(openai_model.main, host.arguments(model))
    host.served.pop(host.unit_of(model)).close()
    result = read()
    assert not result["healthy"] and result["models"][0]["workers_ready"] == 0
    assert result["models"][0]["detail"].startswith("Failed to call GET http://127.0.0.1:")


def test_one_that_is_recorded_and_gone(host, read, run_module):
    run_module(openai_model.main, host.arguments(host.model("1.0")))
    for unit in host.units.glob("openai-server-letters*"):
        unit.unlink()
    result = read(record=str(host.record))
    assert not result["healthy"] and result["models"] == [] and len(result["recorded"]) == 1
