# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What prune does with the commits of a hub's repositories."""

from __future__ import annotations

import errno
import grp
import json
import os
import random
import subprocess
import sys
from functools import partial

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import model_artifact, model_prune
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_dragonfly import FakeDragonfly, sha256
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_hub import FakeHub, git_sha1, inventory

REPO = "org/bert"
GROUP = grp.getgrgid(os.getegid()).gr_name
SHARED = random.Random(1).randbytes(200_000)


@pytest.fixture
def host(tmp_path, monkeypatch):
    fake = FakeDragonfly(tmp_path)
    fake.home = tmp_path / "huggingface"
    fake.home.mkdir()
    fake.proc = tmp_path / "proc"
    fake.proc.mkdir()
    monkeypatch.setattr(model_prune, "holders", partial(model_prune.holders, proc=str(fake.proc)))
    for name in "http_proxy", "HTTP_PROXY":
        monkeypatch.delenv(name, raising=False)
    yield fake
    fake.close()


@pytest.fixture
def hub(host):
    fake = FakeHub(host)
    yield fake
    fake.close()


def model(hub, version, repo=REPO, ref="main", **more):
    """A commit with 200 kB that all have, 100 kB of its own, and two small files, of which one is its own."""
    own = random.Random(f"{repo} {version}").randbytes(100_000)
    files = {"shared.safetensors": SHARED, "onnx/own.onnx": own, "README.md": b"a model", "config.json": version.encode()}
    commit = hub.commit(repo, files)
    source = {"repo": repo, "revision": commit, "files": hub.listing(repo, commit), "group": GROUP, "ref": ref, **more}
    return {"name": repo.rpartition("/")[2], "version": version, "huggingface": source}


@pytest.fixture
def bring(host, hub, run_module):
    def run(*models, **options):
        artifacts, pins = inventory(models)
        args = {**host.options(), "artifacts": artifacts, "huggingface_pins": pins, "huggingface_home": str(host.home)}
        args["huggingface"] = {"endpoint": [hub.url], "token_endpoint": [hub.url]}
        result = run_module(model_artifact.main, {**args, "huggingface_decisions": str(host.state / "huggingface.json"), **options})
        assert not result.get("failed"), result["msg"]

    return run


@pytest.fixture
def prune(host, run_module, tmp_path):
    def run(*models, check=False, diff=False, **options):
        args = {key: value for key, value in host.options().items() if key not in ("storage", "curl", "dfdaemon_metrics_url")}
        args.update(
            dfctl=str(host.dfctl), base_url="http://127.0.0.1:9", key_file=str(tmp_path / "none"), unpack_dir=str(tmp_path / "none")
        )
        listed, pins = inventory(models)
        args.update(models=listed, huggingface_pins=pins, huggingface_home=str(host.home), keep=0)
        return run_module(model_prune.main, {**args, **options}, check=check, diff=diff)

    return run


def folder(host, repo=REPO):
    return host.home / GROUP / "hub" / ("models--" + repo.replace("/", "--"))


def snapshot(host, one):
    return folder(host, one["huggingface"]["repo"]) / "snapshots" / one["huggingface"]["revision"]


def contents(host, one):
    return {str(path.relative_to(snapshot(host, one))): path.read_bytes() for path in snapshot(host, one).rglob("*") if path.is_file()}


def states(result, *models):
    """The states of these, which are all that there are."""
    found = {one["path"]: one["state"] for one in result["versions"]}
    assert len(found) == len(models)
    return [found[str(snapshot_path)] for snapshot_path in models]


def used(host):
    """Bytes of all files, each inode once."""
    directories = (host.models, host.blobs, host.manifests, host.incoming, host.pieces, host.home)
    paths = [path for top in directories for path in top.rglob("*") if path.name != ".lock"]
    found = [path.lstat() for path in paths if path.is_file() and not path.is_symlink()]
    return sum({status.st_ino: status.st_blocks * 512 for status in found}.values())


def said_and_done(prune, *models, **options):
    """What it does, which it has to say before."""
    said = prune(*models, check=True, diff=True, **options)
    done = prune(*models, diff=True, **options)
    assert {key: said[key] for key in said if key != "free"} == {key: done[key] for key in done if key != "free"}
    again = prune(*models, **options)
    assert not again["changed"]
    assert again["before"] == again["after"] == done["after"]
    return done


def test_commit_that_a_server_serves_or_goes_back_to_stays(host, hub, bring, prune):
    one, two, three = (model(hub, version, ref="") for version in ("1", "2", "3"))
    bring(one, two, three)
    entry = {"name": "bert", "kind": "huggingface", "runtime": "openai"}
    sources = [{key: known["huggingface"][key] for key in ("repo", "revision", "group")} for known in (one, two)]
    recorded = [{**entry, "version": str(number), "file": source["revision"], "params": source} for number, source in enumerate(sources, 1)]
    (host.state / "models.json").write_text(json.dumps({"format": 1, "models": recorded[:1], "previous": recorded[1:]}))
    result = prune()
    assert states(result, *(snapshot(host, version) for version in (one, two, three))) == ["served", "recorded", "removed"]
    assert contents(host, one) and contents(host, two) and not snapshot(host, three).exists()


