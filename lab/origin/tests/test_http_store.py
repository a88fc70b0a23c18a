# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain web server: who may read and write with which header, ranges and conditions."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import os
import urllib.error
import urllib.request
from email.message import Message
from urllib.parse import quote

import pytest
from conftest import Running
from strict_origin import server
from strict_origin.messages import Request, StoreError
from strict_origin.objects import Objects
from strict_origin.web import Http

READ = [{"name": "Authorization", "value": "Bearer read-me"}, {"name": "X-Api-Key", "value": "k\u00e9y"}]
PUBLISH = [{"name": "Authorization", "value": "Bearer write-me"}]
READERS = {
    "first": {"Authorization": "Bearer read-me"},
    "second": {"x-api-key": "k\u00e9y"},
    "publisher": {"Authorization": "Bearer write-me"},
}
KEYS = ["a.mar", "with space", "plus+sign", "per%cent", "percent%2Fslash", "uml\u00e4ut/\u6a21\u578b.mar", "a&b=c?d#e", "~tilde!*'()",
        "double//slash", "a/../b", "trailing space ", "a.mar.sha256"]  # fmt: skip


def store(tmp_path, **changes):
    config = {"hosts": ["models.example.com"], "bucket": "models", "read_headers": READ, "publish_headers": PUBLISH}
    return Http(config | changes, Objects(tmp_path))


def received(method, key, headers=None, body=b""):
    message = Message()
    for name, value in (headers or {}).items():
        message[name] = value
    return Request(method, "models.example.com", "/" + quote(key), "", message, io.BytesIO(body))


def refused(one, request):
    with pytest.raises(StoreError) as caught:
        name, proof = one.authorize(request)
        one.handle(request, proof)
        pytest.fail(f"{name} was not refused")
    return caught.value.status


VECTORS = [
    *itertools.product(("GET", "HEAD"), READERS, KEYS),
    *itertools.product(("PUT", "DELETE"), ["publisher"], KEYS),
]
REFUSED = {
    **{f"{method} without a header": (method, {}, 401) for method in ("GET", "HEAD", "PUT", "DELETE")},
    **{f"{method} with another value": (method, {"Authorization": "Bearer other"}, 401) for method in ("GET", "PUT", "DELETE")},
    **{f"{method} with a reader's header": (method, READERS["first"], 403) for method in ("PUT", "DELETE", "POST")},
    "part of the value": ("GET", {"Authorization": "Bearer read-m"}, 401),
    "more than the value": ("GET", {"Authorization": "Bearer read-me "}, 401),
    "case of the value": ("GET", {"Authorization": "bearer read-me"}, 401),
    "value under another name": ("GET", {"X-Api-Key": "Bearer read-me"}, 401),
    "names of both, values swapped": ("GET", {"Authorization": "k\u00e9y", "X-Api-Key": "Bearer read-me"}, 401),
    "file that is not there": ("GET", READERS["first"], 404),
    "deletion of what is not there": ("DELETE", READERS["publisher"], 404),
    "method": ("POST", READERS["publisher"], 405),
}


def test_number_of_vectors():
    assert len(VECTORS) == 96
    assert len(REFUSED) == 18


@pytest.mark.parametrize("method, reader, key", VECTORS)
def test_good_header(tmp_path, method, reader, key):
    one = store(tmp_path)
    put = received("PUT", key, READERS["publisher"], b"x")
    if method != "PUT":
        assert one.handle(put, None).status == 201
    request = received(method, key, READERS[reader], b"x")
    name, proof = one.authorize(request)
    assert name == f"models/{key}"
    assert one.handle(request, proof).status == {"PUT": 201, "DELETE": 204}.get(method, 200)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, name):
    method, headers, expected = REFUSED[name]
    assert refused(store(tmp_path), received(method, "a.mar", headers)) == expected


def test_public_reading_and_nobody_who_publishes(tmp_path):
    public = store(tmp_path, read_headers=[], publish_headers=[])
    assert refused(public, received("GET", "a.mar")) == 404
    assert refused(public, received("PUT", "a.mar", {"Authorization": "Bearer write-me"})) == 401
    assert public.claims("models.example.com")
    assert not public.claims("example.com")


