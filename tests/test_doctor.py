# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The play doctor on hosts that are this machine, with a systemd that says what a test wants: broken as they are, every one is examined."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sys
from pathlib import Path

import pytest
import yaml
from test_distribute import STUB
from test_repository import COLLECTION

HERE = {"ansible_connection": "local"}
AWAY = {"ansible_host": "127.0.0.1", "ansible_port": 1}
DOCTOR = "collections/ansible_collections/modelfleet/serving/playbooks/doctor.yml"
SECRET = "PLANTED/SECRET"
PASSWORD = "PLANTED-PASSWORD"
MODEL = {"name": "tiny", "version": "1.0", "object": "tiny.mar", "sha256": "9f" * 32}
# Says of each unit what a test wrote into the file of its name.
SYSTEMCTL = """#!/bin/sh
for unit; do :; done
case "$1" in
    show) cat "$UNITS/$unit" ;;
    is-active) exit 3 ;;
    --version) echo "systemd 257 (257)" ;;
esac
"""
JOURNALCTL = """#!/bin/sh
for option; do case "$option" in --unit=*) cat "$UNITS/${option#--unit=}.journal" ;; esac; done
"""
RUNS = {
    "LoadState": "loaded",
    "UnitFileState": "enabled",
    "ActiveState": "active",
    "SubState": "running",
    "Result": "success",
    "MainPID": "0",
    "ActiveEnterTimestampMonotonic": "1000000",
}
FAILED = {**RUNS, "ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code", "ExecMainStatus": "1", "NRestarts": "7"}


class Fleet:
    """A scheduler, a seed peer and a GPU host on this machine, and a GPU host that is away."""

    def __init__(self, run, directory):
        self.run = run
        self.directory = directory
        self.variables = {}
        self.playbook = DOCTOR
        self.hosts = {"scheduler-1": HERE, "seed-1": HERE, "gpu-1": HERE, "gpu-2": AWAY}
        for name, text in {"bin/systemctl": SYSTEMCTL, "bin/journalctl": JOURNALCTL}.items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)
        (directory / "units").mkdir()
        for name in ("dragonfly-scheduler", "dfdaemon", "torchserve", "torchserve-models"):
            self.unit(name, **RUNS)

    def unit(self, name, journal="", **state):
        (self.directory / f"units/{name}.service").write_text("".join(f"{key}={value}\n" for key, value in state.items()))
        (self.directory / f"units/{name}.service.journal").write_text(journal)

    def answer(self, **answers):
        """Modules that say this from now on, in a copy of the collection."""
        copy = self.directory / "ansible_collections/modelfleet/serving"
        for part in ("playbooks", "roles", "plugins", "meta"):
            shutil.copytree(COLLECTION / part, copy / part)
        for name in answers:
            (copy / f"plugins/action/{name}.py").write_text(STUB)
        self.playbook = "modelfleet.serving.doctor"
        self.variables.update(answers=answers, log=str(self.directory / "log"))

    def doctor(self, *arguments, **environment):
        """Returns the finished process and the report, None without one."""
        number = iter(range(1, 100))
        groups = {"dragonfly_schedulers": ["scheduler-1"], "dragonfly_seed_peers": ["seed-1"], "gpu_hosts": ["gpu-1", "gpu-2"]}
        common = {
            "ansible_python_interpreter": sys.executable,
            "ansible_become": False,
            "doctor_report_path": str(self.directory / "reports/doctor.json"),
            "doctor_timeout": 20,
            "modelfleet_storage": {"s3": {"bucket": "models", "endpoint": "http://127.0.0.1:1", "access_key": "a", "secret_key": SECRET}},
            "modelfleet_models": [MODEL],
            "dfdaemon_release_sha256": "9f" * 32,
            "dragonfly_scheduler_release_sha256": "9f" * 32,
            "dragonfly_scheduler_port": 1,
            "torchserve_management_port": 1,
            "torchserve_inference_port": 2,
        }
        children = {
            group: {"hosts": {name: {"modelfleet_address": f"127.0.1.{next(number)}", **self.hosts[name]} for name in members}}
            for group, members in groups.items()
        }
        inventory = self.directory / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"all": {"vars": {**common, **self.variables}, "children": children}}))
        path = f"{self.directory}/bin{os.pathsep}{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": path, "UNITS": str(self.directory / "units"), **environment}
        done = self.run("ansible-playbook", "-i", inventory, self.playbook, *arguments, **environment)
        written = self.directory / "reports/doctor.json"
        return done, json.loads(written.read_text()) if written.exists() else None

    def findings(self, *arguments, **environment):
        """{(host, subject): [findings]} without what is well."""
        done, report = self.doctor(*arguments, **environment)
        assert report, done.stdout
        found = {}
        for one in report["findings"]:
            if one["severity"] != "ok":
                assert one["what"] and one["cause"] and one["remedy"], one
                found.setdefault((one["host"], one["subject"]), []).append(one)
        return found


