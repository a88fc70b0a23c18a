# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_report
short_description: Make one report from what the hosts of a fleet returned
version_added: 0.1.0
description:
  - Joins, for every host and every model of its own list, how it was registered, whether its answer was right and where its bytes
    came from, and says what is wrong on each host.
  - The role P(modelfleet.serving.smoke#role) prints the result with P(modelfleet.serving.fleet_table#filter) and writes it as JSON.
positional: _input
options:
  _input:
    description:
      - The hosts of the fleet, each with what is known of it. The mapping of a host of which nothing is known is empty, or it has none.
      - C(problem) says why it was set aside. What it said for each of its jobs is under the name of the job.
      - C(scheduler) has a C(problem), C(seed) too, and the bytes by source C(before) and C(after) the registration. Without one of the two
        the bytes from the origin are not known.
      - C(gpu) has C(brought) (C(artifacts) and C(bytes), and C(caches) and C(cache_bytes) of compile caches), C(registrations),
        C(served) of TorchServe, C(openai) of servers of that protocol, C(triton) of Triton, C(bentoml) of BentoML,
        C(recorded), C(checks), C(problems), and C(predicted) where check mode only foretold the
        registrations.
      - C(models) is the C(modelfleet_models) of the host, C(device) its C(torchserve_device).
    type: dict
    required: true
  jobs:
    description: The hosts of the fleet by what they are there for, V(scheduler), V(seed) and V(gpu).
    type: dict
    required: true
  asked:
    description: All hosts of this run. One of them of which nothing is known is a problem.
    type: list
    elements: str
    default: []
  stopped_by:
    description: Hosts that stopped the run for all others.
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
    report: "{{ facts | modelfleet.serving.fleet_report({'gpu': groups['gpu_hosts']}, ansible_play_hosts) }}"
"""

RETURN = r"""
_value:
  description: The report.
  type: dict
  contains:
    ok:
      description: Whether nothing is wrong on any host of the run.
      type: bool
    hosts:
      description: Every host of the fleet, by name.
      type: dict
      contains:
        ok:
          description: Whether nothing is wrong with it; null for a host that is not part of this run.
          type: bool
        jobs:
          description: What it is there for, V(scheduler), V(seed) and V(gpu).
          type: list
          elements: str
        answered:
          description: Whether the run learned anything of what runs there.
          type: bool
        problems:
          description: What is wrong, one sentence each.
          type: list
          elements: str
        models:
          description: The models of its list, each with what is known of it. Facts that are not known are null.
          type: list
          elements: dict
          contains:
            model:
              description: Name of the model.
              type: str
            version:
              description: Version of the model.
              type: str
            action:
              description: What the run did, see M(modelfleet.serving.torchserve_model).
              type: str
            register_seconds:
              description: How long the download and the registration took.
              type: float
            artifact_action:
              description: What was done to bring it to the host before, see M(modelfleet.serving.model_artifact).
              type: str
            artifact_seconds:
              description: How long that took.
              type: float
            size:
              description: Bytes of what was brought, or was there already.
              type: int
            fetched:
              description: Bytes that were fetched to bring it.
              type: int
            workers_ready:
              description: Number of workers that are READY on the model's device.
              type: int
            first_inference_seconds:
              description: How long the answer to the known input took.
              type: float
            answer_ok:
              description: Whether it was the known answer.
              type: bool
            detail:
              description: The first difference.
              type: str
            bytes:
              description:
                - Bytes that were moved for it, by source.
                - Those of several that were brought at once are known together only, see RV(_value.hosts.bytes).
              type: dict
        caches:
          description: The same of the compile caches that were brought to this host.
          type: list
          elements: dict
        bytes:
          description: All bytes that were moved for the models of this host and their compile caches, by source.
          type: dict
        traffic:
          description: The bytes by source of a seed peer, C(before) and C(after) the registrations.
          type: dict
    problems:
      description: The same problems in one list, as C(host) and C(message).
      type: list
      elements: dict
    not_checked:
      description: Hosts that are not part of this run.
      type: list
      elements: str
    origin:
      description:
        - C(bytes) is what the origin sent while the models of this run were brought, to the hosts and to the seed peers.
        - C(model_bytes) is the size of what was brought in this run, each model counted once.
        - C(ratio) is the one over the other. Numbers that are not known are null.
      type: dict
    hub:
      description: How often a Hugging Face hub was asked to bring the models of this run, by the C(hosts) and by the C(controller).
      type: dict
"""

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.modelfleet.serving.plugins.module_utils._dfdaemon import origin_between
from ansible_collections.modelfleet.serving.plugins.module_utils._model import file_of
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime import runtime_name

SOURCES = ("origin", "remote_peer", "local_peer")
SITE = "run modelfleet.serving.site"
# Where the facts of a host have what each runtime serves.
SERVED = {"torchserve": "served", "openai": "openai", "triton": "triton", "bentoml": "bentoml"}


def fleet_report(facts, jobs, asked=(), stopped_by=()):
    hosts = dict.fromkeys(host for names in jobs.values() for host in names)
    reports = {
        host: _host(host, [job for job, names in jobs.items() if host in names], facts.get(host) or {}, host in asked, stopped_by)
        for host in hosts
    }
    problems = [{"host": host, "message": message} for host, one in reports.items() for message in one["problems"]]
    return {
        "ok": not problems,
        "hosts": reports,
        "problems": problems,
        "not_checked": [host for host in hosts if host not in asked],
        "origin": _origin(reports),
        "hub": _hub(facts),
    }


def _host(name, jobs, facts, asked, stopped_by):
    said = {job: facts.get(job) or {} for job in jobs}
    gpu = said.get("gpu", {})
    problems = list(_problems(name, facts, said, stopped_by)) if asked else []
    registrations = {_key(one): one for one in gpu.get("registrations", [])}
    brought = gpu.get("brought", {})
    artifacts = {_key(one): one for one in brought.get("artifacts", [])}
    served = {_key(one): one for one in _all_served(gpu)}
    checks = {(one["model"], str(one.get("version"))): one for one in gpu.get("checks", [])}
    models = [
        _row(
            model,
            artifacts.get(_key(model), {}),
            registrations.get(_key(model), {}),
            served.get(_key(model)),
            checks.get(_key(model), {}),
            facts.get("device"),
        )
        for model in _present(facts.get("models", []))
    ]
    report = {
        "ok": not problems if asked else None,
        "jobs": jobs,
        "answered": any(said.values()),
        "problems": problems,
        "models": models if "gpu" in jobs else [],
        # No model of a list, so nothing is wrong where one did not come.
        "caches": [_row({"name": one["name"], "version": one["version"]}, one, {}, None, {}, None) for one in brought.get("caches", [])],
        "bytes": _sum([brought.get("bytes"), brought.get("cache_bytes"), *(one.get("bytes") for one in registrations.values())]),
    }
    if "seed" in jobs:
        report["traffic"] = {moment: said["seed"].get(moment) for moment in ("before", "after")}
    return report


def _problems(name, facts, said, stopped_by):
    """Yield what is wrong with a host of this run."""
    if facts.get("problem"):
        yield facts["problem"]
    elif stopped_by and name not in stopped_by:
        yield f"the run stopped before it was done with this host, because of {', '.join(stopped_by)}"
    elif not facts or not all(said.values()):
        yield "nothing is known of it; see where it failed in this run"
    for job in ("scheduler", "seed"):
        if said.get(job, {}).get("problem"):
            yield said[job]["problem"]
    gpu = said.get("gpu")
    if not gpu:
        return
    models, device = facts.get("models", []), facts.get("device")
    yield from gpu.get("problems", [])
    if not gpu.get("predicted"):
        yield from _not_served(models, gpu, device)
    yield from _drift(models, gpu)
    for one in gpu.get("checks", []):
        if not one["ok"]:
            yield f"{one['model']} {one.get('version')} does not give its known answer: {one['detail']}"


def _present(models):
    return [model for model in models if model.get("state", "present") == "present"]


def _key(one):
    return one["name"], str(one["version"])


def _all_served(gpu):
    return [one for served in SERVED.values() for one in gpu.get(served) or []]


def _not_served(models, gpu, device):
    """Yield where a host differs from what the list says is present. Of a runtime that was not asked nothing is known."""
    for model in _present(models):
        served = gpu.get(SERVED.get(runtime_name(model)))
        if served is None:
            continue
        label = f"{model['name']} {model['version']}"
        one = next((one for one in served if _key(one) == _key(model)), None)
        if one is None:
            yield f"{label} is not served; {SITE}"
            continue
        file = file_of(model)
        if one["file"] != file:
            yield f"{label} is served from {one['file']} instead of {file}; remove it (state: absent) and {SITE}"
        if "unit" in one:
            if one["detail"]:
                yield f"{label} is not ready ({one['detail'].rstrip('.')}); see journalctl -u {one['unit']}"
        else:
            yield from _workers(label, model, one, device)
        if boolean(model.get("default", False)) and not one["default"]:
            yield f"{label} is not the default version; run modelfleet.serving.rollout"


def _workers(label, model, one, device):
    """Yield what is wrong with the workers of a version at TorchServe."""
    workers, ready = int(model.get("workers", 1)), _ready(model, one, device)
    if one["workers"] < workers:
        yield f"{label} has {one['workers']} of {workers} workers; {SITE}"
    elif one["workers_ready"] < one["workers"]:
        yield f"{label} has {one['workers_ready']} of {one['workers']} workers READY; see journalctl -u torchserve"
    elif ready < one["workers"]:
        yield (
            f"{label} has {ready} of {one['workers']} workers READY on a GPU, the others fell back to the CPU;"
            " see nvidia-smi and journalctl -u torchserve, or say device: cpu for a model that needs no GPU"
        )


def _ready(model, one, device):
    """READY workers on the device that the model is for, the host's unless it has its own."""
    return one.get("gpu", 0) if (model.get("device") or device) == "gpu" else one["workers_ready"]


def _drift(models, gpu):
    """Yield what is served, or would be after the next boot, against or without the list."""
    listed = {_key(model): model.get("state", "present") for model in models}
    served = [_key(one) for one in _all_served(gpu)]
    recorded = [_key(one) for one in gpu.get("recorded") or []]
    for key in dict.fromkeys([*served, *recorded]):
        found = "is served, but" if key in served else "is not served, but restored at the next boot, and"
        label = " ".join(key)
        if key not in listed:
            yield f"{label} {found} is not in modelfleet_models; add it there, or list it with state: absent and {SITE}"
        elif listed[key] == "absent" and not gpu.get("predicted"):
            yield f"{label} {found} modelfleet_models says state: absent; {SITE}"


def _row(model, artifact, registration, served, check, device):
    return {
        "model": model["name"],
        "version": str(model["version"]),
        "action": registration.get("action"),
        "register_seconds": _register_seconds(artifact, registration),
        "artifact_action": artifact.get("action"),
        "artifact_seconds": artifact.get("seconds"),
        "size": artifact.get("size"),
        "fetched": artifact.get("fetched"),
        "workers_ready": registration.get("workers_ready") if served is None else _ready(model, served, device),
        "first_inference_seconds": check.get("seconds"),
        "answer_ok": check.get("ok"),
        "detail": check.get("detail", ""),
        "bytes": _sum([artifact.get("bytes"), registration.get("bytes")]),
    }


def _sum(counters):
    """The bytes by source of several counters; None where nothing was counted."""
    counted = [one for one in counters if one]
    return {source: sum(one.get(source, 0) for one in counted) for source in SOURCES} if counted else None


def _register_seconds(artifact, registration):
    """With the plugin the download is a part of it, so it is for what was brought before."""
    if artifact.get("action") != "fetched" or "register_seconds" not in registration:
        return registration.get("register_seconds")
    return round(artifact["seconds"] + registration["register_seconds"], 3)


def _origin(reports):
    moved = {host: one for host, one in reports.items() if one["bytes"]}
    sizes = {}
    for one in moved.values():
        for row in [*one["models"], *one["caches"]]:
            key = (row["model"], row["version"])
            sizes[key] = max(sizes.get(key, 0), sum((row["bytes"] or {}).values()) or row["fetched"] or 0)
    seeds = {host: one["traffic"] for host, one in reports.items() if "traffic" in one}
    from_seeds = [origin_between(seed.get("before"), seed.get("after")) for seed in seeds.values()]
    total = sum(sizes.values())
    # The counters of a seed peer that also serves have its models in them.
    sent = None if None in from_seeds else sum(one["bytes"]["origin"] for host, one in moved.items() if host not in seeds) + sum(from_seeds)
    return {"bytes": sent, "model_bytes": total, "ratio": round(sent / total, 4) if total and sent is not None else None}


def _hub(facts):
    asked = [((one.get("gpu") or {}).get("brought") or {}).get("hub") or {} for one in facts.values() if one]
    return {who: sum(one.get(who, 0) for one in asked) for who in ("hosts", "controller")}


class FilterModule:
    def filters(self):
        return {"fleet_report": fleet_report}
