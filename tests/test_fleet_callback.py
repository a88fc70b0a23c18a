# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person sees of a run, on a terminal and without one: real runs of Ansible on this machine, with the collection's callback."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import yaml
from fleet import only_in_all
from test_repository import COLLECTION, REPOSITORY
from test_rollout import HOSTS, SLOW, Fleet

CALLBACK = {"ANSIBLE_STDOUT_CALLBACK": "modelfleet.serving.fleet"}


@pytest.fixture
def fleet(run, tmp_path):
    fleet = Fleet(run, tmp_path)
    fleet.environment = {**CALLBACK, "LANG": "C.UTF-8"}
    return fleet


def stays(output):
    """The lines of a run without what differs each time."""
    return [re.sub(r"[\d:]+$", "-", re.sub(r"^ +[\d:]+ ", "", line)) for line in output.splitlines()]


@only_in_all
def test_a_rollout_without_a_terminal(fleet):
    done, _calls = fleet.play("rollout", answers={"gpu-3": SLOW}, modelfleet_rollout_gates=["answers", "traffic"])
    lines = stays(done.stdout)
    assert "\x1b" not in done.stdout and "TASK [" not in done.stdout and "=> " not in done.stdout
    wrong = "demo: p95 90 ms, errors 0.0 % of 500 requests (access log), allowed: p95 50 ms, errors 0.0 %."
    expected = [
        "rollout.yml",
        "✓ Check every host: 5 hosts, -",
        "✓ Plan the rollout: 4 hosts, -",
        "✓ Bring the artifacts to the GPU hosts: 4 hosts, -",
        "Activate in batches, batch 2 of 3 (2 hosts)",
        "Activate in batches, batch 2 of 3: answers (gpu-2, gpu-3)",
        "Activate in batches, batch 2 of 3: traffic (gpu-2, gpu-3)",
        f"✗ gpu-3  Stop at the gate: traffic: {wrong}",
        "Activate in batches, batch 2 of 3: undo (gpu-2, gpu-3)",
        "✗ Activate in batches, batch 2 of 3: 2 hosts, demo 1.0 → 2.0, 2 went back, 1 changed, 1 failed, -",
    ]
    assert [line for line in lines if line in expected] == expected, done.stdout
    assert not [line for line in lines if "batch 3 of 3" in line]
    assert "        gpu-4  demo   1.0   2.0  untouched  -         -" in "\n".join(lines), "a table is a table"
    assert done.stdout.count(wrong) == 2, "when it happened and below the table"
    assert re.search(r"^gpu-3 +: .* failed=1 ", done.stdout, re.MULTILINE), "the recap stays"
    assert len(lines) < 110, "not a line for each task and host"


def test_an_error_is_a_sentence_and_no_page(fleet):
    done, _calls = fleet.play("rollout", hosts=HOSTS[:1], modelfleet_rollout_soak_seconds="soon")
    assert done.returncode != 0
    said = [line for line in stays(done.stdout) if "modelfleet_rollout_soak_seconds" in line]
    assert len(said) == 1 and said[0].startswith("✗ ") and "modelfleet_rollout_soak_seconds is not what its role takes" in said[0]
    assert len(done.stdout.splitlines()) < 12, done.stdout


@only_in_all
def test_an_argument_specification_is_a_sentence(run, tmp_path):
    specification = {"seconds": {"type": "int"}, **{f"option_{number}": {"type": "str"} for number in range(99)}}
    check = {"argument_spec": specification, "provided_arguments": {"seconds": "soon"}}
    tasks = [{"name": "Check", "ansible.builtin.validate_argument_spec": check}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"name": "Do it", "hosts": "all", "gather_facts": False, "tasks": tasks}]))
    done = run("ansible-playbook", "-i", "gpu-1,gpu-2,", tmp_path / "play.yml", **CALLBACK, LANG="C.UTF-8")
    said = [line for line in stays(done.stdout) if "seconds" in line]
    # Whichever host is first.
    assert sorted(line.partition(": argument 'seconds' is of type str")[0] for line in said) == [
        "✗ gpu-1  The arguments are wrong",
        "✗ gpu-2  The arguments are wrong",
    ], done.stdout
    assert "option_1" not in done.stdout and len(done.stdout.splitlines()) < 12


@only_in_all
def test_with_v_it_is_the_default(fleet):
    done, _calls = fleet.play("rollback", "-v")
    assert "TASK [" in done.stdout and "✓" not in done.stdout


class OnATerminal:
    """A run on a terminal of a size; ``see`` waits for a text."""

    def __init__(self, command, environment, columns=100, lines=30):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.output = ""

    def read(self):
        try:
            found = os.read(self.master, 65536)
        except OSError:
            return False
        self.output += found.decode(errors="replace")
        return bool(found)

    def see(self, text):
        while text not in self.output:
            assert self.read(), self.output

    def finish(self):
        while self.read():
            pass
        os.close(self.master)
        return self.process.wait()


