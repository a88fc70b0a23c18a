# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import calendar
import datetime
import hashlib
import json
import os
import socket
import ssl
import threading
import time

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _doctor_daemon, _doctor_expiry
from ansible_collections.modelfleet.serving.plugins.modules import doctor_info
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

RUNS = {
    "LoadState": "loaded",
    "UnitFileState": "enabled",
    "ActiveState": "active",
    "SubState": "running",
    "Result": "success",
    "ExecMainStatus": "0",
    "NRestarts": "2",
    "MainPID": "100",
    "ActiveEnterTimestampMonotonic": "1000000",
}


class Systemd:
    """What systemctl and journalctl say of one unit."""

    def __init__(self):
        self.state = dict(RUNS)
        self.journal = []
        self.asked = []
        self.missing = False

    def run_command(self, command, handle_exceptions=True):
        assert not handle_exceptions, "a host without the program must not end the module"
        if self.missing:
            raise FileNotFoundError(command[0])
        self.asked.append(command)
        if command[0] == "systemctl":
            return 0, "".join(f"{name}={value}\n" for name, value in self.state.items()), ""
        return 0, "".join(f"{line}\n" for line in self.journal), ""


@pytest.fixture
def systemd():
    return Systemd()


@pytest.fixture
def ask(systemd, tmp_path):
    """A callable that returns how the daemon is whose releases lie in ``client``."""
    (tmp_path / "client/1.5.10").mkdir(parents=True)
    (tmp_path / "client/current").symlink_to("1.5.10")
    (tmp_path / "proc/100").mkdir(parents=True)

    def run(running="1.5.9/dfdaemon (deleted)"):
        link = tmp_path / "proc/100/exe"
        link.unlink(missing_ok=True)
        link.symlink_to(f"{tmp_path}/client/{running}")
        wanted = {"unit": "dfdaemon.service", "release": f"{tmp_path}/client/current", "started_record": f"{tmp_path}/started"}
        return _doctor_daemon.daemon(systemd.run_command, wanted, proc=str(tmp_path / "proc"))

    return run


def test_a_daemon_that_runs(ask, systemd):
    """From a release that is not current any more, and whose program is gone."""
    found = ask()
    assert (found["load"], found["active"], found["restarts"], found["pid"]) == ("loaded", "active", 2, 100)
    assert (found["version"], found["installed"]) == ("1.5.9", "1.5.10")
    # One second after the boot.
    assert abs(found["since"] - (time.time() - time.clock_gettime(time.CLOCK_MONOTONIC) + 1)) <= 2


def test_a_daemon_that_does_not_run(ask, systemd):
    systemd.state.update(ActiveState="failed", MainPID="0", ActiveEnterTimestampMonotonic="0", ExecMainStatus="1")
    found = ask()
    assert (found["active"], found["version"], found["since"], found["exit_status"]) == ("failed", "", None, 1)


def test_a_host_without_systemd(ask, systemd):
    systemd.missing = True
    found = ask()
    assert (found["load"], found["active"], found["trouble"], found["pid"]) == ("", "", "", 0)


def test_a_unit_that_systemd_does_not_know(ask, systemd):
    systemd.state.update(LoadState="not-found", ActiveState="inactive", MainPID="0")
    assert ask()["load"] == "not-found"
    assert [command[0] for command in systemd.asked] == ["systemctl"], "there is no journal of it"


def test_files_that_changed_since_the_start(ask, tmp_path):
    kept, changed, gone = (tmp_path / name for name in ("kept", "changed", "gone"))
    for path in (kept, changed):
        path.write_text("as it was")
    digest = hashlib.sha256(b"as it was").hexdigest()
    (tmp_path / "started").write_text("".join(f"{digest}  {path}\n" for path in (kept, changed, gone)))
    changed.write_text("by hand")
    assert ask()["stale"] == [str(changed), str(gone)]


