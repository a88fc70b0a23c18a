"""The doctor on a fleet that is broken in many ways: what is wrong, why, what to do, and nothing else; afterwards that all is well.

One run looks at everything that can be broken at the same time without hiding anything else. The fleet is whole again before the first
assertion.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from contextlib import ExitStack, contextmanager

import pytest
from fleet import GPU_HOSTS, MODELS, Scenario, make_model, only_in_all, small_disk, wait_until

DYNCONFIG = "/etc/dragonfly/dfdaemon-dynconfig.yaml"
CONFIG = "/etc/dragonfly/dfdaemon.yaml"
ORIGIN = "models.s3.us-east-1.amazonaws.com"
MANAGEMENT = "http://127.0.0.1:8081"


class Doctor:
    """Runs of the play; ``usual`` is what is said of the fleet when nothing is broken."""

    def __init__(self, directory):
        self.path = directory / "doctor.json"
        self.usual = set()

    def run(self, **variables):
        """Returns (return code, report, all that was printed and written)."""
        arguments = json.dumps({"doctor_report_path": str(self.path), **variables})
        finished = Scenario("default").play("playbooks/doctor.yml", "-e", arguments)
        assert self.path.exists(), finished.stdout[-3000:]
        assert not re.search(r"changed=[1-9]", finished.stdout), "it changes nothing"
        text = self.path.read_text(encoding="utf-8")
        return finished.returncode, json.loads(text), finished.stdout + finished.stderr + text


def wrong(report):
    """The findings that are not ok."""
    findings = [one for one in report["findings"] if one["severity"] != "ok"]
    for one in findings:
        assert one["what"] and one["cause"] and one["remedy"], one
    return findings


# Breaking, for as long as a block takes


@contextmanager
def stopped(host, unit, until):
    host.check_output("systemctl stop %s", unit)
    try:
        yield
    finally:
        host.check_output("systemctl start %s", unit)
        wait_until(lambda: host.run(until).stdout, f"{unit} on {host.name} listening")


@contextmanager
def changed(host, path, command):
    """A file that a command changes, and has its content again afterwards. Never another file: podman has mounted some."""
    kept = f"/run/kept-{path.replace('/', '-')}"
    host.check_output("cp %s %s", path, kept)
    try:
        host.check_output(command)
        yield
    finally:
        host.check_output("cat %s > %s && rm %s", kept, path, kept)


@contextmanager
def without_workers(host, model):
    """Scaled to nothing, which somebody may do by TorchServe's own API."""

    def workers(number):
        status, answer = host.request("PUT", f"{MANAGEMENT}/models/{model}?min_worker={number}&max_worker={number}&synchronous=true")
        assert status in (200, 202), answer

    workers(0)
    try:
        wait_until(lambda: not host.request("GET", f"{MANAGEMENT}/models/{model}")[1][0]["workers"], "the worker gone")
        yield
    finally:
        workers(1)


@contextmanager
def full_disk(host):
    with small_disk(host, "48m", "dfdaemon", "torchserve"):
        host.run("dd if=/dev/zero of=/var/lib/modelfleet/filler bs=1M")
        yield


@contextmanager
def from_the_origin(host, origin, mar):
    """A host that brings a model while no seed peer is up, with nothing else counted since the start of its dfdaemon."""
    key, digest = "doctor/alone.mar", origin.put("doctor/alone.mar", mar)
    host.check_output("systemctl restart dfdaemon")
    try:
        wait_until(lambda: host.traffic()["BACK_TO_SOURCE"] == 0, f"dfdaemon on {host.name} counting anew")
        status, answer = host.register(key, sha256=digest, initial_workers=1)
        assert status == 200, answer
        assert host.traffic()["BACK_TO_SOURCE"] >= len(mar)
        assert host.unregister("alone")[0] == 200
        yield
    finally:
        host.check_output("rm -f %s && systemctl restart dfdaemon", f"{MODELS}/alone-1.0-{digest[:12]}.mar")


