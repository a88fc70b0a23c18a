# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPU hosts of five generations of GPUs and drivers, as nvidia-smi -q -x shows them, and what a person would say about each."""

from __future__ import annotations

import os
import pathlib
import pwd
import re

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _preflight_gpu, _proc
from ansible_collections.modelfleet.serving.tests.unit.plugins import recorded_gpu

V100 = """<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v10.dtd">
<nvidia_smi_log>
  <driver_version>450.80.02</driver_version>
  <cuda_version>11.0</cuda_version>
  <attached_gpus>1</attached_gpus>
  <gpu id="00000000:3B:00.0">
    <product_name>Tesla V100-SXM2-32GB</product_name>
    <persistence_mode>Enabled</persistence_mode>
    <mig_mode><current_mig>N/A</current_mig><pending_mig>N/A</pending_mig></mig_mode>
    <mig_devices>None</mig_devices>
    <uuid>GPU-1</uuid>
    <fb_memory_usage><total>32510 MiB</total><used>0 MiB</used><free>32510 MiB</free></fb_memory_usage>
    <compute_mode>Default</compute_mode>
    <ecc_mode><current_ecc>Enabled</current_ecc><pending_ecc>Enabled</pending_ecc></ecc_mode>
    <ecc_errors>
      <volatile>
        <single_bit><device_memory>0</device_memory><total>0</total></single_bit>
        <double_bit><device_memory>0</device_memory><total>0</total></double_bit>
      </volatile>
      <aggregate>
        <single_bit><device_memory>0</device_memory><total>0</total></single_bit>
        <double_bit><device_memory>7</device_memory><total>7</total></double_bit>
      </aggregate>
    </ecc_errors>
    <retired_pages>
      <multiple_single_bit_retirement><retired_count>0</retired_count><retired_pagelist/></multiple_single_bit_retirement>
      <double_bit_retirement><retired_count>1</retired_count><retired_pagelist/></double_bit_retirement>
      <pending_blacklist>No</pending_blacklist>
      <pending_retirement>No</pending_retirement>
    </retired_pages>
    <remapped_rows>N/A</remapped_rows>
    <processes></processes>
  </gpu>
</nvidia_smi_log>
"""
T4 = """<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v11.dtd">
<nvidia_smi_log>
  <driver_version>515.105.01</driver_version>
  <cuda_version>11.7</cuda_version>
  <attached_gpus>1</attached_gpus>
  <gpu id="00000000:00:1E.0">
    <product_name>Tesla T4</product_name>
    <product_architecture>Turing</product_architecture>
    <persistence_mode>Enabled</persistence_mode>
    <mig_mode><current_mig>N/A</current_mig><pending_mig>N/A</pending_mig></mig_mode>
    <mig_devices>None</mig_devices>
    <uuid>GPU-2</uuid>
    <fb_memory_usage><total>15360 MiB</total><reserved>388 MiB</reserved><used>1032 MiB</used><free>13939 MiB</free></fb_memory_usage>
    <compute_mode>Default</compute_mode>
    <ecc_mode><current_ecc>Enabled</current_ecc><pending_ecc>Enabled</pending_ecc></ecc_mode>
    <ecc_errors>
      <volatile>
        <sram_correctable>0</sram_correctable><sram_uncorrectable>0</sram_uncorrectable>
        <dram_correctable>0</dram_correctable><dram_uncorrectable>0</dram_uncorrectable>
      </volatile>
    </ecc_errors>
    <retired_pages><pending_blacklist>No</pending_blacklist><pending_retirement>No</pending_retirement></retired_pages>
    <remapped_rows>N/A</remapped_rows>
    <processes>
      <process_info>
        <gpu_instance_id>N/A</gpu_instance_id><compute_instance_id>N/A</compute_instance_id>
        <pid>812</pid><type>C</type><process_name>python3</process_name><used_memory>1029 MiB</used_memory>
      </process_info>
    </processes>
  </gpu>
</nvidia_smi_log>
"""
A100 = """<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
  <driver_version>535.54.03</driver_version>
  <cuda_version>12.2</cuda_version>
  <attached_gpus>1</attached_gpus>
  <gpu id="00000000:01:00.0">
    <product_name>NVIDIA A100-SXM4-80GB</product_name>
    <persistence_mode>Enabled</persistence_mode>
    <mig_mode><current_mig>Disabled</current_mig><pending_mig>Disabled</pending_mig></mig_mode>
    <mig_devices>None</mig_devices>
    <uuid>GPU-3</uuid>
    <gpu_reset_status><reset_required>No</reset_required><drain_and_reset_recommended>No</drain_and_reset_recommended></gpu_reset_status>
    <fb_memory_usage><total>81920 MiB</total><reserved>869 MiB</reserved><used>50 MiB</used><free>80999 MiB</free></fb_memory_usage>
    <compute_mode>Default</compute_mode>
    <ecc_mode><current_ecc>Enabled</current_ecc><pending_ecc>Enabled</pending_ecc></ecc_mode>
    <ecc_errors>
      <volatile>
        <sram_correctable>0</sram_correctable><sram_uncorrectable>0</sram_uncorrectable>
        <dram_correctable>0</dram_correctable><dram_uncorrectable>0</dram_uncorrectable>
      </volatile>
    </ecc_errors>
    <retired_pages><pending_blacklist>N/A</pending_blacklist><pending_retirement>N/A</pending_retirement></retired_pages>
    <remapped_rows>
      <remapped_row_corr>0</remapped_row_corr><remapped_row_unc>0</remapped_row_unc>
      <remapped_row_pending>No</remapped_row_pending><remapped_row_failure>No</remapped_row_failure>
    </remapped_rows>
    <fabric><state>N/A</state><status>N/A</status></fabric>
    <processes></processes>
  </gpu>
</nvidia_smi_log>
"""
# Recorded where no NVLink fabric is; the others of its generation are this one altered.
H100_ALONE = recorded_gpu.IDLE
H100 = re.sub(r"<state>N/A</state>(\s+)<status>N/A<", r"<state>Completed</state>\1<status>Success<", H100_ALONE)
B200 = H100.replace("H100 80GB HBM3", "B200")
GEFORCE = re.sub(r"((?:correctable|parity|secded)>)0<", r"\1N/A<", H100_ALONE.replace("H100 80GB HBM3", "GeForce RTX 3090")).replace(
    "<current_ecc>Enabled<", "<current_ecc>N/A<"
)
ALL = {"V100": V100, "T4": T4, "A100": A100, "H100": H100, "H100 alone": H100_ALONE, "B200": B200, "GeForce": GEFORCE}


