# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _bundle, _model_registrar, _torchserve
from ansible_collections.modelfleet.serving.plugins.modules import torchserve_model
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_torchserve import FakeTorchServe, description

CONTENT = b"a model"
SHA = hashlib.sha256(CONTENT).hexdigest()
FILE = f"demo-1.0-{SHA[:12]}.mar"
DEMO = {"name": "demo", "version": "1.0", "object": "models/demo.mar", "sha256": SHA}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    server = FakeTorchServe(tmp_path)
    traffic = iter(range(0, 10**9, 100))
    monkeypatch.setattr(_model_registrar, "read_traffic", lambda url: {"origin": 0, "remote_peer": next(traffic), "local_peer": 0})
    monkeypatch.setattr(_torchserve.time, "sleep", lambda seconds: None)
    yield server
    server.close()


@pytest.fixture
def apply(fake, tmp_path, run_module):
    store, state = tmp_path / "models", tmp_path / "state"
    store.mkdir()
    state.mkdir()

    def run(*models, check=False, diff=False, **options):
        args = {
            "models": list(models),
            "base_url": fake.url,
            "key_file": str(fake.key_file),
            "model_store": str(store),
            "record": str(state / "models.json"),
            "record_group": "root",
            "timeout": 2,
            **options,
        }
        return run_module(torchserve_model.main, args, check=check, diff=diff)

    run.store = store
    run.record = state / "models.json"
    run.recorded = lambda: {(m["name"], m["version"]): m for m in json.loads(run.record.read_text())["models"]}
    return run


def test_registers_once(fake, apply):
    result = apply(DEMO, diff=True)
    assert result["changed"]
    (model,) = result["models"]
    assert (model["action"], model["file"], model["workers_ready"]) == ("registered", FILE, 1)
    assert model["bytes"] == {"origin": 0, "remote_peer": 100, "local_peer": 0}
    assert result["diff"]["before"] == ""
    assert result["diff"]["after"] == f"demo 1.0: {FILE}, workers 1, default\n"
    assert apply.recorded()["demo", "1.0"] == {
        "name": "demo", "version": "1.0", "file": FILE, "kind": "object", "sha256": SHA, "workers": 1, "default": True, "device": "cpu",
        "params": {},
    }  # fmt: skip
    assert apply.record.stat().st_mode & 0o777 == 0o640
    again = apply(DEMO)
    assert not again["changed"]
    assert again["models"][0]["action"] == "unchanged"


def test_check_mode_predicts_and_changes_nothing(fake, apply):
    predicted = apply(DEMO, check=True, diff=True)
    assert predicted["changed"]
    assert predicted["models"][0]["action"] == "registered"
    assert not fake.changes()
    assert not apply.record.exists()
    assert predicted["diff"] == apply(DEMO, diff=True)["diff"]
    assert not apply(DEMO, check=True)["changed"]


def test_check_mode_before_torchserve_is_installed(apply, tmp_path):
    missing = {"base_url": "http://127.0.0.1:9", "key_file": str(tmp_path / "none"), "record": "/nonexistent/state/models.json"}
    result = apply(DEMO, check=True, **missing)
    assert result["changed"]
    assert result["models"][0]["action"] == "registered"


def test_check_mode_while_torchserve_is_stopped_believes_the_record(apply):
    apply(DEMO)
    assert not apply(DEMO, check=True, base_url="http://127.0.0.1:9")["changed"]


def test_stopped_torchserve_is_an_error(apply):
    result = apply(DEMO, base_url="http://127.0.0.1:9")
    assert result["failed"]
    assert "http://127.0.0.1:9/models/demo/all" in result["msg"]
    assert "torchserve.service" in result["msg"]