@contextmanager
def taken_port(host, port, unit):
    host.check_output("systemctl stop %s", unit)
    host.check_output("systemd-run --unit=squatter python3 -m http.server %s --bind 127.0.0.1", str(port))
    try:
        wait_until(lambda: host.run("ss -Hltn sport = :%s", str(port)).stdout, "the stranger listening")
        host.check_output("systemctl start %s", unit)
        yield
    finally:
        # Stopped first, so that systemd forgets how often it had to restart it.
        host.check_output("systemctl stop %s squatter", unit)
        host.check_output("systemctl start %s", unit)


@contextmanager
def frozen(host, unit):
    host.check_output("systemctl kill --signal=STOP --kill-whom=main %s", unit)
    try:
        yield
    finally:
        host.check_output("systemctl kill --signal=CONT --kill-whom=main %s", unit)


@contextmanager
def locked(host):
    """As by a rollout from another controller."""
    lock = "/var/lib/modelfleet/state/rollout.lock"
    holder = {"run": "a:b:1:2", "user": "alice", "controller": "control-1", "pid": 1, "since": "2026-11-26T06:00:00Z"}
    host.check_output("echo %s > %s", json.dumps(holder), lock)
    try:
        yield
    finally:
        host.check_output("rm %s", lock)


@contextmanager
def paused(host):
    subprocess.run(["podman", "pause", host.container], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["podman", "unpause", host.container], check=True, capture_output=True)


@contextmanager
def whole_again(fleet, serves):
    """Waits at the end until what serves does so, and every dfdaemon has a connection to the scheduler."""
    try:
        yield
    finally:
        for name in GPU_HOSTS:
            wait_until(lambda host=fleet[name]: serves(host), f"{name} serving")
        for name in ("seed-1", *GPU_HOSTS):
            host = fleet[name]
            wait_until(lambda host=host: host.run("ss -Htn state established dport = :8002").stdout, f"{name} knowing the scheduler")


# What one run each says


@pytest.fixture(scope="module")
def doctor(tmp_path_factory):
    return Doctor(tmp_path_factory.mktemp("doctor"))


@pytest.fixture(scope="module")
def healthy(doctor):
    """Of a fleet that is well: at most a warning about the machine below the containers."""
    code, report, _printed = doctor.run()
    assert code == 0, report["findings"][:5]
    doctor.usual = {(one["host"], one["subject"]) for one in wrong(report)}
    return report


@pytest.fixture(scope="module")
def wrong_in_part(fleet, origin, archive, bundle, serves, doctor, healthy, tmp_path_factory):
    """Of what goes on, and not as it should, beside a seed peer that is down."""
    mar = make_model(tmp_path_factory.mktemp("alone"), "alone", size_mib=40).read_bytes()
    models = [{key: value for key, value in one.items() if key != "path"} for one in (archive, bundle)]
    variables = {
        # The hosts have another version than the list, and no GPU.
        "modelfleet_models": [{**models[0], "version": "9.9"}, {**models[1], "device": "gpu"}],
        # All containers have this machine's clock, so it is the controller's that goes wrong.
        "__preflight_now": time.time() + 600,
        "doctor_expiry_days": 36500,
    }
    breaking = [
        lambda: stopped(fleet["seed-1"], "dfdaemon", "ss -Hltn sport = :4000"),
        lambda: changed(fleet["gpu-1"], CONFIG, f"echo '# by hand' >> {CONFIG}"),
        lambda: changed(fleet["gpu-1"], "/etc/hosts", f"echo '127.0.0.1 {ORIGIN}' >> /etc/hosts"),
        lambda: without_workers(fleet["gpu-1"], bundle["name"]),
        lambda: full_disk(fleet["gpu-3"]),
        # Last, since a dfdaemon that was started long ago is also blamed for having no connection to the scheduler of the inventory.
        lambda: from_the_origin(fleet["gpu-2"], origin, mar),
        lambda: changed(fleet["gpu-2"], DYNCONFIG, f"sed -i -E 's/[0-9.]+:8002/10.254.254.254:8002/' {DYNCONFIG}"),
    ]
    with whole_again(fleet, serves), ExitStack() as broken:
        for enter in breaking:
            broken.enter_context(enter())
        return doctor.run(**variables)


