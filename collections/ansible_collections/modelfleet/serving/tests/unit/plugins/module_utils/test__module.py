# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule


@pytest.mark.parametrize("options", [{"config": {"password": "hush"}}, {"confg": {"password": "hush"}}, {"config": ["hush"]}])
def test_neither_the_journal_nor_the_result_has_the_options(monkeypatch, capfd, options):
    journal = []
    monkeypatch.setattr(AnsibleModule, "log", lambda self, msg, log_args=None: journal.append(f"{msg} {log_args}"))
    with patch_module_args(options), pytest.raises(SystemExit):
        DiscreetModule(argument_spec={"config": {"type": "dict", "required": True}}).exit_json(changed=False)
    out = capfd.readouterr().out
    # Newer versions of ansible-core leave it out where it is empty.
    assert json.loads(out).get("invocation", {}) == {} and "hush" not in out
    assert "hush" not in str(journal)
