#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_image
short_description: Have exactly one container image on a host before anything is started from it
version_added: 0.1.0
description:
  - Brings an image to podman's store, from its registry or from an archive, so that no start of a container needs either.
  - An image is named by its digest, or by its id, which is a digest of what is in it. A tag is refused, since it may name another one
    tomorrow.
  - Whether a program of it runs on this host is tried once, with O(probe), before anything is restarted because of it.
  - Images that this module has brought are removed again by O(keep) and O(state=absent); others are never touched.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
attributes:
  check_mode:
    details: Whether an image can be brought, and whether its programs run, cannot be told before it is there.
options:
  name:
    description:
      - The image, V(registry/repository@sha256:…) or its id, V(sha256:…). A tag before the digest is only for people to read.
      - An image that was built on the host, of the registry C(localhost), has a digest as well, see C(podman image inspect). That changes
        on the way to another host, as layers are packed; its id stays.
      - Required where O(state=present).
    type: str
  state:
    description: Whether the image is there, or none is that O(record) knows.
    type: str
    choices: [present, absent]
    default: present
  record:
    description:
      - File in which is noted what this module has brought, and which image is the current one. Its directory must exist, or its parent.
    type: path
    required: true
  version:
    description: Which version of its program the image holds, for O(record).
    type: str
    default: ""
  archive:
    description:
      - An archive of the image on this host, as C(podman save --format oci-archive) makes it, used where the image is not there yet.
    type: path
  auth_file:
    description: File with the credentials for registries, as C(podman login) writes it. Without it podman takes those of root.
    type: path
  probe:
    description:
      - Arguments with which a container is run once when the image becomes the current one, or its O(version) is another, without network
        or rights. It must end with 0.
      - An empty list tries nothing.
    type: list
    elements: str
    default: []
  probe_entrypoint:
    description: The program that gets O(probe), in place of that of the image.
    type: str
  keep:
    description: How many images of O(record) stay beside the current one, the one that was current before first.
    type: int
    default: 1
seealso:
  - module: modelfleet.serving.daemon
"""

EXAMPLES = r"""
- name: Have the image of dfdaemon
  modelfleet.serving.container_image:
    name: docker.io/dragonflyoss/client@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    record: /opt/dragonfly/client/.images.json
    version: 1.5.10
    probe: [--version]

- name: Have none any more
  modelfleet.serving.container_image:
    record: /opt/dragonfly/client/.images.json
    state: absent
"""

RETURN = r"""
id:
  description: The id of the image, which is the sha256 of its configuration; empty in check mode where it is not there yet.
  returned: success
  type: str
  sample: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
previous:
  description: The image that was current before, or nothing.
  returned: success
  type: str
  sample: docker.io/dragonflyoss/client@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
action:
  description: How the image came, or would come outside check mode.
  returned: success
  type: str
  sample: pulled
  choices:
    - none
    - pulled
    - loaded
removed:
  description: Ids of images that were removed.
  returned: success
  type: list
  elements: str
  sample: []
