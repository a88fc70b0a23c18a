# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses, ports and names. PRIVATE to the collection: it can have breaking changes at any time.

A check takes what ``preflight_info`` knows: ``params``, ``run_command``, ``facts`` (dict, what it saw), ``error`` and ``warning``
(both with the check and the message).
"""

from __future__ import annotations

import fnmatch
import ipaddress
import os
import pwd
import re
import socket
import struct

from ansible_collections.modelfleet.serving.plugins.module_utils import _nft, _proc

# A request to nf_tables for the number of its last change, which has the kernel load the module: struct nlmsghdr and struct nfgenmsg.
NETLINK_NETFILTER, NFT_MSG_GETGEN, NLM_F_REQUEST, NLMSG_ERROR = 12, 10 << 8 | 16, 1, 2
GETGEN = struct.pack("=IHHII", 20, NFT_MSG_GETGEN, NLM_F_REQUEST, 1, 0) + struct.pack("=BBH", 0, 0, 0)
OFF = "or set modelfleet_firewall to false for it, which leaves Dragonfly's ports open"


def addresses(host):
    """Find listeners whose address this host does not have; a wrong ``modelfleet_address`` is one."""
    own = _proc.addresses()
    units = {}
    for wanted in host.params["ports"]:
        units.setdefault(wanted["address"], wanted["unit"])
    for text, unit in units.items():
        address = _address(text)
        if address is None:
            host.error("address", f"The address {text} of {unit} is not an IP address; correct it in the inventory.")
        elif own and address not in own and not (address.is_unspecified or address.is_loopback):
            known = ", ".join(str(one) for one in own if not (one.is_loopback or one.is_link_local)) or "none but loopback"
            host.error(
                "address",
                f"The address {text}, at which {unit} is to listen, is on no interface of this host, which has {known}; "
                "correct modelfleet_address in the inventory, or give the host this address.",
            )


def _address(text):
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def twice(host):
    """Find a port that two daemons of this host would take."""
    seen = []
    for wanted in host.params["ports"]:
        address = _address(wanted["address"])
        for other, other_address in seen:
            if address and other["port"] == wanted["port"] and _proc.overlaps(address, other_address):
                host.error(
                    "port",
                    f"Port {wanted['port']} is given to {other['unit']} on {other['address']} and to {wanted['unit']} "
                    f"on {wanted['address']}; move one of them.",
                )
        if address:
            seen.append((wanted, address))


def ports(host):
    listeners = _proc.listeners()
    taken = []
    for wanted in host.params["ports"]:
        address = _address(wanted["address"])
        if address is None:  # said above
            continue
        matching = (one for one in listeners if one["port"] == wanted["port"] and _proc.overlaps(one["address"], address))
        taken.extend((wanted, one) for one in matching)
    owners = _proc.socket_owners([one["inode"] for _wanted, one in taken]) if taken else {}
    foreign = {}
    for wanted, one in taken:
        owner = owners.get(one["inode"])
        if owner is None or not fnmatch.fnmatchcase(owner["unit"] or "", wanted["unit"]):
            foreign.setdefault((wanted["port"], wanted["unit"]), (wanted, owner))
    for wanted, owner in foreign.values():
        host.error(
            "port",
            f"Port {wanted['port']} on {wanted['address']} is taken by {describe(owner)}; stop that process "
            f"or give {wanted['unit']} another port.",
        )


def names(host):
    for name in dict.fromkeys(host.params["names"]):
        try:
            socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            host.error("name", f"The name {name} does not resolve ({reason}); correct it in the inventory, or add it to DNS or /etc/hosts.")


def nftables(host):
    """Whether the firewall can be had here."""
    nft = _nft.program()
    host.facts["nftables"] = nft is not None
    if not host.params["firewall"]:
        return
    if not nft and not host.params["firewall_from_packages"]:
        host.error("firewall", f"There is no program nft on this host, and firewall_packages brings none; {_nft.MISSING}, {OFF}.")
    # Without that nft is gone before the rules are written to it.
    problem = kernel_problem()
    if problem:
        host.error("firewall", f"The kernel {os.uname().release} of this host has no nf_tables ({problem}); boot one that has it, {OFF}.")
    elif nft:
        rc, out, err = host.run_command([nft, "--check", "--file", "-"], data=_nft.PROBE)
        if rc != 0:
            host.error(
                "firewall",
                f"The rules of the firewall cannot be loaded on this host ({_nft.said(out, err, rc)}); boot a kernel with nf_tables and "
                f"update nftables, {OFF}.",
            )


def kernel_problem():
    """Empty, or why this kernel has no nf_tables. Needs no program."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
            netlink.settimeout(5)
            netlink.send(GETGEN)
            answer = netlink.recv(4096)
        kind, error = struct.unpack_from("=H", answer, 4)[0], struct.unpack_from("=i", answer, 16)[0]
    except (OSError, struct.error) as exc:
        return getattr(exc, "strerror", None) or str(exc)
    return os.strerror(-error) if kind == NLMSG_ERROR and error else ""


