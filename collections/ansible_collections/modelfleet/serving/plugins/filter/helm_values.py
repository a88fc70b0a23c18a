# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: helm_values
short_description: Values for Dragonfly's Helm chart, from the variables of a cluster
version_added: 0.1.0
description:
  - For those who run the chart already. What the chart has no place for is named, as is what a chart at hand does not know.
positional: _input
options:
  _input:
    description: The settings, as the role P(modelfleet.serving.dragonfly_kubernetes#role) collects them.
    type: dict
    required: true
  chart:
    description: The chart's own C(values.yaml), parsed. Without it nothing is compared.
    type: dict
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Show what the chart would be told
  ansible.builtin.debug:
    msg: "{{ (__dragonfly_kubernetes_settings | modelfleet.serving.helm_values).values }}"
"""

RETURN = r"""
_value:
  description:
    - C(values) is what the chart is told.
    - C(findings) are sentences on what it does not know, none without O(chart).
    - C(left_out) are sentences on what of the settings the chart has no place for.
  type: dict
"""

import copy

from ansible_collections.modelfleet.serving.plugins.module_utils._kubernetes_manifests import merged

# Sections of a daemon's configuration that the chart passes on as they are, so that a key below them is the daemon's and not the chart's.
SECTIONS = {
    "scheduler": ("server", "scheduler", "host", "seedPeer", "network"),
    "client": (
        "host",
        "server",
        "download",
        "upload",
        "scheduler",
        "storage",
        "gc",
        "proxy",
        "health",
        "metrics",
        "stats",
        "backend",
        "network",
    ),
}
# Of our own places and addresses: in the chart others hold.
_PLACES = {"host": ("ip", "hostname")}
_SCHEDULER_PLACES = ("host", "listenIP", "advertiseIP", "advertisePort", "logDir", "pluginDir", "tls")
_SOCKET = "/var/run/dragonfly/dfdaemon.sock"
_STORE = "/var/lib/dragonfly"


def helm_values(settings, chart=None):
    values, left_out = {}, []
    values["scheduler"] = {
        "replicas": settings["schedulers"],
        "enable": settings["schedulers"] > 0,
        **_image(settings["images"]["scheduler"]),
        "config": _scheduler(settings["configs"]["scheduler"]),
        "metrics": {"enable": True},
        **_resources(settings, "scheduler"),
    }
    values["seedClient"] = {
        "replicas": settings["seeds"],
        "enable": settings["seeds"] > 0,
        **_image(settings["images"]["client"]),
        "config": {**_client(settings["configs"]["seed"]), "seedPeer": {"enable": True, "type": "super"}},
        "persistence": {
            "enable": True,
            "size": settings["seed_storage"]["size"],
            **({"storageClass": settings["seed_storage"]["class"]} if settings["seed_storage"]["class"] else {}),
        },
        **_resources(settings, "seed"),
    }
    values["client"] = {
        **_image(settings["images"]["client"]),
        "enable": True,
        "hostNetwork": True,
        # Neither is needed: models are hard-linked by a directory of the node.
        "hostPID": False,
        "hostIPC": False,
        "nodeSelector": settings["node_selector"],
        "config": _client(settings["configs"]["dfdaemon"]),
        # The chart's own is a directory that goes with the pod.
        "extraVolumes": [
            {"name": "storage", "hostPath": {"path": settings["node_path"], "type": "DirectoryOrCreate"}},
            {"name": "logs", "emptyDir": {}},
        ],
        "extraVolumeMounts": [
            {"name": "storage", "mountPath": _STORE},
            {"name": "logs", "mountPath": "/var/log/dragonfly/dfdaemon/"},
        ],
        **_resources(settings, "dfdaemon"),
    }
    if settings["pull_secrets"]:
        values["global"] = {"imagePullSecrets": [{"name": one} for one in settings["pull_secrets"]]}
    left_out += list(_left_out(settings))
    return {"values": values, "left_out": left_out, "findings": list(_findings(values, chart)) if chart is not None else []}


def _image(image):
    name, _at, digest = image.partition("@")
    registry, _slash, repository = name.partition("/")
    if "." not in registry and ":" not in registry and registry != "localhost":
        registry, repository = "docker.io", name
    return {"image": {"registry": registry, "repository": repository, "digest": digest}}


def _resources(settings, name):
    found = {"resources": settings["resources"][name]} if settings["resources"].get(name) else {}
    pod = settings["pods"].get(name) or {}
    return {**found, **{key: pod[key] for key in ("nodeSelector", "tolerations", "priorityClassName", "affinity") if key in pod}}


def _scheduler(config):
    kept = {key: copy.deepcopy(config[key]) for key in SECTIONS["scheduler"] if key in config and key != "seedPeer"}
    kept["server"] = {key: value for key, value in kept.get("server", {}).items() if key not in _SCHEDULER_PLACES}
    return {**kept, "console": True}


def _client(config):
    kept = {key: copy.deepcopy(config[key]) for key in SECTIONS["client"] if key in config}
    for section, keys in _PLACES.items():
        kept[section] = {key: value for key, value in kept.get(section, {}).items() if key not in keys}
    own = {"download": {"server": {"socketPath": _SOCKET}}, "storage": {"dir": _STORE}, "log": {"level": "warn"}}
    found = merged(kept, own)
    for section in ("upload", "storage"):
        # A pod does not know the address of its node before it runs.
        found[section]["server"] = {**found[section].get("server", {}), "ip": "0.0.0.0"}
    for section in (found["upload"].get("server"), found["upload"].get("client"), found.get("scheduler")):
        for key in ("caCert", "cert", "key"):
            (section or {}).pop(key, None)
    found["upload"].pop("client", None)
    return found


def _left_out(settings):
    if settings["mtls"]:
        yield (
            "Mutual TLS: the chart mounts no certificates, so 4000 and 8002 are in clear text; set modelfleet_mtls to false for the whole "
            "fleet, or add "
            "the Secret by extraVolumes and the paths by config yourself."
        )
    yield (
        "The limits of the cluster (candidateParentLimit and others): the chart's scheduler asks a manager, in which dragonfly_cluster "
        "sets them."
    )
    if settings["images"].get("torchserve"):
        yield "TorchServe: the chart has none."
    for name in settings["pods"]:
        extra = set(settings["pods"][name] or {}) - {"nodeSelector", "tolerations", "priorityClassName", "affinity"}
        if extra:
            yield f"The keys {', '.join(sorted(extra))} of {name} in dragonfly_kubernetes_pods."


def _findings(values, chart):
    """What a chart does not know: it would ignore it without a word."""
    if not isinstance(chart, dict) or not {"scheduler", "client", "seedClient"} <= set(chart):
        yield "The chart has no scheduler, client and seedClient in its values.yaml; name the directory of Dragonfly's chart."
        return
    for path in _unknown(values, chart, ""):
        yield f"The chart knows no {path}, and would ignore it; it is another version than these values are for (1.7.4)."


def _unknown(values, chart, path):
    for key, value in values.items():
        here = f"{path}.{key}" if path else key
        if not isinstance(chart, dict) or key not in chart:
            yield here
        elif path.endswith(".config") and key in {*SECTIONS["client"], *SECTIONS["scheduler"]}:
            continue  # the daemon's own
        elif isinstance(value, dict) and isinstance(chart[key], dict) and chart[key]:
            yield from _unknown(value, chart[key], here)


class FilterModule:
    def filters(self):
        return {"helm_values": helm_values}
