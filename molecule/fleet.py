# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of every scenario share: hosts, plays, TorchServe's APIs as a user of a host sees them, the origin's control API."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import testinfra
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
GPU_HOSTS = ("gpu-1", "gpu-2", "gpu-3")
DAEMON_HOSTS = ("scheduler-1", "seed-1", *GPU_HOSTS)
FILES = REPOSITORY / ".cache/files"  # where lab/model/make_model.py puts models for the tests
BUCKET = "models"
MODELS = "/var/lib/modelfleet/models"
# What takes minutes, and is not run by "make test".
ALL = os.environ.get("TESTS") == "all"
only_in_all = pytest.mark.skipif(not ALL, reason="make test-all runs it")


def a_few(cases):
    """Of cases of one kind that take long together: every one in "make test-all", in "make test" the first and every eighth after it."""
    return list(cases)[:: 1 if ALL else 8]


# How a signature looks in a URL or a header, whatever the store: X-Amz-Signature, X-Goog-Signature, x-oss-signature, OBS's own, a SAS.
SIGNATURES = ("Signature=", "signature=", "&sig=", "?sig=")

# Runs on the host: one request with the key that TorchServe wrote there, if it asks for one, so that no test ever holds a key.
REQUEST = """
import json, os, sys, urllib.error, urllib.request
method, url, kind, body = sys.argv[1:]
request = urllib.request.Request(url, method=method, data=body.encode() or None)
if os.path.exists("/var/lib/torchserve/key_file.json"):
    keys = json.load(open("/var/lib/torchserve/key_file.json"))
    request.add_header("Authorization", "Bearer " + keys[kind]["key"])
request.add_header("Content-Type", "application/json")
try:
    with urllib.request.urlopen(request, timeout=300) as answer:
        print(answer.status), print(answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code), print(error.read().decode())
"""

# Runs on a host: connects to each place, HOST:PORT or the path of a socket; one line for each.
CONNECT = """
import socket, sys
for place in sys.argv[1:]:
    host, _colon, port = place.rpartition(":")
    try:
        if place.startswith("/"):
            socket.socket(socket.AF_UNIX).connect(place)
        else:
            socket.create_connection((host, int(port)), timeout=5)
        print("connected")
    except OSError as exc:
        print(type(exc).__name__)
"""

# Runs here and on hosts: notes, as long as its file is there, what stands in the arguments and the environment of every process, or of
# those that come from one. What lives shorter is missed.
WATCH = """
import glob, os, sys, time

def everything():
    return glob.glob("/proc/[0-9]*")

def tree(pid):
    found = [f"/proc/{pid}"]
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        for child in (read(path) or b"").split():
            found += tree(int(child))
    return found

def read(path):
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except OSError:
        return None

seen = {None}
with open(sys.argv[1], "ab") as notes:
    while os.path.exists(sys.argv[1]):
        for path in tree(int(sys.argv[2])) if sys.argv[2:] else everything():
            for text in read(path + "/cmdline"), read(path + "/environ"):
                if text not in seen:
                    seen.add(text)
                    notes.write(text + b"\\n")
                    notes.flush()
        time.sleep(0.05)
"""
WATCHED = "/run/processes"


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
        return subprocess.run(**self._process(program, playbook, args, json_results), capture_output=True, check=False)

    def play_to_the_end(self, name, *args, code=0, **variables):
        """Run a play of the top folder with these variables; it must end with ``code``."""
        finished = self.play(f"playbooks/{name}.yml", *args, "-e", json.dumps(variables))
        assert finished.returncode == code, finished.stdout[-6000:] + finished.stderr[-2000:]
        return finished

    @contextmanager
    def beside(self, playbook, *args):
        """A play that runs beside the test, with results in JSON. It does not outlive the block."""
        with tempfile.TemporaryFile("w+") as output:
            run = Run(self._process("ansible-playbook", playbook, args, json_results=True), output)
            try:
                yield run
            finally:
                run.kill()

    def _process(self, program, playbook, args, json_results):
        environment = {name: value for name, value in os.environ.items() if name != "ANSIBLE_FORCE_COLOR"}
        # Tests read the lines of every task.
        environment["ANSIBLE_STDOUT_CALLBACK"] = "ansible.builtin.default"
        if json_results:
            environment["ANSIBLE_CALLBACK_RESULT_FORMAT"] = "json"
        return {
            "args": [program, "-i", "inventory/lab", "-i", str(self.directory / "inventory"), playbook, *args],
            "cwd": REPOSITORY,
            "env": {**environment, "MOLECULE_PROJECT_DIRECTORY": str(REPOSITORY)},
            "text": True,
        }


