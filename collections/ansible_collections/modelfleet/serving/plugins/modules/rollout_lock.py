#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_lock
short_description: Let one rollout at a time work on a host
description:
  - Takes or gives back the lock of this host. Another run than the one that holds it is refused, and told who holds it and since when.
  - The lock of a run that is dead is taken over where that can be seen, which is on the controller where it ran.
version_added: 0.1.0
author: ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
attributes:
  diff_mode:
    support: none
options:
  state:
    description: Whether this run holds the lock. V(absent) leaves the lock of another run alone.
    type: str
    choices: [present, absent]
    default: present
  path:
    description: The lock.
    type: path
    default: /var/lib/modelfleet/state/rollout.lock
  take_over:
    description: Take the lock of another run, whoever holds it.
    type: bool
    default: false
  holder:
    description: Who takes it. The action plugin of this name fills it in on the controller.
    type: dict
    suboptions:
      run:
        description: Text that no other run has.
        type: str
        required: true
      user:
        description: Who started the run.
        type: str
        required: true
      controller:
        description: Name of the controller.
        type: str
        required: true
      pid:
        description: Process of the run there.
        type: int
        required: true
  dead:
    description: The C(run) of a holder that is known to be dead. The action plugin fills it in.
    type: str
"""

EXAMPLES = r"""
- name: Take the lock of this host
  modelfleet.serving.rollout_lock:

- name: Give it back
  modelfleet.serving.rollout_lock:
    state: absent
"""

RETURN = r"""
run:
  description: The text that no other run has.
  returned: success
  type: str
  sample: f3a1:8b1f:4711:98765
taken_over:
  description: Whether an interrupted run held it, so that this host may have been left half-way.
  returned: success
  type: bool
  sample: false
holder:
  description: Who held it before; empty when nobody did.
  returned: always
  type: dict
  sample: {run: f3a1:8b1f:4711:98765, user: alice, controller: control-1, pid: 4711, since: "2026-11-26T06:00:00Z"}
"""

import fcntl
import json
import os
import time

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import put_file, read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json


def read_holder(path):
    """Who holds the lock, {} without one. A lock that nobody can read any more has a holder without a name."""
    text = read_text(path)
    if text is None:
        return {}
    try:
        return {"run": "", "user": "?", "controller": "?", "pid": 0, "since": "?", **from_json(text)}
    except (ValueError, TypeError):
        return {"run": "", "user": "?", "controller": "?", "pid": 0, "since": "?"}


def run(module):
    params = module.params
    directory = os.path.dirname(params["path"])
    if not os.path.isdir(directory):
        if module.check_mode or params["state"] == "absent":
            return {"changed": params["state"] == "present", "run": params["holder"]["run"], "holder": {}, "taken_over": False}
        raise ModelFleetError(f"Failed to lock this host: it has no {directory}. Run the playbook site first.")
    # Not the lock on the directory, which may be held for as long as a model takes to load.
    try:
        guard = os.open(f"{params['path']}.guard", os.O_RDWR | os.O_CREAT, 0o600) if not module.check_mode else None
    except OSError as exc:
        raise ModelFleetError(f"Failed to lock this host: {exc.filename}: {exc.strerror}. Check the path and the disk.") from exc
    try:
        if guard is not None:
            fcntl.flock(guard, fcntl.LOCK_EX)
        return change(module, read_holder(params["path"]))
    finally:
        if guard is not None:
            os.close(guard)


def change(module, holder):
    params = module.params
    me = params["holder"]["run"]
    mine = holder.get("run") == me
    if params["state"] == "absent":
        if mine and not module.check_mode:
            try:
                os.unlink(params["path"])
            except OSError as exc:
                raise ModelFleetError(f"Failed to remove {params['path']}: {exc.strerror}. Remove it by hand.") from exc
        return {"changed": mine, "run": me, "holder": holder, "taken_over": False}
    if mine:
        return {"changed": False, "run": me, "holder": holder, "taken_over": False}
    if holder and not params["take_over"] and holder["run"] != params["dead"]:
        raise ModelFleetError(
            f"Refused: a run of {holder['user']} on {holder['controller']} (process {holder['pid']}) has worked on this host since "
            f"{holder['since']}. Wait for its end; where it is dead, run again with -e modelfleet_rollout_take_over=true.",
            holder=holder,
        )
    content = {**params["holder"], "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    put_file(module, params["path"], json.dumps(content) + "\n", params={"owner": None, "group": None, "mode": "0640"})
    return {"changed": True, "run": me, "holder": holder, "taken_over": bool(holder)}


def main():
    module = CheckedModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "path": {"type": "path", "default": "/var/lib/modelfleet/state/rollout.lock"},
            "take_over": {"type": "bool", "default": False},
            "holder": {
                "type": "dict",
                "options": {
                    "run": {"type": "str", "required": True},
                    "user": {"type": "str", "required": True},
                    "controller": {"type": "str", "required": True},
                    "pid": {"type": "int", "required": True},
                },
            },
            "dead": {"type": "str"},
        },
        supports_check_mode=True,
    )
    try:
        if not module.params["holder"]:
            raise ModelFleetError("Failed to lock this host: nobody is named. Call rollout_lock from a playbook, not by itself.")
        result = run(module)
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
