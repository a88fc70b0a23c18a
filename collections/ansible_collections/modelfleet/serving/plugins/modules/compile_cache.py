#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compile_cache
short_description: Give models the directories of what torch compiles for them
description:
  - Each model of the list gets a directory of its own for what this host compiles for, which the workers of TorchServe write. One that has
    a cache which came to this host begins with a copy of it, any other is empty, and its model starts cold.
  - A directory that is there is left as it is. What came is not restored over it.
  - A cache that says that it is of another model, or of another fingerprint, is refused before anything is changed.
  - Directories of models that are neither in the list nor in O(record), and those of another fingerprint, are removed.
  - With O(state=packed) the directory of the one model of the list is written into a file as it is, ready to be published with
    M(modelfleet.serving.model_bundle).
version_added: 0.1.0
author: ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
options:
  models:
    description: The models. Required unless O(state=absent).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the model.
        type: str
        required: true
      version:
        description: Version of the model.
        type: str
        required: true
      sha256:
        description: The sha256 of the model, 64 hexadecimal digits.
        type: str
        required: true
      cache:
        description:
          - The sha256 of the manifest of its cache, which M(modelfleet.serving.model_artifact) has brought as the bundle NAME.compile of
            the version VERSION-FINGERPRINT. Empty for none.
        type: str
        default: ""
  fingerprint:
    description:
      - What this host compiles for, as M(modelfleet.serving.compile_cache_info) says it.
      - Empty where nobody knows, then nothing is restored.
      - Required unless O(state=absent).
    type: str
  state:
    description:
      - V(present) has the directories there.
      - V(packed) writes O(dest).
      - V(absent) takes all of them away, and O(list), as no model is compiled any more. O(directory) itself stays.
    type: str
    choices: [present, packed, absent]
    default: present
  dest:
    description: The file that O(state=packed) writes.
    type: path
  directory:
    description: Directory of the caches. It belongs to root, and so does what leads to it.
    type: path
    default: /var/lib/modelfleet/compile-caches
  list:
    description: The file that tells workers which models have a cache.
    type: path
    default: /var/lib/modelfleet/state/compile_caches.json
  model_store:
    description: Directory with what came to this host.
    type: path
    default: /var/lib/modelfleet/models
  manifest_store:
    description: Directory with the manifests of bundles.
    type: path
    default: /var/lib/modelfleet/manifests
  record:
    description: The record of what this host serves.
    type: path
    default: /var/lib/modelfleet/state/models.json
  user:
    description: Who runs the workers.
    type: str
    default: torchserve
  group:
    description: Who reads O(list) and the directories.
    type: str
    default: torchserve
seealso:
  - module: modelfleet.serving.compile_cache_check
  - module: modelfleet.serving.compile_cache_info
"""

EXAMPLES = r"""
- name: Have the cache of a model in its place before the model is registered
  modelfleet.serving.compile_cache:
    fingerprint: 9240cc4586a5d699
    models:
      - name: resnet50
        version: "1.0"
        sha256: 0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a
        cache: 9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e

- name: Take them away
  modelfleet.serving.compile_cache:
    state: absent
"""

RETURN = r"""
caches:
  description: What was done for each model, in the order of O(models).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model.
      type: str
    version:
      description: Version of the model.
      type: str
    path:
      description: Its directory. Empty without a fingerprint.
      type: str
    action:
      description:
        - What was done, V(restored) from what came, V(cold) for a new empty directory, V(unchanged), V(packed), or V(none) without a
          fingerprint.
      type: str
    detail:
      description: Why it starts cold.
      type: str
  sample:
    - name: resnet50
      version: "1.0"
      path: /var/lib/modelfleet/compile-caches/0f3a5e9c1f0c-9240cc4586a5d699
      action: restored
      detail: ""
removed:
  description: Directories that were removed.
  returned: always
  type: list
  elements: str
files:
  description: How many files O(dest) has.
  returned: with O(state=packed)
  type: int
