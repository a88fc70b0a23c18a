# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names that git gives to objects, without git: blobs, LFS pointers, trees and commits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def object_id(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def blob_id(blocks: Iterable[bytes], size: int) -> str:
    """The id of a blob that need not fit into memory."""
    digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    """What is in git in the place of a file that LFS keeps."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def trees(blobs: dict[str, str]) -> dict[str, str]:
    """The ids of the folders of these files ({path: id of its blob}), that of the root under an empty name."""
    folders: dict[str, dict[str, tuple[str, str]]] = {"": {}}
    for path, blob in blobs.items():
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, {})[name] = "100644", blob
        while folder:
            folder = folder.rpartition("/")[0]
            folders.setdefault(folder, {})
    found = {}
    # What lies deepest has its id first. Git sorts a folder as if its name ended with a slash.
    for folder in sorted(folders, key=lambda name: name.count("/") + bool(name), reverse=True):
        rows = sorted(folders[folder].items(), key=lambda row: (row[0] + "/" if row[1][0] == "40000" else row[0]).encode())
        content = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(one) for name, (mode, one) in rows)
        found[folder] = object_id("tree", content)
        if folder:
            above, _, name = folder.rpartition("/")
            folders[above][name] = "40000", found[folder]
    return found


def commit_id(tree: str, parent: str | None, author: str, when: int, message: str) -> str:
    lines = [f"tree {tree}", *([f"parent {parent}"] if parent else []), f"author {author} {when} +0000", f"committer {author} {when} +0000"]
    return object_id("commit", "\n".join([*lines, "", message, ""]).encode())
