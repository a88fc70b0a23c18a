# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What monitoring gives to people and programs: alerts judged by promtool, dashboards, and the door as its role configures it."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from test_gateway import Authority, free_ports, wait_for

REPOSITORY = Path(__file__).resolve().parent.parent
COLLECTION = REPOSITORY / "collections/ansible_collections/modelfleet/serving"
ROLE = COLLECTION / "roles/monitoring"
PAGES = REPOSITORY / "tests/metrics"


def loaded(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = loaded(REPOSITORY / "monitoring/build.py")
PROGRAM = loaded(ROLE / "files/host_metrics.py")
ALERTS = BUILD.read_alerts()
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((ROLE / "files/dashboards").glob("*.json"))}
# What Prometheus adds itself, and the labels of a target.
OF_PROMETHEUS = {"up"}
OF_A_TARGET = {"job", "instance", "daemon", "peer"}
# Of the pages of the program, by metric.
OF_THE_HOST = {
    **{name: {"model", "version", "runtime"} for name in PROGRAM.METRICS if name.startswith("modelfleet_model_")},
    "modelfleet_certificate_expiry_timestamp_seconds": {"certificate"},
    "modelfleet_look_success": {"part"},
}


def expressions():
    """(where, expression) of every alert and every panel, without the variables of Grafana."""
    for alert in ALERTS:
        yield alert["alert"], alert["expr"]
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                expr = re.sub(r"\$__(rate_interval|range)\b", "5m", target["expr"]).replace("$instance", ".*")
                yield f"{name}: {panel['title']}", expr


EXPRESSIONS = list(expressions())


@pytest.fixture(scope="session")
def promtool():
    found = shutil.which("promtool")
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelfleet/promtool"
    if not found and not cached.exists():
        pytest.skip("there is no promtool: lab/setup gets it")

    def run(*arguments):
        done = subprocess.run([found or str(cached), *map(str, arguments)], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


# What is built


def test_what_is_in_git_is_what_is_built():
    stale = [str(path.relative_to(REPOSITORY)) for path, text in BUILD.files().items() if not path.exists() or path.read_text() != text]
    assert stale == [], "run monitoring/build.py"


def test_nobody_is_woken_by_many():
    assert 1 <= len(ALERTS) <= 12
    assert len({one["alert"] for one in ALERTS}) == len(ALERTS)
    assert {one["severity"] for one in ALERTS} == {"critical", "warning"}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda one: one["alert"])
def test_an_alert_has_a_runbook_with_cause_place_and_remedy(alert):
    page = (COLLECTION / f"docs/runbooks/{alert['alert']}.md").read_text()
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == ["Cause", "Look here", "Do this"]
    assert all(alert[key] for key in ("causes", "look", "do"))
    # What the program of an operator is told must be there.
    for play in re.findall(r"modelfleet\.serving\.(\w+)", page):
        assert (COLLECTION / f"playbooks/{play}.yml").exists(), play


# Alerts, judged by promtool


def rendered(text, labels):
    return re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda match: labels.get(match[1], ""), text)


def alert_test(alert, case):
    """A test of promtool: all series of a case, and the alert or none."""
    labels = case.get("labels")
    annotations = {"summary": alert["summary"], "description": alert["description"], "runbook_url": f"{alert['alert']}.md"}
    expected = {
        "exp_labels": {**(labels or {}), "severity": alert["severity"]},
        "exp_annotations": {name: rendered(text, labels or {}) for name, text in annotations.items()},
    }
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": str(values)} for name, values in case["series"].items()],
        "alert_rule_test": [{"eval_time": case["at"], "alertname": alert["alert"], "exp_alerts": [expected] if labels else []}],
    }


def judged(promtool, directory, tests):
    (directory / "test.yml").write_text(
        yaml.safe_dump({"rule_files": [str(ROLE / "files/rules.yml")], "evaluation_interval": "30s", "tests": tests}), encoding="utf-8"
    )
    return promtool("test", "rules", directory / "test.yml")


def test_the_rules_are_rules(promtool):
    code, said = promtool("check", "rules", "--lint=all", "--lint-fatal", ROLE / "files/rules.yml")
    assert code == 0 and f"{len(ALERTS)} rules found" in said, said


@pytest.mark.parametrize("alert", ALERTS, ids=lambda one: one["alert"])
def test_an_alert_fires_and_does_not(promtool, tmp_path, alert):
    assert alert["fires"]["labels"] and "labels" not in alert["quiet"]
    code, said = judged(promtool, tmp_path, [alert_test(alert, alert["fires"]), alert_test(alert, alert["quiet"])])
    assert code == 0, said


