# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._gpu import read_gpus
from ansible_collections.modelfleet.serving.tests.unit.plugins import recorded_gpu

# A GPU that shares the host's memory.
GH200 = """<nvidia_smi_log>
  <gpu id="0000000F:01:00.0">
    <product_name>NVIDIA GH200</product_name>
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
        return 0, recorded_gpu.BUSY, ""

    seen = read_gpus(run_command, "/opt/bin/nvidia-smi")
    assert commands == [["timeout", "60", "/opt/bin/nvidia-smi", "-q", "-x"]]
    assert (seen["driver"], seen["cuda"]) == ("580.159.04", "13.0")
    python = {"pid": 1033, "type": "C", "name": "/opt/torch/.venv/bin/python3", "memory_mib": 41962}
    warm = {"temperature_c": 70, "temperature_margin_c": 9}
    assert seen["gpus"] == [{**recorded_gpu.IDLE_GPU, **warm, "memory_used_mib": 41971, "processes": [python]}]


def test_a_gpu_is_warmer_than_it_may_be():
    (gpu,) = read_gpus(answers(0, recorded_gpu.IDLE.replace("<gpu_temp_tlimit>51 C<", "<gpu_temp_tlimit>-2 C<")))["gpus"]
    assert gpu["temperature_margin_c"] == -2


def test_what_a_gpu_does_not_have_is_nothing():
    (gpu,) = read_gpus(answers(0, GH200))["gpus"]
    assert (gpu["memory_total_mib"], gpu["memory_used_mib"], gpu["mig"], gpu["ecc_uncorrectable"]) == (None, None, True, None)
    assert gpu["temperature_margin_c"] is None


@pytest.mark.parametrize("answer", [answers(127, err="timeout: failed to run command"), answers(*recorded_gpu.NO_DEVICES)])
def test_a_host_without_gpus_is_no_error(answer):
    assert read_gpus(answer) == {"driver": None, "cuda": None, "gpus": []}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (answers(18, out="Failed to initialize NVML: Driver/library version mismatch\n"), ["ended with 18", "version mismatch", "reboot"]),
        (answers(*recorded_gpu.NO_PERMISSION), ["ended with 4", "Insufficient Permissions); run the task with become."]),
        (answers(*recorded_gpu.NO_DRIVER), ["ended with 9", "couldn't communicate with the NVIDIA driver", "reinstall the driver"]),
        (answers(*recorded_gpu.NO_LIBRARY), ["ended with 12", "couldn't find libnvidia-ml.so", "reinstall the driver"]),
        (answers(124), ["did not answer within 60 s", "dmesg"]),
        (answers(0, out="hello"), ["not XML", "check that it is NVIDIA's program"]),
    ],
)
def test_a_broken_driver_is_named(answer, words):
    with pytest.raises(ModelFleetError) as raised:
        read_gpus(answer)
    assert all(word in str(raised.value) for word in words)