def test_what_another_runtime_serves_stays_recorded(fake, apply):
    llama = {"name": "llama", "version": "1.0", "file": "llama-1.0-0", "runtime": "openai"}
    apply.record.write_text(json.dumps({"models": [llama]}))
    assert apply(DEMO)["changed"]
    assert apply.recorded()["llama", "1.0"]["runtime"] == "openai"
    # A host that had no other runtime has the record that it always had.
    assert "runtime" not in apply.recorded()["demo", "1.0"]


def test_record_is_healed(fake, apply):
    fake.put("demo", description("1.0", FILE))
    assert apply(DEMO, check=True)["changed"]
    assert apply(DEMO)["changed"]
    assert not apply(DEMO)["changed"]
    apply.record.write_text("not json")
    assert apply(DEMO)["changed"]
    assert ("demo", "1.0") in apply.recorded()


def test_other_content_is_refused_before_any_change(fake, apply):
    fake.put("demo", description("1.0", "demo-1.0-ffffffffffff.mar"))
    result = apply({**DEMO, "name": "other"}, DEMO)
    assert result["failed"]
    assert "registered with other content" in result["msg"]
    assert "publish the new content under one, or remove this one (state: absent) first." in result["msg"]
    assert not fake.changes()


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([DEMO, DEMO], "twice"),
        ([{**DEMO, "sha256": None}], "has no sha256"),
        ([{**DEMO, "object": None}], "has no object and no bundle"),
        ([{**DEMO, "bundle": "bundles/demo"}], "has an object and a bundle"),
        ([{**DEMO, "sha256": "abc"}], "64 hexadecimal digits"),
        ([{**DEMO, "workers": 0}], "at least 1"),
        ([{**DEMO, "batch_size": -1}], "batch_size of model demo 1.0 must be at least 1"),
        ([{**DEMO, "name": "../x"}], "The name '../x' in the list of models must be of letters"),
        ([{**DEMO, "version": "1..0"}], "no two dots in a row"),
        ([{**DEMO, "default": True}, {**DEMO, "version": "2.0", "default": True}], "both 1.0 and 2.0"),
        ([{**DEMO, "batch_sze": 4}], "batch_sze"),
    ],
)
def test_bad_lists(fake, apply, models, words):
    result = apply(*models)
    assert result["failed"]
    assert words in result["msg"]
    assert not fake.calls


def test_scales(fake, apply):
    apply(DEMO)
    result = apply({**DEMO, "workers": 3})
    assert result["models"][0]["action"] == "scaled"
    assert result["models"][0]["workers_ready"] == 3
    assert apply.recorded()["demo", "1.0"]["workers"] == 3
    assert not apply({**DEMO, "workers": 3})["changed"]


def test_new_default_then_the_old_version_goes(fake, apply):
    apply(DEMO)
    (apply.store / FILE).write_bytes(CONTENT)
    new, old = {**DEMO, "version": "2.0", "default": True}, {"name": "demo", "version": "1.0", "state": "absent"}
    predicted = apply(old, new, check=True, diff=True)
    result = apply(old, new, diff=True)
    assert [model["action"] for model in result["models"]] == ["removed", "registered"]
    assert predicted["diff"] == result["diff"]
    assert list(fake.models["demo"]) == ["2.0"]
    assert fake.defaults["demo"] == "2.0"
    assert not (apply.store / FILE).exists()
    assert list(apply.recorded()) == [("demo", "2.0")]
    assert not apply(old, new)["changed"]


def test_removing_the_default_version_leaves_another_default(fake, apply):
    apply(DEMO, {**DEMO, "version": "2.0"})
    assert apply.recorded()["demo", "1.0"]["default"]
    gone = {"name": "demo", "version": "1.0", "state": "absent"}
    predicted = apply(gone, check=True, diff=True)
    assert apply(gone, diff=True)["diff"] == predicted["diff"]
    assert fake.defaults["demo"] == "2.0"
    assert apply.recorded()["demo", "2.0"]["default"]


