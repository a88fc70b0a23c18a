#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: huggingface_lock
short_description: Pin the files of models of a Hugging Face hub in a file
version_added: 0.1.0
description:
  - Asks the hub which commit a branch is now, and which files that commit has, and writes them into a YAML file of variables, with their
    sizes and their SHA-256 or what git calls them.
  - What is pinned in the file already must be what the hub has. If it is not, nothing is written. Entries of other models stay.
  - No file of a model is downloaded.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
attributes:
  check_mode:
    details: The hub is asked in check mode too.
options:
  path:
    description: The file. Its directory is made, and beside it there must be no file that Ansible would not read any more because of that.
    type: path
    required: true
  models:
    description: The models to pin.
    type: list
    elements: dict
    required: true
    suboptions:
      repo:
        description: The repository, V(organisation/name).
        type: str
        required: true
      revision:
        description: A branch, a tag or a commit.
        type: str
        default: main
      include:
        description: Patterns of the files that hosts need. Each must match a file. All files are pinned nevertheless.
        type: list
        elements: str
      exclude:
        description: Patterns of the files that hosts do not need.
        type: list
        elements: str
  huggingface:
    description: The hub, as for M(modelfleet.serving.model_artifact).
    type: dict
    default: {}
    suboptions:
      endpoint:
        description:
          - Addresses of hubs or mirrors, in their order.
          - Where O(huggingface.token_endpoint) names any of them, only those are asked.
        type: list
        elements: str
        default: [https://huggingface.co]
      token:
        description: The token of who asks. Public repositories need none.
        type: str
      token_endpoint:
        description: Those of O(huggingface.endpoint) that get the token.
        type: list
        elements: str
        default: [https://huggingface.co]
      ca_path:
        description: File with CA certificates (PEM) that are trusted for hubs beside those of the system.
        type: path
  retry_s:
    description: How long a failure that may pass is retried, in seconds.
    type: int
    default: 60
seealso:
  - module: modelfleet.serving.model_artifact
"""

EXAMPLES = r"""
- name: Pin a model
  modelfleet.serving.huggingface_lock:
    path: "{{ inventory_dir }}/group_vars/all/huggingface.lock.yml"
    models:
      - repo: org/bert
        revision: main
        include: ["*.safetensors", "*.json"]
  delegate_to: localhost
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: inventory/prod/group_vars/all/huggingface.lock.yml
pins:
  description: What became of each model.
  returned: success
  type: list
  elements: dict
  contains:
    repo:
      description: The repository.
      type: str
    revision:
      description: What was asked for.
      type: str
      sample: main
    commit:
      description: The commit, which belongs into the inventory as the revision.
      type: str
    files:
      description: How many files hosts need.
      type: int
    size:
      description: Their bytes.
      type: int
    new:
      description: Whether it was not pinned before.
      type: bool
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._huggingface import (
    OPTIONS,
    Hub,
    lock_entry,
    lock_key,
    options_problem,
    repo_problem,
    selected,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule
from ansible_collections.modelfleet.serving.plugins.module_utils._pins import Pins

HEADER = """\
# Written by modelfleet.serving.pin. Keep it with the inventory: hosts take exactly these files.
# What no model of the inventory needs any more can be taken out.
"""


class Lock(Pins):
    variable = "modelfleet_huggingface_pins"
    header = HEADER
    setting = "modelfleet_huggingface_lock"

    def __init__(self, module):
        self.retry_s = module.params["retry_s"]
        problem = options_problem(module.params["huggingface"])
        if problem:
            raise ModelFleetError(f"Failed to use the option huggingface: {problem}.")
        self.hub = Hub(module.params["huggingface"])
        super().__init__(module)

    def is_own(self, variables):
        # It is written anew, so nothing else may be in there.
        return set(variables) == {self.variable}

    def is_pin(self, pin):
        return isinstance(pin.get("files"), dict)

    def pin(self, wanted):
        repo, revision = wanted["repo"], wanted["revision"]
        problem = repo_problem(repo)
        if problem:
            raise ModelFleetError(f"Failed to pin the repo {repo!r}: {problem}.")
        commit = self.hub.patiently(lambda: self.hub.commit_of(repo, revision), self.retry_s)
        files = self.hub.patiently(lambda: self.hub.files(repo, commit), self.retry_s)
        needed = selected(files, wanted)
        key, entry = lock_key(repo, commit), lock_entry(files)
        before = self.pinned.get(key)
        if before and before["files"] != entry:
            differing = sorted(path for path in {*before["files"], *entry} if before["files"].get(path) != entry.get(path))
            raise ModelFleetError(
                f"The lock does not match the hub: {self.path} has other files of {repo} at {commit}, such as {differing[0]!r}. A commit "
                f"never changes, so find out who changed one of them. If the hub is right, take {key} out of {self.path} and run again."
            )
        if not before:
            self.pinned[key] = {"revision": revision, "files": entry}
        return {
            "repo": repo,
            "revision": revision,
            "commit": commit,
            "files": len(needed),
            "size": sum(file.size for file in needed),
            "new": not before,
        }


def main():
    module = DiscreetModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "repo": {"type": "str", "required": True},
                    "revision": {"type": "str", "default": "main"},
                    "include": {"type": "list", "elements": "str"},
                    "exclude": {"type": "list", "elements": "str"},
                },
            },
            "huggingface": {"type": "dict", "options": OPTIONS, "default": {}},
            "retry_s": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        lock = Lock(module)
        result = lock.run(module.params["models"])
        for warning in lock.hub.warnings:
            module.warn(warning)
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
