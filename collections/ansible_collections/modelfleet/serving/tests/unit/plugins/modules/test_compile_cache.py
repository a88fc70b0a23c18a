# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import grp
import hashlib
import json
import os
import pwd
import stat
import zipfile

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _bundle
from ansible_collections.modelfleet.serving.plugins.modules import compile_cache

SHA256 = "a1" * 32
FINGERPRINT, OTHER = "0123456789abcdef", "fedcba9876543210"
MODEL = {"name": "demo", "version": "1.0", "sha256": SHA256}
PLACE = f"{SHA256[:12]}-{FINGERPRINT}"


class Host:
    def __init__(self, directory, run_module):
        self.run_module = run_module
        self.caches, self.models, self.manifests = (directory / name for name in ("caches", "models", "manifests"))
        for one in (self.caches, self.models, self.manifests):
            one.mkdir()
        self.list, self.record = directory / "list.json", directory / "models.json"

    def run(self, *models, check=False, diff=False, **options):
        args = {
            "models": list(models),
            "fingerprint": FINGERPRINT,
            "directory": str(self.caches),
            "list": str(self.list),
            "model_store": str(self.models),
            "manifest_store": str(self.manifests),
            "record": str(self.record),
            "user": pwd.getpwuid(os.getuid()).pw_name,
            "group": grp.getgrgid(os.getgid()).gr_name,
        }
        return self.run_module(compile_cache.main, {**args, **options}, check=check, diff=diff)

    def bring(self, says=None, **files):
        """A cache as model_artifact brings it; returns the sha256 of its manifest."""
        said = {"format": 1, "model": "demo", "version": "1.0", "sha256": SHA256, "fingerprint": FINGERPRINT, **(says or {})}
        content = {"compile-cache.json": json.dumps(said), "ab/kernel.so": "code", **files}
        rows = [_bundle.File(path, len(text), hashlib.sha256(text.encode()).hexdigest(), "0644") for path, text in sorted(content.items())]
        manifest = _bundle.manifest_bytes(_bundle.Manifest(rows, []))
        sha256 = hashlib.sha256(manifest).hexdigest()
        (self.manifests / f"{sha256}.json").write_bytes(manifest)
        tree = self.models / f"demo.compile-1.0-{FINGERPRINT}-{sha256[:12]}"
        for path, text in content.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
            (tree / path).chmod(0o444)
        return sha256

    def state(self):
        files = {str(path.relative_to(self.caches)): path.read_text() for path in self.caches.rglob("*") if path.is_file()}
        return files, sorted(one.name for one in self.caches.iterdir()), self.list.read_text() if self.list.exists() else None


@pytest.fixture
def host(tmp_path, run_module):
    return Host(tmp_path, run_module)


def test_what_came_is_copied_for_the_workers(host):
    cache = host.bring()
    predicted = host.run({**MODEL, "cache": cache}, check=True, diff=True)
    assert host.state() == ({}, [], None)
    result = host.run({**MODEL, "cache": cache}, diff=True)
    assert (result["changed"], result["caches"], result["diff"]) == (True, predicted["caches"], predicted["diff"])
    assert result["caches"][0] == {"name": "demo", "version": "1.0", "path": str(host.caches / PLACE), "action": "restored", "detail": ""}
    kernel = host.caches / PLACE / "ab/kernel.so"
    assert kernel.read_text() == "code"
    assert (stat.S_IMODE(kernel.stat().st_mode), kernel.stat().st_nlink) == (0o640, 1)
    assert stat.S_IMODE((host.caches / PLACE).stat().st_mode) == 0o750
    assert not (host.caches / PLACE / "compile-cache.json").exists()
    assert json.loads(host.list.read_text()) == {"format": 1, "models": {"demo 1.0": SHA256}}


def test_what_workers_wrote_stays(host):
    cache = host.bring()
    host.run({**MODEL, "cache": cache})
    (host.caches / PLACE / "ab/kernel.so").write_text("their own")
    result = host.run({**MODEL, "cache": cache}, diff=True)
    assert (result["changed"], result["caches"][0]["action"]) == (False, "unchanged")
    assert (host.caches / PLACE / "ab/kernel.so").read_text() == "their own"


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({}, "no cache is pinned"),
        ({"cache": "f" * 64}, "Run the playbook distribute, which brings the bundle"),
    ],
)
def test_a_miss_is_a_cold_start(host, options, detail):
    result = host.run({**MODEL, **options})
    assert (result["changed"], result["caches"][0]["action"]) == (True, "cold")
    assert detail in result["caches"][0]["detail"]
    assert host.state()[:2] == ({}, [PLACE])
    assert not host.run({**MODEL, **options})["changed"]


