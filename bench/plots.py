# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of the results, by matplotlib."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from cells import Cell
from methods import METHODS
from summary import BARS, bars, groups, names_of, summarize

mpl.use("Agg")
# The same results give the same file.
mpl.rcParams["svg.hashsalt"] = "modelfleet"

from matplotlib import pyplot  # noqa: E402


def draw(results: dict, stem: Path) -> list[Path]:
    """Write <stem>-times.svg and, where they were measured, <stem>-hits.svg; return what was written."""
    cells = summarize(results["runs"])
    drawn = _times(cells, stem.with_name(f"{stem.name}-times.svg")), _hits(cells, stem.with_name(f"{stem.name}-hits.svg"))
    return [path for path in drawn if path]


def _times(cells: dict, path: Path):
    shown = groups(cells)
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure, panels = pyplot.subplots(rows, columns, figsize=(5 * columns, 4 * rows), squeeze=False)
    for panel, (origin, mib) in zip(panels.flat, shown):
        for name in names_of(cells, one_host=False):
            counts = sorted({cell.hosts for cell in cells})
            found = {count: cells.get(Cell(name, count, mib, origin), {}).get("t_max") for count in counts}
            points = {count: values for count, values in found.items() if values}
            middle = [values["median"] for values in points.values()]
            around = [[abs(values[end] - values["median"]) for values in points.values()] for end in ("min", "max")]
            style = {"linewidth": 2.5, "color": "black"} if name == "ours" else {"linewidth": 1}
            panel.errorbar(list(points), middle, around, marker="o", markersize=4, capsize=2, label=METHODS[name].title, **style)
        panel.axhline(1, color="gray", linestyle=":")
        panel.set(title=f"{mib} MiB, {origin} origin", xlabel="hosts", xscale="log", yscale="log")
        ticks = sorted({cell.hosts for cell in cells})
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.minorticks_off()
        panel.set_ylabel("time of the last host / lower bound")
    panels[0][0].legend(fontsize="small")
    return _save(figure, path)


def _hits(cells: dict, path: Path):
    shown = [
        (f"{mib} MiB, {origin} origin\n{title}", seconds)
        for origin, mib in groups(cells)
        for title, names in BARS.items()
        if None not in (seconds := bars(cells, origin, mib, names))
    ]
    if not shown:
        return None
    figure, panel = pyplot.subplots(figsize=(2 * len(shown) + 2, 4.5))
    for at, label in enumerate(("direct", "cold", "a peer has it", "the host has it")):
        drawn = panel.bar([place + 0.2 * at for place in range(len(shown))], [seconds[at] for _title, seconds in shown], 0.2, label=label)
        panel.bar_label(drawn, fmt="%.2f", fontsize="x-small")
    panel.set(ylabel="seconds", yscale="log")
    panel.set_xticks([place + 0.3 for place in range(len(shown))], [title for title, _seconds in shown], fontsize="small")
    panel.legend(fontsize="small")
    return _save(figure, path)


def _save(figure, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path
