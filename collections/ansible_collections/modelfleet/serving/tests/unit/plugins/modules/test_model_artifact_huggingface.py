# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import grp
import io
import json
import os
import random
import re
import threading
import time
import zipfile
from types import SimpleNamespace

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _artifact_huggingface, _fetcher, _huggingface, _huggingface_pack
from ansible_collections.modelfleet.serving.plugins.modules import model_artifact
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_dragonfly import FakeDragonfly, mode, sha256
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_hub import FakeHub, git_sha1

REPO = "org/bert"
GROUP = grp.getgrgid(os.getegid()).gr_name
WEIGHTS = random.Random(1).randbytes(100_000)
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": WEIGHTS,
    "onnx/model.onnx": random.Random(2).randbytes(5_000),
    "onnx/empty.txt": b"",
    "README.md": b"a model",
}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


@pytest.fixture
def host(tmp_path, monkeypatch):
    fake = FakeDragonfly(tmp_path)
    for module in (_fetcher, _huggingface):
        monkeypatch.setattr(module, "time", SimpleNamespace(**vars(time)))
        monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    for name in "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY":
        monkeypatch.delenv(name, raising=False)
    fake.home = tmp_path / "huggingface"
    fake.home.mkdir()
    yield fake
    fake.close()


@pytest.fixture
def hub(host):
    fake = FakeHub(host)
    yield fake
    fake.close()


@pytest.fixture
def mirror(host):
    fake = FakeHub(host)
    yield fake
    fake.close()


@pytest.fixture
def apply(host, hub, run_module):
    def run(*artifacts, check=False, diff=False, token=None, endpoint=None, token_endpoint=None, **options):
        pins, artifacts = {}, [dict(artifact) for artifact in artifacts]
        for artifact in artifacts:
            source = artifact["huggingface"] = dict(artifact["huggingface"])
            pins[f"{source['repo']}@{source['revision']}"] = {"files": source.pop("files")}
        source = {"endpoint": endpoint or [hub.url], "token": token, "token_endpoint": token_endpoint or [hub.url]}
        args = {
            **host.options(),
            "artifacts": artifacts,
            "huggingface": source,
            "huggingface_pins": pins,
            "huggingface_home": str(host.home),
            "huggingface_decisions": str(host.state / "huggingface.json"),
            **options,
        }
        result = run_module(model_artifact.main, args, check=check, diff=diff)
        for secret in ("alice", "bob", "opens-it"):
            assert secret not in json.dumps(result)
        return result

    return run


def bert(hub, commit, version="1", repo=REPO, **more):
    source = {"repo": repo, "revision": commit, "files": hub.listing(repo, commit), "group": GROUP, **more}
    return {"name": "bert", "version": version, "huggingface": source}


def folder(host, repo=REPO):
    return host.home / GROUP / "hub" / ("models--" + repo.replace("/", "--"))


def contents(host, commit, repo=REPO):
    top = folder(host, repo) / "snapshots" / commit
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def gate(hub, *tokens, private=False):
    hub.repositories[REPO].granted = set(tokens)
    hub.repositories[REPO].private = private


# What comes


def test_commit_lies_as_its_consumers_read_it(host, hub, apply):
    commit = hub.commit(REPO, FILES)
    result = apply(bert(hub, commit), diff=True)
    large = sum(len(content) for content in FILES.values() if len(content) > 1000)
    assert result["changed"]
    (artifact,) = result["artifacts"]
    assert (artifact["action"], artifact["size"], artifact["fetched"]) == ("fetched", sum(map(len, FILES.values())), large)
    assert artifact["path"] == str(folder(host) / "snapshots" / commit)
    assert result["diff"]["after"] == f"{artifact['path']}\n"
    assert contents(host, commit) == FILES
    assert os.readlink(folder(host) / "snapshots" / commit / "onnx" / "model.onnx") == f"../../../blobs/{sha256(FILES['onnx/model.onnx'])}"
    assert (folder(host) / "refs" / "main").read_bytes() == commit.encode()
    assert sorted(os.listdir(folder(host) / "blobs")) == sorted(
        sha256(content) if len(content) > 1000 else git_sha1(content) for content in FILES.values()
    )
    assert not host.left()
    again = apply(bert(hub, commit))
    assert not again["changed"]
    assert again["artifacts"][0]["fetched"] == 0


def test_bytes_are_on_the_disk_once_and_nobody_writes_them(host, hub, apply):
    commit = hub.commit(REPO, FILES)
    assert apply(bert(hub, commit))["artifacts"][0]["links"] == 3
    name = sha256(WEIGHTS)
    paths = [folder(host) / "blobs" / name, host.blobs / name, host.piece(f"sha256:{name};piece_length=auto")]
    assert len({path.stat().st_ino for path in paths}) == 1
    assert {mode(path) for path in (folder(host) / "blobs").iterdir()} == {0o444}
    assert mode(host.home / GROUP) == 0o750
    assert mode(folder(host) / "blobs") == 0o755


def test_consumers_are_told_where_it_is(host, hub, apply):
    commit = hub.commit(REPO, FILES)
    apply(bert(hub, commit))
    environment = host.home / f"{GROUP}.env"
    assert f"HF_HUB_CACHE={host.home / GROUP / 'hub'}\n" in environment.read_text()
    assert "HF_HUB_OFFLINE=1\n" in environment.read_text()
    environment.unlink()
    assert apply(bert(hub, commit))["changed"]
    assert environment.exists()


