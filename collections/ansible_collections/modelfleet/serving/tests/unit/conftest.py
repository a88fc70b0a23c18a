# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import subprocess

import pytest
from ansible.module_utils.testing import patch_module_args


class Result(dict):
    """What a module printed. It notes what a test looks at, for a failure whose reason nobody reads proves nothing."""

    def __init__(self, *args):
        super().__init__(*args)
        self.seen = set()

    def __getitem__(self, key):
        self.seen.add(key)
        return super().__getitem__(key)

    def __eq__(self, other):
        self.seen.update(self)
        return super().__eq__(other)

    __hash__ = None

    def __repr__(self):
        self.seen.update(self)
        return super().__repr__()

    def get(self, key, default=None):
        self.seen.add(key)
        return super().get(key, default)

    def items(self):
        self.seen.update(self)
        return super().items()


@pytest.fixture
def small_disk(tmp_path):
    """A callable that mounts a filesystem with the options (str) of tmpfs, or gives the mounted one others; returns its directory."""
    directory = tmp_path / "disk"

    def mount(options):
        how = [f"remount,{options}"] if os.path.ismount(directory) else [options]
        directory.mkdir(exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", *how, "tmpfs", directory], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"may not mount a filesystem: {done.stderr.strip()}")
        return directory

    yield mount
    if os.path.ismount(directory):
        subprocess.run(["umount", directory], check=True)


@pytest.fixture
def run_module(capfd):
    """Run a module's ``main`` as Ansible does and return the JSON it printed; ``failed`` tells how it ended."""
    results = []

    def run(main, args, check=False, diff=False):
        capfd.readouterr()
        with patch_module_args({**args, "_ansible_check_mode": check, "_ansible_diff": diff}), pytest.raises(SystemExit) as exited:
            main()
        out = capfd.readouterr().out
        printed = [Result(json.loads(line)) for line in out.splitlines() if line.startswith("{")]
        assert len(printed) == 1, "a module prints exactly one JSON object, got: {}".format(out)
        assert printed[0].get("failed", False) == (exited.value.code != 0)
        results.append(printed[0])
        return printed[0]

    yield run
    unread = [dict.__getitem__(result, "msg") for result in results if result.get("failed") and not result.seen - {"failed", "changed"}]
    assert unread == [], "the test did not look at why these failed"
