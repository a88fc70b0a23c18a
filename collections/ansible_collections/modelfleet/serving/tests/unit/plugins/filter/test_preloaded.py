# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib
import os
import sys

from ansible_collections.modelfleet.serving.plugins.filter import preloaded as module

preloaded = module.FilterModule().filters()["preloaded"]


def test_all_that_tasks_use_is_there_afterwards(monkeypatch):
    wanted = {
        f"{module._PACKAGE}.{kind}.{name[:-3]}"
        for kind in ("filter", "lookup", "action")
        for name in os.listdir(os.path.join(module._PLUGINS, kind))
        if name.endswith(".py")
    }
    assert len(wanted) > 40
    for name in wanted - {module.__name__}:
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert preloaded("") == ""
    assert wanted - set(sys.modules) == set()


def test_what_cannot_be_loaded_is_for_others_to_say(monkeypatch):
    tried = []

    def load(name):
        tried.append(name)
        raise ImportError("no such library")

    monkeypatch.setattr(importlib, "import_module", load)
    assert preloaded("gpu_hosts") == "gpu_hosts"
    assert len(tried) > 40, "the others are tried all the same"
