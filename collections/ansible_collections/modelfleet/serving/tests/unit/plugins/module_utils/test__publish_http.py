# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The digests that a plain web server keeps in files beside the objects."""

from __future__ import annotations

import email.message
import io
import types
import urllib.error

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _publish_http
from ansible_collections.modelfleet.serving.plugins.module_utils._publish_answers import Found, Progress, Refusal, Taken

URL = "https://files.example.com/"
KEY = "models/a.mar"
BESIDE = KEY + ".sha256"
DIGEST, OLD = "1f" * 32, "0e" * 32
OURS = "{}  a.mar\n".format(OLD).encode()
FOREIGN = [b"", b"notes", OLD.encode(), b"%s  b.mar\n" % OLD.encode(), OURS + OURS, b"x" * 9999]


class Server:
    """As much of a web server as a publisher speaks to."""

    def __init__(self):
        self.files = {}
        self.calls = []
        self.read = None

    def __call__(self, url, method, data, headers, **_options):
        key = url[len(URL) :]
        self.calls.append((method, key))
        there = key in self.files
        if method == "PUT":
            if there and headers.get("If-None-Match") == "*":
                self._refuse(url, 412)
            self.files[key] = data if isinstance(data, bytes) else data.read()
        elif not there:
            self._refuse(url, 404)
        if method == "DELETE":
            del self.files[key]
        content = self.files.get(key, b"")
        read = self.read if self.read and method == "GET" else io.BytesIO(content).read
        return types.SimpleNamespace(headers={"Content-Length": str(len(content))}, read=read)

    def _refuse(self, url, status):
        raise urllib.error.HTTPError(url, status, "refused", email.message.Message(), None)


@pytest.fixture
def server(monkeypatch):
    server = Server()
    monkeypatch.setattr(_publish_http, "open_url", server)
    return server


@pytest.fixture
def objects(server):
    return _publish_http.HttpObjects(types.SimpleNamespace(url=URL, headers={}, describe=lambda key: URL + key))


@pytest.fixture
def put(objects, tmp_path):
    (tmp_path / "a.mar").write_bytes(b"new")

    def run(found=None):
        objects.put(KEY, str(tmp_path / "a.mar"), 3, DIGEST, found, Progress(None, 3))

    return run


@pytest.mark.parametrize("beside", [None, OURS])
def test_a_digest_that_was_left_behind_goes_first(server, objects, put, beside):
    if beside:
        server.files[BESIDE] = beside
    put()
    assert server.files == {KEY: b"new", BESIDE: "{}  a.mar\n".format(DIGEST).encode()}
    assert beside is None or server.calls.index(("DELETE", BESIDE)) < server.calls.index(("PUT", KEY))
    assert objects.head(KEY) == Found(3, DIGEST)


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_file_in_the_digests_place_is_never_replaced(server, put, foreign):
    server.files[BESIDE] = foreign
    with pytest.raises(Refusal, match="its digest belongs into {}{}".format(URL, BESIDE)) as refused:
        put()
    assert refused.value.remedy == "Move that away, or publish under another key"
    assert server.files == {BESIDE: foreign}


def test_a_file_that_comes_into_the_digests_place_meanwhile(server, objects, put, monkeypatch):
    monkeypatch.setattr(objects, "_make_room", lambda key: server.files.update({BESIDE: b"notes"}))
    with pytest.raises(Taken):
        put()
    assert server.files[BESIDE] == b"notes"


def test_the_digest_of_another_publisher_stays(server, put):
    """Who has published since this one looked."""
    server.files.update({KEY: b"other", BESIDE: OURS})
    with pytest.raises(Taken):
        put()
    assert server.files == {KEY: b"other", BESIDE: OURS}


@pytest.mark.parametrize("beside", [OURS, *FOREIGN])
def test_an_object_that_may_be_replaced_gets_its_digest(server, put, beside):
    server.files.update({KEY: b"other", BESIDE: beside})
    put(Found(5, ""))
    assert server.files == {KEY: b"new", BESIDE: "{}  a.mar\n".format(DIGEST).encode()}


@pytest.mark.parametrize("beside", [OURS, *FOREIGN])
def test_deleting_an_object_takes_only_its_digest(server, objects, beside):
    server.files.update({KEY: b"other", BESIDE: beside})
    objects.delete(KEY)
    assert server.files == ({} if beside == OURS else {BESIDE: beside})


def test_a_digest_is_no_object(server, objects):
    with pytest.raises(Refusal, match=r"what ends in \.sha256 is the digest of another object"):
        objects.head(BESIDE)
    assert server.calls == []


def test_a_connection_that_breaks_while_the_digest_is_read(server, objects):
    def broken(_size):
        raise ConnectionResetError(104, "reset")

    server.files.update({KEY: b"other", BESIDE: OURS})
    server.read = broken
    with pytest.raises(Refusal, match="the connection broke"):
        objects.head(KEY)
