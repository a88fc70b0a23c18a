# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects of a fleet in a Kubernetes cluster. PRIVATE to the collection: it can have breaking changes at any time.

What the daemons read is made by the roles that configure hosts; here is only what Kubernetes needs around it.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import ipaddress
import json

from ansible_collections.modelfleet.serving.plugins.module_utils._kubernetes_kinds import FIELD_MANAGER, KINDS, MANAGED_BY, PART_OF

COMPONENTS = ("scheduler", "seed", "dfdaemon", "torchserve")
COMPONENT = "app.kubernetes.io/component"
POD_NAME = "statefulset.kubernetes.io/pod-name"
CONFIGURATION = "modelfleet.serving/configuration"
# By number, because a node knows none of these names. All of them are in one group, for which linked files are readable.
GROUP = 64000
USERS = {"scheduler": 64001, "seed": 64002, "dfdaemon": 64002, "torchserve": 64003}
STORE = "/var/lib/modelfleet"
CONFIGURED = "/etc/modelfleet"
TLS = "/etc/dragonfly-tls"
# In the configuration of all nodes, for what each puts in its place. The address is one of those that are nobody's.
NODE_ADDRESS = "192.0.2.1"
NODE_NAME = "modelfleet-node"
CONFINED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
# Of the owner and the group.
_READABLE = 0o440

# The configuration of a node is that of all with its own address in it; of a seed peer that of its own name.
_NODE_FILE = (
    f'sed -e "s/{NODE_ADDRESS.replace(".", "[.]")}/$NODE_ADDRESS/g" -e "s/{NODE_NAME}/$NODE_NAME/g" {CONFIGURED}/dfdaemon.yaml'
    " > /etc/dragonfly/dfdaemon.yaml"
)
_SEED_FILE = f'cp "{CONFIGURED}/$POD_NAME.yaml" /etc/dragonfly/dfdaemon.yaml'
# As on a host: dfdaemon links downloads into incoming, where TorchServe's user takes them from. No file is touched.
_NODE_STORE = f"""set -eu
layout() {{ mkdir -p "{STORE}/$1"; chown "$2:{GROUP}" "{STORE}/$1"; chmod "$3" "{STORE}/$1"; }}
layout pieces {USERS["dfdaemon"]} 0750
layout incoming {USERS["dfdaemon"]} 2770
layout models {USERS["torchserve"]} 0750
{_NODE_FILE}
chown {USERS["dfdaemon"]}:{GROUP} /etc/dragonfly/dfdaemon.yaml
chmod 0440 /etc/dragonfly/dfdaemon.yaml
"""
_SEED_STORE = f"""set -eu
mkdir -p {STORE}/pieces
{_SEED_FILE}
chmod 0440 /etc/dragonfly/dfdaemon.yaml
"""
_PREPARE = {"dfdaemon": _NODE_STORE, "seed": _SEED_STORE}

# java itself, as on a host, whatever the entry point of the image is: the launcher ends with 0 when java dies.
_TORCHSERVE = """set -eu
mkdir -p "$TMPDIR" "$LOG_LOCATION"
home=$(python -c 'import os, ts; print(os.path.dirname(os.path.dirname(ts.__file__)))')
exec java "$@" -Djava.io.tmpdir="$TMPDIR" -Dlog4j.configurationFile=file:///etc/modelfleet/log4j2.xml -Dmodel_server_home="$home" \\
    -cp "$home/ts/frontend/*:/opt/torchserve/plugins/*" org.pytorch.serve.ModelServer --python "$(command -v python)" \\
    -f /etc/modelfleet/config.properties -s /var/lib/modelfleet/models -ncs
"""


def digest(files):
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:32]


def prefix(address):
    """An address or a prefix as a NetworkPolicy has it."""
    return str(ipaddress.ip_network(str(address), strict=False))


