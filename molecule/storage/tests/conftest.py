"""What the scenario's tests share: the fleet on each kind of store in turn, and what was seen of it."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from fleet import ALL, BUCKET, FILES, REPOSITORY, Kept, Scenario, make_model, recap

SCENARIO = Scenario("storage")
KEPT = Kept(SCENARIO)
play = KEPT.play
# The fleet of the scenario default is on S3; what signs for each store is tested without a fleet, in tests/plugin.
STORES = ("s3", "oss", "gcs", "abs", "obs", "http") if ALL else ("abs", "http")
CONFIG = "/etc/dragonfly-endpoint/config.json"
SERVICE_ACCOUNT = "/etc/dragonfly-endpoint/service-account.json"
SEEN = {}  # by store: what the table at the end shows
SERVED = []  # the entry of the store whose model the fleet serves
RESTARTED = ("scheduler-1 dragonfly-scheduler", *(f"gpu-{n} torchserve" for n in (1, 2, 3)))


@pytest.fixture(scope="session")
def fleet():
    return SCENARIO.hosts()


@pytest.fixture(scope="session")
def origin():
    return SCENARIO.origin


@dataclass
class Store:
    """The fleet on one store, serving a model that the publish play put there."""

    name: str
    published: dict  # the entry of modelfleet_models that the publish play printed
    size: int
    variables: list
    report: dict
    input: str
    expected: dict
    faults: dict = field(default_factory=dict)

    @property
    def object(self):
        return self.published["object"]


def model_directory(mar):
    """The inputs of a .mar in a directory, as a user has them before the archiver runs."""
    directory = mar.with_suffix("")
    shutil.rmtree(directory, ignore_errors=True)
    with zipfile.ZipFile(mar) as archive:
        archive.extractall(directory)
    return directory


def artifact(store, mar):
    """S3's model is archived by the publish play, the others are archives already."""
    if store != "s3":
        return {"src": mar.name, "object": f"models/{store}/1.0/{store}.mar"}
    directory = model_directory(mar)
    archive = {"model_name": store, "version": "1.0", "handler": "handler.py", "serialized_file": "weights.bin"}
    return {"archive": {"directory": directory.name, **archive}, "object": f"models/{store}/1.0/{store}.mar"}


def pasted(finished):
    """The block that the publish play prints, as the YAML that a user pastes."""
    lines = finished.stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.strip().startswith("modelfleet_models:"))
    indent = len(lines[start]) - len(lines[start].lstrip())
    block = [lines[start]]
    for line in lines[start + 1 :]:
        if line.strip() and len(line) - len(line.lstrip()) <= indent and not line.strip().startswith("-"):
            break
        block.append(line)
    return yaml.safe_load("\n".join(line[indent:] for line in block))["modelfleet_models"]


@pytest.fixture(scope="module", params=STORES)
def store(request, fleet, origin):
    """Publish a model to a store and serve it on the whole fleet, with the two plays that a user runs."""
    name = request.param
    mar = make_model(FILES, name, size_mib=16)
    check = {"input_file": f"{name}-1.0.input.json", "expected_file": f"{name}-1.0.expected.json"}
    variables = ["-e", f"@{SCENARIO.directory}/stores/{name}.yml"]
    artifacts = ["-e", json.dumps({"modelfleet_artifacts": [artifact(name, mar)]})]

    publish = play(f"{name}-publish", "playbooks/publish.yml", *variables, *artifacts)
    assert publish.returncode == 0, publish.stdout[-3000:]
    (entry,) = pasted(publish)
    again = play(f"{name}-publish-again", "playbooks/publish.yml", *variables, *artifacts)
    assert again.returncode == 0, again.stdout[-3000:]
    assert recap(again)["localhost"]["changed"] == 0

    before = {host: fleet[host].main_pid(unit) for host, unit in (item.split() for item in RESTARTED)}
    # What the store before served goes: otherwise it would be restored at the next boot without being listed, and the run would say so.
    gone = [{**one, "state": "absent"} for one in SERVED]
    SERVED[:] = [entry]
    models = ["-e", json.dumps({"modelfleet_models": [{**entry, "check": check}, *gone]})]
    site = play(f"{name}-site", "playbooks/site.yml", *variables, *models)
    assert site.returncode == 0, site.stdout[-5000:]
    # A new kind of store is a new rule of dfdaemon's proxy; nothing else needs a restart for it.
    assert {host: fleet[host].main_pid(unit) for host, unit in (item.split() for item in RESTARTED)} == before

    report = json.loads((REPOSITORY / "reports" / SCENARIO.lab_name / "report.json").read_text(encoding="utf-8"))
    yield Store(
        name=name,
        published=entry,
        size=Path(f"{FILES}/{name}-1.0.mar").stat().st_size,
        variables=variables + models,
        report=report,
        input=(FILES / check["input_file"]).read_text(encoding="utf-8"),
        expected=json.loads((FILES / check["expected_file"]).read_text(encoding="utf-8")),
        faults=SEEN.setdefault(name, {}).setdefault("faults", {}),
    )
    for host in ("gpu-1", "gpu-2", "gpu-3"):
        fleet[host].unregister(name)


@pytest.fixture
def put(origin, tmp_path):
    """A callable that puts a small model under a key into the store, past its API; returns its sha256."""

    def put_model(key, name="small", version="1.0"):
        return origin.put(key, make_model(tmp_path, name, version, size_mib=5).read_bytes())

    return put_model


def pytest_terminal_summary(terminalreporter):
    """The scenario's result, as a table that a person can read."""
    if not SEEN:
        return
    out = terminalreporter
    out.section("stores")
    line = "{:5}  {:>9}  {:>10}  {:>8}  {:>12}  {:>5}"
    out.write_line(line.format("store", "published", "registered", "answered", "origin/model", "again"))
    for name, row in SEEN.items():
        if {"registered", "answered", "ratio", "again"} <= row.keys():
            shown = f"{row['registered']}/3", f"{row['answered']}/3", f"{row['ratio']:.6f}", f"{row['again']} B"
            out.write_line(line.format(name, "yes", *shown))
    for name, row in SEEN.items():
        for fault, message in row.get("faults", {}).items():
            out.write_line(f"{name}, {fault}: {message}")


def sha256(content):
    return hashlib.sha256(content).hexdigest()


__all__ = ["BUCKET", "CONFIG", "KEPT", "SCENARIO", "SEEN", "SERVICE_ACCOUNT", "STORES", "play", "recap", "sha256"]
