# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of what a host serves. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import put_file, read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._model import DESCRIBED
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json

# The runtime of an entry that names none: hosts keep the files that they have.
TORCHSERVE = "torchserve"
# What the record says, by its key in the file.
_PARTS = ("models", "previous", "staged")
# What an entry must have, and what stands for the rest where it has not: what is written otherwise is not what was meant.
_ENTRY = {"name": str, "version": str, "file": str}
_REST = {"kind": "object", "sha256": "", "workers": 1, "default": False, "device": "cpu", "params": {}, "runtime": TORCHSERVE}
# Where a commit of a hub lies on this host.
_COMMIT = ("repo", "revision", "group")
_MORE = {"previous": {"retired": 0, "run": "", "rolled_back": False}, "staged": {"since": 0, "run": ""}}


def read_record(path):
    """Return {(name, version): entry} of what the record ``path`` says is served, empty without one.

    Raises ModelFleetError when it is damaged. An entry has name, version, kind ("object", "bundle" or "huggingface"), file (its file or
    directory in the model store, or the commit), sha256, workers, default, device ("cpu" or "gpu", where its workers must be), params (of
    the registration, or where the commit lies) and runtime.
    """
    return read_parts(path)["models"]


def read_parts(path):
    """{part: {(name, version): entry}}, see Record: "models" is what read_record returns, "previous" and "staged" are beside it."""
    text = read_text(path)
    try:
        return _parse(text)
    except (ValueError, KeyError, TypeError) as exc:
        raise ModelFleetError(
            f"Failed to read the record {path}: it is damaged. Run torchserve_model (playbook site), which writes it anew."
        ) from exc


def _parse(text):
    """{part: {(name, version): entry}}; a host without a rollout has no other part than its models."""
    found = from_json(text) if text is not None else {"models": []}
    parts = {part: found[part] if part == "models" else found.get(part, []) for part in _PARTS}
    return {part: {(entry["name"], entry["version"]): _checked(entry, part) for entry in entries} for part, entries in parts.items()}


def _checked(entry, part):
    """An entry of the record with all of its keys. Raises KeyError or TypeError for one in which something else is than must be."""
    rest = {**_REST, **_MORE.get(part, {})}
    entry = {**rest, **entry}
    for key, kind in {**_ENTRY, **{key: type(value) for key, value in rest.items()}}.items():
        # A time may have a fraction.
        if not isinstance(entry[key], (int, float) if key in ("retired", "since") else kind):
            raise TypeError(key)
    if entry["kind"] == "huggingface" and not all(isinstance(entry["params"].get(key), str) for key in _COMMIT):
        raise TypeError("params")
    return entry


def of_runtime(entries, runtime):
    """The part of {(name, version): entry} that one runtime serves."""
    return {key: entry for key, entry in entries.items() if entry["runtime"] == runtime}


@contextmanager
def unchanged(path, wait=True):
    """Keep out whoever changes the record ``path`` or restores what it says, after those that do it now have ended.

    Yields whether they are kept out: without ``wait`` who does it now goes on.
    """
    try:
        handle = os.open(os.path.dirname(path), os.O_RDONLY)
    except OSError:
        # Nothing was ever served.
        yield True
        return
    try:
        alone = True
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            alone = False
        yield alone
    finally:
        os.close(handle)