def test_commit_that_nobody_lists_goes_with_what_only_that_has(host, hub, bring, prune):
    old, new = model(hub, "1", ref=""), model(hub, "2")
    bring(old, new)
    before, kept = used(host), contents(host, new)
    result = said_and_done(prune, new)
    assert states(result, snapshot(host, old), snapshot(host, new)) == ["removed", "listed"]
    named = {(one["name"], one["version"]) for one in result["versions"]}
    assert named == {(f"{GROUP}:{REPO}", one["huggingface"]["revision"][:12]) for one in (old, new)}
    assert f"{snapshot(host, old)}\n" in result["diff"]["before"]
    assert result["diff"]["after"] == f"{snapshot(host, new)}\n"
    assert not snapshot(host, old).exists()
    assert contents(host, new) == kept
    # The large file, with its piece, and the small one.
    assert result["freed"] == before - used(host) == 102_400 + 4096
    assert not host.piece(f"sha256:{sha256(random.Random(f'{REPO} 1').randbytes(100_000))};piece_length=auto").exists()
    assert os.path.samefile(folder(host) / "blobs" / sha256(SHARED), host.blobs / sha256(SHARED))
    assert len(host.state_of("forgotten")) == 1


def test_repository_that_nobody_lists_goes_in_every_group(host, hub, bring, prune):
    other = host.home / "tenant" / "hub" / "models--org--gpt"
    one, two = model(hub, "1"), model(hub, "1", "org/gpt")
    bring(one, two)
    # Of a group that this host has no more.
    other.parent.mkdir(parents=True)
    folder(host, "org/gpt").rename(other)
    (other / "trees").mkdir()
    (other / "trees" / "x.json").write_text("{}")
    gone = other / "snapshots" / two["huggingface"]["revision"]
    result = said_and_done(prune, one)
    assert states(result, snapshot(host, one), gone) == ["listed", "removed"]
    assert not other.exists()
    assert set(contents(host, one)) == {"shared.safetensors", "onnx/own.onnx", "README.md", "config.json"}
    assert said_and_done(prune)["changed"]
    assert not folder(host).exists()
    assert os.listdir(host.blobs) == [".lock"]
    assert not [path for path in host.pieces.rglob("*") if path.is_file()]


def test_bytes_count_once(host, hub, bring, prune):
    one, two, three = model(hub, "1", ref=""), model(hub, "2"), model(hub, "1", "org/gpt")
    bring(one, two, three)
    result = prune(one, two, three)
    assert not result["changed"]
    assert sum(result["before"][key] for key in ("models", "blobs", "pieces")) == used(host)
    assert result["before"]["blobs"] == result["before"]["pieces"] == 0
    # What three have; two of one repository share a small file too.
    assert result["before"]["shared"] == 200_704 + 4096
    assert {found["own"] for found in result["versions"]} == {102_400 + 4096, 102_400 + 2 * 4096}


def test_entry_of_another_group_keeps_nothing(host, hub, bring, prune):
    one = model(hub, "1")
    bring(one)
    assert states(prune(model(hub, "1", group="other")), snapshot(host, one)) == ["removed"]


def test_neither_keep_nor_pinned_is_for_commits(host, hub, bring, prune):
    one = model(hub, "1")
    bring(one)
    result = prune(keep=5, pinned=[{"name": "bert", "version": "1"}], check=True)
    assert states(result, snapshot(host, one)) == ["removed"]


def test_limit_counts_them(host, hub, bring, prune):
    one = model(hub, "1")
    bring(one)
    result = prune(one, limit="100KiB")
    assert "Failed to keep" in result["msg"]
    assert f"{GROUP}:{REPO} {one['huggingface']['revision'][:12]} (listed, " in result["msg"]
    assert len(contents(host, one)) == 4


