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
  - A model reaches the host through the endpoint plugin and Dragonfly (O(via=plugin)), or is a file in the model store already
    (O(via=api)).
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
import zipfile
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

    def put(self, model, file):
        self.models[model["name"], model["version"]] = {
            "name": model["name"],
            "version": model["version"],
            "file": file,
            "sha256": model["sha256"],
            "workers": model["workers"],
            "default": False,
            "params": given(model),
        }

    def set_defaults(self, served):
        for (name, version), entry in self.models.items():
            if version in served.get(name, {}):
                entry["default"] = served[name][version]["is_default"]

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
        # {name: {version: description}}: what is, and in check mode what would be.
        self.served = {}

    def run(self):
        wanted = self.params["models"]
        check_list(wanted, self.params["via"])
        with self.record.locked():
            self.read_served(sorted({model["name"] for model in wanted}))
            before = self.lines()
            for model in wanted:
                self.refuse_conflict(model)
            try:
                # A new default version comes before the removal of the old one.
                for model in sorted(wanted, key=lambda item: item["state"] == "absent"):
                    self.results.append(self.ensure(model) if model["state"] == "present" else self.remove(model, wanted))
            except ModelFleetError as exc:
                exc.result.update(models=self.results, changed=any(result["action"] != "unchanged" for result in self.results))
                raise
            finally:
                self.record.set_defaults(self.served)
                self.record.write()
        order = [(model["name"], model["version"]) for model in wanted]
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
            self.served = {name: self.recorded(name) for name in names}

    def recorded(self, name):
        """What a start of TorchServe will restore, in the shape of a description."""
        return {
            entry["version"]: self.predicted(entry["file"], entry["workers"], entry["default"])
            for entry in self.record.models.values()
            if entry["name"] == name
        }

    def predicted(self, file, workers, default):
        states = [{"status": "READY", "gpu": self.params["device"] == "gpu"}] * workers
        return {"modelUrl": file, "minWorkers": workers, "workers": states, "is_default": default}

    def ready(self, item):
        return len(ready_workers(item["workers"], self.params["device"]))

    def lines(self):
        return "".join(
            f"{name} {version}: {os.path.basename(item['modelUrl'])}, workers {self.ready(item)}"
            + (", default\n" if item["is_default"] else "\n")
            for name in sorted(self.served)
            for version, item in sorted(self.served[name].items())
        )

    # What should be

    def refuse_conflict(self, model):
        """Fail on what would replace a serving version, before anything is changed."""
        here = self.served[model["name"]].get(model["version"])
        if model["state"] == "absent" or here is None:
            return
        wanted, found = file_of(model), os.path.basename(here["modelUrl"])
        if found != wanted:
            raise ModelFleetError(
                f"Refused {title(model)}: it is registered with other content at {self.place}, where it serves {found}, and sha256 "
                f"{model['sha256']} would be {wanted}. Nothing was changed: a rollout "
                "needs a new version, so publish the new content under one, or remove this one (state: absent) first."
            )
        recorded = self.record.models.get((model["name"], model["version"]), {}).get("params", {})
        for key in PARAMS:
            if model[key] is not None and recorded.get(key, model[key]) != model[key]:
                raise ModelFleetError(
                    f"Refused {title(model)}: it is registered with {key} {recorded[key]} at {self.place}, not {model[key]}. Nothing was "
                    "changed: it takes effect at registration, so publish a new version, or remove this one (state: absent) first."
                )

    def ensure(self, model):
        name, version, workers = model["name"], model["version"], model["workers"]
        here = self.served[name].get(version)
        result = outcome(model, file_of(model))
        if here is None:
            result["action"] = "registered"
        elif not here["workers"]:
            result["action"] = "reregistered"
        elif here["minWorkers"] != workers:
            result["action"] = "scaled"
        elif model["default"] and not here["is_default"]:
            result["action"] = "default_set"
        if self.module.check_mode:
            self.predict(model, here, result["file"])
        else:
            self.apply(model, here, result)
            self.served[name] = self.server.describe(name)
        result["workers_ready"] = self.ready(self.served[name][version])
        self.record.put(model, result["file"])
        return result

    def predict(self, model, here, file):
        others = self.served[model["name"]]
        default = model["default"] or (here["is_default"] if here else not others)
        if default:
            for other in others.values():
                other["is_default"] = False
        others[model["version"]] = self.predicted(file, model["workers"], default)

    def apply(self, model, here, result):
        name, version, workers = model["name"], model["version"], model["workers"]
        if result["action"] == "scaled":
            self.server.scale(name, version, workers)
        elif here and here["workers"] and not self.ready(here) and not self.recovers(model):
            result["action"] = "reregistered"
        if result["action"] == "reregistered":
            self.unregister(model)
        if result["action"] in ("registered", "reregistered"):
            started = time.monotonic()
            result["bytes"] = self.register(model, result["file"])
            result["register_seconds"] = round(time.monotonic() - started, 3)
        self.server.wait_ready(name, version, workers, self.params["timeout"], self.params["device"])
        if model["default"] and not (here and here["is_default"]):
            self.server.set_default(name, version)

    def recovers(self, model):
        """Whether workers that are not READY become so by themselves within the time that a worker may take."""
        try:
            self.server.wait_ready(model["name"], model["version"], 1, model["startup_timeout"] or WORKER_BOOT_S, self.params["device"])
        except ModelFleetError:
            return False
        return True

    def register(self, model, file):
        """Register, once more after a failure that left the name behind; returns the bytes by source."""
        via_plugin = self.params["via"] == "plugin"
        query = {"initial_workers": model["workers"], "synchronous": "true", **given(model)}
        if via_plugin:
            query.update(file_name=model["object"], sha256=model["sha256"], model_name=model["name"], model_version=model["version"])
        else:
            query.update(url=file)
            self.verify_file(model, file)
        path = "/dragonfly/models" if via_plugin else "/models"
        timeout = self.params["timeout"] + (model["startup_timeout"] or 0) + WORKER_BOOT_S
        before = self.traffic()
        answer = self.server.register(query, path, timeout)
        if answer.status >= 500 and self.clear_leftover(model):
            answer = self.server.register(query, path, timeout)
        if answer.status >= 300 and answer.status != 409:
            self.clear_leftover(model)
            raise ModelFleetError(self.explain(model, path, answer))
        self.require_content(model, file)
        after = self.traffic()
        return {source: max(0, after[source] - before[source]) for source in after} if before and after else {}

    def clear_leftover(self, model):
        """A failed registration sometimes leaves the name behind with no READY worker; returns whether it did."""
        leftover = self.server.describe(model["name"]).get(model["version"])
        if leftover is None or self.ready(leftover):
            return False
        self.unregister(model)
        return True

    def require_content(self, model, file):
        """What is registered now is the version and the content that was asked for."""
        here = self.server.describe(model["name"]).get(model["version"])
        if here is None:
            raise ModelFleetError(
                f"Registered {model['object'] or file} at {self.place}, but it is not {title(model)}. Make name and version in the list "
                "of models equal to the archive's MAR-INF/MANIFEST.json."
            )
        found = os.path.basename(here["modelUrl"])
        if found != file:
            raise ModelFleetError(
                f"Registered {title(model)}, but {self.place} serves {found} instead of {file}. Set require_sha256 in the endpoint "
                "plugin's config.json, remove the model (state: absent) and run again."
            )

    def verify_file(self, model, file):
        path = os.path.join(self.params["model_store"], file)
        if not os.path.isfile(path):
            raise ModelFleetError(f"Failed to register {title(model)}: this host has no {path}. Bring it there first, or use via: plugin.")
        found = self.module.sha256(path)
        if found != model["sha256"]:
            raise ModelFleetError(
                f"Failed to register {title(model)}: {path} on this host has sha256 {found}, expected {model['sha256']}. Remove the "
                "file and bring the right one."
            )
        if not zipfile.is_zipfile(path):
            raise ModelFleetError(f"Failed to register {title(model)}: {path} on this host is not a .mar (a zip). Publish the model again.")

    def explain(self, model, path, answer):
        said = answer.message.rstrip(".")
        if path != "/models" and answer.status in (404, 405) and "Requested" in said:
            return (
                f"Failed to register {title(model)}: TorchServe at {self.place} has no endpoint plugin. Run the role "
                "modelfleet.serving.endpoint_plugin and restart torchserve.service."
            )
        if path != "/models" and answer.status in (400, 403, 404, 502, 504):
            remedy = f"Check the object {model['object']}, its sha256 and the storage credentials"
        else:
            remedy = "See journalctl -u torchserve on this host"
        return (
            f"Failed to register {title(model)}: {self.place}{path} answered {answer.status}: {said}. {remedy}; "
            "what was served before is still served."
        )

    def traffic(self):
        if self.params["via"] != "plugin":
            return {}
        try:
            return read_traffic(self.params["dfdaemon_metrics_url"])
        except ModelFleetError as exc:
            self.module.warn(f"The bytes by source are unknown: {exc}")
            return {}

    def remove(self, model, wanted):
        name, version = model["name"], model["version"]
        here = self.served[name].get(version)
        recorded = self.record.models.get((name, version))
        if here:
            file = os.path.basename(here["modelUrl"])
        elif recorded:
            file = recorded["file"]
        else:
            file = file_of(model) if model["sha256"] else ""
        path = os.path.join(self.params["model_store"], file)
        exists = os.path.isfile(path)
        result = outcome(model, file)
        result["action"] = "removed" if here or recorded or exists else "unchanged"
        if self.module.check_mode:
            heir = self.heir(model, self.served[name], wanted)
            if heir:
                self.served[name][heir]["is_default"] = True
            self.served[name].pop(version, None)
        else:
            if here:
                self.unregister(model, wanted)
            if exists:
                self.delete(path)
            self.served[name] = self.server.describe(name)
        self.record.drop(name, version)
        return result

    def unregister(self, model, wanted=()):
        """TorchServe refuses to unregister the default version while others exist, so another one becomes the default first."""
        heir = self.heir(model, self.server.describe(model["name"]), wanted)
        if heir:
            self.server.set_default(model["name"], heir)
        self.server.unregister(model["name"], model["version"])

    def heir(self, model, described, wanted):
        """The version that becomes the default when this one goes, preferably one that stays; None when it needs none."""
        if not described.get(model["version"], {}).get("is_default"):
            return None
        leaving = {item["version"] for item in wanted if item["name"] == model["name"] and item["state"] == "absent"}
        others = [other for other in described if other != model["version"]]
        return max([other for other in others if other not in leaving] or others, default=None)

    def delete(self, path):
        try:
            os.unlink(path)
        except OSError as exc:
            raise ModelFleetError(f"Failed to remove {path} from the model store: {exc.strerror}. Remove it by hand.") from exc


