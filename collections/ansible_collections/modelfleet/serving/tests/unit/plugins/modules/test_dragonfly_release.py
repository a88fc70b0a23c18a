# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _download
from ansible_collections.modelfleet.serving.plugins.modules import dragonfly_release

PROGRAMS = {"dfdaemon": b"#!daemon " * 1000, "dfget": b"#!get"}


def make_archive(path, entries):
    """Write a tar.gz of (name, content) pairs; a content that is a TarInfo is added as it is."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in entries:
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def flat(tmp_path):
    path = tmp_path / "flat.tar.gz"
    return path, make_archive(path, [("LICENSE", b"text"), *PROGRAMS.items()])


@pytest.fixture
def args(tmp_path, flat):
    return {
        "name": "client",
        "version": "1.5.10",
        "src": str(flat[0]),
        "sha256": flat[1],
        "programs": sorted(PROGRAMS),
        "root": str(tmp_path / "opt"),
    }


@pytest.fixture
def release(run_module):
    return lambda args, **modes: run_module(dragonfly_release.main, args, **modes)


def installed(args):
    base = os.path.join(args["root"], args["name"])
    return sorted(os.listdir(base)) if os.path.isdir(base) else []


@pytest.mark.parametrize("top", ["", "dragonfly-client-v1.5.10-x86_64-unknown-linux-musl/", "./"])
def test_installs_from_both_published_layouts(release, args, tmp_path, top):
    path = tmp_path / "layout.tar.gz"
    args.update(
        src=str(path), sha256=make_archive(path, [(top + "README.md", b"text"), *((top + name, body) for name, body in PROGRAMS.items())])
    )
    result = release(args)
    assert result["changed"] and result["version"] == "1.5.10" and result["previous_version"] is None
    for name, body in PROGRAMS.items():
        program = tmp_path / "opt/client/current" / name
        assert program.read_bytes() == body
        assert program.stat().st_mode & 0o7777 == 0o755
    assert sorted(os.listdir(tmp_path / "opt/client/current")) == [".release.json", "dfdaemon", "dfget"]
    record = json.loads((tmp_path / "opt/client/current/.release.json").read_text())
    assert record["version"] == "1.5.10" and record["sha256"] == args["sha256"]
    assert installed(args) == ["1.5.10", "current"]
    assert os.readlink(tmp_path / "opt/client/current") == "1.5.10"


def test_second_run_changes_nothing(release, args, flat):
    release(args)
    flat[0].unlink()
    result = release(args)
    assert not result["changed"] and result["reason"] == ""


def test_check_mode_tells_and_does_nothing(release, args, flat):
    result = release(args, check=True, diff=True)
    assert result["changed"] and result["reason"] == "version 1.5.10 is not installed"
    assert result["diff"]["before"] == "" and "version: 1.5.10" in result["diff"]["after"]
    assert installed(args) == []
    # The archive of a role is copied by a task that does nothing in check mode.
    flat[0].unlink()
    assert release(args, check=True)["changed"]


def test_diff_names_both_versions(release, args):
    release(args)
    args["version"] = "1.6.0"
    result = release(args, diff=True)
    assert "version: 1.5.10" in result["diff"]["before"] and "version: 1.6.0" in result["diff"]["after"]
    assert result["previous_version"] == "1.5.10"


def test_keeps_the_previous_version_and_rolls_back_without_the_archive(release, args, flat):
    release(args)
    release({**args, "version": "1.6.0"})
    assert installed(args) == ["1.5.10", "1.6.0", "current"]
    flat[0].unlink()
    result = release(args)
    assert result["changed"] and result["reason"] == "current is 1.6.0"
    assert os.readlink(os.path.join(args["root"], "client/current")) == "1.5.10"


def test_removes_what_keep_does_not_cover(release, args):
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        result = release({**args, "version": version})
    assert result["removed"] == ["1.0.0"]
    assert installed(args) == ["1.1.0", "1.2.0", "current"]
    assert release({**args, "version": "1.2.0", "keep": 0}, check=True)["removed"] == ["1.1.0"]
    assert release({**args, "version": "1.2.0", "keep": 0})["changed"]
    assert installed(args) == ["1.2.0", "current"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda program: program.unlink(), "dfget is missing"),
        (lambda program: program.write_bytes(b"other"), "dfget is damaged"),
        (lambda program: program.chmod(0o600), "dfget is damaged"),
        (lambda program: (program.parent / ".release.json").write_text("{"), "version 1.5.10 was installed from another archive"),
    ],
)
def test_repairs_a_damaged_release(release, args, tmp_path, damage, reason):
    release(args)
    damage(tmp_path / "opt/client/1.5.10/dfget")
    assert release(args, check=True)["reason"] == reason
    assert release(args)["reason"] == reason
    assert (tmp_path / "opt/client/current/dfget").read_bytes() == PROGRAMS["dfget"]
    assert not release(args)["changed"]


def test_another_archive_of_the_same_version_is_installed(release, args, tmp_path):
    release(args)
    path = tmp_path / "rebuilt.tar.gz"
    args.update(src=str(path), sha256=make_archive(path, [("dfdaemon", b"new"), ("dfget", b"new")]))
    assert release(args)["changed"]
    assert (tmp_path / "opt/client/current/dfget").read_bytes() == b"new"


def test_missing_sha256_stops(release, args):
    del args["sha256"]
    result = release(args)
    assert result["failed"] and "sha256" in result["msg"]


@pytest.mark.parametrize("sha256", ["", "abc", "g" * 64, "0" * 63])
def test_malformed_sha256_stops_also_in_check_mode(release, args, sha256):
    for check in (True, False):
        result = release({**args, "sha256": sha256}, check=check)
        assert result["failed"] and "not 64 hexadecimal digits" in result["msg"]
    assert installed(args) == []


def test_wrong_sha256_stops_before_anything_is_unpacked(release, args, monkeypatch):
    monkeypatch.setattr(dragonfly_release.tarfile, "open", lambda *_args, **_kwargs: pytest.fail("unpacked"))
    result = release({**args, "sha256": "0" * 64})
    assert result["failed"] and args["sha256"] in result["msg"] and "0" * 64 in result["msg"]
    assert installed(args) == []


def test_wrong_sha256_leaves_the_present_release_alone(release, args):
    release(args)
    assert "its sha256 is " in release({**args, "version": "1.6.0", "sha256": "0" * 64})["msg"]
    assert installed(args) == ["1.5.10", "current"]


def link(name, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("../../evil", b"x"), *PROGRAMS.items()], "points outside the archive"),
        ([("/etc/evil", b"x"), *PROGRAMS.items()], "points outside the archive"),
        ([("dfdaemon", link("dfdaemon", "/etc/passwd")), ("dfget", b"x")], "not a plain file"),
        ([("dfget", b"x"), ("other/dfget", b"y"), ("dfdaemon", b"x")], "there twice"),
        ([("dfget", b"x")], "does not hold dfdaemon"),
    ],
)
def test_refuses_an_archive_that_is_not_a_release(release, args, tmp_path, entries, message):
    path = tmp_path / "bad.tar.gz"
    args.update(src=str(path), sha256=make_archive(path, entries))
    result = release(args)
    assert result["failed"] and message in result["msg"]
    assert installed(args) == []
    assert not (tmp_path / "evil").exists()


def test_refuses_what_is_no_archive(release, args, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<html>not found</html>")
    result = release({**args, "src": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    assert result["failed"] and "not a tar archive" in result["msg"]


def test_truncated_archive_is_refused_by_name(release, args, tmp_path, flat):
    path = tmp_path / "short.tar.gz"
    path.write_bytes(flat[0].read_bytes()[:60])
    result = release({**args, "src": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    assert result["failed"] and str(path) in result["msg"]
    assert installed(args) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "../up"}, "name '../up'"),
        ({"version": "current"}, "version 'current'"),
        ({"programs": ["bin/dfget"]}, "programs 'bin/dfget'"),
        ({"programs": []}, "programs is empty"),
        ({"keep": -1}, "keep=-1"),
        ({"src": None, "url": "ftp://mirror/x.tar.gz"}, "https, http or file"),
        ({"src": None, "url": "http://[1:2"}, "https, http or file"),
        ({"src": "/nowhere/x.tar.gz"}, "no such file"),
        ({"url": "https://mirror/x.tar.gz"}, "mutually exclusive"),
        ({"src": None}, "one of the following is required"),
    ],
)
def test_bad_input_is_one_sentence(release, args, wrong, message):
    args.update(wrong)
    result = release({key: value for key, value in args.items() if value is not None})
    assert result["failed"] and message in result["msg"]
    assert installed(args) == []


def test_full_disk_is_named_and_leaves_nothing(release, args, monkeypatch):
    release(args)

    def full(self, program, source):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(dragonfly_release.Release, "write_program", full)
    result = release({**args, "version": "1.6.0"})
    assert result["failed"] and "is full" in result["msg"] and args["root"] in result["msg"]
    assert installed(args) == ["1.5.10", "current"]


class Mirror(http.server.BaseHTTPRequestHandler):
    """Answers with the statuses in ``plan``, then with the archive; ``short`` sends only half of it once."""

    def do_GET(self):
        step = self.server.plan.pop(0) if self.server.plan else "ok"
        self.server.seen += 1
        if isinstance(step, int):
            self.send_error(step)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body[: len(self.server.body) // 2] if step == "short" else self.server.body)

    def log_message(self, *_args):
        pass


@pytest.fixture
def mirror(flat, monkeypatch):
    monkeypatch.setattr(_download, "generate_jittered_backoff", lambda retries, **_kwargs: [0] * retries)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.body, server.plan, server.seen = flat[0].read_bytes(), [], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def from_mirror(args, mirror):
    del args["src"]
    return {**args, "url": f"http://user:hush@127.0.0.1:{mirror.server_port}/v1/client.tar.gz?token=hush"}


@pytest.mark.parametrize("plan", [[], [503], ["short", 500, "short"]])
def test_downloads_and_tries_again_when_it_may_help(release, from_mirror, mirror, plan):
    mirror.plan = list(plan)
    assert release(from_mirror)["changed"]
    assert mirror.seen == len(plan) + 1
    assert installed(from_mirror) == ["1.5.10", "current"]


def test_downloads_nothing_when_there_is_nothing_to_do(release, from_mirror, mirror):
    release(from_mirror)
    assert not release(from_mirror)["changed"]
    assert mirror.seen == 1


def test_a_missing_archive_is_not_asked_for_again(release, from_mirror, mirror):
    mirror.plan = [404] * 9
    result = release(from_mirror)
    assert result["failed"] and "404" in result["msg"] and "/v1/client.tar.gz" in result["msg"]
    assert "hush" not in result["msg"]
    assert mirror.seen == 1 and installed(from_mirror) == []


def test_gives_up_with_one_sentence(release, from_mirror, mirror):
    mirror.plan = [503] * 9
    result = release({**from_mirror, "retries": 2})
    assert result["failed"] and "in 3 attempts" in result["msg"] and "503" in result["msg"]
    assert mirror.seen == 3 and installed(from_mirror) == []


def test_refused_connection_is_one_sentence(release, from_mirror, mirror):
    result = release({**from_mirror, "url": "http://127.0.0.1:1/x.tar.gz", "retries": 1})
    assert result["failed"] and "Failed to download http://127.0.0.1:1/x.tar.gz in 2 attempts" in result["msg"]


def test_file_url(release, args, flat, tmp_path):
    del args["src"]
    assert release({**args, "url": f"file://{flat[0]}"})["changed"]
    result = release({**args, "version": "2", "url": f"file://{tmp_path}/none.tar.gz"})
    assert result["failed"] and "none.tar.gz" in result["msg"]
