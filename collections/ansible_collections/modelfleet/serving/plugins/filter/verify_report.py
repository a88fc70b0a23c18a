# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: verify_report
author: ModelFleet developers (@modelfleet)
version_added: 0.1.0
short_description: Say what on a fleet is not as it was installed
description:
  - Judges what the role P(modelfleet.serving.verify#role) has read on every host.
  - P(modelfleet.serving.doctor_table#filter) shows the report.
  - The records of hosts that installed one archive must say the same, so that a record that was changed with its program is found as well.
positional: _input
options:
  _input:
    description:
      - The hosts of the fleet, each with what is known of it. The mapping of a host of which nothing is known is empty, or it has none.
      - C(unreachable) says why it could not be reached, C(failed) what of it could not be verified, one sentence each.
      - C(verified) is the result of M(modelfleet.serving.verify_info), C(info) has the C(daemons) of M(modelfleet.serving.doctor_info), and
        C(drift) and C(firewall) are as for P(modelfleet.serving.doctor_report#filter).
    type: dict
    required: true
  jobs:
    description: The hosts of the fleet by what they are there for, V(scheduler), V(seed) and V(gpu).
    type: dict
    required: true
  asked:
    description: All hosts of this run.
    type: list
    elements: str
    required: true
seealso:
  - plugin: modelfleet.serving.doctor_table
    plugin_type: filter
  - plugin: modelfleet.serving.host_sbom
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Judge the fleet
  ansible.builtin.set_fact:
    report: "{{ facts | modelfleet.serving.verify_report({'gpu': groups['gpu_hosts']}, ansible_play_hosts) }}"
"""

RETURN = r"""
_value:
  description: The report.
  type: dict
  contains:
    code:
      description: V(0) if all is as it was installed, V(1) if the worst is a warning, V(2) if there is a problem.
      type: int
    ok:
      description: Whether the code is 0.
      type: bool
    counts:
      description: How many findings there are by severity.
      type: dict
    findings:
      description: Every finding, the worst first.
      type: list
      elements: dict
      contains:
        host:
          description: The host.
          type: str
        subject:
          description:
            - V(programs), V(python), V(endpoint plugin), V(models), V(unpacked), V(packages), V(configuration), V(firewall), V(host)
              or V(verify).
          type: str
        severity:
          description: V(problem) or V(warning).
          type: str
        what:
          description: What was found, in words that are the same on every host.
          type: str
        cause:
          description: The files, with what was seen on this host.
          type: str
        remedy:
          description: What to do.
          type: str
    hosts:
      description:
        - Every host of this run, by name. Each has its C(jobs), its C(severity), how many C(files) and C(bytes) were read in how many
          C(seconds), whether that was in the idle class of the disk (C(idle_disk)), and what was not verified (C(unverified)). What is not
          known is null.
      type: dict
    not_checked:
      description: Hosts that are not part of this run.
      type: list
      elements: str
    summary:
      description: The same in a few sentences, as they stand below the table.
      type: list
      elements: str
"""

from collections import Counter

from ansible_collections.modelfleet.serving.plugins.module_utils._doctor_findings import (
    CODES,
    OK,
    PROBLEM,
    SITE,
    WARNING,
    configuration_findings,
    parted,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._text import human_bytes

# So many files are named, and so many hosts of what is not verified.
NAMED = 3
WORDS = {
    "changed": "{} is not what was installed",
    "missing": "{} lacks what was installed",
    "extra": "{} has what nobody installed",
    "unreadable": "{} cannot be read",
    "disputed": "{} has files of which two records differ",
}
FIND_OUT = "find out who did it"
REMEDIES = {
    "programs": f"{FIND_OUT}; {SITE}, which installs a damaged release again; remove by hand what is extra, and a damaged older version",
    "containers": f"{FIND_OUT}; {SITE}, which brings the image and restarts what runs of another one",
    "python": (
        f"{FIND_OUT}; remove .installed in the environment and {SITE}, which makes the environment anew and restarts TorchServe; remove an "
        "environment that nothing runs from"
    ),
    "endpoint plugin": f"{FIND_OUT}; {SITE}, which installs the jar again; remove what is extra, TorchServe loads it at its next start",
    "models": (
        f"{FIND_OUT}; remove the file, and that of its sha256 in /var/lib/modelfleet/blobs, then run modelfleet.serving.distribute with "
        "--limit and the host, then site; what is loaded already is what it was when it was loaded"
    ),
    "unpacked": f"{FIND_OUT}: the models run as the user who may write there; systemctl restart torchserve, which unpacks them anew",
    "packages": f"{FIND_OUT}; install the package again (apt-get install --reinstall, dnf reinstall)",
}
SAME = "find out which host is right: install the release of the others again (remove its directory, and run modelfleet.serving.site)"
HOST = "ssh to it from the controller; modelfleet.serving.doctor says more"


def verify_report(facts, jobs, asked):
    fleet = list(dict.fromkeys(host for names in jobs.values() for host in names))
    verified = {host: (facts.get(host) or {}).get("verified") or {} for host in fleet if host in asked}
    findings = [finding for host in verified for finding in _findings(host, facts.get(host) or {})] + list(_other_records(verified))
    findings.sort(key=lambda finding: -CODES[finding["severity"]])
    hosts = {}
    for host, one in verified.items():
        own = [finding["severity"] for finding in findings if finding["host"] == host]
        hosts[host] = {
            "jobs": [job for job, names in jobs.items() if host in names],
            "severity": max(own, key=CODES.__getitem__, default=OK),
            **{key: one.get(key) for key in ("files", "bytes", "seconds", "idle_disk")},
            "unverified": one.get("unverified") or [],
        }
    code = max((CODES[finding["severity"]] for finding in findings), default=0)
    report = {
        "code": code,
        "ok": code == 0,
        "counts": {severity: sum(finding["severity"] == severity for finding in findings) for severity in (PROBLEM, WARNING)},
        "findings": findings,
        "hosts": hosts,
        "not_checked": [host for host in fleet if host not in asked],
    }
    return {**report, "summary": _summary(report)}


def _finding(host, subject, severity, what, cause, remedy):
    return {"host": host, "subject": subject, "severity": severity, "what": what, "cause": cause, "remedy": remedy}


def _findings(host, facts):
    if facts.get("unreachable") or not facts:
        cause = facts.get("unreachable") or "nothing is known of it: it failed during this run"
        yield _finding(host, "host", PROBLEM, "the host cannot be reached", cause, HOST)
        return
    for sentence in facts.get("failed") or []:
        what, remedy = parted(sentence)
        yield _finding(
            host, "verify", PROBLEM, "a part of the host could not be verified", what, remedy or "correct that, and run verify again"
        )
    said = set()
    for one in (facts.get("verified") or {}).get("findings") or []:
        said.update(one["paths"])
        severity = WARNING if one["state"] == "disputed" else PROBLEM
        remedy = REMEDIES.get(one["part"], f"{FIND_OUT}; {SITE}")
        yield _finding(host, one["part"], severity, WORDS[one["state"]].format(one["name"]), _cause(one), remedy)
    # Of what the roles write doctor knows; a file is named once.
    drift = {
        unit: {**found, "files": [path for path in found.get("files") or [] if path not in said]}
        for unit, found in (facts.get("drift") or {}).items()
    }
    yield from configuration_findings(host, {"info": facts.get("info") or {}, "drift": drift, "firewall": facts.get("firewall")})


def _cause(one):
    shown = ", ".join(one["paths"][:NAMED]) + (f" and {one['count'] - NAMED} more" if one["count"] > NAMED else "")
    detail = f": {one['detail']}" if one["detail"] and one["count"] == 1 else f" (the first: {one['detail']})" if one["detail"] else ""
    return shown + detail


def _other_records(verified):
    """What the records of hosts say of one program of one archive, where that is not the same: most are taken to be right."""
    recorded = {}
    for host, one in verified.items():
        for program in one.get("components") or []:
            if program["kind"] == "program":
                key = program["release"], program["version"], program["archive_sha256"], program["name"]
                recorded.setdefault(key, {})[host] = program["recorded"]
    for (release, version, _archive, name), hosts in recorded.items():
        ((most, count), *others) = Counter(hosts.values()).most_common()
        sure = not others or count > others[0][1]
        for host, sha256 in hosts.items() if others else []:
            if sha256 != most or not sure:
                what = f"{name} of {release} {version} is another one than on the other hosts, of the same archive"
                beside = f"its record says the sha256 {sha256}" + (f", that of {_count(count, 'host')} {most}" if sure else "")
                yield _finding(host, "programs", PROBLEM, what, beside, SAME)


def _summary(report):
    hosts = list(report["hosts"].values())
    well = sum(one["severity"] == OK for one in hosts)
    counts = report["counts"]
    wrong = f"{_count(counts[PROBLEM], 'problem')}, {_count(counts[WARNING], 'warning')}"
    lines = [f"{wrong}; {well} of {_count(len(hosts), 'host')} as installed."]
    files, size = (sum(one[key] or 0 for one in hosts) for key in ("files", "bytes"))
    longest = max((one["seconds"] or 0 for one in hosts), default=0)
    lines.append(f"{_count(files, 'file')} with {human_bytes(size)} were read, {longest:.0f} s on the host that took longest.")
    lines += _unverified(report["hosts"])
    if report["not_checked"]:
        lines.append(f"Not asked: {_count(len(report['not_checked']), 'host')}.")
    return lines


def _unverified(hosts):
    by_reason = {}
    for host, one in hosts.items():
        for left in one["unverified"]:
            names = by_reason.setdefault((left["part"], left["why"]), [])
            if host not in names:
                names.append(host)
    for (part, why), names in sorted(by_reason.items()):
        shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} others" if len(names) > NAMED else "")
        yield f"Not verified on {shown}, {part}: {why}."


def _count(number, noun):
    return f"{number} {noun}{'' if number == 1 else 's'}"


class FilterModule:
    def filters(self):
        return {"verify_report": verify_report}
