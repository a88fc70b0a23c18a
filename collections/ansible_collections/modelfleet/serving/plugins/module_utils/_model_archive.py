# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model archive, or a directory with its files, says about itself. PRIVATE to the collection: it can have breaking changes."""

from __future__ import annotations

import zipfile
import zlib

from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json

MANIFEST = "MAR-INF/MANIFEST.json"
NOT_INSTALLED = (
    "{path} has {name}, and no host will install it: TorchServe would fetch packages from the network at every registration and every "
    "restart, without a sha256. Add what it lists to torchserve_pip_packages."
)
_MOST = 4 << 20  # bytes
# What zipfile raises for an archive that is damaged, encrypted or compressed in a way that it does not know.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError)


def read_manifest(archive):
    """The bytes of the manifest in an open ZipFile. A few of an archive may become more than the memory holds, so such raise ValueError."""
    with archive.open(MANIFEST) as handle:
        content = handle.read(_MOST + 1)
    if len(content) > _MOST:
        raise ValueError("no manifest is so large")
    return content


def described(manifest):
    """(name, version, requirements file) of the model, each "" if it is not said, in the ``manifest`` (bytes). Raises ValueError."""
    try:
        model = from_json(manifest)["model"]
        return tuple(str(model.get(key) or "") for key in ("modelName", "modelVersion", "requirementsFile"))
    except (AttributeError, KeyError, TypeError) as exc:
        raise ValueError("no manifest of a model") from exc
