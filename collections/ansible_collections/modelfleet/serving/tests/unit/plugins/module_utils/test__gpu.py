# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._gpu import read_gpus

ANSWER = """<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
  <driver_version>570.86.15</driver_version>
  <cuda_version>12.8</cuda_version>
  <attached_gpus>2</attached_gpus>
  <gpu id="00000000:18:00.0">
    <product_name>NVIDIA H100 80GB HBM3</product_name>
    <uuid>GPU-1e5a2ac9-6a4b-8f0e-2f5d-0d4a5b3c2e1f</uuid>
    <mig_mode><current_mig>Disabled</current_mig></mig_mode>
    <fb_memory_usage><total>81559 MiB</total><used>4 MiB</used></fb_memory_usage>
  </gpu>
  <gpu id="0000000F:01:00.0">
    <product_name>NVIDIA GH200</product_name>
    <uuid>GPU-2</uuid>
    <mig_mode><current_mig>Enabled</current_mig></mig_mode>
    <fb_memory_usage><total>N/A</total><used>N/A</used></fb_memory_usage>
  </gpu>
</nvidia_smi_log>
"""


def answers(rc, out="", err=""):
    return lambda _command: (rc, out, err)


def test_reads_driver_cuda_and_gpus():
    commands = []

    def run_command(command):
        commands.append(command)
        return 0, ANSWER, ""

    seen = read_gpus(run_command, "/opt/bin/nvidia-smi")
    assert commands == [["timeout", "60", "/opt/bin/nvidia-smi", "-q", "-x"]]
    assert (seen["driver"], seen["cuda"]) == ("570.86.15", "12.8")
    assert seen["gpus"][0] == {
        "index": 0,
        "name": "NVIDIA H100 80GB HBM3",
        "uuid": "GPU-1e5a2ac9-6a4b-8f0e-2f5d-0d4a5b3c2e1f",
        "bus_id": "00000000:18:00.0",
        "memory_total_mib": 81559,
        "memory_used_mib": 4,
        "mig": False,
        "mig_pending": False,
        "mig_instances": 0,
        "compute_mode": None,
        "persistence": False,
        "ecc_uncorrectable": None,
        "repair_pending": False,
        "repair_failed": False,
        "recovery": None,
        "fabric": None,
        "fabric_status": None,
        "processes": [],
    }
    assert (seen["gpus"][1]["index"], seen["gpus"][1]["memory_total_mib"], seen["gpus"][1]["mig"]) == (1, None, True)


@pytest.mark.parametrize("answer", [answers(127, err="timeout: failed to run command"), answers(6, out="No devices were found\n")])
def test_a_host_without_gpus_is_no_error(answer):
    assert read_gpus(answer) == {"driver": None, "cuda": None, "gpus": []}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (answers(18, out="Failed to initialize NVML: Driver/library version mismatch\n"), ["ended with 18", "version mismatch", "reboot"]),
        (answers(124), ["did not answer within 60 s", "dmesg"]),
        (answers(0, out="hello"), ["not XML", "check that it is NVIDIA's program"]),
    ],
)
def test_a_broken_driver_is_named(answer, words):
    with pytest.raises(ModelFleetError) as raised:
        read_gpus(answer)
    assert all(word in str(raised.value) for word in words)
