# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running dfdaemon tells about itself. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import http.client
import re
import socket
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.common.text.converters import to_text
from ansible.module_utils.urls import ConnectionError as UrlsConnectionError
from ansible.module_utils.urls import open_url
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

# How often a connection that was refused is tried again.
POLL_S = 0.25
OPEN = "firewall-cmd --permanent --add-port={port}/tcp && firewall-cmd --reload, or ufw allow {port}/tcp"

TRAFFIC = {"origin": "BACK_TO_SOURCE", "remote_peer": "REMOTE_PEER", "local_peer": "LOCAL_PEER"}

_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+\d+)?$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def get(url, timeout=5):
    """Return the text at ``url``. Raises ModelFleetError with one sentence."""
    try:
        with open_url(url, timeout=timeout, use_proxy=False, http_agent="modelfleet") as response:
            return to_text(response.read())
    except urllib.error.HTTPError as exc:
        raise ModelFleetError(f"Failed to ask dfdaemon at {url}: it answered {exc.code} {exc.reason}. See journalctl -u dfdaemon.") from exc
    except (urllib.error.URLError, UrlsConnectionError, http.client.HTTPException, OSError) as exc:
        reason = getattr(exc, "reason", None) or exc
        raise ModelFleetError(
            f"Failed to ask dfdaemon at {url}: {reason}. See systemctl status dfdaemon and journalctl -u dfdaemon."
        ) from exc


def samples(text):
    """Read the text format of Prometheus into ``[(name, labels: dict, value: float)]``; lines that are none are passed over."""
    found = []
    for line in text.splitlines():
        match = _SAMPLE.match(line.strip())
        if match:
            try:
                found.append((match["name"], dict(_LABEL.findall(match["labels"] or "")), float(match["value"])))
            except ValueError:
                continue
    return found


def parse_traffic(text):
    """Bytes that this dfdaemon took since it started, by where they came from; a label appears only after its first byte."""
    traffic = dict.fromkeys(TRAFFIC, 0)
    for name, labels, value in samples(text):
        if name == "dragonfly_client_download_traffic":
            for key, label in TRAFFIC.items():
                if labels.get("type") == label:
                    traffic[key] += int(value)
    return traffic


def read_traffic(metrics_url, timeout=5):
    return parse_traffic(get(metrics_url, timeout))


def reach(peers, timeout_s):
    """Connect to every address of the dfdaemons of other hosts at once: ``{host: ["address:port", ...]}``.

    Returns sentences about the hosts of which no address answers: they may be down, and the others do. Raises ModelFleetError where a host
    answers on one port and not on another, which is a firewall, and where no host answers at all.
    """
    wanted = [(host, authority) for host, authorities in peers.items() for authority in authorities]
    if not wanted:
        return []
    deadline = time.monotonic() + timeout_s
    with ThreadPoolExecutor(min(len(wanted), 32)) as pool:
        reasons = dict(zip(wanted, pool.map(lambda one: _refusal(one[1], deadline), wanted)))
    closed = {one: reason for one, reason in reasons.items() if reason}
    answering = {host for host, authority in wanted if not reasons[host, authority]}
    firewalls = [_closed(host, authority, reason) for (host, authority), reason in closed.items() if host in answering or not answering]
    if firewalls:
        raise ModelFleetError(" ".join(firewalls))
    return [_closed(host, authority, reason) for (host, authority), reason in closed.items()]


def _closed(host, authority, reason):
    command = OPEN.format(port=authority.rpartition(":")[2])
    return (
        f"Failed to reach dfdaemon of {host} at {authority} from this host: {reason}. Start it there, or open the port there ({command})."
    )


def _refusal(authority, deadline):
    """Why nobody answers at ``authority``; an empty text if somebody does. A daemon that is just being restarted gets its time."""
    host, _colon, port = authority.rpartition(":")
    while True:
        left = deadline - time.monotonic()
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=max(left, 0.1)).close()
            return ""
        except OSError as exc:
            if left <= POLL_S:
                return exc.strerror or str(exc)
        time.sleep(POLL_S)
