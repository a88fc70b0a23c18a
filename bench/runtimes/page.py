# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one page of HTML with its pictures in it."""

from __future__ import annotations

import io

import jinja2
import matplotlib as mpl
import verdict
from servers import SERVERS

mpl.use("Agg")
# The same results give the same page.
mpl.rcParams["svg.hashsalt"] = "modelfleet"

from matplotlib import pyplot  # noqa: E402

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>{{ title }}</title>
<style>
body { font-family: sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { border-bottom: 1px solid #ccc; padding: .3em .8em; text-align: right; }
td:first-child, th:first-child { text-align: left; }
svg { max-width: 100%; height: auto; }
</style>
<h1>{{ title }}</h1>
<p>{{ machine }}</p>
{% for picture in pictures %}{{ picture | safe }}
{% endfor %}
{% for part in parts %}<h2>{{ part.title }}</h2>
{% if part.text %}<p>{{ part.text }}</p>
{% endif %}
{% for table in part.tables %}<table>
<tr>{% for name in table.header %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in table.rows %}<tr>{% for value in row %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}
</table>
{% endfor %}
{% endfor %}
</html>
"""


def html(results: dict, found: verdict.Found) -> str:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    title = "What each server costs on top of the model, on two processors"
    machine = "; ".join(f"{name}: {value}" for name, value in results["machine"].items())
    pictures = [_picture(found, batch) for batch in found.batches()]
    return environment.from_string(PAGE).render(title=title, machine=machine, pictures=pictures, parts=verdict.sections(found))


def _picture(found: verdict.Found, batch: int) -> str:
    """p95 and the CPU of a request over the rate, and the throughput of the closed loop."""
    figure, (times, cpu, closed) = pyplot.subplots(1, 3, figsize=(15, 4.5))
    cells = found.cells(batch)
    for number, cell in enumerate(cells):
        style = {"color": f"C{number}", "label": SERVERS[cell.server].title, "marker": "o", "markersize": 4, "capsize": 2}
        for panel, of in (
            (times, lambda index, cell=cell: found.value(cell, "steps", index, "p95")),
            (cpu, lambda index, cell=cell: found.derived(cell, lambda run: verdict.cpu_ms(run["steps"][index]))),
        ):
            points = {rate: value for index, rate in enumerate(found.rates) if (value := of(index))}
            around = [[value.median - value.low for value in points.values()], [value.high - value.median for value in points.values()]]
            panel.errorbar(list(points), [value.median for value in points.values()], around, **style)
        value = found.value(cell, "closed", "throughput")
        if value:
            drawn = closed.barh(number, value.median, xerr=[[value.median - value.low], [value.high - value.median]], color=f"C{number}")
            closed.bar_label(drawn, fmt="%.0f", padding=3)
    times.set(title=f"p95 in ms, {'one at a time' if batch == 1 else f'batches of {batch}'}", xlabel="requests a second", yscale="log")
    cpu.set(title="CPU of the server for a request in ms", xlabel="requests a second")
    cpu.set_ylim(bottom=0)
    closed.set(title="Answered a second in the closed loop")
    closed.set_yticks(range(len(cells)), [SERVERS[cell.server].title for cell in cells])
    closed.invert_yaxis()
    times.legend(fontsize="small")
    figure.tight_layout()
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return stream.getvalue().partition("<svg")[1] + stream.getvalue().partition("<svg")[2]
