# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of a hub, and all else in their caches. PRIVATE to the collection: it can have breaking changes at any time.

What a blob must hold says its name. Which blobs make up a commit that is listed says the lock of the inventory.
"""

from __future__ import annotations

import os
import re
import stat

from ansible_collections.modelfleet.serving.plugins.module_utils._artifact import is_kept, listdir, lstat
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_bundle import is_directory
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_huggingface import HOME_MODE, Place
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._huggingface import check_listed, files_of
from ansible_collections.modelfleet.serving.plugins.module_utils._huggingface_cache import commits, repositories
from ansible_collections.modelfleet.serving.plugins.module_utils._verify import CHANGED, EXTRA, MISSING, UNREADABLE

MODELS = "models"
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def verify_huggingface(look, params):
    """Those of ``params`` (models, huggingface_pins, huggingface_home), and all else that is there."""
    listed = [model for model in params["models"] if model["huggingface"]]
    for model in listed:
        check_listed(model, params["huggingface_pins"])
    # {path of a blob, of a commit, or of the directory of a group: title of the model}
    titles = {}
    try:
        for model in listed:
            _verify_listed(look, params, model, titles)
        for repository in repositories(params["huggingface_home"]):
            _verify_repository(look, repository, titles)
    except OSError as exc:
        look.add(MODELS, "caches of a hub's models", UNREADABLE, exc.filename or params["huggingface_home"], exc.strerror or str(exc))


def _verify_listed(look, params, model, titles):
    place, title = Place(params, model["huggingface"]), "{name} {version}".format(**model)
    files = files_of(model["huggingface"], params["huggingface_pins"])
    if not lstat(place.snapshot):
        look.add(MODELS, title, MISSING, place.snapshot)
        return
    titles[place.snapshot] = titles[place.home] = title
    for file in files:
        # What several have in common is that of the first.
        titles.setdefault(place.blob(file.name), title)
    try:
        _verify_directory(look, title, place.home, HOME_MODE, place.gid())
    except ModelFleetError as exc:
        look.add(MODELS, title, CHANGED, place.home, str(exc))
    for directory in (*place.directories(), place.snapshot):
        _verify_directory(look, title, directory, 0o755)
    for file in files:
        _verify_link(look, title, os.path.join(place.snapshot, file.path), place.target(file))
    for path in sorted({place.blob(file.name) for file in files}):
        if not lstat(path):
            look.add(MODELS, title, MISSING, path)
    for surplus in sorted(set(place.names()) - {file.path for file in files}):
        look.add(MODELS, title, EXTRA, os.path.join(place.snapshot, surplus))
    for path in filter(lstat, place.misleading()):
        look.add(MODELS, title, EXTRA, path, "consumers believe it more than what is here")
    if model["huggingface"]["ref"]:
        _verify_text(look, title, place.ref_path(model["huggingface"]["ref"]), place.commit)
    _verify_text(look, title, place.environment, place.variables())
    has = {"kind": "model", "packing": "huggingface", "name": model["name"], "version": model["version"], "served": False, "sha256": ""}
    look.has({**has, "repo": place.repo, "commit": place.commit, "size": sum(file.size for file in files)})


def _verify_directory(look, title, path, mode, gid=None):
    found = lstat(path)
    if not found:
        look.add(MODELS, title, MISSING, path)
    elif not is_directory(found):
        look.add(MODELS, title, CHANGED, path, "it is no directory")
    elif found.st_uid != os.geteuid() or gid not in (None, found.st_gid) or stat.S_IMODE(found.st_mode) != mode:
        expected = f"{os.geteuid()}{'' if gid is None else f':{gid}'} with {mode:04o}"
        look.add(MODELS, title, CHANGED, path, f"it is of {_of(found)}, expected {expected}")


def _of(status):
    return f"{status.st_uid}:{status.st_gid} with {stat.S_IMODE(status.st_mode):04o}"


def _verify_link(look, title, path, target):
    found = lstat(path)
    if not found:
        look.add(MODELS, title, MISSING, path)
    elif not stat.S_ISLNK(found.st_mode):
        look.add(MODELS, title, CHANGED, path, "it is no link")
    elif os.readlink(path) != target:
        look.add(MODELS, title, CHANGED, path, f"it leads to {os.readlink(path)}, expected {target}")


def _verify_text(look, title, path, expected):
    """A small file, of which nobody has a digest."""
    found = lstat(path)
    if not found:
        look.add(MODELS, title, MISSING, path)
        return
    try:
        content = look.text(path, len(expected) + 1)
    except OSError as exc:
        look.add(MODELS, title, UNREADABLE, path, exc.strerror or str(exc))
        return
    if content != expected:
        look.add(MODELS, title, CHANGED, path)
    elif not is_kept(found, "0644"):
        look.add(MODELS, title, CHANGED, path, f"it is of {_of(found)}, expected {os.geteuid()} with 0444")


def _verify_repository(look, repository, titles):
    """The blobs, and the commits that nobody lists."""
    unlisted = f"{repository.repo} of {repository.group}, which nobody lists"
    if repository.home not in titles:
        _verify_directory(look, unlisted, repository.home, HOME_MODE)
    for name in sorted(listdir(repository.blob(""))):
        path = repository.blob(name)
        title = titles.get(path, unlisted)
        if not _BLOB.fullmatch(name):
            look.add(MODELS, title, EXTRA, path)
        elif look.check(MODELS, title, path, name) == name and not is_kept(os.lstat(path), "0644"):
            look.add(MODELS, title, CHANGED, path, f"it is of {_of(os.lstat(path))}, expected {os.geteuid()} with 0444")
    here = {place.snapshot for place in commits(repository)} - titles.keys()
    for path, blob in repository.linked().items():
        if any(path.startswith(f"{snapshot}/") for snapshot in here) and not lstat(blob):
            look.add(MODELS, unlisted, MISSING, path)
