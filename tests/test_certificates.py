# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutual TLS between real daemons on loopback, on what the roles write; and what is wrong with certificates, by the plays themselves."""

from __future__ import annotations

import datetime
import http.server
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
import yaml
from fleet import only_in_all
from test_bad_input import GOOD
from test_repository import COLLECTION, REPOSITORY

sys.path.insert(0, str(REPOSITORY / "collections"))
from ansible_collections.modelfleet.serving.plugins.module_utils import _certificates as pki
from cryptography.hazmat.primitives.asymmetric import ec

CACHE = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
PROGRAMS = os.path.join(CACHE, "modelfleet/dragonfly/programs")
SCHEDULER = f"{PROGRAMS}/dragonfly-2.5.1-linux-amd64/scheduler"
CLIENT = f"{PROGRAMS}/dragonfly-client-1.5.10-linux-amd64"
PASSPHRASE = "cGxhbnRlZC1zZWNyZXQ"
# Each host is an address of this machine, so that every daemon has its own ports.
HOSTS = {"scheduler-1": "127.83.1.1", "seed-1": "127.83.1.2", "gpu-1": "127.83.1.3", "stranger": "127.83.1.4", "clear": "127.83.1.5"}
PORTS = {"scheduler-1": 8002, "seed-1": 4000, "gpu-1": 4000}
MEMBERS = list(PORTS)
WHEN = pki.now()
DAY = datetime.timedelta(days=1)
# What a client of HTTP/2 says first, and the kind of the frame with which a server that lets it in begins.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
SETTINGS = 4


def wait_until(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what} did not come about in {seconds} s")


def answer(address, port, context=None):
    """What a server says to a client of HTTP/2: the kind of its first frame, or why there is none."""
    try:
        plain = socket.create_connection((address, port), timeout=5)
        with context.wrap_socket(plain, server_hostname=address) if context else plain as connection:
            connection.sendall(PREFACE)
            said = connection.recv(9)
            return said[3] if len(said) == 9 else "nothing"
    except OSError as exc:
        return str(exc)


def client(directory, name, trusted):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=trusted)
    context.set_alpn_protocols(["h2"])
    if name:
        context.load_cert_chain(directory / f"{name}.pem")
    return context


