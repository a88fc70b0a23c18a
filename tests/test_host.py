# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The users and directories of a host are made again when they are gone, by programs that only pretend, below a directory of the test."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

ROLE = Path(__file__).resolve().parent.parent / "collections/ansible_collections/modelfleet/serving/roles/modelfleet"
PROGRAMS = {
    "getent": 'grep -qx "$2" {root}/passwd',
    "systemd-sysusers": 'sed -n "s/^u \\([^ ]*\\).*/\\1/p" "$1" > {root}/passwd; echo Creating users.; echo sysusers >> {root}/calls',
    "systemd-tmpfiles": 'mkdir -p $(sed -n "s/^d \\([^ ]*\\).*/\\1/p" "${{2:-$1}}"); echo tmpfiles >> {root}/calls',
}


class Host:
    def __init__(self, root, run):
        self.root, self.run_program = root, run
        (root / "bin").mkdir()
        for name, script in PROGRAMS.items():
            (root / "bin" / name).write_text(f"#!/bin/sh\n{script.format(root=root)}\n")
            (root / "bin" / name).chmod(0o755)
        # Nothing of the real system: every path of the role begins with the test's own directory, and the owner is whoever runs the test.
        role = root / "role"
        for part in ("tasks/host.yml", "templates/sysusers.conf.j2", "templates/tmpfiles.conf.j2"):
            text = re.sub(r"(?<![\w/.])/(?=(usr|etc|var|opt)/)", f"{root}/", (ROLE / part).read_text())
            (role / part).parent.mkdir(parents=True, exist_ok=True)
            (role / part).write_text(re.sub(r"\n    (owner|group): root", "", text))
        for place in ("usr/lib/sysusers.d", "etc/tmpfiles.d"):
            (root / place).mkdir(parents=True)
        (root / "passwd").touch()
        (root / "calls").touch()
        task = {"name": "Prepare", "ansible.builtin.include_role": {"name": str(role), "tasks_from": "host"}}
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}
        (root / "play.yml").write_text(yaml.safe_dump([play]))

    def play(self, *options):
        """Run the role; returns how many of its tasks changed something."""
        path = os.pathsep.join([str(self.root / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        variables = '{"ansible_python_interpreter": "{{ ansible_playbook_python }}"}'
        done = self.run_program("ansible-playbook", "-i", "localhost,", "-e", variables, *options, self.root / "play.yml", PATH=path)
        assert done.returncode == 0, done.stdout
        return int(re.search(r" changed=(\d+) ", done.stdout).group(1))

    def calls(self):
        found = (self.root / "calls").read_text().split()
        (self.root / "calls").write_text("")
        return found

    def directories(self):
        return sorted(re.findall(r"^d (\S+)", (self.root / "role/templates/tmpfiles.conf.j2").read_text(), re.MULTILINE))


@pytest.fixture
def host(tmp_path, run):
    return Host(tmp_path, run)


def test_a_host_is_prepared_once(host):
    assert host.play("--check") == 2
    assert host.calls() == [] and not (host.root / "var").exists()
    assert host.play() == 2
    assert host.calls() == ["sysusers", "tmpfiles"]
    assert all(Path(path).is_dir() for path in host.directories())
    assert host.play() == host.play("--check") == 0
    assert host.calls() == []


def test_directories_under_an_empty_disk_are_made_again(host):
    host.play()
    host.calls()
    shutil.rmtree(host.root / "var/lib/modelfleet")
    (host.root / "var/lib/modelfleet").mkdir()
    assert host.play("--check") == 1
    assert host.calls() == [] and not (host.root / "var/lib/modelfleet/models").exists()
    assert host.play() == 1
    assert host.calls() == ["sysusers", "tmpfiles"]
    assert (host.root / "var/lib/modelfleet/models").is_dir()
    assert host.play() == 0


def test_a_user_that_is_gone_is_made_again(host):
    host.play()
    (host.root / "passwd").write_text("dfdaemon\ntorchserve\n")
    assert host.play("--check") == host.play() == 1
    assert "dragonfly-scheduler" in (host.root / "passwd").read_text()
    assert host.play() == 0


def test_what_cannot_be_made_stops_the_play(host):
    host.play()
    (host.root / "bin/systemd-tmpfiles").write_text("#!/bin/sh\nexit 73\n")
    shutil.rmtree(host.root / "var/lib/modelfleet")
    with pytest.raises(AssertionError, match="rc: 73"):
        host.play()
