# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter.dragonfly_files import dragonfly_files

DYNCONFIG = {"component": "dfdaemon_dynconfig", "path": "/etc/d.yaml", "config": {"scheduler": {"addrs": ["10.0.0.1:8002"]}}}


def test_the_text_is_what_yaml_reads_back():
    (entry,) = dragonfly_files([{**DYNCONFIG, "mode": "0640", "restart": False}])
    assert yaml.safe_load(entry.pop("content")) == DYNCONFIG["config"]
    assert entry == {"component": "dfdaemon_dynconfig", "path": "/etc/d.yaml", "mode": "0640", "restart": False}


def test_what_is_wrong_is_refused_all_at_once():
    wrong = {"component": "dfdaemon", "path": "/etc/p.yaml", "config": {"hots": {}, "storage": {"keep": 7}}}
    with pytest.raises(AnsibleFilterError, match=r"2 problems.*hots in /etc/p.yaml.*storage.keep"):
        dragonfly_files([wrong, DYNCONFIG])


def test_a_secret_in_a_file_for_everybody_is_refused():
    manager = {
        "auth": {"jwt": {"key": "a-key"}},
        "database": {"mysql": {"user": "d", "password": "p", "host": "h"}, "redis": {"addrs": ["r:1"]}},
    }
    entry = {"component": "manager", "path": "/etc/m.yaml", "config": manager}
    with pytest.raises(AnsibleFilterError, match=r"auth.jwt.key in /etc/m.yaml is a secret") as refused:
        dragonfly_files([{**entry, "mode": "0644"}])
    assert "a-key" not in str(refused.value)
    assert dragonfly_files([{**entry, "mode": "0640"}])