class Fleet:
    """The files that the roles write for each host, and the daemons that were started from them."""

    def __init__(self, directory, run):
        self.directory = directory
        self.run = run
        self.processes = {}
        self.written = {}

    def write(self, *hosts, rotation="none", **variables):
        """What the roles of these hosts write, after a step from one authority to the next."""
        groups = {"dragonfly_schedulers": ["scheduler-1"], "dragonfly_seed_peers": ["seed-1"], "gpu_hosts": ["gpu-1", "stranger", "clear"]}
        own = {
            name: {
                "modelfleet_address": address,
                # All of them listen on loopback, each on one of its own.
                "dfdaemon_config": {block: {"server": {"ip": address}} for block in ("proxy", "metrics", "health", "stats")},
            }
            for name, address in HOSTS.items()
        }
        common = {
            "modelfleet_storage": {"http": {"url": "http://127.83.1.9"}},
            "modelfleet_pki_passphrase": PASSPHRASE,
            "ansible_python_interpreter": sys.executable,
            "ansible_connection": "local",
            "ansible_become": False,
            **variables,
        }
        children = {group: {"hosts": {name: own[name] for name in names}} for group, names in groups.items()}
        (self.directory / "inventory").mkdir(exist_ok=True)
        (self.directory / "inventory/hosts.yml").write_text(yaml.safe_dump({"all": {"vars": common, "children": children}}))
        roles = ("dragonfly_scheduler", "dfdaemon")
        shown = {
            "scheduler": "{{ __dragonfly_scheduler_files if 'dragonfly_schedulers' in group_names else [] }}",
            "dfdaemon": "{{ __dfdaemon_files if 'dragonfly_schedulers' not in group_names else [] }}",
        }
        tls = "{{ __dragonfly_scheduler_tls_files if 'dragonfly_schedulers' in group_names else __dfdaemon_tls_files }}"
        tasks = [
            *({"ansible.builtin.import_role": {"name": f"modelfleet.serving.{role}", "tasks_from": "variables"}} for role in roles),
            {
                "ansible.builtin.include_role": {"name": "modelfleet.serving.modelfleet", "tasks_from": "certificates"},
                "when": "modelfleet_mtls",
            },
            {
                "ansible.builtin.copy": {"content": "{{ item.content }}", "dest": "{{ item.path }}", "mode": "0600"},
                "loop": tls,
                "no_log": True,
            },
            {"ansible.builtin.debug": {"msg": shown}},
        ]
        place = f"{self.directory}/{{{{ inventory_hostname }}}}"
        paths = {"__modelfleet_tls_trusted": f"{place}.ca.pem"}
        paths.update(dict.fromkeys(("__dfdaemon_tls_file", "__dragonfly_scheduler_tls_file"), f"{place}.pem"))
        paths["__modelfleet_rotation"] = rotation
        play = {"hosts": list(hosts), "gather_facts": False, "tasks": tasks}
        (self.directory / "play.yml").write_text(yaml.safe_dump([play]))
        (self.directory / "paths.yml").write_text(yaml.safe_dump(paths))
        inputs = ["-i", self.directory / "inventory/hosts.yml", "-e", f"@{self.directory}/paths.yml", self.directory / "play.yml"]
        done = self.run("ansible-playbook", *inputs, "-vvv", "--diff", ANSIBLE_CALLBACK_RESULT_FORMAT="json")
        assert done.returncode == 0, done.stdout
        assert "PRIVATE KEY" not in done.stdout and PASSPHRASE not in done.stdout
        found = re.findall(r"ok: \[([^]]+)\] => (\{\n    \"msg\".*?\n\})\n", done.stdout, re.DOTALL)
        self.written.update({host: json.loads(text)["msg"] for host, text in found})

    def start(self, name):
        """The daemon of a host, with its data below the directory of the test."""
        place = self.directory / f"{name}.d"
        place.mkdir(exist_ok=True)
        files = {one["component"]: one["config"] for one in self.written[name]["scheduler"] + self.written[name]["dfdaemon"]}
        if "scheduler" in files:
            files["scheduler"]["server"].update(logDir=str(place), pluginDir=str(place))
            files["scheduler"]["metrics"]["enable"] = False
            command, component = [SCHEDULER, "--console"], "scheduler"
        else:
            files["dfdaemon"]["storage"]["dir"] = str(place / "pieces")
            files["dfdaemon"]["download"]["server"]["socketPath"] = str(place / "socket")
            files["dfdaemon"]["proxy"]["rules"] = []
            command, component = [f"{CLIENT}/dfdaemon", "--console", "--log-dir", str(place), "--log-level", "warn"], "dfdaemon"
        for kind, config in files.items():
            # The scheduler goes by the name.
            (place / f"{kind}.yaml").write_text(json.dumps(config))
        command += ["--config", str(place / f"{component}.yaml"), "--dynconfig", str(place / f"{component}_dynconfig.yaml")]
        with open(place / "output", "wb") as output:
            self.processes[name] = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def output(self, name):
        return (self.directory / f"{name}.d/output").read_text(errors="replace")

    def healthy(self, name):
        try:
            with urllib.request.urlopen(f"http://{HOSTS[name]}:4003/healthy", timeout=2) as found:
                return found.status == 200
        except OSError:
            return False

    def ended(self, name):
        return self.processes[name].poll() is not None

    def stop(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def download(self, name, url, target):
        command = [f"{CLIENT}/dfget", "--endpoint", str(self.directory / f"{name}.d/socket"), "-O", str(target), "--timeout", "60s", url]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def traffic(self, name):
        with urllib.request.urlopen(f"http://{HOSTS[name]}:4002/metrics", timeout=5) as found:
            lines = re.findall(r'^dragonfly_client_download_traffic\{type="(\w+)"\} (\d+)', found.read().decode(), re.MULTILINE)
        return {source: int(count) for source, count in lines}


@pytest.fixture(scope="module")
def origin():
    """A file of several pieces, and how many bytes of it were sent."""
    body = os.urandom(12 << 20)

    class Origin(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            wanted = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            first, last = (int(wanted[1]), int(wanted[2] or len(body) - 1)) if wanted else (0, len(body) - 1)
            part = body[first : last + 1]
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(part)
                self.server.sent += len(part)

        def log_message(self, *_args):
            pass

    server = http.server.ThreadingHTTPServer(("127.83.1.9", 0), Origin)
    server.sent, server.body = 0, body
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def fleet(run, tmp_path_factory):
    """In the middle of a rotation: scheduler and GPU host have certificates of the old authority, the seed peer one of the next."""
    if not os.path.exists(SCHEDULER) or not os.path.exists(f"{CLIENT}/dfdaemon"):
        pytest.skip("Dragonfly's programs are not there; make setup builds them")
    found = Fleet(tmp_path_factory.mktemp("fleet"), run)
    try:
        found.write(*MEMBERS)
        found.write(*MEMBERS, rotation="trust")
        found.write("seed-1", rotation="issue")
        found.start("scheduler-1")
        wait_until(lambda: "Errno 111" not in str(answer(HOSTS["scheduler-1"], 8002)), "a scheduler")
        for name in ("seed-1", "gpu-1"):
            found.start(name)
            wait_until(lambda name=name: found.healthy(name), f"a healthy dfdaemon of {name}: {found.output(name)[-2000:]}", 40)
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def trusted(fleet):
    return (fleet.directory / "gpu-1.ca.pem").read_text()


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_is_let_in(fleet, trusted, name):
    assert answer(HOSTS[name], PORTS[name], client(fleet.directory, "gpu-1", trusted)) == SETTINGS


def refused(said):
    """By an alert or by the end of the connection, and not because nobody listens or this side did not like the server."""
    return said != SETTINGS and not re.search("(?i)refused|verify.failed|timed out", str(said))


@pytest.mark.parametrize("name", MEMBERS)
def test_clear_text_is_refused(fleet, name):
    assert refused(answer(HOSTS[name], PORTS[name]))


@pytest.mark.parametrize("name", MEMBERS)
def test_who_has_no_certificate_is_refused(fleet, trusted, name):
    assert refused(answer(HOSTS[name], PORTS[name], client(fleet.directory, "", trusted)))


@pytest.mark.parametrize("name", MEMBERS)
def test_who_has_one_of_another_authority_is_refused(fleet, trusted, name):
    authority, key = pki.new_authority("ModelFleet", 10, WHEN)
    made, host_key = pki.new_host("gpu-1", HOSTS["gpu-1"], 10, authority, key, WHEN)
    (fleet.directory / "foreign.pem").write_text(pki.pem_of([made], host_key))
    assert refused(answer(HOSTS[name], PORTS[name], client(fleet.directory, "foreign", trusted)))


@only_in_all
def test_who_shows_a_certificate_of_another_host_is_no_server(fleet, trusted):
    """Its address is what a certificate is for."""
    context = client(fleet.directory, "gpu-1", trusted)
    with (
        socket.create_connection((HOSTS["seed-1"], 4000), timeout=5) as plain,
        pytest.raises(ssl.SSLCertVerificationError, match="mismatch"),
    ):
        context.wrap_socket(plain, server_hostname=HOSTS["gpu-1"])


@only_in_all
def test_a_file_comes_through_the_seed_peer(fleet, origin, tmp_path):
    """The scheduler sees a new seed peer every 30 seconds, and sends whoever asks before that to the origin."""

    def through_the_seed_peer():
        before, target = fleet.traffic("gpu-1").get("REMOTE_PEER", 0), tmp_path / "file"
        target.unlink(missing_ok=True)
        done = fleet.download("gpu-1", f"http://127.83.1.9:{origin.server_port}/{time.monotonic_ns()}", target)
        assert done.returncode == 0, done.stdout + done.stderr
        assert target.read_bytes() == origin.body
        return fleet.traffic("gpu-1").get("REMOTE_PEER", 0) - before == len(origin.body)

    wait_until(through_the_seed_peer, "a file from the seed peer", 60)
    assert fleet.traffic("seed-1")["BACK_TO_SOURCE"] >= len(origin.body)


@only_in_all
def test_who_is_no_member_finds_no_scheduler(fleet, tmp_path_factory, run):
    """A dfdaemon of another fleet, and one in clear text: neither starts."""
    other = Fleet(tmp_path_factory.mktemp("other"), run)
    other.write("stranger")
    other.write("clear", modelfleet_mtls=False)
    try:
        for name in ("stranger", "clear"):
            other.start(name)
        for name in ("stranger", "clear"):
            wait_until(lambda name=name: other.ended(name), f"the end of {name}", 40)
            assert "available schedulers not found" in other.output(name)
    finally:
        other.stop()


@only_in_all
def test_without_its_key_a_dfdaemon_would_listen_in_clear_text(fleet):
    """Which is why its unit does not start it then."""
    name, place = "clear", fleet.directory
    fleet.write(name)
    config = fleet.written[name]["dfdaemon"][0]["config"]
    config["upload"]["server"]["key"] = str(place / "nowhere.pem")
    fleet.start(name)
    # It is healthy a moment before it listens there.
    wait_until(lambda: answer(HOSTS[name], 4000) == SETTINGS, "dfdaemon answering in clear text", 40)
    unit = (COLLECTION / "roles/dfdaemon/templates/dfdaemon.service.j2").read_text()
    assert "ExecStartPre=test -r {{ __modelfleet_tls_trusted }} -a -r {{ __dfdaemon_tls_file }}" in unit


# What is wrong is named by the plays, before any host is asked.


def put(path, *certificates, key=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(pki.pem_of(certificates, key))


@pytest.fixture
def preflight(run, tmp_path):
    def run_preflight(addresses, playbook="preflight", **variables):
        groups = {"dragonfly_schedulers": {}, "dragonfly_seed_peers": {}, "gpu_hosts": {}}
        for number, (name, address) in enumerate(addresses.items()):
            groups[list(groups)[min(number, 2)]][name] = {"modelfleet_address": address}
        common = {"ansible_connection": "local", "ansible_python_interpreter": "/nonexistent/python", "ansible_become": False}
        children = {group: {"hosts": hosts} for group, hosts in groups.items()}
        (tmp_path / "fleet").mkdir(exist_ok=True)
        (tmp_path / "fleet/hosts.yml").write_text(yaml.safe_dump({"all": {"vars": common, "children": children}}))
        (tmp_path / "vars.yml").write_text(yaml.safe_dump({**GOOD, **variables}))
        inputs = ["-i", tmp_path / "fleet/hosts.yml", "-e", f"@{tmp_path}/vars.yml", "-vvv", "--diff"]
        done = run("ansible-playbook", *inputs, f"playbooks/{playbook}.yml")
        assert done.returncode != 0 and "PRIVATE KEY" not in done.stdout
        return " ".join(done.stdout.split())

    return run_preflight


def test_everything_that_is_wrong_with_certificates_of_ones_own(preflight, tmp_path):
    authority, key = pki.new_authority("Example", 1000, WHEN - 100 * DAY)
    put(tmp_path / "own/ca.pem", authority)
    names = ["good", "foreign", "expired", "tomorrow", "elsewhere", "other-key", "text", "unreadable"]
    addresses = {name: f"10.0.0.{number + 1}" for number, name in enumerate(names)}
    for name, address in addresses.items():
        when = {"expired": WHEN - 50 * DAY, "tomorrow": WHEN + DAY}.get(name, WHEN)
        issuer = pki.new_authority("Other", 10, WHEN) if name == "foreign" else (authority, key)
        made, host_key = pki.new_host(name, "10.9.9.9" if name == "elsewhere" else address, 10, *issuer, when)
        put(tmp_path / f"own/{name}.pem", made)
        put(tmp_path / f"own/{name}.key", key=ec.generate_private_key(ec.SECP256R1()) if name == "other-key" else host_key)
    (tmp_path / "own/text.pem").write_text("a certificate\n")
    (tmp_path / "own/unreadable.key").unlink()
    output = preflight(
        addresses,
        modelfleet_pki_ca_path=str(tmp_path / "own/ca.pem"),
        modelfleet_pki_certificate_path=f"{tmp_path}/own/{{{{ inventory_hostname }}}}.pem",
        modelfleet_pki_key_path=f"{tmp_path}/own/{{{{ inventory_hostname }}}}.key",
    )
    place = f"{tmp_path}/own"
    for sentence in (
        f"Refused the certificate of foreign in {place}/foreign.pem: none of the trusted authorities issued it; give the authority's own",
        f"Refused the certificate of expired in {place}/expired.pem: it has expired on",
        f"Refused the certificate of tomorrow in {place}/tomorrow.pem: it is valid only from",
        "it is not for 10.0.0.5; issue it with the subjectAltName IP:10.0.0.5",
        f"Refused the certificate of other-key in {place}/other-key.pem: its key is that of another certificate",
        f"Refused {place}/text.pem: there is no certificate in it. Give one in PEM",
        f"Failed to read {place}/unreadable.key: No such file or directory. Put the file there on the controller",
    ):
        assert sentence in output, output
    assert "of good in" not in output
    assert "/nonexistent/python" not in output, "a host was asked"


@only_in_all
def test_an_authority_that_has_expired(preflight, tmp_path):
    directory = tmp_path / "fleet.pki"
    authority, key = pki.new_authority("ModelFleet", 1, WHEN - 10 * DAY)
    put(directory / "ca.pem", authority, key=key)
    output = preflight({"one": "10.0.0.1", "two": "10.0.0.2", "three": "10.0.0.3"})
    assert f"Refused the authority in {directory}/ca.pem: it has expired on" in output
    assert "/nonexistent/python" not in output, "a host was asked"


@only_in_all
def test_looking_makes_no_authority(preflight, tmp_path):
    """And what is wrong with this fleet is told after it, of the hosts."""
    output = preflight({"one": "10.0.0.1", "two": "10.0.0.2", "three": "10.0.0.3"})
    assert "/nonexistent/python" in output
    assert not (tmp_path / "fleet.pki").exists()


@only_in_all
def test_a_fleet_of_which_a_part_speaks_clear_text(preflight):
    output = preflight({"one": "10.0.0.1", "two": "10.0.0.2", "three": "10.0.0.3"}, modelfleet_mtls="{{ inventory_hostname != 'three' }}")
    assert "The variable modelfleet_mtls is true for one, two and false for others" in output
    assert "/nonexistent/python" not in output, "a host was asked"


@only_in_all
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"modelfleet_mtls": False}, "modelfleet_mtls is false, so there is none."),
        (
            {"modelfleet_pki_ca_path": "/srv/ca.pem"},
            "modelfleet_pki_ca_path names your own. Put the new certificate beside the old one in that file and run site",
        ),
    ],
)
def test_a_rotation_of_what_is_not_the_fleets(preflight, variables, said):
    output = preflight({"one": "10.0.0.1", "two": "10.0.0.2", "three": "10.0.0.3"}, "rotate_certificates", **variables)
    assert f"Refused to replace the authority of the fleet: {said}" in output
    assert "/nonexistent/python" not in output, "a host was asked"