class Record:
    """The file that says what this host serves: {"format": 1, "models": [entry, …]}, see read_record.

    Where a rollout was, ``previous`` and ``staged`` are beside ``models``. ``models`` is what a start restores. ``previous`` has for each
    model the version that a rollout retired last: it is on this host's disk and can serve again without the network; beside the keys of an
    entry it has ``retired`` (seconds since the epoch), ``run`` (which run did it) and ``rolled_back`` (whether that was a rollback).
    ``staged`` is what a rollout has brought up and not finished, so that nothing restores it; it has ``since`` and ``run``.
    restore_models.py reads the models on the host and has no part of this collection.
    """

    def __init__(self, module):
        self.module = module
        self.path = module.params["record"]
        self._load()
        self.changed = False

    def _load(self):
        text = read_text(self.path)
        try:
            parts = _parse(text)
        except (ValueError, KeyError, TypeError):
            self.module.warn(f"The record {self.path} was damaged and is written anew.")
            parts = _parse(None)
        self.models, self.previous, self.staged = (parts[part] for part in _PARTS)

    @contextmanager
    def locked(self):
        """Keep torchserve-models.service out while this module works, and wait for it to finish first."""
        directory = os.path.dirname(self.path)
        try:
            handle = os.open(directory, os.O_RDONLY)
        except OSError as exc:
            if not self.module.check_mode:
                raise ModelFleetError(
                    f"Failed to open the state directory {directory}: {exc.strerror}. Run the role modelfleet.serving.torchserve first."
                ) from exc
            yield
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            self._load()
            yield
        finally:
            os.close(handle)

    def parts(self):
        return self.models, self.previous, self.staged

    def get(self, model):
        return self.models.get((model["name"], model["version"]))

    def put(self, model, file, device, params):
        key = model["name"], model["version"]
        self.models[key] = {**record_entry(model, file, device, params), "default": self.models.get(key, {}).get("default", False)}

    def set_defaults(self, served):
        staged = {name for name, version in self.staged if served.get(name, {}).get(version, {}).get("is_default")}
        for (name, version), entry in self.models.items():
            # What a rollout has not finished is not what a start restores.
            if version in served.get(name, {}) and name not in staged:
                entry["default"] = served[name][version]["is_default"]

    def known(self, model):
        """The entry of a version, served or not."""
        key = model["name"], model["version"]
        return next((part[key] for part in (self.models, self.staged, self.previous) if key in part), None)

    def current(self, name):
        """The entry of the version that answers requests which name none, as a start restores it; None without one."""
        entries = [entry for (found, _version), entry in self.models.items() if found == name]
        return next((entry for entry in entries if entry["default"]), entries[0] if len(entries) == 1 else None)

    def of(self, part, name):
        """The entry of a model in ``previous`` or ``staged``; None without one."""
        return next((entry for (found, _version), entry in part.items() if found == name), None)

    def drop(self, model):
        for part in (self.models, self.previous, self.staged):
            part.pop((model["name"], model["version"]), None)

    def write(self):
        parts = {part: getattr(self, part) for part in _PARTS}
        # A host without a rollout keeps the file that it has.
        lists = {
            part: [_written(entries[key]) for key in sorted(entries)] for part, entries in parts.items() if entries or part == "models"
        }
        content = json.dumps({"format": 1, **lists}, indent=2, sort_keys=True) + "\n"
        if not any(parts.values()) and read_text(self.path) is None:
            return
        changed, _diff = put_file(
            self.module, self.path, content, params={"owner": "root", "group": self.module.params["record_group"], "mode": "0640"}
        )
        self.changed = self.changed or changed


def _written(entry):
    return {key: value for key, value in entry.items() if (key, value) != ("runtime", TORCHSERVE)}


def record_entry(model, file, device, params):
    source = model.get("huggingface")
    return {
        "name": model["name"],
        "version": model["version"],
        "file": file,
        "kind": "huggingface" if source else "bundle" if model["bundle"] else "object",
        "sha256": model["sha256"] or "",
        "workers": model["workers"],
        "default": False,
        "device": device,
        "params": {key: source[key] for key in _COMMIT} if source else params,
        "runtime": model.get("runtime") or TORCHSERVE,
    }


def from_record(entry):
    """An entry of the record as one of a list of models, as far as a registration from local disk needs it."""
    model = {"object": None, "bundle": None, "huggingface": None, **dict.fromkeys(DESCRIBED)}
    model.update({key: entry[key] for key in ("name", "version", "sha256", "workers", "device", "runtime")})
    if entry["kind"] == "huggingface":
        return {**model, "huggingface": entry["params"]}
    return {**model, **entry.get("params", {}), "bundle": entry["file"] if entry["kind"] == "bundle" else None}
