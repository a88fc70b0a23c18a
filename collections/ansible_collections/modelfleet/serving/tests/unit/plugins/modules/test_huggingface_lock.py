# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import pytest
import yaml
from ansible_collections.modelfleet.serving.plugins.module_utils import _huggingface
from ansible_collections.modelfleet.serving.plugins.modules import huggingface_lock
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_dragonfly import FakeDragonfly
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_hub import FakeHub

FILES = {"config.json": b"{}", "weights/model.safetensors": b"weights" * 1000, "onnx/a.onnx": b"a" * 2000, "README.md": b"a model"}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    for name in "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY":
        monkeypatch.delenv(name, raising=False)
    cdn = FakeDragonfly(tmp_path)
    fake = FakeHub(cdn, page=2)
    yield fake
    fake.close()
    cdn.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "inventory/group_vars/all/huggingface.lock.yml"


@pytest.fixture
def pin(run_module, hub, path):
    def run(*models, check=False, diff=False, token=None, endpoint=None, token_endpoint=None, **options):
        source = {"endpoint": endpoint or [hub.url], "token": token, "token_endpoint": token_endpoint or [hub.url]}
        args = {"path": str(path), "models": models or [{"repo": "org/bert"}], "huggingface": source, "retry_s": 0, **options}
        result = run_module(huggingface_lock.main, args, check=check, diff=diff)
        assert "alice" not in json.dumps(result)
        return result

    return run


def test_branch_becomes_a_commit_with_its_files(hub, pin, path):
    commit = hub.commit("org/bert", FILES)
    predicted = pin(check=True, diff=True)
    assert not path.parent.exists()
    result = pin(diff=True)
    assert result["diff"] == predicted["diff"]
    size = sum(map(len, FILES.values()))
    assert result["pins"] == [{"repo": "org/bert", "revision": "main", "commit": commit, "files": 4, "size": size, "new": True}]
    pins = yaml.safe_load(path.read_text())["modelfleet_huggingface_pins"]
    assert pins == {f"org/bert@{commit}": {"revision": "main", "files": hub.listing("org/bert", commit)}}
    again = pin()
    assert (again["changed"], again["pins"][0]["new"]) == (False, False)
    # What it printed is a revision, too.
    assert not pin({"repo": "org/bert", "revision": commit})["changed"]


def test_moved_branch_is_another_entry(hub, pin, path):
    old = hub.commit("org/bert", FILES)
    pin()
    new = hub.commit("org/bert", {**FILES, "config.json": b"{ }"})
    assert pin()["pins"][0]["commit"] == new
    assert set(yaml.safe_load(path.read_text())["modelfleet_huggingface_pins"]) == {f"org/bert@{old}", f"org/bert@{new}"}


def test_only_what_hosts_need_is_counted(hub, pin):
    hub.commit("org/bert", FILES)
    result = pin({"repo": "org/bert", "include": ["*.safetensors", "*.json"]})
    assert (result["pins"][0]["files"], result["pins"][0]["size"]) == (2, 7002)


def test_commit_that_changed_is_refused(hub, pin, path):
    commit = hub.commit("org/bert", FILES)
    pin()
    before = path.read_text()
    hub.repositories["org/bert"].commits[commit] = {**FILES, "config.json": b"[]"}
    result = pin()
    assert "The lock does not match the hub" in result["msg"]
    assert "such as 'config.json'" in result["msg"]
    assert path.read_text() == before


def test_token_is_for_the_hub(hub, pin):
    hub.commit("org/bert", FILES)
    hub.repositories["org/bert"].private = True
    hub.repositories["org/bert"].granted = {"alice"}
    assert "it has no such repository, or none that who has no token may see" in pin()["msg"]
    assert pin(token="alice")["changed"]


def test_mirror_is_not_asked_where_the_hub_is(hub, pin):
    hub.commit("org/bert", FILES)
    assert pin(endpoint=["http://127.0.0.1:9", hub.url])["changed"]


