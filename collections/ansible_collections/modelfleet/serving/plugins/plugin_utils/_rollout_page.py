# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page of a rollout shows: its sentences, and where in its drawings what is. The template beside this file only puts it down.

PRIVATE to the collection: it can have breaking changes at any time.
"""

from __future__ import annotations

import time

from ansible_collections.modelfleet.serving.plugins.module_utils._rollout_phases import OUTCOMES
from ansible_collections.modelfleet.serving.plugins.module_utils._text import human_bytes
from ansible_collections.modelfleet.serving.plugins.plugin_utils._screen import clock

# The width of every drawing, and what is left and right of what it shows.
WIDTH, LEFT, RIGHT = 1000, 130, 20
PHASES = (
    ("prepare", "checked and planned", ("check", "plan")),
    ("bring", "artifacts brought", ("bring",)),
    ("load", "drained, new version loaded", ("drain", "ready")),
    ("gates", "gates before it answers", ("answers", "gpu", "command")),
    ("traffic", "answers, and is watched", ("switch", "return", "traffic")),
    ("finish", "old version retired", ("finish", "tidy")),
    ("back", "went back", ("undo", "rollback")),
)
KIND_OF = {phase: kind for kind, _text, phases in PHASES for phase in phases}
SOURCES = (("origin", "from the object store"), ("remote_peer", "from peers"), ("local_peer", "from its own pieces"))
# {outcome: its colour}
COLOURS = {outcome: "calm" if good is None else "good" if good else "back" for outcome, good in OUTCOMES.items()}
COLOURS.update({"NOT UNDONE": "bad", "NOT ROLLED BACK": "bad"})


def page_of(report):
    hosts = report["hosts"]
    seconds = max(report["ended"] - report["began"], 1)
    groups = _groups(report)
    return {
        "report": report,
        "title": f"{report['play']} of {_day(report['began'])}",
        "verdict": _verdict(report),
        "facts": _facts(report, seconds),
        "failures": [{"host": host, **gate} for host, one in hosts.items() for gate in one["gates"] if not gate["ok"]],
        "problems": [(host, one["problem"]) for host, one in hosts.items() if one["problem"]],
        "groups": groups,
        "outcomes": [(outcome, COLOURS.get(outcome, "calm"), count) for outcome, count in _outcomes(hosts)],
        "timeline": _timeline(report, groups, seconds),
        "downloads": _downloads(report),
        "latencies": _latencies(report),
        "gates": _gate_table(hosts),
        "kind_of": COLOURS,
        "sources": SOURCES,
        "human_bytes": lambda size: "-" if size is None else human_bytes(int(size)),
        "width": WIDTH,
    }


def _day(epoch):
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(epoch))


def _outcomes(hosts):
    found = [one["outcome"] for one in hosts.values()]
    return sorted(((outcome, found.count(outcome)) for outcome in set(found)), key=lambda one: (not OUTCOMES.get(one[0]), -one[1]))


def _verdict(report):
    """(how it is, one sentence)."""
    hosts = report["hosts"]
    count = len(hosts)
    said = ", ".join(f"{number} {outcome}" for outcome, number in _outcomes(hosts)) or "no host"
    versions = ", ".join(_versions(hosts)[:4])
    about = f"{versions}: {said}" if versions else said
    if not report["ok"]:
        return "bad", f"Failed. {about}, of {count}."
    if not versions:
        return "good", "Nothing had to change."
    return "good", f"Done. {about}, of {count}."


def _versions(hosts):
    """'demo 1.0 → 2.0', each once."""
    return list(dict.fromkeys(f"{one['name']} {one['from'] or '-'} → {one['to']}" for host in hosts.values() for one in host["models"]))


def _facts(report, seconds):
    moved, origin = report["bytes"], report["origin"]
    facts = [("Began", _day(report["began"])), ("Took", clock(seconds)), ("Hosts", str(len(report["hosts"])))]
    if report["batches"]:
        facts.append(("Batches", ", ".join(str(len(batch)) for batch in report["batches"])))
    if sum(moved.values()):
        facts.append(("Moved to hosts", human_bytes(sum(moved.values()))))
    if origin["bytes"] is not None and origin["model_bytes"]:
        facts.append(("Object store sent", f"{human_bytes(origin['bytes'])}, {origin['ratio']:.2f} times the models' size"))
    return facts


def _groups(report):
    """[(title, hosts)], the batches in their order, then those that are in none."""
    batched = {host for batch in report["batches"] for host in batch}
    groups = [(f"Batch {at}", [host for host in batch if host in report["hosts"]]) for at, batch in enumerate(report["batches"], 1)]
    rest = [host for host in report["hosts"] if host not in batched]
    if rest:
        groups.append(("Nothing to do" if groups else "Hosts", rest))
    return [group for group in groups if group[1]]


def _ticks(most, wanted=8):
    """Round numbers from 0 to ``most``."""
    step = next((one for one in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200) if most / one <= wanted), most / wanted)
    return [at * step for at in range(int(most / step) + 1)]


def _timeline(report, groups, seconds):
    """A row for each host; where there are many, thin ones, and only those are named in which something failed."""
    hosts = report["hosts"]
    row = 18 if len(hosts) <= 30 else 14 if len(hosts) <= 60 else 7
    scale = (WIDTH - LEFT - RIGHT) / seconds
    top, rows, titles = 24.0, [], []
    for title, names in groups:
        titles.append({"text": f"{title}, {len(names)} {'host' if len(names) == 1 else 'hosts'}", "y": top + 10})
        top += 15
        for host in names:
            failed = any(phase["failed"] for phase in hosts[host]["phases"])
            rows.append(
                {
                    "host": host,
                    "named": row >= 14 or failed or len(names) == 1,
                    "failed": failed,
                    "y": top,
                    "middle": top + row / 2,
                    "bars": [bar for phase in hosts[host]["phases"] for bar in [_bar(phase, scale)] if bar],
                    "marks": [
                        {"x": LEFT + min(phase["ended"], seconds) * scale, "text": phase["phase"]}
                        for phase in hosts[host]["phases"]
                        if phase["failed"]
                    ],
                }
            )
            top += row
        top += 4
    known = {bar["kind"] for one in rows for bar in one["bars"]}
    return {
        "rows": rows,
        "titles": titles,
        "bar": row - (2 if row >= 14 else 1),
        "height": top + 8,
        "ticks": [{"x": LEFT + at * scale, "text": clock(at)} for at in _ticks(seconds)],
        "left": LEFT,
        "legend": [(kind, text) for kind, text, _phases in PHASES if kind in known],
    }


def _bar(phase, scale):
    kind = KIND_OF.get(phase["phase"], "gates")
    if phase["ended"] <= phase["began"]:
        return None
    long = phase["ended"] - phase["began"]
    return {
        "kind": kind,
        "x": LEFT + phase["began"] * scale,
        "width": max(long * scale, 1),
        "text": f"{phase['phase']}: {long:.1f} s, from {clock(phase['began'])}",
    }


def _downloads(report):
    """Bytes by source over time of all hosts together, one area on the other; None where nobody counted."""
    series = []
    for one in report["hosts"].values():
        phase = next((phase for phase in one["phases"] if phase["phase"] == "bring"), None)
        if phase and one["brought"]["samples"]:
            series.append((phase["began"], one["brought"]["samples"]))
    if not series:
        return None
    first = min(began for began, _samples in series)
    last = max(began + samples[-1]["seconds"] for began, samples in series)
    long = max(last - first, 1.0)
    moments = [first + long * at / 100 for at in range(101)]
    heights = {
        source: [sum(_at(samples, source, moment - began) for began, samples in series) for moment in moments] for source, _text in SOURCES
    }
    most = max(sum(heights[source][-1] for source in heights), 1)
    height, top = 220, 12
    scale = (height - top - 28) / most
    base, areas, below = height - 28, [], [0.0] * len(moments)
    xs = [LEFT + (WIDTH - LEFT - RIGHT) * at / 100 for at in range(101)]
    for source, text in SOURCES:
        above = [low + here for low, here in zip(below, heights[source])]
        upper = [f"{x:.1f},{base - value * scale:.1f}" for x, value in zip(xs, above)]
        lower = [f"{x:.1f},{base - value * scale:.1f}" for x, value in zip(xs, below)]
        areas.append({"kind": source, "text": text, "points": " ".join(upper + lower[::-1]), "total": heights[source][-1]})
        below = above
    return {
        "areas": areas,
        "height": height,
        "base": base,
        "left": LEFT,
        "ticks": [{"x": LEFT + (WIDTH - LEFT - RIGHT) * at / long, "text": clock(first + at)} for at in _ticks(long)],
        "marks": [{"y": base - share * most * scale, "text": human_bytes(int(share * most))} for share in (0.25, 0.5, 0.75, 1)],
        "seconds": long,
    }


def _at(samples, source, seconds):
    """The counter at a moment between two readings."""
    before = {"seconds": 0, source: 0}
    for sample in samples:
        if sample["seconds"] >= seconds:
            passed = sample["seconds"] - before["seconds"]
            share = (seconds - before["seconds"]) / passed if passed > 0 else 1
            return before[source] + max(share, 0) * (sample[source] - before[source])
        before = sample
    return before[source]


def _latencies(report):
    """One drawing for each model: the 95th percentiles of the old and the new version, host beside host."""
    found = {}
    for host, one in report["hosts"].items():
        for gate in one["gates"]:
            if gate.get("new") and gate["new"].get("requests"):
                old = gate.get("old") or {}
                found.setdefault(gate["model"], []).append(
                    {
                        "host": host,
                        "ok": gate["ok"],
                        "new": gate["new"]["p95_ms"],
                        "old": old.get("p95_ms") if old.get("requests") else None,
                    }
                )
    return [_latency(model, rows) for model, rows in found.items()]


def _latency(model, rows):
    height, base, top = 200, 172, 14
    most = max(max(one["new"], one["old"] or 0) for one in rows) or 1
    step = (WIDTH - LEFT - RIGHT) / len(rows)
    return {
        "model": model,
        "height": height,
        "base": base,
        "left": LEFT,
        "named": len(rows) <= 16,
        "radius": 5 if len(rows) <= 60 else 3 if len(rows) <= 120 else 2,
        "marks": [{"y": base - share * (base - top), "text": f"{share * most:.0f} ms"} for share in (0, 0.5, 1)],
        "points": [
            {
                **one,
                "x": LEFT + step * (at + 0.5),
                "new_y": base - one["new"] / most * (base - top),
                "old_y": None if one["old"] is None else base - one["old"] / most * (base - top),
            }
            for at, one in enumerate(rows)
        ],
    }


def _gate_table(hosts):
    """(names of the gates, {host: {gate: [rows]}})."""
    names = list(dict.fromkeys(gate["gate"] for one in hosts.values() for gate in one["gates"]))
    return names, {host: {name: [gate for gate in one["gates"] if gate["gate"] == name] for name in names} for host, one in hosts.items()}