# It brings what is asked for as soon as the test has seen that it is on its way.
BRINGS = """
import json, os, time
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({"progress_path": {"type": "path"}, "seen": {"type": "path", "required": True}}, supports_check_mode=True)
counts = {"origin": 0, "remote_peer": 30 << 20, "local_peer": 0}
shown = {"artifacts": [{"name": "demo", "size": 100 << 20, "fetched": 30 << 20}], "bytes": counts, "seconds": 3.0}
path = module.params["progress_path"]
if path:
    with open(path, "w") as handle:
        json.dump(shown, handle)
end = time.time() + 120
while path and not os.path.exists(module.params["seen"]) and time.time() < end:
    time.sleep(0.1)
artifacts = [{"name": "demo", "action": "fetched", "size": 100 << 20, "fetched": 100 << 20}]
module.exit_json(changed=True, artifacts=artifacts, bytes={**counts, "remote_peer": 100 << 20}, path=path)
"""


@pytest.fixture
def terminal(tmp_path):
    """A callable that runs a play on a terminal of some columns and lines."""
    place = tmp_path / "ansible_collections/modelfleet/serving"
    for part in ("plugins", "meta"):
        shutil.copytree(COLLECTION / part, place / part)
    (place / "plugins/modules/model_artifact.py").write_text(BRINGS)
    runs = []

    def start(tasks, columns=100, lines=30, hosts=("gpu-1", "gpu-2"), **environment):
        (tmp_path / "play.yml").write_text(yaml.safe_dump([{"name": "Do it", "hosts": "all", "gather_facts": False, "tasks": tasks}]))
        programs = Path(sys.executable).parent
        environment = {
            **os.environ,
            **CALLBACK,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "ANSIBLE_COLLECTIONS_PATH": str(tmp_path),
            "ANSIBLE_NOCOLOR": "1",
            "TERM": "xterm",
            "LANG": "C.UTF-8",
            **environment,
        }
        command = ["ansible-playbook", "-i", ",".join(hosts) + ",", "-c", "local"]
        command += ["-e", f"ansible_python_interpreter={sys.executable}", str(tmp_path / "play.yml")]
        runs.append(OnATerminal(command, environment, columns, lines))
        return runs[-1]

    yield start
    for one in runs:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@only_in_all
@pytest.mark.skipif(os.geteuid() != 0, reason="the file that is read on a host lies where only root writes")
def test_downloads_are_seen_while_they_go_on(terminal, tmp_path):
    seen = tmp_path / "seen"
    run = terminal([{"name": "Bring", "modelfleet.serving.model_artifact": {"seen": str(seen)}, "register": "brought"}])
    for host in ("gpu-1", "gpu-2"):
        run.see(f"{host}  ██████░░░░░░░░░░░░░░  30 % of 100.0 MiB, 10.0 MiB/s, origin 0 B, peers 30.0 MiB, local 0 B")
    seen.touch()
    assert run.finish() == 0
    assert "✓ Do it: 2 hosts, 2 changed, 200.0 MiB (origin 0 B, peers 200.0 MiB, local 0 B)" in run.output
    assert list(Path("/run").glob("modelfleet-artifacts-*")) == [], "nothing is left on the host"


def marks(*phases):
    return [{"name": "Next", "ansible.builtin.set_fact": {"__rollout_timeline": [{"phase": phase}]}} for phase in phases]


def waits(seen):
    return {"name": "Wait", "ansible.builtin.wait_for": {"path": str(seen), "timeout": 120}}


@only_in_all
@pytest.mark.parametrize(
    ("columns", "environment", "row"),
    [
        (100, {}, "  gpu-1  ✓      ▶      ·        ·    ·        ·       ·       ·        ·"),
        (40, {}, "  gpu-1  ✓▶······· ready"),
        (100, {"PYTHONIOENCODING": "ascii"}, "  gpu-1  +      >      .        .    .        .       .       .        ."),
    ],
)
def test_host_by_phase_on_a_terminal(terminal, tmp_path, columns, environment, row):
    seen = tmp_path / "seen"
    run = terminal([*marks("drain", "ready"), waits(seen), *marks("idle")], columns, **environment)
    run.see(row)
    seen.touch()
    assert run.finish() == 0
    # What was drawn is taken away, and the recap is what is left.
    assert run.output.rindex("\x1b[J") < run.output.index("PLAY RECAP")
    drawn = re.findall(r"^(.*)\x1b\[K\r?$", run.output, re.MULTILINE)
    assert drawn and all(len(re.sub(r"\x1b\[[0-9;]*[A-Za-z]|\r", "", line)) < columns for line in drawn)


def test_what_failed_stands_above_what_is_drawn(terminal, tmp_path):
    seen = tmp_path / "seen"
    run = terminal([*marks("drain"), waits(seen), {"name": "Fail", "ansible.builtin.fail": {"msg": "Failed to x. Do y."}}])
    run.see("drain  ready")
    seen.touch()
    assert run.finish() == 2
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", run.output)
    assert "✗ gpu-1  Fail: Failed to x. Do y.\r\n" in text and "✗ gpu-2  Fail: Failed to x. Do y.\r\n" in text
