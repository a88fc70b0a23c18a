# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import pytest
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_torchserve import FakeTorchServe, description

SCRIPT = Path(__file__).parents[3] / "roles/torchserve/files/restore_models.py"


@pytest.fixture
def restore_models(monkeypatch):
    spec = importlib.util.spec_from_file_location("restore_models", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    return module


@pytest.fixture
def fake(tmp_path):
    server = FakeTorchServe(tmp_path)
    yield server
    server.close()


@pytest.fixture
def host(fake, tmp_path, restore_models):
    class Host:
        store = tmp_path / "models"
        record = tmp_path / "state" / "models.json"

        def __init__(self):
            self.store.mkdir()
            self.record.parent.mkdir()
            self.models = []

        def add(self, name, version, default=True, content=None, **params):
            content = content or f"{name} {version}".encode()
            sha256 = hashlib.sha256(content).hexdigest()
            file = f"{name}-{version}-{sha256[:12]}.mar"
            (self.store / file).write_bytes(content)
            self.models.append(
                {"name": name, "version": version, "file": file, "sha256": sha256, "workers": 2, "default": default, "params": params}
            )
            self.record.write_text(json.dumps({"format": 1, "models": self.models}))
            return self.store / file

        def restore(self, timeout=1):
            arguments = [
                "--record",
                self.record,
                "--store",
                self.store,
                "--url",
                fake.url,
                "--key-file",
                fake.key_file,
                "--timeout",
                timeout,
            ]
            return restore_models.main([str(argument) for argument in arguments])

    return Host()


def test_restores_what_is_recorded(fake, host, capsys):
    host.add("demo", "1.0", default=False)
    host.add("demo", "2.0")
    host.add("tokenizer", "1", batch_size=4)
    assert host.restore() == 0
    assert {name: sorted(versions) for name, versions in fake.models.items()} == {"demo": ["1.0", "2.0"], "tokenizer": ["1"]}
    assert fake.defaults == {"demo": "2.0", "tokenizer": "1"}
    assert len(fake.models["demo"]["2.0"]["workers"]) == 2
    assert "Restored model tokenizer 1 with 2 workers" in capsys.readouterr().out


def test_nothing_recorded(fake, host):
    assert host.restore() == 0
    assert not fake.changes()


def test_what_is_served_stays(fake, host):
    file = host.add("demo", "1.0", default=False)
    fake.put("demo", description("1.0", file.name, 2))
    assert host.restore() == 0
    assert not fake.changes()


def test_one_bad_file_does_not_stop_the_others(fake, host, capsys):
    host.add("bad", "1.0").write_bytes(b"changed")
    host.add("gone", "1.0").unlink()
    host.add("good", "1.0")
    assert host.restore() == 1
    assert list(fake.models) == ["good"]
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2
    assert err[0].startswith("<3>Failed to restore model bad 1.0: ")
    assert "has sha256" in err[0]
    assert "No such file or directory" in err[1]


def test_failed_registration_is_tried_once_more(fake, host, capsys):
    file = host.add("demo", "1.0")
    fake.failures = [(500, "WorkerInitializationException", "Failed to start workers", description("1.0", file.name, 0))]
    assert host.restore() == 0
    fake.models.clear()
    fake.failures = [(500, "WorkerInitializationException", "Failed to start workers", description("1.0", file.name, 0))] * 2
    assert host.restore() == 1
    assert "TorchServe answered 500: Failed to start workers" in capsys.readouterr().err


def test_workers_that_never_become_ready(fake, host, capsys):
    host.add("demo", "1.0")
    fake.register = lambda path, query: (fake.put("demo", description("1.0", query["url"], 2, status="UNLOADING")), (200, {}))[1]
    assert host.restore(timeout=0) == 1
    assert "0 of 2 workers are READY after 0 s" in capsys.readouterr().err


def test_damaged_record(host, capsys):
    host.record.write_text("{")
    assert host.restore() == 1
    assert f"Cannot read the record {host.record}" in capsys.readouterr().err


def test_torchserve_that_does_not_come_up(fake, host, capsys):
    host.add("demo", "1.0")
    fake.close()
    assert host.restore(timeout=0) == 1
    assert "does not answer" in capsys.readouterr().err
