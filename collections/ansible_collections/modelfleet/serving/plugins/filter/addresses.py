# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: addresses
short_description: Where a daemon of a host listens
version_added: 0.1.0
description:
  - Derives its addresses from the variables of one host, also where C(dfdaemon_config), C(dragonfly_scheduler_config) or
    C(torchserve_config) move a port. A variable that is not there has its default.
  - An address that the fleet could not use is an error that names the key and the remedy.
positional: daemon
options:
  _input:
    description: The variables of one host by name, for example C(hostvars['gpu-1']).
    type: dict
    required: true
  daemon:
    description: Whose addresses they are.
    type: str
    choices: [scheduler, manager, dfdaemon, torchserve, gateway, monitoring]
    required: true
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Show where TorchServe takes requests on a host
  ansible.builtin.debug:
    msg: "{{ (hostvars['gpu-1'] | modelfleet.serving.addresses('torchserve')).inference.url }}"
"""

RETURN = r"""
_value:
  description:
    - The listeners by name. A gateway has C(api), monitoring C(door), a manager C(grpc), C(redis), C(rest) and C(metrics), a scheduler
      C(api) and C(metrics), dfdaemon C(upload), C(storage), C(quic) (UDP),
      C(proxy), C(metrics), C(health) and C(stats), TorchServe C(inference), C(management), C(metrics), C(grpc_inference) and
      C(grpc_management).
    - Each has C(bind) (C(address), C(port) and the systemd C(unit)), and how to reach it as C(host), C(authority) (host and port) and
      C(url).
  type: dict
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.module_utils import _addresses
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError


def addresses(variables, daemon):
    try:
        return _addresses.addresses(variables, daemon)
    except ModelFleetError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    def filters(self):
        return {"addresses": addresses}