def test_the_last_trouble_is_the_daemons_own(ask, systemd):
    systemd.state["ActiveState"] = "activating"
    systemd.journal = [
        "error: an older one",
        "\x1b[31mERROR\x1b[0m   bind: Address already in use (os error 98)",
        "dfdaemon.service: Main process exited, code=exited, status=1/FAILURE",
        "dfdaemon.service: Failed with result 'exit-code'.",
        "all is calm",
    ]
    assert ask()["trouble"] == "ERROR bind: Address already in use (os error 98)"
    assert not any(argument.startswith("--since") for command in systemd.asked for argument in command)
    systemd.journal = systemd.journal[2:]
    assert ask()["trouble"] == "dfdaemon.service: Failed with result 'exit-code'."
    systemd.journal = ["all is calm"]
    assert ask()["trouble"] == ""


def test_a_daemon_that_runs_is_not_asked_about_older_troubles(ask, systemd):
    since = ask()["since"]
    assert f"--since=@{since}" in systemd.asked[-1] or f"--since=@{since - 1}" in systemd.asked[-1]


@pytest.mark.parametrize(
    "line",
    [
        "error GET https://b.s3.amazonaws.com/k?X-Amz-Signature=SECRET&X-Amz-Credential=SECRET: 403",
        "failed with Authorization: AWS4-HMAC-SHA256 Credential=SECRET/x, Signature=SECRET",
        'error in {"access_key_secret": "SECRET", "n": 1}',
        "error: api_key=SECRET, token: SECRET",
        "error: refused 'Bearer SECRET'",
        "failed to connect to http://user:SECRET@proxy.example.com:3128",
    ],
)
def test_no_secret_of_a_journal_is_shown(ask, systemd, line):
    systemd.journal = [line]
    trouble = ask()["trouble"]
    assert trouble and "SECRET" not in trouble


def test_a_long_line_is_cut(ask, systemd):
    systemd.journal = ["error " + "x" * 5000]
    assert len(ask()["trouble"]) == _doctor_daemon.LONGEST_LINE


# What this host reaches


