# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA GPUs of a host, as nvidia-smi sees them. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

# nvidia-smi hangs for minutes on a wedged driver; a healthy one needs a second or two.
TIMEOUT_S = 60
NOT_FOUND = 127
TIMED_OUT = 124
NOT_PERMITTED = 4

# Memory that failed and is replaced at the next reset, and memory that can no longer be replaced.
PENDING = (
    "remapped_rows/remapped_row_pending",
    "retired_pages/pending_retirement",
    "retired_pages/pending_blacklist",
    "ecc_errors/channel_repair_pending",
    "ecc_errors/tpc_repair_pending",
)
FAILED = ("remapped_rows/remapped_row_failure", "ecc_errors/unrepairable_memory")


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
        remedy = "run the task with become" if rc == NOT_PERMITTED else "reboot after a driver upgrade, else reinstall the driver"
        raise ModelFleetError(f"Failed to read the GPUs: {nvidia_smi} ended with {rc} ({said}); {remedy}.")
    return _parse(out, nvidia_smi)


def _parse(text, nvidia_smi):
    try:
        log = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as exc:
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
        "memory_total_mib": _number(gpu.findtext("fb_memory_usage/total")),
        "memory_used_mib": _number(gpu.findtext("fb_memory_usage/used")),
        "temperature_c": _number(gpu.findtext("temperature/gpu_temp")),
        "temperature_margin_c": _number(gpu.findtext("temperature/gpu_temp_tlimit")),
        "mig": gpu.findtext("mig_mode/current_mig") == "Enabled",
        "mig_pending": gpu.findtext("mig_mode/pending_mig") == "Enabled",
        "mig_instances": len(gpu.findall("mig_devices/mig_device")),
        "compute_mode": _text(gpu, "compute_mode"),
        "persistence": gpu.findtext("persistence_mode") == "Enabled",
        "ecc_uncorrectable": _uncorrectable(gpu.find("ecc_errors/volatile")),
        "repair_pending": any(_text(gpu, place) == "Yes" for place in PENDING),
        "repair_failed": any(_text(gpu, place) == "Yes" for place in FAILED),
        "recovery": _recovery(gpu),
        "fabric": _text(gpu, "fabric/state"),
        "fabric_status": _text(gpu, "fabric/status"),
        "processes": [_process(process) for process in gpu.findall("processes/process_info")],
    }


def _text(gpu, place):
    """The text at ``place``, or None where a driver does not know the field or the GPU does not have it."""
    text = gpu.findtext(place)
    return None if text is None or text.strip() in ("", "N/A") else text.strip()


def _uncorrectable(errors):
    """Uncorrectable memory errors since the driver was loaded; None without ECC. Before Turing they are called double bit errors."""
    if errors is None:
        return None
    counts = [field.text for field in errors if "uncorrectable" in field.tag] or [errors.findtext("double_bit/total")]
    numbers = [int(text) for text in counts if text and re.fullmatch(r"[0-9]{1,18}", text.strip())]
    return sum(numbers) if numbers else None


def _recovery(gpu):
    """What the driver says must be done before the GPU works again, such as Reset; None if nothing."""
    action = _text(gpu, "gpu_recovery_action")
    if action is None and _text(gpu, "gpu_reset_status/reset_required") == "Yes":
        return "Reset"
    return None if action == "None" else action


def _process(process):
    return {
        "pid": _number(process.findtext("pid")) or 0,
        "type": _text(process, "type"),
        "name": _text(process, "process_name"),
        "memory_mib": _number(process.findtext("used_memory")),
    }


def _number(text):
    """'81559 MiB' -> 81559, '-2 C' -> -2; None for 'N/A' (GPUs that share the host's memory report no frame buffer)."""
    number = (text or "").split(" ")[0]
    return int(number) if re.fullmatch(r"-?[0-9]{1,18}", number) else None
