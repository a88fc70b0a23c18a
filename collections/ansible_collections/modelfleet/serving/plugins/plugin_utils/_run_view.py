# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a run while it goes on, and how that looks. PRIVATE to the collection: it can have breaking changes at any time.

Times are given by whoever calls, in seconds of one clock. A line is a list of (text, colour or None).
"""

from __future__ import annotations

from ansible import constants as C
from ansible_collections.modelfleet.serving.plugins.module_utils._rollout_phases import OUTCOMES
from ansible_collections.modelfleet.serving.plugins.module_utils._rollout_phases import PHASES as ALL
from ansible_collections.modelfleet.serving.plugins.module_utils._text import human_bytes
from ansible_collections.modelfleet.serving.plugins.plugin_utils._progress import SOURCES
from ansible_collections.modelfleet.serving.plugins.plugin_utils._screen import clean, clock, pad, width

# The way of a host through a rollout, as the role rollout says in the last entry of __rollout_timeline. Others that it says come after.
PHASES = tuple(phase for phase in ALL if phase not in ("reach", "warm-up", "tidy", "undo", "rollback"))
# These have a play of their own.
NOT_SHOWN = ("check", "plan")
# At which a host waits for the others.
IDLE = "idle"
SOURCE_NAMES = dict(zip(SOURCES, ("origin", "peers", "local")))
WORST_LAST = ("ok", "changed", "failed", "unreachable")
# With less room than that behind the phases of a host nothing is said of it there.
NOTE_COLUMNS = 16
COLOURS = {"ok": C.COLOR_OK, "now": C.COLOR_HIGHLIGHT, "failed": C.COLOR_ERROR, "to come": C.COLOR_SKIP, "changed": C.COLOR_CHANGED}


def some(hosts, most=3):
    """'gpu-1, gpu-2, gpu-3 and 47 more'."""
    hosts = [clean(host) for host in hosts]
    return ", ".join(hosts[:most]) + (f" and {len(hosts) - most} more" if len(hosts) > most else "")


def counted(number, word):
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def sources(counts, unit=""):
    return ", ".join(f"{SOURCE_NAMES[source]} {human_bytes(int(counts.get(source, 0)))}{unit}" for source in SOURCES)


class Brought:
    """What came to a host so far, and how fast since it was last read."""

    def __init__(self):
        self.wanted = self.fetched = 0
        self.bytes = dict.fromkeys(SOURCES, 0)
        self.rates = dict.fromkeys(SOURCES, 0.0)
        self.seconds = 0.0
        self.done = False

    def read(self, found):
        passed = found["seconds"] - self.seconds
        if passed <= 0:
            return
        self.rates = {source: max(0, found["bytes"][source] - self.bytes[source]) / passed for source in SOURCES}
        self.wanted, self.fetched, self.bytes, self.seconds = found["wanted"], found["fetched"], found["bytes"], found["seconds"]

    def end(self, result):
        """With the result (dict) of the module model_artifact, also of one that failed, or of verify_info, whose bytes are one number."""
        if isinstance(result.get("bytes"), int):
            self.wanted = self.fetched = self.bytes["local_peer"] = result["bytes"]
            self.rates = dict.fromkeys(SOURCES, 0.0)
            self.done = True
            return
        artifacts = [one for one in result.get("artifacts") or [] if one.get("action") in ("fetched", "failed")]
        self.wanted = sum(one.get("size") or 0 for one in artifacts)
        self.fetched = sum(one.get("fetched") or 0 for one in artifacts)
        self.bytes = {source: (result.get("bytes") or {}).get(source, 0) for source in SOURCES}
        self.rates = dict.fromkeys(SOURCES, 0.0)
        self.done = True


class RunView:
    def __init__(self, signs, now):
        self.signs = signs
        self.began = now
        # What outlives a play: {host: [(model, from, to)]}.
        self.versions = {}
        self.play("", [], now)

    # What happens

    def play(self, name, hosts, now, batch=None):
        """A play begins, or the next batch of it: ``batch`` is (its number, how many there are)."""
        self.name = clean(name)
        self.hosts = list(hosts)
        self.batch = batch
        self.play_began = now
        self.status = {}
        self.phases = {}
        self.notes = {}
        self.outcomes = {}
        self.brought = {}
        self.task("", now)

    def task(self, name, now):
        self.task_name = clean(name)
        self.task_began = now
        self.running = {}
        self.ended = set()

    def start(self, host, now):
        if host not in self.hosts:
            self.hosts.append(host)
        self.running[host] = now

    def end(self, host, status):
        self.running.pop(host, None)
        self.ended.add(host)
        self.status[host] = max(self.status.get(host, "ok"), status, key=WORST_LAST.index)

    def fail(self, host, sentence):
        """The phase of the host has failed; where it is retried or undone, the next fact says so."""
        self.notes[host] = sentence
        for phase, state in self.phases.get(host, {}).items():
            if state == "now":
                self.phases[host][phase] = "failed"

    def facts(self, host, facts):
        """Facts (dict) that a task set on the host. Returns the phase that begins, or None."""
        if isinstance(facts.get("__rollout_plan"), list):
            self.versions[host] = [
                (clean(one.get("name", "")), clean(one.get("from") or "-"), clean(one.get("version", "")))
                for one in facts["__rollout_plan"]
                if isinstance(one, dict)
            ]
        if facts.get("__rollout_failed"):
            self.fail(host, self.notes.get(host, ""))
        outcome = str(facts.get("__rollout_outcome"))
        begun = None
        for mark in (facts.get("__rollout_timeline") or [])[-1:]:
            begun = self._begin(host, clean(mark["phase"])) if mark["phase"] not in NOT_SHOWN else None
        if outcome in OUTCOMES:
            self.outcomes[host] = outcome
        for row in (facts.get("__rollout_seen") or [])[-1:]:
            if isinstance(row, dict):
                self.notes[host] = clean(f"{row.get('gate')}: {row.get('saw')}")
        return begun

    def _begin(self, host, phase):
        if phase == IDLE and host not in self.phases:
            return None
        known = self.phases.setdefault(host, {})
        if known.get(phase) == "now":
            return None
        new = all(phase not in one for one in self.phases.values())
        for other, state in known.items():
            if state == "now":
                known[other] = "ok"
        if phase == IDLE:
            return None
        known[phase] = "now"
        return phase if new else None

    def bring(self, host):
        return self.brought.setdefault(host, Brought())

    # How it looks

    @property
    def title(self):
        return self.name + (f", batch {self.batch[0]} of {self.batch[1]}" if self.batch else "")

    def summary(self, now):
        """What became of the play."""
        worst = [status for status in self.status.values() if status in ("failed", "unreachable")]
        state = "failed" if worst else "ok"
        words = [counted(len(self.hosts), "host")]
        if self.batch or self.phases:
            changes = {one for host in self.hosts for one in self.versions.get(host, [])}
            words += [f"{model} {old} {self.signs['to']} {new}" for model, old, new in sorted(changes)[:3]]
            outcomes = list(self.outcomes.values())
            words += [f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes)]
        for status in WORST_LAST[1:]:
            count = sum(one == status for one in self.status.values())
            words += [f"{count} {status}"] if count else []
        if any(one.fetched for one in self.brought.values()):
            words.append(f"{human_bytes(sum(one.fetched for one in self.brought.values()))} ({sources(self._total('bytes'))})")
        words.append(clock(now - self.play_began))
        return [(self.signs[state], COLOURS[state]), (f" {self.title}: ", None), (", ".join(words), None)]

    def still(self, now):
        """One line of what the run is waiting for."""
        return f"{self.task_name or self.title}: {self._waiting(now)}"

    def _waiting(self, now):
        done = [f"{len(self.ended)} of {counted(len(self.ended) + len(self.running), 'host')} done"] if self.ended else []
        waiting = [f"waiting for {some(self.running)}"] if self.running else []
        return ", ".join([*done, *waiting, clock(now - self.task_began)])

    def downloads(self, now, most=8):
        """Lines of text about the downloads, the first one of all hosts; [] where nothing is known of any."""
        if not any(one.wanted for one in self.brought.values()):
            return []
        slow = self._slowest()
        return [
            "{} ({}), {}".format(*self._together(), clock(now - self.task_began)),
            *(f"  {clean(host)}: {self._of_host(self.brought[host])}" for host in slow[:most]),
            *([f"  and {counted(len(slow) - most, 'more host')}"] if len(slow) > most else []),
        ]

    def _slowest(self):
        """Hosts that are not done; where all can be shown in their order, otherwise the caller takes the first ones."""
        slow = [host for host, one in self.brought.items() if not one.done]
        return sorted(slow, key=lambda host: self.brought[host].fetched / max(self.brought[host].wanted, 1))

    def _total(self, what):
        return {source: sum(getattr(one, what)[source] for one in self.brought.values()) for source in SOURCES}

    def _together(self):
        """How far all hosts are, and how fast by source."""
        done = sum(one.done for one in self.brought.values())
        fetched, wanted = (sum(getattr(one, what) for one in self.brought.values()) for what in ("fetched", "wanted"))
        rates = self._total("rates")
        return (
            f"{done} of {counted(len(self.brought), 'host')} done, {human_bytes(fetched)} of {human_bytes(wanted)}, "
            f"{human_bytes(int(sum(rates.values())))}/s",
            sources(rates, "/s"),
        )

    def _of_host(self, one, short=False):
        percent = 100 * one.fetched // one.wanted if one.wanted else 0
        wanted = "" if short else f" of {human_bytes(one.wanted)}"
        return f"{percent} %{wanted}, {human_bytes(int(sum(one.rates.values())))}/s, {sources(one.bytes)}"

    def region(self, columns, rows, now):
        """The lines that are drawn again and again."""
        spin = self.signs["spin"][int(now * 4) % len(self.signs["spin"])]
        head = [
            (f"{spin} {self.title}", COLOURS["now"]),
            (f"  {counted(len(self.hosts), 'host')}, {clock(now - self.play_began)}, run {clock(now - self.began)}", COLOURS["to come"]),
        ]
        rows -= 1
        if self.phases:
            return [head, *self.grid(columns, rows)]
        if any(one.wanted for one in self.brought.values()):
            return [head, *self._bars(columns, rows)]
        if not self.task_name:
            return [head]
        still = f"  {self.still(now)}"
        texts = [still] if width(still) <= columns else [f"  {self.task_name}", f"  {self._waiting(now)}"]
        return [head, *([(text, None)] for text in texts)]

    def grid(self, columns, rows, notes=True):
        """Host by phase, with ``notes`` (bool) of each; where there are more hosts than rows, how many hosts came how far."""
        phases = [phase for phase in ALL if phase in PHASES or any(phase in one for one in self.phases.values())]
        # Of a rollback, or a way back after which nothing follows, only what happens.
        if not any(phase in PHASES for one in self.phases.values() for phase in one):
            phases = [phase for phase in phases if phase not in PHASES]
        if len(self.hosts) + 1 > rows:
            return self._counts(phases, columns, rows)
        names = min(max(map(width, self.hosts), default=4), max(8, columns // 3))
        # Between the names of the phases; without room for these the signs stand side by side.
        gap = next((one for one in (2, 1) if 4 + names + len((" " * one).join(phases)) <= columns), 0)
        widths = [len(phase) + gap if gap else 1 for phase in phases[:-1]] + [len(phases[-1]) if gap else 1]
        room = columns - 4 - names - sum(widths)
        lines = [[(" " * (4 + names) + (" " * gap).join(phases), COLOURS["to come"])]] if gap else []
        for host in self.hosts:
            known = self.phases.get(host, {})
            line = [("  " + pad(clean(host), names, self.signs["more"]) + "  ", None)]
            for phase, columns_of_phase in zip(phases, widths):
                state = known.get(phase, "to come")
                line.append((pad(self.signs[state], columns_of_phase), COLOURS[state]))
            now = next((phase for phase, state in known.items() if state in ("now", "failed")), "")
            note = self.notes.get(host, "") if notes and room >= NOTE_COLUMNS else ""
            texts = [now] if not gap and not note.startswith(f"{now}:") else []
            text = "  ".join(text for text in [*texts, note] if text)
            line.append((" " * (gap + 1) + text if text else "", COLOURS["failed"] if "failed" in known.values() else None))
            lines.append(line)
        return lines

    def _counts(self, phases, columns, rows):
        """A line for each phase, then the hosts in which something failed."""
        lines, total = [], max(len(self.hosts), 1)
        length = max(10, min(40, columns - 52))
        for phase in phases:
            states = [one[phase] for one in self.phases.values() if phase in one]
            if not states and phase not in PHASES:
                continue
            through, failed = states.count("ok"), states.count("failed")
            full = length * through // total
            text = f" {through} of {total}" + (f", {states.count('now')} there now" if "now" in states else "")
            lines.append(
                [
                    (f"  {phase.ljust(9)} ", None),
                    (self.signs["full"] * full, COLOURS["ok"]),
                    (self.signs["empty"] * (length - full), COLOURS["to come"]),
                    (text, None),
                    (f", {failed} failed" if failed else "", COLOURS["failed"]),
                ]
            )
        wrong = [host for host in self.hosts if "failed" in self.phases.get(host, {}).values()]
        lines += [[(f"  {self.signs['failed']} {clean(host)}  {self.notes.get(host, '')}", COLOURS["failed"])] for host in wrong]
        if len(lines) > rows:
            hidden = len(lines) - rows + 1
            lines[rows - 1 :] = [[(f"  and {counted(hidden, 'more host')} that failed", COLOURS["failed"])]]
        return lines

    def _bars(self, columns, rows):
        slow = self._slowest()
        so_far, rates = self._together()
        texts = [f"  {so_far} ({rates})"] if width(so_far + rates) + 5 <= columns else [f"  {so_far}", f"  {rates}"]
        rows -= len(texts)
        if len(slow) <= rows:
            slow = [host for host in self.brought if host in slow]
        shown = slow if len(slow) <= rows else slow[: max(rows - 1, 0)]
        names = min(max(map(width, shown), default=4), max(8, columns // 4))
        length = 20 if columns >= names + 80 else 0
        lines = [[(text, None)] for text in texts]
        for host in shown:
            one = self.brought[host]
            full = length * one.fetched // one.wanted if one.wanted else 0
            lines.append(
                [
                    ("  " + pad(clean(host), names, self.signs["more"]) + "  ", None),
                    (self.signs["full"] * min(full, length), COLOURS["ok"]),
                    (self.signs["empty"] * (length - min(full, length)) + ("  " if length else ""), COLOURS["to come"]),
                    (self._of_host(one, short=not length), None),
                ]
            )
        if len(shown) < len(slow):
            lines.append([(f"  and {counted(len(slow) - len(shown), 'more host')}", COLOURS["to come"])])
        return lines