def test_default_is_set_on_a_registered_version(fake, apply):
    apply(DEMO, {**DEMO, "version": "2.0"})
    result = apply(DEMO, {**DEMO, "version": "2.0", "default": True})
    assert [model["action"] for model in result["models"]] == ["unchanged", "default_set"]
    assert not apply.recorded()["demo", "1.0"]["default"]


ONE, TWO = DEMO, {**DEMO, "version": "2.0"}
GONE = {"name": "demo", "version": "1.0", "state": "absent"}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("models", "version"),
    [
        ([ONE, {**TWO, "default": True}], "2.0"),
        ([{**TWO, "default": True}], "2.0"),
        ([TWO, GONE], "2.0"),
        # What is registered and not listed would become it.
        ([GONE], "1.5"),
    ],
)
def test_what_answers_is_left_to_a_rollout(fake, apply, models, version, check):
    apply(ONE, *([{**DEMO, "version": "1.5"}] if version == "1.5" else []))
    fake.calls.clear()
    before = apply.record.read_text()
    result = apply(*models, check=check, replace_default=False)
    assert result["failed"]
    assert f"answers with version 1.0, and would with {version}. Nothing was changed" in result["msg"]
    assert f"run the playbook rollout with {version} as the default version" in result["msg"]
    assert not fake.changes() and apply.record.read_text() == before


def test_what_does_not_change_who_answers_needs_no_rollout(fake, apply):
    keep = {"replace_default": False}
    assert not apply({**ONE, "default": True}, TWO, **keep).get("failed")
    assert (list(fake.models["demo"]), fake.defaults["demo"]) == (["1.0", "2.0"], "1.0")
    assert apply({**ONE, "default": True}, {**TWO, "workers": 2}, **keep)["models"][1]["action"] == "scaled"
    fake.models["demo"]["1.0"]["workers"] = []
    assert apply(ONE, TWO, **keep)["models"][0]["action"] == "reregistered" and fake.defaults["demo"] == "1.0"
    # As after a start that could restore one of two only.
    fake.defaults["demo"] = "2.0"
    assert apply({**ONE, "default": True}, TWO, **keep)["changed"] and fake.defaults["demo"] == "1.0"
    assert apply({**GONE, "version": "2.0"}, **keep)["changed"]
    assert apply(GONE, **keep)["changed"] and "demo" not in fake.models


def test_leftover_of_a_failed_registration_is_cleared_and_tried_once_more(fake, apply):
    fake.failures = [(500, "WorkerInitializationException", "Failed to start workers", description("1.0", FILE, 0))]
    assert apply(DEMO)["models"][0]["action"] == "registered"
    assert "DELETE /models/demo/1.0" in fake.changes()


def test_second_failure_names_what_torchserve_said(fake, apply):
    apply({**DEMO, "name": "other"})
    left = description("1.0", FILE, 0)
    fake.failures = [(500, "WorkerInitializationException", "Failed to start workers for model demo", left)] * 2
    result = apply({**DEMO, "name": "other"}, DEMO)
    assert result["failed"]
    assert "500: Failed to start workers for model demo. See journalctl" in result["msg"]
    assert "other" in fake.models
    assert "demo" not in fake.models
    assert list(apply.recorded()) == [("other", "1.0")]


def test_a_model_that_finds_too_little_memory_on_its_gpu(fake, apply):
    left = description("1.0", FILE, 0, min_workers=1, deviceType="gpu")
    fake.failures = [(507, "InternalServerException", "Failed to start workers for model demo version: 1.0", left)] * 2
    result = apply(DEMO, device="gpu")
    assert "answered 507: Failed to start workers for model demo version: 1.0. Loading it failed in CUDA, mostly for" in result["msg"]
    assert "demo" not in fake.models


def test_plugin_error_is_quoted_and_what_succeeded_is_recorded(fake, apply):
    apply({**DEMO, "name": "first"})
    fake.failures = [(502, "BadGatewayException", "The origin answered 403 for models/demo.mar.", None)]
    result = apply({**DEMO, "name": "first"}, DEMO)
    assert "502: The origin answered 403 for models/demo.mar. Check the object models/demo.mar" in result["msg"]
    assert "what was served before is still served" in result["msg"]
    assert [model["name"] for model in result["models"]] == ["first"]


