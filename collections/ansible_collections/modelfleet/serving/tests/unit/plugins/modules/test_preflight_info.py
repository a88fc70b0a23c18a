# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import time

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import (
    _nft,
    _preflight_containers,
    _preflight_disk,
    _preflight_gpu,
    _preflight_network,
    _preflight_system,
    _proc,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.modules import preflight_info
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_podman import FakePodman
from ansible_collections.modelfleet.serving.tests.unit.plugins.recorded_gpu import IDLE_GPU

DEBIAN = ['PRETTY_NAME="Debian GNU/Linux 13 (trixie)"', "ID=debian", 'VERSION_ID="13"']
GPU = {**IDLE_GPU, "fabric": "Completed", "fabric_status": "Success"}
DEFAULT_PATHS = ["pieces", "incoming", "models"]


class Host:
    """A host that has nothing to complain about, until a test spoils it."""

    def __init__(self, monkeypatch):
        self.os_release = DEBIAN
        self.systemd = True
        self.systemctl = (0, "systemd 257 (257.9-1)\n+PAM", "")
        self.nft = {"--check": (0, "", ""), "--stateless": (0, "", "")}
        self.nft_program = "/usr/sbin/nft"
        self.nf_tables = ""
        self.sources = {}
        self.mounts = {"/": {"point": "/", "type": "ext4", "read_only": False}}
        self.listeners = []
        self.owners = {}
        self.addresses = ["127.0.0.1", "10.0.0.1", "fe80::1"]
        self.synchronized = True
        self.names = {"models.s3.us-east-1.amazonaws.com"}
        self.gpus = {"driver": "570.86.15", "cuda": "12.8", "gpus": [GPU]}
        self.gpu_error = ""
        real_isdir, real_exists = os.path.isdir, os.path.exists
        patch = monkeypatch.setattr
        patch(_proc, "read_lines", lambda path: self.os_release)
        patch(_proc, "memory_bytes", lambda: 8 * 1024**3)
        patch(_proc, "mount_of", self.mount_of)
        patch(_proc, "addresses", lambda: [ipaddress.ip_address(one) for one in self.addresses])
        patch(_proc, "listeners", lambda: self.listeners)
        patch(_proc, "socket_owners", lambda inodes: self.owners)
        patch(_proc, "clock_synchronized", lambda: self.synchronized)
        patch(os.path, "isdir", lambda path: self.systemd if path == "/run/systemd/system" else real_isdir(path))
        patch(os.path, "exists", lambda path: False if path == "/run/systemd/container" else real_exists(path))
        patch(socket, "getaddrinfo", self.getaddrinfo)
        patch(preflight_info.CheckedModule, "run_command", self.run_command)
        patch(_nft, "program", lambda: self.nft_program)
        patch(_preflight_network, "kernel_problem", lambda: self.nf_tables)
        patch(_preflight_network, "_source", lambda address: self.sources.get(str(address)))
        patch(_preflight_gpu, "read_gpus", self.read_gpus)
        patch(_preflight_system.platform, "machine", lambda: "x86_64")

    def mount_of(self, path):
        return self.mounts.get(os.path.basename(path), self.mounts["/"])

    def run_command(self, command, data=None):
        return self.nft[command[1]] if command[0] == self.nft_program else self.systemctl

    def listen(self, address, port, owner):
        self.listeners.append({"address": ipaddress.ip_address(address), "port": port, "inode": str(port)})
        if owner:
            self.owners[str(port)] = owner

    def getaddrinfo(self, name, *_args, **_kwargs):
        if name not in self.names:
            raise socket.gaierror(-2, "Name or service not known")

    def read_gpus(self, _run_command, _program):
        if self.gpu_error:
            raise ModelFleetError(self.gpu_error)
        return self.gpus


@pytest.fixture
def host(monkeypatch):
    return Host(monkeypatch)


@pytest.fixture
def preflight(host, run_module, tmp_path):
    def run(check=False, **options):
        paths = [str(tmp_path / name) for name in DEFAULT_PATHS]
        return run_module(preflight_info.main, {"data_dir": str(tmp_path), "one_filesystem": paths, **options}, check=check)

    return run


def only_finding(result):
    (finding,) = result["findings"]
    return finding


@pytest.mark.parametrize("check", [True, False])
def test_a_good_host_has_no_findings_and_is_not_changed(preflight, check):
    result = preflight(
        check=check,
        gpu=True,
        controller_epoch=time.time(),
        names=["models.s3.us-east-1.amazonaws.com"],
        ports=[{"port": 4000, "unit": "dfdaemon.service"}],
        required_bytes=1,
        required_memory_bytes=1024,
    )
    assert (result.get("failed", False), result["changed"], result["findings"]) == (False, False, [])
    assert result["facts"]["os"] == "Debian GNU/Linux 13 (trixie)"
    assert result["facts"]["systemd"] == 257
    assert result["facts"]["gpus"] == [GPU]
    assert time.time() - 30 < result["facts"]["clock"]["epoch"] <= time.time()


def test_what_is_looked_for_is_said_and_is_no_finding(preflight, tmp_path):
    there, link = tmp_path / "there", tmp_path / "link"
    there.touch()
    link.symlink_to(tmp_path / "gone")
    result = preflight(look_for=[str(there), str(tmp_path / "missing"), str(link)])
    assert result["facts"]["found"] == [str(there), str(link)] and result["findings"] == []
    assert preflight()["facts"]["found"] == []


def test_every_finding_is_reported_at_once_and_named_in_the_failure(preflight, host):
    host.os_release = ['PRETTY_NAME="Fedora Linux 43"', "ID=fedora", "VERSION_ID=43"]
    host.systemd = False
    host.gpus = {"driver": None, "cuda": None, "gpus": []}
    host.listen("0.0.0.0", 4000, {"pid": 812, "program": "nginx", "unit": "nginx.service"})
    result = preflight(
        gpu=True,
        controller_epoch=time.time() + 1000,
        names=["nope.example.com"],
        ports=[{"port": 4000, "unit": "dfdaemon.service"}],
        required_bytes=10**18,
        required_memory_bytes=10**12,
    )
    assert result["failed"]
    assert [finding["check"] for finding in result["findings"]] == ["os", "systemd", "clock", "disk", "port", "name", "gpu", "memory"]
    errors = [finding["message"] for finding in result["findings"] if finding["severity"] == "error"]
    assert result["msg"] == "This host is not ready, 7 problems found: " + " ".join(errors)


def test_findings_can_be_returned_without_failing(preflight, host):
    host.systemd = False
    result = preflight(fail_on_error=False)
    assert not result.get("failed", False)
    assert only_finding(result)["check"] == "systemd"


@pytest.mark.parametrize(
    ("lines", "supported"),
    [
        (["ID=debian", 'VERSION_ID="12"'], True),
        (["ID=debian", 'VERSION_ID="11"'], False),
        (["ID=ubuntu", 'VERSION_ID="24.04"'], True),
        (["ID=ubuntu", 'VERSION_ID="25.04"'], False),
        (["ID=rocky", 'VERSION_ID="9.5"', 'ID_LIKE="rhel centos fedora"'], True),
        (["ID=custom", 'VERSION_ID="9"', 'ID_LIKE="rhel fedora"'], True),
        (["ID=rhel", "VERSION_ID=10.0"], False),
        ([], False),
    ],
)
def test_operating_system(preflight, host, lines, supported):
    host.os_release = lines
    result = preflight()
    assert result.get("failed", False) is not supported
    assert ("is not supported" in result.get("msg", "")) is not supported


def test_an_unsupported_operating_system_can_be_allowed(preflight, host):
    host.os_release = ["ID=arch"]
    result = preflight(allow_unsupported_os=True)
    assert not result.get("failed", False)
    assert only_finding(result)["severity"] == "warning"
    assert only_finding(result)["message"] in str(result["warnings"])


@pytest.mark.parametrize("answer", [(0, "systemd 241 (241)\n", ""), (1, "", "Failed to connect")])
def test_systemd_that_is_old_or_broken(preflight, host, answer):
    host.systemctl = answer
    assert only_finding(preflight())["check"] == "systemd"


def test_architecture(preflight, monkeypatch):
    monkeypatch.setattr(_preflight_system.platform, "machine", lambda: "riscv64")
    assert "riscv64" in only_finding(preflight())["message"]


def test_python(preflight, monkeypatch):
    monkeypatch.setattr(_preflight_system.platform, "python_version_tuple", lambda: ("3", "8", "20"))
    assert only_finding(preflight())["check"] == "python"


def test_what_the_directory_already_holds_counts(preflight, tmp_path):
    (tmp_path / "pieces").mkdir()
    (tmp_path / "pieces/content").write_bytes(b"x" * 1000000)
    (tmp_path / "models").mkdir()
    os.link(tmp_path / "pieces/content", tmp_path / "models/second-name")
    (tmp_path / "somebody-else").write_bytes(b"x" * 3000000)
    status = os.statvfs(tmp_path)
    held = preflight()["facts"]["disk"]["held_bytes"]
    assert 1000000 <= held < 2000000
    free = status.f_bavail * status.f_frsize
    finding = only_finding(preflight(required_bytes=free + 10**12))
    assert f"{tmp_path} needs" in finding["message"]
    assert not preflight(required_bytes=held).get("failed", False)


def test_models_are_unpacked_beside_their_files(preflight, host, tmp_path, monkeypatch):
    """Each need fits alone on the one filesystem, and both together do not; on two filesystems each has its own."""
    (tmp_path / "unpacked").mkdir()
    status = os.statvfs(tmp_path)
    needs = {"required_bytes": status.f_bavail * status.f_frsize * 2 // 3, "unpack_bytes": status.f_bavail * status.f_frsize * 2 // 3}
    unpack_dir = f"{tmp_path}/unpacked/tmp"
    finding = only_finding(preflight(unpack_dir=unpack_dir, **needs))
    assert finding["check"] == "disk"
    assert finding["message"].startswith(f"{tmp_path} and {unpack_dir} need ")
    assert finding["message"].endswith(
        f"free some space, or mount a larger disk at {tmp_path}, or lower dfdaemon_disk_budget, or mount a larger disk at "
        f"{tmp_path}/unpacked, where TorchServe unpacks models."
    )
    real = os.stat
    other = os.stat_result([*real(tmp_path)[:2], 4711, *real(tmp_path)[3:]])
    monkeypatch.setattr(_preflight_disk.os, "stat", lambda path, **kw: other if str(path) == f"{tmp_path}/unpacked" else real(path, **kw))
    assert preflight(unpack_dir=unpack_dir, **needs)["findings"] == []


def test_stores_on_two_filesystems(preflight, host, tmp_path):
    (tmp_path / "models").mkdir()
    host.mounts["models"] = {"point": "/mnt/models", "type": "xfs", "read_only": False}
    message = only_finding(preflight())["message"]
    assert f"{tmp_path}/models on /mnt/models" in message
    assert "different filesystems" in message


@pytest.mark.parametrize(
    ("mount", "severity", "word"),
    [
        ({"point": "/", "type": "ext4", "read_only": True}, "error", "mounted read-only"),
        ({"point": "/", "type": "vfat", "read_only": False}, "error", "no hard links"),
        ({"point": "/", "type": "nfs4", "read_only": False}, "warning", "network filesystem"),
    ],
)
def test_filesystems_that_do_not_serve(preflight, host, mount, severity, word):
    host.mounts["/"] = mount
    finding = only_finding(preflight())
    assert finding["severity"] == severity
    assert word in finding["message"]


@pytest.mark.parametrize(("shift", "wrong"), [(0, False), (45, False), (90, True), (-90, False)])
def test_clock_against_the_controller(preflight, shift, wrong):
    """One that is ahead may be that of a host that was asked long ago."""
    result = preflight(controller_epoch=time.time() + shift)
    assert result.get("failed", False) is wrong
    assert ("clock" in result.get("msg", "")) is wrong


def test_clock_that_nothing_keeps(preflight, host):
    host.synchronized = False
    finding = only_finding(preflight())
    assert (finding["check"], finding["severity"]) == ("clock", "warning")


@pytest.mark.parametrize(
    ("address", "owner", "message"),
    [
        ("0.0.0.0", {"pid": 5, "program": "dfdaemon", "unit": "dfdaemon.service"}, None),
        ("127.0.0.1", {"pid": 5, "program": "nginx", "unit": "nginx.service"}, None),
        ("10.0.0.1", {"pid": 5, "program": "nginx", "unit": "nginx.service"}, "taken by nginx (pid 5, nginx.service)"),
        ("::", {"pid": 5, "program": "sh", "unit": ""}, "taken by sh (pid 5, no systemd unit)"),
        ("10.0.0.1", None, "taken by a process that only root can see"),
    ],
)
def test_ports(preflight, host, address, owner, message):
    host.listen(address, 4000, owner)
    result = preflight(ports=[{"port": 4000, "address": "10.0.0.1", "unit": "dfdaemon.service"}])
    if message is None:
        assert result["findings"] == []
    else:
        assert message in only_finding(result)["message"]


@pytest.mark.parametrize(("address", "found"), [("127.0.0.1", 1), ("0.0.0.0", 1), ("10.0.0.1", 0)])
def test_a_port_for_two_daemons(preflight, address, found):
    ports = [
        {"port": 8080, "address": "127.0.0.1", "unit": "torchserve.service"},
        {"port": 8080, "address": address, "unit": "dfdaemon.service"},
        {"port": 8081, "address": "127.0.0.1", "unit": "torchserve.service"},
    ]
    findings = preflight(ports=ports)["findings"]
    assert [one["message"] for one in findings] == [
        f"Port 8080 is given to torchserve.service on 127.0.0.1 and to dfdaemon.service on {address}; move one of them."
    ] * found


def test_a_listen_address_that_is_none(preflight):
    finding = only_finding(preflight(ports=[{"port": 4000, "address": "gpu-1", "unit": "dfdaemon.service"}]))
    assert "gpu-1" in finding["message"]


@pytest.mark.parametrize("address", ["10.0.0.1", "0.0.0.0", "::", "127.0.0.1", "127.0.0.2", "::1"])
def test_an_address_that_the_host_has(preflight, address):
    assert preflight(ports=[{"port": 4000, "address": address, "unit": "dfdaemon.service"}])["findings"] == []


def test_an_address_that_the_host_has_not(preflight, host):
    ports = [{"port": port, "address": "10.0.0.99", "unit": "dfdaemon.service"} for port in (4000, 4005)]
    finding = only_finding(preflight(ports=ports))
    assert finding["check"] == "address"
    assert finding["message"].startswith(
        "The address 10.0.0.99, at which dfdaemon.service is to listen, is on no interface of this host, which has 10.0.0.1; correct modelf"
    )
    host.addresses = []
    assert preflight(ports=ports)["findings"] == []


JAVA_8 = 'openjdk version "1.8.0_392"\nOpenJDK Runtime Environment'
JAVA_17 = 'openjdk version "17.0.9" 2023-10-17'


@pytest.mark.parametrize(
    ("there", "said", "comes", "alternatives", "message"),
    [
        (True, JAVA_17, False, None, None),
        (True, 'java version "21" 2023-09-19 LTS', False, None, None),
        (False, "", True, None, None),
        (True, JAVA_8, True, "auto", None),
        (
            True,
            JAVA_8,
            True,
            "manual",
            "is Java 8, and TorchServe needs 11 or newer; set torchserve_java to the path of a Java 11",
        ),
        (True, JAVA_8, True, None, "is Java 8"),
        (True, JAVA_8, False, "auto", "is Java 8"),
        (False, "", False, None, "There is no Java at /usr/bin/java, and torchserve_packages brings none; set torchserve_java"),
        (True, "Error: could not find libjava.so", False, None, "/usr/bin/java -version gave no version; set torchserve_java"),
    ],
)
def test_java(preflight, host, monkeypatch, there, said, comes, alternatives, message):
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: there if path == "/usr/bin/java" else exists(path))
    monkeypatch.setattr(
        preflight_info.CheckedModule,
        "run_command",
        lambda _module, command: (0, "", said) if command == ["/usr/bin/java", "-version"] else host.systemctl,
    )
    files = {"/var/lib/dpkg/alternatives/java": [alternatives, "/usr/bin/java"] if alternatives else []}
    monkeypatch.setattr(_proc, "read_lines", lambda path: files.get(path, [] if "alternatives" in path else host.os_release))
    result = preflight(java="/usr/bin/java", java_from_packages=comes)
    if message is None:
        assert result["findings"] == []
    else:
        assert only_finding(result)["check"] == "java" and message in only_finding(result)["message"]


def test_program_that_asks_dfdaemon(preflight, monkeypatch, tmp_path):
    found = preflight(curl=True)
    assert found["findings"] == [] and found["facts"]["curl"] is True
    monkeypatch.setenv("PATH", str(tmp_path))
    assert preflight()["findings"] == []
    finding = only_finding(preflight(curl=True))
    assert finding["check"] == "curl" and "There is no program curl on this host" in finding["message"]


def test_program_that_serves(preflight, tmp_path):
    program = tmp_path / "bentoml"
    wanted = [{"path": str(program), "variable": "bentoml_program"}]
    program.write_text("#!/bin/sh\n")
    finding = only_finding(preflight(programs=wanted))
    assert (finding["check"], finding["severity"]) == ("programs", "error")
    assert finding["message"] == f"There is no program {program} on this host; install it, or correct bentoml_program."
    program.chmod(0o755)
    assert preflight(programs=wanted)["findings"] == []


def test_library_that_signs_for_google(preflight, monkeypatch):
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "cryptography", None)
        assert preflight()["findings"] == []
        finding = only_finding(preflight(cryptography=True))
    assert finding["check"] == "cryptography"
    assert "has no library cryptography, which signs URLs for Google Cloud Storage, and dfdaemon_packages brings none" in finding["message"]
    assert preflight(cryptography=True)["findings"] == []


