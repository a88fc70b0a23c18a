# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module without torch-model-archiver; the repository's tests compare its archives with that program's."""

from __future__ import annotations

import json
import os
import sys
import time
import types
import zipfile

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import model_archive

MANIFEST = "MAR-INF/MANIFEST.json"


@pytest.fixture(autouse=True)
def archiver(monkeypatch):
    """As much of model_archiver as the module uses. A second has passed each time it is asked."""
    asked = []

    def manifest(config):
        asked.append(config)
        model = {"modelName": config.model_name, "modelVersion": config.version, "handler": os.path.basename(config.handler)}
        return json.dumps({"createdOn": f"01/02/2026 03:04:{len(asked):02}", "runtime": config.runtime, "model": model})

    names = {
        "model_archiver": {},
        "model_archiver.model_archiver_config": {"ModelArchiverConfig": types.SimpleNamespace},
        "model_archiver.model_packaging_utils": {
            "ModelExportUtils": types.SimpleNamespace(generate_manifest_json=manifest),
            "model_handlers": {"image_classifier": "vision", "base_handler": "anything"},
        },
    }
    for name, content in names.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return asked


@pytest.fixture
def model(tmp_path):
    directory = tmp_path / "model [1]"
    (directory / "extra/deep").mkdir(parents=True)
    (directory / "extra/__pycache__").mkdir()
    (directory / "extra/.git").mkdir()
    for name in ("handler.py", "weights.pt", "labels.json", "extra/a.txt", "extra/deep/b.txt", "extra/__pycache__/x.pyc", "extra/.git/y"):
        (directory / name).write_text(name)
    return directory


@pytest.fixture
def build(run_module, model, tmp_path):
    args = {
        "directory": str(model),
        "dest": str(tmp_path / "archives/demo.mar"),
        "model_name": "demo",
        "version": "1.0",
        "handler": "handler.py",
        "serialized_file": "weights.pt",
        "extra_files": ["*.json", "extra"],
    }

    def run(check=False, **changes):
        values = {name: value for name, value in {**args, **changes}.items() if value is not None}
        return run_module(model_archive.main, values, check=check, diff=True)

    return run


def content(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_builds(build, tmp_path):
    result = build()
    names = [MANIFEST, "a.txt", "deep/b.txt", "handler.py", "labels.json", "weights.pt"]
    assert result["changed"] and result["files"] == names and (result["model_name"], result["version"]) == ("demo", "1.0")
    found = content(result["path"])
    assert list(found) == names and found["deep/b.txt"] == b"extra/deep/b.txt"
    manifest = json.loads(found[MANIFEST])
    assert manifest["createdOn"] == "01/01/1980 00:00:00" and manifest["model"]["modelName"] == "demo"
    assert result["bytes"] == os.path.getsize(result["path"]) and len(result["sha256"]) == 64
    assert result["diff"]["before"] == "" and "weights.pt sha256:" in result["diff"]["after"]
    assert [path.name for path in (tmp_path / "archives").iterdir()] == ["demo.mar"], "nothing else is left"


def test_the_same_files_give_the_same_bytes(build, model, tmp_path):
    first = build()
    before = time.time() - 1000
    for path in model.rglob("*"):
        os.utime(path, (before, before))
        if path.is_file():
            path.chmod(0o600)
    again = build()
    assert not again["changed"] and again["sha256"] == first["sha256"]
    assert build(dest=str(tmp_path / "other.mar"))["sha256"] == first["sha256"]


@pytest.mark.parametrize(
    "change",
    [
        lambda model: (model / "handler.py").write_text("another"),
        lambda model: (model / "extra/new").touch(),
        lambda model: (model / "labels.json").rename(model / "names.json"),
    ],
)
def test_other_content_is_another_archive(build, model, change):
    first = build()
    change(model)
    predicted = build(check=True)
    assert predicted["changed"] and predicted["sha256"] == "" and predicted["diff"]["before"] != predicted["diff"]["after"]
    assert model_archive.report(first["path"])["sha256"] == first["sha256"]
    second = build()
    assert second["changed"] and second["sha256"] != first["sha256"]
    assert not build()["changed"]


def test_an_archive_by_another_program_is_replaced_once(build, tmp_path):
    first = build()
    found = content(first["path"])
    with zipfile.ZipFile(first["path"], "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in found.items():
            archive.writestr(name, data)
    assert build()["sha256"] == first["sha256"]
    (tmp_path / "archives/demo.mar").write_text("no archive")
    assert build()["changed"]
    assert not build()["changed"]


def test_check_mode_on_an_empty_place(build, tmp_path):
    result = build(check=True)
    assert result["changed"] and result["sha256"] == "" and result["bytes"] == 0
    assert not (tmp_path / "archives").exists()


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ({"handler": "image_classifier"}, ["weights.pt"]),
        ({"handler": "handler"}, ["handler.py", "weights.pt"]),
        ({"handler": "handler.py:run"}, ["handler.py", "weights.pt"]),
        ({"handler": "handler:run"}, ["handler.py", "weights.pt"]),
        ({"handler": "BaseHandler", "runtime": "LSP"}, ["weights.pt"]),
        ({"serialized_file": None, "model_file": "extra/a.txt"}, ["a.txt", "handler.py"]),
        ({"extra_files": ["handler.py", "weights.*"]}, ["handler.py", "weights.pt"]),
        ({"extra_files": ["."], "handler": "image_classifier", "serialized_file": None}, None),
    ],
)
def test_what_gets_in(build, model, options, files):
    result = build(**{"extra_files": [], **options})
    if files is None:
        files = ["extra/a.txt", "extra/deep/b.txt", "handler.py", "labels.json", "weights.pt"]
    assert result["files"] == [MANIFEST, *files], result


