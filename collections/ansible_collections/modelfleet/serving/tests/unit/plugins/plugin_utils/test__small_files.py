# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import multiprocessing
import random

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _huggingface_pack
from ansible_collections.modelfleet.serving.plugins.plugin_utils import _small_files
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_hub import FakeHub, git_sha1

REPO = "org/bert"
FILES = {f"{number}.json": random.Random(number).randbytes(100) for number in range(10)}


@pytest.fixture
def hub(monkeypatch):
    for name in "http_proxy", "HTTP_PROXY":
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_small_files, "_PATIENCE_S", 0)
    fake = FakeHub(None)
    yield fake
    fake.close()


def bring(hub, top, queue, token, files=None):
    """What a process of Ansible does for a host."""
    (commit,) = hub.repositories[REPO].commits
    args = {
        "artifacts": [{"huggingface": {"repo": REPO, "revision": commit}}],
        "huggingface": {"endpoint": [hub.url], "token_endpoint": [hub.url], "token": token},
        "huggingface_pins": {f"{REPO}@{commit}": {"files": hub.listing(REPO, commit)}},
    }
    said = [{"repo": REPO, "revision": commit, "git_sha1": list(map(git_sha1, files or FILES.values()))}]
    brought = _small_files.bring(str(top), args, said, local=True)
    contents = {}
    for name, path in brought.files.items():
        with open(path, "rb") as handle:
            contents[name] = handle.read()
    queue.put((contents, brought.requests, brought.problem))


def at_once(hub, top, tokens):
    """What each of several processes got that began at the same time."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=bring, args=(hub, top, queue, token)) for token in tokens]
    for process in processes:
        process.start()
    found = [queue.get(timeout=120) for _process in processes]
    for process in processes:
        process.join()
    return found


def test_processes_of_a_run_ask_once_together(hub, tmp_path):
    hub.commit(REPO, FILES)
    found = at_once(hub, tmp_path, ["alice", "bob", "alice"])
    wanted = {git_sha1(content): content for content in FILES.values()}
    assert [(contents, problem) for contents, _requests, problem in found] == [(wanted, None)] * 3
    asked = [path for _method, path, _token in hub.asked if "/resolve/" in path]
    assert len(asked) == len(set(asked)) == len(FILES)
    assert sum(requests for _contents, requests, _problem in found) == len(hub.asked)


def test_a_token_that_the_hub_refuses_keeps_no_other_from_asking(hub, tmp_path):
    hub.commit(REPO, FILES)
    hub.repositories[REPO].granted = {"alice"}
    (refused,) = at_once(hub, tmp_path, ["bob"])
    assert refused[0] == {} and refused[1] == 1 and "has not been granted access" in refused[2]
    (found,) = at_once(hub, tmp_path, ["alice"])
    assert len(found[0]) == len(FILES) and found[2] is None


def test_what_is_too_much_for_one_pack_is_left(hub, tmp_path, monkeypatch):
    files = {"small": b"1", "large": b"2" * 900, "middle": b"3" * 99}
    hub.commit(REPO, files)
    monkeypatch.setattr(_huggingface_pack, "MAX_PACK", 100)
    queue = multiprocessing.get_context("fork").SimpleQueue()
    bring(hub, tmp_path, queue, None, files.values())
    assert queue.get()[0] == {git_sha1(content): content for content in (b"1", b"3" * 99)}
