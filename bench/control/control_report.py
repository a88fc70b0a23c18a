# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From runs of plays to numbers and a table: which runs count, what one more host costs, and Markdown."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from typing import NamedTuple

MIB = 1024 * 1024
# What is aimed at, on two cores: CPU seconds of the controller for a host, and seconds until 100 hosts are done.
AIM_CPU_S, AIM_WALL_S = 3.0, 300.0
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


class Cell(NamedTuple):
    play: str  # site or plain
    hosts: int  # GPU hosts; the control plane has two more
    forks: int
    pipelining: bool = True


class Spread(NamedTuple):
    median: float
    least: float
    most: float


def cell_of(run: dict) -> Cell:
    return Cell(run["play"], run["hosts"], run["forks"], run["pipelining"])


def problem(status: int, output: str, wanted: set) -> str:
    """Why a run does not count; empty where each of the ``wanted`` hosts was asked and nothing was changed on it."""
    recap = {host: tuple(map(int, counts)) for host, *counts in RECAP.findall(output)}
    if status:
        return f"it ended with {status}"
    if missing := sorted(wanted - set(recap)):
        return f"{', '.join(missing[:3])} {'is' if len(missing) == 1 else 'are'} not in its recap"
    bad = sorted(host for host in wanted if any(recap[host][1:]))
    if bad:
        counts = dict(zip(("changed", "unreachable", "failed"), recap[bad[0]][1:]))
        return f"something was done on {bad[0]}: {', '.join(f'{name}={count}' for name, count in counts.items() if count)}"
    return ""


def spread(values: list) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def summarize(runs: list) -> dict:
    """{cell: {what was measured: Spread}} of the runs that count."""
    found = defaultdict(list)
    for run in runs:
        if run["repeat"] and not run["problem"]:
            found[cell_of(run)].append(run)
    return {cell: _summary(those) for cell, those in sorted(found.items())}


def _summary(runs: list) -> dict:
    kept = ("wall_s", "cpu_s", "machine_s", "peak_bytes", "processes", "modules")
    return {"runs": len(runs), **{name: spread([run[name] for run in runs]) for name in kept}}


def slope(points: list) -> tuple:
    """(what one more costs, what is there without any) of the straight line through (hosts, cost) that fits best."""
    hosts, costs = zip(*points)
    if len(set(hosts)) < 2:
        raise ValueError("a line needs two different numbers of hosts")
    return tuple(statistics.linear_regression(hosts, costs))


def by_hosts(cells: dict, play: str, forks: int) -> dict:
    """{GPU hosts: summary} of one play with these forks and pipelining."""
    return {cell.hosts: one for cell, one in cells.items() if (cell.play, cell.forks, cell.pipelining) == (play, forks, True)}


def per_host(cells: dict, play: str, forks: int):
    """(CPU seconds, seconds of the clock) for one more host, or None where one number of hosts was measured."""
    found = by_hosts(cells, play, forks)
    if len(found) < 2:
        return None
    return tuple(slope([(hosts, one[name].median) for hosts, one in found.items()])[0] for name in ("cpu_s", "wall_s"))


def markdown(results: dict) -> str:
    cells = summarize(results["runs"])
    forks = results["forks"]
    return "\n".join(
        [_machine(results["machine"]), _hosts(cells, forks), _one_more(cells, forks), _ways(cells, forks), _rejected(results["runs"])]
    )


def _machine(machine: dict) -> str:
    return "\n".join(["| measured on | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in machine.items()), ""])


def _table(header: list, rows: list) -> list:
    line = "| --- |" + " ---: |" * (len(header) - 1)
    return [f"| {' | '.join(header)} |", line, *(f"| {' | '.join(row)} |" for row in rows), ""]


def _shown(value: Spread, digits: int = 1, unit: float = 1) -> str:
    """The median, and below what and above what no run was."""
    median, least, most = (f"{one / unit:.{digits}f}" for one in value)
    return median if least == most else f"{median} ({least}-{most})"


def _row(one: dict, hosts: int) -> list:
    return [
        _shown(one["wall_s"]),
        _shown(one["cpu_s"]),
        f"{one['cpu_s'].median / hosts:.2f}",
        _shown(one["modules"], 0),
        _shown(one["peak_bytes"], 0, MIB),
        _shown(one["processes"], 0),
        _shown(one["machine_s"]),
        str(one["runs"]),
    ]


COLUMNS = ["wall s", "CPU s", "CPU s / GPU host", "modules of a GPU host", "peak MiB", "processes", "CPU s of the machine", "runs"]


def _hosts(cells: dict, forks: int) -> str:
    lines = [f"## A run that changes nothing, {forks} forks", ""]
    rows = [
        [f"{play}, {hosts} {'host' if hosts == 1 else 'hosts'}", *_row(one, hosts)]
        for play in ("site", "plain")
        for hosts, one in sorted(by_hosts(cells, play, forks).items())
    ]
    return "\n".join([*lines, *_table(["play, GPU hosts", *COLUMNS], rows)])


def _one_more(cells: dict, forks: int) -> str:
    found = {play: per_host(cells, play, forks) for play in ("site", "plain")}
    lines = ["## One more host", ""]
    for play, one in found.items():
        if one:
            lines.append(f"- `{play}`: {one[0]:.2f} CPU s of the controller, {one[1]:.2f} s of the clock.")
    if found["site"] and found["plain"]:
        lines.append(f"- `plain` takes {found['plain'][0] / found['site'][0]:.1f} times the CPU of `site`.")
    if found["site"]:
        met = found["site"][0] <= AIM_CPU_S
        lines.append(f"- Aim: at most {AIM_CPU_S:.0f} CPU s a host. {'Met.' if met else 'Missed.'}")
    hundred = by_hosts(cells, "site", forks).get(100)
    if hundred:
        met = hundred["wall_s"].median <= AIM_WALL_S
        lines.append(
            f"- Aim: 100 hosts in at most {AIM_WALL_S:.0f} s on two cores. {'Met' if met else 'Missed'}: {hundred['wall_s'].median:.0f} s."
        )
    return "\n".join([*lines, ""])


def _ways(cells: dict, forks: int) -> str:
    """Forks and pipelining, where more than the usual was measured."""
    others = {cell for cell in cells if cell.forks != forks or not cell.pipelining}
    same = {(cell.play, cell.hosts) for cell in others}
    shown = [cell for cell in cells if (cell.play, cell.hosts) in same]
    if not shown:
        return ""
    rows = [
        [
            f"{cell.play}, {cell.hosts} hosts, {cell.forks} forks{'' if cell.pipelining else ', without pipelining'}",
            *_row(cells[cell], cell.hosts),
        ]
        for cell in shown
    ]
    return "\n".join(["## Forks and pipelining", "", *_table(["play", *COLUMNS], rows)])


def _rejected(runs: list) -> str:
    lines = [f"- {run['play']}, {run['hosts']} hosts, {run['forks']} forks: {run['problem']}" for run in runs if run["problem"]]
    return "\n".join(["## Runs that do not count", "", *lines, ""]) if lines else ""
