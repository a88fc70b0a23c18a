# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With a Python that only writes down how it was called; tests/test_torchserve.py of the repository takes a real one."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import python_environment

QUIET = ("--disable-pip-version-check", "--no-input", "--no-cache-dir")
PYTHON = """#!/bin/sh
printf '%s' "$*" >> {log}
last=
for argument; do last=$argument; done
case "$*" in
*"-m venv"*)
    [ ! -e {directory}/no-venv ] || {{ echo "ensurepip is not available" >&2; exit 1; }}
    mkdir -p "$last/bin" && cp "$0" "$last/bin/python"
    ;;
*"-m pip"*)
    printf ' <%s>' "$(paste -s -d '|' "$last")" >> {log}
    if [ -e {directory}/no-pip ]; then echo "ERROR: No matching distribution found for torchserve" >&2; exit 1; fi
    touch "$(dirname "$0")/../made-by-pip"
    ;;
*sysconfig*) echo {directory}/purelib ;;
*probe*) [ ! -e {directory}/no-probe ] || {{ echo "Traceback" >&2; echo "torch is missing" >&2; exit 1; }} ;;
esac
echo >> {log}
"""


@pytest.fixture
def make(tmp_path, run_module):
    python, log = tmp_path / "python3", tmp_path / "log"
    python.write_text(PYTHON.format(log=log, directory=tmp_path))
    python.chmod(0o755)

    def run(check=False, diff=False, **options):
        log.write_text("")
        path = str(tmp_path / "home" / "venv-1")
        args = {"path": path, "python": str(python), "packages": ["example"], "probe": "probe", **options}
        return run_module(python_environment.main, args, check=check, diff=diff)

    run.path = tmp_path / "home" / "venv-1"
    run.directory = tmp_path
    run.calls = lambda: log.read_text().splitlines()
    # (arguments that matter, packages) of each call of pip
    run.pip = lambda: [
        (
            [word for word in line.partition(" <")[0].split()[3:-2] if word not in QUIET],
            line.partition(" <")[2].rstrip(">").split("|"),
        )
        for line in run.calls()
        if line.startswith("-m pip install")
    ]
    return run


def test_made_once(make):
    assert make(content="packages: example\n")["changed"]
    assert (make.path / ".installed").read_text().startswith("packages: example\nmade: 20")
    assert os.readlink(make.path / "site-packages") == str(make.directory / "purelib")
    again = make()
    assert not again["changed"] and make.calls() == []


def test_check_mode_and_diff(make):
    (make.directory / "home").mkdir()
    predicted = make(check=True, diff=True, content="packages: example\n")
    assert predicted["changed"] and predicted["diff"]["after"] == "packages: example\n"
    assert make.calls() == [] and not make.path.exists()


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("no-venv", ["Failed to make the environment ", "ensurepip is not available", "Install the venv module"]),
        ("no-pip", ["Failed to install example from the package index that pip is configured for", "No matching distribution"]),
        ("no-probe", ["torch is missing"]),
    ],
)
def test_a_failure_leaves_nothing_that_counts(make, trouble, words):
    (make.directory / trouble).touch()
    failed = make()
    assert failed["failed"] and all(word in failed["msg"] for word in words), failed["msg"]
    assert not (make.path / ".installed").exists()
    (make.directory / trouble).unlink()
    make.path.mkdir(parents=True, exist_ok=True)
    (make.path / "left").touch()
    assert make()["changed"]
    assert (make.path / ".installed").exists() and not (make.path / "left").exists()


@pytest.mark.parametrize("python", ["/nonexistent/python3.12", "python9.9"])
def test_a_python_that_is_not_there(make, python):
    assert f"there is no program {python}. Install it, or name another Python." in make(python=python)["msg"]


def test_everybody_can_read_it(make):
    before = os.umask(0o077)
    try:
        make()
    finally:
        assert os.umask(before) == 0o077
    modes = {path: path.stat().st_mode & 0o777 for path in [make.path.parent, make.path, *make.path.rglob("*")] if path.exists()}
    assert {path.name for path, mode in modes.items() if mode & 0o044 != 0o044} == set()
    assert {path.name for path, mode in modes.items() if path.is_dir() and mode & 0o055 != 0o055} == set()


HASH = "--hash=sha256:" + "9f" * 32


def test_what_has_a_hash_is_checked_and_all_of_ours_is_in_the_environment(make):
    hashes = {"torchserve==0.12.0": "sha256:" + "9f" * 32, "torchserve==0.11.1": "sha256:" + "00" * 32}
    make(packages=["torchserve==0.12.0", "PyYAML", "Torch_Serve.x>1"], own=["torch-serve-x"], hashes=hashes)
    alone = ["--ignore-installed", "--no-deps"]
    assert make.pip() == [
        ([*alone, "--require-hashes"], [f"torchserve==0.12.0 {HASH}"]),
        (alone, ["Torch_Serve.x>1"]),
        ([], ["torchserve==0.12.0", "PyYAML", "Torch_Serve.x>1"]),
    ]


