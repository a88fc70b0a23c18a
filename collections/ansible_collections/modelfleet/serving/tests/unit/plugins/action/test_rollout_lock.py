# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys

from ansible_collections.modelfleet.serving.plugins.action.rollout_lock import holder_of, is_dead, run_of


def test_a_run_is_dead_when_its_process_is():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = holder_of(process.pid)
    assert not is_dead(holder)
    assert not is_dead({**holder, "controller": "elsewhere"})
    process.stdin.close()
    process.wait()
    assert is_dead(holder)
    assert not is_dead({**holder, "controller": "elsewhere"}) and not is_dead({})
    # Another machine may have the same name.
    assert not is_dead({**holder, "run": "another" + holder["run"]})


def test_another_process_under_its_number_is_not_it():
    mine = holder_of(os.getpid())
    assert not is_dead(mine)
    assert is_dead({**mine, "run": mine["run"] + "1"})


def test_names_a_process_without_proc(tmp_path):
    assert run_of(4711, proc=str(tmp_path)).endswith(":4711")
