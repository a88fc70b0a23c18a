# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one family of exceptions of this collection. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations


class ModelFleetError(Exception):
    """Something a user must be told.

    The message is one sentence that names verb, object and place, and says what to do.
    ``result`` (dict) holds what a module returns beside the message, for example the findings so far.
    """

    def __init__(self, message, **result):
        super().__init__(message)
        self.result = result
