# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What passes between the HTTP server and the stores."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.message import Message
from typing import BinaryIO
from urllib.parse import unquote

from .objects import StoredObject


@dataclass
class Request:
    method: str
    host: str  # as the client sent it, port included
    path: str  # still percent-encoded
    query: str  # still percent-encoded
    headers: Message
    body: BinaryIO  # read(n) gives no more than Content-Length bytes in all
    secure: bool = True  # came by TLS
    client: str = ""  # its address

    @property
    def hostname(self) -> str:
        return self.host.rsplit(":", 1)[0].lower()

    @property
    def params(self) -> list[tuple[str, str]]:
        """Query parameters, decoded, in their order. A plus sign is a plus sign."""
        pairs = (part.partition("=") for part in self.query.split("&") if part)
        return [(unquote(name), unquote(value)) for name, _, value in pairs]


@dataclass
class Part:
    """The bytes of a stored object from start up to, not including, end."""

    item: StoredObject
    start: int
    end: int


@dataclass
class Response:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Part = b""


class StoreError(Exception):
    """A refusal in the store's own terms; the store renders it in its own format."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None, **details: str):
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}
        self.details = details
