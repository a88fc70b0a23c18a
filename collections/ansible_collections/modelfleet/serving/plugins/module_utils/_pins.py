# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of variables in which a module pins things by their names. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import json
import os

from ansible_collections.modelfleet.serving.plugins.module_utils._dragonfly_config import from_yaml, to_yaml
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import put_file, read_text, refuse_hiding


class Pins:
    """A lock with ``pinned``, {name: dict}. A module's own says what a file and an entry (dict) of it look like."""

    variable = None
    header = None
    # The variable of the inventory that says where the file is.
    setting = None

    def __init__(self, module):
        self.module = module
        self.path = module.params["path"]
        self.pinned = self._read()

    def is_own(self, variables):
        """Whether the module can have written these variables (dict)."""
        return self.variable in variables

    def is_pin(self, pin):
        raise NotImplementedError

    def pin(self, wanted):
        """Compare one thing with what is pinned of it, and pin it if nothing is. Return what became of it."""
        raise NotImplementedError

    def _read(self):
        if not self.path:
            raise ModelFleetError(
                "Failed to write the pins: path is empty, since there is no inventory directory. "
                f"Set {self.setting} to a file of variables."
            )
        refuse_hiding(self.path)
        text = read_text(self.path)
        if text is None:
            return {}
        variables = from_yaml(text)
        pins = variables[self.variable] if isinstance(variables, dict) and self.is_own(variables) else None
        good = isinstance(pins, dict) and all(isinstance(pin, dict) and self.is_pin(pin) for pin in pins.values())
        if not good or not _is_utf8(pins):
            raise ModelFleetError(f"Refused to change {self.path}: this module did not write it. Move it away and run again.")
        return pins

    def _write(self):
        directory = os.path.dirname(os.path.abspath(self.path))
        if not self.module.check_mode:
            try:
                os.makedirs(directory, exist_ok=True)
            except OSError as exc:
                raise ModelFleetError(f"Failed to make {directory}: {exc.strerror}. Make it, or set another path.") from exc
        content = self.header + to_yaml({self.variable: self.pinned})
        return put_file(self.module, self.path, content, params={"mode": None, "owner": None, "group": None})

    def run(self, wanted):
        """Pin a list of things, each once; returns the result of the module."""
        distinct = []
        for one in wanted:
            if one not in distinct:
                distinct.append(one)
        pins = [self.pin(one) for one in distinct]
        changed, diff = self._write()
        result = {"changed": changed, "path": self.path, "pins": pins}
        if self.module._diff:
            result["diff"] = diff
        return result


def _is_utf8(value):
    """Whether all texts in what was read can be written again so that Ansible reads them."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