class Host:
    def __init__(self, text, cuda="", dmesg="", fabric_manager=True):
        self.params = {"gpu": True, "nvidia_smi": "nvidia-smi", "cuda": cuda, "service_path": _preflight_gpu.SERVICE_PATH}
        self.facts = {}
        self.found = []
        self.answers = {"timeout": (0, text, ""), "dmesg": (0, dmesg, ""), "systemctl": (0 if fabric_manager else 3, "", "")}

    def run_command(self, command):
        return self.answers[command[0]]

    def error(self, check, message):
        assert check == "gpu"
        self.found.append("error: " + message)

    def warning(self, check, message):
        assert check == "gpu"
        self.found.append("warning: " + message)


@pytest.fixture
def devices(monkeypatch, tmp_path_factory):
    """The nodes of a driver, as it makes them."""
    directory = tmp_path_factory.mktemp("dev")
    monkeypatch.setattr(_preflight_gpu, "DEVICES", str(directory))
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"):
        (directory / name).touch()
        (directory / name).chmod(0o666)
    (directory / "nvidia-caps").mkdir()
    return directory


@pytest.fixture
def judge(monkeypatch, tmp_path, devices):
    monkeypatch.setattr(_proc, "unit_of", lambda pid: {812: "torchserve.service", 900: "ollama.service"}.get(pid, ""))
    monkeypatch.setattr(_preflight_gpu, "NVSWITCHES", str(tmp_path))

    def run(text, nvswitch=False, **options):
        if nvswitch:
            os.mkdir(tmp_path / "0")
        host = Host(text, **options)
        for check in _preflight_gpu.CHECKS:
            check(host)
        return host.found

    return run


@pytest.mark.parametrize("name", ALL)
def test_a_healthy_host(judge, name):
    assert judge(ALL[name]) == []


