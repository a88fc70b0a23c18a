# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.fleet_report import FilterModule

fleet_report = FilterModule().filters()["fleet_report"]
MIB = 1024 * 1024
SHA256 = "0f3a5e9c1f0c" + 52 * "0"
FILE = "resnet50-1.0-0f3a5e9c1f0c.mar"
MODELS = [{"name": "resnet50", "version": "1.0", "sha256": SHA256}, {"name": "resnet50", "version": "0.9", "state": "absent"}]


def registered(**moved):
    moved = {"origin": 0, "remote_peer": 0, "local_peer": 0, **moved}
    return {"name": "resnet50", "version": "1.0", "action": "registered", "register_seconds": 4.2, "workers_ready": 2, "bytes": moved}


def answered(ok=True, detail=""):
    return {"model": "resnet50", "version": "1.0", "ok": ok, "seconds": 0.5, "detail": detail}


def served(**changes):
    return {"name": "resnet50", "version": "1.0", "default": True, "file": FILE, "workers": 2, "workers_ready": 2, "gpu": 0, **changes}


def gpu(models=None, device="cpu", **said):
    """What is known of a GPU host that said ``said``."""
    return {"models": MODELS if models is None else models, "device": device, "gpu": {"served": [served()], **said}}


def report_of(facts, seeds=None, schedulers=None, **options):
    """The report of GPU hosts with these facts, all of them asked unless ``asked`` names others."""
    jobs = {"scheduler": list(schedulers or {}), "seed": list(seeds or {}), "gpu": list(facts)}
    merged = {host: {"scheduler": said} for host, said in (schedulers or {}).items()}
    merged.update({host: {"seed": said} for host, said in (seeds or {}).items()})
    for host, known in facts.items():
        merged[host] = {**merged.get(host, {}), **known}
    return fleet_report(merged, jobs, **{"asked": list(merged), **options})


def problems(facts, **options):
    return [(one["host"], one["message"]) for one in report_of(facts, **options)["problems"]]


def test_a_registration_everywhere():
    facts = {host: gpu(registrations=[registered(remote_peer=64 * MIB)], checks=[answered()]) for host in ("gpu-1", "gpu-2")}
    seeds = {"seed-1": {"before": {"origin": 10}, "after": {"origin": 10 + 64 * MIB}}}
    report = report_of(facts, seeds)
    assert (report["ok"], report["problems"], report["not_checked"]) == (True, [], [])
    assert report["hub"] == {"hosts": 0, "controller": 0}
    assert list(report["hosts"]) == ["seed-1", "gpu-1", "gpu-2"]
    assert report["hosts"]["gpu-1"] == {
        "ok": True,
        "jobs": ["gpu"],
        "answered": True,
        "problems": [],
        "models": [
            {
                "model": "resnet50",
                "version": "1.0",
                "action": "registered",
                "register_seconds": 4.2,
                "artifact_action": None,
                "artifact_seconds": None,
                "size": None,
                "fetched": None,
                "workers_ready": 2,
                "first_inference_seconds": 0.5,
                "answer_ok": True,
                "detail": "",
                "bytes": {"origin": 0, "remote_peer": 64 * MIB, "local_peer": 0},
            }
        ],
        "caches": [],
        "bytes": {"origin": 0, "remote_peer": 64 * MIB, "local_peer": 0},
    }
    assert report["hosts"]["seed-1"]["traffic"] == seeds["seed-1"]
    assert report["origin"] == {"bytes": 64 * MIB, "model_bytes": 64 * MIB, "ratio": 1.0}
    assert json.loads(json.dumps(report)) == report


def brought(*artifacts, **moved):
    return {"artifacts": list(artifacts), "bytes": {"origin": 0, "remote_peer": 0, "local_peer": 0, **moved} if moved else {}}


def artifact(action="fetched", fetched=64 * MIB, moved=None, **changes):
    found = {"name": "resnet50", "version": "1.0", "action": action, "seconds": 2.5, "size": 65 * MIB, "fetched": fetched, **changes}
    return {**found, "bytes": moved or {}}


BUNDLES = [{**MODELS[0], "bundle": "bundles/resnet50"}]
DIRECTORY = FILE.removesuffix(".mar")
SEED = {"before": {"origin": 0}, "after": {"origin": 64 * MIB}}


