# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: monitoring_findings
short_description: Find what is wrong with the variables of monitoring
version_added: 0.1.0
description:
  - Checks what an argument specification cannot say, such as a port that another daemon has or a Prometheus without an address.
  - Returns every finding at once, as sentences that say what is wrong and what to do.
positional: _input
options:
  _input:
    description:
      - The variables of one host, by name. Those of the role P(modelfleet.serving.monitoring#role), C(inventory_hostname) and
        C(modelfleet_mtls).
      - C(prometheus) are the addresses of the hosts that scrape, by host.
      - C(daemons) are those of the host that listen as well, as P(modelfleet.serving.addresses#filter) calls them, by the variables in
        C(listening).
    type: dict
    required: true
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Check the pages that are passed on
  ansible.builtin.assert:
    that: dict(monitoring_pages=monitoring_pages) | modelfleet.serving.monitoring_findings | length == 0
"""

RETURN = r"""
_value:
  description: The findings, one sentence each.
  type: list
  elements: str
"""

import ipaddress
import re

from ansible_collections.modelfleet.serving.plugins.module_utils import _addresses

# Pages that the role has by itself.
OWN = ("host", "scheduler", "manager", "dfdaemon", "torchserve", "triton")
# It becomes a word of HAProxy's configuration and a label.
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def monitoring_findings(settings):
    return [*_of_the_fleet(settings), *_of_the_door(settings), *_of_pages(settings), *_of_times(settings)]


def _of_the_fleet(settings):
    if "modelfleet_mtls" in settings and not settings["modelfleet_mtls"]:
        yield (
            "The group modelfleet_prometheus has hosts, and modelfleet_mtls is false, so that there are no certificates by which a door "
            "knows them; set modelfleet_mtls to true, or empty the group."
        )
    for host, address in (settings.get("prometheus") or {}).items():
        if not _is_address(address):
            yield (
                f"The host {host} of modelfleet_prometheus has no modelfleet_address that is an IP address ('{address or ''}'), so that no "
                "door would admit it; write the one from which it scrapes."
            )
        if not _HOST.fullmatch(str(host)):
            yield (
                f"The host '{host}' of modelfleet_prometheus has a name that HAProxy does not take; rename it, with letters, digits and "
                "._- only."
            )


def _is_address(text):
    try:
        ipaddress.ip_address(str(text))
    except ValueError:
        return False
    return True


def _of_the_door(settings):
    if "monitoring_address" in settings and not _is_address(settings["monitoring_address"]):
        yield (
            f"The monitoring_address is not an IP address ('{settings['monitoring_address']}'); write the one of this host that Prometheus "
            "reaches, which its certificate must have."
        )
    if "monitoring_port" not in settings:
        return
    port = _addresses.whole(settings["monitoring_port"]) or 0
    if not 1024 <= port <= 65535:
        yield f"The monitoring_port is {settings['monitoring_port']}, and the door has no privileges; use one from 1024 to 65535."
        return
    yield from _addresses.taken(settings, port, "monitoring_port")


def _of_pages(settings):
    pages, seen = settings.get("monitoring_pages") or [], set()
    for number, page in enumerate(pages if isinstance(pages, list) else []):
        if not hasattr(page, "get"):
            continue
        name, address = str(page.get("name", "")), str(page.get("address", ""))
        label = f"page monitoring_pages[{number}]" + (f" ({name})" if _NAME.fullmatch(name) else "")
        if not _NAME.fullmatch(name):
            yield f"The name of the {label} must be of small letters, digits and _-, 31 at most, with a letter first; rename it."
        elif name in OWN:
            yield f"The {label} has the name of a page that every such host has; give it another one."
        elif name in seen:
            yield f"The {label} has the name of another one; give each its own, as its path is made of it."
        seen.add(name)
        host, _colon, port = address.rpartition(":")
        if not (_is_address(host.strip("[]")) and 1 <= (_addresses.whole(port) or 0) <= 65535):
            yield f"The address of the {label} is not an IP address and a port ('{address}'); write one such as 127.0.0.1:9100."
        elif not ipaddress.ip_address(host.strip("[]")).is_loopback:
            yield (
                f"The address of the {label} is not one of loopback ('{address}'), so that others reach it past the door already; have it "
                "listen on 127.0.0.1, or have Prometheus read it there."
            )


def _of_times(settings):
    for name, least in (("monitoring_interval_seconds", 10), ("monitoring_smoke_seconds", 30)):
        if name in settings and (_addresses.whole(settings[name]) or 0) < least:
            yield f"The {name} is {settings[name]}; set it to {least} or more, as each look asks what serves."
    # The alerts take a page that is older than five minutes for one that nobody writes.
    if (_addresses.whole(settings.get("monitoring_interval_seconds")) or 0) > 120:
        seconds = settings["monitoring_interval_seconds"]
        yield f"The monitoring_interval_seconds is {seconds}; set it to 120 or less, or the alert on old pages fires."
    directory = str(settings.get("monitoring_textfile_directory") or "")
    if directory and not re.fullmatch(r"/[A-Za-z0-9._/-]+", directory):
        yield f"The monitoring_textfile_directory is no absolute path of usual characters ('{directory}'); write the one of node_exporter."


class FilterModule:
    def filters(self):
        return {"monitoring_findings": monitoring_findings}
