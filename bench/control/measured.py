# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command costs on this machine, with everything that it starts and leaves behind."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
SAMPLE_S = 1.0
KIB, TICKS = 1024, os.sysconf("SC_CLK_TCK")


def measure(command: list, log: Path, limit_s: float, **options) -> dict:
    """Run ``command`` below a process of its own, its output in ``log``; return its status and what it took.

    Seconds of the clock and of processors (``wall_s``, ``cpu_s``), bytes and number of its processes where they took most (``peak_bytes``,
    ``processes``), and seconds that all of this machine's processors were at work meanwhile (``machine_s``).
    """
    asked = json.dumps({"command": list(map(str, command)), "log": str(log), "limit_s": limit_s})
    ended = subprocess.run([sys.executable, __file__], input=asked, capture_output=True, text=True, check=True, **options)
    return json.loads(ended.stdout)


def at_work() -> float:
    """Seconds that the processors of this machine were at work since its start."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS


def descendants(pid: int) -> list:
    found = []
    # A process may be gone between any two looks.
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    for thread in threads:
        for child in _read(Path(f"/proc/{pid}/task/{thread}/children")).split():
            found += [int(child), *descendants(int(child))]
    return found


def proportional_bytes(pid: int) -> int:
    """Memory of a process, of what it shares its share."""
    for line in _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * KIB
    return 0


def _read(path: Path) -> str:
    """A process may be gone by now."""
    try:
        return path.read_text()
    except OSError:
        return ""


def reap() -> None:
    """End what the command left running, such as the masters of its SSH connections, so that their time counts."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 5
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                pass
        while time.monotonic() < deadline:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.05)
            except ChildProcessError:
                return


def main() -> None:
    asked = json.load(sys.stdin)
    # Whoever is left behind becomes a child of this process.
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "Failed to become the parent of what the command leaves behind")
    machine, began = at_work(), time.monotonic()
    peak = processes = 0
    with open(asked["log"], "wb") as log:
        command = subprocess.Popen(asked["command"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        while True:
            try:
                status = command.wait(SAMPLE_S)
                break
            except subprocess.TimeoutExpired:
                those = descendants(os.getpid())
                peak, processes = max(peak, sum(map(proportional_bytes, those))), max(processes, len(those))
                if time.monotonic() - began > asked["limit_s"]:
                    os.killpg(command.pid, signal.SIGKILL)
    wall = time.monotonic() - began
    machine = at_work() - machine
    reap()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {"status": status, "wall_s": wall, "cpu_s": used.ru_utime + used.ru_stime, "machine_s": machine}
    json.dump({**found, "peak_bytes": peak, "processes": processes}, sys.stdout)


if __name__ == "__main__":
    main()
