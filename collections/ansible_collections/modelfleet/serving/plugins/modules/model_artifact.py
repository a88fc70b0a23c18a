#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_artifact
short_description: Have the artifacts of models on a host
version_added: 0.1.0
description:
  - Brings each artifact of a list to the model store through Dragonfly, or removes it. What serves is neither asked nor changed.
  - An artifact is one file (O(artifacts[].object)), or a directory (O(artifacts[].bundle)) of which only the blobs are fetched that this
    host lacks, or a commit of a repository at a Hugging Face hub (O(artifacts[].huggingface)) in the layout of that hub's own cache.
  - Before anything of a repository is linked, this host proves its right to it with its own token, also when the bytes are here already.
    What the hub refuses is taken away from the access group. A repository that the hub does not know any more, and one whose hub does not
    answer, stays with a warning.
  - The large files of a repository come through Dragonfly from where the hub says that they are, which takes no token. What the hub itself
    gives only to who has the token comes from the hub directly. No token gets to dfdaemon.
  - The small files come with the connection of Ansible. The controller asks the hub once for all hosts of a run, with the token of a host
    that proved its right (see O(huggingface_small)).
  - Whatever gets its final name is complete and verified, belongs to root and cannot be written by dfdaemon or a runtime. It is a hard link
    of dfdaemon's own file as long as dfdaemon keeps that, so that the bytes are on the disk once. Only small files, which a bundle has in
    packs, are written a second time.
  - Every verified file is in O(blob_store) by its sha256, so that two versions have what they share once. What no model has any more is
    removed from there at the end of every call, but for what a bundle needs that failed to come less than a day ago.
  - A task in Dragonfly has the name that the endpoint plugin gives it, so that both share one download.
  - A call that was interrupted is continued by the next. One that meets another on its host waits for that, as long as O(retry_s) says.
  - One artifact that fails does not keep the others from coming; the module fails then, and returns what was done.
  - The module asks the origin itself for the size of an object, and for its ETag where it has not the content that was asked for, through
    the proxies of its environment.
  - It asks dfdaemon as dfget does, at its socket, but not with dfget, in whose arguments everybody on the host could read signed URLs.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.artifact_store
  - modelfleet.serving.attributes
  - modelfleet.serving.storage
