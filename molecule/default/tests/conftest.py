"""What the scenario's tests share: the hosts, TorchServe's APIs as a user of a host sees them, and the origin's control API."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import pytest
import testinfra
import yaml

SCENARIO = pathlib.Path(__file__).resolve().parent.parent
REPOSITORY = SCENARIO.parent.parent
SETTINGS = yaml.safe_load((SCENARIO / "inventory/group_vars/all/lab.yml").read_text(encoding="utf-8"))
LAB_NAME = SETTINGS["lab_name"]
ORIGIN = f"{SETTINGS['lab_network_prefix']}.10"
GPU_HOSTS = ("gpu-1", "gpu-2", "gpu-3")
DAEMON_HOSTS = ("scheduler-1", "seed-1", *GPU_HOSTS)
BUCKET = "models"
MODELS = "/var/lib/modelfleet/models"

# Runs on the host: one request with the key that TorchServe wrote there, so that no test ever holds a key.
REQUEST = """
import json, sys, urllib.error, urllib.request
method, url, kind, body = sys.argv[1:]
keys = json.load(open("/var/lib/torchserve/key_file.json"))
request = urllib.request.Request(url, method=method, data=body.encode() or None)
request.add_header("Authorization", "Bearer " + keys[kind]["key"])
request.add_header("Content-Type", "application/json")
try:
    with urllib.request.urlopen(request, timeout=300) as answer:
        print(answer.status), print(answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code), print(error.read().decode())
"""


class Host:
    """A lab host, with the calls that a person on it would make."""

    def __init__(self, name):
        self.name = name
        self.container = f"{LAB_NAME}-{name}"
        self.shell = testinfra.get_host(f"podman://{self.container}")

    def run(self, command, *args):
        return self.shell.run(command, *args)

    def check_output(self, command, *args):
        return self.shell.check_output(command, *args)

    def request(self, method, url, kind="management", body=""):
        """Return (status, parsed JSON or text) of a request to TorchServe made on the host."""
        out = self.check_output("python3 -c %s %s %s %s %s", REQUEST, method, url, kind, body)
        status, _newline, text = out.partition("\n")
        try:
            return int(status), json.loads(text)
        except ValueError:
            return int(status), text

    def register(self, object_key, **query):
        """POST /dragonfly/models, as the endpoint plugin's users know it."""
        query = urllib.parse.urlencode({"file_name": object_key, **query})
        return self.request("POST", f"http://127.0.0.1:8081/dragonfly/models?{query}")

    def predict(self, model, body):
        return self.request("POST", f"http://127.0.0.1:8080/predictions/{model}", "inference", body)

    def unregister(self, model):
        return self.request("DELETE", f"http://127.0.0.1:8081/models/{model}")

    def traffic(self):
        """Bytes that this host's dfdaemon downloaded, by source."""
        text = self.check_output(
            "python3 -c %s", "import urllib.request as u; print(u.urlopen('http://127.0.0.1:4002/metrics').read().decode())"
        )
        found = {"BACK_TO_SOURCE": 0, "REMOTE_PEER": 0, "LOCAL_PEER": 0}
        for line in text.splitlines():
            if line.startswith("dragonfly_client_download_traffic{"):
                for source in found:
                    if f'"{source}"' in line:
                        found[source] += int(float(line.rsplit(" ", 1)[1]))
        return found

    def active(self, unit):
        return self.run("systemctl is-active %s", unit).stdout.strip() == "active"


def wait_until(condition, what, seconds=180):
    """Wait for a condition, never for luck; the limit only ends a run that would not end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (AssertionError, OSError, ValueError, RuntimeError):
            pass
        time.sleep(1)
    pytest.fail(f"{what} did not happen in {seconds} s")


class Origin:
    """The object store's back door: counters, faults, and objects changed behind everybody's back."""

    base = f"http://{ORIGIN}:8090"

    def call(self, method, path, body=None):
        request = urllib.request.Request(self.base + path, method=method, data=body)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read().decode()
        return json.loads(text) if text else None

    def put(self, key, content):
        self.call("PUT", f"/objects/{BUCKET}/{urllib.parse.quote(key)}", content)
        return hashlib.sha256(content).hexdigest()

    def bytes_sent(self, key):
        return self.call("GET", "/counters")["objects"].get(f"{BUCKET}/{key}", {}).get("bytes", 0)

    def fault(self, key, **fault):
        self.call("PUT", "/faults", json.dumps({"key": f"{BUCKET}/{key}", **fault}).encode())

    def heal(self):
        self.call("DELETE", "/faults")


@pytest.fixture(scope="session")
def fleet():
    return {name: Host(name) for name in DAEMON_HOSTS}


@pytest.fixture(scope="session")
def origin():
    return Origin()


@pytest.fixture(scope="session")
def models():
    """The models that the scenario's inventory declares, with the size of their files."""
    text = (REPOSITORY / "inventory/lab/group_vars/all/modelfleet.yml").read_text(encoding="utf-8")
    declared = yaml.safe_load(text)["modelfleet_models"]
    for model in declared:
        model["file"] = f"{MODELS}/{model['name']}-{model['version']}-{model['sha256'][:12]}.mar"
    return declared


@pytest.fixture(scope="session")
def known(models):
    """A known request to the first model and its known answer."""
    files = REPOSITORY / ".cache/files"
    check = models[0]["check"]
    return {
        "model": models[0]["name"],
        "input": (files / check["input_file"]).read_text(encoding="utf-8"),
        "expected": json.loads((files / check["expected_file"]).read_text(encoding="utf-8")),
    }


@pytest.fixture
def serves(known):
    """A callable that asserts that a host still gives the known answer."""

    def check(host):
        status, answer = host.predict(known["model"], known["input"])
        assert status == 200, answer
        assert answer["y"] == pytest.approx(known["expected"]["y"], abs=1e-4)
        return True

    return check


@pytest.fixture
def make_mar(tmp_path):
    """A callable that returns the bytes of a small .mar that dfdaemon shares (more than 4 MiB)."""

    def make(name, version="1.0", size_mib=8):
        maker = REPOSITORY / "lab/model/make_model.py"
        subprocess.run(
            [sys.executable, maker, "--name", name, "--version", version, "--size-mib", str(size_mib), "--out", tmp_path], check=True
        )
        return (tmp_path / f"{name}-{version}.mar").read_bytes()

    return make


@pytest.fixture
def play():
    """A callable that runs a play on the scenario's fleet and returns the finished process."""

    def run(playbook, *args):
        return subprocess.run(
            ["ansible-playbook", "-i", "inventory/lab", "-i", str(SCENARIO / "inventory"), playbook, *args],
            cwd=REPOSITORY,
            env={**os.environ, "MOLECULE_PROJECT_DIRECTORY": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run
