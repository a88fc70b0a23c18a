#!/usr/bin/env python3
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what people and programs are given of monitoring: the rules and the runbooks of alerts.yml, and the dashboards that stand below.

The files are in git, so that nobody needs this to use them; tests/test_monitoring.py sees that they are what this writes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
COLLECTION = ROOT / "collections/ansible_collections/modelfleet/serving"
FILES = COLLECTION / "roles/monitoring/files"
RUNBOOKS = COLLECTION / "docs/runbooks"
MANAGED = "Managed by Ansible (modelfleet.serving): changes made here are lost."
BUILT = "Built by monitoring/build.py of the repository from monitoring/alerts.yml."

# Alerts


def read_alerts():
    return yaml.safe_load((ROOT / "monitoring/alerts.yml").read_text(encoding="utf-8"))


class Indented(yaml.SafeDumper):
    """As yamllint wants it: the elements of a list stand deeper than its name."""

    def increase_indent(self, flow=False, indentless=False):
        return super().increase_indent(flow, False)


def rules(alerts):
    """The rule file of Prometheus. The role puts its variable before the name of the runbook."""
    written = [
        {
            "alert": one["alert"],
            "expr": one["expr"],
            "for": one["for"],
            "labels": {"severity": one["severity"]},
            "annotations": {"summary": one["summary"], "description": one["description"], "runbook_url": f"{one['alert']}.md"},
        }
        for one in alerts
    ]
    text = yaml.dump({"groups": [{"name": "modelfleet", "rules": written}]}, Dumper=Indented, sort_keys=False, width=140)
    return f"# {MANAGED}\n---\n{text}"


def runbook(alert):
    def items(key, number=False):
        return [f"{f'{at}.' if number else '-'} {one}" for at, one in enumerate(alert[key], 1)]

    named = alert["description"].replace("{{ $labels.", "`").replace(" }}", "`")
    lines = [
        f"# {alert['alert']}",
        "",
        named,
        "",
        f"Severity {alert['severity']}, after {alert['for']} of:",
        "",
        "```",
        " ".join(alert["expr"].split()),
        "```",
        "",
        "## Cause",
        "",
        *items("causes"),
        "",
        "## Look here",
        "",
        *items("look"),
        "",
        "## Do this",
        "",
        *items("do", number=True),
        "",
        f"<!-- {BUILT} -->",
        "",
    ]
    return "\n".join(lines)


def index(alerts):
    rows = [f"| [{one['alert']}]({one['alert']}.md) | {one['severity']} | {one['for']} | {one['causes'][0]} |" for one in alerts]
    return "\n".join(
        [
            "# Runbooks",
            "",
            "A page for each alert of the [role monitoring](../../roles/monitoring/README.md), and what causes it most often.",
            "",
            "| alert | severity | after | cause |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            f"<!-- {BUILT} -->",
            "",
        ]
    )


# Dashboards

OF = 'job="modelfleet",instance=~"$instance"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def rate(metric, more=""):
    return f"rate({metric}{{{OF}{',' + more if more else ''}}}[$__rate_interval])"


def target(expr, legend="", at=0, instant=False):
    return {
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": expr,
        "instant": instant,
        "legendFormat": legend or "__auto",
        "range": not instant,
        "refId": chr(ord("A") + at),
        **({"format": "table"} if instant and not legend else {}),
    }


def panel(kind, title, targets, unit="short", description="", width=12, height=8, **options):
    """``targets`` are (expression, legend). Where it stands is found by ``placed``."""
    made = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, **options.pop("defaults", {})}, "overrides": []},
        "targets": [target(expr, legend, at, kind in ("stat", "table")) for at, (expr, legend) in enumerate(targets)],
    }
    if kind == "timeseries":
        made["options"] = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if kind == "stat":
        made["options"] = {
            "colorMode": "background",
            "graphMode": "none",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }
    return {**made, **options}


def lines(title, *targets, **options):
    return panel("timeseries", title, targets, **options)


def number(title, expr, bad=1, **options):
    """Green below ``bad``, red from there on; the other way round where ``bad`` is negative."""
    steps = [{"color": "green", "value": None}, {"color": "red", "value": bad}]
    if bad < 0:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": -bad}]
    defaults = {"thresholds": {"mode": "absolute", "steps": steps}}
    return panel("stat", title, [(expr, title)], width=6, height=4, defaults=defaults, **options)


