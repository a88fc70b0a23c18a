# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: merged_reports
short_description: Make one report of those of several runs, each on a slice of the fleet
version_added: 0.1.0
description:
  - Reads reports of P(modelfleet.serving.fleet_report#filter) from files of the controller, and joins them into one of the same form.
  - Of a host that several runs asked, the last report in the list counts that asked it.
  - A report that is missing or cannot be read is a problem, and so is a host that no run asked.
positional: _input
options:
  _input:
    description: Paths of the reports, one for each slice.
    type: list
    elements: path
    required: true
  jobs:
    description:
      - The hosts of the fleet by what they are there for, as for P(modelfleet.serving.fleet_report#filter).
      - Where it is empty, the hosts are those that the reports know.
    type: dict
    default: {}
author:
  - ModelFleet developers (@modelfleet)
seealso:
  - plugin: modelfleet.serving.fleet_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Merge the reports of two slices
  ansible.builtin.set_fact:
    report: "{{ ['reports/slice-1.json', 'reports/slice-2.json'] | modelfleet.serving.merged_reports({'gpu': groups['gpu_hosts']}) }}"
"""

RETURN = r"""
_value:
  description: A report as P(modelfleet.serving.fleet_report#filter) makes one, and C(slices).
  type: dict
  contains:
    ok:
      description: Whether every report is there, every host was asked, and nothing is wrong on any.
      type: bool
    slices:
      description: What became of each report.
      type: list
      elements: dict
      contains:
        slice:
          description: The name of its file without directory and suffix.
          type: str
        path:
          description: The file.
          type: str
        ok:
          description: Whether nothing was wrong in it; null for one that could not be read.
          type: bool
        asked:
          description: How many hosts its run asked.
          type: int
        problem:
          description: Why it could not be read.
          type: str
"""

import json
import os

from ansible.errors import AnsibleFilterError

# What every report has, with its type.
_REPORT = {"ok": bool, "hosts": dict, "problems": list, "origin": dict, "hub": dict}
_SITE = "run modelfleet.serving.site on it"


def merged_reports(paths, jobs=None):
    if isinstance(paths, str) or not all(isinstance(path, str) for path in paths):
        raise AnsibleFilterError("Failed to merge reports: the input must be a list of paths.")
    if not paths:
        raise AnsibleFilterError("Failed to merge reports: none is named; name that of each slice.")
    read = [(os.path.splitext(os.path.basename(path))[0], path, *_read(path)) for path in paths]
    reports = [report for _name, _path, report, _problem in read if report]
    hosts = _hosts(reports, jobs or {})
    not_checked = [host for host, one in hosts.items() if one["ok"] is None]
    problems = [{"host": name, "message": problem} for name, _path, _report, problem in read if problem]
    problems += [{"host": host, "message": message} for host, one in hosts.items() for message in one["problems"]]
    problems += [{"host": host, "message": f"no slice asked it; {_SITE}"} for host in not_checked]
    return {
        "ok": not problems,
        "hosts": hosts,
        "problems": problems,
        "not_checked": not_checked,
        "origin": _origin(reports, hosts),
        "hub": {who: sum(report["hub"].get(who) or 0 for report in reports) for who in ("hosts", "controller")},
        "slices": [
            {"slice": name, "path": path, "ok": report["ok"] if report else None, "asked": len(_asked(report)), "problem": problem}
            for name, path, report, problem in read
        ],
    }


def _read(path):
    """(report, "") or (None, what is wrong with the file)."""
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as handle:
            report = json.load(handle)
    except FileNotFoundError:
        return (
            None,
            f"there is no report at {path}: its run did not come to its end, or wrote elsewhere (smoke_report_path); run that slice again",
        )
    except (OSError, ValueError) as exc:
        return None, f"Failed to read the report {path}: {' '.join(str(exc).split())}; run that slice again"
    if not isinstance(report, dict) or not all(isinstance(report.get(key), kind) for key, kind in _REPORT.items()):
        return None, f"{path} is no report of site or smoke; name what smoke_report_path named"
    if not all(isinstance(one, dict) and {"ok", "jobs", "problems", "models"} <= set(one) for one in report["hosts"].values()):
        return None, f"{path} is a report of another release; run that slice again with this one"
    return report, ""


def _asked(report):
    return [host for host, one in (report or {"hosts": {}})["hosts"].items() if one["ok"] is not None]


def _hosts(reports, jobs):
    """What the last report says that asked a host, for all of the fleet."""
    known = {}
    for report in reports:
        for host, one in report["hosts"].items():
            if one["ok"] is not None or host not in known:
                known[host] = one
    fleet = dict.fromkeys(host for names in jobs.values() for host in names) or known
    return {host: known.get(host) or _unknown(host, jobs) for host in fleet}


def _unknown(host, jobs):
    """Of a host that no report knows, such as one that is new in the inventory."""
    mine = [job for job, names in jobs.items() if host in names]
    return {"ok": None, "jobs": mine, "answered": False, "problems": [], "models": [], "caches": [], "bytes": None}


def _origin(reports, hosts):
    """What the origin sent in all runs together, and the size of what they brought, each model counted once."""
    sent = [report["origin"].get("bytes") for report in reports if report["origin"].get("model_bytes")]
    sizes = {}
    for one in hosts.values():
        for row in [*one["models"], *one.get("caches", [])]:
            moved = sum((row.get("bytes") or {}).values()) or row.get("fetched") or 0
            key = (row["model"], row["version"])
            sizes[key] = max(sizes.get(key, 0), moved)
    total = sum(sizes.values())
    bytes_sent = None if None in sent else sum(sent)
    return {"bytes": bytes_sent, "model_bytes": total, "ratio": round(bytes_sent / total, 4) if total and bytes_sent is not None else None}


class FilterModule:
    def filters(self):
        return {"merged_reports": merged_reports}
