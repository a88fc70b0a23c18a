# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import model_rollout_info


def entry(name, version, default=False, **more):
    return {"name": name, "version": version, "file": "x", "sha256": "9f" * 32, "workers": 1, "default": default, "params": {}, **more}


@pytest.mark.parametrize("check", [False, True])
def test_reads_every_part_of_the_record(tmp_path, run_module, check):
    retired = {"retired": 100, "run": "one", "rolled_back": False}
    record = {
        "format": 1,
        "models": [entry("a", "2.0", True), entry("b", "1.0"), entry("c", "1.0"), entry("c", "1.1", True)],
        "previous": [entry("a", "1.0", **retired), entry("b", "0.9", **retired)],
        "staged": [entry("b", "1.1", since=200, run="two")],
    }
    (tmp_path / "models.json").write_text(json.dumps(record))
    result = run_module(model_rollout_info.main, {"record": str(tmp_path / "models.json")}, check=check)
    assert result["changed"] is False
    assert [tuple(one.values()) for one in result["models"]] == [
        ("a", "2.0", "1.0", "", 100, "one", False),
        ("b", "1.0", "0.9", "1.1", 200, "two", False),
        ("c", "1.1", "", "", 0, "", False),
    ]


def test_a_host_without_a_record(tmp_path, run_module):
    assert run_module(model_rollout_info.main, {"record": str(tmp_path / "none.json")})["models"] == []


def test_a_record_that_cannot_be_read(tmp_path, run_module):
    assert "Failed to read" in run_module(model_rollout_info.main, {"record": str(tmp_path)})["msg"]
