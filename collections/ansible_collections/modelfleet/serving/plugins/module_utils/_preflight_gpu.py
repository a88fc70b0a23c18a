# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs, as a person would judge them. PRIVATE to the collection: it can have breaking changes at any time.

A check takes what ``preflight_info`` knows: ``params``, ``run_command``, ``facts`` (dict, what it saw), ``error`` and ``warning``
(both with the check and the message).
"""

from __future__ import annotations

import glob
import os
import pwd
import re
import shutil

from ansible_collections.modelfleet.serving.plugins.module_utils import _proc
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._gpu import read_gpus

UNIT = "torchserve.service"
USER = "torchserve"
# Where the unit looks for programs.
SERVICE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEVICES = "/dev"
# Of its nodes CUDA opens these.
NODE = re.compile("nvidia([0-9]+|ctl|-uvm)")
NVSWITCHES = "/proc/driver/nvidia-nvswitch/devices"
FABRIC_MANAGER = "run systemctl enable --now nvidia-fabricmanager, in the version of the driver, or CUDA fails with error 802"

# What the kernel logs of a GPU. The others are faults of programs, or say nothing that a person could act on.
XIDS = {
    "46": "the GPU stopped processing",
    "48": "an uncorrectable memory error",
    "62": "its internal controller halted",
    "63": "memory was replaced",
    "64": "memory could not be replaced",
    "74": "an error of NVLink",
    "79": "the GPU fell off the bus",
    "92": "many corrected memory errors",
    "94": "a contained memory error",
    "95": "an uncontained memory error",
    "119": "its system processor does not answer",
    "120": "its system processor failed",
}


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
        host.error(
            "gpu",
            f"No NVIDIA GPU was found with {program}; install the driver, see dmesg where it is installed, or set torchserve_device to cpu "
            "for this host.",
        )
        return
    _program(host)
    _nodes(host)
    _cuda(host)
    _fabric(host)
    _xids(host)
    for gpu in host.facts["gpus"]:
        _health(host, gpu)
        _use(host, gpu)
    if not all(gpu["persistence"] for gpu in host.facts["gpus"]):
        host.warning(
            "gpu",
            "The driver is unloaded whenever nobody uses the GPUs, which takes seconds and forgets their settings; "
            "run systemctl enable --now nvidia-persistenced.",
        )


def _program(host):
    """TorchServe counts the GPUs with nvidia-smi, and has another PATH than whoever runs this."""
    path, here = host.params["service_path"], shutil.which(host.params["nvidia_smi"])
    if here and not shutil.which("nvidia-smi", path=path):
        host.error(
            "gpu",
            f"TorchServe would find no GPU, for nvidia-smi is {os.path.abspath(here)}, and the PATH of its unit is {path}; run ln -s "
            f"{os.path.abspath(here)} /usr/local/bin/nvidia-smi, or set PATH in torchserve_environment.",
        )


def _nodes(host):
    """TorchServe's user opens them too. After nvidia-smi, which as root gives them the mode that the driver is configured for, and which
    opens them whatever that is. Nodes that are missing are made when the unit starts.
    """
    closed = [path for path in sorted(glob.glob(f"{DEVICES}/nvidia*")) if NODE.fullmatch(os.path.basename(path)) and not _opens(path)]
    if closed:
        host.error(
            "gpu",
            f"The user {USER} may not open {', '.join(closed)}, so that its workers would stay on the CPU; set NVreg_DeviceFileMode=0666 "
            f"for the module nvidia in /etc/modprobe.d and reboot, or create the user {USER} as a member of the group of these files.",
        )


def _opens(path):
    """Whether TorchServe's user may read and write the file, as far as its mode says."""
    try:
        status = os.stat(path)
    except OSError:
        return True  # it has gone, or leads nowhere
    if status.st_mode & 0o006 == 0o006:
        return True
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        return False
    return status.st_mode & 0o060 == 0o060 and status.st_gid in os.getgrouplist(USER, user.pw_gid)


def _cuda(host):
    """A driver runs what was built for its own generation of CUDA and for older ones."""
    driver, wanted = host.facts["cuda"], host.params["cuda"]
    if not driver or not wanted:
        return
    has, needs = ([int(part) for part in text.split(".")[:2]] for text in (driver, wanted))
    if has >= needs:
        return
    sentence = f"The driver {host.facts['driver']} supports CUDA up to {driver}, and torch is built for CUDA {wanted}"
    if has[0] < needs[0]:
        host.error(
            "gpu", f"{sentence}; upgrade the driver, or set torchserve_torch and torchserve_torch_index_url to a build for CUDA {driver}."
        )
    else:
        host.warning("gpu", f"{sentence}; it runs, but what compiles on the host, such as torch.compile, may fail. Upgrade the driver.")


