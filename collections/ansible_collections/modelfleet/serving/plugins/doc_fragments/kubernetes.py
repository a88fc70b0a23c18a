# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  kubeconfig:
    description: The kubeconfig of the cluster. Without it the file that E(KUBECONFIG) names, or C(~/.kube/config).
    type: path
  context:
    description: A context of that file. Without it the current one.
    type: str
requirements:
  - kubernetes >= 30
notes:
  - Runs on the controller. Nothing runs kubectl.
"""