def files_of_the_product():
    """{path: when it was changed} of whatever a role would write on this machine, and of what Ansible left in memory."""
    found = {str(path): None for path in Path("/dev/shm").glob("ansible-tmp-*")}
    for top in ("/etc/dragonfly", "/etc/dragonfly-endpoint", "/etc/torchserve", "/etc/systemd/system", "/opt", "/var/lib/modelfleet"):
        found.update(
            {str(path): path.lstat().st_mtime_ns for path in (Path(top), *Path(top).glob("*"), *Path(top).glob("*/*")) if path.exists()}
        )
    return found


@pytest.fixture
def fleet(run, tmp_path):
    return Fleet(run, tmp_path)


def test_every_host_is_examined(fleet):
    """The scheduler is down with its reason in its journal, dfdaemon waits for it, TorchServe is silent, a host is away."""
    said = f"GET http://store/x?X-Amz-Signature={SECRET} error secret_key={SECRET}\n"
    fleet.unit("dragonfly-scheduler", said, **FAILED)
    fleet.unit("dfdaemon", **FAILED)
    fleet.variables["dfdaemon_environment"] = {"HTTP_PROXY": f"http://user:{PASSWORD}@127.0.0.1:1"}
    before = files_of_the_product()
    done, report = fleet.doctor("-vvv", "--diff")
    assert files_of_the_product() == before
    assert done.returncode == 2, done.stdout
    assert (report["code"], report["ok"]) == (2, False)
    assert set(report["hosts"]) == {"scheduler-1", "seed-1", "gpu-1", "gpu-2"}
    found = {(one["host"], one["subject"]): one for one in report["findings"] if one["severity"] != "ok"}
    wanted = (("scheduler-1", "scheduler"), ("gpu-1", "dfdaemon"), ("gpu-1", "torchserve"), ("gpu-2", "host"))
    assert set(wanted) <= set(found), report["findings"]
    scheduler, dfdaemon, torchserve, away = (found[one] for one in wanted)
    assert scheduler["what"] == "dragonfly-scheduler does not run" and "error secret_key=…" in scheduler["cause"]
    assert "it needs a scheduler, and none answers" in dfdaemon["cause"] and "Connection refused" in dfdaemon["cause"]
    assert torchserve["what"] == "torchserve runs, but does not answer"
    assert "cannot be reached" in away["what"] and "refused" in away["cause"]
    assert ("gpu-1", "network") not in found, "who is down is said where he is"
    assert {("seed-1", "origin"), ("gpu-1", "origin")} <= set(found)

    # The roles say what they would write, each by its own templates.
    assert not [key for key in found if key[1] == "doctor"], found
    differ = {host: found[host, "configuration"]["cause"] for host in ("scheduler-1", "seed-1", "gpu-1")}
    assert "/etc/dragonfly/scheduler.yaml" in differ["scheduler-1"] and "/etc/dragonfly/dfdaemon.yaml" in differ["seed-1"]
    for path in ("/etc/dragonfly/dfdaemon.yaml", "/etc/torchserve/config.properties", "/etc/dragonfly-endpoint/config.json"):
        assert path in differ["gpu-1"]

    recap = dict(re.findall(r"^(\S+) +: .* changed=(\d+)", done.stdout.split("PLAY RECAP")[1], re.MULTILINE))
    assert recap == dict.fromkeys(("scheduler-1", "seed-1", "gpu-1", "gpu-2"), "0")
    text = (fleet.directory / "reports/doctor.txt").read_text()
    assert text.startswith("severity") and "    cause: " in text and "    remedy: " in text
    for secret in (SECRET, PASSWORD):
        assert secret not in done.stdout and secret not in text and secret not in json.dumps(report)


