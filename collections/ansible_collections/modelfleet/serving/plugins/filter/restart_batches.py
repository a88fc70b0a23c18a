# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: restart_batches
author: ModelFleet developers (@modelfleet)
version_added: 0.1.0
short_description: Say in which batch each host comes
description:
  - Sorts hosts into batches as C(serial) of a play does, which cannot read the variables of the inventory itself.
positional: _input, sizes
options:
  _input:
    description: The hosts, in their order.
    type: list
    elements: str
    required: true
  sizes:
    description:
      - Size of each batch, a number of hosts or a share of all in percent. The last one is repeated.
      - A batch has at least one host.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show who comes first
  ansible.builtin.debug:
    msg: "{{ groups['gpu_hosts'] | modelfleet.serving.restart_batches(['1', '20%']) }}"
"""

RETURN = r"""
_value:
  description: The number of its batch for every host, from 1.
  type: dict
"""

import re

from ansible.errors import AnsibleFilterError


def restart_batches(hosts, sizes):
    wrong = [size for size in sizes if not re.fullmatch(r"[1-9][0-9]{0,8}%?", str(size))]
    if wrong or not sizes:
        raise AnsibleFilterError(
            f"modelfleet_restart_batches: {wrong[0] if wrong else 'nothing'} is no size of a batch; "
            "write numbers of hosts or shares such as 20%."
        )
    batches, number, left = {}, 0, 0
    for host in hosts:
        if left == 0:
            size = str(sizes[min(number, len(sizes) - 1)])
            left = max(1, len(hosts) * int(size[:-1]) // 100) if size.endswith("%") else int(size)
            number += 1
        batches[host] = number
        left -= 1
    return batches


class FilterModule:
    def filters(self):
        return {"restart_batches": restart_batches}