def test_missing_plugin(fake, apply):
    fake.plugin = False
    assert "has no endpoint plugin" in apply(DEMO)["msg"]


def test_model_without_workers_is_registered_again(fake, apply):
    fake.put("demo", description("1.0", FILE, 0, min_workers=1))
    assert apply(DEMO)["models"][0]["action"] == "reregistered"


def test_workers_that_never_become_ready(fake, apply):
    def register(path, query):
        (apply.store / FILE).write_bytes(CONTENT)
        fake.put("demo", description("1.0", FILE, 2, status="UNLOADING"))
        return 200, {}

    fake.register = register
    result = apply({**DEMO, "workers": 2}, timeout=0)
    assert "has 0 of 2 workers READY after 0 s: the workers are UNLOADING, UNLOADING" in result["msg"]
    # A new version that does not come up is not left behind.
    assert "demo" not in fake.models
    assert not (apply.store / FILE).exists()
    assert not apply.record.exists()


def test_worker_on_the_cpu_is_not_ready_for_gpu(fake, apply, monkeypatch):
    monkeypatch.setattr(_torchserve, "GPU_GRACE_S", 0)
    # TorchServe gave it a GPU, the handler stays on the CPU.
    fake.configs["demo"] = {"deviceType": "gpu"}
    result = apply(DEMO, device="gpu")
    assert "0 of 1 workers READY" in result["msg"]
    assert "runs on the CPU" in result["msg"]
    assert "demo" not in fake.models
    assert not apply.record.exists()


def test_torchserve_without_a_gpu_is_named(fake, apply):
    result = apply(DEMO, device="gpu")
    assert "with device: gpu: TorchServe at" in result["msg"]
    assert "took deviceType: cpu" in result["msg"]
    assert "set device: cpu in the entry" in result["msg"]
    assert "demo" not in fake.models


def test_a_cpu_model_on_a_gpu_host(fake, apply):
    fake.configs["demo"] = {"deviceType": "cpu"}
    result = apply({**DEMO, "device": "cpu"}, device="gpu")
    assert (result["models"][0]["action"], result["models"][0]["workers_ready"]) == ("registered", 1)
    assert apply.recorded()["demo", "1.0"]["device"] == "cpu"
    assert not apply({**DEMO, "device": "cpu"}, device="gpu")["changed"]
    forgotten = apply(DEMO, device="gpu")["msg"]
    assert "registered with device cpu, not gpu, at" in forgotten
    assert "set device: cpu in the entry" in forgotten
    assert not apply({**DEMO, "device": "cpu"}, device="gpu", base_url="http://127.0.0.1:9", check=True)["changed"]


def test_a_model_that_is_given_a_gpu_is_not_called_a_cpu_model(fake, apply):
    fake.configs["demo"] = {"deviceType": "gpu"}
    result = apply({**DEMO, "device": "cpu"}, device="gpu")
    assert "with device: cpu" in result["msg"]
    assert "took deviceType: gpu" in result["msg"]
    assert "write deviceType: cpu there" in result["msg"]
    assert "demo" not in fake.models
    # A host that says nothing of GPUs does not mind one.
    assert apply(DEMO)["models"][0]["action"] == "registered"


@pytest.mark.parametrize("check", [True, False])
def test_other_parameters_are_refused(fake, apply, check):
    apply({**DEMO, "batch_size": 4})
    calls = fake.changes()
    result = apply({**DEMO, "batch_size": 8, "response_timeout": 60}, check=check)
    assert "registered with batch_size 4, not 8, and response_timeout 120, not 60, at" in result["msg"]
    assert "remove this one (state: absent) first" in result["msg"]
    assert fake.changes() == calls
    assert not apply({**DEMO, "batch_size": 4})["changed"]