@pytest.mark.parametrize("how", ["file", "commit", "repository"])
def test_what_a_process_uses_stays(host, hub, bring, prune, how):
    old, new = model(hub, "1", ref=""), model(hub, "2")
    bring(old, new)
    using = new if how == "repository" else old
    words = {"file": "", "commit": old["huggingface"]["revision"], "repository": REPO}
    program = "import sys; handle = open(sys.argv[1], 'rb'); print('ready', flush=True); sys.stdin.read()"
    opened = snapshot(host, old) / "onnx/own.onnx" if how == "file" else os.devnull
    command = [sys.executable, "-c", program, str(opened), f"--model={words[how]}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline() == "ready\n"
        (host.proc / str(running.pid)).symlink_to(f"/proc/{running.pid}")
        result = prune()
        running.stdin.close()
    expected = ["removed", "loaded"] if using is new else ["loaded", "removed"]
    assert states(result, snapshot(host, old), snapshot(host, new)) == expected
    assert {one["by"].endswith(f" ({running.pid})") for one in result["versions"] if one["state"] == "loaded"} == {True}
    assert len(contents(host, using)) == 4


def test_download_that_was_interrupted_keeps_what_it_brought(host, hub, bring, prune):
    one, other = model(hub, "1", ref=""), model(hub, "2")
    bring(one, other)
    # As a call leaves it that ended before the snapshot was made.
    subprocess.run(["rm", "-r", snapshot(host, one)], check=True)
    for path in folder(host).joinpath("blobs").iterdir():
        if len(path.name) == 64 and path.name != sha256(SHARED):
            path.unlink()
    assert not prune(one, other, check=True)["changed"]
    assert said_and_done(prune, one)["changed"]
    assert (host.blobs / sha256(random.Random(f"{REPO} 1").randbytes(100_000))).exists()
    assert (folder(host) / "blobs" / git_sha1(b"1")).exists()
    assert not (folder(host) / "blobs" / git_sha1(b"2")).exists()
    hub.asked.clear()
    bring(one)
    assert [path for method, path, _token in hub.asked if method == "GET"] == []
    assert len(contents(host, one)) == 4


def test_file_with_a_name_elsewhere_is_not_counted_as_freed(host, hub, bring, prune, tmp_path):
    one = model(hub, "1")
    bring(one)
    for number, path in enumerate((folder(host) / "blobs").iterdir()):
        os.link(path, tmp_path / f"kept-{number}")
    result = said_and_done(prune)
    # The ref is all that had no other name.
    assert result["freed"] == 4096
    assert not folder(host).exists()
    assert (tmp_path / "kept-0").stat().st_size > 0


def test_what_a_consumer_left_there_as_root_goes_with_the_repository(host, hub, bring, prune):
    one = model(hub, "1")
    bring(one)
    top = folder(host)
    (top / "blobs" / "half.incomplete").write_bytes(b"x" * 5000)
    (top / "blobs" / "odd").mkdir()
    (top / ".no_exist" / one["huggingface"]["revision"]).mkdir(parents=True)
    (top / ".no_exist" / one["huggingface"]["revision"] / "adapter.json").write_text("")
    (host.home / GROUP / "hub" / ".locks" / "models--org--bert").mkdir(parents=True)
    (host.home / GROUP / "hub" / "version.txt").write_text("1")
    (host.home / GROUP / "hub" / "datasets--org--words").mkdir()
    (top / "refs" / "dev").write_text("f" * 40)
    result = said_and_done(prune, one)
    assert result["freed"] == 8192 + 4096
    assert sorted(os.listdir(top / "refs")) == ["main"]
    assert len(os.listdir(top / "blobs")) == 4
    said_and_done(prune)
    assert sorted(os.listdir(host.home / GROUP / "hub")) == [".locks", "datasets--org--words", "version.txt"]


@pytest.mark.parametrize("where", ["group", "cache", "repository", "snapshots"])
def test_nothing_is_removed_behind_a_link(host, hub, bring, prune, tmp_path, where):
    one = model(hub, "1")
    bring(one)
    path = {"group": host.home / GROUP, "cache": folder(host).parent, "repository": folder(host), "snapshots": folder(host) / "snapshots"}[
        where
    ]
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    result = prune()
    assert result["versions"] == []
    assert len([name for _top, _directories, names in os.walk(tmp_path / "elsewhere") for name in names]) >= 4


@pytest.mark.parametrize(("function", "stride"), [("unlink", 3), ("rename", 1), ("rmdir", 2)])
def test_interruption_leaves_each_commit_whole_or_gone(host, hub, bring, prune, monkeypatch, function, stride):
    kept = model(hub, "9", ref="")
    gone = [model(hub, "1", ref=""), model(hub, "1", "org/gpt")]
    failures = 0
    for step in range(0, 100, stride):
        bring(kept, *gone)
        before = {snapshot(host, one): contents(host, one) for one in (kept, *gone)}
        left, real = iter(range(step)), getattr(os, function)

        def fail(*args, left=left, real=real, **kwargs):
            if next(left, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(os, function, fail)
            result = prune(kept)
        for one in (kept, *gone):
            assert not snapshot(host, one).exists() or contents(host, one) == before[snapshot(host, one)], step
        assert contents(host, kept) == before[snapshot(host, kept)]
        if not result.get("failed"):
            break
        failures += 1
        assert "the disk is full" in result["msg"]
        assert not prune(kept).get("failed")
        assert [path.name for path in folder(host).parent.iterdir()] == ["models--org--bert"]
        assert len(os.listdir(folder(host) / "blobs")) == 4
        assert not host.left()
    assert failures


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"revision": "main"}, "Failed to use the huggingface of bert 1 in models: the revision 'main' of org/bert is no commit of 40"),
        ({"files": {}}, "Failed to use the huggingface of bert 1 in models: the lock has no files of org/bert at "),
        ({"group": "../x"}, "can be none of this system"),
    ],
)
def test_mistakes_have_nothing_removed(host, hub, bring, prune, change, said):
    one = model(hub, "1")
    bring(one)
    wrong = {**one, "huggingface": {**one["huggingface"], **change}}
    assert said in prune(wrong)["msg"]
    assert len(contents(host, one)) == 4
