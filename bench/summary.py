# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From runs to numbers and a table: which runs count, their statistics, ratios to the bound, and Markdown."""

from __future__ import annotations

import statistics
from collections import defaultdict

from cells import MIB, REPEATS, Cell, Run, bound, planned
from methods import METHODS

MOST_BUSY = 0.8
# A shorter run says nothing about how busy the machine was.
SHORTEST_JUDGED_S = 1.0
GB = 1e9


def busy(before: str, after: str) -> float:
    """The share of this machine's processor time that was used between two states of /proc/stat."""
    first, last = ([int(count) for count in text.split("\n", 1)[0].split()[1:9]] for text in (before, after))
    passed = [now - then for then, now in zip(first, last)]
    idle = passed[3] + passed[4]
    return 1 - idle / sum(passed) if sum(passed) else 0.0


def problem(run: dict, wanted: str, answers: list) -> str:
    """Why a run does not count; empty if it does. ``answers`` are those of its hosts, with the ``sha256`` of what each has."""
    bad = [answer for answer in answers if answer["sha256"] != wanted or answer["status"]]
    if bad:
        said = " ".join(bad[0]["log"].split())[-300:]
        return f"{len(bad)} of {run['hosts']} hosts failed or have another file: {said or bad[0]['status']}"
    if run["busy"] > MOST_BUSY and max(run["seconds"]) >= SHORTEST_JUDGED_S:
        return f"the processors were {run['busy']:.0%} busy"
    return ""


def done(results: dict) -> set:
    """The runs that need not be repeated."""
    return {Run(cell_of(run), run["repeat"]) for run in results["runs"] if not run["problem"]}


def cell_of(run: dict) -> Cell:
    return Cell(run["method"], run["hosts"], run["mib"], run["origin"])


def spread(values: list) -> dict:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summarize(runs: list) -> dict[Cell, dict]:
    """The numbers of every cell; without those of its runs where none of them counts."""
    found = defaultdict(list)
    for run in runs:
        if run["repeat"]:
            found[cell_of(run)].append(run)
    return {cell: _summary(cell, those) for cell, those in sorted(found.items())}


def _summary(cell: Cell, runs: list) -> dict:
    counted = [run for run in runs if not run["problem"]]
    rejected = [run["problem"] for run in runs if run["problem"]]
    result = {"counted": len(counted), "rejected": rejected}
    if counted:
        size = counted[0]["size"]
        least = bound(cell, size)
        delivered = size * cell.hosts
        result |= {
            "seconds": spread([max(run["seconds"]) for run in counted]),
            "t_max": spread([max(run["seconds"]) / least for run in counted]),
            "t_median": spread([statistics.median(run["seconds"]) / least for run in counted]),
            "origin": spread([run["origin_bytes"] / size for run in counted]),
            "requests": spread([run["origin_requests"] for run in counted]),
            "written": spread([run["written"] / delivered for run in counted]),
            "cpu": spread([run["cpu_s"] / (delivered / GB) for run in counted]),
            "peak": spread([run["peak"] / MIB for run in counted]),
            "busy": spread([run["busy"] for run in counted]),
        }
    return result


def markdown(results: dict) -> str:
    """The whole report."""
    cells = summarize(results["runs"])
    parts = [_machine(results["machine"]), _times(cells), _details(cells), _bars(cells), _plan(cells), _rejected(cells)]
    return "\n".join(part for part in parts if part)


