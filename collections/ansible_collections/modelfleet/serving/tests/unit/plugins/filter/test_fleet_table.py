# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.fleet_table import FilterModule

fleet_table = FilterModule().filters()["fleet_table"]
distribution_table = FilterModule().filters()["distribution_table"]
prune_table = FilterModule().filters()["prune_table"]
MIB = 1024 * 1024


def row(**options):
    return {
        "model": "resnet50",
        "version": "1.0",
        "action": "registered",
        "register_seconds": 4.214,
        "artifact_action": None,
        "artifact_seconds": None,
        "size": None,
        "fetched": None,
        "workers_ready": 2,
        "first_inference_seconds": 0.051,
        "answer_ok": True,
        "detail": "",
        "bytes": {"origin": 0, "remote_peer": 64 * MIB, "local_peer": 0},
        **options,
    }


def host(*rows, ok=True, answered=True, jobs=("gpu",), problems=(), bytes_=None, caches=()):
    return {
        "ok": ok,
        "jobs": jobs,
        "answered": answered,
        "problems": problems,
        "models": list(rows),
        "caches": list(caches),
        "bytes": bytes_,
    }


def report(problems=(), hosts=None, **origin):
    return {
        "hosts": hosts or {},
        "problems": problems,
        "origin": {"bytes": 0, "model_bytes": 0, "ratio": None, **origin},
        "hub": {"hosts": 0, "controller": 0},
    }


def test_table():
    unchanged = row(action="unchanged", register_seconds=0, answer_ok=False, bytes=None)
    hosts = {
        "seed-1": host(jobs=["seed"]),
        "gpu-1": host(row()),
        "gpu-10": host(unchanged, ok=False),
        "gpu-3": host(ok=None, answered=False),
    }
    lines = fleet_table(report(hosts=hosts, bytes=65 * MIB, model_bytes=64 * MIB, ratio=1.0156))
    assert lines == [
        "host    model     version  registered  answered  answer     origin    peers  local",
        "----------------------------------------------------------------------------------",
        "gpu-1   resnet50  1.0           4.21s     0.05s  ok             0B  64.0MiB     0B",
        "gpu-10  resnet50  1.0       unchanged     0.05s  FAILED          -        -      -",
        "gpu-3   -         -                 -         -  unchecked       -        -      -",
        "",
        "The origin sent 65.0 MiB for models of 64.0 MiB: 1.02 times their size.",
    ]


def test_what_is_wrong_follows():
    unknown = row(action=None, register_seconds=None, first_inference_seconds=None, answer_ok=None, bytes=None)
    hosts = {"gpu-1": host(row()), "gpu-2": host(unknown, ok=False, answered=False), "gpu-3": host(ok=False, answered=False)}
    lines = fleet_table(report([{"host": "gpu-2", "message": "nothing is known of it"}], hosts))
    assert [line.split()[0] for line in lines if "FAILED" in line] == ["gpu-2", "gpu-3"]
    assert lines[-3:] == ["", "Wrong:", "gpu-2: nothing is known of it"]


def test_a_model_that_was_not_asked_and_a_host_without_models():
    unasked = row(action=None, register_seconds=None, first_inference_seconds=None, answer_ok=None, bytes=None)
    lines = fleet_table(report(hosts={"gpu-1": host(unasked), "gpu-2": host()}))
    assert lines[2].startswith("gpu-1  ") and "unchecked" in lines[2]
    assert lines[3].split() == ["gpu-2", *"--------"]


def brought(action, size=65 * MIB, fetched=0, seconds=2.5, **options):
    return row(artifact_action=action, artifact_seconds=seconds, size=size, fetched=fetched, **{"bytes": None, **options})


def test_what_was_brought():
    moved = {"origin": MIB, "remote_peer": 64 * MIB, "local_peer": 0}
    hosts = {
        "seed-1": host(jobs=["seed"]),
        "gpu-1": host(brought("fetched", fetched=65 * MIB, bytes=moved), bytes_=moved),
        "gpu-2": host(brought("fetched", fetched=MIB), brought("fetched", fetched=64 * MIB), bytes_=moved),
        "gpu-3": host(brought("unchanged", seconds=0.0), brought("failed"), row(bytes=None), ok=False),
        "gpu-4": host(brought("fetched", None, None, 0.0), row(bytes=None), ok=None),
        "gpu-5": host(),
    }
    assert distribution_table(
        report([{"host": "gpu-3", "message": "no room"}], hosts, bytes=65 * MIB, model_bytes=65 * MIB, ratio=1.0)
    ) == [
        "host   artifact  version    brought  fetched    there  origin    peers  local",
        "-----------------------------------------------------------------------------",
        "gpu-1  resnet50  1.0          2.50s  65.0MiB       0B  1.0MiB  64.0MiB     0B",
        "gpu-2  resnet50  1.0          2.50s   1.0MiB  64.0MiB       -        -      -",
        "gpu-2  resnet50  1.0          2.50s  64.0MiB   1.0MiB       -        -      -",
        "gpu-2  together  -                -        -        -  1.0MiB  64.0MiB     0B",
        "gpu-3  resnet50  1.0      unchanged       0B  65.0MiB       -        -      -",
        "gpu-3  resnet50  1.0         FAILED       0B  65.0MiB       -        -      -",
        "gpu-3  resnet50  1.0         FAILED        -        -       -        -      -",
        "gpu-4  resnet50  1.0        fetched        -        -       -        -      -",
        "gpu-4  resnet50  1.0      unchecked        -        -       -        -      -",
        "gpu-5  -         -                -        -        -       -        -      -",
        "",
        "The last host had everything after 2.5 s.",
        "The origin sent 65.0 MiB for models of 65.0 MiB: 1.00 times their size.",
        "",
        "Wrong:",
        "gpu-3: no room",
    ]


