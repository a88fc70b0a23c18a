# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a container of its own, on two processors: starts one server, compares its answers, loads it, and says what that took.

What to do comes as JSON by standard input (servers.py makes it), and what was measured goes to standard output.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import timing

CORES = 2
TICK = os.sysconf("SC_CLK_TCK")
KNOWN = Path("/cache/model/known.json")
BOUNDARY = "modelfleet-bench"
# A batch adds up in another order than one picture does.
TOLERANCE = 1e-5
START_S = 120
TIMEOUT_S = 10
# All users are there a little later than they should.
SPAWN_LATE_S = 5
# What goes before others where processors are short: the generators, so that a request leaves when it is due.
NICE = 5
LOG = Path("/tmp/server.log")


def form(picture: bytes) -> tuple[bytes, dict]:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="pictures"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    body = head.encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def raw(picture: bytes) -> tuple[bytes, dict]:
    return picture, {"Content-Type": "image/png"}


def tensor(picture: bytes) -> tuple[bytes, dict]:
    """The protocol of Triton, with the picture as bytes behind the JSON."""
    content = len(picture).to_bytes(4, "little") + picture
    described = {"name": "picture", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(content)}}
    head = json.dumps({"inputs": [described]}).encode()
    return head + content, {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}


def of_tensors(said: dict) -> dict:
    return {output["name"]: output["data"] for output in said["outputs"]}


# How a picture is sent, and how an answer is read.
KINDS = {"raw": (raw, dict), "form": (form, lambda said: said[0]), "tensor": (tensor, of_tensors)}


def equal(answer: dict, known: dict) -> bool:
    near = all(abs(one - other) <= TOLERANCE for one, other in zip(answer["scores"], known["scores"]))
    return answer["classes"] == known["classes"] and near


def processors() -> int:
    """What the processors of this container have done, in ticks."""
    names = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    rows = [list(map(int, line[1:9])) for line in lines if line[0] in names]
    return sum(sum(row) - row[3] - row[4] for row in rows)


def used() -> int:
    """What the server has used, in ticks: every process here is its own, but for this one."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        if int(path.parent.name) != os.getpid():
            try:
                ticks += sum(map(int, path.read_text().rpartition(")")[2].split()[11:15]))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return ticks


def resident() -> int:
    """Bytes of memory of the server, what processes share counted once."""
    kib = 0
    for path in Path("/proc").glob("[0-9]*/smaps_rollup"):
        if int(path.parent.name) != os.getpid():
            try:
                lines = path.read_text().splitlines()
            except (FileNotFoundError, ProcessLookupError):
                continue
            kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib * 1024


class Usage:
    """Between two moments: of the server, of what made the load, and of anything else on these processors."""

    def __init__(self):
        self._before = self._now()

    def _now(self) -> tuple:
        mine = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return time.monotonic(), used() / TICK, mine, processors() / TICK

    def end(self) -> dict:
        wall, server, load, busy = (now - before for now, before in zip(self._now(), self._before))
        return {"cpu_s": server, "load_cpu_s": load, "others": max(0.0, busy - server - load) / wall / CORES}


class Server:
    def __init__(self, spec: dict):
        self.spec = spec
        self.send, self.read = KINDS[spec["kind"]]
        self.headers: dict = {}
        self.known = json.loads(KNOWN.read_text())
        for path in spec["directories"]:
            Path(path).mkdir(parents=True, exist_ok=True)
        for path, content in spec["files"].items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(content)
        for path, target in spec["links"].items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).symlink_to(target)
        self._begin = time.monotonic()
        with LOG.open("wb") as log:
            self.process = subprocess.Popen(
                ["nice", "-n", str(NICE), *spec["argv"]],
                cwd=spec["cwd"],
                env={**os.environ, **spec["environment"]},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _call(self, url: str, body: bytes, headers: dict):
        request = urllib.request.Request(url, data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=START_S) as answer:
            return json.load(answer)

    def _keys(self) -> dict:
        keys = json.loads(Path(self.spec["keys"]).read_text()) if self.spec["keys"] else {}
        return {name: {"Authorization": f"Bearer {keys[name]['key']}"} for name in keys}

    def wait(self) -> float:
        """Seconds from the start to the first answer, with all that must be done before."""
        registered = not self.spec["register"]
        while True:
            try:
                if not registered:
                    self._call(self.spec["register"], b"", self._keys()["management"])
                    registered = True
                self.headers = self._keys().get("inference", {})
                self.ask(0)
                return time.monotonic() - self._begin
            except (OSError, KeyError, ValueError) as exc:
                said = exc
            if self.process.poll() is not None or time.monotonic() - self._begin > START_S:
                raise RuntimeError(f"The server does not answer, {said}: {LOG.read_text()[-2000:]}")
            time.sleep(0.02)

    def request(self, number: int) -> tuple[bytes, dict]:
        body, headers = self.send(base64.b64decode(self.known[number]["picture"]))
        return body, {**headers, **self.headers}

    def ask(self, number: int) -> dict:
        return self.read(self._call(self.spec["url"], *self.request(number)))

    def wrong(self, together: bool = False) -> list:
        """The pictures that have another answer than the model's own, asked for one after another or, as for a batch, at once."""
        numbers = range(len(self.known))
        with ThreadPoolExecutor(len(numbers) if together else 1) as asking:
            answers = list(asking.map(self.ask, numbers))
        return [number for number in numbers if not equal(answers[number], self.known[number]["answer"])]


