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
    host lacks.
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
  - While dfget runs, the signed URL of its object stands in the process list of this host, and so do the headers of a plain HTTP store.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
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
      sha256:
        description:
          - The sha256 of the file, or of the manifest of the bundle, 64 hexadecimal digits. Required with O(artifacts[].state=present).
          - Without it, O(artifacts[].state=absent) removes whatever has the name and the version and is not another entry of the list.
        type: str
      state:
        description:
          - Whether the artifact is on the host. One that O(record) says is served is never removed.
        type: str
        choices: [present, absent]
        default: present
  model_store:
    description: Directory with the models.
    type: path
    default: /var/lib/modelfleet/models
  blob_store:
    description: Directory with the verified files by their sha256.
    type: path
    default: /var/lib/modelfleet/blobs
  manifest_store:
    description: Directory with the manifests of the bundles.
    type: path
    default: /var/lib/modelfleet/manifests
  incoming:
    description: Directory in which dfdaemon links a download.
    type: path
    default: /var/lib/modelfleet/incoming
  piece_store:
    description: The C(storage.dir) of dfdaemon.
    type: path
    default: /var/lib/modelfleet/pieces
  record:
    description: The file that records what this host serves, of M(modelfleet.serving.torchserve_model).
    type: path
    default: /var/lib/modelfleet/state/models.json
  dfget:
    description: The program dfget.
    type: path
    default: /opt/dragonfly/client/current/dfget
  socket:
    description: The socket of dfdaemon.
    type: path
    default: /run/dragonfly/dfdaemon.sock
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
  progress_path:
    description: A file that is replaced every second while the module runs, with how far it is in JSON (see the examples).
    type: path
