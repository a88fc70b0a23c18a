# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _dfctl, _fetcher
from ansible_collections.modelfleet.serving.plugins.modules import model_artifact, model_prune
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_dragonfly import FakeDragonfly, bundle, sha256
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_torchserve import FakeTorchServe, description

SHARED = random.Random(1).randbytes(300_000)


@pytest.fixture
def host(tmp_path, monkeypatch):
    fake = FakeDragonfly(tmp_path)
    fake.unpacked = tmp_path / "unpacked"
    fake.unpacked.mkdir()
    monkeypatch.setattr(_fetcher, "time", SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None}))
    # Only the processes of the test: what else runs on this machine may be hidden, or be a TorchServe.
    fake.proc = tmp_path / "proc"
    fake.proc.mkdir()
    monkeypatch.setattr(model_prune, "holders", partial(model_prune.holders, proc=str(fake.proc)))
    for name in "http_proxy", "HTTP_PROXY":
        monkeypatch.delenv(name, raising=False)
    yield fake
    fake.close()


@pytest.fixture
def prune(host, run_module, tmp_path):
    def run(*models, check=False, diff=False, **options):
        args = {key: value for key, value in host.options().items() if key not in ("storage", "curl", "dfdaemon_metrics_url")}
        args.update(dfctl=str(host.dfctl), base_url="http://127.0.0.1:9", key_file=str(tmp_path / "none"), unpack_dir=str(host.unpacked))
        listed = [{key: model[key] for key in ("name", "version", "sha256") if key in model} for model in models]
        return run_module(model_prune.main, {**args, "models": listed, **options}, check=check, diff=diff)

    return run


@pytest.fixture
def bring(host, run_module):
    """Bring artifacts one after the other, each some seconds older than the next."""

    def run(*artifacts):
        for artifact in artifacts:
            assert run_module(model_artifact.main, {**host.options(), "artifacts": [artifact]})["changed"]
        for number, artifact in enumerate(artifacts):
            os.utime(path_of(host, artifact), (1_700_000_000 + number,) * 2)

    return run


def path_of(host, artifact):
    directory = host.models / f"{artifact['name']}-{artifact['version']}-{artifact['sha256'][:12]}"
    return directory if "bundle" in artifact else directory.with_name(directory.name + ".mar")


def llama(host, version, name="llama"):
    """A published bundle: 300 kB that all versions share, 100 kB of its own, and small files in a pack."""
    own = random.Random(f"{name} {version}").randbytes(100_000)
    tree = {"MAR-INF/MANIFEST.json": b"{}", "code/empty.py": b"", "shared.bin": SHARED, "own.bin": own, "run.sh": version.encode()}
    digest = bundle(host, tree, "bundles/llama", executable=["run.sh"])
    return {"name": name, "version": version, "bundle": "bundles/llama", "sha256": digest}


def demo(host, version):
    content = random.Random(f"demo {version}").randbytes(200_000)
    return {"name": "demo", "version": version, "object": f"demo-{version}.mar", "sha256": host.publish(f"demo-{version}.mar", content)}


def record(host, *artifacts, **parts):
    parts = {
        part: [{"name": one["name"], "version": one["version"], "file": path_of(host, one).name} for one in found]
        for part, found in {"models": artifacts, **parts}.items()
    }
    (host.state / "models.json").write_text(json.dumps({"format": 1, **parts}))


def states(result):
    return {f"{one['name']} {one['version']}": one["state"] for one in result["versions"]}


def used(host):
    """Bytes of all files, each inode once."""
    directories = (host.models, host.blobs, host.manifests, host.incoming, host.pieces)
    found = [path.lstat() for top in directories for path in top.rglob("*") if path.is_file() and path.name != ".lock"]
    return sum({status.st_ino: status.st_blocks * 512 for status in found}.values())


def content_of(path):
    return {str(file.relative_to(path)): sha256(file.read_bytes()) for file in [path, *path.rglob("*")] if file.is_file()}


