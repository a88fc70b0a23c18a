# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _runtime_triton
from ansible_collections.modelfleet.serving.plugins.modules import triton_info, triton_model
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_triton import FakeTriton


@pytest.fixture
def host(tmp_path, monkeypatch):
    fake = FakeTriton(tmp_path, monkeypatch)
    yield fake
    fake.close()


@pytest.fixture
def apply(host, run_module):
    return lambda *models, check=False, diff=False, **options: run_module(
        triton_model.main, host.arguments(*models, **options), check=check, diff=diff
    )


@pytest.fixture
def info(host, run_module):
    return lambda **options: run_module(triton_info.main, {"record": str(host.record), **options})


def absent(entry):
    return {"name": entry["name"], "version": entry["version"], "state": "absent"}


def file_of(entry):
    return f"{entry['name']}-{entry['version']}-{entry['sha256'][:12]}"


def test_loads_a_model_once_from_hard_links(host, apply, info):
    model = host.model("2.0")
    result = apply(model, diff=True)
    (one,) = result["models"]
    assert (result["changed"], one["action"], one["workers_ready"], one["file"]) == (True, "loaded", 1, file_of(model))
    assert host.told() == ["load double"] and host.links() == {"double": f"../versions/{file_of(model)}"}
    assert result["diff"]["before"] == "" and result["diff"]["after"] == f"double: {file_of(model)}\n"
    for path in ("config.pbtxt", "1/model.py"):
        assert (host.repository / "models/double" / path).samefile(host.store / file_of(model) / path)
    recorded = host.recorded()["double", "2.0"]
    assert (recorded["runtime"], recorded["kind"], recorded["default"], recorded["device"]) == ("triton", "bundle", True, "cpu")
    again = apply(model)
    assert (again["changed"], again["models"][0]["action"]) == (False, "unchanged") and not host.told()
    found = info()
    assert found["healthy"] and found["release"] == "2.62.0" and found["release_problem"] == ""
    assert [(one["version"], one["workers_ready"], one["gpu"]) for one in found["models"]] == [("2.0", 1, 0)]


def test_a_start_loads_it_again_and_what_did_not_load_is_loaded_once_more(host, apply, info):
    model = host.model("1.0")
    apply(model)
    host.restart()
    assert info()["healthy"] and not apply(model)["changed"]
    host.told()
    host.broken["double"] = "no memory"
    host.restart()
    (one,) = info()["models"]
    assert (one["workers_ready"], one["detail"]) == (0, "Triton says UNAVAILABLE, no memory") and not info()["healthy"]
    result = apply(model)
    assert "Triton does not load model double 1.0: load failed for model 'double'" in result["msg"] and "no memory" in result["msg"]
    assert host.links(), "What is recorded stays what a start loads."
    host.broken.clear()
    host.told()
    assert not apply(model)["changed"] and host.told() == ["load double"]


def test_check_mode_predicts_and_changes_nothing(host, apply):
    model = host.model("1.0")
    predicted = apply(model, check=True, diff=True)
    assert predicted["changed"] and predicted["models"][0]["action"] == "loaded"
    assert not host.told() and not host.links() and not host.record.exists()
    assert predicted["diff"] == apply(model, diff=True)["diff"]
    assert not apply(model, check=True)["changed"]
    gone = apply(absent(model), check=True, diff=True)
    assert gone["models"][0]["action"] == "removed" and host.links()
    assert gone["diff"] == apply(absent(model), diff=True)["diff"]
    # What would come in the same run, and where Triton would be started, nobody can look at.
    missing = {**model, "version": "3.0"}
    host.unit.unlink()
    assert apply(missing, check=True)["models"][0]["action"] == "loaded"


def test_a_model_that_does_not_load_is_gone_again(host, apply):
    host.broken["double"] = "ImportError: no module named torch"
    result = apply(host.model("1.0"))
    assert result["failed"] and result["msg"] == (
        "Triton does not load model double 1.0: load failed for model 'double': version 1 is at UNAVAILABLE state: ImportError: no module "
        "named torch;. See journalctl -u triton.service on this host."
    )
    assert host.told() == ["load double", "unload double"] and not host.links() and not host.record.exists()
    assert not list((host.repository / "versions").iterdir())


def test_one_version_at_a_time(host, apply):
    old, new = host.model("1.0"), host.model("2.0")
    apply(old)
    refused = apply(new)
    assert "this host serves version 1.0, and one version at a time. Nothing was changed: run the playbook rollout" in refused["msg"]
    other = host.model("1.0", files={"config.pbtxt": 'backend: "python"', "1/model.py": "another\n"})
    assert f"this host serves {file_of(old)} under that version, and sha256" in apply(other)["msg"]
    assert "has several versions of double" in apply(old, new)["msg"]
    host.told()
    result = apply(new, absent(old))
    assert [one["action"] for one in result["models"]] == ["loaded", "removed"] and host.told() == ["unload double", "load double"]
    # What is not served any more holds no byte.
    assert [one.name for one in (host.repository / "versions").iterdir()] == [file_of(new)]
    assert set(host.recorded()) == {("double", "2.0")}


