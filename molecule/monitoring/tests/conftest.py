"""What the scenario's tests share: Prometheus and Alertmanager as somebody on their host asks them, and plays."""

from __future__ import annotations

import json
import time

import pytest
from fleet import DAEMON_HOSTS, Scenario, wait_until

SCENARIO = Scenario("monitoring")
WATCH = "watch-1"
DIRECTORY = "/etc/prometheus/modelfleet"
STATE = "/var/lib/modelfleet/state"
# The rules of the role, but for how long they wait and how far they look back.
SHORTER = r"s/^( *for:) .*/\1 4s/; s/\[[0-9]+m\]/[40s]/g"
QUICK = f"sed -E '{SHORTER}' {DIRECTORY}/rules.yml > /etc/prometheus/quick.yml && systemctl reload prometheus"


@pytest.fixture(scope="session")
def fleet():
    return SCENARIO.hosts((*DAEMON_HOSTS, WATCH))


@pytest.fixture(scope="session")
def watch(fleet):
    """The host of Prometheus, when every page was read once and the quick rules are loaded."""
    host = fleet[WATCH]
    host.check_output("sh -c %s", QUICK)
    wait_until(lambda: targets(host) and all(one["health"] == "up" for one in targets(host)), "every page to be read", 120)
    wait_until(lambda: alerts(host) == {}, "the alerts of the start to go", 300)
    return host


@pytest.fixture(scope="session")
def play():
    """A callable that runs a play with these variables; it must end with ``code``."""
    return SCENARIO.play_to_the_end


def address_of(number):
    return f"{SCENARIO.settings['lab_network_prefix']}.{number}"


def ask(host, url):
    return json.loads(host.check_output("curl --silent --fail --max-time 10 %s", url))


def targets(watch):
    """What Prometheus knows of each page that it reads."""
    return ask(watch, "http://127.0.0.1:9090/api/v1/targets?state=active")["data"]["activeTargets"]


def alerts(watch):
    """{(name, host): labels} of the alerts that Alertmanager has and that are not resolved."""
    found = ask(watch, "http://127.0.0.1:9093/api/v2/alerts?active=true")
    return {(one["labels"]["alertname"], one["labels"].get("instance", "")): one["labels"] for one in found}


def seconds_until(condition, what, limit):
    """How long it took."""
    began = time.monotonic()
    wait_until(condition, what, limit)
    return time.monotonic() - began


def door(host, address, path, certificate=True, method="GET"):
    """(status, text) of a request to a door, with the certificate of Prometheus; (0, "") without a connection."""
    key = f"--cert {DIRECTORY}/client.pem --key {DIRECTORY}/client.pem" if certificate else ""
    command = f"curl --silent --max-time 10 --request {method} --cacert {DIRECTORY}/ca.pem {key} --write-out '\\n%%{{http_code}}' %s"
    text, _newline, status = host.run(command, f"https://{address}:9443{path}").stdout.rpartition("\n")
    return int(status or 0), text