def test_a_bundle_that_was_brought_before_it_was_registered():
    came = {"origin": 0, "remote_peer": 64 * MIB, "local_peer": 0}
    said = {"registrations": [{**registered(), "bytes": {}}], "served": [served(file=DIRECTORY)]}
    report = report_of({"gpu-1": gpu(BUNDLES, brought=brought(artifact(moved=came), **came), **said)}, {"seed-1": SEED})
    assert report["ok"], report["problems"]
    (row,) = report["hosts"]["gpu-1"]["models"]
    assert (row["action"], row["artifact_action"], row["register_seconds"], row["artifact_seconds"]) == ("registered", "fetched", 6.7, 2.5)
    assert (row["size"], row["fetched"], row["bytes"]) == (65 * MIB, 64 * MIB, came)
    assert report["hosts"]["gpu-1"]["bytes"] == came
    assert report["origin"] == {"bytes": 64 * MIB, "model_bytes": 64 * MIB, "ratio": 1.0}


def test_the_sources_of_bundles_that_came_at_once_are_the_hosts():
    models = [*BUNDLES, {**BUNDLES[0], "version": "2.0"}]
    two = [artifact(), artifact(version="2.0", fetched=MIB)]
    facts = {host: gpu(models, brought=brought(*two, remote_peer=63 * MIB, origin=2 * MIB), served=None) for host in ("gpu-1", "gpu-2")}
    report = report_of(facts, {"seed-1": SEED})
    assert [row["bytes"] for row in report["hosts"]["gpu-1"]["models"]] == [None, None]
    assert report["hosts"]["gpu-1"]["bytes"] == {"origin": 2 * MIB, "remote_peer": 63 * MIB, "local_peer": 0}
    assert report["origin"] == {"bytes": 68 * MIB, "model_bytes": 65 * MIB, "ratio": round(68 / 65, 4)}


def test_a_compile_cache_is_counted_and_its_lack_is_no_problem():
    moved = {"origin": 0, "remote_peer": 2 * MIB, "local_peer": 0}
    failed = {"name": "resnet50.compile", "version": "1.0-0123", "action": "failed"}
    came = {**failed, "action": "fetched", "size": 2 * MIB, "fetched": 2 * MIB, "seconds": 1.0, "bytes": moved}
    facts = {
        "gpu-1": gpu(brought={"artifacts": [], "bytes": {}, "caches": [came], "cache_bytes": moved}),
        "gpu-2": gpu(brought={"artifacts": [], "bytes": {}, "caches": [failed]}),
    }
    report = report_of(facts)
    assert report["ok"] and report["origin"]["model_bytes"] == 2 * MIB
    assert report["hosts"]["gpu-1"]["bytes"] == moved
    assert [(row["model"], row["artifact_action"]) for one in report["hosts"].values() for row in one["caches"]] == [
        ("resnet50.compile", "fetched"),
        ("resnet50.compile", "failed"),
    ]


def test_a_bundle_that_was_there_already():
    said = {"registrations": [{**registered(), "action": "unchanged", "register_seconds": 0.0, "bytes": {}}]}
    report = report_of({"gpu-1": gpu(BUNDLES, brought=brought(artifact("unchanged", 0)), **said)})
    (row,) = report["hosts"]["gpu-1"]["models"]
    assert (row["register_seconds"], row["bytes"], row["size"], row["fetched"]) == (0.0, None, 65 * MIB, 0)
    assert report["origin"] == {"bytes": 0, "model_bytes": 0, "ratio": None}


def test_what_check_mode_would_bring_did_not_come():
    assert report_of({"gpu-1": gpu(BUNDLES, brought=brought(artifact()), served=None)})["origin"]["model_bytes"] == 0


def test_what_was_only_brought_is_not_asked_whether_it_is_served():
    report = report_of({"gpu-1": gpu(BUNDLES, brought=brought(artifact(), origin=64 * MIB), served=None)})
    assert report["ok"]
    (row,) = report["hosts"]["gpu-1"]["models"]
    assert (row["action"], row["register_seconds"], row["answer_ok"], row["artifact_action"]) == (None, None, None, "fetched")


def test_a_bundle_is_served_from_its_directory():
    assert problems({"gpu-1": gpu(BUNDLES, served=[served(file=DIRECTORY)])}) == []
    ((_host, message),) = problems({"gpu-1": gpu(BUNDLES)})
    assert f"is served from {FILE} instead of {DIRECTORY};" in message


def test_bytes_that_a_host_took_from_the_origin_itself_count():
    facts = {host: gpu(registrations=[registered(origin=MIB)]) for host in ("gpu-1", "gpu-2")}
    assert report_of(facts)["origin"] == {"bytes": 2 * MIB, "model_bytes": MIB, "ratio": 2.0}


