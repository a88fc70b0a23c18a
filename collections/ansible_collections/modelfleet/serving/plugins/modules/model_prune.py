#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_prune
short_description: Remove old versions of models from a host
version_added: 0.1.0
description:
  - Removes from the model store the versions that no policy keeps, with all that only they have, so that the disk has these bytes again.
    That is their files, their blobs and dfdaemon's own files of them, which are the same bytes.
  - What is in O(models) or in O(pinned), what O(record) or TorchServe says is served, what O(record) keeps for the way back from a rollout,
    and what a process uses is never removed, whatever the other options say.
  - A process uses a version when it has a file of it open or mapped, or when its working directory, its command line, its environment or
    one of its mounts names it. A runtime that O(record) does not know, and that reads a model and closes its files, is not seen, so list
    or pin what such a one serves.
  - The commits of a hub's repositories below O(huggingface_home) that neither an entry of O(models) nor O(record) has go too, unless a
    process uses them, with the files that no other commit has, and with the repository when none is left. Neither O(keep) nor O(pinned) is
    for them. A process names one by the commit, or, where a branch leads to it here, by the name of the repository.
  - Of the rest the newest O(keep) of each model stay, as long as O(limit) allows. The newest is what came last to this host.
  - Every file counts once, however many names it has. A file with a name elsewhere counts as not freed.
  - dfdaemon is told to forget what is removed, so it must run. Its other files are its own, for which C(gc.policy) has a budget.
  - What TorchServe unpacked is counted, and removed where no TorchServe runs. Each of its starts does the same.
  - An interrupted call leaves every version whole or gone, and the next one goes on. A call that meets another of this module or of
    M(modelfleet.serving.model_artifact) on its host waits for that, as long as O(retry_s) says.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.artifact_store
  - modelfleet.serving.attributes
options:
  models:
    description: The versions that must be on this host, which are never removed.
    type: list
    elements: dict
    required: true
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
        description: The sha256 of the file, or of the manifest of the bundle. Without it, every content of the version stays.
        type: str
      huggingface:
        description: The commit that it is, for a model of a hub.
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
    description: Directory with the caches of the access groups.
    type: path
    default: /var/lib/modelfleet/huggingface
  pinned:
    description: More versions that are never removed.
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
  keep:
    description: How many versions of each model stay beside those that are never removed. V(1) is the previous one.
    type: int
    default: 1
  limit:
    description:
      - What the models and their blobs may take, for example V(500GiB). Versions that only O(keep) keeps go until it is kept, the oldest
        first.
      - The module fails where what is never removed takes more, after it has removed what it may.
    type: str
  dfctl:
    description: The program dfctl.
    type: path
    default: /opt/dragonfly/client/current/dfctl
  container:
    description: Name of the container of dfdaemon, in which its own dfctl is asked in the place of O(dfctl).
    type: str
    default: ""
  piece_length:
    description: Length of a piece, as for M(modelfleet.serving.model_artifact).
    type: str
    default: auto
  base_url:
    description: URL of TorchServe's management API.
    type: str
    default: http://127.0.0.1:8081
  key_file:
    description: The file with TorchServe's keys. It is never printed.
    type: path
    default: /var/lib/torchserve/key_file.json
  unpack_dir:
    description: Directory below which TorchServe unpacks the archives that it serves.
    type: path
    default: /var/lib/torchserve/tmp/models
  retry_s:
    description: How long to wait for another call that works on this host, in seconds.
    type: int
    default: 120
seealso:
  - module: modelfleet.serving.model_artifact
  - module: modelfleet.serving.torchserve_model
"""

EXAMPLES = r"""
- name: Keep what is listed and the version before it, within 500 GiB
  modelfleet.serving.model_prune:
    models:
      - name: llama
        version: "3.1"
        sha256: 9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e
    pinned:
      - name: llama
        version: "2.0"
    limit: 500GiB
  register: pruned

- name: See what would go if nothing stayed but what is served or in use
  modelfleet.serving.model_prune:
    models: []
    keep: 0
  check_mode: true
  diff: true