def test_the_archive_is_not_packed_into_itself(build, model):
    options = {"dest": str(model / "demo.mar"), "extra_files": ["."]}
    assert "demo.mar" not in build(**options)["files"]
    assert not build(**options)["changed"]


def test_a_wildcard_does_not_find_the_archive_itself(build, model, tmp_path):
    (tmp_path / "alias").symlink_to(model)
    options = {"dest": str(tmp_path / "alias/demo.mar"), "extra_files": ["*.[jm]*"]}
    assert build(**options)["files"] == [MANIFEST, "handler.py", "labels.json", "weights.pt"]
    assert not build(**options)["changed"]
    for extra, said in ("*.mar", "there is no such file"), ("demo.mar", "that is the archive itself"):
        assert said in build(**{**options, "extra_files": [extra]})["msg"]


def test_links(build, model, tmp_path):
    (tmp_path / "outside.txt").write_text("outside")
    link = model / "extra/link"
    link.symlink_to(model / "labels.json")
    assert content(build()["path"])["link"] == b"labels.json"
    link.unlink()
    link.symlink_to(tmp_path / "outside.txt")
    for extra in ("extra", "extra/li*"):
        refused = build(extra_files=[extra])
        assert refused["failed"] and "extra/link leads out of " in refused["msg"] and "by itself" in refused["msg"]
    assert content(build(extra_files=["extra/link"])["path"])["link"] == b"outside"
    link.unlink()
    link.symlink_to(model)
    assert "is a link to a directory" in build()["msg"]


@pytest.mark.parametrize("extra", ["*", "dat*", "*/*", "data/*", "*/deep", "../else*/*"])
def test_a_wildcard_takes_nothing_from_elsewhere(build, model, tmp_path, extra):
    """Whether a link is at the end of a path or in it."""
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    for name in ("secret.txt", "deep/secret.txt"):
        (tmp_path / "elsewhere" / name).write_text("secret")
    (model / "data").symlink_to(tmp_path / "elsewhere")
    refused = build(extra_files=[extra], handler="image_classifier")
    assert refused["failed"] and "leads out of {}. Name it in extra_files by itself".format(model) in refused["msg"], refused
    assert "secret.txt" in build(extra_files=["data"])["files"]


