# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile caches of models on a host. PRIVATE to the collection: it can have breaking changes at any time.

A cache is a directory of one model for one fingerprint (roles/torchserve/files/compile_cache.py), which workers write. What is published
of it is a bundle with the file IDENTITY in it, which says of which.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import stat
import tempfile

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import UNFINISHED, read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json

# Root's own: what workers write is below a directory that they cannot rename.
DIRECTORY = "/var/lib/modelfleet/compile-caches"
# Of which models a worker finds a cache, see sitecustomize.py.
LIST = "/var/lib/modelfleet/state/compile_caches.json"
# What the unit of TorchServe found out before its last start, which is what the workers use.
STARTED = "/run/torchserve/compile_cache.json"
IDENTITY = "compile-cache.json"
FORMAT = 1
_LARGEST = 1 << 20  # bytes of such a file
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Of one process, and of no use to another.
_LEFT_OUT = re.compile(r"(.*/)?locks/|.*\.(lock|tmp)\Z|(.*/)?\.[^/]*\Z|(.*/)?tmp[^/]*/")


def is_fingerprint(text):
    return isinstance(text, str) and bool(_FINGERPRINT.fullmatch(text))


def cache_path(directory, sha256, fingerprint):
    """Where the cache of a model is; ``sha256`` is that of the model. sitecustomize.py makes the same path."""
    return os.path.join(directory, f"{sha256[:12]}-{fingerprint}")


def parse_fingerprint(text):
    """(fingerprint, parts) as the program on the host says it. Raises ValueError."""
    found = from_json(text)
    if not isinstance(found, dict) or not is_fingerprint(found.get("fingerprint")) or not isinstance(found.get("parts"), dict):
        raise ValueError("no fingerprint")
    return found["fingerprint"], found["parts"]


def started_fingerprint(path):
    """The fingerprint that the workers of this TorchServe use; None where it has none."""
    return started(path)[0] or None


def started(path):
    """(fingerprint, parts) of the same; empty where it has none. TorchServe's user writes the file, so that it may be anything."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as handle:
            return parse_fingerprint(handle.read(_LARGEST).decode("utf-8"))
    except (OSError, ValueError):
        return "", {}


def read_list(path):
    """{"NAME VERSION": sha256 of the model} of the models whose workers look for a cache."""
    try:
        models = from_json(read_text(path) or "{}").get("models", {})
        return {key: sha256 for key, sha256 in models.items() if isinstance(sha256, str) and _SHA256.fullmatch(sha256)}
    except (ValueError, AttributeError):
        return {}


def identity(model, fingerprint):
    """What a cache says of itself."""
    return {"format": FORMAT, "model": model["name"], "version": model["version"], "sha256": model["sha256"], "fingerprint": fingerprint}


def check_identity(path, wanted):
    """Refuse the cache in the directory ``path`` unless it says that it is what ``wanted`` (of ``identity``) says."""
    text = read_text(os.path.join(path, IDENTITY))
    title = f"model {wanted['model']} {wanted['version']}"
    try:
        found = from_json(text) if text is not None else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ModelFleetError(
            f"Refused {path} as the compile cache of {title}: it has no {IDENTITY} that can be read. Nothing was changed: run the playbook "
            "compile, which writes another one into the lock."
        )
    for key, value in wanted.items():
        if found.get(key) != value:
            raise ModelFleetError(
                f"Refused {path} as the compile cache of {title}: its {IDENTITY} says {key} {str(found.get(key))[:80]!a}, and {value} is "
                "wanted. Nothing was changed: take its entry out of the lock and run the playbook compile."
            )


def artifact_of(model, fingerprint):
    """Name and version of the artifact that is the cache of a model, which no model has."""
    return f"{model['name']}.compile", f"{model['version']}-{fingerprint}"


def packable(path):
    """Yield (relative path, open file) of the files below the directory ``path`` that are worth keeping, in order.

    Who writes there may put a link anywhere at any time, so none is followed, and another name of a file that is not theirs is left out.
    """
    owner = os.stat(path).st_uid
    for directory, directories, names, top in os.fwalk(path):
        directories.sort()
        for name in sorted(names):
            within = os.path.relpath(os.path.join(directory, name), path)
            if within == IDENTITY or _LEFT_OUT.match(within):
                continue
            try:
                handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=top)
            except OSError:
                # A link, or gone by now.
                continue
            with open(handle, "rb") as file:
                found = os.fstat(file.fileno())
                if stat.S_ISREG(found.st_mode) and found.st_uid == owner:
                    yield within, file


def make_private(path, owner, fill=None):
    """Make the directory ``path`` for ``owner`` (uid, gid), whole in one step; ``fill`` writes into it before it gets its name."""
    temporary = tempfile.mkdtemp(prefix=UNFINISHED, dir=os.path.dirname(path))
    try:
        if fill:
            fill(temporary)
        for directory, _directories, names in os.walk(temporary, topdown=False):
            for name in names:
                os.chown(os.path.join(directory, name), *owner)
                os.chmod(os.path.join(directory, name), 0o640)
            # Last of all, since from then on its owner may change what is in it.
            os.chmod(directory, 0o750)
            if directory != temporary:
                os.chown(directory, *owner)
        os.chown(temporary, *owner)
        os.rename(temporary, path)
    finally:
        if os.path.isdir(temporary):
            shutil.rmtree(temporary)


def empty(path, owner):
    """Have the cache ``path`` begin anew. The directory itself says that nothing is to be restored there."""
    remove(path)
    make_private(path, owner)


def remove(path):
    """Take a cache away in one step, whatever a process that has not ended yet writes there meanwhile."""
    aside = tempfile.mkdtemp(prefix=UNFINISHED, dir=os.path.dirname(path))
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        pass
    shutil.rmtree(aside, ignore_errors=True)


def remove_unfinished(directory):
    """What a run that was killed has left there."""
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        if name.startswith(UNFINISHED):
            shutil.rmtree(os.path.join(directory, name), ignore_errors=True)


def owner_of(user, group):
    """(uid, gid). Raises ModelFleetError."""
    try:
        return pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid
    except KeyError as exc:
        raise ModelFleetError(
            f"Failed to give a compile cache to {user}:{group}: {exc.args[0]!s}. Run the role modelfleet.serving.modelfleet."
        ) from exc
