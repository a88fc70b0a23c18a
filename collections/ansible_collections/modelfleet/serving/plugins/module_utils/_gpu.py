# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA GPUs of a host, as nvidia-smi sees them. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

from xml.etree import ElementTree

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

# nvidia-smi hangs for minutes on a wedged driver; a healthy one needs a second or two.
TIMEOUT_S = 60
NOT_FOUND = 127
TIMED_OUT = 124


def read_gpus(run_command, nvidia_smi="nvidia-smi"):
    """Return ``{"driver": str|None, "cuda": str|None, "gpus": [GPU]}``, see ``_gpu`` for what is known of a GPU.

    ``run_command`` is ``AnsibleModule.run_command``. A host without nvidia-smi has no driver and no GPUs: that is an answer, not an error.
    ``cuda`` is the newest CUDA version that the driver supports. Raises ModelFleetError when nvidia-smi is there and fails.
    """
    nothing = {"driver": None, "cuda": None, "gpus": []}
    rc, out, err = run_command(["timeout", str(TIMEOUT_S), nvidia_smi, "-q", "-x"])
    if rc == NOT_FOUND or "No devices were found" in out + err:
        return nothing
    if rc == TIMED_OUT:
        raise ModelFleetError(
            f"Failed to read the GPUs: {nvidia_smi} did not answer within {TIMEOUT_S} s; see dmesg, then reset the GPU or reboot the host."
        )
    if rc != 0:
        said = " ".join((err or out).split())[:300].rstrip(".")
        raise ModelFleetError(
            f"Failed to read the GPUs: {nvidia_smi} ended with {rc} ({said}); reboot after a driver upgrade, else reinstall the driver."
        )
    return _parse(out, nvidia_smi)


def _parse(text, nvidia_smi):
    try:
        log = ElementTree.fromstring(text)
    except ElementTree.ParseError as exc:
        raise ModelFleetError(
            f"Failed to read the GPUs: the output of {nvidia_smi} -q -x is not XML ({exc}); check that it is NVIDIA's program."
        ) from exc
    return {
        "driver": log.findtext("driver_version"),
        "cuda": log.findtext("cuda_version"),
        "gpus": [_gpu(index, gpu) for index, gpu in enumerate(log.findall("gpu"))],
    }


def _gpu(index, gpu):
    return {
        "index": index,
        "name": gpu.findtext("product_name"),
        "uuid": gpu.findtext("uuid"),
        "bus_id": gpu.get("id"),
        "memory_total_mib": _mib(gpu.findtext("fb_memory_usage/total")),
        "memory_used_mib": _mib(gpu.findtext("fb_memory_usage/used")),
        "mig": gpu.findtext("mig_mode/current_mig") == "Enabled",
    }


def _mib(text):
    """'81559 MiB' -> 81559; None for 'N/A' (GPUs that share the host's memory report no frame buffer)."""
    number = (text or "").split(" ")[0]
    return int(number) if number.isdigit() else None
