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


def read_record(path):
    """Return {(name, version): entry} of the record ``path``, empty without one; raises ModelFleetError when it is damaged.

    An entry has name, version, kind ("object" or "bundle"), file (its file or directory in the model store), sha256, workers, default,
    device ("cpu" or "gpu", where its workers must be) and params.
    """
    text = read_text(path)
    try:
        return _parse(text)
    except (ValueError, KeyError, TypeError) as exc:
        raise ModelFleetError(
            f"Failed to read the record {path}: it is damaged. Run torchserve_model (playbook site), which writes it anew."
        ) from exc


def _parse(text):
    models = json.loads(text)["models"] if text is not None else []
    return {(entry["name"], entry["version"]): {"device": "cpu", "kind": "object", **entry} for entry in models}


@contextmanager
def unchanged(path):
    """Keep out whoever changes the record ``path`` or restores what it says, after those that do it now have ended."""
    try:
        handle = os.open(os.path.dirname(path), os.O_RDONLY)
    except OSError:
        # Nothing was ever served.
        yield
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


class Record:
    """The file that says what this host serves: {"format": 1, "models": [entry, …]}, see read_record.

    restore_models.py reads it on the host and has no part of this collection.
    """

    def __init__(self, module):
        self.module = module
        self.path = module.params["record"]
        self.models = self._read()
        self.changed = False

    def _read(self):
        text = read_text(self.path)
        try:
            return _parse(text)
        except (ValueError, KeyError, TypeError):
            self.module.warn(f"The record {self.path} was damaged and is written anew.")
            return {}

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
            self.models = self._read()
            yield
        finally:
            os.close(handle)

    def get(self, model):
        return self.models.get((model["name"], model["version"]))

    def put(self, model, file, device, params):
        self.models[model["name"], model["version"]] = {
            "name": model["name"],
            "version": model["version"],
            "file": file,
            "kind": "bundle" if model["bundle"] else "object",
            "sha256": model["sha256"],
            "workers": model["workers"],
            "default": False,
            "device": device,
            "params": params,
        }

    def set_defaults(self, served):
        for (name, version), entry in self.models.items():
            if version in served.get(name, {}):
                entry["default"] = served[name][version]["is_default"]

    def drop(self, model):
        self.models.pop((model["name"], model["version"]), None)

    def write(self):
        models = [self.models[key] for key in sorted(self.models)]
        content = json.dumps({"format": 1, "models": models}, indent=2, sort_keys=True) + "\n"
        if not models and read_text(self.path) is None:
            return
        changed, _diff = put_file(
            self.module, self.path, content, params={"owner": "root", "group": self.module.params["record_group"], "mode": "0640"}
        )
        self.changed = self.changed or changed
