# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""host.py as a process of its own, in the conversation that bench.py has with it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from host import Unit, field

PROGRAM = Path(__file__).resolve().parent.parent / "host.py"


@pytest.fixture
def converse(tmp_path):
    shutil.copy(PROGRAM, tmp_path)

    def run(spec, ahead=0.0):
        process = subprocess.Popen(
            [sys.executable, tmp_path / "host.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

        def tell(line):
            process.stdin.write(line + "\n")
            process.stdin.flush()

        with process:
            tell(json.dumps({"limit": 60, **spec}))
            assert json.loads(process.stdout.readline()) == {"ready": True}
            tell(repr(time.monotonic() + ahead))
            first = json.loads(process.stdout.readline())
            tell("")
            return {**first, **json.loads(process.stdout.readline())}

    return run


def test_a_command(converse, tmp_path):
    output = tmp_path / "run/file"
    command = ["sh", "-c", f'printf %s "$WORD" > {output}; echo said; echo too >&2']
    answer = converse({"command": command, "environment": {"WORD": "bytes"}, "output": str(output)})
    assert answer["status"] == 0
    assert answer["sha256"] == hashlib.sha256(b"bytes").hexdigest()
    assert answer["log"] == "said\ntoo\n"
    assert answer["cpu_s"] > 0
    assert answer["peak"] > 1 << 20


def test_begins_at_the_barrier(converse, tmp_path):
    """Its own clock tells when, so nothing is asserted of how long it took."""
    script = f"import time; open({str(tmp_path / 'run/when')!r}, 'w').write(repr(time.monotonic()))"
    before = time.monotonic()
    answer = converse({"command": [sys.executable, "-c", script]}, ahead=0.5)
    assert float((tmp_path / "run/when").read_text()) >= before + 0.5
    assert answer["seconds"] > 0


def test_counts_what_was_written(converse, tmp_path):
    probe = tmp_path / "probe"
    probe.write_bytes(b"x" * (8 << 20))
    written = converse({"command": ["cp", str(probe), str(tmp_path / "run/copy")]})["written"]
    assert written == 0 or 8 << 20 <= written < 9 << 20, "nothing reaches a disk where this directory is in memory"


def test_prepares_before_the_barrier(converse, tmp_path):
    ready, script = tmp_path / "run/ready", tmp_path / "run/job"
    answer = converse({"before": f"touch {ready}", "files": {str(script): f"#!/bin/sh\ntest -e {ready}\n"}, "command": [str(script)]})
    assert answer["status"] == 0


@pytest.mark.parametrize(
    ("command", "status", "log"),
    [(["sh", "-c", "echo no; exit 3"], 3, "no\n"), (["/nonexistent"], 1, "FileNotFoundError")],
)
def test_a_command_that_fails(converse, tmp_path, command, status, log):
    answer = converse({"command": command, "output": str(tmp_path / "nothing")})
    assert answer["status"] == status
    assert answer["sha256"] == ""
    assert log in answer["log"]


def test_what_takes_too_long_is_killed(converse):
    assert converse({"command": ["sleep", "1000"], "limit": 0.1})["status"] == -9


def test_a_seeder_goes_on_until_every_host_has_the_file(converse, tmp_path):
    done = tmp_path / "run/done"
    answer = converse({"command": ["sh", "-c", f"echo x > {done}; exec sleep 1000"], "done": str(done), "output": str(done)})
    assert answer["status"] == 0
    assert answer["sha256"] == hashlib.sha256(b"x\n").hexdigest()


def test_a_host_that_only_helps(converse):
    answer = converse({"units": []})
    assert (answer["cpu_s"], answer["written"], answer["peak"], answer["sha256"]) == (0, 0, 0, "")


def test_unit(tmp_path):
    group, process = tmp_path / "dfdaemon.service", tmp_path / "proc/7"
    group.mkdir(parents=True)
    process.mkdir(parents=True)
    (group / "cgroup.procs").write_text("7\n")
    (process / "status").write_text("Name:\tdfdaemon\nVmHWM:\t   2048 kB\nVmRSS:\t 1024 kB\n")

    def counters(cpu, written):
        (group / "cpu.stat").write_text(f"usage_usec {cpu}\nuser_usec 1\n")
        (process / "io").write_text(f"rchar: 5\nwrite_bytes: {written}\ncancelled_write_bytes: 9\n")

    counters(1_000_000, 100)
    unit = Unit(group, tmp_path)
    assert (process / "clear_refs").read_text() == "5"
    counters(3_500_000, 4196)
    assert unit.used() == (2.5, 4096, 2048 * 1024)


def test_field_is_the_whole_name():
    assert field("user_usec 1\nusage_usec 2\n", "usage_usec") == "2"
