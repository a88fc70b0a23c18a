# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notes for the tests which tasks of a converge ran a module on each host: what a run costs, whatever the machine."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: module_tasks
type: notification
short_description: Note which tasks ran a module
description:
  - Writes the names of the tasks that ran a module, by host, as JSON to the file that E(MODULE_TASKS_FILE) names.
  - Does so after converge.yml only.
author: ModelFleet developers
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "module_tasks"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self.playbook = ""
        self.tasks = defaultdict(list)

    def v2_playbook_on_start(self, playbook):
        self.playbook = Path(playbook._file_name).name

    def v2_runner_on_ok(self, result):
        found = result._result
        if "_ansible_delegated_vars" in found:
            return
        # What runs on the controller alone has no invocation; a loop has one for each item.
        if any("invocation" in one for one in (found, *(item for item in found.get("results", []) if isinstance(item, dict)))):
            self.tasks[result._host.get_name()].append(result._task.get_name())

    def v2_playbook_on_stats(self, stats):
        if self.playbook == "converge.yml" and os.environ.get("MODULE_TASKS_FILE"):
            Path(os.environ["MODULE_TASKS_FILE"]).write_text(json.dumps(self.tasks, indent=2), encoding="utf-8")
