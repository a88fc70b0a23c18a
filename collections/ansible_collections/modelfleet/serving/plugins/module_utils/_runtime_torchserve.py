# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TorchServe as a runtime, see _runtime.py. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

from ansible_collections.modelfleet.serving.plugins.module_utils._bundle import prefix_problem
from ansible_collections.modelfleet.serving.plugins.module_utils._compile_cache import artifact_of
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._model import DESCRIBED, file_of, is_name
from ansible_collections.modelfleet.serving.plugins.module_utils._model_registrar import Registrar, has_workers
from ansible_collections.modelfleet.serving.plugins.module_utils._torchserve import (
    INFERENCE_URL,
    KEY_FILE,
    MANAGEMENT_URL,
    TorchServe,
    ready_workers,
)

# The unit writes its access log into the journal: REMOTE "METHOD URI PROTOCOL" STATUS MILLISECONDS
_ACCESS = re.compile(r'ACCESS_LOG - \S+ "POST (\S+) [^"]*" ([0-9]{3}) ([0-9]{1,18})$')
UNIT = "torchserve.service"


class TorchServeRuntime:
    KINDS = ("object", "bundle")
    KEYS = ("workers", "compile_cache", *DESCRIBED)
    SIDE_BY_SIDE = True
    OPTIONS = {
        "device": {"type": "str", "choices": ["cpu", "gpu"], "default": "cpu"},
        "base_url": {"type": "str", "default": MANAGEMENT_URL},
        "inference_url": {"type": "str", "default": INFERENCE_URL},
        "key_file": {"type": "path", "default": KEY_FILE, "no_log": False},
        "model_store": {"type": "path", "default": "/var/lib/modelfleet/models"},
        "manifest_store": {"type": "path", "default": "/var/lib/modelfleet/manifests"},
        "timeout": {"type": "int", "default": 1800},
    }

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.place = self.params["base_url"]
        self.server = TorchServe(module, self.params["base_url"], self.params["key_file"])
        self.inference = TorchServe(module, self.params["inference_url"], self.params["key_file"], api="inference")
        # What is activated lies on the disk.
        self.registrar = Registrar(module, self.server, {**self.params, "via": "api"})

    @staticmethod
    def entry_problems(model, settings):
        """What is left are the variables of its role, which are looked at by themselves."""
        if not model.get("compile_cache"):
            return
        problem = prefix_problem(str(model["compile_cache"]))
        if problem:
            yield f"has a compile_cache that cannot be used ({model['compile_cache']!r}); {problem}"
        for key, why in (
            ("check", "whose input has the model compile"),
            ("response_timeout", "within which it must come to its end, 600 say"),
        ):
            if not model.get(key):
                yield f"has compile_cache and no {key}, {why}; add it to the entry in modelfleet_models"
        if not is_name(artifact_of(model, "0" * 16)[0]) or not is_name(artifact_of(model, "0" * 16)[1]):
            yield "has compile_cache, and its name or version is too long for that; shorten them to 80 characters"

    def journal(self, name, version):
        return self.server.journal(name, version)

    def wait_up(self, seconds):
        """After a crash the unit starts it again."""
        self.server.api_description(seconds)

    def describe(self, name, devices=()):
        devices = dict(devices)
        return {
            version: {
                "file": os.path.basename(found["modelUrl"]),
                "workers": found["minWorkers"],
                "ready": len(ready_workers(found["workers"], devices.get(version, "cpu"))),
                "default": found["is_default"],
            }
            for version, found in self.server.describe(name).items()
        }

    def device(self, model):
        return self.registrar.device(model)

    def path(self, model):
        return os.path.join(self.params["model_store"], model.get("file") or file_of(model))

    def load(self, model):
        try:
            self.registrar.register(model, self.path(model), None)
            self.wait_ready(model)
        except ModelFleetError:
            self.registrar.withdraw(model, None)
            raise

    def wait_ready(self, model):
        here = self.server.describe(model["name"]).get(model["version"])
        if here and not has_workers(here, model["workers"]):
            self.server.scale(model["name"], model["version"], model["workers"])
        self.server.wait_ready(model["name"], model["version"], model["workers"], self.params["timeout"], self.device(model))

    def set_default(self, name, version):
        self.server.set_default(name, version)

    def unload(self, name, version):
        self.registrar.unregister({"name": name, "version": version})

    def predict(self, name, version, body, content_type, timeout):
        return self.inference.predict(name, version, body, content_type, timeout)

    def traffic(self, name, since, until):
        """Only of the REST API of predictions: gRPC has no access log. Prometheus counters have neither percentiles nor, for requests
        that name no version, the version that answered."""
        journalctl = self.module.get_bin_path("journalctl")
        if not journalctl:
            return None
        times = [f"--since=@{since:.3f}", f"--until=@{until:.3f}"]
        command = [journalctl, "--no-pager", "--quiet", "--output=cat", f"--unit={UNIT}", *times]
        code, out, _err = self.module.run_command(command, errors="surrogate_then_replace")
        return None if code else list(requests_of(out, name))


def requests_of(log, name):
    """Yield (version or None, status, milliseconds) of each prediction of the model in an access log."""
    for line in log.splitlines():
        found = _ACCESS.search(line.rstrip())
        try:
            parts = [unquote(part) for part in urlsplit(found[1]).path.strip("/").split("/")] if found else []
        except ValueError:
            # Whoever asks chooses the URI.
            continue
        if parts[:2] == ["predictions", name] and len(parts) in (2, 3):
            yield (parts[2] if len(parts) == 3 else None), int(found[2]), int(found[3])
