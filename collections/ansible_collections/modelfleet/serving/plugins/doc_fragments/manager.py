# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  url:
    description: The manager's REST API, without a path. It listens on loopback, so this runs on its host unless a proxy stands before it.
    type: str
    default: http://127.0.0.1:8090
  token:
    description: A personal access token, instead of O(token_path).
    type: str
  token_path:
    description: File with the personal access token that the role P(modelfleet.serving.dragonfly_manager#role) makes, on the host.
    type: path
    default: /etc/dragonfly/manager-token
  ca_path:
    description: File with the authorities of which the certificate at O(url) may be, where that is not known to the host.
    type: path
"""