options:
  artifacts:
    description: The artifacts.
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
      object:
        description: Key of the file in the object store. With O(artifacts[].state=present) this or O(artifacts[].bundle), never both.
        type: str
      bundle:
        description: Key prefix of the bundle in the object store, as M(modelfleet.serving.model_bundle) published it.
        type: str
      huggingface:
        description: The commit of a repository at a Hugging Face hub, in place of the others.
        type: dict
        suboptions:
          repo:
            description: The repository, V(organisation/name).
            type: str
            required: true
          revision:
            description: The commit, 40 hexadecimal digits. With O(artifacts[].state=present) it is one of O(huggingface_pins).
            type: str
            required: true
          include:
            description: Patterns of the files that come, all without it. Each must match a file.
            type: list
            elements: str
          exclude:
            description: Patterns of the files that do not come.
            type: list
            elements: str
          group:
            description: The group of this host whose members may read it. Its directory below O(huggingface_home) has this name.
            type: str
            default: modelfleet-hf
          ref:
            description:
              - The branch by which a consumer finds this commit, which is what it asks for when it names none. Empty for a commit that is
                found by itself only.
            type: str
            default: main
      sha256:
        description:
          - The sha256 of the file, or of the manifest of the bundle, 64 hexadecimal digits. Required with O(artifacts[].state=present), but
            for O(artifacts[].huggingface), where it is of no meaning.
          - Without it, O(artifacts[].state=absent) removes whatever has the name and the version and is not another entry of the list.
        type: str
      state:
        description:
          - Whether the artifact is on the host. One that O(record) says is served is never removed.
        type: str
        choices: [present, absent]
        default: present
  curl:
    description: The program curl, which speaks HTTP/2 to dfdaemon.
    type: path
    default: curl
  dfdaemon_metrics_url:
    description: Metrics of this host's dfdaemon, from which the bytes by source come.
    type: str
    default: http://127.0.0.1:4002/metrics
  piece_length:
    description: Length of a piece, V(auto) or a size from V(4MiB) to V(64MiB). One value for the whole fleet.
    type: str
    default: auto
  back_to_source:
    description: Whether this host may decide on its own to go to the origin. Where there is a seed peer, that does.
    type: bool
    default: false
  parallel:
    description: How many downloads run side by side.
    type: int
    default: 4
  retry_s:
    description:
      - How long a failure that may pass is retried, in seconds, from the first one after something came. A download of which nothing
        comes for 10 minutes is such a failure.
      - It must outlive the restart of a seed peer and the 30 seconds in which a scheduler takes notice of it.
    type: int
    default: 120
  url_expiry_s:
    description: How long a URL that is signed for an attempt opens its object, in seconds, from V(60) to V(604800).
    type: int
    default: 3600
  huggingface:
    description: The hub and who asks it. Required where an artifact has O(artifacts[].huggingface).
    type: dict
    suboptions:
      endpoint:
        description:
          - Addresses of hubs or mirrors, the first that has a file gives it.
          - One that does not answer, lacks a file or gives another one is passed over, with a warning.
        type: list
        elements: str
        default: [https://huggingface.co]
      token:
        description: The token of this host. Public repositories need none.
        type: str
      token_endpoint:
        description:
          - Those of O(huggingface.endpoint) that get the token. No other server does.
          - Where there are any, only these say whether this host may have a repository.
        type: list
        elements: str
        default: [https://huggingface.co]
      ca_path:
        description: File on this host with CA certificates (PEM) that are trusted for hubs beside those of the system.
        type: path
  huggingface_pins:
    description:
      - The files of commits, by repository and commit, as M(modelfleet.serving.huggingface_lock) writes them. Each file has its C(size),
        and C(sha256) or C(git_sha1).
    type: dict
    default: {}
  huggingface_access_s:
    description:
      - How long this host need not ask again whether it may have a commit, in seconds, at most V(3600). V(0) asks in any case.
      - Kept for each repository, commit and token; a revoked right holds so long.
    type: int
    default: 3600
  huggingface_home:
    description:
      - Directory with the caches of the access groups. It is on the filesystem of O(blob_store).
      - Beside the directory of a group there is C(GROUP.env) with the variables that have its members find their models, for a unit's
        C(EnvironmentFile=) or a shell.
    type: path
    default: /var/lib/modelfleet/huggingface
  huggingface_decisions:
    description: File with what this host may have until when, for root only. It has no token in it.
    type: path
    default: /var/lib/modelfleet/state/huggingface.json
  huggingface_adopt:
    description: Caches of users, each a directory with C(models--…), from which files are taken that have the right content.
    type: list
    elements: path
    default: []
  huggingface_small:
    description:
      - Who asks the hub for the small files that this host lacks. A hub limits the requests of who asks, and hosts times files are many.
      - With V(controller), the controller gets each once in a run of Ansible, for all hosts that have the right to it, and sends them. It
        asks the same O(huggingface.endpoint) through the proxies of its own environment. What it cannot get, and what is beyond 64 MiB for
        one host, this host gets itself.
      - With V(host), in check mode and in the background (C(async)), the controller asks for nothing.
    type: str
    choices: [controller, host]
    default: controller
  huggingface_small_ca_path:
    description: File on the controller with CA certificates (PEM) that it trusts for hubs beside those of the system.
    type: path
  huggingface_small_return:
    description:
      - End with RV(huggingface_lacking), and nothing done, where this host lacks small files and has proved its right to them.
      - It is for the action of this module, which has the module run again.
    type: bool
    default: false
  huggingface_small_path:
    description:
      - File on this host with small files, from which are taken those that have what O(huggingface_pins) says.
      - It is for the action of this module.
    type: path
  progress_path:
    description: A file that is replaced every second while the module runs, with how far it is in JSON (see the examples).
    type: path
seealso:
  - module: modelfleet.serving.huggingface_lock
  - module: modelfleet.serving.model_bundle
  - module: modelfleet.serving.model_prune
  - module: modelfleet.serving.torchserve_model
  - module: modelfleet.serving.dfdaemon_info
"""

EXAMPLES = r"""
- name: Have a bundle and an archive on this host before anything serves them
  modelfleet.serving.model_artifact:
    storage: "{{ modelfleet_storage }}"
    artifacts:
      - name: llama
        version: "3.1"
        bundle: bundles/llama
        sha256: 9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e
      - name: resnet50
        version: "2.0"
        object: models/resnet50/2.0/resnet50.mar
        sha256: 0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a
    progress_path: /run/modelfleet-artifacts.json
# The file of progress_path:
# {"artifacts": [{"name": "llama", "version": "3.1", "state": "fetching", "size": 268435456, "fetched": 67108864}, ...],
#  "bytes": {"origin": 0, "remote_peer": 71303168, "local_peer": 0}, "seconds": 4.0}

- name: Have a commit of a repository on this host
  modelfleet.serving.model_artifact:
    storage: "{{ modelfleet_storage }}"
    huggingface:
      token: "{{ vault_hf_token }}"
    huggingface_pins: "{{ modelfleet_huggingface_pins }}"
    artifacts:
      - name: bert
        version: "1"
        huggingface:
          repo: org/bert
          revision: 0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a0f3a5e9c
          include: ["*.safetensors", "*.json"]
# A unit that runs as a member of the group modelfleet-hf finds it with EnvironmentFile=/var/lib/modelfleet/huggingface/modelfleet-hf.env.

- name: Remove a version
  modelfleet.serving.model_artifact:
    storage: "{{ modelfleet_storage }}"
    artifacts:
      - name: resnet50
        version: "1.0"
        state: absent
"""

RETURN = r"""
artifacts:
  description: What was done for each artifact, in the order of O(artifacts).
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
      description: Where it is, or was; empty for an absent one that was not there.
      type: str
    action:
      description: What was done, V(unchanged), V(fetched), V(removed) or V(failed).
      type: str
    size:
      description: Its bytes. Null where they are not known, which is so in check mode before anything of it is here.
      type: int
    fetched:
      description:
        - Bytes that dfdaemon gave for it, in check mode those that it would. Null where they are not known.
        - What two artifacts of one call share counts for the first of them.
      type: int
    bytes:
      description:
        - The same by source. dfdaemon counts for the whole host, so it is empty where several artifacts were fetched at once, and
          also holds what others fetched meanwhile.
      type: dict
    seconds:
      description: How long that took.
      type: float
    links:
      description: How many names its file has on this disk, for a bundle its largest file. 0 in check mode, and for what is not here.
      type: int
  sample:
    - name: resnet50
      version: "2.0"
      path: /var/lib/modelfleet/models/resnet50-2.0-0f3a5e9c1f0c.mar
      action: fetched
      size: 102760448
      fetched: 102760448
      bytes: {origin: 0, remote_peer: 102760448, local_peer: 0}
      seconds: 4.2
      links: 3
bytes:
  description: Bytes that dfdaemon took while this module fetched, by source. Empty when nothing was, or the metrics could not be read.
  returned: always
  type: dict
  sample: {origin: 0, remote_peer: 102760448, local_peer: 0}
samples:
  description:
    - RV(bytes) over time, each with the seconds since the module began to fetch. At most 60, as evenly spread as it took.
    - Empty when nothing was fetched, or the metrics could not be read.
  returned: always
  type: list
  elements: dict
  sample:
    - {seconds: 1.0, origin: 0, remote_peer: 25165824, local_peer: 0}
    - {seconds: 4.2, origin: 0, remote_peer: 102760448, local_peer: 0}
hub_requests:
  description: How often this host asked the hub, every redirect at the hub counted.
  returned: always
  type: int
  sample: 3
hub_requests_controller:
  description: How often the controller did for this host.
  returned: with O(huggingface_small=controller), when it was run by a task
  type: int
  sample: 20
huggingface_lacking:
  description: Small files that this host lacks and has the right to.
  returned: with O(huggingface_small_return), where there are any
  type: list
  elements: dict
  contains:
    repo:
      description: The repository.
      type: str
    revision:
      description: The commit.
      type: str
    git_sha1:
      description: What git calls them.
      type: list
      elements: str
began:
  description: When the module was started, in seconds since the epoch by the clock of the controller, which is one for all hosts.
  returned: when it was run by a task
  type: float
  sample: 1767225600.5
"""

import json
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial

from ansible_collections.modelfleet.serving.plugins.module_utils._artifact import lstat, remove, writing
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_bundle import BundleArtifact
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_huggingface import HuggingFaceArtifact, Place, keep_each_others
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_object import ObjectArtifact
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_store import ArtifactStore, shown, store_argument_spec
from ansible_collections.modelfleet.serving.plugins.module_utils._dfdaemon import checked_piece_length, read_traffic
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._fetcher import Fetcher
from ansible_collections.modelfleet.serving.plugins.module_utils._huggingface import (
    COMMIT_OPTIONS,
    OPTIONS,
    Decisions,
    Hub,
    options_problem,
    source_problem,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._model import NAME_RULE, is_name
from ansible_collections.modelfleet.serving.plugins.module_utils._model_record import read_parts
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import StorageModule, storage_argument_spec, store_from

KINDS = {kind.kind: kind for kind in (ObjectArtifact, BundleArtifact, HuggingFaceArtifact)}
# Threads that only wait for downloads.
MOST_AT_ONCE = 32
PROGRESS_S = 1
MOST_ACCESS_S = 3600
MOST_SAMPLES = 60


def check(params):
    """Fail on options that cannot be, before anything is done."""
    checked_piece_length(params["piece_length"])
    if params["parallel"] < 1:
        raise ModelFleetError(f"Failed to use parallel {params['parallel']}: it must be at least 1.")
    if not 60 <= params["url_expiry_s"] <= 7 * 24 * 3600:
        raise ModelFleetError(f"Failed to use url_expiry_s {params['url_expiry_s']}: it must be from 60 to 604800 seconds.")
    if not 0 <= params["huggingface_access_s"] <= MOST_ACCESS_S:
        raise ModelFleetError(
            f"Failed to use huggingface_access_s {params['huggingface_access_s']}: it must be from 0 to {MOST_ACCESS_S} seconds."
        )
    problem = options_problem(params["huggingface"]) if params["huggingface"] else None
    if problem:
        raise ModelFleetError(f"Failed to use the option huggingface: {problem}.")
    seen, places = set(), {}
    for entry in params["artifacts"]:
        title = f"artifact {entry['name']} {entry['version']}"
        if (entry["name"], entry["version"]) in seen:
            raise ModelFleetError(f"The list names the {title} twice. Keep one entry for each name and version.")
        seen.add((entry["name"], entry["version"]))
        check_entry(entry, title, params["huggingface_pins"])
        if entry["huggingface"] and entry["state"] == "present":
            if not params["huggingface"]:
                raise ModelFleetError(f"The {title} is of a hub, and there is no option huggingface that says which. Give it.")
            check_place(entry["huggingface"], title, places)


def check_place(source, title, places):
    """Refuse what two artifacts would have in one place."""
    below = (source["group"], source["repo"])
    for what, place in ("commit", source["revision"]), ("ref", source["ref"]):
        other = places.setdefault((*below, what, place), title) if place else title
        if other != title:
            remedy = "Keep one, with the include of both" if what == "commit" else "Give one of them another ref, or an empty one"
            raise ModelFleetError(
                f"The {title} and the {other} have one {what} of {source['repo']} for the group {source['group']}. {remedy}."
            )


def check_entry(entry, title, pins):
    for key in ("name", "version"):
        if not is_name(entry[key]):
            raise ModelFleetError(f"The {key} {entry[key]!r} of an artifact {NAME_RULE}; rename it.")
    if entry["sha256"] is not None:
        if not re.fullmatch(r"[0-9a-fA-F]{64}", entry["sha256"]):
            raise ModelFleetError(
                f"The sha256 of the {title} is not 64 hexadecimal digits. Give what sha256sum prints for the file, or what publish "
                "printed for the bundle."
            )
        entry["sha256"] = entry["sha256"].lower()
    if entry["state"] == "absent":
        # It is the name of a directory.
        problem = source_problem(entry["huggingface"]) if entry["huggingface"] else None
        if problem:
            raise ModelFleetError(f"Failed to use the huggingface of the {title}: {problem}.")
        return
    sources = [kind for kind in KINDS if entry[kind] is not None]
    if len(sources) != 1:
        raise ModelFleetError(
            f"The {title} has {' and '.join(sources) or 'neither object, bundle nor huggingface'}. Give the one that it is."
        )
    key = entry[sources[0]]
    if sources == ["huggingface"]:
        problem = source_problem(key, pins)
        if problem:
            raise ModelFleetError(f"Failed to use the huggingface of the {title}: {problem}.")
        return
    if entry["sha256"] is None:
        raise ModelFleetError(f"The {title} has no sha256. Give that of the file, or of the manifest of the bundle.")
    problem = KINDS[sources[0]].key_problem(key)
    if problem:
        raise ModelFleetError(f"Failed to use the {sources[0]} {key!r} of the {title}: {problem}.")


class ModelArtifacts:
    """Compares the list with what is on the host and brings what is missing."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        check(self.params)
        self.store = store_from(self.params["storage"])
        self.here = ArtifactStore(self.params, module.check_mode)
        self.blobs = self.here.blobs
        self.kinds = dict(KINDS)
        self.hub = Hub(self.params["huggingface"]) if self.params["huggingface"] else None
        if self.hub:
            decisions = Decisions(self.params["huggingface_decisions"], self.params["huggingface_access_s"], module.check_mode)
            self.kinds["huggingface"] = partial(HuggingFaceArtifact, hub=self.hub, decisions=decisions)
        # {(name, version): result}
        self.results = {}
        self.bytes = {}
        self.samples = []
        # Whether something was removed, or would be, that no model of the list has.
        self.swept = False

    def run(self):
        if not any(entry["state"] == "present" for entry in self.params["artifacts"]) and self.here.lacking_directories():
            # This module has brought nothing here.
            self.results = {(entry["name"], entry["version"]): outcome(entry) for entry in self.params["artifacts"]}
            return self._outcome(self.here.names(), self.here.names())
        if self.module.check_mode:
            return self._run()
        self.here.check_directories()
        with self.here.alone():
            return self._run()

    def _run(self):
        before = self._names()
        wanted = [self._artifact(entry) for entry in self.params["artifacts"] if entry["state"] == "present"]
        keep_each_others(wanted)
        leaving = self._leaving({artifact.path for artifact in wanted})
        for entry in self.params["artifacts"]:
            self.results[entry["name"], entry["version"]] = outcome(entry)
        if self.params["huggingface_small_return"] and not self.module.check_mode:
            lacking = self._lacking_small(wanted)
            if lacking:
                return {**self._outcome(before, before), "huggingface_lacking": lacking}
        for entry, paths in leaving:
            self._remove(entry, paths)
        lacking, failed, withdrawn = [], {}, set()
        for artifact in wanted:
            try:
                with writing(artifact.title, self.params["model_store"]):
                    if not self._look(artifact):
                        lacking.append(artifact)
            except ModelFleetError as exc:
                self._result(artifact)["action"] = "failed"
                failed[artifact] = str(exc)
                if getattr(exc, "refused", False):
                    withdrawn |= self._withdraw(artifact)
        gone = {path for _entry, paths in leaving for path in paths} | withdrawn
        after = sorted((set(before) | {artifact.path for artifact in lacking}) - gone)
        if not self.module.check_mode:
            failed.update(self._fetch(lacking) if lacking else {})
            after = self._names()
        digests = set().union(*(artifact.digests() for artifact in wanted))
        self.swept = self.here.sweep({artifact.sha256 for artifact in wanted}, digests, gone) or bool(withdrawn)
        result = self._outcome(before, after)
        for warning in self.hub.warnings if self.hub else ():
            self.module.warn(warning)
        if failed:
            raise ModelFleetError(" ".join(failed[artifact] for artifact in wanted if artifact in failed), **result)
        return result

    @staticmethod
    def _lacking_small(wanted):
        """The small files of the repositories that the controller may get for this host."""
        repositories = [artifact for artifact in wanted if isinstance(artifact, HuggingFaceArtifact)]
        with ThreadPoolExecutor(min(len(repositories), MOST_AT_ONCE) or 1) as pool:
            found = zip(repositories, pool.map(HuggingFaceArtifact.lacking_small, repositories))
            return [{"repo": one.repo, "revision": one.commit, "git_sha1": names} for one, names in found if names]

    def _look(self, artifact):
        """Whether all of the artifact is on this host."""
        result = self._result(artifact)
        result["path"] = artifact.path
        if artifact.is_complete():
            result.update(size=artifact.size, links=artifact.links)
            if artifact.warning:
                self.module.warn(artifact.warning)
            return True
        result.update(size=artifact.size, fetched=artifact.lacking(), action="fetched")
        return False

    def _outcome(self, before, after):
        results = list(self.results.values())
        store = self.params["model_store"]
        result = {
            "changed": self.swept or any(result["action"] in ("fetched", "removed") for result in results),
            "artifacts": results,
            "bytes": self.bytes,
            "samples": self.samples,
            "hub_requests": self.hub.requests if self.hub else 0,
        }
        if self.module._diff:
            result["diff"] = {
                "before_header": store,
                "after_header": store,
                "before": "".join(f"{shown(path, store)}\n" for path in before),
                "after": "".join(f"{shown(path, store)}\n" for path in after),
            }
        return result

    # What is

    def _artifact(self, entry):
        kind = next(self.kinds[kind] for kind in KINDS if entry[kind] is not None)
        return kind(entry, self.params, self.blobs)

    def _names(self):
        """Paths of what is in the model store, and of the commits of the list that are on this host."""
        snapshots = [path for entry in self.params["artifacts"] if entry["huggingface"] for path in self._snapshot(entry)]
        return sorted({*self.here.names(), *snapshots})

    def _result(self, artifact):
        return self.results[artifact.entry["name"], artifact.entry["version"]]

    # What leaves

    def _leaving(self, wanted):
        """[(entry, paths)] of what leaves; what is served is refused before anything is done."""
        absent = [entry for entry in self.params["artifacts"] if entry["state"] == "absent"]
        if not absent:
            return []
        parts = read_parts(self.params["record"])
        files = {part: {entry["file"] for entry in entries.values()} for part, entries in parts.items()}
        leaving = []
        for entry in absent:
            paths = self._snapshot(entry) if entry["huggingface"] else self.here.paths(entry)
            paths = [path for path in paths if path not in wanted]
            for path in paths:
                needed = [part for part in files if os.path.basename(path) in files[part]]
                if needed:
                    why = "this host serves" if "models" in needed else "a rollout or the way back from one needs"
                    raise ModelFleetError(
                        f"Refused to remove the artifact {entry['name']} {entry['version']}: {why} {path}, as "
                        f"{self.params['record']} says. Have torchserve_model (playbook site) make the model absent first."
                    )
            leaving.append((entry, paths))
        return leaving

    def _snapshot(self, entry):
        path = Place(self.params, entry["huggingface"]).snapshot
        return [path] if lstat(path) else []

    def _remove(self, entry, paths):
        if not paths:
            return
        self.results[entry["name"], entry["version"]].update(path=paths[0], action="removed")
        if self.module.check_mode:
            return
        what = "the artifact {name} {version}".format(**entry)
        if entry["huggingface"]:
            with writing(f"the removal of {what}", self.params["huggingface_home"]):
                Place(self.params, entry["huggingface"]).remove_snapshot(self.blobs)
        else:
            self.here.remove(what, paths)

    def _withdraw(self, artifact):
        """Take from this host's users what the hub says they may not have; returns {path} of it."""
        there = {artifact.path} if lstat(artifact.path) else set()
        if there and not self.module.check_mode:
            artifact.withdraw()
        return there

    # What comes

    def _fetch(self, lacking):
        """Bring the artifacts; returns {artifact: what went wrong, in a sentence}."""
        fetcher = Fetcher(self.params, self.store, self.blobs)
        traffic = self._traffic()
        progress = Progress(self.params, fetcher, lacking, [self._result(artifact) for artifact in lacking], traffic)
        failed = {}
        started = time.monotonic()

        def bring(artifact):
            result = self._result(artifact)
            try:
                with writing(artifact.title, self.params["blob_store"]):
                    artifact.fetch(fetcher)
                    artifact.build()
                result["links"] = artifact.links
            except ModelFleetError as exc:
                result["action"] = "failed"
                failed[artifact] = str(exc)
            result.update(size=artifact.size, seconds=round(time.monotonic() - started, 3))
            progress.ended.add(artifact)

        with progress.shown():
            with ThreadPoolExecutor(min(len(lacking), MOST_AT_ONCE)) as pool:
                list(pool.map(bring, lacking))
            fetcher.close()
            self.bytes = difference(traffic, self._traffic())
        self.samples = progress.samples
        for artifact, fetched in zip(lacking, fetcher.fetched(lacking)):
            self._result(artifact)["fetched"] = fetched
        if len(lacking) == 1:
            self._result(lacking[0])["bytes"] = self.bytes
        return failed

    def _traffic(self):
        try:
            return read_traffic(self.params["dfdaemon_metrics_url"])
        except ModelFleetError as exc:
            self.module.warn(f"The bytes by source are unknown: {exc}")
            return {}


class Progress:
    """Reads every second how far the artifacts are, and keeps a file with it for whoever wants to watch."""

    def __init__(self, params, fetcher, artifacts, results, traffic):
        self.params = params
        self.fetcher = fetcher
        self.artifacts = artifacts
        self.traffic = traffic
        self.results = results
        # The artifacts that are done or have failed.
        self.ended = set()
        # The bytes by source over time, every so many readings.
        self.samples = []
        self._every = 1
        self._readings = 0
        self.started = time.monotonic()
        self._stop = threading.Event()

    @contextmanager
    def shown(self):
        self._look()
        thread = threading.Thread(target=self._keep_looking, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            self._look(last=True)

    def _keep_looking(self):
        while not self._stop.wait(PROGRESS_S):
            self._look()

    def _state(self, artifact, result):
        if artifact in self.ended:
            return result["action"]
        return "fetching"

    def _look(self, last=False):
        seconds = round(time.monotonic() - self.started, 1)
        traffic = {}
        if self.traffic:
            with suppress(ModelFleetError):
                traffic = difference(self.traffic, read_traffic(self.params["dfdaemon_metrics_url"]))
        if traffic:
            self._keep({"seconds": seconds, **traffic}, last)
        if self.params["progress_path"]:
            self._write(traffic, seconds)

    def _keep(self, sample, last):
        """However long it takes, no more than MOST_SAMPLES: then every second one goes, and as many are left out from there on."""
        if last or self._readings % self._every == 0:
            self.samples.append(sample)
        self._readings += 1
        if len(self.samples) > MOST_SAMPLES:
            self.samples = self.samples[:1] + self.samples[2:-1:2] + self.samples[-1:] if last else self.samples[::2]
            self._every *= 2

    def _write(self, traffic, seconds):
        shown = {
            "artifacts": [
                {
                    "name": artifact.entry["name"],
                    "version": artifact.entry["version"],
                    "state": self._state(artifact, result),
                    "size": artifact.size,
                    "fetched": fetched,
                }
                for artifact, result, fetched in zip(self.artifacts, self.results, self.fetcher.fetched(self.artifacts))
            ],
            "bytes": traffic,
            "seconds": seconds,
        }
        path = self.params["progress_path"]
        try:
            with open(path + ".new", "w", encoding="utf-8") as handle:
                json.dump(shown, handle)
            os.replace(path + ".new", path)
        except OSError:
            # Who watches sees the last one that could be written.
            with suppress(OSError):
                remove(path + ".new")


def difference(before, after):
    """Bytes by source between two readings of dfdaemon's counters, which begin again when it starts; {} if one is missing."""
    if not before or not after:
        return {}
    return {key: after[key] - before[key] if after[key] >= before[key] else after[key] for key in after}


def outcome(entry):
    return {
        "name": entry["name"],
        "version": entry["version"],
        "path": "",
        "action": "unchanged",
        "size": None,
        "fetched": 0,
        "bytes": {},
        "seconds": 0.0,
        "links": 0,
    }


def main():
    module = StorageModule(
        argument_spec={
            "artifacts": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "version": {"type": "str", "required": True},
                    "object": {"type": "str"},
                    "bundle": {"type": "str"},
                    "huggingface": {"type": "dict", "options": COMMIT_OPTIONS},
                    "sha256": {"type": "str"},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
            "storage": storage_argument_spec(),
            **store_argument_spec(),
            "curl": {"type": "path", "default": "curl"},
            "dfdaemon_metrics_url": {"type": "str", "default": "http://127.0.0.1:4002/metrics"},
            "piece_length": {"type": "str", "default": "auto"},
            "back_to_source": {"type": "bool", "default": False},
            "parallel": {"type": "int", "default": 4},
            "retry_s": {"type": "int", "default": 120},
            "url_expiry_s": {"type": "int", "default": 3600},
            "huggingface": {"type": "dict", "options": OPTIONS},
            "huggingface_pins": {"type": "dict", "default": {}},
            "huggingface_access_s": {"type": "int", "default": 3600},
            "huggingface_home": {"type": "path", "default": "/var/lib/modelfleet/huggingface"},
            "huggingface_decisions": {"type": "path", "default": "/var/lib/modelfleet/state/huggingface.json"},
            "huggingface_adopt": {"type": "list", "elements": "path", "default": []},
            "huggingface_small": {"type": "str", "choices": ["controller", "host"], "default": "controller"},
            "huggingface_small_ca_path": {"type": "path"},
            "huggingface_small_return": {"type": "bool", "default": False},
            "huggingface_small_path": {"type": "path"},
            "progress_path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        result = ModelArtifacts(module).run()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
