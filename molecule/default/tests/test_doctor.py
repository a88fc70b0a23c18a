"""The doctor on a fleet that is broken in one way after the other: what is wrong, why, what to do, and afterwards that all is well."""

from __future__ import annotations

import json
import re
import subprocess
import time
from contextlib import contextmanager

import pytest
from fleet import GPU_HOSTS, Scenario, small_disk, wait_until

DYNCONFIG = "/etc/dragonfly/dfdaemon-dynconfig.yaml"
ORIGIN = "models.s3.us-east-1.amazonaws.com"


@pytest.fixture(scope="session")
def doctor(tmp_path_factory):
    """A callable that runs the doctor, on some hosts or all; returns (return code, report)."""
    path = tmp_path_factory.mktemp("doctor") / "doctor.json"

    def examine(limit=None, **variables):
        arguments = ["-e", json.dumps({"doctor_report_path": str(path), "doctor_timeout": 30, **variables})]
        finished = Scenario("default").play("playbooks/doctor.yml", *arguments, *(["--limit", limit] if limit else []))
        assert path.exists(), finished.stdout[-3000:]
        assert not re.search(r"changed=[1-9]", finished.stdout), "it changes nothing"
        return finished.returncode, json.loads(path.read_text(encoding="utf-8"))

    return examine


def wrong(report):
    """{(host, subject): finding} of what is not well; the worst of a subject."""
    findings = [one for one in report["findings"] if one["severity"] != "ok"]
    for one in findings:
        assert one["what"] and one["cause"] and one["remedy"], one
    return {(one["host"], one["subject"]): one for one in reversed(findings)}


@pytest.fixture(scope="session")
def healthy(doctor):
    """What is said of the fleet when nothing is broken: at most a warning about the machine below the containers."""
    code, report = doctor()
    assert code == 0, report["findings"][:5]
    return set(wrong(report))


@pytest.fixture
def ill(doctor, healthy):
    """A callable that asserts what the doctor says of a fleet that the test has broken, and that nothing else is wrong there."""

    def check(host, subject, what, cause, remedy, severity="problem", also=(), limit=None, **variables):
        code, report = doctor(limit, **variables)
        assert (code, report["code"]) == ((2, 2) if severity == "problem" else (0, 1)), report["findings"][:5]
        found = wrong(report)
        assert (host, subject) in found, found
        one = found[host, subject]
        assert one["severity"] == severity
        for text, pattern in ((one["what"], what), (one["cause"], cause), (one["remedy"], remedy)):
            assert re.search(pattern, text), (pattern, one)
        assert set(found) - healthy - {(host, subject), *also} == set(), found

    return check


@pytest.fixture
def well(doctor, healthy):
    """A callable that waits until the doctor says of these hosts what it said before."""

    def check(limit=None):
        wait_until(lambda: set(wrong(doctor(limit)[1])) <= healthy, "the fleet being well again", seconds=300)

    return check


def test_a_fleet_that_is_well(healthy):
    assert {subject for _host, subject in healthy} <= {"disk", "memory", "clock"}, healthy


def test_scheduler_down(fleet, ill, well):
    host = fleet["scheduler-1"]
    host.check_output("systemctl stop dragonfly-scheduler")
    try:
        ill("scheduler-1", "scheduler", "dragonfly-scheduler does not run", ".", "systemctl (re)?start dragonfly-scheduler")
    finally:
        host.check_output("systemctl start dragonfly-scheduler")
    well()


def test_seed_down(fleet, ill, well):
    host = fleet["seed-1"]
    host.check_output("systemctl stop dfdaemon")
    try:
        ill("seed-1", "dfdaemon", "dfdaemon does not run", ".", "systemctl (re)?start dfdaemon")
    finally:
        host.check_output("systemctl start dfdaemon")
    well()


def test_dfdaemon_down(fleet, ill, well):
    host = fleet["gpu-2"]
    host.check_output("systemctl stop dfdaemon")
    try:
        ill("gpu-2", "dfdaemon", "dfdaemon does not run", ".", "systemctl (re)?start dfdaemon", limit="gpu-2")
    finally:
        host.check_output("systemctl start dfdaemon")
    well("gpu-2")


def test_wrong_scheduler_list_on_one_host(fleet, ill, well, play):
    host = fleet["gpu-2"]
    host.check_output("sed -i -E 's/[0-9.]+:8002/10.254.254.254:8002/' %s", DYNCONFIG)
    ill("gpu-2", "configuration", "another list of schedulers", r"10\.254\.254\.254:8002", "modelfleet.serving.site", limit="gpu-2")
    assert play("playbooks/site.yml", "--limit", "gpu-2", "--tags", "dfdaemon").returncode == 0
    well("gpu-2")


def test_configuration_changed_by_hand(fleet, ill, well, play):
    host = fleet["gpu-1"]
    host.check_output("echo '# by hand' >> /etc/dragonfly/dfdaemon.yaml")
    what = "files are not what the inventory says"
    also = [("gpu-1", "dfdaemon")]
    cause = "dfdaemon.yaml.*changed on the host"
    ill("gpu-1", "configuration", what, cause, "--check --diff", severity="warning", also=also, limit="gpu-1")
    assert play("playbooks/site.yml", "--limit", "gpu-1", "--tags", "dfdaemon").returncode == 0
    well("gpu-1")


