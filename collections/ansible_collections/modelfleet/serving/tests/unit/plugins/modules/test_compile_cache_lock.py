# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
import yaml
from ansible_collections.modelfleet.serving.plugins.modules import compile_cache_lock

PIN = f"{'a1' * 32}-0123456789abcdef"
CACHE = {"pin": PIN, "sha256": "c1" * 32, "parts": {"cpu": "x86_64 AVX512"}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "inventory/group_vars/all/compile_caches.lock.yml"


@pytest.fixture
def lock(run_module, path):
    def run(*caches, check=False):
        return run_module(compile_cache_lock.main, {"path": str(path), "caches": list(caches)}, check=check, diff=True)

    return run


def test_pins_a_cache_once(lock, path):
    predicted = lock(CACHE, check=True)
    assert predicted["changed"]
    assert not path.exists()
    result = lock(CACHE)
    assert (result["changed"], result["pins"]) == (True, [{"name": PIN, "sha256": "c1" * 32, "new": True}])
    assert result["diff"] == predicted["diff"]
    written = yaml.safe_load(path.read_text())
    assert written == {"modelfleet_compile_cache_pins": {PIN: {"sha256": "c1" * 32, "parts": {"cpu": "x86_64 AVX512"}}}}
    assert not lock(CACHE)["changed"]


def test_what_is_pinned_stays(lock, path):
    lock(CACHE)
    other = f"{'a1' * 32}-fedcba9876543210"
    result = lock({**CACHE, "sha256": "c2" * 32}, {**CACHE, "pin": other})
    assert [(pin["name"], pin["sha256"], pin["new"]) for pin in result["pins"]] == [(PIN, "c1" * 32, False), (other, "c1" * 32, True)]
    assert set(yaml.safe_load(path.read_text())["modelfleet_compile_cache_pins"]) == {PIN, other}


def test_a_host_cannot_write_a_template(lock, path):
    lock({**CACHE, "parts": {"gpus": ["{{ lookup('pipe', 'id') }} 9.0"], "{% x %}": "{# y #}", "threads": 2}})
    text = path.read_text()
    assert "{" not in text and "}" not in text
    assert yaml.safe_load(text)["modelfleet_compile_cache_pins"][PIN]["parts"]["threads"] == 2


@pytest.mark.parametrize("wrong", [{"pin": "../x"}, {"pin": "a1" * 32}, {"sha256": "abc"}])
def test_what_is_no_pin(lock, path, wrong):
    assert "Refused the compile cache" in lock({**CACHE, **wrong})["msg"]
    assert not path.exists()


def test_a_file_of_somebody_else(lock, path):
    path.parent.mkdir(parents=True)
    path.write_text("modelfleet_release_pins: {}\n")
    assert "this module did not write it" in lock(CACHE)["msg"]
