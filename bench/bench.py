#!/usr/bin/env python3
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure how long ways to bring a file to every host of a fleet take, on the lab's fleet with shaped links.

Boots the fleet, runs every method in every cell in a random order, verifies every copy, and writes bench/results/<name>.json after each
run; then <name>.md and pictures beside it. Run again with the same name it goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import platform
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import cells
import summary
import torrent
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import store_from_unchecked
from cells import MIB, REPOSITORY, Run
from methods import AUTHORIZATION, INCOMING, METHODS, MODEL, QUICK, Job, dfget
from shaped import HELPER, HERE, Shaped, gpu_hosts

# All hosts are told the barrier before it is there.
AHEAD_S = 1.0
# What takes so many times what it should, and so long beyond it, is ended.
PATIENCE, PATIENCE_S = 6, 60
EXPIRY_S = 6 * 3600


class Conversation:
    """With host.py on one host."""

    def __init__(self, fleet: Shaped, host: str, spec: dict):
        self.host = host
        command = fleet.command(host, ["python3", "/opt/bench/host.py"])
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.tell(json.dumps(spec))

    def tell(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            said = self.process.stderr.read().strip().splitlines()[-1:]
            raise RuntimeError(f"Failed to measure on {self.host}: host.py ended, {' '.join(said)}")
        return json.loads(line)


def converse(fleet: Shaped, specs: dict) -> tuple[dict, float]:
    """One barrier for all hosts of ``specs``; returns what each said, and how busy this machine was until the last had its file."""
    conversations = [Conversation(fleet, host, spec) for host, spec in specs.items()]
    try:
        for one in conversations:
            one.hear()
        begin = time.monotonic() + AHEAD_S
        for one in conversations:
            one.tell(repr(begin))
        time.sleep(max(0, begin - time.monotonic()))
        before = Path("/proc/stat").read_text()
        said = {one.host: one.hear() for one in conversations}
        after = Path("/proc/stat").read_text()
        # Only now, because hashing one file would slow down those that still come.
        for one in conversations:
            one.tell("")
        for one in conversations:
            said[one.host] |= one.hear()
        return said, summary.busy(before, after)
    finally:
        for one in conversations:
            one.process.kill()
            one.process.communicate()


def make(path: Path, mib: int, seed: int) -> str:
    """Write a model archive that was never there before; return its sha256."""
    found = importlib.util.spec_from_file_location("make_model", REPOSITORY / "lab/model/make_model.py")
    maker = importlib.util.module_from_spec(found)
    found.loader.exec_module(maker)
    maker.build(path, *MODEL, mib, seed)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def prepare(fleet: Shaped, method, job: Job, archive: Path, hosts: list, tracker, limit: float) -> dict:
    """Whatever must be there before the barrier. Returns what each host is told."""
    spec = {**method.work(job), "units": method.units, "limit": limit}
    specs = dict.fromkeys(hosts, spec)
    if "torrent" in spec:
        tracker.forget()
        for host in ["origin", *hosts]:
            fleet.write(host, spec["torrent"], torrent.torrent(archive, "bench.mar", tracker.url))
    if method.held == "seed":
        fleet.run("seed-1", dfget(job, f"{INCOMING}/bench.mar"))
    if method.held == "host":
        said, _busy = converse(fleet, specs)
        if any(answer["status"] for answer in said.values()):
            raise RuntimeError(f"Failed to bring the file to {', '.join(hosts)} beforehand: {said}")
        forget(fleet, method, hosts)
        fleet.clean(hosts, pieces=False)
    if method.helper:
        fleet.start(method.helper(job))
    return specs


def forget(fleet: Shaped, method, hosts: list) -> None:
    """TorchServe keeps what is registered."""
    if method.torchserve:
        for host in hosts:
            fleet.shell(host, f"curl --silent --request DELETE --header @{AUTHORIZATION} http://127.0.0.1:8081/models/{MODEL[0]} || true")


def measure(fleet: Shaped, run: Run, archive: Path, tracker) -> dict:
    """One run, from a new object to a clean fleet."""
    cell, method = run.cell, METHODS[run.cell.method]
    hosts = gpu_hosts(cell.hosts)
    seed = uuid.uuid4().int
    digest = make(archive, cell.mib, seed)
    key = f"bench/{seed:x}/bench.mar"
    url = store_from_unchecked(fleet.storage).presign("GET", key, EXPIRY_S)
    job = Job(url, key, digest, fleet.storage, fleet.seed)
    involved = ["origin", "seed-1", *hosts]
    fleet.shape("origin", cells.ORIGINS[cell.origin])
    fleet.put(key, archive)
    try:
        limit = PATIENCE * cells.expected(cell, "direct") + PATIENCE_S
        specs = prepare(fleet, method, job, archive, hosts, tracker, limit)
        helper = method.helper(job) if method.helper else None
        # Those that help are only looked at.
        specs |= {"seed-1": {"units": [unit for unit in method.units if unit == "dfdaemon.service"]}}
        if helper:
            specs[helper.host] = {"units": [HELPER]}
        counted, wire = fleet.counted(key), fleet.sent("origin")
        said, busy = converse(fleet, specs)
        now, wire_now = fleet.counted(key), fleet.sent("origin")
    finally:
        if method.helper:
            fleet.stop(method.helper(job))
        forget(fleet, method, hosts)
        fleet.clean(involved)
        fleet.delete(key)
    answers = [said[host] for host in hosts]
    # BitTorrent's seeder stands in for the object store: what its link sent counts.
    is_swarm = "torrent" in specs[hosts[0]]
    result = {
        **cell._asdict(),
        "repeat": run.repeat,
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "size": archive.stat().st_size,
        "seconds": [answer["seconds"] for answer in answers],
        "origin_bytes": wire_now - wire if is_swarm else now["bytes"] - counted["bytes"],
        "origin_requests": now["requests"] - counted["requests"],
        "origin_wire": wire_now - wire,
        "written": sum(answer["written"] for answer in answers),
        "cpu_s": sum(answer["cpu_s"] for answer in said.values()),
        "peak": max(answer["peak"] for answer in answers),
        "busy": busy,
    }
    return {**result, "problem": summary.problem(result, digest, answers)}


def machine(fleet: Shaped) -> dict:
    """What the numbers depend on, without a name."""
    cpu = Path("/proc/cpuinfo").read_text()
    memory = Path("/proc/meminfo").read_text().split()[1]
    programs = {
        "curl": ("gpu-1", "curl --version"),
        "aria2": ("gpu-1", "aria2c --version"),
        "rclone": ("gpu-1", "rclone version"),
        "nginx": ("seed-1", "nginx -v 2>&1"),
    }
    releases = json.loads((REPOSITORY / ".cache/releases.json").read_text())
    return {
        "processor": next(line.partition(": ")[2] for line in cpu.splitlines() if line.startswith("model name")),
        "cores": cpu.count("processor\t"),
        "memory": f"{int(memory) / MIB:.0f} GiB",
        "kernel": platform.release(),
        "links": f"hosts and seed peer {cells.HOST_MBITS} Mbit/s, origin {' or '.join(map(str, cells.ORIGINS.values()))}",
        "commit": subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=True
        ).stdout.strip(),
        "Dragonfly": ", ".join(f"{name} {release['version']} ({release['source']})" for name, release in releases.items()),
        "ansible-core": version("ansible-core"),
        **{name: fleet.shell(host, command).splitlines()[0] for name, (host, command) in programs.items()},
    }