class Kept:
    """Plays with everything that Ansible can show, and what that and the processes show, kept for the tests that look for secrets."""

    def __init__(self, scenario):
        self.scenario = scenario
        self.logs = REPOSITORY / ".cache" / scenario.lab_name / "logs"
        self.home = self.logs / "home"
        # What Ansible keeps of a run where its user wants that, and where: ~/.ansible has files of other runs of this machine, too.
        self._environment = {
            "ANSIBLE_LOG_PATH": self.logs / "ansible.log",
            "ANSIBLE_CACHE_PLUGIN": "jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": self.logs / "facts",
            "ANSIBLE_HOME": self.home,
        }

    def play(self, name, playbook, *args, **environment):
        """Run a play, return the finished process; what it prints is in ``<name>.log``."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with self._watched(name), pytest.MonkeyPatch.context() as patched:
            for variable, value in (self._environment | environment).items():
                patched.setenv(variable, str(value))
            finished = self.scenario.play(playbook, "-vvv", "--diff", *args)
        (self.logs / f"{name}.log").write_text(finished.stdout + finished.stderr, encoding="utf-8")
        return finished

    def holding(self, secrets):
        """{path: those of the texts that are in it} of all that was kept, and of the reports of this fleet."""
        printed, processes, facts = (sorted(self.logs.glob(pattern)) for pattern in ("*.log", "*.processes", "facts/*"))
        assert len(processes) == 4 * (len(printed) - 1) > 0
        assert all("PLAY RECAP" in path.read_text(encoding="utf-8") for path in printed)
        # Ansible puts its own prefix before the name of a host.
        assert {path.name.rpartition("_")[2] for path in facts} >= set(GPU_HOSTS)
        for path in processes:
            # That it saw arguments here, and the environment of another user there.
            assert (b"DRAGONFLY_ENDPOINT_CONFIG=" if ".gpu-" in path.name else b"ansible-playbook") in path.read_bytes(), path
        reports = sorted((REPOSITORY / "reports" / self.scenario.lab_name).iterdir())
        temporary = [path for path in self.home.rglob("*") if path.is_file()]
        assert reports and self.home.is_dir()
        wanted = [text.encode() for text in secrets]
        everything = (*printed, *processes, *facts, *reports, *temporary)
        found = {path: [text for text in wanted if text in path.read_bytes()] for path in everything}
        return {path: texts for path, texts in found.items() if texts}

    @contextmanager
    def _watched(self, name):
        """What processes show of themselves here, where they come from a play of this scenario, and on the GPU hosts, kept as well."""
        notes = self.logs / f"{name}.processes"
        hosts = self.scenario.hosts(GPU_HOSTS).values()
        here = subprocess.Popen([sys.executable, "-c", WATCH, str(notes), str(os.getpid())])
        for host in hosts:
            host.check_output("systemd-run --quiet python3 -c %s %s", WATCH, WATCHED)
        try:
            yield
        finally:
            here.kill()
            here.wait()
            for host in hosts:
                seen = host.shell.run("cat %s; rm %s", WATCHED, WATCHED)
                (self.logs / f"{name}.{host.name}.processes").write_bytes(seen.stdout_bytes)


class Run:
    """A play on its way."""

    def __init__(self, process, output):
        self.output = output
        self.process = subprocess.Popen(**process, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

    @property
    def ended(self):
        return self.process.poll() is not None

    def finish(self):
        """Wait for its end, return the finished process with its output."""
        returncode = self.process.wait(timeout=900)
        self.output.seek(0)
        return subprocess.CompletedProcess(self.process.args, returncode, self.output.read(), "")

    def kill(self):
        """End it with all its processes, as the end of its machine would; some are in sessions of their own."""
        for pid in [] if self.ended else descendants(self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()


def descendants(pid):
    """Ids of a process and of all that it has started; the first ones first, which could start others."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += descendants(int(child))
    return found


