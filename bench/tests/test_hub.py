# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hub


def test_requests_are_counted_by_the_limit_that_they_count_for():
    objects = {
        "127.0.0.1/api/models/org/a/revision/main": {"requests": 1},
        "127.0.0.1/api/models/org/a/tree/main": {"requests": 2},
        "127.0.0.1/org/a/resolve/main/config.json": {"requests": 4},
        "127.0.0.1/api/resolve-cache/models/org/a/1/config.json": {"requests": 8},
        "localhost/abc": {"requests": 16},
        "models/object": {"requests": 32},
    }
    assert hub.counted(objects) == hub.Counted(api=3, resolvers=12)


def test_table_has_a_share_of_the_limit():
    rows = [hub.Row("somebody", "cold", 800, 500, hub.Counted(100, 1200)), hub.Row("somebody", "again", 0, 0, hub.Counted(0, 0))]
    lines = hub.table(rows, hosts=8, models=50).splitlines()
    assert lines[-2:] == ["| somebody | cold | 100 | 500 | 1300 | 100 | 40 % |", "| somebody | again | 0 | 0 | 0 | 0 | 0 % |"]
