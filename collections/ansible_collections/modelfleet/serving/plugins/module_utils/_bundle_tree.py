# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle as a directory on a host. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import hashlib
import os
import stat

from ansible_collections.modelfleet.serving.plugins.module_utils._bundle import parse_manifest
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import sha256_of
from ansible_collections.modelfleet.serving.plugins.module_utils._model_archive import MANIFEST, described

BLOBS = "/var/lib/modelfleet/blobs"


def read_manifest(path, sha256):
    """The Manifest in the file ``path`` (str), which must have the ``sha256``. Raises ModelFleetError."""
    try:
        with open(path, "rb") as handle:
            content = handle.read()
    except OSError as exc:
        raise ModelFleetError(
            f"Failed to read the manifest {path} on this host: {exc.strerror}. Run the playbook distribute, which brings the bundle."
        ) from exc
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ModelFleetError(
            f"Refused the manifest {path} on this host: it has sha256 {found}, expected {sha256}. Remove it and run the playbook "
            "distribute."
        )
    return parse_manifest(content, path)


def served_as(directory):
    """Name and version in TorchServe's own manifest in ``directory``; None where there is none, or one that is not of a model."""
    try:
        with open(os.path.join(directory, MANIFEST), "rb") as handle:
            return described(handle.read())[:2]
    except (OSError, ValueError):
        return None


def tree_problem(files, directory):
    """What keeps ``directory`` from holding exactly ``files`` (those of a Manifest), and its remedy, in words; None when nothing does.

    restore_models.py has the same rules, and no part of this collection.
    """
    found = {
        os.path.relpath(os.path.join(parent, name), directory)
        for parent, directories, names in os.walk(directory)
        for name in names + [one for one in directories if os.path.islink(os.path.join(parent, one))]
    }
    surplus = found - {file.path for file in files}
    if surplus:
        return f"has {min(surplus)}, which is not in its manifest; run the playbook distribute"
    for file in files:
        path = os.path.join(directory, file.path)
        # Its content is that of the blob, of which it is another name.
        anew = f"remove {BLOBS}/{file.sha256}{'-x' if file.mode == '0755' else ''} and run the playbook distribute"
        try:
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                return f"has {file.path}, which is no file; run the playbook distribute"
            if status.st_size != file.size:
                return f"has {file.path} with {status.st_size} bytes, expected {file.size}; {anew}"
            sha256 = sha256_of(path)
        except OSError as exc:
            return f"has no {file.path} that can be read ({exc.strerror}); run the playbook distribute"
        if sha256 != file.sha256:
            return f"has {file.path} with sha256 {sha256}, expected {file.sha256}; {anew}"
    return None
