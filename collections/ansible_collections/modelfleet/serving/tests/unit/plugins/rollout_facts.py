# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a play knows of a host after a rollout."""

from __future__ import annotations

BYTES = {"origin": 1, "remote_peer": 9, "local_peer": 0}
SAMPLES = [{"seconds": 0.0, "origin": 0, "remote_peer": 0, "local_peer": 0}, {"seconds": 4.0, **BYTES}]
GATE = {"model": "demo", "version": "2.0", "gate": "ready", "ok": True, "saw": "1 worker READY", "allowed": "1 worker READY"}


def host(**facts):
    return {
        "plan": [{"name": "demo", "from": "1.0", "version": "2.0", "bytes": 10, "on_disk": False}],
        "outcome": "activated",
        "gates": [GATE],
        "problem": "",
        "timeline": [
            {"phase": "check", "at": 1000.0},
            {"phase": "idle", "at": 1002.0},
            {"phase": "ready", "at": 1010.0},
            {"phase": "idle", "at": 1015.5},
        ],
        "brought": {
            "artifacts": [
                {"name": "demo", "version": "2.0", "action": "fetched", "size": 10, "fetched": 10, "seconds": 4.0, "links": 2, "path": "/x"}
            ],
            "bytes": BYTES,
            "samples": SAMPLES,
            "began": 1003.25,
        },
        "seed": {},
        **facts,
    }
