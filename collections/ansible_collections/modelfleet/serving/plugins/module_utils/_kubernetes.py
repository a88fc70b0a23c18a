# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API server of a Kubernetes cluster. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import os
import re

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._kubernetes_kinds import (
    EXTRA_KINDS,
    FIELD_MANAGER,
    HELM_RELEASE,
    KINDS,
    MANAGED_BY,
)

try:
    import kubernetes
    import kubernetes.dynamic
    import yaml
    from kubernetes.dynamic.exceptions import DynamicApiError

    IMPORT_ERROR = None
except ImportError as exc:
    IMPORT_ERROR = exc

REQUEST_TIMEOUT_S = 30
OPTIONS = {
    "kubeconfig": {"type": "path"},
    "context": {"type": "str"},
}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
# What the server says before what is wrong.
_PREAMBLE = re.compile(
    r"^(failed to create typed patch object \([^)]*\): |\S+ \"[^\"]*\" is invalid: |admission webhook \"[^\"]*\" denied the request: )"
)


class Refused(ModelFleetError):
    """The API server answered with an error; ``status`` is that of HTTP."""

    def __init__(self, message, status):
        super().__init__(message)
        self.status = status


def _no_discovery(_client, _cache_file):
    """The paths are known here, so nobody asks for the kinds of the cluster, which are kept in a file of the temporary directory."""


class Cluster:
    """An API server as a context of a kubeconfig names it; ``client`` is for tests."""

    def __init__(self, params, client=None):
        self.kubeconfig = params.get("kubeconfig") or ""
        self.context = params.get("context") or ""
        self.client = client or self._connect()
        self.server = self.client.configuration.host
        self.dynamic = kubernetes.dynamic.DynamicClient(self.client, discoverer=_no_discovery)

    def _connect(self):
        if IMPORT_ERROR is not None:
            raise ModelFleetError(
                f"Failed to ask the cluster: the Python of this task has no library kubernetes ({IMPORT_ERROR}). Install it on the "
                "controller (pip install 'kubernetes>=30')."
            )
        path = self.kubeconfig or os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
        try:
            contexts, current = kubernetes.config.list_kube_config_contexts(config_file=path)
            self.context = self.context or current["name"]
            if self.context not in [one["name"] for one in contexts]:
                raise ModelFleetError(
                    f"Failed to use the context {self.context}: {path} has none of that name, but "
                    f"{', '.join(sorted(one['name'] for one in contexts))}. Correct the context, or name the file that has it."
                )
            return kubernetes.config.new_client_from_config(config_file=path, context=self.context, persist_config=False)
        # One that nests too deep is a RecursionError of the library yaml.
        except (
            kubernetes.config.ConfigException,
            OSError,
            AttributeError,
            KeyError,
            RecursionError,
            TypeError,
            ValueError,
            yaml.YAMLError,
        ) as exc:
            raise ModelFleetError(
                f"Failed to read the kubeconfig {path}: {one_line(exc)}. Name the file of the cluster in kubeconfig, and its context."
            ) from exc

    def ask(self, method, path, doing, body=None, query=(), content_type=None, timeout=REQUEST_TIMEOUT_S):
        """Return the parsed answer; ``doing`` is the verb with its object, for the error. Raises Refused, or ModelFleetError."""
        try:
            return self.dynamic.request(
                method,
                path,
                body=body,
                query_params=list(query),
                content_type=content_type,
                _request_timeout=timeout,
                serializer=lambda _client, data: data,
            )
        except DynamicApiError as exc:
            raise Refused(self.sentence(doing, exc.status, message_of(exc.body) or exc.reason), exc.status) from exc
        except Exception as exc:  # of urllib3, of the library's own, of a plugin that gives out credentials
            raise ModelFleetError(
                f"Failed to {doing}: the API server {self.server} cannot be asked ({one_line(exc)}). See that it runs and that the context "
                f"{self.context} is the right one."
            ) from exc

    def sentence(self, doing, status, said):
        said = _PREAMBLE.sub("", one_line(said)).rstrip(".")
        remedy = "Correct it."
        if status == 401:
            remedy = f"The credentials of the context {self.context} are not known to it, or have ended; renew them."
        elif status == 403 and "violates PodSecurity" not in said:
            remedy = "Let an administrator grant that to the account; docs/kubernetes.md has all that it needs."
        elif status == 409:
            remedy = "Somebody else has set the same; leave it to one of you, or set dragonfly_kubernetes_force_conflicts."
        elif status in (429, 500, 503, 504):
            remedy = "Run again when the API server is well."
        elif "field not declared in schema" in said or "unknown field" in said:
            remedy = "It is misspelt, or this cluster is too old for it; correct it."
        return f"Failed to {doing} at {self.server}: {said or f'it answered {status}'}. {remedy}"

    def get(self, kind, name, namespace=None):
        """The object, or None where there is none."""
        try:
            return self.ask("get", path_of(kind, name, namespace), f"read the {title(kind, name, namespace)}")
        except Refused as exc:
            if exc.status != 404:
                raise
            return None

    def list(self, kind, namespace=None, selector=""):
        """The objects of one kind, all of the cluster without a namespace."""
        found, token = [], ""
        where = f" of the namespace {namespace}" if namespace else ""
        for _page in range(1000):
            query = [("limit", 500), *([("labelSelector", selector)] if selector else []), *([("continue", token)] if token else [])]
            answer = self.ask("get", path_of(kind, None, namespace), f"list the {plural_of(kind)}{where}", query=query)
            found += answer.get("items") or []
            token = (answer.get("metadata") or {}).get("continue")
            if not token:
                break
        return found

    def apply(self, definition, dry_run=False, force=False):
        """Apply one object on the server's side; returns what it is then. With ``dry_run`` the server says so and keeps nothing."""
        kind, name, namespace = identity(definition)
        query = [("fieldManager", FIELD_MANAGER), ("fieldValidation", "Strict"), ("force", "true" if force else "false")]
        return self.ask(
            "patch",
            path_of(kind, name, namespace),
            f"apply the {title(kind, name, namespace)}",
            body=definition,
            query=[*query, *([("dryRun", "All")] if dry_run else [])],
            content_type="application/apply-patch+yaml",
        )

    def delete(self, kind, name, namespace=None, dry_run=False):
        """Whether there was something to remove. What belongs to it goes after it."""
        query = [("propagationPolicy", "Background"), *([("dryRun", "All")] if dry_run else [])]
        try:
            self.ask("delete", path_of(kind, name, namespace), f"remove the {title(kind, name, namespace)}", query=query)
        except Refused as exc:
            if exc.status != 404:
                raise
            return False
        return True


