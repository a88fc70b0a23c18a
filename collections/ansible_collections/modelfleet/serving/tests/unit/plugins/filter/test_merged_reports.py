# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter.fleet_report import FilterModule as Reports
from ansible_collections.modelfleet.serving.plugins.filter.fleet_table import FilterModule as Tables
from ansible_collections.modelfleet.serving.plugins.filter.merged_reports import FilterModule

merged_reports = FilterModule().filters()["merged_reports"]
fleet_report = Reports().filters()["fleet_report"]
fleet_table = Tables().filters()["fleet_table"]
MIB = 1024 * 1024
SHA256 = "0f3a5e9c1f0c" + 52 * "0"
MODELS = [{"name": "resnet50", "version": "1.0", "sha256": SHA256}]
JOBS = {"scheduler": ["scheduler-1"], "seed": ["seed-1"], "gpu": ["gpu-1", "gpu-2", "gpu-3"]}
SERVED = {"name": "resnet50", "version": "1.0", "default": True, "file": "resnet50-1.0-0f3a5e9c1f0c.mar", "workers": 1, "workers_ready": 1}


def gpu(problem="", **moved):
    sources = {"origin": 0, "remote_peer": 0, "local_peer": 0, **moved}
    registration = {
        "name": "resnet50",
        "version": "1.0",
        "action": "registered",
        "register_seconds": 4.2,
        "workers_ready": 1,
        "bytes": sources,
    }
    return {"models": MODELS, "problem": problem, "gpu": {"served": [SERVED], "registrations": [registration] if moved else []}}


CONTROL_PLANE = {
    "scheduler-1": {"scheduler": {"problem": ""}},
    "seed-1": {"seed": {"before": {"origin": 0}, "after": {"origin": 64 * MIB}}},
}


@pytest.fixture
def slices(tmp_path):
    """Writes the report of a slice whose run asked the hosts of ``facts``, or a text in place of it; returns its path."""

    def write(name, facts=None, text=None, jobs=None):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(fleet_report(facts, jobs or JOBS, list(facts))) if text is None else text)
        return str(path)

    return write


def problems(report):
    return [(one["host"], one["message"]) for one in report["problems"]]


def test_slices_that_went_well_are_one_fleet(slices):
    paths = [
        slices("control", CONTROL_PLANE),
        slices("slice-1", {"gpu-1": gpu(remote_peer=64 * MIB), "gpu-2": gpu(remote_peer=64 * MIB)}),
        slices("slice-2", {"gpu-3": gpu(local_peer=64 * MIB)}),
    ]
    report = merged_reports(paths, JOBS)
    assert (report["ok"], report["problems"], report["not_checked"]) == (True, [], [])
    assert list(report["hosts"]) == ["scheduler-1", "seed-1", "gpu-1", "gpu-2", "gpu-3"]
    assert all(one["ok"] for one in report["hosts"].values())
    assert [(one["slice"], one["ok"], one["asked"]) for one in report["slices"]] == [
        ("control", True, 2),
        ("slice-1", True, 2),
        ("slice-2", True, 1),
    ]
    # The seed peer was read in another run than those that brought the model.
    assert report["origin"] == {"bytes": None, "model_bytes": 64 * MIB, "ratio": None}
    assert set(report) - {"slices"} == set(fleet_report({}, JOBS)), "it has the form of any other report"
    assert any(line.startswith("gpu-3") and "resnet50" in line for line in fleet_table(report))


def test_a_slice_that_failed_fails_the_whole_and_is_named(slices):
    paths = [
        slices("control", CONTROL_PLANE),
        slices("slice-1", {"gpu-1": gpu(), "gpu-2": gpu("Install TorchServe: no room.")}),
        slices("slice-2", {"gpu-3": gpu()}),
    ]
    report = merged_reports(paths, JOBS)
    assert not report["ok"]
    assert problems(report) == [("gpu-2", "Install TorchServe: no room.")]
    assert [one["ok"] for one in report["slices"]] == [True, False, True]


