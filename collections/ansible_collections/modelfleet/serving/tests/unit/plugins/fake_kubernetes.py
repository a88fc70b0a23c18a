# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API server of a cluster, as far as the modules ask it: what was applied is there, and it refuses what it is told to refuse."""

from __future__ import annotations

import copy
import re

from ansible_collections.modelfleet.serving.plugins.module_utils import _kubernetes, _kubernetes_kinds

_PATH = re.compile(r"/apis?/(?:[a-z0-9.]+/)?v1(?:/namespaces/(?P<space>[^/]+))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?\Z")
_KIND = {plural: kind for kind, (_version, plural, _spaced) in {**_kubernetes_kinds.KINDS, **_kubernetes_kinds.EXTRA_KINDS}.items()}


class FakeKubernetes(_kubernetes.Cluster):
    def __init__(self):
        self.server, self.context, self.kubeconfig = "https://10.0.0.1:6443", "prod", ""
        self.things = {}  # (kind, namespace, name)
        self.refusals = {}  # (method, kind, name or None): (status, what it says)
        self.requests = []  # those that change something
        self.number = 0
        self.rolls_out = True
        self.add("Namespace", "kube-system", uid="u-1")

    def add(self, kind, name, namespace=None, uid="", labels=None, annotations=None, **rest):
        metadata = {"name": name, "uid": uid or f"uid-{name}", "labels": labels or {}, "annotations": annotations or {}}
        if namespace:
            metadata["namespace"] = namespace
        self.things[kind, namespace, name] = {"kind": kind, "metadata": metadata, **rest}

    def ask(self, method, path, doing, body=None, query=(), content_type=None, timeout=0):
        query = dict(query)
        if path == "/version":
            return {"gitVersion": "v1.34.4"}
        # A namespace is below its own path, too.
        match = re.match(r"/api/v1/(?P<plural>namespaces)(?:/(?P<name>[^/]+))?\Z", path) or _PATH.match(path)
        found = match.groupdict()
        kind, namespace, name = _KIND[found["plural"]], found.get("space"), found.get("name")
        for key in ((method, kind, name), (method, kind, None)):
            if key in self.refusals:
                status, said = self.refusals[key]
                raise _kubernetes.Refused(self.sentence(doing, status, said), status)
        if method == "get" and name is None:
            return {"items": [copy.deepcopy(one) for key, one in self.things.items() if self._listed(key, one, kind, namespace, query)]}
        key = (kind, namespace, name)
        if method in ("get", "delete") and key not in self.things:
            raise _kubernetes.Refused(self.sentence(doing, 404, "not found"), 404)
        if method == "get":
            return copy.deepcopy(self.things[key])
        dry = query.get("dryRun") == "All"
        if not dry:
            self.requests.append((method, kind, name))
        if method == "delete":
            if not dry:
                del self.things[key]
            return {}
        if namespace and ("Namespace", None, namespace) not in self.things:
            raise _kubernetes.Refused(self.sentence(doing, 404, f'namespaces "{namespace}" not found'), 404)
        return self._apply(key, body, dry)

    def _listed(self, key, thing, kind, namespace, query):
        labels = thing["metadata"].get("labels") or {}
        wanted = [one.split("=") for one in query.get("labelSelector", "").split(",") if one]
        return key[0] == kind and (namespace is None or key[1] == namespace) and all(labels.get(name) == value for name, value in wanted)

    def _apply(self, key, body, dry):
        before = self.things.get(key)
        after = copy.deepcopy(body)
        if key[0] == "Service" and after["spec"].get("clusterIP") != "None":
            self.number += before is None and not dry
            after["spec"]["clusterIP"] = (before or {}).get("spec", {}).get("clusterIP") or f"10.96.0.{self.number or 1}"
        if key[0] == "Secret" and "stringData" in after:
            raise AssertionError("a Secret with stringData never equals what is there")
        after["metadata"].update(
            uid=f"uid-{key[2]}", resourceVersion=str(len(self.requests)), managedFields=[{"manager": "x"}], generation=1
        )
        if key[0] in _kubernetes_kinds.WORKLOADS:
            count = after["spec"].get("replicas", 2)
            numbers = (
                "replicas",
                "updatedReplicas",
                "availableReplicas",
                "desiredNumberScheduled",
                "updatedNumberScheduled",
                "numberAvailable",
            )
            ready = count if self.rolls_out else 0
            after["status"] = {"observedGeneration": 1, **{one: count if "vailable" not in one else ready for one in numbers}}
        if not dry:
            self.things[key] = after
        return copy.deepcopy(after)
