# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

from ansible_collections.modelfleet.serving.plugins.filter.fleet_report import FilterModule

fleet_report = FilterModule().filters()["fleet_report"]
MIB = 1024 * 1024
SHA256 = "0f3a5e9c1f0c" + 52 * "0"
MODELS = [{"name": "resnet50", "version": "1.0", "sha256": SHA256}, {"name": "resnet50", "version": "0.9", "state": "absent"}]


def registered(**moved):
    moved = {"origin": 0, "remote_peer": 0, "local_peer": 0, **moved}
    return {"name": "resnet50", "version": "1.0", "action": "registered", "register_seconds": 4.2, "workers_ready": 2, "bytes": moved}


def answered(ok=True, detail=""):
    return {"model": "resnet50", "version": "1.0", "ok": ok, "seconds": 0.5, "detail": detail}


def test_a_registration_everywhere():
    results = {host: {"registrations": [registered(remote_peer=64 * MIB)], "checks": [answered()]} for host in ("gpu-1", "gpu-2")}
    seeds = {"seed-1": {"before": {"origin": 10}, "after": {"origin": 10 + 64 * MIB}}}
    report = fleet_report(results, MODELS, seeds)
    assert (report["ok"], report["problems"], report["not_checked"]) == (True, [], [])
    assert report["rows"][0] == {
        "host": "gpu-1",
        "model": "resnet50",
        "version": "1.0",
        "action": "registered",
        "register_seconds": 4.2,
        "workers_ready": 2,
        "first_inference_seconds": 0.5,
        "answer_ok": True,
        "detail": "",
        "bytes": {"origin": 0, "remote_peer": 64 * MIB, "local_peer": 0},
    }
    assert report["origin"] == {"bytes": 64 * MIB, "model_bytes": 64 * MIB, "ratio": 1.0}
    assert json.loads(json.dumps(report)) == report


def test_bytes_that_a_host_took_from_the_origin_itself_count():
    results = {"gpu-1": {"registrations": [registered(origin=MIB)], "checks": []}, "gpu-2": {"registrations": [registered(origin=MIB)]}}
    assert fleet_report(results, MODELS)["origin"] == {"bytes": 2 * MIB, "model_bytes": MIB, "ratio": 2.0}


def test_a_seed_that_was_not_read_leaves_the_origin_unknown():
    results = {"gpu-1": {"registrations": [registered(remote_peer=MIB)]}}
    for seed in ({}, {"after": {"origin": 1}}, {"before": None, "after": {"origin": 1}}):
        assert fleet_report(results, MODELS, {"seed-1": seed})["origin"] == {"bytes": None, "model_bytes": MIB, "ratio": None}


def test_a_seed_that_restarted_begins_to_count_again():
    results = {"gpu-1": {"registrations": [registered(remote_peer=MIB)]}}
    seeds = {"seed-1": {"before": {"origin": 9 * MIB}, "after": {"origin": MIB}}}
    assert fleet_report(results, MODELS, seeds)["origin"]["bytes"] == MIB


def test_wrong_answers_and_problems_are_listed():
    results = {
        "gpu-1": {"checks": [answered(ok=False, detail="y[0] is 0.2, not 0.1")]},
        "gpu-2": {"problems": ["TorchServe does not answer"]},
        "gpu-3": {},
    }
    report = fleet_report(results, MODELS, asked=["gpu-1", "gpu-2"])
    assert report["ok"] is False
    assert report["problems"] == [
        "gpu-2: TorchServe does not answer",
        "gpu-1: resnet50 1.0 does not give its known answer: y[0] is 0.2, not 0.1",
    ]
    assert (report["failed"], report["not_checked"]) == ([], ["gpu-3"])
    assert [row["answer_ok"] for row in report["rows"]] == [False, None]


def test_a_run_that_downloads_nothing():
    unchanged = {**registered(), "action": "unchanged", "register_seconds": 0, "bytes": {}}
    report = fleet_report({"gpu-1": {"registrations": [unchanged], "checks": [answered()]}}, MODELS)
    assert report["rows"][0]["bytes"] is None
    assert report["origin"] == {"bytes": 0, "model_bytes": 0, "ratio": None}


def served(**changes):
    file = "resnet50-1.0-0f3a5e9c1f0c.mar"
    return {"name": "resnet50", "version": "1.0", "default": True, "file": file, "workers": 2, "workers_ready": 2, **changes}


def test_a_host_that_failed_before_is_a_problem_and_one_that_was_left_out_is_not():
    results = {"gpu-1": {"served": [served()]}, "gpu-2": {}, "gpu-3": {}}
    seeds = {"seed-1": {}, "seed-2": {}}
    schedulers = {"scheduler-1": {}, "scheduler-2": {"problem": ""}}
    report = fleet_report(results, MODELS, seeds, schedulers, asked=["scheduler-1", "scheduler-2", "seed-1", "gpu-1", "gpu-2"])
    assert report["ok"] is False
    unknown = "nothing is known of it; see where it failed in this run"
    assert report["problems"] == [f"{host}: {unknown}" for host in ("scheduler-1", "seed-1", "gpu-2")]
    assert (report["failed"], report["not_checked"]) == (["gpu-2"], ["gpu-3"])


def test_seeds_and_schedulers_say_what_is_wrong_with_them():
    seeds = {"seed-1": {"after": None, "problem": "dfdaemon does not answer"}, "seed-2": {"problem": ""}}
    report = fleet_report({"gpu-1": {"served": [served()]}}, MODELS, seeds, {"scheduler-1": {"problem": "no answer"}})
    assert report["problems"] == ["scheduler-1: no answer", "seed-1: dfdaemon does not answer"]


def test_the_inventory_says_what_should_be_served():
    models = [{**MODELS[0], "workers": "4", "default": True}]
    results = {
        "gpu-1": {"served": [served(workers=4, workers_ready=4)]},
        "gpu-2": {"served": [served(file="resnet50-1.0-ffffffffffff.mar", workers=4, workers_ready=4)]},
        "gpu-3": {"served": [served(workers=1, workers_ready=1)]},
        "gpu-4": {"served": [served(workers=0, workers_ready=0, default=False)]},
    }
    assert fleet_report(results, models)["problems"] == [
        "gpu-2: resnet50 1.0 is served from resnet50-1.0-ffffffffffff.mar instead of resnet50-1.0-0f3a5e9c1f0c.mar;"
        " remove it (state: absent) and run modelfleet.serving.site",
        "gpu-3: resnet50 1.0 has 1 of 4 workers; run modelfleet.serving.site",
        "gpu-4: resnet50 1.0 has 0 of 4 workers; run modelfleet.serving.site",
        "gpu-4: resnet50 1.0 is not the default version; run modelfleet.serving.site",
    ]


def test_a_seed_peer_that_also_serves_counts_once():
    results = {"gpu-1": {"registrations": [registered(origin=MIB)]}}
    seeds = {"gpu-1": {"before": {"origin": 0}, "after": {"origin": MIB}, "problem": ""}}
    assert fleet_report(results, MODELS, seeds)["origin"] == {"bytes": MIB, "model_bytes": MIB, "ratio": 1.0}


def test_models_that_are_not_served_are_listed():
    ready = served()
    results = {"gpu-1": {"served": [ready]}, "gpu-2": {"served": [{**ready, "workers_ready": 1}]}, "gpu-3": {"served": []}}
    assert fleet_report(results, MODELS)["problems"] == [
        "gpu-2: resnet50 1.0 has 1 of 2 workers READY; see journalctl -u torchserve",
        "gpu-3: resnet50 1.0 is not served; run modelfleet.serving.site",
    ]
