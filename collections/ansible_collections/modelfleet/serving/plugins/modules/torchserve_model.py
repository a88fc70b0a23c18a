#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: torchserve_model
short_description: Register models at TorchServe
description:
  - Makes each model of a list registered at its version with a number of READY workers, optionally as the default version, or absent.
  - A model reaches the host through the endpoint plugin and Dragonfly (O(via=plugin)), or is a file that lies in the model store already (O(via=api)).
  - A version that is registered with other content is never replaced. That fails before anything is changed.
  - What this host serves is recorded in O(record), so that C(torchserve-models.service) can restore it without Ansible.
version_added: 0.1.0
author: ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
attributes:
  check_mode:
    support: partial
    details: Where TorchServe does not answer yet, the prediction comes from O(record), since that is what a start restores.
options:
  models:
    description: The models.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the model, equal to the one in the archive's manifest.
        type: str
        required: true
      version:
        description: Version of the model, equal to the one in the archive's manifest.
        type: str
        required: true
      object:
        description: Key of the C(.mar) in the object store. Required with O(via=plugin) and O(models[].state=present).
        type: str
      sha256:
        description: The sha256 of the C(.mar), 64 hexadecimal digits. Required with O(models[].state=present).
        type: str
      workers:
        description: Number of READY workers.
        type: int
        default: 1
      default:
        description: Make this version answer requests that name no version. The first version of a model is that by itself.
        type: bool
        default: false
      state:
        description: Whether the version is served. V(absent) also removes its file from the model store and from the record.
        type: str
        choices: [present, absent]
        default: present
      batch_size:
        description: Largest batch of inference requests. Without it C(model-config.yaml) decides.
        type: int
      max_batch_delay:
        description: Longest wait for a batch to fill, in milliseconds.
        type: int
      response_timeout:
        description: Longest time of one inference, in seconds.
        type: int
      startup_timeout:
        description: Longest time for a worker to load the model, in seconds. TorchServe 0.12.0 or newer.
        type: int
  via:
    description: How a model gets to TorchServe.
    type: str
    choices:
      plugin: TorchServe's endpoint plugin downloads, verifies and registers it.
      api: The file lies in O(model_store) already under the name C(NAME-VERSION-SHA12.mar); it is verified and registered.
    default: plugin
  device:
    description: With V(gpu) a worker that fell back to the CPU is not ready.
    type: str
    choices: [cpu, gpu]
    default: cpu
  base_url:
    description: URL of TorchServe's management API.
    type: str
    default: http://127.0.0.1:8081
  key_file:
    description: The file with TorchServe's keys. It is read again for every call and never printed.
    type: path
    default: /var/lib/torchserve/key_file.json
  model_store:
    description: TorchServe's model store.
    type: path
    default: /var/lib/modelfleet/models
  record:
    description: The file that records what this host serves.
    type: path
    default: /var/lib/modelfleet/state/models.json
  record_group:
    description: Group that may read O(record), the one of TorchServe's user.
    type: str
    default: torchserve
  dfdaemon_metrics_url:
    description: Metrics of this host's dfdaemon, from which the bytes by source come.
    type: str
    default: http://127.0.0.1:4002/metrics
  timeout:
    description: Longest time for one model to be downloaded and registered, and again for its workers to become READY, in seconds.
    type: int
    default: 1800
seealso:
  - module: modelfleet.serving.torchserve_info
  - module: modelfleet.serving.inference_check
"""

EXAMPLES = r"""
- name: Serve a model
  modelfleet.serving.torchserve_model:
    models:
      - name: resnet50
        version: "1.0"
        object: models/resnet50/1.0/resnet50.mar
        sha256: 0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a
        workers: 2

- name: Add a version, make it the default and remove the old one
  modelfleet.serving.torchserve_model:
    models:
      - name: resnet50
        version: "2.0"
        object: models/resnet50/2.0/resnet50.mar
        sha256: 5b7a8e9d6c2b1a0f3a5e9c1f0c3c0d4f0f3a5e9c1f0c3c0d4f5b7a8e9d6c2b1a
        default: true
      - name: resnet50
        version: "1.0"
        state: absent
