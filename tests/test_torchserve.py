# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment that TorchServe runs from is whole or is not used, and no password for an index comes into it."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from fleet import only_in_all

pytestmark = only_in_all
ROLE = Path(__file__).resolve().parent.parent / "collections/ansible_collections/modelfleet/serving/roles/torchserve"
SECRET = "cGxhbnRlZC1zZWNyZXQ"
URL = f"https://reader:{SECRET}@pypi.example.com/simple"
FLEET = {
    "modelfleet_address": "10.0.0.1",
    "modelfleet_storage": {"s3": {"bucket": "models", "region": "us-east-1", "access_key": "a", "secret_key": "s"}},
}


def play(run, directory, variables, *, roles=(), tasks=(), options=(), **environment):
    """A play on this machine; what it is given wins over the variables of the role."""
    content = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "roles": list(roles), "tasks": list(tasks)}]
    (directory / "play.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    (directory / "vars.yml").write_text(yaml.safe_dump({**FLEET, **variables}), encoding="utf-8")
    return run("ansible-playbook", "-i", "localhost,", directory / "play.yml", "-e", f"@{directory / 'vars.yml'}", *options, **environment)


def make_wheel(directory, name, content="", requires=()):
    """A package of one module that bears its name, or the one that is known of it."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{ {'PyYAML': 'yaml', 'torchserve': 'ts'}.get(name, name) }/__init__.py": content,
        **({"ts/frontend/model-server.jar": ""} if name == "torchserve" else {}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        + "".join(f"Requires-Dist: {other}\n" for other in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(directory / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def java(directory, version="17.0.15"):
    """A program that says which Java it is."""
    program = directory / f"java-{version}"
    program.write_text(f"""#!/bin/sh\necho 'openjdk version "{version}" 2024-10-15' >&2\n""")
    program.chmod(0o755)
    return str(program)


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
            "torchserve_java": java(tmp_path),
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
    good = tasks_of("packages install", *few)
    assert good.returncode == 0, good.stdout
    (first,) = home.glob("venv-*")
    before = contents(first)
    assert (first / ".installed").exists() and (first / "site-packages/torch").is_dir()

    # A failure changes nothing in what TorchServe runs from, so that there is nothing to do for whoever takes the change back.
    make_wheel(wheels, "torch", "raise ImportError")
    bad = tasks_of("packages install", *packages)
    assert bad.returncode != 0 and "torch is missing in " in bad.stdout, bad.stdout
    (second,) = set(home.glob("venv-*")) - {first}
    assert not (second / ".installed").exists() and contents(first) == before
    back = tasks_of("packages install", *few)
    assert back.returncode == 0 and " changed=0 " in back.stdout, back.stdout

    # What is left of it does not come into the next attempt.
    (second / "left").touch()
    checked = tasks_of("packages install", *packages, options=["--check"])
    assert checked.returncode == 0 and " changed=0 " not in checked.stdout, checked.stdout
    assert (second / "left").exists()
    make_wheel(wheels, "torch")
    other = tasks_of("packages install", *packages)
    assert other.returncode == 0, other.stdout
    assert (second / "site-packages/surplus").is_dir() and (second / ".installed").exists() and not (second / "left").exists()
    assert contents(first) == before

    # The one of an earlier version of the role, and what is not the role's.
    (home / "venv-0.12.0").mkdir()
    (home / "venv-mine").mkdir()
    cleaned = tasks_of("packages install clean", *packages)
    assert cleaned.returncode == 0, cleaned.stdout
    assert {path.name for path in home.glob("venv-*")} == {second.name, "venv-mine"}
    assert " changed=0 " in tasks_of("packages install clean", *packages).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="the files belong to root")
