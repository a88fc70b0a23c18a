# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout calls the phases of a host and what became of it, for whatever shows a run. PRIVATE to the collection: it can have
breaking changes at any time.

The role rollout says them in facts of the host, by set_fact: __rollout_plan (the models that change), __rollout_timeline (when each phase
began, the last one is that of now; also check and plan before the first one, and idle where it waits), __rollout_seen (what each gate saw
so far) and __rollout_outcome; at the end of the run __rollout_facts has all of it.
"""

from __future__ import annotations

# The gate traffic asks a version this many times at most, one after the other.
MOST_REQUESTS = 100_000

# Gates in their order, before the version answers anybody and after; the first of either is also the phase in which it comes up.
GATES_BEFORE = ("ready", "answers", "gpu", "command")
GATES_AFTER = ("traffic", "ready")

# {phase: what is done in it}, in the order of a host that comes to a good end; a gate is the phase of its name.
PHASES = {
    "reach": "reaching the host",
    "drain": "taking it out of the balancing",
    "ready": "bringing the new version up",
    "warm-up": "asking what is compiled before any user does",
    "answers": "asking for the known answers",
    "gpu": "looking at the GPUs",
    "command": "running the command of the user",
    "switch": "making the new version the default",
    "return": "taking it back into the balancing",
    "traffic": "watching it under its requests",
    "finish": "retiring the old version",
    "tidy": "taking away what no host goes back to",
    "undo": "going back to the old version",
    "rollback": "going back to the version before",
}

# {what became of a host: whether it serves what the run was to bring}; None where nothing was to change on it, or nothing did.
UNTOUCHED = "untouched"
OUTCOMES = {
    "activated": True,
    "finished": True,
    "rolled back": True,
    "went back": False,
    "NOT UNDONE": False,
    "NOT ROLLED BACK": False,
    "planned": None,
    UNTOUCHED: None,
}