@pytest.fixture(scope="module")
def down(fleet, serves, doctor, healthy, wrong_in_part):
    """Of what does not run, does not answer, or is not there."""
    breaking = [
        lambda: frozen(fleet["gpu-1"], "torchserve"),
        lambda: stopped(fleet["gpu-1"], "dfdaemon", "ss -Hltn sport = :4000"),
        lambda: taken_port(fleet["gpu-2"], 4001, "dfdaemon"),
        lambda: stopped(fleet["scheduler-1"], "dragonfly-scheduler", "ss -Hltn sport = :8002"),
        lambda: locked(fleet["gpu-2"]),
        lambda: paused(fleet["gpu-3"]),
    ]
    with whole_again(fleet, serves), ExitStack() as broken:
        for enter in breaking:
            broken.enter_context(enter())
        return doctor.run()


SITE = "modelfleet.serving.site"
# Host, subject, severity; what, cause and remedy as regular expressions.
STALE = ("models", "problem", "demo 9.9 is not served", "stale: it serves version 1.0", "modelfleet.serving.rollout")
CLOCK = ("clock", "problem", "the clock is wrong", "s behind the controller's", "chrony")
CERTIFICATE = ("expiry", "warning", "the origin's certificate expires soon", ORIGIN, "renew it")
OWN_CERTIFICATE = ("expiry", "warning", "the certificate of a daemon expires soon", r"/etc/dragonfly/tls/\w+\.pem: in \d+ days", SITE)
AUTHORITY = ("expiry", "warning", "an authority of the fleet expires soon", r"tls/ca\.pem: in \d+ days", "rotate_certificates")
KEYS = ("expiry", "warning", "TorchServe's keys expire soon", "days", "restart torchserve")
IN_PART = [
    *((host, *CLOCK) for host in ("scheduler-1", "seed-1", "gpu-1", "gpu-2", "gpu-3")),
    *((host, *certificate) for host in ("scheduler-1", "seed-1", "gpu-1", "gpu-2") for certificate in (OWN_CERTIFICATE, AUTHORITY)),
    ("seed-1", "dfdaemon", "problem", "dfdaemon does not run", "somebody stopped it", "systemctl start dfdaemon"),
    ("seed-1", *CERTIFICATE),
    ("gpu-1", "configuration", "warning", "files are not what the inventory says", "dfdaemon.yaml.*changed on the host", "--check --diff"),
    ("gpu-1", "dfdaemon", "warning", "runs on older files", "dfdaemon.yaml", SITE),
    ("gpu-1", "origin", "problem", "the origin cannot be reached", f"{ORIGIN}.*refused", "modelfleet_storage"),
    ("gpu-1", "models", "problem", "unpacked 1.0 is loaded by half", "0 of 1 workers", SITE),
    ("gpu-1", *STALE),
    ("gpu-1", *KEYS),
    ("gpu-2", "configuration", "problem", "another list of schedulers", r"10\.254\.254\.254:8002", SITE),
    ("gpu-2", "p2p", "warning", "most bytes came from the origin", "no seed peer was up then", "seed peers"),
    (
        "gpu-2",
        "models",
        "problem",
        "unpacked 1.0 has workers that run on the CPU, not on a GPU",
        "0 of 1 workers READY on a GPU",
        "nvidia-smi",
    ),
    ("gpu-2", *STALE),
    ("gpu-2", *KEYS),
    ("gpu-2", *CERTIFICATE),
    ("gpu-3", "disk", "problem", "a disk is full", "/var/lib/modelfleet", "restart dfdaemon"),
]
DOWN = [
    (
        "scheduler-1",
        "scheduler",
        "problem",
        "dragonfly-scheduler does not run",
        "somebody stopped it",
        "systemctl start dragonfly-scheduler",
    ),
    ("gpu-1", "dfdaemon", "problem", "dfdaemon does not run", ".", "systemctl start dfdaemon|start the schedulers"),
    ("gpu-1", "torchserve", "problem", "torchserve runs, but does not answer", "management API", "systemctl restart torchserve"),
    # Of the daemon that does not come up, or, in the moment of one of its attempts, of the port alone.
    ("gpu-2", "dfdaemon|network", "problem", ".", "Port 4001 on 127.0.0.1 is taken by .*squatter.service", "stop that process"),
    ("gpu-2", "rollout", "warning", "a rollout works on this host", "alice on control-1 .* since 2026", "take_over=true"),
    ("gpu-3", "host", "problem", "cannot be reached", ".", "SSH"),
]


