# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import threading

import pytest
import yaml
from ansible_collections.modelfleet.serving.plugins.module_utils import _download
from ansible_collections.modelfleet.serving.plugins.modules import release_lock

ARCHIVE = "client-1.5.10-x86_64.tar.gz"
CONTENT = b"an archive"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = "9f" * 32


class Files(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append(self.path)
        body = self.server.files.get(self.path.partition("?")[0])
        if isinstance(body, int) or body is None:
            self.send_error(body or 404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        pass


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setattr(_download, "generate_jittered_backoff", lambda retries, **_kwargs: [0] * retries)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    server.files, server.seen = {f"/v1/{ARCHIVE}": CONTENT}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "inventory/group_vars/all/releases.lock.yml"


@pytest.fixture
def lock(run_module, mirror, path):
    def run(*releases, **modes):
        url = f"http://user:hush@127.0.0.1:{mirror.server_port}/v1/{ARCHIVE}?token=hush"
        client = {"name": "client", "version": "1.5.10", "architecture": "x86_64", "url": url}
        given = [{**client, **release} for release in releases or ({},)]
        releases = [{key: value for key, value in release.items() if value is not None} for release in given]
        result = run_module(release_lock.main, {"path": str(path), "releases": releases}, **modes)
        assert "hush" not in str(result)
        return result

    return run


def pins(path):
    return yaml.safe_load(path.read_text())["modelfleet_release_pins"]


def test_pins_once_and_says_where_from(lock, path, mirror):
    predicted = lock(check=True, diff=True)
    assert predicted["changed"] and not path.exists() and not path.parent.exists()
    assert SHA256 in predicted["diff"]["after"]
    result = lock({}, {})
    source = f"http://127.0.0.1:{mirror.server_port}/v1/{ARCHIVE}"
    assert result["changed"] and result["path"] == str(path)
    assert result["pins"] == [{"name": "client-1.5.10-x86_64", "sha256": SHA256, "source": source, "confirmed_by": [], "new": True}]
    assert pins(path) == {"client-1.5.10-x86_64": {"sha256": SHA256, "source": source}}
    assert [seen.partition("?")[0] for seen in mirror.seen].count(f"/v1/{ARCHIVE}") == 2
    again = lock()
    assert not again["changed"] and not again["pins"][0]["new"]


def test_other_releases_stay(lock, path, tmp_path):
    lock()
    archive = tmp_path / "scheduler.tar.gz"
    archive.write_bytes(b"another")
    scheduler = {"name": "scheduler", "version": "2.5.1", "architecture": "aarch64", "url": None, "src": str(archive)}
    assert lock(scheduler)["changed"]
    assert sorted(pins(path)) == ["client-1.5.10-x86_64", "scheduler-2.5.1-aarch64"]
    assert pins(path)["scheduler-2.5.1-aarch64"] == {"sha256": hashlib.sha256(b"another").hexdigest(), "source": str(archive)}
    assert not lock(scheduler)["changed"]
    result = lock({**scheduler, "src": "/nonexistent"})
    assert result["failed"] and "Failed to read /nonexistent" in result["msg"]


@pytest.mark.parametrize("check", [False, True])
def test_another_file_under_the_same_name_stops(lock, path, mirror, check):
    lock()
    before = path.read_text()
    mirror.files[f"/v1/{ARCHIVE}"] = b"changed afterwards"
    result = lock(check=check)
    assert result["failed"] and path.read_text() == before
    assert f"but {SHA256} was pinned for client-1.5.10-x86_64 from http://127.0.0.1" in result["msg"]
    assert f"take client-1.5.10-x86_64 out of {path} and run again" in result["msg"]
    path.unlink()
    assert lock()["pins"][0]["sha256"] == hashlib.sha256(b"changed afterwards").hexdigest()


def provenance(digest, name=ARCHIVE):
    statement = {"subject": [{"name": "other", "digest": {"sha256": OTHER}}, {"name": name, "digest": {"sha256": digest}}]}
    envelope = {"payloadType": "application/vnd.in-toto+json", "payload": base64.b64encode(json.dumps(statement).encode()).decode()}
    return json.dumps(envelope).encode() + b"\n"


BESIDE = {
    f"{ARCHIVE}.sha256": lambda digest: digest.upper().encode(),
    "checksums.txt": lambda digest: f"{OTHER}  other.tar.gz\n{digest}  {ARCHIVE}\n".encode(),
    "SHA256SUMS": lambda digest: f"{digest} *./{ARCHIVE}\n".encode(),
    "multiple.intoto.jsonl": provenance,
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_the_publisher_says_beside_the_archive_must_agree(lock, path, mirror, name):
    mirror.files[f"/v1/{name}"] = BESIDE[name](OTHER)
    result = lock()
    assert result["failed"] and not path.exists()
    assert f"its sha256 is {SHA256}, but {name} beside it says {OTHER}. Nothing was pinned." in result["msg"]
    mirror.files[f"/v1/{name}"] = BESIDE[name](SHA256)
    assert lock()["pins"][0]["confirmed_by"] == [name]


@pytest.mark.parametrize("body", [403, b"", b"<html>", b"\xff\xfe", b"{}\n", b"[]", b'{"payload": "e30="}'])
def test_what_says_nothing_of_the_archive_is_no_obstacle(lock, mirror, body):
    for name in BESIDE:
        mirror.files[f"/v1/{name}"] = body
    assert lock()["pins"][0]["confirmed_by"] == []


def test_a_server_that_fails_is_no_consent(lock, path, mirror):
    mirror.files["/v1/checksums.txt"] = 503
    result = lock()
    assert result["failed"] and "checksums.txt in 5 attempts" in result["msg"] and not path.exists()


def test_does_not_hide_the_variables_of_the_group(lock, path):
    path.parent.parent.mkdir(parents=True)
    variables = path.parent.parent / "all.yml"
    variables.write_text("a: b\n")
    result = lock()
    assert result["failed"] and f"Move it to {path.parent}/main.yml" in result["msg"] and not path.parent.exists()


@pytest.mark.parametrize("text", ["", "a: b\n", "modelfleet_release_pins: []\n", "modelfleet_release_pins:\n  x: y\n", "- ? x"])
def test_does_not_write_over_what_others_wrote(lock, path, text):
    path.parent.mkdir(parents=True)
    path.write_text(text)
    result = lock()
    assert result["failed"] and "this module did not write it" in result["msg"] and path.read_text() == text


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ({"url": "ftp://mirror.example.com/x"}, "use an https, http or file URL"),
        ({"url": "http://[1:2"}, "use an https, http or file URL"),
        ({"version": "1/0"}, "letters, digits"),
        ({"url": None}, "one of the following is required: url, src"),
    ],
)
def test_bad_input_is_one_sentence(lock, release, said):
    result = lock(release)
    assert result["failed"] and said in result["msg"]
