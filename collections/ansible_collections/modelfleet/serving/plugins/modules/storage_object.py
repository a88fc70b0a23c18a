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
requirements:
  - boto3 >= 1.36 (S3, OSS, OBS)
  - google-cloud-storage >= 3.0 (GCS)
  - azure-storage-blob >= 12.15 (ABS)
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - modelfleet.serving.storage
  - modelfleet.serving.storage.credentials
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
  progress_path:
    description:
      - File to which lines about a running upload are appended, one a second at most. It is for whoever wants to watch.
      - Where Ansible runs the module on the controller itself, it shows these lines on the terminal without this option.
    type: path
  ca_path:
    description:
      - CA bundle in PEM to trust instead of the one that the store's library brings along, for a plain HTTP server that of this machine.
    type: path
  validate_certs:
    description: Whether the store's certificate is verified.
    type: bool
    default: true
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

import hashlib
import os
import re

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._publish import CLIENTS
from ansible_collections.modelfleet.serving.plugins.module_utils._publish_answers import (
    Found,
    MissingLibrary,
    Progress,
    Refusal,
    Taken,
    check_ca,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import (
    StorageModule,
    check_object_key,
    credentials_argument_spec,
    publishing_store,
    storage_argument_spec,
)


class StorageObject:
    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.src_state = None
        self.key = module.params["object"]
        check_object_key(self.key)
        store = publishing_store(module.params["storage"], module.params["credentials"])
        self.name = store.describe(self.key)
        check_ca(module.params["ca_path"])
        try:
            self.objects = CLIENTS[store.name](store, module.params["ca_path"], module.params["validate_certs"])
        except Refusal as exc:
            raise ModelFleetError("Failed to use the credentials for {}: {}. {}.".format(self.name, exc.reason, exc.remedy)) from None
        place = self.objects.place
        self.where = self.name if self.name.startswith(place) else "{} at {}".format(self.name, place)

    def run(self):
        if self.params["state"] == "absent":
            return self._absent()
        return self._present()

    def _absent(self):
        before = self._call("look at", self.objects.head)
        if before and not self.module.check_mode:
            self._call("delete", self.objects.delete)
        return self._result(before, None)

    def _present(self):
        src = self.params["src"]
        size, sha256, self.src_state = _digest(src)
        # An empty one is a mistake: whoever gives it relies on a check.
        wanted = (sha256 if self.params["sha256"] is None else self.params["sha256"]).lower()
        if not re.match(r"[0-9a-f]{64}\Z", wanted):
            raise ModelFleetError("Failed to use sha256 {!r}: it must be 64 hexadecimal digits.".format(self.params["sha256"]))
        if sha256 != wanted:
            raise ModelFleetError(
                "Failed to publish {}: the file has the sha256 {}, but {} was asked for. Take the right file or correct sha256.".format(
                    src, sha256, wanted
                )
            )
        before = self._look(size)
        after = Found(size, sha256)
        if not _same(before, after):
            self._may_replace(before, after)
            if not self.module.check_mode:
                self._write(before, after)
        return self._result(before, after)

    def _look(self, size):
        """The object that is there. What was published without a recorded digest is read: only its bytes can tell."""
        found = self._call("look at", self.objects.head)
        if found and found.size is None:  # some web servers do not say
            found = found._replace(size=size)
        if found and not found.sha256 and found.size == size:
            found = found._replace(sha256=self._call("read", self.objects.read_sha256))
        return found

    def _may_replace(self, before, after):
        if before and not self.params["overwrite"]:
            raise ModelFleetError(
                "Failed to publish {}: the object has other content already (sha256 {}, {} bytes) than {} (sha256 {}, {} bytes)."
                " Publish under another key, or set overwrite=true.".format(
                    self.where, before.sha256 or "not recorded", before.size, self.params["src"], after.sha256, after.size
                )
            )

    def _write(self, before, after):
        self._check_source("Nothing was sent")
        progress = Progress(self.params["progress_path"], after.size)
        unsure = "Something else may be there now: delete the object first (state=absent)"
        try:
            self._call("write", self.objects.put, self.params["src"], after.size, after.sha256, before, progress)
        except Taken:
            # Another publisher, or this one's own upload whose answer got lost.
            self._check_source(unsure)
            now = self._look(after.size)
            if not _same(now, after):
                self._may_replace(now, after)
                raise self._overtaken("write") from None
            return
        except Exception:
            # A library says in its own words that a file has become shorter.
            self._check_source(unsure)
            raise
        finally:
            progress.close()
        self._check_source(unsure, undo=True)
        stored = self._look(after.size)
        if not _same(stored, after):
            raise ModelFleetError(
                "Failed to write {}: afterwards the store has {} bytes with the sha256 {}, but {} bytes with {} were sent."
                " Check whether something else writes there; delete the object (state=absent) and publish again.".format(
                    self.where, stored.size if stored else "no", stored.sha256 or "not recorded" if stored else "none", *after[:2]
                )
            )

    def _check_source(self, remedy, undo=False):
        """Refuse a file that is another one than at its digest. With ``undo`` the object has its content and the digest of before."""
        if _state(self.params["src"]) == self.src_state:
            return
        if undo:
            try:
                self._call("delete", self.objects.delete)
                remedy = "The object was deleted again"
            except ModelFleetError as exc:
                remedy = "{}. {}".format(remedy, str(exc).rstrip("."))
        raise ModelFleetError(
            "Failed to publish {}: the file changed while it was uploaded to {}. {}. Publish again when nothing writes to the file.".format(
                self.params["src"], self.where, remedy
            )
        ) from None

    def _overtaken(self, verb):
        return ModelFleetError("Failed to {} {}: another publisher changed it at the same time. Run again.".format(verb, self.where))

    def _result(self, before, after):
        def shown(state):
            return "sha256: {}\nbytes: {}\n".format(state.sha256 or "not recorded", state.size) if state else ""

        return {
            "changed": not _same(before, after),
            "object": self.name,
            "key": self.key,
            "sha256": after.sha256 if after else "",
            "bytes": after.size if after else 0,
            "diff": {"before_header": self.name, "after_header": self.name, "before": shown(before), "after": shown(after)},
        }

    def _call(self, verb, method, *args):
        try:
            return method(self.key, *args)
        except Refusal as exc:
            raise ModelFleetError("Failed to {} {}: {}. {}.".format(verb, self.where, exc.reason, exc.remedy)) from None
        except Taken:
            if verb == "write":
                raise
            raise self._overtaken(verb) from None


def _same(one, other):
    return (one and one[:2]) == (other and other[:2])


def _state(file):
    """What changes with the content of a file, given by its path or descriptor; None for one that is gone."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def _digest(path):
    digest = hashlib.sha256()
    size = 0
    try:
        with open(path, "rb") as handle:
            state = _state(handle.fileno())
            for block in iter(lambda: handle.read(1 << 20), b""):
                digest.update(block)
                size += len(block)
            changed = _state(handle.fileno()) != state
    except OSError as exc:
        raise ModelFleetError("Failed to read {}: {}. Check src.".format(path, os.strerror(exc.errno))) from exc
    if changed:
        raise ModelFleetError("Failed to read {}: it changed meanwhile. Publish it when nothing writes to it.".format(path))
    return size, digest.hexdigest(), state


def main():
    module = StorageModule(
        argument_spec={
            "storage": storage_argument_spec(),
            "credentials": credentials_argument_spec(),
            "object": {"type": "str", "required": True},
            "src": {"type": "path"},
            "sha256": {"type": "str"},
            "overwrite": {"type": "bool", "default": False},
            "progress_path": {"type": "path"},
            "ca_path": {"type": "path"},
            "validate_certs": {"type": "bool", "default": True},
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
