# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import gpu_info
from ansible_collections.modelfleet.serving.tests.unit.plugins import recorded_gpu

TWO_GPUS = recorded_gpu.IDLE.replace(
    "</nvidia_smi_log>",
    """<gpu id="00000000:2A:00.0">
    <product_name>NVIDIA A30</product_name>
    <mig_mode><current_mig>Enabled</current_mig><pending_mig>Enabled</pending_mig></mig_mode>
    <uuid>GPU-77777777-6a4b-8f0e-2f5d-0d4a5b3c2e1f</uuid>
    <fb_memory_usage><total>24576 MiB</total><used>N/A</used></fb_memory_usage>
  </gpu>
</nvidia_smi_log>""",
)


@pytest.fixture
def read(tmp_path, run_module):
    def run(text, rc=0, check=False):
        (tmp_path / "out").write_text(text)
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat {tmp_path}/out\nexit {rc}\n")
        program.chmod(0o755)
        return run_module(gpu_info.main, {"nvidia_smi": str(program)}, check=check)

    return run


@pytest.mark.parametrize("check", [False, True])
def test_two_gpus(read, check):
    result = read(TWO_GPUS, check=check)
    assert (result["changed"], result["driver"], result["cuda"]) == (False, "580.159.04", "13.0")
    assert result["gpus"][0] == recorded_gpu.IDLE_GPU
    assert (result["gpus"][1]["mig"], result["gpus"][1]["memory_used_mib"]) == (True, None)


def test_no_program_is_no_gpu(run_module, tmp_path):
    result = run_module(gpu_info.main, {"nvidia_smi": str(tmp_path / "nothing")})
    assert (result["gpus"], result["driver"], result.get("failed")) == ([], None, None)


def test_no_devices(read):
    rc, out = recorded_gpu.NO_DEVICES
    assert read(out, rc)["gpus"] == []


def test_broken_driver(read):
    result = read("Failed to initialize NVML: Driver/library version mismatch\n", 18)
    assert "Driver/library version mismatch" in result["msg"]


def test_not_nvidias_program(read):
    assert "is not XML" in read("hello")["msg"]
