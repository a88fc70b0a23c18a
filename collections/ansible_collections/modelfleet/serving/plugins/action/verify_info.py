# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where somebody shows it, reads how far the module is, as of one that brings artifacts."""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.action.model_artifact import ActionModule as Watched


class ActionModule(Watched):
    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        result.pop("began", None)
        return result
