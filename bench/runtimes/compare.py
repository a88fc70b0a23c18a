#!/usr/bin/env python3
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what TorchServe, Triton, BentoML and a bare FastAPI cost on top of the same model, on two processors.

Each run is a container of the lab's image of Debian 12, in which one server is started, compared with the model's own answers, and loaded.
After each run bench/results/<name>.json is written; then <name>.md and <name>.html beside it. Run again with the same name it goes on
where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import zipfile
from datetime import datetime, timezone
from itertools import product
from pathlib import Path

import servers
import verdict
from servers import BATCHES, COMPARED, QUICK, REPOSITORY, SERVERS, WORKERS
from verdict import Cell

HERE = Path(__file__).resolve().parent
CACHE = REPOSITORY / ".cache/runtimes"
IMAGE = "localhost/modelfleet-lab:bookworm"
TORCHSERVE = "torchserve-0.12.0-py3-none-any.whl"
REPEATS = 5
# Of what two processes of the model alone answer.
SHARES = (0.15, 0.3, 0.5, 0.7)
FULL = {"step_s": 20, "warm_up_s": 10, "users": 200, "spawn_rate": 20, "closed_s": 30, "seconds": 10}
SHORT = {"step_s": 4, "warm_up_s": 3, "users": 200, "spawn_rate": 100, "closed_s": 6, "seconds": 3}
# A container, a start, the comparison of answers, and that a step waits for its last answers.
AROUND_A_RUN_S = 25
PATIENCE_S = 300


def podman(*arguments, feed: str | None = None, timeout: float | None = None) -> str:
    """A command in a container without a network; what it printed."""
    limits = ["--runtime=runc", "--ulimit=nofile=20000:20000", "--ulimit=nproc=30000:30000"]
    mounts = [f"--volume={HERE}:/bench:ro", f"--volume={CACHE}:/cache"]
    command = [
        "podman",
        "run",
        "--rm",
        "--interactive",
        "--network=none",
        "--shm-size=1g",
        "--label=modelfleet.lab=bench-runtimes",
        *limits,
        *mounts,
    ]
    if timeout:
        # Podman's own end of it: without its client a container would go on, beside the next one.
        command.append(f"--timeout={timeout:.0f}")
    done = subprocess.run([*command, *arguments], input=feed, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Failed to run {' '.join(arguments[-3:])[-200:]} in {IMAGE}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def recipe() -> str:
    """What the set-up is made of."""
    parts = [
        HERE / "requirements.txt",
        HERE / "go.mod",
        HERE / "make_model.py",
        HERE / "served/torchserve_handler.py",
        HERE / "served/model.py",
    ]
    image = subprocess.run(["podman", "image", "inspect", "--format={{.Id}}", IMAGE], capture_output=True, text=True, check=True).stdout
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts) + image.encode()).hexdigest()


def set_up() -> None:
    """Vegeta, wheels, their environment in the image, Triton out of its wheel, the model. Does nothing where that is there."""
    record, wheels = CACHE / "complete", CACHE / "wheels"
    made_from = recipe()
    if record.exists() and record.read_text() == made_from:
        return
    print("Setting up the servers and the generators of load, some minutes", flush=True)
    wheels.mkdir(parents=True, exist_ok=True)
    go = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "auto", "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false"}
    subprocess.run(
        ["go", "build", "-ldflags=-s -w", f"-o={CACHE / 'vegeta'}", "github.com/tsenart/vegeta/v12"], cwd=HERE, env=go, check=True
    )
    # For the image's Python, whatever this one is.
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)]
    platforms += [f"--platform=manylinux{year}_x86_64" for year in (2014, 2010, 1)]
    target = ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=abi3", "--abi=none", *platforms]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", *target]
    subprocess.run([*pip, f"--dest={wheels}", f"--requirement={HERE / 'requirements.txt'}"], check=True)
    shutil.copy(REPOSITORY / ".cache/wheels" / TORCHSERVE, wheels)
    install = "/cache/venv/bin/pip install --quiet --disable-pip-version-check --no-index --no-deps"
    script = (
        "set -e\n"
        "python3 -m venv --clear --system-site-packages /cache/venv\n"
        f"{install} --find-links=/cache/wheels --require-hashes --requirement=/bench/requirements.txt\n"
        f"{install} /cache/wheels/{TORCHSERVE}\n"
        # Where the role has it.
        "ln -s lib/python3.11/site-packages /cache/venv/site-packages\n"
        "/cache/venv/bin/python /bench/make_model.py /cache/model\n"
    )
    podman(IMAGE, "sh", "-c", script)
    unpack_triton(CACHE / "triton")
    record.write_text(made_from)