@pytest.fixture
def process(host):
    """Have another process run a Python program until the end of a block."""

    @contextmanager
    def run(program, *arguments, **options):
        ready = "import sys; print('ready', flush=True); sys.stdin.read()"
        command = [sys.executable, "-c", f"{program}\n{ready}", *map(str, arguments)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options) as running:
            assert running.stdout.readline() == "ready\n"
            (host.proc / str(running.pid)).symlink_to(f"/proc/{running.pid}")
            yield running
            running.stdin.close()

    return run


# What the policy keeps


def test_the_previous_version_stays_and_older_ones_go(host, bring, prune):
    versions = [llama(host, version) for version in ("1.0", "2.0", "3.0")]
    bring(*versions)
    before = used(host)
    result = prune(versions[2], diff=True)
    assert result["changed"]
    assert states(result) == {"llama 1.0": "removed", "llama 2.0": "previous", "llama 3.0": "listed"}
    assert not path_of(host, versions[0]).exists()
    assert content_of(path_of(host, versions[1]))["shared.bin"] == sha256(SHARED)
    assert result["freed"] == before - used(host) > 100_000
    assert (result["diff"]["before"].count("\n"), result["diff"]["after"].count("\n")) == (3, 2)
    assert not host.left()
    again = prune(versions[2])
    assert not again["changed"]
    assert again["freed"] == 0
    assert again["before"] == again["after"] == result["after"]


def test_what_came_last_is_the_previous_one_whatever_its_number(host, bring, prune):
    old, new, listed = llama(host, "9.0"), llama(host, "1.0"), llama(host, "10.0")
    bring(old, new, listed)
    assert states(prune(listed)) == {"llama 1.0": "previous", "llama 9.0": "removed", "llama 10.0": "listed"}


def test_each_model_has_a_previous_version(host, bring, prune):
    bring(demo(host, "1"), demo(host, "2"), llama(host, "1"), llama(host, "2", "llama-chat"), llama(host, "1", "llama-chat"))
    assert states(prune(llama(host, "9", "llama-chat"))) == {
        "demo 1": "removed", "demo 2": "previous", "llama 1": "previous", "llama-chat 1": "previous", "llama-chat 2": "removed",
    }  # fmt: skip


def test_pinned_versions_stay(host, bring, prune):
    versions = [llama(host, version) for version in ("1.0", "2.0", "3.0")]
    bring(*versions)
    result = prune(versions[2], keep=0, pinned=[{"name": "llama", "version": "1.0"}, {"name": "lama", "version": "1.0"}])
    assert states(result) == {"llama 1.0": "pinned", "llama 2.0": "removed", "llama 3.0": "listed"}
    assert "The pinned version lama 1.0 is not on this host." in str(result["warnings"])


def test_another_content_of_a_listed_version_is_not_listed(host, bring, prune):
    bring(demo(host, "1"))
    assert states(prune({"name": "demo", "version": "1", "sha256": "0" * 64}, keep=0)) == {"demo 1": "removed"}


def test_every_content_of_a_version_without_sha256_is_listed(host, bring, prune):
    bring(demo(host, "1"))
    assert states(prune({"name": "demo", "version": "1"}, keep=0)) == {"demo 1": "listed"}


def test_other_things_in_the_model_store_stay(host, prune):
    (host.models / "mine.mar").write_bytes(b"x" * 5000)
    result = prune(keep=0)
    assert (result["changed"], result["versions"], result["before"]["models"]) == (False, [], 8192)
    assert (host.models / "mine.mar").exists()


# The limit


