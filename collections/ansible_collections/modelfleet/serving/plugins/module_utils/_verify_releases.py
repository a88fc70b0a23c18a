# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of Dragonfly and single files. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import os

from ansible_collections.modelfleet.serving.plugins.module_utils._doctor_daemon import unit_state
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json
from ansible_collections.modelfleet.serving.plugins.module_utils._verify import CHANGED, EXTRA, MISSING, UNREADABLE

PROGRAMS = "programs"
RECORD = ".release.json"


def verify_release(look, wanted, run_command, proc="/proc"):
    """The versions of a release (name, link, version, sha256, unit) that are installed, and the process that runs of one."""
    base, current = os.path.dirname(wanted["link"]), os.path.basename(os.path.realpath(wanted["link"]))
    if not os.path.isdir(wanted["link"]):
        look.add(PROGRAMS, wanted["name"], MISSING, wanted["link"])
        return
    digests = set()
    for version in sorted(os.listdir(base)):
        directory = os.path.join(base, version)
        # One with a dot is not finished.
        if os.path.islink(directory) or version.startswith("."):
            continue
        if version == current or os.path.isfile(os.path.join(directory, RECORD)):
            pinned = wanted["sha256"].lower() if version == current == wanted["version"] else ""
            digests |= _verify_version(look, wanted["name"], directory, pinned, version == current)
        else:
            look.add(PROGRAMS, wanted["name"], EXTRA, directory)
    if wanted["unit"]:
        _verify_process(look, wanted["name"], wanted["unit"], digests, run_command, proc)


def _verify_version(look, name, directory, pinned, is_current):
    """Returns the digests that the programs should have."""
    title = f"{name} {os.path.basename(directory)}"
    path = os.path.join(directory, RECORD)
    record = _read(path)
    if record is None:
        look.add(PROGRAMS, title, MISSING, path, "nothing else says what was installed")
        return set()
    if pinned and record["sha256"] != pinned:
        look.add(PROGRAMS, title, CHANGED, path, f"it was installed from the archive {record['sha256']}, and {pinned} is pinned")
    for program, expected in sorted(record["programs"].items()):
        found = look.check(PROGRAMS, title, os.path.join(directory, program), expected)
        if found and is_current:
            archive = {"archive_sha256": record["sha256"], "recorded": expected}
            version = os.path.basename(directory)
            look.has({"kind": "program", "name": program, "release": name, "version": version, "sha256": found, **archive})
    for entry in sorted(set(os.listdir(directory)) - {RECORD, *record["programs"]}):
        look.add(PROGRAMS, title, EXTRA, os.path.join(directory, entry))
    return set(record["programs"].values())


def _read(path):
    try:
        with open(path, encoding="utf-8") as handle:
            record = from_json(handle.read())
        return {"sha256": str(record["sha256"]), "programs": {os.path.basename(one): str(sha) for one, sha in record["programs"].items()}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _verify_process(look, name, unit, digests, run_command, proc):
    """It may run from a file that is no more, or from another one."""
    pid = unit_state(run_command, unit)["pid"]
    if not pid:
        return
    link = f"{proc}/{pid}/exe"
    try:
        found = look.sha256(link, follow=True)
    except FileNotFoundError:
        # It has ended.
        return
    except OSError as exc:
        look.add(PROGRAMS, f"process of {name}", UNREADABLE, link, exc.strerror)
        return
    if digests and found not in digests:
        detail = f"{unit} runs {os.readlink(link)} with the sha256 {found}, which no installed release has"
        look.add(PROGRAMS, f"process of {name}", CHANGED, link, detail)


def verify_file(look, wanted):
    """A file (part, name, version, path, sha256, alone) whose digest the controller knows."""
    found = look.check(wanted["part"], wanted["name"], wanted["path"], wanted["sha256"].lower())
    if found:
        look.has({"kind": "file", **{key: wanted[key] for key in ("name", "version", "path")}, "sha256": found})
    directory, own = os.path.split(wanted["path"])
    if wanted["alone"] and os.path.isdir(directory):
        for entry in sorted(set(os.listdir(directory)) - {own}):
            look.add(wanted["part"], wanted["name"], EXTRA, os.path.join(directory, entry))
