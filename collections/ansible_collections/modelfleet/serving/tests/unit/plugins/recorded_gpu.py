# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host with a GPU said: one NVIDIA H100 80GB HBM3, handed through to a virtual machine, with the open driver 580.159.04, torch
2.11.0+cu130 and TorchServe 0.12.0. Recorded on 26 November 2026; NO_PERMISSION a day later, of an H200 with the same driver.

Left out are the clocks that the GPU supports and most of the lines of /dev/nvidiactl; made up are the numbers of the board.
"""

from __future__ import annotations

# nvidia-smi -q -x
IDLE = """<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v13.dtd">
<nvidia_smi_log>
  <timestamp>Thu Nov 26 11:23:43 2026</timestamp>
  <driver_version>580.159.04</driver_version>
  <cuda_version>13.0</cuda_version>
  <attached_gpus>1</attached_gpus>
  <gpu id="00000000:00:06.0">
    <product_name>NVIDIA H100 80GB HBM3</product_name>
    <product_brand>NVIDIA</product_brand>
    <product_architecture>Hopper</product_architecture>
    <display_mode>Requested functionality has been deprecated</display_mode>
    <display_attached>Yes</display_attached>
    <display_active>Disabled</display_active>
    <persistence_mode>Enabled</persistence_mode>
    <addressing_mode>None</addressing_mode>
    <mig_mode>
      <current_mig>Disabled</current_mig>
      <pending_mig>Disabled</pending_mig>
    </mig_mode>
    <mig_devices>
      None
    </mig_devices>
    <accounting_mode>Disabled</accounting_mode>
    <accounting_mode_buffer_size>4000</accounting_mode_buffer_size>
    <driver_model>
      <current_dm>N/A</current_dm>
      <pending_dm>N/A</pending_dm>
    </driver_model>
    <serial>1650000000000</serial>
    <uuid>GPU-1e5a2ac9-6a4b-8f0e-2f5d-0d4a5b3c2e1f</uuid>
    <pdi>0x1e5a2ac96a4b8f0e</pdi>
    <minor_number>0</minor_number>
    <vbios_version>96.00.DA.00.0C</vbios_version>
    <multigpu_board>No</multigpu_board>
    <board_id>0x6</board_id>
    <board_part_number>695-2G520-0200-000</board_part_number>
    <gpu_part_number>2330-885-A1</gpu_part_number>
    <gpu_fru_part_number>N/A</gpu_fru_part_number>
    <platformInfo>
      <chassis_serial_number>N/A</chassis_serial_number>
      <slot_number>N/A</slot_number>
      <tray_index>N/A</tray_index>
      <host_id>N/A</host_id>
      <peer_type>N/A</peer_type>
      <module_id>3</module_id>
      <gpu_fabric_guid>N/A</gpu_fabric_guid>
    </platformInfo>
    <inforom_version>
      <img_version>G520.0200.00.05</img_version>
      <oem_object>2.1</oem_object>
      <ecc_object>7.16</ecc_object>
      <pwr_object>N/A</pwr_object>
    </inforom_version>
    <inforom_bbx_flush>
      <latest_timestamp>N/A</latest_timestamp>
      <latest_duration>N/A</latest_duration>
    </inforom_bbx_flush>
    <gpu_operation_mode>
      <current_gom>N/A</current_gom>
      <pending_gom>N/A</pending_gom>
    </gpu_operation_mode>
    <c2c_mode>Disabled</c2c_mode>
    <gpu_virtualization_mode>
      <virtualization_mode>Pass-Through</virtualization_mode>
      <host_vgpu_mode>N/A</host_vgpu_mode>
      <vgpu_heterogeneous_mode>N/A</vgpu_heterogeneous_mode>
    </gpu_virtualization_mode>
    <gpu_recovery_action>None</gpu_recovery_action>
    <gsp_firmware_version>580.159.04</gsp_firmware_version>
    <ibmnpu>
      <relaxed_ordering_mode>N/A</relaxed_ordering_mode>
    </ibmnpu>
    <pci>
      <pci_bus>00</pci_bus>
      <pci_device>06</pci_device>
      <pci_domain>0000</pci_domain>
      <pci_base_class>3</pci_base_class>
      <pci_sub_class>2</pci_sub_class>
      <pci_device_id>233010DE</pci_device_id>
      <pci_bus_id>00000000:00:06.0</pci_bus_id>
      <pci_sub_system_id>16C110DE</pci_sub_system_id>
      <pci_gpu_link_info>
        <pcie_gen>
          <max_link_gen>5</max_link_gen>
          <current_link_gen>5</current_link_gen>
          <device_current_link_gen>5</device_current_link_gen>
          <max_device_link_gen>5</max_device_link_gen>
          <max_host_link_gen>N/A</max_host_link_gen>
        </pcie_gen>
        <link_widths>
          <max_link_width>16x</max_link_width>
          <current_link_width>16x</current_link_width>
        </link_widths>
      </pci_gpu_link_info>
      <pci_bridge_chip>
        <bridge_chip_type>N/A</bridge_chip_type>
        <bridge_chip_fw>N/A</bridge_chip_fw>
      </pci_bridge_chip>
      <replay_counter>1</replay_counter>
      <replay_rollover_counter>0</replay_rollover_counter>
      <tx_util>1023 KB/s</tx_util>
      <rx_util>603 KB/s</rx_util>
      <atomic_caps_outbound>N/A</atomic_caps_outbound>
      <atomic_caps_inbound>N/A</atomic_caps_inbound>
    </pci>
    <fan_speed>N/A</fan_speed>
    <performance_state>P0</performance_state>
    <clocks_event_reasons>
      <clocks_event_reason_gpu_idle>Active</clocks_event_reason_gpu_idle>
      <clocks_event_reason_applications_clocks_setting>Not Active</clocks_event_reason_applications_clocks_setting>
      <clocks_event_reason_sw_power_cap>Not Active</clocks_event_reason_sw_power_cap>
      <clocks_event_reason_hw_slowdown>Not Active</clocks_event_reason_hw_slowdown>
      <clocks_event_reason_hw_thermal_slowdown>Not Active</clocks_event_reason_hw_thermal_slowdown>
      <clocks_event_reason_hw_power_brake_slowdown>Not Active</clocks_event_reason_hw_power_brake_slowdown>
      <clocks_event_reason_sync_boost>Not Active</clocks_event_reason_sync_boost>
      <clocks_event_reason_sw_thermal_slowdown>Not Active</clocks_event_reason_sw_thermal_slowdown>
      <clocks_event_reason_display_clocks_setting>Not Active</clocks_event_reason_display_clocks_setting>
    </clocks_event_reasons>
    <clocks_event_reasons_counters>
      <clocks_event_reasons_counters_sw_power_cap>0 us</clocks_event_reasons_counters_sw_power_cap>
      <clocks_event_reasons_counters_sync_boost>0 us</clocks_event_reasons_counters_sync_boost>
      <clocks_event_reasons_counters_sw_therm_slowdown>0 us</clocks_event_reasons_counters_sw_therm_slowdown>
      <clocks_event_reasons_counters_hw_therm_slowdown>0 us</clocks_event_reasons_counters_hw_therm_slowdown>
      <clocks_event_reasons_counters_hw_power_brake>0 us</clocks_event_reasons_counters_hw_power_brake>
    </clocks_event_reasons_counters>
    <sparse_operation_mode>Disabled</sparse_operation_mode>
    <fb_memory_usage>
      <total>81559 MiB</total>
      <reserved>480 MiB</reserved>
      <used>0 MiB</used>
      <free>81079 MiB</free>
    </fb_memory_usage>
    <bar1_memory_usage>
      <total>131072 MiB</total>
      <used>1 MiB</used>
      <free>131071 MiB</free>
    </bar1_memory_usage>
    <cc_protected_memory_usage>
      <total>0 MiB</total>
      <used>0 MiB</used>
      <free>0 MiB</free>
    </cc_protected_memory_usage>
    <compute_mode>Default</compute_mode>
    <utilization>
      <gpu_util>0 %</gpu_util>
      <memory_util>0 %</memory_util>
      <encoder_util>0 %</encoder_util>
      <decoder_util>0 %</decoder_util>
      <jpeg_util>0 %</jpeg_util>
      <ofa_util>0 %</ofa_util>
    </utilization>
    <encoder_stats>
      <session_count>0</session_count>
      <average_fps>0</average_fps>
      <average_latency>0</average_latency>
    </encoder_stats>
    <fbc_stats>
      <session_count>0</session_count>
      <average_fps>0</average_fps>
      <average_latency>0</average_latency>
    </fbc_stats>
    <dram_encryption_mode>
      <current_dram_encryption>N/A</current_dram_encryption>
      <pending_dram_encryption>N/A</pending_dram_encryption>
    </dram_encryption_mode>
    <ecc_mode>
      <current_ecc>Enabled</current_ecc>
      <pending_ecc>Enabled</pending_ecc>
    </ecc_mode>
    <ecc_errors>
      <volatile>
        <sram_correctable>0</sram_correctable>
        <sram_uncorrectable_parity>0</sram_uncorrectable_parity>
        <sram_uncorrectable_secded>0</sram_uncorrectable_secded>
        <dram_correctable>0</dram_correctable>
        <dram_uncorrectable>0</dram_uncorrectable>
      </volatile>
      <aggregate>
        <sram_correctable>0</sram_correctable>
        <sram_uncorrectable_parity>0</sram_uncorrectable_parity>
        <sram_uncorrectable_secded>0</sram_uncorrectable_secded>
        <dram_correctable>0</dram_correctable>
        <dram_uncorrectable>0</dram_uncorrectable>
        <sram_threshold_exceeded>No</sram_threshold_exceeded>
      </aggregate>
      <aggregate_uncorrectable_sram_sources>
        <sram_l2>0</sram_l2>
        <sram_sm>0</sram_sm>
        <sram_microcontroller>0</sram_microcontroller>
        <sram_pcie>0</sram_pcie>
        <sram_other>0</sram_other>
      </aggregate_uncorrectable_sram_sources>
      <channel_repair_pending>No</channel_repair_pending>
      <tpc_repair_pending>No</tpc_repair_pending>
      <unrepairable_memory>No</unrepairable_memory>
    </ecc_errors>
    <retired_pages>
      <multiple_single_bit_retirement>
        <retired_count>N/A</retired_count>
        <retired_pagelist>N/A</retired_pagelist>
      </multiple_single_bit_retirement>
      <double_bit_retirement>
        <retired_count>N/A</retired_count>
        <retired_pagelist>N/A</retired_pagelist>
      </double_bit_retirement>
      <pending_blacklist>N/A</pending_blacklist>
      <pending_retirement>N/A</pending_retirement>
    </retired_pages>
    <remapped_rows>
      <remapped_row_corr>0</remapped_row_corr>
      <remapped_row_corr_inactive>0</remapped_row_corr_inactive>
      <remapped_row_unc>0</remapped_row_unc>
      <remapped_row_unc_inactive>0</remapped_row_unc_inactive>
      <remapped_row_pending>No</remapped_row_pending>
      <remapped_row_failure>No</remapped_row_failure>
      <row_remapper_histogram>
        <row_remapper_histogram_max>2560 bank(s)</row_remapper_histogram_max>
        <row_remapper_histogram_high>0 bank(s)</row_remapper_histogram_high>
        <row_remapper_histogram_partial>0 bank(s)</row_remapper_histogram_partial>
        <row_remapper_histogram_low>0 bank(s)</row_remapper_histogram_low>
        <row_remapper_histogram_none>0 bank(s)</row_remapper_histogram_none>
      </row_remapper_histogram>
    </remapped_rows>
    <temperature>
      <gpu_temp>36 C</gpu_temp>
      <gpu_temp_tlimit>51 C</gpu_temp_tlimit>
      <gpu_temp_max_tlimit_threshold>-8 C</gpu_temp_max_tlimit_threshold>
      <gpu_temp_slow_tlimit_threshold>-2 C</gpu_temp_slow_tlimit_threshold>
      <gpu_temp_max_gpu_tlimit_threshold>0 C</gpu_temp_max_gpu_tlimit_threshold>
      <gpu_target_temperature>N/A</gpu_target_temperature>
      <memory_temp>39 C</memory_temp>
      <gpu_temp_max_mem_tlimit_threshold>0 C</gpu_temp_max_mem_tlimit_threshold>
    </temperature>
    <supported_gpu_target_temp>
      <gpu_target_temp_min>N/A</gpu_target_temp_min>
      <gpu_target_temp_max>N/A</gpu_target_temp_max>
    </supported_gpu_target_temp>
    <gpu_power_readings>
      <power_state>P0</power_state>
      <average_power_draw>69.29 W</average_power_draw>
      <instant_power_draw>69.52 W</instant_power_draw>
      <current_power_limit>700.00 W</current_power_limit>
      <requested_power_limit>700.00 W</requested_power_limit>
      <default_power_limit>700.00 W</default_power_limit>
      <min_power_limit>200.00 W</min_power_limit>
      <max_power_limit>700.00 W</max_power_limit>
    </gpu_power_readings>
    <gpu_memory_power_readings>
      <average_power_draw>45.08 W</average_power_draw>
      <instant_power_draw>N/A</instant_power_draw>
    </gpu_memory_power_readings>
    <module_power_readings>
      <power_state>P0</power_state>
      <average_power_draw>N/A</average_power_draw>
      <instant_power_draw>N/A</instant_power_draw>
      <current_power_limit>N/A</current_power_limit>
      <requested_power_limit>N/A</requested_power_limit>
      <default_power_limit>N/A</default_power_limit>
      <min_power_limit>N/A</min_power_limit>
      <max_power_limit>N/A</max_power_limit>
    </module_power_readings>
    <power_smoothing>N/A</power_smoothing>
    <power_profiles>
      <power_profile_requested_profiles>N/A</power_profile_requested_profiles>
      <power_profile_enforced_profiles>N/A</power_profile_enforced_profiles>
    </power_profiles>
    <clocks>
      <graphics_clock>345 MHz</graphics_clock>
      <sm_clock>345 MHz</sm_clock>
      <mem_clock>2619 MHz</mem_clock>
      <video_clock>765 MHz</video_clock>
    </clocks>
    <applications_clocks>
      <graphics_clock>1980 MHz</graphics_clock>
      <mem_clock>2619 MHz</mem_clock>
    </applications_clocks>
    <default_applications_clocks>
      <graphics_clock>1980 MHz</graphics_clock>
      <mem_clock>2619 MHz</mem_clock>
    </default_applications_clocks>
    <deferred_clocks>
      <mem_clock>N/A</mem_clock>
    </deferred_clocks>
    <max_clocks>
      <graphics_clock>1980 MHz</graphics_clock>
      <sm_clock>1980 MHz</sm_clock>
      <mem_clock>2619 MHz</mem_clock>
      <video_clock>1545 MHz</video_clock>
    </max_clocks>
    <max_customer_boost_clocks>
      <graphics_clock>1980 MHz</graphics_clock>
    </max_customer_boost_clocks>
    <clock_policy>
      <auto_boost>N/A</auto_boost>
      <auto_boost_default>N/A</auto_boost_default>
    </clock_policy>
    <fabric>
      <state>N/A</state>
      <status>N/A</status>
      <cliqueId>N/A</cliqueId>
      <clusterUuid>N/A</clusterUuid>
      <health>
        <summary>N/A</summary>
        <bandwidth>N/A</bandwidth>
        <route_recovery_in_progress>N/A</route_recovery_in_progress>
        <route_unhealthy>N/A</route_unhealthy>
        <access_timeout_recovery>N/A</access_timeout_recovery>
        <incorrect_configuration>N/A</incorrect_configuration>
        <partition_assigned>N/A</partition_assigned>
      </health>
    </fabric>
    <supported_clocks>N/A</supported_clocks>
    <processes>
    </processes>
    <accounted_processes>
    </accounted_processes>
    <capabilities>
      <egm>disabled</egm>
    </capabilities>
  </gpu>
