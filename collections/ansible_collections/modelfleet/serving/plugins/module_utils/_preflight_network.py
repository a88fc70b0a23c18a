# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses, ports and names. PRIVATE to the collection: it can have breaking changes at any time.

A check takes what ``preflight_info`` knows: ``params``, ``run_command``, ``facts`` (dict, what it saw), ``error`` and ``warning``
(both with the check and the message).
"""

from __future__ import annotations

import ipaddress
import socket

from ansible_collections.modelfleet.serving.plugins.module_utils import _proc


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
        if owner is None or owner["unit"] != wanted["unit"]:
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


def describe(owner):
    if owner is None:
        return "a process that only root can see"
    return f"{owner['program']} (pid {owner['pid']}, {owner['unit'] or 'no systemd unit'})"


CHECKS = (addresses, twice, ports, names)
