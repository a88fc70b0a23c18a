"""The gateway on hosts with systemd: who gets in from the network, how its units are shut in, and that nothing fails while things
change."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import threading
from contextlib import contextmanager

import pytest
import yaml
from conftest import SCENARIO, SEEN
from fleet import REPOSITORY, known_answer, wait_until

GATEWAYS = ("gpu-1", "gpu-2")
UNITS = ("modelfleet-gateway", "modelfleet-gateway-watch")
FILES = REPOSITORY / ".cache" / SCENARIO.lab_name
CLIENTS = yaml.safe_load((SCENARIO.directory / "inventory/group_vars/all/gateway.yml").read_text(encoding="utf-8"))["gateway_clients"]
TOKENS = {client["name"]: client["token"] for client in CLIENTS}
ADDRESSES = {name: f"{SCENARIO.settings['lab_network_prefix']}.2{name[-1]}" for name in GATEWAYS}
LIMIT = 2.0
ETC = "/etc/modelfleet-gateway"
OTHER = FILES / "other-gateway.crt"


def ask(host, path, method="POST", body="", client="search"):
    """From outside of the fleet; returns (status, parsed JSON or text)."""
    context = ssl.create_default_context(cafile=FILES / "gateway.crt")
    if OTHER.exists():
        context.load_verify_locations(OTHER)
    connection = http.client.HTTPSConnection(ADDRESSES[host], 8443, context=context, timeout=60)
    try:
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {TOKENS[client]}"} if client else {})}
        connection.request(method, path, body=body.encode(), headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text
    finally:
        connection.close()


def site(*arguments, **variables):
    done = SCENARIO.play("playbooks/site.yml", *arguments, "-e", json.dumps(variables))
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.fixture(scope="module")
def known(archive):
    """(path, body, the known "y") of a request."""
    return (f"/predictions/{archive['name']}", *known_answer(archive))


@pytest.mark.parametrize("name", GATEWAYS)
def test_its_units_run_as_users_of_their_own(fleet, name):
    for unit in UNITS:
        assert fleet[name].active(unit) and fleet[name].check_output("systemctl is-enabled %s", unit) == "enabled"
        assert fleet[name].check_output("ps -o user:32= -p %s", fleet[name].main_pid(unit)).strip() == unit
    addresses = [line.split()[3] for line in fleet[name].check_output("ss -Hltn").splitlines()]
    assert {one for one in addresses if one.endswith(":8443")} and fleet["gpu-3"].run("ss -Hltn sport = :8443").stdout == ""


@pytest.mark.parametrize("name", GATEWAYS)
def test_a_client_is_answered_and_a_stranger_is_not(known, name):
    path, body, expected = known
    status, answer = ask(name, path, body=body)
    assert status == 200 and answer["y"] == expected
    for other in (path, "/models", "/metrics", "/ping"):
        assert ask(name, other, body=body, client=None)[0] == 401
    assert ask(name, "/ping", method="GET") == (200, {"status": "Healthy"})


@pytest.mark.parametrize("name", GATEWAYS)
def test_nothing_else_of_torchserve_can_be_reached(name):
    for path in ("/models", "/models/demo", "/token?type=inference", "/dragonfly/models", "/metrics", "/predictions/other"):
        assert ask(name, path)[0] == 404, path


def test_a_client_may_send_so_many(known):
    path, body, _expected = known
    statuses = [ask("gpu-1", path, body=body, client="slow")[0] for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]


@pytest.mark.parametrize("name", GATEWAYS)
def test_the_units_are_shut_in(fleet, name):
    for unit in [*UNITS, "modelfleet-gateway-key@0"]:
        done = fleet[name].run("systemd-analyze security --no-pager --threshold=%s %s", f"{LIMIT * 10:.0f}", f"{unit}.service")
        print(name, done.stdout.splitlines()[-1])
        assert done.rc == 0, done.stdout[-500:]


@pytest.mark.parametrize("name", GATEWAYS)
def test_users_see_what_they_must(fleet, name):
    host = fleet[name]
    for user, paths in {
        "modelfleet-gateway": ("/var/lib/torchserve/key_file.json", "/etc/dragonfly-endpoint/config.json"),
        "modelfleet-gateway-watch": ("/var/lib/torchserve/key_file.json", "/etc/modelfleet-gateway/server.pem"),
        "torchserve": ("/etc/modelfleet-gateway/server.pem", "/run/modelfleet-gateway-watch/state.map"),
        "nobody": ("/etc/modelfleet-gateway/clients.map", "/run/modelfleet-gateway-watch/state.map"),
    }.items():
        for path in paths:
            tried = host.run(f"runuser -u {user} -- cat {path}")
            assert tried.rc != 0 and "Permission denied" in tried.stderr, (user, path)
    connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    for user in ("modelfleet-gateway", "torchserve", "nobody"):
        assert "PermissionError" in host.run(f"runuser -u {user} -- python3 -c '{connect}' /run/modelfleet-gateway-key.sock").stderr
    assert host.check_output("stat -c '%a %U %G' /etc/modelfleet-gateway/server.pem") == "640 root modelfleet-gateway"


@pytest.mark.parametrize("name", GATEWAYS)
def test_no_secret_is_in_the_journal(fleet, name):
    keys = json.loads(fleet[name].check_output("cat /var/lib/torchserve/key_file.json"))
    secrets = [*TOKENS.values(), keys["inference"]["key"], keys["API"]["key"]]
    assert fleet[name].journal_lines(secrets) == []
    assert fleet[name].journal_lines(["client=search address="]) != []


@contextmanager
def load(path, body):
    """Requests all the time; yields a callable that waits until more of them were answered, and in the end none has failed."""
    stopped, failed, answered = threading.Event(), [], []

    def client():
        while not stopped.is_set():
            try:
                status, answer = ask("gpu-1", path, body=body)
            except OSError as exc:
                status, answer = type(exc).__name__, str(exc)
            (answered if status == 200 else failed).append((status, answer))

    def more():
        before = len(answered)
        wait_until(lambda: failed or len(answered) > before + 50, "the load being answered")
        assert failed == []

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        more()
        yield more
        more()
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
        SEEN.append(f"By way of a gateway: {len(failed)} of {len(failed) + len(answered)} requests failed")
    assert failed == []


def test_no_request_fails_while_things_change(fleet, known):
    """TorchServe restarts, by whoever asks for it; another certificate takes the place of the old one, and goes again. That keys expire
    is not for a fleet to wait for: site refuses keys of less than ten years, and tests/test_gateway.py makes them."""
    host = fleet["gpu-1"]
    path, body, _expected = known
    shown = ssl.get_server_certificate((ADDRESSES["gpu-1"], 8443))
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=gateway"]
    make += ["-addext", "subjectAltName=" + ",".join(f"IP:{address}" for address in ADDRESSES.values())]
    make += ["-keyout", OTHER.with_suffix(".key"), "-out", OTHER]
    subprocess.run(make, check=True, capture_output=True)
    try:
        with load(path, body) as more:
            pid = host.main_pid("torchserve")
            host.check_output("systemctl restart torchserve")
            more()
            assert host.main_pid("torchserve") not in (pid, "0")
            other = {"gateway_certificate": str(OTHER), "gateway_key": str(OTHER.with_suffix(".key")), "gateway_client_ca": str(OTHER)}
            by_certificate = {"name": "batch", "certificate": "batch.example.com"}
            site("--tags", "gateway", **other, gateway_clients=[*CLIENTS, by_certificate])
            assert host.check_output("ls %s/client-ca.pem %s/certificates.map | wc -l", ETC, ETC) == "2"
            wait_until(lambda: ssl.get_server_certificate((ADDRESSES["gpu-1"], 8443)) != shown, "the other certificate being shown")
            more()
            site("--tags", "gateway")
    finally:
        for file in (OTHER, OTHER.with_suffix(".key")):
            file.unlink(missing_ok=True)
    assert ssl.get_server_certificate((ADDRESSES["gpu-1"], 8443)) == shown
    assert host.run("ls %s/client-ca.pem %s/certificates.map", ETC, ETC).stdout == ""
    wait_until(lambda: ask("gpu-1", "/ping", method="GET")[0] == 200, "every model being ready")
