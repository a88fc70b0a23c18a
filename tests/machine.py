# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays on this machine, where they see directories of a test, with a systemctl that starts what units say. The sandbox of a unit is what
systemd alone can try."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "collections"))
from ansible_collections.modelfleet.serving.plugins.module_utils import _bundle

# Starts and stops what a unit says, and remembers it; it does not start anything again.
SYSTEMCTL = r"""#!{python}
import json, os, pathlib, shlex, signal, subprocess, sys, time

UNITS, STATE = pathlib.Path("/etc/systemd/system"), pathlib.Path({state!r})


def lines(text, key):
    return [line.partition("=")[2] for line in text.replace("\\\n", " ").splitlines() if line.startswith(key + "=")]


def words(line):
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line)]


def read(unit):
    path = STATE / unit
    return json.loads(path.read_text()) if path.exists() else dict(pid=0, enabled=False)


def alive(pid):
    try:
        return pid > 0 and pathlib.Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def start(unit, known):
    if alive(known["pid"]):
        return
    texts = [(UNITS / unit).read_text(), *(path.read_text() for path in sorted((UNITS / (unit + ".d")).glob("*.conf")))]
    for text in texts:
        for line in lines(text, "ExecStartPre"):
            subprocess.run(words(line.lstrip("-+")), check=not line.startswith("-"))
    environment = dict(word.split("=", 1) for line in lines(texts[0], "Environment") for word in words(line))
    for kind, place in (("RuntimeDirectory", "/run"), ("StateDirectory", "/var/lib")):
        for directory in lines(texts[0], kind):
            os.makedirs(os.path.join(place, directory), exist_ok=True)
    (directory,) = lines(texts[0], "WorkingDirectory") or ["/"]
    (command,) = lines(texts[0], "ExecStart")
    with open(STATE / (unit + ".log"), "ab") as log:
        options = dict(cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        known["pid"] = subprocess.Popen(words(command), env=dict(PATH=os.environ["PATH"], **environment), **options).pid


def reload(unit, known):
    for line in lines((UNITS / unit).read_text(), "ExecReload"):
        subprocess.run([word.replace("$MAINPID", str(known["pid"])) for word in words(line)], check=True)


def stop(known):
    if alive(known["pid"]):
        os.kill(known["pid"], signal.SIGTERM)
        for _turn in range(200):
            if not alive(known["pid"]):
                break
            time.sleep(0.05)
        else:
            os.kill(known["pid"], signal.SIGKILL)
    known["pid"] = 0


verb, unit = sys.argv[1], sys.argv[-1]
if verb == "show":
    known = read(unit)
    runs = alive(known["pid"])
    print("LoadState=" + ("loaded" if (UNITS / unit).exists() else "not-found"))
    print("UnitFileState=" + ("enabled" if known["enabled"] else "disabled"))
    print("ActiveState=" + ("active" if runs else "inactive"), "SubState=" + ("running" if runs else "dead"), sep="\n")
    print("Result=success", "NRestarts=0", "MainPID=%d" % known["pid"], "NeedDaemonReload=no", sep="\n")
elif verb == "--version":
    print("systemd 257 (257)")
elif verb != "daemon-reload":
    known = read(unit)
    if verb in ("stop", "restart", "disable"):
        stop(known)
    if verb == "reload":
        reload(unit, known)
    if verb in ("start", "restart", "enable") and (verb != "enable" or "--now" in sys.argv):
        start(unit, known)
    if verb in ("enable", "disable"):
        known["enabled"] = verb == "enable"
    (STATE / unit).write_text(json.dumps(known))
    with open(STATE / "calls", "a") as calls:
        calls.write(" ".join(sys.argv[1:]) + "\n")
"""
# What the plays may change, each a directory of the test in its place.
PLACES = {"etc": "/etc", "lib": "/var/lib", "run": "/run", "opt": "/opt", "sysusers": "/usr/lib/sysusers.d"}
RECORD = "/var/lib/modelfleet/state/models.json"


class Machine:
    def __init__(self, run, top):
        if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
            pytest.skip("may not have mounts of its own")
        self.run, self.top = run, top
        self.state, self.files = top / "state", top / "files"
        for directory in (self.state, self.files, top / "bin", *(top / name for name in PLACES if name != "etc")):
            directory.mkdir()
        shutil.copytree("/etc", top / "etc", symlinks=True)
        (top / "etc/systemd/system").mkdir(parents=True, exist_ok=True)
        systemctl = top / "bin/systemctl"
        systemctl.write_text(SYSTEMCTL.replace("{python}", sys.executable).replace("{state!r}", repr(str(self.state))))
        systemctl.chmod(0o755)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def bundle(self, name, version, source):
        """Put the directory ``source`` into the store as distribute leaves a bundle there, and return the sha256 of its manifest."""
        paths = sorted(path for path in source.rglob("*") if path.is_file())
        files = [
            _bundle.File(str(path.relative_to(source)), path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest(), "0644")
            for path in paths
        ]
        manifest = _bundle.manifest_bytes(_bundle.Manifest(files, []))
        sha256 = hashlib.sha256(manifest).hexdigest()
        store = self.top / "lib/modelfleet"
        (store / "models").mkdir(parents=True, exist_ok=True)
        (store / "manifests").mkdir(exist_ok=True)
        (store / f"manifests/{sha256}.json").write_bytes(manifest)
        source.rename(store / f"models/{name}-{version}-{sha256[:12]}")
        return sha256

    def play(self, variables, tasks):
        content = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]
        variables = {
            "ansible_python_interpreter": sys.executable,
            "modelfleet_address": "10.0.0.1",
            "modelfleet_storage": {"s3": {"bucket": "models", "region": "us-east-1", "access_key": "a", "secret_key": "s"}},
            "modelfleet_files_dir": str(self.files),
            **variables,
        }
        (self.top / "play.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
        (self.top / "vars.yml").write_text(yaml.safe_dump(variables), encoding="utf-8")
        mounts = " && ".join(f'mount --bind "$0/{name}" {place}' for name, place in PLACES.items())
        command = ["--mount", "sh", "-c", f'{mounts} && exec "$@"', self.top, "ansible-playbook", "-i", "localhost,", self.top / "play.yml"]
        path = f"{self.top / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return self.run("unshare", *command, "-e", f"@{self.top / 'vars.yml'}", PATH=path)

    def calls(self):
        """What systemctl was told since the last time."""
        path = self.state / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def stop(self):
        """End what units have started, each a session of its own, in the order that it ends its own processes in."""
        pids = [json.loads(path.read_text())["pid"] for path in self.state.glob("*.service")]
        pids = [pid for pid in pids if pid and os.path.exists(f"/proc/{pid}") and os.getsid(pid) == pid]
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while pids and time.monotonic() < deadline:
            pids = [pid for pid in pids if self.runs(pid)]
            time.sleep(0.1)
        for pid in pids:
            os.killpg(pid, signal.SIGKILL)

    @staticmethod
    def runs(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False


def role(name, entry, models="{{ [one] }}"):
    return {
        "ansible.builtin.include_role": {"name": f"modelfleet.serving.{name}", "tasks_from": entry},
        "vars": {"modelfleet_models": models},
    }


def step(state, grace_s=0):
    keys = ["name", "version", "bundle", "sha256", "runtime"]
    entry = f"{{{{ two | dict2items | selectattr('key', 'in', {keys}) | items2dict }}}}"
    return {"modelfleet.serving.model_rollout": {"models": [entry], "state": state, "grace_s": grace_s, "timeout": 600}}


def must_be(*conditions):
    return {"ansible.builtin.assert": {"that": list(conditions)}}
