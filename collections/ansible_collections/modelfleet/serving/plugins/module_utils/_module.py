# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that keeps its options to itself. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule


class DiscreetModule(AnsibleModule):
    """A module whose options may hold a secret: one that it knows by its name, in a dictionary with free keys, or in a URL."""

    def _log_invocation(self):
        """Note nothing in this machine's journal: the options stand there as Python shows them, and a secret with quotes, backslashes
        or line ends, as in a service account's key, is then another text than the one that Ansible masks."""

    def _return_formatted(self, kwargs):
        """Return no options: under a name that is misspelt, or of another type than it must have, a secret is not masked in them."""
        kwargs["invocation"] = {}
        super()._return_formatted(kwargs)
