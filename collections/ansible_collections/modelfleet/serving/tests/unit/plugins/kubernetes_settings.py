# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of a cluster in which nothing is wrong, as the role collects them."""

from __future__ import annotations

import json

DIGEST = "@sha256:" + "a" * 64
DFDAEMON = {
    "host": {"ip": "192.0.2.1", "hostname": "modelfleet-node"},
    "upload": {"server": {"ip": "192.0.2.1", "port": 4000}},
    "storage": {"dir": "/var/lib/modelfleet/pieces", "keep": True, "server": {"ip": "192.0.2.1", "tcpPort": 4005}},
    "health": {"server": {"ip": "127.0.0.1", "port": 4003}},
}
SETTINGS = {
    "cluster_uid": "u-1",
    "namespace": "modelfleet",
    "schedulers": 2,
    "seeds": 1,
    "images": {
        "scheduler": f"docker.io/dragonflyoss/scheduler{DIGEST}",
        "client": f"dragonflyoss/client{DIGEST}",
        "torchserve": "",
    },
    "pull_secrets": [],
    "seed_storage": {"class": "", "size": "120Gi"},
    "node_selector": {},
    "node_path": "/var/lib/modelfleet",
    "max_unavailable": "20%",
    "more_admitted": [],
    "admitted": ["10.0.0.31", "10.0.0.32"],
    "pod_networks": ["10.244.1.0/24"],
    "nodes": ["gpu-1", "gpu-2"],
    "addresses": {"scheduler-0": "10.96.0.1", "scheduler-1": "10.96.0.2", "seed-0": "10.96.0.3"},
    "mtls": True,
    "own_certificates": False,
    "tls_secret": "",
    "tls": {
        "trusted": "CA",
        "certificates": {name: f"KEY-{name}" for name in ("gpu-1", "gpu-2", "scheduler-0", "scheduler-1", "seed-0")},
    },
    "resources": {},
    "pods": {},
    "dfdaemon_environment": {"HTTPS_PROXY": "http://proxy:3128"},
    "ports": {"api": 8002, "upload": 4000, "storage": 4005, "health": 4003},
    "hosts": {"schedulers": [], "peers": [], "addresses": {}, "mtls": {}, "firewall": False, "callers": []},
    "configs": {
        "scheduler": {"server": {"advertiseIP": "192.0.2.1", "host": "modelfleet-node", "port": 8002}, "metrics": {"enable": True}},
        "scheduler_dynconfig": {"schedulerClusterConfig": {"candidateParentLimit": 2}},
        "seed": {**DFDAEMON, "seedPeer": {"enable": True, "type": "super"}},
        "dfdaemon": {**DFDAEMON, "seedPeer": {"enable": False}},
        "dfdaemon_dynconfig": {"scheduler": {"addrs": ["10.96.0.1:8002", "10.96.0.2:8002"]}},
    },
    "torchserve": {},
}
MODEL = {"name": "demo", "version": "1.0", "object": "models/demo.mar", "sha256": "b" * 64, "workers": 2, "default": True}
TORCHSERVE = {
    "plugin": True,
    "replicas": 2,
    "gpus": 0,
    "java": ["-Xmx512m"],
    "environment": {},
    "timeout": 600,
    "ports": {"inference": 8080, "management": 8081, "metrics": 8082, "grpc_inference": 7070, "grpc_management": 7071},
    "models": [MODEL],
    "storage": {"s3": {"bucket": "models", "region": "us-east-1", "access_key": "AKIALAB", "secret_key": "very-secret"}},
    "endpoint": {
        "proxy_url": "http://127.0.0.1:4001",
        "header": {},
        "filter": [],
        "require_sha256": True,
        "incoming_dir": "/var/lib/modelfleet/incoming",
        "piece_length": "auto",
        "retry_seconds": 120,
        "url_expiry": 3600,
    },
    "files": {"config.properties": "a=b\n", "log4j2.xml": "<x/>\n", "serve_models.py": "pass\n"},
    "jar": "UEs=",
}


def _copy(value):
    """Whose parts are nobody else's, not even each other's."""
    return json.loads(json.dumps(value))


def settings(**changes):
    return {**_copy(SETTINGS), **changes}


def serving(**changes):
    found = settings()
    found["images"]["torchserve"] = f"docker.io/pytorch/torchserve{DIGEST}"
    found["torchserve"] = {**_copy(TORCHSERVE), **changes}
    return found


def found(**changes):
    """What kubernetes_info returned."""
    nodes = [{"name": f"gpu-{number}", "address": f"10.0.0.3{number}", "ready": True, "gpus": 1, "pod_networks": []} for number in (1, 2)]
    cluster = {"server": "https://10.0.0.1:6443", "context": "prod", "version": "v1.34.4", "uid": "u-1"}
    namespace = {"name": "modelfleet", "exists": False, "ours": False, "helm": "", "pod_security": ""}
    return {"cluster": cluster, "namespace": namespace, "nodes": nodes, **changes}