"""

import json
import os
import re
import shutil
import tempfile
import zipfile

from ansible_collections.modelfleet.serving.plugins.module_utils._bundle_tree import read_manifest, tree_problem
from ansible_collections.modelfleet.serving.plugins.module_utils._compile_cache import (
    DIRECTORY,
    IDENTITY,
    LIST,
    artifact_of,
    cache_path,
    check_identity,
    identity,
    is_fingerprint,
    make_private,
    owner_of,
    packable,
    read_list,
    remove,
    remove_unfinished,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import UNFINISHED, digest_of, put_file, sha256_of
from ansible_collections.modelfleet.serving.plugins.module_utils._model import NAME_RULE, is_name, model_directory, title
from ansible_collections.modelfleet.serving.plugins.module_utils._model_record import read_parts
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CACHE = re.compile(r"([0-9a-f]{12})-([0-9a-f]{16})")


def check(params):
    """Fail on options that cannot be, before anything is done."""
    if params["fingerprint"] and not is_fingerprint(params["fingerprint"]):
        raise ModelFleetError(
            f"Failed to use the fingerprint {params['fingerprint'][:80]!a}: it is not 16 hexadecimal digits. Give that of "
            "compile_cache_info."
        )
    for model in params["models"] or []:
        for key in ("name", "version"):
            if not is_name(model[key]):
                raise ModelFleetError(f"The {key} {model[key]!r} of a model {NAME_RULE}; rename it.")
        for key in ("sha256", "cache"):
            model[key] = model[key].lower()
            if not _SHA256.fullmatch(model[key]) and (key == "sha256" or model[key]):
                whose = "the manifest of its cache" if key == "cache" else "its entry in the list of models"
                raise ModelFleetError(f"The {key} of {title(model)} is not 64 hexadecimal digits. Give that of {whose}.")
    if params["state"] == "packed" and (len(params["models"]) != 1 or not params["dest"] or not params["fingerprint"]):
        raise ModelFleetError("Failed to pack a compile cache: it takes one model, its fingerprint and dest. Give these three.")


class Caches:
    def __init__(self, module):
        self.module = module
        self.params = module.params
        check(self.params)
        self.fingerprint = self.params["fingerprint"]
        self.results = []

    def run(self):
        try:
            return {"packed": self._packed, "present": self._present, "absent": self._absent}[self.params["state"]]()
        except OSError as exc:
            raise ModelFleetError(
                f"Failed to write {exc.filename or self.params['directory']}: {exc.strerror}. Check the directory and the disk."
            ) from exc

    def _path(self, model):
        return cache_path(self.params["directory"], model["sha256"], self.fingerprint) if self.fingerprint else ""

    # Present

    def _present(self):
        before = self._names()
        sources = {model["sha256"]: self._source(model) for model in self.params["models"]}
        stale = self._stale(before)
        # Not before there is anything to give.
        owner = owner_of(self.params["user"], self.params["group"]) if self.params["models"] and not self.module.check_mode else None
        changed, diff = self._list()
        for model in self.params["models"]:
            self.results.append(self._ensure(model, *sources[model["sha256"]], owner))
        if not self.module.check_mode:
            self._remove(stale)
        made = {os.path.basename(one["path"]) for one in self.results if one["action"] in ("restored", "cold")}
        result = {
            "changed": bool(changed or stale or made),
            "caches": self.results,
            "removed": [os.path.join(self.params["directory"], name) for name in stale],
        }
        if self.module._diff:
            after = sorted((set(before) | made) - set(stale))
            result["diff"] = [diff, self._difference(before, after)]
        return result

    def _absent(self):
        names, listed = self._names(), os.path.exists(self.params["list"])
        if not self.module.check_mode:
            self._remove(names)
            if listed:
                os.unlink(self.params["list"])
        result = {
            "changed": bool(names or listed),
            "caches": [],
            "removed": [os.path.join(self.params["directory"], name) for name in names],
        }
        if self.module._diff:
            result["diff"] = self._difference(names, [])
        return result

    def _remove(self, names):
        for name in names:
            remove(os.path.join(self.params["directory"], name))
        remove_unfinished(self.params["directory"])

    def _difference(self, before, after):
        place = self.params["directory"]
        return {
            "before_header": place,
            "after_header": place,
            "before": "".join(f"{name}\n" for name in before),
            "after": "".join(f"{name}\n" for name in after),
        }

    def _names(self):
        try:
            return sorted(name for name in os.listdir(self.params["directory"]) if _CACHE.fullmatch(name))
        except FileNotFoundError:
            return []

    def _source(self, model):
        """((directory of what came, its Manifest), why there is none to restore). Raises ModelFleetError for what is not of this model and
        this host."""
        if not self.fingerprint:
            return None, "what this host compiles for is not known"
        if not model["cache"]:
            return None, "no cache is pinned for what this host compiles for"
        path = os.path.join(self.params["model_store"], model_directory(*artifact_of(model, self.fingerprint), model["cache"]))
        try:
            manifest = read_manifest(os.path.join(self.params["manifest_store"], f"{model['cache']}.json"), model["cache"])
            problem = tree_problem(manifest.files, path) if os.path.isdir(path) else "is not there; run the playbook distribute"
        except ModelFleetError as exc:
            return None, str(exc).rstrip(".")
        if problem:
            return None, f"{path} on this host {problem}"
        check_identity(path, identity(model, self.fingerprint))
        return (path, manifest), ""

    def _ensure(self, model, source, why, owner):
        path = self._path(model)
        result = {"name": model["name"], "version": model["version"], "path": path, "action": "unchanged", "detail": ""}
        if not path:
            return {**result, "action": "none", "detail": why}
        if os.path.isdir(path):
            return result
        result.update(action="restored" if source else "cold", detail=why)
        if model["cache"] and not source:
            self.module.warn(f"The {title(model)} starts cold: {why}.")
        if self.module.check_mode:
            return result
        try:
            make_private(path, owner, (lambda target: _copy(*source, target)) if source else None)
        except OSError as exc:
            if not source:
                raise
            # Without a directory the next run tries again.
            why = f"its cache cannot be copied to {path} ({exc.strerror}); check the disk"
            self.module.warn(f"The {title(model)} starts cold: {why}.")
            result.update(action="none", detail=why)
        return result

    def _list(self):
        """Tell workers of the models of the list, and of those that a rollback or a rollout may register from this host's disk."""
        recorded = {entry["sha256"] for part in read_parts(self.params["record"]).values() for entry in part.values()}
        before = read_list(self.params["list"])
        models = {key: sha256 for key, sha256 in before.items() if sha256 in recorded}
        models.update({f"{model['name']} {model['version']}": model["sha256"] for model in self.params["models"]})
        if not models and not before:
            return False, {}
        content = json.dumps({"format": 1, "models": models}, indent=2, sort_keys=True) + "\n"
        return put_file(self.module, self.params["list"], content, params={"owner": "root", "group": self.params["group"], "mode": "0640"})

    def _stale(self, names):
        recorded = {entry["sha256"][:12] for part in read_parts(self.params["record"]).values() for entry in part.values()}
        kept = recorded | {model["sha256"][:12] for model in self.params["models"]}
        # Without a fingerprint nobody knows which are in use.
        return [name for name in names if self.fingerprint and (name[:12] not in kept or name[13:] != self.fingerprint)]

    # Packed

    def _packed(self):
        model, dest = self.params["models"][0], self.params["dest"]
        path = self._path(model)
        # In its own place, where it becomes the file; only what is to be compared is written elsewhere.
        place = self.module.tmpdir if self.module.check_mode else os.path.dirname(os.path.abspath(dest))
        # For its owner only: its content becomes code on other hosts.
        handle, temporary = tempfile.mkstemp(prefix=UNFINISHED, dir=place)
        try:
            with open(handle, "wb") as file:
                files = self._pack(model, path, file)
            if not files:
                raise ModelFleetError(
                    f"Failed to pack the compile cache of {title(model)}: {path} has nothing in it. Ask the model first, and see that its "
                    "handler uses torch.compile."
                )
            before, after = sha256_of(dest) if os.path.exists(dest) else None, sha256_of(temporary)
            changed = before != after
            if changed and not self.module.check_mode:
                os.replace(temporary, dest)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)
        digest = [f"{one}\n" if one else "" for one in (before, after)]
        result = {
            "name": model["name"],
            "version": model["version"],
            "path": path,
            "action": "packed" if changed else "unchanged",
            "detail": "",
        }
        done = {"changed": changed, "caches": [result], "removed": [], "files": files}
        if self.module._diff:
            done["diff"] = {"before_header": dest, "after_header": dest, "before": digest[0], "after": digest[1]}
        return done

    def _pack(self, model, path, file):
        """Write the archive, a block at a time; returns how many files of the cache are in it."""
        files = 0
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            said = json.dumps(identity(model, self.fingerprint), indent=2, sort_keys=True) + "\n"
            archive.writestr(_member(IDENTITY), said)
            for within, source in packable(path) if os.path.isdir(path) else ():
                with archive.open(_member(within), "w", force_zip64=True) as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
                files += 1
        return files