def test_nothing_is_installed(fleet):
    """On a host that leaves Ansible no room either, neither in its home nor in /tmp; with a mistake in the inventory."""
    for name in ("dragonfly-scheduler", "dfdaemon", "torchserve", "torchserve-models"):
        fleet.unit(name, LoadState="not-found", ActiveState="inactive", SubState="dead", MainPID="0")
    fleet.variables.update(doctor_fail_on="never", modelfleet_models=[MODEL, MODEL])
    before = files_of_the_product()
    done, report = fleet.doctor("--limit", "!gpu-2", "-vvv", ANSIBLE_PIPELINING="0")
    assert files_of_the_product() == before
    assert report and done.returncode == 0, done.stdout
    assert report["code"] == 2 and report["not_checked"] == ["gpu-2"]
    found = {(one["host"], one["subject"]): one for one in report["findings"] if one["severity"] != "ok"}
    for key in (("scheduler-1", "scheduler"), ("seed-1", "dfdaemon"), ("gpu-1", "dfdaemon"), ("gpu-1", "torchserve")):
        assert found[key]["what"].endswith("is not installed") and "modelfleet.serving.site" in found[key]["remedy"]
    assert not [key for key in found if key[1] in ("configuration", "doctor", "models")], found
    assert any("tiny" in one["what"] for one in report["findings"] if one["subject"] == "inventory")
    examined = done.stdout.split("PLAY [Examine every host]")[1].split("PLAY [Say what is wrong]")[0]
    assert "/dev/shm/ansible-tmp-" in examined and "/.ansible/tmp/ansible-tmp-" not in examined


def test_a_port_is_taken_and_torchserve_hangs(fleet):
    """Its API takes connections and says nothing."""
    fleet.unit("dfdaemon", "Address already in use (os error 98)\n", **FAILED)
    fleet.variables["doctor_timeout"] = 12
    with socket.create_server(("127.0.1.3", 4005)), socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        fleet.variables["torchserve_management_port"] = silent.getsockname()[1]
        found = fleet.findings("--limit", "gpu-1")
    assert any("does not answer" in one["what"] for one in found["gpu-1", "torchserve"]), found
    (one,) = found["gpu-1", "dfdaemon"]
    assert one["what"] == "dfdaemon does not run"
    assert "Port 4005 on 127.0.1.3 is taken by" in one["cause"] and f"(pid {os.getpid()}" in one["cause"]


