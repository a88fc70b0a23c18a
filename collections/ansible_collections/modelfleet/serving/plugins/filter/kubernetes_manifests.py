# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kubernetes_manifests
short_description: The objects of a fleet in a Kubernetes cluster
version_added: 0.1.0
description:
  - Makes the objects that M(modelfleet.serving.kubernetes_objects) applies, from what the roles that configure hosts write.
  - Configurations are checked as those of hosts are. What is returned may hold secrets.
positional: _input
options:
  _input:
    description: The settings, as the role P(modelfleet.serving.dragonfly_kubernetes#role) collects them.
    type: dict
    required: true
  part:
    description: Everything, or only what must be there before the daemons can be configured, the addresses of the services above all.
    type: str
    choices: [all, base]
    default: all
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Apply what the daemons' addresses come from
  modelfleet.serving.kubernetes_objects:
    objects: "{{ __dragonfly_kubernetes_settings | modelfleet.serving.kubernetes_manifests('base') }}"
"""

RETURN = r"""
_value:
  description: The objects.
  type: list
  elements: dict
"""

import json

from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.module_utils import _dragonfly_config
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._kubernetes_manifests import NODE_ADDRESS, NODE_NAME, Manifests
from ansible_collections.modelfleet.serving.plugins.module_utils._model import asked, file_of, is_served
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime import runtime_name
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import store_from_unchecked
from ansible_collections.modelfleet.serving.plugins.modules.endpoint_config import build_config

SIDE_FILE = "/etc/dragonfly-endpoint/service-account.json"
_COMPONENTS = {"scheduler": "scheduler", "seed": "dfdaemon", "dfdaemon": "dfdaemon"}


def kubernetes_manifests(settings, part="all"):
    try:
        if part == "base":
            return Manifests(settings).base()
        return Manifests(_complete(settings)).all()
    except ModelFleetError as exc:
        raise AnsibleFilterError(str(exc)) from exc


def _complete(settings):
    found = {**settings, "configurations": {}, "certificates": {}}
    for name, component in _COMPONENTS.items():
        config, dynamic = settings["configs"][name], settings["configs"][f"{component}_dynconfig"]
        entries = [(component, config), (f"{component}_dynconfig", dynamic)]
        _dragonfly_config.check(
            [{"component": one, "path": f"the configuration of {name} ({one})", "config": value, "mode": "0640"} for one, value in entries]
        )
        text = _dragonfly_config.file_text(config)
        files = {"dynconfig.yaml": _dragonfly_config.file_text(dynamic)}
        if name == "dfdaemon":
            files["dfdaemon.yaml"] = text
        else:
            for pod in pods_of(settings, name):
                files[f"{pod}.yaml"] = text.replace(NODE_ADDRESS, settings["addresses"][pod]).replace(NODE_NAME, pod)
        secret = any(_dragonfly_config.secrets(one, value) for one, value in entries)
        found["configurations"][name] = {"files": files, "secret": secret}
        found["certificates"][name] = _certificates(settings, name)
    if settings["images"].get("torchserve"):
        found["torchserve"] = _torchserve(settings)
    return found


def pods_of(settings, name):
    return [f"{name}-{number}" for number in range(settings.get(f"{name}s", 0))]


def _certificates(settings, name):
    if not settings["mtls"] or settings["tls_secret"]:
        return {}
    names = settings["nodes"] if name == "dfdaemon" else pods_of(settings, name)
    found = settings["tls"]
    return {"ca.pem": found["trusted"], **{f"{one}.pem": found["certificates"][one] for one in names if one in found["certificates"]}}


def models_of(models):
    """(what TorchServe's pods serve or no longer serve, what of the list is for hosts only) of a list of models."""
    here, elsewhere = [], []
    for model in models:
        if not is_served(model) or runtime_name(model) != "torchserve" or not model.get("object") or model.get("compile_cache"):
            elsewhere.append(model)
            continue
        entry = {"name": model["name"], "version": model["version"], "state": model.get("state", "present")}
        if entry["state"] == "present":
            query = {
                "file_name": model["object"],
                "sha256": model["sha256"],
                "model_name": model["name"],
                "model_version": model["version"],
            }
            query.update(initial_workers=model.get("workers", 1), synchronous="true", **asked(model))
            entry.update(file=file_of(model), workers=model.get("workers", 1), default=bool(model.get("default")), query=query)
        here.append(entry)
    return here, elsewhere


def _torchserve(settings):
    of = settings["torchserve"]
    store = store_from_unchecked(of["storage"])
    config = build_config(of["endpoint"], store)
    endpoint = {}
    if store.side_file:
        config["object_storage"][store.side_file["key"]] = SIDE_FILE
        endpoint["service-account.json"] = store.side_file["content"]
    endpoint["config.json"] = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    models = json.dumps({"models": models_of(of["models"])[0]}, indent=2, sort_keys=True) + "\n"
    return {**of, "endpoint": endpoint, "files": {**of["files"], "models.json": models}}


class FilterModule:
    def filters(self):
        return {"kubernetes_manifests": kubernetes_manifests}
