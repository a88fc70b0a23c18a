# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import triton_info
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_triton import FakeTriton


@pytest.fixture
def info(tmp_path, monkeypatch, run_module):
    fake = FakeTriton(tmp_path, monkeypatch)
    yield lambda check=False, **options: run_module(triton_info.main, {"record": str(fake.record), **options}, check=check)
    fake.close()


def test_check_mode_reads_as_well(info):
    assert info(check=True) == info() and info()["healthy"] and info()["models"] == []


def test_an_installed_triton(info, tmp_path):
    home = tmp_path / "tritonserver"
    assert f"has no program {home}/bin/tritonserver; copy" in info(home=str(home))["home_problem"]
    (home / "bin").mkdir(parents=True)
    (home / "bin/tritonserver").write_text("")
    (home / "bin/tritonserver").chmod(0o755)
    assert "has no file TRITON_VERSION" in info(home=str(home))["home_problem"]
    for release, words in (("2.51.0\n", "has the release 2.51.0, with CVE-2025-23319"), ("2.60.0\n", "")):
        (home / "TRITON_VERSION").write_text(release)
        problem = info(home=str(home))["home_problem"]
        assert words in problem and bool(words) is bool(problem)
