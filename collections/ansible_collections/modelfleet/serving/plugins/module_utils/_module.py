# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules of this collection have of their own. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import re

from ansible.module_utils.basic import AnsibleModule

# No file name, no argument of a program and no UTF-8 has them.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
# The option is a time, in seconds.
_SECONDS = re.compile(r"(.*_)?(timeout|seconds|s)\Z")
_YEAR_S = 365 * 24 * 3600
_WHOLE = 1 << 63


class CheckedModule(AnsibleModule):
    """A module that refuses what fits the type of an option and is of no use in any, before it is logged or anything is done.

    Options of type raw and json are as they are: JSON has such text. An option that is null was not given.
    """

    _told = False

    def __init__(self, *args, **kwargs):
        try:
            super().__init__(*args, **kwargs)
        except (AttributeError, OverflowError, TypeError, ValueError):
            # Ansible itself stumbles, over false for a dictionary or a number of 400 or 5000 digits. It has not seen what must be masked.
            self.fail_json(
                msg="Failed to read the options: one has another type than it must have. Compare each with ansible-doc.", invocation={}
            )
        self._refuse_unusable()

    def _load_params(self):
        super()._load_params()
        self.params = _given(self.argument_spec, self.params)

    def _log_invocation(self):
        """Ansible leaves it out under no_log, and ends with a traceback for what it cannot write into the journal."""
        self._refuse_unusable()
        super()._log_invocation()

    def _return_formatted(self, kwargs):
        """Ansible reads one result. The first says why the module fails; what fails after it, where it tidies up, does not."""
        if not self._told:
            super()._return_formatted(kwargs)
            self._told = True

    def _refuse_unusable(self):
        for name, option in self.argument_spec.items():
            for what, problem in _problems(option, self.params.get(name), name):
                self.fail_json(msg=f"Failed to use {what}: {problem}.")


def _given(spec, params):
    """The options without those that are null, which Ansible would count as given and a module does not know."""
    found = {}
    for name, value in params.items():
        below = spec.get(name, {}).get("options")
        if below and isinstance(value, dict):
            value = _given(below, value)
        elif below and isinstance(value, list):
            value = [_given(below, one) if isinstance(one, dict) else one for one in value]
        if value is not None:
            found[name] = value
    return found


def _problems(option, value, place):
    """Yield (what, what is wrong and what to do) of a value that Ansible took for ``option``. No text is shown: it may be a secret."""
    kind = option.get("type", "str")
    if kind == "list" and isinstance(value, list):
        for number, one in enumerate(value):
            yield from _problems({**option, "type": option.get("elements", "raw")}, one, f"{place}[{number}]")
    elif kind == "dict" and isinstance(value, dict) and option.get("options"):
        for name, below in option["options"].items():
            yield from _problems(below, value.get(name), f"{place}.{name}")
    elif kind not in ("raw", "json") and not all(map(_is_text, _leaves(value))):
        yield place, "it holds a NUL or half of a surrogate pair, which no text has; write it without"
    elif kind in ("int", "float") and value is not None:
        # No comparison holds for what is not a number.
        if not abs(value) < _WHOLE:
            yield place, "it is no number that can be reckoned with; write another"
        elif _SECONDS.match(place.rpartition(".")[2]) and not 0 <= value <= _YEAR_S:
            yield f"{place} {value}", f"it must be from 0 to {_YEAR_S} seconds"


def _is_text(value):
    return not isinstance(value, str) or not _NO_TEXT.search(value)


def _leaves(value):
    """Yield what is in a value, keys as well, however deep."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one
        else:
            yield one


class DiscreetModule(CheckedModule):
    """A module whose options may hold a secret: one that it knows by its name, in a dictionary with free keys, or in a URL."""

    def _log_invocation(self):
        """Note nothing in this machine's journal: the options stand there as Python shows them, and a secret with quotes, backslashes
        or line ends, as in a service account's key, is then another text than the one that Ansible masks."""

    def _return_formatted(self, kwargs):
        """Return no options: under a name that is misspelt, or of another type than it must have, a secret is not masked in them."""
        kwargs["invocation"] = {}
        super()._return_formatted(kwargs)
