# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of every scenario share: hosts, plays, TorchServe's APIs as a user of a host sees them, the origin's control API."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import testinfra
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
GPU_HOSTS = ("gpu-1", "gpu-2", "gpu-3")
DAEMON_HOSTS = ("scheduler-1", "seed-1", *GPU_HOSTS)
BUCKET = "models"
MODELS = "/var/lib/modelfleet/models"
# How a signature looks in a URL or a header, whatever the store: X-Amz-Signature, X-Goog-Signature, x-oss-signature, OBS's own, a SAS.
SIGNATURES = ("Signature=", "signature=", "&sig=", "?sig=")

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


class Scenario:
    """One scenario of this folder: its settings, and plays on its fleet."""

    def __init__(self, name):
        self.directory = REPOSITORY / "molecule" / name
        self.settings = yaml.safe_load((self.directory / "inventory/group_vars/all/lab.yml").read_text(encoding="utf-8"))
        self.lab_name = self.settings["lab_name"]
        self.origin = Origin(f"{self.settings['lab_network_prefix']}.10")

    def hosts(self, names=DAEMON_HOSTS):
        return {name: Host(self.lab_name, name) for name in names}

    def play(self, playbook, *args, program="ansible-playbook", json_results=False):
        """Run a play, return the finished process with its output, without colours."""
        environment = {name: value for name, value in os.environ.items() if name != "ANSIBLE_FORCE_COLOR"}
        if json_results:
            environment["ANSIBLE_CALLBACK_RESULT_FORMAT"] = "json"
        return subprocess.run(
            [program, "-i", "inventory/lab", "-i", str(self.directory / "inventory"), playbook, *args],
            cwd=REPOSITORY,
            env={**environment, "MOLECULE_PROJECT_DIRECTORY": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )


def recap(finished):
    """The recap of a play as {host: {"changed": n, "failed": n, ...}}."""
    found = re.findall(r"^(\S+)\s+: (ok=.*)$", finished.stdout, flags=re.MULTILINE)
    return {host: {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", counts)} for host, counts in found}


class Host:
    """A lab host, with the calls that a person on it would make."""

    def __init__(self, lab_name, name):
        self.name = name
        self.container = f"{lab_name}-{name}"
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

    def served(self, management_port=8081):
        """The names of the registered models."""
        status, answer = self.request("GET", f"http://127.0.0.1:{management_port}/models")
        assert status == 200, answer
        return {model["modelName"] for model in answer["models"]}

    def register(self, object_key, **query):
        """POST /dragonfly/models, as the endpoint plugin's users know it."""
        query = urllib.parse.urlencode({"file_name": object_key, **query})
        return self.request("POST", f"http://127.0.0.1:8081/dragonfly/models?{query}")

    def predict(self, model, body, port=8080):
        return self.request("POST", f"http://127.0.0.1:{port}/predictions/{model}", "inference", body)

    def unregister(self, model):
        return self.request("DELETE", f"http://127.0.0.1:8081/models/{model}")

    def traffic(self, metrics_port=4002):
        """Bytes that this host's dfdaemon downloaded, by source."""
        text = self.check_output(
            "python3 -c %s %s",
            "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())",
            f"http://127.0.0.1:{metrics_port}/metrics",
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

    def journal_lines(self, patterns):
        """The lines of the whole journal that hold one of these texts; fails if there is no journal to look at."""
        self.check_output("journalctl --no-pager --output=cat --all > /tmp/journal")
        # Every call of a module leaves this line, and with it whatever the call does not hide.
        assert self.run("grep -a -F -q 'Invoked with' /tmp/journal").rc == 0, f"no journal of {self.name}"
        self.check_output("python3 -c %s %s", "import sys; open('/tmp/patterns', 'w').write(sys.argv[1] + '\\n')", "\n".join(patterns))
        assert self.check_output("wc -l < /tmp/patterns") == str(len(patterns))
        found = self.run("grep -a -F -f /tmp/patterns /tmp/journal")
        assert found.rc in (0, 1), found.stderr
        self.check_output("rm /tmp/journal /tmp/patterns")
        return found.stdout.splitlines()

    def main_pid(self, unit):
        return self.check_output("systemctl show -p MainPID --value %s", unit)

    def stored(self):
        """The names of the files in the model store."""
        return set(self.check_output("ls %s", MODELS).split())


class Origin:
    """The object store's back door: counters, faults, its clock, and objects changed behind everybody's back."""

    def __init__(self, address):
        self.base = f"http://{address}:8090"

    def call(self, method, path, body=None):
        request = urllib.request.Request(self.base + path, method=method, data=body)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read().decode()
        return json.loads(text) if text else None

    def put(self, key, content):
        self.call("PUT", f"/objects/{BUCKET}/{urllib.parse.quote(key)}", content)
        return hashlib.sha256(content).hexdigest()

    def sent(self, key):
        """What was sent of an object: {bytes, requests, clients}."""
        return self.call("GET", "/counters")["objects"].get(f"{BUCKET}/{key}", {"bytes": 0, "requests": 0, "clients": {}})

    def bytes_sent(self, key):
        return self.sent(key)["bytes"]

    def fault(self, key, **fault):
        self.call("PUT", "/faults", json.dumps({"key": f"{BUCKET}/{key}", **fault}).encode())

    def heal(self):
        self.call("DELETE", "/faults")

    def clock_ahead(self, seconds):
        self.call("PUT", "/clock", json.dumps({"ahead": seconds}).encode())


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


def make_model(directory, name, version="1.0", size_mib=8, config=None):
    """Build a small model with known answers, big enough for dfdaemon to share it (more than 4 MiB); return the path of its .mar.

    ``config`` is the text of its model-config.yaml.
    """
    maker = REPOSITORY / "lab/model/make_model.py"
    command = [sys.executable, maker, "--name", name, "--version", version, "--size-mib", str(size_mib), "--out", directory]
    if config:
        written = Path(directory) / "model-config.yaml"
        written.write_text(config, encoding="utf-8")
        command += ["--config", written]
    subprocess.run(command, check=True, capture_output=True)
    return Path(directory) / f"{name}-{version}.mar"
