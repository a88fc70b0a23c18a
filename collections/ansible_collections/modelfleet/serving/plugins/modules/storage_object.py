#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_object
short_description: Objects in the object store, with their digest
version_added: 0.1.0
description:
  - Makes an object present in the store with exactly the content of a file, or absent. Runs where the file is, usually on the controller.
  - The sha256 is recorded with the object, so that a second run compares digests and sends nothing.
    It is metadata with the name C(sha256), at a plain HTTP server the file C(<object>.sha256) beside the object. There no key may end
    so, and a file of that name with something else in it is not replaced without its object.
  - An object with other content is never replaced unless O(overwrite=true). S3, Google, Azure and HTTP servers that know preconditions
    see to that themselves even when two publish at the same time.
  - A file that changes while it is sent is an error, and what was written then is deleted.
  - After an upload the size and the recorded digest are read back from the store.
  - Needs the library of the store that is used, no other. A plain HTTP server needs none.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - modelfleet.serving.storage
  - modelfleet.serving.storage.credentials
  - modelfleet.serving.storage.publishing
options:
  object:
    description: Key of the object.
    type: str
    required: true
  src:
    description: The file. Required with O(state=present).
    type: path
  sha256:
    description: The sha256 that the file must have, 64 hexadecimal digits. Without it the file's own is used.
    type: str
  overwrite:
    description:
      - Whether an object with other content is replaced.
      - Hosts that hold the old content keep it, so prefer a new key for a new version.
    type: bool
    default: false
  state:
    description: Whether the object is there.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Publish a model
  modelfleet.serving.storage_object:
    storage: "{{ modelfleet_storage }}"
    credentials: "{{ modelfleet_publish_credentials }}"
    object: models/resnet50/1.0/resnet50.mar
    src: files/resnet50.mar
    sha256: 9f2c1a4be3f2d6c7b8a90123456789abcdef0123456789abcdef0123456789ab
  delegate_to: localhost
"""

RETURN = r"""
object:
  description: The object as a human names it.
  returned: success
  type: str
  sample: s3://models/models/resnet50/1.0/resnet50.mar
key:
  description: The key of the object.
  returned: success
  type: str
  sample: models/resnet50/1.0/resnet50.mar
sha256:
  description: The sha256 of the object's content, empty when it is absent or unknown.
  returned: success
  type: str
  sample: 9f2c1a4be3f2d6c7b8a90123456789abcdef0123456789abcdef0123456789ab
bytes:
  description: The size of the object.
  returned: success
  type: int
  sample: 102400000
"""

import re

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._publish_answers import MissingLibrary, Progress
from ansible_collections.modelfleet.serving.plugins.module_utils._publish_object import (
    Publisher,
    Source,
    publishing_argument_spec,
    same,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import StorageModule


class StorageObject:
    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.object = Publisher(self.params, self.params["object"]).object(self.params["object"], self.params["overwrite"])

    def run(self):
        if self.params["state"] == "absent":
            return self._absent()
        return self._present()

    def _absent(self):
        before = self.object.head()
        if before and not self.module.check_mode:
            self.object.delete()
        return self._result(before is not None, before, None)

    def _present(self):
        source = Source(self.params["src"])
        # An empty one is a mistake: whoever gives it relies on a check.
        wanted = (source.sha256 if self.params["sha256"] is None else self.params["sha256"]).lower()
        if not re.match(r"[0-9a-f]{64}\Z", wanted):
            raise ModelFleetError("Failed to use sha256 {!r}: it must be 64 hexadecimal digits.".format(self.params["sha256"]))
        if source.sha256 != wanted:
            raise ModelFleetError(
                "Failed to publish {}: the file has the sha256 {}, but {} was asked for. Take the right file or correct sha256.".format(
                    source.path, source.sha256, wanted
                )
            )
        before = self.object.look(source.size)
        self.object.check_replacement(before, source)
        changed = not same(before, source)
        if changed and not self.module.check_mode:
            progress = Progress(self.params["progress_path"], source.size)
            try:
                self.object.write(source, before, progress)
            finally:
                progress.close()
        return self._result(changed, before, source)

    def _result(self, changed, before, after):
        def shown(state):
            return "sha256: {}\nbytes: {}\n".format(state.sha256 or "not recorded", state.size) if state else ""

        name = self.object.name
        return {
            "changed": changed,
            "object": name,
            "key": self.object.key,
            "sha256": after.sha256 if after else "",
            "bytes": after.size if after else 0,
            "diff": {"before_header": name, "after_header": name, "before": shown(before), "after": shown(after)},
        }


def main():
    module = StorageModule(
        argument_spec={
            **publishing_argument_spec(),
            "object": {"type": "str", "required": True},
            "src": {"type": "path"},
            "sha256": {"type": "str"},
            "overwrite": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["src"])],
        supports_check_mode=True,
    )
    try:
        result = StorageObject(module).run()
    except MissingLibrary as exc:
        module.fail_json(msg=missing_required_lib(exc.library), exception=exc.trace)
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
