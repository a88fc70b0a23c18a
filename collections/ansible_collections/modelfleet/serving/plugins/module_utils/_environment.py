# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a Python environment. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import json
import os

from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json

# Is there when an environment is whole, and says when it was made.
MARKER = ".installed"
# The record of its installation: {"files": {path: sha256}, "links": {path: where to}}, with paths within the environment.
RECORD = ".files.json"


def entries(path):
    """What is in the environment ``path`` (str) but these two: ([files], {link: where to}), both sorted."""
    files, links = [], {}
    for directory, subdirectories, names in os.walk(path):
        for name in (*subdirectories, *names):
            whole = os.path.join(directory, name)
            within = os.path.relpath(whole, path)
            if os.path.islink(whole):
                links[within] = os.readlink(whole)
            elif name in names and within not in (MARKER, RECORD):
                files.append(within)
    return sorted(files), dict(sorted(links.items()))


def record_text(path, digest):
    """The record of the environment ``path`` as it is now; ``digest`` gives the sha256 of a file. Raises OSError."""
    files, links = entries(path)
    return json.dumps({"files": {name: digest(os.path.join(path, name)) for name in files}, "links": links}, indent=0) + "\n"


def parse_record(text):
    """What the record says, as (files, links). Raises ValueError for what is none."""
    found = from_json(text)
    try:
        files, links = dict(found["files"]), dict(found["links"])
    except (KeyError, TypeError) as exc:
        raise ValueError("it is no record of an environment") from exc
    if not all(isinstance(one, str) for part in (files, links) for one in part.values()):
        raise ValueError("it is no record of an environment")
    return files, links