@pytest.fixture
def server():
    """Port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def closed():
    """Port of one that is gone."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def certificate(directory, days):
    """A key and a certificate that nobody trusts, in one file; returns it and when it expires."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    ends = now + datetime.timedelta(days=days)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    begun = builder.serial_number(1).not_valid_before(now - datetime.timedelta(days=400)).not_valid_after(ends)
    made = begun.sign(key, hashes.SHA256())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = directory / "server.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path, calendar.timegm(ends.timetuple()), made.public_bytes(serialization.Encoding.DER)


@pytest.fixture
def tls_server(tmp_path):
    """(port, when its certificate expires), which it did three days ago."""
    path, expires, _der = certificate(tmp_path, -3)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)

    def serve(listening):
        while True:
            try:
                connection, _address = listening.accept()
                with context.wrap_socket(connection, server_side=True):
                    pass
            except OSError as exc:
                if listening.fileno() < 0 or not isinstance(exc, (ssl.SSLError, ConnectionError)):
                    return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        yield listening.getsockname()[1], expires


def test_what_is_reached_and_what_is_not(run_module, server, closed):
    addresses = [f"127.0.0.1:{server}", f"127.0.0.1:{closed}"]
    with socket.create_connection(("127.0.0.1", server)):
        result = run_module(doctor_info.main, {"reach": [{"what": "seed peer", "name": "seed-1", "addresses": addresses}]})
    good, bad = result["reach"]
    assert (good["what"], good["name"], good["address"], good["problem"]) == ("seed peer", "seed-1", addresses[0], "")
    assert good["connections"] == 1 and bad["connections"] == 0
    assert bad["problem"] == "Connection refused" and result["changed"] is False


def test_a_certificate_that_nobody_trusts(run_module, tls_server):
    port, expires = tls_server
    result = run_module(doctor_info.main, {"reach": [{"what": "origin", "host": "127.0.0.1", "port": port, "tls": True}]})
    (origin,) = result["reach"]
    assert (origin["problem"], origin["certificate_expires"], origin["address"]) == ("", expires, f"127.0.0.1:{port}")


def test_a_server_without_tls(run_module, server):
    origin = {"what": "origin", "host": "127.0.0.1", "port": server, "tls": True}
    result = run_module(doctor_info.main, {"reach": [origin], "timeout_s": 1})
    assert "TLS fails" in result["reach"][0]["problem"]


def test_an_address_that_is_none(run_module):
    result = run_module(doctor_info.main, {"reach": [{"what": "x", "name": "y", "addresses": ["nowhere"]}]})
    assert result["failed"] and result["msg"].startswith("Refused the address 'nowhere'")


@pytest.mark.parametrize("days", [-200, 3, 9000])
def test_the_end_of_a_certificate(tmp_path, days):
    """Also after 2050, when it is written in another way."""
    _path, expires, der = certificate(tmp_path, days)
    assert _doctor_expiry.not_after(der) == expires


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x30\x03abc", b"no certificate at all"])
def test_what_is_no_certificate(data):
    assert _doctor_expiry.not_after(data) is None


# Files and disks


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "# Managed: not 1.1.1.1:1\nscheduler:\n  addrs:\n    - \"10.0.0.1:8002\"\n    - '[fd00::1]:8002'\n",
            ["10.0.0.1:8002", "[fd00::1]:8002"],
        ),
        ("scheduler: {addrs: [scheduler-1.example.com:8002]}\n", ["scheduler-1.example.com:8002"]),
        ("", []),
        (None, None),
    ],
)
def test_the_schedulers_in_a_file(run_module, tmp_path, text, wanted):
    path = tmp_path / "dynconfig.yaml"
    if text is not None:
        path.write_text(text)
    assert run_module(doctor_info.main, {"schedulers_file": str(path)})["schedulers"] == wanted


def test_filesystems(run_module, tmp_path):
    paths = [str(tmp_path), str(tmp_path / "not/yet/there"), "/proc"]
    found = run_module(doctor_info.main, {"filesystems": paths})["filesystems"]
    assert [one["paths"] for one in found] == [paths[:2], paths[2:]], "each filesystem once"
    status = os.statvfs(tmp_path)
    assert found[0]["total"] == status.f_blocks * status.f_frsize and 0 <= found[0]["free"] <= found[0]["total"]
    assert 0 < found[0]["free_inodes"] <= 1.0 and found[1]["free_inodes"] == 1.0


@pytest.mark.parametrize(
    ("text", "expires"),
    [
        (
            json.dumps(
                {
                    "management": {"key": "SECRET", "expiration time": "2030-01-02T03:04:05.365559607Z"},
                    "inference": {"key": "SECRET", "expiration time": "2030-01-01T00:00:00.1Z"},
                    "API": {"key": "SECRET"},
                }
            ),
            1893456000,
        ),
        (json.dumps({"API": {"key": "SECRET"}}), None),
        ('{"management": {"key": "SEC', None),
        (None, None),
    ],
    ids=["two", "none", "half-written", "no file"],
)
def test_keys(run_module, tmp_path, text, expires):
    path = tmp_path / "key_file.json"
    if text is not None:
        path.write_text(text)
    result = run_module(doctor_info.main, {"key_file": str(path)})
    assert result["keys_expire"] == expires and "SEC" not in json.dumps(result)


def test_files_with_certificates(run_module, tmp_path):
    """Whatever is in them, as doctor looks at hosts that are broken."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "gpu-1")])
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)

    def pem(days):
        made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=days))
        return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    contents = {
        "two.pem": pem(20) + pem(10) + "SECRET",
        "none.pem": "SECRET",
        "cut.pem": pem(10)[:100] + "\n-----END CERTIFICATE-----\n",
        "no-base64.pem": "-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n",
    }
    for path, text in contents.items():
        (tmp_path / path).write_text(text)
    (tmp_path / "bytes.pem").write_bytes(b"\xff\xfe")
    (tmp_path / "directory.pem").mkdir()
    paths = [str(tmp_path / path) for path in [*contents, "bytes.pem", "directory.pem", "nowhere.pem"]]
    result = run_module(doctor_info.main, {"certificates": paths})
    expires = int((now + datetime.timedelta(days=10)).timestamp())
    assert [one["expires"] for one in result["certificates"]] == [expires, None, None, None, None, None, None]
    assert "SECRET" not in json.dumps(result)


def test_nothing_asked(run_module):
    result = run_module(doctor_info.main, {})
    assert (result["daemons"], result["reach"], result["schedulers"], result["filesystems"], result["keys_expire"]) == (
        [],
        [],
        None,
        [],
        None,
    )
    assert abs(result["now"] - time.time()) < 60