def _machine(machine: dict) -> str:
    return "\n".join(["| measured on | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in machine.items()), ""])


def _table(header: list, rows: list) -> list:
    return [
        "| " + " | ".join(header) + " |",
        "| --- |" + " ---: |" * (len(header) - 1),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


def _ratio(one: dict | None, name: str, digits: int = 2) -> str:
    """The median, and below what and above what no run was."""
    if one is None:
        return ""
    if name not in one:
        return "rejected"
    values = one[name]
    low, high = (f"{values[end]:.{digits}f}" for end in ("min", "max"))
    return f"{values['median']:.{digits}f}" + (f" ({low}-{high})" if low != high else "")


def _last_host(one: dict | None) -> str:
    few = one is not None and 0 < one["counted"] < REPEATS
    return _ratio(one, "t_max") + (f" [{one['counted']}]" if few else "")


def groups(cells: dict) -> list:
    """(origin, MiB) of what was measured, the slow origin first."""
    return sorted({(cell.origin, cell.mib) for cell in cells}, key=lambda group: (group[0] != "slow", group[1]))


def names_of(cells: dict, one_host: bool) -> list:
    there = {cell.method for cell in cells}
    return [name for name, method in METHODS.items() if name in there and method.one_host == one_host]


def _times(cells: dict) -> str:
    counts = sorted({cell.hosts for cell in cells})
    what = f"Median of the runs that count, in brackets the least and the most, in square ones how many where fewer than {REPEATS}."
    lines = ["## The last host, over the lower bound", "", what, ""]
    for origin, mib in groups(cells):
        least = bound(Cell("", 1, mib, origin))
        rows = [
            [METHODS[name].title, *(_last_host(cells.get(Cell(name, count, mib, origin))) for count in counts)]
            for name in names_of(cells, one_host=False)
        ]
        rows = [row for row in rows if any(row[1:])]
        if not rows:
            continue
        lines += [f"### {mib} MiB, {origin} origin: bound {least:.1f} s", ""]
        lines += _table(["method", *(f"{count} hosts" if count > 1 else "1 host" for count in counts)], rows)
    return "\n".join(lines)


def _details(cells: dict) -> str:
    """What else was measured, with the most hosts."""
    most = max((cell.hosts for cell in cells), default=0)
    columns = [
        ("T median", "t_median", 2),
        ("origin / F", "origin", 2),
        ("requests", "requests", 0),
        ("written / F", "written", 2),
        ("CPU s / GB", "cpu", 1),
        ("peak MiB", "peak", 0),
        ("busy", "busy", 2),
    ]
    lines = [f"## What it took, {most} hosts", ""]
    for origin, mib in groups(cells):
        rows = []
        for name in names_of(cells, one_host=False):
            one = cells.get(Cell(name, most, mib, origin))
            if one:
                rows.append([METHODS[name].title, *(_ratio(one, column, digits) for _title, column, digits in columns)])
        if rows:
            lines += [f"### {mib} MiB, {origin} origin", "", *_table(["method", *(title for title, *_rest in columns)], rows)]
    return "\n".join(lines)


BARS = {
    "through TorchServe": ("torchserve", "plugin", "plugin-remote", "plugin-local"),
    "to the disk": ("curl", "ours", "ours-remote", "ours-local"),
}


def bars(cells: dict, origin: str, mib: int, names: tuple) -> list:
    """Seconds of the four classic cases on one host: direct, cold, a peer has it, the host has it. None where that was not measured."""
    found = [cells.get(Cell(name, 1, mib, origin), {}) for name in names]
    return [one["seconds"]["median"] if "seconds" in one else None for one in found]


def _bars(cells: dict) -> str:
    rows = []
    for origin, mib in groups(cells):
        for title, names in BARS.items():
            seconds = bars(cells, origin, mib, names)
            if None not in seconds:
                direct, cold, remote, local = seconds
                ratios = [f"{cold / direct:.2f}", f"{direct / remote:.1f} x", f"{direct / local:.0f} x"]
                rows.append([f"{mib} MiB, {origin} origin, {title}", *(f"{value:.2f} s" for value in seconds), *ratios])
    if not rows:
        return ""
    header = ["one host", "direct", "cold", "a peer has it", "the host has it", "cold / direct", "direct / peer", "direct / host"]
    return "\n".join(["## Direct, cold, remote hit, local hit", "", *_table(header, rows)])


def plan_errors(cells: dict) -> dict[Cell, tuple]:
    """What the planner says of the cells of model_artifact and what was measured, in seconds."""
    return {cell: (planned(cell), one["seconds"]["median"]) for cell, one in cells.items() if cell.method == "ours" and "seconds" in one}


def _plan(cells: dict) -> str:
    errors = plan_errors(cells)
    if not errors:
        return ""
    rows = [
        [f"{cell.hosts} hosts, {cell.mib} MiB, {cell.origin} origin", f"{said:.1f} s", f"{was:.1f} s", f"{said / was - 1:+.0%}"]
        for cell, (said, was) in errors.items()
    ]
    off = [abs(said / was - 1) for said, was in errors.values()]
    closing = f"The planner is off by {statistics.median(off):.0%} in the median and by {max(off):.0%} at most."
    return "\n".join(["## The planner against these cells", "", *_table(["cell", "planned", "measured", "error"], rows), closing, ""])


def _rejected(cells: dict) -> str:
    lines = [
        f"- {METHODS[cell.method].title}, {cell.hosts} hosts, {cell.mib} MiB, {cell.origin} origin: {why}"
        for cell, one in cells.items()
        for why in one["rejected"]
    ]
    return "\n".join(["## Runs that do not count", "", *lines, ""]) if lines else ""
