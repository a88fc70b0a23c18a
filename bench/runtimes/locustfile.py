# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users of locust, each of which asks again as soon as it has its answer. LOAD names the file that says what they ask."""

from __future__ import annotations

import base64
import itertools
import json
import os
import time
from pathlib import Path

from locust import FastHttpUser, constant, events, task

LOAD = json.loads(Path(os.environ["LOAD"]).read_text())
TURN = itertools.cycle([base64.b64decode(body) for body in LOAD["bodies"]])
ROWS: list = []
READY: list = []


@events.request.add_listener
def note(response_time, exception, start_time, **_rest):
    ROWS.append((start_time, response_time / 1000, "" if exception is None else repr(exception)))


@events.spawning_complete.add_listener
def ready(**_rest):
    READY.append(time.time())


@events.quit.add_listener
def write(**_rest):
    Path(LOAD["out"]).write_text(json.dumps({"begin": READY[0], "rows": ROWS}))


class Asker(FastHttpUser):
    host = LOAD["url"]
    wait_time = constant(0)
    connection_timeout = network_timeout = LOAD["timeout_s"]

    @task
    def ask(self):
        self.client.post("", data=next(TURN), headers=LOAD["headers"])
