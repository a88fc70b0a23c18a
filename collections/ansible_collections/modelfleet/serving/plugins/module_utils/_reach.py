# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether somebody answers at addresses. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import re
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

# How often a connection that was refused is tried again, in seconds.
POLL_S = 0.25
OPEN = "firewall-cmd --permanent --add-port={port}/tcp && firewall-cmd --reload, or ufw allow {port}/tcp"


def split_address(address):
    """Host (str) and port (int) of an address, an IPv6 one in brackets. Raises ModelFleetError."""
    host, _colon, port = address.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ModelFleetError(f"Refused the address '{address}': write host and port, as in 10.0.0.1:8002 or [fd00::1]:8002.")
    return host.strip("[]"), int(port)


def connects(address, timeout):
    """Empty, or why no connection to ``address`` came about in ``timeout`` seconds."""
    try:
        socket.create_connection(split_address(address), timeout=timeout).close()
    except UnicodeError:
        return "this is no name that DNS can have"
    except OSError as exc:
        return exc.strerror or str(exc) or type(exc).__name__
    return ""


def speaks_tls(address, timeout=3, trusted=""):
    """Whether the server at ``address`` speaks TLS, whoever it may be and whoever it lets in; None where that cannot be told.

    Raises ssl.SSLCertVerificationError where its certificate is of none of the authorities ``trusted`` (PEM).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=trusted)
    except (ssl.SSLError, ValueError):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        host, port = split_address(address)
        with socket.create_connection((host, port), timeout=timeout) as plain, context.wrap_socket(plain, server_hostname=host):
            return True
    except TimeoutError:
        return None
    except ssl.SSLCertVerificationError:
        raise
    except ssl.SSLError as exc:
        # An alert is one of TLS. A server in clear text answers in its own words.
        return "ALERT" in (exc.reason or "")
    except (ConnectionResetError, BrokenPipeError):
        # That is how it ends who waits for other words.
        return False
    except (OSError, UnicodeError):
        return None


def tls_problem(address, wanted, trusted=""):
    """Empty, or why the server at ``address`` and who speaks TLS, or does not, would not know each other.

    ``trusted`` (PEM) are the authorities of which its certificate must be. What cannot be told is no problem.
    """
    try:
        speaks = speaks_tls(address, trusted=trusted if wanted else "")
    except ssl.SSLCertVerificationError as exc:
        return f"shows a certificate that this host would not trust ({exc.verify_message})"
    if speaks in (None, wanted):
        return ""
    return "answers in clear text" if wanted else "answers by TLS only"


def reach(what, peers, timeout_s):
    """Connect to every address of ``what``, a daemon of other hosts, at once: ``peers`` is ``{host: ["address:port", ...]}``.

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
    firewalls = [
        _closed(what, host, authority, reason) for (host, authority), reason in closed.items() if host in answering or not answering
    ]
    if firewalls:
        raise ModelFleetError(" ".join(firewalls))
    return [_closed(what, host, authority, reason) for (host, authority), reason in closed.items()]


def _closed(what, host, authority, reason):
    command = OPEN.format(port=authority.rpartition(":")[2])
    return f"Failed to reach {what} of {host} at {authority} from this host: {reason}. Start it there, or open the port there ({command})."


def _refusal(authority, deadline):
    """Why nobody answers at ``authority``; an empty text if somebody does. A daemon that is just being restarted gets its time."""
    while True:
        left = deadline - time.monotonic()
        reason = connects(authority, max(left, 0.1))
        if not reason or left <= POLL_S:
            return reason
        time.sleep(POLL_S)
