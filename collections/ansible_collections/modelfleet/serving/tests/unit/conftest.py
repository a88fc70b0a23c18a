# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible.module_utils.testing import patch_module_args


@pytest.fixture
def run_module(capfd):
    """Run a module's ``main`` as Ansible does and return the JSON it printed; ``failed`` tells how it ended."""

    def run(main, args, check=False, diff=False):
        capfd.readouterr()
        with patch_module_args({**args, "_ansible_check_mode": check, "_ansible_diff": diff}), pytest.raises(SystemExit) as exited:
            main()
        out = capfd.readouterr().out
        results = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        assert len(results) == 1, "a module prints exactly one JSON object, got: {}".format(out)
        assert results[0].get("failed", False) == (exited.value.code != 0)
        return results[0]

    return run
