# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.fleet_table import FilterModule

fleet_table = FilterModule().filters()["fleet_table"]
MIB = 1024 * 1024


def row(**options):
    return {
        "model": "resnet50",
        "version": "1.0",
        "action": "registered",
        "register_seconds": 4.214,
        "workers_ready": 2,
        "first_inference_seconds": 0.051,
        "answer_ok": True,
        "detail": "",
        "bytes": {"origin": 0, "remote_peer": 64 * MIB, "local_peer": 0},
        **options,
    }


def host(*rows, ok=True, answered=True, jobs=("gpu",), problems=()):
    return {"ok": ok, "jobs": jobs, "answered": answered, "problems": problems, "models": list(rows)}


def report(problems=(), hosts=None, **origin):
    return {"hosts": hosts or {}, "problems": problems, "origin": {"bytes": 0, "model_bytes": 0, "ratio": None, **origin}}


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
