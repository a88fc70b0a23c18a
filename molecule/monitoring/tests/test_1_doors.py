"""The doors: what they lead to, and for whom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import DIRECTORY, SCENARIO, WATCH, address_of, door, targets
from fleet import CONNECT, GPU_HOSTS, declared_models, recap

PAGES = Path(__file__).resolve().parents[3] / "tests/metrics"
SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})? \S+$", re.MULTILINE)
NUMBERS = {"scheduler-1": 11, "seed-1": 12, "gpu-1": 21, "gpu-2": 22, "gpu-3": 23}


def labels_in(text):
    """{metric: its labels} of a page."""
    found = {}
    for name, labels in SAMPLE.findall(text):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def test_every_page_is_read(watch):
    read = {(one["labels"]["instance"], one["labels"]["daemon"]) for one in targets(watch)}
    assert read == {
        *((name, "host") for name in NUMBERS),
        ("scheduler-1", "scheduler"),
        *((name, "dfdaemon") for name in ("seed-1", *GPU_HOSTS)),
        *((name, "torchserve") for name in GPU_HOSTS),
    }
    assert {one["lastError"] for one in targets(watch)} == {""}


@pytest.mark.parametrize(
    ("page", "host", "path"),
    [
        ("dfdaemon-seed", "seed-1", "dfdaemon"),
        ("dfdaemon-peer", "gpu-2", "dfdaemon"),
        ("scheduler", "scheduler-1", "scheduler"),
        ("torchserve", "gpu-1", "torchserve"),
    ],
)
def test_daemons_say_what_was_recorded_of_them(watch, page, host, path):
    """By which tests/test_monitoring.py judges the names in rules and dashboards."""
    status, text = door(watch, address_of(NUMBERS[host]), f"/{path}/metrics")
    assert status == 200
    live, recorded = labels_in(text), labels_in((PAGES / f"{page}.prom").read_text(encoding="utf-8"))
    both = {name for name in live if name in recorded}
    assert len(both) >= 5
    assert {name: live[name] for name in both} == {name: recorded[name] for name in both}


@pytest.mark.parametrize("host", GPU_HOSTS)
def test_a_host_says_that_its_model_is_well(watch, host):
    (model,) = declared_models(SCENARIO.directory.parent.parent / "inventory/lab")
    status, text = door(watch, address_of(NUMBERS[host]), "/host/metrics")
    assert status == 200
    labels = f'{{model="{model["name"]}",version="{model["version"]}",runtime="torchserve"}}'
    for name in ("expected", "served", "ready", "answering"):
        assert f"modelfleet_model_{name}{labels} 1\n" in text
    assert "modelfleet_rollout_in_progress 0\n" in text
    assert set(re.findall(r'certificate="(\w+)"', text)) == {"door", "authority", "dfdaemon"}
    assert 'modelfleet_look_success{part="models"} 1' in text and '"} 0' not in text.partition("modelfleet_look_success")[2]


def test_a_delete_clears_nothing(watch):
    before = door(watch, address_of(21), "/dfdaemon/metrics")[1]
    assert "dragonfly_client_version" in before
    assert door(watch, address_of(21), "/dfdaemon/metrics", method="DELETE")[0] == 405
    assert "dragonfly_client_version" in door(watch, address_of(21), "/dfdaemon/metrics")[1]


def test_nobody_is_let_in_without_a_certificate(watch):
    assert door(watch, address_of(21), "/dfdaemon/metrics", certificate=False) == (0, "")


def test_only_who_scrapes_reaches_the_port(fleet, watch):
    """By the firewall: root of another host of the fleet has a certificate that the door would trust."""
    place = f"{address_of(21)}:9443"
    assert watch.check_output("python3 -c %s %s", CONNECT, place) == "connected"
    for name in ("gpu-2", "scheduler-1"):
        assert fleet[name].check_output("python3 -c %s %s", CONNECT, place) == "ConnectionRefusedError"


def test_a_certificate_of_another_host_is_not_enough(fleet, watch):
    """Of the host itself, which the firewall lets come by loopback."""
    own = "/etc/modelfleet-monitoring"
    command = f"curl --silent --cacert {own}/ca.pem --cert {own}/host.pem --key {own}/host.pem --output /dev/null"
    status = fleet["gpu-1"].check_output(command + " --write-out '%%{http_code}' %s", f"https://{address_of(21)}:9443/host/metrics")
    assert status == "403"


def test_the_daemons_stay_on_loopback(fleet):
    listening = fleet["gpu-1"].check_output("ss -Hltn").splitlines()
    places = {line.split()[3].replace("[::ffff:127.0.0.1]", "127.0.0.1") for line in listening}  # as Java has it
    assert {"127.0.0.1:4002", "127.0.0.1:8082", f"{address_of(21)}:9443"} <= places


def test_the_units_run_as_their_own_users(fleet):
    host = fleet["gpu-1"]
    pid = host.main_pid("modelfleet-monitoring")
    assert host.check_output("ps -o user:32= -p %s", pid).strip() == "modelfleet-monitoring"
    assert host.active("modelfleet-metrics.timer")
    assert host.check_output("stat -c '%U %a' /run/modelfleet-metrics/host.prom") == "modelfleet-metrics 644"
    for name in ("host.pem", "checks.json"):
        assert host.check_output("stat -c '%%a' %s", f"/etc/modelfleet-monitoring/{name}") == "640"
    assert host.check_output("systemctl --failed --no-legend --plain") == ""


def test_the_key_of_prometheus_is_for_prometheus(watch):
    assert watch.check_output("stat -c '%%U %%G %%a' %s", f"{DIRECTORY}/client.pem") == "root prometheus 640"
    assert watch.run("runuser -u nobody -- cat %s", f"{DIRECTORY}/client.pem").rc != 0


@pytest.mark.parametrize("playbook", ["smoke", "doctor", "verify"])
def test_a_play_that_looks_changes_nothing(play, watch, playbook, tmp_path):
    reports = {f"{name}_report_path": str(tmp_path / f"{name}.json") for name in ("doctor", "verify")}
    done = play(playbook, verify_sbom_dir=str(tmp_path / "sbom"), **reports)
    assert {name: row["changed"] for name, row in recap(done).items()} == dict.fromkeys(recap(done), 0)
    assert WATCH not in recap(done)
