# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.doctor_report import doctor_table
from ansible_collections.modelfleet.serving.plugins.filter.verify_report import REMEDIES, WORDS, verify_report
from ansible_collections.modelfleet.serving.plugins.module_utils._verify import STATES

JOBS = {"scheduler": ["scheduler-1"], "seed": [], "gpu": ["gpu-1", "gpu-2", "gpu-3"]}
HOSTS = ["scheduler-1", "gpu-1", "gpu-2", "gpu-3"]
PROGRAM = {"kind": "program", "release": "client", "name": "dfget", "version": "1.5.10", "archive_sha256": "9f" * 32, "recorded": "3b" * 32}
WELL = {
    "unreachable": "",
    "failed": [],
    "verified": {
        "findings": [],
        "unverified": [],
        "components": [PROGRAM],
        "files": 2,
        "bytes": 1 << 20,
        "seconds": 3.2,
        "idle_disk": True,
    },
    "info": {"daemons": [{"unit": "dfdaemon.service", "load": "loaded", "stale": []}]},
    "drift": {"dfdaemon.service": {"files": []}},
}


@pytest.fixture
def fleet():
    return {host: copy.deepcopy(WELL) for host in HOSTS}


def finding(part="programs", state="changed", **changed):
    one = {"part": part, "name": "client 1.5.10", "state": state, "paths": ["/opt/dfget"], "count": 1, "detail": "it has …"}
    return {**one, **changed}


def table(report):
    return "\n".join(doctor_table(report))


def test_a_fleet_that_is_as_it_was_installed(fleet):
    report = verify_report(fleet, JOBS, HOSTS)
    assert (report["code"], report["ok"], report["findings"]) == (0, True, [])
    assert report["counts"] == {"problem": 0, "warning": 0}
    assert report["hosts"]["gpu-1"] == {
        "jobs": ["gpu"],
        "severity": "ok",
        "files": 2,
        "bytes": 1 << 20,
        "seconds": 3.2,
        "idle_disk": True,
        "unverified": [],
    }
    assert doctor_table(report) == [
        "0 problems, 0 warnings; 4 of 4 hosts as installed.",
        "8 files with 4.0 MiB were read, 3 s on the host that took longest.",
    ]


@pytest.mark.parametrize("part", [*REMEDIES, "another part"])
@pytest.mark.parametrize("state", STATES)
def test_every_finding_has_a_host_a_file_and_a_remedy(fleet, part, state):
    fleet["gpu-2"]["verified"]["findings"] = [finding(part, state)]
    report = verify_report(fleet, JOBS, HOSTS)
    (one,) = report["findings"]
    assert one["host"] == "gpu-2" and one["subject"] == part and "client 1.5.10" in one["what"]
    assert one["cause"] == "/opt/dfget: it has …" and "find out who did it" in one["remedy"]
    assert report["code"] == (1 if state == "disputed" else 2) and report["hosts"]["gpu-2"]["severity"] != "ok"
    assert set(WORDS) == set(STATES)
    assert "gpu-2" in table(report) and "    cause: /opt/dfget" in table(report) and "    remedy: " in table(report)


def test_many_files(fleet):
    fleet["gpu-1"]["verified"]["findings"] = [finding(paths=[f"/{number}" for number in range(20)], count=900)]
    (one,) = verify_report(fleet, JOBS, HOSTS)["findings"]
    assert one["cause"] == "/0, /1, /2 and 897 more (the first: it has …)"
    fleet["gpu-1"]["verified"]["findings"] = [finding(paths=["/0", "/1"], count=2, detail="")]
    assert verify_report(fleet, JOBS, HOSTS)["findings"][0]["cause"] == "/0, /1"


def test_a_record_that_was_changed_with_its_program(fleet):
    fleet["gpu-2"]["verified"]["components"] = [{**PROGRAM, "recorded": "00" * 32}]
    (one,) = verify_report(fleet, JOBS, HOSTS)["findings"]
    assert (one["host"], one["subject"], one["severity"]) == ("gpu-2", "programs", "problem")
    assert "00" * 32 in one["cause"] and f"that of 3 hosts {'3b' * 32}" in one["cause"]
    # Of two that differ neither is taken to be right.
    both = verify_report(fleet, JOBS, ["gpu-1", "gpu-2"])["findings"]
    assert [one["host"] for one in both] == ["gpu-1", "gpu-2"] and "that of" not in both[0]["cause"]
    # Another archive has other programs.
    fleet["gpu-2"]["verified"]["components"] = [{**PROGRAM, "archive_sha256": "11" * 32, "recorded": "00" * 32}]
    assert verify_report(fleet, JOBS, HOSTS)["code"] == 0


def test_files_that_the_roles_write(fleet):
    """Doctor's own words; what was hashed is not said again."""
    files = ["/etc/dragonfly/dfdaemon.yaml", "/opt/dfget"]
    fleet["gpu-1"]["drift"]["dfdaemon.service"]["files"] = files
    fleet["gpu-1"]["verified"]["findings"] = [finding()]
    report = verify_report(fleet, JOBS, HOSTS)
    problem, warning = report["findings"]
    assert (problem["subject"], warning["subject"], warning["severity"]) == ("programs", "configuration", "warning")
    assert "dfdaemon.yaml" in warning["cause"] and "/opt/dfget" not in warning["cause"]


def test_hosts_of_which_something_is_not_known(fleet):
    fleet["gpu-1"] = {"unreachable": "Connection refused", "failed": []}
    fleet["gpu-2"] = {}
    fleet["gpu-3"] = {
        **WELL,
        "verified": {},
        "failed": ["Hash what is installed: Failed to read /opt: Input/output error. Check the disk."],
    }
    report = verify_report(fleet, JOBS, HOSTS)
    found = {one["host"]: one for one in report["findings"]}
    assert found["gpu-1"]["cause"] == "Connection refused" and "nothing is known" in found["gpu-2"]["cause"]
    assert found["gpu-3"]["remedy"] == "Check the disk" and "Input/output error" in found["gpu-3"]["cause"]
    assert report["code"] == 2 and report["hosts"]["gpu-1"]["files"] is None
    assert "1 of 4 hosts as installed" in table(report)


def test_what_is_not_verified_and_who_was_not_asked(fleet):
    for host in HOSTS[1:]:
        fleet[host]["verified"]["unverified"] = [{"part": "python", "name": f"venv-{host}", "why": "compiled files"}]
    report = verify_report(fleet, JOBS, HOSTS[:3])
    assert report["code"] == 0 and report["not_checked"] == ["gpu-3"]
    assert report["summary"][2:] == ["Not verified on gpu-1, gpu-2, python: compiled files.", "Not asked: 1 host."]


def test_a_firewall_that_was_changed_by_hand(fleet):
    fleet["gpu-1"]["firewall"] = {"wanted": True, "table": "different", "files": [], "msg": ""}
    (one,) = verify_report(fleet, JOBS, HOSTS)["findings"]
    assert (one["host"], one["subject"], one["severity"]) == ("gpu-1", "firewall", "problem")
    fleet["gpu-1"]["firewall"]["table"] = "wanted"
    assert verify_report(fleet, JOBS, HOSTS)["code"] == 0
