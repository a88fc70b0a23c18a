#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kubernetes_objects
short_description: Apply a list of objects to a Kubernetes cluster, or take them away
version_added: 0.1.0
description:
  - Applies objects on the server's side, as the field manager C(modelfleet.serving), so that fields of others stay theirs.
  - Everything is applied without effect first. What the API server refuses, such as a misspelt field or an account that may not, is named
    for all objects at once before the first of them is changed.
  - Waits until the workloads among them are rolled out, and says of one that is not what it waits for.
  - "M(kubernetes.core.k8s) would be another way. Of a list it shows no diff, it shows what is in a Secret, it cannot predict what
    lies in a namespace that is not there yet, and a refusal comes after a part was applied."
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - modelfleet.serving.kubernetes
attributes:
  check_mode:
    support: full
    details: The API server predicts what would become of each object. In a namespace that is not there yet everything would be created.
  diff_mode:
    support: full
    details: Of a Secret only that a value is another one.
options:
  objects:
    description:
      - The objects, each with C(apiVersion), C(kind) and C(metadata.name), and C(metadata.namespace) where it lies in one.
      - The kinds are those of a fleet; C(ConfigMap), C(DaemonSet), C(Deployment), C(Namespace), C(NetworkPolicy), C(PodDisruptionBudget),
        C(Secret), C(Service), C(ServiceAccount) and C(StatefulSet). They are applied in an order in which each finds what it needs.
    type: list
    elements: dict
    default: []
  state:
    description: Whether the objects are there. V(absent) removes them, the last of that order first.
    type: str
    choices: [present, absent]
    default: present
  prune:
    description: Remove what else has the labels O(prune.labels) in O(prune.namespace), of the kinds above but namespaces.
    type: dict
    suboptions:
      namespace:
        description: The namespace.
        type: str
        required: true
      labels:
        description: All of these labels.
        type: dict
        required: true
  force_conflicts:
    description: Take over fields that somebody else has set. Without it they are an error.
    type: bool
    default: false
  wait:
    description: Wait until each Deployment, StatefulSet and DaemonSet is rolled out, or with O(state=absent) until everything is gone.
    type: bool
    default: true
  wait_timeout:
    description: How long, in seconds.
    type: int
    default: 300
seealso:
  - module: modelfleet.serving.kubernetes_info
"""

EXAMPLES = r"""
- name: Have a configuration in the cluster
  modelfleet.serving.kubernetes_objects:
    context: prod
    objects:
      - apiVersion: v1
        kind: ConfigMap
        metadata: {name: dfdaemon, namespace: modelfleet}
        data:
          dfdaemon.yaml: "{{ lookup('ansible.builtin.template', 'dfdaemon.yaml.j2') }}"

- name: Have these objects, and nothing else of this fleet
  modelfleet.serving.kubernetes_objects:
    context: prod
    objects: "{{ objects }}"
    prune:
      namespace: modelfleet
      labels: {app.kubernetes.io/part-of: modelfleet}
"""

RETURN = r"""
server:
  description: The API server.
  returned: success
  type: str
  sample: https://10.0.0.1:6443
objects:
  description: What was done with each object, in this order.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: The kind.
      type: str
    name:
      description: The name.
      type: str
    namespace:
      description: The namespace, empty where it lies in none.
      type: str
    action:
      description: V(created), V(changed), V(unchanged), V(removed) or V(absent).
      type: str
  sample:
    - {kind: ConfigMap, name: dfdaemon, namespace: modelfleet, action: changed}
rollouts:
  description: Where each workload is after the wait.
  returned: success
  type: list
  elements: dict
  sample:
    - {kind: DaemonSet, name: dfdaemon, wanted: 12, updated: 12, ready: 12, done: true}
