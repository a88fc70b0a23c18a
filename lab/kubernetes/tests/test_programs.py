# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the programs of a Kubernetes cluster come from: the cache, or what go and apt-get (here played) give."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent.parent
SCRIPT = HERE / "programs"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controllers-scheduler", "kwok")
DIGEST = re.search(r'"(h1:[^"]+)"', SCRIPT.read_text(encoding="utf-8"))[1]
GO = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$1" in
build) while [ "$1" != -o ]; do shift; done; echo built > "$2" ;;
install) echo built > "$GOBIN/kwok" ;;
version) printf 'kwok: go1.26\\n\\tpath\\tx\\n\\tmod\\tsigs.k8s.io/kwok\\tv0.8.0\\t%s\\n' "$DIGEST" ;;
esac
"""
APT = """#!/bin/sh
touch etcd-server_3.5_all.deb
"""
DPKG = """#!/bin/sh
mkdir -p "$3/usr/bin" && echo etcd > "$3/usr/bin/etcd"
"""


@pytest.fixture
def run(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("go", GO), ("apt-get", APT), ("dpkg-deb", DPKG)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def call(digest=DIGEST):
        environment = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(tmp_path), "CALLS": str(tmp_path / "calls"), "DIGEST": digest}
        done = subprocess.run(
            [sys.executable, str(SCRIPT), "--cache", str(tmp_path / "cache")], env=environment, text=True, capture_output=True, check=False
        )
        calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
        return done, calls

    return call


def directory(tmp_path):
    (found,) = (tmp_path / "cache/programs").iterdir()
    return found


def test_builds_what_is_missing_and_nothing_again(run, tmp_path):
    done, calls = run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(directory(tmp_path))
    assert sorted(os.listdir(directory(tmp_path))) == list(PROGRAMS)
    assert sum(call.startswith("build") for call in calls) == 2
    assert all("-X k8s.io/component-base/version.gitVersion=v" in call for call in calls if call.startswith("build"))
    again, more = run()
    assert again.returncode == 0 and more == calls
    (directory(tmp_path) / "kwok").unlink()
    assert run()[0].returncode == 0
    assert (directory(tmp_path) / "kwok").exists()


def test_another_kwok_is_refused(run, tmp_path):
    done, _calls = run("h1:another")
    assert done.returncode == 1
    assert "Refused kwok v0.8.0: its digest is h1:another" in done.stderr and "Traceback" not in done.stderr
    assert not (directory(tmp_path) / "kwok").exists()


def test_every_module_of_kubernetes_has_the_one_version():
    text = (HERE / "go.mod").read_text(encoding="utf-8")
    replaced = dict(re.findall(r"^\t(k8s\.io/\S+) => \1 (\S+)$", text, re.MULTILINE))
    version = re.search(r'^VERSION = "1\.(\S+)"', SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert len(replaced) == 31 and set(replaced.values()) == {f"v0.{version}"}
    assert f"k8s.io/kubernetes v1.{version}" in text