def unpack_triton(top: Path) -> None:
    """Its wheel lacks the name of the release, modes, and has the backend's stub elsewhere, for each Python."""
    shutil.rmtree(top, ignore_errors=True)
    (wheel,) = (REPOSITORY / ".cache/servers").glob("nvidia_pytriton-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(top)
    home = top / "pytriton/tritonserver"
    (home / "TRITON_VERSION").write_text("2.51.0\n")
    stub = shutil.copy(home / "python_backend_stubs/3.11/triton_python_backend_stub", home / "backends/python")
    for program in (stub, home / "bin/tritonserver"):
        Path(program).chmod(0o755)


def order(wanted: list, repeats: int, done: set) -> list:
    """(cell, repeat) of all runs but those that are done, every cell once in each repeat, in a random order."""
    runs = []
    for repeat in range(1, repeats + 1):
        cells = [cell for cell in wanted if (cell, repeat) not in done]
        random.Random(repeat).shuffle(cells)
        runs += [(cell, repeat) for cell in cells]
    return runs


def duration(cell: Cell, load: dict, steps: int) -> float:
    """Seconds of one run."""
    if cell.server == "model":
        return 2 * load["seconds"] + 5
    return AROUND_A_RUN_S + load["warm_up_s"] + steps * load["step_s"] + load["users"] / load["spawn_rate"] + load["closed_s"]


def measure(cell: Cell, rates: list, load: dict) -> dict:
    spec = {**servers.spec(SERVERS[cell.server], cell.batch), **load, "rates": rates, "late_s": verdict.LATE_S}
    limit = duration(cell, load, len(rates)) + PATIENCE_S
    return json.loads(podman(IMAGE, "python3", "/bench/once.py", feed=json.dumps(spec), timeout=limit))


def machine() -> dict:
    """What the numbers depend on, without a name."""
    cpu = Path("/proc/cpuinfo").read_text()
    pinned = dict(line.split()[0].split("==") for line in (HERE / "requirements.txt").read_text().splitlines() if not line.startswith("#"))
    named = ("bentoml", "fastapi", "uvicorn", "onnxruntime", "locust")
    return {
        "processor": next(line.partition(": ")[2] for line in cpu.splitlines() if line.startswith("model name")),
        "cores": f"2 of {cpu.count('processor' + chr(9))}, for the server and the load together",
        "workers": f"{WORKERS} for each server, with one thread of the model each",
        "kernel": platform.release(),
        "commit": subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=True
        ).stdout.strip(),
        "TorchServe": "0.12.0",
        "Triton": "2.51.0, Python backend",
        **{name: pinned[name] for name in named},
    }


def save(results: dict, path: Path) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def report(results: dict, path: Path, every: bool) -> None:
    from page import html

    found = verdict.Found(results, every)
    text = verdict.markdown(results, found)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    path.with_suffix(".html").write_text(html(results, found), encoding="utf-8")
    print(f"{text}\nWritten: {path}, {path.with_suffix('.md')}, {path.with_suffix('.html')}")


def arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="", help="of the results (default: runtimes, or runtimes-quick)")
    parser.add_argument("--quick", action="store_true", help="short steps, two repeats, no batches, to see that it works")
    parser.add_argument("--server", action="append", choices=SERVERS, help=f"only these (default: {', '.join(COMPARED)})")
    parser.add_argument("--batch", action="append", type=int, choices=BATCHES, help="only these sizes of a batch")
    parser.add_argument("--rate", action="append", type=float, help="requests a second; default: shares of what the model alone does")
    parser.add_argument("--repeats", type=int, help=f"runs of a cell that count (default: {REPEATS}, quick: 2)")
    parser.add_argument("--plan", action="store_true", help="say what would be run and how long that takes, and end")
    parser.add_argument("--report", action="store_true", help="only write table and page again")
    parser.add_argument("--every", action="store_true", help="report runs that something else on the machine disturbed, too")
    args = parser.parse_args(argv)
    args.name = args.name or ("runtimes-quick" if args.quick else "runtimes")
    args.repeats = args.repeats or (2 if args.quick else REPEATS)
    args.batch = args.batch or ([1] if args.quick else list(BATCHES))
    args.server = args.server or list(QUICK if args.quick else COMPARED)
    return args


def main(argv=None) -> int:
    args = arguments(argv)
    path = REPOSITORY / "bench/results" / f"{args.name}.json"
    load = SHORT if args.quick else FULL
    results = json.loads(path.read_text()) if path.exists() else {"machine": {}, "load": load, "rates": [], "runs": []}
    if args.report:
        report(results, path, args.every)
        return 0
    wanted = [Cell(name, batch) for name, batch in product(args.server, args.batch) if batch in SERVERS[name].batches]
    runs = order(wanted, args.repeats, verdict.done(results))
    steps = len(results["rates"] or args.rate or SHARES)
    print(f"{len(runs)} runs, about {sum(duration(cell, load, steps) for cell, _repeat in runs) / 60:.0f} minutes after the set-up.")
    if args.plan:
        for cell, repeat in runs:
            print(repeat, *cell)
        return 0
    set_up()
    results["machine"] = machine()
    # The rates are those of all repeats, whenever these are run.
    if not results["rates"]:
        model = measure(Cell("model", 1), [], load)
        results["rates"] = args.rate or [float(f"{share * model['throughput']:.2g}") for share in SHARES]
    for number, (cell, repeat) in enumerate(runs, 1):
        try:
            result = measure(cell, results["rates"], load)
        except (RuntimeError, ValueError) as exc:
            result = {"problem": str(exc)}
        run = {**cell._asdict(), "repeat": repeat, "at": datetime.now(timezone.utc).isoformat(timespec="seconds"), **result}
        results["runs"].append(run)
        save(results, path)
        print(f"{number}/{len(runs)} {' '.join(map(str, cell))}:", verdict.judge(run) or "measured", flush=True)
    report(results, path, args.every)
    return 0


if __name__ == "__main__":
    sys.exit(main())
