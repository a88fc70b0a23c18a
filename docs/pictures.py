# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person sees of a rollout, as pictures for the site: made by the code that shows a real one, of a rollout that is made up here."""

from __future__ import annotations

import html
import shutil
import subprocess
import tempfile
from pathlib import Path

from ansible_collections.modelfleet.serving.plugins.filter.rollout_page import rollout_page
from ansible_collections.modelfleet.serving.plugins.filter.rollout_report import rollout_report
from ansible_collections.modelfleet.serving.plugins.plugin_utils._run_view import RunView
from ansible_collections.modelfleet.serving.plugins.plugin_utils._screen import UNICODE, width

MODEL = {"name": "resnet50", "from": "1.0", "version": "2.0", "bytes": 98 << 20, "on_disk": False}
HOSTS = [f"gpu-{number}" for number in range(1, 9)]
BATCHES = [HOSTS[:1], HOSTS[1:3], HOSTS[3:]]
SLOW = "gpu-3"
STEPS = {"drain": 2, "ready": 6, "answers": 1, "gpu": 1, "command": 1, "switch": 1, "return": 1, "traffic": 20}  # phase: seconds
GATES = {
    "ready": ("2 workers READY", "2 workers READY"),
    "answers": ("the known answer", "the known answer"),
    "gpu": ("GPU 0 with 61.2 % of its memory in use, 58 °C", "95 % of its memory, 85 °C"),
}
WHY = "resnet50: p95 91 ms, errors 0.0 % of 1180 requests (access log), allowed: p95 56 ms, errors 0.0 %."
START = 1_790_000_000.0  # a time, so that each build makes the same page
BEGINS = (12, 60, 0)  # seconds after the start at which a batch begins; the last one never does

# Programs that take a picture of a page, in Debian's packages chromium-headless-shell and chromium.
BROWSERS = ("chromium-headless-shell", "chromium-headless", "chromium", "google-chrome")
GREY = "#c5c8c6"
COLOURS = {"green": "#8bd49c", "yellow": "#f0c674", "red": "#ff8a80", "bright red": "#ff8a80", "cyan": "#7fd7e0", "white": "#ffffff"}


def _gate(name, saw, allowed, ok=True, **more):
    return {"model": MODEL["name"], "version": MODEL["version"], "gate": name, "ok": ok, "saw": saw, "allowed": allowed, **more}


