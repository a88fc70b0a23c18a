# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python environments. PRIVATE to the collection: it can have breaking changes at any time.

What was installed is what python_environment recorded, all files of the environment. Where it is older than that record, pip's own is
taken: the RECORD of each package, which has no digests of compiled files.
"""

from __future__ import annotations

import base64
import binascii
import csv
import glob
import os
import re

from ansible_collections.modelfleet.serving.plugins.module_utils._environment import MARKER, RECORD, entries, parse_record
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._verify import CHANGED, DISPUTED, EXTRA, MISSING, UNREADABLE

PYTHON = "python"
# What Python's venv makes itself, in the directory bin.
_OF_VENV = re.compile(r"bin/(activate[.\w]*|Activate\.ps1|python[0-9.]*)\Z")
_COMPILED = re.compile(r"(.*/)?__pycache__/[^/]+\.pyc\Z")


def verify_environments(look, path):
    """The environment ``path`` and the others that are whole beside it, from one of which TorchServe may still run."""
    home, own = os.path.split(path.rstrip("/"))
    beside = sorted(glob.glob(os.path.join(glob.escape(home), "venv-*", MARKER)))
    others = [os.path.dirname(one) for one in beside if os.path.basename(os.path.dirname(one)) != own]
    if not os.path.isfile(os.path.join(path, MARKER)):
        look.add(PYTHON, own, MISSING, path)
    for environment in [*([path] if os.path.isdir(path) else []), *others]:
        _verify(look, environment)


def _verify(look, path):
    name = os.path.basename(path)
    files, links = entries(path)
    by_pip, packages = _by_pip(look, name, path)
    for package in packages:
        look.has({"kind": "python", "environment": name, **package})
    recorded = _recorded(look, name, path)
    if recorded is None:
        _verify_by_pip(look, name, path, files, by_pip)
    else:
        _verify_by_record(look, name, path, (files, links), recorded, by_pip)
    if _sees_the_system(path):
        look.leave(PYTHON, name, "what it takes from the system's Python, but for packages of the distribution")


def _recorded(look, name, path):
    record = os.path.join(path, RECORD)
    try:
        text = read_text(record)
        if text is not None:
            return parse_record(text)
    except (ModelFleetError, ValueError) as exc:
        look.add(PYTHON, name, UNREADABLE, record, str(exc))
    look.leave(PYTHON, name, "compiled files, and scripts that no package lists: it was made before all files were recorded")
    return None


def _verify_by_record(look, name, path, found, recorded, by_pip):
    (files, links), (wanted_files, wanted_links) = found, recorded
    for within in sorted(wanted_files.keys() | set(files)):
        whole = os.path.join(path, within)
        if within not in wanted_files:
            look.add(PYTHON, name, EXTRA, whole)
            continue
        digest = look.check(PYTHON, name, whole, wanted_files[within])
        said = by_pip.get(within)
        if digest and said and digest == wanted_files[within] and digest not in said:
            look.add(PYTHON, name, DISPUTED, whole, f"the installation recorded the sha256 {digest}, its package says {min(said)}")
    for within in sorted(wanted_links.keys() | links.keys()):
        whole = os.path.join(path, within)
        if within not in wanted_links:
            look.add(PYTHON, name, EXTRA, whole)
        elif within not in links:
            # A file that took its place is among the extra ones.
            look.add(PYTHON, name, MISSING, whole)
        elif links[within] != wanted_links[within]:
            look.add(PYTHON, name, CHANGED, whole, f"it leads to {links[within]}, and led to {wanted_links[within]}")


def _verify_by_pip(look, name, path, files, by_pip):
    for within, digests in sorted(by_pip.items()):
        if digests:
            look.check(PYTHON, name, os.path.join(path, within), *sorted(digests))
    for within in files:
        in_packages = re.match(r"(bin|lib(64)?/python[0-9.]+/site-packages)/", within)
        if in_packages and within not in by_pip and not _COMPILED.match(within) and not _OF_VENV.match(within):
            look.add(PYTHON, name, EXTRA, os.path.join(path, within))


def _by_pip(look, name, path):
    """({path: {sha256}} of what the packages list, and [{name, version}] of them).

    Packages that bring the same file each have a digest of it. What pip compiled has none.
    """
    digests, packages = {}, []
    for info in sorted(glob.glob(os.path.join(glob.escape(path), "lib", "python*", "site-packages", "*.dist-info"))):
        site = os.path.dirname(info)
        title, _dash, version = os.path.basename(info)[: -len(".dist-info")].rpartition("-")
        packages.append({"name": _metadata_name(info) or title, "version": version})
        record = os.path.join(info, "RECORD")
        try:
            rows = list(csv.reader((read_text(record) or "").splitlines()))
        except (ModelFleetError, csv.Error) as exc:
            look.add(PYTHON, name, UNREADABLE, record, str(exc))
            continue
        if not rows:
            look.add(PYTHON, name, MISSING, record, "nothing else says what the package installed")
        for row in rows:
            within = os.path.relpath(os.path.join(site, row[0]), path) if row else ".."
            if within == ".." or within.startswith("../"):
                continue
            sha256 = _hexadecimal(row[1] if len(row) > 1 else "")
            digests.setdefault(within, set()).update([sha256] if sha256 else [])
    return digests, packages


def _metadata_name(info):
    """The name as the project writes it; that of the directory is normalised."""
    try:
        found = re.search(r"^Name: *(\S+)", read_text(os.path.join(info, "METADATA")) or "", re.MULTILINE)
    except ModelFleetError:
        return ""
    return found[1] if found else ""


def _hexadecimal(text):
    """A digest as RECORD writes it, sha256=<base64 for URLs without padding>; "" for none."""
    kind, _equals, value = text.partition("=")
    if kind != "sha256":
        return ""
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
    except (ValueError, binascii.Error):
        # No file has it.
        return text


def _sees_the_system(path):
    try:
        text = read_text(os.path.join(path, "pyvenv.cfg")) or ""
    except ModelFleetError:
        return False
    return bool(re.search(r"^include-system-site-packages *= *true", text, re.MULTILINE | re.IGNORECASE))
