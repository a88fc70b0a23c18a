# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SHA256SUMS, and detached signatures by the key that the releaser names: of SHA256SUMS, and of the MANIFEST.json in the archive.

The second is what `ansible-galaxy collection install --keyring` looks at. MANIFEST.json has the digest of FILES.json, which has that of
every file, so none can be altered.
"""

from __future__ import annotations

import sys
from pathlib import Path

from archive import COLLECTION, MANIFEST, REPOSITORY, Stop, read, run, sha256_of

sys.path.insert(0, str(REPOSITORY / COLLECTION.parents[2]))
from ansible_collections.modelfleet.serving.plugins.module_utils._gpg import primary_fingerprints

SUMS = "SHA256SUMS"


def fingerprint_of(key):
    """Of the one secret key that this names: a release is not signed by whichever of two keys comes first."""
    listed = run("gpg", "--batch", "--with-colons", "--list-secret-keys", "--", key).splitlines() if key else []
    fingerprints = primary_fingerprints(listed)
    if len(fingerprints) != 1:
        raise Stop(f"{key or 'An empty name'} names {len(fingerprints)} secret keys of gpg. Give the fingerprint of one in GPG_KEY.")
    return fingerprints[0]


def detach(fingerprint, path):
    """Sign a file; return the path of the signature, which was verified."""
    signature = path.with_name(f"{path.name}.asc")
    run("gpg", "--batch", "--yes", "--armor", "--local-user", fingerprint, "--output", signature, "--detach-sign", path)
    run("gpg", "--batch", "--verify", signature, path)
    return signature


def sums(paths, target):
    """As sha256sum --check reads them."""
    target.write_text("".join(f"{sha256_of(path)}  {path.name}\n" for path in sorted(paths)), encoding="utf-8")
    return target


def sign(archive, others, fingerprint):
    """Write what lies beside an archive, and return it all; without a key nothing is signed."""
    made = [archive, *others]
    if fingerprint:
        manifest = Path(f"{archive.with_name(archive.name.removesuffix('.tar.gz'))}-{MANIFEST}")
        manifest.write_bytes(read(archive)[MANIFEST][2])
        made.append(detach(fingerprint, manifest))
        # It is in the archive.
        manifest.unlink()
    listed = sums(made, archive.with_name(SUMS))
    return [*made, listed, *([detach(fingerprint, listed)] if fingerprint else [])]
