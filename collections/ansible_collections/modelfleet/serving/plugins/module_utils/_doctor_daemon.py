# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a daemon is, as systemd, its journal and the kernel tell it. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import os
import re
import time

from ansible_collections.modelfleet.serving.plugins.module_utils import _started
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._text import shortened, without_colours

JOURNAL_LINES = 200
LONGEST_LINE = 240

# What systemd says of every failure; the daemon itself has said why before.
_SYSTEMD = re.compile(
    r"(\S+: )?(Main process exited|Failed with result|Scheduled restart|Start request|Failed to start|Unit entered failed)"
)
_TROUBLE = re.compile(
    r"error|exception|fail|fatal|panic|refused|denied|killed|no space|in use|cannot|not found|no such|unable|invalid|unavailable",
    re.IGNORECASE,
)
# Presigned URLs open an object to whoever reads them, and nobody knows what else a daemon says.
_QUERY = re.compile(r"\?[^\s\"']*")
_USER = re.compile(r"://[^/\s@]*@")
_SECRET = re.compile(
    r"(?i)((?:authorization|cookie)[\"']?\s*[:=]\s*|bearer\s+).+|"
    r"((?:password|passwd|secret|token|credential|signature|sig|key)[\"']?\s*[:=]\s*)\S+"
)

_PROPERTIES = {
    "LoadState": "load",
    "UnitFileState": "enabled",
    "ActiveState": "active",
    "SubState": "sub",
    "Result": "result",
    "ExecMainStatus": "exit_status",
    "NRestarts": "restarts",
    "MainPID": "pid",
    "ActiveEnterTimestampMonotonic": "since",
}


def daemon(run_command, wanted, proc="/proc"):
    """How the daemon ``wanted`` (``unit``, ``release``, ``started_record``) is; what cannot be told is nothing."""
    found = unit_state(run_command, wanted["unit"])
    running, installed = _running(found["pid"], proc), os.path.basename(os.path.realpath(wanted["release"])) if wanted["release"] else ""
    there = bool(wanted["release"]) and os.path.exists(wanted["release"])
    # The version is the directory between that of all releases and the program.
    home = os.path.dirname(wanted["release"]) + "/" if wanted["release"] else ""
    version = running[len(home) :].split("/")[0] if home and running.startswith(home) else ""
    trouble = ""
    if found["load"] == "loaded":
        # A daemon that runs is not asked about the troubles of its last start.
        since = found["since"] if found["active"] == "active" else None
        trouble = last_trouble(run_command, wanted["unit"], since)
    return {
        "unit": wanted["unit"],
        **found,
        "version": version,
        "installed": installed if there else "",
        "stale": stale(wanted["started_record"]) if found["active"] == "active" and wanted["started_record"] else [],
        "trouble": trouble,
    }


def unit_state(run_command, unit):
    state = dict.fromkeys(_PROPERTIES.values(), "")
    command = ["systemctl", "show", f"--property={','.join(_PROPERTIES)}", unit]
    try:
        rc, out, _err = run_command(command, handle_exceptions=False)
    except OSError:
        rc, out = 1, ""
    if rc == 0:
        for name, _equals, value in (line.partition("=") for line in out.splitlines()):
            if name in _PROPERTIES:
                state[_PROPERTIES[name]] = value
    for key in ("exit_status", "restarts", "pid"):
        state[key] = _whole(state[key])
    # In microseconds since the boot; older releases of systemd show no other time that is a number.
    started = _whole(state["since"]) / 1e6
    state["since"] = int(time.time() - (time.clock_gettime(time.CLOCK_MONOTONIC) - started)) if started else None
    return state


def _whole(text):
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else 0


def _running(pid, proc):
    """The program of a process; an update leaves its old file to who runs it."""
    try:
        return os.readlink(os.path.join(proc, str(pid), "exe")).replace(" (deleted)", "") if pid else ""
    except OSError:
        return ""


def stale(record):
    """The files that are not any more what the running daemon was started from."""
    changed = []
    for path, digest in _started.read_started(record).items():
        try:
            now = _started.digest_of_file(path)
        except ModelFleetError:
            now = ""
        if now != digest:
            changed.append(path)
    return changed


def last_trouble(run_command, unit, since=None):
    """The last line of the unit's journal that tells of trouble, without what might be a secret; empty without one."""
    command = ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={JOURNAL_LINES}", f"--unit={unit}"]
    if since:
        command.append(f"--since=@{since}")
    try:
        rc, out, _err = run_command(command, handle_exceptions=False)
    except OSError:
        return ""
    lines = [" ".join(without_colours(line).split()) for line in out.splitlines()] if rc == 0 else []
    troubles = [line for line in lines if _TROUBLE.search(line)]
    own = [line for line in troubles if not _SYSTEMD.match(line)]
    return masked((own or troubles or [""])[-1])


def masked(line):
    """A line of a journal, or of a module that died, as a report may show it."""
    shown = _USER.sub("://…@", _QUERY.sub("?…", line))
    return shortened(_SECRET.sub(lambda found: f"{found.group(1) or found.group(2)}…", shown), LONGEST_LINE)
