# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at the files of a host: what they are against what was recorded. PRIVATE to the collection: it can change at any time.

A part of what is installed is one file ``_verify_<part>.py`` with functions that take a Look and add what they find to it.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from contextlib import contextmanager

from ansible_collections.modelfleet.serving.plugins.module_utils._files import digest_of
from ansible_collections.modelfleet.serving.plugins.module_utils._huggingface import begun_git_sha1

# What may be wrong with a file.
CHANGED, MISSING, EXTRA, UNREADABLE, DISPUTED = STATES = ("changed", "missing", "extra", "unreadable", "disputed")
# So many paths of one finding are named.
NAMED = 20
PROGRESS_S = 1


class Look:
    """Reads one file at a time, ``bytes_per_s`` at most (0: as fast as it goes), and none twice, however many names it has.

    How far it is stands in the file ``progress_path`` until ``end``, as that of model_artifact; ``wanted`` is how many bytes there are.
    """

    def __init__(self, bytes_per_s=0, progress_path=None, wanted=0):
        self.files = self.bytes = 0
        self.components = []
        self.unverified = []
        self._findings = {}
        self._digests = {}
        self._bytes_per_s = bytes_per_s
        self._progress_path = progress_path
        self._wanted = wanted
        self._began = self._told = time.monotonic()

    @property
    def findings(self):
        return list(self._findings.values())

    @property
    def seconds(self):
        return time.monotonic() - self._began

    # What is found

    def add(self, part, name, state, path, detail=""):
        """A finding; those of one ``part``, ``name`` and ``state`` are one, with the ``detail`` of the first."""
        one = self._findings.setdefault(
            (part, name, state), {"part": part, "name": name, "state": state, "paths": [], "count": 0, "detail": detail}
        )
        one["count"] += 1
        if len(one["paths"]) < NAMED:
            one["paths"].append(path)

    def leave(self, part, name, why):
        """Something that nothing here verifies."""
        self.unverified.append({"part": part, "name": name, "why": why})

    def has(self, component):
        """Something that is on this host, for a list of all that is."""
        self.components.append(component)

    # What is read

    def check(self, part, name, path, *expected):
        """Compare a file with the digests of which it must have one. Returns the digest that it has, "" where it has none.

        Digests of 40 digits are what git calls a file.
        """
        kind = "git sha1" if len(expected[0]) == 40 else "sha256"
        try:
            found = self._digest(path, kind)
        except (FileNotFoundError, NotADirectoryError):
            self.add(part, name, MISSING, path)
            return ""
        except OSError as exc:
            self.add(part, name, UNREADABLE, path, exc.strerror or str(exc))
            return ""
        if found not in expected:
            self.add(part, name, CHANGED, path, f"it has the {kind} {found}, expected {' or '.join(expected)}")
        return found

    def sha256(self, path, follow=False):
        """The digest of a file, not of one that a link leads to unless ``follow``. Raises OSError."""
        return self._digest(path, "sha256", follow)

    def text(self, path, most):
        """The first ``most`` bytes of a file as text. Raises OSError."""
        with self._open(path) as handle:
            return handle.read(most).decode(errors="replace")

    @contextmanager
    def _open(self, path, follow=False):
        # Who owns the directory may have put anything in its place.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        with open(os.open(path, flags), "rb", buffering=0) as handle:
            if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is no plain file")
            yield handle

    def _digest(self, path, kind, follow=False):
        with self._open(path, follow) as handle:
            status = os.fstat(handle.fileno())
            inode = (status.st_dev, status.st_ino, kind)
            if inode not in self._digests:
                try:
                    # What serves keeps the cache: from Linux 6.3 on these bytes go first.
                    os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_NOREUSE)
                except OSError:
                    pass
                self._digests[inode] = digest_of(handle, sink=self, digest=begun_git_sha1(status.st_size) if kind == "git sha1" else None)
                self.files += 1
        return self._digests[inode]

    def write(self, chunk):
        """What digest_of has read."""
        self.bytes += len(chunk)
        if self._bytes_per_s:
            ahead = self.bytes / self._bytes_per_s - self.seconds
            if ahead > 0:
                time.sleep(ahead)
        if self._progress_path and time.monotonic() - self._told >= PROGRESS_S:
            self._told = time.monotonic()
            self._tell()

    def _tell(self):
        # Bytes that were added meanwhile are not more than all.
        size = max(self._wanted, self.bytes)
        progress = {"artifacts": [{"size": size, "fetched": self.bytes}], "bytes": {"local_peer": self.bytes}}
        progress["seconds"] = round(self.seconds, 1)
        try:
            with open(f"{self._progress_path}.new", "w", encoding="utf-8") as handle:
                json.dump(progress, handle)
            os.replace(f"{self._progress_path}.new", self._progress_path)
        except OSError:
            # Only what is shown depends on it.
            self._progress_path = None

    def end(self):
        for path in (self._progress_path, f"{self._progress_path}.new") if self._progress_path else ():
            try:
                os.unlink(path)
            except OSError:
                pass


def bytes_below(tops):
    """Bytes of all plain files below directories, or of files, each once."""
    sizes = {}

    def count(path):
        try:
            status = os.lstat(path)
        except OSError:
            return
        if stat.S_ISREG(status.st_mode):
            sizes[status.st_dev, status.st_ino] = status.st_size

    for top in tops:
        count(top)
        for directory, _subdirectories, names in os.walk(top):
            for name in names:
                count(os.path.join(directory, name))
    return sum(sizes.values())


def make_way(module):
    """Let everybody else go first, at the CPU and at the disk. Returns whether the disk's scheduler was told."""
    pid = str(os.getpid())
    for command in (["renice", "-n", "19", "-p", pid], ["ionice", "-c", "3", "-p", pid]):
        told = bool(module.get_bin_path(command[0])) and module.run_command(command)[0] == 0
    return told