def test_previous_versions_go_oldest_first_until_the_limit_is_kept(host, bring, prune):
    versions = [demo(host, "1"), demo(host, "2"), llama(host, "1.0"), llama(host, "2.0")]
    bring(*versions)
    assert states(prune(versions[3], keep=5, check=True)) == {
        "demo 1": "previous", "demo 2": "previous", "llama 1.0": "previous", "llama 2.0": "listed",
    }  # fmt: skip
    result = prune(versions[3], keep=5, limit="800KiB")
    assert states(result) == {"demo 1": "removed", "demo 2": "previous", "llama 1.0": "previous", "llama 2.0": "listed"}
    assert result["after"]["models"] + result["after"]["blobs"] <= 800 << 10


def test_a_limit_that_cannot_be_kept_says_what_takes_the_bytes(host, bring, prune):
    versions = [demo(host, "1"), llama(host, "1.0"), llama(host, "2.0")]
    bring(*versions)
    record(host, versions[1])
    for check in True, False:
        result = prune(versions[2], limit="300KiB", check=check)
        assert result["failed"]
        assert result["msg"].startswith(f"Failed to keep {host.models} within the limit of 300KiB: ")
        assert "llama 1.0 (served, " in result["msg"]
        assert "llama 2.0 (listed, " in result["msg"]
        assert "demo" not in result["msg"]
        assert states(result) == {"demo 1": "removed", "llama 1.0": "served", "llama 2.0": "listed"}
        assert result["changed"]
    assert not path_of(host, versions[0]).exists()


# What is in use


@pytest.mark.parametrize("kind", [llama, demo])
def test_a_served_model_survives_keep_0(host, bring, prune, kind):
    model = kind(host, "1.0")
    bring(model, kind(host, "2.0"))
    record(host, model)
    before = content_of(path_of(host, model))
    assert list(states(prune(keep=0)).values()) == ["served", "removed"]
    assert content_of(path_of(host, model)) == before


@pytest.mark.parametrize("kind", [llama, demo])
def test_what_a_rollout_goes_back_to_or_has_half_way_survives(host, bring, prune, kind):
    versions = [kind(host, version) for version in ("1.0", "2.0", "3.0", "4.0")]
    bring(*versions)
    record(host, versions[1], previous=versions[:1], staged=versions[2:3])
    before = {one["version"]: content_of(path_of(host, one)) for one in versions[:3]}
    assert list(states(prune(keep=0, check=True)).values()) == ["recorded", "served", "recorded", "removed"]
    result = prune(keep=0, limit="1KiB")
    assert list(states(result).values()) == ["recorded", "served", "recorded", "removed"]
    assert "1.0 (recorded, " in result["msg"]
    assert {one["version"]: content_of(path_of(host, one)) for one in versions[:3]} == before


def test_what_only_torchserve_says_it_serves_survives(host, bring, prune, tmp_path):
    server = FakeTorchServe(tmp_path)
    one, other, third = demo(host, "1"), llama(host, "1.0"), llama(host, "2.0")
    bring(one, other, third)
    server.put("demo", description("1", path_of(host, one).name))
    server.put("another", description("7", f"{path_of(host, other)}"))
    try:
        result = prune(keep=0, base_url=server.url, key_file=str(server.key_file))
    finally:
        server.close()
    assert states(result) == {"demo 1": "served", "llama 1.0": "served", "llama 2.0": "removed"}


def test_a_torchserve_that_does_not_answer_has_nothing_removed(host, bring, prune, process):
    bring(demo(host, "1"))
    with process("", model_prune.MODEL_SERVER):
        for check in True, False:
            msg = prune(keep=0, check=check)["msg"]
            assert msg.startswith("Failed to ask TorchServe at http://127.0.0.1:9 what it serves, though ")
            assert "Nothing was removed. " in msg
    assert states(prune(keep=0)) == {"demo 1": "removed"}


def test_a_refusing_torchserve_has_nothing_removed(host, bring, prune, tmp_path):
    bring(demo(host, "1"))
    server = FakeTorchServe(tmp_path)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"management": {"key": "wrong"}}))
    try:
        assert "refused the management key" in prune(keep=0, base_url=server.url, key_file=str(other))["msg"]
    finally:
        server.close()
    assert len(os.listdir(host.models)) == 1