def table_of(finished):
    """The lines that a play with results in JSON shows in the end; what is wrong stands below the table."""
    shown = finished.stdout.rpartition("Show the report]")[2]
    return json.loads(re.search(r'"msg": (\[.*?\n    \])', shown, re.DOTALL)[1])


def clients():
    """Dragonfly's client from which the lab upgrades, and the one to which, as lab/dragonfly/releases describes them."""
    return [json.loads((REPOSITORY / f".cache/releases{name}.json").read_text())["client"] for name in ("-before", "")]


def published(finished):
    """The entries for modelfleet_models that the play publish shows, with results in JSON."""
    assert finished.returncode == 0, finished.stdout[-3000:]
    return json.loads(re.search(r'"modelfleet_models": (\[.*?\n    \])', finished.stdout, re.DOTALL)[1])


def declared_models(inventory):
    """The models that an inventory, a folder, declares for all hosts, with the path of each in the model store."""
    text = (inventory / "group_vars/all/modelfleet.yml").read_text(encoding="utf-8")
    declared = yaml.safe_load(text)["modelfleet_models"]
    for model in declared:
        suffix = ".mar" if "object" in model else ""
        model["path"] = f"{MODELS}/{model['name']}-{model['version']}-{model['sha256'][:12]}{suffix}"
    return declared


def known_answer(model):
    """What a model, an entry of modelfleet_models, is asked, and the "y" of its known answer."""
    asked, expected = ((FILES / model["check"][name]).read_text(encoding="utf-8") for name in ("input_file", "expected_file"))
    return asked, pytest.approx(json.loads(expected)["y"], abs=1e-4)


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

    def gives(self, model):
        """Asserts that a model, an entry of modelfleet_models, gives its known answer here."""
        asked, expected = known_answer(model)
        status, answer = self.predict(model["name"], asked)
        assert status == 200, answer
        assert answer["y"] == expected
        return True

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

    def program(self, unit):
        """The command line of a unit's main process."""
        return self.check_output("tr '\\0' ' ' < /proc/%s/cmdline", self.main_pid(unit))

    def stored(self):
        """The names of the files in the model store."""
        return set(self.check_output("ls %s", MODELS).split())


@contextmanager
def small_disk(host, size, *units):
    """The host with a filesystem of ``size`` in place of /var/lib/modelfleet, below its ``units`` that run there."""
    units = " ".join(units)
    host.check_output(f"systemctl stop {units}")
    host.check_output(f"mount -t tmpfs -o size={size} tmpfs /var/lib/modelfleet")
    try:
        host.check_output("systemd-tmpfiles --create /etc/tmpfiles.d/modelfleet.conf")
        host.check_output(f"systemctl start {units}")
        yield
    finally:
        host.check_output(f"systemctl stop {units}")
        host.check_output("umount /var/lib/modelfleet")
        host.check_output(f"systemctl start {units}")


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
        """What was sent of an object: {bytes, requests, clients}, and of the requests those of each kind."""
        return self.sent_below(key).get(key, {"bytes": 0, "requests": 0, "clients": {}})

    def sent_below(self, prefix):
        """{key: the same} of the objects whose keys begin with ``prefix``."""
        objects = self.call("GET", "/counters")["objects"]
        start = f"{BUCKET}/{prefix}"
        return {name.removeprefix(f"{BUCKET}/"): row for name, row in objects.items() if name.startswith(start)}

    def bytes_sent(self, key):
        return self.sent(key)["bytes"]

    def count_anew(self):
        self.call("DELETE", "/counters")

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


def make_model(directory, name, version="1.0", size_mib=8, config=None, seed=1, fault=None):
    """Build a small model with known answers, big enough for dfdaemon to share it (more than 4 MiB); return the path of its .mar.

    ``config`` is the text of its model-config.yaml, another ``seed`` gives other answers, ``fault`` is what is wrong with it.
    """
    maker = REPOSITORY / "lab/model/make_model.py"
    command = [sys.executable, maker, "--name", name, "--version", version, "--size-mib", str(size_mib), "--out", directory]
    command += ["--seed", str(seed), *(["--fault", fault] if fault else [])]
    if config:
        written = Path(directory) / "model-config.yaml"
        written.write_text(config, encoding="utf-8")
        command += ["--config", written]
    subprocess.run(command, check=True, capture_output=True)
    return Path(directory) / f"{name}-{version}.mar"
