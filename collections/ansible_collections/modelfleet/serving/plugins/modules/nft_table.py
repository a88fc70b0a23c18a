#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nft_table
short_description: Have one table of nftables
version_added: 0.1.0
description:
  - Has a table of the family inet, in the kernel and as a file that C(nft --file) loads again at a boot. No other table is touched.
  - What is in the kernel is compared with what the kernel makes of the rules, in a network namespace of its own that is gone after that. So
    a rule that somebody changed by hand is found, and rules that the kernel would refuse change nothing.
  - The table is replaced in one transaction. No packet meets the host without it.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
attributes:
  check_mode:
    details: A user that does not exist yet is left out of what is compared.
options:
  name:
    description: Name of the table.
    type: str
    required: true
  state:
    description: Whether there is such a table.
    type: str
    default: present
    choices:
      present: It has O(sets) and O(rules).
      absent: It is removed, with its file.
  path:
    description: The file. Its directory must exist.
    type: path
    required: true
  sets:
    description: Sets of addresses or ports that O(rules) name.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the set.
        type: str
        required: true
      type:
        description: Type of its elements.
        type: str
        required: true
        choices:
          - ipv4_addr
          - ipv6_addr
          - inet_service
      elements:
        description: Its elements, each one address or port.
        type: list
        elements: str
        default: []
  keep:
    description:
      - Whether elements of O(sets) that the kernel has beside those named stay there, until a call without this.
      - So a first run can admit whoever is new, and a last one shut out whoever is gone.
    type: bool
    default: false
  users:
    description: Sets of users that O(rules) name, compared with C(meta skuid).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the set.
        type: str
        required: true
      users:
        description: Users by name or number. The file has their numbers, so that loading it at a boot asks nobody for a name.
        type: list
        elements: str
        required: true
  rules:
    description:
      - The chains of the table, in the language of nft, as they stand within the braces of the table.
      - Without them, those in the file on the host stay, and O(users) with them. Where there is no such file, nothing is done.
    type: str
seealso:
  - module: modelfleet.serving.daemon
"""

EXAMPLES = r"""
- name: Let two hosts reach a port, and nobody else
  modelfleet.serving.nft_table:
    name: exporter
    path: /etc/exporter.nft
    sets:
      - {name: admitted, type: ipv4_addr, elements: [10.0.0.5, 10.0.0.6]}
    rules: |
      chain input {
          type filter hook input priority filter - 10; policy accept;
          iif "lo" accept
          tcp dport 9100 ip saddr != @admitted counter reject with tcp reset
      }

- name: Take it away again
  modelfleet.serving.nft_table:
    name: exporter
    path: /etc/exporter.nft
    state: absent
"""

RETURN = r"""
action:
  description: What was done in the kernel, or would be done outside check mode.
  returned: success
  type: str
  sample: loaded
  choices:
    - none
    - loaded
    - removed
table:
  description: How the table of the kernel was found, V(absent), V(different) from what is wanted, or V(wanted).
  returned: success
  type: str
  sample: wanted
files:
  description: The file, if it was written, got other permissions, or was removed.
  returned: success
  type: list
  elements: str
  sample: [/etc/exporter.nft]
added:
  description: The elements of each set that the kernel did not have.
  returned: success
  type: dict
  sample: {admitted: [10.0.0.6]}
removed:
  description: The elements of each set that the kernel had and is to have no more.
  returned: success
  type: dict
  sample: {}
kept:
  description: The elements of each set that stay because of O(keep).
  returned: success
  type: dict
  sample: {}
