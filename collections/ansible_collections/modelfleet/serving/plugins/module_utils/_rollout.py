# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that change which version of a model a host serves. PRIVATE to the collection: it can have breaking changes at any time.

Where a model stands is what the record and the runtime say, so that whoever comes after an interrupted run sees it and goes on:
the record's current version is the one that a start restores. It is the old one until the new one has passed everything (finish).
"""

from __future__ import annotations

import os
import time

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import sha256_of
from ansible_collections.modelfleet.serving.plugins.module_utils._model import asked, check_list, content_title, file_of, title
from ansible_collections.modelfleet.serving.plugins.module_utils._model_record import Record, from_record, record_entry

# How long a runtime that was killed may take to answer again.
BACK_S = 120


class Rollout:
    """Each step of ``models``, which the one ``runtime`` serves, is idempotent, keeps the record, and predicts in check mode."""

    def __init__(self, module, runtime, name, models):
        self.module = module
        self.params = module.params
        self.runtime = runtime
        self.runtime_name = name
        self.models = models
        # Where there is no room for two, or no way to have two, a version takes the place of the other.
        self.replaces = self.params["replace"] or not runtime.SIDE_BY_SIDE
        self.record = Record(module)
        self.check = module.check_mode
        self.wanted = []
        # {name: {version: description}}
        self.served = {}
        # {name: when another version became the default}
        self.turned = {}
        # Seconds that only let requests on their way be answered.
        self.waited = 0.0

    def run(self):
        step = {
            "prepared": self.prepare,
            "switched": self.switch,
            "finished": self.finish,
            "undone": self.undo,
            "rolled_back": self.roll_back,
        }
        given = {"state": "present", "default": True, "runtime": self.runtime_name}
        self.wanted = wanted = [{**model, **given} for model in self.models]
        state = self.params["state"]
        self.check_list(wanted, state)
        results = []
        started = time.monotonic()
        with self.record.locked():
            if state == "undone" and not self.check:
                self.runtime.wait_up(BACK_S)
            for name in {model["name"]: None for model in wanted}:
                self.look(name)
            before = self.lines(wanted)
            if state == "prepared":
                for model in wanted:
                    self.refuse(model)
            try:
                for model in wanted:
                    results.append(self.outcome(model))
                    step[state](model, results[-1])
            except ModelFleetError as exc:
                exc.result.update(models=results, changed=self.changed(results))
                raise
            finally:
                self.record.write()
            after = self.lines(wanted)
        seconds = round(time.monotonic() - started - self.waited, 3)
        result = {"changed": self.changed(results), "models": results, "time": time.time(), "seconds": seconds}
        if self.module._diff:
            place = self.runtime.place
            result["diff"] = {"before": before, "after": after, "before_header": place, "after_header": place}
        return result

    def check_list(self, wanted, state):
        if state != "rolled_back":
            check_list(wanted, "api")
            for model in wanted:
                kind = next((kind for kind in ("huggingface", "bundle", "object") if model[kind]), None)
                if not kind:
                    raise ModelFleetError(f"The {title(model)} in the list of models has no object and no bundle. Give the one that it is.")
                if kind not in self.runtime.KINDS:
                    raise ModelFleetError(
                        f"The {title(model)} in the list of models has the kind {kind}, and the runtime {self.runtime_name} loads "
                        f"{' or '.join(self.runtime.KINDS)} only. Publish it as that."
                    )

    def changed(self, results):
        return self.record.changed or any(result["action"] != "unchanged" for result in results)

    # What is

    def look(self, name):
        parts = (self.record.previous, self.record.staged, self.record.models)
        devices = {version: entry["device"] for part in parts for (found, version), entry in part.items() if found == name}
        for model in self.wanted:
            if model["name"] == name and (model["device"] or model["version"] not in devices):
                devices[model["version"]] = self.runtime.device(model)
        self.served[name] = self.runtime.describe(name, devices)

    def set_default(self, name, version):
        self.runtime.set_default(name, version)
        self.turned[name] = time.monotonic()

    def unload(self, name, version):
        """A runtime breaks off what it is answering: what came before another version was the default gets its answer first."""
        if name in self.turned:
            began = time.monotonic()
            time.sleep(max(0.0, self.turned[name] + self.params["grace_s"] - began))
            self.waited += time.monotonic() - began
        self.runtime.unload(name, version)

    def lines(self, wanted):
        lines = []
        for name in dict.fromkeys(model["name"] for model in wanted):
            current, previous, staged = self.record.current(name), self.record.of(self.record.previous, name), self.staged(name)
            default = [version for version, one in self.served[name].items() if one["default"]]
            lines.append(
                f"{name}: answers {', '.join(default) or '-'}, registered {', '.join(sorted(self.served[name])) or '-'}, "
                f"current {version_of(current)}, previous {version_of(previous)}, staged {version_of(staged)}\n"
            )
        return "".join(lines)

    def staged(self, name):
        return self.record.of(self.record.staged, name)

    def outcome(self, model):
        name = model["name"]
        current = self.record.current(name)
        previous = self.record.of(self.record.previous, name)
        file = file_of(model) if model.get("sha256") or model.get("huggingface") else ""
        here = self.served[name].get(model["version"], {})
        return {
            "name": name,
            "version": model["version"],
            "runtime": self.runtime_name,
            "file": file,
            "from": current["version"] if current else "",
            "previous": previous["version"] if previous else "",
            "on_disk": bool(file) and os.path.exists(self.runtime.path(model)),
            "workers": model["workers"],
            "workers_ready": here.get("ready", 0),
            "action": "unchanged",
            "removable": [],
        }

    # What should be

    def refuse(self, model):
        """Fail on what would replace a content that serves, or could, before anything is changed."""
        name, version = model["name"], model["version"]
        current, here = self.record.current(name), self.served[name].get(version)
        live = [version for version, one in self.served[name].items() if one["default"]]
        wanted = file_of(model)
        known = self.record.known(model)
        # What only lies on the disk under the number of an unfinished rollout is no one's.
        found = here["file"] if here else known["file"] if known and not self.is_staged(model) else wanted
        if found != wanted:
            raise ModelFleetError(
                f"Refused {title(model)}: this host has {found} under that version, and {content_title(model)} would be {wanted}. "
                "Nothing was changed: publish the new content under a new version."
            )
        if live and not current:
            raise ModelFleetError(
                f"Refused {title(model)}: {self.runtime.place} serves {name} {live[0]}, which is not in the record {self.record.path}, so "
                "that nothing could bring it back. Nothing was changed: run the playbook site with that version in modelfleet_models first."
            )
        if self.replaces and current and current["version"] != version and not self.is_default(model):
            self.verify(current)

    def is_staged(self, model):
        return (model["name"], model["version"]) in self.record.staged

    def is_default(self, model):
        return self.served[model["name"]].get(model["version"], {}).get("default", False)

    def is_current(self, model):
        current = self.record.current(model["name"])
        return current is not None and current["version"] == model["version"]

    def prepare(self, model, result):
        """The version is registered beside the one that serves and READY; with ``replace`` in its place."""
        name, version = model["name"], model["version"]
        staged = self.staged(name)
        if staged and staged["version"] != version:
            # Of a run that wanted another one and came to no end.
            self.undo(from_record(staged), result)
        if self.is_current(model):
            self.settle(model, result)
            return
        here = self.served[name].get(version)
        entry = record_entry({**model}, file_of(model), self.runtime.device(model), asked(model))
        if here and here["ready"] >= model["workers"]:
            result["workers_ready"] = here["ready"]
            if not self.check:
                self.runtime.wait_ready(model)
            if not self.is_staged(model) and (name, version) not in self.record.models:
                self.stage(entry)
            return
        result["action"] = "prepared"
        if self.check:
            return
        # Known before it begins, so that whoever comes after a crash knows what to take away.
        self.stage(entry)
        self.record.write()
        current = self.record.current(name)
        if here:
            # It came back with its runtime, or lost workers.
            self.unload(name, version)
        if self.replaces and current and current["version"] in self.served[name]:
            self.unload(name, current["version"])
        self.runtime.load({**model, "file": entry["file"]})
        self.look(name)
        result["workers_ready"] = self.served[name][version]["ready"]

    def stage(self, entry):
        if (entry["name"], entry["version"]) not in self.record.models:
            self.record.staged[entry["name"], entry["version"]] = {**entry, "since": int(time.time()), "run": self.params["run"]}

    def settle(self, model, result):
        """The recorded version serves already: make good what an interrupted run left to do."""
        name, version = model["name"], model["version"]
        retired = self.record.of(self.record.previous, name)
        leftover = retired and retired["version"] in self.served[name] and (name, retired["version"]) not in self.record.models
        if not leftover and (self.is_default(model) or version not in self.served[name]):
            return
        result["action"] = "finished" if leftover else "switched"
        if self.check:
            return
        if not self.is_default(model):
            self.set_default(name, version)
        if leftover:
            self.unload(name, retired["version"])
        self.look(name)

    def switch(self, model, result):
        """The version answers requests that name none."""
        name, version = model["name"], model["version"]
        if self.is_default(model):
            return
        if not self.check:
            if version not in self.served[name]:
                raise ModelFleetError(
                    f"Failed to switch to {title(model)}: it is not registered at {self.runtime.place} any more. "
                    "Run the playbook rollout again."
                )
            self.set_default(name, version)
            self.look(name)
        result["action"] = "switched"

    def finish(self, model, result):
        """The version is the current one, the old one is retired: not registered, on the disk, and recorded as the previous one."""
        name, version = model["name"], model["version"]
        if self.is_current(model) and not self.is_staged(model):
            self.settle(model, result)
            return
        result["action"] = "finished"
        if self.check:
            return
        if not self.is_default(model) or not self.record.known(model):
            raise ModelFleetError(
                f"Failed to finish the rollout of {title(model)}: it is not what {self.runtime.place} answers with. "
                "Run the playbook rollout again."
            )
        old = self.record.current(name)
        entry = self.record.staged.pop((name, version), None) or self.record.known(model)
        self.make_current(entry)
        if old:
            self.retire(old, result)

    def make_current(self, entry):
        for (name, _version), other in self.record.models.items():
            if name == entry["name"]:
                other["default"] = False
        kept = {key: value for key, value in entry.items() if key not in ("since", "run", "retired", "rolled_back")}
        self.record.models[entry["name"], entry["version"]] = {**kept, "default": True}

    def retire(self, old, result, rolled_back=False):
        """The record first: after a crash the runtime restores what it says."""
        name, version = old["name"], old["version"]
        current = self.record.current(name)
        if [name, version] in [[one["name"], one["version"]] for one in self.params["keep"]]:
            self.record.write()
            return
        forgotten, removable = self.record.of(self.record.previous, name), None
        self.record.models.pop((name, version), None)
        if forgotten:
            del self.record.previous[name, forgotten["version"]]
            if forgotten["version"] not in (version, current["version"]) and (name, forgotten["version"]) not in self.record.models:
                removable = forgotten
        self.record.previous[name, version] = {
            **old,
            "default": False,
            "retired": int(time.time()),
            "run": self.params["run"],
            "rolled_back": rolled_back,
        }
        # Two versions may be of one commit.
        if removable and not any(removable["file"] == one["file"] for part in self.record.parts() for one in part.values()):
            gone = {"huggingface": removable["params"]} if removable["kind"] == "huggingface" else {"sha256": removable["sha256"]}
            result["removable"].append({"name": name, "version": removable["version"], **gone})
        self.record.write()
        if version in self.served[name]:
            self.unload(name, version)
        self.look(name)

    def undo(self, model, result):
        """The recorded version serves again, and what was staged is gone from the runtime."""
        name = model["name"]
        staged, current = self.staged(name), self.record.current(name)
        if not staged and not (self.is_default(model) and current and not self.is_current(model)):
            return
        result["action"] = "undone"
        if self.check:
            return
        if current:
            self.serve(current)
        leaving = staged or model
        if leaving["version"] in self.served[name] and (name, leaving["version"]) not in self.record.models:
            self.unload(name, leaving["version"])
        if staged:
            del self.record.staged[name, staged["version"]]
        self.look(name)

    def serve(self, entry):
        """A recorded version is READY and the default, loaded from local disk where it is not there."""
        name, version = entry["name"], entry["version"]
        model = {**from_record(entry), "file": entry["file"]}
        here = self.served[name].get(version)
        if here and here["ready"] < entry["workers"]:
            self.runtime.wait_ready(model)
        elif not here:
            self.verify(entry)
            self.load_in_place(model)
        self.look(name)
        if not self.served[name][version]["default"]:
            self.set_default(name, version)
            self.look(name)

    def load_in_place(self, model):
        """Beside what is there, or without ``replace``'s room for both, after it."""
        name = model["name"]
        if self.replaces:
            for version in list(self.served[name]):
                if (name, version) not in self.record.models:
                    self.unload(name, version)
        self.runtime.load(model)

    def verify(self, entry):
        """What the record says can serve again lies on the disk with its content; a bundle's is verified when it is registered."""
        path = self.runtime.path({**from_record(entry), "file": entry["file"]})
        what = f"model {entry['name']} {entry['version']}"
        remedy = "Have the playbook distribute bring that version, or roll out another one."
        if not os.path.exists(path):
            raise ModelFleetError(f"Failed to go back to {what}: {path} is no longer on this host. {remedy}")
        if entry["kind"] == "object":
            try:
                found = sha256_of(path)
            except OSError as exc:
                raise ModelFleetError(f"Failed to read {path} to go back to {what}: {exc.strerror}. {remedy}") from exc
            if found != entry["sha256"]:
                raise ModelFleetError(f"Failed to go back to {what}: {path} has sha256 {found}, expected {entry['sha256']}. {remedy}")

    def roll_back(self, model, result):
        """The previous version serves from local disk, the one before it is retired. ``version`` is the one to leave."""
        name = model["name"]
        staged = self.staged(name)
        if staged:
            self.undo(from_record(staged), result)
        current, previous = self.record.current(name), self.record.of(self.record.previous, name)
        if current and current["version"] != model["version"]:
            return
        if previous is None:
            raise ModelFleetError(
                f"Failed to roll back model {name}: this host has no previous version of it. Nothing was changed. "
                "Put the version that you want into modelfleet_models and run the playbook rollout."
            )
        if previous["version"] not in self.served[name]:
            self.verify(previous)
        result["action"] = "rolled_back"
        if self.check:
            return
        here = self.served[name]
        try:
            if self.replaces and current and current["version"] in here and previous["version"] not in here:
                self.unload(name, current["version"])
            self.serve(previous)
        except ModelFleetError:
            self.look(name)
            if current:
                self.serve(current)
            raise
        del self.record.previous[name, previous["version"]]
        self.make_current(previous)
        result["workers_ready"] = self.served[name][previous["version"]]["ready"]
        if current:
            self.retire(current, result, rolled_back=True)


def version_of(entry):
    return entry["version"] if entry else "-"
