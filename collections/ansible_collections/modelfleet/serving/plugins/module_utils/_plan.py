# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a model takes to every host of a fleet, and what it needs. PRIVATE to the collection: it can have breaking changes at any time.

Sizes are bytes, links bits a second, the same in either direction, and times seconds. The limits are those of Kumar and Ross,
"Peer-Assisted File Distribution: The Minimum Distribution Time" (2006). What Dragonfly adds to them was measured with 1 and 8 hosts, links
of 100 Mbit/s and an origin of 40, with scheduler 2.5.1 and client 1.5.10; its growth with the fleet is that of the longest way in the tree
that the scheduler makes, where a new host takes its parents at random among those before it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._swarm import (
    BACK_TO_SOURCE,
    CANDIDATE_PARENTS,
    LONGEST_PIECE,
    PIECES,
    SHORTEST_PIECE,
    settings,
)

GIB = 1 << 30
# What TCP over Ethernet with frames of 1,500 bytes leaves of a link.
GOODPUT = 0.956
# From a command to the first byte.
START_S = 0.3
# The last piece waits on each way from host to host for another one.
PIECES_A_HOP = 2
HOPS_AN_E_FOLD = 3.5
# Bytes a second, of a sha256 with the processor's own instructions.
VERIFY_RATE = 1.1e9
# Of Dragonfly's own advice, https://d7y.io/docs/next/operations/best-practices/deployment-best-practices/.
HOSTS_A_SCHEDULER = 500
# Of anything; what is reckoned with more has no meaning.
_TOO_MUCH = 1e24


class Links(NamedTuple):
    """What the object store sends, and the links of a seed peer and of a GPU host, in bits a second."""

    origin: float
    seed: float
    host: float


def lower_bound(size, links):
    """No way to bring ``size`` bytes to all hosts at once is quicker than this, whatever the program.

    Kumar and Ross have a third term, hosts x size / (the sum of all uploads); with links that are the same in either direction it is less.
    """
    return max(size * 8 / links.origin, size * 8 / links.host)


def direct_bound(size, hosts, links):
    """The same where every host asks the origin itself."""
    return max(hosts * size * 8 / links.origin, size * 8 / links.host)