def test_no_token_gets_beyond_the_hub(host, hub, apply):
    commit = hub.commit(REPO, FILES)
    gate(hub, "alice")
    apply(bert(hub, commit), token="alice")
    assert {token for _method, _path, token in hub.asked} == {"alice"}
    assert len(host.calls) == 2
    assert "alice" not in json.dumps(host.calls)
    assert all(call["url"].startswith(f"{host.url}/cdn/") and call["headers"] == [] for call in host.calls)
    assert not any("Authorization" in headers for _path, headers in host.asked)
    assert "alice" not in (host.state / "huggingface.json").read_text()
    assert mode(host.state / "huggingface.json") == 0o600


def test_new_commit_moves_what_changed_only(host, hub, apply):
    old = hub.commit(REPO, FILES)
    apply(bert(hub, old))
    new = hub.commit(REPO, {**FILES, "onnx/model.onnx": b"other" * 1000})
    hub.asked.clear()
    result = apply(bert(hub, new))
    assert result["artifacts"][0]["fetched"] == 5000
    assert [path for method, path, _token in hub.asked if method == "GET"] == []
    assert contents(host, new) == {**FILES, "onnx/model.onnx": b"other" * 1000}
    assert contents(host, old) == FILES
    assert (folder(host) / "refs" / "main").read_text() == new


def test_include_and_exclude_are_those_of_the_hub(host, hub, apply):
    commit = hub.commit(REPO, FILES)
    apply(bert(hub, commit, include=["*.json", "onnx/"], exclude=["*.txt"]))
    assert set(contents(host, commit)) == {"config.json", "onnx/model.onnx"}
    apply(bert(hub, commit, include=["*.json"]))
    assert set(contents(host, commit)) == {"config.json"}
    assert os.listdir(folder(host) / "blobs") == [git_sha1(FILES["config.json"])]


def test_check_mode_predicts_and_changes_nothing(host, hub, apply):
    commit = hub.commit(REPO, FILES)
    predicted = apply(bert(hub, commit), check=True, diff=True)
    assert predicted["changed"]
    assert predicted["artifacts"][0]["fetched"] == 105_000
    assert host.calls == []
    assert os.listdir(host.home) == os.listdir(host.blobs) == []
    assert not (host.state / "huggingface.json").exists()
    assert predicted["diff"] == apply(bert(hub, commit), diff=True)["diff"]
    assert not apply(bert(hub, commit), check=True)["changed"]
    absent = {**bert(hub, commit), "state": "absent"}
    predicted = apply(absent, check=True, diff=True)
    assert contents(host, commit) == FILES
    assert predicted["diff"] == apply(absent, diff=True)["diff"]


def test_absent_takes_what_no_other_commit_has(host, hub, apply):
    old = hub.commit(REPO, FILES)
    new = hub.commit(REPO, {**FILES, "onnx/model.onnx": b"other" * 1000})
    apply(bert(hub, old, ref=""), bert(hub, new, "2"))
    apply({**bert(hub, old, ref=""), "state": "absent"}, bert(hub, new, "2"))
    assert not (folder(host) / "snapshots" / old).exists()
    assert not (host.blobs / sha256(FILES["onnx/model.onnx"])).exists()
    assert contents(host, new)["model.safetensors"] == WEIGHTS
    assert apply({**bert(hub, new, "2"), "state": "absent"})["artifacts"][0]["action"] == "removed"
    assert not folder(host).exists()
    assert not (host.blobs / sha256(WEIGHTS)).exists()


def test_damage_heals(host, hub, apply):
    commit = hub.commit(REPO, FILES)
    apply(bert(hub, commit))
    snapshot = folder(host) / "snapshots" / commit
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").write_bytes(b"own")
    (folder(host) / "blobs" / git_sha1(FILES["README.md"])).unlink()
    (folder(host) / "refs" / "main").unlink()
    (host.home / GROUP).chmod(0o755)
    assert apply(bert(hub, commit), check=True)["changed"]
    assert apply(bert(hub, commit))["artifacts"][0]["fetched"] == 0
    assert contents(host, commit) == FILES
    assert mode(host.home / GROUP) == 0o750
    assert not apply(bert(hub, commit))["changed"]


def test_two_repositories_share_what_they_have_in_common(host, hub, apply):
    first, second = hub.commit(REPO, FILES), hub.commit("org/copy", FILES)
    other = {**bert(hub, second, repo="org/copy"), "name": "copy"}
    apply(bert(hub, first), other)
    assert len(host.calls) == 2
    paths = [folder(host, repo) / "blobs" / sha256(WEIGHTS) for repo in (REPO, "org/copy")]
    assert os.path.samefile(*paths)


def test_commits_of_one_repository_that_come_at_once_leave_each_other_alone(host, hub, apply, monkeypatch):
    old = hub.commit(REPO, FILES)
    new = hub.commit(REPO, {**FILES, "config.json": b"{}"})
    everything_came, build = threading.Barrier(2), _artifact_huggingface.HuggingFaceArtifact.build

    def build_together(artifact):
        everything_came.wait(20)
        build(artifact)

    monkeypatch.setattr(_artifact_huggingface.HuggingFaceArtifact, "build", build_together)
    result = apply(bert(hub, old, ref=""), bert(hub, new, "2"))
    assert [artifact["action"] for artifact in result["artifacts"]] == ["fetched", "fetched"]
    assert (contents(host, old), contents(host, new)) == (FILES, {**FILES, "config.json": b"{}"})


