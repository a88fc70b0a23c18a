# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plain web server that lets itself be read with one header and written with another."""

from __future__ import annotations

import base64
import hmac
from datetime import datetime, timezone
from urllib.parse import unquote

from .messages import Part, Request, Response, StoreError
from .objects import BLOCK, Objects
from .reading import byte_range, object_headers


class Http:
    """config: {hosts, bucket: name under which objects are stored, read_headers: [{name, value}, ..], publish_headers: [{name, value}, ..]}

    Any one of the headers will do. Without read_headers everybody may read; without publish_headers nobody may write.
    """

    def __init__(self, config: dict, objects: Objects, now=lambda: datetime.now(timezone.utc)):
        self.hosts = {host.lower() for host in config["hosts"]}
        self.bucket = config["bucket"]
        self.read_headers = config.get("read_headers", [])
        self.publish_headers = config.get("publish_headers", [])
        self.objects = objects

    def claims(self, hostname: str) -> bool:
        return hostname in self.hosts

    def render(self, error: StoreError, request: Request) -> Response:
        return Response(error.status, {"Content-Type": "text/plain; charset=utf-8", **error.headers}, f"{error.message}\n".encode())

    def authorize(self, request: Request) -> tuple[str, None]:
        """Check the request's headers; return the name of the object it is about."""
        publisher = shows(request, self.publish_headers)
        reader = publisher or not self.read_headers or shows(request, self.read_headers)
        known = publisher or shows(request, self.read_headers)
        if not (reader if request.method in ("GET", "HEAD") else publisher):
            if known:
                raise StoreError(403, "Forbidden", "403 Forbidden")
            raise StoreError(401, "Unauthorized", "401 Unauthorized", {"WWW-Authenticate": 'Bearer realm="models"'})
        return f"{self.bucket}/{self._key(request)}", None

    def handle(self, request: Request, proof: None, no_range: bool = False) -> Response:
        key = self._key(request)
        item = self.objects.get(self.bucket, key) if key else None
        if request.method == "PUT" and key:
            return self._put(request, key, item)
        if request.method not in ("GET", "HEAD", "DELETE"):
            raise StoreError(405, "MethodNotAllowed", "405 Method Not Allowed", {"Allow": "GET, HEAD, PUT, DELETE"})
        if item is None:
            raise StoreError(404, "NotFound", "404 Not Found")
        if request.method == "DELETE":
            self.objects.delete(self.bucket, key)
            return Response(204)
        headers = object_headers(item)
        if (wanted := request.headers.get("If-Match")) and wanted not in ("*", headers["ETag"]):
            raise StoreError(412, "PreconditionFailed", "412 Precondition Failed")
        if request.headers.get("If-None-Match") in ("*", headers["ETag"]):
            return Response(304, headers)
        wanted = None if no_range else byte_range(request.headers.get("Range"), item.size)
        if wanted is None or request.headers.get("If-Range", headers["ETag"]) not in (headers["ETag"], headers["Last-Modified"]):
            return Response(200, headers, Part(item, 0, item.size))
        start, end = wanted
        if start >= end:
            raise StoreError(416, "InvalidRange", "416 Range Not Satisfiable", {"Content-Range": f"bytes */{item.size}"})
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{item.size}"
        return Response(206, headers, Part(item, start, end))

    @staticmethod
    def _key(request: Request) -> str:
        return unquote(request.path)[1:]

    def _put(self, request: Request, key: str, before) -> Response:
        if before and request.headers.get("If-None-Match") == "*":
            raise StoreError(412, "PreconditionFailed", "412 Precondition Failed")
        upload = self.objects.upload()
        try:
            while block := request.body.read(BLOCK):
                upload.write(block)
            if (length := request.headers.get("Content-Length")) and int(length) != upload.size:
                raise StoreError(400, "IncompleteBody", "400 The body is shorter than its Content-Length")
            md5 = request.headers.get("Content-MD5")
            if md5 and md5 != base64.b64encode(upload.md5.digest()).decode():
                raise StoreError(400, "BadDigest", "400 The body does not match its Content-MD5")
        except BaseException:
            upload.discard()
            raise
        item = self.objects.put(self.bucket, key, upload, content_type=request.headers.get("Content-Type", ""))
        return Response(204 if before else 201, {"ETag": f'"{item.etag}"'})


def shows(request: Request, headers: list[dict]) -> bool:
    """Whether the request has one of these headers, with exactly that value."""
    given = [(one["value"], value) for one in headers for value in request.headers.get_all(one["name"], [])]
    return any(hmac.compare_digest(expected.encode(), value.encode()) for expected, value in given)
