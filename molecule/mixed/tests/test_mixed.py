"""One fleet of hosts that differ, and the site play on it: with a dead host, once it is back, and once more."""

from __future__ import annotations

import json
import subprocess

import pytest
from fleet import GPU_HOSTS, REPOSITORY, Scenario, recap, wait_until

SCENARIO = Scenario("mixed")
NAMES = ("scheduler-1", "scheduler-2", "seed-1", "seed-2", *GPU_HOSTS)
BOOKWORM = {"scheduler-2", "seed-2", "gpu-2"}
DEAD = "gpu-3"
PORTS = {"gpu-1": (8080, 8081), "gpu-2": (9080, 9081), "gpu-3": (8080, 8081)}
MODELS = {"gpu-1": {"demo"}, "gpu-2": {"demo", "other"}, "gpu-3": {"demo", "other"}}


def site():
    """Run the site play; return the finished process and its report."""
    report = REPOSITORY / "reports" / SCENARIO.lab_name / "report.json"
    report.unlink(missing_ok=True)
    finished = SCENARIO.play("playbooks/site.yml")
    return finished, json.loads(report.read_text(encoding="utf-8")) if report.exists() else None


def podman(*arguments):
    subprocess.run(["podman", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def fleet():
    return SCENARIO.hosts(NAMES)


@pytest.fixture(scope="module")
def without_one(fleet):
    """The first run of all, while a host is dead."""
    podman("stop", "--time", "0", fleet[DEAD].container)
    yield site()
    podman("start", fleet[DEAD].container)


@pytest.fixture(scope="module")
def with_all(fleet, without_one):
    """The same again, once the host is back."""
    podman("start", fleet[DEAD].container)
    # A host that boots refuses SSH, and then everybody but root.
    wait_until(
        lambda: SCENARIO.play(DEAD, "-m", "ansible.builtin.ping", program="ansible").returncode == 0, f"SSH to {DEAD} after its start"
    )
    return site()


def answers(host, model):
    files = REPOSITORY / ".cache/files"
    status, answer = host.predict(model, (files / f"{model}-1.0.input.json").read_text(encoding="utf-8"), PORTS[host.name][0])
    assert status == 200, answer
    expected = json.loads((files / f"{model}-1.0.expected.json").read_text(encoding="utf-8"))
    return answer["y"] == pytest.approx(expected["y"], abs=1e-4)


def test_the_fleet_is_what_it_is_said_to_be(fleet):
    """Otherwise the rest would prove nothing."""
    for name, host in fleet.items():
        release = host.check_output("cat /etc/os-release")
        assert f"VERSION_CODENAME={'bookworm' if name in BOOKWORM else 'trixie'}" in release, name
    assert fleet["gpu-1"].run("test -e /usr/bin/java").rc == 1
    who = SCENARIO.play(
        "all:!localhost:!origin", "-m", "ansible.builtin.command", "-a", "id -un", "-e", "ansible_become=false", program="ansible"
    )
    assert who.returncode == 0, who.stdout + who.stderr
    assert who.stdout.split().count("admin") == len(NAMES)


def test_a_dead_host_is_named_and_stops_nobody_else(fleet, without_one):
    finished, report = without_one
    assert finished.returncode != 0
    assert report, finished.stdout[-5000:]
    assert {problem["host"] for problem in report["problems"]} == {DEAD}, report["problems"]
    assert report["hosts"][DEAD]["problems"][0].startswith("Reach the host: unreachable: ")
    for name in set(GPU_HOSTS) - {DEAD}:
        assert fleet[name].served(PORTS[name][1]) == MODELS[name]
        assert all(answers(fleet[name], model) for model in MODELS[name])


def test_java_was_installed_where_it_was_missing(fleet, without_one):
    assert fleet["gpu-1"].check_output("java -version 2>&1").startswith("openjdk")


def test_the_host_joins_once_it_is_back(with_all):
    finished, report = with_all
    assert finished.returncode == 0, finished.stdout[-5000:]
    assert report["ok"] is True, report["problems"]
    changed = {name for name in NAMES if recap(finished)[name]["changed"]}
    assert changed == {DEAD}


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_each_host_serves_its_own_list(fleet, with_all, name):
    assert fleet[name].served(PORTS[name][1]) == MODELS[name]
    assert all(answers(fleet[name], model) for model in MODELS[name])
    answered = {row["model"] for row in with_all[1]["hosts"][name]["models"] if row["answer_ok"]}
    assert answered == MODELS[name]


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_each_host_has_its_version_and_its_ports(fleet, with_all, name):
    command = fleet[name].check_output("tr '\\0' ' ' < /proc/%s/cmdline", fleet[name].main_pid("torchserve"))
    assert ("venv-0.11.1" if name == "gpu-2" else "venv-0.12.0") in command
    listening = {int(line.split()[3].rpartition(":")[2]) for line in fleet[name].check_output("ss -Hltn").splitlines()}
    assert set(PORTS[name]) <= listening
    assert not listening & {port for ports in PORTS.values() for port in ports} - set(PORTS[name])


def test_two_seeds_send_a_model_together_once(fleet, with_all):
    size = {name: (REPOSITORY / ".cache/files" / f"{name}-1.0.mar").stat().st_size for name in ("demo", "other")}
    taken = {name: fleet[name].traffic()["BACK_TO_SOURCE"] for name in ("seed-1", "seed-2")}
    assert sum(taken.values()) == sum(size.values()), taken
    assert SCENARIO.origin.bytes_sent("models/demo/1.0/demo.mar") <= 1.05 * size["demo"]
    for name in GPU_HOSTS:
        assert fleet[name].traffic(4012 if name == "gpu-2" else 4002)["BACK_TO_SOURCE"] == 0


def test_every_peer_knows_both_schedulers(fleet, with_all):
    """Port 8012, and a connection to each."""
    for name in ("seed-1", "seed-2", *GPU_HOSTS):
        peers = {line.split()[4] for line in fleet[name].check_output("ss -Htn state established").splitlines() if len(line.split()) > 4}
        peers |= {line.split()[3] for line in fleet[name].check_output("ss -Htn state established").splitlines()}
        for number in ("11", "13"):
            address = f"{SCENARIO.settings['lab_network_prefix']}.{number}:8012"
            assert any(peer.endswith(address) for peer in peers), (name, address, peers)


def test_a_third_run_changes_nothing(with_all):
    finished, report = site()
    assert finished.returncode == 0, finished.stdout[-5000:]
    assert {name: recap(finished)[name]["changed"] for name in NAMES} == dict.fromkeys(NAMES, 0)
    assert report["ok"] is True
