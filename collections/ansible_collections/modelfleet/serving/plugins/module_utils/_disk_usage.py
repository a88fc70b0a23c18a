# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the files of a host take on its disk, each once however many names it has.

PRIVATE to the collection: it can have breaking changes at any time.
"""

from __future__ import annotations

import os
import stat

from ansible_collections.modelfleet.serving.plugins.module_utils._artifact import lstat
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError


class Inode:
    """A file: ``bytes`` on the disk, ``links`` of all its names, and of these the ``names`` that were seen, [(top, path)]."""

    def __init__(self, size, links, names):
        self.bytes = size
        self.links = links
        self.names = names

    @property
    def tops(self):
        return {top for top, _path in self.names}


def read_inodes(tops):
    """{(device, inode): Inode} of the files below directories, {top: directory}. What goes meanwhile is left out."""
    found = {}

    def refuse(exc):
        if not isinstance(exc, FileNotFoundError):
            raise exc

    for top, directory in tops.items():
        try:
            for parent, _directories, names in os.walk(directory, onerror=refuse):
                for path in (os.path.join(parent, name) for name in names):
                    status = lstat(path)
                    if status and stat.S_ISREG(status.st_mode):
                        key = (status.st_dev, status.st_ino)
                        found.setdefault(key, Inode(status.st_blocks * 512, status.st_nlink, [])).names.append((top, path))
        except OSError as exc:
            raise ModelFleetError(f"Failed to read {exc.filename or directory}: {exc.strerror}. Check the directory and the disk.") from exc
    return found
