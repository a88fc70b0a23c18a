# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections import Counter

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter.restart_batches import restart_batches


@pytest.mark.parametrize(
    ("count", "sizes", "found"),
    [
        (3, ["1", "20%"], [1, 1, 1]),
        (10, ["1", "20%"], [1, 2, 2, 2, 2, 1]),
        (10, [1, "50%", "100%"], [1, 5, 4]),
        (4, ["3"], [3, 1]),
        (0, ["1"], []),
    ],
)
def test_sizes(count, sizes, found):
    hosts = [f"gpu-{number}" for number in range(count)]
    batches = restart_batches(hosts, sizes)
    assert list(batches) == hosts and list(batches.values()) == sorted(batches.values())
    assert [number for _batch, number in sorted(Counter(batches.values()).items())] == found


@pytest.mark.parametrize("sizes", [[], ["0"], ["20 %"], ["-1"], ["all"], ["1\n"], ["9" * 5000]])
def test_what_is_no_size(sizes):
    with pytest.raises(AnsibleFilterError, match="modelfleet_restart_batches"):
        restart_batches(["gpu-1"], sizes)
