# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter.file_sha256 import file_sha256


def test_bytes_that_are_no_text(tmp_path):
    content = bytes(range(256)) * 9999
    (tmp_path / "jar").write_bytes(content)
    assert file_sha256(str(tmp_path / "jar")) == hashlib.sha256(content).hexdigest()


def test_no_file(tmp_path):
    with pytest.raises(AnsibleFilterError, match=r"nothing on the controller: there is no such file"):
        file_sha256(str(tmp_path / "nothing"))
