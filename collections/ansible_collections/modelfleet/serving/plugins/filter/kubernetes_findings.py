# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kubernetes_findings
short_description: What is wrong with the variables of a cluster, and what cannot be reached from where
version_added: 0.1.0
description:
  - Looks for what the API server or a daemon in a pod would stumble over later, and for what would leave it open.
  - Where the inventory has hosts too, it looks for what these and the pods could not reach of each other.
positional: _input
options:
  _input:
    description: The settings, as the role P(modelfleet.serving.dragonfly_kubernetes#role) collects them.
    type: dict
    required: true
  found:
    description: What M(modelfleet.serving.kubernetes_info) returned. Without it only what the inventory says is looked at.
    type: dict
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Look for mistakes
  ansible.builtin.debug:
    msg: "{{ __dragonfly_kubernetes_settings | modelfleet.serving.kubernetes_findings }}"
"""

RETURN = r"""
_value:
  description: Sentences, none where nothing is wrong.
  type: list
  elements: str
"""

import ipaddress
import re

from ansible_collections.modelfleet.serving.plugins.module_utils import _dragonfly_config
from ansible_collections.modelfleet.serving.plugins.module_utils._kubernetes_manifests import COMPONENTS

_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}\Z")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_QUANTITY = re.compile(r"[0-9]+([.][0-9]+)?([KMGTP]i?|k)?\Z")
_SHARE = re.compile(r"[0-9]{1,3}%\Z|[0-9]+\Z")
# Of a cluster, not of a fleet.
_FOREIGN = ("default", "kube-system", "kube-public", "kube-node-lease")
# A certificate with its key, in the base64 of a Secret, of which one may have a MiB.
_NODES_OF_A_SECRET = 500
# What this role says of a pod, or what would take away what keeps it apart.
_OWNED = (
    "containers",
    "initContainers",
    "volumes",
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "serviceAccountName",
    "automountServiceAccountToken",
)


def kubernetes_findings(settings, found=None):
    return [*_of_images(settings), *_of_numbers(settings), *_of_the_fleet(settings), *_of_pods(settings), *_of_cluster(settings, found)]


def _of_images(settings):
    needed = {"client": True, "scheduler": settings["schedulers"] > 0, "torchserve": False}
    for name, required in needed.items():
        variable, image = f"dragonfly_kubernetes_{name}_image", settings["images"].get(name) or ""
        if not image and required:
            yield f"The variable {variable} is empty; write the image with its digest, registry/repository@sha256:…"
        elif image and not _DIGEST.match(image):
            yield (
                f"The image {image} in {variable} has no digest, and what a tag names may be another image tomorrow; write "
                "registry/repository@sha256:…, as the registry shows it."
            )


def _of_numbers(settings):
    namespace = settings["namespace"]
    if not _NAMESPACE.match(str(namespace)):
        yield f"The variable dragonfly_kubernetes_namespace is {namespace!r}, which is none; write small letters, digits and dashes."
    elif namespace in _FOREIGN or namespace.startswith("kube-"):
        yield f"The namespace {namespace} in dragonfly_kubernetes_namespace is the cluster's own; write one for this fleet alone."
    for name in ("schedulers", "seeds"):
        if settings[name] < 0:
            yield f"The variable dragonfly_kubernetes_{name} is {settings[name]}; write 0 or more."
    if not _QUANTITY.match(str(settings["seed_storage"]["size"])):
        yield f"The variable dragonfly_kubernetes_seed_storage_size is {settings['seed_storage']['size']!r}; write a size such as 120Gi."
    if not _SHARE.match(str(settings["max_unavailable"])) or str(settings["max_unavailable"]) in ("0", "0%"):
        yield (
            f"The variable dragonfly_kubernetes_max_unavailable is {settings['max_unavailable']!r}; write a number of nodes from 1 on, or "
            "a share such as 20%."
        )
    path = str(settings["node_path"])
    if not path.startswith("/") or path.rstrip("/") in ("", "/etc", "/usr", "/var", "/var/lib", "/root", "/home", "/proc", "/sys", "/dev"):
        yield f"The variable dragonfly_kubernetes_node_path is {path}, which belongs to the node; write a directory for this alone."
    for one in settings["more_admitted"]:
        try:
            network = ipaddress.ip_network(str(one))
        except ValueError:
            yield f"The entry {one!r} in dragonfly_kubernetes_admitted is no address and no prefix; correct it."
            continue
        if not network.prefixlen:
            yield f"The entry {one} in dragonfly_kubernetes_admitted is everybody; name the networks from which nodes come."


def _of_the_fleet(settings):
    """What hosts and pods could not reach of each other."""
    hosts = settings["hosts"]
    if settings["schedulers"] and hosts["schedulers"]:
        yield (
            f"There are schedulers in the cluster and on hosts ({', '.join(hosts['schedulers'])}), and two lists of schedulers are two "
            "swarms; set dragonfly_kubernetes_schedulers to 0, so that the pods ask those on hosts."
        )
    elif settings["schedulers"] and hosts["peers"]:
        yield (
            f"The schedulers are in the cluster, at addresses that only the cluster knows, and the hosts {_some(hosts['peers'])} cannot "
            "reach them; put a scheduler on a host (group dragonfly_schedulers), which both reach."
        )
    elif not settings["schedulers"] and not hosts["schedulers"]:
        yield "There is no scheduler in the cluster and none on a host; set dragonfly_kubernetes_schedulers, or fill dragonfly_schedulers."
    if settings["seeds"] and hosts["peers"]:
        yield (
            "There are seed peers in the cluster, at addresses that only the cluster knows, and hosts that would be sent to them "
            f"({_some(hosts['peers'])}); set dragonfly_kubernetes_seeds to 0, and name hosts in dragonfly_seed_peers."
        )
    if settings["mtls"] and settings["own_certificates"] and not settings["tls_secret"]:
        yield (
            "The certificates are your own (modelfleet_pki_ca_path), so none is issued for pods; put them into a Secret of the namespace "
            "and name it in dragonfly_kubernetes_tls_secret, or set modelfleet_mtls to false for the whole fleet."
        )
    differing = [host for host, value in settings["hosts"]["mtls"].items() if value != settings["mtls"]]
    if differing:
        yield f"The variable modelfleet_mtls is another one for {_some(differing)} than for the cluster; set it once for all."


def _of_pods(settings):
    for variable, value in (("dragonfly_kubernetes_pods", settings["pods"]), ("dragonfly_kubernetes_resources", settings["resources"])):
        for name in value:
            if name not in COMPONENTS:
                yield f"The key {name} in {variable} is none of {', '.join(COMPONENTS)}; correct it."
            elif not isinstance(value[name], dict):
                yield f"The key {name} in {variable} is no dictionary; write the keys below it."
    for name, pod in settings["pods"].items():
        for key in _OWNED if isinstance(pod, dict) else ():
            if key in pod:
                yield f"The key {key} of {name} in dragonfly_kubernetes_pods is what this role says; leave it out."
    for name in ("scheduler", "seed", "dfdaemon"):
        component = "dfdaemon" if name == "seed" else name
        for key, problem in _dragonfly_config.problems(component, settings["configs"][name]):
            yield f"The key {key} of the configuration of {name} {problem}."
    if settings["images"].get("torchserve"):
        if not settings["torchserve"]["plugin"]:
            yield (
                "TorchServe in the cluster brings its models by the endpoint plugin, and modelfleet_plugin_downloads is false; set it to "
                "true for the cluster, or leave dragonfly_kubernetes_torchserve_image empty."
            )
        if settings["torchserve"]["replicas"] < 1:
            yield "The variable dragonfly_kubernetes_torchserve_replicas is below 1; write how many nodes serve."


def _of_cluster(settings, found):
    if found is None:
        return
    cluster, namespace, nodes = found["cluster"], found["namespace"], found["nodes"]
    wanted = settings["cluster_uid"]
    where = (
        f"the cluster at {cluster['server']} (context {cluster['context']}, {cluster['version']}, uid {cluster['uid'] or 'not readable'})"
    )
    if not cluster["uid"]:
        yield (
            f"Refused to change {where}: the account may not read the namespace kube-system, by which a cluster is known; have it granted."
        )
        return
    if not wanted:
        yield (
            f"Refused to change {where}: the inventory names none. If that is the one, write dragonfly_kubernetes_cluster_uid: "
            f"{cluster['uid']}."
        )
        return
    if wanted != cluster["uid"]:
        yield (
            f"Refused to change {where}: dragonfly_kubernetes_cluster_uid is {wanted}, another cluster. Correct kubeconfig or context; if "
            f"this one is meant, confirm it by dragonfly_kubernetes_cluster_uid={cluster['uid']}."
        )
        return
    if namespace["helm"]:
        release = "a release of Helm" if namespace["helm"] == "?" else f"the release {namespace['helm']} of Helm"
        yield (
            f"The namespace {namespace['name']} of {cluster['server']} belongs to {release}; name another one in "
            "dragonfly_kubernetes_namespace, or go on with Helm and the values of the play kubernetes_values."
        )
    elif namespace["exists"] and not namespace["ours"]:
        yield (
            f"The namespace {namespace['name']} of {cluster['server']} was made by somebody else; name another one in "
            "dragonfly_kubernetes_namespace, or give it the label app.kubernetes.io/managed-by=modelfleet.serving."
        )
    yield from _of_nodes(settings, nodes)


def _of_nodes(settings, nodes):
    if not nodes:
        yield "No node has all labels of dragonfly_kubernetes_node_selector; correct them, or label the nodes."
    if settings["mtls"] and not settings["tls_secret"] and len(nodes) > _NODES_OF_A_SECRET:
        yield (
            f"The cluster has {len(nodes)} nodes, and a Secret holds the certificates of {_NODES_OF_A_SECRET}; narrow "
            "dragonfly_kubernetes_node_selector, or make several clusters of it in the inventory."
        )
    nowhere = [node["name"] for node in nodes if not node["address"]]
    if nowhere:
        yield f"The nodes {_some(nowhere)} have no InternalIP, at which peers call; correct them, or leave them out by their labels."
    addresses = {str(address): host for host, address in settings["hosts"]["addresses"].items() if address}
    for node in nodes:
        if node["address"] in addresses:
            yield (
                f"The node {node['name']} is the host {addresses[node['address']]} of the inventory ({node['address']}), and its ports "
                "are for one dfdaemon; leave it out by dragonfly_kubernetes_node_selector, or take the host out of the inventory."
            )
    if settings["hosts"]["firewall"]:
        shut = [node for node in nodes if node["address"] and node["address"] not in map(str, settings["hosts"]["callers"])]
        if shut:
            write = ", ".join(node["address"] for node in shut[:5]) + (", …" if len(shut) > 5 else "")
            yield (
                f"The firewall of the hosts does not admit the nodes {_some([node['name'] for node in shut])}; add their addresses "
                f"({write}) to modelfleet_firewall_addresses in group_vars/all, and run the play site first."
            )
    gpus = settings.get("torchserve", {}).get("gpus") if settings["images"].get("torchserve") else 0
    if gpus and nodes:
        able = [node for node in nodes if node["gpus"] >= gpus]
        if len(able) < settings["torchserve"]["replicas"]:
            yield (
                f"TorchServe is to run on {settings['torchserve']['replicas']} nodes with {gpus} GPUs each, and {len(able)} of "
                f"{len(nodes)} nodes have them; lower dragonfly_kubernetes_torchserve_replicas or _gpus, or install the device plugin."
            )


def _some(names):
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


class FilterModule:
    def filters(self):
        return {"kubernetes_findings": kubernetes_findings}
