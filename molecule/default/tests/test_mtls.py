# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is let in at the ports of Dragonfly's daemons, asked from a host of the fleet, and where the keys lie."""

from __future__ import annotations

import base64
import datetime
import sys

import pytest
from fleet import DAEMON_HOSTS, REPOSITORY

sys.path.insert(0, str(REPOSITORY / "collections"))
from ansible_collections.modelfleet.serving.plugins.module_utils import _certificates as pki

ADDRESS = "hostname -I | cut -d ' ' -f 1"
PORTS = {name: 8002 if name == "scheduler-1" else 4000 for name in DAEMON_HOSTS}
FILES = {
    "scheduler-1": {"/etc/dragonfly/tls/scheduler.pem": "dragonfly-scheduler"},
    **{name: {"/etc/dragonfly/tls/dfdaemon.pem": "dfdaemon"} for name in DAEMON_HOSTS if name != "scheduler-1"},
}
# Runs on a host: what a server says to a client of HTTP/2 that shows the certificate in the file (none, clear text or a file).
ASK = """
import socket, ssl, sys
address, port, file = sys.argv[1:]
plain = socket.create_connection((address, int(port)), timeout=10)
try:
    if file != "clear":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations("/etc/dragonfly/tls/ca.pem")
        context.set_alpn_protocols(["h2"])
        if file != "none":
            context.load_cert_chain(file)
        plain = context.wrap_socket(plain, server_hostname=address)
    plain.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes.fromhex("000000040000000000"))
    said = plain.recv(9)
    print("let in" if len(said) == 9 and said[3] == 4 else "refused")
except OSError as exc:
    print("refused: %s" % exc)
"""


@pytest.fixture(scope="module")
def ask(fleet):
    def ask(name, file):
        address = fleet[name].check_output(ADDRESS)
        return fleet["gpu-1"].check_output("python3 -c %s %s %s %s", ASK, address, str(PORTS[name]), file)

    return ask


@pytest.mark.parametrize("name", DAEMON_HOSTS)
def test_members_are_let_in_and_nobody_else(fleet, ask, name):
    assert ask(name, "/etc/dragonfly/tls/dfdaemon.pem") == "let in"
    assert ask(name, "clear").startswith("refused")
    assert ask(name, "none").startswith("refused")


@pytest.mark.parametrize("name", DAEMON_HOSTS)
def test_a_certificate_of_another_authority_is_refused(fleet, ask, name):
    at = pki.now()
    authority, key = pki.new_authority("ModelFleet", 10, at)
    made, host_key = pki.new_host("gpu-1", fleet["gpu-1"].check_output(ADDRESS), 10, authority, key, at)
    text = base64.b64encode(pki.pem_of([made], host_key).encode()).decode()
    path = "/run/foreign.pem"
    fleet["gpu-1"].check_output("echo %s | base64 -d > %s", text, path)
    try:
        assert ask(name, path).startswith("refused")
    finally:
        fleet["gpu-1"].check_output("rm -f %s", path)


@pytest.mark.parametrize("name", DAEMON_HOSTS)
def test_only_the_daemon_reads_its_key(fleet, name):
    listed = fleet[name].check_output("find %s -type f -printf '%%p %%u %%g %%m\n'", "/etc/dragonfly/tls").splitlines()
    found = {path: rest for path, *rest in (line.split() for line in listed)}
    assert found.pop("/etc/dragonfly/tls/ca.pem") == ["root", "root", "644"]
    assert found == {path: ["root", group, "640"] for path, group in FILES[name].items()}
    # Model code runs as this user.
    for path in FILES[name]:
        assert fleet[name].run("su -s /bin/sh torchserve -c %s", f"cat {path}").rc != 0


@pytest.mark.parametrize("name", DAEMON_HOSTS)
def test_no_file_that_others_read_has_a_key(fleet, name):
    places = "/etc/dragonfly /etc/systemd/system /run /var/log /root/.ansible"
    found = fleet[name].run(f"grep -rlE -- '-----BEGIN ([A-Z]+ )*PRIVATE [K]EY' {places}")
    assert set(found.stdout.split()) == set(FILES[name])
    # The key of the authority is on no host.
    assert fleet[name].check_output("find / -xdev -name next.pem -o -xdev -name previous.pem") == ""


@pytest.mark.parametrize("name", DAEMON_HOSTS)
def test_a_certificate_is_of_its_host_and_ends_in_a_year(fleet, name):
    (path,) = FILES[name]
    (made,) = pki.certificates_of(fleet[name].check_output("cat %s", path).encode(), path)
    assert pki.is_for(made, fleet[name].check_output(ADDRESS))
    assert datetime.timedelta(days=360) < pki.not_after(made) - pki.now() <= datetime.timedelta(days=365)


def test_a_dfdaemon_whose_key_is_gone_does_not_come_back_in_clear_text(fleet):
    host, path = fleet["gpu-3"], "/etc/dragonfly/tls/dfdaemon.pem"
    host.check_output("mv %s /run/away.pem", path)
    try:
        host.run("systemctl restart dfdaemon")
        assert not host.active("dfdaemon")
        assert host.run("ss -Hltn sport = :4000").stdout == ""
    finally:
        host.check_output("mv /run/away.pem %s", path)
        host.check_output("systemctl restart dfdaemon")
    assert host.active("dfdaemon")