OPEN = "import sys; handle = open(sys.argv[1], 'rb')"
MAPPED = "import mmap, sys; file = open(sys.argv[1], 'rb'); held = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); file.close()"


@pytest.mark.parametrize("program", [OPEN, MAPPED])
def test_what_a_process_has_open_or_mapped_survives(host, bring, prune, program, process):
    """Of two versions with one file in common, only the one by whose name it is used counts."""
    one, other = llama(host, "1.0"), llama(host, "2.0")
    bring(one, other)
    with process(program, path_of(host, one) / "shared.bin") as running:
        result = prune(keep=0)
    assert states(result) == {"llama 1.0": "loaded", "llama 2.0": "removed"}
    assert [bool(found["by"]) for found in result["versions"]] == [True, False]
    assert result["versions"][0]["by"].endswith(f" ({running.pid})")
    assert content_of(path_of(host, one))["own.bin"] == sha256((path_of(host, one) / "own.bin").read_bytes())
    assert states(prune(keep=0)) == {"llama 1.0": "removed"}


@pytest.mark.parametrize("program", [OPEN, MAPPED])
def test_a_file_that_is_used_by_another_name_keeps_all_versions_with_it(host, bring, prune, tmp_path, program, process):
    """As in a container, where it has another path."""
    one, other, third = llama(host, "1.0"), llama(host, "2.0"), demo(host, "1")
    bring(one, other, third)
    elsewhere = tmp_path / "weights"
    os.link(path_of(host, one) / "shared.bin", elsewhere)
    with process(program, elsewhere):
        elsewhere.unlink()
        assert states(prune(keep=0)) == {"demo 1": "removed", "llama 1.0": "loaded", "llama 2.0": "loaded"}


def test_a_blob_that_is_used_survives(host, bring, prune, process):
    one = llama(host, "1.0")
    bring(one)
    with process(OPEN, host.blobs / sha256(SHARED)):
        assert states(prune(keep=0)) == {"llama 1.0": "loaded"}


@pytest.mark.parametrize("how", ["directory", "argument", "environment"])
def test_what_a_process_names_survives(host, bring, prune, how, process):
    one, other = llama(host, "1.0"), llama(host, "2.0")
    bring(one, other)
    path = path_of(host, one)
    arguments = [f"--model={path}"] if how == "argument" else []
    options = {"cwd": path / "code"} if how == "directory" else {}
    if how == "environment":
        options["env"] = {**os.environ, "PYTHONPATH": f"/somewhere:{path}:/else"}
    with process("", *arguments, **options):
        assert states(prune(keep=0)) == {"llama 1.0": "loaded", "llama 2.0": "removed"}


def test_that_dfdaemon_has_its_own_file_open_keeps_nothing(host, bring, prune, process):
    one = demo(host, "1")
    bring(one)
    with process(OPEN, host.piece(f"sha256:{one['sha256']};piece_length=auto")):
        assert states(prune(keep=0)) == {"demo 1": "removed"}


# Real bytes


@pytest.mark.parametrize("kind", [llama, demo])
def test_the_disk_has_all_of_it_again(host, bring, prune, kind):
    empty = used(host)
    bring(kind(host, "1.0"))
    taken = used(host) - empty
    result = prune(keep=0)
    assert used(host) == empty
    assert result["freed"] == taken
    assert result["after"] == dict.fromkeys(result["after"], 0)
    assert not [path for path in host.pieces.rglob("*") if path.is_file()]


def test_check_mode_says_the_same_and_changes_nothing(host, bring, prune):
    versions = [llama(host, version) for version in ("1.0", "2.0", "3.0")]
    bring(*versions, demo(host, "1"), demo(host, "2"))
    before = used(host), sorted(os.listdir(host.models))
    said = prune(versions[2], check=True, diff=True)
    assert (used(host), sorted(os.listdir(host.models))) == before
    assert host.state_of("forgotten") == {}
    done = prune(versions[2], diff=True)
    assert {key: said[key] for key in said if key != "free"} == {key: done[key] for key in done if key != "free"}


