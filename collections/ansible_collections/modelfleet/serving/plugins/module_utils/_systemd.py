# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text as systemd reads it in a unit. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import re

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._text import SECRET_NAME

# Where systemd sees the end of a line, or leaves out the whole line with at most a warning in the journal: control characters but the
# tab (some versions take some of them), halves of a pair, and the code points that Unicode keeps out of text.
_LAST_TWO = "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
_UNREADABLE = re.compile(f"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff\ufdd0-\ufdef{_LAST_TWO}]")


def problem(value):
    """What keeps ``value`` out of a unit (str, with what to do), or None. Numbers and booleans are written as Python does."""
    if value is None or isinstance(value, (dict, list, tuple)):
        return "is not one text; write the text in quotes"
    found = _UNREADABLE.search(str(value))
    if found:
        return f"has the character U+{ord(found.group()):04X}, which no line of a unit can hold; remove it, or put the text into a file"
    return None


def environment_problems(environment, owned):
    """Yield ``(name, problem)`` for each variable of ``environment`` (dict) that a unit cannot or must not have.

    ``owned``: the variables that the unit sets itself, with the reason why nobody else may.
    """
    for name in sorted(environment, key=str):
        wrong = problem(environment[name])
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name), re.ASCII):
            yield str(name), "is not the name of a variable, which has letters, digits and _ only; systemd would leave it out"
        elif name in owned:
            yield name, owned[name]
        elif wrong:
            yield name, wrong
        elif SECRET_NAME.search(str(name)) and not str(environment[name]).startswith("/"):
            yield (
                name,
                "is a secret by its name, and everyone may read a unit; put it into a file of mode 0600 that a drop-in of the unit names "
                "in EnvironmentFile",
            )
        elif re.search(r"://[^/\s]*@", str(environment[name])):
            yield name, "has a user or a password in a URL, and everyone may read a unit; name a server or a proxy that asks for none"


def quote(value, argument=False):
    """One word of a setting such as C(Environment=) that holds exactly ``value``: quoted, nothing in it is expanded.

    With ``argument`` it is one of a command line, where systemd expands C($) too.
    Raises ModelFleetError for what a unit cannot hold.
    """
    wrong = problem(value)
    if wrong:
        raise ModelFleetError(f"Failed to write a value into a systemd unit: it {wrong}.")
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return '"{}"'.format(text.replace("$", "$$") if argument else text)