def test_how_often_a_hub_was_asked():
    found = {**report(hosts={"gpu-1": host(brought("fetched", fetched=0))}), "hub": {"hosts": 3, "controller": 10}}
    assert distribution_table(found)[3:6] == [
        "",
        "The hub was asked 13 times, 10 of them by the controller for all.",
        "The last host had everything after 2.5 s.",
    ]


def test_bundles_that_came_at_once_before_they_were_registered():
    moved = {"origin": 0, "remote_peer": 65 * MIB, "local_peer": 0}
    lines = fleet_table(report(hosts={"gpu-1": host(brought("fetched", fetched=MIB), brought("fetched", fetched=64 * MIB), bytes_=moved)}))
    assert [line.split()[-3:] for line in lines[2:5]] == [["-", "-", "-"], ["-", "-", "-"], ["0B", "65.0MiB", "0B"]]
    assert lines[4].startswith("gpu-1  together  -  ")


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ({}, "No model was downloaded in this run."),
        ({"bytes": None, "model_bytes": MIB}, "what the origin sent is not known"),
        ({"bytes": 0, "model_bytes": MIB, "ratio": 0.0}, "The origin sent 0 B for models of 1.0 MiB: 0.00 times"),
    ],
)
def test_line_about_the_origin(origin, words):
    assert words in fleet_table(report(hosts={"gpu-1": host(row())}, **origin))[-1]


def test_no_hosts_at_all():
    assert len(fleet_table(report())) == 4


def test_what_was_removed():
    usage = {"models": 1000 * MIB, "blobs": 0, "pieces": 64 * MIB, "unpacked": 96 * MIB, "shared": 900 * MIB}
    pruned = {"before": usage, "after": usage, "freed": 100 * MIB, "free": 5000 * MIB}
    versions = [
        {"name": "llama", "version": "3.0", "state": "removed", "by": "", "bytes": 1000 * MIB, "own": 100 * MIB},
        {"name": "llama", "version": "3.1", "state": "loaded", "by": "tritonserver (7)", "bytes": 1000 * MIB, "own": 0},
    ]
    assert prune_table({"gpu-1": {**pruned, "versions": versions}, "gpu-2": {**pruned, "versions": []}, "gpu-3": {}}) == [
        "host   model  version  state        takes     alone",
        "---------------------------------------------------",
        "gpu-1  llama  3.0      removed  1000.0MiB  100.0MiB",
        "gpu-1  llama  3.1      loaded   1000.0MiB        0B",
        "gpu-3  -      -        FAILED           -         -",
        "",
        "gpu-1: freed 100.0 MiB. Models take 1000.0 MiB, of which versions share 900.0 MiB, other blobs 0 B, dfdaemon alone 64.0 MiB, "
        "unpacked 96.0 MiB; 4.9 GiB are free.",
        "gpu-1: llama 3.1 is used by tritonserver (7).",
        "gpu-2: freed 100.0 MiB. Models take 1000.0 MiB, of which versions share 900.0 MiB, other blobs 0 B, dfdaemon alone 64.0 MiB, "
        "unpacked 96.0 MiB; 4.9 GiB are free.",
    ]


def test_compile_caches_are_among_what_was_brought():
    """One that did not come is nothing wrong."""
    come = row(model="net.compile", artifact_action="fetched", artifact_seconds=1.0, size=MIB, fetched=MIB)
    caches = [come, row(artifact_action="failed")]
    lines = distribution_table(report(hosts={"gpu-1": host(row(artifact_action="unchanged"), caches=caches)}))
    assert [line.split()[1:4] for line in lines[2:5]] == [
        ["resnet50", "1.0", "unchanged"],
        ["net.compile", "1.0", "1.00s"],
        ["resnet50", "1.0", "cold"],
    ]
    assert "net.compile" not in " ".join(fleet_table(report(hosts={"gpu-1": host(row(), caches=[come])})))