def test_directories_that_two_need_are_made_by_one(host, hub, apply, monkeypatch):
    first, second = hub.commit(REPO, FILES), hub.commit("org/copy", FILES)
    look = _artifact_huggingface.lstat

    def look_slowly(path):
        found = look(path)
        time.sleep(0.02)
        return found

    monkeypatch.setattr(_artifact_huggingface, "lstat", look_slowly)
    result = apply(bert(hub, first), {**bert(hub, second, repo="org/copy"), "name": "copy"})
    assert "msg" not in result
    assert contents(host, first) == contents(host, second, "org/copy") == FILES


# What lies there already


def test_files_of_a_user_are_copied_after_a_look(host, hub, apply, tmp_path):
    commit = hub.commit(REPO, FILES)
    blobs = tmp_path / "cache" / "models--org--bert" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / sha256(WEIGHTS)).write_bytes(WEIGHTS)
    (blobs / sha256(WEIGHTS)).chmod(0o666)
    (blobs / git_sha1(FILES["config.json"])).write_bytes(FILES["config.json"])
    (blobs / git_sha1(FILES["README.md"])).write_bytes(b"A MODEL")
    (blobs / sha256(FILES["onnx/model.onnx"])).symlink_to(blobs / "elsewhere")
    # A directory can be opened as well.
    (blobs / git_sha1(FILES["onnx/empty.txt"])).mkdir()
    result = apply(bert(hub, commit), huggingface_adopt=[str(tmp_path / "cache")])
    assert result["artifacts"][0]["fetched"] == 5000
    assert contents(host, commit) == FILES
    assert not os.path.samefile(blobs / sha256(WEIGHTS), host.blobs / sha256(WEIGHTS))
    assert mode(blobs / sha256(WEIGHTS)) == 0o666
    assert not any("config.json" in path for _method, path, _token in hub.asked)
    assert not host.left()


def test_cache_that_a_consumer_wrote_as_root_is_taken_over(host, hub, apply):
    commit = hub.commit(REPO, FILES)
    blobs = folder(host) / "blobs"
    for directory in (blobs, folder(host) / "trees"):
        directory.mkdir(parents=True)
    (blobs / sha256(WEIGHTS)).write_bytes(WEIGHTS)
    (blobs / (sha256(WEIGHTS) + ".incomplete")).write_bytes(b"half")
    (folder(host) / "trees" / f"{commit}.json").write_text("{}")
    inode = (blobs / sha256(WEIGHTS)).stat().st_ino
    assert apply(bert(hub, commit))["artifacts"][0]["fetched"] == 5000
    assert (blobs / sha256(WEIGHTS)).stat().st_ino == (host.blobs / sha256(WEIGHTS)).stat().st_ino == inode
    assert mode(blobs / sha256(WEIGHTS)) == 0o444
    assert os.listdir(folder(host) / "trees") == []
    assert len(os.listdir(blobs)) == len(FILES)


def test_old_cache_of_a_consumer_that_was_root_is_put_right(host, hub, apply):
    """With all that one leaves there, and a umask that keeps the others out."""
    commit, old = hub.commit(REPO, FILES), "e" * 40
    top = folder(host)
    for path, content in {
        f"blobs/{sha256(WEIGHTS)}": WEIGHTS,
        f"blobs/{git_sha1(FILES['config.json'])}": FILES["config.json"],
        f"blobs/{git_sha1(FILES['README.md'])}": b"A MODEL",
        "refs/main": old.encode(),
        f"trees/{commit}.json": b"[]",
        f".no_exist/{commit}/model.safetensors": b"",
        f"../.locks/{top.name}/{sha256(WEIGHTS)}.lock": b"",
        f"snapshots/{commit}/own.txt": b"own",
    }.items():
        (top / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (top / path).write_bytes(content)
        (top / path).chmod(0o600)
    (top / "snapshots" / commit / "config.json").symlink_to(top / "blobs" / git_sha1(FILES["config.json"]))
    (top / "snapshots" / commit / "gone.bin").symlink_to("../../blobs/gone")
    assert apply(bert(hub, commit))["artifacts"][0]["fetched"] == 5000
    assert contents(host, commit) == FILES
    assert sorted(os.listdir(top / "snapshots" / commit)) == ["README.md", "config.json", "model.safetensors", "onnx"]
    assert (top / "refs" / "main").read_text() == commit
    assert {mode(path) for path in (top / "blobs").iterdir()} == {0o444}
    assert {mode(top / name) for name in ("", "blobs", "snapshots", "refs", f"snapshots/{commit}")} == {0o755}
    assert os.listdir(top / "trees") == os.listdir(top / ".no_exist") == []
    assert not apply(bert(hub, commit))["changed"]


def test_files_of_a_user_on_another_filesystem_are_copied(host, hub, apply, small_disk):
    commit = hub.commit(REPO, FILES)
    blobs = small_disk("size=4m") / "models--org--bert" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / sha256(WEIGHTS)).write_bytes(WEIGHTS)
    (blobs / sha256(WEIGHTS)).chmod(0o644)
    result = apply(bert(hub, commit), huggingface_adopt=[str(blobs.parents[1])])
    assert result["artifacts"][0]["fetched"] == 5000
    assert contents(host, commit) == FILES
    assert (blobs / sha256(WEIGHTS)).stat().st_nlink == 1


