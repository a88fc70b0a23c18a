"""What the scenario's tests share: the manager as somebody on its host asks it, and plays."""

from __future__ import annotations

import json

import pytest
import yaml
from fleet import Scenario

SCENARIO = Scenario("manager")
MANAGER = "scheduler-1"
REST = "http://127.0.0.1:8090"
TOKEN = "/etc/dragonfly/manager-token"
SECRETS = yaml.safe_load((SCENARIO.directory / "inventory/group_vars/all/manager.yml").read_text(encoding="utf-8"))
JSON = "Content-Type: application/json"


@pytest.fixture(scope="session")
def fleet():
    return SCENARIO.hosts()


@pytest.fixture(scope="session")
def manager(fleet):
    return fleet[MANAGER]


@pytest.fixture(scope="session")
def play():
    """A callable that runs a play with these variables; it must end with ``code``."""
    return SCENARIO.play_to_the_end


@pytest.fixture(scope="session")
def module(tmp_path_factory):
    """A callable that runs a module on the manager's host and returns what it returned; it fails where ``failed`` says so."""

    def run(name, /, failed=False, **options):
        directory = tmp_path_factory.mktemp("module")
        task = {f"modelfleet.serving.{name}": options, "register": "result", "failed_when": False}
        show = {
            "ansible.builtin.copy": {"content": "{{ result | to_json }}", "dest": str(directory / "result")},
            "delegate_to": "localhost",
        }
        (directory / "play.yml").write_text(
            yaml.safe_dump([{"hosts": MANAGER, "gather_facts": False, "become": True, "tasks": [task, show]}])
        )
        done = SCENARIO.play(str(directory / "play.yml"))
        assert done.returncode == 0, done.stdout[-3000:]
        result = json.loads((directory / "result").read_text(encoding="utf-8"))
        assert ("msg" in result) == failed, result
        return result

    return run


def ask(host, method, path, body=None, token="", user="root"):
    """(status, parsed answer) of a request to the REST API that a user of a host makes; (0, None) where nothing answers."""
    command = ["curl", "--silent", "--max-time", "30", "--write-out", r"\n%{http_code}", "--request", method, "--header", JSON]
    command += ["--header", f"Authorization: Bearer {token}"] if token else []
    command += ["--data", json.dumps(body)] if body is not None else []
    done = host.run("runuser -u %s -- " + " ".join(["%s"] * (len(command) + 1)), user, *command, f"{REST}{path}")
    text, _newline, status = done.stdout.rpartition("\n")
    return int(status or 0), json.loads(text) if text.strip().startswith(("{", "[", '"')) else None


def address_of(number):
    return f"{SCENARIO.settings['lab_network_prefix']}.{number}"


def token_of(host):
    return host.check_output("cat %s", TOKEN)


def config(host, name):
    """A configuration file of Dragonfly on a host."""
    return yaml.safe_load(host.check_output("cat %s", f"/etc/dragonfly/{name}.yaml"))


def query(host, sql):
    return host.check_output("mariadb --batch --skip-column-names manager --execute %s", sql)
