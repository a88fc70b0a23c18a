# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users and directories of a host, made by programs of systemd that only pretend, below a directory of the test."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import host_layout

ME = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}


@pytest.fixture
def host(tmp_path, monkeypatch):
    """What the programs made, and what they were told."""
    state = SimpleNamespace(users={}, groups={}, calls=[], fails="")
    real_user, real_group = pwd.getpwnam, grp.getgrnam

    def run_command(_module, command, **_options):
        state.calls.append(os.path.basename(command[0]))
        if command[0] == state.fails:
            return 73, "", "Failed to create: it is a file.\n"
        if command[0] in ("userdel", "groupdel"):
            # As Debian does, a user's own group goes with him.
            state.users.pop(command[1], None)
            state.groups.pop(command[1], None)
            for members in state.groups.values():
                members[:] = [name for name in members if name != command[1]]
            return 0, "", ""
        for line in Path(command[-1]).read_text().splitlines():
            kind, name, *rest = line.split()
            if kind == "g":
                state.groups.setdefault(name, [])
            elif kind == "u":
                state.users[name] = rest
                state.groups.setdefault(name, [])
            elif kind == "m":
                state.groups[rest[0]].append(name)
            elif kind == "d":
                Path(name).mkdir(exist_ok=True)
                Path(name).chmod(int(rest[0], 8))
        return 0, "", ""

    def user(name):
        if name in state.users:
            return SimpleNamespace(pw_uid=0, pw_dir=state.users[name][-1])
        return real_user(name) if name == ME["owner"] else {}[name]

    def group(name):
        return (
            SimpleNamespace(gr_gid=0, gr_mem=state.groups[name])
            if name in state.groups
            else real_group(ME["group"])
            if name == ME["group"]
            else {}[name]
        )

    monkeypatch.setattr(host_layout.CheckedModule, "run_command", run_command)
    monkeypatch.setattr(host_layout, "pwd", SimpleNamespace(getpwnam=user))
    monkeypatch.setattr(host_layout, "grp", SimpleNamespace(getgrnam=group))
    monkeypatch.setattr(host_layout, "mount_points", lambda: {str(path) for path in state.mounts})
    state.top = tmp_path / "top"
    state.mounts = []
    return state


@pytest.fixture
def run(host, tmp_path, run_module):
    def call(check=False, **options):
        args = {
            "groups": ["shared"],
            "users": [{"name": "peer", "comment": "A peer", "home": "/var/lib/peer", "groups": ["shared"]}],
            "directories": [{"path": str(host.top), **ME}, {"path": str(host.top / "pieces"), "mode": "2770", **ME}],
            "sysusers_file": str(tmp_path / "users.conf"),
            "tmpfiles_file": str(tmp_path / "directories.conf"),
            **options,
        }
        return run_module(host_layout.main, args, check=check, diff=True)

    return call


def test_a_host_is_prepared_once(run, host, tmp_path):
    predicted = run(check=True)
    assert predicted["changed"] and host.calls == [] and not (tmp_path / "users.conf").exists()
    assert predicted["missing"] == ["group shared", "user peer", f"directory {host.top}", f"directory {host.top}/pieces"]
    assert run()["missing"] == predicted["missing"]
    assert host.calls == ["systemd-sysusers", "systemd-tmpfiles"]
    assert (host.top / "pieces").stat().st_mode & 0o7777 == 0o2770
    assert 'u peer - "A peer" /var/lib/peer\nm peer shared\n' in (tmp_path / "users.conf").read_text()
    for check in (False, True):
        again = run(check=check)
        assert not again["changed"] and again["missing"] == [] and again["diff"] == []
    assert len(host.calls) == 2


@pytest.mark.parametrize("loss", ["gone", "mode", "user", "member"])
def test_what_is_gone_or_different_is_made_again(run, host, loss):
    run()
    host.calls.clear()
    wanted = f"directory {host.top}/pieces"
    if loss == "gone":
        shutil.rmtree(host.top / "pieces")
    elif loss == "mode":
        (host.top / "pieces").chmod(0o777)
    elif loss == "user":
        del host.users["peer"]
        wanted = "user peer"
    else:
        host.groups["shared"].clear()
        wanted = "user peer in group shared"
    assert run(check=True)["missing"] == [wanted] and host.calls == []
    assert run()["missing"] == [wanted]
    assert len(host.calls) == 1
    assert not run()["changed"]


def test_a_run_that_died_is_healed_by_the_next(run, host, tmp_path):
    """The descriptions are there, and nothing of what they say."""
    run()
    host.users.clear()
    host.groups.clear()
    shutil.rmtree(host.top)
    assert len(run()["missing"]) == 4
    assert not run()["changed"]


def test_what_cannot_be_made_is_an_error(run, host):
    host.fails = "systemd-tmpfiles"
    result = run()
    assert result["failed"] and f"directory {host.top}" in result["msg"] and "it is a file" in result["msg"]
    # The descriptions are there now, and the second run says the same.
    assert f"directory {host.top}" in run()["msg"]


@pytest.fixture
def used(run, host):
    """A host on which the daemons worked."""
    run()
    (host.top / "pieces/task/1").mkdir(parents=True)
    (host.top / "pieces/task/1/piece").write_text("piece")
    (host.top / "elsewhere").symlink_to("/")
    host.calls.clear()


