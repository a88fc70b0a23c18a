# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import dragonfly_preheat
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_manager import FakeManager

FILE = "https://data.example.com/shard.tar"
SIGNED = f"{FILE}?versionId=1&X-Amz-Signature=deadbeef"


@pytest.fixture
def manager(monkeypatch):
    monkeypatch.setattr(dragonfly_preheat, "POLL_S", 0.01)
    fake = FakeManager()
    fake.schedulers.append({"id": 3, "state": "active", "scheduler_cluster_id": 1})
    yield fake
    fake.close()


@pytest.fixture
def run(manager, tmp_path, run_module):
    path = tmp_path / "token"
    path.write_text(manager.token())

    def call(*urls, check=False, diff=False, **options):
        options = {"url": manager.url, "token_path": str(path), "urls": list(urls or [FILE]), **options}
        return run_module(dragonfly_preheat.main, options, check=check, diff=diff)

    return call


def made(manager):
    return [body for method, path, body in manager.requests if method == "POST"]


def test_makes_a_job_and_waits_for_it(manager, run):
    manager.looks = 3
    result = run(FILE, headers={"Authorization": "Bearer deep"}, tag="t", filtered_query_params=["a", "b"], timeout=60)
    assert result["changed"] and result["state"] == "SUCCESS" and result["job_id"] == manager.jobs[0]["id"]
    assert made(manager) == [
        {
            "type": "preheat",
            "scheduler_cluster_ids": [1],
            "args": {
                **{"type": "file", "urls": [FILE], "scope": "all_seed_peers", "timeout": 60 * 10**9, "tag": "t"},
                **{"headers": {"Authorization": "Bearer deep"}, "filtered_query_params": "a&b"},
            },
        }
    ]


def test_what_was_warmed_of_late_is_not_warmed_again(manager, run):
    run(SIGNED)
    assert not run(SIGNED.replace("deadbeef", "cafe"))["changed"]
    assert run(SIGNED.replace("versionId=1", "versionId=2"))["changed"]
    assert run(SIGNED, tag="other")["changed"] and run(SIGNED, fresh_seconds=0)["changed"]
    assert len(manager.jobs) == 4
    for job in manager.jobs:
        job["updated_at"] = "2026-01-01T00:00:00.1Z"
    assert run(SIGNED)["changed"]


def test_another_cluster_is_another_job(manager, run):
    run()
    manager.clusters.append({**manager.clusters[0], "id": 2})
    assert run(cluster_ids=[2])["changed"] and not run(cluster_ids=[2])["changed"]


def test_check_mode_and_diff(manager, run):
    result = run(SIGNED, check=True, diff=True)
    assert result["changed"] and result["job_id"] == 0 and manager.jobs == []
    assert result["diff"]["before"] == "" and FILE in result["diff"]["after"] and "deadbeef" not in json.dumps(result)
    run(SIGNED)
    result = run(SIGNED, check=True)
    assert not result["changed"] and result["state"] == "SUCCESS"


def test_a_failure_says_why_without_the_signature(manager, run):
    manager.fails = f"all peers preheat failed: 10.0.0.2 seed task 69b4 failed: backend error: 404 Not Found for {SIGNED}"
    result = run(SIGNED)
    assert "404 Not Found for https://data.example.com/shard.tar. See that seed peers run" in result["msg"]
    assert "deadbeef" not in json.dumps(result) and result["job_id"] == manager.jobs[0]["id"]
    assert run(SIGNED)["msg"] and len(manager.jobs) == 2


def test_a_single_seed_peer_succeeds_only_where_it_names_the_file(manager, run):
    manager.fetches = False
    result = run(scope="single_seed_peer")
    assert manager.jobs[0]["state"] == "SUCCESS" and "does not name every URL as fetched" in result["msg"]
    manager.fetches = True
    # What did not fetch it does not count.
    assert run(scope="single_seed_peer")["changed"] and not run(scope="single_seed_peer")["changed"]


def test_one_that_does_not_end(manager, run):
    manager.looks = 10**6
    result = run(timeout=0)
    assert "Failed to see the end of job" in result["msg"] and "it goes on. Ask again" in result["msg"]
    manager.jobs[0]["looks"] = manager.looks = 1
    assert not run()["changed"] and len(manager.jobs) == 1


def test_nobody_who_could_do_it(manager, run):
    manager.schedulers[0]["state"] = "inactive"
    assert "no active scheduler is registered in the cluster 1. Set modelfleet_manager_mode" in run()["msg"]
    assert "has no cluster of that number" in run(cluster_ids=[9])["msg"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"piece_length": 5}, "Dragonfly takes 4194304 to 67108864"),
        ({"urls": ["s3://bucket/key"]}, "Failed to preheat urls[0]: it is no URL of http or https"),
        ({"urls": []}, "the option urls is empty"),
        ({"headers": {"X-A": 1}}, "Failed to preheat with the header X-A: its value is no text"),
    ],
)
def test_what_is_refused_before_it_is_sent(manager, run, options, said):
    assert said in run(**options)["msg"]
    assert manager.requests == []