def save(results: dict, path: Path) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def report(results: dict, path: Path) -> None:
    from plots import draw

    pictures = draw(results, path.with_suffix(""))
    text = summary.markdown(results) + "".join(f"\n![]({picture.name})\n" for picture in pictures)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    print(f"{text}\nWritten: {path}, {path.with_suffix('.md')}")


def arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="bench", help="of the results (default: bench, or quick)")
    parser.add_argument("--quick", action="store_true", help="one cell of four methods, three times: a quarter of an hour")
    parser.add_argument("--method", action="append", choices=METHODS, help="only these")
    parser.add_argument("--hosts", action="append", type=int, choices=cells.HOSTS, help="only these numbers of hosts")
    parser.add_argument("--mib", action="append", type=int, choices=cells.SIZES, help="only these sizes")
    parser.add_argument("--origin", action="append", choices=cells.ORIGINS, help="only these origins")
    parser.add_argument("--repeats", type=int, default=None, help=f"runs of a cell that count (default: {cells.REPEATS}, quick: 2)")
    parser.add_argument("--plan", action="store_true", help="say what would be run and how long that takes, and end")
    parser.add_argument("--report", action="store_true", help="only write table and pictures again")
    parser.add_argument("--keep", action="store_true", help="leave the fleet there at the end")
    args = parser.parse_args(argv)
    if args.quick:
        args.name = "quick" if args.name == "bench" else args.name
        args.method, args.hosts = args.method or list(QUICK), args.hosts or [4]
        args.mib, args.origin = args.mib or [64], args.origin or ["slow"]
    args.repeats = args.repeats or (2 if args.quick else cells.REPEATS)
    return args


def main(argv=None) -> int:
    args = arguments(argv)
    path = HERE / "results" / f"{args.name}.json"
    results = json.loads(path.read_text()) if path.exists() else {"machine": {}, "runs": []}
    if args.report:
        report(results, path)
        return 0
    chosen = [METHODS[name] for name in args.method or METHODS]
    wanted = cells.cells(chosen, args.hosts or cells.HOSTS, args.mib or cells.SIZES, args.origin or tuple(cells.ORIGINS))
    runs = cells.order(wanted, METHODS, args.repeats, seed=1, done=summary.done(results))
    print(f"{len(runs)} runs, about {cells.duration(runs, METHODS) / 60:.0f} minutes after the fleet is up.")
    if args.plan or not runs:
        for run in runs:
            print(run.repeat, *run.cell)
        return 0
    most = max(cell.hosts for cell in wanted)
    fleet, tracker, settings = Shaped(), None, "ours"
    fleet.boot(most, torchserve=any(method.torchserve for method in chosen))
    results["machine"] = machine(fleet)
    path.parent.mkdir(exist_ok=True)
    tracker = torrent.Tracker(fleet.gateway)
    with tempfile.TemporaryDirectory(dir=REPOSITORY / ".cache") as scratch:
        for number, run in enumerate(runs, 1):
            if METHODS[run.cell.method].settings != settings:
                settings = METHODS[run.cell.method].settings
                fleet.settings(settings, most)
            try:
                result = measure(fleet, run, Path(scratch) / "bench.mar", tracker)
                last = max(result["seconds"])
                said = f"{last:.2f} s, {last / cells.bound(run.cell, result['size']):.2f} times the bound"
            except RuntimeError as exc:
                result, said = {**run.cell._asdict(), "repeat": run.repeat, "problem": str(exc)}, ""
            results["runs"].append(result)
            save(results, path)
            print(f"{number}/{len(runs)} {' '.join(map(str, run.cell))}: {said}", result["problem"], flush=True)
    report(results, path)
    if not args.keep:
        fleet.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
