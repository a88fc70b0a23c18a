"""What the scenario's tests share: the hosts, what left them, and plays."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess

import pytest
from fleet import DAEMON_HOSTS, REPOSITORY, Scenario, make_model

SCENARIO = Scenario("offline")
SERVER = "bundle-1"
CACHE = REPOSITORY / ".cache" / SCENARIO.lab_name
BUNDLE = CACHE / "bundle"
URL = f"http://{SCENARIO.settings['lab_network_prefix']}.41:8085"
os.environ["GNUPGHOME"] = str(CACHE / "gnupg")


@pytest.fixture(scope="session")
def fleet():
    return SCENARIO.hosts((*DAEMON_HOSTS, SERVER))


@pytest.fixture(scope="session")
def play():
    """A callable that runs a play with these variables; it must end with ``code``."""
    return SCENARIO.play_to_the_end


@pytest.fixture(scope="session")
def rolled_out(play, tmp_path_factory):
    """The variables of the fleet, once it serves another version of its model."""
    place = tmp_path_factory.mktemp("files")
    make_model(place, "demo", "2.0", seed=2)
    sha256 = hashlib.sha256((place / "demo-2.0.mar").read_bytes()).hexdigest()
    artifact = {"src": "demo-2.0.mar", "object": "models/demo/2.0/demo.mar", "sha256": sha256}
    play("publish", modelfleet_files_dir=str(place), modelfleet_artifacts=[artifact])
    check = {"input_file": "demo-2.0.input.json", "expected_file": "demo-2.0.expected.json"}
    model = {"name": "demo", "version": "2.0", "object": artifact["object"], "sha256": sha256, "size": "9MiB", "workers": 1, "check": check}
    told = {"modelfleet_files_dir": str(place), "modelfleet_models": [model]}
    play("rollout", **told)
    return told


def packets(host):
    """How many packets would have left the lab from a host."""
    inspect = ["podman", "inspect", "--format", "{{ .State.Pid }}", host.container]
    pid = subprocess.run(inspect, check=True, capture_output=True, text=True).stdout.strip()
    # The whole table: nft 1.0.6 crashes where it is asked for the counter alone.
    command = ["nsenter", "--net", "--target", pid, "nft", "--json", "list", "table", "inet", "egress"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    (counter,) = (one["counter"] for one in listed["nftables"] if "counter" in one)
    return counter["packets"]
