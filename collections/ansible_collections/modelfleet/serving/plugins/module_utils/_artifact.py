# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kinds of artifacts share. PRIVATE to the collection: it can have breaking changes at any time.

A kind is one file ``_artifact_<kind>.py`` with one class, listed in ``KINDS`` of the module model_artifact. It extends Artifact and has

- ``kind``: the option of an entry that names its source;
- ``key_problem(key)``: what to change in that option, None for a good one;
- ``is_complete()``: whether all of it is on this host;
- ``lacking()``: bytes that dfdaemon must bring, None where that is not known yet;
- ``fetch(fetcher)`` and ``build()``: bring the blobs, and make of them what has the final name ``path``;
- ``digests()``: the blobs that must stay meanwhile, {sha256}.

``is_complete()`` of a kind for which a host must have a right may raise an error that says ``refused``; it has ``withdraw()`` then.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import uuid
from concurrent.futures import as_completed
from contextlib import contextmanager

from ansible_collections.modelfleet.serving.plugins.module_utils._dfdaemon import task_id
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import digest_of, sha256_of
from ansible_collections.modelfleet.serving.plugins.module_utils._text import human_bytes

# Beginning of the name of what is not finished, in incoming and where only root writes. Nothing else may have such a name there.
TEMPORARY = ".artifact-"
# What a disk says that takes no more.
FULL = (errno.ENOSPC, errno.EDQUOT)
_BLOB = re.compile(r"[0-9a-f]{64}(-x)?")
# Where dfdaemon keeps the files of tasks.
_SHELF = re.compile(r"/content/tasks/[0-9a-f]{3}\Z")


class Artifact:
    """One entry of the list that must be on the host."""

    # What the run says of one that is complete.
    warning = None

    def __init__(self, entry, params, blobs):
        self.entry = entry
        self.params = params
        self.blobs = blobs
        self.key = entry[self.kind]
        self.sha256 = entry["sha256"]
        self.title = "artifact {name} {version}".format(**entry)
        # What it may need of the store, {sha256}, as far as that is known.
        self.objects = {self.sha256}

    def wait(self, fetcher, objects):
        """Bring ``objects`` (key, sha256, mode, size) into the blob store; the size is what the disk needs for one, or None."""
        failed = None
        for future in as_completed({fetcher.start(*wanted) for wanted in objects}):
            failed = failed or future.exception()
        if failed:
            raise failed