@pytest.mark.parametrize(
    ("text", "cuda", "words"),
    [
        (T4, "11.7", None),
        (T4, "11.0", None),
        (H100, "13.0", None),
        (H100, "12.8", None),
        (H100, "13.1", "warning: The driver 580.159.04 supports CUDA up to 13.0, and torch is built for CUDA 13.1; it runs, but"),
        (T4, "12.4", "error: The driver 515.105.01 supports CUDA up to 11.7, and torch is built for CUDA 12.4; upgrade the driver, or set"),
        (A100, "12.4", "warning: The driver 535.54.03 supports CUDA up to 12.2, and torch is built for CUDA 12.4; it runs, but"),
    ],
)
def test_torchs_cuda(judge, text, cuda, words):
    found = judge(text, cuda=cuda)
    assert found == [] if words is None else found[0].startswith(words) and len(found) == 1


@pytest.mark.parametrize(
    ("text", "old", "new", "words"),
    [
        (
            H100,
            "<state>Completed<",
            "<state>In Progress<",
            "error: The NVLink fabric is not ready (In Progress); run systemctl",
        ),
        (H100, "<status>Success<", "<status>Insufficient resources<", "error: The GPUs could not join the NVLink fabric (Insufficient"),
        (
            H100,
            "_action>None<",
            "_action>Reset<",
            "error: The GPU 0 (NVIDIA H100 80GB HBM3) does not work before this is done: Reset",
        ),
        (A100, "required>No<", "required>Yes<", "error: The GPU 0 (NVIDIA A100-SXM4-80GB) does not work before this is done: Reset"),
        (A100, "row_failure>No<", "row_failure>Yes<", "error: The GPU 0 (NVIDIA A100-SXM4-80GB) has broken memory that it cannot replace"),
        (B200, "unrepairable_memory>No<", "unrepairable_memory>Yes<", "error: The GPU 0 (NVIDIA B200) has broken memory that it cannot"),
        (
            A100,
            "row_pending>No<",
            "row_pending>Yes<",
            "warning: The GPU 0 (NVIDIA A100-SXM4-80GB) has broken memory that is",
        ),
        (V100, "retirement>No<", "retirement>Yes<", "warning: The GPU 0 (Tesla V100-SXM2-32GB) has broken memory that is replaced at"),
        (B200, "tpc_repair_pending>No<", "tpc_repair_pending>Yes<", "warning: The GPU 0 (NVIDIA B200) has broken memory that is replaced"),
        (A100, "<dram_uncorrectable>0<", "<dram_uncorrectable>2<", "warning: The GPU 0 (NVIDIA A100-SXM4-80GB) has had 2 uncorrectable"),
        (H100, "_parity>0<", "_parity>1<", "warning: The GPU 0 (NVIDIA H100 80GB HBM3) has had 1 uncorrectable memory errors"),
        (
            V100,
            "<total>0</total></double_bit>",
            "<total>3</total></double_bit>",
            "warning: The GPU 0 (Tesla V100-SXM2-32GB) has had 3",
        ),
        (A100, "<pending_mig>Disabled<", "<pending_mig>Enabled<", "warning: A change of the MIG mode of the GPU 0 waits for its reset"),
        (A100, "mig>Disabled<", "mig>Enabled<", "error: The GPU 0 (NVIDIA A100-SXM4-80GB) is in MIG mode and has no instance"),
        (T4, "<compute_mode>Default<", "<compute_mode>Prohibited<", "error: The GPU 0 (Tesla T4) lets no program in"),
        (
            T4,
            "<compute_mode>Default<",
            "<compute_mode>Exclusive_Process<",
            "warning: The GPU 0 (Tesla T4) lets one program in, and",
        ),
        (T4, "<persistence_mode>Enabled<", "<persistence_mode>Disabled<", "warning: The driver is unloaded whenever nobody uses the GPUs"),
        (
            T4,
            "<pid>812<",
            "<pid>900<",
            "warning: The GPU 0 (Tesla T4) has 15360 MiB of memory, of which 1029 MiB are taken by",
        ),
    ],
)
def test_what_a_person_would_say(judge, text, old, new, words):
    assert old in text
    (found,) = judge(text.replace(old, new))
    assert found.startswith(words)