def is_said(finding, expected):
    host, subject, severity, *patterns = expected
    return (
        finding["host"] == host
        and re.fullmatch(subject, finding["subject"])
        and finding["severity"] == severity
        and all(re.search(pattern, finding[key]) for key, pattern in zip(("what", "cause", "remedy"), patterns, strict=True))
    )


def unexpected(doctor, report, expected, besides=()):
    """What is said of hosts but ``besides`` that no test has broken."""
    return [
        one
        for one in wrong(report)
        if one["host"] not in besides
        and (one["host"], one["subject"]) not in doctor.usual
        and not any(is_said(one, entry) for entry in expected)
    ]


def test_a_fleet_that_is_well(healthy):
    assert {one["subject"] for one in wrong(healthy)} <= {"disk", "memory", "clock"}
    assert healthy["models"] == {"expected": 6, "loaded": 6, "asked": 6, "answering": 6}
    for name in GPU_HOSTS:
        versions = healthy["hosts"][name]["versions"]
        assert all(one["running"] == one["inventory"] != "" for one in versions.values()) and len(versions) == 2, versions


@only_in_all
@pytest.mark.parametrize("expected", IN_PART, ids=lambda one: f"{one[0]}-{one[1]}-{one[3]}")
def test_what_is_wrong_in_part(wrong_in_part, expected):
    _code, report, _printed = wrong_in_part
    assert any(is_said(one, expected) for one in wrong(report)), [one for one in wrong(report) if one["host"] == expected[0]]


@only_in_all
def test_nothing_else_is_wrong_in_part(doctor, wrong_in_part):
    code, report, _printed = wrong_in_part
    assert (code, report["code"]) == (2, 2)
    # Without its disk a host has much to complain of.
    assert unexpected(doctor, report, IN_PART, besides=["gpu-3"]) == []


@only_in_all
@pytest.mark.parametrize("expected", DOWN, ids=lambda one: f"{one[0]}-{one[1]}-{one[3]}")
def test_what_is_down(down, expected):
    _code, report, _printed = down
    assert any(is_said(one, expected) for one in wrong(report)), [one for one in wrong(report) if one["host"] == expected[0]]


@only_in_all
def test_nothing_else_is_down(doctor, down):
    """Who does not reach the scheduler is not named beside it."""
    code, report, _printed = down
    assert (code, report["code"]) == (2, 2)
    # A dfdaemon that tries again and again is said in one of two ways.
    assert unexpected(doctor, report, DOWN, besides=["gpu-2"]) == []


@only_in_all
def test_no_run_shows_a_secret(wrong_in_part, down):
    settings = Scenario("default").directory.parents[1] / "inventory/lab/group_vars/all/lab.yml"
    secrets = re.findall(r"^lab_\w+_secret_key: (\S+)", settings.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(secrets) == 2
    for _code, _report, printed in (wrong_in_part, down):
        assert not [secret for secret in (*secrets, "X-Amz-Signature=") if secret in printed]


@only_in_all
def test_the_fleet_is_well_again(doctor, down):
    found = []

    def well():
        found[:] = [one for one in wrong(doctor.run()[1]) if (one["host"], one["subject"]) not in doctor.usual]
        return not found

    try:
        wait_until(well, "the fleet being well again", seconds=200)
    except pytest.fail.Exception:
        pytest.fail(f"still wrong: {found}")
