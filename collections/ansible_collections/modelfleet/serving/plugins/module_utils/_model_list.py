# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models that a runtime serves from their bundles. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._model import check_list, content_title, file_of, title
from ansible_collections.modelfleet.serving.plugins.module_utils._model_record import Record
from ansible_collections.modelfleet.serving.plugins.module_utils._openai_server import port_of


class ModelList:
    """What bentoml_model, openai_model and triton_model do with theirs.

    A module adds what it serves (_read), how it shows that (_lines), what is wrong with an entry (_check) or with all at once on this host
    (_refuse_all), and how one is served (_ensure) and no more (_remove).
    """

    RUNTIME = ""

    def __init__(self, module, runtime):
        self.module = module
        self.params = module.params
        self.runtime = runtime
        self.record = Record(module)
        self.wanted = [
            # As other runtimes have it, for what all of them share.
            {"default": True, **model, "sha256": (model["sha256"] or "").lower(), "object": None, "workers": 1, "runtime": self.RUNTIME}
            for model in self.params["models"]
        ]

    def run(self):
        self._check_list()
        results = []
        with self.record.locked():
            # What is served, and in check mode what would be.
            self.served = self._read()
            before = self._lines()
            self._refuse_all()
            try:
                # Where both can be, a new one answers before the old one goes; elsewhere the port and the memory of one are free first.
                last = "absent" if self.runtime.SIDE_BY_SIDE else "present"
                for model in sorted(self.wanted, key=lambda one: one["state"] == last):
                    results.append(self._ensure(model) if model["state"] == "present" else self._remove(model))
            except ModelFleetError as exc:
                exc.result.update(models=results, changed=self._changed(results))
                raise
            finally:
                self._settle()
                self.record.write()
        order = [(model["name"], model["version"]) for model in self.wanted]
        result = {
            "changed": self._changed(results),
            "models": sorted(results, key=lambda one: order.index((one["name"], one["version"]))),
        }
        if self.module._diff:
            place = self.runtime.place
            result["diff"] = {"before": before, "after": self._lines(), "before_header": place, "after_header": place}
        return result

    def _settle(self):
        """Say in the record what came of all of them together."""

    def _changed(self, results):
        return self.record.changed or any(result["action"] != "unchanged" for result in results)

    def present(self):
        return [model for model in self.wanted if model["state"] == "present"]

    def _check_list(self):
        several = self.runtime.SIDE_BY_SIDE
        # Versions of one name would all be the default, which is said better below.
        check_list(self.wanted if several else [{**model, "default": False} for model in self.wanted], "api")
        names = set()
        for model in self.present():
            self._check(model)
            if model["name"] in names and not several:
                raise ModelFleetError(
                    f"The list of models has several versions of {model['name']}. Keep one, or give each a name of its own."
                )
            names.add(model["name"])

    def check_port(self, model):
        """Fail on an entry without a port that its server could have."""
        if port_of(model["port"]) is None:
            raise ModelFleetError(f"The {title(model)} in the list of models has no port from 1024 to 65535. Give it one.")

    def check_shared_ports(self):
        """Fail where several models of the list have one port."""
        ports = {}
        for model in self.present():
            other = ports.setdefault(model["port"], model["name"])
            if other != model["name"]:
                raise ModelFleetError(
                    f"The list of models gives the port {model['port']} to {other} and to {model['name']}. Give each its own."
                )

    def leaves(self, name, version):
        return any((model["name"], model["version"], model["state"]) == (name, version, "absent") for model in self.wanted)

    def refuse_retired(self, model):
        """Fail on another content of a version that this host can go back to."""
        retired = self.record.previous.get((model["name"], model["version"]))
        if retired and retired["file"] != file_of(model):
            raise ModelFleetError(
                f"Refused {title(model)}: this host keeps {retired['file']} of that version for the way back from a rollout, and "
                f"{content_title(model)} would be {file_of(model)}. Nothing was changed: publish the new content under a new version."
            )

    def refuse_same_version(self, model, file):
        raise ModelFleetError(
            f"Refused {title(model)}: this host serves {file} under that version, and {content_title(model)} would be "
            f"{file_of(model)}. Nothing was changed: publish the new content under a new version."
        )

    def keep(self, model):
        """Note in the record that a model is served."""
        self.record.put(model, file_of(model), self.runtime.device(model), {})
        self.record.models[model["name"], model["version"]]["default"] = True


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
