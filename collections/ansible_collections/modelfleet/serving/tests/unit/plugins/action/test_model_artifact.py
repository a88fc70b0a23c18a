# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import threading
import types

import pytest
from ansible_collections.modelfleet.serving.plugins.action import model_artifact
from ansible_collections.modelfleet.serving.plugins.plugin_utils import _progress

SHOWN = {
    "artifacts": [{"name": "demo", "version": "1.0", "state": "fetching", "size": 100, "fetched": 40}, {"size": None, "fetched": None}],
    "bytes": {"origin": 10, "remote_peer": 30, "local_peer": 0},
    "seconds": 2.5,
}


class Connection:
    def __init__(self, become=None):
        self.transport = "ssh"
        self.become = become

    def set_become_plugin(self, become):
        self.become = become


@pytest.fixture
def action(monkeypatch, tmp_path):
    """The action with a module that ends once its file was read; ``action.ran`` are the commands on the host."""
    monkeypatch.setattr(model_artifact.ActionBase, "run", lambda self, tmp=None, task_vars=None: {"skipped": False})
    monkeypatch.setattr(model_artifact, "_FIRST_S", 0.01)
    monkeypatch.setenv(_progress.VARIABLE, str(tmp_path))
    action = model_artifact.ActionModule.__new__(model_artifact.ActionModule)
    action._task = types.SimpleNamespace(args={"artifacts": []}, async_val=0, check_mode=False)
    action._connection = Connection(become=object())
    action.called, action.ran, action.read, action.said = [], [], threading.Event(), json.dumps(SHOWN)
    action.done = {"changed": True}

    def command(self, line):
        self.ran.append((line, self._connection))
        if line.startswith("cat"):
            self.read.set()
            return {"rc": 0, "stdout": self.said}
        return {"rc": 0}

    def execute(module_args=None, task_vars=None, wrap_async=None):
        action.called.append(module_args)
        if module_args:
            assert action.read.wait(30)
        return dict(action.done)

    monkeypatch.setattr(model_artifact.ActionModule, "_low_level_execute_command", command)
    action._execute_module = execute
    return action


VARS = {"inventory_hostname": "gpu/1", "ansible_play_hosts": ["gpu/1"]}


def test_what_the_host_says_can_be_read_on_the_controller(action, tmp_path):
    result = action.run(task_vars=VARS)
    assert result.pop("began") > 0 and result == {"skipped": False, "changed": True}
    path = action.called[0]["progress_path"]
    assert path.startswith("/run/modelfleet-artifacts-"), "only root may write there: the module follows links"
    assert _progress.get(str(tmp_path), "gpu/1") == {"wanted": 100, "fetched": 40, "bytes": SHOWN["bytes"], "seconds": 2.5}
    (read, other), (removed, mine) = action.ran[0], action.ran[-1]
    assert read == f"cat {path}" and removed == f"rm -f {path} {path}.new"
    # What keeps a state while a command runs is not shared with the one that reads.
    assert other is not mine and other.become is not None and mine is action._connection
    _progress.forget(str(tmp_path), "gpu/1")
    assert _progress.get(str(tmp_path), "gpu/1") is None


@pytest.mark.parametrize("said", ["", "[]", '{"artifacts": 3}', "{", '{"artifacts": [{"size": "x"}], "seconds": 1}'])
def test_nonsense_from_a_host_is_nothing(action, tmp_path, said):
    action.said = said
    assert action.run(task_vars=VARS)["changed"]
    assert _progress.get(str(tmp_path), "gpu/1") is None


def test_a_host_that_does_not_answer_meanwhile_changes_nothing(action, monkeypatch):
    def command(self, line):
        self.read.set()
        raise OSError("gone")

    monkeypatch.setattr(model_artifact.ActionModule, "_low_level_execute_command", command)
    action.done = {"unreachable": True, "msg": "gone"}
    assert action.run(task_vars=VARS)["unreachable"]


@pytest.mark.parametrize(
    ("nobody", "task"),
    [
        (True, {}),
        (False, {"check_mode": True}),
        (False, {"async_val": 60}),
        (False, {"args": {"progress_path": "/tmp/mine"}}),
    ],
)
def test_nothing_is_read_where_nobody_looks(action, monkeypatch, nobody, task):
    if nobody:
        monkeypatch.delenv(_progress.VARIABLE)
    vars(action._task).update(task)
    assert action.run(task_vars=VARS)["changed"]
    assert action.called == [None] and action.ran == []


def test_a_large_fleet_is_read_less_often(action, monkeypatch):
    waits = []

    class Reader(model_artifact.Reader):
        def __init__(self, *options):
            waits.append(options[2])
            super().__init__(*options)

    monkeypatch.setattr(model_artifact, "Reader", Reader)
    action.run(task_vars=VARS)
    action.run(task_vars={**VARS, "ansible_play_hosts": ["gpu"] * 200})
    assert waits == [5.0, 40.0]