def test_a_broken_driver(preflight, host):
    host.gpu_error = "Failed to read the GPUs: reboot."
    assert only_finding(preflight(gpu=True)) == {"check": "gpu", "severity": "error", "message": "Failed to read the GPUs: reboot."}


def test_gpus_are_not_looked_for_on_a_cpu_host(preflight, host):
    host.gpu_error = "must not be called"
    assert preflight()["facts"]["gpus"] == []


def test_bad_options_fail_with_a_sentence(preflight):
    result = preflight(ports=[{"port": "four thousand", "unit": "dfdaemon.service"}])
    assert result["failed"]
    assert "port" in result["msg"]


FIREWALL = {"firewall": True, "firewall_from_packages": True}
UFW = """table ip filter {
\tchain ufw-user-input {
\t\ttcp dport 22 counter accept
\t}

\tchain INPUT {
\t\ttype filter hook input priority filter; policy drop;
\t\tcounter jump ufw-user-input
\t}
}
"""
FIREWALLD = """table inet firewalld {
\tchain filter_INPUT {
\t\ttype filter hook input priority filter + 10; policy accept;
\t\tct state { established, related } accept
\t\tjump filter_INPUT_ZONES
\t\treject with icmpx admin-prohibited
\t}
}
"""
OPEN = """table inet filter {
\tchain input {
\t\ttype filter hook input priority filter; policy accept;
\t\ttcp dport 9999 drop
\t\tcounter jump other
\t}

\tchain forward {
\t\ttype filter hook forward priority filter; policy drop;
\t}
}
table inet modelfleet {
\tchain input {
\t\ttype filter hook input priority filter - 10; policy drop;
\t}
}
"""


