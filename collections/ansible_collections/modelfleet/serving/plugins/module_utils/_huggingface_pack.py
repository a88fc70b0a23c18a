# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small files of a hub in one file, on their way from the controller to a host. PRIVATE to the collection: it can have breaking changes.

It is a zip in which each is called what git calls it, uncompressed. Whoever reads it believes it nothing.
"""

from __future__ import annotations

import os
import stat
import zipfile

from ansible_collections.modelfleet.serving.plugins.module_utils._huggingface import MAX_SMALL, git_sha1

# Bytes of the files in one.
MAX_PACK = MAX_SMALL
# With what the zip has beside them.
_MAX_FILE = 2 * MAX_PACK


def fitting(files):
    """Those (HubFile) that one pack takes, the most there can be."""
    found, room = [], MAX_PACK
    for file in sorted(files, key=lambda one: one.size):
        room -= file.size
        if room < 0:
            break
        found.append(file)
    return found


def write_pack(path, files):
    """Write {git_sha1: path of a file with that content} into the new file ``path``, which only its owner reads."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as sink, zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, source in files.items():
            archive.write(source, name)


class Pack:
    """While it is entered, files are read from the pack ``path``. One that is missing, or is none, has no file."""

    def __init__(self, path):
        self._path = path
        self._archive = None

    def __enter__(self):
        try:
            status = os.stat(self._path) if self._path else None
            if status and stat.S_ISREG(status.st_mode) and status.st_size <= _MAX_FILE:
                self._archive = zipfile.ZipFile(self._path)
        except Exception:
            # Nonsense has many names in there. What a pack does not give, the hub does.
            self._archive = None
        return self

    def __exit__(self, *_exception):
        if self._archive:
            self._archive.close()

    def read(self, file):
        """The content (bytes) of a file (HubFile) if it has what the lock says; None otherwise."""
        if not self._archive:
            return None
        try:
            member = self._archive.getinfo(file.git_sha1)
            if member.compress_type != zipfile.ZIP_STORED or not member.file_size == member.compress_size == file.size:
                return None
            content = self._archive.read(member)
        except Exception:
            return None
        return content if git_sha1(content) == file.git_sha1 else None
