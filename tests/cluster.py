# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Kubernetes cluster on loopback: a real API server with its store, the real controllers and scheduler, and kwok, which plays the nodes.

Every pod is "running" as soon as it has a node; nothing of it runs.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml

# What kwok makes of a node that is not ready, of a pod that has a node, and of one that is to go.
STAGES = """
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: node-ready}
spec:
  resourceRef: {apiGroup: v1, kind: Node}
  selector:
    matchExpressions:
      - {key: '.status.conditions.[] | select( .type == "Ready" ) | .status', operator: NotIn, values: ["True"]}
  next:
    statusTemplate: |
      conditions:
        - {type: Ready, status: "True", reason: KubeletReady, lastHeartbeatTime: {{ Now | Quote }}, lastTransitionTime: {{ Now | Quote }}}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-ready}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
      - {key: .metadata.deletionTimestamp, operator: DoesNotExist}
      - {key: .status.podIP, operator: DoesNotExist}
  next:
    statusTemplate: |
      phase: Running
      podIP: 10.244.0.2
      hostIP: 10.0.0.30
      startTime: {{ Now | Quote }}
      conditions:
        - {type: Initialized, status: "True", lastTransitionTime: {{ Now | Quote }}}
        - {type: Ready, status: "True", lastTransitionTime: {{ Now | Quote }}}
        - {type: ContainersReady, status: "True", lastTransitionTime: {{ Now | Quote }}}
      containerStatuses:
        {{ range .spec.containers }}
        - {name: {{ .name | Quote }}, image: {{ .image | Quote }}, imageID: "", ready: true, restartCount: 0, started: true,
           state: {running: {startedAt: {{ Now | Quote }}}}}
        {{ end }}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-delete}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
      - {key: .metadata.deletionTimestamp, operator: Exists}
  next:
    finalizers: {empty: true}
    delete: true
"""
START_S = 300
STOP_S = 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class KubernetesCluster:
    """``programs`` (Path) has etcd, kube-apiserver, kube-controllers-scheduler and kwok; ``root`` (Path) is an empty directory."""

    def __init__(self, programs, root, name="test"):
        self.programs = programs
        self.root = root
        self.name = name
        self.port = free_port()
        self.server = f"https://127.0.0.1:{self.port}"
        self.tokens = {"admin": secrets.token_hex(16)}
        self.processes = {}
        self.context = None
        for folder in ("etcd", "pki"):
            (root / folder).mkdir(parents=True)

    # Processes

    def start(self, controllers=True):
        etcd, peer = (f"http://127.0.0.1:{free_port()}" for _one in range(2))
        self._run(
            *("etcd", "--data-dir", self.root / "etcd", "--name", self.name, "--logger", "zap", "--log-level", "error"),
            *("--listen-client-urls", etcd, "--advertise-client-urls", etcd, "--listen-peer-urls", peer),
            *("--initial-advertise-peer-urls", peer, "--initial-cluster", f"{self.name}={peer}"),
        )
        key = self.root / "pki/accounts.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        # token, user, uid, groups
        (self.root / "tokens.csv").write_text(
            f'{self.tokens["admin"]},admin,admin,"system:masters"\n'
            + "".join(f"{self.token(user)},{user},{user}\n" for user in ("deployer", "stranger")),
            encoding="utf-8",
        )
        self._run(
            *("kube-apiserver", "--etcd-servers", etcd, "--bind-address", "127.0.0.1", "--secure-port", self.port),
            *("--cert-dir", self.root / "pki", "--token-auth-file", self.root / "tokens.csv", "--authorization-mode", "RBAC"),
            *("--service-account-key-file", key, "--service-account-signing-key-file", key),
            *("--service-account-issuer", "https://kubernetes.default.svc", "--service-cluster-ip-range", "10.96.0.0/16"),
            *("--endpoint-reconciler-type", "none", "--profiling=false"),
        )
        self._wait(lambda: self.ask("/readyz") == "ok", "the API server")
        if controllers:
            kubeconfig = ("--kubeconfig", self.kubeconfig())
            common = (*kubeconfig, "--leader-elect=false", "--secure-port=0", "--profiling=false")
            # However late kwok says on a busy machine that a node is there.
            controllers = ("--service-account-private-key-file", key, "--concurrent-gc-syncs=2", "--node-monitor-grace-period=1h")
            self._run("kube-controllers-scheduler", *common, *controllers)
            self._run("kube-controllers-scheduler", "scheduler", *common, log="kube-scheduler")
            (self.root / "stages.yaml").write_text(STAGES, encoding="utf-8")
            self._run(
                *("kwok", *kubeconfig, "--config", self.root / "stages.yaml", "--manage-all-nodes", "-v", "WARN"),
                *("--node-lease-duration-seconds", 40, "--server-address", f"127.0.0.1:{free_port()}"),
            )
        return self

    def _run(self, program, *arguments, log=None):
        with open(self.root / f"{log or program}.log", "ab") as stream:
            self.processes[log or program] = subprocess.Popen(
                [self.programs / program, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, cwd=self.root
            )

    def _wait(self, holds, what):
        deadline = time.monotonic() + START_S
        while True:
            self._check()
            try:
                if holds():
                    return
            except (OSError, ValueError):
                pass
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what} did not come up: {self.log('kube-apiserver')}")
            time.sleep(0.2)

    def _check(self):
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}: {self.log(name)}")

    def log(self, name):
        path = self.root / f"{name}.log"
        return path.read_text(encoding="utf-8", errors="replace")[-2000:] if path.exists() else ""

    def stop(self):
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in reversed(self.processes.values()):
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = {}

    # Whoever asks

    def token(self, user):
        return self.tokens.setdefault(user, secrets.token_hex(16))

    def kubeconfig(self, user="admin"):
        """The path of a kubeconfig with one context, called as the user."""
        path = self.root / f"kubeconfig-{user}"
        if path.exists():  # a program may be reading it
            return str(path)
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": user,
            "clusters": [
                {"name": self.name, "cluster": {"server": self.server, "certificate-authority": str(self.root / "pki/apiserver.crt")}}
            ],
            "users": [{"name": user, "user": {"token": self.token(user)}}],
            "contexts": [{"name": user, "context": {"cluster": self.name, "user": user}}],
        }
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            yaml.safe_dump(config, stream)
        return str(path)

    def ask(self, path, method="GET", body=None, user="admin"):
        """The parsed answer, or its text; HTTPError, which is an OSError, for one that is none of success."""
        self._check()
        if self.context is None:
            self.context = ssl.create_default_context(cafile=str(self.root / "pki/apiserver.crt"))
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token(user)}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.server + path, method=method, data=data, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.context))
        with opener.open(request, timeout=30) as response:
            text = response.read().decode()
        try:
            return json.loads(text)
        except ValueError:
            return text

    def create(self, path, body):
        try:
            return self.ask(path, "POST", body)
        except urllib.error.HTTPError as exc:
            if exc.code != 409:
                raise
            return None

    def add_node(self, name, address, gpus=1, labels=None):
        """A node that kwok plays."""
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        }
        created = self.ask("/api/v1/nodes", "POST", node)
        allocatable = {"cpu": "16", "memory": "64Gi", "pods": "110", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
        created["status"] = {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "capacity": allocatable,
            "allocatable": allocatable,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        }
        self.ask(f"/api/v1/nodes/{name}/status", "PUT", created)

    def add_volume(self, name, size="200Gi"):
        """What a claim without a class is bound to; nobody makes the directory."""
        spec = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": f"/nowhere/{name}"}}
        self.ask(
            "/api/v1/persistentvolumes", "POST", {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
        )


def programs_of(cache=None):
    """Where lab/kubernetes/programs has put them, or None."""
    cache = Path(cache or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelfleet/kubernetes/programs"
    found = sorted(cache.glob("kubernetes-*-linux-*"))
    return found[-1] if found and (found[-1] / "etcd").exists() and (found[-1] / "kube-apiserver").exists() else None
