# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import json
import os
import threading
import types

import pytest
from ansible_collections.modelfleet.serving.plugins.callback import fleet
from ansible_collections.modelfleet.serving.plugins.plugin_utils import _progress, _screen

OPTIONS = {
    "display_failed_stderr": False,
    "check_mode_markers": False,
    "show_custom_stats": False,
    "result_format": "yaml",
    "pretty_results": None,
}


class Stream(io.StringIO):
    encoding = "utf-8"

    def __init__(self, live):
        super().__init__()
        self.live = live

    def isatty(self):
        return self.live


class Display:
    def __init__(self, stream):
        self._lock = threading.RLock()
        self.verbosity = 0
        self.stream = stream
        self.errors = []

    def display(self, msg, color=None, stderr=False, screen_only=False, log_only=False, newline=True):
        if stderr:
            self.errors.append(msg)
        elif not log_only:
            self.stream.write(msg + "\n")

    def banner(self, msg):
        self.display(msg)


class Task:
    def __init__(self, name, action="ansible.builtin.command", **fields):
        self.name, self.action, self._uuid, self.loop, self.no_log = name, action, name, None, False
        self.ignore_unreachable, self.check_mode, self.run_once, self.delegate_to = False, False, False, None
        vars(self).update(fields)

    def get_name(self):
        return self.name


class Play:
    def __init__(self, name, hosts, everybody=None, serial=()):
        self.name, self.hosts, self.everybody, self.serial = name, hosts, hosts if everybody is None else everybody, list(serial)
        self.strategy, self.check_mode = "linear", False

    def get_name(self):
        return self.name

    def get_variable_manager(self):
        return types.SimpleNamespace(get_vars=lambda play: {"ansible_play_batch": self.hosts, "ansible_play_hosts_all": self.everybody})


