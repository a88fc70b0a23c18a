# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines that stay, and below them lines that are drawn again in place.

PRIVATE to the collection: it can have breaking changes at any time.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
import unicodedata

from ansible.utils.color import stringc

# What a terminal obeys, and what turns the order of characters round. It comes from hosts.
_OBEYED = re.compile("\x1b\\[[0-9;?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

UNICODE = {
    "now": "▶",
    "ok": "✓",
    "failed": "✗",
    "to come": "·",
    "changed": "~",
    "more": "…",
    "full": "█",
    "empty": "░",
    "to": "→",
    "spin": "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏",
}
ASCII = {
    "now": ">",
    "ok": "+",
    "failed": "x",
    "to come": ".",
    "changed": "~",
    "more": "..",
    "full": "#",
    "empty": ".",
    "to": "->",
    "spin": "|/-\\",
}


def harmless(text):
    """The text without anything that a terminal would obey; its columns stay."""
    return _OBEYED.sub(" ", str(text))


def clean(text):
    """The text as one line, its words one space apart, without anything that a terminal would obey."""
    return " ".join(harmless(text).split())


def width(text):
    """Columns that a text takes on a terminal."""
    return sum(0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def cut(text, columns, more="…"):
    """The text, or as much of its beginning as there is room for."""
    if width(text) <= columns:
        return text
    room, kept = columns - width(more), ""
    if room < 0:
        return more[: max(columns, 0)]
    for one in text:
        room -= width(one)
        if room < 0:
            break
        kept += one
    return kept + more


def pad(text, columns, more="…"):
    text = cut(text, columns, more)
    return text + " " * (columns - width(text))


def clock(seconds):
    """75.4 -> '1:15'."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def plain(line):
    """The text of a line, which is one, or a list of (text, colour or None)."""
    return line if isinstance(line, str) else "".join(text for text, _colour in line)


class Screen:
    """Where a run is shown. On a terminal it is ``live``: the lines of ``draw`` stay below everything else that is printed.

    Whoever else prints in this process does so through Display, so that is made to take the drawn lines away before. The lock is that of
    Display: Ansible holds it when it forks, so that no worker begins its life in the middle of a line.
    """

    def __init__(self, display, stream=None, size=shutil.get_terminal_size):
        self._display = display
        self._stream = stream or sys.stdout
        self._size = size
        self._print = display.display
        self.lock = getattr(display, "_lock", None) or threading.RLock()
        self._process = os.getpid()
        # Columns of each line that is drawn.
        self._drawn = []
        self.live = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.signs = UNICODE if self._speaks("".join(UNICODE.values())) else ASCII

    def _speaks(self, text):
        try:
            text.encode(getattr(self._stream, "encoding", None) or "ascii")
        except (LookupError, UnicodeError):
            return False
        return True

    def attach(self):
        self._display.display = self._print_of_others

    def detach(self):
        with self.lock:
            self.erase()
            self._display.__dict__.pop("display", None)

    def _print_of_others(self, *args, **kwargs):
        # A worker hands it to this process.
        if os.getpid() != self._process:
            return self._print(*args, **kwargs)
        with self.lock:
            if not kwargs.get("log_only"):
                self.erase()
            return self._print(*args, **kwargs)

    @property
    def columns(self):
        """One less than there are: a full line would take a second one on some terminals."""
        return max(self._size().columns - 1, 10)

    @property
    def rows(self):
        return max(self._size().lines - 1, 3)

    def write(self, line="", stderr=False):
        """A line that stays."""
        with self.lock:
            self.erase()
            self._print(self._coloured(line), screen_only=True, stderr=stderr)
            self._print(plain(line), log_only=True)
            self._flush()

    def _coloured(self, line):
        return line if isinstance(line, str) else "".join(stringc(text, colour) if colour else text for text, colour in line)

    def draw(self, lines):
        """Lines in the place of those that were drawn before."""
        if not self.live:
            return
        with self.lock:
            fitting = [self.fit(line) for line in lines[: self.rows]]
            out = self._home() + "".join(self._coloured(line) + "\x1b[K\n" for line in fitting) + "\x1b[J"
            self._drawn = [width(plain(line)) for line in fitting]
            self._stream.write(out)
            self._flush()

    def fit(self, line):
        """A line (also in parts) without what there is no room for."""
        columns = self.columns
        if width(plain(line)) <= columns:
            return line
        if isinstance(line, str):
            return cut(line, columns, self.signs["more"])
        fitting = []
        for text, colour in line:
            if width(text) > columns:
                fitting.append((cut(text, columns, self.signs["more"]), colour))
                break
            fitting.append((text, colour))
            columns -= width(text)
        return fitting

    def _home(self):
        """To the first of the drawn lines. A terminal that has become narrower has broken them."""
        columns = max(self._size().columns, 1)
        rows = sum(max(1, -(-one // columns)) for one in self._drawn)
        return f"\r\x1b[{rows}A" if rows else ""

    def erase(self):
        with self.lock:
            if self._drawn:
                self._stream.write(self._home() + "\x1b[J")
                self._flush()
                self._drawn = []

    def _flush(self):
        try:
            self._stream.flush()
        except OSError:
            # Nobody reads it any more.
            pass
