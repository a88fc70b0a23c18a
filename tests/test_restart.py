# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is restarted when, and asked after it: plays of the collection, on hosts that are all this machine, with roles that only note it."""

from __future__ import annotations

import re
import shutil
import sys

import pytest
import yaml
from conftest import REPOSITORY
from fleet import only_in_all

COLLECTION = REPOSITORY / "collections/ansible_collections/modelfleet/serving"
HOSTS = [f"gpu-{number}" for number in range(1, 8)]
# The real ones wait for the daemon.
STUB = [
    {
        "name": "Restart",
        "ansible.builtin.shell": "echo {{ inventory_hostname }} {{ ansible_play_batch | join(',') }} >> {{ log }}",
        "when": "modelfleet_restart == 'now'",
    },
    {"name": "Come back", "ansible.builtin.fail": {"msg": "it did not answer"}, "when": "inventory_hostname == broken"},
]
SMOKE = {
    "main": [{"name": "Ask", "ansible.builtin.debug": {"msg": "{{ inventory_hostname }} was asked"}}],
    "report": [{"name": "Say", "ansible.builtin.debug": {"msg": "{{ __modelfleet_problem | default('well') }}"}}],
}


@pytest.fixture
def restart(run, tmp_path):
    collection = tmp_path / "ansible_collections/modelfleet/serving"
    plays = ("playbooks/_restart.yml", "playbooks/_report.yml")
    for part in (*plays, "roles/modelfleet", "plugins/filter/restart_batches.py", "plugins/module_utils/_errors.py"):
        (collection / part).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (COLLECTION / part).is_dir() else shutil.copy)(COLLECTION / part, collection / part)
    for role in ("dragonfly_scheduler", "dfdaemon", "torchserve"):
        (collection / "roles" / role / "tasks").mkdir(parents=True)
        for entry in ("run", "seed_ready"):
            (collection / "roles" / role / f"tasks/{entry}.yml").write_text(yaml.safe_dump(STUB if entry == "run" else []))
    (collection / "roles/smoke/tasks").mkdir(parents=True)
    for entry, tasks in SMOKE.items():
        (collection / f"roles/smoke/tasks/{entry}.yml").write_text(yaml.safe_dump(tasks))

    def play(owing, batches=("1", "20%"), broken="", group="gpu_hosts", options=()):
        variables = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "modelfleet_restart_batches": list(batches),
            "broken": broken,
            "log": str(tmp_path / "log"),
        }
        hosts = {name: {"__dfdaemon_daemon": {"restart_owed": name in owing}} for name in HOSTS}
        groups = {"dragonfly_schedulers": {}, "dragonfly_seed_peers": {}, group: {"hosts": hosts}}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": variables, "children": groups}}))
        sizes = "{{ modelfleet_restart_batches }}"
        imported = {
            "ansible.builtin.import_playbook": "modelfleet.serving._restart",
            "vars": {"__modelfleet_restart_hosts": group, "__modelfleet_restart_sizes": sizes, "modelfleet_all_or_nothing": False},
        }
        report = {"ansible.builtin.import_playbook": "modelfleet.serving._report"}
        (tmp_path / "play.yml").write_text(yaml.safe_dump([imported, report]))
        (tmp_path / "log").write_text("")
        done = run("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml", *options, ANSIBLE_COLLECTIONS_PATH=tmp_path)
        assert done.returncode == 0, done.stdout
        assert "WARN" not in done.stdout, done.stdout
        batches = []
        for line in (tmp_path / "log").read_text().splitlines():
            batch = line.split()[1].split(",")
            batches += [batch] if batch not in batches else []
        return batches, " ".join(done.stdout.split())

    return play


def test_batches_of_the_inventory(restart):
    assert restart(HOSTS, batches=["1", "50%"])[0] == [["gpu-1"], ["gpu-2", "gpu-3", "gpu-4"], ["gpu-5", "gpu-6", "gpu-7"]]
    # Those that are as they should be are not touched, and do not count.
    assert restart(["gpu-2", "gpu-5", "gpu-6"])[0] == [["gpu-2"], ["gpu-5"], ["gpu-6"]]


@only_in_all
def test_a_run_that_changes_nothing_restarts_nothing(restart):
    batches, output = restart([])
    assert batches == [] and "Restart dfdaemon" not in output


@only_in_all
def test_the_first_host_that_does_not_come_back_is_the_last(restart):
    batches, output = restart(HOSTS, batches=["1", "2"], broken="gpu-3")
    assert batches == [["gpu-1"], ["gpu-2", "gpu-3"]]
    assert "Come back: it did not answer" in output
    # Nobody else is blamed, such as the batch that was left alone before.
    assert set(re.findall(r"Nothing was restarted here, because (.*?) did not come back", output)) == {"gpu-3"}
    # The one that restarted beside it is fine.
    assert "gpu-2 did not come back" not in output
    # What was left alone serves as it did.
    assert set(re.findall(r"msg: (\S+) was asked", output)) == set(HOSTS) - {"gpu-3"}


@only_in_all
def test_a_size_that_is_none(restart):
    batches, output = restart(HOSTS, batches=["a few"])
    assert batches == [] and "modelfleet_restart_batches: a few is no size of a batch" in output
