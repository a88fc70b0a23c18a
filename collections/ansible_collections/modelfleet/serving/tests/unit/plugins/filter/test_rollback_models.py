# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.filter.rollback_models import rollback_models


def one(name, current, previous="", staged="", since=0, run="", rolled_back=False):
    return {
        "name": name,
        "current": current,
        "previous": previous,
        "staged": staged,
        "since": since,
        "run": run,
        "rolled_back": rolled_back,
    }


NEW = [one("a", "2.0", "1.0", since=300, run="last"), one("b", "5", "4", since=100, run="first")]
NOT_REACHED = [one("a", "1.0", "0.9", since=90, run="zeroth"), one("b", "5", "4", since=101, run="first")]


def test_what_the_last_run_brought():
    assert rollback_models([NOT_REACHED, NEW]) == [{"name": "a", "version": "2.0"}]


def test_a_run_that_came_to_no_end():
    half = [one("a", "1.0", staged="2.0", since=310, run="last"), one("b", "5", "4", since=100, run="first")]
    assert rollback_models([half, NOT_REACHED]) == [{"name": "a", "version": "2.0"}]


def test_named_models():
    assert rollback_models([NOT_REACHED, NEW], ["b", "c"]) == [{"name": "b", "version": "5"}]
    assert rollback_models([NEW, NOT_REACHED], ["a"]) == [{"name": "a", "version": "2.0"}]


def test_nothing_is_rolled_back_twice():
    back = [one("a", "1.0", "2.0", since=400, run="back", rolled_back=True)]
    assert rollback_models([back]) == []
    assert rollback_models([]) == [] and rollback_models([[one("a", "1.0")]]) == []