@pytest.mark.parametrize("seed", [{}, {"after": {"origin": 1}}, {"before": None, "after": {"origin": 1}}])
def test_a_seed_that_was_not_read_leaves_the_origin_unknown(seed):
    report = report_of({"gpu-1": gpu(registrations=[registered(remote_peer=MIB)])}, {"seed-1": seed})
    assert report["origin"] == {"bytes": None, "model_bytes": MIB, "ratio": None}


def test_a_seed_that_restarted_begins_to_count_again():
    seeds = {"seed-1": {"before": {"origin": 9 * MIB}, "after": {"origin": MIB}}}
    assert report_of({"gpu-1": gpu(registrations=[registered(remote_peer=MIB)])}, seeds)["origin"]["bytes"] == MIB


def test_a_seed_peer_that_also_serves_counts_once():
    seeds = {"gpu-1": {"before": {"origin": 0}, "after": {"origin": MIB}, "problem": ""}}
    report = report_of({"gpu-1": gpu(registrations=[registered(origin=MIB)])}, seeds)
    assert report["origin"] == {"bytes": MIB, "model_bytes": MIB, "ratio": 1.0}


def test_wrong_answers_and_problems_are_listed_with_their_host():
    facts = {
        "gpu-1": gpu(checks=[answered(ok=False, detail="y[0] is 0.2, not 0.1")]),
        "gpu-2": gpu(served=None, problems=["TorchServe does not answer"]),
        "gpu-3": {},
    }
    report = report_of(facts, asked=["gpu-1", "gpu-2"])
    assert report["ok"] is False
    assert report["problems"] == [
        {"host": "gpu-1", "message": "resnet50 1.0 does not give its known answer: y[0] is 0.2, not 0.1"},
        {"host": "gpu-2", "message": "TorchServe does not answer"},
    ]
    assert report["hosts"]["gpu-2"]["problems"] == ["TorchServe does not answer"]
    assert [report["hosts"][host]["ok"] for host in facts] == [False, False, None]
    assert report["not_checked"] == ["gpu-3"]
    assert [report["hosts"][host]["models"][0]["answer_ok"] for host in ("gpu-1", "gpu-2")] == [False, None]


def test_each_host_is_judged_by_its_own_list():
    own = [{"name": "bert", "version": "2.0", "sha256": "ab" * 32}]
    wrong = {"model": "bert", "version": "2.0", "ok": False, "seconds": 0.1, "detail": "$ is 1, expected 2"}
    bert = {**served(), "name": "bert", "version": "2.0", "file": f"bert-2.0-{'ab' * 6}.mar"}
    facts = {"gpu-1": gpu(checks=[answered()]), "gpu-2": gpu(own, served=[bert], checks=[wrong]), "gpu-3": gpu([], served=[])}
    report = report_of(facts)
    assert [(one["host"], one["message"]) for one in report["problems"]] == [
        ("gpu-2", "bert 2.0 does not give its known answer: $ is 1, expected 2")
    ]
    assert [[row["model"] for row in one["models"]] for one in report["hosts"].values()] == [["resnet50"], ["bert"], []]


def test_a_host_that_failed_says_why_and_one_that_was_left_out_is_no_problem():
    facts = {"gpu-1": gpu(), "gpu-2": {"problem": "Reach the host: unreachable", "models": MODELS}, "gpu-3": {}, "gpu-4": {}}
    report = report_of(facts, {"seed-1": {}, "seed-2": {}}, {"scheduler-1": {}, "scheduler-2": {"problem": ""}}, asked=[
        "scheduler-1", "scheduler-2", "seed-1", "gpu-1", "gpu-2", "gpu-3"
    ])  # fmt: skip
    unknown = "nothing is known of it; see where it failed in this run"
    assert [(one["host"], one["message"]) for one in report["problems"]] == [
        ("scheduler-1", unknown),
        ("seed-1", unknown),
        ("gpu-2", "Reach the host: unreachable"),
        ("gpu-3", unknown),
    ]
    assert report["not_checked"] == ["seed-2", "gpu-4"]
    assert [row["model"] for row in report["hosts"]["gpu-2"]["models"]] == ["resnet50"]


def test_a_host_whose_registration_failed_is_judged_all_the_same():
    facts = {"gpu-1": {**gpu(served=[]), "problem": "Register the models: no"}}
    assert problems(facts) == [
        ("gpu-1", "Register the models: no"),
        ("gpu-1", "resnet50 1.0 is not served; run modelfleet.serving.site"),
    ]


