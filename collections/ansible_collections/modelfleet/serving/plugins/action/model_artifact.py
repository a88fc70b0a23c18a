# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notes when the module began, by the clock of the controller, which is one for all hosts; where somebody shows it, reads how far it is."""

from __future__ import annotations

import copy
import os
import shlex
import threading
import time
import uuid

from ansible.plugins.action import ActionBase
from ansible_collections.modelfleet.serving.plugins.plugin_utils import _progress

# On the hosts. Only root writes there.
_DIRECTORY = "/run"
_FIRST_S = 2.0
_EVERY_S = 5.0
# Each reading is a command on a host: so many in a second, of all hosts together.
_MOST_IN_A_SECOND = 5


class ActionModule(ActionBase):
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        began = round(time.time(), 3)
        args, directory = dict(self._task.args), os.environ.get(_progress.VARIABLE)
        if not directory or self._task.check_mode or self._task.async_val or args.get("progress_path"):
            done = self._execute_module(task_vars=task_vars, wrap_async=self._task.async_val)
        else:
            done = self._watched(args, directory, task_vars)
        return {**result, **done, "began": began}

    def _watched(self, args, directory, task_vars):
        path = f"{_DIRECTORY}/modelfleet-artifacts-{uuid.uuid4().hex[:12]}.json"
        every_s = max(_EVERY_S, len(task_vars.get("ansible_play_hosts", [])) / _MOST_IN_A_SECOND)
        with Reader(self._on_a_connection_of_its_own(), path, every_s, directory, task_vars["inventory_hostname"]):
            done = self._execute_module(module_args={**args, "progress_path": path}, task_vars=task_vars)
        if not done.get("unreachable") and (done.get("changed") or done.get("failed")):
            self._low_level_execute_command(f"rm -f {path} {path}.new")
        return done

    def _on_a_connection_of_its_own(self):
        """This action with copies of what keeps a state while a command runs."""
        other = copy.copy(self)
        other._connection = copy.copy(self._connection)
        if self._connection.become:
            other._connection.set_become_plugin(copy.copy(self._connection.become))
        return other


class Reader:
    """While it is entered, a file of a host is read now and then and put where it is shown."""

    def __init__(self, action, path, every_s, directory, host):
        self._action = action
        self._command = f"cat {shlex.quote(path)}"
        self._every_s = every_s
        self._directory = directory
        self._host = host
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exception):
        self._over.set()
        # A host that does not answer any more does not keep the task from ending.
        self._thread.join(10)

    def _read(self):
        wait = _FIRST_S
        while not self._over.wait(wait):
            wait = self._every_s
            try:
                found = self._action._low_level_execute_command(self._command)
            except Exception:
                # Only what is shown depends on it; the module says itself what is wrong with its host.
                return
            if found.get("rc") == 0:
                _progress.put(self._directory, self._host, found.get("stdout", ""))
