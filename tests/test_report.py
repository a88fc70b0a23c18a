# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a fleet that is not well: no host is forgotten, each fails for itself, and no old report is left behind."""

from __future__ import annotations

import json
import re
import sys

import pytest
import yaml

# A daemon's own ports are closed on this machine; a host that cannot be reached is one whose SSH port is closed.
HERE = {"ansible_connection": "local"}
AWAY = {"ansible_host": "127.0.0.1", "ansible_port": 1}
PLAYBOOKS = "collections/ansible_collections/modelfleet/serving/playbooks"
MODEL = {"name": "tiny", "version": "1.0", "object": "tiny.mar", "sha256": "9f" * 32}


@pytest.fixture(scope="module")
def report(run, tmp_path_factory):
    """(report, output, text beside the report) of the play smoke, without gpu-4."""
    directory = tmp_path_factory.mktemp("report")
    groups = {
        "dragonfly_schedulers": {"scheduler-1": HERE, "scheduler-2": AWAY},
        "dragonfly_seed_peers": {"seed-1": HERE},
        "gpu_hosts": {"gpu-1": HERE, "gpu-2": AWAY, "gpu-3": HERE, "gpu-4": HERE},
    }
    number = iter(range(1, 100))
    inventory = {
        "all": {
            "vars": {
                "ansible_python_interpreter": sys.executable,
                "ansible_become": False,
                "modelfleet_storage": {"http": {"url": "http://files.example.com"}},
                "modelfleet_models": [MODEL],
                "smoke_report_path": str(directory / "report.json"),
                "dragonfly_scheduler_port": 1,
                "torchserve_management_port": 1,
            },
            "children": {
                group: {"hosts": {name: {**host, "modelfleet_address": f"127.0.0.{next(number)}"} for name, host in hosts.items()}}
                for group, hosts in groups.items()
            },
        }
    }
    (directory / "hosts.yml").write_text(yaml.safe_dump(inventory))
    for name in ("report.json", "report.txt"):
        (directory / name).write_text('{"ok": true}')
    done = run("ansible-playbook", "-i", directory / "hosts.yml", f"{PLAYBOOKS}/smoke.yml", "--limit", "!gpu-4")
    assert done.returncode != 0, done.stdout
    return json.loads((directory / "report.json").read_text()), done.stdout, (directory / "report.txt").read_text()


def test_no_host_of_the_run_is_forgotten(report):
    found, _output, text = report
    assert found["ok"] is False
    assert (found["failed"], found["not_checked"]) == (["gpu-2"], ["gpu-4"])
    told = {problem.split(": ")[0] for problem in found["problems"]}
    assert told == {"scheduler-1", "scheduler-2", "seed-1", "gpu-1", "gpu-2", "gpu-3"}
    for problem in found["problems"]:
        assert problem in text


def test_each_host_fails_for_itself(report):
    found, output, _text = report
    recap = dict(re.findall(r"^(\S+) +: .* failed=(\d+)", output.split("PLAY RECAP")[1], re.MULTILINE))
    assert recap == dict.fromkeys(("scheduler-1", "scheduler-2", "seed-1", "gpu-1", "gpu-2", "gpu-3"), "1")
    last = " ".join(output.split("TASK [modelfleet.serving.smoke : Stop if something is wrong]")[1].replace("''", "'").split())
    said = {name: "".join(part.split("fatal: ")[0] for part in last.split(f"fatal: [{name}]: FAILED!")[1:]) for name in recap}
    for problem in found["problems"]:
        assert [name for name in said if problem in said[name]] == [problem.split(": ")[0]]


@pytest.fixture(scope="module")
def stopped(run, tmp_path_factory):
    """(site's finished process, report) where no host can be used: they have no room, or cannot be reached."""
    directory = tmp_path_factory.mktemp("stopped")
    report = directory / "report.json"
    report.write_text('{"ok": true}')
    variables = {
        "modelfleet_storage": {"http": {"url": "http://localhost"}},
        "modelfleet_models": [MODEL],
        "dfdaemon_release_sha256": "9f" * 32,
        "dragonfly_scheduler_release_sha256": "9f" * 32,
        "preflight_required_disk": "1000TiB",
        "smoke_report_path": str(report),
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
    }
    hosts = {"scheduler-1": HERE, "gpu-1": HERE, "gpu-2": AWAY}
    hosts = {name: {**host, "modelfleet_address": f"10.1.1.{number}"} for number, (name, host) in enumerate(hosts.items())}
    children = {"dragonfly_schedulers": {"hosts": {"scheduler-1": {}}}, "gpu_hosts": {"hosts": {"gpu-1": {}, "gpu-2": {}}}}
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": variables, "hosts": hosts, "children": children}}))
    done = run("ansible-playbook", "-i", directory / "hosts.yml", f"{PLAYBOOKS}/site.yml")
    return done, json.loads(report.read_text())


def test_hosts_that_cannot_be_used_are_named_before_the_first_change(stopped):
    done, _report = stopped
    assert done.returncode == 2, done.stdout
    named, after = done.stdout.split("PLAY [Name the hosts that cannot be used]")[1].split("PLAY [Build the endpoint plugin once]")
    named = " ".join(named.split())
    # Without a scheduler nobody can go on.
    assert "The run stops here because of:" in named
    assert "gpu-2: Reach the host: unreachable: " in named and "scheduler-1: Check this host: This host is not ready" in named
    assert "changed=1" not in done.stdout
    assert "PLAY [Install the GPU hosts] " in after and "PLAY [Report the fleet]" in after


def test_check_mode_leaves_a_report_alone(run, tmp_path):
    old = tmp_path / "report.json"
    old.write_text('{"ok": true}')
    variables = {"ansible_become": False, "modelfleet_storage": {"http": {"url": "http://localhost"}}, "smoke_report_path": str(old)}
    inventory = {"all": {"vars": variables, "children": {"gpu_hosts": {"hosts": {"gpu-1": {**AWAY, "modelfleet_address": "10.1.1.1"}}}}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    done = run("ansible-playbook", "-i", tmp_path / "hosts.yml", f"{PLAYBOOKS}/smoke.yml", "--check")
    assert done.returncode != 0 and old.exists()
