# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import os
import re
import threading

import pytest
from ansible_collections.modelfleet.serving.plugins.plugin_utils import _screen
from ansible_collections.modelfleet.serving.plugins.plugin_utils._screen import Screen, clean, clock, cut, harmless, pad, width


class Terminal(io.StringIO):
    """What a person sees: lines, and the sequences that the screen uses."""

    encoding = "utf-8"

    def __init__(self, columns=40, lines=10):
        super().__init__()
        self.columns, self.lines = columns, lines
        self.seen, self.row, self.column = [""], 0, 0

    def isatty(self):
        return True

    def write(self, text):
        for piece in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|[^\x1b]", text):
            self._obey(piece)
        return len(text)

    def _obey(self, piece):
        if piece == "\n":
            self.row, self.column = self.row + 1, 0
        elif piece == "\r":
            self.column = 0
        elif piece.endswith("A") and piece.startswith("\x1b"):
            # Above what is on the screen there is nowhere to go.
            self.row = max(self.row - int(piece[2:-1]), len(self.seen) - self.lines, 0)
        elif piece == "\x1b[K":
            self.seen[self.row] = self.seen[self.row][: self.column]
        elif piece == "\x1b[J":
            self.seen[self.row] = self.seen[self.row][: self.column]
            del self.seen[self.row + 1 :]
        elif not piece.startswith("\x1b"):
            if self.column == self.columns:
                self._obey("\n")
            self.seen[self.row] = self.seen[self.row][: self.column].ljust(self.column) + piece + self.seen[self.row][self.column + 1 :]
            self.column += 1
        while len(self.seen) <= self.row:
            self.seen.append("")

    @property
    def shown(self):
        return [line for line in self.seen if line]


class Display:
    def __init__(self, stream):
        self.stream = stream
        self._lock = threading.RLock()
        self.logged = []

    def display(self, msg, color=None, stderr=False, screen_only=False, log_only=False, newline=True):
        if not log_only:
            self.stream.write(msg + "\n")
        if not screen_only:
            self.logged.append(msg)


def on(stream):
    display = Display(stream)
    return display, Screen(display, stream, size=lambda: os.terminal_size((stream.columns, stream.lines)))


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_lines_stay_above_those_that_are_drawn(terminal):
    display, screen = on(terminal)
    screen.draw(["one", "two"])
    screen.write("first")
    assert terminal.shown == ["first"]
    screen.draw(["three", [("f", "red"), ("our", None)], "five"])
    assert terminal.shown == ["first", "three", "four", "five"]
    screen.draw(["six"])
    assert terminal.shown == ["first", "six"]
    assert display.logged == ["first"], "what is drawn is in no log"


def test_others_who_print_do_not_meet_what_is_drawn(terminal):
    display, screen = on(terminal)
    screen.attach()
    screen.draw(["drawn", "drawn too"])
    display.display("[WARNING]: something")
    screen.draw(["again"])
    assert terminal.shown == ["[WARNING]: something", "again"]
    screen.detach()
    display.display("later")
    assert terminal.shown == ["[WARNING]: something", "later"] and display.display.__self__ is display


def test_a_worker_leaves_the_terminal_alone(terminal, monkeypatch):
    display, screen = on(terminal)
    screen.attach()
    screen.draw(["drawn"])
    monkeypatch.setattr(_screen.os, "getpid", lambda: 0)
    display.display("handed on")
    assert terminal.shown == ["drawn", "handed on"]


def test_never_more_than_fits(terminal):
    _display, screen = on(terminal)
    for number in range(30):
        screen.draw([f"line {one} of drawing {number}, which is much longer than the terminal is wide" for one in range(30)])
    assert len(terminal.shown) == terminal.lines - 1
    assert all(len(line) < terminal.columns for line in terminal.shown)
    assert terminal.shown[0].startswith("line 0 of drawing 29") and terminal.shown[0].endswith("…")


def test_a_terminal_that_has_become_narrower(terminal):
    _display, screen = on(terminal)
    screen.write("stays")
    screen.draw(["a" * 30, "b" * 30])
    # It breaks the lines that are there.
    terminal.columns, terminal.seen, terminal.row = 20, ["stays", "a" * 20, "a" * 10, "b" * 20, "b" * 10, ""], 5
    screen.draw(["c" * 30])
    assert terminal.shown == ["stays", "c" * 18 + "…"]


def test_without_a_terminal_nothing_is_drawn():
    stream = io.StringIO()
    _display, screen = on_file(stream)
    screen.draw(["drawn"])
    screen.write([("stays", "red"), (" too", None)])
    assert stream.getvalue() == "stays too\n" and not screen.live


def on_file(stream):
    display = Display(stream)
    return display, Screen(display, stream)


@pytest.mark.parametrize(("encoding", "signs"), [("utf-8", _screen.UNICODE), ("ascii", _screen.ASCII), ("latin-1", _screen.ASCII)])
def test_signs_that_the_output_can_have(encoding, signs):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    _display, screen = on_file(stream)
    assert screen.signs is signs
    screen.write(signs["failed"])


def test_a_dumb_terminal_is_none(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert not on(terminal)[1].live


def test_hosts_do_not_command_the_terminal():
    assert clean("a\x1b[2Jb\x1b]0;title\x07  c\n\td\u202ee") == "a b ]0;title c d e"
    assert harmless("host   model\x1b[31m  x") == "host   model   x"


def test_columns_of_wide_characters():
    assert width("abc") == 3 and width("日本") == 4 and width("e\u0301") == 1
    assert cut("日本語のホスト", 7) == "日本語…" and cut("abc", 3) == "abc" and cut("abcd", 3) == "ab…"
    assert cut("abcd", 0) == "" and cut("abcd", 1, "..") == "."
    assert pad("日本", 6) == "日本  " and pad("abcdef", 4) == "abc…"


def test_clock():
    assert [clock(seconds) for seconds in (0, 59.9, 75, 3600, 36061)] == ["0:00", "0:59", "1:15", "1:00:00", "10:01:01"]