class Run:
    """Says to the callback what Ansible says; the time is ``clock``."""

    def __init__(self, monkeypatch, live=False):
        self.stream, self.clock = Stream(live), 0.0
        monkeypatch.setenv("TERM", "xterm")
        # What the thread does is called.
        monkeypatch.setattr(fleet, "DRAW_S", 3600)
        monkeypatch.setattr(fleet.context, "CLIARGS", {"check": False, "diff": False})
        self.display = Display(self.stream)
        monkeypatch.setattr("ansible.plugins.callback.global_display", self.display)
        self.callback = fleet.CallbackModule(self.stream, now=lambda: self.clock)
        self.callback._plugin_options = dict(OPTIONS)
        self.callback.v2_playbook_on_start(types.SimpleNamespace(_file_name="/x/rollout.yml"))

    def play(self, *options, **fields):
        self.callback.v2_playbook_on_play_start(Play(*options, **fields))

    def task(self, name, action="ansible.builtin.command", hosts=("gpu-1",), **fields):
        self.now = Task(name, action, **fields)
        self.callback.v2_playbook_on_task_start(self.now, False)
        for host in hosts:
            self.callback.v2_runner_on_start(types.SimpleNamespace(get_name=lambda host=host: host), self.now)

    def end(self, host, result=None, how="ok", **options):
        named = types.SimpleNamespace(get_name=lambda: host, name=host)
        done = types.SimpleNamespace(host=named, task=self.now, result=result or {}, task_name=self.now.name)
        getattr(self.callback, f"v2_runner_{'' if how.startswith('item') else 'on_'}{how}")(done, **options)

    def finish(self, **hosts):
        summary = {"ok": 1, "changed": 0, "unreachable": 0, "failures": 0, "skipped": 0, "rescued": 0, "ignored": 0}
        stats = types.SimpleNamespace(processed=dict.fromkeys(hosts), summarize=lambda host: summary, custom={})
        self.callback.v2_playbook_on_stats(stats)

    @property
    def lines(self):
        return [line[8:] if line[:8].strip().replace(":", "").isdigit() else line for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def run(monkeypatch):
    run = Run(monkeypatch)
    yield run
    run.callback._finish(os.getpid())


def test_a_play_without_a_terminal(run):
    run.play("Check every host", ["gpu-1", "gpu-2"])
    run.task("Look", hosts=("gpu-1", "gpu-2"))
    run.end("gpu-1", {"changed": False})
    run.end("gpu-2", {}, "skipped")
    run.task("Write", hosts=("gpu-1", "gpu-2"))
    run.end("gpu-1", {"changed": True})
    run.end("gpu-2", {"changed": True})
    run.clock = 75
    run.play("Nothing to do", [])
    run.callback.v2_playbook_on_no_hosts_matched()
    run.play("Report", ["gpu-1"])
    run.task("Show", "ansible.builtin.debug")
    run.end("gpu-1", {"msg": ["host   model", "---", "gpu-1  \x1b[2Jdemo"], "changed": False})
    run.finish(gpu_1=1)
    assert run.lines[:-2] == [
        "rollout.yml",
        "Check every host (2 hosts)",
        "~ Write: gpu-1, gpu-2",
        "✓ Check every host: 2 hosts, 2 changed, 1:15",
        "Report (1 host)",
        "        host   model",
        "        ---",
        "        gpu-1   demo",
        "✓ Report: 1 host, 0:00",
        "PLAY RECAP",
    ]
    assert run.lines[-2].startswith("gpu_1") and "ok=1" in run.lines[-2], "the recap is Ansible's own"
    assert "\x1b" not in run.stream.getvalue()
    assert _progress.VARIABLE not in os.environ and "display" not in vars(run.display)


ARGUMENTS = {
    "msg": "Validation of arguments failed:\nmissing required arguments: sha256",
    "argument_errors": ["missing required arguments: sha256"],
    "argument_spec_data": {str(number): {"type": "str"} for number in range(200)},
    "validate_args_context": {"type": "role", "name": "modelfleet.serving.modelfleet"},
}


def test_what_each_host_says_has_its_name(run):
    run.play("Play", ["gpu-1", "gpu-2"])
    run.task("Tell", "ansible.builtin.debug")
    run.end("gpu-1", {"msg": "It goes on.\nFrom there."})
    run.task("Show", "ansible.builtin.debug", run_once=True)
    run.end("gpu-1", {"msg": "for all"})
    run.task("Hide", "ansible.builtin.debug")
    run.end("gpu-1", {"censored": "the output has been hidden"})
    assert run.lines[2:] == ["        gpu-1: It goes on.", "        gpu-1: From there.", "        for all"]


def test_an_argument_specification_is_one_line(run):
    run.play("Begin", ["gpu-1", "gpu-2", "gpu-3"])
    run.task("Validating arguments", "ansible.builtin.validate_argument_spec", hosts=("gpu-1", "gpu-2", "gpu-3"))
    for host in ("gpu-1", "gpu-2", "gpu-3"):
        run.end(host, ARGUMENTS, "failed")
    run.callback.v2_playbook_on_no_hosts_remaining()
    run.finish()
    sentence = "The variables of the role modelfleet.serving.modelfleet are wrong: missing required arguments: sha256."
    assert run.lines[2:-2] == [
        f"✗ gpu-1  {sentence}",
        "✗ No host is left to go on with.",
        f"✗ gpu-2, gpu-3  {sentence}",
        "✗ Begin: 3 hosts, 3 failed, 0:00",
    ]


def test_what_was_said_is_not_said_again(run):
    run.play("Check", ["gpu-1", "gpu-2"])
    run.task("Check the host", "modelfleet.serving.preflight_info")
    run.end("gpu-1", {"msg": "No disk. Add one."}, "failed")
    run.task("Stop if something is wrong", "ansible.builtin.assert", hosts=("gpu-1", "gpu-2"))
    run.end("gpu-1", {"msg": "Check the host: No disk. Add one.\nAnother thing"}, "failed")
    run.end("gpu-2", {"msg": "Check the host: No disk. Add one."}, "failed")
    assert run.lines[2:] == [
        "✗ gpu-1  Check the host: No disk. Add one.",
        "✗ gpu-1  Stop if something is wrong: Another thing",
        "✗ gpu-2  Stop if something is wrong: Check the host: No disk. Add one.",
    ]


def test_failures_of_other_kinds(run):
    run.play("Play", ["gpu-1"])
    run.task("Loop", loop=["a", "b"])
    run.end("gpu-1", {"failed": True, "msg": "b is wrong", "item": "b"}, "item_on_failed")
    run.end("gpu-1", {"msg": "One or more items failed", "results": [{"item": "a"}, {"msg": "b is wrong"}]}, "failed")
    run.task("Ignored")
    run.end("gpu-1", {"msg": "never mind"}, "failed", ignore_errors=True)
    run.task("Reach")
    run.end("gpu-1", {"msg": "Failed to connect to the host via ssh: \n  no route"}, "unreachable")
    run.task("Reach all the same", ignore_unreachable=True)
    run.end("gpu-1", {"msg": "Failed to connect"}, "unreachable")
    run.task("Hidden", no_log=True)
    run.end("gpu-1", {"censored": "the output has been hidden", "msg": "s3cret"}, "failed")
    assert run.lines[2:] == [
        "✗ gpu-1  Loop: b is wrong",
        "✗ gpu-1  Reach: unreachable: Failed to connect to the host via ssh: no route",
        "✗ gpu-1  Hidden: It failed, and what it says is hidden (no_log).",
    ]
    run.callback._plugin_options["display_failed_stderr"] = True
    run.task("Fail")
    run.end("gpu-1", {"msg": "to stderr"}, "failed")
    assert "to stderr" not in run.stream.getvalue() and "to stderr" in run.display.errors[0]


def test_a_play_of_which_ansible_does_not_know_all_hosts_yet(run):
    run.play("Install", ["gpu-1"], [])
    run.task("Copy")
    run.end("gpu-1")
    run.finish()
    assert run.lines[1] == "Install (1 host)"


def test_batches(run):
    hosts = [f"gpu-{number}" for number in range(1, 5)]
    for batch in (hosts[:1], hosts[1:3], hosts[3:]):
        run.play("Activate", batch, hosts, serial=[1, 2, 1])
        run.task("Next", "ansible.builtin.set_fact", batch)
        for host in batch:
            run.end(host, {"ansible_facts": {"__rollout_timeline": [{"phase": "drain"}]}})
        run.task("Loop", "ansible.builtin.set_fact", batch, loop=["ready"])
        for host in batch:
            run.end(host, {"ansible_facts": {"__rollout_timeline": [{"phase": "ready"}]}}, "item_on_ok")
            run.end(host, {"results": [{"ansible_facts": {"__rollout_timeline": [{"phase": "ready"}]}}]})
    run.finish()
    assert run.lines[1:-2] == [
        "Activate, batch 1 of 3 (1 host)",
        "Activate, batch 1 of 3: drain (gpu-1)",
        "Activate, batch 1 of 3: ready (gpu-1)",
        "✓ Activate, batch 1 of 3: 1 host, 0:00",
        "Activate, batch 2 of 3 (2 hosts)",
        "Activate, batch 2 of 3: drain (gpu-2, gpu-3)",
        "Activate, batch 2 of 3: ready (gpu-2, gpu-3)",
        "✓ Activate, batch 2 of 3: 2 hosts, 0:00",
        "Activate, batch 3 of 3 (1 host)",
        "Activate, batch 3 of 3: drain (gpu-4)",
        "Activate, batch 3 of 3: ready (gpu-4)",
        "✓ Activate, batch 3 of 3: 1 host, 0:00",
    ]


def test_a_play_whose_hosts_cannot_be_asked_for(run):
    play = Play("Free", [])
    play.get_variable_manager = lambda: None
    run.callback.v2_playbook_on_play_start(play)
    run.task("Look", hosts=("gpu-1", "gpu-2"))
    for host in ("gpu-1", "gpu-2"):
        run.end(host, {})
    run.finish()
    assert "✓ Free: 2 hosts, 0:00" in run.lines


def put(run, host, fetched, seconds):
    found = {
        "artifacts": [{"size": 100 << 20, "fetched": fetched << 20}],
        "bytes": {"origin": 0, "remote_peer": fetched << 20, "local_peer": 0},
        "seconds": seconds,
    }
    _progress.put(os.environ[_progress.VARIABLE], host, json.dumps(found))


def test_what_is_read_is_seen_as_what_is_brought(run):
    run.play("Verify", ["gpu-1", "gpu-2"])
    run.task("Hash what is installed", "modelfleet.serving.verify_info", ("gpu-1", "gpu-2"))
    found = {"artifacts": [{"size": 100 << 20, "fetched": 20 << 20}], "bytes": {"local_peer": 20 << 20}, "seconds": 2.0}
    _progress.put(os.environ[_progress.VARIABLE], "gpu-1", json.dumps(found))
    run.clock = 10
    run.callback._draw()
    assert run.lines[2:] == [
        "0 of 2 hosts done, 20.0 MiB of 100.0 MiB, 10.0 MiB/s (origin 0 B/s, peers 0 B/s, local 10.0 MiB/s), 0:10",
        "  gpu-2: 0 % of 0 B, 0 B/s, origin 0 B, peers 0 B, local 0 B",
        "  gpu-1: 20 % of 100.0 MiB, 10.0 MiB/s, origin 0 B, peers 0 B, local 20.0 MiB",
    ]
    for host in ("gpu-1", "gpu-2"):
        run.end(host, {"bytes": 100 << 20, "findings": []})
    run.finish()
    assert "✓ Verify: 2 hosts, 200.0 MiB (origin 0 B, peers 0 B, local 200.0 MiB), 0:10" in run.lines


def test_downloads_every_ten_seconds(run):
    run.play("Bring", ["gpu-1", "gpu-2"])
    run.task("Bring the artifacts", "modelfleet.serving.model_artifact", ("gpu-1", "gpu-2"))
    put(run, "gpu-1", 20, 2.0)
    put(run, "gpu-2", 40, 2.0)
    run.clock = 9
    run.callback._draw()
    assert len(run.lines) == 2
    run.clock = 10
    run.callback._draw()
    run.callback._draw()
    assert run.lines[2:] == [
        "0 of 2 hosts done, 60.0 MiB of 200.0 MiB, 30.0 MiB/s (origin 0 B/s, peers 30.0 MiB/s, local 0 B/s), 0:10",
        "  gpu-1: 20 % of 100.0 MiB, 10.0 MiB/s, origin 0 B, peers 20.0 MiB, local 0 B",
        "  gpu-2: 40 % of 100.0 MiB, 20.0 MiB/s, origin 0 B, peers 40.0 MiB, local 0 B",
    ]
    done = {
        "changed": True,
        "bytes": {"remote_peer": 100 << 20},
        "artifacts": [{"action": "fetched", "size": 100 << 20, "fetched": 100 << 20}],
    }
    run.end("gpu-1", done)
    run.end("gpu-2", done)
    run.finish()
    assert "✓ Bring: 2 hosts, 2 changed, 200.0 MiB (origin 0 B, peers 200.0 MiB, local 0 B), 0:10" in run.lines


def test_something_that_takes_long_says_so(run):
    run.play("Install", ["gpu-1"])
    run.task("Install packages")
    for run.clock in (29, 30, 31, 59, 60):
        run.callback._draw()
    assert run.lines[2:] == ["Install packages: waiting for gpu-1, 0:30", "Install packages: waiting for gpu-1, 1:00"]
    run.task("Ask the person", "ansible.builtin.pause")
    run.clock = 1000
    run.callback._draw()
    assert len(run.lines) == 4


def test_a_terminal_shows_where_each_host_is(monkeypatch):
    run = Run(monkeypatch, live=True)
    monkeypatch.setattr(run.callback.screen, "_size", lambda: os.terminal_size((120, 30)))
    run.play("Activate", ["gpu-1", "gpu-2"])
    run.task("Next", "ansible.builtin.set_fact", ("gpu-1", "gpu-2"))
    for host in ("gpu-1", "gpu-2"):
        run.end(host, {"ansible_facts": {"__rollout_timeline": [{"phase": "drain"}]}})
    run.callback._draw()
    drawn = run.stream.getvalue()
    assert "gpu-1  \x1b" in drawn or "gpu-1  ▶" in drawn
    assert "drain  ready" in drawn
    run.task("Wait", "ansible.builtin.command", ("gpu-2",))
    run.end("gpu-2", {"msg": "Failed to wait. " + 200 * "x"}, "failed")
    run.finish()
    after = run.stream.getvalue()[len(drawn) :]
    assert after.index("\x1b[J") < after.index("Failed to wait."), "what was drawn goes first"
    assert after.count("drain  ready") == 1, "where it failed stays"
    assert after.count("Failed to wait.") == 1, "what it says stands above"
    assert len(_screen.clean(after.partition("drain  ready")[2].splitlines()[2])) < 120
    run.callback._finish(os.getpid())


@pytest.mark.parametrize("option", ["check", "diff"])
def test_what_changes_in_a_rollout_is_named_where_that_was_asked_for(run, monkeypatch, option):
    for asked in (False, True):
        monkeypatch.setitem(fleet.context.CLIARGS, option, asked)
        run.play("Activate", ["gpu-1"])
        run.task("Next", "ansible.builtin.set_fact")
        run.end("gpu-1", {"ansible_facts": {"__rollout_timeline": [{"phase": "drain"}]}})
        run.task("Bring up")
        run.end("gpu-1", {"changed": True})
        run.task("Last")
        run.end("gpu-1", {})
        assert ("~ Bring up: gpu-1" in run.lines) == asked


def test_a_diff_is_shown(run):
    run.play("Play", ["gpu-1"])
    run.task("Write the file")
    done = types.SimpleNamespace(
        host=types.SimpleNamespace(get_name=lambda: "gpu-1"),
        task=run.now,
        result={"changed": True, "diff": {"before": "a: 1\n", "after": "a: 2\n", "before_header": "f", "after_header": "f"}},
    )
    run.callback.v2_on_file_diff(done)
    assert "~ gpu-1  Write the file" in run.lines and {"-a: 1", "+a: 2"} <= set(run.lines)


def test_with_v_the_lines_are_those_of_the_default(run):
    run.display.verbosity = 1
    run.callback._plugin_options.update(display_skipped_hosts=True, display_ok_hosts=True)
    run.callback.v2_playbook_on_play_start(Play("Check", ["gpu-1"]))
    run.callback.v2_playbook_on_task_start(Task("Look", args={}), False)
    assert run.lines[1:] == ["PLAY [Check]", "TASK [Look]"]


def test_a_worker_that_ends_does_not_end_it(run):
    run.callback._finish(os.getpid() + 1)
    assert os.path.isdir(os.environ[_progress.VARIABLE])


def test_every_event_of_the_default_has_its_line_or_none():
    """One that is not named here would show the lines of the default between those of this."""
    shown = {name for name in vars(fleet.Default) if name.startswith("v2_")}
    assert shown <= {name for name in vars(fleet.CallbackModule) if name.startswith("v2_")}
