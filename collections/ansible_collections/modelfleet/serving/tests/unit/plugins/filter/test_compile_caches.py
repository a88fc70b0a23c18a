# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter.compile_caches import FilterModule

compile_caches = FilterModule().filters()["compile_caches"]
SHA256, FINGERPRINT, OTHER = "a1" * 32, "0123456789abcdef", "fedcba9876543210"
MODEL = {"name": "net", "version": "1.0", "object": "net.mar", "sha256": SHA256, "compile_cache": "caches/net"}
PINS = {
    f"{SHA256}-{FINGERPRINT}": {"sha256": "c1" * 32},
    f"{SHA256}-{OTHER}": {"sha256": "c2" * 32},
    f"{'b2' * 32}-{OTHER}": {"sha256": "c3" * 32},
}


def test_a_host_may_use_what_is_pinned_for_it():
    (found,) = compile_caches([MODEL], FINGERPRINT, PINS)
    artifact = {"name": "net.compile", "version": f"1.0-{FINGERPRINT}", "bundle": "caches/net", "sha256": "c1" * 32}
    assert found == {
        "name": "net",
        "version": "1.0",
        "sha256": SHA256,
        "cache": "c1" * 32,
        "pin": f"{SHA256}-{FINGERPRINT}",
        "artifact": artifact,
    }


@pytest.mark.parametrize(("fingerprint", "pin"), [("f" * 16, f"{SHA256}-{'f' * 16}"), ("", "")])
def test_any_other_host_starts_cold(fingerprint, pin):
    (found,) = compile_caches([MODEL], fingerprint, PINS)
    assert (found["cache"], found["artifact"], found["pin"]) == ("", None, pin)


def test_capitals_in_the_list_are_the_same_digits():
    written = {**MODEL, "sha256": SHA256.upper()}
    (found,) = compile_caches([written], FINGERPRINT, PINS)
    assert (found["cache"], found["pin"]) == ("c1" * 32, f"{SHA256}-{FINGERPRINT}")
    assert len(compile_caches([written], pins=PINS)) == 2


def test_the_cache_of_another_content_is_not_that_of_a_model():
    (found,) = compile_caches([{**MODEL, "sha256": "d4" * 32}], FINGERPRINT, PINS)
    assert found["artifact"] is None


def test_models_without_one_are_left_out():
    others = [{**MODEL, "state": "absent"}, {**MODEL, "compile_cache": None}, {"name": "hub", "version": "1", "huggingface": {}}]
    assert compile_caches(others, FINGERPRINT, PINS) == compile_caches(others, pins=PINS) == []


def test_what_may_be_on_some_host():
    assert [one["cache"] for one in compile_caches([MODEL], pins=PINS)] == ["c1" * 32, "c2" * 32]


@pytest.mark.parametrize("pin", ["c1", {}, {"sha256": 1}])
def test_a_damaged_lock(pin):
    with pytest.raises(AnsibleFilterError, match="it has no sha256"):
        compile_caches([MODEL], FINGERPRINT, {f"{SHA256}-{FINGERPRINT}": pin})
