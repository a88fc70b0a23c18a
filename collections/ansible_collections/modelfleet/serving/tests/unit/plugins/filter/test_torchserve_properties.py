# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter.torchserve_properties import torchserve_properties


def test_keys_over_what_is_safe():
    lines = torchserve_properties({"job_queue_size": 7}, "0.12.0").splitlines()
    assert "job_queue_size=7" in lines and "disable_token_authorization=false" in lines and lines[0].startswith("# Managed by Ansible")


def test_what_is_refused():
    with pytest.raises(
        AnsibleFilterError, match=r"Refused the configuration config.properties: job_queue_sizes .*did you mean job_queue_size"
    ):
        torchserve_properties({"job_queue_sizes": 7}, "0.12.0")
    with pytest.raises(AnsibleFilterError, match=r"no_token"):
        torchserve_properties({"disable_token_authorization": True}, "0.12.0")
    assert torchserve_properties({"disable_token_authorization": True}, "0.12.0", ["no_token"])