@needs_root
def test_link_in_place_of_the_cache_leads_nowhere(host, hub, apply, tmp_path):
    commit = hub.commit(REPO, FILES)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (host.home / GROUP).mkdir()
    (host.home / GROUP / "hub").symlink_to(tmp_path / "elsewhere")
    apply(bert(hub, commit))
    assert os.listdir(tmp_path / "elsewhere") == []
    assert contents(host, commit) == FILES


def test_cache_on_another_filesystem(host, hub, apply, small_disk):
    commit = hub.commit(REPO, FILES)
    result = apply(bert(hub, commit), huggingface_home=str(small_disk("size=4m")))
    assert result["msg"].startswith(
        f"Failed to use {host.home.parent / 'disk'} for the models of the hub: it is on another filesystem than "
    )
    assert result["msg"].endswith(", and no file has names on two. Have both on one, under one mount.")
    assert result["artifacts"][0]["action"] == "failed"
    assert hub.asked == []


# Who may have it


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("bob", "the account of this host's token has not been granted access (403). Request access at http"),
        (None, "it is gated, and this host gave no token (401). Request access at http"),
        ("stolen", "it refused the token of this host (401), which is wrong, has expired or was revoked"),
    ],
)
@pytest.mark.parametrize("local", [False, True])
def test_gated_repository_is_for_who_was_granted_it(host, hub, apply, token, said, local):
    commit = hub.commit(REPO, FILES)
    gate(hub, "alice")
    if local:
        # The bytes stay for another repository that everybody may have.
        other = hub.commit("org/copy", FILES)
        apply({**bert(hub, other, repo="org/copy"), "name": "copy"})
        apply(bert(hub, commit), token="alice")
    result = apply(bert(hub, commit), token=token)
    assert said in result["msg"]
    assert f"of {REPO} from {hub.url.partition('//')[2]}" in result["msg"]
    assert result["artifacts"][0]["action"] == "failed"
    assert not (folder(host) / "snapshots" / commit).exists()
    assert len(host.calls) == (2 if local else 0)


@pytest.mark.parametrize("token", ["bob", None])
def test_private_repository_is_none_for_others(host, hub, apply, token):
    commit = hub.commit(REPO, FILES)
    gate(hub, "alice", private=True)
    assert "it has no such repository, or none that" in apply(bert(hub, commit), token=token)["msg"]
    assert not folder(host).exists()
    assert apply(bert(hub, commit), token="alice")["changed"]


def test_decision_holds_for_a_while_and_for_one_token(host, hub, apply):
    commit = hub.commit(REPO, FILES)
    gate(hub, "alice", "bob")
    apply(bert(hub, commit), token="alice")
    hub.asked.clear()
    assert not apply(bert(hub, commit), token="alice")["changed"]
    assert hub.asked == []
    apply(bert(hub, commit), token="bob")
    assert len(hub.asked) == 1
    hub.asked.clear()
    _huggingface.time.time = lambda: time.time() + 3601
    apply(bert(hub, commit), token="alice")
    assert len(hub.asked) == 1


def test_right_that_was_revoked_holds_no_longer_than_the_decision(host, hub, apply):
    commit = hub.commit(REPO, FILES)
    gate(hub, "alice")
    apply(bert(hub, commit), token="alice")
    gate(hub)
    assert not apply(bert(hub, commit), token="alice")["changed"]
    predicted = apply(bert(hub, commit), token="alice", huggingface_access_s=0, check=True, diff=True)
    assert "has not been granted access" in predicted["msg"]
    assert contents(host, commit) == FILES
    result = apply(bert(hub, commit), token="alice", huggingface_access_s=0, diff=True)
    assert "has not been granted access" in result["msg"]
    assert result["diff"] == predicted["diff"]
    assert result["diff"]["after"] == ""
    assert not folder(host).exists()
    assert not (host.blobs / sha256(WEIGHTS)).exists()
    # Nor is the old decision of any use.
    assert "has not been granted access" in apply(bert(hub, commit), token="alice")["msg"]


def test_what_is_here_is_served_on_without_the_hub(host, hub, apply):
    commit = hub.commit(REPO, FILES)
    apply(bert(hub, commit))
    hub.fault = (503, {})
    result = apply(bert(hub, commit), huggingface_access_s=0)
    assert (result["changed"], result["artifacts"][0]["action"]) == (False, "unchanged")
    assert "could not prove its right to it. Failed to" in str(result["warnings"])
    del hub.repositories[REPO]
    hub.fault = None
    hub.listing = lambda *args: {path: {"size": len(c), **digests(c)} for path, c in FILES.items()}
    result = apply(bert(hub, commit), huggingface_access_s=0)
    assert (result["changed"], result["artifacts"][0]["action"]) == (False, "unchanged")
    assert re.search("could not prove its right to it. Failed to .* it has no such repository", str(result["warnings"]))
    assert contents(host, commit) == FILES


def digests(content):
    return {"sha256": sha256(content)} if len(content) > 1000 else {"git_sha1": git_sha1(content)}


def test_limit_of_the_hub_is_waited_for_as_long_as_it_says(host, hub, apply):
    commit = hub.commit(REPO, FILES)
    hub.fault = (429, {"RateLimit": '"resolvers";r=0;t=77'})
    assert "it takes no more requests from this host for now (429). Run again after 77 s" in apply(bert(hub, commit))["msg"]
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        hub.fault = None

    _huggingface.time.sleep = sleep
    assert apply(bert(hub, commit), retry_s=120)["changed"]
    assert len(waits) == 1
    assert 77 <= waits[0] < 78


# Mirrors