def test_hosts_on_which_something_hangs_or_python_breaks(fleet):
    """Other parts and other hosts are examined all the same; of a host that says nothing at all, one question is enough."""
    fleet.variables["doctor_timeout"] = 12
    interpreters = {
        "seed-1": "exec sleep 30",
        "gpu-2": "echo \"ModuleNotFoundError: No module named 'encodings'\" >&2; exit 1",
    }
    for host, does in interpreters.items():
        (fleet.directory / f"bin/{host}").write_text(f"#!/bin/sh\n{does}\n")
        (fleet.directory / f"bin/{host}").chmod(0o755)
        fleet.hosts[host] = {**HERE, "ansible_python_interpreter": str(fleet.directory / f"bin/{host}")}
    journal_of_dfdaemon = 'case "$*" in *--unit=dfdaemon*) exec sleep 30 ;; esac\n'
    (fleet.directory / "bin/journalctl").write_text(JOURNALCTL.replace("\n", f"\n{journal_of_dfdaemon}", 1))
    # What the comparison asks, of the scheduler.
    compared = 'case "$*" in *SubState,UnitFileState*dragonfly-scheduler*) exec sleep 30 ;; esac\n'
    (fleet.directory / "bin/systemctl").write_text(SYSTEMCTL.replace("\n", f"\n{compared}", 1))
    fleet.unit("dragonfly-scheduler", "error: of the scheduler\n", **FAILED)
    found = fleet.findings()
    assert "the answer to the first question did not come: Timed out" in found["seed-1", "host"][0]["cause"]
    assert ("seed-1", "doctor") not in found
    for host, part in (("gpu-1", "Look for causes"), ("scheduler-1", "Compare the scheduler with the inventory")):
        (one,) = found[host, "doctor"]
        assert part in one["cause"] and "Timed out" in one["cause"] and "doctor_timeout" in one["remedy"], found
    assert ("gpu-1", "torchserve") in found, "it was asked"
    assert "error: of the scheduler" in found["scheduler-1", "scheduler"][0]["cause"]
    assert [host for host, _subject in found if host == "gpu-2"] == ["gpu-2"], "said once"
    (broken,) = found["gpu-2", "doctor"]
    assert "No module named 'encodings'" in broken["cause"] and "ansible_python_interpreter" in broken["remedy"]


@pytest.mark.parametrize("dead", [False, True])
def test_a_rollout_on_its_way(fleet, dead):
    """Of the version that it brings nothing else is said, and the lock is not taken."""
    holder = {"run": "a:b:1:2", "user": "alice", "controller": "control-1", "pid": 4711, "since": "2026-11-26T06:00:00Z"}
    of_tiny = {"name": "tiny", "current": "0.9", "previous": "0.8", "staged": "1.0", "since": 1, "run": "a:b:1:2", "rolled_back": False}
    model = {"name": "tiny", "version": "0.9", "default": True, "file": "tiny-0.9-0.mar", "workers": 1, "workers_ready": 1, "gpu": 0}
    loading = {**model, "version": MODEL["version"], "default": False, "file": f"tiny-1.0-{'9f' * 6}.mar", "workers_ready": 0}
    refused = {"failed": True, "msg": "Refused: a run of alice works there.", "holder": holder}
    fleet.answer(
        rollout_lock={"changed": True, "holder": holder, "taken_over": True} if dead else refused,
        model_rollout_info={"models": [of_tiny]},
        torchserve_info={
            "reachable": True,
            "version": "0.12.0",
            "models": [model, loading],
            "recorded": [{"name": "tiny", "version": "0.9", "device": "cpu"}],
            "not_restored": [],
            "busy": True,
        },
    )
    found = fleet.findings("--limit", "gpu-1", ANSIBLE_COLLECTIONS_PATH=str(fleet.directory))
    (one,) = found["gpu-1", "rollout"]
    assert (one["what"], one["severity"]) == (
        ("a rollout died on this host", "problem") if dead else ("a rollout works on this host", "warning")
    )
    assert "the run of alice on control-1 (process 4711) since 2026-11-26T06:00:00Z" in one["cause"]
    assert "tiny 1.0 has 0 of 1 workers READY" in one["cause"] and "modelfleet.serving.rollout" in one["remedy"]
    assert not [key for key in found if key[1] in ("models", "doctor")], found
    calls = {call["module"]: call["args"] for call in map(json.loads, (fleet.directory / "log").read_text().splitlines())}
    assert calls["torchserve_info"]["wait_for_record"] is False and calls["rollout_lock"] == {}