def test_bytes_count_once(host, bring, prune):
    one, other = llama(host, "1.0"), llama(host, "2.0")
    bring(one, other)
    result = prune(one, other)
    shared = (path_of(host, one) / "shared.bin").stat().st_blocks * 512
    own = {found["version"]: found["own"] for found in result["versions"]}
    assert result["before"]["shared"] >= shared
    assert result["before"]["models"] == sum(own.values()) + result["before"]["shared"]
    assert [found["bytes"] - found["own"] for found in result["versions"]] == [result["before"]["shared"]] * 2
    assert sum(result["before"][key] for key in ("models", "blobs", "pieces")) == used(host)
    assert result["before"]["pieces"] > 0, "the packs are dfdaemon's alone"


def test_a_file_with_a_name_elsewhere_is_not_counted_as_freed(host, bring, prune, tmp_path):
    one = demo(host, "1")
    bring(one)
    os.link(path_of(host, one), tmp_path / "kept.mar")
    result = prune(keep=0)
    assert (states(result), result["freed"]) == ({"demo 1": "removed"}, 0)
    assert sha256((tmp_path / "kept.mar").read_bytes()) == one["sha256"]


def test_what_dfdaemon_does_not_know_is_removed_and_the_rest_by_dfdaemon(host, bring, prune):
    one, other = demo(host, "1"), demo(host, "2")
    bring(one, other)
    pieces = [host.piece(f"sha256:{model['sha256']};piece_length=auto") for model in (one, other)]
    host.say(orphans=[pieces[0].name])
    prune(keep=0)
    assert host.state_of("forgotten") == [pieces[1].name]
    assert not any(piece.exists() for piece in pieces)


def test_what_dfdaemon_has_for_others_stays(host, bring, prune):
    one, other = llama(host, "1.0"), llama(host, "2.0")
    bring(one, other)
    mine = host.piece(f"sha256:{sha256(SHARED)};piece_length=auto")
    cached = host.piece("another task")
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(b"x" * 5000)
    prune(other, keep=0)
    assert mine.exists() and cached.exists()


def test_an_interrupted_download_keeps_what_it_brought(host, bring, prune, run_module):
    one = llama(host, "1.0")
    host.fault(*[{"message": "no"}] * 2, key="bundles/llama/blobs/" + sha256(random.Random("llama 1.0").randbytes(100_000)))
    assert "Failed to get" in run_module(model_artifact.main, {**host.options(), "artifacts": [one]})["msg"]
    assert (host.blobs / sha256(SHARED)).exists()
    assert not prune(keep=0)["changed"]
    assert (host.blobs / sha256(SHARED)).exists()


# What goes wrong


def test_without_dfdaemon_nothing_is_removed(host, bring, prune):
    bring(demo(host, "1"))
    host.socket.unlink()
    for check in True, False:
        msg = prune(keep=0, check=check)["msg"]
        assert msg.startswith(f"Failed to ask dfdaemon at {host.socket} what it has: Connect Dfdaemon Failed! ")
        assert "Nothing was removed" in msg and "\x1b" not in msg
    assert len(os.listdir(host.models)) == 1


def test_a_task_that_dfdaemon_does_not_drop(host, bring, prune):
    one = demo(host, "1")
    bring(one)
    host.say(rm_fault={"message": "no"})
    result = prune(keep=0)
    assert "Failed to have dfdaemon remove its task " in result["msg"]
    assert (result["changed"], sha256(path_of(host, one).read_bytes())) == (False, one["sha256"])
    # Only the scheduler did not answer.
    host.say(rm_fault={"message": "no", "after": True})
    assert states(prune(keep=0)) == {"demo 1": "removed"}


