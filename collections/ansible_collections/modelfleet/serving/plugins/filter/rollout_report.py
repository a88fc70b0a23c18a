# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_report
short_description: Make one report of a rollout from what is known of its hosts
version_added: 0.1.0
description:
  - Puts together what a run did on each host and when, what its gates saw, and where the bytes came from.
  - The role P(modelfleet.serving.rollout#role) writes the result as JSON, and P(modelfleet.serving.rollout_page#filter) makes a page of it.
  - The same is in C(docs/rollout_report.schema.json) as a JSON Schema.
positional: _input
options:
  _input:
    description:
      - The hosts of the fleet, each with what is known of it, as P(modelfleet.serving.rollout_table#filter) takes it.
      - Also C(timeline), a list of C(phase) and C(at), C(brought) as the role P(modelfleet.serving.dfdaemon#role) keeps it, and C(seed) as
        P(modelfleet.serving.smoke#role) does.
    type: dict
    required: true
  play:
    description: Name of the play.
    type: str
    required: true
  ended:
    description: When the run ended, in seconds since the epoch by the clock of the controller.
    type: float
    required: true
  gpu_hosts:
    description: The hosts that serve. Of others only their problems and what they took from the origin are in the report.
    type: list
    elements: str
    required: true
  batches:
    description: The hosts of each batch.
    type: list
    elements: list
    default: []
author:
  - ModelFleet developers (@modelfleet)
seealso:
  - plugin: modelfleet.serving.rollout_page
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Make the report
  ansible.builtin.set_fact:
    report: "{{ facts | modelfleet.serving.rollout_report('rollout', now().timestamp(), groups['gpu_hosts']) }}"
"""

RETURN = r"""
_value:
  description: The report.
  type: dict
  contains:
    format:
      description: V(1). Another number says that what is described here has changed.
      type: int
    play:
      description: Name of the play.
      type: str
    began:
      description: When the run began, in seconds since the epoch by the clock of the controller.
      type: float
    ended:
      description: When it ended.
      type: float
    ok:
      description: Whether nothing is wrong on any host.
      type: bool
    batches:
      description: The hosts of each batch, in their order.
      type: list
      elements: list
    problems:
      description: What is wrong on any host of the fleet, as C(host) and C(message).
      type: list
      elements: dict
    hosts:
      description: Every GPU host, by name.
      type: dict
      contains:
        batch:
          description: Number of its batch; null where nothing was to be changed.
          type: int
        outcome:
          description:
            - What became of it, V(activated), V(finished), V(went back), V(untouched), V(rolled back), V(unchanged) where nothing was to be
              changed, V(NOT UNDONE), or V(NOT ROLLED BACK).
          type: str
        problem:
          description: What went wrong; empty where nothing did.
          type: str
        models:
          description: The models that change, each with C(name), C(from), empty without one, and C(to).
          type: list
          elements: dict
        phases:
          description:
            - What was done there, each with its C(phase), when it C(began) and C(ended), in seconds since the run began, and whether it
              C(failed).
            - Between two of them the host waited for others.
          type: list
          elements: dict
        gates:
          description:
            - What each gate saw, as C(model), C(version), C(gate), C(ok), C(saw) and C(allowed); of the gate C(traffic) also C(old) and
              C(new), see M(modelfleet.serving.traffic_check).
          type: list
          elements: dict
        brought:
          description: What was brought there, C(artifacts), C(bytes) by source, and C(samples), see M(modelfleet.serving.model_artifact).
          type: dict
    bytes:
      description: Bytes by source of all GPU hosts together.
      type: dict
    origin:
      description:
        - What the origin sent to hosts and seed peers, see P(modelfleet.serving.fleet_report#filter). Numbers that are not known are null.
      type: dict
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._dfdaemon import origin_between
from ansible_collections.modelfleet.serving.plugins.module_utils._rollout_phases import UNTOUCHED

SOURCES = ("origin", "remote_peer", "local_peer")
# At which a host waits for the others.
IDLE = "idle"


def rollout_report(hosts, play, ended, gpu_hosts, batches=()):
    begins = [mark["at"] for one in hosts.values() for mark in (one.get("timeline") or [])[:1]]
    began = min(begins, default=ended)
    reports = {host: _host(host, hosts.get(host) or {}, batches, began, ended) for host in gpu_hosts}
    problems = [{"host": host, "message": one["problem"]} for host, one in hosts.items() if one.get("problem")]
    return {
        "format": 1,
        "play": play,
        "began": round(began, 3),
        "ended": round(ended, 3),
        "ok": not problems,
        # Hosts come into a group in the order in which they answered.
        "batches": [[host for host in gpu_hosts if host in batch] for batch in batches],
        "problems": problems,
        "hosts": reports,
        "bytes": {source: sum(one["brought"]["bytes"].get(source, 0) for one in reports.values()) for source in SOURCES},
        "origin": _origin(hosts, reports),
    }


def _host(name, facts, batches, began, ended):
    plan = facts.get("plan") or []
    brought = facts.get("brought") or {}
    outcome = facts.get("outcome") or UNTOUCHED
    # Without a plan nobody knows what was to be changed.
    planned = any(mark["phase"] == "plan" for mark in facts.get("timeline") or [])
    return {
        "batch": next((number for number, batch in enumerate(batches, 1) if name in batch), None),
        "outcome": "unchanged" if planned and not plan and outcome == UNTOUCHED and not facts.get("problem") else outcome,
        "problem": facts.get("problem") or "",
        "models": [{"name": one["name"], "from": one["from"] or "", "to": one["version"]} for one in plan],
        "phases": _phases(facts.get("timeline") or [], brought, began, ended, bool(facts.get("problem"))),
        "gates": [{**gate, "ok": bool(gate["ok"])} for gate in facts.get("gates") or []],
        "brought": {
            "artifacts": [
                {key: one.get(key) for key in ("name", "version", "action", "size", "fetched", "seconds")}
                for one in brought.get("artifacts") or []
            ],
            "bytes": brought.get("bytes") or {},
            "samples": brought.get("samples") or [],
        },
    }


def _phases(timeline, brought, began, ended, problem):
    """Each mark lasts until the next one. What was brought came between two marks, and is known by itself.

    A ``problem`` (bool) of a host that was set aside came in its last phase.
    """
    phases = []
    for mark, after in zip(timeline, [*timeline[1:], {"phase": IDLE, "at": ended, "failed": problem}]):
        if mark["phase"] != IDLE:
            phases.append(
                {
                    "phase": mark["phase"],
                    "began": round(mark["at"] - began, 3),
                    "ended": round(after["at"] - began, 3),
                    "failed": bool(after.get("failed")),
                }
            )
    seconds = max((one.get("seconds") or 0 for one in brought.get("artifacts") or []), default=0)
    if brought.get("began") and seconds:
        failed = any(one.get("action") == "failed" for one in brought["artifacts"])
        start = round(brought["began"] - began, 3)
        phases.append({"phase": "bring", "began": start, "ended": round(start + seconds, 3), "failed": failed})
    return sorted(phases, key=lambda phase: phase["began"])


def _origin(hosts, reports):
    sizes = {}
    for one in reports.values():
        for artifact in one["brought"]["artifacts"]:
            key = (artifact["name"], artifact["version"])
            sizes[key] = max(sizes.get(key, 0), artifact["fetched"] or 0)
    seeds = {host: one["seed"] for host, one in hosts.items() if one.get("seed")}
    from_seeds = [origin_between(seed.get("before"), seed.get("after")) for seed in seeds.values()]
    total = sum(sizes.values())
    # The counters of a seed peer that also serves have its models in them.
    from_hosts = sum(one["brought"]["bytes"].get("origin", 0) for host, one in reports.items() if host not in seeds)
    sent = None if None in from_seeds or not total else from_hosts + sum(from_seeds)
    return {"bytes": sent, "model_bytes": total, "ratio": round(sent / total, 4) if total and sent is not None else None}


class FilterModule:
    def filters(self):
        return {"rollout_report": rollout_report}