@pytest.mark.parametrize(
    ("model", "files", "said"),
    [
        ({"revision": "other"}, {}, "it has no such revision"),
        ({"repo": "org/none"}, {}, "it has no such repository"),
        ({"repo": "../bert"}, {}, "Failed to pin the repo '../bert'"),
        ({"include": ["*.gguf"]}, {}, "The include '*.gguf' matches no file of org/bert"),
        (
            {},
            {"../../etc/passwd": b"x"},
            "The path '../../etc/passwd' of a file of org/bert has the component '.' or '..'. Have its owner rename it; nothing of it is "
            "used.",
        ),
        ({}, {"CONFIG.json": b"x"}, "differ only in case"),
    ],
)
def test_mistakes_are_told(hub, pin, path, model, files, said):
    hub.commit("org/bert", {**FILES, **files})
    assert said in pin({"repo": "org/bert", **model})["msg"]
    assert not path.exists()


def test_lock_that_is_damaged_stays(hub, pin, path):
    hub.commit("org/bert", FILES)
    pin()
    damaged = path.read_bytes().replace(b"org/bert@", b"org/b\xffrt@")
    path.write_bytes(damaged)
    assert pin()["msg"] == f"Refused to change {path}: this module did not write it. Move it away and run again."
    assert path.read_bytes() == damaged


def test_what_others_wrote_stays(hub, pin, path):
    hub.commit("org/bert", FILES)
    path.parent.mkdir(parents=True)
    path.write_text("modelfleet_huggingface_pins: {}\nother: 1\n")
    assert "this module did not write it" in pin()["msg"]
    assert "other" in path.read_text()


@pytest.mark.parametrize(
    ("how", "said"),
    [("hangs", "nothing came from it for 1 s"), ("stops", "nothing came from it for 1 s"), ("breaks_off", "it broke off after ")],
)
@pytest.mark.parametrize("where", ["/revision/", "/tree/"])
def test_hub_that_hangs_is_given_up_and_asked_again(hub, pin, path, monkeypatch, how, where, said):
    monkeypatch.setattr(_huggingface, "_TIMEOUT_S", 1)
    commit = hub.commit("org/bert", FILES)
    setattr(hub, how, (where,))
    result = pin()
    assert f"Failed to reach {hub.url.partition('//')[2]}: {said}" in result["msg"] and not path.exists()
    monkeypatch.setattr(_huggingface, "time", SimpleNamespace(**{**vars(time), "sleep": lambda _seconds: setattr(hub, how, ())}))
    assert pin(retry_s=60)["pins"][0]["commit"] == commit


def test_mirror_that_lags_is_told(hub, pin):
    mirror = FakeHub(hub.cdn)
    try:
        commit = hub.commit("org/bert", FILES)
        result = pin(endpoint=[mirror.url, hub.url], token_endpoint=["https://huggingface.co"])
    finally:
        mirror.close()
    assert result["pins"][0]["commit"] == commit
    said = f"{mirror.url.partition('//')[2]} was passed over for another endpoint, 2 times in this run: Failed to get the revision main of "
    assert [said in str(one) for one in result["warnings"] if mirror.url.partition("//")[2] in str(one)] == [True]


def test_limit_is_told_with_the_time(hub, pin):
    hub.commit("org/bert", FILES)
    hub.fault = (429, {"Retry-After": "12"})
    assert "Run again after 12 s" in pin()["msg"]


def test_official_hub_gets_the_token_by_default():
    hub = _huggingface.Hub(
        {"endpoint": ["https://mirror.test", "https://huggingface.co/"], "token": "t", "token_endpoint": ["https://huggingface.co"]}
    )
    assert [hub._token_for(endpoint) for endpoint in hub.endpoints] == [None, "t"]
    assert hub.judges == ["https://huggingface.co"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"endpoint": ["ftp://x"]}, "one of endpoint is no http"),
        ({"endpoint": ["https://user:secret@x"]}, "holds more than scheme"),
        ({"endpoint": []}, "there is no endpoint"),
        ({"token": "a\n"}, "the token ends with a line end"),
        ({"token": "ä"}, "holds what no token has"),
    ],
)
def test_options_are_looked_at(options, said):
    found = _huggingface.options_problem({"endpoint": ["https://x"], "token_endpoint": ["https://x"], **options})
    assert said in found
    assert "secret" not in found