"""

RETURN = r"""
versions:
  description: Every version in the model store, and every commit in a cache, by name and version.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model. Of a commit the repository, after its access group and a colon where that is not V(modelfleet-hf).
      type: str
    version:
      description: Version of the model, or the first 12 digits of the commit.
      type: str
    path:
      description: Where it is, or was.
      type: str
    state:
      description:
        - Why it stays, V(served) as O(record) or TorchServe says, V(loaded) by a process, V(recorded) where O(record) says that a rollback
          goes back to it or a rollout has not finished it, V(listed), V(pinned) or V(previous) by O(keep).
        - V(removed) if it does not.
      type: str
    by:
      description: The process that uses it, with V(loaded). Empty otherwise.
      type: str
    bytes:
      description: What its files take on the disk.
      type: int
    own:
      description: What of that no other version has.
      type: int
  sample:
    - name: llama
      version: "3.0"
      path: /var/lib/modelfleet/models/llama-3.0-9d6c2b1a0f3a
      state: removed
      by: ""
      bytes: 16060522496
      own: 1060522496
before:
  description: Bytes on the disk before, each file once.
  returned: always
  type: dict
  contains: &usage
    models:
      description: Files that the model store or a cache of a hub's models has.
      type: int
    blobs:
      description: Files of the blob store and the manifest store that no model has.
      type: int
    pieces:
      description: Files that dfdaemon alone has. The others in its piece store are models or blobs.
      type: int
    unpacked:
      description: What TorchServe unpacked, which may be on another disk.
      type: int
    shared:
      description: What of RV(before.models) more than one version has.
      type: int
  sample: {models: 17121044992, blobs: 0, pieces: 67108864, unpacked: 102760448, shared: 15000000000}
after:
  description: The same afterwards, in check mode as it would be.
  returned: always
  type: dict
  contains: *usage
  sample: {models: 16060522496, blobs: 0, pieces: 0, unpacked: 102760448, shared: 0}
freed:
  description: Bytes that the disk has again, in check mode those that it would have.
  returned: always
  type: int
  sample: 1127631360
free:
  description: Bytes that are free on the disk of the models now.
  returned: always
  type: int
  sample: 812847120384