def firewall_users(host):
    for name in host.params["firewall_users"]:
        try:
            found = (name.isascii() and name.isdigit()) or pwd.getpwnam(name)
        except (KeyError, ValueError):
            found = None
        if not found:
            variables = "modelfleet_firewall_users or dragonfly_manager_rest_users"
            host.error("firewall", f"There is no user {name} on this host, whom {variables} names; create it, or leave it out.")


def source_addresses(host):
    """Find an address of this host by which the others would not know it. No packet is sent: the kernel says which it would take."""
    known = [_address(one) for one in host.params["firewall_addresses"]]
    foreign = {}
    for text in host.params["firewall_members"]:
        address = _address(text)
        source = _source(address) if address else None
        if source and not source.is_loopback and source not in known:
            foreign.setdefault(source, text)
    for source, text in foreign.items():
        host.error(
            "firewall",
            f"This host calls {text} from {source}, and the firewall of the others admits "
            f"{' and '.join(host.params['firewall_addresses'])} only; add that address to "
            "modelfleet_firewall_addresses of this host, or correct its routes.",
        )


def _source(address):
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return _address(probe.getsockname()[0].partition("%")[0])
    except OSError:
        return None  # it has no route, which whoever waits for that host says


def other_firewalls(host):
    """Find rules of others that drop what nobody admits: what they drop stays dropped, whatever a table of our own accepts."""
    nft = _nft.program()
    if not host.params["firewall"] or not nft:
        return
    rc, out, _err = host.run_command([nft, "--stateless", "list", "ruleset"])
    wanted = [one["port"] for one in host.params["ports"] if not (_address(one["address"]) or ipaddress.ip_address("::1")).is_loopback]
    for table, text in tables(out) if rc == 0 else []:
        closed = [str(port) for port in dict.fromkeys(wanted) if not re.search(rf"\b{port}\b", text)]
        if closed and drops(text):
            names = ", ".join(f"{port}/tcp" for port in closed)
            host.warning(
                "firewall",
                f"The rules of others in the table {table} drop what they do not admit, and do not name {names}, on which this host is to "
                "listen; unless they admit in another way whoever is to call, open it there (firewall-cmd --permanent "
                "--add-port=PORT/tcp, or ufw allow PORT/tcp).",
            )


def tables(ruleset):
    """Yield (family and name, text) of the tables of others in a listing."""
    for found in re.finditer(r"^table (\S+ \S+) \{$(.*?)^\}$", ruleset, re.DOTALL | re.MULTILINE):
        if found[1] != f"{_nft.FAMILY} modelfleet":
            yield found[1], found[2]


def drops(table):
    """Whether a chain for what comes to this host ends what no rule of it accepts."""
    for found in re.finditer(
        r"^\s*chain \S+ \{\n\s*type filter hook input [^;]*;(?: policy (\w+);)?(.*?)^\t\}$", table, re.DOTALL | re.MULTILINE
    ):
        last = [line.strip() for line in found[2].splitlines() if line.strip()][-1:]
        if found[1] == "drop" or any(re.match(r'(counter |log (prefix "[^"]*" )?)*(drop|reject)\b', line) for line in last):
            return True
    return False


def describe(owner):
    if owner is None:
        return "a process that only root can see"
    return f"{owner['program']} (pid {owner['pid']}, {owner['unit'] or 'no systemd unit'})"


CHECKS = (addresses, twice, ports, names, nftables, firewall_users, source_addresses, other_firewalls)
