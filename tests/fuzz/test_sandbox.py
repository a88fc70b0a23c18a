# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module must not do fails its test, or the properties say nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import sandbox as bounds
from ansible_collections.modelfleet.serving.plugins.modules import gpu_info
from sandbox import Hang, texts_in


def wait():
    while True:
        time.sleep(3600)


@pytest.mark.parametrize(
    ("deed", "end", "said"),
    [
        (
            lambda sandbox: os.open("/etc/modelfleet-fuzz", os.O_WRONLY | os.O_CREAT),
            AssertionError,
            "it tried to change /etc/modelfleet-fuzz",
        ),
        (lambda sandbox: os.mkdir(f"{sandbox.precious}/new"), AssertionError, "it tried to change .*/precious/new"),
        (lambda sandbox: os.unlink(f"{sandbox.named}/../precious/file"), AssertionError, "it tried to change .*/precious/file"),
        (lambda sandbox: os.truncate(f"{sandbox.named}/link/file", 0), AssertionError, "it tried to change .*/precious/file"),
        (lambda sandbox: subprocess.run(["true"], check=False), AssertionError, "it tried to subprocess.Popen"),
        (lambda sandbox: wait(), Hang, "it sleeps again and again"),
        (lambda sandbox: {}["x"], KeyError, "x"),
        (lambda sandbox: print('{"changed": false}'), AssertionError, "changed"),
        (lambda sandbox: sys.exit(1), AssertionError, "^$"),
    ],
)
def test_a_deed_is_seen(sandbox, monkeypatch, deed, end, said):
    def read_gpus(_run_command, _program):
        try:
            deed(sandbox)
        except OSError:
            # As one that looks harmless.
            pass
        return {"driver": None, "cuda": None, "gpus": []}

    monkeypatch.setattr(gpu_info, "read_gpus", read_gpus)
    with pytest.raises(end, match=said):
        sandbox.run("gpu_info", {})


def turn():
    while True:
        pass


def read_what_nobody_writes():
    reader, writer = os.pipe()
    try:
        os.read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(
    ("limit", "deed", "said"),
    [("HANG_S", turn, "of the processor"), ("STUCK_S", read_what_nobody_writes, "it waited")],
)
def test_what_does_not_end_is_ended(sandbox, monkeypatch, limit, deed, said):
    monkeypatch.setattr(bounds, limit, 0.2)
    monkeypatch.setattr(gpu_info, "read_gpus", lambda *_arguments: deed())
    with pytest.raises(Hang, match=said):
        sandbox.run("gpu_info", {})


def test_what_an_option_names_may_be_changed(sandbox, monkeypatch):
    monkeypatch.setattr(gpu_info, "read_gpus", lambda _run_command, program: open(program, "w").close() or {})
    assert not sandbox.run("gpu_info", {"nvidia_smi": f"{sandbox.named}/new"})["changed"]
    assert (sandbox.named / "new").exists()


def test_texts():
    assert sorted(texts_in({"a": ["b", {"c": 1}], "d": None})) == ["a", "b", "c", "d"]
