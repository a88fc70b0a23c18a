# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running dfdaemon tells about itself. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import hashlib
import http.client
import math
import re
import urllib.error

from ansible.module_utils.common.text.converters import to_text
from ansible.module_utils.urls import ConnectionError as UrlsConnectionError
from ansible.module_utils.urls import open_url
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

TRAFFIC = {"origin": "BACK_TO_SOURCE", "remote_peer": "REMOTE_PEER", "local_peer": "LOCAL_PEER"}

_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+\d+)?$")
_PIECE_LENGTH = re.compile(r"([0-9]{1,9})([kmg]i?b)\Z", re.IGNORECASE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def get(url, timeout=5):
    """Return the text at ``url``. Raises ModelFleetError with one sentence."""
    try:
        with open_url(url, timeout=timeout, use_proxy=False, http_agent="modelfleet") as response:
            return to_text(response.read())
    except urllib.error.HTTPError as exc:
        raise ModelFleetError(f"Failed to ask dfdaemon at {url}: it answered {exc.code} {exc.reason}. See journalctl -u dfdaemon.") from exc
    except (urllib.error.URLError, UrlsConnectionError, http.client.HTTPException, OSError, ValueError) as exc:
        reason = getattr(exc, "reason", None) or exc
        raise ModelFleetError(
            f"Failed to ask dfdaemon at {url}: {reason}. See systemctl status dfdaemon and journalctl -u dfdaemon."
        ) from exc


def checked_piece_length(text):
    """The length of a piece as dfdaemon takes it, or "auto". Raises ModelFleetError for any other."""
    if text == "auto":
        return text
    if not _PIECE_LENGTH.match(text) or not 4 << 20 <= piece_length_bytes(text) <= 64 << 20:
        raise ModelFleetError("Failed to use piece_length {!r}: it must be auto or a size from 4MiB to 64MiB.".format(text))
    return text


def piece_length_bytes(text):
    """Bytes of a checked piece_length; None for "auto"."""
    if text == "auto":
        return None
    number, unit = _PIECE_LENGTH.match(text).groups()
    return int(number) * {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}[unit[0].lower()]


def task_name(sha256, piece_length):
    """The name under which Dragonfly has a content. Whoever asks for it must say the same, the endpoint plugin too."""
    return f"sha256:{sha256};piece_length={piece_length}"


def task_id(name):
    """What dfdaemon calls a task, and its file, by the name of its content."""
    return hashlib.sha256(name.encode()).hexdigest()


def samples(text):
    """Read the text format of Prometheus into ``[(name, labels: dict, value: float)]``; lines that are none are passed over."""
    found = []
    for line in text.splitlines():
        match = _SAMPLE.match(line.strip())
        if match:
            try:
                value = float(match["value"])
            except ValueError:
                continue
            # A counter is none of the others.
            if math.isfinite(value):
                found.append((match["name"], dict(_LABEL.findall(match["labels"] or "")), value))
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


def origin_between(before, after):
    """What a dfdaemon took from the origin between two readings of its counters, which begin again when it restarts; None without one."""
    if not before or not after:
        return None
    return after["origin"] - before["origin"] if after["origin"] >= before["origin"] else after["origin"]


def read_traffic(metrics_url, timeout=5):
    return parse_traffic(get(metrics_url, timeout))
