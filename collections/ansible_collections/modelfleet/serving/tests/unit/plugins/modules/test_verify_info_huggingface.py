# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Caches of a hub's models that are as they came, and what is said of each thing that is not."""

from __future__ import annotations

import grp
import os

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _verify
from ansible_collections.modelfleet.serving.plugins.modules import model_artifact, verify_info
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_dragonfly import FakeDragonfly, sha256
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_hub import FakeHub, git_sha1, inventory

GROUP = grp.getgrgid(os.getegid()).gr_name
CONFIG, WEIGHTS, OTHER = b'{"model_type": "bert"}', b"weights" * 1000, b"other" * 1000
FILES = {"config.json": CONFIG, "onnx/config.json": CONFIG, "model.safetensors": WEIGHTS}


class Host:
    def __init__(self, fake, hub, run_module):
        self.fake, self.hub, self.run_module = fake, hub, run_module
        self.home = fake.state.parent / "huggingface"
        self.home.mkdir()
        self.folder = self.home / GROUP / "hub" / "models--org--bert"
        self.old, self.bert = self.model("0", {**FILES, "model.safetensors": OTHER}, ref=""), self.model("1", FILES)
        self.snapshot = self.folder / "snapshots" / self.bert["huggingface"]["revision"]
        self.bring(self.old, self.bert)

    def model(self, version, files, **more):
        commit = self.hub.commit("org/bert", files)
        source = {"repo": "org/bert", "revision": commit, "files": self.hub.listing("org/bert", commit), "group": GROUP, **more}
        return {"name": "bert", "version": version, "huggingface": source}

    def bring(self, *models):
        artifacts, pins = inventory(models)
        args = {**self.fake.options(), "artifacts": artifacts, "huggingface_pins": pins, "huggingface_home": str(self.home)}
        args["huggingface"] = {"endpoint": [self.hub.url], "token_endpoint": [self.hub.url]}
        result = self.run_module(model_artifact.main, {**args, "huggingface_decisions": str(self.fake.state / "huggingface.json")})
        assert not result.get("failed"), result["msg"]

    def verify(self, *models, **changed):
        listed, pins = inventory(models or [self.old, self.bert])
        keys = ("model_store", "manifest_store", "blob_store", "record")
        args = {key: value for key, value in self.fake.options().items() if key in keys}
        args.update(
            models=listed, huggingface_pins=pins, huggingface_home=str(self.home), unpack_dir=str(self.home / "none"), disk_mbytes=0
        )
        return self.run_module(verify_info.main, {**args, **changed})

    def findings(self, *models, **changed):
        """{(name, state): (paths below the repository, detail)}."""
        found = self.verify(*models, **changed)["findings"]
        assert {one["part"] for one in found} <= {"models"}
        return {
            (one["name"], one["state"]): ([os.path.relpath(path, self.folder) for path in one["paths"]], one["detail"]) for one in found
        }

    def findings_after_repair(self):
        self.bring(self.old, self.bert)
        return self.findings()


@pytest.fixture
def host(tmp_path, run_module, monkeypatch):
    # The process of the tests goes on.
    monkeypatch.setattr(_verify, "make_way", lambda module: True)
    for name in "http_proxy", "HTTP_PROXY":
        monkeypatch.delenv(name, raising=False)
    fake = FakeDragonfly(tmp_path)
    hub = FakeHub(fake)
    yield Host(fake, hub, run_module)
    hub.close()
    fake.close()


def test_what_is_as_it_came(host):
    result = host.verify()
    assert result["findings"] == []
    # Each file once: what both commits share, and what is a name of a blob.
    assert (result["files"], result["bytes"]) == (3, len(CONFIG) + len(WEIGHTS) + len(OTHER))
    _old, bert = result["components"]
    assert (bert["name"], bert["version"], bert["packing"], bert["size"]) == ("bert", "1", "huggingface", 2 * len(CONFIG) + len(WEIGHTS))
    assert (bert["repo"], bert["commit"], bert["sha256"]) == ("org/bert", host.bert["huggingface"]["revision"], "")


def test_one_byte_of_a_large_file(host):
    path = host.folder / "blobs" / sha256(WEIGHTS)
    path.chmod(0o644)
    path.write_bytes(WEIGHTS[:-1] + b"!")
    path.chmod(0o444)
    found = host.findings()
    changed = sha256(WEIGHTS[:-1] + b"!")
    detail = f"it has the sha256 {changed}, expected {sha256(WEIGHTS)}"
    assert found.pop(("bert 1", "changed")) == ([f"blobs/{sha256(WEIGHTS)}"], detail)
    assert list(found) == [("blobs", "changed")]


def test_one_byte_of_a_small_file(host):
    path = host.folder / "blobs" / git_sha1(CONFIG)
    path.chmod(0o644)
    path.write_bytes(CONFIG.replace(b"bert", b"nert"))
    detail = f"it has the git sha1 {git_sha1(CONFIG.replace(b'bert', b'nert'))}, expected {git_sha1(CONFIG)}"
    # Two models have it, and the first is named.
    assert host.findings() == {("bert 0", "changed"): ([f"blobs/{git_sha1(CONFIG)}"], detail)}
    assert host.findings_after_repair() == {}


