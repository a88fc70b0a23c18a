# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the repository share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def run():
    """Run one of Ansible's programs from the repository; returns the finished process with its output as text."""
    programs = Path(sys.executable).parent

    def run_program(program, *arguments, cwd=REPOSITORY, **environment):
        env = {
            **os.environ,
            "ANSIBLE_NOCOLOR": "1",
            # Tests read the lines of every task.
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            **environment,
        }
        command = [program, *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)

    return run_program
