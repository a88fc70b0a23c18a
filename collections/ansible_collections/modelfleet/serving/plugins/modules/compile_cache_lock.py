#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compile_cache_lock
short_description: Pin the compile caches of models in a file
version_added: 0.1.0
description:
  - Writes what M(modelfleet.serving.model_bundle) published of the compile caches of models into a YAML file of variables, by the sha256 of
    the model and the fingerprint of the hosts that may use it.
  - A cache that is pinned already stays so. To have another one, take its entry out of the file first.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
options:
  path:
    description: The file. Its directory is made, and beside it there must be no file that Ansible would not read any more because of that.
    type: path
    required: true
  caches:
    description: The caches to pin.
    type: list
    elements: dict
    required: true
    suboptions:
      pin:
        description: The sha256 of the model, a dash and the fingerprint, as the filter P(modelfleet.serving.compile_caches#filter) says it.
        type: str
        required: true
      sha256:
        description: The sha256 of the manifest of what was published.
        type: str
        required: true
      parts:
        description: What the fingerprint was made of, for people who read the file. Braces in it are left out.
        type: dict
        default: {}
seealso:
  - module: modelfleet.serving.compile_cache
"""

EXAMPLES = r"""
- name: Pin a cache
  modelfleet.serving.compile_cache_lock:
    path: "{{ inventory_dir }}/group_vars/all/compile_caches.lock.yml"
    caches:
      - pin: 0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a-9240cc4586a5d699
        sha256: 9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e
        parts: {cpu: x86_64 AVX512, torch: 2.6.0}
  delegate_to: localhost
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: inventory/prod/group_vars/all/compile_caches.lock.yml
pins:
  description: What became of each cache, each once.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its key in the file.
      type: str
    sha256:
      description: What is pinned.
      type: str
    new:
      description: Whether it was not pinned before.
      type: bool
"""

import re

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule
from ansible_collections.modelfleet.serving.plugins.module_utils._pins import Pins

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PIN = re.compile(r"[0-9a-f]{64}-[0-9a-f]{16}")


class Lock(Pins):
    variable = "modelfleet_compile_cache_pins"
    header = (
        "# Written by modelfleet.serving.compile. Keep it with the inventory: a host uses the cache of what it compiles for.\n"
        "# To have one built again, take its entry out and run the play again.\n"
    )
    setting = "modelfleet_compile_cache_lock"

    def is_pin(self, pin):
        return "sha256" in pin

    def pin(self, wanted):
        name, sha256 = wanted["pin"], wanted["sha256"].lower()
        if not _PIN.fullmatch(name) or not _SHA256.fullmatch(sha256):
            raise ModelFleetError(
                f"Refused the compile cache {name[:120]!a}: its pin is no sha256 with a fingerprint, or its sha256 is not 64 hexadecimal "
                "digits. Take both from the play compile."
            )
        new = name not in self.pinned
        if new:
            self.pinned[name] = {"sha256": sha256, "parts": _plain(wanted["parts"])}
        return {"name": name, "sha256": self.pinned[name]["sha256"], "new": new}


def _plain(found):
    """What a host says of itself, without what Ansible would take for a template in a file of variables, and run on the controller."""
    if isinstance(found, dict):
        return {_plain(key): _plain(value) for key, value in found.items()}
    if isinstance(found, list):
        return [_plain(value) for value in found]
    return re.sub(r"[{}]", "", found) if isinstance(found, str) else found


def main():
    module = DiscreetModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "caches": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "pin": {"type": "str", "required": True},
                    "sha256": {"type": "str", "required": True},
                    "parts": {"type": "dict", "default": {}},
                },
            },
        },
        supports_check_mode=True,
    )
    try:
        result = Lock(module).run(module.params["caches"])
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
