# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole files on a host. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import hashlib
import os
import tempfile

from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

_BLOCK = 1 << 20
# How the name of a file begins that is being written, beside where it goes; a run that was killed leaves it.
UNFINISHED = ".modelfleet-"


def sha256_of(path):
    """SHA-256 of the file ``path`` in hexadecimal digits. Raises OSError."""
    with open(path, "rb") as handle:
        return digest_of(handle)


def digest_of(handle, size=None, sink=None, digest=None):
    """SHA-256 of what follows in an open file, of ``size`` bytes or all; it is written to the open file ``sink`` as well.

    A ``digest`` of hashlib that has begun already takes the place of SHA-256.
    """
    digest = hashlib.sha256() if digest is None else digest
    while size is None or size:
        chunk = handle.read(_BLOCK if size is None else min(size, _BLOCK))
        if not chunk:
            break
        digest.update(chunk)
        if sink:
            sink.write(chunk)
        if size is not None:
            size -= len(chunk)
    return digest.hexdigest()


def read_text(path):
    """Return the text of the file ``path`` (str), or None where there is no file."""
    try:
        with open(path, "rb") as handle:
            return to_text(handle.read(), errors="surrogate_or_strict")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as exc:
        raise ModelFleetError("Failed to read {}: {}. Check the file and its permissions.".format(path, exc)) from exc


def refuse_hiding(path):
    """Refuse a file of variables whose directory would have Ansible not read another any more."""
    place, base = os.path.split(os.path.dirname(os.path.abspath(path)))
    others = [base + suffix for suffix in (".yml", ".yaml", ".json") if os.path.isfile(os.path.join(place, base + suffix))]
    if others and os.path.basename(place) == "group_vars":
        raise ModelFleetError(
            f"Refused to write {path}: Ansible would no longer read {os.path.join(place, others[0])} beside a directory "
            f"of that name. Move it to {os.path.join(place, base, 'main.yml')} and run again."
        )


def put_file(module, path, content, shown=None, params=None):
    """Make ``path`` hold exactly ``content`` with the owner, group and mode of the module's file options, or of ``params``.

    The file is written beside its destination, gets its final permissions before it gets its name, and replaces the old one in one step,
    so that a reader sees the old or the new file and a secret is never readable by others.

    ``params`` (owner, group, mode) takes the place of the module's file options for a file that has none.
    ``shown`` is a callable that turns a file's text into what a diff may show (secrets removed); without it the text itself is shown.
    Returns ``(changed: bool, diff: dict)``; obeys check mode. Raises ModelFleetError when the file cannot be read or written.
    """
    shown = shown or (lambda text: text)
    params = module.params if params is None else params
    before = read_text(path)
    changed = before != content
    diff = {
        "before_header": path,
        "after_header": path,
        "before": shown(before) if before is not None else "",
        "after": shown(content),
    }
    if changed and not module.check_mode:
        _replace(module, path, content, params)
    if os.path.exists(path):
        changed = module.set_fs_attributes_if_different(module.load_file_common_arguments(params, path=path), changed)
    return changed, diff


def _replace(module, path, content, params):
    directory = os.path.dirname(path)
    try:
        handle, temporary = tempfile.mkstemp(prefix=UNFINISHED, dir=directory)
    except OSError as exc:
        raise ModelFleetError(
            "Failed to write {}: {}. Check that the directory {} exists and is writable.".format(path, exc.strerror or exc, directory)
        ) from exc
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(to_bytes(content))
            stream.flush()
            os.fsync(stream.fileno())
        module.set_fs_attributes_if_different(module.load_file_common_arguments(params, path=temporary), False)
        os.replace(temporary, path)
    except OSError as exc:
        raise ModelFleetError(
            "Failed to write {}: {}. Check the free space and permissions of {}.".format(path, exc.strerror or exc, directory)
        ) from exc
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
