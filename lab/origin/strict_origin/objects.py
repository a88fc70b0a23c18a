# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects on disk, the counters of what was sent of them, and the faults to inject."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

BLOCK = 256 * 1024


@dataclass
class StoredObject:
    path: Path
    name: str  # bucket/key, the name in counters and faults
    size: int
    etag: str
    modified: float
    content_type: str = "binary/octet-stream"
    metadata: dict[str, str] = field(default_factory=dict)  # of the user, without the prefix that the API of a store gives it


class Objects:
    """Files named by the hash of bucket and key (keys may hold anything), each with a JSON file of its facts beside it."""

    def __init__(self, root: Path):
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def _paths(self, bucket: str, key: str) -> tuple[Path, Path]:
        stem = hashlib.sha256(f"{bucket}/{key}".encode()).hexdigest()
        return self.root / f"{stem}.data", self.root / f"{stem}.json"

    def get(self, bucket: str, key: str) -> StoredObject | None:
        data, facts = self._paths(bucket, key)
        try:
            item = StoredObject(path=data, **json.loads(facts.read_text()))
        except FileNotFoundError:
            return None
        # The facts name their own generation of the data, so a reader never mixes two versions of one object.
        item.path = data.with_suffix(f".{item.etag}")
        return item

    def put(self, bucket: str, key: str, upload: Upload, etag: str = "", content_type: str = "", metadata: dict[str, str] | None = None):
        data, facts = self._paths(bucket, key)
        before = self.get(bucket, key)
        etag = etag or upload.md5.hexdigest()
        item = StoredObject(
            path=data.with_suffix(f".{etag}"),
            name=f"{bucket}/{key}",
            size=upload.size,
            etag=etag,
            modified=int(time.time()),
            content_type=content_type or "binary/octet-stream",
            metadata=metadata or {},
        )
        upload.commit(item.path)
        described = {name: value for name, value in asdict(item).items() if name != "path"}
        with tempfile.NamedTemporaryFile("w", dir=self.root, delete=False) as stream:
            json.dump(described, stream)
        os.replace(stream.name, facts)
        if before and before.path != item.path:
            before.path.unlink(missing_ok=True)
        return item

    def delete(self, bucket: str, key: str) -> None:
        item = self.get(bucket, key)
        if item:
            self._paths(bucket, key)[1].unlink(missing_ok=True)
            item.path.unlink(missing_ok=True)

    def upload(self) -> Upload:
        return Upload(self.root)


class Upload:
    """Bytes on their way in. Nothing is visible before commit()."""

    def __init__(self, root: Path):
        handle, name = tempfile.mkstemp(dir=root, prefix="upload-")
        self.stream = os.fdopen(handle, "wb")
        self.path = Path(name)
        self.size = 0
        self.md5 = hashlib.md5(usedforsecurity=False)

    def write(self, block: bytes) -> None:
        self.stream.write(block)
        self.md5.update(block)
        self.size += len(block)

    def commit(self, path: Path) -> None:
        self.stream.close()
        os.replace(self.path, path)

    def discard(self) -> None:
        self.stream.close()
        self.path.unlink(missing_ok=True)


class Counters:
    """Requests by kind, and body bytes really sent, by object and by client."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        with self._lock:
            self._objects: dict[str, dict] = {}

    def request(self, name: str, client: str, kind: str) -> None:
        with self._lock:
            for row in self._rows(name, client):
                row["requests"] += 1
                row[kind] = row.get(kind, 0) + 1

    def sent(self, name: str, client: str, count: int) -> None:
        with self._lock:
            for row in self._rows(name, client):
                row["bytes"] += count

    def _rows(self, name: str, client: str) -> tuple[dict, dict]:
        row = self._objects.setdefault(name, {"bytes": 0, "requests": 0, "clients": {}})
        return row, row["clients"].setdefault(client, {"bytes": 0, "requests": 0})

    def snapshot(self) -> dict:
        with self._lock:
            objects = json.loads(json.dumps(self._objects))
        return {"bytes": sum(row["bytes"] for row in objects.values()), "objects": objects}


@dataclass
class Fault:
    """What to do wrong, to which objects, and how often. Only requests that are right in themselves meet it."""

    key: str = "*"  # pattern over bucket/key
    client: str = "*"  # pattern over the client's address
    method: str = "*"  # GET | HEAD | PUT
    times: int | None = None  # None: until removed
    status: int | None = None  # answer this instead
    reset_at: int | None = None  # reset the connection after this many body bytes
    short_by: int | None = None  # announce the right length, close cleanly this many bytes before it
    slow: int | None = None  # bytes a second
    change: bool = False  # another first byte, another ETag
    no_range: bool = False  # ignore Range and answer 200 with everything

    ACTIONS = ("status", "reset_at", "short_by", "slow", "change", "no_range")

    def __post_init__(self) -> None:
        for name in ("times", "status", "reset_at", "short_by", "slow"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise ValueError(f"{name} must be a number of 0 or more, not {value!r}")
        if not any(getattr(self, name) not in (None, False) for name in self.ACTIONS):
            raise ValueError("a fault needs one of " + ", ".join(self.ACTIONS))
        if self.slow == 0:
            raise ValueError("slow must be 1 or more")


class Faults:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def set(self, faults: list[dict]) -> None:
        parsed = [Fault(**fault) for fault in faults]
        with self._lock:
            for fault in self._faults:
                fault.slow = None
            self._faults = parsed

    def snapshot(self) -> list[dict]:
        with self._lock:
            return [asdict(fault) for fault in self._faults]

    def take(self, name: str, client: str, method: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if (
                    fault.times != 0
                    and fnmatch.fnmatchcase(name, fault.key)
                    and fnmatch.fnmatchcase(client, fault.client)
                    and fnmatch.fnmatchcase(method, fault.method)
                ):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None
