# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is made of. PRIVATE to the collection: it can have breaking changes at any time.

A check takes what ``preflight_info`` knows: ``params``, ``run_command``, ``facts`` (dict, what it saw), ``error`` and ``warning``
(both with the check and the message).
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import sys
import time

from ansible_collections.modelfleet.serving.plugins.module_utils import _proc
from ansible_collections.modelfleet.serving.plugins.module_utils._text import human_bytes

SUPPORTED_OS = {"debian": ("12", "13"), "ubuntu": ("22.04", "24.04")}
EL_IDS = ("rhel", "centos", "rocky", "almalinux", "ol")
SUPPORTED_OS_TEXT = "Debian 12 and 13, Ubuntu 22.04 and 24.04, and Enterprise Linux 9"
MIN_PYTHON = (3, 9)
MIN_JAVA = 11
MIN_SYSTEMD = 249
ARCHITECTURES = ("x86_64", "aarch64")


def parse_os_release(lines):
    """Return what /etc/os-release says; a value may be quoted."""
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, value in pairs}


def operating_system(host):
    release = parse_os_release(_proc.read_lines("/etc/os-release"))
    system, version = release.get("ID", "unknown"), release.get("VERSION_ID", "")
    host.facts["os"] = name = release.get("PRETTY_NAME", f"{system} {version}")
    enterprise = system in EL_IDS or "rhel" in release.get("ID_LIKE", "").split()
    # As Ansible calls it.
    host.facts["os_family"] = "RedHat" if enterprise else "Debian" if {system, *release.get("ID_LIKE", "").split()} & {"debian"} else system
    if version in SUPPORTED_OS.get(system, ()) or (enterprise and version.split(".")[0] == "9"):
        return
    report = host.warning if host.params["allow_unsupported_os"] else host.error
    report(
        "os",
        f"The operating system {name} is not supported; use {SUPPORTED_OS_TEXT}, or set preflight_allow_unsupported_os.",
    )


def python(host):
    host.facts["python"] = version = platform.python_version()
    if tuple(int(part) for part in platform.python_version_tuple()[:2]) < MIN_PYTHON:
        wanted = ".".join(str(part) for part in MIN_PYTHON)
        host.error("python", f"Python {version} runs the modules; point ansible_python_interpreter at {wanted} or newer.")


def systemd(host):
    host.facts["systemd"] = None
    if not os.path.isdir("/run/systemd/system"):
        host.error("systemd", "systemd is not the init system of this host; boot it with systemd, which runs the daemons.")
        return
    rc, out, _err = host.run_command(["systemctl", "--version"])
    match = re.match(r"systemd (\d+)", out)
    if rc != 0 or not match:
        host.error("systemd", "systemctl --version gave no version; repair the systemd installation of this host.")
        return
    host.facts["systemd"] = version = int(match.group(1))
    if version < MIN_SYSTEMD:
        host.error(
            "systemd",
            f"systemd {version} is too old for the sandbox of the units; upgrade the host to one with {MIN_SYSTEMD} or newer.",
        )


def architecture(host):
    host.facts["architecture"] = machine = platform.machine()
    if machine not in ARCHITECTURES:
        host.error("architecture", f"There are no Dragonfly programs for the architecture {machine}; use {' or '.join(ARCHITECTURES)}.")


def memory(host):
    host.facts["memory_bytes"] = size = _proc.memory_bytes()
    wanted = host.params["required_memory_bytes"]
    if size is not None and size < wanted:
        host.warning(
            "memory",
            f"The host has {human_bytes(size)} of memory and {human_bytes(wanted)} are advised; add memory or run fewer workers.",
        )


def clock(host):
    # In a container the clock belongs to the machine below it, which may be synchronised in a way that is not visible here.
    synchronized = None if os.path.exists("/run/systemd/container") else _proc.clock_synchronized()
    epoch, tolerance, now = host.params["controller_epoch"], host.params["clock_tolerance"], time.time()
    host.facts["clock"] = {"epoch": now, "synchronized": synchronized}
    # How long it took to get here is not known, so a later time proves nothing.
    if epoch is not None and now < epoch - tolerance:
        host.error(
            "clock",
            f"The clock is {epoch - now:.0f} s behind the controller's, and object stores refuse requests signed at the wrong time, "
            "daemons certificates; start a time service such as chrony on both.",
        )
    elif synchronized is False:
        host.warning(
            "clock",
            "No time service keeps the clock of this host; start chrony or systemd-timesyncd before it drifts and signatures fail.",
        )


def java(host):
    """TorchServe's unit starts one Java, and a package brings it only where nothing else decides what that is."""
    program, comes = host.params["java"], host.params["java_from_packages"]
    if not program:
        return
    host.facts["java"] = None
    remedy = f"set torchserve_java to the path of a Java {MIN_JAVA} or newer, or name its package in torchserve_packages"
    if not os.path.exists(program):
        if not comes:
            host.error("java", f"There is no Java at {program}, and torchserve_packages brings none; {remedy}.")
        return
    _rc, out, err = host.run_command([program, "-version"])
    # Java 8 calls itself 1.8.
    match = re.search(r'version "(?:1\.)?(\d+)', err + out)
    if not match:
        host.error("java", f"{program} -version gave no version; {remedy}.")
        return
    host.facts["java"] = version = int(match.group(1))
    if version < MIN_JAVA and not (comes and _alternative_is_automatic(program)):
        host.error("java", f"{program} is Java {version}, and TorchServe needs {MIN_JAVA} or newer; {remedy}, and run update-alternatives.")


def _alternative_is_automatic(program):
    """Whether a newer package takes the place of ``program`` by itself, which is in the first line of a file."""
    name = os.path.basename(program)
    states = [_proc.read_lines(f"{directory}/{name}")[:1] for directory in ("/var/lib/dpkg/alternatives", "/var/lib/alternatives")]
    return os.path.dirname(program) == "/usr/bin" and ["auto"] in states


def curl(host):
    host.facts["curl"] = shutil.which("curl") is not None
    if host.params["curl"] and not host.facts["curl"]:
        host.error(
            "curl",
            "There is no program curl on this host, which asks dfdaemon for artifacts, and dfdaemon_packages brings none; name its package "
            "there.",
        )


def programs(host):
    for program in host.params["programs"]:
        if not (os.path.isfile(program["path"]) and os.access(program["path"], os.X_OK)):
            host.error("programs", f"There is no program {program['path']} on this host; install it, or correct {program['variable']}.")


def cryptography(host):
    """What signs URLs for Google Cloud Storage runs with the Python that runs this."""
    if host.params["cryptography"] and not importlib.util.find_spec("cryptography"):
        host.error(
            "cryptography",
            f"{sys.executable} has no library cryptography, which signs URLs for Google Cloud Storage, and dfdaemon_packages brings none; "
            "name its package there.",
        )


CHECKS = (operating_system, python, systemd, architecture, memory, clock, java, curl, programs, cryptography)
