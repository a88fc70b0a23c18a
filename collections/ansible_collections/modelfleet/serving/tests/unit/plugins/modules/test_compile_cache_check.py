# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import grp
import json
import os
import pwd
import threading

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import compile_cache_check
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_torchserve import FakeTorchServe, description

SHA256, FINGERPRINT = "a1" * 32, "0123456789abcdef"
CHECK = {"model": "demo", "version": "1.0", "input": {"x": [1]}, "expected": {"y": [1.5]}}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    monkeypatch.setattr(compile_cache_check.time, "sleep", lambda seconds: None)
    server = FakeTorchServe(tmp_path)
    server.put("demo", description("1.0", "demo.mar", workers=2, responseTimeout=600))
    yield server
    server.close()


@pytest.fixture
def cache(tmp_path):
    path = tmp_path / "caches" / f"{SHA256[:12]}-{FINGERPRINT}"
    path.mkdir(parents=True)
    (path / "kernel.so").write_text("code for something else")
    (tmp_path / "list.json").write_text(json.dumps({"format": 1, "models": {"demo 1.0": SHA256}}))
    (tmp_path / "started.json").write_text(json.dumps({"fingerprint": FINGERPRINT, "parts": {}}))
    return path


@pytest.fixture
def check(fake, tmp_path, run_module):
    def run(*checks, check=False, **options):
        args = {
            "checks": list(checks or [CHECK]),
            "base_url": fake.url,
            "inference_url": fake.url,
            "key_file": str(fake.key_file),
            "directory": str(tmp_path / "caches"),
            "list": str(tmp_path / "list.json"),
            "started": str(tmp_path / "started.json"),
            "user": pwd.getpwuid(os.getuid()).pw_name,
            "group": grp.getgrgid(os.getgid()).gr_name,
        }
        return run_module(compile_cache_check.main, {**args, **options}, check=check, diff=True)

    return run


def test_every_worker_is_asked_at_once(fake, cache, check):
    together = threading.Barrier(2, timeout=20)

    def answer(name, body):
        together.wait()
        return 200, b'{"y": [1.5]}'

    fake.answer = answer
    result = check()
    assert not result["changed"]
    (one,) = result["checks"]
    assert (one["model"], one["version"], one["ok"], one["workers"], one["cold"]) == ("demo", "1.0", True, 2, False)
    assert fake.changes() == []
    assert (cache / "kernel.so").exists()


@pytest.mark.parametrize(
    "wrong", [(200, b'{"y": [13.0]}'), (503, b'{"code": 503, "type": "InternalServerException", "message": "Worker died."}')]
)
def test_what_answers_wrongly_is_thrown_away(fake, cache, check, wrong):
    """The first is AVX512 under AVX2, the second the reverse."""
    fake.answer = lambda name, body: wrong if (cache / "kernel.so").exists() else (200, b'{"y": [1.5]}')
    result = check()
    assert result["changed"]
    (one,) = result["checks"]
    assert (one["ok"], one["cold"]) == (True, True)
    assert "13.0" in one["detail"] or "Worker died" in one["detail"]
    assert fake.changes() == ["PUT /models/demo/1.0"] * 2
    # It stays, so that nothing is restored there again.
    assert os.listdir(cache) == []
    assert result["diff"]["before"] == "demo 1.0\n"
    assert "was thrown away" in str(result["warnings"])
    assert not check()["changed"]


def test_anew_throws_away_what_answers_rightly(fake, cache, check):
    fake.answer = lambda name, body: (200, b'{"y": [2.5]}' if (cache / "kernel.so").exists() else b'{"y": [1.5]}')
    (one,) = check(anew=True)["checks"]
    assert (one["ok"], one["cold"]) == (True, True)
    assert fake.changes() == ["PUT /models/demo/1.0"] * 2


def test_anew_needs_a_directory_to_throw_away(fake, cache, check, tmp_path):
    (tmp_path / "list.json").unlink()
    assert "have no directory of their own" in check(anew=True)["msg"]
    assert fake.changes() == []


def test_a_model_that_is_wrong_cold_too(fake, cache, check):
    fake.answer = lambda name, body: (200, b'{"y": [2.5]}')
    result = check()
    assert result["failed"]
    assert result["changed"]
    assert "model demo 1.0: after a cold start $.y[0] is 2.5, expected 1.5" in result["msg"]


def test_a_model_without_a_directory_of_its_own(fake, cache, check, tmp_path):
    fake.answer = lambda name, body: (200, b'{"y": [2.5]}')
    (tmp_path / "started.json").unlink()
    result = check()
    assert "$.y[0] is 2.5" in result["msg"]
    assert fake.changes() == []
    assert (cache / "kernel.so").exists()


def test_a_model_that_is_not_served(fake, cache, check):
    assert "does not serve it" in check({**CHECK, "version": "2.0"})["msg"]


def test_nobody_is_asked_in_check_mode(fake, cache, check):
    result = check(check=True)
    assert (result["changed"], result["checks"]) == (False, [])
    assert fake.calls == []


def test_it_waits_as_long_as_torchserve_does(fake, cache, check, monkeypatch):
    waited = []
    monkeypatch.setattr(
        compile_cache_check,
        "run_check",
        lambda server, one, timeout: waited.append(timeout) or {"ok": True, "seconds": 1.0, "detail": ""},
    )
    assert not check()["changed"]
    assert waited == [630, 630]


def test_workers_that_do_not_stop(fake, cache, check):
    fake.answer = lambda name, body: (200, b'{"y": [2.5]}')
    change = fake.change
    fake.change = lambda method, name, version, query, path: (202, {}) if method == "PUT" else change(method, name, version, query, path)
    assert "Failed to stop the workers of model demo 1.0 within 0 s" in check(timeout=0)["msg"]
    assert (cache / "kernel.so").exists()
