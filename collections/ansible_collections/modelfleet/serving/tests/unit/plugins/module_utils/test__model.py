# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _model


@pytest.mark.parametrize(
    "versions",
    [
        ["9.0", "10.0"],
        ["1.0", "1.0.1", "1.1", "1.9", "1.10", "2"],
        ["2.0-beta", "2.0rc1", "2.0rc2", "2.0rc10", "2.0", "2.0.post1", "2.0.1"],
        ["v9", "v10"],
        ["2026-01-31", "2026-02-01"],
        # What counts the same has an order all the same.
        ["1.0", "1_0"],
    ],
)
def test_versions_are_in_the_order_in_which_people_count(versions):
    assert sorted([versions[-1], *versions[:-1]], key=_model.version_key) == versions


@pytest.mark.parametrize(
    ("model", "described", "device", "keys"),
    [
        ({"batch_size": 4}, {"batchSize": 4}, "cpu", []),
        ({"batch_size": 4}, {"batchSize": 1}, "cpu", ["batch_size"]),
        ({"batch_size": None}, {"batchSize": 1}, "cpu", []),
        ({"startup_timeout": 60}, {}, "cpu", ["startup_timeout"]),
        ({"startup_timeout": 60}, {"predicted": True}, "cpu", []),
        ({}, {"deviceType": "gpu"}, "cpu", []),
        ({"device": "cpu"}, {"deviceType": "gpu"}, "cpu", ["device"]),
        ({}, {"deviceType": "cpu"}, "gpu", ["device"]),
        ({"device": "gpu"}, {"deviceType": "gpu"}, "gpu", []),
        # An old TorchServe does not say.
        ({"device": "gpu"}, {}, "gpu", []),
    ],
)
def test_differences(model, described, device, keys):
    assert [key for key, *_rest in _model.differences(model, described, device)] == keys


def test_the_name_of_a_file_is_short_enough():
    assert len(_model.model_file("n" * 100, "v" * 100, "0" * 64)) < 255