def title(model):
    return f"model {model['name']} {model['version']}"


def file_of(model):
    return model_file(model["name"], model["version"], model["sha256"])


def given(model):
    return {key: model[key] for key in PARAMS if model[key] is not None}


def outcome(model, file):
    return {
        "name": model["name"],
        "version": model["version"],
        "file": file,
        "action": "unchanged",
        "register_seconds": 0.0,
        "workers_ready": 0,
        "bytes": {},
    }


def check_list(models, via):
    """Fail on a list that contradicts itself or misses a key, before anything is read."""
    seen, defaults = set(), {}
    for model in models:
        if (model["name"], model["version"]) in seen:
            raise ModelFleetError(f"The list of models names {title(model)} twice. Keep one entry for each name and version.")
        seen.add((model["name"], model["version"]))
        for key in ("name", "version"):
            if not NAME.fullmatch(model[key]):
                raise ModelFleetError(
                    f"The {key} {model[key]!r} in the list of models is not usable. It has letters, digits, dots, dashes and "
                    "underscores only, and begins with a letter or digit."
                )
        if model["state"] == "absent":
            continue
        for key in ("sha256", "object") if via == "plugin" else ("sha256",):
            if not model[key]:
                raise ModelFleetError(f"The {title(model)} in the list of models has no {key}. Give its {key}.")
        if not re.fullmatch(r"[0-9a-fA-F]{64}", model["sha256"]):
            raise ModelFleetError(f"The sha256 of {title(model)} is not 64 hexadecimal digits. Give the output of sha256sum of its .mar.")
        model["sha256"] = model["sha256"].lower()
        if model["workers"] < 1:
            raise ModelFleetError(f"The workers of {title(model)} must be at least 1, not {model['workers']}.")
        if model["default"] and defaults.setdefault(model["name"], model["version"]) != model["version"]:
            raise ModelFleetError(
                f"The list of models makes both {defaults[model['name']]} and {model['version']} the default version of {model['name']}. "
                "Set default on one."
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
