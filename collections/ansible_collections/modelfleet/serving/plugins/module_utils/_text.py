# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers as people read them, and texts as they mean them. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import json
import re

from ansible.module_utils.common.text.formatters import human_to_bytes

# A name whose value is a secret: Authorization, X-Api-Key, HF_TOKEN, AWS_SECRET_ACCESS_KEY. Not one of a file with it.
SECRET_NAME = re.compile(
    r"(authorization|cookie|password|passwd|secret|token(?![a-z])|api[_-]?key|access[_-]?key)(?!.*(file|path|dir)\Z)", re.IGNORECASE
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def without_colours(text):
    """What a program prints for a terminal, as plain text."""
    return _COLOUR.sub("", text)


def shortened(text, longest):
    """The text, or its beginning where it has more than ``longest`` characters (int)."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def from_json(text):
    """What ``text`` (str or bytes) says in JSON. Raises ValueError for what is none, or is nested deeper than Python can follow."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def human_bytes(size):
    """1610612736 -> '1.5 GiB'."""
    if size < 1024:
        return f"{size} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        if size < 1024 or unit == "TiB":
            break
    return f"{size:.1f} {unit}"


def bytes_of(size):
    """A size such as 2GiB in bytes; None for what is none."""
    try:
        return human_to_bytes(re.sub(r"(?i)ib$", "B", str(size)))
    except (ValueError, OverflowError):
        return None


def table(rows, right=()):
    """Show rows of texts, the first of which is the header, as lines of text; ``right`` are the columns (int) that hold numbers."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    cells = [[text.rjust(widths[at]) if at in right else text.ljust(widths[at]) for at, text in enumerate(row)] for row in rows]
    lines = ["  ".join(row).rstrip() for row in cells]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


# What to do about it. A secret gets its line end before it is encrypted.
OUTER_REMEDY = "write it without; where a command makes the text, echo adds a line end, printf %s and echo -n do not"


def outer_problem(text):
    """What a name, a credential or a URL has that nobody meant to write, in words; None for a text (str) without it.

    The text itself is not in the words: it may be a secret.
    """
    if text != text.strip():
        return "ends with a line end" if text.endswith("\n") else "begins or ends with white space"
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        return "holds a control character, such as a line end or a tab"
    if any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        return "holds half of a surrogate pair, which no text has"
    return None
