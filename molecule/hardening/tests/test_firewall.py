"""Who reaches the daemons of a fleet: its hosts do, a host beside them and the users of a host do not, by the calls that somebody would
make; and the table is there after whatever clears tables."""

from __future__ import annotations

import re
import socket
import subprocess

import pytest
from conftest import SCENARIO
from fleet import CONNECT, DAEMON_HOSTS, GPU_HOSTS, Host, recap, wait_until

TABLE = "nft --stateless list table inet modelfleet"
DOWNLOAD = ("4000", "/dfdaemon.v2.DfdaemonUpload/DownloadTask")
ANNOUNCE = ("8002", "/scheduler.v2.Scheduler/AnnounceHost")
SOCKET = "/run/dragonfly/dfdaemon.sock"
# Runs on a host: a call by gRPC with an empty message; "answered" by whatever came, in clear text or by TLS.
CALL = """
import socket, struct, sys
address, port, path = sys.argv[1:]
def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
def header(name, value):
    return b"\\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": address, "content-type": "application/grpc", "te": "trailers"}
headers = b"".join(header(name, value) for name, value in fields.items())
try:
    with socket.create_connection((address, int(port)), timeout=5) as call:
        call.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, headers) + frame(0, 1, 1, bytes(5)))
        print("answered" if call.recv(100) else "closed")
except OSError as exc:
    print(type(exc).__name__)
"""


def address(name):
    numbers = {"scheduler-1": 11, "seed-1": 12, **{f"gpu-{number}": 20 + number for number in (1, 2, 3)}}
    return f"{SCENARIO.settings['lab_network_prefix']}.{numbers[name]}"


def call(host, name, port, path):
    return host.check_output("python3 -c %s %s %s %s", CALL, address(name), port, path)


def connect(host, user, *places):
    return host.check_output(f"runuser -u %s -- python3 -c %s {' '.join(places)}", user, CONNECT).splitlines()


@pytest.fixture(scope="module")
def stranger():
    """A host on the network of the fleet that is in none of its groups."""
    return Host(SCENARIO.lab_name, "origin")


@pytest.fixture(scope="module")
def site():
    """A callable that runs the part of site that has the firewall."""

    def run(*arguments):
        finished = SCENARIO.play("playbooks/site.yml", "--tags", "firewall", *arguments)
        assert finished.returncode == 0, finished.stdout[-3000:]
        return finished

    return run


@pytest.fixture(scope="module", autouse=True)
def settled(site):
    """The fleet as the inventory has it: a run that was broken off may still know a port that it was given."""
    site()


@pytest.mark.parametrize("name", ["seed-1", *GPU_HOSTS])
def test_a_download_for_a_member_and_not_for_a_stranger(fleet, stranger, name):
    member = fleet["gpu-1" if name != "gpu-1" else "gpu-2"]
    assert call(member, name, *DOWNLOAD) == "answered"
    assert call(stranger, name, *DOWNLOAD) == "ConnectionRefusedError"
    assert connect(member, "root", f"{address(name)}:4005") == ["connected"]
    assert connect(stranger, "root", f"{address(name)}:4005") == ["ConnectionRefusedError"]


def test_an_announcement_of_a_member_and_not_of_a_stranger(fleet, stranger):
    for name in ("seed-1", *GPU_HOSTS):
        # It ends whom it does not understand, without TLS.
        assert call(fleet[name], "scheduler-1", *ANNOUNCE) in ("answered", "closed")
    assert call(stranger, "scheduler-1", *ANNOUNCE) == "ConnectionRefusedError"
    # The controller is none of them, and reaches every host all the same: the rules name no other port.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address("scheduler-1"), 8002), timeout=5)


def test_a_user_of_a_member_is_not_the_member(fleet):
    host = fleet["gpu-1"]
    places = [f"{address('gpu-1')}:4000", f"{address('gpu-2')}:4000", f"{address('gpu-2')}:4005", f"{address('scheduler-1')}:8002"]
    assert connect(host, "nobody", *places) == ["ConnectionRefusedError"] * len(places)
    assert connect(host, "torchserve", *places) == ["ConnectionRefusedError"] * len(places)
    assert connect(host, "dfdaemon", *places) == ["connected"] * len(places)


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_the_proxy_is_for_root_and_torchserve_and_the_socket_for_root(fleet, name):
    host = fleet[name]
    assert connect(host, "root", "127.0.0.1:4001", SOCKET) == ["connected"] * 2
    assert connect(host, "torchserve", "127.0.0.1:4001", SOCKET) == ["connected", "PermissionError"]
    assert connect(host, "nobody", "127.0.0.1:4001", SOCKET) == ["ConnectionRefusedError", "PermissionError"]
    # What listens on loopback for everybody still does.
    assert connect(host, "nobody", "127.0.0.1:4002", "127.0.0.1:8080") == ["connected"] * 2