"""

import os
import re

from ansible_collections.modelfleet.serving.plugins.module_utils._artifact import free_bytes, listdir, lstat, writing
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_bundle import digests_in, remove_tree
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_huggingface import Place
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_store import ArtifactStore, shown, store_argument_spec
from ansible_collections.modelfleet.serving.plugins.module_utils._dfctl import Tasks
from ansible_collections.modelfleet.serving.plugins.module_utils._dfdaemon import checked_piece_length, task_id, task_name
from ansible_collections.modelfleet.serving.plugins.module_utils._disk_usage import Inode, read_inodes
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._huggingface import COMMIT_OPTIONS, GROUP, check_listed, files_of
from ansible_collections.modelfleet.serving.plugins.module_utils._huggingface_cache import commits, repositories
from ansible_collections.modelfleet.serving.plugins.module_utils._model import NAME_RULE, is_name, version_key
from ansible_collections.modelfleet.serving.plugins.module_utils._model_record import read_parts, unchanged
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule
from ansible_collections.modelfleet.serving.plugins.module_utils._proc import holders
from ansible_collections.modelfleet.serving.plugins.module_utils._text import bytes_of, human_bytes
from ansible_collections.modelfleet.serving.plugins.module_utils._torchserve import KEY_FILE, MANAGEMENT_URL, TorchServe, read_models

TOPS = {
    "models": "model_store",
    "caches": "huggingface_home",
    "blobs": "blob_store",
    "manifests": "manifest_store",
    "incoming": "incoming",
    "pieces": "piece_store",
}
# Where a file is of a version.
OF_VERSIONS = {"models", "caches"}
USAGE = ("models", "blobs", "pieces", "unpacked", "shared")
FILE = re.compile(r"(.+)-[0-9a-f]{12}(?:\.mar)?\Z")
# The class that a process of TorchServe runs.
MODEL_SERVER = "org.pytorch.serve.ModelServer"


def check(params):
    """Fail on options that cannot be, before anything is done."""
    checked_piece_length(params["piece_length"])
    if params["keep"] < 0:
        raise ModelFleetError(f"Failed to use keep {params['keep']}: it must not be negative.")
    if params["limit"] is not None and bytes_of(params["limit"]) is None:
        raise ModelFleetError(f"Failed to use limit {params['limit']!r}: it is not a size. Give a number with a unit, for example 500GiB.")
    for option in ("models", "pinned"):
        for entry in params[option]:
            for key in ("name", "version"):
                if not is_name(entry[key]):
                    raise ModelFleetError(f"The {key} {entry[key]!r} in {option} {NAME_RULE}; correct it.")
            if entry.get("sha256") and not re.fullmatch(r"[0-9a-fA-F]{64}", entry["sha256"]):
                raise ModelFleetError("The sha256 of {name} {version} in models is not 64 hexadecimal digits; correct it.".format(**entry))
            check_listed(entry, params["huggingface_pins"])


class Version:
    """What is in the model store under one name, or a commit in a cache, which has its ``place``."""

    def __init__(self, path, name, version, place=None):
        self.path = path
        self.file = os.path.basename(path)
        self.name = name
        self.version = version
        self.place = place
        # By which a process may name it.
        self.words = [self.file]
        self.brought = os.lstat(path).st_mtime
        self.inodes = set()
        self.state = "removed"
        self.by = ""


class Plan:
    """What goes with the ``versions`` that are to be removed."""

    def __init__(self, versions, freed, names, manifests, digests):
        self.versions = versions
        # The keys of the inodes that the disk has again.
        self.freed = freed
        # {path} of what goes in the model store and the caches.
        self.names = names
        self.manifests = manifests
        # {sha256} of the blobs that stay though no model has them.
        self.digests = digests


class ModelPrune:
    """Compares the policy with what is on the host and removes what it does not keep."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        check(self.params)
        self.here = ArtifactStore(self.params, module.check_mode)
        self.tasks = Tasks(module)
        self.limit = bytes_of(self.params["limit"]) if self.params["limit"] is not None else None
        self.listed = {entry["sha256"].lower() for entry in self.params["models"] if entry["sha256"]}
        self.commits = [entry["huggingface"] for entry in self.params["models"] if entry["huggingface"]]
        # {sha256} of what the listed commits are made of, and {directory of a repository: names of the blobs}.
        self.large, self.wanted = set(), {}
        for source in self.commits:
            files = files_of(source, self.params["huggingface_pins"])
            self.large |= {file.sha256 for file in files if file.sha256}
            self.wanted.setdefault(Place(self.params, source).folder, set()).update(file.name for file in files)
        # What the caches have of commits, [Place].
        self.repositories, self.places = [], []
        # Whether TorchServe answers.
        self.reachable = False
        # {name of a manifest: {sha256}}
        self._digests = {}

    def run(self):
        try:
            return self._run_alone()
        except OSError as exc:
            raise ModelFleetError(
                f"Failed to look at {exc.filename or self.params['model_store']}: {exc.strerror}. Check the directory and the disk."
            ) from exc

    def _run_alone(self):
        if self.here.lacking_directories():
            # Nothing was brought here.
            usage = dict.fromkeys(USAGE, 0)
            return {"changed": False, "versions": [], "before": usage, "after": usage, "freed": 0, "free": 0}
        if self.module.check_mode:
            with unchanged(self.params["record"]):
                return self._run()
        self.here.check_directories()
        with self.here.alone(), unchanged(self.params["record"]):
            return self._run()

    def _run(self):
        self.repositories = list(repositories(self.params["huggingface_home"]))
        self.places = [place for repository in self.repositories for place in commits(repository)]
        before, names = self._inodes(), sorted([*self.here.names(), *(place.snapshot for place in self.places)])
        served = self._served()
        versions = self._versions(before, served)
        unpacked = read_inodes({"unpacked": self.params["unpack_dir"]})
        used, named = self._used(before, versions)
        stale = self._stale(named)
        self._judge(versions, served, used, named)
        plan = self._plan_within_limit(before, versions, used)
        old = {key for key, inode in unpacked.items() if any(path.startswith(f"{one}/") for one in stale for _top, path in inode.names)}
        pieces = [path for key in plan.freed for top, path in before[key].names if top == "pieces"]
        known = self.tasks.known() if pieces else set()
        changed = bool(plan.versions or plan.freed or plan.names or plan.manifests or stale)
        result = {"changed": changed, "versions": [], "free": 0, "freed": 0}
        result["before"] = self._totals(before, unpacked)
        if self.module.check_mode:
            after, left = self._without(before, plan), {key: unpacked[key] for key in unpacked.keys() - old}
        else:
            try:
                self._remove(plan, pieces, known, stale)
            except ModelFleetError as exc:
                exc.result.update(changed=self._inodes().keys() != before.keys())
                raise
            after, left = self._inodes(), read_inodes({"unpacked": self.params["unpack_dir"]})
        result["after"] = self._totals(after, left)
        result["freed"] = sum(before[key].bytes for key in plan.freed - after.keys())
        result["freed"] += sum(unpacked[key].bytes for key in old - left.keys())
        result["free"] = free_bytes(self.params["model_store"])
        result["versions"] = [self._described(version, before) for version in versions]
        if self.module._diff:
            result["diff"] = self._diff(names, {version.path for version in plan.versions})
        self._check_limit(self._usage(after), result)
        return result

    def _diff(self, names, gone):
        store = self.params["model_store"]
        return {
            "before_header": store,
            "after_header": store,
            "before": "".join(f"{shown(path, store)}\n" for path in names),
            "after": "".join(f"{shown(path, store)}\n" for path in names if path not in gone),
        }

    # What is

    def _inodes(self):
        found = read_inodes({top: self.params[option] for top, option in TOPS.items()})
        by_path = {path: inode for inode in found.values() for top, path in inode.names if top == "caches"}
        for repository in self.repositories:
            for path, blob in repository.linked().items():
                if blob in by_path:
                    # A symbolic link in a snapshot is one more name.
                    by_path[blob].names.append(("caches", path))
                    by_path[blob].links += 1
        lock = ("blobs", os.path.join(self.params["blob_store"], ".lock"))
        return {key: inode for key, inode in found.items() if lock not in inode.names}

    def _served(self):
        """The names in the model store that the record or TorchServe says are served, those that the record keeps for a rollout or the way
        back, and the names of these models."""
        parts = read_parts(self.params["record"])
        files, names = {entry["file"] for entry in parts["models"].values()}, {name for part in parts.values() for name, _version in part}
        recorded = {entry["file"] for part in ("previous", "staged") for entry in parts[part].values()}
        server = TorchServe(self.module, self.params["base_url"], self.params["key_file"])
        self.reachable = server.api_description() is not None
        if self.reachable:
            models = read_models(server)
            files |= {model["file"] for model in models}
            names |= {model["name"] for model in models}
        return files, recorded, names

    def _versions(self, inodes, served):
        """Every version in the model store. A file says name and version in one, and either may have dashes, so known names come first."""
        known = served[2] | {entry["name"] for option in ("models", "pinned") for entry in self.params[option]}
        found = {}
        for path in self.here.names():
            match = FILE.match(os.path.basename(path))
            names = [name for name in known if match and match[1].startswith(f"{name}-")]
            name = max(names, key=len) if names else match and match[1].rpartition("-")[0]
            if name and lstat(path):
                found[path] = Version(path, name, match[1][len(name) + 1 :])
        for place in self.places:
            if lstat(place.snapshot):
                found[place.snapshot] = self._commit(place)
        for key, inode in inodes.items():
            for path in self._paths_with(inode) & found.keys():
                found[path].inodes.add(key)
        return sorted(found.values(), key=lambda one: (one.name, version_key(one.version), one.path))

    @staticmethod
    def _commit(place):
        name = place.repo if place.group == GROUP else f"{place.group}:{place.repo}"
        version = Version(place.snapshot, name, place.commit[:12], place)
        # A word alone may be anything.
        if "/" in place.repo and place.commit in place.refs().values():
            version.words.append(place.repo)
        return version

    def _path_of(self, top, path):
        """Where the version is of which a path is; "" for what is of none."""
        if top == "models":
            store = self.params["model_store"].rstrip("/")
            return os.path.join(store, path[len(store) + 1 :].split("/")[0])
        parts = path[len(self.params["huggingface_home"].rstrip("/")) + 1 :].split("/")
        # GROUP/hub/models--…/snapshots/COMMIT/…
        return os.path.join(self.params["huggingface_home"], *parts[:5]) if top == "caches" and parts[3:4] == ["snapshots"] else ""

    def _paths_with(self, inode):
        """Where the versions are that have the inode."""
        return {self._path_of(top, path) for top, path in inode.names if top in OF_VERSIONS} - {""}

    def _used(self, inodes, versions):
        """What processes use; dfdaemon has its own files open whenever it likes."""
        inside = {key for key, inode in inodes.items() if inode.tops & {"blobs", *OF_VERSIONS}}
        names = {word for version in versions for word in version.words} | {MODEL_SERVER, *listdir(self.params["unpack_dir"])}
        beside = [self.params["piece_store"], self.params["incoming"]]
        try:
            used, named = holders(inside, names, beside)
        except OSError as exc:
            raise ModelFleetError(
                f"Failed to see what the processes of this host use ({exc.filename or '/proc'}: {exc.strerror}). Nothing was removed. Run "
                "the task with become, and in a container with the capability SYS_PTRACE."
            ) from exc
        if MODEL_SERVER in named and not self.reachable:
            raise ModelFleetError(
                f"Failed to ask TorchServe at {self.params['base_url']} what it serves, though {named[MODEL_SERVER]} runs. Nothing was "
                "removed. See journalctl -u torchserve, or correct base_url."
            )
        return used, named

    def _stale(self, named):
        """Paths of what a TorchServe unpacked that runs no more."""
        if MODEL_SERVER in named or self.reachable:
            return []
        directory = self.params["unpack_dir"]
        return sorted(os.path.join(directory, name) for name in listdir(directory) if name not in named)

    # What should be

    def _judge(self, versions, served, used, named):
        """Say of each version why it stays, as far as ``limit`` has no say in it."""
        stays = {
            option: {path for entry in self.params[option] if not entry.get("huggingface") for path in self.here.paths(entry)}
            for option in ("models", "pinned")
        }
        stays["models"] |= {Place(self.params, source).snapshot for source in self.commits}
        for entry in self.params["pinned"]:
            if not self.here.paths(entry):
                self.module.warn(f"The pinned version {entry['name']} {entry['version']} is not on this host.")
        previous = {}
        for version in sorted(versions, key=age, reverse=True):
            by_name = next((named[word] for word in version.words if word in named), "")
            version.by = by_name or next((used[key] for key in sorted(version.inodes & used.keys())), "")
            if version.file in served[0]:
                version.state = "served"
            elif version.by:
                version.state = "loaded"
            elif version.file in served[1]:
                version.state = "recorded"
            elif version.path in stays["models"]:
                version.state = "listed"
            elif version.path in stays["pinned"]:
                version.state = "pinned"
            elif not version.place and len(previous.setdefault(version.name, [])) < self.params["keep"]:
                version.state = "previous"
                previous[version.name].append(version)
            if version.state != "loaded":
                version.by = ""

    def _plan_within_limit(self, inodes, versions, used):
        """What goes when the oldest of the previous versions go as well until ``limit`` is kept."""
        plan = self._plan(inodes, versions, used)
        while self.limit is not None and self._usage(self._without(inodes, plan)) > self.limit:
            previous = [version for version in versions if version.state == "previous"]
            if not previous:
                break
            min(previous, key=age).state = "removed"
            plan = self._plan(inodes, versions, used)
        return plan

    def _plan(self, inodes, versions, used):
        """What goes with the versions whose state is "removed"."""
        removed = [version for version in versions if version.state == "removed"]
        names = self._names_that_go(inodes, removed)
        manifests, digests = self.here.leftovers(self.listed, in_the_store(removed))
        store = self.params["manifest_store"]
        stay = {sha256 for name in listdir(store) if os.path.join(store, name) not in manifests for sha256 in self._digests_of(name)}
        digests |= self.listed | self.large | {sha256 for one in self.listed for sha256 in self._digests_of(f"{one}.json")}
        digests |= {os.path.basename(path)[:64] for key in used for top, path in inodes[key].names if top == "blobs"}
        # Packs and manifests that dfdaemon brought have no name but its own any more.
        brought = {sha256 for path in manifests for sha256 in self._digests_of(os.path.basename(path))} - stay - digests
        tasks = {task_id(task_name(sha256, self.params["piece_length"])) for sha256 in brought}

        def goes(top, path):
            if top in OF_VERSIONS:
                return path in names
            if top == "manifests":
                return path in manifests
            if top == "blobs":
                return len(os.path.basename(path)) >= 64 and os.path.basename(path)[:64] not in digests
            return top == "pieces"

        freed = {
            key
            for key, inode in inodes.items()
            if key not in used
            and inode.links <= len(inode.names)
            and all(goes(top, path) for top, path in inode.names)
            and (inode.tops != {"pieces"} or all(os.path.basename(path) in tasks for _top, path in inode.names))
        }
        return Plan(removed, freed, names, manifests, digests)

    def _names_that_go(self, inodes, removed):
        """{path} in the model store and in the caches of what goes with the versions ``removed``."""
        leaving = {version.path for version in removed}
        names = {path for inode in inodes.values() for top, path in inode.names if self._path_of(top, path) in leaving}
        for repository in self.repositories:
            names |= self._surplus_of(repository, inodes, leaving)
        return names

    def _surplus_of(self, repository, inodes, leaving):
        """{path} of what a repository does not need any more when these commits have left, or of all and of itself."""
        left = {place.commit for place in self.places if place.folder == repository.folder and place.snapshot not in leaving}
        wanted = self.wanted.get(repository.folder, ())
        if not left and not wanted:
            below = f"{repository.folder}/"
            return {repository.folder, *(path for inode in inodes.values() for _top, path in inode.names if path.startswith(below))}
        stay = {blob for path, blob in repository.linked().items() if self._path_of("caches", path) not in leaving}
        blobs = set(map(repository.blob, listdir(repository.blob("")))) - stay - set(map(repository.blob, wanted))
        return blobs | {repository.ref_path(name) for name, commit in repository.refs().items() if commit not in left}

    def _digests_of(self, name):
        """{sha256} of a manifest, of the blobs that make up its bundle, and of its files."""
        if name not in self._digests:
            self._digests[name] = {name[:64]} | digests_in(os.path.join(self.params["manifest_store"], name), packs=True)
        return self._digests[name]

    def _without(self, inodes, plan):
        """The inodes as they are after the plan."""
        left = {}
        for key, inode in inodes.items():
            names = [(top, path) for top, path in inode.names if path not in plan.manifests and path not in plan.names]
            if key not in plan.freed and names:
                left[key] = Inode(inode.bytes, inode.links, names)
        return left

    def _usage(self, inodes):
        return sum(inode.bytes for inode in inodes.values() if inode.tops & {"blobs", "manifests", *OF_VERSIONS})

    def _totals(self, inodes, unpacked):
        totals = dict.fromkeys(USAGE, 0)
        for inode in inodes.values():
            totals["models" if inode.tops & OF_VERSIONS else "blobs" if inode.tops & {"blobs", "manifests"} else "pieces"] += inode.bytes
            if len(self._paths_with(inode)) > 1:
                totals["shared"] += inode.bytes
        totals["unpacked"] = sum(inode.bytes for inode in unpacked.values())
        return totals

    def _described(self, version, inodes):
        return {
            "name": version.name,
            "version": version.version,
            "path": version.path,
            "state": version.state,
            "by": version.by,
            "bytes": sum(inodes[key].bytes for key in version.inodes),
            "own": sum(inodes[key].bytes for key in version.inodes if len(self._paths_with(inodes[key])) == 1),
        }

    def _check_limit(self, usage, result):
        if self.limit is None or usage <= self.limit:
            return
        holding = sorted((one for one in result["versions"] if one["state"] != "removed"), key=lambda one: -one["bytes"])
        shown = ", ".join(f"{one['name']} {one['version']} ({one['state']}, {human_bytes(one['bytes'])})" for one in holding[:5])
        if len(holding) > 5:
            shown += f" and {len(holding) - 5} more"
        raise ModelFleetError(
            f"Failed to keep {self.params['model_store']} within the limit of {self.params['limit']}: {human_bytes(usage)} are taken by "
            f"what is never removed, {shown or 'blobs that an unfinished download needs'}. Raise the limit, or take a version out of "
            "models or pinned and have what serves it make it absent.",
            **result,
        )

    # What goes

    def _remove(self, plan, pieces, known, stale):
        """Whatever happens on the way, each version is whole or gone, and the next call finds what is left of it.

        First its bytes in dfdaemon, while its own names keep them; then its manifest and its name; blobs without a model at last.
        """
        for path in sorted(pieces):
            self.tasks.forget(path, known)
        with writing("what is left", self.params["manifest_store"]):
            for path in plan.manifests:
                remove_tree(path)
        for version in plan.versions:
            what = f"model {version.name} {version.version}"
            if version.place:
                with writing(f"the removal of {what}", version.place.folder):
                    version.place.remove_snapshot(self.here.blobs, self.wanted.get(version.place.folder, ()))
            else:
                self.here.remove(what, [version.path])
        for repository in self.repositories:
            # Also what an earlier call left that was interrupted.
            if any(f"{path}/".startswith(f"{repository.folder}/") for path in plan.names) and lstat(repository.folder):
                with writing(f"the removal of {repository.folder}", repository.folder):
                    repository.tidy(self.wanted.get(repository.folder, ()))
        self.here.sweep(self.listed, plan.digests, in_the_store(plan.versions))
        with writing("what TorchServe unpacked", self.params["unpack_dir"]):
            for path in stale:
                remove_tree(path)
        lost = self.tasks.kept(pieces)
        if lost:
            self.module.warn(
                f"dfdaemon still says that it has {len(lost)} of the tasks that it removed, as after a full disk. Run systemctl restart "
                f"dfdaemon, then dfctl task rm {min(lost)}{' and the others that dfctl task ls shows' if len(lost) > 1 else ''}."
            )


