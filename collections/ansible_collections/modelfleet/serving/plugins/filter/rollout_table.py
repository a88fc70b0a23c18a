# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._rollout_phases import UNTOUCHED
from ansible_collections.modelfleet.serving.plugins.module_utils._text import human_bytes, table


def rollout_table(hosts):
    rows = [("host", "model", "from", "to", "outcome", "gate", "saw", "allowed")]
    for host, one in hosts.items():
        for model in one.get("plan") or []:
            rows.append((host, *_versions(model), one.get("outcome") or UNTOUCHED, *_gate(model, one.get("gates") or [])))
    problems = [f"{host}: {one['problem']}" for host, one in hosts.items() if one.get("problem")]
    lines = table(rows) if len(rows) > 1 else ["No host serves another version than before."]
    seconds = [float(one["seconds"]) for one in hosts.values() if one.get("seconds")]
    if seconds:
        lines += ["", f"The host that took longest was back after {max(seconds):.1f} s."]
    return [*lines, *(["", "Wrong:", *problems] if problems else [])]


def _versions(model):
    return model["name"], model["from"] or "-", model["version"]


def _gate(model, gates):
    """The gate that stopped it, or how many it passed and what had nothing to compare. What concerns the whole host has no model."""
    seen = [gate for gate in gates if gate["model"] in (model["name"], "-")]
    failed = [gate for gate in seen if not gate["ok"]]
    if failed:
        return failed[0]["gate"], _short(failed[0]["saw"]), _short(failed[0]["allowed"])
    if not seen:
        return "-", "-", "-"
    blind = [gate for gate in seen if any(gate.get(version, {}).get("requests", 1) == 0 for version in ("old", "new"))]
    # Only the gate traffic counts requests, once for each model.
    saw, allowed = (f"{blind[0]['gate']}: {_short(blind[0]['saw'])}", _short(blind[0]["allowed"])) if blind else ("-", "-")
    return f"{len(seen) - len(blind)} passed", saw, allowed


def _short(text):
    text = " ".join(str(text).split())
    return text if len(text) <= 100 else text[:97] + "..."


def rollout_plan_table(hosts):
    rows = [("host", "model", "from", "to", "to bring", "free")]
    for host, one in hosts.items():
        free = human_bytes(int(one["free"])).replace(" ", "") if one.get("free") else "-"
        for model in one.get("plan") or []:
            bring = "there" if model["on_disk"] else human_bytes(int(model["bytes"])).replace(" ", "") if model.get("bytes") else "unknown"
            rows.append((host, *_versions(model), bring, free))
    return table(rows, right=(4, 5)) if len(rows) > 1 else ["Every host serves what modelfleet_models names."]


class FilterModule:
    def filters(self):
        return {"rollout_table": rollout_table, "rollout_plan_table": rollout_plan_table}
