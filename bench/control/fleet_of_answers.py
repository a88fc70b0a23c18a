# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of hosts that only answer, and what they answer: each is as the inventory wants it."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
MOST = 100  # GPU hosts: as many addresses as one network has for them
# How long a module takes on a host of its own; it is no work of this machine's.
HOST_S = 0.2
SHA256 = "9f" * 32
MODELS = [
    {"name": "demo", "version": "1.0", "object": "models/demo/1.0/demo.mar", "workers": 1, "default": True},
    {"name": "unpacked", "version": "1.0", "bundle": "models/unpacked", "workers": 1},
]
CHECK = {"input_file": "question.json", "expected_file": "answer.json"}
QUIET = {"action": "none", "restart_owed": False}


def names(gpu_hosts: int) -> dict:
    """{group: names of its hosts}"""
    gpus = [f"gpu-{number}" for number in range(1, gpu_hosts + 1)]
    return {"dragonfly_schedulers": ["scheduler-1"], "dragonfly_seed_peers": ["seed-1"], "gpu_hosts": gpus}


def addresses(prefix: str) -> dict:
    """{name: address} of all hosts that there can be."""
    found = {"scheduler-1": f"{prefix}.20", "seed-1": f"{prefix}.21"}
    return {**found, **{f"gpu-{number}": f"{prefix}.{100 + number}" for number in range(1, MOST + 1)}}


def models() -> list:
    return [{**one, "sha256": SHA256, "size": "64MiB", "check": CHECK} for one in MODELS]


def answers() -> dict:
    """{module: what it returns} of a host on which nothing is to be changed."""
    files = [f"{one['name']}-{one['version']}-{SHA256[:12]}{'.mar' if 'object' in one else ''}" for one in MODELS]
    served = [
        {"name": one["name"], "version": one["version"], "file": file, "workers": 1, "workers_ready": 1, "gpu": 0, "default": True}
        for one, file in zip(MODELS, files)
    ]
    bundles = [one for one in MODELS if "bundle" in one]
    unchanged = [{"name": one["name"], "version": one["version"], "action": "unchanged"} for one in MODELS]
    return {
        # Of site.
        "preflight_info": {
            "findings": [],
            "facts": {"clock": {"epoch": 0}, "curl": True, "nftables": True, "found": []},
            "ansible_facts": {"architecture": "x86_64", "os_family": "Debian"},
        },
        "rollout_lock": {"run": "none"},
        "python_environment": {"complete": True, "echo": ["path"], "others": []},
        "host_layout": {"removed": [], "left": []},
        "nft_table": {"action": "none", "table": "wanted", "kept": {}, "removed": {}},
        "daemon": QUIET,
        "dragonfly_release": {"reason": "", "removed": []},
        "endpoint_config": {"jar_differs": False},
        "model_artifact": {
            "artifacts": [
                {**one, "seconds": 0, "size": 67108864, "fetched": 0, "bytes": {}}
                for one in unchanged
                if one["name"] in {bundle["name"] for bundle in bundles}
            ],
            "bytes": {},
        },
        "torchserve_model": {"models": [{**one, "register_seconds": None, "workers_ready": 1, "bytes": {}} for one in unchanged]},
        "torchserve_info": {"reachable": True, "version": "0.12.0", "models": served, "recorded": served, "other_runtimes": []},
        "dfdaemon_info": {"healthy": True, "problem": "", "traffic": {"origin": 0, "remote_peer": 0, "local_peer": 0}},
        "inference_check": {
            "checks": [{"model": one["name"], "version": one["version"], "ok": True, "seconds": 0.01, "detail": ""} for one in MODELS]
        },
        # To unpack into it, the controller looks at it first.
        "stat": {"directories": ["/opt/dragonfly"]},
        "wait_for": {"state": "started", "elapsed": 0},
        # Of plain.yml as well.
        "setup": {"ansible_facts": {"ansible_os_family": "Debian", "ansible_pkg_mgr": "apt", "ansible_service_mgr": "systemd"}},
        "uri": {"status": 200, "content": "{}", "json": {}},
        "command": {"rc": 0, "stdout": "", "stderr": ""},
        "ping": {"ping": "pong"},
    }


def inventory(gpu_hosts: int, directory: Path, **of_connection) -> dict:
    """The inventory of so many GPU hosts, one scheduler and one seed peer; files of its own are in ``directory``."""
    place = addresses(of_connection.pop("prefix"))
    hosts = {group: {"hosts": {name: {"modelfleet_address": place[name]} for name in those}} for group, those in names(gpu_hosts).items()}
    variables = {
        **of_connection,
        "modelfleet_storage": {
            "s3": {"bucket": "models", "region": "us-east-1", "access_key": "AKIALABREADONLY00001", "secret_key": "none"}
        },
        "modelfleet_models": models(),
        "modelfleet_files_dir": str(directory / "files"),
        "modelfleet_pki_directory": str(directory / "pki"),
        "modelfleet_pki_passphrase": "control-authority-passphrase-worth-nothing",
        "endpoint_plugin_jar": str(directory / "files/plugin.jar"),
        "dragonfly_scheduler_release_sha256": SHA256,
        "dfdaemon_release_sha256": SHA256,
        "plain_sha256": SHA256,
        "plain_scheduler_url": "https://mirror.example.com/dragonfly.tar.gz",
        "plain_client_url": "https://mirror.example.com/client.tar.gz",
        "smoke_report_path": str(directory / "report.json"),
    }
    return {"all": {"vars": variables, "children": hosts}}


def write(directory: Path, counts, **of_connection) -> dict:
    """Write an inventory for each number of GPU hosts; return {number: path}."""
    (directory / "files").mkdir(parents=True, exist_ok=True)
    for name, content in (("question.json", '{"x": 1}'), ("answer.json", '{"y": 1}'), ("plugin.jar", "")):
        (directory / "files" / name).write_text(content)
    paths = {}
    for count in counts:
        paths[count] = directory / f"inventory-{count}/hosts.json"
        paths[count].parent.mkdir(exist_ok=True)
        paths[count].write_text(json.dumps(inventory(count, directory, **of_connection), indent=1))
    return paths