def test_a_parameter_that_is_added_is_applied_or_refused(fake, apply):
    apply(DEMO)
    result = apply({**DEMO, "batch_size": 4})
    assert "registered with batch_size 1, not 4" in result["msg"]
    assert apply.recorded()["demo", "1.0"]["params"] == {}
    # It is so already.
    assert apply({**DEMO, "batch_size": 1})["changed"]
    assert apply.recorded()["demo", "1.0"]["params"] == {"batch_size": 1}
    assert not apply({**DEMO, "batch_size": 1})["changed"]


def test_a_parameter_that_is_not_named_any_more_is_still_so(apply):
    apply({**DEMO, "batch_size": 4})
    assert not apply(DEMO)["changed"]
    assert apply.recorded()["demo", "1.0"]["params"] == {"batch_size": 4}


def test_a_version_that_serves_nothing_takes_other_parameters(fake, apply):
    fake.put("demo", description("1.0", FILE, 1, status="UNLOADING"))
    assert apply({**DEMO, "startup_timeout": 600})["models"][0]["action"] == "reregistered"
    assert fake.models["demo"]["1.0"]["startupTimeout"] == 600


def test_a_parameter_that_this_torchserve_does_not_know(fake, apply):
    old = description("1.0", FILE)
    del old["startupTimeout"]
    fake.register = lambda path, query: (fake.put("demo", old), (200, {}))[1]
    assert "has no startup_timeout: drop it from the entry" in apply({**DEMO, "startup_timeout": 600})["msg"]
    assert "demo" not in fake.models


@pytest.mark.parametrize(("configured", "workers"), [(1, 2), (4, 1)])
def test_workers_of_the_list_win_over_those_in_the_archive(fake, apply, configured, workers):
    fake.configs["demo"] = {"minWorkers": configured, "maxWorkers": configured}
    result = apply({**DEMO, "workers": workers})
    assert (result["models"][0]["action"], result["models"][0]["workers_ready"]) == ("registered", workers)
    assert not apply({**DEMO, "workers": workers})["changed"]


def test_workers_between_two_limits_are_scaled(fake, apply):
    fake.put("demo", {**description("1.0", FILE, 2), "minWorkers": 1, "maxWorkers": 2})
    assert apply(DEMO)["models"][0]["action"] == "scaled"
    assert not apply(DEMO)["changed"]


def test_timeouts_in_the_archive_win_and_that_is_an_error(fake, apply):
    apply({**DEMO, "name": "other"})
    fake.configs["demo"] = {"responseTimeout": 60}
    real = fake.register
    fake.register = lambda path, query: ((apply.store / FILE).write_bytes(CONTENT), real(path, query))[1]
    result = apply({**DEMO, "response_timeout": 33, "startup_timeout": 44, "batch_size": 4})
    assert "model demo 1.0 with response_timeout: 33, startup_timeout: 44: TorchServe at" in result["msg"]
    assert "took responseTimeout: 60, startupTimeout: 120" in result["msg"]
    assert "write responseTimeout: 33, startupTimeout: 44 there and publish it as a new version" in result["msg"]
    assert "or drop response_timeout, startup_timeout from the entry" in result["msg"]
    # Nothing is left of it.
    assert list(fake.models) == ["other"]
    assert list(apply.recorded()) == [("other", "1.0")]
    assert not (apply.store / FILE).exists()
    assert apply({**DEMO, "response_timeout": 60, "startup_timeout": 120})["models"][0]["action"] == "registered"