class TestFirewall:
    def test_a_host_that_can_have_it(self, preflight):
        result = preflight(**FIREWALL, firewall_members=["10.0.0.2"], firewall_addresses=["10.0.0.1"], firewall_users=["root", "12"])
        assert result["findings"] == [] and result["facts"]["nftables"] is True

    def test_a_host_that_is_to_have_none(self, preflight, host):
        host.nft_program, host.nf_tables = None, "Protocol not supported"
        assert preflight()["findings"] == []

    @pytest.mark.parametrize(
        ("program", "comes", "kernel", "words"),
        [
            (None, True, "", []),
            (None, False, "", ["There is no program nft on this host, and firewall_packages brings none; install the package nftables"]),
            (None, True, "Protocol not supported", ["of this host has no nf_tables (Protocol not supported); boot one that has it"]),
            (None, False, "Invalid argument", ["There is no program nft", "has no nf_tables (Invalid argument)"]),
            ("/usr/sbin/nft", False, "Invalid argument", ["has no nf_tables (Invalid argument)"]),
        ],
    )
    def test_the_program_and_the_kernel(self, preflight, host, program, comes, kernel, words):
        host.nft_program, host.nf_tables = program, kernel
        result = preflight(firewall=True, firewall_from_packages=comes, fail_on_error=False)
        assert len(result["findings"]) == len(words)
        for finding, part in zip(result["findings"], words):
            assert finding["check"] == "firewall" and part in finding["message"]
            assert "set modelfleet_firewall to false for it" in finding["message"]

    def test_a_kernel_that_refuses_the_rules(self, preflight, host):
        host.nft["--check"] = (
            1,
            "",
            "/dev/stdin:7:9-20: Error: Could not process rule: Operation not supported\n  chain output {\n  ^^^^\n",
        )
        message = only_finding(preflight(**FIREWALL, fail_on_error=False))["message"]
        assert (
            "(/dev/stdin:7:9-20: Error: Could not process rule: Operation not supported)" in message
            and "boot a kernel with nf_tables" in message
        )

    def test_a_user_who_is_not_there(self, preflight):
        message = only_finding(preflight(**FIREWALL, firewall_users=["no-such-runtime"], fail_on_error=False))["message"]
        assert message == (
            "There is no user no-such-runtime on this host, whom modelfleet_firewall_users or dragonfly_manager_rest_users names; "
            "create it, or leave it out."
        )

    def test_an_address_by_which_the_others_do_not_know_this_host(self, preflight, host):
        host.sources = {f"10.0.0.{number}": ipaddress.ip_address(f"192.168.0.{number // 10}") for number in range(10, 30)}
        host.sources["fd00::2"] = ipaddress.ip_address("fd00::1")
        options = {"firewall_members": [*host.sources, "gpu-1"], "firewall_addresses": ["10.0.0.1", "FD00::1", "192.168.0.1"]}
        message = only_finding(preflight(**FIREWALL, **options, fail_on_error=False))["message"]
        assert "This host calls 10.0.0.20 from 192.168.0.2, and the firewall of the others admits 10.0.0.1 and FD00::1" in message
        assert "add that address to modelfleet_firewall_addresses of this host, or correct its routes" in message

    @pytest.mark.parametrize(
        ("ruleset", "tables"),
        [(UFW, ["ip filter"]), (FIREWALLD, ["inet firewalld"]), (UFW + FIREWALLD, ["ip filter", "inet firewalld"]), (OPEN, []), ("", [])],
    )
    def test_what_others_drop(self, preflight, host, ruleset, tables):
        host.nft["--stateless"] = (0, ruleset, "")
        ports = [
            {"port": 4000, "address": "10.0.0.1", "unit": "dfdaemon.service"},
            {"port": 4001, "address": "127.0.0.1", "unit": "dfdaemon.service"},
        ]
        findings = preflight(**FIREWALL, ports=ports)["findings"]
        assert [finding["severity"] for finding in findings] == ["warning"] * len(tables)
        for finding, table in zip(findings, tables):
            assert f"in the table {table} drop what they do not admit, and do not name 4000/tcp, on which" in finding["message"]
            assert "ufw allow PORT/tcp" in finding["message"]
        host.nft["--stateless"] = (
            0,
            ruleset.replace("dport 22", "dport 4000").replace("jump filter_INPUT_ZONES", "tcp dport 4000 accept"),
            "",
        )
        assert preflight(**FIREWALL, ports=ports)["findings"] == []