def test_what_was_damaged_on_the_disk_is_a_miss(host):
    cache = host.bring()
    kernel = next(host.models.glob("*/ab/kernel.so"))
    kernel.chmod(0o644)
    kernel.write_text("evil")
    result = host.run({**MODEL, "cache": cache})
    assert result["caches"][0]["action"] == "cold"
    assert "with sha256" in result["caches"][0]["detail"]
    assert host.state()[0] == {}


def test_what_is_exchanged_while_it_is_copied_is_not_restored(host, tmp_path, monkeypatch):
    """Where the plugin downloads, model code may rename in the model store."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    cache = host.bring()
    kernel = next(host.models.glob("*/ab/kernel.so"))

    def exchange(*_args):
        kernel.unlink()
        kernel.symlink_to(secret)

    monkeypatch.setattr(compile_cache, "check_identity", exchange)
    result = host.run({**MODEL, "cache": cache})
    assert "ab/kernel.so in it changed while it was copied" in result["msg"]
    assert host.state()[:2] == ({}, [])


def test_without_a_fingerprint_nothing_is_restored_and_nothing_removed(host):
    (host.caches / f"{'b2' * 6}-{OTHER}").mkdir()
    result = host.run({**MODEL, "cache": host.bring()}, fingerprint="")
    assert (result["caches"][0]["action"], result["removed"]) == ("none", [])
    # The worker then starts cold all the same.
    assert json.loads(host.list.read_text())["models"] == {"demo 1.0": SHA256}


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        ({"model": "other"}, "says model 'other', and demo is wanted"),
        ({"version": "0.9"}, "says version '0.9', and 1.0 is wanted"),
        ({"sha256": "b2" * 32}, "says sha256 'b2"),
        # Made under AVX512, say, and named as if it were of this host.
        ({"fingerprint": OTHER}, f"says fingerprint '{OTHER}', and {FINGERPRINT} is wanted"),
        ({"format": 2}, "says format '2'"),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_the_cache_of_something_else_is_refused(host, says, sentence, check):
    before = host.state()
    result = host.run({**MODEL, "cache": host.bring(says)}, check=check)
    assert result["failed"]
    assert sentence in result["msg"]
    assert "Nothing was changed" in result["msg"]
    assert host.state() == before


def test_a_bundle_that_is_no_cache_is_refused(host):
    result = host.run({**MODEL, "cache": host.bring(**{"compile-cache.json": "[]"})})
    assert "has no compile-cache.json that can be read" in result["msg"]
    assert host.state() == ({}, [], None)


@pytest.mark.parametrize("path", ["../../etc/cron.d/evil", "/etc/cron.d/evil", "ab/../../evil"])
def test_a_cache_with_a_path_outside_its_directory_is_a_miss(host, path):
    """model_artifact brings none such: this one was put on the host."""
    cache = host.bring()
    manifest = host.manifests / f"{cache}.json"
    evil = manifest.read_text().replace("ab/kernel.so", path).encode()
    sha256 = hashlib.sha256(evil).hexdigest()
    (host.manifests / f"{sha256}.json").write_bytes(evil)
    result = host.run({**MODEL, "cache": sha256})
    assert result["caches"][0]["action"] == "cold"
    assert "'..'" in result["caches"][0]["detail"] or "is absolute" in result["caches"][0]["detail"]
    assert host.state()[0] == {}


def test_directories_of_what_is_gone_go(host):
    previous, old_torch, gone = (
        f"{digest * 6}-{fingerprint}" for digest, fingerprint in (("c3", FINGERPRINT), ("a1", OTHER), ("b2", FINGERPRINT))
    )
    for name in (previous, old_torch, gone, "not-ours"):
        (host.caches / name).mkdir()
    retired = {"name": "demo", "version": "0.9", "file": "demo-0.9-c3c3c3c3c3c3.mar", "sha256": "c3" * 32}
    host.record.write_text(json.dumps({"format": 1, "models": [], "previous": [retired]}))
    host.list.write_text(json.dumps({"format": 1, "models": {"demo 0.9": "c3" * 32, "demo 0.8": "b2" * 32}}))
    predicted = host.run(MODEL, check=True)
    result = host.run(MODEL)
    assert result["removed"] == predicted["removed"] == [str(host.caches / old_torch), str(host.caches / gone)]
    assert host.state()[1] == sorted([previous, PLACE, "not-ours"])
    # A rollback registers it again from this disk.
    assert json.loads(host.list.read_text())["models"] == {"demo 0.9": "c3" * 32, "demo 1.0": SHA256}


def test_what_a_run_left_that_was_killed_goes(host):
    (host.caches / ".modelfleet-abc").mkdir()
    host.run(MODEL, check=True)
    assert (host.caches / ".modelfleet-abc").is_dir()
    host.run(MODEL)
    assert sorted(path.name for path in host.caches.iterdir()) == [PLACE]


def test_a_full_disk_is_a_cold_start_and_the_next_run_tries_again(host, monkeypatch):
    cache = host.bring()

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(compile_cache, "_copy", full)
        result = host.run({**MODEL, "cache": cache})
    (one,) = result["caches"]
    assert one["action"] == "none" and "No space left on device" in one["detail"]
    assert not list(host.caches.iterdir())
    assert host.run({**MODEL, "cache": cache})["caches"][0]["action"] == "restored"


def test_a_host_without_such_models_is_left_alone(host):
    assert not host.run()["changed"]
    assert host.state() == ({}, [], None)


def test_what_workers_wrote_is_packed(host, tmp_path):
    outside = tmp_path / "secret"
    outside.write_text("secret")
    host.run(MODEL)
    for path, text in {"ab/k.so": "code", "locks/k.lock": "", "fxgraph/x": "graph", "a/.1.2.tmp": "half", "b/w.tmp": "half"}.items():
        (host.caches / PLACE / path).parent.mkdir(exist_ok=True)
        (host.caches / PLACE / path).write_text(text)
    (host.caches / PLACE / "ab/link.so").symlink_to(outside)
    (host.caches / PLACE / "linked").symlink_to(tmp_path)
    os.mkfifo(host.caches / PLACE / "pipe")
    dest = tmp_path / "packed.zip"
    assert host.run(MODEL, state="packed", dest=str(dest), check=True)["changed"]
    assert not dest.exists()
    result = host.run(MODEL, state="packed", dest=str(dest))
    assert (result["changed"], result["files"]) == (True, 2)
    with zipfile.ZipFile(dest) as archive:
        assert archive.namelist() == ["compile-cache.json", "ab/k.so", "fxgraph/x"]
        said = json.loads(archive.read("compile-cache.json"))
    assert said == {"format": 1, "model": "demo", "version": "1.0", "sha256": SHA256, "fingerprint": FINGERPRINT}
    assert stat.S_IMODE(dest.stat().st_mode) == 0o600
    os.utime(host.caches / PLACE / "ab/k.so", (0, 0))
    assert not host.run(MODEL, state="packed", dest=str(dest))["changed"]


def test_nothing_is_not_packed(host, tmp_path):
    host.run(MODEL)
    assert "has nothing in it" in host.run(MODEL, state="packed", dest=str(tmp_path / "packed.zip"))["msg"]


@pytest.mark.parametrize(
    ("model", "options", "sentence"),
    [
        ({"name": "../x"}, {}, "The name '../x'"),
        ({"sha256": "abc"}, {}, "sha256 of model demo 1.0 is not 64"),
        ({"cache": "abc"}, {}, "cache of model demo 1.0 is not 64"),
        ({}, {"fingerprint": "../../etc"}, "it is not 16 hexadecimal digits"),
        ({}, {"state": "packed"}, "it takes one model"),
        ({}, {"user": "nobody-of-that-name"}, "Failed to give a compile cache to nobody-of-that-name"),
    ],
)
def test_options_that_cannot_be(host, model, options, sentence):
    assert sentence in host.run({**MODEL, **model}, **options)["msg"]
    assert host.state() == ({}, [], None)


def test_all_of_them_go_and_nothing_beside_them(host):
    host.run(MODEL)
    (host.caches / "of-somebody-else").mkdir()
    kept = host.state()
    predicted = host.run(state="absent", models=None, fingerprint=None, check=True, diff=True)
    assert host.state() == kept
    result = host.run(state="absent", models=None, fingerprint=None, diff=True)
    assert predicted == result and result["changed"] and result["removed"] == [str(host.caches / PLACE)]
    assert host.state() == ({}, ["of-somebody-else"], None)
    assert not host.run(state="absent", models=None, fingerprint=None)["changed"]


def test_models_that_are_forgotten_are_none_that_go(host):
    host.run(MODEL)
    kept = host.state()
    assert "state is present but all of the following are missing: models" in host.run(models=None)["msg"]
    assert host.state() == kept