@pytest.mark.parametrize("named", [True, False])
def test_the_default_version_is_the_default_again_after_it_was_registered_again(fake, apply, named):
    first, second = {**DEMO, "default": named}, {**DEMO, "version": "2.0"}
    apply(first, second)
    fake.models["demo"]["1.0"]["workers"] = []
    predicted = apply(first, second, check=True, diff=True)
    result = apply(first, second, diff=True)
    assert [model["action"] for model in result["models"]] == ["reregistered", "unchanged"]
    assert result["diff"]["after"] == predicted["diff"]["after"]
    assert fake.defaults["demo"] == "1.0"
    assert apply.recorded()["demo", "1.0"]["default"]
    assert not apply(first, second)["changed"]


def test_the_default_version_that_failed_meanwhile_is_the_default_again(fake, apply):
    other = {**DEMO, "version": "2.0"}
    apply(DEMO, other)
    fake.models["demo"]["1.0"]["workers"] = []
    fake.failures = [(502, "BadGatewayException", "The origin answered 503.", None)]
    assert "The origin answered 503." in apply(DEMO, other)["msg"]
    assert fake.defaults["demo"] == "2.0"
    apply(DEMO, other)
    assert fake.defaults["demo"] == "1.0"


def test_another_default_version_of_the_list_stays(fake, apply):
    apply(DEMO, {**DEMO, "version": "2.0"})
    fake.models["demo"]["1.0"]["workers"] = []
    apply(DEMO, {**DEMO, "version": "2.0", "default": True})
    assert fake.defaults["demo"] == "2.0"


def test_the_newest_version_becomes_the_default_when_the_default_goes(fake, apply):
    versions = ["8.0", "9.0", "10.0"]
    apply(*({**DEMO, "version": version} for version in versions))
    predicted = apply({"name": "demo", "version": "8.0", "state": "absent"}, check=True, diff=True)
    assert predicted["diff"]["before"].split(":")[0] == "demo 8.0"
    assert apply({"name": "demo", "version": "8.0", "state": "absent"}, diff=True)["diff"] == predicted["diff"]
    assert fake.defaults["demo"] == "10.0"


def test_via_api(fake, apply, monkeypatch):
    model = {**DEMO, "object": None}
    assert "has no " in apply(model, via="api")["msg"]
    (apply.store / FILE).write_bytes(b"other")
    assert "has sha256" in apply(model, via="api")["msg"]
    (apply.store / FILE).write_bytes(CONTENT)
    assert "is not a .mar" in apply(model, via="api")["msg"]
    assert not fake.changes()
    monkeypatch.setattr(_model_registrar.zipfile, "is_zipfile", lambda path: True)
    result = apply(model, via="api")
    assert (result["models"][0]["action"], result["models"][0]["bytes"]) == ("registered", {})


@pytest.fixture
def bundle(apply, tmp_path):
    """The entry of a bundle that is on the host; ``said`` is what its TorchServe manifest says."""

    def bring(**said):
        said = {"modelName": "demo", "modelVersion": "1.0", **said}
        contents = {"MAR-INF/MANIFEST.json": json.dumps({"model": said}).encode(), "empty": b"", "weights.bin": CONTENT}
        files = [_bundle.File(path, len(content), hashlib.sha256(content).hexdigest(), "0644") for path, content in contents.items()]
        content = _bundle.manifest_bytes(_bundle.Manifest(files, []))
        sha256 = hashlib.sha256(content).hexdigest()
        bring.manifest, bring.directory = tmp_path / f"{sha256}.json", apply.store / f"demo-1.0-{sha256[:12]}"
        bring.manifest.write_bytes(content)
        for path, content in contents.items():
            (bring.directory / path).parent.mkdir(parents=True, exist_ok=True)
            (bring.directory / path).write_bytes(content)
        return {"name": "demo", "version": "1.0", "bundle": "bundles/demo", "sha256": sha256}

    return bring


