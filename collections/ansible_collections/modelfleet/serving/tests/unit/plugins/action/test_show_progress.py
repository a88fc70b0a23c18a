# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
import types

import pytest
from ansible_collections.modelfleet.serving.plugins.action import model_bundle, storage_object


def test_shows_the_last_line_when_the_percentage_has_changed(tmp_path):
    path, shown, seen = tmp_path / "progress", [], threading.Event()

    def show(line):
        shown.append(line)
        seen.set()

    with storage_object.Watcher(str(path), "a.mar", every_s=0.01, show=show):
        for line in ("1 MiB of 9 MiB (11 %), 1 MiB/s", "2 MiB of 9 MiB (22 %), 1 MiB/s"):
            with open(path, "a") as handle:
                handle.write("earlier\n" + line + "\n")
            assert seen.wait(10)
            seen.clear()
        with open(path, "a") as handle:
            handle.write("2.1 MiB of 9 MiB (22 %), 1 MiB/s\n")
        assert not seen.wait(0.1)
    assert shown == ["a.mar: 1 MiB of 9 MiB (11 %), 1 MiB/s", "a.mar: 2 MiB of 9 MiB (22 %), 1 MiB/s"]


def test_a_quick_module_costs_no_time(tmp_path):
    shown = []
    with storage_object.Watcher(str(tmp_path / "progress"), "a.mar", every_s=3600, show=shown.append):
        pass
    assert shown == []


@pytest.mark.parametrize(
    ("transport", "become", "async_val", "args", "watched"),
    [
        ("local", None, 0, {}, True),
        ("ansible.builtin.local", None, 0, {}, True),
        ("ssh", None, 0, {}, False),
        ("local", object(), 0, {}, False),
        ("local", None, 60, {}, False),
        ("local", None, 0, {"progress_path": "/tmp/mine"}, False),
    ],
)
def test_watches_only_what_it_can_see(monkeypatch, transport, become, async_val, args, watched):
    called = []

    def execute(module_args=None, task_vars=None, wrap_async=None):
        called.append(module_args)
        return {"changed": True}

    monkeypatch.setattr(storage_object.ActionBase, "run", lambda self, tmp=None, task_vars=None: {"skipped": False})
    action = storage_object.ActionModule.__new__(storage_object.ActionModule)
    action._task = types.SimpleNamespace(args={"object": "a.mar", **args}, async_val=async_val)
    action._connection = types.SimpleNamespace(transport=transport, become=become)
    action._execute_module = execute
    assert action.run() == {"skipped": False, "changed": True}
    assert (called[0] is not None and "progress_path" in called[0]) == watched


def test_shows_a_bundle_as_an_object(monkeypatch):
    named = []

    class Watcher(storage_object.Watcher):
        def __init__(self, path, name):
            named.append(name)
            super().__init__(path, name)

    monkeypatch.setattr(storage_object, "Watcher", Watcher)
    monkeypatch.setattr(storage_object.ActionBase, "run", lambda self, tmp=None, task_vars=None: {})
    action = model_bundle.ActionModule.__new__(model_bundle.ActionModule)
    action._task = types.SimpleNamespace(args={"bundle": "models/a"}, async_val=0)
    action._connection = types.SimpleNamespace(transport="local", become=None)
    action._execute_module = lambda **options: {"changed": bool(options["module_args"]["progress_path"])}
    assert action.run() == {"changed": True} and named == ["models/a"]
