# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._text import human_bytes, table

ANSWERS = {True: "ok", False: "FAILED", None: "unchecked"}


def fleet_table(report):
    header = ("host", "model", "version", "registered", "answered", "answer", "origin", "peers", "local")
    return _lines(report, header, _served, ("models",), right=(3, 4, 6, 7, 8))


def distribution_table(report):
    header = ("host", "artifact", "version", "brought", "fetched", "there", "origin", "peers", "local")
    lines = _lines(report, header, _brought, ("models", "caches"), right=(3, 4, 5, 6, 7, 8))
    # The models of a host begin together; a compile cache comes after them.
    rows = [row for one in report["hosts"].values() for row in one["models"]]
    seconds = [row["artifact_seconds"] for row in rows if row["artifact_action"] == "fetched" and row["artifact_seconds"]]
    if seconds:
        lines.insert(lines.index("") + 1, f"The last host had everything after {max(seconds):.1f} s.")
    hosts, controller = report["hub"]["hosts"], report["hub"]["controller"]
    if hosts or controller:
        lines.insert(lines.index("") + 1, f"The hub was asked {hosts + controller} times, {controller} of them by the controller for all.")
    return lines


def prune_table(hosts):
    rows, lines = [("host", "model", "version", "state", "takes", "alone")], []
    for host, one in hosts.items():
        if not one:
            rows.append((host, "-", "-", "FAILED", "-", "-"))
            continue
        rows.extend((host, row["name"], row["version"], row["state"], _bytes(row["bytes"]), _bytes(row["own"])) for row in one["versions"])
        after = {key: human_bytes(size) for key, size in one["after"].items()}
        lines.append(
            f"{host}: freed {human_bytes(one['freed'])}. Models take {after['models']}, of which versions share {after['shared']}, other "
            f"blobs {after['blobs']}, dfdaemon alone {after['pieces']}, unpacked {after['unpacked']}; {human_bytes(one['free'])} are free."
        )
        lines.extend(f"{host}: {row['name']} {row['version']} is used by {row['by']}." for row in one["versions"] if row["by"])
    return [*table(rows, right=(4, 5)), "", *lines]


def _lines(report, header, cells, kinds, right):
    """The table with one line for each row of each GPU host, of these kinds, in it what ``cells`` says of it, and what follows below."""
    rows = [header]
    for host, one in report["hosts"].items():
        # What serves no models has no line of its own, only what is wrong with it below.
        if one["models"] or "gpu" in one["jobs"]:
            found = [row for kind in kinds for row in one[kind]]
            rows.extend((host, row["model"], row["version"], *cells(one, row), *_sources(row)) for row in found)
            # Where from is not known of each.
            if one["bytes"] and any(row["fetched"] and not row["bytes"] for row in found):
                rows.append((host, "together", *["-"] * (len(header) - 5), *_sources(one)))
            if not one["models"]:
                state = "FAILED" if one["ok"] is False else "unchecked" if one["ok"] is None else "-"
                rows.append((host, *(state if name in ("answer", "brought") else "-" for name in header[1:])))
    problems = [f"{problem['host']}: {problem['message']}" for problem in report["problems"]]
    return [*table(rows, right), "", _origin_line(report["origin"]), *(["", "Wrong:", *problems] if problems else [])]


def _served(one, row):
    return (
        _registered(row),
        _seconds(row["first_inference_seconds"]),
        ANSWERS[row["answer_ok"] if one["answered"] else False],
    )


def _brought(one, row):
    """How long it took, how much came, and what the host had before."""
    action, size, fetched = row["artifact_action"], row["size"], row["fetched"]
    if action == "fetched" and row["artifact_seconds"]:
        action = _seconds(row["artifact_seconds"])
    elif action == "failed" and row in one["caches"]:
        action = "cold"
    elif action in (None, "failed"):
        action = "FAILED" if one["ok"] is False else "unchecked"
    there = None if size is None or fetched is None else max(0, size - fetched)
    return action, *("-" if count is None else _bytes(count) for count in (fetched, there))


def _sources(row):
    """From where the bytes of a model, or of a host, came."""
    return [_bytes(row["bytes"][source]) if row["bytes"] else "-" for source in ("origin", "remote_peer", "local_peer")]


def _bytes(size):
    # No single spaces inside a line: Ansible's YAML output would wrap it there.
    return human_bytes(size).replace(" ", "")


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
        return {"fleet_table": fleet_table, "distribution_table": distribution_table, "prune_table": prune_table}