def test_a_system_that_has_it_already_and_a_umask_that_hides_it(run, tmp_path):
    """The environment has TorchServe of its own, from the version that was asked for, and the daemon's user can read all of it."""
    home, wheels, system = tmp_path / "home", tmp_path / "wheels", tmp_path / "system"
    for directory in (home, wheels, system):
        directory.mkdir()
    for name in ("torchserve", "PyYAML", "torch"):
        make_wheel(wheels, name)
        with zipfile.ZipFile(wheels / f"{name}-1.0-py3-none-any.whl") as wheel:
            wheel.extractall(system)
    # A Python whose environments see packages of the system.
    python = tmp_path / "python"
    python.write_text(
        f"""#!/bin/sh
{sys.executable} "$@" || exit 1
for last; do :; done
echo {system} > "$(echo "$last"/lib/python*/site-packages)/system.pth"
"""
    )
    python.chmod(0o755)
    variables = {
        "ansible_python_interpreter": sys.executable,
        "__torchserve_home": str(home),
        "torchserve_java": java(tmp_path),
        "torchserve_packages": [],
        "torchserve_python": str(python),
        "torchserve_wheelhouse": str(wheels),
    }
    variables["torchserve_pip_packages"] = ["torchserve", "PyYAML"]
    include = [
        {"ansible.builtin.include_role": {"name": "modelfleet.serving.torchserve", "tasks_from": file}} for file in ("packages", "install")
    ]
    before = os.umask(0o077)
    try:
        done = play(run, tmp_path, variables, tasks=include)
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stdout
    (environment,) = home.glob("venv-*")
    assert (environment / "site-packages/ts/frontend/model-server.jar").exists()
    # The system's are enough for what is only needed.
    assert not (environment / "site-packages/yaml").exists()
    hidden = [path for path in environment.rglob("*") if path.stat().st_mode & (0o055 if path.is_dir() else 0o044) not in (0o055, 0o044)]
    assert hidden == []


def test_a_torchserve_that_is_not_the_pinned_one_is_refused(run, tmp_path):
    (tmp_path / "wheels").mkdir()
    make_wheel(tmp_path / "wheels", "torchserve")
    (tmp_path / "wheels/torchserve-1.0-py3-none-any.whl").rename(tmp_path / "wheels/torchserve-0.12.0-py3-none-any.whl")
    variables = {
        "ansible_python_interpreter": sys.executable,
        "__torchserve_home": str(tmp_path / "home"),
        "torchserve_java": java(tmp_path),
        "torchserve_packages": [],
        "torchserve_python": sys.executable,
        "torchserve_wheelhouse": str(tmp_path / "wheels"),
    }
    include = [
        {"ansible.builtin.include_role": {"name": "modelfleet.serving.torchserve", "tasks_from": file}} for file in ("packages", "install")
    ]
    refused = play(run, tmp_path, variables, tasks=include)
    output = " ".join(refused.stdout.split())
    assert refused.returncode != 0 and "Failed to install torchserve==0.12.0 from " in output and "DO NOT MATCH THE HASHES" in output, (
        output
    )