"""

import copy
import time

from ansible_collections.modelfleet.serving.plugins.module_utils import _kubernetes, _kubernetes_kinds
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule

try:
    import yaml
except ImportError:
    yaml = None  # the library kubernetes needs it, so that is what is missing

_ORDER = list(_kubernetes_kinds.KINDS)
# What the server counts and notes; nobody sets it.
_OF_SERVER = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink", "deletionGracePeriodSeconds")
HIDDEN = "********"
_POLL_S = 1
_MOST_REFUSALS = 5


def without_server(thing):
    """An object without what only the server says of it."""
    if thing is None:
        return None
    kept = {key: copy.deepcopy(value) for key, value in thing.items() if key != "status"}
    kept["metadata"] = {key: value for key, value in (kept.get("metadata") or {}).items() if key not in _OF_SERVER}
    annotations = {key: value for key, value in (kept["metadata"].get("annotations") or {}).items() if not key.startswith("deployment.")}
    kept["metadata"].pop("annotations", None)
    return {**kept, "metadata": {**kept["metadata"], **({"annotations": annotations} if annotations else {})}}


def masked(thing, before):
    """Without what a Secret holds: that a value is another one is all that a diff says."""
    if thing is None or thing.get("kind") != "Secret":
        return thing
    old = (before or {}).get("data") or {}
    shown = {key: HIDDEN if value == old.get(key) else HIDDEN + " (new)" for key, value in (thing.get("data") or {}).items()}
    return {**{key: value for key, value in thing.items() if key != "stringData"}, "data": shown}


def text_of(thing):
    """An object as people read it: long texts over several lines."""
    if thing is None:
        return ""

    class Dumper(yaml.SafeDumper):
        """Another one, so that nobody else's is changed."""

    def text(dumper, value):
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return yaml.dump(thing, Dumper=Dumper, sort_keys=True, width=140)


def in_order(definitions):
    return sorted(definitions, key=lambda one: _ORDER.index(one["kind"]))


def checked(definitions, label="objects"):
    problems = [f"{label}[{number}] {_kubernetes.problem(one)}." for number, one in enumerate(definitions) if _kubernetes.problem(one)]
    seen = set()
    for number, one in enumerate(definitions):
        if not _kubernetes.problem(one):
            if _kubernetes.identity(one) in seen:
                problems.append(f"{label}[{number}] is the {_kubernetes.title(*_kubernetes.identity(one))} once more; keep one.")
            seen.add(_kubernetes.identity(one))
    if problems:
        raise ModelFleetError("Failed to use the objects: " + " ".join(problems))
    return in_order(definitions)


