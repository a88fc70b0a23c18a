# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
type: stdout
short_description: Show what a run does to a fleet, while it does it
version_added: 0.1.0
description:
  - One line for each play and its outcome, one for each task that changed something, and what went wrong as the sentence that it is.
    Tables that a play shows are tables. The recap at the end is Ansible's own.
  - On a terminal the lines below are drawn again in place. They show which hosts the run is waiting for, and during a rollout the batch,
    and host by phase how far each is. Where there are more hosts than lines, they show how many hosts came how far.
  - While M(modelfleet.serving.model_artifact) brings artifacts, they show bytes and rates by source, and while
    M(modelfleet.serving.verify_info) reads what a host has, those of its own disk. For that a file on each host is read
    every five seconds, or less often so that there are no more than five readings in a second of the whole fleet.
  - Without a terminal every line stays, and while something takes long, another one says so every 30 seconds, of downloads every 10.
  - Signs are replaced by ASCII where the output cannot have them, and what a host says cannot move the cursor.
  - With C(-v) and more the lines are those of P(ansible.builtin.default#callback), whose options count then. O(display_failed_stderr) and
    O(show_custom_stats) always do.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - ansible.builtin.default_callback
  - ansible.builtin.result_format_callback
requirements:
  - set as stdout in configuration
seealso:
  - module: modelfleet.serving.model_artifact
"""

EXAMPLES = r"""
# ansible.cfg
# [defaults]
# stdout_callback = modelfleet.serving.fleet
"""

import atexit
import functools
import os
import shutil
import tempfile
import threading
import time

from ansible import constants as C
from ansible import context
from ansible.plugins.callback.default import CallbackModule as Default
from ansible_collections.modelfleet.serving.plugins.plugin_utils import _progress
from ansible_collections.modelfleet.serving.plugins.plugin_utils._failure import sentences_of
from ansible_collections.modelfleet.serving.plugins.plugin_utils._run_view import COLOURS, RunView, counted, some
from ansible_collections.modelfleet.serving.plugins.plugin_utils._screen import Screen, clean, clock, harmless

# How often the lines on a terminal are drawn, and how often without one a line says that something is still on its way.
DRAW_S = 0.25
READ_S = 1
STILL_S = 30
DOWNLOADS_S = 10


def short_only(method):
    """With -v and more the method of the class below is called instead."""

    @functools.wraps(method)
    def called(self, *args, **kwargs):
        with self.screen.lock:
            if self._display.verbosity:
                return getattr(super(CallbackModule, self), method.__name__)(*args, **kwargs)
            return method(self, *args, **kwargs)

    return called


class CallbackModule(Default):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "modelfleet.serving.fleet"

    def __init__(self, stream=None, now=time.monotonic):
        super().__init__()
        self.now = now
        self.screen = Screen(self._display, stream)
        self.view = RunView(self.screen.signs, now())
        # The task whose hosts are collected in ``changed`` until the next one begins.
        self.changed = []
        self.task_name = ""
        self.bringing = self.quiet = False
        # (host, sentence) that was said already, to say it once.
        self.said = set()
        # {(task, sentence): hosts} of the current task beyond the first one of which it is true.
        self.same = {}
        # {host: sentences} of the items of the current task's loop that failed.
        self.items = {}
        self.directory = None
        self.announced = False
        self.last_line = self.last_read = now()
        self._over = threading.Event()
        self._thread = None

    # Lines that stay

    def _line(self, *parts, stderr=False):
        """Parts are texts or (text, colour)."""
        self.last_line = self.now()
        when = clock(self.now() - self.view.began)
        self.screen.write(
            [(f"{when:>7} ", COLOURS["to come"]), *((part, None) if isinstance(part, str) else part for part in parts)], stderr
        )

    def _failed(self, host, task, sentences):
        """``task`` (str) is where it happened, if that says something. The report at the end says again what a host was set aside for."""
        for sentence in sentences:
            if any(host == one and sentence.endswith(known) for one, known in self.said):
                continue
            self.said.add((host, sentence))
            if (task, sentence) in self.same:
                self.same[task, sentence].append(host)
            else:
                self.same[task, sentence] = []
                self._failure(clean(host), task, sentence)

    def _failure(self, hosts, task, sentence):
        parts = (f"{self.screen.signs['failed']} {hosts}", C.COLOR_ERROR), f"  {clean(task)}: {sentence}" if task else f"  {sentence}"
        self._line(*parts, stderr=self.get_option("display_failed_stderr"))

    def _show(self, result, whose):
        """What a debug task is there to show, as it is; ``whose`` (str) is the host, empty where it is said for all."""
        shown = result.get("msg") if "msg" in result else self._dump_results(result).strip("\n")
        lines = shown if isinstance(shown, list) else str(shown).splitlines()
        for line in lines:
            self.screen.write(f"        {whose}{harmless(line)}".rstrip())
        self.last_line = self.now()

    def _end_task(self):
        for (task, sentence), hosts in self.same.items():
            if hosts:
                self._failure(some(hosts), task, sentence)
        self.same = {}
        if self.changed and (not self.view.phases or context.CLIARGS.get("check") or context.CLIARGS.get("diff")):
            self._line((f"{self.screen.signs['changed']} {clean(self.task_name)}", C.COLOR_CHANGED), f": {some(self.changed)}")
        self.changed = []

    def _end_play(self):
        self._end_task()
        if not self.announced:
            return
        if self.screen.live and any("failed" in one.values() for one in self.view.phases.values()):
            # What went wrong stands above.
            for line in self.view.grid(self.screen.columns, self.screen.rows, notes=False):
                self.screen.write(self.screen.fit(line))
        self._line(*self.view.summary(self.now()))
        self.announced = False

    # What happens

    def v2_playbook_on_start(self, playbook):
        if not self._display.verbosity:
            self._begin(os.path.basename(playbook._file_name))
        else:
            super().v2_playbook_on_start(playbook)

    def _begin(self, name):
        self.view = RunView(self.screen.signs, self.now())
        self.said = set()
        if self._thread is None:
            self.directory = tempfile.mkdtemp(prefix="modelfleet-")
            os.environ[_progress.VARIABLE] = self.directory
            self.screen.attach()
            self._over.clear()
            self._thread = threading.Thread(target=self._keep_drawing, daemon=True)
            self._thread.start()
            atexit.register(self._finish, os.getpid())
        self._line(clean(name) + (" in check mode: nothing is changed" if context.CLIARGS.get("check") else ""))

    def _finish(self, process):
        """Also at the end of a run that was interrupted; a worker is not this process."""
        if self._thread is None or os.getpid() != process:
            return
        self._over.set()
        self._thread.join()
        self._thread = None
        self.screen.detach()
        os.environ.pop(_progress.VARIABLE, None)
        shutil.rmtree(self.directory, ignore_errors=True)

    @short_only
    def v2_playbook_on_play_start(self, play):
        self._end_play()
        self._play = play
        hosts, batch = self._hosts_of(play)
        self.view.play(play.get_name().strip(), hosts, self.now(), batch)

    def _hosts_of(self, play):
        """Its hosts, and (number of the batch, how many) of a play that has several."""
        try:
            variables = play.get_variable_manager().get_vars(play=play)
            hosts, everybody = list(variables["ansible_play_batch"]), list(variables["ansible_play_hosts_all"])
        except Exception:
            # They are counted as they come.
            return [], None
        sizes = list(play.serial or [])
        if not (hosts and sizes) or len(hosts) == len(everybody):
            return hosts, None
        if not all(isinstance(size, int) for size in sizes) or sum(sizes) != len(everybody):
            return hosts, None
        before = everybody.index(hosts[0]) if hosts[0] in everybody else 0
        return hosts, (max(at for at in range(len(sizes)) if sum(sizes[:at]) <= before) + 1, len(sizes))

    @short_only
    def v2_playbook_on_no_hosts_matched(self):
        pass

    @short_only
    def v2_playbook_on_no_hosts_remaining(self):
        self._line((f"{self.screen.signs['failed']} No host is left to go on with.", C.COLOR_ERROR))

    @short_only
    def v2_playbook_on_task_start(self, task, is_conditional):
        self._begin_task(task)

    @short_only
    def v2_playbook_on_handler_task_start(self, task):
        self._begin_task(task)

    def _begin_task(self, task):
        self._end_task()
        if not self.announced:
            self.announced = True
            if not self.screen.live:
                self._line(f"{self.view.title} ({counted(len(self.view.hosts), 'host')})")
        self.task_name = self._name_of(task)
        action = task.action.rpartition(".")[2]
        # What reads the files of a host says how far it is in the same way.
        self.bringing = action in ("model_artifact", "verify_info")
        # It asks the person.
        self.quiet = action == "pause"
        self.items = {}
        self.view.task(self.task_name, self.now())

    @staticmethod
    def _name_of(task):
        return (task.name or task.get_name()).strip()

    @short_only
    def v2_runner_on_start(self, host, task):
        self.view.start(host.get_name(), self.now())
        if self.bringing:
            _progress.forget(self.directory, host.get_name())
            self.view.bring(host.get_name())

    @short_only
    def v2_runner_on_ok(self, result):
        host, found = result.host.get_name(), result.result
        self._handle_warnings(found)
        self._end_on(result, "changed" if found.get("changed") else "ok")
        if found.get("changed") and host not in self.changed:
            self.changed.append(host)
        # Otherwise each item was seen.
        if not result.task.loop:
            self._see(result)

    def _see(self, result):
        """What a task that went well, or one item of its loop, says to the person or to this run."""
        action = result.task.action.rpartition(".")[2]
        if action == "debug" and "censored" not in result.result:
            alone = result.task.run_once or len(self.view.hosts) == 1
            self._show(result.result, "" if alone else f"{clean(result.host.get_name())}: ")
        elif action == "set_fact":
            phase = self.view.facts(result.host.get_name(), result.result.get("ansible_facts") or {})
            if phase and not self.screen.live:
                self._line(f"{self.view.title}: {phase} ({some(self.view.hosts)})")

    def _end_on(self, result, status):
        host = result.host.get_name()
        self.view.end(host, status)
        if self.bringing:
            self.view.bring(host).end(result.result)

    @short_only
    def v2_runner_on_skipped(self, result):
        self._handle_warnings(result.result)
        self._end_on(result, "ok")

    @short_only
    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._handle_warnings(result.result)
        sentences = self.items.pop(result.host.get_name(), None) or sentences_of(result.result, result.task.action)
        self._end_on(result, "ok" if ignore_errors else "failed")
        if ignore_errors:
            return
        self.view.fail(result.host.get_name(), sentences[0])
        # Ansible's name of the task that checks a role's variables is longer than what it says.
        name = "" if result.result.get("argument_errors") else self._name_of(result.task)
        self._failed(result.host.get_name(), name, sentences)

    @short_only
    def v2_runner_on_unreachable(self, result):
        self._handle_warnings(result.result)
        sentences = [f"unreachable: {sentence}" for sentence in sentences_of(result.result, result.task.action)]
        ignored = result.task.ignore_unreachable
        self._end_on(result, "ok" if ignored else "unreachable")
        if not ignored:
            self.view.fail(result.host.get_name(), sentences[0])
            self._failed(result.host.get_name(), self._name_of(result.task), sentences)

    @short_only
    def v2_runner_item_on_ok(self, result):
        self._handle_warnings(result.result)
        self._see(result)

    @short_only
    def v2_runner_item_on_failed(self, result):
        # Said at the end of the task, which itself says only that some failed.
        self._handle_warnings(result.result)
        self.items.setdefault(result.host.get_name(), []).extend(sentences_of(result.result, result.task.action))

    @short_only
    def v2_runner_item_on_skipped(self, result):
        self._handle_warnings(result.result)

    @short_only
    def v2_runner_retry(self, result):
        left = result.result.get("retries", 0) - result.result.get("attempts", 0)
        self.view.notes[result.host.get_name()] = f"tries again, {left} times left"

    @short_only
    def v2_runner_on_async_poll(self, result):
        pass

    @short_only
    def v2_runner_on_async_ok(self, result):
        pass

    @short_only
    def v2_runner_on_async_failed(self, result):
        pass

    @short_only
    def v2_playbook_on_include(self, included_file):
        pass

    @short_only
    def v2_playbook_on_notify(self, handler, host):
        pass

    @short_only
    def v2_on_file_diff(self, result):
        found = result.result
        for one in found.get("results", [found]):
            if isinstance(one, dict) and one.get("diff") and one.get("changed"):
                diff = self._get_diff(one["diff"])
                if diff:
                    sign = self.screen.signs["changed"]
                    self._line((f"{sign} {clean(result.host.get_name())}", C.COLOR_CHANGED), f"  {clean(self.task_name)}")
                    for line in diff.splitlines():
                        self.screen.write(line)

    def v2_playbook_on_stats(self, stats):
        if not self._display.verbosity:
            with self.screen.lock:
                self._end_play()
            self._finish(os.getpid())
        super().v2_playbook_on_stats(stats)

    # What is drawn

    def _keep_drawing(self):
        while not self._over.wait(DRAW_S):
            try:
                self._draw()
            except (OSError, ValueError):
                # Nobody looks any more; the run goes on.
                return

    def _draw(self):
        with self.screen.lock:
            if self.bringing and self.now() - self.last_read >= READ_S:
                self.last_read = self.now()
                for host in self.view.running:
                    found = _progress.get(self.directory, host)
                    if found:
                        self.view.bring(host).read(found)
            if self.screen.live:
                if self.announced and not self.quiet:
                    self.screen.draw(self.view.region(self.screen.columns, self.screen.rows, self.now()))
            elif not self.quiet:
                self._still()

    def _still(self):
        """Without a terminal, that something takes long."""
        if not self.view.running or self.now() - self.last_line < (DOWNLOADS_S if self.bringing else STILL_S):
            return
        for line in self.view.downloads(self.now()) or [self.view.still(self.now())]:
            self._line(line)