def test_each_package_has_one_index(make):
    make(
        first=["torch==2.6.0", "torchvision"],
        first_index_url="https://torch.example.com/cu124",
        index_url="https://pypi.example.com/simple",
    )
    torch, index = "--index-url=https://torch.example.com/cu124", "--index-url=https://pypi.example.com/simple"
    assert make.pip() == [
        (["--ignore-installed", "--no-deps", torch], ["torch==2.6.0", "torchvision"]),
        ([torch], ["torch==2.6.0", "torchvision"]),
        ([index], ["example"]),
    ]


def test_wheels_take_the_place_of_every_index(make):
    make(first=["torch"], first_index_url="https://torch.example.com/cu124", wheels="/srv/wheels")
    assert {tuple(arguments[-2:]) for arguments, _packages in make.pip()} == {("--no-index", "--find-links=/srv/wheels")}


def test_only_wheels_that_are_what_they_should_be_are_used(make):
    wheels = make.directory / "wheels"
    wheels.mkdir()
    for name in ("example-1.0.whl", "stale-0.9.whl"):
        (wheels / name).write_text(name)
    digest = hashlib.sha256(b"example-1.0.whl").hexdigest()
    make(wheels=str(wheels), wheel_sha256={"example-1.0.whl": digest})
    ((_no_index, where),) = {tuple(arguments[-2:]) for arguments, _packages in make.pip()}
    # What an earlier run left in the directory is not offered to pip.
    assert where.startswith("--find-links=") and not where.endswith(str(wheels))
    refused = make(path=str(make.directory / "home/venv-2"), wheels=str(wheels), wheel_sha256={"example-1.0.whl": "9f" * 32})
    assert f"its sha256 is {digest}, expected {'9f' * 32}. Nothing was installed. Remove it" in refused["msg"] and make.pip() == []
    gone = make(path=str(make.directory / "home/venv-2"), wheels=str(wheels), wheel_sha256={"other.whl": "9f" * 32})
    assert "Failed to read the wheel" in gone["msg"] and "No such file" in gone["msg"]


def test_nothing_without_a_hash(make):
    lines = {"first": [f"torch==2.6.0 {HASH}"], "packages": [f"example==1.0 {HASH}", "torchserve==0.12.0"]}
    refused = make(require_hashes=True, **lines)
    assert "Refused to install torchserve==0.12.0" in refused["msg"] and "Add --hash=sha256:" in refused["msg"] and make.pip() == []
    make(require_hashes=True, hashes={"torchserve==0.12.0": "sha256:" + "9f" * 32}, **lines)
    packages = [f"example==1.0 {HASH}", f"torchserve==0.12.0 {HASH}"]
    alone = ["--ignore-installed", "--no-deps", "--require-hashes"]
    assert make.pip() == [
        (alone, lines["first"]),
        (alone, packages),
        (["--require-hashes"], lines["first"]),
        (["--require-hashes"], packages),
    ]


def test_all_its_files_are_recorded(make):
    """Not the two that are written after them."""
    make()
    record = json.loads((make.path / ".files.json").read_text())
    assert set(record["files"]) == {"bin/python", "made-by-pip"} and record["links"] == {"site-packages": str(make.directory / "purelib")}
    assert record["files"]["made-by-pip"] == hashlib.sha256().hexdigest()
    assert (make.path / ".files.json").stat().st_mode & 0o777 == 0o644


def test_a_package_by_url_is_not_fetched_twice(make):
    url = "https://files.example.com/torch-2.6.0-cp311-cp311-linux_x86_64.whl"
    make(first=[f"torch @ {url}"], packages=[f"{url} {HASH}", "torchserve[extra] @ https://files.example.com/ts.whl"], own=["torchserve"])
    alone = ["--ignore-installed", "--no-deps"]
    assert make.pip() == [
        (alone, [f"torch @ {url}"]),
        ([], ["torch"]),
        ([*alone, "--require-hashes"], [f"{url} {HASH}"]),
        (alone, ["torchserve[extra] @ https://files.example.com/ts.whl"]),
        ([], ["torchserve[extra]"]),
    ]


def test_other_environments_are_named(make):
    for name in ("venv-2", "venv-3", "mine"):
        (make.directory / "home" / name).mkdir(parents=True)
    (make.directory / "home" / "venv-4").write_text("")
    found = make(check=True, others="venv-[0-9]")["others"]
    assert found == [str(make.directory / "home" / name) for name in ("venv-2", "venv-3")]
    assert make(others="venv-[0-9]")["others"] == found
    assert json.dumps(make()["others"]) == "[]"
