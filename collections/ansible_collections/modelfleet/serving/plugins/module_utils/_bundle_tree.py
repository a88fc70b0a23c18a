# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle as a directory on a host. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import hashlib
import json
import os
import stat

from ansible_collections.modelfleet.serving.plugins.module_utils._bundle import parse_manifest
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import sha256_of

BRING = "Run model_artifact (playbook distribute), which brings it"


def read_manifest(path, sha256):
    """The Manifest in the file ``path`` (str), which must have the ``sha256``. Raises ModelFleetError."""
    try:
        with open(path, "rb") as handle:
            content = handle.read()
    except OSError as exc:
        raise ModelFleetError(f"Failed to read the manifest {path} on this host: {exc.strerror}. {BRING}.") from exc
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ModelFleetError(
            f"Refused the manifest {path} on this host: it has sha256 {found}, expected {sha256}. Remove it. {BRING} again."
        )
    return parse_manifest(content, path)


def served_as(directory):
    """Name and version in TorchServe's own manifest in ``directory``; None where there is none, or one that does not say them."""
    try:
        with open(os.path.join(directory, "MAR-INF/MANIFEST.json"), "rb") as handle:
            model = json.loads(handle.read())["model"]
        return model["modelName"], model["modelVersion"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def tree_problem(files, directory):
    """What keeps ``directory`` from holding exactly ``files`` (path, size and sha256 of each), in words; None when nothing does.

    restore_models.py has the same rules, and no part of this collection.
    """
    found = {
        os.path.relpath(os.path.join(parent, name), directory)
        for parent, directories, names in os.walk(directory)
        for name in names + [one for one in directories if os.path.islink(os.path.join(parent, one))]
    }
    surplus = found - {file.path for file in files}
    if surplus:
        return f"has {min(surplus)}, which is not in its manifest"
    for file in files:
        path = os.path.join(directory, file.path)
        try:
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                return f"has {file.path}, which is no file"
            if status.st_size != file.size:
                return f"has {file.path} with {status.st_size} bytes, expected {file.size}"
            digest = sha256_of(path)
        except OSError as exc:
            return f"has no {file.path} that can be read ({exc.strerror})"
        if digest != file.sha256:
            return f"has {file.path} with sha256 {digest}, expected {file.sha256}"
    return None