def address(hub):
    return hub.url.partition("//")[2]


def passed_over(result, mirror):
    """What was said of a mirror; what runs before in this process said is there, too."""
    start = f"{address(mirror)} was passed over for another endpoint, "
    return [str(said).partition(start)[2] for said in result.get("warnings", []) if start in str(said)]


def test_mirror_gives_the_bytes_and_no_token_gets_there(host, hub, mirror, apply):
    commit = hub.commit(REPO, FILES)
    mirror.commit(REPO, FILES)
    gate(hub, "alice")
    endpoints = [mirror.url, hub.url]
    apply(bert(hub, commit), token="alice", endpoint=endpoints)
    assert {token for _method, _path, token in mirror.asked} == {None}
    # Who may have it is what the hub says.
    assert [(method, token) for method, _path, token in hub.asked] == [("HEAD", "alice")]
    result = apply(bert(hub, commit), token="bob", endpoint=endpoints)
    assert "has not been granted access" in result["msg"]


def test_mirror_gets_the_token_when_it_is_named(hub, mirror, apply):
    commit = mirror.commit(REPO, FILES)
    hub.commit(REPO, FILES)
    apply(bert(hub, commit), token="alice", endpoint=[mirror.url], token_endpoint=[mirror.url])
    assert {token for _method, _path, token in mirror.asked} == {"alice"}


def test_token_for_nobody_is_a_mistake(hub, apply):
    commit = hub.commit(REPO, FILES)
    result = apply(bert(hub, commit), token="alice", token_endpoint=["https://huggingface.co"])
    assert "none of the endpoints may have the token" in result["msg"]
    assert hub.asked == []


def test_mirror_that_is_down_or_lacks_it_is_passed_over(host, hub, mirror, apply):
    commit = hub.commit(REPO, FILES)
    apply(bert(hub, commit), endpoint=["http://127.0.0.1:9", mirror.url, hub.url], token_endpoint=["https://huggingface.co"])
    assert contents(host, commit) == FILES


def test_mirror_that_lags_is_told(host, hub, mirror, apply):
    mirror.commit(REPO, {})
    commit = hub.commit(REPO, FILES)
    result = apply(bert(hub, commit), endpoint=[mirror.url, hub.url])
    assert contents(host, commit) == FILES
    # Two large files and two small ones that are not empty.
    (said,) = passed_over(result, mirror)
    assert re.match(
        f"4 times in this run: Failed to get the file [^ ]* at {commit} of {REPO} from {address(mirror)}: it has no such revision\\. Have "
        "it catch up, or take it out of endpoint \\(modelfleet_huggingface\\)\\.",
        said,
    )
    changed = hub.commit(REPO, {**FILES, "config.json": b"{}"})
    mirror.repositories[REPO].commits[changed] = {"README.md": FILES["README.md"]}
    _before, said = passed_over(apply(bert(hub, changed), endpoint=[mirror.url, hub.url]), mirror)
    assert said.startswith(f"once in this run: Failed to get the file config.json at {changed} of {REPO} from {address(mirror)}: it has no")


def test_mirror_that_refuses_is_no_news(host, hub, mirror, apply):
    """It gives what everybody may have."""
    commit = hub.commit(REPO, FILES)
    mirror.commit(REPO, FILES)
    for one in hub, mirror:
        gate(one, "alice")
    result = apply(bert(hub, commit), token="alice", endpoint=[mirror.url, hub.url])
    assert contents(host, commit) == FILES and passed_over(result, mirror) == []


def test_mirror_that_gives_something_else_is_found_out(host, hub, mirror, apply):
    commit = hub.commit(REPO, FILES)
    mirror.commit(REPO, FILES)
    mirror.wrong = {"config.json": b"{}" * 11, "model.safetensors": WEIGHTS[::-1]}
    apply(bert(hub, commit), endpoint=[mirror.url, hub.url])
    assert contents(host, commit) == FILES


@pytest.mark.parametrize("there", [None, WEIGHTS[::-1]])
def test_mirror_whose_cdn_lacks_it_or_has_something_else_is_passed_over(host, hub, mirror, apply, there):
    """It says nothing of what it gives, so that only what came shows it."""
    files = {"model.safetensors": WEIGHTS, "other.safetensors": WEIGHTS[1:]}
    commit = hub.commit(REPO, files)
    mirror.commit(REPO, files)
    mirror.mute, mirror.shelf = True, "shelf"
    for content in files.values():
        name = sha256(content)
        if there:
            host.publish(f"shelf/{name}", there)
        # A wrong file keeps the name that was for the right one.
        host.tags[f"cdn/{name}"] = {"ETag": '"right"'}
    result = apply(bert(hub, commit), endpoint=[mirror.url, hub.url], parallel=1)
    assert contents(host, commit) == files and not host.left()
    said = "has the sha256" if there else "the origin has no such object"
    assert [said in warning for warning in passed_over(result, mirror)] == [True]


def test_what_only_such_a_mirror_has_does_not_come(host, hub, mirror, apply):
    commit = mirror.commit(REPO, FILES)
    mirror.shelf = "nowhere"
    result = apply(bert(mirror, commit), endpoint=[mirror.url, hub.url], token_endpoint=[mirror.url])
    assert "the origin has no such object" in result["msg"] and host.left() == []