"""

import json
import os

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import put_file, read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._podman import (
    OLDEST,
    Podman,
    image_problem,
    is_old,
    reference,
    registry_of,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json

# A container that may do nothing but run.
CONFINED = ["--rm", "--pull=never", "--network=none", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"]
_REMEDY = {True: "See that it is the archive of this image", False: "See that this host reaches the registry and may pull (podman login)"}


class Image:
    def __init__(self, module):
        self.module = module
        params = module.params
        self.name = params["name"] or ""
        self.record = params["record"]
        self.archive = params["archive"]
        self.podman = Podman(module.run_command)
        # The current one first. Each has name, id, version, and whether it was brought here.
        self.known = self.recorded()

    def run(self):
        if self.module.params["state"] == "absent":
            return self.remove()
        problem = image_problem(self.name)
        if problem:
            raise ModelFleetError(f"Refused to bring an image: its name {problem}.")
        if self.module.params["keep"] < 0:
            raise ModelFleetError(f"Refused keep={self.module.params['keep']}: it is a number of images, so use 0 or more.")
        return self.provide()

    def provide(self):
        version = self.podman.version()
        # In check mode it may be installed by then.
        if version and is_old(version):
            raise ModelFleetError(f"Refused podman {version}: this needs {OLDEST} or newer. Upgrade it on this host.")
        found = self.podman.image(self.name) if version or not self.module.check_mode else None
        previous = self.known[0] if self.known else {}
        action = "none" if found else "loaded" if self.archive else "pulled"
        if action == "pulled" and not registry_of(self.name):
            raise ModelFleetError(
                f"Failed to find the image {self.name} on this host, and no registry has it. Build it here, or name an archive of it."
            )
        if not found and not self.module.check_mode:
            found = self.bring()
        identity = found["id"] if found else ""
        as_before = previous.get("id") == identity and previous["version"] == self.module.params["version"]
        if not as_before and not self.module.check_mode:
            self.try_out(brought=action != "none")
        brought = action != "none" or any(one["id"] == identity and one["brought"] for one in self.known)
        current = {"name": self.name, "id": identity, "version": self.module.params["version"], "brought": brought}
        others = [one for one in self.known if one["id"] != identity]
        kept, gone = others[: self.module.params["keep"]], others[self.module.params["keep"] :]
        removed = self.forget(gone)
        # What a container still runs of goes in a later run.
        kept += [one for one in gone if one["brought"] and one["id"] not in removed]
        changed = action != "none" or bool(removed)
        if not self.module.check_mode or found:
            changed |= self.write([current, *kept])
        return self.result(changed, identity, previous.get("name"), action, removed)

    def remove(self):
        """Without podman there are no images either."""
        removed = self.forget(self.known)
        there = os.path.lexists(self.record)
        if there and not self.module.check_mode:
            try:
                os.unlink(self.record)
            except OSError as exc:
                raise ModelFleetError(f"Failed to remove {self.record}: {exc.strerror}. Remove it by hand and run again.") from exc
        return self.result(there or bool(removed), "", self.known[0]["name"] if self.known else None, "none", removed)

    def result(self, changed, identity, previous, action, removed):
        result = {"changed": changed, "id": identity, "previous": previous, "action": action, "removed": removed}
        if self.module._diff:
            after = f"{self.name}\n" if self.module.params["state"] == "present" else ""
            before = f"{previous}\n" if previous else ""
            result["diff"] = {"before_header": self.record, "after_header": self.record, "before": before, "after": after}
        return result

    # what is there

    def recorded(self):
        """What an older run wrote; a file that is damaged says nothing, and then nothing is removed."""
        try:
            images = from_json(read_text(self.record) or "{}")["images"]
            return [
                {"name": str(one["name"]), "id": str(one["id"]), "version": str(one["version"]), "brought": one["brought"] is True}
                for one in images
            ]
        except (KeyError, TypeError, ValueError):
            return []

    # what changes

    def bring(self):
        before = self.podman.ids()
        if self.archive:
            rc, _out, said = self.podman.run("load", "--quiet", "--input", self.archive)
        else:
            login = ["--authfile", self.module.params["auth_file"]] if self.module.params["auth_file"] else []
            rc, _out, said = self.podman.run("pull", "--quiet", *login, reference(self.name))
        place = self.archive or registry_of(self.name)
        if rc != 0:
            raise ModelFleetError(
                f"Failed to bring the image {self.name} from {place}: {said}. {_REMEDY[bool(self.archive)]} and run again."
            )
        found = self.podman.image(self.name)
        if not found:
            for other in sorted(self.podman.ids() - before):
                self.podman.run("rmi", "--ignore", other)
            raise ModelFleetError(
                f"Failed to bring the image {self.name} from {place}: what came is another one. Compare its digest and its name (podman "
                "images --digests) with that, or name it by its id."
            )
        return found

    def try_out(self, brought):
        probe, program = self.module.params["probe"], self.module.params["probe_entrypoint"]
        if not probe:
            return
        rc, _out, said = self.podman.run("run", *CONFINED, *([f"--entrypoint={program}"] if program else []), reference(self.name), *probe)
        if rc == 0:
            return
        if brought:
            self.podman.run("rmi", "--ignore", reference(self.name))
        raise ModelFleetError(
            f"Refused the image {self.name}: {' '.join([program or 'its program', *probe[:1]])} ends with {rc} in it: {said}. Nothing was "
            "changed for it on this host. See that it is of this architecture and holds what it should."
        )

    def forget(self, images):
        """Remove what was brought here. One that a container still uses stays, which is no reason to stop."""
        gone = [one["id"] for one in images if one["brought"]]
        if not gone or not self.podman.version():
            return []
        return [one for one in gone if self.module.check_mode or self.podman.run("rmi", "--ignore", one)[0] == 0]

    def write(self, images):
        text = json.dumps({"images": images}, indent=2) + "\n"
        directory = os.path.dirname(self.record)
        try:
            if not self.module.check_mode and not os.path.isdir(directory):
                os.mkdir(directory)
                os.chmod(directory, 0o755)
        except OSError as exc:
            raise ModelFleetError(f"Failed to create {directory}: {exc.strerror}. Check its parent and its permissions.") from exc
        return put_file(self.module, self.record, text, params={"owner": None, "group": None, "mode": "0644"})[0]


def main():
    module = CheckedModule(
        argument_spec={
            "name": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "record": {"type": "path", "required": True},
            "version": {"type": "str", "default": ""},
            "archive": {"type": "path"},
            "auth_file": {"type": "path"},
            "probe": {"type": "list", "elements": "str", "default": []},
            "probe_entrypoint": {"type": "str"},
            "keep": {"type": "int", "default": 1},
        },
        required_if=[("state", "present", ("name",))],
        supports_check_mode=True,
    )
    try:
        result = Image(module).run()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