def test_a_bundle_is_registered_as_the_directory_that_it_is(fake, apply, bundle, tmp_path):
    model = bundle()
    predicted = apply(model, check=True, diff=True, manifest_store="/nonexistent")
    result = apply(model, diff=True, manifest_store=str(tmp_path))
    assert result["diff"] == predicted["diff"]
    assert result["diff"]["after"] == f"demo 1.0: {bundle.directory.name}, workers 1, default\n"
    assert (result["models"][0]["action"], result["models"][0]["file"]) == ("registered", bundle.directory.name)
    assert result["models"][0]["bytes"] == {}
    assert fake.changes() == ["POST /models"]
    assert fake.models["demo"]["1.0"]["modelUrl"] == bundle.directory.name
    recorded = apply.recorded()["demo", "1.0"]
    assert (recorded["file"], recorded["kind"], recorded["sha256"]) == (bundle.directory.name, "bundle", model["sha256"])
    assert not apply(model)["changed"]
    # As an object it would be another content.
    assert "registered with other content" in apply({**model, "bundle": None, "object": "demo.mar"})["msg"]


def test_a_bundle_that_goes_leaves_its_directory_to_model_artifact(fake, apply, bundle, tmp_path):
    model = bundle()
    apply(model, manifest_store=str(tmp_path))
    assert apply({**model, "state": "absent"})["models"][0]["action"] == "removed"
    assert (fake.models, apply.recorded()) == ({}, {})
    assert bundle.directory.is_dir()
    assert not apply({**model, "state": "absent"})["changed"]


def other_weights(bundle):
    (bundle.directory / "weights.bin").write_bytes(CONTENT[::-1])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda bundle: bundle.manifest.unlink(), "json on this host: No such file or directory. Run the playbook distribute"),
        (lambda bundle: bundle.manifest.write_bytes(b"{}"), "json on this host: it has sha256 44136fa355b3678a"),
        (
            lambda bundle: bundle.directory.rename(bundle.directory.with_name("x")),
            "on this host is not there; run the playbook distribute.",
        ),
        (other_weights, "has weights.bin with sha256 "),
    ],
)
def test_a_bundle_is_verified_before_torchserve_sees_it(fake, apply, bundle, tmp_path, damage, words):
    model = bundle()
    damage(bundle)
    result = apply(model, manifest_store=str(tmp_path))
    assert words in result["msg"]
    assert not fake.changes()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"modelName": "other"}, "in the bundle bundles/demo says other 1.0. Make name and version in the list of models equal to it"),
        ({"modelVersion": None}, "says demo . Make"),
    ],
)
def test_a_bundle_of_another_model(fake, apply, bundle, tmp_path, said, words):
    assert words in apply(bundle(**said), manifest_store=str(tmp_path))["msg"]
    assert not fake.changes()


def test_name_that_torchserve_takes_for_its_token_api(apply):
    assert apply({**DEMO, "name": "tokenizer"})["models"][0]["action"] == "registered"
    assert not apply({**DEMO, "name": "tokenizer"})["changed"]


def test_a_new_key_is_read_again(fake, apply, monkeypatch):
    keys = fake.key_file.read_text()
    fake.key_file.write_text(keys.replace("mgmtKEY1", "newKEY"))
    old = fake.key_file.with_name("old.json")
    old.write_text(keys)
    monkeypatch.setattr(_torchserve.time, "sleep", lambda seconds: old.write_text(fake.key_file.read_text()))
    assert apply(DEMO, key_file=str(old))["changed"]


def test_the_key_is_never_shown(fake, apply):
    fake.failures = [(502, "BadGatewayException", "leaked Bearer mgmtKEY1", None)]
    result = apply(DEMO)
    assert result["failed"]
    assert "mgmtKEY1" not in json.dumps(result)


def test_wrong_key(fake, apply, tmp_path, monkeypatch):
    monkeypatch.setattr(_torchserve.time, "sleep", lambda seconds: None)
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"management": {"key": "WRONGKEY"}}')
    result = apply(DEMO, key_file=str(wrong))
    assert f"refused the management key of {wrong}" in result["msg"]
    assert "WRONGKEY" not in json.dumps({k: v for k, v in result.items() if k != "invocation"})
