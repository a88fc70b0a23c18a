# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Download a file whole. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.error
import urllib.parse

from ansible.module_utils.api import generate_jittered_backoff, retry_with_delays_and_condition
from ansible.module_utils.urls import ConnectionError as UrlsConnectionError
from ansible.module_utils.urls import open_url
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

CHUNK = 1 << 20
SCHEMES = ("https", "http", "file")
_PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)


class _TryAgain(Exception):
    """A download failed for a reason that may pass."""


class NotThere(ModelFleetError):
    """The server has no such file, or does not tell: 403, 404 or 410."""


def without_credentials(url):
    """A URL as it may be shown: without user, password and query. Of what is none, it cannot be told where they are."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return "(no URL)"
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def is_url(url):
    """Whether it is one from which can be downloaded."""
    try:
        return urllib.parse.urlsplit(url).scheme in SCHEMES
    except ValueError:
        return False


def download(url, target, ca_path, timeout, retries):
    """Write what is at ``url`` (https, http or file) to the file ``target``.

    ``ca_path`` (str or None) names CA certificates that are trusted beside those of the system, ``timeout`` (seconds) is how long
    the server may be silent, ``retries`` (int) how many times a failure that may pass is tried again.
    Raises ModelFleetError, as NotThere where the server has no such file; OSError is one of the disk.
    """
    delays = generate_jittered_backoff(retries=retries, delay_base=1, delay_threshold=20)

    @retry_with_delays_and_condition(delays, lambda exc: isinstance(exc, _TryAgain))
    def attempt():
        _download(url, target, ca_path, timeout)

    try:
        attempt()
    except _TryAgain as exc:
        raise ModelFleetError(
            "Failed to download {} in {} attempts: {}. "
            "Check the network and proxy settings of this host, or give a mirror or a local archive.".format(
                without_credentials(url), retries + 1, exc
            )
        ) from exc


def _download(url, target, ca_path, timeout):
    shown = without_credentials(url)
    try:
        with open_url(url, timeout=timeout, ca_path=ca_path, http_agent="modelfleet") as response:
            expected = response.headers.get("Content-Length")
            with open(target, "wb") as handle:
                for chunk in iter(lambda: _received(response), b""):
                    handle.write(chunk)
                received = handle.tell()
        if expected is not None and received != int(expected):
            raise _TryAgain(f"the connection ended after {received} of {expected} bytes")
    except urllib.error.HTTPError as exc:
        if exc.code in _PASSING_STATUS:
            raise _TryAgain(f"the server answered {exc.code} {exc.reason}") from exc
        kind = NotThere if exc.code in (403, 404, 410) else ModelFleetError
        raise kind(f"Failed to download {shown}: the server answered {exc.code} {exc.reason}. Check the URL and the version.") from exc
    except urllib.error.URLError as exc:
        if isinstance(exc.reason, ssl.SSLCertVerificationError):
            raise ModelFleetError(
                f"Failed to download {shown}: the server's certificate is not trusted ({exc.reason.verify_message}). "
                "Install its CA on this host or name it in ca_path."
            ) from exc
        if urllib.parse.urlsplit(url).scheme == "file":
            raise NotThere(f"Failed to read {shown}: {exc.reason}. Check the path.") from exc
        raise _TryAgain(str(exc.reason)) from exc
    except (UrlsConnectionError, http.client.HTTPException, socket.timeout, ConnectionError) as exc:
        raise _TryAgain(str(exc) or type(exc).__name__) from exc


def _received(response):
    """Read from the network; its errors must not be taken for those of the disk."""
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException) as exc:
        raise _TryAgain(f"the connection broke ({exc})") from exc