def plural_of(kind):
    return {**KINDS, **EXTRA_KINDS}[kind][1]


def path_of(kind, name=None, namespace=None):
    version, plural, namespaced = {**KINDS, **EXTRA_KINDS}[kind]
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    middle = f"/namespaces/{namespace}" if namespaced and namespace else ""
    return f"{base}{middle}/{plural}" + (f"/{name}" if name else "")


def identity(definition):
    metadata = definition["metadata"]
    return definition["kind"], metadata["name"], metadata.get("namespace")


def title(kind, name, namespace=None):
    return f"{kind} {name}" + (f" in {namespace}" if namespace else "")


def problem(definition):
    """What is wrong with an object before anybody is asked, or None."""
    if not isinstance(definition, dict):
        return "is no object with kind, apiVersion and metadata; write one"
    kind, metadata = definition.get("kind"), definition.get("metadata")
    if kind not in KINDS:
        return f"has the kind {kind!r}, which is none of {', '.join(KINDS)}; correct it"
    version, _plural, namespaced = KINDS[kind]
    if definition.get("apiVersion") != version:
        return f"has the apiVersion {definition.get('apiVersion')!r} with the kind {kind}; write {version}"
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not _NAME.match(metadata["name"]):
        return f"of the kind {kind} has no metadata.name that Kubernetes takes; write one"
    namespace = metadata.get("namespace")
    if namespaced and not (isinstance(namespace, str) and _NAME.match(namespace)):
        return f"is the {kind} {metadata['name']} without a namespace; write metadata.namespace"
    if not namespaced and namespace is not None:
        return f"is the {kind} {metadata['name']}, which is in no namespace; leave metadata.namespace out"
    return None


