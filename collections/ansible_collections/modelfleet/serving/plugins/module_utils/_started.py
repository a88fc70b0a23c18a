# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running daemon was started from. PRIVATE to the collection: it can have breaking changes at any time.

The record is a file with the lines of sha256sum, written by systemd's own start of the daemon, whoever asked for that start.
"""

from __future__ import annotations

import hashlib

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import read_text, sha256_of

# Stands for the digest of a file that was not there, so that its arrival is a difference.
NO_FILE = "-"


def digest_of(text):
    """The sha256 of a text (str) as a file holds it."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_file(path):
    """The sha256 of the file ``path`` (str), NO_FILE where there is none. Raises ModelFleetError for one that cannot be read."""
    try:
        return sha256_of(path)
    except FileNotFoundError:
        return NO_FILE
    except OSError as exc:
        raise ModelFleetError(f"Failed to read {path}: {exc.strerror}. Check the file and its permissions.") from exc


def read_started(record):
    """Return ``{path: sha256}`` of the file ``record`` (str); empty without it."""
    lines = (read_text(record) or "").splitlines()
    return {path: digest for digest, _space, path in (line.partition("  ") for line in lines)}


def stale_paths(record, wanted):
    """The paths of ``wanted`` (``{path: sha256}``) whose content is not what the running daemon was started from."""
    started = read_started(record)
    return [path for path, digest in wanted.items() if started.get(path) != digest]


def drop_in(record, unit, unit_text, paths, reloaded_record="", reloaded_paths=()):
    """The text of a drop-in by which every start of ``unit`` (path of its file) writes ``record``; ``paths`` are the other files.

    The digest of the unit is written here, not taken at the start: systemd may still know an older unit than the file is then.
    ``reloaded_paths`` are files that it takes over by a reload: every start and every reload writes ``reloaded_record``.
    """
    started = " ".join([_command(f'echo "{digest_of(unit_text)}  {unit}"; '), record, *paths])
    reloaded = " ".join([_command(), reloaded_record, *reloaded_paths])
    return (
        "# Managed by Ansible (modelfleet.serving.daemon): changes made here are lost.\n"
        "[Service]\n"
        "# What this process was started from.\n"
        f"ExecStartPre=+{started}\n"
        + (f"# What it has taken over since.\nExecStartPre=+{reloaded}\nExecReload=+{reloaded}\n" if reloaded_paths else "")
    )


def _command(first=""):
    return f'/bin/sh -c \'{{ {first}for file in "$$@"; do sha256sum "$$file" 2>/dev/null || echo "-  $$file"; done; }} > "$$0"\''
