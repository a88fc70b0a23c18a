# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The play verify on what the roles themselves installed on this machine, below a directory of the test: as it was installed, then one
byte of a program, of a Python file and of a model changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tarfile

import pytest
import yaml
from test_doctor import AWAY, HERE, SYSTEMCTL
from test_repository import COLLECTION
from test_torchserve import java, make_wheel

ROOTS = ("/opt/dragonfly", "/opt/torchserve", "/var/lib/modelfleet", "/var/lib/torchserve")
GROUPS = {"dragonfly_schedulers": ["scheduler-1"], "dragonfly_seed_peers": [], "gpu_hosts": ["gpu-1", "gpu-2"]}
SECRET = "PLANTED/SECRET"


class Fleet:
    """A scheduler and a GPU host on this machine, which have one tree, and a GPU host that is away."""

    def __init__(self, run, directory):
        self.run, self.top = run, directory
        copy = directory / "ansible_collections/modelfleet/serving"
        for part in ("playbooks", "roles", "plugins", "meta"):
            shutil.copytree(COLLECTION / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        for path in [*copy.glob("roles/**/*.yml"), *copy.glob("plugins/modules/*.py")]:
            text = path.read_text(encoding="utf-8")
            moved = re.sub(rf"(?<![\w.])({'|'.join(ROOTS)})\b", rf"{directory}\1", text)
            if moved != text:
                path.write_text(moved, encoding="utf-8")
        for root in ROOTS:
            (directory / root[1:]).mkdir(parents=True)
        (directory / "bin").mkdir()
        (directory / "bin/systemctl").write_text(SYSTEMCTL)
        (directory / "bin/systemctl").chmod(0o755)
        (directory / "units").mkdir()
        for name in ("dragonfly-scheduler", "dfdaemon", "torchserve", "torchserve-models"):
            (directory / f"units/{name}.service").write_text("LoadState=not-found\nMainPID=0\n")
        self.variables = {
            "ansible_python_interpreter": sys.executable,
            "ansible_become": False,
            # Loopback is no address of a fleet.
            "modelfleet_firewall": False,
            "verify_report_path": str(directory / "reports/verify.json"),
            "verify_sbom_dir": str(directory / "sbom"),
            "modelfleet_storage": {"s3": {"bucket": "models", "endpoint": "http://127.0.0.1:1", "access_key": "a", "secret_key": SECRET}},
            "torchserve_java": java(directory),
            "torchserve_packages": [],
            "torchserve_python": sys.executable,
            "torchserve_system_site_packages": False,
            "torchserve_wheelhouse": str(directory / "wheels"),
            "torchserve_pip_packages": ["torchserve", "PyYAML", "torch"],
            "endpoint_plugin_jar": str(directory / "endpoint.jar"),
        }

    def play(self, playbook, *arguments):
        children = {
            group: {"hosts": {name: {"modelfleet_address": "127.0.1.1", **(AWAY if name == "gpu-2" else HERE)} for name in names}}
            for group, names in GROUPS.items()
        }
        (self.top / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": self.variables, "children": children}}))
        path = f"{self.top}/bin{os.pathsep}{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": path, "UNITS": str(self.top / "units"), "ANSIBLE_COLLECTIONS_PATH": str(self.top)}
        return self.run("ansible-playbook", "-i", self.top / "hosts.yml", playbook, *arguments, **environment)

    def install(self):
        """By the roles and their modules."""
        releases = {}
        for name, programs in {"client": ["dfdaemon", "dfget", "dfctl"], "scheduler": ["scheduler"]}.items():
            archive = self.top / f"{name}.tar.gz"
            with tarfile.open(archive, "w:gz") as tar:
                for program in programs:
                    (self.top / program).write_text(f"#!/bin/sh\n# {program}\n")
                    tar.add(self.top / program, arcname=program)
            version = {"client": "1.5.10", "scheduler": "2.5.1"}[name]
            digest = hashlib.sha256(archive.read_bytes()).hexdigest()
            releases[name] = {"name": name, "version": version, "src": str(archive), "sha256": digest, "programs": programs}
        self.variables.update(
            dfdaemon_release_sha256=releases["client"]["sha256"], dragonfly_scheduler_release_sha256=releases["scheduler"]["sha256"]
        )
        (self.top / "wheels").mkdir()
        for name in ("torchserve", "PyYAML", "torch"):
            make_wheel(self.top / "wheels", name)
        (self.top / "endpoint.jar").write_bytes(b"jar")
        (self.top / "opt/torchserve/plugins").mkdir()
        shutil.copy(self.top / "endpoint.jar", self.top / "opt/torchserve/plugins/dragonfly-endpoint.jar")
        content = b"a model"
        model = {"name": "tiny", "version": "1.0", "object": "tiny.mar", "sha256": hashlib.sha256(content).hexdigest()}
        self.model = self.top / f"var/lib/modelfleet/models/tiny-1.0-{model['sha256'][:12]}.mar"
        self.model.parent.mkdir()
        self.model.write_bytes(content)
        self.variables["modelfleet_models"] = [model, self.of_a_hub()]
        tasks = [{"modelfleet.serving.dragonfly_release": release} for release in releases.values()]
        tasks += [
            {"ansible.builtin.include_role": {"name": "modelfleet.serving.torchserve", "tasks_from": file}}
            for file in ("packages", "install")
        ]
        (self.top / "install.yml").write_text(yaml.safe_dump([{"hosts": "gpu-1", "gather_facts": False, "tasks": tasks}]))
        done = self.play(self.top / "install.yml")
        assert done.returncode == 0, done.stdout
        (self.environment,) = self.top.glob("opt/torchserve/venv-*")

    def of_a_hub(self):
        """A model in the cache of root's group, as distribute brings it; returns its entry."""
        commit, content = "0f" * 20, b"{}"
        name = hashlib.sha1(b"blob 2\0" + content, usedforsecurity=False).hexdigest()
        home = self.top / "var/lib/modelfleet/huggingface/root"
        folder = home / "hub/models--org--bert"
        lines = [f"HF_HOME={home}", f"HF_HUB_CACHE={home}/hub", "HF_HUB_OFFLINE=1", "HF_HUB_DISABLE_XET=1", "HF_HUB_DISABLE_TELEMETRY=1"]
        for path, text in {
            folder / "blobs" / name: content.decode(),
            folder / "refs/main": commit,
            home.with_suffix(".env"): "".join(f"{line}\n" for line in lines),
        }.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o444)
        (folder / "snapshots" / commit).mkdir(parents=True)
        (folder / "snapshots" / commit / "config.json").symlink_to(f"../../blobs/{name}")
        home.chmod(0o750)
        self.variables["modelfleet_huggingface_pins"] = {f"org/bert@{commit}": {"files": {"config.json": {"size": 2, "git_sha1": name}}}}
        return {"name": "bert", "version": "1", "huggingface": {"repo": "org/bert", "revision": commit, "group": "root"}}

    def verify(self, *arguments):
        """Returns the finished process and the report."""
        done = self.play("modelfleet.serving.verify", *arguments)
        path = self.top / "reports/verify.json"
        assert path.exists(), done.stdout
        return done, json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.skipif(os.geteuid() != 0, reason="the files belong to root")