def test_promtool_would_say_so(promtool, tmp_path):
    """That the tests above can fail, each way."""
    alert = ALERTS[0]
    for case in (
        {**alert["quiet"], "labels": alert["fires"]["labels"]},
        {key: value for key, value in alert["fires"].items() if key != "labels"},
    ):
        assert judged(promtool, tmp_path, [alert_test(alert, case)])[0] != 0


def test_every_expression_is_one(promtool, tmp_path):
    """Those of dashboards too: promtool reads rules, so each is the expression of one."""
    rules = [{"record": f"test:{number}", "expr": expr} for number, (_place, expr) in enumerate(EXPRESSIONS)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}), encoding="utf-8")
    code, said = promtool("check", "rules", path)
    assert code == 0 and f"{len(rules)} rules found" in said, said


# Names and labels, as daemons say them

_TOKEN = re.compile(
    r'(?P<text>"(?:[^"\\]|\\.)*")|(?P<time>\d+[smhdw]\b)|(?P<number>\d[\d.]*(?:e\d+)?)|(?P<name>[A-Za-z_:][\w:]*)|(?P<sign>\S)'
)
_WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right"}
_LISTS = _WORDS - {"and", "or", "unless", "bool", "offset"}


def names_in(expr):
    """({metric: labels that its selector names}, labels that are grouped or matched by) of an expression."""
    tokens = [(match.lastgroup, match.group()) for match in _TOKEN.finditer(expr)]
    metrics, grouped, at = {}, set(), 0

    def until(close):
        nonlocal at
        inside = []
        while tokens[at][1] != close:
            inside.append(tokens[at])
            at += 1
        return inside

    while at < len(tokens):
        kind, text = tokens[at]
        at += 1
        following = tokens[at][1] if at < len(tokens) else ""
        if kind != "name":
            continue
        if text in _LISTS:
            at += 1
            grouped |= {word for one, word in until(")") if one == "name"}
        elif following in ("(", "by", "without") or text in _WORDS:
            continue
        else:
            metrics.setdefault(text, set())
            if following == "{":
                at += 1
                metrics[text] |= {word for one, word in until("}") if one == "name"}
    return metrics, grouped


def recorded():
    """{metric: its labels} of every sample on the recorded pages, and of what the program says."""
    found = {name: OF_THE_HOST.get(name, set()) for name in PROGRAM.METRICS}
    for path in PAGES.glob("*.prom"):
        for line in path.read_text(encoding="utf-8").splitlines():
            sample = re.fullmatch(r'([A-Za-z_:][\w:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? \S+', line)
            if sample:
                found.setdefault(sample[1], set()).update(re.findall(r'(\w+)="', sample[2] or ""))
    return found


RECORDED = recorded()


def test_names_are_found_in_an_expression():
    expr = 'sum by (a, b) (rate(x_total{job="y{}",c=~"d.*"}[5m])) / on (e) group_left (f) max(z) > 2 * 86400 or vector(0)'
    assert names_in(expr) == ({"x_total": {"job", "c"}, "z": set()}, {"a", "b", "e", "f"})


@pytest.mark.parametrize("page", ["dfdaemon-seed", "dfdaemon-peer", "scheduler", "torchserve"])
def test_a_page_was_recorded(page):
    text = (PAGES / f"{page}.prom").read_text()
    assert text.startswith("# Recorded on 20") and len(text.splitlines()) > 40


@pytest.mark.parametrize(("place", "expr"), EXPRESSIONS, ids=[f"{number}-{place}" for number, (place, _expr) in enumerate(EXPRESSIONS)])
def test_an_expression_names_only_what_daemons_say(place, expr):
    metrics, grouped = names_in(expr)
    assert metrics, expr
    for metric, labels in metrics.items():
        assert metric in {*RECORDED, *OF_PROMETHEUS}, f"{place}: no page has {metric}"
        assert labels <= RECORDED.get(metric, set()) | OF_A_TARGET, f"{place}: {metric} has no such label"
    known = set().union(OF_A_TARGET, *(RECORDED.get(metric, set()) for metric in metrics))
    assert grouped <= known, place


# Dashboards


@pytest.mark.parametrize("name", ["p2p", "serving"])
def test_a_dashboard_can_be_imported(name):
    dashboard = DASHBOARDS[name]
    assert dashboard["uid"] == f"modelfleet-{name}" and dashboard["title"] and "id" not in dashboard
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 10
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
        assert panel["targets"] and len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([A-Za-z]\w*)", json.dumps(panels))) - {"__rate_interval", "__range"}
    assert used <= variables == {"datasource", "instance"}


# The door