"""

import os
import pwd
import re

from ansible_collections.modelfleet.serving.plugins.module_utils import _nft
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import put_file, read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule

FILE = {"owner": None, "group": None, "mode": "0644"}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,30}\Z")


class Table:
    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.name = self.params["name"]
        self.path = self.params["path"]
        self.nft = _nft.program()

    def run(self):
        self.check()
        return self.remove() if self.params["state"] == "absent" else self.provide()

    def check(self):
        for what, name in (("table", self.name), *(("set", entry["name"]) for entry in self.params["sets"] + self.params["users"])):
            if not NAME.match(name):
                raise ModelFleetError(f"Refused the name '{name}' of a {what}: it has letters, digits and '_', and begins with a letter.")
        if not os.path.isabs(self.path):
            raise ModelFleetError(f"Refused the path '{self.path}' of the table {self.name}: write an absolute one.")

    def provide(self):
        before = read_text(self.path)
        own = self.own_part(before)
        if own is None:
            return self.result(loaded=None, wanted=None)
        if not self.nft:
            raise ModelFleetError(f"Failed to load the table {self.name}: there is no program nft on this host; {_nft.MISSING}.")
        loaded = _nft.listed(self.module.run_command, self.nft, self.name)
        sets = {entry["name"]: self.elements(entry) for entry in self.params["sets"]}
        kinds = {entry["name"]: entry["type"] for entry in self.params["sets"]}
        had = {name: _nft.elements_in(loaded, name, kind) for name, kind in kinds.items()}
        kept = {name: [one for one in had[name] if one not in sets[name]] if self.params["keep"] else [] for name in sets}
        text = self.text({name: (kinds[name], _nft.ordered(kinds[name], sets[name] + kept[name])) for name in sets}, own)
        wanted = _nft.listed_of(self.module.run_command, self.nft, self.name, text)
        if not self.module.check_mode and loaded != wanted:
            # Also by the kernel's own state, before the file is there that the next boot loads.
            self.run_nft("check", ["--check", "--file", "-"], data=text)
        written, file_diff = put_file(self.module, self.path, text, params=FILE)
        if not self.module.check_mode and loaded != wanted:
            self.run_nft("load", ["--file", self.path])
        result = self.result(loaded, wanted, files=[self.path] if written else [])
        result["added"] = _without_empty({name: [one for one in sets[name] if one not in had[name]] for name in sets})
        result["removed"] = _without_empty({name: [one for one in had[name] if one not in sets[name] + kept[name]] for name in sets})
        result["kept"] = _without_empty(kept)
        if self.module._diff and written:
            result["diff"].append(file_diff)
        return result

    def remove(self):
        loaded = _nft.listed(self.module.run_command, self.nft, self.name) if self.nft else None
        there = os.path.lexists(self.path)
        if not self.module.check_mode:
            if loaded is not None:
                self.run_nft("remove", ["delete", "table", _nft.FAMILY, self.name])
            if there:
                self.unlink()
        return self.result(loaded, None, files=[self.path] if there else [])

    def unlink(self):
        try:
            os.unlink(self.path)
        except OSError as exc:
            raise ModelFleetError(f"Failed to remove {self.path}: {exc.strerror}. Remove it by hand and run again.") from exc

    def result(self, loaded, wanted, files=()):
        action = "none" if loaded == wanted else "removed" if wanted is None else "loaded"
        found = {
            "changed": bool(files) or action != "none",
            "action": action,
            "table": "absent" if loaded is None else "wanted" if loaded == wanted else "different",
            "files": list(files),
            "added": {},
            "removed": {},
            "kept": {},
        }
        if self.module._diff:
            header = f"table {_nft.FAMILY} {self.name}"
            diff = {"before_header": header, "after_header": header, "before": loaded or "", "after": wanted or ""}
            found["diff"] = [diff] if loaded != wanted else []
        return found

    def run_nft(self, verb, arguments, **options):
        rc, out, err = self.module.run_command([self.nft, *arguments], **options)
        if rc != 0:
            reason = _nft.said(out, err, rc)
            raise ModelFleetError(f"Failed to {verb} the table {self.name}: {reason}. Correct what it names and run again.")

    # the text

    def own_part(self, before):
        """What only this host has: of the options, or as it is in the file. None where there is neither."""
        if self.params["rules"] is not None:
            users = "".join(_nft.render_set(entry["name"], "uid", self.uids(entry)) for entry in self.params["users"])
            return _nft.block(self.name, users + self.params["rules"].rstrip() + "\n")
        if before is None:
            return None
        _sets, mark, own = before.partition(_nft.MARK)
        if not mark:
            raise ModelFleetError(
                f"Failed to read the rules of the table {self.name}: {self.path} is not as this module wrote it. Give the rules, "
                "which writes it anew."
            )
        return own

    def text(self, sets, own):
        head = _nft.HEAD.format(family=_nft.FAMILY, name=self.name)
        shared = "".join(_nft.render_set(name, kind, elements) for name, (kind, elements) in sets.items())
        return head + (_nft.block(self.name, shared) if shared else "") + _nft.MARK + own

    def elements(self, entry):
        found = []
        for one in entry["elements"]:
            try:
                found.append(_nft.element(entry["type"], one))
            except ValueError:
                kind = "a port from 1 to 65535" if entry["type"] == "inet_service" else f"an IPv{entry['type'][3]} address"
                raise ModelFleetError(f"Refused the element '{one}' of the set {entry['name']}: it is not {kind}; correct it.") from None
        return list(dict.fromkeys(found))

    def uids(self, entry):
        found = []
        for name in entry["users"]:
            if name.isascii() and name.isdigit():
                if int(name) >= 1 << 32:
                    raise ModelFleetError(
                        f"Refused the user {name[:20]} of the set {entry['name']}: it is no number of a user; correct it."
                    )
                found.append(int(name))
                continue
            try:
                found.append(pwd.getpwnam(name).pw_uid)
            except (KeyError, ValueError):
                if not self.module.check_mode:
                    raise ModelFleetError(
                        f"Failed to find the user '{name}' of the set {entry['name']} on this host; create it, or leave it out."
                    ) from None
        return sorted(set(found))


def _without_empty(sets):
    return {name: elements for name, elements in sets.items() if elements}


def main():
    module = CheckedModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
            "path": {"type": "path", "required": True},
            "sets": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "type": {"type": "str", "required": True, "choices": ["ipv4_addr", "ipv6_addr", "inet_service"]},
                    "elements": {"type": "list", "elements": "str", "default": []},
                },
            },
            "keep": {"type": "bool", "default": False},
            "users": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "users": {"type": "list", "elements": "str", "required": True},
                },
            },
            "rules": {"type": "str"},
        },
        supports_check_mode=True,
    )
    try:
        result = Table(module).run()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