def link(path, target):
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("damage", "state", "path", "said"),
    [
        (lambda host: (host.home / GROUP).chmod(0o755), "changed", "../..", "with 0755, expected {}:{} with 0750"),
        (lambda host: (host.folder / "blobs").chmod(0o777), "changed", "blobs", "with 0777, expected {} with 0755"),
        (lambda host: link(host.snapshot / "config.json", "/etc/passwd"), "changed", "snapshots/{}/config.json", "it leads to /etc/passwd"),
        (lambda host: (host.snapshot / "model.safetensors").unlink(), "missing", "snapshots/{}/model.safetensors", ""),
        (lambda host: (host.snapshot / "modeling.py").write_text("1"), "extra", "snapshots/{}/modeling.py", ""),
        (lambda host: (host.snapshot / "onnx" / "own").symlink_to("/etc"), "extra", "snapshots/{}/onnx/own", ""),
        (lambda host: (host.folder / "refs/main").chmod(0o644), "changed", "refs/main", "with 0644, expected {} with 0444"),
        (lambda host: link(host.folder / "refs/main", "/etc/passwd"), "unreadable", "refs/main", "Too many levels of symbolic links"),
        (lambda host: (host.folder / "refs/main").unlink(), "missing", "refs/main", ""),
        (lambda host: (host.home / f"{GROUP}.env").unlink(), "missing", "../../../{group}.env", ""),
        (lambda host: (host.folder / "blobs" / sha256(WEIGHTS)).unlink(), "missing", f"blobs/{sha256(WEIGHTS)}", ""),
    ],
    ids=["home", "directory", "link", "gone", "file", "more", "mode", "elsewhere", "ref", "environment", "blob"],
)  # fmt: skip
def test_what_is_not_as_it_came(host, damage, state, path, said):
    damage(host)
    found = host.findings(host.bert)
    assert list(found) == [("bert 1", state)]
    paths, detail = found["bert 1", state]
    assert paths == [path.format(host.snapshot.name, group=GROUP)]
    assert said.format(os.geteuid(), os.getegid()) in detail
    assert host.findings_after_repair() == {}


def test_commit_that_another_user_owns(host):
    if os.geteuid() != 0:
        pytest.skip("gives files to another user")
    os.chown(host.folder / "blobs" / git_sha1(CONFIG), 65534, 0)
    detail = "it is of 65534:0 with 0444, expected 0 with 0444"
    assert host.findings() == {("bert 0", "changed"): ([f"blobs/{git_sha1(CONFIG)}"], detail)}


def test_listed_commit_that_is_not_there(host):
    new = host.model("2", {"config.json": b"{}"})
    path = f"snapshots/{new['huggingface']['revision']}"
    assert host.findings(host.old, {**host.bert, "huggingface": {**host.bert["huggingface"], "ref": ""}}, new) == {
        ("bert 2", "missing"): ([path], "")
    }


def test_another_content_of_a_listed_commit(host):
    """The lock was changed after it came."""
    other = {**host.bert["huggingface"]["files"], "config.json": {"size": 2, "git_sha1": git_sha1(b"{}")}}
    found = host.findings({**host.bert, "huggingface": {**host.bert["huggingface"], "files": other}})
    target = f"../../blobs/{git_sha1(CONFIG)}"
    assert found["bert 1", "changed"][1] == f"it leads to {target}, expected ../../blobs/{git_sha1(b'{}')}"
    assert found["bert 1", "missing"][0] == [f"blobs/{git_sha1(b'{}')}"]


def test_commits_that_nobody_lists(host):
    unlisted = f"org/bert of {GROUP}, which nobody lists"
    assert host.findings(host.bert) == {}
    path = host.folder / "blobs" / sha256(OTHER)
    path.unlink()
    path.write_bytes(b"another" * 1000)
    (host.folder / "blobs" / "half.incomplete").write_bytes(b"x")
    os.mkfifo(host.folder / "blobs" / ("a" * 40))
    found = host.findings(host.bert)
    assert found[unlisted, "changed"][0] == [f"blobs/{sha256(OTHER)}"]
    assert found[unlisted, "extra"][0] == ["blobs/half.incomplete"]
    assert found[unlisted, "unreadable"] == ([f"blobs/{'a' * 40}"], "it is no plain file")
    path.unlink()
    gone = f"snapshots/{host.old['huggingface']['revision']}/model.safetensors"
    assert host.findings(host.bert)[unlisted, "missing"][0] == [gone]


def test_cache_that_nobody_lists_is_for_its_group_only(host):
    (host.home / GROUP).chmod(0o755)
    paths, detail = host.findings(host.model("2", {"config.json": b"{}"}))[f"org/bert of {GROUP}, which nobody lists", "changed"]
    assert paths == ["../.."] and detail.endswith(f"with 0755, expected {os.geteuid()} with 0750")


def test_what_a_consumer_wrote_as_root(host):
    tree, hidden = f"trees/{host.snapshot.name}.json", f".no_exist/{host.snapshot.name}"
    (host.folder / "trees").mkdir()
    (host.folder / tree).write_text("[]")
    (host.folder / hidden).mkdir(parents=True)
    (host.folder / hidden / "model.safetensors").touch()
    assert host.findings() == {("bert 1", "extra"): ([tree, hidden], "consumers believe it more than what is here")}
    assert host.findings_after_repair() == {}


def test_group_that_is_no_more(host):
    source = {**host.bert["huggingface"], "group": "no-such-group"}
    (host.home / GROUP).rename(host.home / "no-such-group")
    paths, said = host.findings({**host.bert, "huggingface": source})["bert 1", "changed"]
    assert "../.." in [path.replace("../../../no-such-group", "../..") for path in paths]
    assert "this host has no such group" in said


def test_host_without_models_of_a_hub(host):
    assert host.verify(huggingface_home=str(host.home / "none"), models=[])["findings"] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"files": {}}, "Failed to use the huggingface of bert 1 in models: the lock has no files of org/bert at "),
        ({"repo": "../x"}, "the repo '../x' is none"),
    ],
)
def test_mistakes_are_told(host, change, said):
    assert said in host.verify({**host.bert, "huggingface": {**host.bert["huggingface"], **change}})["msg"]