def test_nothing_comes_without_a_hash(run, tmp_path):
    """What a package depends on and no line names is refused as well, and a wheel that lies there is not enough."""
    (tmp_path / "wheels").mkdir()
    lines = []
    for name in ("torchserve", "PyYAML", "torch"):
        make_wheel(tmp_path / "wheels", name, requires=["surplus"] if name == "torch" else [])
        digest = hashlib.sha256((tmp_path / f"wheels/{name}-1.0-py3-none-any.whl").read_bytes()).hexdigest()
        lines.append(f"{name}==1.0 --hash=sha256:{digest}")
    make_wheel(tmp_path / "wheels", "surplus")
    variables = {
        "ansible_python_interpreter": sys.executable,
        "__torchserve_home": str(tmp_path / "home"),
        "torchserve_java": java(tmp_path),
        "torchserve_packages": [],
        "torchserve_pip_packages": lines,
        "torchserve_pip_require_hashes": True,
        "torchserve_python": sys.executable,
        "torchserve_system_site_packages": False,
        "torchserve_wheelhouse": str(tmp_path / "wheels"),
    }
    include = [
        {"ansible.builtin.include_role": {"name": "modelfleet.serving.torchserve", "tasks_from": file}} for file in ("packages", "install")
    ]
    refused = play(run, tmp_path, variables, tasks=include)
    output = " ".join(refused.stdout.split())
    assert refused.returncode != 0 and "In --require-hashes mode, all requirements must have their versions pinned" in output, output
    assert "surplus" in output
    digest = hashlib.sha256((tmp_path / "wheels/surplus-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    variables["torchserve_pip_packages"] = [*lines, f"surplus==1.0 --hash=sha256:{digest}"]
    done = play(run, tmp_path, variables, tasks=include)
    assert done.returncode == 0, done.stdout
    whole = [path for path in (tmp_path / "home").glob("venv-*/.files.json") if (path.parent / ".installed").exists()]
    assert len(whole) == 1 and (whole[0].parent / "site-packages/surplus").is_dir()
    assert (tmp_path / "home/wheels/surplus-1.0-py3-none-any.whl").exists()


PACKAGES = """
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"name": {"type": "list"}, "state": {}, "update_cache": {"type": "bool"}}, supports_check_mode=True)
if not module.params["update_cache"]:
    module.fail_json(msg="No package matching 'java' is available")
module.exit_json(changed=True, name=module.params["name"])
"""


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("17.0.15", ""),
        ("check", ""),  # the java would come with the packages
        ("1.8.0_392", "is 1.8.0_392. Set torchserve_java to another one"),
        (None, "is not there. Set torchserve_java to another one"),
    ],
)
def test_the_distribution_has_what_is_needed(run, tmp_path, version, words):
    """Its lists of packages are empty at first."""
    (tmp_path / "library").mkdir()
    (tmp_path / "library/distribution.py").write_text(PACKAGES)
    variables = {
        "ansible_python_interpreter": sys.executable,
        "ansible_package_use": "ansible.legacy.distribution",
        "__torchserve_home": str(tmp_path),
        "torchserve_java": java(tmp_path, version) if version not in (None, "check") else str(tmp_path / "java"),
    }
    include = [{"ansible.builtin.include_role": {"name": "modelfleet.serving.torchserve", "tasks_from": "packages"}}]
    done = play(
        run,
        tmp_path,
        variables,
        tasks=include,
        options=["--check"] if version == "check" else [],
        ANSIBLE_LIBRARY=str(tmp_path / "library"),
    )
    assert (done.returncode == 0) == (not words), done.stdout
    assert "rescued=1" in done.stdout and words in " ".join(done.stdout.split()), done.stdout


PYTHONS = {
    ("python3", True): (["python3-venv", "python3-yaml"], ["python3", "python3-pyyaml"]),
    ("python3", False): (["python3-venv"], ["python3"]),
    ("python3.11", True): (["python3.11-venv"], ["python3.11", "python3.11-pyyaml"]),
    ("/usr/bin/python3.12", False): (["python3.12-venv"], ["python3.12"]),
    ("/opt/python/bin/python3.11", True): ([], []),
}


def test_packages_belong_to_the_python(run, tmp_path):
    tasks = [
        {
            "ansible.builtin.copy": {
                "content": "{{ __torchserve_packages | to_json }}",
                "dest": str(tmp_path / f"packages-{number}"),
                "mode": "0644",
            },
            "vars": {"torchserve_python": python, "torchserve_system_site_packages": system},
        }
        for number, (python, system) in enumerate(PYTHONS)
    ]
    content = [{"hosts": "localhost", "gather_facts": False, "tasks": tasks, "vars_files": [str(ROLE / "vars/main.yml")]}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(content))
    done = run(
        "ansible-playbook",
        "-i",
        "localhost,",
        "-c",
        "local",
        "-e",
        "ansible_python_interpreter={{ansible_playbook_python}}",
        tmp_path / "play.yml",
    )
    assert done.returncode == 0, done.stdout
    for number, (case, (debian, redhat)) in enumerate(PYTHONS.items()):
        found = yaml.safe_load((tmp_path / f"packages-{number}").read_text())
        assert found == {"Debian": ["default-jre-headless", *debian], "RedHat": ["java-17-openjdk-headless", *redhat]}, case


def test_an_index_for_torch_without_torch_is_refused(run, tmp_path):
    refused = play(
        run, tmp_path, {**NO_PYTHON, "torchserve_torch_index_url": "https://torch.example.com"}, roles=["modelfleet.serving.torchserve"]
    )
    assert refused.returncode != 0 and "torchserve_torch_index_url is for what torchserve_torch names" in " ".join(refused.stdout.split())


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