def test_a_database_that_takes_nothing_is_said(host, bring, prune):
    bring(demo(host, "1"))
    host.say(full=True)
    result = prune(keep=0)
    assert "dfdaemon still says that it has 1 of the tasks that it removed" in str(result["warnings"])
    assert result["freed"] > 0


def test_dfctl_of_the_container(tmp_path):
    calls = []

    class Module:
        params = {"dfctl": "/nowhere", "container": "dfdaemon", "socket": "/run/dragonfly/dfdaemon.sock"}

        def run_command(self, command, **_options):
            calls.append(command)
            return 0, f"{'a' * 64} x\n", ""

    assert _dfctl.Tasks(Module()).known() == {"a" * 64}
    assert calls == [["podman", "exec", "dfdaemon", "dfctl", "task", "ls", "--endpoint=/run/dragonfly/dfdaemon.sock"]]


def test_no_dfctl(host, bring, prune):
    bring(demo(host, "1"))
    host.dfctl.unlink()
    assert prune(keep=0)["msg"].startswith(f"Failed to run {host.dfctl}: No such file or directory. ")


def test_a_damaged_record_has_nothing_removed(host, bring, prune):
    bring(demo(host, "1"))
    (host.state / "models.json").write_text("{")
    assert "Failed to read the record" in prune(keep=0)["msg"]
    assert len(os.listdir(host.models)) == 1


def test_a_damaged_manifest_keeps_nothing_from_going(host, bring, prune):
    one, other = llama(host, "1.0"), llama(host, "2.0")
    bring(one, other)
    for model in one, other:
        path = host.manifests / f"{model['sha256']}.json"
        path.chmod(0o644)
        path.unlink()
        path.write_text("{")
    before = content_of(path_of(host, other))
    assert states(prune(other, keep=0)) == {"llama 1.0": "removed", "llama 2.0": "listed"}
    assert content_of(path_of(host, other)) == before


def failing_after(calls, function):
    """The function as it is on a disk that is full after so many calls."""
    left = iter(range(calls))

    def fail(*args, **kwargs):
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return function(*args, **kwargs)

    return fail


@pytest.mark.parametrize(("function", "stride"), [("unlink", 5), ("rename", 1), ("rmdir", 4)])
def test_an_interruption_leaves_each_version_whole_or_gone(host, bring, prune, monkeypatch, function, stride):
    """At whatever step; the next call does the rest."""
    kept = llama(host, "9.0")
    failures = 0
    for step in range(0, 100, stride):
        gone = [llama(host, "1.0"), llama(host, "2.0"), demo(host, "1")]
        bring(*[model for model in (kept, *gone) if not path_of(host, model).exists()])
        before = {path_of(host, model): content_of(path_of(host, model)) for model in (kept, *gone)}
        patched = failing_after(step, getattr(os, function))
        with monkeypatch.context() as patch:
            patch.setattr(os, function, patched)
            result = prune(kept, keep=0)
        for path, content in before.items():
            assert not path.exists() or content_of(path) == content, (step, path)
        assert path_of(host, kept).exists()
        if not result.get("failed"):
            break
        failures += 1
        assert "the disk is full" in result["msg"]
        assert states(prune(kept, keep=0))["llama 9.0"] == "listed"
        assert os.listdir(host.models) == [path_of(host, kept).name]
        assert not host.left()
    assert failures


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keep": -1}, "Failed to use keep -1: it must not be negative."),
        ({"retry_s": -1}, "Failed to use retry_s -1"),
        ({"limit": "much"}, "Failed to use limit 'much': it is not a size. Give a number with a unit, for example 500GiB."),
        ({"piece_length": "1MiB"}, "Failed to use piece_length '1MiB'"),
        ({"pinned": [{"name": "a/b", "version": "1"}]}, "The name 'a/b' in pinned must be of letters"),
        ({"models": [{"name": "a", "version": "1", "sha256": "x"}]}, "The sha256 of a 1 in models is not 64 hexadecimal digits"),
    ],
)
def test_bad_options(host, prune, options, said):
    assert said in prune(**options)["msg"]


