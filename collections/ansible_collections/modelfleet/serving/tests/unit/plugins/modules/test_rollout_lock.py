# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import rollout_lock

ALICE = {"run": "boot:1:2", "user": "alice", "controller": "control-1", "pid": 1}
BOB = {"run": "boot:3:4", "user": "bob", "controller": "control-2", "pid": 3}


@pytest.fixture
def lock(tmp_path, run_module):
    def call(holder, check=False, **options):
        return run_module(rollout_lock.main, {"path": str(tmp_path / "rollout.lock"), "holder": holder, **options}, check=check)

    call.path = tmp_path / "rollout.lock"
    return call


def test_one_at_a_time(lock):
    assert lock(ALICE, check=True)["changed"] and not lock.path.exists()
    first = lock(ALICE)
    assert first["changed"] and not first["taken_over"]
    assert not lock(ALICE)["changed"]
    for check in (False, True):
        refused = lock(BOB, check=check)
        assert refused["failed"] and refused["holder"]["user"] == "alice"
        assert "a run of alice on control-1 (process 1) has worked on this host since 2" in refused["msg"]
        assert "-e modelfleet_rollout_take_over=true" in refused["msg"]
    assert not lock(BOB, state="absent")["changed"]
    assert lock(ALICE, state="absent", check=True)["changed"]
    assert lock(ALICE, state="absent")["changed"] and not lock.path.exists()
    assert not lock(ALICE, state="absent")["changed"]
    assert lock(BOB)["changed"]


@pytest.mark.parametrize("how", [{"take_over": True}, {"dead": ALICE["run"]}])
def test_takes_over_what_an_interrupted_run_left(lock, how):
    lock(ALICE)
    taken = lock(BOB, **how)
    assert taken["changed"] and taken["taken_over"] and taken["holder"]["user"] == "alice"
    assert not lock(BOB, **how)["changed"]


def test_only_the_dead_run_itself_is_taken_over(lock):
    lock(ALICE)
    assert "a run of alice" in lock(BOB, dead="boot:9:9")["msg"]


def test_a_lock_that_nobody_can_read_is_held(lock):
    lock.path.write_text("{")
    assert "Refused: a run of ? on ?" in lock(BOB)["msg"]
    assert lock(BOB, take_over=True)["taken_over"]


def test_a_host_without_the_directory(lock, tmp_path):
    nowhere = str(tmp_path / "none/rollout.lock")
    assert lock(ALICE, check=True, path=nowhere)["changed"]
    assert "Run the playbook site first" in lock(ALICE, path=nowhere)["msg"]


def test_by_itself(run_module):
    assert "nobody is named" in run_module(rollout_lock.main, {})["msg"]
