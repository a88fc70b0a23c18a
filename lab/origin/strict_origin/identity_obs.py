# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metadata service of servers at Huawei Cloud, as far as it gives the keys of an agency."""

from __future__ import annotations

import re
import secrets
from datetime import datetime

from .identity import Identity, Sessions, json_response, text
from .messages import Request, Response
from .xmlstore import Key


class ObsIdentity(Identity):
    """config: also {sessions: whether this region has them, and nothing is given without}"""

    NAMES = re.compile(r"169\.254\.169\.254")

    def __init__(self, config: dict, store, now):
        super().__init__(config, store, now)
        has = config.get("sessions", True)
        self.sessions = Sessions("/meta-data/latest/api/token", "X-Metadata-Token", now, "-Ttl-Seconds") if has else None

    def issue(self, until: datetime) -> dict[str, str]:
        key = Key("HST3" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30), secrets.token_urlsafe(60) + "+/==", self.publish, until)
        self.store.keys[key.id] = key
        return {"access": key.id, "secret": key.secret, "securitytoken": key.token, "expires_at": f"{until:%Y-%m-%dT%H:%M:%S}.000000Z"}

    def answer(self, request: Request) -> Response:
        if self.sessions:
            answer = self.sessions.opened(request) or self.sessions.refused(request)
            if answer:
                return answer
        if request.path != "/openstack/latest/securitykey":
            return text(404, "404 Not Found")
        if request.method != "GET":
            return text(405, "405 Method Not Allowed")
        if not self.attached:
            return text(401, "Please configure Cloud Service Agency first")
        return json_response(200, {"credential": self.for_instance()})