def test_mirror_that_streams_something_else_is_passed_over(host, hub, mirror, apply):
    commit = hub.commit(REPO, FILES)
    mirror.commit(REPO, FILES)
    hub.direct = mirror.direct = mirror.mute = True
    mirror.wrong = {"model.safetensors": WEIGHTS[::-1]}
    mirror.breaks_off = ("/onnx/model.onnx",)
    endpoints = [mirror.url, hub.url]
    result = apply(bert(hub, commit), token="alice", endpoint=endpoints, token_endpoint=endpoints)
    assert contents(host, commit) == FILES and host.calls == [] and not host.left()
    assert [warning.startswith("2 times") for warning in passed_over(result, mirror)] == [True]


# A hub that hangs


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("hangs", "nothing came from it for 1 s"),
        ("stops", "nothing came from it for 1 s"),
        ("breaks_off", "it broke off after 3 of 7 bytes"),
    ],
)
def test_hub_that_hangs_is_given_up(host, hub, mirror, apply, monkeypatch, how, said):
    commit = hub.commit(REPO, FILES)
    mirror.commit(REPO, FILES)
    setattr(mirror, how, ("resolve-cache",))
    with monkeypatch.context() as patched:
        if how != "breaks_off":
            patched.setattr(_huggingface, "_TIMEOUT_S", 1)
        result = apply(bert(hub, commit), endpoint=[mirror.url])
    assert f"Failed to reach {address(mirror)}: {said}. Check network" in result["msg"]

    # It does not count as another content, of which nobody would ask again.
    def sleep(seconds):
        setattr(mirror, how, ())

    mirror.goes_on.set()
    _huggingface.time.sleep = sleep
    assert apply(bert(hub, commit), endpoint=[mirror.url], retry_s=60)["changed"]
    assert contents(host, commit) == FILES


def test_hub_that_hangs_with_who_has_the_right(host, hub, apply, monkeypatch):
    commit = hub.commit(REPO, FILES)
    apply(bert(hub, commit))
    hub.hangs = (REPO,)
    monkeypatch.setattr(_huggingface, "_TIMEOUT_S", 1)
    result = apply(bert(hub, commit), huggingface_access_s=0)
    assert not result["changed"] and "could not prove its right to it. Failed to reach" in str(result["warnings"])
    commit = hub.commit(REPO, {**FILES, "config.json": b"{}"})
    assert "nothing came from it for 1 s, a moment ago. Check network" in apply(bert(hub, commit))["msg"]


def test_mirror_that_hangs_is_waited_for_ever_more_seldom(hub, mirror):
    """And not once for each of the models."""
    commit = hub.commit(REPO, FILES)
    mirror.hangs = (REPO,)
    mirror.goes_on.set()
    asker = _huggingface.Hub({"endpoint": [mirror.url, hub.url], "token_endpoint": []})
    file = _huggingface.HubFile("model.safetensors", len(WEIGHTS), sha256(WEIGHTS))
    asked = []
    for minutes in range(120):
        _huggingface.time.monotonic = lambda minutes=minutes: minutes * 60
        for _model in range(2):
            assert asker.locate(REPO, commit, file).endpoint == hub.url
        if len(mirror.asked) > len(asked):
            asked.append(minutes)
    assert len(mirror.asked) == len(asked)
    assert asked == [0, 1, 2, 4, 8, 16, 31, 46, 61, 76, 91, 106]
    mirror.hangs = ()
    mirror.commit(REPO, FILES)
    _huggingface.time.monotonic = lambda: 122 * 60
    assert [asker.locate(REPO, commit, file).endpoint for _model in range(2)] == [mirror.url] * 2


