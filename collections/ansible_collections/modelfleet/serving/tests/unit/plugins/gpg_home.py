# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A home of gpg with keys that need no passphrase."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile


def gpg(*arguments):
    return subprocess.run(["gpg", "--batch", "--quiet", *arguments], check=True, capture_output=True, text=True).stdout


def make_key(name, expires="never", *options):
    """Its fingerprint."""
    gpg("--passphrase", "", *options, "--quick-generate-key", name, "ed25519", "sign", expires)
    listed = gpg("--with-colons", "--list-keys", name).splitlines()
    return next(line.split(":")[9] for line in listed if line.startswith("fpr:"))


@contextlib.contextmanager
def gpg_home():
    """GNUPGHOME of the block. Its path is short, as the name of a socket must be."""
    before = os.environ.get("GNUPGHOME")
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:
        os.environ["GNUPGHOME"] = home
        try:
            yield home
        finally:
            subprocess.run(["gpgconf", "--kill", "all"], check=False, capture_output=True)
            os.environ.pop("GNUPGHOME")
            if before is not None:
                os.environ["GNUPGHOME"] = before
