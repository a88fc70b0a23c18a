# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab fleet with shaped links: its plays, commands on its hosts, files and objects, and what its origin counted."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path

import ansible
import yaml
from cells import HOST_MBITS, REPOSITORY
from methods import CA, DFGET, INCOMING, RUN, SOCKET, STORE, Helper

HERE = Path(__file__).resolve().parent
INVENTORIES = ("inventory/lab", "bench/inventory")
# A burst must hold what a timer tick lets through; the queue is that of a switch, in time.
BURST, QUEUE = "256kb", "50ms"
HELPER = "bench-helper.service"
EMPTY = f"""
rm -rf {RUN}/* {INCOMING}/* {STORE}/* /var/lib/modelfleet/blobs/* /var/lib/modelfleet/manifests/*
"""
DROP_TASKS = f"""
for task in /var/lib/modelfleet/pieces/content/tasks/*/*; do
    [ ! -e "$task" ] || {Path(DFGET).with_name("dfctl")} task rm --endpoint {SOCKET} "${{task##*/}}" >/dev/null || true
done
"""


class Shaped:
    """The fleet of bench/inventory. A host is called by its inventory name."""

    def __init__(self):
        settings = {}
        for inventory in INVENTORIES:
            settings.update(yaml.safe_load((REPOSITORY / inventory / "group_vars/all/lab.yml").read_text(encoding="utf-8")))
        self.name = settings["lab_name"]
        self.prefix = settings["lab_network_prefix"]
        self.bucket = settings["lab_bucket"]
        self.storage = {
            "s3": {
                "bucket": self.bucket,
                "region": settings["lab_region"],
                "access_key": settings["lab_read_access_key"],
                "secret_key": settings["lab_read_secret_key"],
            }
        }
        self.gateway = f"{self.prefix}.1"
        self.seed = f"{self.prefix}.12"

    # Plays

    def play(self, playbook: str, *arguments: str) -> None:
        inventories = [word for one in INVENTORIES for word in ("-i", one)]
        programs = Path(sys.executable).parent
        # What shows downloads reads files on the hosts meanwhile.
        quiet = {"ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"}
        environment = {**os.environ, **quiet, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        subprocess.run(["ansible-playbook", *inventories, playbook, *arguments], cwd=REPOSITORY, env=environment, check=True)

    def boot(self, hosts: int, torchserve: bool) -> None:
        names = ["localhost", "origin", "scheduler-1", "seed-1", *gpu_hosts(hosts)]
        skipped = [] if torchserve else ["--skip-tags", "torchserve"]
        self.play("bench/fleet.yml", "--limit", ",".join(names), *skipped)
        modules = library()
        for host in names[1:]:
            self.shell(host, f"mkdir -p {RUN}")
            self.write(host, f"{Path(RUN).parent}/host.py", (HERE / "host.py").read_bytes())
            self.write(host, CA, (REPOSITORY / f".cache/{self.name}/ca.crt").read_bytes())
            self.run(host, ["tar", "--extract", "--directory", str(Path(RUN).parent)], modules)
            self.shape(host, HOST_MBITS)

    def settings(self, name: str, hosts: int) -> None:
        """Have the daemons run with the collection's own settings, or with other variables."""
        extra = [] if name == "ours" else ["-e", f"@bench/{name}.yml"]
        names = ["scheduler-1", "seed-1", *gpu_hosts(hosts)]
        for host in names:
            self.unshape(host)
        self.play("bench/fleet.yml", "--limit", ",".join(names), "--tags", "daemons", *extra)
        for host in names:
            self.shape(host, HOST_MBITS)

    def remove(self) -> None:
        self.play("playbooks/lab_down.yml")

    # Links

    def shape(self, host: str, mbits: float) -> None:
        """Both directions of a host's link: what it sends, and at the other end of its veth what it receives."""
        tbf = ["tbf", "rate", f"{mbits}mbit", "burst", BURST, "latency", QUEUE]
        self.run(host, ["tc", "qdisc", "replace", "dev", "eth0", "root", *tbf])
        subprocess.run(["tc", "qdisc", "replace", "dev", self.veth(host), "root", *tbf], check=True)

    def unshape(self, host: str) -> None:
        self.shell(host, "tc qdisc del dev eth0 root || true")
        subprocess.run(["tc", "qdisc", "del", "dev", self.veth(host), "root"], stderr=subprocess.DEVNULL, check=False)

    def veth(self, host: str) -> str:
        """This machine's end of the host's link."""
        peer = self.shell(host, "cat /sys/class/net/eth0/iflink").strip()
        return next(path.parent.name for path in Path("/sys/class/net").glob("*/ifindex") if path.read_text().strip() == peer)

    def sent(self, host: str) -> int:
        """Bytes on the wire that the host sent so far."""
        return int(self.shell(host, "cat /sys/class/net/eth0/statistics/tx_bytes"))

    # Hosts

    def command(self, host: str, argv: list) -> list:
        return ["podman", "exec", "--interactive", f"{self.name}-{host}", *argv]

    def run(self, host: str, argv: list, given: bytes = b"") -> str:
        ended = subprocess.run(self.command(host, argv), input=given, capture_output=True, check=False)
        if ended.returncode != 0:
            said = ended.stderr.decode(errors="replace").strip()[-500:]
            raise RuntimeError(f"Failed to run {' '.join(argv)[:200]} on {host}: it ended with {ended.returncode}, {said}")
        return ended.stdout.decode(errors="replace")

    def shell(self, host: str, script: str, given: bytes = b"") -> str:
        return self.run(host, ["sh", "-ec", script], given)

    def write(self, host: str, path: str, content: bytes) -> None:
        self.shell(host, f"cat > {path}", content)

    def start(self, helper: Helper) -> None:
        """Run a program beside those that are measured, and wait until it listens for connections."""
        for path, text in helper.files.items():
            self.write(helper.host, path, text.encode())
        self.run(helper.host, ["systemd-run", "--quiet", "--collect", f"--unit={HELPER}", *helper.command])
        process = f"'pid='$(systemctl show -p MainPID --value {HELPER})','"
        for _attempt in range(100):
            if self.shell(helper.host, f"ss -Hltnp | grep {process} || true"):
                return
            time.sleep(0.1)
        raise RuntimeError(f"Failed to start {helper.command[0]} on {helper.host}: it does not listen; see journalctl -u {HELPER} there.")

    def stop(self, helper: Helper) -> None:
        self.shell(helper.host, f"systemctl stop {HELPER} || true")

    def clean(self, hosts: list, pieces: bool = True) -> None:
        """Take away what a run left, with the pieces of dfdaemon or without."""
        for host in hosts:
            has_dfdaemon = pieces and host not in ("origin", "scheduler-1")
            self.shell(host, EMPTY + (DROP_TASKS if has_dfdaemon else ""))

    # The origin

    def put(self, key: str, path: Path) -> None:
        """Put a file into the object store, past the shaped link."""
        with path.open("rb") as stream:
            subprocess.run(self.command("origin", ["sh", "-c", f"cat > {RUN}/bench.mar"]), stdin=stream, check=True)
        self.shell("origin", f"curl --fail --silent --output /dev/null --upload-file {RUN}/bench.mar {self._object(key)}")

    def delete(self, key: str) -> None:
        self.shell("origin", f"curl --fail --silent --output /dev/null --request DELETE {self._object(key)}")

    def counted(self, key: str) -> dict:
        """What the origin sent of an object: {bytes, requests, ...}."""
        with urllib.request.urlopen(f"http://{self.prefix}.10:8090/counters", timeout=30) as answer:
            return json.load(answer)["objects"].get(f"{self.bucket}/{key}", {"bytes": 0, "requests": 0})

    def _object(self, key: str) -> str:
        """As the origin itself reaches it."""
        return f"http://127.0.0.1:8090/objects/{self.bucket}/{key}"


def gpu_hosts(count: int) -> list:
    return [f"gpu-{number}" for number in range(1, count + 1)]


def library() -> bytes:
    """What a host needs to run a module of the collection: as Ansible sends it, but in an archive of its own, below lib/."""
    collection = Path("ansible_collections/modelfleet/serving/plugins")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("lib/ansible/__init__.py"))
        tar.add(Path(ansible.__file__).parent / "module_utils", "lib/ansible/module_utils", filter=_source)
        tar.add(REPOSITORY / "collections" / collection, f"lib/{collection}", filter=_source)
    return content.getvalue()


def _source(entry: tarfile.TarInfo):
    return None if "__pycache__" in entry.name else entry
