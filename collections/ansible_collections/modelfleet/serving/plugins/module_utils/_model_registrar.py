# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registering one version of a model at TorchServe. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import os
import time
import zipfile

from ansible_collections.modelfleet.serving.plugins.module_utils._bundle_tree import read_manifest, served_as, tree_problem
from ansible_collections.modelfleet.serving.plugins.module_utils._dfdaemon import read_traffic
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._model import asked, differences, title, version_key
from ansible_collections.modelfleet.serving.plugins.module_utils._torchserve import WORKER_BOOT_S, ready_workers


class Registrar:
    """Brings a version to TorchServe and takes it away. Its options ``params`` are those of torchserve_model, by default the module's;
    every error is a ModelFleetError."""

    def __init__(self, module, server, params=None):
        self.module = module
        self.params = params or module.params
        self.server = server
        self.place = self.params["base_url"]

    def device(self, model):
        """Where the workers of an entry must be, "cpu" or "gpu"."""
        return model["device"] or self.params["device"]

    def via_plugin(self, model):
        """Whether the plugin brings it; a bundle is in the model store before it is registered."""
        return self.params["via"] == "plugin" and not model["bundle"]

    def apply(self, model, here, result, default):
        """Do what ``result["action"]`` says, wait for the workers, and make the version the default one if ``default``.

        ``here`` is how TorchServe describes the version now, or None. A version that was not there before is gone again after an error.
        """
        workers = model["workers"]
        if result["action"] == "scaled":
            self.server.scale(model["name"], model["version"], workers)
        elif result["action"] == "unchanged" and not ready_workers(here["workers"], self.device(model)) and not self.recovers(model):
            result["action"] = "reregistered"
        if result["action"] == "reregistered":
            self.unregister(model)
        if result["action"] in ("registered", "reregistered"):
            path = os.path.join(self.params["model_store"], result["file"])
            new_file = path if self.via_plugin(model) and not os.path.exists(path) else None
            started = time.monotonic()
            result["bytes"] = self.register(model, path, new_file)
            result["register_seconds"] = round(time.monotonic() - started, 3)
        try:
            self.server.wait_ready(model["name"], model["version"], workers, self.params["timeout"], self.device(model))
        except ModelFleetError:
            if result["action"] == "registered":
                self.withdraw(model, new_file)
            raise
        if default and not self.describe(model)["is_default"]:
            self.server.set_default(model["name"], model["version"])

    def describe(self, model):
        return self.server.describe(model["name"]).get(model["version"])

    def recovers(self, model):
        """Whether workers that are not READY become so by themselves within the time that a worker may take."""
        try:
            self.server.wait_ready(model["name"], model["version"], 1, model["startup_timeout"] or WORKER_BOOT_S, self.device(model))
        except ModelFleetError:
            return False
        return True

    def register(self, model, path, new_file):
        """Register what is at ``path``, once more after a failure that left the name behind; returns the bytes by source."""
        file, via_plugin = os.path.basename(path), self.via_plugin(model)
        query = {"initial_workers": model["workers"], "synchronous": "true", **asked(model)}
        if via_plugin:
            query.update(file_name=model["object"], sha256=model["sha256"], model_name=model["name"], model_version=model["version"])
        else:
            query.update(url=file)
            (self.verify_bundle if model["bundle"] else self.verify_file)(model, path)
        api = "/dragonfly/models" if via_plugin else "/models"
        timeout = self.params["timeout"] + (model["startup_timeout"] or 0) + WORKER_BOOT_S
        before = self.traffic() if via_plugin else {}
        answer = self.server.register(query, api, timeout)
        if answer.status >= 500 and self.clear_leftover(model):
            answer = self.server.register(query, api, timeout)
        if answer.status >= 300 and answer.status != 409:
            self.clear_leftover(model)
            raise ModelFleetError(self.explain(model, api, answer))
        here = self.require_content(model, file)
        self.require_parameters(model, here, new_file)
        # The minWorkers and maxWorkers of a model-config.yaml take the place of initial_workers.
        if not has_workers(here, model["workers"]):
            self.server.scale(model["name"], model["version"], model["workers"])
        after = self.traffic() if before else {}
        return {source: max(0, after[source] - before[source]) for source in after}

    def clear_leftover(self, model):
        """A failed registration sometimes leaves the name behind with no READY worker; returns whether it did."""
        leftover = self.describe(model)
        if leftover is None or ready_workers(leftover["workers"], self.device(model)):
            return False
        self.unregister(model)
        return True

    def require_content(self, model, file):
        """What is registered now is the version and the content that was asked for; returns its description."""
        here = self.describe(model)
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
        return here

    def require_parameters(self, model, here, new_file):
        """TorchServe took what the entry asks; otherwise the version goes again, with its file ``new_file`` if that came with it."""
        wrong = list(differences(model, here, self.device(model)))
        if not wrong:
            return
        self.withdraw(model, new_file)
        asks = ", ".join(f"{key}: {wanted}" for key, wanted, _name, _found in wrong)
        took = ", ".join(f"{name}: {found}" for _key, _wanted, name, found in wrong)
        raise ModelFleetError(
            f"Failed to register {title(model)} with {asks}: TorchServe at {self.place} took {took}. {' '.join(remedies(wrong))} "
            "The model was unregistered again."
        )

    def withdraw(self, model, new_file):
        """Take away what this run registered, with the file that came with it. The error that follows matters more than one here."""
        try:
            self.unregister(model)
            if new_file:
                delete_file(new_file)
        except ModelFleetError as exc:
            self.module.warn(str(exc))

    def verify_file(self, model, path):
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

    def verify_bundle(self, model, path):
        """The directory ``path`` is the bundle of the entry, and a model of that name and version. Raises ModelFleetError."""
        manifest = read_manifest(os.path.join(self.params["manifest_store"], f"{model['sha256']}.json"), model["sha256"])
        problem = tree_problem(manifest.files, path) if os.path.isdir(path) else "is not there; run the playbook distribute"
        if problem:
            raise ModelFleetError(f"Failed to register {title(model)}: {path} on this host {problem}.")
        found = served_as(path)
        if found != (model["name"], model["version"]):
            says = "says {} {}".format(*found) if found else "is not there, or names no model"
            raise ModelFleetError(
                f"Failed to register {title(model)}: MAR-INF/MANIFEST.json in the bundle {model['bundle']} {says}. Make name and version "
                "in the list of models equal to it, or publish a model of TorchServe, such as a .mar, as the bundle."
            )

    def explain(self, model, path, answer):
        said = answer.message.rstrip(".")
        if path != "/models" and answer.status in (404, 405) and "Requested" in said:
            return (
                f"Failed to register {title(model)}: TorchServe at {self.place} has no endpoint plugin. Run the role "
                "modelfleet.serving.endpoint_plugin and restart torchserve.service."
            )
        if path != "/models" and answer.status in (400, 403, 404, 502, 504):
            remedy = f"Check the object {model['object']}, its sha256 and the storage credentials"
        elif answer.status == 507:
            # It says so of any error of CUDA while a model is loaded.
            remedy = "Loading it failed in CUDA, mostly for want of memory: see journalctl -u torchserve and nvidia-smi on this host"
        else:
            remedy = "See journalctl -u torchserve on this host"
        return (
            f"Failed to register {title(model)}: {self.place}{path} answered {answer.status}: {said}. {remedy}; "
            "what was served before is still served."
        )

    def traffic(self):
        try:
            return read_traffic(self.params["dfdaemon_metrics_url"])
        except ModelFleetError as exc:
            self.module.warn(f"The bytes by source are unknown: {exc}")
            return {}

    def unregister(self, model, leaving=()):
        """TorchServe refuses to unregister the default version while others exist, so another one becomes the default first."""
        successor = next_default(model, self.server.describe(model["name"]), leaving)
        if successor:
            self.server.set_default(model["name"], successor)
        self.server.unregister(model["name"], model["version"])


