# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The play pin_releases against a mirror: what it writes is what the roles read, and a file that changed afterwards stops."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import ssl
import subprocess
import sys
import threading

import pytest
import yaml

SECRET = "cGxhbnRlZC1zZWNyZXQ"


@pytest.fixture
def mirror(tmp_path):
    place = tmp_path / "mirror"
    place.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=place))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield place, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def inventory(tmp_path, mirror):
    """A fleet on this machine, one of whose hosts says that it is of another architecture and one that it has an archive of its own."""
    _place, url = mirror
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "ansible_become": False,
        "modelfleet_storage": {"http": {"url": "https://files.example.com"}},
        "dragonfly_scheduler_release_url": url + "/dragonfly.tar.gz?token=" + SECRET,
        "dfdaemon_release_url": url + "/client-{{ ansible_facts['architecture'] }}.tar.gz",
    }
    place = tmp_path / "inventory"
    (place / "group_vars/all").mkdir(parents=True)
    (place / "group_vars/all/fleet.yml").write_text(yaml.safe_dump(common))
    groups = {
        "dragonfly_schedulers": {"scheduler-1": {"modelfleet_address": "10.0.0.1"}},
        "dragonfly_seed_peers": {"seed-1": {"modelfleet_address": "10.0.0.2"}},
        "gpu_hosts": {"gpu-1": {"modelfleet_address": "10.0.0.3"}, "gpu-2": {"modelfleet_address": "10.0.0.4"}},
    }
    (place / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": {group: {"hosts": hosts} for group, hosts in groups.items()}}}))
    return place


def test_pins_what_the_fleet_needs_and_stops_when_it_changed(run, inventory, mirror):
    place, _url = mirror
    machine = run("uname", "-m").stdout.strip()
    archives = {"dragonfly.tar.gz": b"a scheduler", f"client-{machine}.tar.gz": b"a client"}
    for name, content in archives.items():
        (place / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in archives.items()}
    (place / "checksums.txt").write_text(f"{digests['dragonfly.tar.gz']}  dragonfly.tar.gz\n")
    lock = inventory / "group_vars/all/releases.lock.yml"
    keys = {f"scheduler-2.5.1-{machine}": "dragonfly.tar.gz", f"client-1.5.10-{machine}": f"client-{machine}.tar.gz"}

    def pin(*options):
        done = run("ansible-playbook", "-i", inventory, "-v", "--diff", "playbooks/pin_releases.yml", *options)
        assert SECRET not in done.stdout
        return done.returncode, " ".join(done.stdout.split())

    code, output = pin("--check")
    assert code == 0 and "changed=1 " in output and not lock.exists(), output
    # A part of the fleet pins what that part needs.
    for options, names in (["--limit", "gpu-2"], [f"client-1.5.10-{machine}"]), ([], sorted(keys)):
        code, output = pin(*options)
        assert code == 0 and "changed=1 " in output, output
        pins = yaml.safe_load(lock.read_text())["modelfleet_release_pins"]
        assert sorted(pins) == names
        assert {name: pin["sha256"] for name, pin in pins.items()} == {name: digests[keys[name]] for name in names}
    assert "confirmed_by: - checksums.txt" in output and f"sha256: {digests['dragonfly.tar.gz']}" in output
    code, output = pin()
    assert code == 0 and "changed=0 " in output and "changed=1 " not in output, output

    # The roles read it, also where no facts were gathered; what the inventory says beats it.
    for given, expected in ({}, digests[f"client-{machine}.tar.gz"]), ({"dfdaemon_release_sha256": "9f" * 32}, "9f" * 32):
        play = [
            {"ansible.builtin.import_role": {"name": "modelfleet.serving.dfdaemon", "tasks_from": "variables"}},
            {"ansible.builtin.debug": {"var": "dfdaemon_release_sha256"}},
        ]
        (inventory.parent / "play.yml").write_text(yaml.safe_dump([{"hosts": "gpu-1", "gather_facts": False, "tasks": play}]))
        (inventory / "group_vars/all/own.yml").write_text(yaml.safe_dump(given))
        shown = run("ansible-playbook", "-i", inventory, inventory.parent / "play.yml")
        assert f"dfdaemon_release_sha256: {expected}" in shown.stdout, shown.stdout
    (inventory / "group_vars/all/own.yml").unlink()

    before = lock.read_text()
    (place / f"client-{machine}.tar.gz").write_bytes(b"changed afterwards")
    code, output = pin()
    assert code != 0 and lock.read_text() == before
    assert f"was pinned for client-1.5.10-{machine} from http://127.0.0.1" in output
    assert "Find out who changed it. If this is the archive that you want, take" in output


def test_the_server_must_be_whom_it_says(run, tmp_path):
    """A certificate that nobody vouches for ends it; the CA of a mirror can be named."""
    certificate, key = tmp_path / "mirror.crt", tmp_path / "mirror.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "files").mkdir()
    (tmp_path / "files/client.tar.gz").write_bytes(b"a client")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "files")
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    release = {
        "name": "client",
        "version": "1.5.10",
        "architecture": "x86_64",
        "url": f"https://127.0.0.1:{server.server_port}/client.tar.gz",
    }
    lock = tmp_path / "releases.lock.yml"
    try:
        for more, said in ({}, "the server's certificate is not trusted"), ({"ca_path": str(certificate)}, "changed: true"):
            options = json.dumps({"path": str(lock), "releases": [release], "retries": 0, **more})
            there = ["-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}", "localhost"]
            done = run("ansible", *there, "-m", "modelfleet.serving.release_lock", "-a", options)
            assert (done.returncode == 0) == lock.exists() == bool(more)
            assert said in done.stdout, done.stdout
    finally:
        server.shutdown()
        server.server_close()