def test_one_byte_of_what_is_installed(run, tmp_path):
    fleet = Fleet(run, tmp_path)
    fleet.install()
    before = {path: path.lstat().st_mtime_ns for root in ROOTS for path in (tmp_path / root[1:]).rglob("*")}
    done, report = fleet.verify("--limit", "!gpu-2", "-vvv", "--diff")
    assert done.returncode == 0 and report["findings"] == [], done.stdout[-3000:]
    assert report["not_checked"] == ["gpu-2"] and report["hosts"]["gpu-1"]["files"] > 10
    assert {path: path.lstat().st_mtime_ns for root in ROOTS for path in (tmp_path / root[1:]).rglob("*")} == before
    assert SECRET not in done.stdout
    recap = re.findall(r"^(\S+) +: .* changed=(\d+)", done.stdout.split("PLAY RECAP")[1], re.MULTILINE)
    assert dict(recap) == dict.fromkeys(("scheduler-1", "gpu-1"), "0")

    bill = json.loads((tmp_path / "sbom/gpu-1.cdx.json").read_text(encoding="utf-8"))
    found = {(one["name"], one.get("version")): one for one in bill["components"]}
    assert {("dfdaemon", "1.5.10"), ("torchserve", "1.0"), ("dragonfly-endpoint.jar", None), ("tiny", "1.0")} <= set(found), found
    assert found["bert", "1"]["purl"] == f"pkg:huggingface/org/bert@{'0f' * 20}" and "hashes" not in found["bert", "1"]
    digest = hashlib.sha256((tmp_path / "opt/dragonfly/client/current/dfdaemon").read_bytes()).hexdigest()
    assert found["dfdaemon", "1.5.10"]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert found["tiny", "1.0"]["hashes"][0]["content"] == fleet.variables["modelfleet_models"][0]["sha256"]
    of_scheduler = json.loads((tmp_path / "sbom/scheduler-1.cdx.json").read_text(encoding="utf-8"))["components"]
    assert [(one["name"], one["version"]) for one in of_scheduler] == [("scheduler", "2.5.1")]

    (library,) = fleet.environment.glob("lib/python*/site-packages/ts/__init__.py")
    library.write_text("#")
    program = tmp_path / "opt/dragonfly/client/1.5.10/dfget"
    for path in (program, fleet.model):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    (tmp_path / "sbom/gpu-1.cdx.json").unlink()
    done, report = fleet.verify()
    assert done.returncode == 2 and report["code"] == 2, done.stdout[-3000:]
    found = {(one["host"], one["subject"]): one for one in report["findings"]}
    assert set(found) == {("gpu-1", "programs"), ("gpu-1", "python"), ("gpu-1", "models"), ("gpu-2", "host")}, report["findings"]
    for subject, path in {"programs": program, "python": library, "models": fleet.model}.items():
        one = found["gpu-1", subject]
        assert str(path) in one["cause"] and "expected" in one["cause"] and one["remedy"] and one["severity"] == "problem"
    text = (tmp_path / "reports/verify.txt").read_text(encoding="utf-8")
    for path in (program, library, fleet.model):
        assert str(path) in text
    assert "refused" in found["gpu-2", "host"]["cause"] and (tmp_path / "sbom/gpu-1.cdx.json").exists()
    assert "3 problems" not in report["summary"][0] and report["summary"][0].startswith("4 problems, 0 warnings; 1 of 3 hosts")
