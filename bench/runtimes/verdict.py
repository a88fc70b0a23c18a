# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From runs to numbers: which count, medians with their intervals, what a server costs on top of the model, and the tables."""

from __future__ import annotations

import random
import statistics
from typing import NamedTuple

from servers import BATCHES, RIVALS, SERVERS

# So much of the processors may others have had, where a run counts.
MOST_OTHERS = 0.05
# Users of a closed loop do not wait longer, as in the comparison that this loop is from.
LATE_S = 1.5
RESAMPLED = 2000


class Cell(NamedTuple):
    server: str
    batch: int


class Value(NamedTuple):
    """A median of repeats, and where 95 per cent of the medians of resampled repeats are."""

    median: float
    low: float
    high: float

    def text(self, digits: int = 1) -> str:
        around = f" ({self.low:.{digits}f}-{self.high:.{digits}f})" if self.low != self.high else ""
        return f"{self.median:.{digits}f}{around}"


def interval(values: list, of=statistics.median) -> Value | None:
    """``values`` are of one repeat each. None is a number that a run does not have, such as the time of what was not answered."""
    there = [value for value in values if value is not None]
    if len(there) * 2 <= len(values) or not there:
        return None
    draw = random.Random(1).choices
    medians = sorted(of(draw(there, k=len(there))) for _turn in range(RESAMPLED))
    return Value(of(there), medians[round(0.025 * (RESAMPLED - 1))], medians[round(0.975 * (RESAMPLED - 1))])


def ratio(ours: dict, theirs: dict) -> Value | None:
    """Of two servers' values by repeat, by the repeats that both have."""
    pairs = [(ours[repeat], theirs[repeat]) for repeat in ours.keys() & theirs.keys()]
    return interval([one / other if one is not None and other else None for one, other in sorted(pairs, key=str)])


def judge(run: dict) -> str:
    """Why a run does not count; empty if it does."""
    parts = [*run["steps"], run["closed"]] if "steps" in run else [run]
    if not run["problem"] and (worst := max(part["others"] for part in parts)) > MOST_OTHERS:
        return f"something else took {worst:.0%} of the processors"
    return run["problem"]


def cell_of(run: dict) -> Cell:
    return Cell(run["server"], run["batch"])


def done(results: dict) -> set:
    """The runs, as (cell, repeat), that need not be repeated."""
    return {(cell_of(run), run["repeat"]) for run in results["runs"] if not judge(run)}


class Found:
    """The runs that count, by what is asked of them."""

    def __init__(self, results: dict, every: bool = False):
        self.rates = results["rates"]
        self._runs: dict[Cell, dict] = {}
        self.rejected = []
        for run in results["runs"]:
            why = judge(run)
            if why:
                self.rejected.append(f"{SERVERS[run['server']].title}, batches of {run['batch']}, repeat {run['repeat']}: {why}")
            if run["repeat"] and not run["problem"] and (every or not why):
                self._runs.setdefault(cell_of(run), {})[run["repeat"]] = run

    def cells(self, batch: int) -> list[Cell]:
        return [cell for name in SERVERS if name != "model" and (cell := Cell(name, batch)) in self._runs]

    def batches(self) -> list:
        return [batch for batch in BATCHES if self.cells(batch)]

    def repeats(self, cell: Cell) -> int:
        return len(self._runs.get(cell, {}))

    def by_repeat(self, cell: Cell, *path) -> dict:
        """A number of every run, such as ("steps", 0, "p95")."""
        found = {}
        for repeat, run in self._runs.get(cell, {}).items():
            value = run
            for name in path:
                value = value[name]
            found[repeat] = value
        return found

    def value(self, cell: Cell, *path) -> Value | None:
        return interval(list(self.by_repeat(cell, *path).values()))

    def derived(self, cell: Cell, function) -> Value | None:
        """A number that is made of several of a run."""
        return interval([function(run) for run in self._runs.get(cell, {}).values()])

    def best(self, batch: int, lowest: bool, *path) -> Cell | None:
        """Of the servers that are compared, TorchServe tuned if it was measured."""
        torchserve = RIVALS[0] if self.repeats(Cell(RIVALS[0], batch)) else "torchserve"
        there = [(value.median, cell) for name in (torchserve, *RIVALS[1:]) if (value := self.value(cell := Cell(name, batch), *path))]
        return (min if lowest else max)(there)[1] if there else None


def cpu_ms(part: dict) -> float | None:
    """CPU of the server for a request that was answered."""
    answered = part.get("answered", part["sent"] - part["errors"])
    return 1000 * part["cpu_s"] / answered if answered else None


def _table(header: list, rows: list) -> dict:
    return {"header": header, "rows": rows}


def _said(value: Value | None, digits: int = 1) -> str:
    return value.text(digits) if value else "-"


def sections(found: Found) -> list[dict]:
    """The report: titles, what is to be said, and tables."""
    return [
        *_cost(found),
        *(part for batch in found.batches() for part in (*_steps(found, batch), *_closed(found, batch))),
        *_ratios(found),
        *_start(found),
        *([{"title": "Runs that do not count", "text": "; ".join(found.rejected), "tables": []}] if found.rejected else []),
    ]


