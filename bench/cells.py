# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured: the cells, in which order, and how long that takes."""

from __future__ import annotations

import random
import sys
from itertools import product
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "collections"))

from ansible_collections.modelfleet.serving.plugins.module_utils._plan import Links, direct_bound, lower_bound, plan  # noqa: E402
from ansible_collections.modelfleet.serving.plugins.module_utils._swarm import MIB  # noqa: E402

HOSTS = (1, 2, 4, 8)
SIZES = (64, 256)  # MiB
ORIGINS = {"slow": 40, "fast": 400}  # Mbit/s
HOST_MBITS = 100
REPEATS = 5
# Making an object, getting every host ready, verifying, cleaning up.
AROUND_A_RUN_S = 10
# Other settings of the daemons: their restart, and until the schedulers know the seed peer.
SWITCH_S = 90


class Cell(NamedTuple):
    method: str
    hosts: int
    mib: int
    origin: str


class Run(NamedTuple):
    cell: Cell
    repeat: int  # 0 is the warm-up, which does not count


def links(origin: str) -> Links:
    return Links(ORIGINS[origin] * 1e6, HOST_MBITS * 1e6, HOST_MBITS * 1e6)


def cells(methods, hosts=HOSTS, mibs=SIZES, origins=tuple(ORIGINS)) -> list[Cell]:
    """Every combination; a method that is about one host only is there with one host only."""
    found = product(methods, hosts, mibs, origins)
    return [
        Cell(method.name, count, mib, origin)
        for method, count, mib, origin in found
        if (count == 1 or not method.one_host) and origin in method.origins
    ]


def order(wanted: list[Cell], methods: dict, repeats: int, seed: int, done=frozenset()) -> list[Run]:
    """All runs but those in ``done``: a warm-up of each method in its smallest cell, then every cell in each repeat, in a random order.

    The daemons' settings change between two runs as seldom as they can.
    """
    shuffle = random.Random(seed).shuffle
    left = [[run for cell in wanted if (run := Run(cell, repeat)) not in done] for repeat in range(1, repeats + 1)]
    names = dict.fromkeys(run.cell.method for one in left for run in one)
    smallest = [min((cell for cell in wanted if cell.method == name), key=_work) for name in names]
    runs, settings = [], "ours"
    for one in [[Run(cell, 0) for cell in smallest], *left]:
        shuffle(one)
        # Those that need no change first; the order is kept within each.
        runs += sorted(one, key=lambda run: (methods[run.cell.method].settings != settings, methods[run.cell.method].settings))
        settings = methods[runs[-1].cell.method].settings if runs else settings
    return runs


def _work(cell: Cell):
    return cell.mib * cell.hosts, -ORIGINS[cell.origin]


def bound(cell: Cell, size: int | None = None) -> float:
    """No method can be quicker, in seconds."""
    return lower_bound(size or cell.mib * MIB, links(cell.origin))


def planned(cell: Cell, copies: int = 2) -> float:
    """What the planner of the collection says of this cell, in seconds."""
    return plan(cell.mib * MIB, cell.hosts, links(cell.origin), seeds=1, copies=copies)["seconds"]


def expected(cell: Cell, shape: str) -> float:
    """About how long a run takes, in seconds, to say beforehand when all will be done."""
    size, between = cell.mib * MIB, links(cell.origin)
    return {
        "direct": direct_bound(size, cell.hosts, between) * 1.1,
        "cache": max(lower_bound(size, between), direct_bound(size, cell.hosts, between._replace(origin=between.seed))) * 1.1,
        "peers": planned(cell, copies=3),
        "hit": lower_bound(size, between._replace(origin=between.seed)),
    }[shape]


def duration(runs: list[Run], methods: dict) -> float:
    """Seconds for all of them."""
    settings = ["ours"] + [methods[run.cell.method].settings for run in runs]
    switches = sum(one != other for one, other in zip(settings, settings[1:]))
    return SWITCH_S * switches + sum(AROUND_A_RUN_S + expected(run.cell, methods[run.cell.method].shape) for run in runs)
