# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of the swarm that follows from the inventory. PRIVATE to the collection: it can have breaking changes at any time.

This is the only place that knows it: the roles write these settings, the plan reckons with them. Why each is what it is, and what was tried
and did not help, is in the README of the role dragonfly_scheduler.

What depends on the number of hosts is the schedulers' alone, in steps: one more host changes nobody's configuration, and no number of hosts
that of a dfdaemon.
"""

from __future__ import annotations

MIB = 1 << 20
# The lengths of a piece that dfdaemon chooses itself, and for how many of them.
SHORTEST_PIECE, LONGEST_PIECE, PIECES = 4 * MIB, 64 * MIB, 500
# So many whole copies of a file a seed peer uploads. Dragonfly's default is 3; with 1 the hosts seldom form the chain that it
# would take to gain by it, and one run took the file twice from the origin.
CANDIDATE_PARENTS = 2
# How many peers a file may be sent to the origin, where no seed peer is up. Dragonfly's own default is 200.
BACK_TO_SOURCE = 3
# Requests a second that a scheduler answers: its default, for so many hosts. A fleet begins with one for each file and host.
REQUESTS, REQUESTS_FOR_HOSTS = 4000, 1000
# What dfdaemon takes from the origin at once, its default among them.
ORIGIN_PIECES = (2, 4, 8)


def settings(hosts, origin=0):
    """Return what the roles write for ``hosts`` GPU hosts: keys of scheduler, scheduler_dynconfig and seed_peer (a dfdaemon).

    ``origin`` is what the object store sends, in bits a second, 0 where it is not known.
    """
    return {
        "scheduler": {
            "server": {"requestRateLimit": REQUESTS * _power_of_ten(hosts) // REQUESTS_FOR_HOSTS},
            "scheduler": {"backToSourceCount": BACK_TO_SOURCE},
        },
        # A key that is missing from this file is 0 to the scheduler, not its default.
        "scheduler_dynconfig": {
            "seedPeerClusterConfig": {"loadLimit": 2000},
            "schedulerClusterConfig": {"candidateParentLimit": CANDIDATE_PARENTS, "filterParentLimit": 15},
            "schedulerClusterClientConfig": {"loadLimit": 200},
        },
        "seed_peer": {"download": {"backToSourceConcurrentPieceCount": _origin_pieces(origin)}},
    }


def _power_of_ten(hosts):
    """The next one from ``hosts`` on, at least REQUESTS_FOR_HOSTS."""
    return max(REQUESTS_FOR_HOSTS, 10 ** len(str(max(0, hosts - 1))))


def _origin_pieces(origin):
    """The fewest that are at least as many as the origin sends in a second: hosts get a piece only when the seed peer has all of it.

    Where they are fewer than the default no connection has to carry more than 34 Mbit/s, so none of them is a wall.
    """
    a_second = origin / 8 / SHORTEST_PIECE
    return next((count for count in ORIGIN_PIECES if count >= a_second), ORIGIN_PIECES[-1]) if origin > 0 else ORIGIN_PIECES[-1]
