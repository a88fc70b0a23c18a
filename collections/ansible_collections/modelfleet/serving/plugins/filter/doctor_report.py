# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._doctor_findings import CODES, OK, PROBLEM, TORCHSERVE, diagnose, parted
from ansible_collections.modelfleet.serving.plugins.module_utils._text import human_bytes, table

SOURCES = ("origin", "remote_peer", "local_peer")
# So many hosts are named in a line of the table, and so many causes of what several hosts have in common.
NAMED = 4
CAUSES = 3


def doctor_report(facts, jobs, asked, models=None, inventory=(), free_percent=10, expiry_days=14, clock_tolerance_s=60):
    limits = {
        "free_percent": free_percent,
        "expiry_days": expiry_days,
        "clock_tolerance_s": clock_tolerance_s,
        "seeds": jobs.get("seed") or [],
    }
    models = models or {}
    findings = diagnose(facts, jobs, {host: one["problems"] for host, one in models.items()}, asked, limits)
    for sentence in reversed(inventory):
        what, remedy = parted(sentence)
        finding = {"host": "inventory", "subject": "inventory", "severity": PROBLEM, "what": what}
        findings.insert(0, {**finding, "cause": "a mistake in the inventory, with which no other play begins", "remedy": remedy})
    fleet = list(dict.fromkeys(host for names in jobs.values() for host in names))
    hosts = {host: _host(host, jobs, facts.get(host) or {}, models.get(host) or {}, findings) for host in fleet if host in asked}
    code = max((CODES[finding["severity"]] for finding in findings), default=0)
    report = {
        "code": code,
        "ok": code == 0,
        "counts": {severity: sum(finding["severity"] == severity for finding in findings) for severity in CODES},
        "findings": findings,
        "hosts": hosts,
        "models": _counted([model for one in hosts.values() for model in one["models"]]),
        "traffic": _sum([one["traffic"] for one in hosts.values() if "gpu" in one["jobs"]]),
        "not_checked": [host for host in fleet if host not in asked],
    }
    return {**report, "summary": _summary(report)}


def _host(name, jobs, facts, models, findings):
    wanted = (facts.get("wanted") or {}).get("versions") or {}
    versions = {}
    for one in (facts.get("info") or {}).get("daemons") or []:
        if one["unit"] in wanted:
            running = (facts.get("torchserve") or {}).get("version", "") if one["unit"] == TORCHSERVE else one["version"]
            versions[one["unit"]] = {
                "running": running,
                "installed": one["installed"],
                "inventory": wanted[one["unit"]],
                "since": one["since"],
            }
    own = [finding["severity"] for finding in findings if finding["host"] == name]
    return {
        "jobs": [job for job, names in jobs.items() if name in names],
        "severity": max(own, key=CODES.__getitem__, default=OK),
        "versions": versions,
        "firewall": _firewall(facts.get("firewall") or {}),
        "traffic": (facts.get("dfdaemon") or {}).get("traffic"),
        "cache": (facts.get("dfdaemon") or {}).get("cache"),
        "models": [{key: row[key] for key in ("model", "version", "workers_ready", "answer_ok")} for row in models.get("models") or []],
    }


def _firewall(found):
    return None if not found or found["msg"] else found["table"] in ("wanted", "different")


def _counted(models):
    return {
        "expected": len(models),
        "loaded": sum(bool(one["workers_ready"]) for one in models),
        "asked": sum(one["answer_ok"] is not None for one in models),
        "answering": sum(one["answer_ok"] is True for one in models),
    }


def _sum(counters):
    counted = [one for one in counters if one]
    return {source: sum(one[source] for one in counted) for source in SOURCES} if counted else None


def doctor_table(report):
    groups = {}
    for finding in report["findings"]:
        if finding["severity"] != OK:
            key = tuple(finding[name] for name in ("severity", "subject", "what", "remedy"))
            groups.setdefault(key, []).append(finding)
    # The worst first, and of those what most hosts have.
    ordered = sorted(groups.items(), key=lambda group: (-CODES[group[0][0]], -len(group[1])))
    rows = [(severity, subject, _hosts(found), what) for (severity, subject, what, _remedy), found in ordered]
    lines = table([("severity", "subject", "hosts", "what"), *rows])
    whole = lines[:2] if rows else []
    for line, ((_severity, _subject, _what, remedy), found) in zip(lines[2:], ordered):
        whole += [line, *_causes(found), f"    remedy: {remedy}"]
    return [*whole, *([""] if rows else []), *report["summary"]]


def _causes(found):
    """A line for each cause, with its hosts where they do not all have it."""
    by_cause = {}
    for finding in found:
        by_cause.setdefault(finding["cause"], []).append(finding)
    if len(by_cause) == 1:
        return [f"    cause: {found[0]['cause']}"]
    shown = [f"    cause: {cause} ({_hosts(same)})" for cause, same in list(by_cause.items())[:CAUSES]]
    others = sum(len(same) for same in list(by_cause.values())[CAUSES:])
    return shown + ([f"    cause: others like these on {_count(others, 'host')}, in the report in JSON"] if others else [])


def _hosts(found):
    names = list(dict.fromkeys(finding["host"] for finding in found))
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} others" if len(names) > NAMED else "")


def _summary(report):
    counts, hosts = report["counts"], list(report["hosts"].values())
    well = sum(one["severity"] == OK for one in hosts)
    wrong = f"{_count(counts['problem'], 'problem')}, {_count(counts['warning'], 'warning')}"
    lines = [f"{wrong}; {well} of {_count(len(hosts), 'host')} well."]
    models = report["models"]
    if models["expected"]:
        answers = f"; {models['answering']} of {_count(models['asked'], 'known answer')} came" if models["asked"] else ""
        lines.append(f"Of {_count(models['expected'], 'model')} that the hosts should serve {models['loaded']} are loaded{answers}.")
    if report["traffic"]:
        origin, peers = (human_bytes(report["traffic"][source]) for source in ("origin", "remote_peer"))
        lines.append(f"Since their start the GPU hosts took {peers} from peers and {origin} from the origin.")
    if report["not_checked"]:
        lines.append(f"Not asked: {_count(len(report['not_checked']), 'host')}.")
    return lines


def _count(number, noun):
    return f"{number} {noun}{'' if number == 1 else 's'}"


class FilterModule:
    def filters(self):
        return {"doctor_report": doctor_report, "doctor_table": doctor_table}