def attack(server: Server, rate: float, seconds: float) -> dict:
    """A load at a constant rate."""
    requests = [server.request(number) for number in range(len(server.known))]
    targets = [
        {
            "method": "POST",
            "url": server.spec["url"],
            "body": base64.b64encode(body).decode(),
            "header": {name: [value] for name, value in headers.items()},
        }
        for body, headers in requests
    ]
    Path("/tmp/targets").write_text("\n".join(map(json.dumps, targets)))
    usage = Usage()
    vegeta = ["/cache/vegeta", "attack", "-format=json", "-targets=/tmp/targets", "-max-body=0", f"-timeout={TIMEOUT_S}s"]
    # A fraction is a number of requests in a thousand seconds.
    command = [*vegeta, f"-rate={round(rate * 1000)}/1000s", f"-duration={seconds}s", "-output=/tmp/results"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    taken = usage.end()
    encoded = subprocess.run(["/cache/vegeta", "encode", "-to=csv", "/tmp/results"], check=True, capture_output=True, text=True)
    return {**timing.constant_rate(encoded.stdout.splitlines(), round(rate * 1000) / 1000), **taken}


def crowd(server: Server, users: int, spawn_rate: float, seconds: float, late_s: float) -> dict:
    """A load of users that wait for their answers."""
    bodies = [base64.b64encode(server.request(number)[0]).decode() for number in range(len(server.known))]
    load = {"url": server.spec["url"], "headers": server.request(0)[1], "bodies": bodies, "timeout_s": TIMEOUT_S, "out": "/tmp/rows"}
    Path("/tmp/load").write_text(json.dumps(load))
    runs = users / spawn_rate + seconds + SPAWN_LATE_S
    locust = [
        "/cache/venv/bin/locust",
        "--locustfile=/bench/locustfile.py",
        "--headless",
        "--only-summary",
        "--loglevel=ERROR",
        "--exit-code-on-error=0",
    ]
    command = [*locust, f"--users={users}", f"--spawn-rate={spawn_rate}", f"--run-time={runs:.0f}s"]
    usage = Usage()
    said = subprocess.run(command, env={**os.environ, "LOAD": "/tmp/load"}, capture_output=True, text=True, check=False)
    taken = usage.end()
    if said.returncode:
        raise RuntimeError(f"locust ended with status {said.returncode}: {said.stderr[-1000:]}")
    rows = json.loads(Path("/tmp/rows").read_text())
    found = timing.closed_loop(rows["rows"], rows["begin"], rows["begin"] + seconds, late_s)
    # All of them, the users that came first too.
    answered = sum(not error for _at, _took, error in rows["rows"])
    return {**found, "users": users, "answered": answered, **taken}


def alone(seconds: float) -> dict:
    """The model without a server: one request after another, and as many as two processes answer."""
    program = (
        "import base64, json, sys, time\n"
        "sys.path[:0] = ['/bench/served']\n"
        "from model import Model\n"
        "model = Model('/cache/model')\n"
        "pictures = [base64.b64decode(one['picture']) for one in json.load(open('/cache/model/known.json'))]\n"
        "[model.answer([one]) for one in pictures]\n"
        "print(flush=True)\n"
        "sys.stdin.readline()\n"
        "begin, cpu, took = time.monotonic(), time.process_time(), []\n"
        "while time.monotonic() - begin < float(sys.argv[1]):\n"
        "    at = time.monotonic()\n"
        "    model.answer([pictures[len(took) % len(pictures)]])\n"
        "    took.append(time.monotonic() - at)\n"
        "print(json.dumps({'took': took, 'cpu': time.process_time() - cpu}))\n"
    )

    def together(count: int) -> list:
        command = ["/cache/venv/bin/python", "-c", program, str(seconds)]
        processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _number in range(count)]
        for one in processes:
            one.stdout.readline()
        for one in processes:
            one.stdin.write("\n")
            one.stdin.flush()
        return [json.loads(one.communicate()[0]) for one in processes]

    usage = Usage()
    (single,) = together(1)
    both = together(CORES)
    taken = usage.end()
    return {
        **timing.latencies(single["took"], 0),
        "throughput": sum(len(one["took"]) for one in both) / seconds,
        "cpu_ms": 1000 * single["cpu"] / len(single["took"]),
        "others": taken["others"],
    }


def measure(spec: dict) -> dict:
    if "argv" not in spec:
        return alone(spec["seconds"])
    server = Server(spec)
    result = {"start_s": server.wait()}
    if wrong := server.wrong() or server.wrong(together=True):
        raise RuntimeError(f"Other answers than the model's, for the pictures {wrong}: {server.ask(wrong[0])}")
    attack(server, spec["rates"][0], spec["warm_up_s"])
    result["steps"] = [attack(server, rate, spec["step_s"]) for rate in spec["rates"]]
    result["closed"] = crowd(server, spec["users"], spec["spawn_rate"], spec["closed_s"], spec["late_s"])
    result["memory"] = resident()
    if wrong := server.wrong(together=True):
        raise RuntimeError(f"Other answers than the model's after the load, for the pictures {wrong}")
    return result


def main() -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    spec = json.load(sys.stdin)
    try:
        result = {**measure(spec), "problem": ""}
    except (RuntimeError, OSError, subprocess.SubprocessError) as exc:
        result = {"problem": str(exc)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
