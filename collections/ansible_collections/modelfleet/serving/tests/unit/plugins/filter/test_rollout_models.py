# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.filter.rollout_models import rollout_models

DEMO = {"name": "demo", "version": "2.0", "object": "models/demo.mar", "sha256": "9f" * 32, "workers": 2}


def test_the_default_or_the_only_one():
    old, other = {**DEMO, "version": "1.0", "default": False}, {**DEMO, "name": "other", "size": "1GiB", "check": {}}
    done = rollout_models([old, {**DEMO, "default": True}, other, {**DEMO, "name": "gone", "state": "absent"}])
    assert done["targets"] == [DEMO, {**DEMO, "name": "other"}]
    assert done["keep"] == [{"name": "demo", "version": "1.0"}]


def test_none_of_several():
    assert rollout_models([DEMO, {**DEMO, "version": "1.0"}])["targets"] == []


def test_no_models():
    assert rollout_models([]) == {"targets": [], "keep": []}


def test_what_serves_a_model_goes_with_it():
    llama = {**DEMO, "runtime": "openai", "port": 8101, "options": ["--x"]}
    assert rollout_models([llama])["targets"] == [{**DEMO, "runtime": "openai"}]
