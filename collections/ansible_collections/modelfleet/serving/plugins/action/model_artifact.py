# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notes when the module began, by the clock of the controller, which is one for all hosts; where somebody shows it, reads how far it is.

Has the module say which small files of a hub its host lacks, and has it run again with them, which the controller gets for all hosts.
"""

from __future__ import annotations

import copy
import os
import shlex
import threading
import time
import uuid
from contextlib import suppress

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.modelfleet.serving.plugins.module_utils._huggingface_pack import write_pack
from ansible_collections.modelfleet.serving.plugins.plugin_utils import _progress, _small_files

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
        args = dict(self._task.args)
        # Without the module, nobody knows whether its host may have anything.
        alone = self._task.check_mode or self._task.async_val or not args.get("huggingface") or args.get("huggingface_small") == "host"
        done = self._once(args, task_vars) if alone else self._with_small_files(args, task_vars)
        return {**result, **done, "began": began}

    def _with_small_files(self, args, task_vars):
        first = self._once({**args, "huggingface_small_return": True}, task_vars)
        said = first.pop("huggingface_lacking", None)
        if not said:
            return {**first, "hub_requests_controller": 0}
        local = self._connection.transport.rpartition(".")[2] == "local"
        brought = _small_files.bring(C.DEFAULT_LOCAL_TMP, args, said, local)
        problem, pack = brought.problem, None
        if brought.files:
            try:
                pack = self._send(brought.files)
            except (AnsibleError, OSError) as exc:
                problem = problem or f"Failed to send them to the host: {' '.join(str(exc).split())}"
        try:
            done = self._once({**args, **({"huggingface_small_path": pack} if pack else {})}, task_vars)
        finally:
            if pack:
                # If not now, it goes with the directory.
                with suppress(AnsibleError):
                    self._low_level_execute_command(self._connection._shell.remove(pack), sudoable=False)
        told = brought.warnings
        if problem:
            told = [*told, f"Not all small files of the hub came by the controller, so that hosts asked for them themselves. {problem}"]
        if told:
            done["warnings"] = [*(done.get("warnings") or []), *told]
        done["hub_requests"] = first.get("hub_requests", 0) + done.get("hub_requests", 0)
        return {**done, "hub_requests_controller": brought.requests}

    def _send(self, files):
        """Have {git_sha1: path} in one file on the host; returns its path there."""
        name = f"modelfleet-{uuid.uuid4().hex}.zip"
        local = os.path.join(C.DEFAULT_LOCAL_TMP, name)
        try:
            write_pack(local, files)
            directory = self._connection._shell.tmpdir or self._make_tmp_path()
            pack = self._transfer_file(local, self._connection._shell.join_path(directory, name))
            self._fixup_perms2([directory, pack], execute=False)
            return pack
        finally:
            with suppress(FileNotFoundError):
                os.unlink(local)

    def _once(self, args, task_vars):
        directory = os.environ.get(_progress.VARIABLE)
        if not directory or self._task.check_mode or self._task.async_val or args.get("progress_path"):
            return self._execute_module(module_args=args, task_vars=task_vars, wrap_async=self._task.async_val)
        return self._watched(args, directory, task_vars)

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
