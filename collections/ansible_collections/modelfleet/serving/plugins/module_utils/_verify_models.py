# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models, what they are made of, and what TorchServe unpacked of them. PRIVATE to the collection: it can have breaking changes at any time.

The digest of a model is that of the inventory, of one that is not listed that of the host's own record of what it serves; of a version that
is neither, as one that a rollout retired, the first 12 digits stand in its name.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile

from ansible_collections.modelfleet.serving.plugins.module_utils._bundle import parse_manifest
from ansible_collections.modelfleet.serving.plugins.module_utils._bundle_tree import served_as
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import digest_of
from ansible_collections.modelfleet.serving.plugins.module_utils._model import file_of
from ansible_collections.modelfleet.serving.plugins.module_utils._model_archive import DAMAGED, MANIFEST, described, read_manifest
from ansible_collections.modelfleet.serving.plugins.module_utils._model_record import read_parts
from ansible_collections.modelfleet.serving.plugins.module_utils._verify import CHANGED, EXTRA, MISSING, UNREADABLE

MODELS, UNPACKED = "models", "unpacked"
_NAME = re.compile(r"(?P<title>.+)-(?P<digits>[0-9a-f]{12})(?P<suffix>\.mar)?")
_BLOB = re.compile(r"(?P<sha256>[0-9a-f]{64})(-x)?")


def verify_models(look, params):
    """The models of ``params`` (models, record, model_store, manifest_store, blob_store), and all else that is there."""
    store = params["model_store"]
    known = _wanted(look, params)
    for entry in known.values():
        entry["path"] = os.path.join(store, entry["file"])
        if os.path.lexists(entry["path"]):
            _verify_model(look, params, entry)
        elif entry["served"]:
            look.add(MODELS, entry["title"], MISSING, entry["path"])
    names = {entry["file"] for entry in known.values()}
    for name in _listed(look, store):
        if name in names:
            continue
        found = _NAME.fullmatch(name)
        path = os.path.join(store, name)
        if not found or os.path.islink(path):
            look.add(MODELS, "model store", EXTRA, path)
            continue
        entry = {"title": f"version {found['title']}, which nobody lists", "path": path, "digits": found["digits"]}
        _verify_model(look, params, {**entry, "kind": "object" if found["suffix"] else "bundle"})
    _verify_blobs(look, params["blob_store"])


def _wanted(look, params):
    """{(name, version): entry} of what the record says and what the inventory lists, whose digest counts."""
    known = {}
    try:
        parts = read_parts(params["record"])
    except ModelFleetError as exc:
        look.add(MODELS, "record of what this host serves", UNREADABLE, params["record"], str(exc))
        parts = {}
    # A version that is in two parts is served.
    for part in ("previous", "staged", "models"):
        for (name, version), entry in parts.get(part, {}).items():
            if entry["kind"] == "huggingface":
                # Where it lies, everything is verified by its name.
                continue
            one = {"name": name, "version": version, "sha256": entry["sha256"], "file": entry["file"], "kind": entry["kind"]}
            known[name, version] = {**one, "served": part == "models"}
    for model in params["models"]:
        if model["huggingface"]:
            continue
        kind = "bundle" if model["bundle"] else "object"
        sha256 = model["sha256"].lower()
        before = known.get((model["name"], model["version"]))
        if before and before["sha256"] != sha256:
            detail = f"it says the sha256 {before['sha256']}, and modelfleet_models {sha256}"
            look.add(MODELS, f"{model['name']} {model['version']}", CHANGED, params["record"], detail)
        elif not before:
            one = {"name": model["name"], "version": model["version"], "sha256": sha256, "kind": kind}
            # Whether it should be served already, doctor says.
            known[model["name"], model["version"]] = {**one, "file": file_of({**model, "sha256": sha256}), "served": False}
    for (name, version), entry in known.items():
        entry["title"] = f"{name} {version}"
    return known


def _verify_model(look, params, entry):
    if entry["kind"] == "object":
        _verify_object(look, entry)
    else:
        _verify_bundle(look, params, entry)


def _verify_object(look, entry):
    title, path = entry["title"], entry["path"]
    if "sha256" in entry:
        found = look.check(MODELS, title, path, entry["sha256"])
        if found:
            _has(look, entry, found)
        return
    try:
        found = look.sha256(path)
    except OSError as exc:
        look.add(MODELS, title, UNREADABLE, path, exc.strerror or str(exc))
        return
    if not found.startswith(entry["digits"]):
        look.add(MODELS, title, CHANGED, path, f"it has the sha256 {found}, which its name does not begin with")


