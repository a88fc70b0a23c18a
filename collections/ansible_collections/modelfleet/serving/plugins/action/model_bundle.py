# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module of the same name as that of ``storage_object`` is run: with its progress on the terminal."""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.action.storage_object import ActionModule

__all__ = ["ActionModule"]