"""

RETURN = r"""
models:
  description: What was done for each model, in the order of O(models).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model.
      type: str
    version:
      description: Version of the model.
      type: str
    file:
      description: Name of its file in the model store; empty for an absent one that had none.
      type: str
    action:
      description: What was done, V(registered), V(reregistered), V(scaled), V(default_set), V(removed) or V(unchanged).
      type: str
    register_seconds:
      description: How long the download and the registration took; 0 when it was registered before.
      type: float
    workers_ready:
      description: Number of READY workers.
      type: int
    bytes:
      description: Bytes that dfdaemon moved meanwhile, by source. Empty when nothing was downloaded.
      type: dict
  sample:
    - name: resnet50
      version: "1.0"
      file: resnet50-1.0-0f3a5e9c1f0c.mar
      action: registered
      register_seconds: 4.2
      workers_ready: 2
      bytes: {origin: 0, remote_peer: 102760448, local_peer: 0}
"""

import fcntl
import json
import os
import re
import time
from contextlib import contextmanager

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.modelfleet.serving.plugins.module_utils._dfdaemon import read_traffic
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import put_file, read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._torchserve import (
    KEY_FILE,
    MANAGEMENT_URL,
    WORKER_BOOT_S,
    TorchServe,
    Unreachable,
    model_file,
    ready_workers,
)

PARAMS = ("batch_size", "max_batch_delay", "response_timeout", "startup_timeout")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Record:
    """The file that says what this host serves: {"format": 1, "models": [{name, version, file, sha256, workers, default, params}]}."""

    def __init__(self, module):
        self.module = module
        self.path = module.params["record"]
        self.models = self._read()
        self.changed = False

    def _read(self):
        text = read_text(self.path)
        if text is None:
            return {}
        try:
            return {(entry["name"], entry["version"]): entry for entry in json.loads(text)["models"]}
        except (ValueError, KeyError, TypeError):
            self.module.warn("The record {0} was damaged and is written anew.".format(self.path))
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
                    "Failed to open the state directory {0}: {1}. Run the role modelfleet.serving.torchserve first.".format(
                        directory, exc.strerror
                    )
                ) from exc
            yield
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            self.models = self._read()
            yield
        finally:
            os.close(handle)

    def put(self, entry):
        key = (entry["name"], entry["version"])
        if entry["default"]:
            for other in self.models.values():
                if other["name"] == entry["name"] and other["version"] != entry["version"]:
                    other["default"] = False
        self.models[key] = entry

    def drop(self, name, version):
        self.models.pop((name, version), None)

    def write(self):
        models = [self.models[key] for key in sorted(self.models)]
        content = json.dumps({"format": 1, "models": models}, indent=2, sort_keys=True) + "\n"
        if not models and read_text(self.path) is None:
            return
        changed, _diff = put_file(
            self.module, self.path, content, params={"owner": "root", "group": self.module.params["record_group"], "mode": "0640"}
        )
        self.changed = self.changed or changed


class ModelManager:
    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.server = TorchServe(module, module.params["base_url"], module.params["key_file"])
        self.record = Record(module)
        self.place = self.params["base_url"]
        self.results = []
        self.served = {}

    def run(self):
        wanted = self.params["models"]
        check_list(wanted, self.params["via"])
        with self.record.locked():
            before = self.read_served(wanted)
            for model in wanted:
                self.refuse_conflict(model)
            try:
                for model in sorted(wanted, key=lambda item: item["state"] == "absent"):
                    self.results.append(self.ensure(model) if model["state"] == "present" else self.remove(model, wanted))
            except ModelFleetError as exc:
                exc.result.update(changed=self.changed, models=self.results)
                raise
            finally:
                self.record.write()
            after = self.predict(before, wanted) if self.module.check_mode else self.read_served(wanted)
        order = [(model["name"], model["version"]) for model in wanted]
        result = {"models": sorted(self.results, key=lambda item: order.index((item["name"], item["version"]))), "changed": self.changed}
        if self.module._diff:
            result["diff"] = {"before": _lines(before), "after": _lines(after), "before_header": self.place, "after_header": self.place}
        return result

    @property
    def changed(self):
        return self.record.changed or any(result["action"] != "unchanged" for result in self.results)

    # What is

    def read_served(self, wanted):
        """Fill ``self.served`` = {name: {version: description}} and return its comparable form."""
        names = sorted({model["name"] for model in wanted})
        try:
            self.served = {name: self.server.describe(name) for name in names}
        except Unreachable:
            if not self.module.check_mode:
                raise
            self.served = {name: self.recorded(name) for name in names}
        return [
            {
                "name": name,
                "version": version,
                "file": os.path.basename(item["modelUrl"]),
                "workers": len(self.ready(item)),
                "default": item["is_default"],
            }
            for name in names
            for version, item in sorted(self.served[name].items())
        ]

    def recorded(self, name):
        """What a start of TorchServe will restore, in the shape of a description."""
        return {
            entry["version"]: {
                "modelUrl": entry["file"],
                "is_default": entry["default"],
                "minWorkers": entry["workers"],
                "workers": [{"status": "READY"}] * entry["workers"],
                "restored": True,
            }
            for entry in self.record.models.values()
            if entry["name"] == name
        }

    def ready(self, item):
        return ready_workers(item["workers"], "cpu" if item.get("restored") else self.params["device"])

    def predict(self, before, wanted):
        """What the list of served models would be after the run."""
        gone = {(model["name"], model["version"]) for model in wanted}
        kept = [item for item in before if (item["name"], item["version"]) not in gone]
        files = {(item["name"], item["version"]): item for item in self.results}
        moved = {model["name"] for model in wanted if model["default"]}
        for item in kept:
            item = dict(item)
            if item["name"] in moved:
                item["default"] = False
        new = [
            {
                "name": model["name"],
                "version": model["version"],
                "file": files[model["name"], model["version"]]["file"],
                "workers": model["workers"],
                "default": self.becomes_default(model),
            }
            for model in wanted
            if model["state"] == "present"
        ]
        return sorted(kept + new, key=lambda item: (item["name"], item["version"]))

    def becomes_default(self, model):
        served = self.served[model["name"]]
        if model["default"]:
            return True
        here = served.get(model["version"])
        return here["is_default"] if here else not served

    # What should be

    def refuse_conflict(self, model):
        """Fail on what would replace a serving version, before anything is changed."""
        here = self.served[model["name"]].get(model["version"])
        if model["state"] == "absent" or here is None:
            return
        wanted, found = model_file(model["name"], model["version"], model["sha256"]), os.path.basename(here["modelUrl"])
        if found != wanted:
            raise ModelFleetError(
                "Model {name} {version} at {0} is registered with other content: it serves the file {1}, sha256 {sha256} would be {2}. "
                "Nothing was changed; run rollout, or publish the new content under a new version.".format(
                    self.place, found, wanted, **model
                )
            )
        recorded = self.record.models.get((model["name"], model["version"]), {}).get("params", {})
        for key in PARAMS:
            if model[key] is not None and key in recorded and recorded[key] != model[key]:
                raise ModelFleetError(
                    "Model {name} {version} at {0} is registered with {1} {2}, not {3}. Nothing was changed: it takes effect at registration, so "
                    "publish it as a new version, or remove this one (state: absent) first.".format(
                        self.place, key, recorded[key], model[key], **model
                    )
                )

    def ensure(self, model):
        name, version, workers = model["name"], model["version"], model["workers"]
        result = {
            "name": name,
            "version": version,
            "file": model_file(name, version, model["sha256"]),
            "action": "unchanged",
            "register_seconds": 0.0,
            "workers_ready": workers,
            "bytes": {},
        }
        here = self.served[name].get(version)
        if here is not None and not here["workers"] and workers:
            result["action"] = "reregistered"
        elif here is None:
            result["action"] = "registered"
        elif here["minWorkers"] != workers or len(self.ready(here)) < workers:
            result["action"] = "scaled"
        if not self.module.check_mode:
            self.apply(model, here, result)
        if self.becomes_default(model) and not (here and here["is_default"]) and result["action"] == "unchanged":
            result["action"] = "default_set"
        self.remember(model, result)
        return result

    def apply(self, model, here, result):
        name, version, workers = model["name"], model["version"], model["workers"]
        started = time.monotonic()
        if result["action"] == "reregistered":
            self.server.unregister(name, version)
        if result["action"] in ("registered", "reregistered"):
            result["bytes"] = self.register(model, result["file"])
            result["register_seconds"] = round(time.monotonic() - started, 3)
        elif here["minWorkers"] != workers:
            self.server.scale(name, version, workers)
        result["workers_ready"] = self.server.wait_ready(name, version, workers, self.params["timeout"], self.params["device"])
        if model["default"] and not (here and here["is_default"]):
            self.server.set_default(name, version)

    def register(self, model, file):
        """Register, once more after a failure that left the name behind; returns the bytes by source."""
        traffic = self.traffic()
        query = {
            "initial_workers": model["workers"],
            "synchronous": "true",
            **{key: model[key] for key in PARAMS if model[key] is not None},
        }
        if self.params["via"] == "plugin":
            path = "/dragonfly/models"
            query.update(file_name=model["object"], sha256=model["sha256"], model_name=model["name"], model_version=model["version"])
        else:
            path = "/models"
            query.update(url=file)
            self.verify_file(model, file)
        timeout = self.params["timeout"] + (model["startup_timeout"] or 0) + WORKER_BOOT_S
        answer = self.server.register(query, path, timeout)
        if answer.status >= 500 and model["version"] in self.server.describe(model["name"]):
            self.server.unregister(model["name"], model["version"])
            answer = self.server.register(query, path, timeout)
        if answer.status >= 300 and answer.status != 409:
            leftover = self.server.describe(model["name"]).get(model["version"])
            if leftover and not leftover["workers"]:
                self.server.unregister(model["name"], model["version"])
            raise ModelFleetError(self.explain(model, answer))
        self.require_content(model, file)
        after = self.traffic()
        return {source: max(0, after[source] - traffic[source]) for source in after} if traffic and after else {}

    def require_content(self, model, file):
        """What is registered now is the version and the content that was asked for."""
        here = self.server.describe(model["name"]).get(model["version"])
        if here is None:
            raise ModelFleetError(
                "Registered the object {object} at {0}, but it is not model {name} {version}. Make name and version in modelfleet_models equal "
                "to the archive's MAR-INF/MANIFEST.json.".format(self.place, **model)
            )
        if os.path.basename(here["modelUrl"]) != file:
            raise ModelFleetError(
                "Model {name} {version} at {0} serves the file {1} instead of {2}. Set require_sha256 in the endpoint plugin's config.json, remove "
                "the model (state: absent) and run again.".format(self.place, os.path.basename(here["modelUrl"]), file, **model)
            )

    def verify_file(self, model, file):
        path = os.path.join(self.params["model_store"], file)
        if not os.path.isfile(path):
            raise ModelFleetError(
                "Failed to register model {name} {version}: {0} does not exist on this host. Bring it there first, or use via: plugin.".format(
                    path, **model
                )
            )
        found = self.module.sha256(path)
        if found != model["sha256"].lower():
            raise ModelFleetError(
                "Failed to register model {name} {version}: {0} on this host has sha256 {1}, expected {sha256}. Remove the file and bring the "
                "right one.".format(path, found, **model)
            )

    def explain(self, model, answer):
        said = answer.message.rstrip(".")
        place = "{0}{1}".format(self.place, "/dragonfly/models" if self.params["via"] == "plugin" else "/models")
        if self.params["via"] == "plugin" and answer.status in (404, 405) and "Requested" in said:
            return (
                "Failed to register model {name} {version}: TorchServe at {0} has no endpoint plugin. Run the role modelfleet.serving.endpoint_plugin "
                "and restart torchserve.service.".format(self.place, **model)
            )
        remedy = (
            "Check the object, its sha256 and the storage credentials"
            if self.params["via"] == "plugin" and answer.status in (400, 403, 404, 502, 504)
            else "See journalctl -u torchserve on this host"
        )
        return "Failed to register model {name} {version} at {0}: the answer was {1}: {2}. {3}; what was served before is still served.".format(
            place, answer.status, said, remedy, **model
        )

    def traffic(self):
        if self.params["via"] != "plugin":
            return {}
        try:
            return read_traffic(self.params["dfdaemon_metrics_url"])
        except ModelFleetError as exc:
            self.module.warn("The bytes by source are unknown: {0}".format(exc))
            return {}

    def remove(self, model, wanted):
        name, version = model["name"], model["version"]
        here = self.served[name].get(version)
        recorded = self.record.models.get((name, version))
        file = os.path.basename(here["modelUrl"]) if here else recorded["file"] if recorded else ""
        if not file and model["sha256"]:
            file = model_file(name, version, model["sha256"])
        path = os.path.join(self.params["model_store"], file) if file else ""
        exists = bool(path) and os.path.isfile(path)
        if here is not None and not here.get("restored") and not self.module.check_mode:
            self.unregister(model, wanted)
        if exists and not self.module.check_mode:
            try:
                os.unlink(path)
            except OSError as exc:
                raise ModelFleetError(
                    "Failed to remove {0} from the model store: {1}. Remove it by hand.".format(path, exc.strerror)
                ) from exc
        self.record.drop(name, version)
        self.served[name].pop(version, None)
        return {
            "name": name,
            "version": version,
            "file": file,
            "action": "removed" if here is not None or exists else "unchanged",
            "register_seconds": 0.0,
            "workers_ready": 0,
            "bytes": {},
        }

    def unregister(self, model, wanted):
        """TorchServe refuses to unregister the default version while others exist, so another one becomes the default first."""
        name, version = model["name"], model["version"]
        described = self.server.describe(name)
        leaving = {item["version"] for item in wanted if item["name"] == name and item["state"] == "absent"}
        others = [other for other in described if other != version]
        if described.get(version, {}).get("is_default") and others:
            staying = [other for other in others if other not in leaving]
            self.server.set_default(name, sorted(staying or others)[-1])
        self.server.unregister(name, version)

    def remember(self, model, result):
        self.record.put(
            {
                "name": model["name"],
                "version": model["version"],
                "file": result["file"],
                "sha256": model["sha256"].lower(),
                "workers": model["workers"],
                "default": self.becomes_default(model),
                "params": {key: model[key] for key in PARAMS if model[key] is not None},
            }
        )


def check_list(models, via):
    """Fail on a list that contradicts itself or misses a key, before anything is read."""
    seen, defaults = set(), {}
    for model in models:
        which = "model {name} {version}".format(**model)
        if (model["name"], model["version"]) in seen:
            raise ModelFleetError("The list of models names {0} twice. Keep one entry for each name and version.".format(which))
        seen.add((model["name"], model["version"]))
        for key in ("name", "version"):
            if not NAME.fullmatch(model[key]):
                raise ModelFleetError(
                    "The {0} {1!r} in the list of models is not usable: letters, digits, dots, dashes and underscores, beginning with a letter or "
                    "digit.".format(key, model[key])
                )
        if model["state"] == "absent":
            continue
        for key in ("sha256",) + (("object",) if via == "plugin" else ()):
            if not model[key]:
                raise ModelFleetError("The {0} in the list of models has no {1}. Give its {1}.".format(which, key))
        if not re.fullmatch(r"[0-9a-fA-F]{64}", model["sha256"]):
            raise ModelFleetError("The sha256 of {0} is not 64 hexadecimal digits. Give the output of sha256sum of its .mar.".format(which))
        if model["workers"] < 1:
            raise ModelFleetError("The workers of {0} must be at least 1, not {1}.".format(which, model["workers"]))
        if model["default"]:
            if model["name"] in defaults:
                raise ModelFleetError(
                    "The list of models makes both {0} and {1} the default version of {2}. Set default on one.".format(
                        defaults[model["name"]], model["version"], model["name"]
                    )
                )
            defaults[model["name"]] = model["version"]


def _lines(served):
    return "".join(
        "{name} {version}: {file}, {workers} workers{0}\n".format(", default" if item["default"] else "", **item) for item in served
    )


def main():
    module = AnsibleModule(
        argument_spec={
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "version": {"type": "str", "required": True},
                    "object": {"type": "str"},
                    "sha256": {"type": "str"},
                    "workers": {"type": "int", "default": 1},
                    "default": {"type": "bool", "default": False},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                    "batch_size": {"type": "int"},
                    "max_batch_delay": {"type": "int"},
                    "response_timeout": {"type": "int"},
                    "startup_timeout": {"type": "int"},
                },
            },
            "via": {"type": "str", "choices": ["plugin", "api"], "default": "plugin"},
            "device": {"type": "str", "choices": ["cpu", "gpu"], "default": "cpu"},
            "base_url": {"type": "str", "default": MANAGEMENT_URL},
            "key_file": {"type": "path", "default": KEY_FILE, "no_log": False},
            "model_store": {"type": "path", "default": "/var/lib/modelfleet/models"},
            "record": {"type": "path", "default": "/var/lib/modelfleet/state/models.json"},
            "record_group": {"type": "str", "default": "torchserve"},
            "dfdaemon_metrics_url": {"type": "str", "default": "http://127.0.0.1:4002/metrics"},
            "timeout": {"type": "int", "default": 1800},
        },
        supports_check_mode=True,
    )
    try:
        result = ModelManager(module).run()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
