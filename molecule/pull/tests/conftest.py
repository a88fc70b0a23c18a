"""What the scenario's tests share: plays of the inventory that the hosts get, who serves their files, and a run without the wait."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from fleet import DAEMON_HOSTS, REPOSITORY, Host, Scenario, wait_until

SCENARIO = Scenario("pull")
CACHE = REPOSITORY / ".cache" / SCENARIO.lab_name
INVENTORY, WWW = CACHE / "fleet", CACHE / "www"
STATE = "/var/lib/modelfleet-pull"


@pytest.fixture(scope="session")
def fleet():
    return SCENARIO.hosts()


@pytest.fixture(scope="session")
def play():
    """A callable that runs a play on the inventory that the hosts get; it must end with ``code``."""

    def run(playbook, *args, code=0):
        inherited = {name: value for name, value in os.environ.items() if name != "ANSIBLE_FORCE_COLOR"}
        quiet = {"ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default", "ANSIBLE_VAULT_PASSWORD_FILE": str(CACHE / "password")}
        command = ["ansible-playbook", "-i", INVENTORY, f"playbooks/{playbook}.yml", *args]
        done = subprocess.run(command, cwd=REPOSITORY, env={**inherited, **quiet}, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout[-6000:] + done.stderr[-2000:]
        return done

    return run


@pytest.fixture(scope="session")
def files():
    """A callable that serves what is published now, by HTTPS from a host that is none of the fleet."""
    origin = Host(SCENARIO.lab_name, "origin")
    program = (
        "import functools, http.server, ssl\n"
        # By its name, since another directory comes in its place.
        "handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory='/srv/fleet')\n"
        "server = http.server.ThreadingHTTPServer(('', 9444), handler)\n"
        "context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain('/srv/files.crt', '/srv/files.key')\n"
        "server.socket = context.wrap_socket(server.socket, server_side=True); server.serve_forever()\n"
    )

    def copy(source, target):
        subprocess.run(["podman", "cp", source, f"{origin.container}:{target}"], check=True)

    def publish(directory=WWW):
        origin.check_output("rm -rf /srv/fleet")
        copy(directory, "/srv/fleet")

    publish.origin = origin
    origin.check_output("mkdir -p /srv")
    for name in ("files.crt", "files.key"):
        copy(CACHE / name, f"/srv/{name}")
    origin.check_output("mkdir -p /srv/fleet")
    origin.check_output("systemd-run --quiet --unit=fleet-files python3 -c %s", program)
    wait_until(lambda: origin.run("ss -Hltn sport = :9444").stdout, "somebody to serve files", 30)
    yield publish
    origin.run("systemctl stop fleet-files")


@pytest.fixture(scope="session")
def installed(play, files):
    """The hosts, once they set themselves up."""
    play("pull_bundle")
    files()
    return play("pull_install")


def run_all(fleet, names=DAEMON_HOSTS):
    """Have hosts run now, all at once; returns {name: what its status file says}."""
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: fleet[name].run("systemctl start modelfleet-pull.service"), names))
    found = {name: json.loads(fleet[name].check_output(f"cat {STATE}/status.json")) for name in names}
    for name, one in found.items():
        if one["result"] == "failed":
            print(name, fleet[name].run(f"tail -c 3000 {STATE}/log").stdout)
    return found


@pytest.fixture
def another(tmp_path):
    """A copy of what is published, to be spoilt."""
    return shutil.copytree(WWW, tmp_path / "www")