def test_conditions_and_digests_of_a_put(tmp_path):
    one = store(tmp_path)
    publisher = READERS["publisher"]
    md5 = base64.b64encode(hashlib.md5(b"x").digest()).decode()
    assert one.handle(received("PUT", "a", publisher | {"Content-MD5": md5}, b"x"), None).status == 201
    assert one.handle(received("PUT", "a", publisher, b"y"), None).status == 204
    assert refused(one, received("PUT", "a", publisher | {"If-None-Match": "*"}, b"z")) == 412
    assert refused(one, received("PUT", "b", publisher | {"Content-MD5": md5}, b"z")) == 400
    assert refused(one, received("PUT", "b", publisher | {"Content-Length": "5"}, b"z")) == 400
    assert refused(one, received("PUT", "", publisher, b"z")) == 405
    assert len(list(one.objects.root.iterdir())) == 2, "an upload that failed leaves nothing behind"


# -- a running origin ----------------------------------------------------------------------------------------------------


@pytest.fixture
def web(tmp_path, certificate):
    listen = {"http": 0, "https": 0, "control": 0, "proxy": 0}
    config = {"data": str(tmp_path / "data"), "address": "127.0.0.1", "listen": listen, "tls": certificate}
    running = Running(config | {"http": {"hosts": ["127.0.0.1"], "bucket": "models", "read_headers": READ[:1], "publish_headers": PUBLISH}})
    yield running
    server.stop(running.servers)


def ask(origin, method="GET", key="m.mar", data=None, who="first", **headers):
    url = f"http://127.0.0.1:{origin.ports['http']}/{quote(key)}"
    headers = READERS.get(who, {}) | {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=10) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_publish_read_delete(web):
    body = os.urandom(300_000)
    status, headers, _ = ask(web, "PUT", data=body, who="publisher", Content_Type="application/zip")
    assert (status, headers["ETag"]) == (201, f'"{hashlib.md5(body).hexdigest()}"')
    status, headers, content = ask(web)
    assert (status, content, headers["Content-Type"]) == (200, body, "application/zip")
    assert headers["Last-Modified"].endswith("GMT")
    assert ask(web, "HEAD")[1]["Content-Length"] == "300000"
    assert ask(web, "DELETE", who="publisher")[0] == 204
    status, headers, content = ask(web)
    assert (status, headers["Content-Type"], content) == (404, "text/plain; charset=utf-8", b"404 Not Found\n")


def test_the_challenge(web):
    status, headers, _ = ask(web, who="nobody")
    assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer realm="models"')
    assert ask(web, "PUT", data=b"x")[0] == 403


@pytest.mark.parametrize(
    "range_, status, start, end",
    [
        (None, 200, 0, 5000),
        ("bytes=0-0", 206, 0, 1),
        ("bytes=4990-", 206, 4990, 5000),
        ("bytes=-10", 206, 4990, 5000),
        ("bytes=0-99999", 206, 0, 5000),
        ("bytes=5000-", 416, 0, 0),
    ],
)
def test_ranges(web, range_, status, start, end):
    content = os.urandom(5000)
    web.store("m.mar", content)
    got, headers, body = ask(web, **({"Range": range_} if range_ else {}))
    assert got == status
    if status == 416:
        assert headers["Content-Range"] == "bytes */5000"
        return
    assert body == content[start:end]
    assert headers.get("Content-Range") == (f"bytes {start}-{end - 1}/5000" if status == 206 else None)


def test_conditions_counters_and_faults(web):
    web.store("m.mar", b"12345")
    etag = ask(web)[1]["ETag"]
    assert ask(web, If_None_Match=etag)[0] == 304
    assert ask(web, If_Match='"other"')[0] == 412
    assert ask(web, Range="bytes=0-1", If_Range=etag)[0] == 206
    assert ask(web, Range="bytes=0-1", If_Range='"other"')[::2] == (200, b"12345")
    assert web.control("GET", "/counters")["objects"]["models/m.mar"]["bytes"] == 12
    web.control("PUT", "/faults", [{"key": "models/*", "status": 503, "times": 1}])
    assert [ask(web)[0], ask(web)[0]] == [503, 200]
    web.control("PUT", "/faults", [{"no_range": True}])
    assert ask(web, Range="bytes=0-1")[0] == 200
