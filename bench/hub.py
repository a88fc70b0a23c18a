#!/usr/bin/env python3
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Count how often a Hugging Face hub is asked for the models of a fleet: by modelfleet.serving.model_artifact, and by the hub's own client.

The hub is the lab's, a process of its own; what it counted is compared with what the module says. Ansible runs the module on hosts that are
directories here. No fleet is needed: what counts is who asks for what, and dfdaemon is a stand-in that never asks the hub. Writes
bench/results/hub.md.
"""

from __future__ import annotations

import argparse
import grp
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "bench/results/hub.md"
CLIENTS = ("0.36", "2.4")
SMALL = 5
LARGE = "model.safetensors"
# What the real hub gives to one address without an account in five minutes.
LIMIT = 3000
# The same process for every cache: only what it asks counts.
CLIENT = """
import json, sys
from huggingface_hub import snapshot_download
given = json.load(sys.stdin)
for cache in given["caches"]:
    for repo, commit in given["commits"].items():
        snapshot_download(repo, revision=commit, cache_dir=cache)
"""
GATHERED = "{{ ansible_play_hosts_all | map('extract', hostvars, 'result') | to_json }}"


class Counted(NamedTuple):
    """Requests at the hub, which it counts in two kinds."""

    api: int
    resolvers: int


class Row(NamedTuple):
    who: str
    when: str
    hosts: int  # requests of all hosts
    controller: int
    hub: Counted


def counted(objects: dict) -> Counted:
    """Of what the origin counted by object, what is the hub's and not its CDN's."""
    found = {"api": 0, "resolvers": 0}
    for name, row in objects.items():
        host, _, path = name.partition("/")
        if host == "127.0.0.1":
            kind = "api" if path.startswith("api/") and not path.startswith("api/resolve-cache/") else "resolvers"
            found[kind] += row["requests"]
    return Counted(**found)


class Hub:
    """The lab's hub with its models."""

    def __init__(self, ports: dict):
        self.url = f"http://127.0.0.1:{ports['http']}"
        self._control = f"http://127.0.0.1:{ports['control']}"
        self.commits: dict[str, str] = {}
        self.pins: dict[str, dict] = {}
        self.large: dict[str, bytes] = {}  # what is at the CDN, by path

    def _call(self, method: str, path: str, body: bytes | None = None) -> dict:
        request = urllib.request.Request(self._control + path, method=method, data=body)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def fill(self, models: int) -> None:
        # Nobody waits here: how much of a limit it is can be reckoned.
        many = {who: {"api": 10**6, "resolvers": 10**6} for who in ("anonymous", "user")}
        self._call("PUT", "/hub/settings", json.dumps({"limits": many}).encode())
        for number in range(models):
            repo, content = f"org/model-{number}", hashlib.sha256(str(number).encode()).digest() * 64
            sha256 = self._call("PUT", "/hub/blobs", content)["sha256"]
            files = {f"part-{part}.json": {"text": json.dumps({"model": number, "part": part})} for part in range(SMALL)}
            made = self._call("PUT", f"/hub/commits/{repo}", json.dumps({"files": {LARGE: {"sha256": sha256}, **files}}).encode())
            self.commits[repo] = made["commit"]
            listed = {
                path: {"size": file["size"], **({"sha256": file["sha256"]} if file["lfs"] else {"git_sha1": file["oid"]})}
                for path, file in made["files"].items()
            }
            self.pins[f"{repo}@{made['commit']}"] = {"files": listed}
            self.large[self._path_at_cdn(repo, made["commit"])] = content
        self.count()

    def _path_at_cdn(self, repo: str, commit: str) -> str:
        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *args):
                return None

        try:
            urllib.request.build_opener(Stay).open(f"{self.url}/{repo}/resolve/{commit}/{LARGE}", timeout=60)
        except urllib.error.HTTPError as exc:
            return urllib.parse.urlsplit(exc.headers["Location"]).path.lstrip("/")
        raise RuntimeError(f"The lab's hub leads nowhere for {LARGE} of {repo}.")

    def count(self) -> Counted:
        """What was asked since the last time."""
        found = counted(self._call("GET", "/counters")["objects"])
        self._call("DELETE", "/counters")
        return found


