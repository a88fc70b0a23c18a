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
        return SimpleNamespace(pw_uid=0) if name in state.users else real_user(name) if name == ME["owner"] else {}[name]

    def group(name):
        return (
            SimpleNamespace(gr_gid=0, gr_mem=state.groups[name])
            if name in state.groups
            else real_group(ME["group"])
            if name == ME["group"]
            else {}[name]
        )

    monkeypatch.setattr(host_layout.AnsibleModule, "run_command", run_command)
    monkeypatch.setattr(host_layout, "pwd", SimpleNamespace(getpwnam=user))
    monkeypatch.setattr(host_layout, "grp", SimpleNamespace(getgrnam=group))
    state.top = tmp_path / "top"
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": ["two words"]}, "'two words'"),
        ({"users": [{"name": "peer", "comment": 'a "peer"'}]}, "comment of user peer"),
        ({"directories": [{"path": "/a b"}]}, "'/a b'"),
        ({"directories": [{"path": "/a", "mode": "rwx"}]}, "'rwx'"),
    ],
)
def test_bad_input(run, options, words):
    result = run(**options)
    assert result["failed"] and words in result["msg"]
