# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter.distribution_plan import FilterModule, duration

distribution_plan = FilterModule().filters()["distribution_plan"]
plan_table = FilterModule().filters()["plan_table"]
SIZE = 140 << 30


def test_takes_megabits():
    one = distribution_plan(100, SIZE, origin_mbits=5000, host_mbits=10000, seed_mbits=25000)
    assert (one["given"]["origin"], one["given"]["seed"], one["given"]["host"]) == (5e9, 25e9, 10e9)
    assert distribution_plan(100, SIZE, origin_mbits=5000, host_mbits=10000)["given"]["seed"] == 10e9
    assert one["bound_seconds"] == pytest.approx(SIZE * 8 / 5e9)


def test_says_what_is_wrong():
    with pytest.raises(AnsibleFilterError, match=r"Failed to plan with hosts 0: give more than 0\."):
        distribution_plan(0, SIZE, origin_mbits=5000, host_mbits=10000)


def test_table():
    lines = plan_table([distribution_plan(hosts, SIZE, files=30, origin_mbits=5000, host_mbits=10000) for hosts in (100, 10000)])
    assert lines[:7] == [
        "hosts  expected  uneven  bound   direct  wall      origin     direct  host-disk  seeds  schedulers",
        "--------------------------------------------------------------------------------------------------",
        "  100     4m17s  11m00s  4m01s    6h59m  origin  140.0GiB    13.7TiB   140.0GiB      2           2",
        "10000     4m17s  20m40s  4m01s  698h51m  origin  140.0GiB  1367.2TiB   140.0GiB      2          20",
        "",
        "To set for 100: forks 100, dfdaemon_disk_budget 280GiB",
        "To set for 10000: forks 10000, dfdaemon_disk_budget 280GiB",
    ]
    assert lines[8:12] == [
        "set-by-the-roles                              100  10000  changed-by",
        "---------------------------------------------------------------------------------------",
        "server.requestRateLimit                      4000  40000  dragonfly_scheduler_config",
        "scheduler.backToSourceCount                     3      3  dragonfly_scheduler_config",
    ]
    assert lines[16] == "download.backToSourceConcurrentPieceCount       8      8  dfdaemon_config"
    assert lines[18:22] == [
        "Assumed:",
        "Size 140.0 GiB, files 30, pieces of 16.0 MiB, seed peers 2.",
        "Links of origin 5 Gbit/s, seed peer 10 Gbit/s, host 10 Gbit/s.",
        "The disk of a host writes 2000 MB/s.",
    ]
    assert "was not tried" in lines[-1]
    lab = plan_table([distribution_plan(1, SIZE, origin_mbits=40, host_mbits=100)])
    assert "Links of origin 40 Mbit/s, seed peer 100 Mbit/s, host 100 Mbit/s." in lab


def test_table_names_a_shortage_once():
    fleets = {"files": 8, "origin_mbits": 20000, "host_mbits": 10000}
    plans = [distribution_plan(hosts, SIZE, seeds=seeds, **fleets) for hosts, seeds in ((1, 1), (100, 1), (1000, 1), (1000, 2))]
    assert [line for line in plan_table(plans) if line.startswith("For ")] == [
        "For 100, 1000: There is one seed peer: while it is away the object store sends each new file to up to 3 GPU hosts. "
        "Give the group dragonfly_seed_peers two hosts.",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (9.94, "9.9s"), (10.4, "10s"), (99.4, "99s"), (250, "4m10s"), (3599.6, "1h00m"), (9000, "2h30m")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text
