# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: preloaded
short_description: Load what the tasks of a run use on the controller, once for all hosts
version_added: 0.1.0
description:
  - Loads all filters, lookups and action plugins of this collection into the process that uses it, and returns the input.
  - Ansible runs each task of each host in a process of its own, which loads the plugins that it uses, and keeps no compiled form of those
    of a collection. What the process has loaded from which all of them come, they have. That process templates C(hosts) of a play.
  - Nothing else depends on it.
positional: _input
options:
  _input:
    description: What is returned.
    type: raw
    required: true
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Begin
  hosts: "gpu_hosts{{ '' | modelfleet.serving.preloaded }}"
  tasks: []
"""

RETURN = r"""
_value:
  description: The input.
  type: raw
"""

import glob
import importlib
import os

_PLUGINS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PACKAGE = "ansible_collections.modelfleet.serving.plugins"


def preloaded(value):
    for kind in ("filter", "lookup", "action"):
        for path in sorted(glob.glob(os.path.join(_PLUGINS, kind, "*.py"))):
            try:
                importlib.import_module(f"{_PACKAGE}.{kind}.{os.path.splitext(os.path.basename(path))[0]}")
            except ImportError:
                # Whoever uses it says what is missing.
                continue
    return value


class FilterModule:
    def filters(self):
        return {"preloaded": preloaded}
