# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directories of a host's artifacts. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import contextmanager

from ansible_collections.modelfleet.serving.plugins.module_utils._artifact import FULL, TEMPORARY, Blobs, listdir, lstat, remove, writing
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_bundle import digests_in, is_directory, remove_tree
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._model import model_directory

DIRECTORIES = ("incoming", "blob_store", "manifest_store", "model_store")
ABANDONED_S = 24 * 3600


def store_argument_spec():
    """The options of the doc fragment artifact_store."""
    return {
        "model_store": {"type": "path", "default": "/var/lib/modelfleet/models"},
        "blob_store": {"type": "path", "default": "/var/lib/modelfleet/blobs"},
        "manifest_store": {"type": "path", "default": "/var/lib/modelfleet/manifests"},
        "incoming": {"type": "path", "default": "/var/lib/modelfleet/incoming"},
        "piece_store": {"type": "path", "default": "/var/lib/modelfleet/pieces"},
        "record": {"type": "path", "default": "/var/lib/modelfleet/state/models.json"},
        "socket": {"type": "path", "default": "/run/dragonfly/dfdaemon.sock"},
    }


def shown(path, store):
    """A path as a diff has it: the name of what is in the model store, another one whole."""
    return os.path.basename(path) if os.path.dirname(path) == store else path


class ArtifactStore:
    """``params`` are the options of a module: those of store_argument_spec and ``retry_s``, how long it waits for another call."""

    def __init__(self, params, check_mode):
        self.params = params
        self.check_mode = check_mode
        self.blobs = Blobs(params["blob_store"], params["piece_store"])

    # What is

    def names(self):
        """Paths of what is in the model store."""
        store = self.params["model_store"]
        try:
            return sorted(os.path.join(store, name) for name in listdir(store) if not name.startswith("."))
        except OSError as exc:
            raise ModelFleetError(f"Failed to read {store}: {exc.strerror}. Check the directory and the disk.") from exc

    def paths(self, entry):
        """Where an entry is, whatever its kind; without a sha256 it is all that has its name and version."""
        digest = entry["sha256"][:12].lower() if entry.get("sha256") else "[0-9a-f]{12}"
        names = re.compile(re.escape(model_directory(entry["name"], entry["version"], "")) + digest + r"(\.mar)?")
        return [path for path in self.names() if names.fullmatch(os.path.basename(path))]

    def lacking_directories(self):
        return [option for option in DIRECTORIES if not os.path.isdir(self.params[option])]

    def check_directories(self):
        lacking = self.lacking_directories()
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

    # One at a time

    @contextmanager
    def alone(self):
        """Keep every other call out that changes these directories, and take away what one left that was interrupted."""
        path = os.path.join(self.params["blob_store"], ".lock")
        with writing("the lock", self.params["blob_store"]):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock(handle, path)
            self._remove_leftovers()
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
            try:
                os.truncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            except OSError as exc:
                # The number is for people, and what frees a full disk must get in.
                if exc.errno not in FULL:
                    raise

    def _remove_leftovers(self):
        for option in ("incoming", "blob_store"):
            directory = self.params[option]
            with writing("what an interrupted call left", directory):
                for name in listdir(directory):
                    if name.startswith(TEMPORARY):
                        remove_tree(os.path.join(directory, name))

    # What leaves

    def remove(self, what, paths):
        """Remove models."""
        with writing(f"the removal of {what}", self.params["model_store"]):
            for path in paths:
                if not is_directory(lstat(path)):
                    remove(path)
                    continue
                # A directory is gone in one step.
                temporary = self.blobs.temporary()
                os.rename(path, temporary)
                remove_tree(temporary)

    def leftovers(self, kept, gone):
        """Which manifests no model needs, as ([path], {sha256} of the blobs that the others without a model need).

        ``kept`` are the sha256 of those that stay in any case, ``gone`` the paths of the models that leave. A manifest without a tree is of
        a call that failed, and the next may go on with what it brought.
        """
        store, leaving, needed = self.params["manifest_store"], [], set()
        trees, left = {path[-12:] for path in self.names() if path not in gone}, {path[-12:] for path in gone}
        with writing("what is left", store):
            for name in listdir(store):
                sha256, path = name[:64], os.path.join(store, name)
                if sha256 in kept or sha256[:12] in trees:
                    continue
                if sha256[:12] in left or time.time() - os.lstat(path).st_mtime > ABANDONED_S:
                    leaving.append(path)
                else:
                    needed |= digests_in(path)
        return leaving, needed

    def sweep(self, kept, digests, gone):
        """Remove what no model needs but the blobs ``digests``; returns whether there is any. The rest is as for ``leftovers``."""
        leaving, needed = self.leftovers(kept, gone)
        if not self.check_mode:
            with writing("what is left", self.params["manifest_store"]):
                for path in leaving:
                    remove_tree(path)
        with writing("what is left", self.params["blob_store"]):
            if self.check_mode:
                return bool(leaving) or any(self.blobs.surplus(digests | needed))
            return self.blobs.sweep(digests | needed) or bool(leaving)
