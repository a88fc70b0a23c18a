# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_page
short_description: Show the report of a rollout as a page for a browser
version_added: 0.1.0
description:
  - Makes one HTML file that loads nothing and runs nothing, of a report of P(modelfleet.serving.rollout_report#filter).
  - It has a verdict in one sentence, what stopped the run, a tile for each host, a timeline, bytes by source over time, the latencies of
    the old and the new version, and tables with all that in words and numbers.
positional: _input
options:
  _input:
    description: The report.
    type: dict
    required: true
author:
  - ModelFleet developers (@modelfleet)
seealso:
  - plugin: modelfleet.serving.rollout_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Make a page of a report that was kept
  ansible.builtin.copy:
    content: "{{ lookup('ansible.builtin.file', 'reports/rollout.json') | from_json | modelfleet.serving.rollout_page }}"
    dest: rollout.html
    mode: "0644"
  delegate_to: localhost
"""

RETURN = r"""
_value:
  description: The page.
  type: str
"""

import os

from ansible_collections.modelfleet.serving.plugins.plugin_utils import _rollout_page
from jinja2 import Environment, StrictUndefined


def rollout_page(report):
    # Not Ansible's own templates, which escape nothing.
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    path = os.path.join(os.path.dirname(_rollout_page.__file__), "rollout_page.html.j2")
    with open(path, encoding="utf-8") as handle:
        template = environment.from_string(handle.read())
    return template.render(_rollout_page.page_of(report))


class FilterModule:
    def filters(self):
        return {"rollout_page": rollout_page}
