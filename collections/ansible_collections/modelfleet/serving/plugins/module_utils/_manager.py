# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dragonfly's manager, asked by its REST API. PRIVATE to the collection: it can have breaking changes at any time.

What is open to a personal access token lies below /oapi/v1, the rest below /api/v1. For that nobody signs in: after one attempt, right or
wrong, the manager compares passwords with a record of the user that it keeps for 30 seconds and that has no password in it, and refuses
everybody. Whoever knows the key by which it signs its sessions makes one instead, which is the same to it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._http import send

# root is the first user that a manager makes.
ROOT_ID = 1
_SESSION_S = 300
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|([+-])(\d\d):(\d\d))\Z")
_LOG = "journalctl -u dragonfly-manager on its host says more"

OPTIONS = {
    "url": {"type": "str", "default": "http://127.0.0.1:8090"},
    "token": {"type": "str", "no_log": True},
    "token_path": {"type": "path", "default": "/etc/dragonfly/manager-token"},
    "ca_path": {"type": "path"},
}


class Refused(ModelFleetError):
    """An answer that is none of those that were expected; ``answer`` is it."""

    def __init__(self, message, answer):
        super().__init__(message)
        self.answer = answer


def split_url(url):
    """The parts of a URL; None where it has none, such as http://[1."""
    try:
        return urlsplit(url)
    except ValueError:
        return None


class Manager:
    """``token`` is a personal access token, or what ``session`` returns."""

    def __init__(self, url, token="", ca_path=None):
        self.url = url.rstrip("/")
        self.token = token
        self.ca_path = ca_path
        split = split_url(self.url)
        if not split or split.scheme not in ("http", "https") or "@" in split.netloc:
            raise ModelFleetError("Failed to ask the manager: the option url is no URL of http or https, or has a password; write another.")

    def ask(self, method, path, body=None, doing=""):
        """Return the parsed answer, or None where there is none; ``doing`` is the verb with its object, for the error."""
        answer = send(
            method,
            f"{self.url}{path}",
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/json", **({"Authorization": f"Bearer {self.token}"} if self.token else {})},
            ca_path=self.ca_path,
            remedy="Start it (systemctl status dragonfly-manager on its host), or correct the URL.",
        )
        if answer.status != 200:
            raise Refused(f"Failed to {doing} at the manager {self.url}: {_why(answer)}.", answer)
        if answer.data is None and answer.text.strip() not in ("", "null"):
            raise Refused(f"Failed to {doing} at {self.url}: what answers there is no manager of Dragonfly; correct the URL.", answer)
        return answer.data


def _why(answer):
    """What is wrong and what to do, without a full stop."""
    said = answer.data.get("errors") if isinstance(answer.data, dict) else None
    text = (said if isinstance(said, str) and said else answer.message).rstrip(".")
    if answer.status == 401:
        return "it does not know the token; let the role dragonfly_manager make another (it does where the file of the token is missing)"
    if answer.status == 403:
        return f"it refuses the token ({text}); let the role dragonfly_manager renew it"
    if answer.status == 422:
        return f"it takes no such values ({text}); correct them"
    if answer.status == 429:
        return "it was asked too often, or has no cluster of that number; wait, raise job_rate_limit of the cluster, or correct the number"
    if answer.status == 409:
        return "it has another one of that name; choose another name"
    if 300 <= answer.status < 400:
        return "what answers there does not know this path, as a manager before 2.4 or something else; correct the URL"
    return f"it answered {answer.status}, {text}; {_LOG}"


def token_of(params):
    """The token that the options say, or what is in its file. Raises ModelFleetError where there is none."""
    if params["token"]:
        return params["token"]
    text = read_text(params["token_path"])
    if not text or not text.strip():
        raise ModelFleetError(
            f"Failed to read the manager's token: {params['token_path']} is not there, or empty. Run this on the manager's host, where the "
            "role dragonfly_manager writes it, or name the token itself."
        )
    return text.strip()


def time_of(text):
    """A time as the manager writes it, in the zone of its host; None where it is none."""
    found = _TIME.match(str(text))
    if not found:
        return None
    offset = timedelta(hours=int(found[3]), minutes=int(found[4])) if found[2] else timedelta()
    try:
        local = datetime.strptime(found[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return local + offset if found[2] == "-" else local - offset


def session(jwt_key, user_id=ROOT_ID):
    """A session of a user for some minutes, as the manager itself gives one to who signs in."""
    now = int(time.time())
    parts = [
        _encoded(json.dumps(part).encode())
        for part in ({"alg": "HS256", "typ": "JWT"}, {"id": user_id, "exp": now + _SESSION_S, "orig_iat": now})
    ]
    signed = b".".join(parts)
    return (signed + b"." + _encoded(hmac.new(jwt_key.encode(), signed, hashlib.sha256).digest())).decode()


def _encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")