def test_a_name_that_is_not_utf_8(build, model):
    with open(os.path.join(os.fsencode(model), b"extra", b"\xff.txt"), "wb"):
        pass
    for extra in "extra", "extra/*.txt":
        result = build(extra_files=[extra])
        assert result["failed"] and "is not UTF-8" in result["msg"] and "udcff.txt" in result["msg"], result
        assert "exception" not in result


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model_name": "a/b"}, "model_name 'a/b' must be of letters"),
        ({"model_name": ""}, "model_name '' must be of letters"),
        ({"version": "../1"}, "version '../1' must be of letters"),
        ({"directory": "/nonexistent"}, "there is no directory /nonexistent"),
        ({"handler": "image_clasifier"}, "is neither the file"),
        ({"handler": "image_classifier", "runtime": "LSP"}, "a handler of TorchServe (BaseHandler, TorchScriptHandler)"),
        ({"serialized_file": "missing.pt"}, "serialized_file"),
        ({"model_file": "extra"}, "extra is not a file. Put it there or correct model_file"),
        ({"config_file": "missing.yaml"}, "correct config_file"),
        ({"requirements_file": "missing.txt"}, "correct requirements_file"),
        ({"extra_files": ["missing.txt"]}, "missing.txt, but there is no such file"),
        ({"extra_files": ["*.none"]}, "*.none, but there is no such file"),
        ({"extra_files": ["/dev/null"]}, "/dev/null is not a regular file"),
        ({"dest": "/proc/none/demo.mar"}, "Failed to build /proc/none/demo.mar"),
        ({"dest": None}, "dest"),
        ({"directory": None}, "src"),
        ({"src": "/a.mar"}, "mutually exclusive"),
        ({"src": "", "directory": None, "dest": None}, "src is empty. Name the archive, or give directory"),
    ],
)
def test_bad_input(build, options, said):
    result = build(**options)
    assert result["failed"] and said in result["msg"], result["msg"]
    assert "exception" not in result


def test_two_files_of_one_name(build, model):
    (model / "extra/weights.pt").write_text("others")
    result = build()
    assert result["failed"] and "would both be weights.pt in the archive" in result["msg"]


def test_the_manifest_is_nobodys_place(build, model):
    (model / "MAR-INF").mkdir()
    (model / "MAR-INF/MANIFEST.json").write_text("{}")
    assert "would take the place of the manifest" in build(extra_files=["."])["msg"]


def test_a_file_that_grows_meanwhile(build, model, tmp_path, monkeypatch):
    monkeypatch.setattr(model_archive.os, "fstat", lambda _handle: types.SimpleNamespace(st_size=3))
    result = build()
    assert result["failed"] and "changed while it was read" in result["msg"]
    assert list((tmp_path / "archives").iterdir()) == []


def test_reports_on_an_archive(build, run_module, tmp_path):
    built = build()
    result = run_module(model_archive.main, {"src": built["path"]}, check=True)
    assert not result["changed"]
    assert {key: result[key] for key in ("path", "sha256", "bytes", "model_name", "version")} == {
        key: built[key] for key in ("path", "sha256", "bytes", "model_name", "version")
    }


def test_warns_of_requirements_that_no_host_installs(build, run_module, model, tmp_path):
    assert not build().get("warnings")
    (model / "requirements.txt").write_text("transformers\n")
    warned = json.dumps(build(requirements_file="requirements.txt").get("warnings", []))
    assert "has requirements.txt, and no host will install it" in warned and "torchserve_pip_packages" in warned
    with zipfile.ZipFile(tmp_path / "other.mar", "w") as archive:
        archive.writestr(MANIFEST, json.dumps({"model": {"modelName": "x", "modelVersion": "1", "requirementsFile": "needs.txt"}}))
    assert "has needs.txt" in json.dumps(run_module(model_archive.main, {"src": str(tmp_path / "other.mar")})["warnings"])


def test_reports_on_other_files(run_module, tmp_path):
    (tmp_path / "data.bin").write_bytes(b"data")
    (tmp_path / "model.mar").write_bytes(b"data")
    result = run_module(model_archive.main, {"src": str(tmp_path / "data.bin")})
    assert result["bytes"] == 4 and result["model_name"] == result["version"] == ""
    assert "it is no model archive" in run_module(model_archive.main, {"src": str(tmp_path / "model.mar")})["msg"]
    assert "No such file" in run_module(model_archive.main, {"src": str(tmp_path / "missing.mar")})["msg"]


def test_the_missing_library_is_named(build, monkeypatch):
    monkeypatch.setitem(sys.modules, "model_archiver.model_archiver_config", None)
    assert "torch-model-archiver" in build()["msg"]