def test_it_looks_the_same_whatever_the_run(fleet):
    """In check mode, with -v and with the collection's own lines on the screen, where the table is a table."""
    fleet.unit("dragonfly-scheduler", **FAILED)
    wanted = {"scheduler-1", "gpu-1"}
    shown = {}
    for option in ("--diff", "--check", "-v"):
        done, report = fleet.doctor(
            "--limit", ",".join(sorted(wanted)), option, ANSIBLE_STDOUT_CALLBACK="modelfleet.serving.fleet", LANG="C.UTF-8"
        )
        assert done.returncode == 2 and set(report["hosts"]) == wanted, done.stdout
        # Times pass, the words stay.
        shown[option] = [re.sub(r"\d+", "#", line.removeprefix("        ")) for line in done.stdout.splitlines()]
        written = [re.sub(r"\d+", "#", line) for line in (fleet.directory / "reports/doctor.txt").read_text().splitlines()]
        shown.setdefault("report", written)
        assert written == shown["report"]
    for option in ("--diff", "--check"):
        start = shown[option].index(written[0])
        assert shown[option][start : start + len(written)] == written, shown[option]
        assert not any("TASK [" in line or "Traceback" in line for line in shown[option])
    assert any("TASK [" in line for line in shown["-v"])


def test_a_run_that_a_mistake_ends_leaves_no_old_report(fleet):
    (fleet.directory / "reports").mkdir()
    for name in ("doctor.json", "doctor.txt"):
        (fleet.directory / "reports" / name).write_text('{"ok": true}')
    fleet.variables["modelfleet_models"] = [{"name": "tiny"}]
    done, report = fleet.doctor()
    assert done.returncode != 0 and "missing required arguments" in done.stdout, done.stdout
    assert report is None and not (fleet.directory / "reports/doctor.txt").exists()


def test_check_mode_leaves_a_report_alone(fleet):
    """And a host that is away is no failure by itself."""
    (fleet.directory / "reports").mkdir()
    (fleet.directory / "reports/doctor.json").write_text('{"ok": "of old"}')
    fleet.variables["doctor_fail_on"] = "never"
    done, report = fleet.doctor("--check", "--limit", "gpu-2")
    assert "the host cannot be reached" in done.stdout
    assert done.returncode == 0 and report == {"ok": "of old"}


@pytest.mark.parametrize(
    ("severity", "fail_on", "code"),
    [
        ("", "warning", 0),
        ("warning", "warning", 1),
        ("warning", "problem", 0),
        ("error", "warning", 2),
        ("error", "problem", 2),
        ("error", "never", 0),
    ],
)
def test_the_exit_code(run, tmp_path, severity, fail_on, code):
    """Of the part that judges, with what is known of a host."""
    message = "The host has 1 GiB of memory, and 8 GiB are advised; add memory."
    found = [{"check": "memory", "severity": severity, "message": message}] if severity else []
    known = {"preflight": {"findings": found, "ahead_s": 0, "disk": {}}}
    told = {"__doctor_facts": known, "__doctor_models": {}, "__modelfleet_asked": ["gpu-1"]}
    report = {"ansible.builtin.include_role": {"name": "modelfleet.serving.doctor", "tasks_from": "report"}}
    tasks = [{"name": "Know", "ansible.builtin.set_fact": told}, {"name": "Judge", **report}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"name": "Judge", "hosts": "all", "gather_facts": False, "tasks": tasks}]))
    variables = {
        "doctor_fail_on": fail_on,
        "modelfleet_address": "10.0.0.3",
        "modelfleet_storage": {"http": {"url": "http://none.invalid"}},
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"gpu_hosts": {"hosts": {"gpu-1": {**HERE, **variables}}}}))
    done = run("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml")
    assert done.returncode == code, done.stdout
    words = {1: "0 problems, 1 warning", 2: "1 problem, 0 warnings"}
    assert code == 0 or f"{words[code]}; 0 of 1 host well. What, why and what to do stands above." in done.stdout
