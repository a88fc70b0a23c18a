# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.filter.of_runtime import FilterModule

MODELS = [{"name": "a"}, {"name": "b", "runtime": "openai"}, {"name": "c", "runtime": None}, {"name": "d", "runtime": "torchserve"}]


def test_an_entry_that_names_none_is_for_torchserve():
    of_runtime = FilterModule().filters()["of_runtime"]
    assert [model["name"] for model in of_runtime(MODELS, "torchserve")] == ["a", "c", "d"]
    assert of_runtime(MODELS, "openai") == [MODELS[1]]