def _verify_bundle(look, params, entry):
    title, path = entry["title"], entry["path"]
    manifest_path = _manifest_path(params["manifest_store"], entry)
    if manifest_path is None:
        look.add(MODELS, title, MISSING, os.path.join(params["manifest_store"], f"{entry['digits']}*.json"))
        return
    expected = os.path.basename(manifest_path)[:64]
    found = look.check(MODELS, title, manifest_path, expected)
    if found != expected:
        return
    try:
        with open(manifest_path, "rb") as handle:
            manifest = parse_manifest(handle.read(), manifest_path)
    except (OSError, ModelFleetError) as exc:
        look.add(MODELS, title, UNREADABLE, manifest_path, str(exc))
        return
    if os.path.islink(path) or not os.path.isdir(path):
        look.add(MODELS, title, CHANGED, path, "it is no directory")
        return
    there = {os.path.relpath(os.path.join(parent, name), path) for parent, name in _names_below(path)}
    for file in manifest.files:
        look.check(MODELS, title, os.path.join(path, file.path), file.sha256)
    for surplus in sorted(there - {file.path for file in manifest.files}):
        look.add(MODELS, title, EXTRA, os.path.join(path, surplus))
    if "sha256" in entry:
        _has(look, entry, found, sum(file.size for file in manifest.files))


def _manifest_path(store, entry):
    if "sha256" in entry:
        return os.path.join(store, f"{entry['sha256']}.json")
    try:
        names = [name for name in os.listdir(store) if name.startswith(entry["digits"]) and name.endswith(".json")]
    except OSError:
        names = []
    return os.path.join(store, names[0]) if len(names) == 1 else None


def _has(look, entry, sha256, size=None):
    if size is None:
        size = os.path.getsize(entry["path"])
    kept = {key: entry[key] for key in ("name", "version", "served")}
    look.has({"kind": "model", "packing": entry["kind"], "sha256": sha256, "size": size, **kept})


def _names_below(path):
    """(directory, name) of every file and link."""
    for parent, directories, names in os.walk(path):
        links = [name for name in directories if os.path.islink(os.path.join(parent, name))]
        for name in (*names, *links):
            yield parent, name


def _listed(look, directory):
    try:
        return sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as exc:
        look.add(MODELS, "model store", UNREADABLE, directory, exc.strerror)
        return []


def _verify_blobs(look, store):
    """Most are other names of what was read; the rest the next version may be made of."""
    for name in _listed(look, store):
        found = _BLOB.fullmatch(name)
        path = os.path.join(store, name)
        if found:
            look.check(MODELS, "blobs", path, found["sha256"])
        else:
            look.add(MODELS, "blobs", EXTRA, path)


def verify_unpacked(look, unpack_dir, model_store):
    """Every file that TorchServe unpacked of an archive, which is what its workers load, against the archive.

    Its user may write there. What a model wrote beside its files while it ran is extra only where Python would import it.
    """
    archives = None
    for name in _listed(look, unpack_dir):
        directory = os.path.join(unpack_dir, name)
        # Of a bundle it has a link.
        if os.path.islink(directory):
            continue
        served = served_as(directory) if _is_plain(os.path.join(directory, MANIFEST)) else None
        if not served:
            look.add(UNPACKED, "what TorchServe unpacked", EXTRA, directory, "it has no manifest of a model")
            continue
        if archives is None:
            archives = _archives(model_store)
        candidates = [one for one in archives if one[0] == served]
        if candidates:
            _verify_tree(look, directory, f"{served[0]} {served[1]}", [path for _served, path in candidates])
        else:
            look.add(UNPACKED, f"{served[0]} {served[1]}", EXTRA, directory, "the model store has no archive of it")


def _is_plain(path):
    """Whether it is a file: a pipe would be waited for without an end."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _archives(store):
    """[((name, version), path)] of the archives in the model store that can be read."""
    found = []
    for name in sorted(os.listdir(store)) if os.path.isdir(store) else []:
        path = os.path.join(store, name)
        if name.endswith(".mar") and _is_plain(path):
            try:
                with zipfile.ZipFile(path) as archive:
                    found.append((described(read_manifest(archive))[:2], path))
            except (OSError, KeyError, ValueError, *DAMAGED):
                continue
    return found


def _verify_tree(look, directory, title, archives):
    """Of several archives of one name and version it may be of any."""
    there = {os.path.relpath(os.path.join(parent, name), directory) for parent, name in _names_below(directory)}
    differences = None
    for path in archives:
        try:
            found = list(_differences(look, directory, path, there))
        except (OSError, *DAMAGED) as exc:
            found = [(UNREADABLE, path, str(exc))]
        if differences is None or len(found) < len(differences):
            differences = found
        if not differences:
            return
    for state, path, detail in differences:
        look.add(UNPACKED, title, state, path, detail)


def _differences(look, directory, path, there):
    with zipfile.ZipFile(path) as archive:
        members = {os.path.normpath(one.filename): one for one in archive.infolist() if not one.is_dir()}
        for name, member in sorted(members.items()):
            whole = os.path.join(directory, name)
            if name not in there:
                yield MISSING, whole, ""
                continue
            with archive.open(member) as handle:
                expected = digest_of(handle, sink=look)
            try:
                found = look.sha256(whole)
            except OSError as exc:
                yield UNREADABLE, whole, exc.strerror or str(exc)
                continue
            if found != expected:
                yield CHANGED, whole, f"it has the sha256 {found}, and in {path} {expected}"
        for name in sorted(there - members.keys()):
            if name.endswith((".py", ".so", ".pth")):
                yield EXTRA, os.path.join(directory, name), ""
