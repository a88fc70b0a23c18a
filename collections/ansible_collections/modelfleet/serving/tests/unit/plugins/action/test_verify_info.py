# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import types

from ansible_collections.modelfleet.serving.plugins.action import model_artifact, verify_info
from ansible_collections.modelfleet.serving.plugins.plugin_utils import _progress


def test_how_far_it_is_is_read_as_of_what_brings_artifacts(monkeypatch, tmp_path):
    monkeypatch.setattr(model_artifact.ActionBase, "run", lambda self, tmp=None, task_vars=None: {})
    monkeypatch.setenv(_progress.VARIABLE, str(tmp_path))
    action = verify_info.ActionModule.__new__(verify_info.ActionModule)
    action._task = types.SimpleNamespace(args={"models": []}, async_val=0, check_mode=False)
    action._connection = types.SimpleNamespace(become=None)
    called = []
    action._execute_module = lambda module_args=None, task_vars=None, wrap_async=None: called.append(module_args) or {"findings": []}
    # The module says nothing of when it began, and leaves nothing to be removed.
    assert action.run(task_vars={"inventory_hostname": "gpu-1"}) == {"findings": []}
    assert called[0]["models"] == [] and called[0]["progress_path"].startswith("/run/")
