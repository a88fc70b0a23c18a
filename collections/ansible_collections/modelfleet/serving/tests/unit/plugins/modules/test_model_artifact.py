# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _artifact, _artifact_bundle, _artifact_store, _fetcher
from ansible_collections.modelfleet.serving.plugins.module_utils._bundle import blob_key, manifest_key
from ansible_collections.modelfleet.serving.plugins.modules import model_artifact
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_dragonfly import DFDAEMON, FakeDragonfly, bundle, mode, sha256

KEY = "models/demo.mar"
CONTENT = b"a model" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()
FILE = f"demo-1.0-{SHA[:12]}.mar"
DEMO = {"name": "demo", "version": "1.0", "object": KEY, "sha256": SHA}
TASK = f"sha256:{SHA};piece_length=auto"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


@pytest.fixture
def host(tmp_path, monkeypatch):
    fake = FakeDragonfly(tmp_path)
    fake.publish(KEY, CONTENT)
    # Their own, for subprocess has that module too.
    monkeypatch.setattr(_fetcher, "time", SimpleNamespace(**vars(time)))
    monkeypatch.setattr(_artifact_store, "time", SimpleNamespace(**vars(time)))
    monkeypatch.setattr(_fetcher.time, "sleep", lambda seconds: None)
    for name in "http_proxy", "HTTP_PROXY":
        monkeypatch.delenv(name, raising=False)
    yield fake
    fake.close()


@pytest.fixture
def apply(host, run_module):
    def run(*artifacts, check=False, diff=False, **options):
        return run_module(model_artifact.main, {**host.options(), "artifacts": list(artifacts), **options}, check=check, diff=diff)

    return run


WEIGHTS = random.Random(1).randbytes(100_000)
TREE = {
    "MAR-INF/MANIFEST.json": b'{"model": {}}',
    "code/handler.py": b"def handle(): pass",
    "code/empty/__init__.py": b"",
    "run.sh": b"#!/bin/sh\n",
    "weights.bin": WEIGHTS,
}


def llama(sha, version="1"):
    return {"name": "llama", "version": version, "bundle": "bundles/demo", "sha256": sha}


def tree(host, sha, version="1"):
    return host.models / f"llama-{version}-{sha[:12]}"