def test_everything_goes_once(run, host, tmp_path, used):
    (tmp_path / ".modelfleet-killed").write_text("half")
    predicted = run(check=True, state="absent")
    assert predicted["changed"] and host.calls == [] and (host.top / "pieces/task/1/piece").exists()
    assert predicted["removed"] == [
        f"directory {host.top}/pieces",
        f"directory {host.top}",
        "user peer",
        "group shared",
        "group peer",
        f"file {tmp_path}/users.conf",
        f"file {tmp_path}/directories.conf",
        f"file {tmp_path}/.modelfleet-killed",
    ]
    done = run(state="absent")
    assert done["removed"] == predicted["removed"] and done["left"] == [] and "user peer\n" in done["diff"][0]["before"]
    assert host.calls == ["userdel", "groupdel"] and (host.users, host.groups) == ({}, {})
    assert list(tmp_path.iterdir()) == []
    for check in (False, True):
        again = run(check=check, state="absent")
        assert not again["changed"] and again["removed"] == again["left"] == again["diff"] == []


def test_what_is_kept_keeps_its_owners(run, host, tmp_path, used):
    pieces = {"path": str(host.top / "pieces"), "owner": "peer", "group": "shared"}
    kept = {"state": "absent", "directories": [{"path": str(host.top), **ME}, pieces], "keep": [str(host.top / "pieces")]}
    done = run(**kept)
    assert done["removed"] == [f"file {tmp_path}/users.conf", f"file {tmp_path}/directories.conf"]
    assert done["left"] == [f"directory {host.top}/pieces", "user peer", "group shared", "group peer"]
    assert [path.name for path in host.top.iterdir()] == ["pieces"] and (host.top / "pieces/task/1/piece").exists()
    assert not run(**kept)["changed"]
    kept["directories"][1] = {**pieces, "owner": ME["owner"], "group": "peer"}
    assert run(**kept)["left"] == [f"directory {host.top}/pieces", "user peer", "group peer"] and "shared" not in host.groups
    shutil.rmtree(host.top / "pieces/task")
    assert run(**kept)["left"] == [] and not host.top.exists(), "nothing is in it"


def test_group_of_a_directory_in_one_that_is_kept_stays(run, host, used):
    """Its number would open the directory to whoever gets it next."""
    top, inner = (str(host.top / name) for name in ("pieces", "pieces/task"))
    directories = [{"path": str(host.top), **ME}, {"path": top, **ME}, {"path": inner, "owner": ME["owner"], "group": "shared"}]
    done = run(state="absent", directories=directories, keep=[top, inner])
    assert done["left"] == [f"directory {top}", "group shared"]
    assert (host.top / "pieces/task/1/piece").exists()


def test_mounts_and_links_are_emptied_and_stay(run, host, tmp_path, used):
    disk, inner = tmp_path / "disk", host.top / "pieces/task/inner"
    for path in (disk, inner, host.top / "lost+found"):
        path.mkdir()
    (disk / "piece").write_text("piece")
    (inner / "of others").write_text("stays")
    linked = {"path": str(host.top / "linked"), **ME}
    (host.top / "linked").symlink_to(disk)
    host.mounts = [host.top, inner]
    done = run(state="absent", directories=[{"path": str(host.top), **ME}, linked])
    assert done["left"] == [f"directory {host.top}/linked", f"mount {inner}", f"directory {host.top}"]
    assert list(disk.iterdir()) == [] and (inner / "of others").exists()
    assert sorted(path.name for path in host.top.iterdir()) == ["linked", "lost+found", "pieces"]


def test_a_user_of_somebody_else_stays(run, host, used):
    host.users["peer"][-1] = "/home/peer"
    done = run(state="absent")
    assert done["left"] == ["user peer", "group peer"] and "peer" in host.users and "shared" not in host.groups


def test_a_half_installed_host(run, host, tmp_path):
    """A group is all that there is."""
    host.groups["peer"] = []
    assert run(state="absent")["removed"] == ["group peer"]
    assert not run(state="absent")["changed"]


def test_what_cannot_be_removed_is_an_error(run, host, tmp_path, used):
    host.fails = "userdel"
    result = run(state="absent")
    assert result["failed"] and "Failed to remove user peer: Failed to create: it is a file. End what runs as it" in result["msg"]
    assert (tmp_path / "users.conf").exists(), "who looks for what is left finds it"
    host.fails = ""
    files = [f"file {tmp_path / name}" for name in ("users.conf", "directories.conf")]
    assert run(state="absent")["removed"] == ["user peer", "group shared", "group peer", *files]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state": "absent", "keep": ["/elsewhere"]}, "keep /elsewhere"),
        ({"groups": ["two words"]}, "'two words'"),
        ({"groups": ["models\n"]}, "Refused the name 'models"),
        ({"directories": [{"path": "/a\n"}]}, "Refused the path '/a"),
        ({"users": [{"name": "peer", "comment": 'a "peer"'}]}, "comment of user peer"),
        ({"directories": [{"path": "/a b"}]}, "'/a b'"),
        ({"directories": [{"path": "/a", "mode": "rwx"}]}, "'rwx'"),
    ],
)
def test_bad_input(run, options, words):
    result = run(**options)
    assert result["failed"] and words in result["msg"]
