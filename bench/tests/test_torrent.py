# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import urllib.parse
import urllib.request

import pytest
from torrent import PIECE, Tracker, bencode, torrent


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (-3, b"i-3e"),
        (b"spam", b"4:spam"),
        ([b"spam", 1], b"l4:spami1ee"),
        ({b"spam": b"eggs", b"cow": b"moo"}, b"d3:cow3:moo4:spam4:eggse"),
    ],
)
def test_bencode(value, encoded):
    """The examples of BEP 3."""
    assert bencode(value) == encoded


def test_torrent(tmp_path):
    content = bytes(range(256)) * 1500
    path = tmp_path / "bench.mar"
    path.write_bytes(content)
    pieces = b"".join(hashlib.sha1(content[start : start + PIECE]).digest() for start in range(0, len(content), PIECE))
    assert len(pieces) == 40
    info = b"d6:lengthi384000e4:name1:x12:piece lengthi262144e6:pieces40:" + pieces + b"e"
    assert torrent(path, "x", "http://t/announce") == b"d8:announce17:http://t/announce4:info" + info + b"e"


def announce(tracker, digest, port, **options):
    query = urllib.parse.urlencode({"info_hash": digest, "port": port, "compact": 1, **options})
    with urllib.request.urlopen(f"{tracker.url}?{query}", timeout=10) as answer:
        return answer.read()


def test_tracker_tells_who_else_takes_part():
    tracker = Tracker("127.0.0.1")
    digest = bytes([0, 10, 37, 38, 61, 255, *range(14)])
    here = bytes([127, 0, 0, 1])
    assert announce(tracker, digest, 6881).endswith(b"5:peers0:e")
    assert announce(tracker, digest, 6882).endswith(b"5:peers6:" + here + (6881).to_bytes(2, "big") + b"e")
    assert announce(tracker, bytes(20), 6883).endswith(b"5:peers0:e"), "another torrent"
    announce(tracker, digest, 6881, event="stopped")
    assert announce(tracker, digest, 6882).endswith(b"5:peers0:e")
    announce(tracker, digest, 6881)
    tracker.forget()
    assert announce(tracker, digest, 6882).endswith(b"5:peers0:e")
    tracker.server.shutdown()
    tracker.server.server_close()