class Blobs:
    """The store of verified files: each is named by its sha256, belongs to who runs the module (root) and nobody may write it.

    A file with the mode 0755 has "-x" after its name, because a mode is of the file and not of one of its names.
    """

    def __init__(self, directory, pieces):
        self.directory = directory
        self.pieces = pieces

    def path(self, sha256, mode="0644"):
        return os.path.join(self.directory, sha256 + ("-x" if mode == "0755" else ""))

    def temporary(self):
        return os.path.join(self.directory, TEMPORARY + str(uuid.uuid4()))

    def status(self, sha256, mode="0644"):
        """The os.stat_result of a blob; None where there is none that can be trusted."""
        found = lstat(self.path(sha256, mode))
        return found if found and is_kept(found, mode) else None

    def drop_damaged(self, sha256, mode):
        """Remove the blob if it has not the content any more that it had when it came."""
        if self.status(sha256, mode) and sha256_of(self.path(sha256, mode)) != sha256:
            remove(self.path(sha256, mode))

    def other(self, sha256, mode):
        """The path of the blob with the same content and the other mode, None without one."""
        other = "0644" if mode == "0755" else "0755"
        return self.path(sha256, other) if self.status(sha256, other) else None

    def take(self, temporary, sha256, mode="0644"):
        """Make the file ``temporary`` in this store the blob ``sha256`` if it has that content, and remove it if not.

        Returns the digest that it has and its size.
        """
        try:
            # Whoever writes the directory that it came from can have put a link in its place.
            with open(os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as handle:
                status = os.fstat(handle.fileno())
                if not stat.S_ISREG(status.st_mode):
                    return "", 0
                found = digest_of(handle)
                if found != sha256:
                    if status.st_uid == os.geteuid():
                        # It had that content once, and dfdaemon may have to link it to get another.
                        self._give_back(handle.fileno())
                    return found, status.st_size
                if status.st_uid == os.geteuid() and not is_kept(status, mode):
                    # The tree of a model has it with the other mode.
                    linked, temporary = temporary, self.temporary()
                    write(temporary, linked, mode)
                    remove(linked)
                else:
                    keep(handle.fileno(), mode)
            os.rename(temporary, self.path(sha256, mode))
            return found, status.st_size
        finally:
            remove(temporary)

    def link(self, sha256, mode, target):
        """Give the blob the name ``target``, too."""
        source = self.path(sha256, mode)
        try:
            os.link(source, target)
        except OSError as exc:
            # ext4 allows a file 65,000 names.
            if exc.errno != errno.EMLINK:
                raise
            write(target, source, mode)

    def put(self, sha256, target):
        """Give the blob the name ``target`` in place of what has it."""
        temporary = self.temporary()
        try:
            self.link(sha256, "0644", temporary)
            os.rename(temporary, target)
        finally:
            # Between two names of one file, a rename does nothing.
            remove(temporary)

    def copy(self, sha256, mode):
        """Make the blob of the one with the other mode."""
        temporary = self.temporary()
        try:
            write(temporary, self.other(sha256, mode), mode)
            os.rename(temporary, self.path(sha256, mode))
        finally:
            remove(temporary)

    def surplus(self, wanted):
        """Paths of the blobs that no model has and that are not ``wanted``, {sha256}."""
        pieces = {os.fstat(handle).st_ino for handle in self._own_pieces()}
        for name in listdir(self.directory):
            path = os.path.join(self.directory, name)
            status = lstat(path)
            if not _BLOB.fullmatch(name) or name[:64] in wanted or not status:
                continue
            # One name is in here, and one may be in the piece store.
            if status.st_nlink - 1 - (status.st_ino in pieces) <= 0:
                yield path

    def sweep(self, wanted):
        """Remove the surplus, then let dfdaemon have its own files of it again; returns whether there was any."""
        surplus = list(self.surplus(wanted))
        for path in surplus:
            remove(path)
        # dfdaemon links only what is its own (fs.protected_hardlinks), so what nobody else has becomes its own again.
        for handle in self._own_pieces():
            if os.fstat(handle).st_nlink == 1:
                self._give_back(handle)
        return bool(surplus)

    def _give_back(self, handle):
        owner = os.stat(self.pieces)
        os.fchown(handle, owner.st_uid, owner.st_gid)
        os.fchmod(handle, 0o640)

    def _own_pieces(self):
        """Yield open descriptors of the files in the piece store that this module has made its own.

        dfdaemon may write there, so no symbolic link is followed.
        """
        if not lstat(self.pieces):
            return
        for directory, _directories, names, top in os.fwalk(self.pieces):
            for name in names if _SHELF.search(directory) else ():
                try:
                    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=top)
                except OSError:
                    # dfdaemon has evicted it meanwhile.
                    continue
                try:
                    if is_kept(os.fstat(handle), "0644") or is_kept(os.fstat(handle), "0755"):
                        yield handle
                finally:
                    os.close(handle)

    def piece_file(self, task):
        """The file of a task in dfdaemon's piece store if this module has made it its own before; None otherwise.

        dfdaemon calls it by the sha256 of the task's name. Any other file it can link by itself.
        """
        path = self._piece_path(task)
        status = lstat(path)
        is_own = status and stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        return path if is_own else None

    def allocated(self, task):
        """Bytes that the disk has set aside for dfdaemon's file of a task, which that does for all of it at once; 0 without one."""
        status = lstat(self._piece_path(task))
        return status.st_blocks * 512 if status else 0

    def drop_unwritten(self, task):
        """Remove dfdaemon's file of a task for which there was no room, unless a piece of it has come.

        Otherwise it keeps the room that it got, and the next download takes it for a file that has all.
        """
        if not self.written(task):
            remove(self._piece_path(task))

    def written(self, task):
        """Bytes that dfdaemon's file of a task has, without what is only set aside for it; 0 without one."""
        try:
            handle = os.open(self._piece_path(task), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return 0
        found = end = 0
        try:
            while True:
                begin = os.lseek(handle, end, os.SEEK_DATA)
                end = os.lseek(handle, begin, os.SEEK_HOLE)
                found += end - begin
        except OSError:
            # No data follows.
            return found
        finally:
            os.close(handle)

    def _piece_path(self, task):
        name = task_id(task)
        return os.path.join(self.pieces, "content", "tasks", name[:3], name)


def is_kept(status, mode):
    """Whether a file (os.stat_result) is one that this module keeps with the ``mode`` of a manifest: its own, and for nobody to write."""
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == kept_mode(mode)


def kept_mode(mode):
    return int(mode, 8) & 0o555


def keep(handle, mode, sync=True):
    """Make an open file this module's own, for nobody to write, and on the disk before it gets its name."""
    if sync:
        os.fsync(handle)
    os.fchmod(handle, kept_mode(mode))
    # At last: what is not dfdaemon's own any more, dfdaemon cannot link again.
    os.fchown(handle, os.geteuid(), os.getegid())


def write(target, source, mode):
    """Write the content of the file ``source`` to the new file ``target``, and keep it."""
    with open(target, "xb") as sink:
        with open(source, "rb") as handle:
            digest_of(handle, sink=sink)
        sink.flush()
        keep(sink.fileno(), mode)


def lstat(path):
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def listdir(path):
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []


def remove(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def free_bytes(directory):
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


@contextmanager
def writing(what, directory):
    """Say in one sentence why ``what`` cannot be written in ``directory``."""
    try:
        yield
    except OSError as exc:
        raise ModelFleetError("Failed to write {} in {}: {}.".format(what, directory, _reason(exc, directory))) from exc


def _reason(exc, directory):
    if exc.errno in FULL:
        return "the disk is full, {} are free. Free some, nothing was left half done, and run again".format(
            human_bytes(free_bytes(directory))
        )
    if exc.errno == errno.EXDEV:
        return (
            "it comes from another filesystem. Have piece store, incoming, blobs, manifests and models on one filesystem, under one mount"
        )
    return "{}. Check the directory and the disk".format(exc.strerror or exc)