def has_workers(description, workers):
    """Whether TorchServe keeps exactly this number of workers, as a scale request leaves it."""
    return description["minWorkers"] == description["maxWorkers"] == workers


def next_default(model, described, leaving=()):
    """The version that becomes the default when this one goes: the newest one, not one of the versions ``leaving`` if another is left.

    None when this one is not the default version, or the only one.
    """
    if not described.get(model["version"], {}).get("is_default"):
        return None
    others = [version for version in described if version != model["version"]]
    return max([version for version in others if version not in leaving] or others, key=version_key, default=None)


def delete_file(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        raise ModelFleetError(f"Failed to remove {path} from the model store: {exc.strerror}. Remove it by hand.") from exc


def remedies(wrong):
    """Yield what helps where TorchServe took other values than the entry asks; ``wrong`` is a list of _model.differences."""
    unknown = [key for key, _wanted, _name, found in wrong if found is None]
    if unknown:
        yield f"This version of TorchServe has no {', '.join(unknown)}: drop it from the entry, or install a newer TorchServe."
    no_gpu = [key for key, _wanted, _name, found in wrong if (key, found) == ("device", "cpu")]
    if no_gpu:
        yield (
            "Either the archive's model-config.yaml says deviceType: cpu, then set device: cpu in the entry, or TorchServe found no GPU: "
            "see nvidia-smi and torchserve_device of this host, and restart torchserve.service."
        )
    rest = [one for one in wrong if one[0] not in unknown + no_gpu]
    if rest:
        lines = ", ".join(f"{name}: {wanted}" for _key, wanted, name, _found in rest)
        yield (
            f"The archive's model-config.yaml, or what it leaves out, decides: write {lines} there and publish it as a new version, "
            f"or drop {', '.join(one[0] for one in rest)} from the entry."
        )