@pytest.mark.parametrize("name", DAEMON_HOSTS)
def test_the_unit_loads_it_before_any_daemon_starts(fleet, name):
    host = fleet[name]
    assert host.active("modelfleet-firewall") and host.check_output("systemctl is-enabled modelfleet-firewall") == "enabled"
    after = set(host.check_output("systemctl show -p Before --value modelfleet-firewall").split())
    assert {"network-pre.target", "dfdaemon.service", "dragonfly-scheduler.service"} <= after
    assert float(re.search(r"(\d+\.\d+)", host.check_output("systemd-analyze security modelfleet-firewall | tail -n 1"))[1]) <= 2.0


@pytest.mark.parametrize("verb", ["start", "restart", "reload"])
def test_the_distributions_own_unit_clears_tables_and_ours_comes_back(fleet, stranger, verb):
    host = fleet["gpu-2"]
    before = host.check_output(TABLE)
    if verb != "start":
        host.check_output("systemctl start nftables")
    host.check_output("nft add table inet cleared")
    host.check_output("systemctl %s nftables", verb)
    try:
        assert host.run("nft list table inet cleared").rc != 0, "it clears nothing"
        wait_until(lambda: host.check_output(TABLE) == before, "the table being back", seconds=30)
        assert call(stranger, "gpu-2", *DOWNLOAD) == "ConnectionRefusedError"
    finally:
        # As it was found.
        host.check_output("systemctl stop nftables")
        host.check_output("systemctl start modelfleet-firewall")


def test_after_a_reboot(fleet, stranger, serves):
    host = fleet["gpu-3"]
    before = host.check_output(TABLE)
    subprocess.run(["podman", "restart", "--time", "30", host.container], check=True, capture_output=True)
    wait_until(lambda: host.active("dfdaemon"), "dfdaemon after a reboot")
    assert host.check_output(TABLE) == before and call(stranger, "gpu-3", *DOWNLOAD) == "ConnectionRefusedError"
    wait_until(lambda: serves(host), "the rebooted host serving what it served")
    wait_until(lambda: call(fleet["gpu-1"], "gpu-3", *DOWNLOAD) == "answered", "a member reaching it")


def test_what_was_cleared_by_hand_is_named_and_made_good(fleet, site):
    host = fleet["gpu-1"]
    before = host.check_output(TABLE)
    host.check_output("nft flush chain inet modelfleet members")
    said = SCENARIO.play("playbooks/doctor.yml", "--limit", "gpu-1")
    assert said.returncode == 2 and "the firewall is not what was loaded" in said.stdout, said.stdout[-3000:]
    predicted = site("--check", "--diff")
    assert {name for name, row in recap(predicted).items() if row["changed"]} == {"gpu-1"}
    assert "+\t\tjump refuse" in predicted.stdout and host.check_output(TABLE) != before
    assert {name for name, row in recap(site()).items() if row["changed"]} == {"gpu-1"}
    assert host.check_output(TABLE) == before
    assert not any(row["changed"] for row in recap(site()).values())


def test_a_limited_run_shuts_nobody_out(fleet, site):
    before = fleet["gpu-1"].check_output(TABLE)
    assert not any(row["changed"] for row in recap(site("--limit", "gpu-1")).values())
    assert fleet["gpu-1"].check_output(TABLE) == before


def test_off_and_on_again(fleet, stranger, site, serves):
    host = fleet["gpu-3"]
    before = host.check_output(TABLE)
    host.check_output("nft add table inet other")
    site("--limit", "gpu-3", "-e", "modelfleet_firewall=false")
    try:
        assert host.run(TABLE).rc != 0 and host.run("systemctl cat modelfleet-firewall").rc != 0
        assert host.run("test -e /etc/dragonfly/firewall.nft").rc != 0
        assert call(stranger, "gpu-3", *DOWNLOAD) == "answered", "nobody was kept out by something else"
    finally:
        site("--limit", "gpu-3")
    assert host.check_output(TABLE) == before and call(stranger, "gpu-3", *DOWNLOAD) == "ConnectionRefusedError"
    assert host.run("nft list table inet other").rc == 0
    host.check_output("nft delete table inet other")
    assert serves(host)
