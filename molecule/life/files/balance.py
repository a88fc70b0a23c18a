"""Take a host out of the balancing of the test's requests, or back: on each host load.py asks for as long as nobody tells it not to."""

from __future__ import annotations

import os
import subprocess
import sys
import time

ACK = "/run/drained.ack"


def run(*command):
    container = f"{sys.argv[1]}-{os.environ['MODELFLEET_HOST']}"
    return subprocess.run(["podman", "exec", container, *command], check=False).returncode


def main():
    if os.environ["MODELFLEET_STATE"] == "ready":
        return run("rm", "-f", "/run/drained", ACK)
    if run("touch", "/run/drained"):
        return 1
    # Nobody asks on a host on which nothing asks.
    deadline = time.monotonic() + 60
    while run("test", "-e", ACK) and run("systemctl", "is-active", "--quiet", "load.service") == 0:
        if time.monotonic() > deadline:
            return 1
        time.sleep(0.2)
    return 0


sys.exit(main())
