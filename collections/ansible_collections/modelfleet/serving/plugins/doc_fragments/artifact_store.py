# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  model_store:
    description: Directory with the models.
    type: path
    default: /var/lib/modelfleet/models
  blob_store:
    description: Directory with the verified files by their sha256.
    type: path
    default: /var/lib/modelfleet/blobs
  manifest_store:
    description: Directory with the manifests of the bundles.
    type: path
    default: /var/lib/modelfleet/manifests
  incoming:
    description: Directory in which dfdaemon links a download.
    type: path
    default: /var/lib/modelfleet/incoming
  piece_store:
    description: The C(storage.dir) of dfdaemon.
    type: path
    default: /var/lib/modelfleet/pieces
  record:
    description: The file that records what this host serves, of M(modelfleet.serving.torchserve_model).
    type: path
    default: /var/lib/modelfleet/state/models.json
  socket:
    description: The socket of dfdaemon.
    type: path
    default: /run/dragonfly/dfdaemon.sock
"""