class Applier:
    def __init__(self, module, cluster):
        self.module = module
        self.params = module.params
        self.cluster = cluster
        self.results = []
        self.diffs = []
        self.missing = set()  # namespaces that a run outside check mode makes

    def note(self, key, action, before=None, after=None):
        kind, name, namespace = key
        self.results.append({"kind": kind, "name": name, "namespace": namespace or "", "action": action})
        if action in ("created", "changed", "removed"):
            header = _kubernetes.title(kind, name, namespace)
            texts = [text_of(masked(one, before)) for one in (before, after)]
            self.diffs.append({"before_header": header, "after_header": header, "before": texts[0], "after": texts[1]})

    # present

    def predict(self, definition):
        """What is there and what would be, by the API server; ``None`` and the object itself in a namespace that is not there yet."""
        kind, name, namespace = _kubernetes.identity(definition)
        if namespace in self.missing:
            return None, without_server(definition)
        before = without_server(self.cluster.get(kind, name, namespace))
        return before, without_server(self.cluster.apply(definition, dry_run=True, force=self.params["force_conflicts"]))

    def predicted(self, definitions):
        """All of them; every refusal is told at once. One of the cluster as a whole, such as a server that is away, is told alone."""
        found, refusals = [], []
        for definition in definitions:
            try:
                found.append(self.predict(definition))
            except _kubernetes.Refused as exc:
                refusals.append(str(exc))
                if exc.status in (401, 503):
                    break
        if refusals:
            more = len(refusals) - _MOST_REFUSALS
            raise ModelFleetError(
                " ".join(refusals[:_MOST_REFUSALS]) + (f" And {more} more." if more > 0 else "") + " Nothing was changed."
                if not any(one["action"] in ("created", "changed") for one in self.results)
                else " ".join(refusals[:_MOST_REFUSALS])
            )
        return found

    def present(self, definitions):
        namespaces = [one for one in definitions if one["kind"] == "Namespace"]
        self.put(namespaces)
        self.put([one for one in definitions if one["kind"] != "Namespace"])
        self.prune(definitions)
        return self.wait_for(definitions) if self.params["wait"] and not self.module.check_mode else []

    def put(self, definitions):
        for definition, (before, after) in zip(definitions, self.predicted(definitions)):
            key = _kubernetes.identity(definition)
            action = "created" if before is None else "unchanged" if before == after else "changed"
            if action == "created" and key[0] == "Namespace" and self.module.check_mode:
                self.missing.add(key[1])
            if action != "unchanged" and not self.module.check_mode:
                # Somebody may have been quicker, so what counts is what the server has now.
                after = without_server(self.cluster.apply(definition, force=self.params["force_conflicts"]))
            self.note(key, action, before, after)

    def prune(self, definitions):
        wanted = self.params["prune"]
        if not wanted or wanted["namespace"] in self.missing:
            return
        kept = {_kubernetes.identity(one) for one in definitions}
        selector = ",".join(f"{key}={value}" for key, value in sorted(wanted["labels"].items()))
        for kind in reversed(_ORDER[1:]):
            for thing in self.cluster.list(kind, wanted["namespace"], selector):
                key = (kind, thing["metadata"]["name"], wanted["namespace"])
                if key not in kept:
                    self.remove(key, {"apiVersion": _kubernetes_kinds.KINDS[kind][0], "kind": kind, **thing})

    def wait_for(self, definitions):
        deadline = time.monotonic() + self.params["wait_timeout"]
        found = []
        for key in (_kubernetes.identity(one) for one in definitions if one["kind"] in _kubernetes_kinds.WORKLOADS):
            while True:
                workload = self.cluster.get(*key)
                if workload is None:
                    raise ModelFleetError(f"Failed to roll out the {_kubernetes.title(*key)}: somebody has removed it. Run again.")
                workload = {"kind": key[0], **workload}
                where = _kubernetes.rollout(workload)
                if where["done"]:
                    found.append(where)
                    break
                if time.monotonic() >= deadline:
                    why = _kubernetes.why_not(self.cluster, workload)
                    raise ModelFleetError(
                        f"Failed to roll out the {_kubernetes.title(*key)} within {self.params['wait_timeout']} s: {where['ready']} of "
                        f"{where['wanted']} pods are ready{f'; {why}' if why else ''}. Mend that, or raise the time, and run again.",
                        objects=self.results,
                    )
                time.sleep(_POLL_S)
        return found

    # absent

    def remove(self, key, before):
        if not self.module.check_mode:
            self.cluster.delete(*key)
        self.note(key, "removed", without_server(before), None)

    def absent(self, definitions):
        self.prune([])
        for definition in reversed(definitions):
            key = _kubernetes.identity(definition)
            before = self.cluster.get(*key)
            if before is None:
                self.note(key, "absent")
            else:
                self.remove(key, before)
        if self.params["wait"] and not self.module.check_mode:
            self.wait_gone()
        return []

    def wait_gone(self):
        deadline = time.monotonic() + self.params["wait_timeout"]
        for one in self.results:
            key = (one["kind"], one["name"], one["namespace"] or None)
            while one["action"] == "removed" and self.cluster.get(*key) is not None:
                if time.monotonic() >= deadline:
                    raise ModelFleetError(
                        f"Failed to remove the {_kubernetes.title(*key)} within {self.params['wait_timeout']} s: it is still there. See "
                        "its finalizers and what is left in it, and run again.",
                        objects=self.results,
                    )
                time.sleep(_POLL_S)


def run(module, cluster):
    definitions = checked(module.params["objects"])
    applier = Applier(module, cluster)
    rollouts = (applier.absent if module.params["state"] == "absent" else applier.present)(definitions)
    return {
        "changed": any(one["action"] in ("created", "changed", "removed") for one in applier.results),
        "server": cluster.server,
        "objects": applier.results,
        "rollouts": rollouts,
        **({"diff": applier.diffs} if module._diff else {}),
    }


def main():
    module = DiscreetModule(
        argument_spec={
            **_kubernetes.OPTIONS,
            "objects": {"type": "list", "elements": "dict", "default": []},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "prune": {
                "type": "dict",
                "options": {"namespace": {"type": "str", "required": True}, "labels": {"type": "dict", "required": True}},
            },
            "force_conflicts": {"type": "bool", "default": False},
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module, _kubernetes.Cluster(module.params))
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
