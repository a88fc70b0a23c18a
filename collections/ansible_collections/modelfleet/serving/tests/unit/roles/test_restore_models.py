# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _bundle, _torchserve
from ansible_collections.modelfleet.serving.plugins.modules import model_artifact, torchserve_model
from ansible_collections.modelfleet.serving.tests.unit.plugins import recorded_gpu
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_dragonfly import FakeDragonfly
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
        manifests = tmp_path / "manifests"
        record = tmp_path / "state" / "models.json"

        def __init__(self):
            self.store.mkdir()
            self.manifests.mkdir()
            self.record.parent.mkdir()
            self.models = []

        def add(self, name, version, default=True, content=None, device="cpu", **params):
            content = content or f"{name} {version}".encode()
            sha256 = hashlib.sha256(content).hexdigest()
            file = f"{name}-{version}-{sha256[:12]}.mar"
            (self.store / file).write_bytes(content)
            self.models.append(
                {
                    "name": name,
                    "version": version,
                    "file": file,
                    "sha256": sha256,
                    "workers": 2,
                    "default": default,
                    "device": device,
                    "params": params,
                }
            )
            self.record.write_text(json.dumps({"format": 1, "models": self.models}))
            return self.store / file

        def add_bundle(self, name, version, **contents):
            files = [
                {"mode": "0644", "path": path, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
                for path, content in sorted(contents.items())
            ]
            content = json.dumps({"files": files, "format": 1, "packs": []}, separators=(",", ":"), sort_keys=True).encode()
            sha256 = hashlib.sha256(content).hexdigest()
            directory = self.store / f"{name}-{version}-{sha256[:12]}"
            (self.manifests / f"{sha256}.json").write_bytes(content)
            directory.mkdir()
            for path, content in contents.items():
                (directory / path).write_bytes(content)
            entry = {"name": name, "version": version, "file": directory.name, "kind": "bundle", "sha256": sha256}
            self.models.append({**entry, "workers": 2, "default": True, "device": "cpu", "params": {}})
            self.record.write_text(json.dumps({"format": 1, "models": self.models}))
            return directory

        def restore(self, timeout=1):
            arguments = [
                "--record",
                self.record,
                "--store",
                self.store,
                "--manifests",
                self.manifests,
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


def test_restores_a_bundle_as_its_directory(fake, host):
    directory = host.add_bundle("demo", "1.0", weights=b"weights", handler=b"")
    assert host.restore() == 0
    assert fake.models["demo"]["1.0"]["modelUrl"] == directory.name


def test_a_bundle_that_is_not_its_manifest_is_not_served(fake, host, capsys):
    host.add_bundle("changed", "1.0", weights=b"weights").joinpath("weights").write_bytes(b"weightz")
    host.add_bundle("planted", "1.0", weights=b"weights").joinpath("sitecustomize.py").write_bytes(b"")
    host.add_bundle("other", "1.0", weights=b"more weights")
    (host.manifests / f"{host.models[-1]['sha256']}.json").write_text("{}")
    host.add_bundle("alone", "1.0", weights=b"other weights")
    (host.manifests / f"{host.models[-1]['sha256']}.json").unlink()
    host.add_bundle("gone", "1.0", weights=b"weights").joinpath("weights").unlink()
    host.add_bundle("good", "1.0", weights=b"weights")
    assert host.restore() == 1
    assert list(fake.models) == ["good"]
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in said] == [
        f"<3>Failed to restore model {name} 1.0" for name in ("changed", "planted", "other", "alone", "gone")
    ]
    assert "has weights with sha256" in said[0] and f"remove /var/lib/modelfleet/blobs/{hashlib.sha256(b'weights').hexdigest()}" in said[0]
    assert "has sitecustomize.py, which is not in its manifest" in said[1]
    assert "json has sha256" in said[2] and "No such file or directory" in said[3] and "has no weights" in said[4]


def test_what_another_runtime_serves_is_left_to_it(fake, host):
    host.add_bundle("llama", "1.0", weights=b"weights")
    host.models[-1]["runtime"] = "openai"
    host.add("demo", "1.0")
    assert host.restore() == 0
    assert list(fake.models) == ["demo"]


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
    assert "has sha256" in err[0] and err[0].endswith("; remove it and run the playbook distribute, then site.")
    assert "No such file or directory" in err[1] and err[1].endswith("; run the playbook distribute, then site.")


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


@pytest.mark.parametrize("configured", [1, 4])
def test_workers_of_the_record_win_over_those_in_the_archive(fake, host, configured):
    host.add("demo", "1.0")
    fake.configs["demo"] = {"minWorkers": configured, "maxWorkers": configured}
    assert host.restore(timeout=2) == 0
    assert len(fake.models["demo"]["1.0"]["workers"]) == 2


def test_what_is_served_is_scaled(fake, host):
    file = host.add("demo", "1.0", default=False)
    fake.put("demo", description("1.0", file.name, 1))
    assert host.restore() == 0
    assert len(fake.models["demo"]["1.0"]["workers"]) == 2
    assert fake.changes() == ["PUT /models/demo/1.0"]


def test_the_default_version_without_workers_is_registered_again(fake, host):
    file = host.add("demo", "1.0")
    other = host.add("demo", "2.0", default=False)
    fake.put("demo", description("1.0", file.name, 0), description("2.0", other.name, 2))
    assert host.restore() == 0
    assert len(fake.models["demo"]["1.0"]["workers"]) == 2
    assert fake.defaults["demo"] == "1.0"


def test_workers_that_fell_back_to_the_cpu_are_named(fake, host, capsys, monkeypatch, restore_models):
    monkeypatch.setattr(restore_models, "GPU_GRACE_S", 0)
    host.add("demo", "1.0", device="gpu")
    assert host.restore() == 1
    assert "0 of 2 workers are READY on a GPU, the others fell back to the CPU" in capsys.readouterr().err
    # An answer from the CPU is better than none.
    assert len(fake.models["demo"]["1.0"]["workers"]) == 2


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("used", [True, False, None])
@pytest.mark.parametrize(
    "worker",
    [
        {"status": "READY", "gpu": True, "gpuUsage": recorded_gpu.GPU_USAGE, "pid": 1},
        {"status": "READY", "gpu": True, "gpuUsage": "failed to obtained gpu usage", "pid": 1},
        {"status": "READY", "gpu": False, "gpuUsage": "N/A", "pid": 1},
        {"status": "UNLOADING", "gpu": True, "gpuUsage": recorded_gpu.GPU_USAGE, "pid": -1},
        {"status": "READY"},
    ],
)
def test_counts_the_workers_as_the_module_does(restore_models, monkeypatch, worker, used, device):
    for module, prefix in ((restore_models, ""), (_torchserve, "_")):
        monkeypatch.setattr(module, prefix + "uses_gpu", lambda pid: used)
        monkeypatch.setattr(module, prefix + "family", lambda pid: [pid])
    assert restore_models.ready({"workers": [worker]}, device) == len(_torchserve.ready_workers([worker], device))


@pytest.mark.parametrize(
    ("maps", "used"),
    [
        (recorded_gpu.USES, True),
        (recorded_gpu.ASKED, False),
        (recorded_gpu.FORKED, False),
        ("", False),
        (None, None),
    ],
)
def test_sees_whether_a_process_uses_a_gpu(restore_models, tmp_path, maps, used):
    if maps is not None:
        (tmp_path / "1427").mkdir()
        (tmp_path / "1427/maps").write_text(maps)
    assert (restore_models.uses_gpu(1427, tmp_path), _torchserve._uses_gpu(1427, tmp_path)) == (used, used)


def test_has_the_limits_and_addresses_of_the_module(restore_models):
    assert (restore_models.WORKER_BOOT_S, restore_models.GPU_GRACE_S) == (_torchserve.WORKER_BOOT_S, _torchserve.GPU_GRACE_S)
    for name in ("demo", "tokenizer", "token", "a.b"):
        assert restore_models.segment(name) == _torchserve.segment(name)


def test_reads_what_the_module_writes(fake, host, run_module, restore_models):
    host.add("demo", "1.0")
    model = {"name": "demo", "version": "1.0", "object": "demo.mar", "sha256": host.models[0]["sha256"], "workers": 2, "batch_size": 4}
    arguments = {
        "models": [model],
        "base_url": fake.url,
        "key_file": str(fake.key_file),
        "model_store": str(host.store),
        "record": str(host.record),
        "record_group": "root",
        "dfdaemon_metrics_url": "http://127.0.0.1:9/metrics",
    }
    assert run_module(torchserve_model.main, arguments)["models"][0]["action"] == "registered"
    served = fake.models["demo"]
    fake.models.clear()
    assert host.restore() == 0
    assert fake.models["demo"] == served
    assert not run_module(torchserve_model.main, arguments)["changed"]


@pytest.fixture
def dragonfly(tmp_path):
    server = FakeDragonfly(tmp_path)
    yield server
    server.close()


def test_what_was_brought_is_registered_and_restored_and_goes_again(fake, dragonfly, run_module, restore_models):
    """A bundle, with the real modules: brought, registered, restored, not taken away while it is served, and then taken away."""
    contents = {"MAR-INF/MANIFEST.json": b'{"model": {"modelName": "demo", "modelVersion": "1.0"}}', "weights.bin": b"weights"}
    files = [_bundle.File(path, len(content), hashlib.sha256(content).hexdigest(), "0644") for path, content in contents.items()]
    manifest = _bundle.manifest_bytes(_bundle.Manifest(files, []))
    sha256 = hashlib.sha256(manifest).hexdigest()
    dragonfly.publish(_bundle.manifest_key("models/demo", sha256), manifest)
    for file in files:
        dragonfly.publish(_bundle.blob_key("models/demo", file.sha256), contents[file.path])
    model = {"name": "demo", "version": "1.0", "bundle": "models/demo", "sha256": sha256}
    options = dragonfly.options()
    torchserve = {
        "base_url": fake.url,
        "key_file": str(fake.key_file),
        "record_group": "root",
        **{key: options[key] for key in ("record", "model_store", "manifest_store")},
    }
    run_module(model_artifact.main, {**options, "artifacts": [model]})
    assert run_module(torchserve_model.main, {**torchserve, "models": [model]})["models"][0]["action"] == "registered"
    served = fake.models["demo"]
    assert served["1.0"]["modelUrl"] == f"demo-1.0-{sha256[:12]}"

    fake.models.clear()
    arguments = [
        "--record",
        options["record"],
        "--store",
        options["model_store"],
        "--manifests",
        options["manifest_store"],
        "--url",
        fake.url,
    ]
    assert restore_models.main([str(one) for one in [*arguments, "--key-file", fake.key_file, "--timeout", 1]]) == 0
    assert fake.models["demo"] == served

    gone = {**model, "state": "absent"}
    refused = run_module(model_artifact.main, {**options, "artifacts": [gone]})
    assert refused["failed"] and "demo 1.0" in refused["msg"]
    run_module(torchserve_model.main, {**torchserve, "models": [gone]})
    assert run_module(model_artifact.main, {**options, "artifacts": [gone]})["artifacts"][0]["action"] == "removed"
    assert [list(Path(options[key]).glob("[!.]*")) for key in ("model_store", "manifest_store", "blob_store")] == [[], [], []]


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"models": 1}', '{"models": ["x"]}', '{"models": [{"name": 1}]}'])
def test_damaged_record(host, capsys, text):
    host.record.write_text(text)
    assert host.restore() == 1
    assert f"Cannot read the record {host.record}" in capsys.readouterr().err


def test_torchserve_that_does_not_come_up(fake, host, capsys):
    host.add("demo", "1.0")
    fake.close()
    assert host.restore(timeout=0) == 1
    assert "does not answer" in capsys.readouterr().err


def test_restores_the_current_version_only(fake, host):
    """A version that a rollout has not finished is not served after a reboot, one that was retired neither."""
    host.add("demo", "1.0")
    host.add("demo", "2.0")
    host.add("demo", "0.9")
    current, staged, previous = host.models
    host.record.write_text(json.dumps({"format": 1, "models": [current], "staged": [staged], "previous": [previous]}))
    assert host.restore() == 0
    assert list(fake.models["demo"]) == ["1.0"] and fake.defaults == {"demo": "1.0"}
