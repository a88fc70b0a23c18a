# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What reading an object has in common in every store."""

from __future__ import annotations

import re
from email.utils import formatdate

from .objects import StoredObject


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return (start, end) of the one range asked for, start >= end if it cannot be satisfied, None for the whole object."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", (header or "").strip())
    if not match or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size if int(last) else 0
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size


def object_headers(item: StoredObject, metadata_prefix: str = "") -> dict[str, str]:
    """The headers that describe an object; user metadata under the prefix that the store's API gives it."""
    return {
        "ETag": f'"{item.etag}"',
        "Last-Modified": formatdate(item.modified, usegmt=True),
        "Content-Type": item.content_type,
        "Accept-Ranges": "bytes",
        **{metadata_prefix + name: value for name, value in item.metadata.items()},
    }