def test_mig_instances(judge):
    mig = "<mig_devices><mig_device><index>0</index></mig_device><mig_device><index>1</index></mig_device></mig_devices>"
    (found,) = judge(A100.replace("mig>Disabled<", "mig>Enabled<").replace("<mig_devices>None</mig_devices>", mig))
    assert found.startswith(
        "warning: The GPU 0 (NVIDIA A100-SXM4-80GB) is in MIG mode, and TorchServe uses only the first of its 2 instances"
    )


def test_nvswitches_without_their_manager(judge):
    """Before Hopper the driver does not say how the fabric is."""
    (found,) = judge(A100, nvswitch=True, fabric_manager=False)
    assert found.startswith("error: This machine has NVSwitches, and the fabric manager does not run")


def test_nvswitches_with_their_manager(judge):
    assert judge(A100, nvswitch=True) == []


def test_what_the_kernel_logged(judge):
    dmesg = "".join(f"[{number}.0] NVRM: Xid (PCI:0000:01:00): {xid}, pid=1, text\n" for number, xid in enumerate((79, 13, 79, 31)))
    (found,) = judge(A100, dmesg=dmesg)
    assert found.startswith(
        "warning: The kernel has logged Xid 79 for the GPU at 0000:01:00 since the boot: the GPU fell off the bus. See dmesg"
    )


def test_a_program_at_work(judge):
    (found,) = judge(recorded_gpu.BUSY)
    assert found == (
        "warning: The GPU 0 (NVIDIA H100 80GB HBM3) has 81559 MiB of memory, of which 41962 MiB are taken by "
        "/opt/torch/.venv/bin/python3 (pid 1033); models have the rest."
    )


def test_a_program_at_fault(judge):
    assert judge(H100, dmesg=recorded_gpu.DMESG) == []
    (found,) = judge(H100, dmesg=recorded_gpu.DMESG.replace("): 31, ", "): 79, "))
    assert found.startswith("warning: The kernel has logged Xid 79 for the GPU at 0000:00:06 since the boot: the GPU fell off the bus.")


def test_nothing_is_found_with_the_driver_there(judge, monkeypatch):
    monkeypatch.setattr(_preflight_gpu, "read_gpus", lambda *_: {"driver": None, "cuda": None, "gpus": []})
    (found,) = judge("")
    assert found.startswith("error: No NVIDIA GPU was found with nvidia-smi; install the driver, see dmesg where it is installed, or set")


@pytest.mark.parametrize(
    ("name", "mode", "closed"),
    [("nvidia0", 0o660, True), ("nvidiactl", 0o664, True), ("nvidia-uvm", 0o600, True), ("nvidia-uvm-tools", 0o600, False)],
)
def test_nodes_that_torchserves_user_may_not_open(judge, devices, monkeypatch, name, mode, closed):
    (devices / name).chmod(mode)
    group = (devices / name).stat().st_gid
    users = {}
    monkeypatch.setattr(_preflight_gpu.pwd, "getpwnam", lambda user: users[user])
    monkeypatch.setattr(os, "getgrouplist", lambda _user, own: [own, group])
    found = judge(H100)
    assert len(found) == closed
    assert all(one.startswith(f"error: The user torchserve may not open {devices / name}, so that its workers") for one in found)
    # A member of their group may, if the group may.
    users["torchserve"] = pwd.struct_passwd(("torchserve", "x", 990, 990, "", "/", "/"))
    assert bool(judge(H100)) is (mode == 0o600 and closed)


def test_nvidia_smi_where_the_unit_does_not_look(judge, monkeypatch, tmp_path):
    program = tmp_path / "nvidia/bin/nvidia-smi"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    (found,) = judge(H100)
    assert found.startswith(f"error: TorchServe would find no GPU, for nvidia-smi is {program}, and the PATH of its unit is /usr/local/")
    monkeypatch.setattr(_preflight_gpu, "SERVICE_PATH", f"/usr/bin:{program.parent}")
    assert judge(H100) == []


def test_the_unit_looks_where_the_check_does():
    unit = pathlib.Path(__file__).parents[4] / "roles/torchserve/templates/torchserve.service.j2"
    assert f"/bin:{_preflight_gpu.SERVICE_PATH}\n" in unit.read_text(encoding="utf-8")
