# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_report
short_description: Make one report from what the hosts of a fleet returned
version_added: 0.1.0
description:
  - Joins, for every host and every model, how it was registered, whether its answer was right and where its bytes came from.
  - The role P(modelfleet.serving.smoke#role) prints the result with P(modelfleet.serving.fleet_table#filter) and writes it as JSON.
positional: _input
options:
  _input:
    description: The results of the GPU hosts, by host. A host without a result failed before, or was not asked.
    type: dict
    required: true
  models:
    description: The list of models, see C(modelfleet_models) of the role P(modelfleet.serving.modelfleet#role).
    type: list
    elements: dict
    required: true
  seeds:
    description:
      - What each seed peer had taken before and after the registration, by host, as C(before) and C(after) with the bytes by source.
      - Without one of the two the bytes from the origin are not known.
      - C(problem) says why a seed peer is not healthy.
    type: dict
    default: {}
  schedulers:
    description: How each scheduler is, by host. C(problem) says why it does not answer.
    type: dict
    default: {}
  asked:
    description: All hosts of this run. One of them without a result is a problem.
    type: list
    elements: str
    default: []
author:
  - ModelFleet developers (@modelfleet)
seealso:
  - plugin: modelfleet.serving.fleet_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Make the report
  ansible.builtin.set_fact:
    report: "{{ results | modelfleet.serving.fleet_report(modelfleet_models) }}"
"""

RETURN = r"""
_value:
  description: The report.
  type: dict
  contains:
    ok:
      description: Whether nothing is wrong on any host that was checked.
      type: bool
    problems:
      description: What is wrong, one sentence each.
      type: list
      elements: str
    failed:
      description: GPU hosts of this run without a result.
      type: list
      elements: str
    not_checked:
      description: GPU hosts that are not part of this run.
      type: list
      elements: str
    rows:
      description: One entry for every host and model.
      type: list
      elements: dict
    origin:
      description:
        - RV(_value.origin.bytes) is what the origin sent while the models of this run were registered, to the hosts and to the seed peers.
        - RV(_value.origin.model_bytes) is the size of the models that were registered in this run, each counted once.
        - RV(_value.origin.ratio) is the one over the other. Numbers that are not known are null.
      type: dict
"""

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.modelfleet.serving.plugins.module_utils._model import model_file

SOURCES = ("origin", "remote_peer", "local_peer")


def fleet_report(results, models, seeds=None, schedulers=None, asked=()):
    present = [model for model in models if model.get("state", "present") == "present"]
    seeds, schedulers = seeds or {}, schedulers or {}
    silent = [host for host, result in results.items() if not result]
    rows, problems = [], []
    for host, result in {**schedulers, **seeds}.items():
        problems.extend(_not_healthy(host, result, asked))
    problems.extend(f"{host}: nothing is known of it; see where it failed in this run" for host in silent if host in asked)
    for host, result in results.items():
        if not result:
            continue
        problems.extend(f"{host}: {message}" for message in result.get("problems", []))
        registrations = {(one["name"], str(one["version"])): one for one in result.get("registrations", [])}
        checks = {(one["model"], str(one.get("version"))): one for one in result.get("checks", [])}
        problems.extend(_not_served(host, present, result.get("served")))
        for model in present:
            key = (model["name"], str(model["version"]))
            rows.append(_row(host, key, registrations.get(key, {}), checks.get(key, {})))
    for row in rows:
        if row["answer_ok"] is False:
            problems.append(f"{row['host']}: {row['model']} {row['version']} does not give its known answer: {row['detail']}")
    return {
        "ok": not problems,
        "problems": problems,
        "failed": [host for host in silent if host in asked],
        "not_checked": [host for host in silent if host not in asked],
        "rows": rows,
        "seeds": seeds,
        "origin": _origin(rows, seeds),
    }


def _not_healthy(host, result, asked):
    """Of a host that serves no models: what it says of itself, or that it said nothing."""
    if result.get("problem"):
        yield f"{host}: {result['problem']}"
    elif host in asked and "problem" not in result:
        yield f"{host}: nothing is known of it; see where it failed in this run"


def _not_served(host, present, served):
    """Where TorchServe differs from the list of models. ``served`` is None where it was not asked."""
    if served is None:
        return
    by_key = {(one["name"], str(one["version"])): one for one in served}
    for model in present:
        label = f"{host}: {model['name']} {model['version']}"
        one = by_key.get((model["name"], str(model["version"])))
        if one is None:
            yield f"{label} is not served; run modelfleet.serving.site"
            continue
        file = model_file(model["name"], model["version"], model["sha256"])
        if one["file"] != file:
            yield f"{label} is served from {one['file']} instead of {file}; remove it (state: absent) and run modelfleet.serving.site"
        workers = int(model.get("workers", 1))
        if one["workers"] < workers:
            yield f"{label} has {one['workers']} of {workers} workers; run modelfleet.serving.site"
        elif one["workers_ready"] < one["workers"]:
            yield f"{label} has {one['workers_ready']} of {one['workers']} workers READY; see journalctl -u torchserve"
        if boolean(model.get("default", False)) and not one["default"]:
            yield f"{label} is not the default version; run modelfleet.serving.site"


def _row(host, key, registration, check):
    return {
        "host": host,
        "model": key[0],
        "version": key[1],
        "action": registration.get("action"),
        "register_seconds": registration.get("register_seconds"),
        "workers_ready": registration.get("workers_ready"),
        "first_inference_seconds": check.get("seconds"),
        "answer_ok": check.get("ok"),
        "detail": check.get("detail", ""),
        "bytes": {source: registration["bytes"].get(source, 0) for source in SOURCES} if registration.get("bytes") else None,
    }


def _origin(rows, seeds):
    moved = [row for row in rows if row["bytes"]]
    sizes = {}
    for row in moved:
        key = (row["model"], row["version"])
        sizes[key] = max(sizes.get(key, 0), sum(row["bytes"].values()))
    from_seeds = [_taken(seed) for seed in seeds.values()]
    total = sum(sizes.values())
    # The counters of a seed peer that also serves have its models in them.
    sent = None if None in from_seeds else sum(row["bytes"]["origin"] for row in moved if row["host"] not in seeds) + sum(from_seeds)
    return {"bytes": sent, "model_bytes": total, "ratio": round(sent / total, 4) if total and sent is not None else None}


def _taken(seed):
    """What a seed peer took from the origin; its counters begin again at 0 when it restarts."""
    before, after = seed.get("before"), seed.get("after")
    if not before or not after:
        return None
    return after["origin"] - before["origin"] if after["origin"] >= before["origin"] else after["origin"]


class FilterModule:
    def filters(self):
        return {"fleet_report": fleet_report}
