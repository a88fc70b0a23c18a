#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: verify_info
short_description: Hash again what is installed and what serves on a host
version_added: 0.1.0
description:
  - Reads the programs, Python environments, models and packages of this host and compares each file with the digest that is recorded of it.
  - It fails for nothing that it finds; P(modelfleet.serving.verify_report#filter) judges.
  - One file is read at a time, with the lowest priority at the CPU and the idle class at the disk, and O(disk_mbytes) at most. The
    schedulers C(bfq) and C(mq-deadline) of a disk heed that class. A file with several names is read once.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
options:
  releases:
    description:
      - Releases that M(modelfleet.serving.dragonfly_release) installed. Versions that stay beside the current one are verified as well.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the release, for example V(client).
        type: str
        required: true
      link:
        description: The link to the current one.
        type: path
        required: true
      version:
        description: The version that O(releases[].sha256) is of.
        type: str
        default: ""
      sha256:
        description: SHA-256 of the archive that is pinned. Without it the archive is what the record of the installation says.
        type: str
        default: ""
      unit:
        description: The unit whose process runs of it, with its suffix. Its program is verified too, also where the file is no more.
        type: str
        default: ""
  containers:
    description: Containers and the images that they should run of.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the container.
        type: str
        required: true
      image:
        description: The image, by digest or id.
        type: str
        required: true
      version:
        description: Which version of its program the image holds.
        type: str
        default: ""
  environments:
    description:
      - Python environments of M(modelfleet.serving.python_environment). Those beside each that are whole and are called C(venv-*) are
        verified as well.
    type: list
    elements: path
    default: []
  files:
    description: Single files.
    type: list
    elements: dict
    default: []
    suboptions:
      part:
        description: What it belongs to, for example V(endpoint plugin).
        type: str
        required: true
      name:
        description: What it is called.
        type: str
        required: true
      version:
        description: Its version, where it has one.
        type: str
        default: ""
      path:
        description: The file.
        type: path
        required: true
      sha256:
        description: Its SHA-256.
        type: str
        required: true
      alone:
        description: Whether nothing else may be in its directory.
        type: bool
        default: false
  models:
    description: The versions of models that this host should have. What the record says beside them is verified by the record.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the model.
        type: str
        required: true
      version:
        description: Version of the model.
        type: str
        required: true
      bundle:
        description: Key prefix of its bundle. Without it the model is one file.
        type: str
      sha256:
        description: SHA-256 of the file, or of the bundle's manifest. Required without O(models[].huggingface).
        type: str
      huggingface:
        description: The commit that it is, for a model of a hub. Such a model must be there.
        type: dict
        suboptions:
          repo:
            description: The repository, V(organisation/name).
            type: str
            required: true
          revision:
            description: The commit, which is one of O(huggingface_pins).
            type: str
            required: true
          include:
            description: Patterns of the files that the host has.
            type: list
            elements: str
          exclude:
            description: Patterns of the files that it does not have.
            type: list
            elements: str
          group:
            description: The access group whose cache it is in.
            type: str
            default: modelfleet-hf
          ref:
            description: The branch by which consumers find it.
            type: str
            default: main
  huggingface_pins:
    description: The files of the commits in O(models), as for M(modelfleet.serving.model_artifact).
    type: dict
    default: {}
  huggingface_home:
    description: Directory with the caches of a hub's models, which are verified as well where there is a O(model_store).
    type: path
    default: /var/lib/modelfleet/huggingface
  model_store:
    description: Directory with the models. Empty for a host without any.
    type: path
    default: ""
  manifest_store:
    description: Directory with the manifests of the bundles.
    type: path
    default: /var/lib/modelfleet/manifests
  blob_store:
    description: Directory with the verified files by their SHA-256.
    type: path
    default: /var/lib/modelfleet/blobs
  record:
    description: The file that records what this host serves.
    type: path
    default: /var/lib/modelfleet/state/models.json
  unpack_dir:
    description: Where TorchServe unpacks models. What its workers load from there is compared with the archives in O(model_store).
    type: path
    default: /var/lib/torchserve/tmp/models
  packages:
    description: Packages of the distribution, which its own means verify (C(dpkg --verify), C(rpm -V)).
    type: list
    elements: str
    default: []
  package_programs:
    description: Programs whose packages are verified as well.
    type: list
    elements: path
    default: []
  disk_mbytes:
    description: Megabytes that are read in a second at most. V(0) is without a limit.
    type: int
    default: 200
  progress_path:
    description:
      - A file that says how far the module is, once in a second, as that of M(modelfleet.serving.model_artifact) does. It is removed in
        the end.
    type: path
seealso:
  - module: modelfleet.serving.doctor_info
  - plugin: modelfleet.serving.verify_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Verify the Dragonfly client and the models
  modelfleet.serving.verify_info:
    releases:
      - name: client
        link: /opt/dragonfly/client/current
        version: 1.5.10
        sha256: "{{ dfdaemon_release_sha256 }}"
        unit: dfdaemon.service
    models: "{{ modelfleet_models }}"
    model_store: /var/lib/modelfleet/models
  register: verified
"""

RETURN = r"""
findings:
  description: What is not as it was recorded.
  returned: success
  type: list
  elements: dict
  contains:
    part:
      description: V(programs), V(containers), V(python), V(models), V(unpacked), V(packages), or a O(files[].part).
      type: str
    name:
      description: The release, environment, model or package.
      type: str
    state:
      description:
        - V(changed), V(missing), V(extra), V(unreadable), or V(disputed) where the record of the installation and pip's own differ.
      type: str
    paths:
      description: The first of them.
      type: list
      elements: str
    count:
      description: How many there are.
      type: int
    detail:
      description: More about the first, such as both digests; empty where there is no more to say.
      type: str
  sample:
    - part: programs
      name: client 1.5.10
      state: changed
      paths: [/opt/dragonfly/client/1.5.10/dfdaemon]
      count: 1
      detail: it has the sha256 9f…, expected 3b…
unverified:
  description: What nothing here verifies, each with C(part), C(name) and C(why).
  returned: success
  type: list
  elements: dict
  sample: [{part: python, name: venv-0.12.0-1a2b3c4d, why: "what it takes from the system's Python, but for packages of the distribution"}]
components:
  description:
    - What is on this host, each with C(kind) (V(program), V(container), V(file), V(python), V(model) or V(package)), C(name) and
      C(version), and C(sha256) where it is one file. P(modelfleet.serving.host_sbom#filter) makes a bill of materials of it.
  returned: success
  type: list
  elements: dict
files:
  description: How many files were read.
  returned: success
  type: int
  sample: 21345
bytes:
  description: How many bytes they have.
  returned: success
  type: int
  sample: 6442450944
seconds:
  description: How long it took.
  returned: success
  type: float
  sample: 32.1
idle_disk:
  description: Whether the kernel took the idle class for the disk.
  returned: success
  type: bool
  sample: true
"""

import os

from ansible_collections.modelfleet.serving.plugins.module_utils import _verify
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._huggingface import COMMIT_OPTIONS
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule
from ansible_collections.modelfleet.serving.plugins.module_utils._verify_containers import verify_container
from ansible_collections.modelfleet.serving.plugins.module_utils._verify_huggingface import verify_huggingface
from ansible_collections.modelfleet.serving.plugins.module_utils._verify_models import verify_models, verify_unpacked
from ansible_collections.modelfleet.serving.plugins.module_utils._verify_packages import verify_packages
from ansible_collections.modelfleet.serving.plugins.module_utils._verify_python import verify_environments
from ansible_collections.modelfleet.serving.plugins.module_utils._verify_releases import verify_file, verify_release


def tops(params):
    """Directories and files that are read, for how much there is to do."""
    keys = ("model_store", "blob_store", "manifest_store", "huggingface_home", "unpack_dir") if params["model_store"] else ()
    stores = [params[key] for key in keys]
    releases = [os.path.dirname(one["link"]) for one in params["releases"]]
    return [*releases, *params["environments"], *(one["path"] for one in params["files"]), *stores]


def verify(look, params, run_command):
    for release in params["releases"]:
        verify_release(look, release, run_command)
    for container in params["containers"]:
        verify_container(look, container, run_command)
    for path in params["environments"]:
        verify_environments(look, path)
    for one in params["files"]:
        verify_file(look, one)
    if params["model_store"]:
        verify_models(look, params)
        verify_huggingface(look, params)
        verify_unpacked(look, params["unpack_dir"], params["model_store"])
    verify_packages(look, params["packages"], params["package_programs"], run_command)


def run(module):
    params = module.params
    idle = _verify.make_way(module)
    wanted = _verify.bytes_below(tops(params)) if params["progress_path"] else 0
    look = _verify.Look(params["disk_mbytes"] * 1_000_000, params["progress_path"], wanted)
    try:
        verify(look, params, module.run_command)
    finally:
        look.end()
    return {
        "findings": look.findings,
        "unverified": look.unverified,
        "components": look.components,
        "files": look.files,
        "bytes": look.bytes,
        "seconds": round(look.seconds, 1),
        "idle_disk": idle,
    }


def main():
    module = DiscreetModule(
        argument_spec={
            "releases": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "link": {"type": "path", "required": True},
                    "version": {"type": "str", "default": ""},
                    "sha256": {"type": "str", "default": ""},
                    "unit": {"type": "str", "default": ""},
                },
            },
            "containers": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "image": {"type": "str", "required": True},
                    "version": {"type": "str", "default": ""},
                },
            },
            "environments": {"type": "list", "elements": "path", "default": []},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "part": {"type": "str", "required": True},
                    "name": {"type": "str", "required": True},
                    "version": {"type": "str", "default": ""},
                    "path": {"type": "path", "required": True},
                    "sha256": {"type": "str", "required": True},
                    "alone": {"type": "bool", "default": False},
                },
            },
            "models": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "version": {"type": "str", "required": True},
                    "bundle": {"type": "str"},
                    "sha256": {"type": "str"},
                    "huggingface": {"type": "dict", "options": COMMIT_OPTIONS},
                },
                "required_one_of": [["sha256", "huggingface"]],
            },
            "huggingface_pins": {"type": "dict", "default": {}},
            "huggingface_home": {"type": "path", "default": "/var/lib/modelfleet/huggingface"},
            "model_store": {"type": "path", "default": ""},
            "manifest_store": {"type": "path", "default": "/var/lib/modelfleet/manifests"},
            "blob_store": {"type": "path", "default": "/var/lib/modelfleet/blobs"},
            "record": {"type": "path", "default": "/var/lib/modelfleet/state/models.json"},
            "unpack_dir": {"type": "path", "default": "/var/lib/torchserve/tmp/models"},
            "packages": {"type": "list", "elements": "str", "default": []},
            "package_programs": {"type": "list", "elements": "path", "default": []},
            "disk_mbytes": {"type": "int", "default": 200},
            "progress_path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    if module.params["disk_mbytes"] < 0:
        module.fail_json(msg=f"Refused disk_mbytes={module.params['disk_mbytes']}: it is a rate, so use 0 (no limit) or more.")
    try:
        result = run(module)
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
