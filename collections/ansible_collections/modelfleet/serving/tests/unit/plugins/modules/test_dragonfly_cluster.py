# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import dragonfly_cluster
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_manager import FakeManager


@pytest.fixture
def manager():
    fake = FakeManager()
    yield fake
    fake.close()


@pytest.fixture
def run(manager, tmp_path, run_module):
    path = tmp_path / "token"
    path.write_text(manager.token() + "\n")

    def call(check=False, diff=False, **options):
        return run_module(dragonfly_cluster.main, {"url": manager.url, "token_path": str(path), **options}, check=check, diff=diff)

    return call


def written(manager):
    return [request for request in manager.requests if request[0] != "GET"]


def test_sets_one_limit_and_leaves_the_others(manager, run):
    before = copy.deepcopy(manager.clusters[0])
    result = run(candidate_parent_limit=2)
    assert result["changed"] and result["cluster"]["candidate_parent_limit"] == 2
    after = manager.clusters[0]
    # A request with this one limit alone would have made the others 0, and the cluster no default.
    assert after["scheduler_cluster_config"] == {"candidate_parent_limit": 2, "filter_parent_limit": 15, "job_rate_limit": 10}
    assert {key: after[key] for key in ("is_default", "peer_cluster_config", "seed_peer_cluster_config")} == {
        key: before[key] for key in ("is_default", "peer_cluster_config", "seed_peer_cluster_config")
    }
    assert not run(candidate_parent_limit=2)["changed"]
    assert len(written(manager)) == 1


def test_leaves_block_lists_as_they_are(manager, run):
    blocked = {"task": {"download": {"urls": ["secret"]}}, "persistent_task": None, "persistent_cache_task": None}
    manager.clusters[0]["peer_cluster_config"] = {"load_limit": 200, "block_list": blocked}
    run(peer_load_limit=50)
    assert manager.clusters[0]["peer_cluster_config"] == {"load_limit": 50, "block_list": blocked}


def test_check_mode_and_diff(manager, run):
    result = run(check=True, diff=True, seed_peer_load_limit=300, default=False)
    assert result["changed"] and written(manager) == []
    assert '"seed_peer_load_limit": 2000' in result["diff"]["before"] and '"seed_peer_load_limit": 300' in result["diff"]["after"]
    assert '"default": false' in result["diff"]["after"]


def test_a_new_cluster_gets_every_limit(manager, run):
    assert run(check=True, name="site 2")["cluster"]["id"] == 0
    result = run(name="site 2", description="b", cidrs=["10.2.0.0/16"])
    assert result["changed"] and result["cluster"]["filter_parent_limit"] == 15 and result["cluster"]["seed_peer_load_limit"] == 2000
    assert result["cluster"]["id"] == manager.clusters[1]["id"]
    assert not run(name="site 2", description="b", cidrs=["10.2.0.0/16"])["changed"]
    assert run(name="site 2", cidrs=[])["changed"]
    assert run(name="site 2", cidrs=["10.3.0.0/16"], hostnames=["gpu-.*"])["cluster"]["hostnames"] == ["gpu-.*"]


def test_a_description_cannot_be_taken_away(manager, run):
    run(description="mine")
    result = run(description="")
    assert result["msg"] == "Failed to empty the description of the cluster cluster-1: the manager cannot; write another text."


def test_what_the_manager_would_refuse(run):
    assert run(candidate_parent_limit=21)["msg"] == (
        "Failed to set candidate_parent_limit of the cluster cluster-1 to 21: the manager takes 1 to 20."
    )


def test_what_was_not_kept(manager, run, monkeypatch):
    monkeypatch.setattr(manager, "write", lambda cluster, _body: cluster)
    assert "has another filter_parent_limit all the same" in run(filter_parent_limit=20)["msg"]


def test_removes(manager, run):
    run(name="site-2")
    assert run(name="site-2", state="absent", check=True)["changed"] and len(manager.clusters) == 2
    assert run(name="site-2", state="absent")["changed"] and len(manager.clusters) == 1
    assert not run(name="site-2", state="absent")["changed"]


def test_one_with_a_scheduler_stays(manager, run):
    manager.schedulers.append({"id": 3, "scheduler_cluster_id": 1})
    assert "schedulers are registered in it. Let them register in another" in run(state="absent")["msg"]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"scopes": ["job"]}, "it refuses the token (Token doesn't have permission to access this resource. Required permission: cluster)"),
        ({"state": "inactive"}, "it refuses the token (Token is inactive)"),
        ({"token": "other"}, "it does not know the token; let the role dragonfly_manager make another"),
    ],
)
def test_a_token_that_is_no_use(manager, run, broken, said):
    manager.tokens[0].update(broken)
    assert said in run()["msg"]


def test_no_token(run, tmp_path):
    result = run(token_path=str(tmp_path / "none"))
    assert "none is not there, or empty. Run this on the manager's host" in result["msg"]


def test_what_is_no_manager(manager, run, monkeypatch):
    monkeypatch.setattr(manager, "answer", lambda *_request: (200, "<html>"))
    assert "what answers there is no manager of Dragonfly; correct the URL" in run()["msg"]
    monkeypatch.setattr(manager, "answer", lambda *_request: (301, "moved"))
    assert "does not know this path" in run()["msg"]
    assert "has a password; write another" in run(url="http://user:word@127.0.0.1")["msg"]
    manager.close()
    result = run(url="http://127.0.0.1:1")
    assert (
        "Failed to call GET http://127.0.0.1:1/oapi/v1/clusters" in result["msg"] and "systemctl status dragonfly-manager" in result["msg"]
    )
