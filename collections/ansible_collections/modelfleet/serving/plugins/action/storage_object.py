# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module of the task, which publishes, and shows meanwhile how far it is: a module itself cannot print."""

from __future__ import annotations

import os
import tempfile
import threading

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

_SHOW_EVERY_S = 5.0


class ActionModule(ActionBase):
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        args = dict(self._task.args)
        # The file can be read while the module writes it only if both are this user on this machine.
        local = self._connection.transport.rpartition(".")[2] == "local" and not self._connection.become
        if not local or self._task.async_val or args.get("progress_path"):
            return {**result, **self._execute_module(task_vars=task_vars, wrap_async=self._task.async_val)}
        with tempfile.TemporaryDirectory(prefix="modelfleet-") as directory:
            path = os.path.join(directory, "progress")
            with Watcher(path, str(args.get("object") or args.get("bundle") or "")):
                done = self._execute_module(module_args={**args, "progress_path": path}, task_vars=task_vars)
        return {**result, **done}


class Watcher:
    """While it is entered, the last line of a file is shown now and then, if it has changed."""

    def __init__(self, path, name, every_s=_SHOW_EVERY_S, show=None):
        self._path = path
        self._name = name
        self._every_s = every_s
        self._show = show or Display().display
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exception):
        self._over.set()
        self._thread.join()

    def _watch(self):
        shown = ""
        while not self._over.wait(self._every_s):
            line = self._last_line()
            # By the percentage, so that a slow upload does not fill the screen.
            if line.partition(" %")[0].rpartition("(")[2] != shown.partition(" %")[0].rpartition("(")[2]:
                shown = line
                self._show("{}: {}".format(self._name, line))

    def _last_line(self):
        try:
            with open(self._path, encoding="utf-8") as handle:
                lines = handle.read().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""
