#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_rollout_info
short_description: Read which version of each model a host serves, and which it can go back to
description:
  - Reads the record that M(modelfleet.serving.model_rollout) keeps. It asks nothing that serves.
version_added: 0.1.0
author: ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
options:
  record:
    description: The file that records what this host serves.
    type: path
    default: /var/lib/modelfleet/state/models.json
seealso:
  - module: modelfleet.serving.model_rollout
"""

EXAMPLES = r"""
- name: Read what this host can go back to
  modelfleet.serving.model_rollout_info:
  register: rollout
"""

RETURN = r"""
models:
  description: Each model of the record.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model.
      type: str
    current:
      description: The version that answers requests which name none, as a restart restores it; empty without one.
      type: str
    previous:
      description: The version that was retired last and can serve again from local disk; empty without one.
      type: str
    staged:
      description: The version of a rollout that has not been finished; empty without one.
      type: str
    since:
      description: When a rollout was here last, in seconds since the epoch; 0 without one.
      type: int
    run:
      description: Which run that was.
      type: str
    rolled_back:
      description: Whether a rollback retired the previous version.
      type: bool
  sample:
    - name: resnet50
      current: "2.0"
      previous: "1.0"
      staged: ""
      since: 1767225600
      run: f3a1:8b1f:4711:98765
      rolled_back: false
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._model_record import Record
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule


def describe(record, name):
    current, previous, staged = record.current(name), record.of(record.previous, name), record.of(record.staged, name)
    last = staged or previous or {}
    return {
        "name": name,
        "current": current["version"] if current else "",
        "previous": previous["version"] if previous else "",
        "staged": staged["version"] if staged else "",
        "since": last.get("since") or last.get("retired") or 0,
        "run": last.get("run", ""),
        "rolled_back": bool(not staged and previous and previous["rolled_back"]),
    }


def main():
    module = CheckedModule(
        argument_spec={"record": {"type": "path", "default": "/var/lib/modelfleet/state/models.json"}},
        supports_check_mode=True,
    )
    try:
        record = Record(module)
        names = sorted({name for part in (record.models, record.previous, record.staged) for name, _version in part})
        module.exit_json(changed=False, models=[describe(record, name) for name in names])
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