def _member(name):
    """Nothing in the file says when it was made."""
    found = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    found.external_attr = 0o100644 << 16
    found.compress_type = zipfile.ZIP_DEFLATED
    return found


def _copy(source, manifest, target):
    """Copy what the manifest says and nothing else: where TorchServe's user may rename, it could have put something else there since."""
    for file in manifest.files:
        if file.path == IDENTITY:
            continue
        os.makedirs(os.path.join(target, os.path.dirname(file.path)), exist_ok=True)
        with open(os.path.join(source, file.path), "rb") as handle, open(os.path.join(target, file.path), "xb") as sink:
            found = digest_of(handle, sink=sink)
        if found != file.sha256:
            raise ModelFleetError(
                f"Failed to restore {source}: {file.path} in it changed while it was copied. Nothing was restored: run the playbook "
                "distribute, and see which model of this host does that."
            )


def main():
    module = CheckedModule(
        argument_spec={
            "models": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "version": {"type": "str", "required": True},
                    "sha256": {"type": "str", "required": True},
                    "cache": {"type": "str", "default": ""},
                },
            },
            "fingerprint": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "packed", "absent"], "default": "present"},
            "dest": {"type": "path"},
            "directory": {"type": "path", "default": DIRECTORY},
            "list": {"type": "path", "default": LIST},
            "model_store": {"type": "path", "default": "/var/lib/modelfleet/models"},
            "manifest_store": {"type": "path", "default": "/var/lib/modelfleet/manifests"},
            "record": {"type": "path", "default": "/var/lib/modelfleet/state/models.json"},
            "user": {"type": "str", "default": "torchserve"},
            "group": {"type": "str", "default": "torchserve"},
        },
        required_if=[("state", "present", ("models", "fingerprint")), ("state", "packed", ("models", "fingerprint"))],
        supports_check_mode=True,
    )
    try:
        result = Caches(module).run()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
