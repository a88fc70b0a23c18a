# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The format of a bundle: a directory in the object store. PRIVATE to the collection: it can have breaking changes at any time.

Under a bundle's key prefix there are ``manifests/<sha256>.json`` and ``blobs/<sha256>``, each named by the sha256 of its content, so that
versions under one prefix share what they have in common. A manifest lists the files of a tree and the packs, blobs in which small files
stand one after the other. It is canonical JSON (keys sorted, no spaces, UTF-8, no line end), so that one tree has one manifest.
A file is in a pack, or is a blob of its own, or is empty and is nowhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import NamedTuple

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import object_key_problem

FORMAT = 1
MODES = ("0644", "0755")
MAX_FILES = 1_000_000
MAX_MANIFEST = 512 << 20
_MAX_NAME = 255  # bytes of a file name on Linux
_MAX_PATH = 2048  # of Linux's 4096, with room for the directory on the host
_DIGEST = re.compile(r"[0-9a-f]{64}")
_EMPTY = hashlib.sha256().hexdigest()
_MANIFEST_KEYS = {"files", "format", "packs"}
_FILE_KEYS = {"mode", "path", "sha256", "size"}
_PACKED_KEYS = _FILE_KEYS | {"offset", "pack"}
_PACK_KEYS = {"sha256", "size"}


class File(NamedTuple):
    path: str
    size: int
    sha256: str
    mode: str  # one of MODES, octal
    pack: str | None = None  # sha256 of the pack that has it
    offset: int | None = None  # bytes into the pack


class Pack(NamedTuple):
    sha256: str
    size: int


class Manifest(NamedTuple):
    files: list[File]  # sorted by path
    packs: list[Pack]  # sorted by sha256

    @property
    def size(self):
        """Bytes of all files of the tree."""
        return sum(file.size for file in self.files)


def prefix_problem(bundle):
    """What to change in the key prefix of a bundle (str), None for a good one."""
    if bundle.endswith(".mar"):
        return "a .mar is one object; give its key as object, or a prefix without .mar to a bundle"
    return object_key_problem(manifest_key(bundle, _EMPTY))


def manifest_key(bundle, sha256):
    """Key in the store of the manifest with this sha256."""
    return f"{bundle}/manifests/{sha256}.json"


def blob_key(bundle, sha256):
    """Key in the store of the blob with this sha256."""
    return f"{bundle}/blobs/{sha256}"


def blobs(manifest):
    """{sha256: size} of the blobs that make up the tree, each once: packs, and files that are in none."""
    found = dict(manifest.packs)
    found.update((file.sha256, file.size) for file in manifest.files if file.pack is None and file.size)
    return found


def manifest_bytes(manifest):
    """The manifest as it is stored."""
    files = [{key: value for key, value in file._asdict().items() if value is not None} for file in manifest.files]
    return _canonical({"files": files, "format": FORMAT, "packs": [pack._asdict() for pack in manifest.packs]})


def parse_manifest(content, name):
    """The Manifest that ``content`` (bytes) holds. ``name`` is what errors call it. Raises ModelFleetError for any that is not as above."""
    try:
        return _parse(content)
    except _Invalid as exc:
        raise ModelFleetError(f"Failed to read the manifest {name}: {exc}. {exc.remedy}.") from None


def path_problem(path):
    """What is wrong with the path of a file (str) in a bundle; None for a good one."""
    parts = path.split("/")
    if path.startswith("/"):
        return "is absolute"
    if "" in parts:
        return "has an empty component"
    if "." in parts or ".." in parts:
        return "has the component '.' or '..'"
    if "\\" in path:
        return "has a backslash"
    if not path.isprintable() and any(ord(c) < 32 or 127 <= ord(c) < 160 for c in path):
        return "has a control character"
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    if len(encoded) > _MAX_PATH or max(map(len, encoded.split(b"/"))) > _MAX_NAME:
        return f"is longer than {_MAX_PATH} bytes, or a component of it than {_MAX_NAME}"
    return None


def collision(paths):
    """Two of the ``paths`` that cannot be in one tree, as (path, other, why); None if all can.

    Paths that differ only in case count as one: a file system may not tell them apart.
    """
    seen, directories = {}, {}
    for path in paths:
        folded = path.casefold()
        if folded in seen:
            return path, seen[folded], "are the same path" if path == seen[folded] else "differ only in case"
        seen[folded] = path
        parent = folded.rpartition("/")[0]
        while parent and parent not in directories:
            directories[parent] = path
            parent = parent.rpartition("/")[0]
    for folded in seen.keys() & directories.keys():
        return directories[folded], seen[folded], "are a file and a directory of one name"
    return None


class _Invalid(Exception):
    def __init__(self, reason, remedy="Publish the bundle again and take the sha256 that this prints"):
        super().__init__(reason)
        self.remedy = remedy


