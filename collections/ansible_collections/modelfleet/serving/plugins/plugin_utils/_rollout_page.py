# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page of a rollout shows: its sentences, and where in its drawings what is. The template beside this file only puts it down.

PRIVATE to the collection: it can have breaking changes at any time.
"""

from __future__ import annotations

import math
import time

from ansible_collections.modelfleet.serving.plugins.module_utils._rollout_phases import OUTCOMES
from ansible_collections.modelfleet.serving.plugins.module_utils._text import human_bytes
from ansible_collections.modelfleet.serving.plugins.plugin_utils._run_view import counted, some
from ansible_collections.modelfleet.serving.plugins.plugin_utils._screen import clock, cut

# The width of every drawing, and what is left and right of what it shows.
WIDTH, LEFT, RIGHT = 1000, 80, 20
# What a bold character of a name takes, and how many there is room for.
LETTER, NAME = 7, 32
# Of more hosts than that the tiles and the rows of the timeline are small, and only those have a name where something is wrong.
MANY = 60
PHASES = (
    ("prepare", "checked and planned", ("check", "plan")),
    ("bring", "artifacts brought", ("bring",)),
    ("load", "drained, new version loaded", ("drain", "ready", "warm-up")),
    ("gates", "gates before it answers", ("answers", "gpu", "command")),
    ("traffic", "answers, and is watched", ("switch", "return", "traffic")),
    ("finish", "old version retired", ("finish", "tidy")),
    ("back", "went back", ("undo", "rollback")),
)
KIND_OF = {phase: kind for kind, _text, phases in PHASES for phase in phases}
# {phase that failed: when that was}; of others their batch says it.
WHEN = {
    "check": "before the first change",
    "plan": "before the first change",
    "bring": "while the artifacts were brought",
    "tidy": "after the last batch",
}
SOURCES = (("origin", "from the object store"), ("remote_peer", "from peers"), ("local_peer", "from its own pieces"))
# {outcome: its colour}, and the colours in the order in which they are named.
COLOURS = {outcome: "calm" if good is None else "good" if good else "back" for outcome, good in OUTCOMES.items()}
COLOURS.update({"NOT UNDONE": "bad", "NOT ROLLED BACK": "bad"})
WORST_FIRST = ("bad", "back", "good", "calm")


def page_of(report):
    hosts = report["hosts"]
    seconds = max(report["ended"] - report["began"], 1)
    failed = {host for host, one in hosts.items() if one["problem"] or _failed_phase(one) or any(not gate["ok"] for gate in one["gates"])}
    groups = _groups(report, failed)
    short = _short(hosts)
    return {
        "report": report,
        "title": f"{report['play']} of {_day(report['began'])}",
        "verdict": _verdict(report, short),
        "facts": _facts(report, seconds),
        "wrong": _wrong(report, short),
        "failed": failed,
        "short": short,
        "many": len(hosts) > MANY,
        "groups": groups,
        "outcomes": [(outcome, COLOURS.get(outcome, "calm"), count) for outcome, count in _outcomes(hosts.values())],
        "timeline": _timeline(report, groups, failed, seconds, short),
        "downloads": _downloads(report),
        "latencies": _latencies(report, short),
        "rows": [(host, hosts[host]) for host in _failed_first(hosts, failed)],
        "gates": _gate_columns(hosts),
        "kind_of": COLOURS,
        "sources": SOURCES,
        "human_bytes": lambda size: "-" if size is None else human_bytes(int(size)),
        "width": WIDTH,
    }


def _day(epoch):
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(epoch))


def _short(hosts):
    """{host: its name without the domain that all of them have}. The last part of an address is none."""
    names = {host: host.split(".") for host in hosts if not host[-1:].isdigit()}
    if len(names) < len(hosts):
        return {host: host for host in hosts}
    while len(names) > 1 and all(len(name) > 1 for name in names.values()) and len({name[-1] for name in names.values()}) == 1:
        names = {host: name[:-1] for host, name in names.items()}
    return {host: ".".join(name) for host, name in names.items()}


def _failed_first(names, failed):
    return sorted(names, key=lambda host: host not in failed)


def _failed_phase(one):
    """The first phase (dict) of a host that failed, or None."""
    return next((phase for phase in one["phases"] if phase["failed"]), None)


def _outcomes(hosts):
    """[(outcome, how many of the hosts have it)], what is worst first."""
    found = [one["outcome"] for one in hosts]
    return sorted(
        ((outcome, found.count(outcome)) for outcome in dict.fromkeys(found)),
        key=lambda one: (WORST_FIRST.index(COLOURS.get(one[0], "calm")), -one[1]),
    )


def _said(hosts):
    return ", ".join(f"{count} {outcome}" for outcome, count in _outcomes(hosts))


def _verdict(report, short):
    """How it is, in one sentence, and what became of the hosts in another one."""
    hosts = report["hosts"]
    versions = _versions(hosts)
    about = some(versions, 4) + ": " if versions else ""
    became = f"{about}{_said(hosts.values())}, of {counted(len(hosts), 'host')}." if hosts else ""
    if not report["ok"]:
        return {"kind": "bad", "sentence": _failure(report, short), "became": became}
    return {"kind": "good", "sentence": "Done." if versions else "Nothing had to change.", "became": became}


def _failure(report, short):
    """The sentence of a run that failed: when, where, at what. What failed first is what others followed."""
    hosts = report["hosts"]
    first = [(phase["ended"], host, phase["phase"]) for host, one in hosts.items() for phase in [_failed_phase(one)] if phase]
    if not first:
        return f"Failed on {some([short.get(one['host'], one['host']) for one in report['problems']])}."
    _ended, host, phase = min(first)
    batch = hosts[host]["batch"]
    when = WHEN.get(phase) or (f"in batch {batch} of {len(report['batches'])}" if batch else "")
    beside = [one for _ended, one, at in first if at == phase and (phase in WHEN or hosts[one]["batch"] == batch)]
    named = some([short[one] for one in beside])
    return f"Failed {when}: {named}, at {phase}." if when else f"Failed: {named}, at {phase}."


def _versions(hosts):
    """'demo 1.0 → 2.0', each once."""
    return list(dict.fromkeys(f"{one['name']} {one['from'] or '-'} → {one['to']}" for host in hosts.values() for one in host["models"]))


def _wrong(report, short, most=20):
    """What went wrong, each once with its hosts: what a gate saw, otherwise what the run said: its first ``rows``, how many ``more``."""
    hosts, found = report["hosts"], {}
    for host, one in hosts.items():
        phase, gates = _failed_phase(one), [gate for gate in one["gates"] if not gate["ok"]]
        when = phase["ended"] if phase else math.inf
        for gate in gates:
            about = f"{gate['model']} {gate['version']}: " if gate["model"] != "-" else ""
            found.setdefault((gate["gate"], about + gate["saw"], gate["allowed"]), []).append((when, host))
        # Also that it could not go back, which came later.
        if one["problem"] and not any(gate["saw"] in one["problem"] for gate in gates):
            found.setdefault((phase["phase"] if phase else "", one["problem"], "-"), []).append((when, host))
    for one in report["problems"]:
        if one["host"] not in hosts:
            found.setdefault(("", one["message"], "-"), []).append((math.inf, one["host"]))
    rows = [
        {
            "hosts": some([short.get(host, host) for _when, host in on], 8),
            "where": ", ".join([*_batches_of(on, hosts), *dict.fromkeys(hosts[host]["outcome"] for _when, host in on if host in hosts)]),
            "at": at,
            "what": what,
            "allowed": "" if allowed == "-" else allowed,
        }
        for (at, what, allowed), on in sorted(found.items(), key=lambda one: min(one[1])[0])
    ]
    return {"rows": rows[:most], "more": len(rows[most:])}


def _batches_of(on, hosts):
    return [f"batch {batch}" for batch in sorted({hosts[host]["batch"] for _when, host in on if host in hosts} - {None})]


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


def _groups(report, failed):
    """[(title, hosts)], the batches in their order, then those that are in none."""
    hosts, batches = report["hosts"], report["batches"]
    batched = {host for batch in batches for host in batch}
    groups = [(f"Batch {at} of {len(batches)}, ", [host for host in batch if host in hosts]) for at, batch in enumerate(batches, 1)]
    groups.append(("Nothing to do, " if batches else "", [host for host in hosts if host not in batched]))
    return [
        (f"{title}{counted(len(names), 'host')}: {_said(map(hosts.get, names))}", _failed_first(names, failed))
        for title, names in groups
        if names
    ]


def _ticks(first, last, wanted=8):
    """Round moments between two."""
    long = last - first
    step = next((one for one in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200) if long / one <= wanted), None)
    step = step or math.ceil(long / wanted / 7200) * 7200
    return [at * step for at in range(math.ceil(first / step), int(last / step) + 1)]


def _timeline(report, groups, failed, seconds, short):
    """A row for each host."""
    hosts = report["hosts"]
    row = next(high for most, high in ((30, 18), (MANY, 14), (120, 7), (math.inf, 4)) if len(hosts) <= most)
    left = max(LEFT, 16 + LETTER * min(max(map(len, short.values()), default=0), NAME))
    scale = (WIDTH - left - RIGHT) / seconds
    top, rows, titles = 26, [], []
    for title, names in groups:
        titles.append({"text": title, "y": top + 12})
        top += 18
        for host in names:
            named = row >= 14 or host in failed
            high = max(row, 14) if named else row
            rows.append(
                {
                    "host": host,
                    "label": cut(short[host], NAME) if named else "",
                    "failed": host in failed,
                    "y": top,
                    "middle": top + high / 2,
                    "bar": high - (2 if high >= 14 else 1),
                    "bars": _bars(hosts[host]["phases"], left, scale),
                    "marks": [
                        {"x": left + min(phase["ended"], seconds) * scale, "text": phase["phase"]}
                        for phase in hosts[host]["phases"]
                        if phase["failed"]
                    ],
                }
            )
            top += high
        top += 6
    known = {part["kind"] for one in rows for part in one["bars"]}
    return {
        "rows": rows,
        "titles": titles,
        "foot": top + 12,
        "height": top + 18,
        "ticks": [{"x": left + at * scale, "text": clock(at)} for at in _ticks(0, seconds)],
        "left": left,
        "unit": "h:min:s" if seconds >= 3600 else "min:s",
        "legend": [(kind, text) for kind, text, _phases in PHASES if kind in known],
    }


def _bars(phases, left, scale):
    bars, answers = [], False
    for phase in phases:
        kind, long = KIND_OF.get(phase["phase"], "gates"), phase["ended"] - phase["began"]
        answers = answers or kind == "traffic"
        if long > 0:
            bars.append(
                {
                    # Its workers are looked at once more after it was watched.
                    "kind": "traffic" if answers and phase["phase"] == "ready" else kind,
                    "x": left + phase["began"] * scale,
                    "width": max(long * scale, 1),
                    "text": f"{phase['phase']}: {long:.1f} s, from {clock(phase['began'])}",
                }
            )
    return bars


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
    wide = WIDTH - LEFT - RIGHT
    xs = [LEFT + wide * at / 100 for at in range(101)]
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
        "ticks": [{"x": LEFT + wide * (at - first) / long, "text": clock(at)} for at in _ticks(first, first + long)],
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


def _latencies(report, short):
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
    return [_latency(model, rows, short) for model, rows in found.items()]


def _latency(model, rows, short):
    height, base, top = 200, 172, 14
    most = max(max(one["new"], one["old"] or 0) for one in rows) or 1
    step = (WIDTH - LEFT - RIGHT) / len(rows)
    # Where there is no room for every name, those that failed have one, and of neighbours the first.
    every = len(rows) <= 16
    room = step if every else 14 * LETTER
    points, last = [], -room
    for at, one in enumerate(rows):
        x = LEFT + step * (at + 0.5)
        named = (every or not one["ok"]) and x - last >= room * 0.99
        last = x if named else last
        points.append(
            {
                **one,
                "x": x,
                "label": cut(short[one["host"]], max(int(room / LETTER) - 1, 4)) if named else "",
                "anchor": "end" if x > WIDTH - 60 and not every else "middle",
                "new_y": base - one["new"] / most * (base - top),
                "old_y": None if one["old"] is None else base - one["old"] / most * (base - top),
            }
        )
    return {
        "model": model,
        "height": height,
        "base": base,
        "left": LEFT,
        "radius": 5 if len(rows) <= 60 else 3 if len(rows) <= 120 else 2,
        "marks": [{"y": base - share * (base - top), "text": f"{share * most:.0f} ms"} for share in (0, 0.5, 1)],
        "points": points,
    }


def _gate_columns(hosts):
    """[(gate, what it allows where that is the same everywhere)]."""
    allowed = {}
    for one in hosts.values():
        for gate in one["gates"]:
            allowed.setdefault(gate["gate"], set()).add(gate["allowed"])
    return [(name, *texts) if len(texts) == 1 else (name, "") for name, texts in allowed.items()]
