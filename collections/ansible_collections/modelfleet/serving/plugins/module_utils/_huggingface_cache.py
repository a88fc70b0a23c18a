# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies in the caches of a hub's models on a host, whoever brought it. PRIVATE to the collection: it can have breaking changes."""

from __future__ import annotations

import os

from ansible_collections.modelfleet.serving.plugins.module_utils._artifact import listdir, lstat
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_bundle import is_directory
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_huggingface import Place

_REPOSITORY = "models--"


def repositories(home):
    """Yield a Place without a commit for every repository in the cache of an access group below ``home``."""
    for group in sorted(listdir(home)):
        cache = os.path.join(home, group, "hub")
        for name in sorted(listdir(cache)) if _is_real(home, group, "hub") else ():
            folder = os.path.join(cache, name)
            parts = [part for part in ("blobs", "snapshots", "refs") if lstat(os.path.join(folder, part))]
            if name.startswith(_REPOSITORY) and _is_real(cache, name) and all(_is_real(folder, part) for part in parts):
                yield _place(home, group, name.removeprefix(_REPOSITORY).replace("--", "/"), "")


def commits(repository):
    """[Place] of each commit that a repository (Place) has here."""
    names = sorted(listdir(os.path.join(repository.folder, "snapshots")))
    return [_place(repository.root, repository.group, repository.repo, name) for name in names]


def _place(home, group, repo, commit):
    return Place({"huggingface_home": home}, {"repo": repo, "revision": commit, "group": group})


def _is_real(top, *names):
    """Whether these are directories, each in the one before; a link would lead elsewhere."""
    for name in names:
        top = os.path.join(top, name)
        if not is_directory(lstat(top)):
            return False
    return True
