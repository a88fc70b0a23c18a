# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils._manager import time_of


@pytest.mark.parametrize(
    "text",
    ["2026-11-28T03:00:00Z", "2026-11-28T03:00:00.123Z", "2026-11-28T11:00:00+08:00", "2026-11-27T23:30:00.5-03:30"],
)
def test_a_time_is_that_of_the_zone_in_which_the_manager_runs(text):
    assert time_of(text) == datetime(2026, 11, 28, 3, tzinfo=timezone.utc)


@pytest.mark.parametrize("text", [None, "", "soon", "2026-11-28T03:00:00", "2026-13-28T03:00:00Z"])
def test_what_is_no_time(text):
    assert time_of(text) is None
