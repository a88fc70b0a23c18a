# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a BitTorrent swarm needs beside its clients: a torrent file, and a tracker that tells who takes part."""

from __future__ import annotations

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl

PIECE = 256 * 1024
ASK_AGAIN_S = 5


def bencode(value) -> bytes:
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"


def torrent(path: Path, name: str, announce: str) -> bytes:
    """The torrent file for the file ``path``, called ``name`` where it arrives."""
    with path.open("rb") as stream:
        pieces = b"".join(hashlib.sha1(block).digest() for block in iter(lambda: stream.read(PIECE), b""))
    info = {b"length": path.stat().st_size, b"name": name.encode(), b"piece length": PIECE, b"pieces": pieces}
    return bencode({b"announce": announce.encode(), b"info": info})


class Tracker:
    """Answers announcements with everybody who announced the same torrent, as ``url`` (for clients on ``address``)."""

    def __init__(self, address: str):
        self.swarms: dict[str, dict] = {}
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler):
                # In latin-1 every byte of a digest is one character.
                said = dict(parse_qsl(handler.path.partition("?")[2], encoding="latin-1"))
                peer = socket.inet_aton(handler.client_address[0]) + int(said["port"]).to_bytes(2, "big")
                with lock:
                    swarm = self.swarms.setdefault(said["info_hash"], {})
                    others = [one for one in swarm if one != peer]
                    if said.get("event") == "stopped":
                        swarm.pop(peer, None)
                    else:
                        swarm[peer] = True
                body = bencode({b"interval": ASK_AGAIN_S, b"min interval": ASK_AGAIN_S, b"peers": b"".join(others)})
                handler.send_response(200)
                handler.send_header("Content-Length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)

            def log_message(handler, *_args):
                pass

        self.server = ThreadingHTTPServer((address, 0), Handler)
        self.url = f"http://{address}:{self.server.server_address[1]}/announce"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def forget(self):
        self.swarms.clear()