def test_who_stopped_the_run_is_named():
    facts = {"gpu-1": {"problem": "Check this host: no", "models": MODELS}, "gpu-2": gpu()}
    assert problems(facts, stopped_by=["gpu-1"]) == [
        ("gpu-1", "Check this host: no"),
        ("gpu-2", "the run stopped before it was done with this host, because of gpu-1"),
    ]


def test_seeds_and_schedulers_say_what_is_wrong_with_them():
    seeds = {"seed-1": {"after": None, "problem": "dfdaemon does not answer"}, "seed-2": {"problem": ""}}
    assert problems({"gpu-1": gpu()}, seeds=seeds, schedulers={"scheduler-1": {"problem": "no answer"}}) == [
        ("scheduler-1", "no answer"),
        ("seed-1", "dfdaemon does not answer"),
    ]


def test_a_run_that_downloads_nothing():
    unchanged = {**registered(), "action": "unchanged", "register_seconds": 0, "bytes": {}}
    report = report_of({"gpu-1": gpu(registrations=[unchanged], checks=[answered()])})
    assert report["hosts"]["gpu-1"]["models"][0]["bytes"] is None
    assert report["origin"] == {"bytes": 0, "model_bytes": 0, "ratio": None}


def test_the_inventory_says_what_should_be_served():
    models = [{**MODELS[0], "workers": "4", "default": True}]
    facts = {
        "gpu-1": gpu(models, served=[served(workers=4, workers_ready=4)]),
        "gpu-2": gpu(models, served=[served(file="resnet50-1.0-ffffffffffff.mar", workers=4, workers_ready=4)]),
        "gpu-3": gpu(models, served=[served(workers=1, workers_ready=1)]),
        "gpu-4": gpu(models, served=[served(workers=0, workers_ready=0, default=False)]),
        "gpu-5": gpu(models, served=[served(workers=4, workers_ready=1)]),
        "gpu-6": gpu(models, served=[]),
    }
    assert problems(facts) == [
        (
            "gpu-2",
            f"resnet50 1.0 is served from resnet50-1.0-ffffffffffff.mar instead of {FILE};"
            " remove it (state: absent) and run modelfleet.serving.site",
        ),
        ("gpu-3", "resnet50 1.0 has 1 of 4 workers; run modelfleet.serving.site"),
        ("gpu-4", "resnet50 1.0 has 0 of 4 workers; run modelfleet.serving.site"),
        ("gpu-4", "resnet50 1.0 is not the default version; run modelfleet.serving.rollout"),
        ("gpu-5", "resnet50 1.0 has 1 of 4 workers READY; see journalctl -u torchserve"),
        ("gpu-6", "resnet50 1.0 is not served; run modelfleet.serving.site"),
    ]


def test_what_is_served_and_not_listed_is_drift():
    other = {**served(), "name": "other", "version": "3"}
    gone = {**served(), "version": "0.9", "default": False}
    recorded = [{"name": "forgotten", "version": "1"}, {"name": "other", "version": "3"}]
    expected = [
        "resnet50 0.9 is served, but modelfleet_models says state: absent; run modelfleet.serving.site",
        "other 3 is served, but is not in modelfleet_models; add it there, or list it with state: absent and run modelfleet.serving.site",
        "forgotten 1 is not served, but restored at the next boot, and is not in modelfleet_models; add it there, or list it with"
        " state: absent and run modelfleet.serving.site",
    ]
    said = {"served": [served(), gone, other], "recorded": recorded}
    assert [message for _host, message in problems({"gpu-1": gpu(**said)})] == expected
    # Check mode has foretold that the absent one goes.
    assert [message for _host, message in problems({"gpu-1": gpu(**said, predicted=True)})] == expected[1:]


def test_check_mode_asks_for_nothing_that_it_only_foretold():
    assert problems({"gpu-1": gpu(served=[], predicted=True)}) == []


