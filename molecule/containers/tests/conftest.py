"""What the scenario's tests share: hosts, their containers, and plays."""

from __future__ import annotations

import json

import pytest
from fleet import REPOSITORY, Scenario, declared_models

SCENARIO = Scenario("containers")
IMAGES = json.loads((REPOSITORY / ".cache/images.json").read_text(encoding="utf-8"))
# By host, what runs as a container there.
CONTAINED = {
    "scheduler-1": {"dragonfly-scheduler"},
    "seed-1": {"dfdaemon"},
    "gpu-1": {"dfdaemon", "torchserve"},
    "gpu-2": set(),
    "gpu-3": {"dfdaemon"},
}
(MODEL,) = declared_models(REPOSITORY / "inventory/lab")


@pytest.fixture(scope="session")
def fleet():
    return SCENARIO.hosts()


@pytest.fixture(scope="session")
def play():
    """A callable that runs a play; it must end with ``code``."""
    return SCENARIO.play_to_the_end


def containers(host):
    """{name: id of its image} of what podman runs on a host."""
    rows = host.check_output("podman ps --no-trunc --format '{{.Names}} {{.ImageID}}'").split("\n")
    return {name: image.removeprefix("sha256:") for name, image in (row.split() for row in rows if row)}


def process(host, name):
    """What the kernel says of the first process of a container: the lines of its status, as {name: value}."""
    pid = host.check_output("podman inspect --format '{{.State.Pid}}' %s", name)
    lines = host.check_output("cat /proc/%s/status", pid).splitlines()
    return {"Pid": pid, **{key: value.strip() for key, _colon, value in (line.partition(":") for line in lines)}}


def kept(host):
    """{path: inode, size, time} of models and pieces, which a change of the way in which programs come leaves alone."""
    found = host.check_output("find /var/lib/modelfleet/models /var/lib/modelfleet/pieces/content -type f -printf '%p %i %s %T@\\n'")
    return dict(line.split(" ", 1) for line in found.splitlines())