@contextmanager
def running(top: Path):
    """The lab's hub, with its CDN by another name of this machine."""
    listen = {"http": 0, "control": 0, "proxy": 0}
    config = {"data": str(top / "data"), "address": "127.0.0.1", "listen": listen, "hub": {"hosts": ["127.0.0.1"], "cdn": "localhost"}}
    (top / "origin.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "strict_origin", top / "origin.json"]
    with (top / "origin.log").open("w") as log:
        process = subprocess.Popen(command, cwd=REPOSITORY / "lab/origin", stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        lines = [process.stdout.readline().split() for _name in listen]
        yield Hub({words[0]: int(words[2].rpartition(":")[2]) for words in lines})
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


class Fleet:
    """Hosts that are directories here, each with a stand-in for its dfdaemon that has what is at the CDN."""

    def __init__(self, top: Path, hub: Hub, hosts: int):
        from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_dragonfly import FakeDragonfly

        self.top = top
        self.hub = hub
        self._machines = {}
        for number in range(hosts):
            place = top / f"gpu-{number + 1}"
            place.mkdir(parents=True)
            (place / "huggingface").mkdir()
            machine = self._machines[place.name] = FakeDragonfly(place)
            for path, content in hub.large.items():
                machine.publish(path, content)

    def close(self) -> None:
        for machine in self._machines.values():
            machine.close()

    def run(self, **options) -> tuple[int, int]:
        """The task on every host at once; how often they and the controller asked."""
        group = grp.getgrgid(os.getegid()).gr_name
        artifacts = [
            {"name": repo.rpartition("/")[2], "version": "1", "huggingface": {"repo": repo, "revision": commit, "group": group}}
            for repo, commit in self.hub.commits.items()
        ]
        common = {
            "artifacts": artifacts,
            "huggingface": {"endpoint": [self.hub.url]},
            "huggingface_pins": self.hub.pins,
            **options,
        }
        own = {
            name: {
                **machine.options(),
                # Where nobody answers: it cannot be asked while it is written.
                "dfdaemon_metrics_url": "http://127.0.0.1:9/metrics",
                "huggingface_home": str(machine.path / "huggingface"),
                "huggingface_decisions": str(machine.path / "decisions.json"),
            }
            for name, machine in self._machines.items()
        }
        arguments = {name: f"{{{{ common.{name} }}}}" for name in common}
        arguments.update({name: f"{{{{ own.{name} }}}}" for name in next(iter(own.values()))})
        tasks = [
            {"modelfleet.serving.model_artifact": arguments, "register": "result"},
            {"ansible.builtin.copy": {"content": GATHERED, "dest": str(self.top / "results"), "mode": "0600"}, "run_once": True},
        ]
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "common": common}
        listed = {name: {"own": found} for name, found in own.items()}
        (self.top / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        (self.top / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": local, "hosts": listed}}))
        environment = {
            "ANSIBLE_FORKS": str(len(own)),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "ANSIBLE_LOCAL_TEMP": str(self.top / "local"),
            "ANSIBLE_REMOTE_TEMP": str(self.top / "remote"),
        }
        command = ["ansible-playbook", "-i", self.top / "hosts.yml", self.top / "play.yml"]
        done = subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"Failed to run the module: {done.stdout[-3000:]}{done.stderr[-1000:]}")
        results = json.loads((self.top / "results").read_text())
        return sum(one["hub_requests"] for one in results), sum(one.get("hub_requests_controller", 0) for one in results)

    def let_decisions_expire(self) -> None:
        for machine in self._machines.values():
            path = machine.path / "decisions.json"
            found = json.loads(path.read_text())
            path.write_text(json.dumps({**found, "until": dict.fromkeys(found["until"], 1)}))


def ours(top: Path, hub: Hub, hosts: int):
    """Yield the rows of the module: fleets that begin with nothing, and what they ask when they have everything."""
    ways = [
        ("this collection", {}, ["cold", "again", "after the time of the decisions"]),
        ("this collection, every check forced", {"huggingface_access_s": 0}, ["cold", "again"]),
        ("this collection, hosts ask for small files", {"huggingface_small": "host"}, ["cold"]),
    ]
    for number, (who, options, times) in enumerate(ways):
        fleet = Fleet(top / f"fleet-{number}", hub, hosts)
        try:
            for when in times:
                if "after" in when:
                    fleet.let_decisions_expire()
                row = Row(who, when, *fleet.run(**options), hub.count())
                if row.hosts + row.controller != sum(row.hub):
                    raise RuntimeError(f"The module says {row.hosts} and {row.controller}, and the hub counted {row.hub}.")
                yield row
        finally:
            fleet.close()


def clients(top: Path, hub: Hub, hosts: int):
    """Yield the rows of the hub's own client; none of a version that cannot be installed."""
    for version in CLIENTS:
        installed = subprocess.run([REPOSITORY / "lab/huggingface/install", version], stdout=subprocess.PIPE, text=True, check=False)
        if installed.returncode != 0:
            print(f"The client {version} is left out: it is not in the cache and cannot be installed.", file=sys.stderr)
            continue
        given = {"caches": [str(top / f"client-{version}-{number}") for number in range(hosts)], "commits": hub.commits}
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        environment |= {"HF_HOME": str(top / "client-home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        for when in ("cold", "again"):
            subprocess.run([installed.stdout.strip(), "-c", CLIENT], input=json.dumps(given), env=environment, text=True, check=True)
            found = hub.count()
            yield Row(f"snapshot_download of huggingface_hub {version}", when, sum(found), 0, found)


def table(rows: list[Row], hosts: int, models: int) -> str:
    lines = [
        f"{models} models of {1 + SMALL} files, one of them large, on {hosts} hosts. Requests at the hub, its redirects counted.",
        "",
        f"| who | when | a host | the controller | the fleet | of them API | resolvers, of {LIMIT:,} in five minutes |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        share = 100 * row.hub.resolvers / LIMIT
        cells = [row.who, row.when, f"{row.hosts / hosts:g}", row.controller, sum(row.hub), row.hub.api, f"{share:.0f} %"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--models", type=int, default=50)
    given = parser.parse_args()
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        os.environ.pop(name, None)
    rows = []
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as hub:
        hub.fill(given.models)
        for row in chain(ours(Path(name), hub, given.hosts), clients(Path(name), hub, given.hosts)):
            print(*row, sep=", ", file=sys.stderr)
            rows.append(row)
    RESULTS.write_text(table(rows, given.hosts, given.models), encoding="utf-8")
    print(RESULTS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
