"""What the scenario's tests share: a model that is on its way to the four hosts for as long as a fault needs."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from fleet import GPU_HOSTS, MODELS, Scenario, recap, wait_until

SCENARIO = Scenario("faults")
HOSTS = (*GPU_HOSTS, "gpu-4")
DISTRIBUTE = "playbooks/distribute.yml"
# 24 pieces. The seed peer takes eight at a time, each in an answer of its own that has so many bytes a second: three times eight seconds.
SIZE = 96 << 20
SLOW = 512 << 10
SEEN = []  # lines for the end


@pytest.fixture(scope="session")
def fleet():
    return SCENARIO.hosts(("scheduler-1", "seed-1", *HOSTS))


@pytest.fixture(scope="session")
def origin():
    return SCENARIO.origin


@dataclass
class Model:
    """A model of one object, and how it goes to the hosts."""

    name: str
    content: bytes
    fleet: dict
    origin: object

    @property
    def key(self):
        return f"faults/{self.name}.mar"

    @property
    def sha256(self):
        return hashlib.sha256(self.content).hexdigest()

    @property
    def path(self):
        return f"{MODELS}/{self.name}-1.0-{self.sha256[:12]}.mar"

    @property
    def entry(self):
        size = f"{len(self.content) >> 20}MiB"
        return {"name": self.name, "version": "1.0", "object": self.key, "sha256": self.sha256, "size": size}

    def publish(self, content=None):
        """Have the origin send it slowly; another ``content`` is what somebody put in its place."""
        self.origin.put(self.key, content or self.content)
        self.slow()

    def slow(self):
        self.origin.fault("faults/*", slow=SLOW)

    def complete_on(self, name):
        """Whether the host has all of it. Whatever has a final name must be whole, at any time."""
        host = self.fleet[name]
        listed = host.check_output("cd %s && find . -type f -exec sha256sum {} +", MODELS).splitlines()
        found = {path.removeprefix("./"): sha256 for sha256, path in (line.split() for line in listed)}
        assert [path for path, sha256 in found.items() if not path.endswith(f"-{sha256[:12]}.mar")] == []
        return found.get(self.path.rpartition("/")[2]) == self.sha256

    def on(self):
        return [name for name in HOSTS if self.complete_on(name)]

    @contextmanager
    def on_its_way(self, *args):
        """A run that brings it, when every host has a part of it and the origin has sent half."""
        before = {name: self.fleet[name].traffic()["REMOTE_PEER"] for name in HOSTS}

        def halfway():
            return self.origin.bytes_sent(self.key) >= len(self.content) / 2 and all(
                self.fleet[name].traffic()["REMOTE_PEER"] > before[name] for name in HOSTS
            )

        with SCENARIO.beside(DISTRIBUTE, *variables(self.entry), *args) as run:
            wait_until(lambda: run.ended or halfway(), f"half of {self.key} being sent")
            assert not run.ended, run.finish().stdout[-3000:]
            assert self.origin.bytes_sent(self.key) < len(self.content), "all of it was sent before the fault"
            assert self.on() == []
            yield run


def variables(*entries):
    return ["-e", json.dumps({"modelfleet_models": entries})]


@pytest.fixture
def model(request, fleet, origin):
    """A model with content of its own, named after the test."""
    name = request.node.name.removeprefix("test_").replace("_", "-").replace("[", "-").rstrip("]")
    made = Model(name, os.urandom(SIZE), fleet, origin)
    origin.count_anew()
    made.publish()
    yield made
    origin.heal()
    for host in HOSTS:
        fleet[host].check_output("rm -f %s", made.path)


@pytest.fixture
def finishes(fleet, origin):
    """A callable that asserts that the next run has the model on every host and leaves nothing else, and another changes nothing."""

    def check(model):
        origin.heal()
        runs = [SCENARIO.play(DISTRIBUTE, *variables(model.entry)) for _time in range(2)]
        for finished in runs:
            assert finished.returncode == 0, finished.stdout[-3000:]
        assert set(recap(runs[1])) == set(fleet)
        assert {name: row["changed"] for name, row in recap(runs[1]).items()} == dict.fromkeys(fleet, 0)
        assert model.on() == list(HOSTS)
        for name in HOSTS:
            assert fleet[name].check_output("find /var/lib/modelfleet/incoming /var/lib/modelfleet/blobs -name '.artifact-*'") == ""
            assert fleet[name].check_output("find /var/lib/modelfleet/incoming -mindepth 1") == ""

    return check


def pytest_terminal_summary(terminalreporter):
    for line in SEEN:
        terminalreporter.write_line(line)
