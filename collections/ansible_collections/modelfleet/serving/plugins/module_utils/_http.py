# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking a server of this host by HTTP. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

from urllib.error import HTTPError

from ansible.module_utils.common.text.converters import to_text
from ansible.module_utils.urls import open_url
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json, shortened


def _text(value):
    return value if isinstance(value, str) else ""


class Unreachable(ModelFleetError):
    """Nothing answers at the address."""


# What a server says may be as long as it likes, and ends up in a sentence that a person reads.
LONGEST_MESSAGE = 2000


class Answer:
    """An HTTP answer: ``status``, ``body`` (bytes) and ``headers``."""

    def __init__(self, status, body, headers=None):
        self.status = status
        self.body = body
        self.headers = headers or {}

    @property
    def text(self):
        return to_text(self.body, errors="surrogate_then_replace")

    @property
    def data(self):
        """The parsed JSON body, or None where it is not JSON."""
        try:
            return from_json(self.text)
        except ValueError:
            return None

    @property
    def message(self):
        """What the server said, in one line."""
        data = self.data
        # OpenAI's protocol has it one level deeper.
        said = data["error"] if isinstance(data, dict) and isinstance(data.get("error"), dict) else data
        # The Open Inference Protocol has it as the error itself.
        text = said.get("message") or said.get("status") or _text(said.get("error")) or self.text if isinstance(said, dict) else self.text
        return shortened(" ".join(str(text).split()), LONGEST_MESSAGE) or f"HTTP {self.status} without a text"


def send(method, url, body=None, headers=None, timeout=30, remedy="", ca_path=None):
    """Return the Answer, whatever its status; raises Unreachable, which ends with ``remedy`` (a sentence), when there is none.

    ``ca_path``: a file with the authorities of which the server's certificate may be, instead of those of this machine.
    """
    try:
        try:
            response = open_url(
                url,
                method=method,
                data=body,
                headers=headers or {},
                timeout=timeout,
                use_proxy=False,
                follow_redirects="none",
                http_agent="modelfleet.serving",
                ca_path=ca_path,
            )
        except HTTPError as exc:
            response = exc
        return Answer(response.getcode(), response.read(), response.headers)
    except Exception as exc:  # open_url lets URLError, socket timeouts and HTTPException through
        reason = getattr(exc, "reason", None) or exc
        raise Unreachable(f"Failed to call {method} {url.split('?')[0]}: {str(reason).rstrip('.')}. {remedy}".rstrip()) from exc
