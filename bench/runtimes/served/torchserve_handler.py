# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TorchServe's handler. What a worker prints is logged, so it prints nothing."""

from __future__ import annotations

from model import Model


class Handler:
    def initialize(self, context):
        self.model = Model(context.system_properties["model_dir"])

    def handle(self, data, context):
        return self.model.answer([bytes(row.get("body") or row["data"]) for row in data])
