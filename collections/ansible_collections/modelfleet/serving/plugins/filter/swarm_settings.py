# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils import _plan, _swarm

MEGA = 1e6


def swarm_settings(hosts, origin_mbits=0):
    return _swarm.settings(hosts, origin_mbits * MEGA)


def swarm_shortages(hosts, seeds, schedulers):
    return list(_plan.shortages(hosts, seeds, schedulers))


class FilterModule:
    def filters(self):
        return {"swarm_settings": swarm_settings, "swarm_shortages": swarm_shortages}