PYTHON = 'backend: "python"\n'


@pytest.mark.parametrize(
    ("files", "options", "words"),
    [
        ({"MAR-INF/MANIFEST.json": "{}"}, {}, "has no config.pbtxt; publish the directory of the model with config.pbtxt and one"),
        ({"config.pbtxt": PYTHON, "model.py": ""}, {}, "has no directory of a version, such as 1"),
        (
            {"config.pbtxt": PYTHON, "1/a": "", "2/a": "", "03/a": ""},
            {},
            "has the directories 1, 2 of several versions, and a version here is one",
        ),
        ({"config.pbtxt": f'name: "other" {PYTHON}', "1/a": ""}, {}, "has the name other in its config.pbtxt; call the model so in"),
        ({"config.pbtxt": "max_batch_size: 8", "1/a": ""}, {}, "has no backend and no platform in its config.pbtxt"),
        (
            {"config.pbtxt": "backend: python", "1/a": ""},
            {},
            "has a config.pbtxt that cannot be read: its backend is no plain text in quotes",
        ),
        ({"config.pbtxt": f"{PYTHON}instance_group [ {{ kind: KIND_GPU }} ]", "1/a": ""}, {}, "has an instance_group of KIND_GPU in its"),
        (
            {"config.pbtxt": f"{PYTHON}instance_group {{ kind: KIND_CPU }}", "1/a": ""},
            {"device": "gpu"},
            "has an instance_group of KIND_CPU only in its config.pbtxt, and its device is gpu",
        ),
    ],
)
def test_a_bundle_that_is_no_model_of_triton_changes_nothing(host, apply, files, options, words):
    model = host.model("1.0", files=files, **options)
    for check in (True, False):
        result = apply(model, check=check)
        assert words in result["msg"] and result["msg"].endswith("Nothing was changed."), result["msg"]
    assert result["msg"].startswith("Refused model double 1.0 for Triton: ") and not host.told() and not host.links()


@pytest.mark.parametrize(
    ("release", "words"), [("2.51.0", "with CVE-2025-23319, "), ("2.59.0", "with CVE-"), ("main", "none that can be compared")]
)
def test_a_triton_with_known_holes_loads_nothing(host, apply, info, release, words):
    host.release = release
    result = apply(host.model("1.0"))
    assert result["msg"].startswith("Refused to load a model: the Triton of this host has the release") and words in result["msg"]
    assert not host.told() and not host.links() and words in info()["release_problem"] and not info()["healthy"]
    host.describe(holes="accepted")
    assert apply(host.model("1.0"))["changed"] and info()["healthy"]


def test_a_device_is_what_triton_chose(host, apply, info):
    model = host.model("1.0", device="gpu")
    refused = apply(model)
    assert " s: its instances are on the CPU, not on a GPU; see nvidia-smi on this host. See journalctl" in refused["msg"]
    assert not host.links()
    host.kinds["double"] = "KIND_GPU"
    assert apply(model)["changed"] and [one["gpu"] for one in info()["models"]] == [1]


def test_what_was_changed_in_the_store_is_not_loaded(host, apply):
    model = host.model("1.0")
    path = host.store / file_of(model) / "1/model.py"
    path.write_text(path.read_text().upper())
    result = apply(model)
    assert "has 1/model.py with sha256" in result["msg"] and not host.told() and not host.links()
    path.unlink()
    assert "cannot be linked into" in apply(model)["msg"] and not host.links()


def test_what_another_user_can_change_is_not_loaded(host, apply, monkeypatch):
    """Where TorchServe's plugin downloads, its user may rename in the model store."""
    model = host.model("1.0")
    monkeypatch.setattr(_runtime_triton.os, "geteuid", lambda: 1)
    result = apply(model)
    assert ", which is not root's; run the playbook distribute" in result["msg"] and not host.told() and not host.links()
    assert not list((host.repository / "versions").iterdir())


def test_a_triton_that_does_not_answer(host, apply, info):
    model = host.model("1.0")
    apply(model)
    host.close()
    assert "Failed to call GET" in info()["models"][0]["detail"]
    # It may still have it loaded.
    assert "Failed to call POST" in apply(absent(model))["msg"] and host.links()
    host.active = "inactive"
    assert apply(absent(model))["models"][0]["action"] == "removed" and not host.links()
    host.unit.unlink()
    assert "this host has no triton.service of modelfleet.serving. Run the playbook site." in apply(model)["msg"]


@pytest.mark.parametrize("answer", [(503, b"<html>"), (200, {"a": 1}), (200, [1])])
def test_an_index_that_is_none(host, apply, answer):
    apply(host.model("1.0"))
    host.loaded.clear()
    host.answers["/v2/repository/index"] = answer
    assert "its index answers" in apply(host.model("1.0"))["msg"]
