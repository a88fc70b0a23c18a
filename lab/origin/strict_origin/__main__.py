# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m strict_origin CONFIG.json"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from .server import start, stop


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python3 -m strict_origin CONFIG.json")
    servers = start(json.loads(Path(sys.argv[1]).read_text()))
    for name, server in servers.items():
        print(f"{name} on {server.server_address[0]}:{server.server_address[1]}", flush=True)
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    stop(servers)


if __name__ == "__main__":
    main()
