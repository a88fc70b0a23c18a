# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_table
short_description: Show the report of a fleet as lines of text
version_added: 0.1.0
description:
  - Turns a report of P(modelfleet.serving.fleet_report#filter) into a table of the GPU hosts, with the bytes from the origin below it.
  - The columns say how long the registration and the first answer took, whether the answer was the known one,
    and how many bytes came from the origin, from other peers and from the host's own piece store.
  - What is wrong follows, a line each.
positional: _input
options:
  _input:
    description: The report.
    type: dict
    required: true
author:
  - ModelFleet developers (@modelfleet)
seealso:
  - plugin: modelfleet.serving.fleet_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the report
  ansible.builtin.debug:
    msg: "{{ report | modelfleet.serving.fleet_table }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._text import human_bytes

HEADER = ("host", "model", "version", "registered", "answered", "answer", "origin", "peers", "local")
ANSWERS = {True: "ok", False: "FAILED", None: "unchecked"}
# These columns hold numbers and are aligned to the right.
RIGHT = (3, 4, 6, 7, 8)


def fleet_table(report):
    table = [HEADER]
    for host, one in report["hosts"].items():
        # What serves no models has no line of its own, only what is wrong with it below.
        if one["models"] or "gpu" in one["jobs"]:
            table.extend(_cells(host, one, row) for row in one["models"] or [None])
    widths = [max(len(cells[column]) for cells in table) for column in range(len(HEADER))]
    lines = ["  ".join(_align(text, column, widths[column]) for column, text in enumerate(cells)).rstrip() for cells in table]
    lines.insert(1, "-" * max(len(line) for line in lines))
    problems = [f"{problem['host']}: {problem['message']}" for problem in report["problems"]]
    return [*lines, "", _origin_line(report["origin"]), *(["", "Wrong:", *problems] if problems else [])]


def _align(text, column, width):
    return text.rjust(width) if column in RIGHT else text.ljust(width)


def _cells(host, one, row):
    if row is None:
        return (host, "-", "-", "-", "-", "FAILED" if one["ok"] is False else "unchecked" if one["ok"] is None else "-", "-", "-", "-")
    moved = row["bytes"]
    # No single spaces inside a line: Ansible's YAML output would wrap it there.
    sources = [human_bytes(moved[source]).replace(" ", "") if moved else "-" for source in ("origin", "remote_peer", "local_peer")]
    return (
        host,
        row["model"],
        row["version"],
        _registered(row),
        _seconds(row["first_inference_seconds"]),
        ANSWERS[row["answer_ok"] if one["answered"] else False],
        *sources,
    )


def _registered(row):
    """How long the registration took, or what was done instead."""
    return _seconds(row["register_seconds"]) if row["register_seconds"] else row["action"] or "-"


def _seconds(value):
    return "-" if value is None else f"{value:.2f}s"


def _origin_line(origin):
    if not origin["model_bytes"]:
        return "No model was downloaded in this run."
    size = human_bytes(origin["model_bytes"])
    if origin["bytes"] is None:
        return (
            f"Models of {size} were downloaded; what the origin sent is not known, because the seed peers were not read before and after."
        )
    return f"The origin sent {human_bytes(origin['bytes'])} for models of {size}: {origin['ratio']:.2f} times their size."


class FilterModule:
    def filters(self):
        return {"fleet_table": fleet_table}