def _parse(content):
    if len(content) > MAX_MANIFEST:
        raise _Invalid(f"it has {len(content)} bytes, more than {MAX_MANIFEST}", "Publish a tree with fewer files")
    try:
        found = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise _Invalid(f"it is not UTF-8 (byte {exc.start})") from None
    except (ValueError, RecursionError):
        raise _Invalid("it is not JSON") from None
    if not isinstance(found, dict):
        raise _Invalid("it is not a JSON object")
    if found.get("format") != FORMAT and isinstance(found.get("format"), int):
        raise _Invalid(
            f"it has the format {found['format']}, and this version of the collection knows the format {FORMAT}",
            "Update the collection, or publish the bundle with this version",
        )
    _check_keys("it", found, _MANIFEST_KEYS)
    _check_type("its format", found["format"], int)
    for key in ("files", "packs"):
        _check_type(f"its {key}", found[key], list)
    if not 0 < len(found["files"]) <= MAX_FILES:
        raise _Invalid(f"it has {len(found['files'])} files, not 1 to {MAX_FILES}", "Publish a tree with that many")
    packs = [_pack(number, one) for number, one in enumerate(found["packs"])]
    sizes = dict(packs)
    manifest = Manifest([_file(number, one, sizes) for number, one in enumerate(found["files"])], packs)
    if content != manifest_bytes(manifest):
        raise _Invalid("it is not in canonical form (keys sorted and once, no spaces, UTF-8 without escapes, no line end)")
    _check_whole(manifest)
    return manifest


def _pack(number, found):
    place = f"pack {number}"
    _check_type(place, found, dict)
    _check_keys(place, found, _PACK_KEYS)
    _check_digest(f"the sha256 of {place}", found["sha256"])
    _check_number(f"the size of {place}", found["size"], 1)
    return Pack(**found)


def _file(number, found, packs):
    place = f"file {number}"
    _check_type(place, found, dict)
    _check_keys(place, found, _PACKED_KEYS if "pack" in found or "offset" in found else _FILE_KEYS)
    _check_type(f"the path of {place}", found["path"], str)
    problem = path_problem(found["path"])
    if problem:
        raise _Invalid(f"the path {found['path'][:300]!a} of {place} {problem}")
    place = f"the file {found['path']!r}"
    if found["mode"] not in MODES:
        raise _Invalid(f"{place} has the mode {ascii(found['mode'])[:100]}, not {' or '.join(MODES)}")
    _check_digest(f"the sha256 of {place}", found["sha256"])
    _check_number(f"the size of {place}", found["size"], 0)
    file = File(**found)
    if (file.size == 0) != (file.sha256 == _EMPTY):
        raise _Invalid(f"{place} has {file.size} bytes and the sha256 {file.sha256}, which do not fit")
    if "pack" in found:
        _check_packed(place, file, packs)
    return file


def _check_packed(place, file, packs):
    _check_digest(f"the pack of {place}", file.pack)
    _check_number(f"the offset of {place}", file.offset, 0)
    if file.pack not in packs:
        raise _Invalid(f"{place} is in the pack {file.pack}, which is not among its packs")
    if file.size == 0:
        raise _Invalid(f"{place} is empty, but in a pack")
    if file.offset + file.size > packs[file.pack]:
        raise _Invalid(f"{place} ends at byte {file.offset + file.size} of the pack {file.pack}, which has {packs[file.pack]}")


def _check_whole(manifest):
    """What only all of the manifest tells."""
    paths = [file.path for file in manifest.files]
    found = collision(paths)
    if found:
        raise _Invalid("the paths {!r} and {!r} {}".format(*found))
    for what, names in ("files are", paths), ("packs are", [pack.sha256 for pack in manifest.packs]):
        if any(one >= other for one, other in zip(names, names[1:])):
            raise _Invalid(f"its {what} not sorted, or one is there twice")
    unused = {pack.sha256 for pack in manifest.packs} - {file.pack for file in manifest.files}
    if unused:
        raise _Invalid(f"no file is in the pack {min(unused)}")
    sizes = dict(manifest.packs)
    for file in manifest.files:
        if sizes.setdefault(file.sha256, file.size) != file.size:
            raise _Invalid(f"the file {file.path!r} has {file.size} bytes, but what has its sha256 elsewhere has {sizes[file.sha256]}")


def _check_type(what, value, wanted):
    # To Python, true is a number.
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise _Invalid(f"{what} is not {_TYPES[wanted]}")


_TYPES = {int: "a whole number", str: "text", list: "a list", dict: "an object"}


def _check_keys(what, found, wanted):
    if found.keys() != wanted:
        keys = ", ".join(ascii(key)[:100] for key in sorted(found)[:9]) or "no keys"
        raise _Invalid(f"{what} has {keys}, not {', '.join(sorted(wanted))}")


def _check_digest(what, value):
    _check_type(what, value, str)
    if not _DIGEST.fullmatch(value):
        raise _Invalid(f"{what} is not 64 lower-case hexadecimal digits")


def _check_number(what, value, least):
    _check_type(what, value, int)
    if value < least:
        raise _Invalid(f"{what} is {value}, less than {least}")


def _canonical(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
