# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a task that failed, as a person wants to read it. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import re

from ansible_collections.modelfleet.serving.plugins.plugin_utils._screen import clean

_WRAPPED = re.compile(r"^(Task failed|Module failed|Action failed): ")


def sentences_of(result, action=""):
    """What went wrong, a sentence each; ``result`` (dict) is that of a task, or of one item of its loop, that runs ``action``."""
    if "censored" in result or result.get("_ansible_no_log"):
        return ["It failed, and what it says is hidden (no_log)."]
    if result.get("argument_errors"):
        return [_of_arguments(result)]
    msg = result.get("msg") or ""
    written = _last_line(result.get("module_stderr") or result.get("stderr") or result.get("module_stdout") or result.get("stdout"))
    if re.match(r"non-zero return code|MODULE FAILURE", str(msg), re.IGNORECASE):
        return [clean(f"{_program(result)} ended with {result.get('rc', 'an error')}: {written or 'it wrote nothing'}")]
    # What a play says may be several sentences; the lines of a program are one.
    lines = msg if isinstance(msg, list) else str(msg).splitlines() if action.rpartition(".")[2] in ("assert", "fail") else [msg]
    return [one for one in map(_unwrapped, lines) if one] or [clean(written) or "It failed and does not say why; -v shows its result."]


def _unwrapped(text):
    text = clean(text)
    while _WRAPPED.match(text):
        text = _WRAPPED.sub("", text)
    return text


def _of_arguments(result):
    """One sentence of what Ansible follows by the whole specification."""
    context = result.get("validate_args_context") or {}
    whose = f"variables of the {context.get('type', 'role')} {clean(context['name'])}" if context.get("name") else "arguments"
    errors = "; ".join(clean(error).rstrip(".") for error in result["argument_errors"])
    return f"The {whose} are wrong: {errors}."


def _program(result):
    command = result.get("cmd")
    words = command if isinstance(command, list) else str(command or "").split()
    return str(words[0]) if words else "The module"


def _last_line(text):
    lines = [line for line in str(text or "").splitlines() if line.strip()]
    return lines[-1] if lines else ""