def test_hub_that_is_away_is_waited_for_once_by_all(hub, monkeypatch):
    commit = hub.commit(REPO, FILES)
    asker = _huggingface.Hub({"endpoint": [hub.url], "token_endpoint": []})
    file = _huggingface.HubFile("config.json", len(FILES["config.json"]), git_sha1=git_sha1(FILES["config.json"]))
    clock, waits = [1000.0], []
    monkeypatch.setattr(_huggingface.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(_huggingface.time, "sleep", lambda seconds: waits.append(seconds) or clock.append(clock.pop() + seconds))

    def ask():
        return asker.patiently(lambda: asker.small(REPO, commit, file), 60)

    hub.breaks_off = ("resolve-cache",)
    for _model in range(50):
        with pytest.raises(_huggingface.HubError, match="it broke off after 11 of 22 bytes"):
            ask()
    assert len(waits) > 3 and sum(waits) <= 60 and len(hub.asked) == 2 * (len(waits) + 1)
    # It is back, and goes again.
    hub.breaks_off = ()
    clock[0] += 60
    assert ask() == FILES["config.json"]
    hub.breaks_off = ("resolve-cache",)
    before = len(waits)
    with pytest.raises(_huggingface.HubError, match="it broke off"):
        ask()
    assert len(waits) > before + 3


def test_mirror_that_hangs_is_not_waited_for_while_the_hub_takes_no_more(hub, mirror, monkeypatch):
    commit = hub.commit(REPO, FILES)
    mirror.hangs = (REPO,)
    mirror.goes_on.set()
    hub.fault = (429, {"Retry-After": "7"})
    asker = _huggingface.Hub({"endpoint": [mirror.url, hub.url], "token_endpoint": []})
    file = _huggingface.HubFile("model.safetensors", len(WEIGHTS), sha256(WEIGHTS))
    monkeypatch.setattr(_huggingface.time, "sleep", lambda seconds: setattr(hub, "fault", None if len(hub.asked) > 2 else hub.fault))
    assert asker.patiently(lambda: asker.locate(REPO, commit, file), 60).endpoint == hub.url
    assert (len(mirror.asked), len(hub.asked)) == (1, 4)


@pytest.mark.parametrize(
    ("size", "chunk", "sink", "said"),
    [
        # A byte in a second.
        (1000, 1, True, "it gave 61 bytes in 60 s"),
        (1000, 1, False, "it gave 61 bytes in 60 s"),
        # Quicker than that, and without end.
        (64 << 20, 2000, False, "it gave 1202000 bytes in 600 s"),
        (64 << 20, 2000, True, None),
        (600, 100, False, None),
    ],
)
def test_answers_that_come_drop_by_drop_are_given_up(monkeypatch, size, chunk, sink, said):
    clock = iter(range(1 << 20))
    monkeypatch.setattr(_huggingface, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    reply = SimpleNamespace(length=size, read1=lambda most: b"x" * min(chunk, most))
    written = io.BytesIO()
    if said:
        with pytest.raises(OSError, match=f"^{said}$"):
            _huggingface._read(reply, size + 1, written if sink else None)
    else:
        content = _huggingface._read(reply, size + 1, written if sink else None)
        assert len(written.getvalue() if sink else content) == size


def test_repository_that_does_not_exist(host, hub, apply):
    commit = hub.commit(REPO, FILES)
    entry = bert(hub, commit)
    del hub.repositories[REPO]
    where = f"Failed to get the file model.safetensors at {commit} of {REPO} from {hub.url.partition('//')[2]}: "
    for token, who, status in (None, "who has no token", 401), ("alice", "the account of this host's token", 404):
        assert apply(entry, token=token)["msg"] == (
            f"{where}it has no such repository, or none that {who} may see ({status}). Correct the repo, or set the token of an account "
            "that may (token in modelfleet_huggingface)."
        )
    assert not folder(host).exists()


def test_lock_that_does_not_match(host, hub, apply):
    commit = hub.commit(REPO, FILES)
    entry = bert(hub, commit)
    entry["huggingface"]["files"]["model.safetensors"]["sha256"] = "a" * 64
    said = apply(entry)["msg"]
    assert f"The lock does not match the hub: of model.safetensors in {REPO} at {commit}, " in said
    assert f" says {sha256(WEIGHTS)} with 100000 bytes at {commit}, and the lock {'a' * 64} with 100000. Run modelfleet.serving.pin" in said
    entry = bert(hub, commit)
    entry["huggingface"]["files"]["config.json"]["git_sha1"] = "b" * 40
    assert "Failed to verify config.json" in apply(entry)["msg"]
    assert not (folder(host) / "snapshots").exists() or os.listdir(folder(host) / "snapshots") == []


def test_hub_that_gives_large_files_itself_is_asked_directly(host, hub, apply):
    commit = hub.commit(REPO, FILES)
    gate(hub, "alice")
    hub.direct = True
    apply(bert(hub, commit), token="alice")
    assert contents(host, commit) == FILES
    assert host.calls == []


# Mistakes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"revision": "main"},
            "the revision 'main' of org/bert is no commit of 40 hexadecimal digits, so that it may be another model tomorrow; run "
            "modelfleet.serving.pin, which prints the commit.",
        ),
        ({"repo": "../../etc"}, "the repo '../../etc' is none"),
        ({"include": ["*.gguf"]}, "the include '*.gguf' matches no file of org/bert. Correct it, or leave it out."),
        ({"exclude": ["*"]}, "the include and exclude leave no file of org/bert"),
        (
            {"files": {"../../x": {"size": 1, "git_sha1": "a" * 40}}},
            "the path '../../x' of a file of org/bert has the component '.' or '..'. Have its owner rename it; nothing of it is used.",
        ),
        ({"files": {}}, "the lock has no files of org/bert"),
        ({"group": "no-such-group"}, "this host has no such group"),
        ({"group": "../x"}, "can be none of this system"),
    ],
)
def test_mistakes_are_told(hub, apply, change, said):
    commit = hub.commit(REPO, FILES)
    entry = bert(hub, commit)
    entry["huggingface"].update(change)
    assert said in apply(entry)["msg"]


def test_one_place_is_for_one(hub, apply):
    old, new = hub.commit(REPO, FILES), hub.commit(REPO, {"config.json": b"{}"})
    assert "have one ref of org/bert" in apply(bert(hub, old), bert(hub, new, "2"))["msg"]
    assert "have one commit of org/bert" in apply(bert(hub, old), bert(hub, old, "2"))["msg"]


# Small files that somebody else may bring


def lacking(commit, *contents):
    return [{"repo": REPO, "revision": commit, "git_sha1": sorted(map(git_sha1, contents))}]


def pack(path, **contents):
    files = {}
    for name, content in contents.items():
        (path.parent / name).write_bytes(content)
        files[git_sha1(content)] = str(path.parent / name)
    _huggingface_pack.write_pack(str(path), files)
    return str(path)


def gets(hub):
    return [path for method, path, _token in hub.asked if method == "GET" and "/resolve/" in path]


def test_says_what_small_files_it_lacks_and_does_nothing(host, hub, apply):
    commit = hub.commit(REPO, FILES)
    gate(hub, "alice")
    result = apply(bert(hub, commit), token="alice", huggingface_small_return=True, diff=True)
    assert result["huggingface_lacking"] == lacking(commit, FILES["config.json"], FILES["README.md"])
    assert (result["changed"], result["artifacts"][0]["action"], result["hub_requests"]) == (False, "unchanged", 1)
    assert result["diff"]["before"] == result["diff"]["after"]
    assert [method for method, _path, _token in hub.asked] == ["HEAD"]
    assert host.calls == os.listdir(host.home) == [] and os.listdir(host.blobs) == [".lock"]


