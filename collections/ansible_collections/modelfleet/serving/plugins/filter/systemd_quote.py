# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: systemd_quote
author: ModelFleet developers (@modelfleet)
version_added: 0.1.0
short_description: Quote text for a systemd unit
description:
  - Makes one word of a setting such as C(Environment=), C(ExecStart=) or C(ReadWritePaths=) that systemd reads as exactly this text.
  - Without it systemd expands C(%), ends words at spaces, and leaves out a line that it does not understand.
  - Fails for text that a unit cannot hold, such as several lines.
positional: _input
options:
  _input:
    description: The text. A number is written as it is shown.
    type: raw
    required: true
  argument:
    description: Whether it is an argument of a command, in which systemd would expand C($) as well.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Write a unit
  ansible.builtin.copy:
    content: |
      [Service]
      Environment={{ ('GREETING=' ~ greeting) | modelfleet.serving.systemd_quote }}
      ExecStart=/usr/bin/example {{ arguments | map('modelfleet.serving.systemd_quote', argument=true) | join(' ') }}
    dest: /etc/systemd/system/example.service
    owner: root
    group: root
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The word, in double quotes.
  type: str
  sample: '"a 100%% \"certain\" text"'
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.module_utils import _systemd
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError


def systemd_quote(value, argument=False):
    try:
        return _systemd.quote(value, argument)
    except ModelFleetError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    def filters(self):
        return {"systemd_quote": systemd_quote}