def _fabric(host):
    """On a machine with NVSwitches no CUDA program starts before the fabric manager has connected them."""
    states = {gpu["fabric"] for gpu in host.facts["gpus"]} - {None}
    if states - {"Completed"}:
        host.error("gpu", f"The NVLink fabric is not ready ({', '.join(sorted(states))}); {FABRIC_MANAGER}.")
        return
    failed = {gpu["fabric_status"] for gpu in host.facts["gpus"] if gpu["fabric"]} - {None, "Success"}
    if failed:
        host.error(
            "gpu", f"The GPUs could not join the NVLink fabric ({', '.join(sorted(failed))}); see journalctl -u nvidia-fabricmanager."
        )
    elif not states and os.path.isdir(NVSWITCHES) and os.listdir(NVSWITCHES):
        rc, _out, _err = host.run_command(["systemctl", "is-active", "--quiet", "nvidia-fabricmanager.service"])
        if rc != 0:
            host.error("gpu", f"This machine has NVSwitches, and the fabric manager does not run; {FABRIC_MANAGER}.")


def _xids(host):
    _rc, out, _err = host.run_command(["dmesg"])
    seen = dict.fromkeys(re.findall(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)", out))
    for bus, number in seen:
        if number in XIDS:
            host.warning(
                "gpu",
                f"The kernel has logged Xid {number} for the GPU at {bus} since the boot: {XIDS[number]}. See dmesg; reset the GPU or "
                "reboot the host, and have the GPU replaced if it comes back.",
            )


def _health(host, gpu):
    label = f"The GPU {gpu['index']} ({gpu['name']})"
    reset = f"nvidia-smi --gpu-reset -i {gpu['index']}"
    if gpu["recovery"]:
        host.error("gpu", f"{label} does not work before this is done: {gpu['recovery']}; run {reset}, or reboot the host.")
    if gpu["repair_failed"]:
        host.error("gpu", f"{label} has broken memory that it cannot replace any more; have it replaced.")
    elif gpu["repair_pending"]:
        host.warning("gpu", f"{label} has broken memory that is replaced at its next reset; run {reset} before it serves.")
    elif gpu["ecc_uncorrectable"]:
        host.warning(
            "gpu",
            f"{label} has had {gpu['ecc_uncorrectable']} uncorrectable memory errors since the driver was loaded; run {reset}, and have it "
            "replaced if they come back.",
        )


def _use(host, gpu):
    label, index = f"The GPU {gpu['index']} ({gpu['name']})", gpu["index"]
    if gpu["mig"] != gpu["mig_pending"]:
        host.warning("gpu", f"A change of the MIG mode of the GPU {index} waits for its reset; run nvidia-smi --gpu-reset -i {index}.")
    elif gpu["mig"]:
        remedy = f"run nvidia-smi -i {index} -mig 0 to use all of it"
        if not gpu["mig_instances"]:
            host.error("gpu", f"{label} is in MIG mode and has no instance, so that no program can use it; {remedy}, or make an instance.")
        else:
            host.warning(
                "gpu", f"{label} is in MIG mode, and TorchServe uses only the first of its {gpu['mig_instances']} instances; {remedy}."
            )
    if gpu["compute_mode"] == "Prohibited":
        host.error("gpu", f"{label} lets no program in (compute mode Prohibited); run nvidia-smi -i {index} -c DEFAULT.")
    elif gpu["compute_mode"] == "Exclusive_Process":
        host.warning("gpu", f"{label} lets one program in, and every worker is one; for more workers run nvidia-smi -i {index} -c DEFAULT.")
    others = [one for one in gpu["processes"] if one["memory_mib"] and _proc.unit_of(one["pid"]) != UNIT]
    used, total = sum(one["memory_mib"] for one in others), gpu["memory_total_mib"]
    if total and used > total // 20:
        names = ", ".join(sorted({f"{one['name']} (pid {one['pid']})" for one in others}))
        host.warning("gpu", f"{label} has {total} MiB of memory, of which {used} MiB are taken by {names}; models have the rest.")


CHECKS = (gpus,)