def in_the_store(versions):
    """{path} of those in the model store."""
    return {version.path for version in versions if not version.place}


def age(version):
    """Sorts versions by when they came to this host, and what came at once as people count versions."""
    return version.brought, version_key(version.version)


def main():
    module = DiscreetModule(
        argument_spec={
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "version": {"type": "str", "required": True},
                    "sha256": {"type": "str"},
                    "huggingface": {"type": "dict", "options": COMMIT_OPTIONS},
                },
            },
            "huggingface_pins": {"type": "dict", "default": {}},
            "huggingface_home": {"type": "path", "default": "/var/lib/modelfleet/huggingface"},
            "pinned": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"name": {"type": "str", "required": True}, "version": {"type": "str", "required": True}},
            },
            "keep": {"type": "int", "default": 1},
            "limit": {"type": "str"},
            **store_argument_spec(),
            "dfctl": {"type": "path", "default": "/opt/dragonfly/client/current/dfctl"},
            "container": {"type": "str", "default": ""},
            "piece_length": {"type": "str", "default": "auto"},
            "base_url": {"type": "str", "default": MANAGEMENT_URL},
            "key_file": {"type": "path", "default": KEY_FILE, "no_log": False},
            "unpack_dir": {"type": "path", "default": "/var/lib/torchserve/tmp/models"},
            "retry_s": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    try:
        result = ModelPrune(module).run()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