def test_stale_model(ill, archive, bundle):
    """The list has another version than the hosts."""
    models = [{key: value for key, value in one.items() if key != "path"} for one in (archive, bundle)]
    models[0] = {**models[0], "version": "9.9"}
    cause = "stale: it serves version 1.0"
    ill("gpu-1", "models", "is not served", cause, "modelfleet.serving.site", limit="gpu-1", modelfleet_models=models)


def test_half_loaded_model(fleet, ill, well, play, archive):
    host, name = fleet["gpu-1"], archive["name"]
    status, answer = host.request("PUT", f"http://127.0.0.1:8081/models/{name}?min_worker=0&max_worker=0&synchronous=true")
    assert status in (200, 202), answer
    wait_until(lambda: not host.request("GET", f"http://127.0.0.1:8081/models/{name}")[1][0]["workers"], "the worker gone")
    ill("gpu-1", "models", "loaded by half", "0 of 1 workers", ".", limit="gpu-1")
    assert play("playbooks/site.yml", "--limit", "gpu-1", "--tags", "models").returncode == 0
    well("gpu-1")


def test_full_disk(fleet, doctor, well, serves):
    """Of a host that has no room even for a line: Ansible works there all the same."""
    host = fleet["gpu-3"]
    with small_disk(host):
        host.run("dd if=/dev/zero of=/var/lib/modelfleet/filler bs=1M")
        code, report = doctor("gpu-3")
        assert code == 2
        one = wrong(report)["gpu-3", "disk"]
        assert one["severity"] == "problem" and one["what"] == "a disk is full"
        assert "/var/lib/modelfleet" in one["cause"] and "restart dfdaemon" in one["remedy"]
    wait_until(lambda: serves(host), "the host with its disk back serving")
    well("gpu-3")


def test_port_taken(fleet, doctor, well):
    host = fleet["gpu-3"]
    host.check_output("systemctl stop dfdaemon")
    host.check_output("systemd-run --unit=squatter python3 -m http.server 4001 --bind 127.0.0.1")
    host.check_output("systemctl start dfdaemon")
    try:
        code, report = doctor("gpu-3")
        assert code == 2
        # Of the daemon that does not come up, or, in the moment of one of its attempts, of the port alone.
        told = [one for one in report["findings"] if "Port 4001 on 127.0.0.1 is taken by" in one["cause"]]
        assert told and "squatter.service" in told[0]["cause"] and "stop that process" in told[0]["remedy"], report["findings"][:5]
    finally:
        host.check_output("systemctl stop squatter")
    wait_until(lambda: host.active("dfdaemon"), "dfdaemon running")
    well("gpu-3")


def test_origin_unreachable(fleet, ill, well):
    host = fleet["gpu-1"]
    host.check_output("cp /etc/hosts /tmp/hosts && echo '127.0.0.1 %s' >> /etc/hosts", ORIGIN)
    try:
        ill("gpu-1", "origin", "the origin cannot be reached", f"{ORIGIN}.*refused", "modelfleet_storage", limit="gpu-1")
    finally:
        # Podman has mounted the file: it can be written, not replaced.
        host.check_output("cat /tmp/hosts > /etc/hosts && rm /tmp/hosts")
    well("gpu-1")


def test_clock_off(ill):
    """All containers have this machine's clock, so it is the controller's that goes wrong."""
    ill("gpu-1", "clock", "the clock is wrong", "s behind the controller's", "chrony", limit="gpu-1", __preflight_now=time.time() + 600)


def test_gpu_worker_on_the_cpu(doctor):
    """The inventory says GPU, where there is none."""
    code, report = doctor("gpu-1", torchserve_device="gpu")
    assert code == 2
    found = [one for one in report["findings"] if one["subject"] == "models" and one["severity"] == "problem"]
    assert found and all(re.search("workers that run on the CPU, not on a GPU", one["what"]) for one in found), found
    assert all("nvidia-smi" in one["remedy"] for one in found) and all(one["cause"] for one in found)


def test_torchserve_hangs(fleet, ill, well, serves):
    host = fleet["gpu-2"]
    host.check_output("systemctl kill --signal=STOP --kill-whom=main torchserve")
    try:
        ill("gpu-2", "torchserve", "torchserve runs, but does not answer", "management API", "systemctl restart torchserve", limit="gpu-2")
    finally:
        host.check_output("systemctl kill --signal=CONT --kill-whom=main torchserve")
    wait_until(lambda: serves(host), "TorchServe going on")
    well("gpu-2")


@contextmanager
def paused(host):
    subprocess.run(["podman", "pause", host.container], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["podman", "unpause", host.container], check=True, capture_output=True)


def test_host_away(fleet, ill, well):
    with paused(fleet["gpu-3"]):
        ill("gpu-3", "host", "cannot be reached", ".", "SSH")
    well()


def test_the_report_holds_no_secret(doctor):
    _code, report = doctor()
    settings = Scenario("default").directory.parents[1] / "inventory/lab/group_vars/all/lab.yml"
    secrets = re.findall(r"^lab_\w+_secret_key: (\S+)", settings.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(secrets) == 2 and not [secret for secret in secrets if secret in json.dumps(report)]
    assert set(GPU_HOSTS) <= set(report["hosts"])
    assert all(report["hosts"][name]["versions"]["dfdaemon.service"]["running"] for name in GPU_HOSTS)