def _brought(number):
    size = MODEL["bytes"]
    samples = [{"seconds": second, "origin": 0, "remote_peer": size * second // 8, "local_peer": 0} for second in range(9)]
    artifact = {"name": "resnet50", "version": "2.0", "action": "fetched", "size": size, "fetched": size, "seconds": 7.5 + number / 10}
    return {"artifacts": [artifact], "bytes": samples[-1], "samples": samples, "began": START + 3}


def _host(number, host):
    """What the play knows of a host at its end; see the filter rollout_report."""
    batch = next(index for index, names in enumerate(BATCHES) if host in names)
    timeline = [{"phase": "check", "at": START}, {"phase": "plan", "at": START + 1}, {"phase": "idle", "at": START + 2}]
    gates, at = [], START + BEGINS[batch]
    if batch < 2:
        for phase, seconds in STEPS.items():
            timeline.append({"phase": phase, "at": at})
            at += seconds + number % 2
            if phase in GATES:
                gates.append(_gate(phase, *GATES[phase]))
        slow = host == SLOW
        p95 = 91.0 if slow else 24.0 + number
        measured = {"old": {"requests": 1210, "errors": 0, "p95_ms": 24.0}, "new": {"requests": 1180, "errors": 0, "p95_ms": p95}}
        saw = f"p95 {p95:.0f} ms, errors 0.0 % of 1180 requests (access log)"
        gates.append(_gate("traffic", saw, "p95 56 ms, errors 0.0 %", not slow, **measured))
        last = {"phase": "undo" if batch else "finish", "at": at}
        timeline += [{**last, "failed": True} if slow else last, {"phase": "idle", "at": at + 3}]
    return {
        "plan": [MODEL],
        "outcome": ("finished", "went back", "untouched")[batch],
        "gates": gates,
        "problem": f"Stop at the gate: traffic: {WHY}" if host == SLOW else "",
        "timeline": timeline,
        "brought": _brought(number),
        "seed": {},
    }


def report_page():
    """The page of a rollout whose second batch goes back, as modelfleet_report_dir keeps it."""
    facts = {host: _host(number, host) for number, host in enumerate(HOSTS, 1)}
    return rollout_page(rollout_report(facts, "rollout", START + 105, HOSTS, BATCHES))


def terminal_lines(columns=132):
    """The same rollout on a terminal, while the second batch is watched under its requests: lines of (text, colour or None)."""
    view = RunView(UNICODE, 0)
    lines = []
    view.play("Bring the artifacts to the GPU hosts", HOSTS, 2)
    for number, host in enumerate(HOSTS, 1):
        view.bring(host).end(_brought(number))
        view.end(host, "changed")
    lines.append([("   0:11 ", "dark gray"), *view.summary(11)])
    plan = {"__rollout_plan": [MODEL]}

    def go(host, phases):
        view.facts(host, plan)
        for phase in phases:
            view.facts(host, {"__rollout_timeline": [{"phase": phase}]})

    view.play("Activate in batches", BATCHES[0], 12, batch=(1, 3))
    go("gpu-1", [*STEPS, "finish", "idle"])
    view.facts("gpu-1", {"__rollout_outcome": "finished"})
    view.end("gpu-1", "changed")
    lines.append([("   0:49 ", "dark gray"), *view.summary(49)])
    view.play("Activate in batches", BATCHES[1], 60, batch=(2, 3))
    for host in BATCHES[1]:
        go(host, STEPS)
    view.facts("gpu-2", {"__rollout_seen": [{"gate": "gpu", "saw": GATES["gpu"][0]}]})
    view.facts(SLOW, {"__rollout_failed": True})
    view.fail(SLOW, WHY)
    return [*lines, *view.region(columns, 20, 95)]


def as_svg(lines, columns=132):
    """Lines of a terminal as a drawing."""
    wide, high, left = 8.4, 20, 14
    height = high * len(lines) + 2 * left
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * wide + 2 * left:.0f} {height}" role="img" '
        'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14">',
        '<rect width="100%" height="100%" rx="6" fill="#1d1f21"/>',
    ]
    for number, line in enumerate(lines, 1):
        column = 0
        for text, colour in line:
            # What there is no room for is cut off, as on a terminal.
            text = text[: max(0, columns - column)]
            if text.strip():
                x = left + (column + len(text) - len(text.lstrip())) * wide
                place = f'x="{x:.1f}" y="{number * high + left - 5}" textLength="{width(text.strip()) * wide:.1f}"'
                parts.append(f'<text {place} fill="{COLOURS.get(colour, GREY)}" xml:space="preserve">{html.escape(text.strip())}</text>')
            column += width(text)
    return "\n".join([*parts, "</svg>", ""])


def browser():
    """The program that takes pictures, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def photograph(page, picture, program, height=1500):
    """Have a browser show a file and keep what it shows as a PNG file."""
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}"]
        command += [f"--window-size=1100,{height}", f"--screenshot={picture}", page.resolve().as_uri()]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
    if done.returncode or not Path(picture).exists():
        raise OSError(f"{program} took no picture of {page}:\n{done.stdout}")


def make(place):
    """Write all pictures into a directory; return {name: HTML that shows it}, as seen from a page one directory deep."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "rollout.svg").write_text(as_svg(terminal_lines()), encoding="utf-8")
    (place / "report.html").write_text(report_page(), encoding="utf-8")
    shown = {"rollout": '<img src="../pictures/rollout.svg" alt="A rollout on a terminal: the second of three batches, by host and phase">'}
    program = browser()
    if program:
        photograph(place / "report.html", place / "report.png", program)
        inside = '<img src="../pictures/report.png" alt="The page of a rollout: verdict, hosts, timeline, bytes, latencies, gates">'
    else:
        inside = "The page of a rollout (no browser was there to take a picture of it)"
    shown["report"] = f'<a href="../pictures/report.html">{inside}</a>'
    return shown
