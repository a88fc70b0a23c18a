# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils._text import SECRET_NAME, bytes_of, human_bytes, outer_problem, table


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (67108864, "64.0 MiB"), (1610612736, "1.5 GiB"), (5 * 1024**5, "5120.0 TiB")],
)
def test_human_bytes(size, text):
    assert human_bytes(size) == text


@pytest.mark.parametrize(
    ("text", "size"), [("2GiB", 2 << 30), ("500 MiB", 500 << 20), ("1K", 1024), (7, 7), ("0", 0), ("much", None), (None, None)]
)
def test_bytes_of(text, size):
    assert bytes_of(text) == size


def test_table():
    assert table([("host", "bytes"), ("gpu-10", "1"), ("", "")], right=[1]) == ["host    bytes", "-------------", "gpu-10      1", ""]
    assert table([("host", "bytes")]) == ["host  bytes", "-----------"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", None),
        ("a b", None),
        ("key\n", "ends with a line end"),
        ("key\r\n", "ends with a line end"),
        ("key ", "begins or ends with white space"),
        ("\u00a0key", "begins or ends with white space"),
        ("k\ney", "holds a control character, such as a line end or a tab"),
        ("k\x7fey", "holds a control character, such as a line end or a tab"),
    ],
)
def test_outer_problem(text, problem):
    assert outer_problem(text) == problem


def test_names_of_secrets():
    secrets = (
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "X-Api-Key",
        "X-Auth-Token",
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "db_password",
    )
    assert [name for name in secrets if not SECRET_NAME.search(name)] == []
    others = (
        "X-Dragonfly-Tag",
        "OMP_NUM_THREADS",
        "HF_HOME",
        "HF_TOKEN_PATH",
        "AWS_SHARED_CREDENTIALS_FILE",
        "KEYBOARD",
        "TOKENIZERS_PARALLELISM",
    )
    assert [name for name in others if SECRET_NAME.search(name)] == []