def test_the_kernel_is_asked_for_nf_tables():
    """Without any program; whether it has them is another matter."""
    assert isinstance(_preflight_network.kernel_problem(), str)


def test_the_kernel_says_from_where_it_would_call():
    assert str(_preflight_network._source(ipaddress.ip_address("127.0.0.1"))) == "127.0.0.1"
    assert _preflight_network._source(ipaddress.ip_address("255.255.255.255")) is None


def test_versions_that_take_turns_at_a_port(preflight, host):
    host.listen("127.0.0.1", 8101, {"pid": 812, "program": "vllm", "unit": "openai-server-llama-3.1-0f3a5e9c1f0c.service"})
    wanted = {"port": 8101, "address": "127.0.0.1"}
    assert preflight(ports=[{**wanted, "unit": "openai-server-llama-*.service"}])["findings"] == []
    taken = only_finding(preflight(ports=[{**wanted, "unit": "openai-server-other-*.service"}]))
    assert taken["message"].startswith("Port 8101 on 127.0.0.1 is taken by vllm (pid 812, openai-server-llama-3.1-0f3a5e9c1f0c.service)")


CLIENT = {"image": f"registry.example.org/dragonfly/client@sha256:{'1' * 64}", "variable": "dfdaemon_image"}


@pytest.fixture
def podman(host, monkeypatch, tmp_path):
    fake = FakePodman()
    fake.ways = {}

    def run(_module, command, **options):
        return fake.run_command(command, **options) if command[0] == "podman" else host.run_command(command)

    monkeypatch.setattr(preflight_info.CheckedModule, "run_command", run)
    monkeypatch.setattr(_preflight_containers, "connects", lambda address, _timeout: fake.ways.get(address, "No route to host"))
    monkeypatch.setattr(_preflight_containers, "REGISTRIES", (str(tmp_path / "registries.conf"), str(tmp_path / "more")))
    monkeypatch.setattr(_preflight_containers, "CDI", (str(tmp_path / "etc"), str(tmp_path / "run")))
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    return fake


