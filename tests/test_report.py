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
    smoke = "collections/ansible_collections/modelfleet/serving/playbooks/smoke.yml"
    done = run("ansible-playbook", "-i", directory / "hosts.yml", smoke, "--limit", "!gpu-4")
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


def test_each_host_fails_for_itself_and_the_first_for_those_that_cannot(report):
    found, output, _text = report
    recap = dict(re.findall(r"^(\S+) +: .* failed=(\d+)", output.split("PLAY RECAP")[1], re.MULTILINE))
    assert {name for name, failed in recap.items() if failed == "1"} == {"gpu-1", "gpu-3"}
    said = {name: "\n".join(part.split("fatal: ")[0] for part in output.split(f"fatal: [{name}]: FAILED!")[1:]) for name in recap}
    for problem in found["problems"]:
        # gpu-1 is the first of those that can be reached.
        owner = problem.split(": ")[0]
        assert problem in said["gpu-3" if owner == "gpu-3" else "gpu-1"]
        assert owner == "gpu-3" or problem not in said["gpu-3"]


def test_a_run_that_ends_early_leaves_no_old_report(run, tmp_path):
    old = tmp_path / "report.json"
    old.write_text('{"ok": true}')
    inventory = {
        "all": {
            "vars": {
                "ansible_become": False,
                "modelfleet_storage": {"http": {"url": "http://files.example.com"}},
                "smoke_report_path": str(old),
            },
            "children": {"gpu_hosts": {"hosts": {"gpu-1": {**AWAY, "modelfleet_address": "127.0.0.1"}}}},
        }
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    site = "collections/ansible_collections/modelfleet/serving/playbooks/site.yml"
    done = run("ansible-playbook", "-i", tmp_path / "hosts.yml", site, "--check")
    assert done.returncode != 0 and old.exists(), "check mode touches nothing"
    done = run("ansible-playbook", "-i", tmp_path / "hosts.yml", site)
    assert done.returncode != 0 and "unreachable=1" in done.stdout
    assert not old.exists()