seealso:
  - module: modelfleet.serving.model_bundle
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
"""

import fcntl
import json
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from ansible_collections.modelfleet.serving.plugins.module_utils._artifact import TEMPORARY, Blobs, listdir, writing
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_bundle import BundleArtifact, digests_in, remove_tree
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_object import ObjectArtifact
from ansible_collections.modelfleet.serving.plugins.module_utils._dfdaemon import checked_piece_length, read_traffic
from ansible_collections.modelfleet.serving.plugins.module_utils._dfget import Fetcher
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._model import NAME_RULE, is_name, model_directory
from ansible_collections.modelfleet.serving.plugins.module_utils._model_record import read_record
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import StorageModule, storage_argument_spec, store_from

KINDS = {kind.kind: kind for kind in (ObjectArtifact, BundleArtifact)}
DIRECTORIES = ("incoming", "blob_store", "manifest_store", "model_store")
# Threads that only wait for downloads.
MOST_AT_ONCE = 32
PROGRESS_S = 1
ABANDONED_S = 24 * 3600


def check(params):
    """Fail on options that cannot be, before anything is done."""
    checked_piece_length(params["piece_length"])
    if params["parallel"] < 1:
        raise ModelFleetError(f"Failed to use parallel {params['parallel']}: it must be at least 1.")
    if params["retry_s"] < 0:
        raise ModelFleetError(f"Failed to use retry_s {params['retry_s']}: it must not be negative.")
    if not 60 <= params["url_expiry_s"] <= 7 * 24 * 3600:
        raise ModelFleetError(f"Failed to use url_expiry_s {params['url_expiry_s']}: it must be from 60 to 604800 seconds.")
    seen = set()
    for entry in params["artifacts"]:
        title = f"artifact {entry['name']} {entry['version']}"
        if (entry["name"], entry["version"]) in seen:
            raise ModelFleetError(f"The list names the {title} twice. Keep one entry for each name and version.")
        seen.add((entry["name"], entry["version"]))
        check_entry(entry, title)


def check_entry(entry, title):
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
        return
    if entry["sha256"] is None:
        raise ModelFleetError(f"The {title} has no sha256. Give that of the file, or of the manifest of the bundle.")
    sources = [kind for kind in KINDS if entry[kind] is not None]
    if len(sources) != 1:
        raise ModelFleetError(f"The {title} has {' and '.join(sources) or 'neither object nor bundle'}. Give the one that it is.")
    key = entry[sources[0]]
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
        self.blobs = Blobs(self.params["blob_store"], self.params["piece_store"])
        # {(name, version): result}
        self.results = {}
        self.bytes = {}
        # Whether something was removed, or would be, that no model of the list has.
        self.swept = False

    def run(self):
        if not any(entry["state"] == "present" for entry in self.params["artifacts"]) and self._lacking_directories():
            # This module has brought nothing here.
            self.results = {(entry["name"], entry["version"]): outcome(entry) for entry in self.params["artifacts"]}
            return self._outcome(self._names(), self._names())
        if self.module.check_mode:
            return self._run()
        self._check_directories()
        with self._alone():
            self._remove_leftovers()
            return self._run()

    def _run(self):
        before = self._names()
        wanted = [self._artifact(entry) for entry in self.params["artifacts"] if entry["state"] == "present"]
        leaving = self._leaving({artifact.path for artifact in wanted})
        for entry in self.params["artifacts"]:
            self.results[entry["name"], entry["version"]] = outcome(entry)
        for entry, paths in leaving:
            self._remove(entry, paths)
        lacking, failed = [], {}
        for artifact in wanted:
            try:
                with writing(artifact.title, self.params["model_store"]):
                    if not self._look(artifact):
                        lacking.append(artifact)
            except ModelFleetError as exc:
                self._result(artifact)["action"] = "failed"
                failed[artifact] = str(exc)
        gone = {path for _entry, paths in leaving for path in paths}
        after = sorted((set(before) | {artifact.path for artifact in lacking}) - gone)
        if not self.module.check_mode:
            failed.update(self._fetch(lacking) if lacking else {})
            after = self._names()
        self.swept = self._sweep(wanted, gone)
        result = self._outcome(before, after)
        if failed:
            raise ModelFleetError(" ".join(failed[artifact] for artifact in wanted if artifact in failed), **result)
        return result

    def _look(self, artifact):
        """Whether all of the artifact is on this host."""
        result = self._result(artifact)
        result["path"] = artifact.path
        if artifact.is_complete():
            result.update(size=artifact.size, links=artifact.links)
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
        }
        if self.module._diff:
            result["diff"] = {
                "before_header": store,
                "after_header": store,
                "before": "".join(f"{os.path.basename(path)}\n" for path in before),
                "after": "".join(f"{os.path.basename(path)}\n" for path in after),
            }
        return result

    # What is

    def _artifact(self, entry):
        kind = next(KINDS[kind] for kind in KINDS if entry[kind] is not None)
        return kind(entry, self.params, self.blobs)

    def _result(self, artifact):
        return self.results[artifact.entry["name"], artifact.entry["version"]]

    def _names(self):
        """Paths of what is in the model store."""
        store = self.params["model_store"]
        return sorted(os.path.join(store, name) for name in listdir(store) if not name.startswith("."))

    def _lacking_directories(self):
        return [option for option in DIRECTORIES if not os.path.isdir(self.params[option])]

    def _check_directories(self):
        lacking = self._lacking_directories()
        if lacking:
            raise ModelFleetError(
                f"Failed to use the {lacking[0]} {self.params[lacking[0]]}: there is no such directory. Run the role "
                "modelfleet.serving.dfdaemon."
            )
        devices = {}
        for option in DIRECTORIES:
            devices.setdefault(os.stat(self.params[option]).st_dev, self.params[option])
        if len(devices) > 1:
            raise ModelFleetError(
                f"Failed to use {' and '.join(devices.values())}: they are on different filesystems, and no file has names on two. "
                "Have them, with the piece store, on one."
            )

    @contextmanager
    def _alone(self):
        path = os.path.join(self.params["blob_store"], ".lock")
        with writing("the lock", self.params["blob_store"]):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock(handle, path)
            yield
        finally:
            os.close(handle)

    def _lock(self, handle, path):
        started = time.monotonic()
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - started >= self.params["retry_s"]:
                    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(os.fstat(handle).st_mtime))
                    raise ModelFleetError(
                        f"Failed to lock {path}: another call of this module works on this host since {since}, as the process "
                        f"{os.pread(handle, 20, 0).decode().strip() or 'that has the file open'}. Let it end, or end it, and run again."
                    ) from None
                time.sleep(1)
        with writing("the lock", self.params["blob_store"]):
            os.truncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)

    def _remove_leftovers(self):
        """What calls left that were interrupted: this one is alone."""
        for option in ("incoming", "blob_store"):
            directory = self.params[option]
            with writing("what an interrupted call left", directory):
                for name in listdir(directory):
                    if name.startswith(TEMPORARY):
                        remove_tree(os.path.join(directory, name))

    # What leaves

    def _leaving(self, wanted):
        """[(entry, paths)] of what leaves; what is served is refused before anything is done."""
        absent = [entry for entry in self.params["artifacts"] if entry["state"] == "absent"]
        if not absent:
            return []
        served = {entry["file"] for entry in read_record(self.params["record"]).values()}
        leaving = []
        for entry in absent:
            paths = [path for path in self._paths(entry) if path not in wanted]
            for path in paths:
                if os.path.basename(path) in served:
                    raise ModelFleetError(
                        f"Refused to remove the artifact {entry['name']} {entry['version']}: this host serves {path}, as "
                        f"{self.params['record']} says. Have torchserve_model (playbook site) make the model absent first."
                    )
            leaving.append((entry, paths))
        return leaving

    def _paths(self, entry):
        """Where an absent entry is. Its kind does not matter; without a sha256 it is whatever has its name and version."""
        digest = entry["sha256"][:12] if entry["sha256"] else "[0-9a-f]{12}"
        names = re.compile(re.escape(model_directory(entry["name"], entry["version"], "")) + digest + r"(\.mar)?")
        return [path for path in self._names() if names.fullmatch(os.path.basename(path))]

    def _remove(self, entry, paths):
        result = self.results[entry["name"], entry["version"]]
        if not paths:
            return
        result.update(path=paths[0], action="removed")
        if self.module.check_mode:
            return
        with writing("the removal of the artifact {name} {version}".format(**entry), self.params["model_store"]):
            for path in paths:
                # A directory is gone in one step.
                temporary = self.blobs.temporary()
                os.rename(path, temporary)
                remove_tree(temporary)

    def _sweep(self, wanted, gone):
        """Remove what no model needs; returns whether there is any.

        ``wanted`` are the artifacts of the list, ``gone`` the paths of those that left. A manifest without a tree is of a call that failed,
        and the next may go on with what it brought.
        """
        store, found = self.params["manifest_store"], False
        kept = {artifact.sha256 for artifact in wanted}
        trees, left = {path[-12:] for path in self._names()}, {path[-12:] for path in gone}
        digests = set().union(*(artifact.digests() for artifact in wanted))
        with writing("what is left", store):
            for name in listdir(store):
                sha256, path = name[:64], os.path.join(store, name)
                if sha256 in kept or sha256[:12] in trees:
                    continue
                if sha256[:12] in left or time.time() - os.lstat(path).st_mtime > ABANDONED_S:
                    found = True
                    if not self.module.check_mode:
                        remove_tree(path)
                else:
                    digests |= digests_in(path)
        with writing("what is left", self.params["blob_store"]):
            if self.module.check_mode:
                return found or any(self.blobs.surplus(digests))
            return self.blobs.sweep(digests) or found

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
    """Keeps a file with how far the artifacts are, for whoever wants to watch."""

    def __init__(self, params, fetcher, artifacts, results, traffic):
        self.params = params
        self.fetcher = fetcher
        self.artifacts = artifacts
        self.traffic = traffic
        self.results = results
        # The artifacts that are done or have failed.
        self.ended = set()
        self.started = time.monotonic()
        self._stop = threading.Event()

    @contextmanager
    def shown(self):
        if not self.params["progress_path"]:
            yield
            return
        self._write()
        thread = threading.Thread(target=self._keep_writing, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            self._write()

    def _keep_writing(self):
        while not self._stop.wait(PROGRESS_S):
            self._write()

    def _state(self, artifact, result):
        if artifact in self.ended:
            return result["action"]
        return "fetching"

    def _write(self):
        try:
            traffic = difference(self.traffic, read_traffic(self.params["dfdaemon_metrics_url"]))
        except ModelFleetError:
            traffic = {}
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
            "seconds": round(time.monotonic() - self.started, 1),
        }
        path = self.params["progress_path"]
        try:
            with open(path + ".new", "w", encoding="utf-8") as handle:
                json.dump(shown, handle)
            os.replace(path + ".new", path)
        except OSError:
            # Who watches sees the last one that could be written.
            pass


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
                    "sha256": {"type": "str"},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
            "storage": storage_argument_spec(),
            "model_store": {"type": "path", "default": "/var/lib/modelfleet/models"},
            "blob_store": {"type": "path", "default": "/var/lib/modelfleet/blobs"},
            "manifest_store": {"type": "path", "default": "/var/lib/modelfleet/manifests"},
            "incoming": {"type": "path", "default": "/var/lib/modelfleet/incoming"},
            "piece_store": {"type": "path", "default": "/var/lib/modelfleet/pieces"},
            "record": {"type": "path", "default": "/var/lib/modelfleet/state/models.json"},
            "dfget": {"type": "path", "default": "/opt/dragonfly/client/current/dfget"},
            "socket": {"type": "path", "default": "/run/dragonfly/dfdaemon.sock"},
            "dfdaemon_metrics_url": {"type": "str", "default": "http://127.0.0.1:4002/metrics"},
            "piece_length": {"type": "str", "default": "auto"},
            "back_to_source": {"type": "bool", "default": False},
            "parallel": {"type": "int", "default": 4},
            "retry_s": {"type": "int", "default": 120},
            "url_expiry_s": {"type": "int", "default": 3600},
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