def said(result):
    return [finding["message"] for finding in result["findings"] if finding["check"] in ("podman", "image", "cdi")]


def test_a_host_without_containers_is_not_asked_for_podman(preflight, podman):
    podman.version = None
    assert said(preflight(fail_on_error=False)) == [] and podman.calls == []


@pytest.mark.parametrize(
    ("version", "packages", "words"),
    [
        (None, False, "There is no podman on this host; install 4.1 or newer"),
        (None, True, ""),
        ("3.4.4", True, "podman 3.4.4 is too old, for containers here need 4.1"),
        ("4.3.1", False, ""),
        ("5.4.2", False, ""),
    ],
)
def test_podman(preflight, podman, version, packages, words):
    podman.version, podman.ways = version, {"registry.example.org:443": ""}
    found = said(preflight(images=[CLIENT], podman_from_packages=packages, fail_on_error=False))
    assert [one.startswith(words) for one in found] == ([True] if words else [])


def test_an_image_that_is_here_needs_no_registry(preflight, podman):
    podman.images = {CLIENT["image"]: "a" * 64}
    assert said(preflight(images=[CLIENT], fail_on_error=False)) == []
    podman.images = {}
    (found,) = said(preflight(images=[CLIENT], fail_on_error=False))
    assert "is not on this host, which does not reach registry.example.org (No route to host)" in found
    assert said(preflight(images=[{**CLIENT, "archive": True}], fail_on_error=False)) == []