class Daemon:
    """Whose metrics lie behind the door; it keeps what it was asked."""

    def __init__(self):
        self.asked = []
        daemon = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                daemon.asked.append((self.command, self.path, self.headers.get("Authorization")))
                body = b"real 1\n"
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_DELETE = do_POST = answer

            def log_message(self, *_args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.port = self.server.server_address[1]


class Door:
    """What the role would install on a host, below a directory, and what it would give to Prometheus."""

    def __init__(self, run, home):
        self.home, self.daemon = home, Daemon()
        (self.port, self.dead) = free_ports(2)
        self.authority = Authority(home, "fleet")
        for name in ("etc", "run", "issued"):
            (home / name).mkdir()
        # host_certificate gives certificate and key in one file.
        for name in ("gpu-1", "watch", "gpu-2"):
            certificate, key = self.authority.issue(name, f"issued/{name}")
            (home / f"issued/{name}.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
        stranger = Authority(home, "stranger")
        certificate, key = stranger.issue("watch", "issued/stranger")
        (home / "issued/stranger.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
        (home / "run/host.prom").write_text("modelfleet_look_timestamp_seconds 1\n")
        self.files = self.render(run)
        self.process = None

    def render(self, run):
        variables = {
            "ansible_python_interpreter": sys.executable,
            "modelfleet_storage": {"http": {"url": "http://127.0.0.1"}},
            "modelfleet_models": [],
            "__modelfleet_tls": {"trusted": self.authority.path.read_text(), "certificate": (self.home / "issued/gpu-1.pem").read_text()},
            "__monitoring_directory": str(self.home / "etc"),
            "__monitoring_page": str(self.home / "run/host.prom"),
        }
        inventory = {
            "all": {
                "vars": {
                    "monitoring_port": self.port,
                    "dfdaemon_config": {"metrics": {"server": {"port": self.daemon.port}}},
                    "torchserve_metrics_port": self.dead,
                    "monitoring_pages": [{"name": "node", "address": f"127.0.0.1:{self.daemon.port}"}],
                },
                "children": {
                    "gpu_hosts": {"hosts": {"gpu-1": {"modelfleet_address": "127.0.0.1"}, "gpu-2": {"modelfleet_address": "127.0.0.2"}}},
                    "dragonfly_seed_peers": {"hosts": {"seed-1": {"modelfleet_address": "127.0.0.3"}}},
                    "dragonfly_schedulers": {"hosts": {"scheduler-1": {"modelfleet_address": "127.0.0.4"}}},
                    "modelfleet_prometheus": {"hosts": {"watch": {"modelfleet_address": "127.0.0.1"}}},
                },
            }
        }
        names = ("torchserve", "dfdaemon", "dragonfly_scheduler", "dragonfly_manager", "triton", "gateway", "monitoring")
        written = "{{ {'host': __monitoring_files + __monitoring_look_files, 'prometheus': __monitoring_prometheus_files} }}"
        play = {
            "hosts": "gpu-1",
            "connection": "local",
            "gather_facts": False,
            "vars": {"role_path": str(ROLE)},
            "tasks": [
                # With the defaults of their roles, which those of the inventory beat.
                *({"ansible.builtin.import_role": {"name": f"modelfleet.serving.{name}", "tasks_from": "variables"}} for name in names),
                {"ansible.builtin.include_role": {"name": "modelfleet.serving.monitoring", "tasks_from": "check"}},
                {"ansible.builtin.copy": {"content": written, "dest": str(self.home / "files.json"), "mode": "0600"}, "no_log": True},
            ],
        }
        for folder in ("templates", "files"):
            (self.home / folder).symlink_to(ROLE / folder)
        for name, content in (("hosts", inventory), ("vars", variables), ("play", [play])):
            (self.home / f"{name}.yml").write_text(yaml.safe_dump(content))
        done = run("ansible-playbook", "-i", self.home / "hosts.yml", self.home / "play.yml", "-e", f"@{self.home / 'vars.yml'}")
        assert done.returncode == 0, done.stdout
        files = json.loads((self.home / "files.json").read_text())
        for entry in files["host"]:
            path = Path(entry["path"])
            if path.is_relative_to(self.home):
                path.write_text(entry["content"])
        return files

    def start(self):
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(["haproxy", "-Ws", "-f", str(self.home / "etc/haproxy.cfg")], stdout=log, stderr=log)
        wait_for(lambda: self.ask("/host/metrics")[0] == 200, "the door did not open")

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=30)
        self.daemon.server.shutdown()

    def ask(self, path="/dfdaemon/metrics", method="GET", certificate="watch", **headers):
        """(status, text); (0, why) where the handshake fails."""
        context = ssl.create_default_context(cafile=self.authority.path)
        context.check_hostname = False
        if certificate:
            context.load_cert_chain(self.home / f"issued/{certificate}.pem")
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=30)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError as exc:
            return 0, str(exc)
        finally:
            connection.close()

    def written(self, name):
        (entry,) = [one for one in self.files["prometheus"] if one["name"] == name]
        return entry["content"]


@pytest.fixture(scope="module")
def door(run, tmp_path_factory):
    if not shutil.which("haproxy"):
        pytest.skip("there is no haproxy: lab/setup gets it")
    made = Door(run, tmp_path_factory.mktemp("door"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_the_door_passes_on_what_is_asked_for_by_get(door):
    assert door.ask("/dfdaemon/metrics?name[]=x", Authorization="Bearer secret") == (200, "real 1\n")
    assert door.daemon.asked[-1] == ("GET", "/metrics", None)
    assert door.ask("/node/metrics") == (200, "real 1\n")


def test_the_door_says_what_the_last_look_found(door):
    page = door.home / "run/host.prom"
    assert door.ask("/host/metrics") == (200, "modelfleet_look_timestamp_seconds 1\n")
    (door.home / "run/next").write_text("modelfleet_look_timestamp_seconds 2\n")
    os.replace(door.home / "run/next", page)
    assert door.ask("/host/metrics")[1].endswith(" 2\n")
    page.rename(door.home / "run/gone")
    try:
        assert door.ask("/host/metrics")[0] == 503
    finally:
        (door.home / "run/gone").rename(page)


@pytest.mark.parametrize("method", ["DELETE", "POST", "PUT", "HEAD", "OPTIONS"])
def test_the_door_clears_nobodys_counters(door, method):
    before = list(door.daemon.asked)
    assert door.ask(method=method)[0] == 405
    assert door.daemon.asked == before


@pytest.mark.parametrize(
    "path",
    ["/", "/metrics", "/dfdaemon/metrics/", "/dfdaemon/", "/torchserve/models", "/dfdaemon/metrics/../../healthy", "/scheduler/metrics"],
)
def test_the_door_leads_nowhere_else(door, path):
    before = list(door.daemon.asked)
    assert door.ask(path)[0] == 404
    assert door.daemon.asked == before


def test_only_who_scrapes_is_let_in(door):
    """Neither another host of the fleet, nor somebody who calls himself as who scrapes, nor nobody."""
    before = list(door.daemon.asked)
    assert door.ask(certificate="gpu-2") == (403, "This host is not in modelfleet_prometheus.\n")
    for name in ("stranger", None):
        assert door.ask(certificate=name)[0] == 0
    assert door.daemon.asked == before


def test_a_daemon_that_is_down_is_said_to_be(door):
    assert door.ask("/torchserve/metrics")[0] == 503
    assert door.ask("/dfdaemon/metrics")[0] == 200


def test_what_was_refused_is_in_the_journal_and_the_rest_is_not(door):
    door.ask("/nowhere/metrics")
    wait_for(lambda: "path=/nowhere/metrics status=404" in (door.home / "log").read_text(), "nothing was said of what was refused", 10)
    assert "path=/host/metrics status=200" not in (door.home / "log").read_text()


def test_prometheus_is_told_of_the_pages_that_the_doors_have(door):
    targets = json.loads(door.written("targets.json"))
    pages = {(one["labels"]["instance"], one["labels"]["__metrics_path__"]) for one in targets}
    assert pages == {
        *(("gpu-1", f"/{name}/metrics") for name in ("host", "dfdaemon", "torchserve", "node")),
        *(("gpu-2", f"/{name}/metrics") for name in ("host", "dfdaemon", "torchserve", "node")),
        *(("seed-1", f"/{name}/metrics") for name in ("host", "dfdaemon", "node")),
        *(("scheduler-1", f"/{name}/metrics") for name in ("host", "scheduler", "node")),
    }
    assert {one["targets"][0] for one in targets if one["labels"]["instance"] == "seed-1"} == {f"127.0.0.3:{door.port}"}
    assert {one["labels"].get("peer") for one in targets if one["labels"]["daemon"] == "dfdaemon"} == {"seed", "gpu"}
    assert {label for one in targets for label in one["labels"]} - {"__metrics_path__"} <= OF_A_TARGET


def test_prometheus_takes_what_it_is_given(door, promtool, tmp_path):
    for name in ("ca.pem", "targets.json", "rules.yml"):
        (tmp_path / name).write_text(door.written(name))
    shutil.copy(door.home / "issued/watch.pem", tmp_path / "client.pem")
    # Before 2.43 Prometheus has no scrape_config_files.
    config = yaml.safe_load(door.written("scrape.yml").replace("/etc/prometheus/modelfleet", str(tmp_path)))
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"rule_files": [str(tmp_path / "rules.yml")], **config}))
    code, said = promtool("check", "config", tmp_path / "prometheus.yml")
    assert code == 0 and "SUCCESS" in said, said
    urls = re.findall(r"^ *runbook_url: (\S+)$", door.written("rules.yml"), re.MULTILINE)
    assert len(urls) == len(ALERTS) and all(re.fullmatch(r"https://\S+/docs/runbooks/\w+\.md", url) for url in urls)
