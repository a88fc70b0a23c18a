# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import store_from_unchecked


def origin_hosts(storage):
    try:
        return store_from_unchecked(storage).origin_hosts()
    except ModelFleetError as exc:
        raise AnsibleFilterError(str(exc)) from exc


def dfdaemon_rules(storage):
    rules = []
    for origin in origin_hosts(storage):
        port = "" if origin["port"] == (443 if origin["tls"] else 80) else ":{}".format(origin["port"])
        rules.append({"regex": "^http://{}{}/".format(re.sub(r"([.\[\]])", r"\\\1", origin["host"]), port), "useTLS": origin["tls"]})
    return rules


class FilterModule:
    def filters(self):
        return {"dfdaemon_rules": dfdaemon_rules, "origin_hosts": origin_hosts}