def one_line(said):
    return " ".join(str(said).split())


def message_of(body):
    """What a Status of the API says, or the text itself."""
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    try:
        parsed = yaml.safe_load(body) if isinstance(body, str) else body
    except yaml.YAMLError:
        return str(body)
    return str(parsed.get("message") or "") if isinstance(parsed, dict) else str(body or "")


def belongs_to_helm(thing):
    """The release of Helm to which an object belongs, or an empty text."""
    metadata = thing.get("metadata") or {}
    release = (metadata.get("annotations") or {}).get(HELM_RELEASE)
    return release or ("?" if (metadata.get("labels") or {}).get(MANAGED_BY) == "Helm" else "")


def rollout(workload):
    """Where a Deployment, StatefulSet or DaemonSet is: ``{"kind", "name", "wanted", "ready", "done"}``.

    As in kubectl's rollout status: all that is wanted is of the newest template, and ready.
    """
    kind, name, _namespace = identity(workload)
    spec, status = workload.get("spec") or {}, workload.get("status") or {}
    seen = status.get("observedGeneration", 0) >= workload["metadata"].get("generation", 0)
    if kind == "DaemonSet":
        wanted, updated, ready = (status.get(key, 0) for key in ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable"))
    else:
        wanted, updated = spec.get("replicas", 1), status.get("updatedReplicas", 0)
        ready = status.get("availableReplicas", 0)
        if kind == "Deployment" and status.get("replicas", 0) > updated:
            seen = False
    return {
        "kind": kind,
        "name": name,
        "wanted": wanted,
        "updated": updated,
        "ready": ready,
        "done": bool(seen and updated >= wanted and ready >= wanted),
    }


def why_not(cluster, workload):
    """Why a workload is not rolled out, in words of its pods and of the events, or an empty text."""
    kind, name, namespace = identity(workload)
    for condition in (workload.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return one_line(condition.get("message"))
    selector = ",".join(f"{key}={value}" for key, value in sorted(workload["spec"]["selector"]["matchLabels"].items()))
    for pod in cluster.list("Pod", namespace, selector):
        said = pod_waits(pod)
        if said:
            return f"the pod {pod['metadata']['name']} {said}"
    events = [one for one in cluster.list("Event", namespace) if _is_about(one, kind, name) and one.get("type") == "Warning"]
    return one_line(events[-1].get("message")) if events else ""


def _is_about(event, kind, name):
    about = event.get("involvedObject") or {}
    return about.get("name", "").startswith(name) and about.get("kind") in (kind, "ReplicaSet", "Pod")


def condition(status, name):
    return any(one.get("type") == name and one.get("status") == "True" for one in status.get("conditions") or [])


def node(found):
    """What is to be known of a node: ``{"name", "address", "ready", "gpus", "pod_networks"}``."""
    status = found.get("status") or {}
    addresses = [one["address"] for one in status.get("addresses") or [] if one.get("type") == "InternalIP"]
    gpus = str((status.get("allocatable") or {}).get("nvidia.com/gpu", 0))
    return {
        "name": found["metadata"]["name"],
        "address": addresses[0] if addresses else "",
        "ready": condition(status, "Ready"),
        "gpus": int(gpus) if gpus.isdigit() else 0,
        "pod_networks": (found.get("spec") or {}).get("podCIDRs") or [],
    }


def pod_waits(pod):
    status = pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"has no node: {one_line(condition.get('message'))}"
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        for how in ("waiting", "terminated"):
            state = (container.get("state") or {}).get(how)
            if state and state.get("reason") not in ("PodInitializing", "ContainerCreating", "Completed"):
                last = (container.get("lastState") or {}).get("terminated") or {}
                said = one_line(state.get("message") or last.get("message") or (f"it ended with {last['exitCode']}" if last else ""))
                return f"waits in {container['name']}: {state.get('reason')}{f' ({said})' if said else ''}"
    return ""