</nvidia_smi_log>
"""
# What gpu_info makes of it.
IDLE_GPU = {
    "index": 0,
    "name": "NVIDIA H100 80GB HBM3",
    "uuid": "GPU-1e5a2ac9-6a4b-8f0e-2f5d-0d4a5b3c2e1f",
    "bus_id": "00000000:00:06.0",
    "memory_total_mib": 81559,
    "memory_used_mib": 0,
    "temperature_c": 36,
    "temperature_margin_c": 51,
    "mig": False,
    "mig_pending": False,
    "mig_instances": 0,
    "compute_mode": "Default",
    "persistence": True,
    "ecc_uncorrectable": 0,
    "repair_pending": False,
    "repair_failed": False,
    "recovery": None,
    "fabric": None,
    "fabric_status": None,
    "processes": [],
}

# The same while one program multiplied matrices and held 40 GiB.
PROCESS = """\
      <process_info>
        <gpu_instance_id>N/A</gpu_instance_id>
        <compute_instance_id>N/A</compute_instance_id>
        <pid>1033</pid>
        <type>C</type>
        <process_name>/opt/torch/.venv/bin/python3</process_name>
        <used_memory>41962 MiB</used_memory>
      </process_info>
"""
BUSY = (
    IDLE.replace("<used>0 MiB</used>", "<used>41971 MiB</used>", 1)
    .replace("<gpu_temp>36 C<", "<gpu_temp>70 C<")
    .replace("<gpu_temp_tlimit>51 C<", "<gpu_temp_tlimit>9 C<")
    .replace("<processes>\n", "<processes>\n" + PROCESS)
)

# Exit status and output of nvidia-smi where its user has no device of a GPU, may not open /dev/nvidiactl, has no device at all, and where
# the library is gone.
NO_DEVICES = (6, "No devices were found\n")
NO_PERMISSION = (4, "Failed to initialize NVML: Insufficient Permissions\n")
NO_DRIVER = (
    9,
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed "
    "and running.\n\n",
)
NO_LIBRARY = (
    12,
    "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure that the NVIDIA Display Driver is properly "
    "installed and present in your system.\nPlease also try adding directory that contains libnvidia-ml.so to your system PATH.\n",
)

# What the kernel logged when a program wrote where it has no memory.
DMESG = """\
[    0.546614] NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (nixbld@)
[    3.496768] NVRM: Persistence mode is deprecated and will be removed in a future release. Please use nvidia-persistenced instead.
[  155.466457] NVRM: GPU at PCI:0000:00:06: GPU-1e5a2ac9-6a4b-8f0e-2f5d-0d4a5b3c2e1f
[  155.466469] NVRM: GPU Board Serial Number: 1650000000000
[  155.466470] NVRM: Xid (PCI:0000:00:06): 31, pid=3995, name=python3, channel 0x0000000a, intr 00000000. MMU Fault: ENGINE GRAPHICS
"""

# TorchServe's word on any worker that it gave the GPU, on one whose handler stayed on the CPU as well.
GPU_USAGE = "gpuId::0 utilization.gpu [%]::0 % utilization.memory [%]::0 % memory.used [MiB]::5468 MiB"

# /proc/<pid>/maps of a process with a tensor on the GPU, and of one that has called torch.cuda.is_available(). Both have /dev/nvidia0,
# /dev/nvidiactl and /dev/nvidia-uvm open; nvidia-smi names the first one alone.
USES = """\
200600000-200800000 rw-s 00000000 00:06 143                              /dev/nvidia0
200800000-204000000 rw-s 00000000 00:06 142                              /dev/nvidiactl
204600000-204800000 rw-s 00000000 00:06 142                              /dev/nvidiactl
204800000-204a00000 rw-s 00000000 00:06 142                              /dev/nvidiactl
204a00000-204c00000 rw-s 204a00000 00:06 144                             /dev/nvidia-uvm
7f0fb04e4000-7f0fb04f4000 -w-s 00000000 00:06 143                        /dev/nvidia0
7f0fb06cf000-7f0fb06df000 -w-s 00000000 00:06 143                        /dev/nvidia0
7f0fb1601000-7f0fb1602000 r--s 00000000 00:06 142                        /dev/nvidiactl
"""
ASKED = """\
7fdd7808e000-7fdd7809e000 -w-s 00000000 00:06 143                        /dev/nvidia0
7fdd784b1000-7fdd784c1000 -w-s 00000000 00:06 143                        /dev/nvidia0
7fdd7957f000-7fdd79580000 r--s 00000000 00:06 142                        /dev/nvidiactl
"""
# A child that the first kind of process has forked: the GPU is its parent's.
FORKED = """\
200600000-200800000 rw-s 00000000 00:06 143                              /dev/nvidia0
200800000-204000000 rw-s 00000000 00:06 142                              /dev/nvidiactl
204600000-204800000 rw-s 00000000 00:06 142                              /dev/nvidiactl
204800000-204a00000 rw-s 00000000 00:06 142                              /dev/nvidiactl
7f2a75958000-7f2a75968000 -w-s 00000000 00:06 143                        /dev/nvidia0
7f2a759a4000-7f2a759b4000 -w-s 00000000 00:06 143                        /dev/nvidia0
7f2a76ea4000-7f2a76ea5000 r--s 00000000 00:06 142                        /dev/nvidiactl
"""
