# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far the downloads of the hosts are: what reads it on a host puts it into a directory of the controller, where what shows it finds it.

PRIVATE to the collection: it can have breaking changes at any time.
"""

from __future__ import annotations

import json
import os
import urllib.parse

# The directory. A callback that shows progress makes it and sets this before Ansible starts its workers, which have it then.
VARIABLE = "MODELFLEET_PROGRESS_DIRECTORY"
SOURCES = ("origin", "remote_peer", "local_peer")


def path_of(directory, host):
    return os.path.join(directory, urllib.parse.quote(host, safe="") + ".json")


def put(directory, host, text):
    """``text`` is the file of ``progress_path`` of the module model_artifact; what is none is left out."""
    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            return
        with open(path_of(directory, host) + ".new", "w", encoding="utf-8") as handle:
            json.dump(found, handle)
        os.replace(path_of(directory, host) + ".new", path_of(directory, host))
    except (OSError, ValueError):
        pass


def get(directory, host):
    """{"wanted": bytes, "fetched": bytes, "bytes": {source: bytes}, "seconds": since it began}, or None where nothing is known."""
    try:
        with open(path_of(directory, host), encoding="utf-8") as handle:
            found = json.load(handle)
        artifacts = found["artifacts"]
        return {
            "wanted": sum(int(one.get("size") or 0) for one in artifacts),
            "fetched": sum(int(one.get("fetched") or 0) for one in artifacts),
            "bytes": {source: int((found.get("bytes") or {}).get(source, 0)) for source in SOURCES},
            "seconds": float(found["seconds"]),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def forget(directory, host):
    try:
        os.unlink(path_of(directory, host))
    except OSError:
        pass
