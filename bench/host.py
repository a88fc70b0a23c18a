# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a host of the fleet, in a conversation of lines of JSON with bench.py: does one job from the barrier on, and says what it took.

    bench.py: {"command": [...] or "module": name and "arguments": {...}, or neither, ...}    host: {"ready": true}
    bench.py: the instant of the barrier, of the clock that all containers of a machine share    host: {"seconds": s, "status": n}
    bench.py: an empty line, when every host has its file    host: {"sha256": ..., "cpu_s": ..., "written": ..., "peak": ..., "log": ...}

A module of the collection is imported before the barrier, as if every host had done so on a processor of its own. What takes longer than
"limit" seconds is killed. Only the standard library.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUN = HERE / "run"
POLL_S = 0.02


class Unit:
    """What a service of systemd used since this object was made."""

    def __init__(self, group: Path, root: Path = Path("/")):
        self.root = root
        self.group = group
        for process in self.processes():
            (process / "clear_refs").write_text("5")  # the highest resident size begins anew
        self.before = self.counters()

    def processes(self) -> list[Path]:
        return [self.root / "proc" / pid for pid in (self.group / "cgroup.procs").read_text().split()]

    def counters(self) -> tuple[float, int]:
        cpu = int(field((self.group / "cpu.stat").read_text(), "usage_usec"))
        return cpu / 1e6, sum(int(field((process / "io").read_text(), "write_bytes:")) for process in self.processes())

    def used(self) -> tuple[float, int, int]:
        """CPU seconds, bytes written, and the highest resident size in bytes."""
        cpu, written = (now - before for now, before in zip(self.counters(), self.before))
        peak = sum(int(field((process / "status").read_text(), "VmHWM:")) * 1024 for process in self.processes())
        return cpu, written, peak


def control_group(name: str) -> Path:
    """The service's group in the hierarchy of version 2, which is below "unified" on a machine that still has those of version 1."""
    command = ["systemctl", "show", "--property=ControlGroup", "--value", name]
    shown = subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    if not shown:
        raise RuntimeError(f"{name} does not run here")
    top = Path("/sys/fs/cgroup")
    unified = top / "unified"
    return (unified if unified.is_dir() else top) / shown.lstrip("/")


def field(text: str, name: str) -> str:
    """The word behind the name of a line: what files of the kernel look like."""
    return next(line.split()[1] for line in text.splitlines() if line.split()[:1] == [name])


def prepared(spec: dict):
    """The job as a function that does not return."""
    if "module" in spec:
        sys.path.insert(0, str(HERE / "lib"))
        testing = importlib.import_module("ansible.module_utils.testing")
        module = importlib.import_module(f"ansible_collections.modelfleet.serving.plugins.modules.{spec['module']}")

        def run():
            with testing.patch_module_args(spec["arguments"]):
                module.main()

    else:
        environment = {**os.environ, **spec.get("environment", {})}

        def run():
            os.execvpe(spec["command"][0], spec["command"], environment)

    return run


def start(job, begin: float, log: Path) -> int:
    """The process that waits for the barrier and does the job."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        time.sleep(max(0, begin - time.monotonic()))
        job()
    except SystemExit as exc:
        status = exc.code or 0
    except BaseException as exc:
        os.write(2, repr(exc).encode())
    finally:
        sys.stdout.flush()
        os._exit(status)


def converse(say, hear) -> None:
    spec = json.loads(hear())
    RUN.mkdir(exist_ok=True)
    for path, text in spec.get("files", {}).items():
        Path(path).write_text(text)
        Path(path).chmod(0o755)
    if "before" in spec:
        subprocess.run(spec["before"], shell=True, check=True)
    job = prepared(spec) if "command" in spec or "module" in spec else None
    log = RUN / "log"
    units = [Unit(control_group(name)) for name in spec.get("units", ())]
    say({"ready": True})

    begin = float(hear())
    status = usage = None
    if job:
        done = spec.get("done")
        child = start(job, begin, log)
        signal.signal(signal.SIGALRM, lambda *_args: os.killpg(child, signal.SIGKILL))
        signal.alarm(math.ceil(spec["limit"]))
        while usage is None and not (done and Path(done).exists()):
            pid, ended, found = os.wait4(child, os.WNOHANG if done else 0)
            if pid:
                status, usage = os.waitstatus_to_exitcode(ended), found
            else:
                time.sleep(POLL_S)
        signal.alarm(0)
    say({"seconds": time.monotonic() - begin, "status": status or 0})

    hear()
    if job and usage is None:
        os.killpg(child, signal.SIGTERM)
        usage = os.wait4(child, 0)[2]
    used = [unit.used() for unit in units]
    if usage:
        # ru_oublock counts what a process and its children made dirty, in sectors.
        used.append((usage.ru_utime + usage.ru_stime, usage.ru_oublock * 512, usage.ru_maxrss * 1024))
    cpu, written, peak = (sum(column) for column in zip(*used)) if used else (0, 0, 0)
    say(
        {
            "sha256": sha256(spec["output"]) if "output" in spec else "",
            "cpu_s": cpu,
            "written": written,
            "peak": peak,
            "log": log.read_text(errors="replace")[-2000:] if job else "",
        }
    )


def sha256(path: str) -> str:
    """Empty where there is no such file."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def main() -> None:
    converse(lambda message: print(json.dumps(message), flush=True), sys.stdin.readline)


if __name__ == "__main__":
    main()
