# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real server of OpenAI's protocol (llama.cpp's own, with a tiny model) as the role runs it, see machine.py."""

from __future__ import annotations

import json
import os
import sys
import zipfile

import pytest
from conftest import REPOSITORY
from fleet import only_in_all
from machine import RECORD, Machine, must_be, role, step

sys.path.insert(0, str(REPOSITORY / "lab/model"))
import make_gguf

SERVERS = REPOSITORY / ".cache/servers"
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not list(SERVERS.glob("xllamacpp-*.whl")), reason="needs root, and the wheel that lab/wheels gets"
)


class Host(Machine):
    def __init__(self, run, top):
        super().__init__(run, top)
        with zipfile.ZipFile(next(SERVERS.glob("xllamacpp-*.whl"))) as wheel:
            wheel.extractall(top / "wheel")
        (self.files / "abc.json").write_text(json.dumps({"prompt": "abc", "max_tokens": 6}))
        (self.files / "forward.txt").write_text("defghi\n")
        (self.files / "backward.txt").write_text("bazyxw\n")

    def model(self, version, step, answer):
        """An entry of the list, whose bundle lies in the store."""
        content = self.top / "content"
        content.mkdir()
        make_gguf.make(content / "model.gguf", step)
        return {
            "name": "letters",
            "version": version,
            "bundle": "models/letters",
            "sha256": self.bundle("letters", version, content),
            "runtime": "openai",
            "port": self.port,
            "environment": {"PYTHONPATH": str(self.top / "wheel")},
            "check": {"input_file": "abc.json", "expected_file": answer},
        }

    def play(self, variables, tasks):
        command = [
            *(sys.executable, str(REPOSITORY / "lab/llama_server"), "--model", "{directory}/model.gguf"),
            *("--alias", "{name}", "--host", "{host}", "--port", "{port}"),
        ]
        return super().play({**variables, "openai_server_command": command, "openai_server_start_timeout": 600}, tasks)


@pytest.fixture
def host(run, tmp_path):
    running = Host(run, tmp_path)
    yield running
    running.stop()


def ask(model):
    """Ask what serves for the known answer of the model."""
    checks = f"{{{{ [{model}] | modelfleet.serving.inference_checks(modelfleet_files_dir) }}}}"
    # Until a rollout is finished, the record names the version that is gone.
    right = ["found.models | length == 1", "found.models[0].workers_ready == 1", f"found.models[0].version == {model}.version"]
    return [
        {"modelfleet.serving.openai_info": {"record": RECORD}, "register": "found"},
        {"ansible.builtin.assert": {"that": right}},
        {"modelfleet.serving.inference_check": {"checks": checks}},
    ]


@only_in_all
def test_a_model_from_its_bundle_to_its_known_answer_and_its_next_version_and_back(host):
    one, two = host.model("1.0", 1, "forward.txt"), host.model("2.0", 25, "backward.txt")
    old, new = (f"openai-server-letters-{model['version']}-{model['sha256'][:12]}.service" for model in (one, two))
    refusal = "'Refused model letters 2.0: this host serves version 1.0 at port' in ansible_failed_result.msg"
    tasks = [
        role("modelfleet", "host"),
        role("openai_server", "models"),
        must_be("__openai_server_served is changed"),
        *ask("one"),
        must_be("found.healthy"),
        role("openai_server", "main"),
        role("openai_server", "models"),
        must_be(
            "__openai_server_served is not changed", "__openai_server_daemons is not changed", "not __openai_server_daemon.restart_owed"
        ),
        # A version that serves gives way in a rollout only.
        {"block": [role("openai_server", "models", "{{ [two] }}")], "rescue": [must_be(refusal)]},
        role("openai_server", "units", "{{ [two] }}"),
        *(step("prepared"), *ask("two"), step("switched"), step("finished")),
        *(step("rolled_back"), *ask("one")),
        {"ansible.builtin.command": f"systemctl stop {old}"},
        ask("one")[0],
        must_be("not found.healthy", "found.models[0].detail == 'systemd says inactive, dead'"),
    ]
    done = host.play({"one": one, "two": two}, tasks)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Refused model letters 2.0") > 0 and " rescued=1 " in done.stdout
    started = [f"enable --now {old}", f"disable --now {old}", f"enable --now {new}", f"disable --now {new}", f"enable --now {old}"]
    assert host.calls() == [*started, f"stop {old}"]
