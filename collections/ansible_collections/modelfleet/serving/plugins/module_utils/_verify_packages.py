# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages of the distribution, by its own means. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import os
import re

from ansible_collections.modelfleet.serving.plugins.module_utils._files import read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._preflight_system import parse_os_release
from ansible_collections.modelfleet.serving.plugins.module_utils._verify import CHANGED, MISSING

PACKAGES = "packages"
# Nobody runs these, and images leave them out.
_FOR_PEOPLE = re.compile(r"/usr/share/(doc|man|info|locale|lintian|bug|common-licenses)/")
# Flags (5: another digest), c for a configuration file, the path; rpm writes fewer flags.
_LINE = re.compile(r"(?P<flags>missing|[A-Za-z0-9.?]{8,9})\s+(?:(?P<kind>[a-z])\s+)?(?P<path>/.*)")


def verify_packages(look, names, programs, run_command):
    """The packages ``names`` and those that have the ``programs`` (paths), as what their distribution has signed."""
    if not names and not programs:
        return
    for manager in (_Dpkg, _Rpm):
        if os.path.exists(manager.database):
            break
    else:
        look.leave(PACKAGES, "packages of the distribution", "this host has neither dpkg nor rpm")
        return
    distribution = distribution_of(read_text("/etc/os-release") or "")
    wanted = {}
    for name in names:
        found = manager.installed(run_command, name)
        if found:
            wanted[found["name"]] = found
        else:
            look.add(PACKAGES, name, MISSING, name)
    for program in programs:
        path = os.path.realpath(program)
        owner = manager.owner(run_command, path)
        found = manager.installed(run_command, owner) if owner else None
        if found:
            wanted[found["name"]] = found
        else:
            look.leave(PACKAGES, path, "no package has it" if os.path.exists(path) else "it is not there")
    for name in sorted(wanted):
        look.has({"kind": "package", "manager": manager.name, "distribution": distribution, **wanted[name]})
        for flags, path in _differences(manager.verify(run_command, name)):
            look.add(PACKAGES, f"{name} {wanted[name]['version']}", MISSING if flags == "missing" else CHANGED, path)
    look.leave(PACKAGES, "packages of the distribution", f"{manager.by}; their configuration files, and what else they depend on")


def distribution_of(text):
    """{"id", "version"} of /etc/os-release."""
    release = parse_os_release(text.splitlines())
    return {"id": release.get("ID", ""), "version": release.get("VERSION_ID", "")}


def _differences(text):
    for line in text.splitlines():
        found = _LINE.fullmatch(line.strip())
        if not found or found["kind"] == "c" or _FOR_PEOPLE.match(found["path"]):
            continue
        # Of a file that only has another time or owner, the content is that of the package.
        if found["flags"] == "missing" or "5" in found["flags"]:
            yield found["flags"], found["path"]


class _Dpkg:
    name, database = "deb", "/var/lib/dpkg/status"
    by = "compared by the MD5 that dpkg keeps"

    @staticmethod
    def installed(run_command, name):
        rc, out, _err = run_command(["dpkg-query", "-W", "-f", "${Package}\\t${Version}\\t${Architecture}\\t${db:Status-Status}\\n", name])
        for line in out.splitlines() if rc == 0 else []:
            package, version, architecture, state = (*line.split("\t"), "", "", "")[:4]
            if state == "installed":
                return {"name": package, "version": version, "architecture": architecture}
        return None

    @staticmethod
    def owner(run_command, path):
        # What was packed before /bin was a link has its old name.
        for name in (path, path[4:] if path.startswith("/usr/") else path):
            rc, out, _err = run_command(["dpkg-query", "-S", name])
            if rc == 0 and ": " in out and not out.startswith("diversion"):
                return out.splitlines()[0].partition(": ")[0].partition(",")[0].partition(":")[0]
        return ""

    @staticmethod
    def verify(run_command, name):
        return run_command(["dpkg", "--verify", name])[1]


class _Rpm:
    name, database = "rpm", "/var/lib/rpm"
    by = "compared by the digests that rpm keeps"

    @staticmethod
    def installed(run_command, name):
        form = "%{NAME}\\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\\t%{ARCH}\\n"
        rc, out, _err = run_command(["rpm", "-q", "--queryformat", form, name])
        if rc:
            # What another package provides.
            rc, out, _err = run_command(["rpm", "-q", "--whatprovides", "--queryformat", form, name])
        if rc or not out.strip():
            return None
        package, version, architecture = (*out.splitlines()[0].split("\t"), "", "")[:3]
        return {"name": package, "version": version[2:] if version.startswith("0:") else version, "architecture": architecture}

    @staticmethod
    def owner(run_command, path):
        rc, out, _err = run_command(["rpm", "-qf", "--queryformat", "%{NAME}\\n", path])
        return out.splitlines()[0] if rc == 0 and out.strip() else ""

    @staticmethod
    def verify(run_command, name):
        return run_command(["rpm", "-V", "--nodeps", "--noscripts", name])[1]
