#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: offline_bundle_check
short_description: See whether an offline bundle is as it was signed, and has what hosts need
version_added: 0.1.0
description:
  - Fails unless the signature of C(MANIFEST.json) is by O(key), each file that it names is there with its size and SHA-256, and
    nothing else is.
  - Fails unless the bundle has what O(needs) names.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
options:
  path:
    description: The directory.
    type: path
    required: true
  key:
    description: The whole fingerprint of the primary key that must have signed.
    type: str
    default: ""
  keyring:
    description:
      - File with the public key, as C(gpg --export) writes it. By default C(key.asc) of the bundle, which is as good, since O(key)
        says which one it must be, but does not know whether the key was revoked since.
    type: path
  unsigned:
    description: Compare the digests without a signature where there is no O(key).
    type: bool
    default: false
  needs:
    description: What hosts will take from the bundle.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: A file, or a directory with files.
        type: str
        required: true
      host:
        description: Who needs it.
        type: str
        required: true
seealso:
  - module: modelfleet.serving.offline_bundle
"""

EXAMPLES = r"""
- name: Look at the bundle that was brought
  modelfleet.serving.offline_bundle_check:
    path: /srv/bundle
    key: 0123456789ABCDEF0123456789ABCDEF01234567
    needs:
      - {path: packages/debian-13-x86_64, host: gpu-1}
  delegate_to: localhost
"""

RETURN = r"""
path:
  description: The directory.
  returned: success
  type: str
platforms:
  description: For what the bundle was made.
  returned: success
  type: list
  elements: str
  sample: [debian-13-x86_64]
files:
  description: How many files the manifest names.
  returned: success
  type: int
bytes:
  description: How large they are together.
  returned: success
  type: int
sha256:
  description: SHA-256 of each file, by its path.
  returned: success
  type: dict
missing:
  description: Files that the manifest names and that are not there.
  returned: when the files are not as the manifest says
  type: list
  elements: str
extra:
  description: Files that the manifest does not name.
  returned: when the files are not as the manifest says
  type: list
  elements: str
altered:
  description: Files that are others than the manifest says.
  returned: when the files are not as the manifest says
  type: list
  elements: str
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._gpg import fingerprint
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._offline_manifest import some, verify


def check_needs(place, found, needs):
    """Raise ModelFleetError for what hosts need and the bundle has not."""
    paths = [file["path"] for file in found["files"]]
    missing = {}
    for need in needs:
        if not any(path == need["path"] or path.startswith(f"{need['path']}/") for path in paths):
            missing.setdefault(need["path"], []).append(need["host"])
    if missing:
        said = "; ".join(f"{path}, which {some(sorted(set(hosts)))} needs" for path, hosts in sorted(missing.items()))
        raise ModelFleetError(
            f"Refused the bundle {place}: it was made for {some(sorted(found['platforms'])) or 'no platform'} and has no {said}. Make "
            "it with this inventory, or correct modelfleet_offline_platform of these hosts."
        )


def main():
    module = CheckedModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "key": {"type": "str", "default": "", "no_log": False},
            "keyring": {"type": "path", "no_log": False},
            "unsigned": {"type": "bool", "default": False},
            "needs": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": {"type": "str", "required": True}, "host": {"type": "str", "required": True}},
            },
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        key = fingerprint(params["key"]) if params["key"] else ""
        found = verify(module, params["path"], key, params["keyring"], params["unsigned"])
        check_needs(params["path"], found, params["needs"])
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(
        changed=False,
        path=params["path"],
        platforms=found["platforms"],
        files=len(found["files"]),
        bytes=sum(file["size"] for file in found["files"]),
        sha256={file["path"]: file["sha256"] for file in found["files"]},
    )


if __name__ == "__main__":
    main()