@pytest.mark.parametrize("image", [f"sha256:{'a' * 64}", f"localhost/client@sha256:{'1' * 64}"])
def test_an_image_that_no_registry_has(preflight, podman, image):
    (found,) = said(preflight(images=[{**CLIENT, "image": image}], fail_on_error=False))
    assert "its name leads to no registry; build it here, or set dfdaemon_image_archive" in found


def test_where_podman_goes_another_way_nothing_is_tried(preflight, podman, tmp_path, monkeypatch):
    (tmp_path / "registries.conf").write_text('# location = "x"\n[[registry]]\n')
    assert len(said(preflight(images=[CLIENT], fail_on_error=False))) == 1
    (tmp_path / "registries.conf").write_text('[[registry]]\nprefix = "registry.example.org"\nlocation = "mirror.lan"\n')
    assert said(preflight(images=[CLIENT], fail_on_error=False)) == []
    (tmp_path / "registries.conf").unlink()
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert said(preflight(images=[CLIENT], fail_on_error=False)) == []


def test_devices_for_containers(preflight, podman, tmp_path):
    (found,) = said(preflight(cdi=True, fail_on_error=False))
    assert "nvidia-ctk cdi generate" in found
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nvidia.yaml").write_text("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices: []\n")
    assert said(preflight(cdi=True, fail_on_error=False)) == []
