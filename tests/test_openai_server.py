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
from fleet import only_in_all

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

    def play(self, models, tasks):
        content = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]
        variables = {
            "ansible_python_interpreter": sys.executable,
            "modelfleet_address": "10.0.0.1",
            "modelfleet_storage": {"s3": {"bucket": "models", "region": "us-east-1", "access_key": "a", "secret_key": "s"}},
            **models,
            "modelfleet_files_dir": str(self.top / "files"),
            "openai_server_command": [
                *(sys.executable, str(REPOSITORY / "lab/llama_server"), "--model", "{directory}/model.gguf"),
                *("--alias", "{name}", "--host", "{host}", "--port", "{port}"),
            ],
            "openai_server_start_timeout": 600,
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


def role(name, entry, models="{{ [one] }}"):
    return {
        "ansible.builtin.include_role": {"name": f"modelfleet.serving.{name}", "tasks_from": entry},
        "vars": {"modelfleet_models": models},
    }


def ask(model):
    """Ask what serves for the known answer of the model."""
    checks = f"{{{{ [{model}] | modelfleet.serving.inference_checks(modelfleet_files_dir) }}}}"
    # Until a rollout is finished, the record names the version that is gone.
    right = ["found.models | length == 1", "found.models[0].workers_ready == 1", f"found.models[0].version == {model}.version"]
    return [
        {"modelfleet.serving.openai_info": {"record": RECORD}, "register": "found"},
        {"ansible.builtin.assert": {"that": right}},
        {"modelfleet.serving.inference_check": {"checks": checks}},
    ]


def step(state):
    keys = ["name", "version", "bundle", "sha256", "runtime"]
    entry = f"{{{{ two | dict2items | selectattr('key', 'in', {keys}) | items2dict }}}}"
    return {"modelfleet.serving.model_rollout": {"models": [entry], "state": state, "grace_s": 0, "timeout": 600}}


def must_be(*conditions):
    return {"ansible.builtin.assert": {"that": list(conditions)}}


@only_in_all
def test_a_model_from_its_bundle_to_its_known_answer_and_its_next_version_and_back(host):
    one, two = host.model("1.0", 1, "forward.txt"), host.model("2.0", 25, "backward.txt")
    old, new = (f"openai-server-letters-{model['version']}-{model['sha256'][:12]}.service" for model in (one, two))
    refusal = "'Refused model letters 2.0: this host serves version 1.0 at port' in ansible_failed_result.msg"
    tasks = [
        role("modelfleet", "host"),
        role("openai_server", "models"),
        must_be("__openai_server_served is changed"),
        *ask("one"),
        must_be("found.healthy"),
        role("openai_server", "main"),
        role("openai_server", "models"),
        must_be(
            "__openai_server_served is not changed", "__openai_server_daemons is not changed", "not __openai_server_daemon.restart_owed"
        ),
        # A version that serves gives way in a rollout only.
        {"block": [role("openai_server", "models", "{{ [two] }}")], "rescue": [must_be(refusal)]},
        role("openai_server", "units", "{{ [two] }}"),
        *(step("prepared"), *ask("two"), step("switched"), step("finished")),
        *(step("rolled_back"), *ask("one")),
        {"ansible.builtin.command": f"systemctl stop {old}"},
        ask("one")[0],
        must_be("not found.healthy", "found.models[0].detail == 'systemd says inactive, dead'"),
    ]
    done = host.play({"one": one, "two": two}, tasks)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Refused model letters 2.0") > 0 and " rescued=1 " in done.stdout
    started = [f"enable --now {old}", f"disable --now {old}", f"enable --now {new}", f"disable --now {new}", f"enable --now {old}"]
    assert host.calls() == [*started, f"stop {old}"]