def contents(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


# One file


def test_object_is_fetched_once(host, apply):
    result = apply(DEMO, diff=True)
    assert result["changed"]
    (artifact,) = result["artifacts"]
    assert artifact == {
        "name": "demo", "version": "1.0", "path": str(host.models / FILE), "action": "fetched", "size": len(CONTENT),
        "fetched": len(CONTENT), "bytes": {"origin": 0, "remote_peer": len(CONTENT), "local_peer": 0},
        "seconds": artifact["seconds"], "links": 3,
    }  # fmt: skip
    assert result["bytes"] == artifact["bytes"]
    assert (result["diff"]["before"], result["diff"]["after"]) == ("", FILE + "\n")
    assert (host.models / FILE).read_bytes() == CONTENT
    assert not host.left()
    again = apply(DEMO)
    assert not again["changed"]
    assert again["artifacts"][0] == {**artifact, "action": "unchanged", "fetched": 0, "bytes": {}, "seconds": 0.0}
    assert len(host.calls) == 1


def test_object_is_one_inode_and_nobody_may_write_it(host, apply):
    apply(DEMO)
    names = [host.models / FILE, host.blobs / SHA, host.piece(TASK)]
    assert len({path.stat().st_ino for path in names}) == 1
    assert names[0].stat().st_uid == os.geteuid()
    assert mode(names[0]) == 0o444


def test_task_is_named_as_the_plugin_names_it_and_the_seed_goes_to_the_origin(host, apply):
    apply(DEMO, piece_length="8MiB")
    (call,) = host.calls
    assert call["task"] == f"sha256:{SHA};piece_length=8MiB"
    assert call["piece_length"] == [8 << 20]
    assert call["force_hard_link"] == call["disable_back_to_source"] == [1]


def test_nothing_that_opens_an_object_is_in_arguments_or_environment(host, apply):
    """Everybody on the host may read the arguments, and curl takes headers and proxies from its environment."""
    apply(DEMO)
    (call,) = host.calls
    assert "X-Amz-Signature=" in call["url"]
    assert [word for word in call["arguments"] if "amz" in word.lower() or KEY in word] == []
    assert set(call["environment"]) <= {"PATH", "LC_CTYPE"}  # the second is Python's, which the stand-in is


def test_back_to_source_where_there_is_no_seed(host, apply):
    apply(DEMO, back_to_source=True)
    (call,) = host.calls
    assert call["disable_back_to_source"] == [0]
    assert call["piece_length"] is None


def test_headers_of_a_web_server_go_along(host, apply):
    headers = [{"name": "X-Api-Key", "value": "s3cret"}]
    storage = {"http": {"url": host.url, "headers": headers, "headers_reach_daemon_logs": True, "headers_reach_unverified_server": True}}
    apply(DEMO, storage=storage)
    assert host.calls[0]["headers"] == [["X-Api-Key", "s3cret"]]
    assert host.calls[0]["url"] == f"{host.url}/{KEY}"
    assert host.asked[0][1]["X-Api-Key"] == "s3cret"


def test_check_mode_predicts_and_changes_nothing(host, apply):
    predicted = apply(DEMO, check=True, diff=True)
    assert predicted["changed"]
    assert predicted["artifacts"][0]["action"] == "fetched"
    assert predicted["artifacts"][0]["fetched"] is None
    assert host.calls == []
    assert os.listdir(host.blobs) == os.listdir(host.models) == []
    assert predicted["diff"] == apply(DEMO, diff=True)["diff"]
    assert not apply(DEMO, check=True)["changed"]


def test_check_mode_on_an_empty_host(apply):
    missing = {f"{name}_store": f"/nonexistent/{name}" for name in ("model", "blob", "manifest", "piece")}
    result = apply(DEMO, llama("a" * 64), check=True, incoming="/nonexistent/incoming", record="/nonexistent/record", **missing)
    assert [artifact["action"] for artifact in result["artifacts"]] == ["fetched", "fetched"]


def test_object_that_is_here_as_an_executable_file_of_a_bundle(host, apply):
    sha = bundle(host, {"run": CONTENT}, executable=["run"])
    apply(llama(sha))
    assert apply(DEMO, check=True)["artifacts"][0]["fetched"] == apply(DEMO)["artifacts"][0]["fetched"] == 0
    assert (host.models / FILE).read_bytes() == CONTENT
    assert mode(host.models / FILE) == 0o444
    assert not apply(DEMO)["changed"]


def test_file_that_the_plugin_brought_is_taken_over(host, apply):
    (host.models / FILE).write_bytes(CONTENT)
    result = apply(DEMO)
    assert result["artifacts"][0]["fetched"] == 0
    assert host.calls == []
    assert (host.models / FILE).stat().st_ino == (host.blobs / SHA).stat().st_ino
    assert mode(host.models / FILE) == 0o444
    assert not host.left()


@needs_root
def test_file_that_the_plugin_brought_is_taken_over_as_it_is(host, apply):
    """dfdaemon linked it, so its blob is the same file."""
    (host.models / FILE).write_bytes(CONTENT)
    os.chown(host.models / FILE, DFDAEMON, DFDAEMON)
    inode = (host.models / FILE).stat().st_ino
    apply(DEMO)
    assert (host.models / FILE).stat().st_ino == (host.blobs / SHA).stat().st_ino == inode
    assert not host.left()


def test_file_with_the_name_and_other_content_is_replaced(host, apply):
    (host.models / FILE).write_bytes(b"damaged")
    assert apply(DEMO)["artifacts"][0]["fetched"] == len(CONTENT)
    assert (host.models / FILE).read_bytes() == CONTENT


def test_symbolic_link_with_the_name_is_replaced_and_not_followed(host, apply, tmp_path):
    (tmp_path / "elsewhere").write_bytes(CONTENT)
    (host.models / FILE).symlink_to(tmp_path / "elsewhere")
    apply(DEMO)
    assert not (host.models / FILE).is_symlink()
    assert mode(tmp_path / "elsewhere") & 0o200


# dfdaemon and its own files


@needs_root
def test_dfdaemon_cannot_link_what_is_no_longer_its_own(host, apply):
    """The reason for the next tests: without them a second fetch of one task would end so."""
    if Path("/proc/sys/fs/protected_hardlinks").read_text().strip() != "1":
        pytest.skip("this kernel lets everybody link everything")
    apply(DEMO)
    (host.models / FILE).unlink()
    (host.blobs / SHA).unlink()
    result = apply(DEMO, piece_store=str(host.state))
    assert result["failed"]
    assert "dfdaemon may not link a file in its piece store that is not its own" in result["msg"]


def test_kept_piece_is_linked_without_dfdaemon(host, apply):
    apply(DEMO)
    (host.models / FILE).unlink()
    (host.blobs / SHA).unlink()
    host.socket.unlink()
    result = apply(DEMO)
    assert result["artifacts"][0]["action"] == "fetched"
    assert result["artifacts"][0]["fetched"] == 0
    assert (host.models / FILE).stat().st_ino == host.piece(TASK).stat().st_ino


@needs_root
def test_piece_that_somebody_made_writable_is_linked_all_the_same(host, apply):
    """dfdaemon cannot: it is root's."""
    apply(DEMO)
    (host.models / FILE).unlink()
    (host.blobs / SHA).unlink()
    host.piece(TASK).chmod(0o644)
    assert apply(DEMO)["artifacts"][0]["fetched"] == 0
    assert mode(host.models / FILE) == 0o444


@needs_root
def test_dfdaemon_has_its_file_again_when_no_model_has_it(host, apply):
    apply(DEMO)
    piece, owner = host.piece(TASK), host.pieces.stat().st_uid
    assert piece.stat().st_uid == 0
    apply({**DEMO, "state": "absent"})
    assert (piece.stat().st_uid, mode(piece)) == (owner, 0o640)
    assert apply(DEMO)["artifacts"][0]["bytes"]["local_peer"] == len(CONTENT)


@needs_root
def test_dfdaemon_has_its_file_again_after_a_removal_by_others(host, apply):
    other = {**DEMO, "name": "other", "object": "models/other.mar", "sha256": host.publish("models/other.mar", b"other")}
    apply(DEMO)
    (host.models / FILE).unlink()
    apply(other)
    assert not (host.blobs / SHA).exists()
    assert host.piece(TASK).stat().st_uid == host.pieces.stat().st_uid


@needs_root
def test_no_link_that_dfdaemon_planted_is_followed(host, apply, tmp_path):
    """dfdaemon may write its store: a shelf that leads elsewhere must not give it root's files."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "shadow").write_bytes(b"root")
    (tmp_path / "etc" / "shadow").chmod(0o444)
    shelves = host.pieces / "content" / "tasks"
    shelves.mkdir(parents=True)
    (shelves / "abc").symlink_to(tmp_path / "etc")
    (shelves / "def").mkdir()
    (shelves / "def" / "shadow").symlink_to(tmp_path / "etc" / "shadow")
    apply(DEMO)
    assert (tmp_path / "etc" / "shadow").stat().st_uid == 0


@needs_root
def test_no_link_that_a_runtime_planted_is_followed(host, apply, tmp_path):
    """TorchServe's user owns the model store: a name in it that leads elsewhere must not take root's files there."""
    (tmp_path / "etc").mkdir(mode=0o700)
    sha = bundle(host, TREE)
    tree(host, sha).symlink_to(tmp_path / "etc")
    apply(llama(sha))
    assert not tree(host, sha).is_symlink()
    assert contents(tree(host, sha)) == TREE
    assert os.listdir(tmp_path / "etc") == []
    assert mode(tmp_path / "etc") == 0o700


def test_evicted_piece_leaves_the_model(host, apply):
    apply(DEMO)
    host.piece(TASK).unlink()
    assert not apply(DEMO)["changed"]
    assert (host.blobs / SHA).exists()


# Wrong content


def test_wrong_content_heals_by_another_generation(host, apply):
    host.publish(KEY, b"wrong")
    host.tags[KEY] = {"ETag": 'W/"old-1"'}
    result = apply(DEMO)
    assert result["failed"]
    assert f"the object has the sha256 {sha256(b'wrong')}, but {SHA} was asked for" in result["msg"]
    assert "s3://bucket/models/demo.mar" in result["msg"]
    assert [call["task"] for call in host.calls] == [TASK, f"{TASK};generation=old-1"]
    assert os.listdir(host.models) == []
    assert not host.left()
    host.publish(KEY, CONTENT)
    host.tags[KEY] = {"Last-Modified": "Thu, 26 Nov 2026 02:00:00 GMT"}
    assert apply(DEMO)["artifacts"][0]["action"] == "fetched"
    assert host.calls[-1]["task"] == f"{TASK};generation=Thu26Nov2026020000GMT"


def test_wrong_content_without_a_word_of_the_origin(host, apply):
    host.publish(KEY, b"wrong")
    result = apply(DEMO)
    assert "was asked for. Publish the right file" in result["msg"]
    assert len(host.calls) == 1


# Failures


def unavailable(**more):
    return {"message": "unknown download failed", **more}


def test_passing_failures_are_retried(host, apply, monkeypatch):
    pauses = []
    monkeypatch.setattr(_fetcher.time, "sleep", pauses.append)
    host.fault(
        unavailable(),
        {"curl": 7, "message": "Could not connect"},
        {"curl": 56, "message": "Recv failure: Connection reset by peer"},
        {"status_code": 503, "message": "503 Service Unavailable"},
        {"status_code": 429, "message": "429 Too Many Requests"},
        {"message": "server is overloaded: too many requests, please retry later"},
        unavailable(),
    )
    assert apply(DEMO, retry_s=600)["artifacts"][0]["action"] == "fetched"
    for pause, ceiling in zip(pauses, (1, 2, 4, 8, 15, 15, 15), strict=True):
        assert ceiling / 2 <= pause <= ceiling


def test_retries_end(host, apply, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(_fetcher.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(_fetcher.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    host.fault(*[unavailable()] * 100)
    result = apply(DEMO, retry_s=60)
    assert result["failed"]
    assert "Failed to get s3://bucket/models/demo.mar: dfdaemon says 'unknown download failed'" in result["msg"]
    assert "seed peer" in result["msg"]
    assert 40 < now[0] - 1000 <= 60
    assert result["artifacts"][0]["action"] == "failed"


@pytest.fixture
def long_attempts(monkeypatch):
    """Attempts of 360 s, which is when dfdaemon gives up by itself; returns a list of what is called in each."""
    now, called, real = [1000.0], [], _fetcher.Fetcher._outputs
    monkeypatch.setattr(_fetcher.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(_fetcher.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))

    def output(*args):
        now[0] += 360
        for call in called:
            call()
        return real(*args)

    monkeypatch.setattr(_fetcher.Fetcher, "_outputs", output)
    return called


def test_retries_end_where_attempts_are_long_and_bring_nothing(host, apply, long_attempts):
    host.fault(*[unavailable()] * 20)
    assert "dfdaemon says 'unknown download failed'" in apply(DEMO, retry_s=120)["msg"]
    assert len(host.calls) == 2


def test_retries_go_on_while_something_comes(host, apply, long_attempts):
    piece = host.piece(TASK)
    piece.parent.mkdir(parents=True)

    def grow():
        with piece.open("ab") as handle:
            handle.write(CONTENT[piece.stat().st_size :][:1000])
        os.chown(piece, *(os.stat(host.pieces).st_uid,) * 2)

    long_attempts.append(grow)
    host.fault(*[unavailable()] * 6)
    assert apply(DEMO, retry_s=120)["artifacts"][0]["action"] == "fetched"
    assert (host.models / FILE).read_bytes() == CONTENT


def test_signed_url_that_expires_meanwhile_is_signed_anew(host, apply, long_attempts):
    refused = {"status_code": 403, "message": "403 Forbidden"}
    host.fault(refused)
    assert apply(DEMO, retry_s=600, url_expiry_s=300)["artifacts"][0]["action"] == "fetched"
    (host.blobs / SHA).unlink()
    host.fault(*[refused] * 20)
    other = {**DEMO, "name": "other", "object": "models/other.mar", "sha256": host.publish("models/other.mar", b"other")}
    msg = apply(other, retry_s=600, url_expiry_s=300)["msg"]
    assert "the origin refused with 403 what was signed for 300 s. Have url_expiry_s be longer than a download takes" in msg


def test_signed_url_of_another_host_expires(host, apply, monkeypatch):
    """The seed peer takes the URL of who asks first, so what came before a refusal says that it is no matter of credentials."""
    written = itertools.count()
    monkeypatch.setattr(_artifact.Blobs, "written", lambda *args: next(written))
    host.fault({"status_code": 403, "message": "403 Forbidden"})
    assert apply(DEMO, retry_s=600)["artifacts"][0]["action"] == "fetched"


def test_dfdaemon_that_hangs_is_not_waited_for(host, apply, monkeypatch):
    monkeypatch.setattr(_fetcher, "_LOOK_S", 0.05, raising=False)
    monkeypatch.setattr(_fetcher, "_STALLED_S", 0, raising=False)
    host.curl.write_text("#!/bin/sh\nexec sleep 30\n")
    assert apply(DEMO)["msg"].startswith("Failed to get s3://bucket/models/demo.mar: dfdaemon brought nothing of it for 0 s. Look at")
    assert not host.left()


def test_what_is_set_aside_for_a_file_is_not_written(host):
    piece = host.piece(TASK)
    piece.parent.mkdir(parents=True)
    blobs = _artifact.Blobs(str(host.blobs), str(host.pieces))
    assert blobs.written(TASK) == 0
    with piece.open("wb") as handle:
        os.posix_fallocate(handle.fileno(), 0, 1 << 20)
        handle.seek(1 << 19)
        handle.write(b"x" * (1 << 16))
        handle.flush()
        assert blobs.written(TASK) == 1 << 16


def test_retries_of_many_blobs_end_together(host, apply, monkeypatch):
    """While nothing comes at all, not every blob has the whole time once more."""
    sha = bundle(host, {f"{number}.bin": bytes([number]) * 2000 for number in range(1, 9)})
    apply(llama(sha), check=True)
    now = [1000.0]
    monkeypatch.setattr(_fetcher.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(_fetcher.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    for number in range(1, 9):
        host.fault(*[unavailable()] * 100, key=blob_key("bundles/demo", sha256(bytes([number]) * 2000)))
    assert "Failed to get" in apply(llama(sha), retry_s=60, parallel=1)["msg"]
    assert now[0] - 1000 <= 2 * 60


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"status_code": 404, "message": "404 Not Found"}, "the origin has no such object. Publish it"),
        ({"status_code": 403, "message": "403 Forbidden"}, "the origin refused with 403. Check credentials"),
        ({"status_code": 410, "message": "410 Gone"}, "the origin answered 410"),
        ({"message": "Invalid cross-device link (os error 18)"}, "on one filesystem and, under systemd,"),
        ({"message": "Operation not permitted (os error 1)"}, "is the storage.dir of dfdaemon"),
        ({"message": "Permission denied (os error 13)"}, "may not write in"),
        ({"message": "No space left on device (os error 28)"}, "there is no room for it in the piece store"),
        (
            {"message": "IO error: No space left on device: While appending to file: /p/metadata/4.log"},
            "free now. Free some and run again; if the same is said then, dfdaemon's database has not recovered: restart it",
        ),
        (
            {"message": f"no space left on device: not enough space: content_length={1 << 60}"},
            "free, the object has 1048576.0 TiB, and dfdaemon_disk_budget is what dfdaemon may use",
        ),
    ],
)
def test_failures_that_do_not_pass(host, apply, fault, expected):
    host.fault(fault)
    result = apply(DEMO, retry_s=3600)
    assert result["failed"]
    assert result["msg"].startswith("Failed to get s3://bucket/models/demo.mar: ")
    assert expected in result["msg"]
    assert len(host.calls) == 1
    assert os.listdir(host.models) == []
    assert not host.left()


def test_no_room_is_found_before_dfdaemon_fills_the_disk(host, apply):
    host.sizes[KEY] = 1 << 60
    result = apply(DEMO)
    assert result["msg"].startswith(f"Failed to get s3://bucket/models/demo.mar: the disk of {host.blobs} has ")
    assert "and this needs 1048576.0 TiB with what else is on its way and a reserve. Free some and run again." in result["msg"]
    assert host.calls == []


def test_no_room_for_several_at_once(host, apply, tmp_path, monkeypatch):
    """The first blob comes when room for the second is looked for."""
    sha = bundle(host, {"a.bin": WEIGHTS, "b.bin": WEIGHTS[::-1]})
    looked, go = [], tmp_path / "go"

    def free_bytes(directory):
        looked.append(directory)
        if len(looked) == 3:
            go.touch()
        return (64 << 20) + 150_000

    monkeypatch.setattr(_fetcher, "free_bytes", free_bytes)
    wait = f'while "blobs" in url and not os.path.exists("{go}"):\n    pass\n'
    host.curl.write_text(host.curl.read_text().replace("# It begins.\n", wait, 1))
    assert "and this needs 64.2 MiB with what else" in apply(llama(sha))["msg"]
    assert len([call for call in host.calls if "/blobs/" in call["url"]]) == 1


def test_a_disk_that_somebody_else_filled_meanwhile_is_named(host, apply, monkeypatch):
    """dfdaemon only says that the download failed."""
    free = iter([1 << 30, 5 << 10])
    monkeypatch.setattr(_fetcher, "free_bytes", lambda directory: next(free))
    host.fault({"message": "unknown download failed"})
    assert f"and the disk of {host.pieces} has 5.0 KiB free. Free some and run again; if" in apply(DEMO)["msg"]


def test_what_the_disk_had_no_room_for_gives_back_what_it_took(host, apply):
    """dfdaemon leaves the file, on ext4 with all that was free."""
    piece = host.piece(TASK)
    piece.parent.mkdir(parents=True)
    full = {"message": "No space left on device (os error 28)"}
    for content, kept in (b"", False), (b"a piece", True):
        piece.write_bytes(content)
        os.truncate(piece, 1 << 20)
        host.fault(full)
        assert "there is no room for it in the piece store" in apply(DEMO)["msg"]
        assert piece.exists() == kept


def test_full_budget_of_dfdaemon_passes(host, apply):
    host.fault({"message": "no space left on device: not enough space: content_length=7000"})
    assert apply(DEMO, retry_s=3600)["artifacts"][0]["action"] == "fetched"


@pytest.mark.parametrize(
    "message",
    [
        "error sending request for url (<URL>): operation timed out",
        "builder error X-Amz-Signature=0123abc",
        '{"url":"<URL>"}',
    ],
)
def test_no_error_holds_a_signed_url(host, apply, message):
    host.fault({"message": message})
    result = apply(DEMO)
    assert result["failed"]
    assert "dfdaemon says" in result["msg"]
    for secret in ("Signature", "X-Amz", "AKIDEXAMPLE", "s3cret", "0123abc"):
        assert secret not in json.dumps(result)
    assert result.get("invocation", {}) == {}


def test_stopped_dfdaemon(host, apply):
    host.socket.unlink()
    assert f"dfdaemon does not answer at {host.socket}. See systemctl status dfdaemon" in apply(DEMO)["msg"]


def test_missing_curl(apply):
    assert "Failed to run /nonexistent/curl: No such file or directory. Have one that" in apply(DEMO, curl="/nonexistent/curl")["msg"]


def test_curl_without_http_2(host, apply):
    host.curl.write_text('#!/bin/sh\necho "curl: option --http2-prior-knowledge: the installed libcurl version does not" >&2\nexit 2\n')
    assert f"Failed to run {host.curl}: curl: option --http2-prior-knowledge: the installed" in apply(DEMO, retry_s=3600)["msg"]


def test_call_that_is_broken_off(host, apply):
    host.fault({"curl": 56, "message": "Recv failure: Connection reset by peer"})
    msg = apply(DEMO)["msg"]
    assert "dfdaemon broke it off (curl: (56) Recv failure: Connection reset by peer). See systemctl status dfdaemon" in msg


def test_missing_directory(host, apply):
    host.manifests.rmdir()
    assert f"Failed to use the manifest_store {host.manifests}: there is no such directory." in apply(DEMO)["msg"]


def test_other_filesystem(host, apply):
    if os.stat("/dev/shm").st_dev == host.path.stat().st_dev:
        pytest.skip("one filesystem here")
    result = apply(DEMO, incoming="/dev/shm")
    assert "they are on different filesystems" in result["msg"]
    assert host.calls == []


def test_full_disk_while_writing(host, apply, monkeypatch):
    sha = bundle(host, TREE)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_artifact.os, "fchmod", full)
    result = apply(DEMO, llama(sha))
    assert result["failed"]
    assert f"in {host.blobs}: the disk is full, " in result["msg"]
    assert "nothing was left half done" in result["msg"]
    assert os.listdir(host.models) == []
    assert not host.left()
    monkeypatch.undo()
    assert apply(DEMO, llama(sha))["changed"]


@pytest.mark.parametrize(("limit", "step"), [("size={}k", 20), ("size=1g,nr_inodes={}", 3)])
def test_a_full_disk_at_whatever_step(small_disk, tmp_path, run_module, monkeypatch, limit, step):
    """A disk with more and more room, in bytes and in names: the steps meet its end one after the other, and the next run goes on."""
    monkeypatch.setattr(_fetcher, "free_bytes", lambda directory: 1 << 40)
    said, room = [], 16
    while True:
        (tmp_path / str(room)).mkdir()
        host = FakeDragonfly(tmp_path / str(room), small_disk("size=1g,nr_inodes=10000"))
        models = [{**DEMO, "sha256": host.publish(KEY, CONTENT)}, llama(bundle(host, TREE, executable=["run.sh"]))]
        small_disk(limit.format(room))
        progress = host.models.parent / "progress"
        result = run_module(model_artifact.main, {**host.options(), "artifacts": models, "progress_path": str(progress)})
        paths = host.models / FILE, tree(host, models[1]["sha256"])
        assert not host.left()
        assert not progress.with_name("progress.new").exists()
        assert not paths[0].exists() or paths[0].read_bytes() == CONTENT
        assert not paths[1].exists() or contents(paths[1]) == TREE
        assert all(sha256(path.read_bytes()) == path.name[:64] for path in host.blobs.iterdir() if path.name != ".lock")
        small_disk("size=1g,nr_inodes=10000")
        again = run_module(model_artifact.main, {**host.options(), "artifacts": models})
        assert (again.get("msg"), contents(paths[1]), paths[0].read_bytes()) == (None, TREE, CONTENT)
        host.close()
        for directory in (host.pieces, host.incoming, host.models, host.blobs, host.manifests):
            shutil.rmtree(directory)
        progress.unlink(missing_ok=True)
        if not result.get("failed"):
            break
        said.append(result["msg"])
        assert "the disk is full" in result["msg"] or "there is no room for it in the piece store" in result["msg"]
        room += step
    assert len(said) > 5


def test_one_failure_does_not_keep_the_others(host, apply):
    missing = {"name": "missing", "version": "1", "object": "models/none.mar", "sha256": "0" * 64}
    result = apply(missing, DEMO)
    assert result["failed"]
    assert [artifact["action"] for artifact in result["artifacts"]] == ["failed", "fetched"]
    assert result["changed"]
    assert (host.models / FILE).exists()


@pytest.mark.parametrize("check", [True, False])
def test_manifest_that_cannot_be_read_fails_its_bundle_only(host, apply, monkeypatch, check):
    sha, real = bundle(host, TREE), _artifact_bundle.sha256_of
    apply(llama(sha))

    def sha256_of(path):
        if path.startswith(str(host.manifests)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path)

    monkeypatch.setattr(_artifact_bundle, "sha256_of", sha256_of)
    result = apply(llama(sha), DEMO, check=check)
    assert result["msg"] == f"Failed to write artifact llama 1 in {host.manifests}: Input/output error. Check the directory and the disk."
    assert [artifact["action"] for artifact in result["artifacts"]] == ["failed", "fetched"]
    assert contents(tree(host, sha)) == TREE


def test_unknown_traffic_is_no_failure(apply):
    result = apply(DEMO, dfdaemon_metrics_url="http://127.0.0.1:9/metrics")
    assert result["artifacts"][0]["action"] == "fetched"
    assert result["bytes"] == result["artifacts"][0]["bytes"] == {}
    assert "The bytes by source are unknown" in str(result["warnings"])


def test_traffic_of_several_is_that_of_the_call(host, apply):
    other = {**DEMO, "name": "other", "object": "models/other.mar", "sha256": host.publish("models/other.mar", b"other")}
    result = apply(DEMO, other)
    assert [artifact["bytes"] for artifact in result["artifacts"]] == [{}, {}]
    assert [artifact["fetched"] for artifact in result["artifacts"]] == [len(CONTENT), 5]
    assert result["bytes"]["remote_peer"] == len(CONTENT) + 5


def test_counters_that_began_again():
    before = {"origin": 10, "remote_peer": 5, "local_peer": 0}
    assert model_artifact.difference(before, {"origin": 3, "remote_peer": 9, "local_peer": 0}) == {
        "origin": 3, "remote_peer": 4, "local_peer": 0,
    }  # fmt: skip
    assert model_artifact.difference({}, before) == {}


# Bundles


def test_bundle_becomes_a_tree_of_links(host, apply):
    sha = bundle(host, TREE, executable=["run.sh"])
    result = apply(llama(sha), diff=True)
    (artifact,) = result["artifacts"]
    top = tree(host, sha)
    assert contents(top) == TREE
    assert (artifact["path"], artifact["size"], artifact["links"]) == (str(top), sum(map(len, TREE.values())), 3)
    assert (top / "weights.bin").stat().st_ino == host.piece(f"sha256:{sha256(WEIGHTS)};piece_length=auto").stat().st_ino
    for path in [top, *top.rglob("*")]:
        assert path.stat().st_uid == os.geteuid()
        assert mode(path) == (0o755 if path.is_dir() else 0o555 if path.name == "run.sh" else 0o444)
    # The manifest, the pack of the small files and the weights.
    assert len(host.calls) == 3
    assert not host.left()
    assert result["diff"]["after"] == f"{top.name}\n"
    assert not apply(llama(sha))["changed"]
    assert not apply(llama(sha), check=True)["changed"]


def test_second_version_brings_only_what_is_new(host, apply):
    first = bundle(host, TREE)
    apply(llama(first))
    host.piece(f"sha256:{sha256(WEIGHTS)};piece_length=auto").unlink()
    second = bundle(host, {**TREE, "code/handler.py": b"def handle(): return 1"})
    assert apply(llama(second, "2"), check=True)["artifacts"][0]["fetched"] is None
    result = apply(llama(first), llama(second, "2"))
    assert [artifact["action"] for artifact in result["artifacts"]] == ["unchanged", "fetched"]
    assert result["artifacts"][1]["fetched"] < 3000
    assert (tree(host, first) / "weights.bin").stat().st_ino == (tree(host, second, "2") / "weights.bin").stat().st_ino
    assert contents(tree(host, first)) == TREE


def test_what_two_share_counts_for_the_first_whoever_asked_first(host, apply, monkeypatch):
    """Hosts with one list count alike, or the report would count it for both."""

    class Backwards(model_artifact.ThreadPoolExecutor):
        def map(self, call, items):
            return [call(item) for item in reversed(items)]

    monkeypatch.setattr(model_artifact, "ThreadPoolExecutor", Backwards)
    result = apply(llama(bundle(host, TREE)), llama(bundle(host, {**TREE, "code/handler.py": b"pass"}), "2"))
    first, second = (artifact["fetched"] for artifact in result["artifacts"])
    assert first > len(WEIGHTS) > second > 0
    assert first + second == result["bytes"]["remote_peer"]


def test_check_mode_says_what_is_missing_of_a_known_bundle(host, apply):
    sha = bundle(host, TREE)
    apply(llama(sha))
    (host.blobs / sha256(WEIGHTS)).unlink()
    (tree(host, sha) / "weights.bin").unlink()
    (artifact,) = apply(llama(sha), check=True)["artifacts"]
    assert (artifact["action"], artifact["fetched"]) == ("fetched", len(WEIGHTS))


@pytest.mark.parametrize("damage", ["missing", "surplus", "content", "mode", "directory", "link"])
def test_damaged_tree_is_made_again(host, apply, damage):
    sha = bundle(host, TREE)
    apply(llama(sha))
    top = tree(host, sha)
    handler = top / "code" / "handler.py"
    if damage == "missing":
        handler.unlink()
    elif damage == "surplus":
        (top / "code" / "extra.py").write_bytes(b"")
    elif damage == "content":
        handler.unlink()
        handler.write_bytes(b"DEF handle(): pass")
        handler.chmod(0o444)
    elif damage == "mode":
        (top / "code" / "empty" / "__init__.py").chmod(0o644)
    elif damage == "directory":
        (top / "code").chmod(0o777)
    else:
        handler.unlink()
        handler.symlink_to(host.blobs / sha256(TREE["code/handler.py"]))
    assert apply(llama(sha), check=True)["changed"]
    assert apply(llama(sha))["artifacts"][0]["fetched"] == 0
    assert contents(top) == TREE
    assert not host.left()
    assert not apply(llama(sha))["changed"]


def test_same_content_with_both_modes(host, apply):
    files = {"a": b"#!/bin/sh\n", "b": b"#!/bin/sh\n", "c.bin": WEIGHTS, "d.bin": WEIGHTS}
    sha = bundle(host, files, executable=["b", "d.bin"])
    apply(llama(sha))
    assert contents(tree(host, sha)) == files
    assert [mode(tree(host, sha) / name) for name in sorted(files)] == [0o444, 0o555, 0o444, 0o555]
    assert not apply(llama(sha))["changed"]


def test_executable_weights_are_on_the_disk_once(host, apply):
    sha = bundle(host, TREE, executable=["weights.bin"])
    apply(llama(sha))
    assert sorted(name[64:] for name in os.listdir(host.blobs) if name.startswith(sha256(WEIGHTS))) == ["-x"]
    assert (tree(host, sha) / "weights.bin").stat().st_ino == host.piece(f"sha256:{sha256(WEIGHTS)};piece_length=auto").stat().st_ino


def test_more_names_than_a_file_may_have(host, apply, monkeypatch):
    sha = bundle(host, {**TREE, "weights2.bin": WEIGHTS})
    real = os.link

    def link(source, target, **options):
        if str(target).endswith("weights2.bin"):
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        real(source, target, **options)

    monkeypatch.setattr(_artifact.os, "link", link)
    apply(llama(sha))
    assert (tree(host, sha) / "weights2.bin").read_bytes() == WEIGHTS
    assert mode(tree(host, sha) / "weights2.bin") == 0o444
    assert not apply(llama(sha))["changed"]


def test_interrupted_call_goes_on(host, apply):
    sha = bundle(host, TREE)
    host.fault({"status_code": 403, "message": "403"}, key=blob_key("bundles/demo", sha256(WEIGHTS)))
    assert "refused with 403" in apply(llama(sha))["msg"]
    assert os.listdir(host.models) == []
    before = len(host.calls)
    assert apply(llama(sha))["artifacts"][0]["fetched"] == len(WEIGHTS) + sum(
        len(content) for content in TREE.values() if len(content) < 1000
    )
    assert contents(tree(host, sha)) == TREE
    assert len(host.calls) - before <= 2


def test_calls_for_others_leave_what_an_interrupted_one_brought(host, apply):
    sha = bundle(host, {**TREE, "more.bin": WEIGHTS[::-1]})
    host.fault({"status_code": 403, "message": "403"}, key=blob_key("bundles/demo", sha256(WEIGHTS[::-1])))
    assert "refused with 403" in apply(llama(sha))["msg"]
    apply(DEMO)
    assert (host.blobs / sha256(WEIGHTS)).exists()
    manifest = host.manifests / f"{sha}.json"
    os.utime(manifest, (0, 0))
    apply(DEMO)
    assert not manifest.exists()
    assert sorted(os.listdir(host.blobs)) == [".lock", SHA]


@pytest.mark.parametrize("kind", ["object", "bundle"])
def test_damaged_blob_is_fetched_again(host, apply, kind):
    """A disk that loses bytes takes them from every name of the file, in the piece store too."""
    sha = bundle(host, TREE)
    entry, key = (DEMO, KEY) if kind == "object" else (llama(sha), blob_key("bundles/demo", sha256(WEIGHTS)))
    apply(entry)
    path = host.models / FILE if kind == "object" else tree(host, sha) / "weights.bin"
    content = path.read_bytes()
    path.chmod(0o644)
    with path.open("r+b") as handle:
        handle.write(b"lost")
    path.chmod(0o444)
    path.unlink()
    host.tags[key] = {"ETag": '"1"'}
    assert apply(entry)["artifacts"][0]["action"] == "fetched"
    assert path.read_bytes() == content
    assert mode(path) == 0o444
    assert not apply(entry)["changed"]


def test_what_a_killed_call_left_is_removed(host, apply):
    for directory in (host.incoming, host.blobs):
        (directory / ".artifact-left").write_bytes(b"")
    (host.blobs / ".artifact-tree" / "code").mkdir(parents=True)
    (host.incoming / ".endpoint-1-x").write_bytes(b"of the plugin")
    apply(DEMO)
    assert host.left() == [".endpoint-1-x"]


def test_killed_call_leaves_nothing_under_a_final_name(host, apply, tmp_path):
    """Killed while it waits for dfdaemon, the next call does all of it."""
    sha = bundle(host, TREE)
    real, started = host.curl.read_text(), tmp_path / "started"
    host.curl.write_text(f"#!/bin/sh\ntouch {started}\nexec sleep 3600\n")
    program = "\n".join([
        "import json, sys",
        "from ansible.module_utils.testing import patch_module_args",
        f"from {model_artifact.__name__} import main",
        "with patch_module_args(json.loads(sys.argv[1])):",
        "    main()",
    ])  # fmt: skip
    args = json.dumps({**host.options(), "artifacts": [llama(sha)], "_ansible_check_mode": False})
    process = subprocess.Popen([sys.executable, "-c", program, args], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    while not started.exists():
        assert process.poll() is None
    process.kill()
    process.wait()
    assert os.listdir(host.models) == []
    host.curl.write_text(real)
    assert apply(llama(sha))["artifacts"][0]["action"] == "fetched"
    assert contents(tree(host, sha)) == TREE


def test_two_calls_wait_for_each_other(host, apply, monkeypatch):
    """The second one begins when the first is done."""
    with open(host.blobs / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        waited = []

        def sleep(seconds):
            waited.append(list(host.calls))
            fcntl.flock(handle, fcntl.LOCK_UN)

        monkeypatch.setattr(_artifact_store.time, "sleep", sleep)
        apply(DEMO, retry_s=600)
    assert waited == [[]]
    assert len(host.calls) == 1


def test_call_that_does_not_end_is_named(host, apply):
    apply(DEMO)
    lock = host.blobs / ".lock"
    os.utime(lock, (0, 0))
    with open(lock) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        msg = apply(DEMO)["msg"]
    assert msg.startswith(f"Failed to lock {lock}: another call of this module works on this host since 1970-01-01 00:00:00 UTC, as the ")
    assert msg.endswith(f" process {os.getpid()}. Let it end, or end it, and run again.")


def test_wrong_file_in_a_pack(host, apply):
    sha = bundle(host, TREE)
    manifest = json.loads((host.origin / manifest_key("bundles/demo", sha)).read_bytes())
    pack = manifest["packs"][0]["sha256"]
    content = (host.origin / blob_key("bundles/demo", pack)).read_bytes()
    changed = content.replace(b"handle", b"HANDLE")
    text = json.dumps(manifest, separators=(",", ":"), sort_keys=True).replace(pack, sha256(changed)).encode()
    host.publish(blob_key("bundles/demo", sha256(changed)), changed)
    sha = host.publish(manifest_key("bundles/demo", sha256(text)), text)
    result = apply(llama(sha))
    assert "Failed to take code/handler.py out of the pack" in result["msg"]
    assert os.listdir(host.models) == []
    assert not host.left()


def test_manifest_that_is_none(host, apply):
    sha = host.publish(manifest_key("bundles/demo", sha256(b'{"format": 1}')), b'{"format": 1}')
    result = apply(llama(sha))
    assert f"Failed to read the manifest bundles/demo/manifests/{sha}.json: " in result["msg"]
    assert os.listdir(host.manifests) == os.listdir(host.models) == []


def test_bundle_that_is_not_there(host, apply):
    result = apply(llama("0" * 64))
    assert "the origin has no such object" in result["msg"]
    assert "A bundle has its manifest there; what is one file has the key object." in result["msg"]


def test_progress_can_be_read(host, apply, tmp_path):
    sha = bundle(host, TREE)
    progress = tmp_path / "progress.json"
    result = apply(DEMO, llama(sha), progress_path=str(progress))
    shown = json.loads(progress.read_text())
    assert [(one["name"], one["state"], one["size"]) for one in shown["artifacts"]] == [
        ("demo", "fetched", len(CONTENT)), ("llama", "fetched", sum(map(len, TREE.values()))),
    ]  # fmt: skip
    assert shown["bytes"] == result["bytes"]
    assert mode(progress) == 0o644


def test_bytes_by_source_over_time(host, apply):
    result = apply(DEMO)
    assert result["samples"][-1].pop("seconds") >= result["samples"][0].pop("seconds") >= 0
    assert result["samples"][0] == dict.fromkeys(result["bytes"], 0) and result["samples"][-1] == result["bytes"]
    assert sum(result["bytes"].values()) > 0
    assert apply(DEMO)["samples"] == []


def test_as_many_samples_however_long_it_takes():
    progress = model_artifact.Progress({}, None, [], [], {})
    for second in range(4000):
        progress._keep({"seconds": second}, last=False)
    progress._keep({"seconds": 4000.5}, last=True)
    seconds = [one["seconds"] for one in progress.samples]
    assert seconds[0] == 0 and seconds[-1] == 4000.5
    assert 30 <= len(seconds) <= model_artifact.MOST_SAMPLES
    assert len({after - before for before, after in zip(seconds[:-2], seconds[1:-1])}) == 1, "evenly spread"


def test_progress_while_it_runs(host, apply, tmp_path, monkeypatch):
    progress = tmp_path / "progress.json"
    seen = []
    monkeypatch.setattr(_fetcher.time, "sleep", lambda seconds: seen.append(json.loads(progress.read_text())))
    host.fault(unavailable())
    apply(DEMO, progress_path=str(progress), retry_s=100)
    assert seen[0]["artifacts"] == [{"name": "demo", "version": "1.0", "state": "fetching", "size": None, "fetched": 0}]


def test_parallel_is_the_limit(host, apply, tmp_path):
    """Each stand-in notes when it begins and when it ends; the first blob waits for a second one."""
    notes = tmp_path / "notes"
    begin = f"""import atexit
notes = open("{notes}", "a", 1)
notes.write("1\\n")
atexit.register(notes.write, "-1\\n")
while "blobs" in url and len(open("{notes}").read().split()) < 4:
    pass
"""
    host.curl.write_text(host.curl.read_text().replace("# It begins.\n", begin, 1))
    files = {f"{number}.bin": bytes([number]) * 2000 for number in range(1, 9)}
    apply(llama(bundle(host, files)), parallel=2)
    assert max(itertools.accumulate(map(int, notes.read_text().split()))) == 2


def test_files_that_end_while_others_look_for_room(host, apply, monkeypatch):
    allocated = _artifact.Blobs.allocated

    def slow(blobs, task):
        time.sleep(0.02)
        return allocated(blobs, task)

    monkeypatch.setattr(_artifact.Blobs, "allocated", slow)
    files = {f"{number}.bin": bytes([number]) * 2000 for number in range(1, 9)}
    assert apply(llama(bundle(host, files)), parallel=8)["changed"]


# Absent


def test_absent_removes_what_no_other_needs(host, apply):
    first, second = bundle(host, TREE), bundle(host, {**TREE, "code/handler.py": b"def handle(): return 1"})
    apply(llama(first), llama(second, "2"), DEMO)
    gone = {**llama(first), "state": "absent"}
    predicted = apply(gone, check=True, diff=True)
    assert tree(host, first).exists()
    result = apply(gone, diff=True)
    assert predicted["diff"] == result["diff"]
    assert result["artifacts"][0]["action"] == predicted["artifacts"][0]["action"] == "removed"
    assert result["artifacts"][0]["path"] == str(tree(host, first))
    assert not tree(host, first).exists()
    assert os.listdir(host.manifests) == [f"{second}.json"]
    assert not (host.blobs / sha256(TREE["code/handler.py"])).exists()
    assert contents(tree(host, second, "2"))["weights.bin"] == WEIGHTS
    assert (host.blobs / sha256(WEIGHTS)).exists()
    assert not apply(gone)["changed"]
    apply({**llama(second, "2"), "state": "absent"}, {**DEMO, "state": "absent"})
    assert os.listdir(host.models) == os.listdir(host.manifests) == []
    assert os.listdir(host.blobs) == [".lock"]


def test_what_is_only_swept_is_a_change(host, apply):
    other = {**DEMO, "name": "other", "object": "models/other.mar", "sha256": host.publish("models/other.mar", b"other")}
    apply(DEMO, other)
    (host.models / FILE).unlink()
    assert apply(other, check=True)["changed"]
    assert (host.blobs / SHA).exists()
    assert apply(other)["changed"]
    assert not (host.blobs / SHA).exists()
    assert not apply(other)["changed"] and not apply(other, check=True)["changed"]


def test_absent_without_sha256(host, apply):
    other = b"other"
    apply({**DEMO, "object": "models/other.mar", "sha256": host.publish("models/other.mar", other)})
    apply(DEMO)
    apply({**DEMO, "version": "1.0.1"})
    apply({"name": "demo", "version": "1.0", "state": "absent"})
    assert os.listdir(host.models) == [f"demo-1.0.1-{SHA[:12]}.mar"]
    assert (host.blobs / SHA).exists()


def test_absent_keeps_what_another_entry_has(host, apply):
    """demo 1.0-rc and demo-1.0 rc have the same file."""
    apply({**DEMO, "version": "1.0-rc"})
    apply({**DEMO, "name": "demo-1.0", "version": "rc"}, {"name": "demo", "version": "1.0-rc", "state": "absent"})
    assert os.listdir(host.models) == [f"demo-1.0-rc-{SHA[:12]}.mar"]


@pytest.mark.parametrize("check", [True, False])
def test_absent_where_nothing_was_ever_brought(host, apply, check):
    """A host that an older release prepared has no directory for blobs."""
    host.blobs.rmdir()
    host.manifests.rmdir()
    result = apply({**DEMO, "state": "absent"}, check=check)
    assert (result["changed"], result["artifacts"][0]["action"]) == (False, "unchanged")


def test_served_is_never_removed(host, apply):
    apply(DEMO)
    entry = {"name": "demo", "version": "1.0", "file": FILE, "sha256": SHA, "workers": 1, "default": True, "params": {}}
    (host.state / "models.json").write_text(json.dumps({"format": 1, "models": [entry]}))
    other = {**DEMO, "name": "other"}
    for check in (True, False):
        result = apply({**DEMO, "state": "absent"}, other, check=check)
        assert result["msg"].startswith(f"Refused to remove the artifact demo 1.0: this host serves {host.models / FILE}")
        assert "make the model absent first" in result["msg"]
    assert os.listdir(host.models) == [FILE]
    for part in "previous", "staged":
        (host.state / "models.json").write_text(json.dumps({"format": 1, "models": [], part: [entry]}))
        assert f"a rollout or the way back from one needs {host.models / FILE}" in apply({**DEMO, "state": "absent"})["msg"]
    (host.state / "models.json").write_text("damaged")
    assert "it is damaged" in apply({**DEMO, "state": "absent"})["msg"]
    assert os.listdir(host.models) == [FILE]


# Bad input


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"sha256": None}, "The artifact demo 1.0 has no sha256."),
        ({"sha256": "abc"}, "The sha256 of the artifact demo 1.0 is not 64 hexadecimal digits."),
        ({"object": None}, "The artifact demo 1.0 has neither object, bundle nor huggingface."),
        ({"bundle": "bundles/demo"}, "The artifact demo 1.0 has object and bundle."),
        ({"object": "../x"}, "Failed to use the object '../x' of the artifact demo 1.0: leave out outer and double slashes"),
        ({"object": "b/manifests/" + "0" * 64 + ".json"}, "it is the manifest of a bundle, so give bundle: b instead"),
        ({"object": None, "bundle": "models/demo.mar"}, "a .mar is one object; give its key as object"),
        ({"object": None, "bundle": "bundles//demo"}, "leave out outer and double slashes"),
        ({"name": "../demo"}, "The name '../demo' of an artifact must be of letters"),
        ({"version": ""}, "The version '' of an artifact must be of letters"),
    ],
)
def test_bad_entry(host, apply, change, expected):
    assert expected in apply({**DEMO, "name": "good"}, {**DEMO, **change})["msg"]
    assert host.calls == []
    assert os.listdir(host.models) == []


def test_two_of_one_name(host, apply):
    assert "The list names the artifact demo 1.0 twice." in apply(DEMO, {**DEMO, "sha256": "0" * 64})["msg"]
    assert host.calls == []


def test_kind_that_does_not_exist(apply):
    assert "Unsupported parameters" in apply({**DEMO, "torrent": "x"})["msg"]


@pytest.mark.parametrize("option", [{"piece_length": "1MiB"}, {"parallel": 0}, {"retry_s": -1}, {"url_expiry_s": 1}])
def test_bad_option(host, apply, option):
    ((name, value),) = option.items()
    assert f"Failed to use {name} {value!r}" in apply(DEMO, **option)["msg"]
    assert host.calls == []


def test_sha256_in_capitals(apply):
    apply(DEMO)
    assert not apply({**DEMO, "sha256": SHA.upper()})["changed"]


def test_nothing_that_others_may_write_is_left_open(host, apply):
    apply(DEMO)
    assert stat.S_IMODE(os.stat(host.blobs / ".lock").st_mode) == 0o600
