"""What the scenario's tests share: versions of the demo model, the load and what it saw, and runs of the play."""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager

import pytest
import yaml
from fleet import FILES, REPOSITORY, Host, Scenario, make_model, wait_until

SCENARIO = Scenario("rollout")
HOSTS = tuple(f"gpu-{number}" for number in range(1, 6))
RECORD = "/var/lib/modelfleet/state/models.json"
# How often the kernel has killed a process of a host for its memory, by either version of the control groups.
KILLS = "cat memory/memory.oom_control memory.events 2>/dev/null | awk '$1 == \"oom_kill\" {n += $2} END {print n + 0}'"
SEEN = []  # lines for the end


@pytest.fixture(scope="session")
def fleet():
    return SCENARIO.hosts(HOSTS)


@pytest.fixture(scope="session")
def origin():
    return SCENARIO.origin


@pytest.fixture(scope="session")
def versions(tmp_path_factory, origin):
    """A callable that publishes a version of the demo model and returns its entry of modelfleet_models.

    Each version has other weights, so that its answers tell which one it was; ``knows`` is the seed of the version whose answers are
    said to be its own.
    """
    directory = tmp_path_factory.mktemp("versions")
    made = {}

    def publish(version, seed, fault=None, knows=None):
        if version not in made:
            if knows is not None:
                make_model(directory, "demo", version, seed=knows)
                known = (directory / f"demo-{version}.expected.json").read_bytes()
            archive = make_model(directory, "demo", version, seed=seed, fault=fault)
            if knows is not None:
                (directory / f"demo-{version}.expected.json").write_bytes(known)
            key = f"models/demo/{version}/demo.mar"
            made[version] = {
                "name": "demo",
                "version": version,
                "object": key,
                "sha256": origin.put(key, archive.read_bytes()),
                "size": "9MiB",
                "check": {"input_file": f"demo-{version}.input.json", "expected_file": f"demo-{version}.expected.json"},
            }
        return made[version]

    publish.directory = directory
    return publish


@pytest.fixture(scope="session")
def first():
    """The entry of the version that the fleet begins with, with the files of its check."""
    declared = yaml.safe_load((REPOSITORY / "inventory/lab/group_vars/all/modelfleet.yml").read_text(encoding="utf-8"))
    (model,) = declared["modelfleet_models"]
    return {**model, "check": {name: str(FILES / path) for name, path in model["check"].items()}}


@pytest.fixture(scope="session")
def wanted(versions):
    """A callable that returns the options of a play for which these are the models."""

    def options(*entries, **variables):
        return ["-e", json.dumps({"modelfleet_models": entries, "modelfleet_files_dir": str(versions.directory), **variables})]

    return options


@pytest.fixture(scope="session")
def rollout(wanted):
    """A callable that runs the play for versions."""

    def run(*entries, playbook="rollout", **variables):
        return SCENARIO.play(f"playbooks/{playbook}.yml", *wanted(*entries, **variables))

    return run


@pytest.fixture(scope="session")
def interrupted(wanted, fleet, record):
    """A context with a run on its way that has brought the version up on a host, and has not finished it there."""

    @contextmanager
    def on_its_way(entry, name, **variables):
        with SCENARIO.beside("playbooks/rollout.yml", *wanted(entry, **variables)) as run:
            wait_until(lambda: run.ended or entry["version"] in record(fleet[name])["staged"], f"{entry['version']} on {name}", seconds=600)
            assert not run.ended, run.finish().stdout[-5000:]
            yield run

    return on_its_way


class Load:
    """Requests all the time, by way of the balancer, and their answers."""

    def __init__(self, balancer):
        self.balancer = balancer
        self.seen = 0

    def start(self, body):
        self.balancer.check_output("python3 -c %s %s", "import sys; open('/root/input.json', 'w').write(sys.argv[1])", body)
        self.balancer.check_output("touch /root/answers.log")
        url = "http://127.0.0.1:8000/predictions/demo"
        self.balancer.check_output("systemd-run --unit=load wrk --threads 1 --connections 8 --duration 10h --script /root/load.lua %s", url)
        wait_until(lambda: len(self.answers(keep=True)) > 20, "an answer to the load")
        self.answers()

    def answers(self, keep=False, of=None):
        """[(status, server, answer)] since the last call; what they are ``of`` is said at the end."""
        assert self.balancer.active("load.service"), "nobody asks any more"
        lines = self.balancer.check_output("tail -n +%s /root/answers.log", str(self.seen + 1)).splitlines()
        # The last line may be half-way.
        lines = lines[:-1]
        self.seen += 0 if keep else len(lines)
        found = [line.split(" ", 3)[1:] for line in lines]
        if of:
            failed = [server for status, server, _answer in found if status != "200"]
            SEEN.append(f"{of}: {len(failed)} of {len(found)} requests failed {sorted(set(failed)) or ''}".rstrip())
        return [(int(status), server, json.loads(answer)["y"] if status == "200" else None) for status, server, answer in found]

    def stop(self):
        """{what wrk wanted of a connection: how many it lost there}, since the start."""
        self.balancer.check_output("systemctl kill --signal=INT load.service")
        wait_until(lambda: not self.balancer.active("load.service"), "the end of the load")
        lost = dict(zip(("connect", "read", "write"), map(int, self.balancer.check_output("cat /root/lost.log").split()), strict=True))
        SEEN.append(f"Connections that the load lost, in all: {lost}")
        return lost


@pytest.fixture(scope="session")
def load(fleet, versions):
    """What everybody asks all the time. Its input fits every version: they differ in their weights only."""
    found = Load(Host(SCENARIO.lab_name, "balancer-1"))
    # Of the smallest, so that no row is beyond the end.
    made = make_model(versions.directory, "probe", size_mib=8)
    found.start(made.with_name("probe-1.0.input.json").read_text(encoding="utf-8"))
    yield found
    found.balancer.run("systemctl stop load.service")


@pytest.fixture(scope="session")
def record():
    """A callable that reads the record of a host, {part: {version: entry}}."""

    def read(host):
        found = json.loads(host.check_output("cat %s", RECORD))
        return {part: {one["version"]: one for one in found.get(part, [])} for part in ("models", "previous", "staged")}

    return read


@pytest.fixture
def little_memory(fleet):
    """The first host with memory for what it does and one worker that takes too much, and how often the kernel killed one there."""
    host = fleet["gpu-1"]
    subprocess.run(["podman", "update", "--memory", "3g", host.container], check=True, capture_output=True)

    def kills():
        return int(host.check_output(f"cd /sys/fs/cgroup && {KILLS}"))

    before = kills()
    yield lambda: kills() - before
    subprocess.run(["podman", "update", "--memory", "64g", host.container], check=True, capture_output=True)
    # What podman notes of it beside the play that had a command running there.
    (REPOSITORY / "playbooks/oom").unlink(missing_ok=True)


def pytest_terminal_summary(terminalreporter):
    for line in SEEN:
        terminalreporter.write_line(line)
