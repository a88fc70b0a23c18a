# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs, as a person would judge them. PRIVATE to the collection: it can have breaking changes at any time.

A check takes what ``preflight_info`` knows: ``params``, ``run_command``, ``facts`` (dict, what it saw), ``error`` and ``warning``
(both with the check and the message).
"""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._gpu import read_gpus


def gpus(host):
    host.facts.update(driver=None, cuda=None, gpus=[])
    if not host.params["gpu"]:
        return
    try:
        host.facts.update(read_gpus(host.run_command, host.params["nvidia_smi"]))
    except ModelFleetError as exc:
        host.error("gpu", str(exc))
        return
    if not host.facts["gpus"]:
        program = host.params["nvidia_smi"]
        host.error("gpu", f"No NVIDIA GPU was found with {program}; install the driver, or set torchserve_device to cpu for this host.")


CHECKS = (gpus,)
