# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing to an HTTP server that takes PUT. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import urllib.error

from ansible.module_utils.urls import open_url
from ansible_collections.modelfleet.serving.plugins.module_utils._publish_answers import (
    Found,
    Reader,
    Refusal,
    Taken,
    network_refusal,
    refusal,
)

_DIGEST = ".sha256"
_LONGEST = 4096  # of such a file, with room for any name
_LINE = re.compile(rb"([0-9a-fA-F]{64})(?:[ \t]|\r?\n|\Z)")


class HttpObjects:
    """Files below a URL. The digest of each is recorded in a file beside it, as sha256sum writes it."""

    NAMES = {
        "id": "headers",
        "secret": "headers",
        "token": "headers",
        "bucket": "url",
        "key": "headers",
        "rights": "read, write and delete there",
    }

    def __init__(self, store, ca_path=None, validate_certs=True):
        self.store = store
        self.place = store.url
        self.options = {"ca_path": ca_path, "validate_certs": validate_certs}

    def head(self, key):
        if key.endswith(_DIGEST):
            raise Refusal("what ends in {} is the digest of another object here".format(_DIGEST), "Choose another key")
        answer = self._call("HEAD", key, absent=True)
        if answer is None:
            return None
        size = answer.headers.get("Content-Length", "")
        line = _LINE.match(self._beside(key) or b"")
        return Found(int(size) if size.isdigit() else None, line.group(1).decode().lower() if line else "")

    def read_sha256(self, key):
        digest = hashlib.sha256()
        answer = self._call("GET", key)
        with self._answers():
            for block in iter(lambda: answer.read(1 << 20), b""):
                digest.update(block)
        return digest.hexdigest()

    def put(self, key, src, size, sha256, found, progress):
        if found is None:
            self._make_room(key)
        else:
            # The old digest must not stand beside the new content, however this ends.
            self._call("DELETE", key + _DIGEST, absent=True)
        condition = {} if found is not None else {"If-None-Match": "*"}
        with open(src, "rb") as handle:
            self._call("PUT", key, {"Content-Length": str(size), **condition}, Reader(handle, progress))
        line = _line(key, sha256)
        self._call("PUT", key + _DIGEST, {"Content-Length": str(len(line)), **condition}, line)

    def delete(self, key):
        if _is_ours(self._beside(key), key):
            self._call("DELETE", key + _DIGEST, absent=True)
        self._call("DELETE", key, absent=True)

    def _beside(self, key):
        """What is in the file beside an object, None where there is none."""
        answer = self._call("GET", key + _DIGEST, absent=True)
        if answer is None:
            return None
        with self._answers():
            return answer.read(_LONGEST)

    def _make_room(self, key):
        """Take away the digest of an object that is gone; it would be wrong for the new one until that has its own."""
        beside = self._beside(key)
        if beside is None:
            return
        if not _is_ours(beside, key):
            raise Refusal(
                "its digest belongs into {}, where something else is".format(self.store.describe(key + _DIGEST)),
                "Move that away, or publish under another key",
            )
        if self._call("HEAD", key, absent=True) is not None:
            raise Taken()
        self._call("DELETE", key + _DIGEST, absent=True)

    def _call(self, method, key, headers=None, data=None, absent=False):
        """The answer; None for one that says that there is nothing, where ``absent`` is expected."""
        own = {**self.store.headers, **(headers or {})}
        if data is not None:
            own["Content-Type"] = "application/octet-stream"
        with self._answers():
            try:
                return open_url(
                    self.store.describe(key),
                    method=method,
                    data=data,
                    headers=own,
                    timeout=60,
                    use_netrc=False,
                    http_agent="modelfleet",
                    # A redirect would take the headers elsewhere.
                    follow_redirects="none",
                    **self.options,
                )
            except urllib.error.HTTPError as exc:
                if absent and exc.code in (404, 410):
                    return None
                raise
        return None

    @contextlib.contextmanager
    def _answers(self):
        try:
            yield
        except urllib.error.HTTPError as exc:
            raise self._refusal(exc.code) from None
        except (OSError, http.client.HTTPException) as exc:
            raise network_refusal(exc, self.place) from None

    def _refusal(self, status):
        if status == 412:
            return Taken()
        if status == 401:
            return Refusal("the server asks for other credentials (401)", "Check headers in the credentials that publish")
        if status == 405:
            return Refusal("the server does not allow this method (405)", "Allow PUT and DELETE (in nginx: dav_methods), or correct url")
        if status == 409:
            return Refusal("the server has no such directory (409)", "Let it create directories (in nginx: create_full_put_path on)")
        if status == 413:
            return Refusal("the file is too large for the server (413)", "Raise its limit (in nginx: client_max_body_size)")
        if 300 <= status < 400:
            return Refusal("the server redirects to another place ({})".format(status), "Give the final URL in url")
        kind = {403: "denied", 404: "bucket"}.get(status) or ("busy" if status >= 500 else "other")
        return refusal(kind, self.NAMES, status)


def _line(key, sha256):
    return "{}  {}\n".format(sha256, key.rsplit("/", 1)[-1]).encode()


def _is_ours(beside, key):
    """Whether it is what a publisher of this object has written, with whatever digest."""
    return beside is not None and re.match(rb"[0-9a-f]{64} ", beside) is not None and beside == _line(key, beside[:64].decode())
