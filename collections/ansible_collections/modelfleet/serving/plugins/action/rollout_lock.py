# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says to the module who holds the lock, and sees whether a holder from this controller still lives: a host can tell neither."""

from __future__ import annotations

import getpass
import os
import socket

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        # Every task of a run has a process of its own below that of the run.
        args = {**self._task.args, "holder": holder_of(os.getppid())}
        done = self._execute_module(module_args=args, task_vars=task_vars)
        if done.get("failed") and is_dead(done.get("holder") or {}):
            done = self._execute_module(module_args={**args, "dead": done["holder"]["run"]}, task_vars=task_vars)
        return {**result, **done}


def holder_of(pid):
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return {"run": run_of(pid), "user": user, "controller": socket.gethostname(), "pid": pid}


def machine(path="/etc/machine-id"):
    """What tells this controller from another one of the same name, where systemd has given it something."""
    try:
        with open(path, encoding="ascii") as handle:
            return handle.read().strip()
    except (OSError, ValueError):
        return ""


def run_of(pid, proc="/proc"):
    """What no other process has, on whatever machine and after whatever reboot; without its beginning where that cannot be seen."""
    try:
        with open(f"{proc}/sys/kernel/random/boot_id", encoding="ascii") as handle:
            boot = handle.read().strip()
        with open(f"{proc}/{pid}/stat", encoding="utf-8", errors="replace") as handle:
            started = handle.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return f"{machine()}:{socket.gethostname()}:{pid}"
    return f"{machine()}:{boot}:{pid}:{started}"


def is_dead(holder):
    """Whether the holder ran on this machine and is not there any more."""
    here = (socket.gethostname(), machine())
    if (holder.get("controller"), str(holder.get("run")).partition(":")[0]) != here or not holder.get("pid"):
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    # Its number may be another's by now.
    return run_of(holder["pid"]) != holder.get("run")