def placed(panels):
    """From left to right and from top to bottom, 24 columns wide."""
    x = y = row = 0
    for identity, one in enumerate(panels, 1):
        size = one["gridPos"]
        if x + size["w"] > 24:
            x, y, row = 0, y + row, 0
        one["id"], one["gridPos"] = identity, {"h": size["h"], "w": size["w"], "x": x, "y": y}
        x, row = x + size["w"], max(row, size["h"])
    return panels


def dashboard(uid, title, description, panels):
    variables = [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "hide": 0,
            "multi": False,
            "includeAll": False,
        },
        {
            "name": "instance",
            "label": "Host",
            "type": "query",
            "datasource": SOURCE,
            "definition": 'label_values(up{job="modelfleet"}, instance)',
            "query": {"query": 'label_values(up{job="modelfleet"}, instance)', "refId": "instance"},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
            "hide": 0,
        },
    ]
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["modelfleet"],
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": 39,
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "templating": {"list": variables},
        "panels": placed(panels),
    }


def p2p():
    traffic = "dragonfly_client_download_traffic"
    from_origin = 'type="BACK_TO_SOURCE"'
    # What a host announces in a second, times the seconds between two announcements (announceInterval).
    announced = 'sum(rate(dragonfly_scheduler_announce_host_total{job="modelfleet"}[1m])) * 10'
    return dashboard(
        "modelfleet-p2p",
        "ModelFleet: P2P",
        "Where models come from, what the origin sends, and what the schedulers see.",
        [
            number(
                "Share of the origin",
                f"sum(increase({traffic}{{{OF},{from_origin}}}[$__range])) / sum(increase({traffic}{{{OF}}}[$__range]))",
                bad=0.5,
                unit="percentunit",
                description="Of all bytes that hosts took in the time that is shown. With n hosts about 1 / n.",
            ),
            number("Sent by the origin", f"sum(increase({traffic}{{{OF},{from_origin}}}[$__range]))", bad=1e15, unit="bytes"),
            number(
                "Failed downloads",
                f"sum(increase(dragonfly_client_download_task_failure_total{{{OF}}}[$__range])) or vector(0)",
                description="A counter appears at its first failure, which increase() does not see.",
            ),
            number(
                "Hosts that the schedulers see", announced, bad=-1, description="Each scheduler that a host announces itself to counts it."
            ),
            lines("Downloads by source", (f"sum by (type) ({rate(traffic)})", "{{type}}"), unit="Bps"),
            lines(
                "From the origin, by host",
                (f"sum by (instance, peer) ({rate(traffic, from_origin)})", "{{instance}} ({{peer}})"),
                unit="Bps",
                description="Seed peers only, but for small files: another host that appears here found no peer.",
            ),
            lines("Uploads to other hosts", (f"sum by (instance) ({rate('dragonfly_client_upload_traffic')})", "{{instance}}"), unit="Bps"),
            lines(
                "Time of a piece, 95th percentile",
                (
                    f"histogram_quantile(0.95, sum by (le, type) ({rate('dragonfly_client_download_piece_duration_milliseconds_bucket')}))",
                    "{{type}}",
                ),
                unit="ms",
            ),
            lines(
                "Downloads",
                (f"sum({rate('dragonfly_client_download_task_total')})", "begun"),
                (f"sum({rate('dragonfly_client_download_task_failure_total')})", "failed"),
                unit="ops",
            ),
            lines(
                "Requests to the origin",
                (f"sum by (method) ({rate('dragonfly_client_backend_request_total')})", "{{method}}"),
                (
                    "sum by (method) ({})".format(rate("dragonfly_client_backend_request_failure_total", 'method="GET"')),
                    "{{method}}, failed",
                ),
                unit="reqps",
                description="A HEAD of an object that is not there counts as a failure as well, so only those of GET are shown.",
            ),
            lines(
                "Disk of the models",
                (f"dragonfly_client_disk_usage_space_total{{{OF}}} / dragonfly_client_disk_space_total{{{OF}}}", "{{instance}}"),
                unit="percentunit",
                description="Of the whole filesystem, with what others have on it.",
                defaults={"max": 1},
            ),
            lines(
                "Peers at the schedulers",
                (f"sum by (host_type) ({rate('dragonfly_scheduler_register_peer_total')})", "registered, {{host_type}}"),
                (
                    f"sum by (host_type) ({rate('dragonfly_scheduler_download_peer_back_to_source_started_total')})",
                    "to the origin, {{host_type}}",
                ),
                unit="ops",
            ),
            lines("Memory of dfdaemon", (f'process_resident_memory_bytes{{{OF},daemon="dfdaemon"}}', "{{instance}}"), unit="bytes"),
            panel(
                "table",
                "Versions",
                [(f"count by (git_version) (dragonfly_client_version{{{OF}}})", "")],
                description="Of dfdaemon, and on how many hosts.",
            ),
        ],
    )


