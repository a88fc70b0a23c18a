# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd itself makes of the words is tried in tests/test_quoting.py of the repository."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter.systemd_quote import systemd_quote


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("plain", '"plain"'),
        ("", '""'),
        (" a b ", '" a b "'),
        ("50%", '"50%%"'),
        ('say "x"', '"say \\"x\\""'),
        ("C:\\n", '"C:\\\\n"'),
        ("$HOME", '"$HOME"'),
        ("a\tb", '"a\tb"'),
        (8080, '"8080"'),
    ],
)
def test_one_word(value, word):
    assert systemd_quote(value) == word


def test_an_argument_is_not_expanded():
    assert systemd_quote("$HOME ${X}", argument=True) == '"$$HOME $${X}"'


@pytest.mark.parametrize("value", ["a\nb", "a\r", "\x00", "\x7f", "\ufffe", "\U0010ffff", "\ud800", None, ["a"], {"a": 1}])
def test_what_a_unit_cannot_hold_is_refused(value):
    with pytest.raises(AnsibleFilterError, match=r"Failed to write a value into a systemd unit: it (has the character U|is not one text)"):
        systemd_quote(value)
