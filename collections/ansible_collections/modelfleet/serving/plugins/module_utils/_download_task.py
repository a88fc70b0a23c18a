# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The call DownloadTask of dfdaemon's gRPC API. PRIVATE to the collection: it can have breaking changes at any time.

It is what dfget makes of its arguments. Those are for everybody on the host to read, the signed URL and the headers among them, and dfget
takes them from nowhere else. Curl speaks HTTP/2 here and gets the message through a pipe.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from urllib.parse import unquote

from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json

METHOD = "dfdaemon.v2.DfdaemonDownload/DownloadTask"

# How curl ends when nobody listens at the socket, and when it cannot do what it is asked for.
NOT_CONNECTED = 7
UNABLE = (1, 2, 4)

# What dfget has, too: how long a download may take, and how urgent it is.
_TIMEOUT_S = 2 * 60 * 60
_PRIORITY = 6

_TRAILER = re.compile(r"^(grpc-[a-z-]+):[ \t]*(.*?)[ \t\r]*$", re.MULTILINE | re.IGNORECASE)


def command(curl, socket):
    """How curl is called, with the request as its input; it prints headers and trailers."""
    return [
        curl,
        "--disable",  # its configuration file
        "--silent",
        "--show-error",
        "--http2-prior-knowledge",
        "--unix-socket",
        socket,
        "--header",
        "content-type: application/grpc",
        "--header",
        "te: trailers",
        "--data-binary",
        "@-",
        "--dump-header",
        "-",
        "--output",
        "/dev/null",  # what dfdaemon tells of each piece
        f"http://localhost/{METHOD}",
    ]


def request(url, headers, output, task, piece_length, back_to_source):
    """A task that dfdaemon shall have and link to the path ``output``.

    ``task`` is what names it, ``piece_length`` is in bytes, None for what dfdaemon chooses, and ``back_to_source`` says whether dfdaemon
    may decide on its own to go to the origin. The fields are those of the message Download in common.proto of dragonfly-api 2.3.
    """
    download = [
        _field(1, url),
        _field(7, _PRIORITY),
        *(_field(9, _field(1, name) + _field(2, value)) for name, value in headers.items()),
        *([] if piece_length is None else [_field(10, piece_length)]),
        _field(11, output),
        _field(12, _field(1, _TIMEOUT_S)),
        _field(13, not back_to_source),
        _field(22, True),  # a hard link, or a failure
        _field(23, task),
    ]
    message = _field(1, b"".join(download))
    # Not compressed, and how long it is.
    return b"\0" + len(message).to_bytes(4, "big") + message


def _varint(number):
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _field(number, value):
    if isinstance(value, int):
        return _varint(number << 3) + _varint(int(value))
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


@dataclass(frozen=True)
class Answer:
    """How a call ended: its status, None where dfdaemon sent none; what it says; the status of the origin, 0 where none is told."""

    status: int | None
    said: str
    origin_status: int


def answer(printed):
    """Read the headers and trailers that curl printed. What is none of dfdaemon's is an answer without a status."""
    trailers = {name.lower(): value for name, value in _TRAILER.findall(printed)}
    status = trailers.get("grpc-status", "")
    origin = _details(trailers.get("grpc-status-details-bin", ""))
    return Answer(
        int(status) if re.fullmatch("[0-9]{1,3}", status) else None,
        str(origin.get("message") or unquote(trailers.get("grpc-message", ""))),
        origin["status_code"] if isinstance(origin.get("status_code"), int) else 0,
    )


def _details(encoded):
    """What dfdaemon tells of an answer of the origin: {message, header, status_code} as JSON, in base64 without its padding."""
    try:
        found = from_json(base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
