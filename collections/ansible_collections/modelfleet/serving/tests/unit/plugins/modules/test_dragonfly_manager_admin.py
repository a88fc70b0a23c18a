# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import stat

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import dragonfly_manager_admin
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_manager import JWT_KEY, FakeManager

PASSWORD = "correct-horse-1"


@pytest.fixture
def manager(monkeypatch):
    monkeypatch.setattr(dragonfly_manager_admin, "POLL_S", 0.01)
    fake = FakeManager()
    yield fake
    fake.close()


@pytest.fixture
def run(manager, tmp_path, run_module):
    def call(check=False, diff=False, **options):
        options = {"url": manager.url, "jwt_key": JWT_KEY, "root_password": PASSWORD, "token_path": str(tmp_path / "token"), **options}
        return run_module(dragonfly_manager_admin.main, options, check=check, diff=diff)

    return call


def scheduler(number, port, state="active", name="sched-1", ip="10.0.0.1"):
    return {"id": number, "host_name": name, "ip": ip, "port": port, "state": state, "scheduler_cluster_id": 1}


def test_takes_a_new_manager_into_use(manager, run, tmp_path):
    result = run(diff=True)
    assert result["changed"] and result["password"] and result["token"] == "created" and manager.password == PASSWORD
    path = tmp_path / "token"
    assert path.read_text() == manager.tokens[0]["token"] + "\n" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(manager.tokens[0]["scopes"]) == ["cluster", "job"]
    assert result["diff"]["after"] == "another password for root\ntoken created\n"
    assert manager.tokens[0]["token"] not in json.dumps(result) and PASSWORD not in json.dumps(result)
    assert not run()["changed"] and len(manager.tokens) == 1


def test_signs_nobody_in(manager, run):
    """One attempt, and everybody who signs in is refused for 30 seconds."""
    run()
    run()
    assert [path for _method, path, _body in manager.requests if "signin" in path] == []


def test_waits_until_the_manager_has_forgotten_the_record_without_a_password(manager, run):
    manager.sign_in({"password": "a guess"})
    assert manager.remembers
    assert run()["password"] and manager.password == PASSWORD
    # What this module does itself with its session has the same effect.
    assert manager.remembers and not run()["changed"]


def test_gives_up_where_it_never_forgets(manager, run, monkeypatch):
    monkeypatch.setattr(dragonfly_manager_admin, "FORGETS_S", 0.05)
    manager.remembers = 10**6
    assert "hashedSecret too short" in run()["msg"]


def test_another_password_later(manager, run):
    run()
    assert "it is none of those that are known" in run(root_password="battery-staple")["msg"]
    assert run(root_password="battery-staple", old_root_passwords=[PASSWORD])["password"] and manager.password == "battery-staple"


@pytest.mark.parametrize("password", ["short", "x" * 21, "dragonfly"])
def test_a_password_that_is_none(manager, run, password):
    assert "choose another" in run(root_password=password)["msg"]
    assert manager.requests == []


def test_check_mode_writes_nothing(manager, run, tmp_path):
    result = run(check=True)
    assert result["changed"] and result["token"] == "created" and not result["password"]
    assert manager.password == "dragonfly" and manager.tokens == [] and not (tmp_path / "token").exists()
    run()
    assert not run(check=True)["changed"]


def test_a_file_that_was_lost_is_written_again(manager, run, tmp_path):
    run()
    (tmp_path / "token").unlink()
    result = run()
    assert result["changed"] and result["token"] == "written"
    assert (tmp_path / "token").read_text() == manager.tokens[0]["token"] + "\n"


@pytest.mark.parametrize("wrong", [{"expired_at": "2026-01-01T00:00:00Z"}, {"state": "inactive"}, {"scopes": ["job"]}])
def test_a_token_that_would_not_do_is_renewed(manager, run, wrong):
    run()
    text = manager.tokens[0]["token"]
    manager.tokens[0].update(wrong)
    assert run(check=True)["token"] == "renewed"
    assert run()["token"] == "renewed" and not run()["changed"]
    assert manager.tokens[0]["token"] == text and manager.tokens[0]["state"] == "active" and len(manager.tokens[0]["scopes"]) == 2


def test_rotates(manager, run, tmp_path):
    run()
    before = (tmp_path / "token").read_text()
    assert run(rotate=True)["token"] == "replaced"
    assert (tmp_path / "token").read_text() != before and len(manager.tokens) == 1


def test_forgets_a_scheduler_whose_port_has_changed(manager, run):
    """The manager refuses it (Duplicate entry, uk_scheduler) while it knows the old one."""
    run()
    manager.schedulers += [scheduler(1, 8002), scheduler(2, 8002, "inactive", name="gone"), scheduler(3, 8002, name="other")]
    known = [{"hostname": "sched-1", "ip": "10.0.0.1", "port": 8012}]
    assert run(check=True, schedulers=known)["forgotten"] == ["sched-1 (10.0.0.1:8002)", "gone (10.0.0.1:8002)"]
    assert len(manager.schedulers) == 3
    assert run(schedulers=known)["changed"] and [one["id"] for one in manager.schedulers] == [3]
    manager.schedulers.append(scheduler(4, 8012, "inactive"))
    assert not run(schedulers=known)["changed"]


def test_forgets_nobody_where_nobody_registers_himself(manager, run):
    """After the way back from the manager's mode its schedulers become inactive behind the run, and the next one would change something."""
    run()
    manager.schedulers.append(scheduler(1, 8002, "inactive"))
    assert not run()["changed"] and len(manager.schedulers) == 1


def test_says_which_schedulers_the_manager_does_not_know(manager, run):
    """Each registers itself when it starts; so after the database was lost, or another took its place, somebody must restart them."""
    wanted = [{"hostname": name, "ip": ip, "port": 8002} for name, ip in (("sched-1", "10.0.0.1"), ("sched-2", "10.0.0.2"))]
    assert run(schedulers=wanted)["unregistered"] == ["sched-1", "sched-2"]
    # One that is inactive, as after a restart of the manager, comes back by itself; one at another address is somebody else.
    manager.schedulers += [scheduler(1, 8002, "inactive"), scheduler(2, 8002, name="sched-2", ip="10.0.0.9")]
    result = run(schedulers=wanted)
    assert result["unregistered"] == ["sched-2"] and not result["changed"]
    # One that is forgotten, for its port has changed, is not known either.
    manager.schedulers[0]["port"] = 8012
    for check in (True, False):
        result = run(check=check, schedulers=wanted)
        assert result["unregistered"] == ["sched-1", "sched-2"] and result["forgotten"] == ["sched-1 (10.0.0.1:8012)"]
    assert run()["unregistered"] == []


def test_another_key(manager, run):
    result = run(jwt_key="wrong-key-12345")
    assert "it does not know a session signed with jwt_key. It runs with another key" in result["msg"]
