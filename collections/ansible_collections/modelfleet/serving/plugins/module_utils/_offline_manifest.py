# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of an offline bundle. PRIVATE to the collection: it can have breaking changes at any time.

MANIFEST.json names every other file of the directory with its size, sha256, source and licence; a detached signature lies beside it.
"""

from __future__ import annotations

import json
import os
import re
import stat

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import UNFINISHED, read_text, sha256_of
from ansible_collections.modelfleet.serving.plugins.module_utils._gpg import signature_problem
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json

MANIFEST = "MANIFEST.json"
SIGNATURE = "MANIFEST.json.asc"
# The public key that signed, for hosts that get packages. It proves nothing: who checks it knows its fingerprint.
KEY = "key.asc"
FORMAT = 1
# Of the files that are wrong, how many a message names.
NAMED = 5

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_FILE = {"path": str, "size": int, "sha256": str, "source": str, "licence": str}
_PART = {"kind": str, "path": str, "asked": str}


def path_problem(path):
    """What keeps a text (str) from being the path of a file in a bundle, or None."""
    if not path or path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
        return "it is no path below the directory"
    if any(ord(character) < 32 or ord(character) == 127 or 0xD800 <= ord(character) <= 0xDFFF for character in path):
        return "it holds a control character"
    if path in (MANIFEST, SIGNATURE) or os.path.basename(path).startswith(UNFINISHED) or path.startswith(UNFINISHED):
        return "the bundle has files of its own of that name"
    return None


def text_of(parts, platforms, files):
    """The manifest (str); the same parts, platforms and files give the same text."""
    content = {
        "format": FORMAT,
        "platforms": sorted(platforms),
        "parts": sorted(parts, key=lambda part: part["path"]),
        "files": sorted(files, key=lambda file: file["path"]),
    }
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=True) + "\n"


def parse(text, place):
    """What the manifest ``text`` (str) says (dict), each value of the type that it must have."""
    try:
        found = from_json(text)
    except ValueError as exc:
        raise ModelFleetError(f"Refused the bundle {place}: its {MANIFEST} is no JSON ({exc}). Bring the bundle anew.") from exc
    version = found.get("format") if isinstance(found, dict) else None
    if version != FORMAT or isinstance(version, bool):
        raise ModelFleetError(
            f"Refused the bundle {place}: its {MANIFEST} is of format {version!r}, and this collection reads {FORMAT}. Use the "
            "collection that made it."
        )
    good = _are(found.get("files"), _FILE) and _are(found.get("parts"), _PART) and _are_texts(found.get("platforms"))
    if not good or not all(_SHA256.match(file["sha256"]) and file["size"] >= 0 for file in found["files"]):
        raise ModelFleetError(f"Refused the bundle {place}: its {MANIFEST} is none of this collection's. Bring the bundle anew.")
    paths = sorted(file["path"] for file in found["files"])
    bad = next((path for path, before in zip(paths, ["", *paths]) if path_problem(path) or path == before), None)
    if bad is not None:
        raise ModelFleetError(f"Refused the bundle {place}: its {MANIFEST} names {bad!r}, which is no file of a bundle. Bring it anew.")
    return found


def _are(value, keys):
    return isinstance(value, list) and all(
        isinstance(one, dict) and all(isinstance(one.get(key), kind) and not isinstance(one.get(key), bool) for key, kind in keys.items())
        for one in value
    )


def _are_texts(value):
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def read(place):
    """What the manifest in the directory ``place`` says (dict), or None where there is none. Its signature is not looked at."""
    text = read_text(os.path.join(place, MANIFEST))
    return None if text is None else parse(text, place)


def present(place):
    """{path: lstat} of all that is no directory below ``place``, but for the manifest, its signature, and what a killed run left."""
    found = {}

    def stop(exc):
        raise exc

    try:
        for directory, subdirectories, names in os.walk(place, onerror=stop):
            if directory == place:
                subdirectories[:] = [name for name in subdirectories if not name.startswith(UNFINISHED)]
            for name in (*subdirectories, *names):
                whole = os.path.join(directory, name)
                within = os.path.relpath(whole, place)
                state = os.lstat(whole)
                if not stat.S_ISDIR(state.st_mode) and within not in (MANIFEST, SIGNATURE):
                    found[within] = state
    except OSError as exc:
        raise ModelFleetError(f"Failed to read the bundle {place}: {exc.filename}: {exc.strerror}. Check its permissions.") from exc
    return found


def differences(place, files):
    """What of a bundle is not as its manifest's ``files`` (list) say: {"missing", "extra", "altered": sorted paths}."""
    found = present(place)
    named = {file["path"]: file for file in files}
    altered = []
    for path in sorted(set(found) & set(named)):
        state, file = found[path], named[path]
        if not stat.S_ISREG(state.st_mode) or state.st_size != file["size"] or _digest(place, path) != file["sha256"]:
            altered.append(path)
    return {"missing": sorted(set(named) - set(found)), "extra": sorted(set(found) - set(named)), "altered": altered}


def _digest(place, path):
    try:
        return sha256_of(os.path.join(place, path))
    except OSError as exc:
        raise ModelFleetError(f"Failed to read {path} of the bundle {place}: {exc.strerror}. Check its permissions and the disk.") from exc


def some(paths):
    """A few of them (list of str) in words."""
    return ", ".join(paths[:NAMED]) + (f" and {len(paths) - NAMED} more" if len(paths) > NAMED else "")


def verify(module, place, key, keyring, unsigned):
    """Return what the manifest of a bundle says (dict) when all of it is as signed; raise ModelFleetError otherwise.

    ``key`` is the fingerprint that must have signed, ``keyring`` a file with public keys or None for the one in the bundle.
    With ``unsigned`` the digests are compared without a signature, if ``key`` is empty.
    """
    if not os.path.isdir(place):
        raise ModelFleetError(f"Failed to read the bundle {place}: there is no such directory. Bring it here, or correct its path.")
    text = read_text(os.path.join(place, MANIFEST))
    if text is None:
        raise ModelFleetError(f"Refused the bundle {place}: it has no {MANIFEST}. Bring all of it, as modelfleet.serving.bundle made it.")
    if key:
        signature = os.path.join(place, SIGNATURE)
        keys = [keyring] if keyring else [os.path.join(place, KEY)]
        for file, remedy in ((signature, "Bring all of the bundle"), (keys[0], "Bring it, or name another file with the public key")):
            if not os.path.isfile(file):
                raise ModelFleetError(f"Refused the bundle {place}: {file} is missing, so nobody can tell who signed it. {remedy}.")
        problem = signature_problem(module, signature, os.path.join(place, MANIFEST), key, keys)
        if problem:
            raise ModelFleetError(
                f"Refused the bundle {place}: of its {MANIFEST} {problem}. Use nothing of it; bring it anew from who made it, or have it "
                "signed again by a key that you trust."
            )
    elif not unsigned:
        raise ModelFleetError(
            f"Refused the bundle {place}: no key says who may have signed it. Set the fingerprint of the key, or allow bundles without "
            "a signature where nobody else can write."
        )
    found = parse(text, place)
    wrong = differences(place, found["files"])
    if any(wrong.values()):
        said = [f"{some(paths)} {'is' if len(paths) == 1 else 'are'} {kind}" for kind, paths in wrong.items() if paths]
        remedy = "Remove what is extra" if not wrong["missing"] + wrong["altered"] else "Bring it anew from where it was made"
        raise ModelFleetError(f"Refused the bundle {place}: {'; '.join(said)}. {remedy}, and run again.", **wrong)
    return found
