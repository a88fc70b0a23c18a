# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  directory:
    description:
      - Directory with the fleet's own authority and all that it has issued, keys as well. It is a secret, and lies on the controller only.
      - Exactly one of this and O(ca_path).
    type: path
  passphrase:
    description: What encrypts the keys in O(directory), or those of the user's own. Empty leaves them in clear.
    type: str
    default: ""
  ca_path:
    description: File with the certificates of the user's own authorities. All of them are trusted.
    type: path
"""