def test_a_slice_without_a_report_is_named_and_so_are_its_hosts(slices, tmp_path):
    paths = [slices("control", CONTROL_PLANE), slices("slice-1", {"gpu-1": gpu(), "gpu-2": gpu()}), str(tmp_path / "slice-2.json")]
    report = merged_reports(paths, JOBS)
    assert not report["ok"]
    (missing, unasked) = problems(report)
    assert (
        missing[0] == "slice-2" and f"there is no report at {tmp_path}/slice-2.json" in missing[1] and "run that slice again" in missing[1]
    )
    assert unasked == ("gpu-3", "no slice asked it; run modelfleet.serving.site on it")
    assert report["not_checked"] == ["gpu-3"]
    assert report["slices"][2] == {"slice": "slice-2", "path": paths[2], "ok": None, "asked": 0, "problem": missing[1]}


def test_a_host_that_is_in_no_slice_is_named(slices):
    fewer = {**JOBS, "gpu": ["gpu-1"]}
    report = merged_reports([slices("all", {**CONTROL_PLANE, "gpu-1": gpu()}, jobs=fewer)], {**JOBS, "gpu": ["gpu-1", "gpu-9"]})
    assert problems(report) == [("gpu-9", "no slice asked it; run modelfleet.serving.site on it")]
    assert report["hosts"]["gpu-9"]["jobs"] == ["gpu"]
    assert "gpu-9" in " ".join(fleet_table(report))
    # A host that left the fleet is in the reports still.
    assert merged_reports([slices("all", {**CONTROL_PLANE, "gpu-1": gpu(), "gpu-2": gpu()})], {"gpu": ["gpu-1"]})["ok"]


def test_of_a_host_that_was_asked_twice_the_last_counts(slices):
    bad, good = slices("first", {"gpu-1": gpu("Install TorchServe: no room.")}), slices("again", {"gpu-1": gpu()})
    jobs = {"gpu": ["gpu-1"]}
    assert merged_reports([bad, good], jobs)["ok"]
    assert not merged_reports([good, bad], jobs)["ok"]
    # One that did not ask it says nothing of it.
    assert not merged_reports([bad, slices("other", {"gpu-2": gpu()})], jobs)["ok"]


def test_what_the_origin_sent_is_the_sum_where_all_know_it(slices):
    first = {**CONTROL_PLANE, "gpu-1": gpu(remote_peer=64 * MIB)}
    again = {"seed-1": {"seed": {"before": {"origin": 64 * MIB}, "after": {"origin": 80 * MIB}}}, "gpu-2": gpu(remote_peer=64 * MIB)}
    report = merged_reports([slices("a", first), slices("b", again)], {"seed": ["seed-1"], "gpu": ["gpu-1", "gpu-2"]})
    assert report["origin"] == {"bytes": 80 * MIB, "model_bytes": 64 * MIB, "ratio": 1.25}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Failed to read the report"),
        ('{"ok": true', "Failed to read the report"),
        ("[1]", "is no report of site or smoke"),
        ('{"ok": true, "hosts": []}', "is no report of site or smoke"),
        ('{"ok": true, "hosts": {"gpu-1": {}}, "problems": [], "origin": {}, "hub": {}}', "is a report of another release"),
    ],
)
def test_a_file_that_is_no_report_is_named(slices, text, said):
    report = merged_reports([slices("slice-1", text=text), slices("slice-2", {"gpu-1": gpu()})], {"gpu": ["gpu-1"]})
    ((name, message),) = problems(report)
    assert (name, report["ok"]) == ("slice-1", False) and said in message


@pytest.mark.parametrize("paths", [[], "reports/slice-1.json", [1]])
def test_what_is_no_list_of_paths_is_refused(paths):
    with pytest.raises(AnsibleFilterError, match="Failed to merge reports"):
        merged_reports(paths)