def serving():
    every = f"{{{OF}}}"
    model = "model_name, model_version"
    requests = f"sum by ({model}) ({rate('ts_inference_requests_total')})"

    def mean_ms(metric):
        return f"sum by ({model}) ({rate(metric)}) / {requests} / 1000"

    return dashboard(
        "modelfleet-serving",
        "ModelFleet: serving",
        "Which models are ready and right, how they answer, and what expires.",
        [
            number(
                "Ready of what is to be served",
                f"sum(modelfleet_model_ready{every}) / sum(modelfleet_model_expected{every})",
                bad=-1,
                unit="percentunit",
            ),
            number("Wrong answers", f"count(modelfleet_model_answering{every} == 0) or vector(0)"),
            number("Workers on the CPU that must use a GPU", f"sum(modelfleet_model_workers_on_cpu{every}) or vector(0)"),
            number("Hosts in a rollout", f"sum(modelfleet_rollout_in_progress{every})", bad=1e9),
            lines("Requests", (requests, "{{model_name}} {{model_version}}"), unit="reqps"),
            lines(
                "Answers by status",
                (f"sum({rate('Requests2XX')})", "2xx"),
                (f"sum({rate('Requests4XX')})", "4xx"),
                (f"sum({rate('Requests5XX')})", "5xx"),
                unit="reqps",
                description="All of TorchServe's APIs, so that each look at a host counts as well.",
            ),
            lines("Time of an answer, mean", (mean_ms("ts_inference_latency_microseconds"), "{{model_name}} {{model_version}}"), unit="ms"),
            lines("Time in the queue, mean", (mean_ms("ts_queue_latency_microseconds"), "{{model_name}} {{model_version}}"), unit="ms"),
            lines("Hosts with the version ready", (f"sum by (model, version) (modelfleet_model_ready{every})", "{{model}} {{version}}")),
            lines("Requests by host", (f"sum by (instance) ({rate('ts_inference_requests_total')})", "{{instance}}"), unit="reqps"),
            lines(
                "Until the first certificate expires",
                (f"min by (instance) (modelfleet_certificate_expiry_timestamp_seconds{every}) - time()", "{{instance}}"),
                unit="s",
            ),
            lines(
                "Since the last good smoke",
                (f"time() - modelfleet_smoke_last_success_timestamp_seconds{every}", "{{instance}}"),
                unit="s",
            ),
            panel(
                "table",
                "Not ready",
                [(f"modelfleet_model_ready{every} == 0", "")],
                description="What this host is to serve by its own record and does not have ready.",
            ),
            panel(
                "table",
                "What could not be looked at",
                [(f"modelfleet_look_success{every} == 0", "")],
                description="The journal of modelfleet-metrics.service on the host says why.",
            ),
        ],
    )


# Files


def files():
    """{path: text} of everything that is built."""
    alerts = read_alerts()
    built = {FILES / "rules.yml": rules(alerts), RUNBOOKS / "README.md": index(alerts)}
    built.update({RUNBOOKS / f"{one['alert']}.md": runbook(one) for one in alerts})
    for name, made in (("p2p", p2p()), ("serving", serving())):
        built[FILES / f"dashboards/{name}.json"] = json.dumps(made, indent=2, ensure_ascii=False) + "\n"
    return built


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where a file is not what it would be")
    args = parser.parse_args()
    built = files()
    stale = [path for path, text in built.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    gone = [path for path in RUNBOOKS.glob("*.md") if path not in built]
    for path in stale + gone:
        print(f"{path.relative_to(ROOT)} is not what monitoring/build.py writes" if args.check else f"wrote {path.relative_to(ROOT)}")
    if not args.check:
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(built[path], encoding="utf-8")
        for path in gone:
            path.unlink()
    return 1 if args.check and stale + gone else 0


if __name__ == "__main__":
    sys.exit(main())
