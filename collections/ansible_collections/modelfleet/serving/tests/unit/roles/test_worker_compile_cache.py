# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role torchserve installs for compile caches: the program that reads the fingerprint, and what tells the workers."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

FILES = Path(__file__).parents[3] / "roles/torchserve/files"
SHA256, FINGERPRINT = "a1" * 32, "0123456789abcdef"


def load(name):
    spec = importlib.util.spec_from_file_location(f"role_{name}", FILES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Torch:
    """A torch with GPUs, [(name, (major, minor))]."""

    def __init__(self, isa="AVX512", threads=2, version="2.6.0", cuda="12.4", gpus=()):
        self.__version__ = version
        self.version = SimpleNamespace(git_version="abc", cuda=cuda, hip=None)
        self.backends = SimpleNamespace(cpu=SimpleNamespace(get_cpu_capability=lambda: isa))
        self.get_num_threads = lambda: threads
        self.cuda = SimpleNamespace(
            is_available=lambda: bool(gpus),
            device_count=lambda: len(gpus),
            get_device_name=lambda index: gpus[index][0],
            get_device_capability=lambda index: gpus[index][1],
        )


@pytest.fixture
def fingerprint_of(tmp_path, monkeypatch):
    program = load("compile_cache")
    monkeypatch.setenv("CXX", "/nowhere/g++")

    def fingerprint(flags="fpu avx2 avx512f", **torch):
        cpuinfo = tmp_path / "cpuinfo"
        cpuinfo.write_text("".join(f"processor : {number}\nflags\t\t: {flags}\nbugs : x\n\n" for number in range(2)))
        found = program.parts(Torch(**torch), str(cpuinfo))
        return program.fingerprint(found), found

    return fingerprint


def test_one_host_has_one_fingerprint(fingerprint_of):
    first, found = fingerprint_of(gpus=[("NVIDIA A30", (8, 0)), ("NVIDIA A30", (8, 0))])
    assert fingerprint_of(gpus=[("NVIDIA A30", (8, 0))], flags="avx512f fpu avx2")[0] == first
    assert found["gpus"] == ["NVIDIA A30 8.0"]
    assert len(first) == 16


@pytest.mark.parametrize(
    "other",
    [
        {"isa": "AVX2"},
        {"flags": "fpu avx2 avx512f amx_tile"},
        {"threads": 4},
        {"version": "2.6.1"},
        {"cuda": "12.6"},
        {"gpus": [("NVIDIA A30", (8, 0))]},
        {"gpus": [("NVIDIA H100", (9, 0))]},
    ],
)
def test_whatever_the_code_depends_on_makes_another(fingerprint_of, other):
    assert fingerprint_of(**other)[0] != fingerprint_of()[0]


def test_another_compiler_makes_another(fingerprint_of, monkeypatch, tmp_path):
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\necho 'g++ (Debian 14.2.0-19) 14.2.0'\necho Copyright\n")
    compiler.chmod(0o755)
    without, _found = fingerprint_of()
    monkeypatch.setenv("CXX", str(compiler))
    fingerprint, found = fingerprint_of()
    assert found["compiler"] == "g++ (Debian 14.2.0-19) 14.2.0"
    assert fingerprint != without


def test_the_unit_starts_without_a_torch(tmp_path, monkeypatch, capsys):
    program = load("compile_cache")
    kept = tmp_path / "compile_cache.json"
    kept.write_text("that of an earlier start")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert program.main(["--write", str(kept)]) == 0
    assert not kept.exists()
    assert "No compile cache is used" in capsys.readouterr().err
    assert program.main([]) == 1


class Worker:
    def __init__(self, directory, monkeypatch):
        self.directory = directory
        for name in ("caches", "model/MAR-INF"):
            (directory / name).mkdir(parents=True)
        self.says(directory / "model/MAR-INF/MANIFEST.json", {"model": {"modelName": "demo", "modelVersion": "1.0"}})
        self.says(directory / "list.json", {"format": 1, "models": {"demo 1.0": SHA256}})
        self.says(directory / "started.json", {"fingerprint": FINGERPRINT, "parts": {}})
        (directory / "caches" / f"{SHA256[:12]}-{FINGERPRINT}").mkdir()
        monkeypatch.chdir(directory / "model")
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "as the unit says")
        # It runs when it is imported, on a host that has none of these files.
        self.hook = load("sitecustomize")
        for name, value in {"LIST": "list.json", "FINGERPRINT": "started.json", "DIRECTORY": "caches"}.items():
            monkeypatch.setattr(self.hook, name, str(directory / value))

    @staticmethod
    def says(path, value):
        path.write_text(value if isinstance(value, str) else json.dumps(value))

    def told(self):
        self.hook.main()
        return os.environ["TORCHINDUCTOR_CACHE_DIR"]


@pytest.fixture
def worker(tmp_path, monkeypatch):
    return Worker(tmp_path, monkeypatch)


def test_a_worker_finds_the_cache_of_its_model(worker):
    assert worker.told() == str(worker.directory / "caches" / f"{SHA256[:12]}-{FINGERPRINT}")


def test_a_worker_on_another_processor_starts_cold(worker):
    """A reboot on another machine, without Ansible: the directory of that one is not there."""
    worker.says(worker.directory / "started.json", {"fingerprint": "f" * 16, "parts": {}})
    assert worker.told() == worker.hook.COLD


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_worker_that_does_not_know_starts_cold(worker, text):
    worker.says(worker.directory / "started.json", text)
    assert worker.told() == worker.hook.COLD
    (worker.directory / "started.json").unlink()
    assert worker.told() == worker.hook.COLD


@pytest.mark.parametrize("file", ["list.json", "model/MAR-INF/MANIFEST.json"])
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"models": {}}', '{"models": {"other 1.0": "x"}}', '{"model": null}'])
def test_any_other_program_keeps_what_the_unit_says(worker, file, text):
    worker.says(worker.directory / file, text)
    assert worker.told() == "as the unit says"
    (worker.directory / file).unlink()
    assert worker.told() == "as the unit says"
