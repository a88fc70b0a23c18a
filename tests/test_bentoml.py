# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real servers of BentoML behind a real HAProxy as the role runs them, see machine.py, while clients ask."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from conftest import REPOSITORY
from fleet import only_in_all
from machine import RECORD, Machine, must_be, role, step

sys.path.insert(0, str(REPOSITORY / "lab/model"))
import make_bento

WHEELS = REPOSITORY / ".cache/bentoml"
pytestmark = [
    only_in_all,
    pytest.mark.skipif(
        os.geteuid() != 0 or not os.access("/usr/sbin/haproxy", os.X_OK) or not list(WHEELS.glob("bentoml-*.whl")),
        reason="needs root, HAProxy, and the wheels that lab/wheels gets",
    ),
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    place = tmp_path_factory.mktemp("bentoml")
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    pip = [place / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-index", f"--find-links={WHEELS}", f"bentoml=={make_bento.BENTOML}"], check=True)
    return place


class Host(Machine):
    def __init__(self, run, top, environment):
        super().__init__(run, top)
        # As plays see it, and servers.
        (top / "opt/bentoml").symlink_to(environment)
        self.program = "/opt/bentoml/bin/bentoml"
        (self.files / "abc.json").write_text(json.dumps({"text": "abc"}))
        (self.files / "forward.txt").write_text("bcd\n")
        (self.files / "backward.txt").write_text("zab\n")

    def model(self, version, step, answer):
        """An entry of the list, whose bundle lies in the store."""
        make_bento.make(self.top / "content", version, step)
        return {
            "name": "moved",
            "version": version,
            "bundle": "models/moved",
            "sha256": self.bundle("moved", version, self.top / "content"),
            "runtime": "bentoml",
            "port": self.port,
            "route": "answer",
            "check": {"input_file": "abc.json", "expected_file": answer},
        }

    def play(self, variables, tasks):
        return super().play({**variables, "bentoml_program": self.program, "bentoml_start_timeout": 600}, tasks)


class Clients:
    """Ask the port of the model without a pause, some of them over one connection as long as it lasts; ``seen`` counts what they got."""

    def __init__(self, port):
        self.port = port
        self.seen = Counter()
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(*kind,)) for kind in ((True, "answer"), (False, "answer"), (False, "slow"))]
        for thread in self.threads:
            thread.start()

    def run(self, keeps, route):
        body = json.dumps({"text": "abc", **({"seconds": 1} if route == "slow" else {})})
        connection = None
        while not self.stopped.is_set():
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                connection.request("POST", f"/{route}", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                model = (answer.getheader("x-modelfleet-model") or "").rpartition("-")[0]
                got = answer.status, answer.read().decode(), model
                if not keeps or answer.getheader("connection") == "close":
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as exc:
                got, connection = repr(exc), None
            self.seen[route, got] += 1
            time.sleep(0.2)

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def host(run, tmp_path, environment):
    running = Host(run, tmp_path, environment)
    yield running
    running.stop()


def ask(model, versions):
    checks = f"{{{{ [{model}] | modelfleet.serving.inference_checks(modelfleet_files_dir) }}}}"
    default = f"(found.models | selectattr('default') | map(attribute='version') | list) == [{model}.version]"
    return [
        {"modelfleet.serving.bentoml_info": {"record": RECORD}, "register": "found"},
        must_be("found.healthy", f"found.models | length == {versions}", default),
        {"modelfleet.serving.inference_check": {"checks": checks}},
    ]


def test_the_next_version_and_back_without_a_request_that_is_refused(host):
    one, two = host.model("1.0", 1, "forward.txt"), host.model("2.0", 25, "backward.txt")
    old, new = (f"bentoml-moved-{model['version']}-{model['sha256'][:12]}.service" for model in (one, two))
    checks = "{{ [two] | modelfleet.serving.inference_checks(modelfleet_files_dir) }}"
    first = [
        role("modelfleet", "host"),
        role("bentoml", "models"),
        must_be("__bentoml_served is changed"),
        *ask("one", 1),
        role("bentoml", "main"),
        role("bentoml", "models"),
        must_be("__bentoml_served is not changed", "__bentoml_daemons is not changed", "not __bentoml_daemon.restart_owed"),
    ]
    done = host.play({"one": one, "two": two}, first)
    assert done.returncode == 0, done.stdout
    assert host.calls() == [f"enable --now {old}", "start modelfleet-bentoml.service", "enable modelfleet-bentoml.service"]
    turns = [
        role("bentoml", "units", "{{ [two] }}"),
        step("prepared"),
        # Beside the other, before any client comes to it.
        {"modelfleet.serving.inference_check": {"checks": checks}},
        *ask("one", 2),
        *(step("switched"), *ask("two", 2)),
        *(step("finished", grace_s=1), *ask("two", 1)),
        *(step("rolled_back", grace_s=1), *ask("one", 1)),
    ]
    clients = Clients(host.port)
    try:
        done = host.play({"one": one, "two": two}, turns)
    finally:
        clients.stop()
    assert done.returncode == 0, done.stdout
    reload = "reload modelfleet-bentoml.service"
    assert host.calls() == [
        *(f"enable --now {new}", reload, f"disable --now {old}"),
        *(f"enable --now {old}", reload, f"disable --now {new}"),
    ]
    right = {(200, "bcd", "moved-1.0"), (200, "zab", "moved-2.0")}
    assert {got for _route, got in clients.seen} == right, clients.seen
    assert all(count > 3 for count in clients.seen.values()), clients.seen


def test_what_is_no_bento_or_has_no_program_is_refused_and_nothing_is_started(host):
    wrong = host.model("1.0", 1, "forward.txt")
    (host.top / "content").mkdir()
    (host.top / "content/model.pt").write_bytes(b"weights")
    wrong.update(version="3.0", sha256=host.bundle("moved", "3.0", host.top / "content"))
    no_bento = {"block": [role("bentoml", "models")], "rescue": [must_be("'has no bento.yaml; publish' in ansible_failed_result.msg")]}
    done = host.play({"one": wrong}, [role("modelfleet", "host"), no_bento])
    assert done.returncode == 0 and " rescued=1 " in done.stdout, done.stdout
    host.program = "/opt/nowhere/bin/bentoml"
    words = "'this host has no program /opt/nowhere/bin/bentoml. Nothing was changed for it here' in ansible_failed_result.msg"
    no_program = {"block": [role("bentoml", "main")], "rescue": [must_be(words)]}
    done = host.play({"one": wrong}, [no_program])
    assert done.returncode == 0 and " rescued=1 " in done.stdout, done.stdout
    assert host.calls() == []
