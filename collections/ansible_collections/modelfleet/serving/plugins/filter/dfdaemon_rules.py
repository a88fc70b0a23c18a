# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment

from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import store_from_unchecked


def origin_hosts(storage, environment=None):
    try:
        found = store_from_unchecked(storage).origin_hosts()
    except ModelFleetError as exc:
        raise AnsibleFilterError(str(exc)) from exc
    return [_proxy(origin, environment or {}) or origin for origin in found]


def _proxy(origin, environment):
    """The proxy through which a program with this environment reaches ``origin``, which resolves its name as well; None without one."""

    def value(name):
        return environment.get(name.lower()) or environment.get(name.upper()) or ""

    url = value("https_proxy" if origin["tls"] else "http_proxy") or value("all_proxy")
    if not url or proxy_bypass_environment("{host}:{port}".format(**origin), {"no": value("no_proxy")}):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return {"host": parts.hostname, "port": parts.port or (443 if parts.scheme == "https" else 80), "tls": parts.scheme == "https"}


def dfdaemon_rules(storage):
    rules = []
    for origin in origin_hosts(storage):
        port = "" if origin["port"] == (443 if origin["tls"] else 80) else ":{}".format(origin["port"])
        rules.append({"regex": "^http://{}{}/".format(re.sub(r"([.\[\]])", r"\\\1", origin["host"]), port), "useTLS": origin["tls"]})
    return rules


class FilterModule:
    def filters(self):
        return {"dfdaemon_rules": dfdaemon_rules, "origin_hosts": origin_hosts}
