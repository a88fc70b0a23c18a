"""What the scenario's tests share: versions of the demo model, the load and what it saw, and runs of the play."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import yaml
from fleet import REPOSITORY, Host, Scenario, make_model, wait_until

SCENARIO = Scenario("rollout")
HOSTS = tuple(f"gpu-{number}" for number in range(1, 6))
RECORD = "/var/lib/modelfleet/state/models.json"
FILES = REPOSITORY / ".cache/files"


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
def rollout(versions):
    """A callable that runs the play for a version; ``wait=False`` returns the process while it runs."""

    def run(entry, playbook="rollout", wait=True, **variables):
        path = versions.directory / "wanted.yml"
        wanted = {"modelfleet_models": [entry], "modelfleet_files_dir": str(versions.directory), **variables}
        path.write_text(yaml.safe_dump(wanted), encoding="utf-8")
        if wait:
            return SCENARIO.play(f"playbooks/{playbook}.yml", "-e", f"@{path}")
        command = ["ansible-playbook", "-i", "inventory/lab", "-i", str(SCENARIO.directory / "inventory")]
        command += [f"playbooks/{playbook}.yml", "-e", f"@{path}"]
        environment = {**os.environ, "MOLECULE_PROJECT_DIRECTORY": str(REPOSITORY)}
        return subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    return run


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

    def answers(self, keep=False):
        """[(status, server, answer)] since the last call."""
        assert self.balancer.active("load.service"), "nobody asks any more"
        lines = self.balancer.check_output("tail -n +%s /root/answers.log", str(self.seen + 1)).splitlines()
        # The last line may be half-way.
        lines = lines[:-1]
        self.seen += 0 if keep else len(lines)
        found = [line.split(" ", 3)[1:] for line in lines]
        return [(int(status), server, json.loads(answer)["y"] if status == "200" else None) for status, server, answer in found]


@pytest.fixture(scope="session")
def load(fleet):
    """What everybody asks all the time. Its input fits every version: they differ in their weights only."""
    found = Load(Host(SCENARIO.lab_name, "balancer-1"))
    # Of the smallest, so that no row is beyond the end.
    made = make_model(FILES, "probe", size_mib=8)
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