def _cost(found: Found) -> list:
    """Where it is least loaded: what is left then is what a server adds to each request."""
    model = Cell("model", 1)
    alone, cpu = found.value(model, "p50"), found.value(model, "cpu_ms")
    if not alone:
        return []
    rows = [["the model alone", _said(alone), "", _said(cpu), ""]]
    for batch in found.batches():
        for cell in found.cells(batch):
            latency, used = found.value(cell, "steps", 0, "p50"), found.derived(cell, lambda run: cpu_ms(run["steps"][0]))
            title = SERVERS[cell.server].title + (f", batches of {batch}" if batch > 1 else "")
            added = f"{latency.median - alone.median:+.1f}" if latency else "-"
            added_cpu = f"{used.median - cpu.median:+.1f}" if used else "-"
            rows.append([title, _said(latency), added, _said(used), added_cpu])
    text = (
        f"At the lowest rate, {found.rates[0]:.0f} requests a second, where nobody waits for anybody. "
        f"Two processes of the model alone answer {_said(found.value(model, 'throughput'), 0)} a second."
    )
    table = _table(["", "p50 ms", "more than the model", "CPU ms a request", "more than the model"], rows)
    return [{"title": "What a server costs on top of the model", "text": text, "tables": [table]}]


def _steps(found: Found, batch: int) -> list:
    tables = []
    for number, rate in enumerate(found.rates):
        rows = [
            [
                SERVERS[cell.server].title,
                *(_said(found.value(cell, "steps", number, name)) for name in ("p50", "p95", "p99")),
                _said(found.value(cell, "steps", number, "throughput")),
                _said(found.derived(cell, lambda run, number=number: 100 * run["steps"][number]["errors"] / run["steps"][number]["sent"])),
                _said(found.derived(cell, lambda run, number=number: cpu_ms(run["steps"][number]))),
                _said(found.value(cell, "steps", number, "lag_p99")),
            ]
            for cell in found.cells(batch)
        ]
        header = ["p50 ms", "p95 ms", "p99 ms", "answered a second", "errors %", "CPU ms a request", "sent late, p99 ms"]
        tables.append(_table([f"{rate:.0f} requests a second", *header], rows))
    return [{"title": f"Constant rates, {_batches(batch)}", "text": "", "tables": tables}]


def _closed(found: Found, batch: int) -> list:
    rows = [
        [
            SERVERS[cell.server].title,
            *(_said(found.value(cell, "closed", name), 0) for name in ("p50", "p95", "p99")),
            _said(found.value(cell, "closed", "throughput")),
            _said(found.derived(cell, lambda run: _share(run["closed"], "errors"))),
            _said(found.derived(cell, lambda run: _share(run["closed"], "late"))),
            _said(found.derived(cell, lambda run: cpu_ms(run["closed"]))),
        ]
        for cell in found.cells(batch)
    ]
    header = ["", "p50 ms", "p95 ms", "p99 ms", "answered a second", "errors %", f"later than {LATE_S} s %", "CPU ms a request"]
    text = "Every user asks again as soon as it has an answer."
    return [{"title": f"A closed loop of users, {_batches(batch)}", "text": text, "tables": [_table(header, rows)]}]


def _share(part: dict, name: str) -> float | None:
    return 100 * part[name] / part["sent"] if part["sent"] else None


def _batches(batch: int) -> str:
    return "one picture at a time" if batch == 1 else f"batches of up to {batch} within {BATCHES[batch]} ms"


def _ratios(found: Found) -> list:
    """Each TorchServe over the best of the servers."""
    tables = []
    for batch in found.batches():
        ours = [cell for cell in found.cells(batch) if SERVERS[cell.server].family == "torchserve"]
        columns = [*(("steps", number, "p95") for number in range(len(found.rates))), ("closed", "throughput")]
        rows = []
        for cell in ours:
            row = [SERVERS[cell.server].title]
            for path in columns:
                best = found.best(batch, path[-1] == "p95", *path)
                row.append(_said(ratio(found.by_repeat(cell, *path), found.by_repeat(best, *path)) if best else None, 2))
            rows.append(row)
        header = [_batches(batch), *(f"p95 at {rate:.0f}/s" for rate in found.rates), "throughput of the closed loop"]
        tables.append(_table(header, rows))
    text = "Over the best of TorchServe (tuned, if that was measured), Triton and BentoML, repeat by repeat."
    return [{"title": "TorchServe and the best of the three", "text": text, "tables": tables}]


def _start(found: Found) -> list:
    tables = []
    for batch in found.batches():
        rows = [
            [
                SERVERS[cell.server].title,
                _said(found.value(cell, "start_s")),
                _said(found.derived(cell, lambda run: run["memory"] / 2**20), 0),
                str(found.repeats(cell)),
            ]
            for cell in found.cells(batch)
        ]
        tables.append(_table([_batches(batch), "s to the first answer", "MiB after the load", "runs"], rows))
    return [{"title": "Start and memory", "text": "", "tables": tables}]


def markdown(results: dict, found: Found) -> str:
    lines = ["| measured on | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in results["machine"].items()), ""]
    for part in sections(found):
        lines += [f"## {part['title']}", "", *([part["text"], ""] if part["text"] else [])]
        for table in part["tables"]:
            lines.append("| " + " | ".join(table["header"]) + " |")
            lines.append("| --- |" + " ---: |" * (len(table["header"]) - 1))
            lines += ["| " + " | ".join(row) + " |" for row in table["rows"]]
            lines.append("")
    return "\n".join(lines)