class Manifests:
    """``settings`` is what the role dragonfly_kubernetes collects, see the filter kubernetes_manifests."""

    def __init__(self, settings):
        self.settings = settings
        self.namespace = settings["namespace"]
        self.labels = {MANAGED_BY: FIELD_MANAGER, PART_OF: "modelfleet"}

    @property
    def components(self):
        counts = {"scheduler": self.settings["schedulers"], "seed": self.settings["seeds"], "dfdaemon": 1}
        counts["torchserve"] = 1 if self.settings["images"].get("torchserve") else 0
        return [name for name in COMPONENTS if counts[name]]

    def base(self):
        """What is there before the daemons can be configured: namespace, accounts, policies and the addresses of the services."""
        found = [self.space(), *map(self.account, self.components), self.policy("default-deny", {}, [])]
        for name, count, ports in (
            ("scheduler", self.settings["schedulers"], {"api": self.settings["ports"]["api"]}),
            ("seed", self.settings["seeds"], {key: self.settings["ports"][key] for key in ("upload", "storage")}),
        ):
            if not count:
                continue
            selector = {PART_OF: "modelfleet", COMPONENT: name}
            found.append(self.policy(name, selector, list(ports.values())))
            found.append(self.service(name, selector, ports, clusterIP="None"))
            # An address that a pod keeps: peers are told it, and its certificate is for it.
            found += [self.service(f"{name}-{n}", {**selector, POD_NAME: f"{name}-{n}"}, ports) for n in range(count)]
            found.append(self.object("PodDisruptionBudget", name, spec={"maxUnavailable": 1, "selector": {"matchLabels": selector}}))
        return found

    def all(self):
        """Everything."""
        found = self.base()
        found += [self.configuration(name) for name in self.components if name != "torchserve"]
        if self.settings["mtls"] and not self.settings["tls_secret"]:
            found += [self.certificates(name) for name in self.components if name != "torchserve"]
        for name in self.components:
            found += self.torchserve() if name == "torchserve" else [self.dragonfly(name)]
        return found

    def object(self, kind, name, labels=None, **rest):
        version, _plural, namespaced = KINDS[kind]
        metadata = {"name": name, **({"namespace": self.namespace} if namespaced else {}), "labels": {**self.labels, **(labels or {})}}
        return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}

    def space(self):
        # What dfdaemon needs of a node, its network and a directory, is for this level alone. No container here is privileged, and what is
        # not restricted is in the audit log of the cluster.
        levels = {"enforce": "privileged", "audit": "restricted"}
        return self.object("Namespace", self.namespace, {f"pod-security.kubernetes.io/{key}": value for key, value in levels.items()})

    def account(self, name):
        """Nothing here asks the API server."""
        return self.object("ServiceAccount", name, automountServiceAccountToken=False)

    def policy(self, name, selector, ports):
        """Who calls these ports: the pods of the fleet, the nodes, and the hosts of the inventory. Without ports nobody calls anybody."""
        rule = {
            "from": [
                {"podSelector": {"matchLabels": {PART_OF: "modelfleet"}}},
                *({"ipBlock": {"cidr": one}} for one in self.admitted()),
            ],
            "ports": [{"protocol": "TCP", "port": port} for port in ports],
        }
        chosen = {"matchLabels": selector} if selector else {}
        return self.object(
            "NetworkPolicy",
            name,
            spec={"podSelector": chosen, "policyTypes": ["Ingress"], **({"ingress": [rule]} if ports else {})},
        )

    def admitted(self):
        found = list(map(prefix, self.settings["admitted"]))
        for network in map(ipaddress.ip_network, self.settings["pod_networks"]):
            # By these a node comes to pods of another one, where the network of the pods is a tunnel or a bridge.
            found += [prefix(network.network_address), prefix(network.network_address + 1)]
        return list(dict.fromkeys(found))

    def service(self, name, selector, ports, **more):
        spec = {
            "type": "ClusterIP",
            # Peers wait for a scheduler that starts, and a scheduler asks seed peers that are not ready to others yet.
            "publishNotReadyAddresses": True,
            "selector": selector,
            "ports": [{"name": key, "port": port, "targetPort": port, "protocol": "TCP"} for key, port in ports.items()],
            **more,
        }
        return self.object("Service", name, spec=spec)

    def configuration(self, name):
        files = self.settings["configurations"][name]
        # A Secret only where there is a secret in it, so that a diff shows what is another one.
        if files["secret"]:
            return self.object("Secret", name, data=_encoded(files["files"]))
        return self.object("ConfigMap", name, data=files["files"])

    def certificates(self, name):
        return self.object("Secret", f"{name}-tls", type="Opaque", data=_encoded(self.settings["certificates"][name]))

    # Pods

    def dragonfly(self, name):
        kind = "DaemonSet" if name == "dfdaemon" else "StatefulSet"
        configured = self.settings["configurations"][name]
        # What the daemons read again by themselves makes no other pod, and neither do certificates.
        stays = {key: value for key, value in configured["files"].items() if not key.endswith("dynconfig.yaml")}
        spec = {"selector": {"matchLabels": {PART_OF: "modelfleet", COMPONENT: name}}, "template": self.template(name, digest(stays))}
        if kind == "DaemonSet":
            # A number, where it is one: Kubernetes takes "2" for a share without its sign.
            most = str(self.settings["max_unavailable"])
            rolling = {"maxSurge": 0, "maxUnavailable": int(most) if most.isdigit() else most}
            spec["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": rolling}
        else:
            spec.update(serviceName=name, replicas=self.settings[f"{name}s"], podManagementPolicy="Parallel")
            spec["updateStrategy"] = {"type": "RollingUpdate"}
        if name == "seed":
            spec["volumeClaimTemplates"] = [self.claim()]
        return self.object(kind, name, {COMPONENT: name}, spec=spec)

    def claim(self):
        storage = self.settings["seed_storage"]
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage["size"]}}}
        if storage["class"]:
            spec["storageClassName"] = storage["class"]
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "store", "labels": self.labels}, "spec": spec}

    def template(self, name, configuration):
        pod = getattr(self, f"{name}_pod")()
        pod = {
            "serviceAccountName": name,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 30,
            **({"imagePullSecrets": [{"name": one} for one in self.settings["pull_secrets"]]} if self.settings["pull_secrets"] else {}),
            **pod,
        }
        labels = {**self.labels, COMPONENT: name}
        return {
            "metadata": {"labels": labels, "annotations": {CONFIGURATION: configuration}},
            "spec": merged(pod, self.settings["pods"].get(name) or {}),
        }

    def scheduler_pod(self):
        port = self.settings["ports"]["api"]
        container = {
            **self.container("scheduler", "scheduler"),
            "args": ["--config", f"{CONFIGURED}/$(POD_NAME).yaml", "--dynconfig", f"{CONFIGURED}/dynconfig.yaml", "--console"],
            "env": [_field("POD_NAME", "metadata.name"), {"name": "HOME", "value": "/var/lib/dragonfly-scheduler"}],
            "ports": [_port("api", port)],
            "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 5},
        }
        empty = {"state": "/var/lib/dragonfly-scheduler", "logs": "/var/log/dragonfly-scheduler", "tmp": "/tmp"}
        return self.apart("scheduler", self.with_volumes("scheduler", container, empty))

    def seed_pod(self):
        return self.apart("seed", self.client("seed", {}))

    def dfdaemon_pod(self):
        pod = {
            # Peers call the address of the node, and the proxy is on its loopback.
            "hostNetwork": True,
            "dnsPolicy": "ClusterFirstWithHostNet",
            # Of a directory of the node that is nobody's group.
            "securityContext": {"fsGroup": GROUP, "seccompProfile": {"type": "RuntimeDefault"}},
            **({"nodeSelector": self.settings["node_selector"]} if self.settings["node_selector"] else {}),
        }
        store = {"name": "store", "hostPath": {"path": self.settings["node_path"], "type": "DirectoryOrCreate"}}
        return {**pod, **self.client("dfdaemon", store)}

    def client(self, name, store):
        """A dfdaemon, with what has its directories and its configuration in place before."""
        node, ports = name == "dfdaemon", self.settings["ports"]
        probe = {"httpGet": {"path": "/healthy", "port": ports["health"], **({"host": "127.0.0.1"} if node else {})}}
        container = {
            **self.container(name, "client"),
            "args": [
                *("--config", "/etc/dragonfly/dfdaemon.yaml", "--dynconfig", f"{CONFIGURED}/dynconfig.yaml"),
                *("--log-dir", "/var/log/dfdaemon", "--log-level", "warn", "--console"),
            ],
            # Presigned URLs open an object to whoever reads them; the backend logs those that fail.
            "env": [
                {"name": key, "value": str(value)}
                for key, value in sorted({**self.settings["dfdaemon_environment"], "RUST_LOG": "dragonfly_client_backend=off"}.items())
            ],
            "ports": [_port("upload", ports["upload"]), _port("storage", ports["storage"])],
            "readinessProbe": {**probe, "periodSeconds": 5},
            "livenessProbe": {**probe, "initialDelaySeconds": 60, "periodSeconds": 20, "failureThreshold": 6},
        }
        empty = {"etc": "/etc/dragonfly", "socket": "/run/dragonfly", "logs": "/var/log/dfdaemon", "tmp": "/tmp"}
        pod = self.with_volumes(name, container, empty)
        # Pieces and models in one volume: a hard link does not cross mounts.
        container["volumeMounts"].append({"name": "store", "mountPath": STORE})
        prepare = {
            "name": "prepare",
            "image": self.settings["images"]["client"],
            "command": ["/bin/sh", "-c", _PREPARE[name]],
            "env": [
                _field("NODE_ADDRESS", "status.hostIP"),
                _field("NODE_NAME", "spec.nodeName"),
                _field("POD_NAME", "metadata.name"),
            ],
            "securityContext": copy.deepcopy(CONFINED),
            "volumeMounts": [
                {"name": "configuration", "mountPath": CONFIGURED, "readOnly": True},
                {"name": "etc", "mountPath": "/etc/dragonfly"},
                {"name": "store", "mountPath": STORE},
            ],
        }
        if node:
            # Directories of the node get their owners from root, with no other right.
            rights = {"drop": ["ALL"], "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"]}
            prepare["securityContext"].update(runAsUser=0, capabilities=rights)
            container["securityContext"].update(runAsNonRoot=True, runAsUser=USERS[name], runAsGroup=GROUP)
            pod["volumes"].append(store)
        return {**pod, "initContainers": [prepare]}

    def container(self, name, image):
        return {
            "name": name,
            "image": self.settings["images"][image],
            "resources": self.settings["resources"].get(name) or {},
            "securityContext": copy.deepcopy(CONFINED),
        }

    def with_volumes(self, name, container, empty):
        """A pod of one container with its configuration, its certificates and directories that are its own."""
        source = {"configMap": {"name": name, "defaultMode": _READABLE}}
        if self.settings["configurations"][name]["secret"]:
            source = {"secret": {"secretName": name, "defaultMode": _READABLE}}
        volumes = [{"name": "configuration", **source}]
        mounts = [{"name": "configuration", "mountPath": CONFIGURED, "readOnly": True}]
        if self.settings["mtls"]:
            secret = self.settings["tls_secret"] or f"{name}-tls"
            volumes.append({"name": "tls", "secret": {"secretName": secret, "defaultMode": _READABLE}})
            mounts.append({"name": "tls", "mountPath": TLS, "readOnly": True})
        volumes += [{"name": key, "emptyDir": {}} for key in empty]
        mounts += [{"name": key, "mountPath": path} for key, path in empty.items()]
        container["volumeMounts"] = mounts
        return {"containers": [container], "volumes": volumes}

    def apart(self, name, pod):
        """A pod with a network of its own, on another node than its like where there is one."""
        selector = {"matchLabels": {PART_OF: "modelfleet", COMPONENT: name}}
        term = {"weight": 100, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}}
        return {
            **pod,
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}},
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USERS[name],
                "runAsGroup": GROUP,
                "fsGroup": GROUP,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }

    # TorchServe

    def torchserve(self):
        of = self.settings["torchserve"]
        found = [
            self.object("ConfigMap", "torchserve", data=of["files"]),
            self.object("Secret", "torchserve-endpoint", data=_encoded(of["endpoint"])),
            self.object("ConfigMap", "torchserve-plugin", binaryData={"dragonfly-endpoint.jar": of["jar"]}),
        ]
        # The list of models and the credentials are read again; what the process starts from is not.
        stays = {**{key: value for key, value in of["files"].items() if key != "models.json"}, "jar": of["jar"]}
        spec = {
            "replicas": of["replicas"],
            "selector": {"matchLabels": {PART_OF: "modelfleet", COMPONENT: "torchserve"}},
            # A node has these ports once, so the old pod goes first.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": self.template("torchserve", digest(stays)),
        }
        return [*found, self.object("Deployment", "torchserve", {COMPONENT: "torchserve"}, spec=spec)]

    def torchserve_pod(self):
        of, image = self.settings["torchserve"], self.settings["images"]["torchserve"]
        gpus = {"nvidia.com/gpu": of["gpus"]} if of["gpus"] else {}
        resources = copy.deepcopy(self.settings["resources"].get("torchserve") or {})
        if gpus:
            resources["limits"] = {**resources.get("limits", {}), **gpus}
        configured = [
            {"name": "configuration", "mountPath": CONFIGURED, "readOnly": True},
            {"name": "state", "mountPath": "/var/lib/torchserve"},
        ]
        own = {
            key: f"/var/lib/torchserve/{value}"
            for key, value in (("HOME", ""), ("TMPDIR", "tmp"), ("TEMP", "tmp"), ("LOG_LOCATION", "logs"))
        }
        own = {**own, "METRICS_LOCATION": "/var/lib/torchserve/logs", "TORCHINDUCTOR_CACHE_DIR": "/var/lib/torchserve/inductor"}
        environment = {**own, "DRAGONFLY_ENDPOINT_CONFIG": "/etc/dragonfly-endpoint/config.json", **of["environment"]}
        server = {
            "name": "torchserve",
            "image": image,
            "command": ["/bin/sh", "-c", _TORCHSERVE, "torchserve", *of["java"]],
            "workingDir": "/var/lib/torchserve",
            "env": [{"name": key, "value": str(value)} for key, value in sorted(environment.items())],
            # Whoever wants one of them on a node has none left, so that no two of these pods are on one.
            "ports": [_port(key.replace("_", "-")[:15], port) for key, port in of["ports"].items()],
            "readinessProbe": {"tcpSocket": {"port": of["ports"]["management"], "host": "127.0.0.1"}, "periodSeconds": 5},
            "resources": resources,
            "securityContext": copy.deepcopy(CONFINED),
            "volumeMounts": [
                *configured,
                {"name": "endpoint", "mountPath": "/etc/dragonfly-endpoint", "readOnly": True},
                {"name": "plugin", "mountPath": "/opt/torchserve/plugins", "readOnly": True},
                {"name": "tmp", "mountPath": "/tmp"},
                {"name": "store", "mountPath": STORE},
                # dfdaemon's own, also of models that are not for this pod.
                {"name": "nothing", "mountPath": f"{STORE}/pieces", "readOnly": True},
            ],
        }
        models = {
            "name": "models",
            "image": image,
            "command": ["python", "-I", f"{CONFIGURED}/serve_models.py"],
            "args": [
                *("--models", f"{CONFIGURED}/models.json", "--url", f"http://127.0.0.1:{of['ports']['management']}"),
                *("--key-file", "/var/lib/torchserve/key_file.json", "--ready", "/run/modelfleet/ready"),
                *("--timeout", str(of["timeout"])),
            ],
            "readinessProbe": {"exec": {"command": ["test", "-f", "/run/modelfleet/ready"]}, "periodSeconds": 5},
            "resources": {},
            "securityContext": copy.deepcopy(CONFINED),
            "volumeMounts": [*configured, {"name": "ready", "mountPath": "/run/modelfleet"}],
        }
        volumes = [
            {"name": "configuration", "configMap": {"name": "torchserve", "defaultMode": _READABLE}},
            {"name": "endpoint", "secret": {"secretName": "torchserve-endpoint", "defaultMode": _READABLE}},
            {"name": "plugin", "configMap": {"name": "torchserve-plugin", "defaultMode": _READABLE}},
            *({"name": name, "emptyDir": {}} for name in ("state", "ready", "tmp", "nothing")),
            {"name": "store", "hostPath": {"path": self.settings["node_path"], "type": "DirectoryOrCreate"}},
        ]
        return {
            # dfdaemon's proxy is on the loopback of the node, and so are TorchServe's own ports.
            "hostNetwork": True,
            "dnsPolicy": "ClusterFirstWithHostNet",
            "terminationGracePeriodSeconds": 60,
            **({"nodeSelector": self.settings["node_selector"]} if self.settings["node_selector"] else {}),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USERS["torchserve"],
                "runAsGroup": GROUP,
                "fsGroup": GROUP,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [server, models],
            "volumes": volumes,
        }


def merged(one, other):
    """``other`` over ``one``, dictionary by dictionary; anything else of it takes the place of what was there."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return copy.deepcopy(other)
    return {**one, **{key: merged(one.get(key), value) for key, value in other.items()}}


def _encoded(files):
    return {name: base64.b64encode(text.encode()).decode() for name, text in files.items()}


def _field(name, path):
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _port(name, port):
    return {"name": name, "containerPort": port, "protocol": "TCP"}