def test_takes_small_files_that_were_brought(host, hub, apply, tmp_path):
    commit = hub.commit(REPO, FILES)
    apply(bert(hub, commit), huggingface_small_return=True)
    hub.asked.clear()
    small = pack(tmp_path / "pack", config=FILES["config.json"], readme=FILES["README.md"])
    result = apply(bert(hub, commit), huggingface_small_path=small)
    assert result["changed"] and contents(host, commit) == FILES
    # Where the large ones are. The right to it was proved a moment ago.
    assert [method for method, _path, _token in hub.asked] == ["HEAD"] * 2
    assert result["hub_requests"] == 2
    again = apply(bert(hub, commit), huggingface_small_return=True)
    assert not again["changed"] and "huggingface_lacking" not in again and again["hub_requests"] == 0


def test_lacks_only_what_lies_nowhere(host, hub, apply, tmp_path):
    apply(bert(hub, hub.commit(REPO, FILES)))
    new = hub.commit(REPO, {**FILES, "config.json": b"other", "vocab.txt": b"words"})
    blobs = tmp_path / "cache" / "models--org--bert" / "blobs"
    (blobs / git_sha1(b"other")).mkdir(parents=True)
    (blobs / git_sha1(b"words")).write_bytes(b"words")
    options = {"huggingface_small_return": True, "huggingface_adopt": [str(tmp_path / "cache")]}
    assert apply(bert(hub, new), **options)["huggingface_lacking"] == lacking(new, b"other")
    assert apply(bert(hub, new), huggingface_adopt=options["huggingface_adopt"])["changed"]


def test_says_nothing_of_what_it_has_no_right_to(host, hub, apply, tmp_path):
    commit, other = hub.commit(REPO, FILES), hub.commit("org/copy", FILES)
    gate(hub, "alice")
    result = apply(bert(hub, commit), token="bob", huggingface_small_return=True)
    assert "has not been granted access" in result["msg"] and "huggingface_lacking" not in result
    assert len(hub.asked) == 1
    # One that it has the right to comes all the same.
    copy = {**bert(hub, other, repo="org/copy"), "name": "copy"}
    result = apply(bert(hub, commit), copy, token="bob", huggingface_small_return=True)
    assert [one["repo"] for one in result["huggingface_lacking"]] == ["org/copy"]
    small = pack(tmp_path / "pack", config=FILES["config.json"], readme=FILES["README.md"])
    result = apply(bert(hub, commit), copy, token="bob", huggingface_small_path=small)
    assert "has not been granted access" in result["msg"]
    assert contents(host, other, "org/copy") == FILES and not folder(host).exists()
    assert gets(hub) == []


def test_without_the_hub_nobody_proves_anything(hub, apply):
    commit = hub.commit(REPO, FILES)
    hub.fault = (503, {})
    result = apply(bert(hub, commit), huggingface_small_return=True)
    assert "it answered 503" in result["msg"] and "huggingface_lacking" not in result


def test_right_that_must_be_proved_is_proved_before_anything_is_brought(host, hub, apply, tmp_path):
    commit = hub.commit(REPO, {"config.json": b"{}"})
    options = {"token": "alice", "huggingface_access_s": 0}
    assert apply(bert(hub, commit), huggingface_small_return=True, **options)["huggingface_lacking"]
    gate(hub)
    result = apply(bert(hub, commit), huggingface_small_path=pack(tmp_path / "pack", config=b"{}"), **options)
    assert "has not been granted access" in result["msg"]
    assert not folder(host).exists()


def test_check_mode_predicts_what_is_brought_too(hub, apply):
    commit = hub.commit(REPO, FILES)
    predicted = apply(bert(hub, commit), check=True, huggingface_small_return=True)
    assert predicted["changed"] and "huggingface_lacking" not in predicted


def damage(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"!" * (len(content) // 2))


def another(path):
    names = [git_sha1(FILES["config.json"]), "../../../../escaped", "/escaped"]
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x" * len(FILES["config.json"]))


def compressed(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(git_sha1(FILES["config.json"]), FILES["config.json"])


def lies(path):
    """The directory in the zip says other sizes than there are."""
    content = path.read_bytes()
    begin = content.index(b"PK\x01\x02")
    path.write_bytes(content[: begin + 20] + b"\xff" * 8 + content[begin + 28 :])


def encrypted(path):
    content = path.read_bytes()
    begin = content.index(b"PK\x01\x02")
    path.write_bytes(content[: begin + 8] + b"\x01" + content[begin + 9 :])


@pytest.mark.parametrize("do", [damage, another, compressed, lies, encrypted, os.unlink, lambda path: path.write_bytes(b"")])
def test_pack_is_believed_nothing(host, hub, apply, tmp_path, do):
    commit = hub.commit(REPO, FILES)
    path = tmp_path / "pack"
    pack(path, config=FILES["config.json"])
    do(path)
    before = {name for name in os.listdir(tmp_path) if name != "pack"}
    assert apply(bert(hub, commit), huggingface_small_path=str(path))["changed"]
    assert contents(host, commit) == FILES
    assert len(gets(hub)) == 2
    assert {name for name in os.listdir(tmp_path) if name != "pack"} == before and not os.path.exists("/escaped")
