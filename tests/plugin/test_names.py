# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plugin and the modules take as the name or the version of a model is the same."""

from __future__ import annotations

import subprocess
import sys

from conftest import REPOSITORY, SOURCES

sys.path.insert(0, str(REPOSITORY / "collections"))
from ansible_collections.modelfleet.serving.plugins.module_utils._model import NAME_RULE, is_name

GOOD = ["a", "7", "resnet50", "1.0", "v1.10-rc.1", "Llama_3.1-8B", "a.b.c", "x-", "x.", "n" * 100]
BAD = ["", ".", "..", "-a", "_a", ".a", "a..b", "1..0", "a/b", "a b", "a+b", "1.0+cu118", "a:b", "a%2f", "é", "模型", "a\t", "n" * 101]


def test_java_and_python_have_one_rule(tmp_path):
    package = SOURCES / "org/modelfleet/serving/endpoint"
    sources = [package / "ModelName.java", REPOSITORY / "tests/plugin/java/ModelNameDriver.java"]
    subprocess.run(["javac", "-encoding", "UTF-8", "-d", tmp_path, *sources], check=True)
    command = ["java", "-cp", tmp_path, "org.modelfleet.serving.endpoint.ModelNameDriver"]
    said = subprocess.run(command, input="\n".join(GOOD + BAD) + "\n", capture_output=True, text=True, encoding="utf-8", check=True)
    rule, *answers = said.stdout.splitlines()
    assert rule == NAME_RULE
    assert answers == ["true"] * len(GOOD) + ["false"] * len(BAD)
    assert [is_name(name) for name in GOOD + BAD] == [True] * len(GOOD) + [False] * len(BAD)