def test_a_host_to_which_nothing_was_brought(host, prune):
    host.manifests.rmdir()
    for check in True, False:
        result = prune(check=check)
        assert (result["changed"], result["versions"]) == (False, [])


def test_what_cannot_be_read(host, bring, prune, monkeypatch):
    bring(demo(host, "1"))

    def broken(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(os, "listdir", broken)
    assert "Input/output error. Check the directory and the disk." in prune(keep=0)["msg"]


def test_processes_that_cannot_be_seen(host, bring, prune, monkeypatch):
    bring(demo(host, "1"))

    def hidden(*args):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/proc/1/fd")

    monkeypatch.setattr(model_prune, "holders", hidden)
    assert "Failed to see what the processes of this host use (/proc/1/fd: Permission denied). Nothing was removed." in prune(keep=0)["msg"]
    assert len(os.listdir(host.models)) == 1


@pytest.mark.parametrize("limit", ["size={}k", "size=1g,nr_inodes={}"])
def test_a_full_disk_is_what_it_frees(small_disk, tmp_path, run_module, monkeypatch, host, limit):
    """Not one byte, and not one name, is left on it."""
    (tmp_path / "full").mkdir()
    full = FakeDragonfly(tmp_path / "full", small_disk("size=1g,nr_inodes=10000"))
    monkeypatch.setattr(_fetcher, "free_bytes", lambda directory: 1 << 40)
    models = [llama(full, "1.0"), llama(full, "2.0"), demo(full, "1")]
    brought = run_module(model_artifact.main, {**full.options(), "artifacts": models})
    assert not brought.get("failed"), brought["msg"]
    (full.blobs / ".lock").write_text("")
    before = content_of(path_of(full, models[1]))
    status = os.statvfs(full.models)
    used_kib = (status.f_blocks - status.f_bfree) * status.f_frsize // 1024
    small_disk(limit.format(used_kib if "nr_inodes" not in limit else status.f_files - status.f_ffree))
    args = {key: value for key, value in full.options().items() if key not in ("storage", "curl", "dfdaemon_metrics_url")}
    args.update(dfctl=str(full.dfctl), base_url="http://127.0.0.1:9", unpack_dir=str(host.unpacked), keep=0)
    result = run_module(model_prune.main, {**args, "models": [{"name": "llama", "version": "2.0"}]})
    full.close()
    assert states(result) == {"demo 1": "removed", "llama 1.0": "removed", "llama 2.0": "listed"}
    assert content_of(path_of(full, models[1])) == before
    assert result["freed"] > 300_000
    now = os.statvfs(full.models)
    assert now.f_bfree * now.f_frsize >= result["freed"]


# What TorchServe unpacked


def test_what_a_torchserve_unpacked_that_runs_no_more(host, prune, process):
    for name in "aaaa", "bbbb":
        (host.unpacked / name).mkdir()
        (host.unpacked / name / "weights.bin").write_bytes(b"x" * 5000)
    with process(OPEN, host.unpacked / "bbbb" / "weights.bin"):
        said = prune(check=True)
        result = prune()
    assert (said["freed"], said["after"]) == (result["freed"], result["after"])
    assert (result["changed"], result["before"]["unpacked"], result["after"]["unpacked"], result["freed"]) == (True, 16384, 8192, 8192)
    assert os.listdir(host.unpacked) == ["bbbb"]


def test_what_a_running_torchserve_unpacked_stays(host, prune, tmp_path):
    (host.unpacked / "aaaa").mkdir()
    server = FakeTorchServe(tmp_path)
    try:
        assert not prune(base_url=server.url, key_file=str(server.key_file))["changed"]
    finally:
        server.close()
    assert os.listdir(host.unpacked) == ["aaaa"]
