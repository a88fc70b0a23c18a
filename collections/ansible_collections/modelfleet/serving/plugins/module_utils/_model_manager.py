# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What torchserve_model does with its list. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import os

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._http import Unreachable
from ansible_collections.modelfleet.serving.plugins.module_utils._model import (
    DESCRIBED,
    asked,
    check_list,
    differences,
    file_of,
    title,
    version_key,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._model_record import TORCHSERVE, Record
from ansible_collections.modelfleet.serving.plugins.module_utils._model_registrar import (
    Registrar,
    delete_file,
    has_workers,
    next_default,
    remedies,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._torchserve import TorchServe, ready_workers


class ModelManager:
    """Compares the list with what is served, in check mode with what would be, and keeps the record."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.wanted = module.params["models"]
        self.server = TorchServe(module, module.params["base_url"], module.params["key_file"])
        self.registrar = Registrar(module, self.server)
        self.record = Record(module)
        self.place = self.params["base_url"]
        self.results = []
        # {name: {version: description}}: what is, and in check mode what would be.
        self.served = {}

    def run(self):
        check_list(self.wanted, self.params["via"])
        with self.record.locked():
            self.read_served(sorted({model["name"] for model in self.wanted}))
            before = self.lines()
            for model in self.wanted:
                self.refuse_conflict(model)
            if not self.params["replace_default"]:
                for name in self.served:
                    self.refuse_replacement(name)
            try:
                # A new default version comes before the removal of the old one.
                for model in sorted(self.wanted, key=lambda item: item["state"] == "absent"):
                    self.results.append(self.ensure(model) if model["state"] == "present" else self.remove(model))
            except ModelFleetError as exc:
                exc.result.update(models=self.results, changed=any(result["action"] != "unchanged" for result in self.results))
                raise
            finally:
                self.record.set_defaults(self.served)
                self.record.write()
        order = [(model["name"], model["version"]) for model in self.wanted]
        result = {
            "changed": self.record.changed or any(result["action"] != "unchanged" for result in self.results),
            "models": sorted(self.results, key=lambda item: order.index((item["name"], item["version"]))),
        }
        if self.module._diff:
            result["diff"] = {"before": before, "after": self.lines(), "before_header": self.place, "after_header": self.place}
        return result

    # What is

    def read_served(self, names):
        try:
            for name in names:
                self.served[name] = self.server.describe(name)
        except Unreachable:
            if not self.module.check_mode:
                raise
            # What a start of TorchServe will restore.
            self.served = {name: {} for name in names}
            for entry in self.record.models.values():
                if entry["name"] in self.served and entry["runtime"] == TORCHSERVE:
                    self.served[entry["name"]][entry["version"]] = predicted(entry, entry["file"], entry["device"], entry["default"])

    def ready(self, name, version):
        """Number of workers that are READY where they must be."""
        devices = {(model["name"], model["version"]): self.registrar.device(model) for model in self.wanted}
        return len(ready_workers(self.served[name][version]["workers"], devices.get((name, version), "cpu")))

    def lines(self):
        return "".join(
            f"{name} {version}: {os.path.basename(self.served[name][version]['modelUrl'])}, workers {self.ready(name, version)}"
            + (", default\n" if self.served[name][version]["is_default"] else "\n")
            for name in sorted(self.served)
            for version in sorted(self.served[name], key=version_key)
        )

    # What should be

    def refuse_conflict(self, model):
        """Fail on what would replace a serving version, before anything is changed."""
        here = self.served[model["name"]].get(model["version"])
        if model["state"] == "absent":
            return
        retired = self.record.previous.get((model["name"], model["version"]))
        if retired and retired["file"] != file_of(model):
            raise ModelFleetError(
                f"Refused {title(model)}: this host keeps {retired['file']} of that version for the way back from a rollout, and sha256 "
                f"{model['sha256']} would be {file_of(model)}. Nothing was changed: publish the new content under a new version."
            )
        if here is None:
            return
        wanted, found = file_of(model), os.path.basename(here["modelUrl"])
        if found != wanted:
            raise ModelFleetError(
                f"Refused {title(model)}: it is registered with other content at {self.place}, where it serves {found}, and sha256 "
                f"{model['sha256']} would be {wanted}. Nothing was changed: a rollout "
                "needs a new version, so publish the new content under one, or remove this one (state: absent) first."
            )
        wrong = self.differences(model, here)
        if wrong and ready_workers(here["workers"]):
            advice = remedies([one for one in wrong if one[0] == "device"])
            raise ModelFleetError(
                f"Refused {title(model)}: it is registered with "
                + " and ".join(f"{key} {found}, not {wanted}," for key, wanted, _name, found in wrong)
                + f" at {self.place}. Nothing was changed: it takes effect at registration, so publish a new version, or remove this one "
                "(state: absent) first." + "".join(f" {sentence}" for sentence in advice)
            )

    def refuse_replacement(self, name):
        """Fail where another version than the one that answers requests which name none would do so, before anything is changed."""
        wanted = [model for model in self.wanted if model["name"] == name]
        leaving = {model["version"] for model in wanted if model["state"] == "absent"}
        present = [model for model in wanted if model["state"] == "present"]
        staged = self.record.of(self.record.staged, name)
        if staged and present:
            raise ModelFleetError(
                f"Refused model {name}: a rollout to {staged['version']} came to no end on this host. Nothing was changed: run the "
                "playbook rollout, which goes on, or takes away what is half-way."
            )
        live = next((version for version, one in self.served[name].items() if one["is_default"]), None)
        others = (self.served[name].keys() | {model["version"] for model in present}) - leaving
        new = next((model["version"] for model in present if model["default"]), None)
        new = new or (max(others, key=version_key, default=None) if live in leaving else live)
        # What a start could not restore comes back.
        recorded = self.record.current(name)
        if live and new and new not in (live, recorded and recorded["version"]):
            raise ModelFleetError(
                f"Refused model {name}: {self.place} answers with version {live}, and would with {new}. Nothing was changed: run the "
                f"playbook rollout with {new} as the default version in the list of models."
            )

    def differences(self, model, here):
        return list(differences(model, here, self.registrar.device(model)))

    def ensure(self, model):
        name, version = model["name"], model["version"]
        here = self.served[name].get(version)
        result = outcome(model, file_of(model), self.action(model, here))
        default = self.becomes_default(model, here)
        if self.module.check_mode:
            self.predict(model, here, result["file"], default)
        else:
            self.registrar.apply(model, here, result, default)
            self.served[name] = self.server.describe(name)
        result["workers_ready"] = self.ready(name, version)
        params = asked(model)
        if result["action"] not in ("registered", "reregistered"):
            # What the entry does not name any more is still so.
            params = {**self.still_so(model, here), **params}
        self.record.put(model, result["file"], self.registrar.device(model), params)
        return result

    def action(self, model, here):
        if here is None:
            return "registered"
        # It serves nothing, so that other parameters replace nothing.
        if not here["workers"] or self.differences(model, here):
            return "reregistered"
        if not has_workers(here, model["workers"]):
            return "scaled"
        return "default_set" if model["default"] and not here["is_default"] else "unchanged"

    def becomes_default(self, model, here):
        """Whether this version is to be the default: it says so, or it is and no other says so, even if it must be registered again."""
        if any(other["default"] and other["state"] == "present" for other in self.wanted if other["name"] == model["name"]):
            return model["default"]
        return here["is_default"] if here else (self.record.get(model) or {}).get("default", False)

    def still_so(self, model, here):
        recorded = (self.record.get(model) or {}).get("params", {})
        return {key: value for key, value in recorded.items() if key in DESCRIBED and here.get(DESCRIBED[key], value) == value}

    def predict(self, model, here, file, default):
        others = self.served[model["name"]]
        default = default or (here["is_default"] if here else not others)
        if default:
            for other in others.values():
                other["is_default"] = False
        others[model["version"]] = predicted(model, file, self.registrar.device(model), default)

    def remove(self, model):
        name, version = model["name"], model["version"]
        here, recorded = self.served[name].get(version), self.record.known(model)
        if here:
            file = os.path.basename(here["modelUrl"])
        elif recorded:
            file = recorded["file"]
        else:
            file = file_of(model) if model["sha256"] else ""
        path = os.path.join(self.params["model_store"], file)
        exists = os.path.isfile(path)
        result = outcome(model, file, "removed" if here or recorded or exists else "unchanged")
        leaving = {item["version"] for item in self.wanted if item["name"] == name and item["state"] == "absent"}
        if self.module.check_mode:
            successor = next_default(model, self.served[name], leaving)
            if successor:
                self.served[name][successor]["is_default"] = True
            self.served[name].pop(version, None)
        else:
            if here:
                self.registrar.unregister(model, leaving)
            if exists:
                delete_file(path)
            self.served[name] = self.server.describe(name)
        self.record.drop(model)
        return result


def predicted(model, file, device, default):
    """What TorchServe will describe of an entry of the list or of the record, as far as that is known."""
    workers = model["workers"]
    return {
        "predicted": True,
        "modelUrl": file,
        "minWorkers": workers,
        "maxWorkers": workers,
        "workers": [{"status": "READY", "gpu": device == "gpu"}] * workers,
        "is_default": default,
        **{DESCRIBED[key]: value for key, value in asked({**model, **model.get("params", {})}).items()},
    }


def outcome(model, file, action):
    return {
        "name": model["name"],
        "version": model["version"],
        "file": file,
        "action": action,
        "register_seconds": 0.0,
        "workers_ready": 0,
        "bytes": {},
    }