@pytest.mark.parametrize(
    ("host", "model", "on_gpu", "ready"),
    [("gpu", None, 1, 1), ("gpu", None, 2, 2), ("gpu", "cpu", 0, 2), ("cpu", None, 0, 2), ("cpu", "gpu", 0, 0)],
)
def test_workers_that_fell_back_to_the_cpu_are_not_ready(host, model, on_gpu, ready):
    models = [{**MODELS[0], "workers": 2, **({"device": model} if model else {})}]
    report = report_of({"gpu-1": gpu(models, host, served=[served(gpu=on_gpu)])})
    assert report["hosts"]["gpu-1"]["models"][0]["workers_ready"] == ready
    told = [
        f"resnet50 1.0 has {ready} of 2 workers READY on a GPU, the others fell back to the CPU; see nvidia-smi and journalctl"
        " -u torchserve, or say device: cpu for a model that needs no GPU"
    ]
    assert report["hosts"]["gpu-1"]["problems"] == (told if ready < 2 else [])


LLAMA = {"name": "llama", "version": "3.1", "bundle": "models/llama", "sha256": SHA256, "runtime": "openai", "port": 8101}
SERVER = {
    "name": "llama",
    "version": "3.1",
    "default": True,
    "file": "llama-3.1-0f3a5e9c1f0c",
    "unit": "openai-server-llama-3.1-0f3a5e9c1f0c.service",
    "port": 8101,
    "workers": 1,
    "workers_ready": 1,
    "gpu": 0,
    "detail": "",
}


def test_models_of_two_runtimes_on_one_host():
    report = report_of({"gpu-1": gpu([*MODELS, LLAMA], openai=[SERVER], recorded=[served(), SERVER])})
    assert report["ok"], report["problems"]
    assert [(row["model"], row["workers_ready"]) for row in report["hosts"]["gpu-1"]["models"]] == [("resnet50", 2), ("llama", 1)]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], "llama 3.1 is not served; run modelfleet.serving.site"),
        (
            [{**SERVER, "workers_ready": 0, "detail": "/health answers 503: Loading model"}],
            f"llama 3.1 is not ready (/health answers 503: Loading model); see journalctl -u {SERVER['unit']}",
        ),
        (
            [{**SERVER, "file": "llama-3.1-9"}],
            "llama 3.1 is served from llama-3.1-9 instead of llama-3.1-0f3a5e9c1f0c; remove it (state: absent)",
        ),
        (
            [SERVER, {**SERVER, "version": "3.0"}],
            "llama 3.0 is served, but is not in modelfleet_models; add it there, or list it with state: absent and run",
        ),
    ],
)
def test_a_server_that_is_not_as_the_list_says(found, said):
    ((host, message),) = problems({"gpu-1": gpu([*MODELS, LLAMA], openai=found)})
    assert host == "gpu-1" and message.startswith(said)


def test_a_model_of_bentoml():
    listed = {**LLAMA, "runtime": "bentoml", "default": True}
    there = {**SERVER, "unit": "bentoml-llama-3.1-0f3a5e9c1f0c.service"}
    assert report_of({"gpu-1": gpu([*MODELS, listed], bentoml=[there], recorded=[served(), there])})["ok"]
    beside = {**there, "default": False}
    ((_host, message),) = problems({"gpu-1": gpu([*MODELS, listed], bentoml=[beside])})
    assert message == "llama 3.1 is not the default version; run modelfleet.serving.rollout"
    silent = {**there, "workers_ready": 0, "detail": "no port leads to it"}
    ((_host, message),) = problems({"gpu-1": gpu([*MODELS, listed], bentoml=[silent])})
    assert message == f"llama 3.1 is not ready (no port leads to it); see journalctl -u {there['unit']}"


def test_a_model_of_triton():
    listed = {key: value for key, value in LLAMA.items() if key != "port"} | {"runtime": "triton"}
    there = {**SERVER, "unit": "triton.service"}
    assert report_of({"gpu-1": gpu([*MODELS, listed], triton=[there], recorded=[served(), there])})["ok"]
    silent = {**there, "workers_ready": 0, "detail": "Triton says UNAVAILABLE, no memory"}
    ((_host, message),) = problems({"gpu-1": gpu([*MODELS, listed], triton=[silent])})
    assert message == "llama 3.1 is not ready (Triton says UNAVAILABLE, no memory); see journalctl -u triton.service"
    ((_host, message),) = problems({"gpu-1": gpu([*MODELS, listed], triton=[])})
    assert message.startswith("llama 3.1 is not served")


def test_servers_where_torchserve_is_down():
    """What it serves is not known; what has servers of its own is."""
    ((_host, message),) = problems({"gpu-1": {**gpu([*MODELS, LLAMA], openai=[]), "gpu": {"served": None, "openai": []}}})
    assert message.startswith("llama 3.1 is not served")
    assert problems({"gpu-1": gpu([*MODELS, LLAMA], openai=None)}) == []
