# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment that TorchServe runs from is whole or is not used, and no password for an index comes into it."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROLE = Path(__file__).resolve().parent.parent / "collections/ansible_collections/modelfleet/serving/roles/torchserve"
SECRET = "cGxhbnRlZC1zZWNyZXQ"
URL = f"https://reader:{SECRET}@pypi.example.com/simple"
FLEET = {
    "modelfleet_address": "10.0.0.1",
    "modelfleet_storage": {"s3": {"bucket": "models", "region": "us-east-1", "access_key": "a", "secret_key": "s"}},
}


def play(run, directory, variables, *, roles=(), tasks=(), options=()):
    """A play on this machine; what it is given wins over the variables of the role."""
    content = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "roles": list(roles), "tasks": list(tasks)}]
    (directory / "play.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    (directory / "vars.yml").write_text(yaml.safe_dump({**FLEET, **variables}), encoding="utf-8")
    return run("ansible-playbook", "-i", "localhost,", directory / "play.yml", "-e", f"@{directory / 'vars.yml'}", *options)


def make_wheel(directory, name, content=""):
    """A package of one module that bears its name."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{'yaml' if name == 'PyYAML' else name}/__init__.py": content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(directory / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def contents(environment):
    return {path.relative_to(environment): path.stat().st_mtime_ns for path in environment.rglob("*") if path.suffix != ".pyc"}


@pytest.mark.skipif(os.geteuid() != 0, reason="the files belong to root")
def test_an_environment_is_whole_or_not_used(run, tmp_path):
    home, wheels = tmp_path / "home", tmp_path / "wheels"
    home.mkdir()
    wheels.mkdir()
    for name in ("torchserve", "PyYAML", "torch", "surplus"):
        make_wheel(wheels, name)

    def tasks_of(files, *packages, options=()):
        variables = {
            "ansible_python_interpreter": sys.executable,
            "__torchserve_home": str(home),
            "torchserve_packages": [],
            "torchserve_python": sys.executable,
            "torchserve_system_site_packages": False,
            "torchserve_wheelhouse": str(wheels),
            "torchserve_pip_packages": list(packages),
        }
        include = [
            {"ansible.builtin.include_role": {"name": "modelfleet.serving.torchserve", "tasks_from": file}} for file in files.split()
        ]
        return play(run, tmp_path, variables, tasks=include, options=options)

    few, packages = ["torchserve", "PyYAML", "torch"], ["torchserve", "PyYAML", "torch", "surplus"]
    good = tasks_of("install", *few)
    assert good.returncode == 0, good.stdout
    (first,) = home.glob("venv-*")
    before = contents(first)
    assert (first / ".installed").exists() and (first / "site-packages/torch").is_dir()

    # A failure changes nothing in what TorchServe runs from, so that there is nothing to do for whoever takes the change back.
    make_wheel(wheels, "torch", "raise ImportError")
    bad = tasks_of("install", *packages)
    assert bad.returncode != 0 and "torch is missing in " in bad.stdout, bad.stdout
    (second,) = set(home.glob("venv-*")) - {first}
    assert not (second / ".installed").exists() and contents(first) == before
    back = tasks_of("install", *few)
    assert back.returncode == 0 and " changed=0 " in back.stdout, back.stdout

    # What is left of it does not come into the next attempt.
    (second / "left").touch()
    checked = tasks_of("install", *packages, options=["--check"])
    assert checked.returncode == 0 and " changed=0 " not in checked.stdout, checked.stdout
    assert (second / "left").exists()
    make_wheel(wheels, "torch")
    other = tasks_of("install", *packages)
    assert other.returncode == 0, other.stdout
    assert (second / "site-packages/surplus").is_dir() and (second / ".installed").exists() and not (second / "left").exists()
    assert contents(first) == before

    # The one of an earlier version of the role, and what is not the role's.
    (home / "venv-0.12.0").mkdir()
    (home / "venv-mine").mkdir()
    cleaned = tasks_of("install clean", *packages)
    assert cleaned.returncode == 0, cleaned.stdout
    assert {path.name for path in home.glob("venv-*")} == {second.name, "venv-mine"}
    assert " changed=0 " in tasks_of("install clean", *packages).stdout


# Nothing can be changed: the first module that runs at all finds no Python.
NO_PYTHON = {"ansible_python_interpreter": "/nonexistent/python", "ansible_become": False}


@pytest.mark.parametrize(
    "variables",
    [
        {"torchserve_pip_index_url": URL},
        {"torchserve_pip_index_url": f"https://{SECRET}@pypi.example.com/simple"},
        {"torchserve_torch_index_url": URL},
        {"torchserve_torch": f"torch @ {URL}/torch-2.6.0-py3-none-any.whl"},
        {"torchserve_pip_packages": ["PyYAML", f"git+{URL}/handlers.git@v1"]},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_a_password_in_a_url_is_refused(run, tmp_path, variables):
    refused = play(run, tmp_path, {**NO_PYTHON, **variables}, roles=["modelfleet.serving.torchserve"], options=["-vvv", "--diff"])
    output = " ".join(refused.stdout.split())
    assert refused.returncode != 0
    assert "has a user or a password in a URL" in output and "/root/.netrc" in output, refused.stdout
    assert SECRET not in output
    assert "/nonexistent/python" not in output, "a module was run"


def test_other_urls_reach_the_hosts(run, tmp_path):
    variables = {
        "torchserve_pip_index_url": "https://pypi.example.com/simple",
        "torchserve_torch": "torch @ https://files.example.com/torch-2.6.0-py3-none-any.whl",
        "torchserve_pip_packages": ["git+https://files.example.com/handlers.git@v1", "git+ssh://git@files.example.com/handlers.git"],
    }
    tried = play(run, tmp_path, {**NO_PYTHON, **variables}, roles=["modelfleet.serving.torchserve"], options=["-vvv"])
    assert tried.returncode != 0
    assert "/nonexistent/python" in tried.stdout, tried.stdout
