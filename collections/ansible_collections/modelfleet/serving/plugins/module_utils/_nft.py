# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One table of nftables, as a file and in the kernel. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import ipaddress
import os
import re

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

FAMILY = "inet"
PROGRAMS = ("/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft")
MISSING = "install the package nftables"
# Sets stand before it, what only this host has behind it.
MARK = "# What follows is of this host alone.\n"
HEAD = """\
#!/usr/sbin/nft -f
# Managed by Ansible (modelfleet.serving): changes made here are lost.
# One transaction: at no moment there is no table, and no other table is touched.
table {family} {name}
delete table {family} {name}

"""
# What a ruleset of this collection needs of a kernel; it is only checked, never loaded.
PROBE = """\
table inet modelfleet_probe {
    set users {
        type uid
        elements = { 0 }
    }
    chain output {
        type filter hook output priority filter - 10; policy accept;
        tcp flags & (fin | syn | rst | ack) == syn meta skuid != @users counter reject with tcp reset
    }
}
"""


def program():
    """The path of nft, or None where it is not installed."""
    return next((path for path in PROGRAMS if os.access(path, os.X_OK)), None)


def said(out, err, rc):
    """What a program said, in one line; nft shows the place of a mistake in the lines after the first."""
    text = (err or out).strip()
    return text.splitlines()[0].strip() if text else f"it ended with {rc}"


def element(kind, value):
    """An element of a set as nft prints it, of the type ``ipv4_addr``, ``ipv6_addr`` or ``inet_service``. Raises ValueError."""
    if kind == "inet_service":
        port = int(str(value))
        if not 1 <= port <= 65535:
            raise ValueError(value)
        return str(port)
    address = ipaddress.ip_address(str(value))
    if kind != f"ipv{address.version}_addr" or "%" in str(value):
        raise ValueError(value)
    return str(address)


def ordered(kind, elements):
    return sorted(set(elements), key=int if kind == "inet_service" else ipaddress.ip_address)


def render_set(name, kind, elements):
    lines = [f"    set {name} {{", f"        type {kind}"]
    if elements:
        lines += ["        elements = {", ",\n".join(f"            {one}" for one in elements), "        }"]
    return "\n".join([*lines, "    }", ""])


def block(name, text):
    return f"table {FAMILY} {name} {{\n{text}}}\n"


def listed(run_command, nft, name):
    """The table of the kernel as text, without its counters, or None where there is none."""
    rc, out, err = run_command([nft, "--stateless", "list", "table", FAMILY, name])
    if rc == 0:
        return out
    if "No such file or directory" in err:
        return None
    raise ModelFleetError(
        f"Failed to list the table {FAMILY} {name}: {said(out, err, rc)}. See that the kernel has nf_tables (modprobe nf_tables)."
    )


def listed_of(run_command, nft, name, text):
    """What the kernel would make of ``text``, as ``listed`` returns it: loaded into a network namespace that is gone after that."""
    script = '"$0" --file - && exec "$0" --stateless list table "$1" "$2"'
    # Root without CAP_SYS_ADMIN, as a sandbox has it, needs a user namespace for that. Which one is to be had is asked without the rules: a
    # program that is refused may be gone before they are written to it, and run_command fails for that.
    for users in ([], ["--user", "--keep-caps"]):
        namespace = ["unshare", *users, "--net"]
        rc, out, err = run_command([*namespace, "true"])
        if rc == 0:
            rc, out, err = run_command([*namespace, "/bin/sh", "-c", script, nft, FAMILY, name], data=text)
            if rc == 0:
                return out
            break
    raise ModelFleetError(
        f"Failed to try the rules of the table {FAMILY} {name} in a network namespace: {said(out, err, rc)}. Nothing was changed. "
        "Correct what it names, or boot a kernel with nf_tables and network namespaces."
    )


def elements_in(listing, name, kind):
    """The elements of a set in a listing."""
    found = re.search(rf"^\s*set {re.escape(name)} \{{(.*?)^\s*\}}\s*?$", listing or "", re.DOTALL | re.MULTILINE)
    inner = re.search(r"elements = \{([^}]*)\}", found[1]) if found else None
    wanted = []
    for one in inner[1].split(",") if inner else []:
        try:
            wanted.append(element(kind, one.strip()))
        except ValueError:
            continue
    return wanted
