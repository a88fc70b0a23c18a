# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import cells
import pytest
from cells import Cell, Run
from methods import METHODS

from bench import arguments

EVERYTHING = cells.cells(METHODS.values())


def test_every_cell_that_was_asked_for():
    ours = {cell[1:] for cell in EVERYTHING if cell.method == "ours"}
    assert ours == {(hosts, mib, origin) for hosts in (1, 2, 4, 8) for mib in (64, 256) for origin in ("slow", "fast")}
    hit = {cell[1:] for cell in EVERYTHING if cell.method == "ours-local"}
    assert hit == {(1, mib, origin) for mib in (64, 256) for origin in ("slow", "fast")}
    assert len(EVERYTHING) == len(set(EVERYTHING))


def test_the_bound():
    """In nominal rates: what TCP and the shaper take is part of the result."""
    assert cells.bound(Cell("ours", 8, 64, "slow")) == pytest.approx(64 * 1.048576 * 8 / 40)
    assert cells.bound(Cell("ours", 8, 64, "fast")) == pytest.approx(64 * 1.048576 * 8 / 100)
    assert cells.bound(Cell("ours", 8, 64, "slow"), 5 * 10**6) == pytest.approx(1)


def test_every_cell_in_every_repeat_after_a_warm_up_of_each_method():
    runs = cells.order(EVERYTHING, METHODS, repeats=5, seed=1)
    warm_ups = [run for run in runs if run.repeat == 0]
    assert runs[: len(warm_ups)] == warm_ups
    assert {run.cell.method for run in warm_ups} == set(METHODS)
    assert all(run.cell[1:] == (1, 64, METHODS[run.cell.method].origins[-1]) for run in warm_ups), "the smallest cell"
    for repeat in range(1, 6):
        assert sorted(run.cell for run in runs if run.repeat == repeat) == sorted(EVERYTHING)


def test_the_order_is_random_and_the_same_for_a_seed():
    first, again, other = (cells.order(EVERYTHING, METHODS, repeats=2, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    repeats = [[run.cell for run in first if run.repeat == repeat] for repeat in (1, 2)]
    assert repeats[0] != repeats[1]


def test_settings_change_as_seldom_as_they_can():
    runs = cells.order(EVERYTHING, METHODS, repeats=5, seed=1)
    settings = [METHODS[run.cell.method].settings for run in runs]
    assert sum(one != other for one, other in zip(settings, settings[1:])) == 12, "three settings: twice in the warm-up and in each repeat"


def test_goes_on_where_it_was():
    runs = cells.order(EVERYTHING, METHODS, repeats=2, seed=1)
    counted = [run for run in runs if run.repeat]
    left = {run for run in counted if run.cell.method in ("ours", "curl")}
    again = cells.order(EVERYTHING, METHODS, repeats=2, seed=1, done=set(counted) - left)
    assert {run for run in again if run.repeat} == left
    assert {run.cell.method for run in again if not run.repeat} == {"ours", "curl"}, "a fleet that was booted anew is cold"
    assert cells.order(EVERYTHING, METHODS, repeats=2, seed=1, done=set(counted)) == []


def test_quick_fits_into_a_quarter_of_an_hour():
    """With five minutes for the fleet of four hosts without TorchServe."""
    args = arguments(["--quick"])
    wanted = cells.cells([METHODS[name] for name in args.method], args.hosts, args.mib, args.origin)
    runs = cells.order(wanted, METHODS, args.repeats, seed=1)
    assert not any(METHODS[name].torchserve for name in args.method)
    assert args.repeats >= 2
    assert cells.duration(runs, METHODS) < 10 * 60


def test_says_how_long_it_takes():
    direct = cells.expected(Cell("curl", 8, 256, "slow"), "direct")
    assert direct == pytest.approx(8 * 256 * 1.048576 * 8 / 40 * 1.1)
    assert cells.expected(Cell("nginx", 8, 256, "slow"), "cache") < direct
    assert cells.expected(Cell("ours", 8, 256, "slow"), "peers") < cells.expected(Cell("nginx", 8, 256, "slow"), "cache")
    one = Run(Cell("curl", 1, 64, "slow"), 1)
    assert cells.duration([one, one], METHODS) == pytest.approx(2 * cells.duration([one], METHODS))
    upstream = Run(Cell("dfget", 1, 64, "slow"), 1)
    assert cells.duration([upstream], METHODS) > cells.SWITCH_S
