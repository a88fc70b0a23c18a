#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dragonfly_config
short_description: Write the configuration of Dragonfly's daemons, strictly checked
version_added: 0.1.0
description:
  - Writes configuration files of dfdaemon, the scheduler and the manager.
  - The daemons ignore a key that they do not know without a word. This module refuses it, as it refuses a value of the wrong type
    and values that contradict each other. It names every such key with its dotted path, all of them at once, and writes nothing then.
  - Knows the keys of scheduler and manager 2.5.1 and client 1.5.10.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
options:
  files:
    description: The files to write. Each is replaced in one step.
    type: list
    elements: dict
    required: true
    suboptions:
      component:
        description:
          - What reads the file.
          - V(dfdaemon_dynconfig) and V(scheduler_dynconfig) are the local files that take the place of a manager.
        type: str
        required: true
        choices:
          - dfdaemon
          - dfdaemon_dynconfig
          - scheduler
          - scheduler_dynconfig
          - manager
      path:
        description: Where the file goes. Its directory must exist.
        type: path
        required: true
      config:
        description:
          - The configuration, with the keys that the daemon knows.
          - Passwords, keys of tokens and the values of request headers may stand in it. They appear neither in the output, nor in the
            journal of the host, nor in a diff, which tells only whether they changed.
        type: dict
        required: true
      owner:
        description: User that owns the file.
        type: str
      group:
        description: Group that owns the file.
        type: str
      mode:
        description:
          - Permissions of the file. A file that is written without them is readable by its owner only.
          - With a secret in O(files[].config) they must not let other users read it, and be in octal.
        type: raw
seealso:
  - module: modelfleet.serving.daemon
  - module: modelfleet.serving.dragonfly_release
"""

EXAMPLES = r"""
- name: Configure a peer without a manager
  modelfleet.serving.dragonfly_config:
    files:
      - component: dfdaemon
        path: /etc/dragonfly/dfdaemon.yaml
        mode: "0644"
        config:
          host: {ip: 10.0.0.21}
          storage: {dir: /var/lib/modelfleet/pieces, keep: true}
          gc: {policy: {diskThreshold: 100GiB}}
      - component: dfdaemon_dynconfig
        path: /etc/dragonfly/dfdaemon-dynconfig.yaml
        mode: "0644"
        config:
          scheduler: {addrs: ["10.0.0.11:8002"]}
"""

RETURN = r"""
files:
  description: What became of each file, in the order of O(files).
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The file.
      type: str
      sample: /etc/dragonfly/dfdaemon.yaml
    changed:
      description: Whether the file was written, or its permissions changed.
      type: bool
problems:
  description: Everything that is wrong with the configuration.
  returned: failure
  type: list
  elements: dict
  contains:
    path:
      description: The file.
      type: str
    key:
      description: Dotted path of the key.
      type: str
    problem:
      description: What is wrong and what to do.
      type: str
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._dragonfly_config import check, file_text, shown_config
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import put_file, read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule


def run(module):
    files = module.params["files"]
    check(files)

    results, diffs = [], []
    for entry in files:
        before = read_text(entry["path"])

        def shown(text, component=entry["component"], before=before):
            return shown_config(component, text, before)

        changed, diff = put_file(module, entry["path"], file_text(entry["config"]), shown=shown, params=entry)
        results.append({"path": entry["path"], "changed": changed})
        diffs.append(diff)
    result = {"changed": any(entry["changed"] for entry in results), "files": results}
    if module._diff:
        result["diff"] = diffs
    return result


def main():
    module = DiscreetModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "component": {
                        "type": "str",
                        "required": True,
                        "choices": ["dfdaemon", "dfdaemon_dynconfig", "scheduler", "scheduler_dynconfig", "manager"],
                    },
                    "path": {"type": "path", "required": True},
                    "config": {"type": "dict", "required": True},
                    "owner": {"type": "str"},
                    "group": {"type": "str"},
                    "mode": {"type": "raw"},
                },
            },
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
