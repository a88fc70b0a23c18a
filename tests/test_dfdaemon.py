# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role dfdaemon before it restarts anything: one scheduler that answers is enough, none is an error that names them all."""

from __future__ import annotations

import socket
import sys

import pytest
import yaml
from conftest import REPOSITORY

ROLE = REPOSITORY / "collections/ansible_collections/modelfleet/serving/roles/dfdaemon"


@pytest.mark.parametrize(("answering", "restart", "fine", "said"), [
    ((True, True), True, True, ()),
    ((True, False), True, True, ("does not reach the Dragonfly scheduler at {1}; dfdaemon goes on",)),
    ((False, False), True, False, ("Failed to reach the Dragonfly scheduler at {0} and {1} from localhost", "dragonfly_schedulers")),
    ((False, False), False, True, ()),
])  # fmt: skip
def test_schedulers_that_do_not_answer(run, tmp_path, answering, restart, fine, said):
    tasks = yaml.safe_load((ROLE / "tasks/run.yml").read_text(encoding="utf-8"))
    tasks = tasks[: 1 + next(number for number, task in enumerate(tasks) if "ansible.builtin.fail" in task)]
    assert [next(iter(task.keys() - {"name", "when", "loop", "register", "failed_when"})) for task in tasks] == [
        "ansible.builtin.wait_for", "ansible.builtin.debug", "ansible.builtin.fail",
    ]  # fmt: skip
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in answering]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each, answers in zip(sockets, answering, strict=True):
        if not answers:
            each.close()
    unreached = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))["__dfdaemon_unreached"]
    variables = {
        "ansible_python_interpreter": sys.executable,
        "__dfdaemon_schedulers": addresses,
        "__dfdaemon_unreached": unreached,
        "__dfdaemon_restart": restart,
        "dfdaemon_scheduler_timeout": 1,
    }
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables, "tasks": tasks}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    done = run("ansible-playbook", "-i", "localhost,", tmp_path / "play.yml")
    output = " ".join(done.stdout.split())
    assert (done.returncode == 0) is fine, done.stdout
    for words in said:
        assert words.format(*addresses) in output
    assert said or "the Dragonfly scheduler" not in output
    for each in sockets:
        each.close()