def piece_length(size):
    """The length that dfdaemon gives the pieces of a file where it is left to it."""
    wanted = 1 << max(0, math.ceil(math.log2(max(1, size // PIECES))))
    return min(max(wanted, SHORTEST_PIECE), LONGEST_PIECE)


def plan(size, hosts, links, seeds=2, files=1, copies=CANDIDATE_PARENTS, piece=None, disk=2e9, unpacked=False):
    """Return what bringing ``size`` bytes in ``files`` files of one size to ``hosts`` hosts at once takes.

    ``copies`` is the scheduler's candidateParentLimit, ``piece`` the length of a piece (None: dfdaemon chooses), ``disk`` what a host
    writes in bytes a second, and ``unpacked`` says that the runtime makes a second copy. Raises ModelFleetError for what is no fleet.
    """
    _check(size=size, hosts=hosts, **links._asdict(), seeds=seeds, files=files, copies=copies, disk=disk)
    bits = size * 8 / GOODPUT
    # A file is with one seed peer, chosen by its name.
    working = min(seeds, files)
    walls = {
        "origin": bits / links.origin,
        "host_link": bits / links.host,
        "host_disk": size / disk,
        "host_upload": min(copies, hosts - 1) * bits / links.host,
    }
    without_seeds = max(walls.values())
    uploaded = min(copies, hosts) * bits
    walls["seed_upload"] = uploaded / (working * links.seed)
    # The first of those that are equal: it stays when the others are mended.
    wall = max(walls, key=walls.get)
    # So many seed peers, where there are as many files, that their upload is not what all wait for.
    seeds_wanted = math.ceil(uploaded / without_seeds / links.seed)
    piece = min(piece or piece_length(size // files), size // files)
    hops = 1 + HOPS_AN_E_FOLD * math.log(hosts)
    tail = PIECES_A_HOP * hops * piece * 8 / GOODPUT / min(links.seed, links.host)
    others = START_S + tail + size / files / VERIFY_RATE
    return {
        "hosts": hosts,
        "given": {"size": size, **links._asdict(), "seeds": seeds, "files": files, "copies": copies, "disk": disk, "piece": piece},
        "seconds": others + walls[wall],
        "uneven_seconds": others + max(walls[wall], _busiest(hosts) * bits / links.host),
        "wall": wall,
        "bound_seconds": lower_bound(size, links),
        "direct_seconds": direct_bound(size, hosts, links) / GOODPUT,
        "origin_bytes": size,
        "direct_origin_bytes": hosts * size,
        "origin_requests": hosts * files,
        "host_disk_bytes": size * (2 if unpacked else 1),
        "seed_disk_bytes": size,
        "seeds": max(2, min(files, seeds_wanted)),
        "schedulers": max(2, math.ceil(hosts / HOSTS_A_SCHEDULER)),
        "settings": {
            "forks": hosts,
            # This version and the one before.
            "dfdaemon_disk_budget": f"{max(1, math.ceil(2 * size / GIB))}GiB",
        },
        "role_settings": _role_settings(hosts, links.origin, copies),
        "shortages": [
            *shortages(hosts, seeds),
            *(_seed_wall(seeds, files, seeds_wanted, uploaded / without_seeds) if wall == "seed_upload" else ()),
        ],
    }


def shortages(hosts, seeds, schedulers=None):
    """Yield what a fleet of ``hosts`` has too few of, and how many it should have. ``schedulers`` None: not known."""
    if hosts > 1 and seeds == 0:
        yield "There is no seed peer: GPU hosts go to the object store themselves. Give the group dragonfly_seed_peers two hosts."
    if hosts > 1 and seeds == 1:
        yield (
            f"There is one seed peer: while it is away the object store sends each new file to up to {BACK_TO_SOURCE} GPU hosts. "
            "Give the group dragonfly_seed_peers two hosts."
        )
    wanted = math.ceil(hosts / HOSTS_A_SCHEDULER)
    if schedulers is not None and 0 < schedulers < wanted:
        yield (
            f"There are too few schedulers for {hosts} GPU hosts ({schedulers}): give the group dragonfly_schedulers {wanted} hosts, "
            f"one for each {HOSTS_A_SCHEDULER}."
        )


def _seed_wall(seeds, files, wanted, upload):
    """``upload``: what all seed peers together would have to send, in bits a second."""
    said = "The hosts wait for the upload of the seed peers"
    if files >= wanted:
        yield f"{said}: {wanted} instead of {seeds} would end that."
    else:
        yield (
            f"{said}, and a file is with one of them. As many as there are files ({files}), with links of "
            f"{upload / files / 1e6:.0f} Mbit/s, would end that, or more and smaller files."
        )


def _role_settings(hosts, origin, copies):
    """What the roles write, as ``{"scheduler": {"server.requestRateLimit": 4000}}``."""
    chosen = settings(hosts, origin)
    chosen["scheduler_dynconfig"]["schedulerClusterConfig"]["candidateParentLimit"] = copies
    return {part: {f"{block}.{key}": keys[key] for block, keys in blocks.items() for key in keys} for part, blocks in chosen.items()}


def _busiest(hosts):
    """How many copies the first hosts of the tree upload where each host takes as much from one parent as from the other."""
    return min(hosts - 1, math.log(hosts) + 0.6)


def _check(**numbers):
    for name, value in numbers.items():
        if not 1 / _TOO_MUCH < value < _TOO_MUCH:
            more = "" if value <= 0 else ", and what a fleet can have"
            raise ModelFleetError(f"Failed to plan with {name} {value}: give more than 0{more}.")
    if numbers["files"] > numbers["size"]:
        raise ModelFleetError("Failed to plan with {files} files in {size} bytes: give at least a byte for each.".format(**numbers))
