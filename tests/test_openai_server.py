# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real server of OpenAI's protocol (llama.cpp's own, with a tiny model) as the role runs it: plays on this machine, where they see
directories of the test, with a systemctl that starts what units say. The sandbox of a unit is what systemd alone can try."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY

sys.path[:0] = [str(REPOSITORY / "collections"), str(REPOSITORY / "lab/model")]
import make_gguf  # noqa: E402
from ansible_collections.modelfleet.serving.plugins.module_utils import _bundle  # noqa: E402

SERVERS = REPOSITORY / ".cache/servers"
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not list(SERVERS.glob("xllamacpp-*.whl")), reason="needs root, and the wheel that lab/wheels gets"
)

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
    (directory,) = lines(texts[0], "WorkingDirectory")
    os.makedirs(directory, exist_ok=True)
    (command,) = lines(texts[0], "ExecStart")
    with open(STATE / (unit + ".log"), "ab") as log:
        options = dict(cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        known["pid"] = subprocess.Popen(words(command), env=dict(PATH=os.environ["PATH"], **environment), **options).pid


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


class Host:
    def __init__(self, run, top):
        self.run, self.top = run, top
        self.state = top / "state"
        for directory in (self.state, top / "bin", *(top / name for name in PLACES if name != "etc")):
            directory.mkdir()
        shutil.copytree("/etc", top / "etc", symlinks=True)
        (top / "etc/systemd/system").mkdir(parents=True, exist_ok=True)
        systemctl = top / "bin/systemctl"
        systemctl.write_text(SYSTEMCTL.replace("{python}", sys.executable).replace("{state!r}", repr(str(self.state))))
        systemctl.chmod(0o755)
        with zipfile.ZipFile(next(SERVERS.glob("xllamacpp-*.whl"))) as wheel:
            wheel.extractall(top / "wheel")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        files = top / "files"
        files.mkdir()
        (files / "abc.json").write_text(json.dumps({"prompt": "abc", "max_tokens": 6}))
        (files / "forward.txt").write_text("defghi\n")
        (files / "backward.txt").write_text("bazyxw\n")

    def model(self, version, step, answer):
        """An entry of the list, whose bundle lies in the store as distribute leaves it there."""
        content = self.top / "model.gguf"
        make_gguf.make(content, step)
        file = _bundle.File("model.gguf", content.stat().st_size, hashlib.sha256(content.read_bytes()).hexdigest(), "0644")
        manifest = _bundle.manifest_bytes(_bundle.Manifest([file], []))
        sha256 = hashlib.sha256(manifest).hexdigest()
        store = self.top / "lib/modelfleet"
        directory = store / f"models/letters-{version}-{sha256[:12]}"
        directory.mkdir(parents=True)
        (store / "manifests").mkdir(exist_ok=True)
        (store / f"manifests/{sha256}.json").write_bytes(manifest)
        content.rename(directory / "model.gguf")
        check = {"input_file": "abc.json", "expected_file": answer}
        entry = {
            "name": "letters",
            "version": version,
            "bundle": "models/letters",
            "sha256": sha256,
            "runtime": "openai",
            "port": self.port,
        }
        return {**entry, "environment": {"PYTHONPATH": str(self.top / "wheel")}, "check": check}

    def play(self, models, tasks, *options):
        content = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]
        variables = {
            "ansible_python_interpreter": sys.executable,
            "modelfleet_address": "10.0.0.1",
            "modelfleet_storage": {"s3": {"bucket": "models", "region": "us-east-1", "access_key": "a", "secret_key": "s"}},
            "modelfleet_models": models,
            "modelfleet_files_dir": str(self.top / "files"),
            "openai_server_command": [
                *(sys.executable, str(REPOSITORY / "lab/llama_server"), "--model", "{directory}/model.gguf"),
                *("--alias", "{name}", "--host", "{host}", "--port", "{port}"),
            ],
            "openai_server_start_timeout": 120,
        }
        (self.top / "play.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
        (self.top / "vars.yml").write_text(yaml.safe_dump(variables), encoding="utf-8")
        mounts = " && ".join(f'mount --bind "$0/{name}" {place}' for name, place in PLACES.items())
        command = ["--mount", "sh", "-c", f'{mounts} && exec "$@"', self.top, "ansible-playbook", "-i", "localhost,", self.top / "play.yml"]
        path = f"{self.top / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return self.run("unshare", *command, "-e", f"@{self.top / 'vars.yml'}", *options, PATH=path)

    def calls(self):
        """What systemctl was told since the last time."""
        path = self.state / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def stop(self):
        for path in self.state.glob("*.service"):
            pid = json.loads(path.read_text())["pid"]
            if pid and b"llama_server" in self.command_of(pid):
                os.kill(pid, signal.SIGKILL)

    @staticmethod
    def command_of(pid):
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return b""


@pytest.fixture
def host(run, tmp_path):
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not have mounts of its own")
    running = Host(run, tmp_path)
    yield running
    running.stop()


def role(name, entry):
    return {"ansible.builtin.include_role": {"name": f"modelfleet.serving.{name}", "tasks_from": entry}}


LAYOUT, SERVE, KEEP = role("modelfleet", "host"), role("openai_server", "models"), role("openai_server", "main")
ASK = [
    {"modelfleet.serving.openai_info": {"record": RECORD}, "register": "found"},
    {"ansible.builtin.assert": {"that": ["found.healthy", "found.models | length == 1", "found.models[0].version == wanted"]}},
    {
        "modelfleet.serving.inference_check": {
            "checks": "{{ modelfleet_models | modelfleet.serving.inference_checks(modelfleet_files_dir) }}"
        }
    },
]


def step(state, model, **options):
    entry = {key: model[key] for key in ("name", "version", "bundle", "sha256", "runtime")}
    return {"modelfleet.serving.model_rollout": {"models": [entry], "state": state, "grace_s": 0, "timeout": 120, **options}}


def test_a_model_from_its_bundle_to_its_known_answer_and_to_its_next_version(host):
    one = host.model("1.0", 1, "forward.txt")
    predicted = host.play([one], [LAYOUT, SERVE, KEEP], "--check")
    assert predicted.returncode == 0 and " changed=0 " not in predicted.stdout, predicted.stdout
    assert not host.calls() and not list((host.top / "etc/systemd/system").glob("openai-server-*"))

    served = host.play([one], [LAYOUT, SERVE, KEEP, *ASK], "-e", "wanted=1.0")
    assert served.returncode == 0, served.stdout
    (unit,) = (path.name for path in (host.top / "etc/systemd/system").glob("openai-server-*.service"))
    assert host.calls() == [f"enable --now {unit}"]
    again = host.play([one], [LAYOUT, SERVE, KEEP, *ASK], "-e", "wanted=1.0")
    assert again.returncode == 0 and " changed=0 " in again.stdout and not host.calls(), again.stdout

    # A version that serves gives way to a rollout only, one that gives a wrong answer goes back.
    two = host.model("2.0", 25, "backward.txt")
    refused = host.play([two], [SERVE])
    output = " ".join(refused.stdout.split())
    assert refused.returncode and "Refused model letters 2.0: this host serves version 1.0 at port" in output and not host.calls(), output
    units = role("openai_server", "units")
    rolled = host.play([two], [units, step("prepared", two), *ASK, step("switched", two), step("finished", two), KEEP], "-e", "wanted=2.0")
    assert rolled.returncode == 0, rolled.stdout
    (new,) = {path.name for path in (host.top / "etc/systemd/system").glob("openai-server-*.service")} - {unit}
    assert host.calls() == [f"disable --now {unit}", f"enable --now {new}"]
    back = host.play([one], [step("rolled_back", two), *ASK], "-e", "wanted=1.0")
    assert back.returncode == 0 and host.calls() == [f"disable --now {new}", f"enable --now {unit}"], back.stdout


def test_a_server_that_died_and_one_whose_answer_is_wrong(host):
    one = host.model("1.0", 1, "backward.txt")
    served = host.play([one], [LAYOUT, SERVE, *ASK], "-e", "wanted=1.0")
    output = " ".join(served.stdout.split())
    assert served.returncode and 'model letters 1.0: the answer is "defghi", expected "bazyxw' in output, output
    host.stop()
    seen = {"ansible.builtin.assert": {"that": ["not found.healthy", "'systemd says inactive, dead' in found.models[0].detail"]}}
    dead = host.play([one], [ASK[0], seen])
    assert dead.returncode == 0, dead.stdout
