# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The play that makes one report of those of slices: what it shows, writes and ends with."""

from __future__ import annotations

import json

import pytest
import yaml


def report(*asked, problem=""):
    """As site writes it, with all hosts in it."""
    hosts = {}
    for host in ("gpu-1", "gpu-2"):
        mine = [problem] if problem and host in asked else []
        ok = not mine if host in asked else None
        hosts[host] = {"ok": ok, "jobs": ["gpu"], "answered": host in asked, "problems": mine, "models": [], "caches": [], "bytes": None}
    problems = [{"host": host, "message": message} for host, one in hosts.items() for message in one["problems"]]
    origin = {"bytes": 0, "model_bytes": 0, "ratio": None}
    return {"ok": not problems, "hosts": hosts, "problems": problems, "not_checked": [], "origin": origin, "hub": {}}


@pytest.fixture
def merge(run, tmp_path):
    """Merge the reports that are given by the name of their slice, and one that is named and not there."""
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": {"gpu_hosts": {"hosts": {"gpu-1": {}, "gpu-2": {}}}}}}))

    def play(reports, *missing):
        for name, content in reports.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        paths = ",".join(str(tmp_path / f"{name}.json") for name in (*reports, *missing))
        merged = tmp_path / "merged.json"
        done = run(
            *("ansible-playbook", "-i", tmp_path / "hosts.yml", "modelfleet.serving.merge_reports"),
            *("-e", f"slices_reports={paths}", "-e", f"slices_report_path={merged}"),
        )
        assert "WARN" not in done.stdout, done.stdout
        return done, json.loads(merged.read_text()) if merged.exists() else None

    return play


def test_a_fleet_in_slices_is_one_that_is_well(merge):
    done, merged = merge({"slice-1": report("gpu-1"), "slice-2": report("gpu-2")})
    assert done.returncode == 0, done.stdout
    assert merged["ok"] and [one["asked"] for one in merged["slices"]] == [1, 1]
    assert "Slices: slice-1 ok, slice-2 ok." in done.stdout and "changed=0" in done.stdout


def test_a_slice_that_failed_beside_others_and_one_that_is_missing_are_named(merge):
    done, merged = merge({"slice-1": report("gpu-1", problem="Install TorchServe: no room.")}, "slice-2")
    assert done.returncode == 2 and not merged["ok"]
    said = " ".join(done.stdout.split())
    for words in (
        "gpu-1: Install TorchServe: no room.",
        "slice-2: there is no report at",
        "gpu-2: no slice asked it",
        "slice-1 FAILED, slice-2 MISSING",
    ):
        assert words in said, words
    assert "Traceback" not in said
