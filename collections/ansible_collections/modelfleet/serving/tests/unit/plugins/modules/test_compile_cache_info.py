# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import sys

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import compile_cache_info

FOUND = {"fingerprint": "9240cc4586a5d699", "parts": {"cpu": "x86_64 AVX512", "threads": 2}}


@pytest.fixture
def ask(tmp_path, run_module):
    def run(text, check=False, **options):
        program = tmp_path / "compile_cache.py"
        program.write_text(text)
        args = {"python": sys.executable, "program": str(program), "started": str(tmp_path / "started.json"), **options}
        return run_module(compile_cache_info.main, args, check=check)

    return run


@pytest.mark.parametrize("check", [False, True])
def test_what_the_python_of_torchserve_says(ask, check):
    result = ask(f"print('a library says something')\nprint({json.dumps(json.dumps(FOUND))})", check=check)
    assert (result["changed"], result["fingerprint"], result["parts"]) == (False, FOUND["fingerprint"], FOUND["parts"])
    assert (result["started"], result["detail"]) == ("", "")


def test_it_has_the_environment_of_torchserve(ask):
    text = "import json, os\nprint(json.dumps({'fingerprint': '0' * 16, 'parts': {'threads': os.environ['OMP_NUM_THREADS']}}))"
    assert ask(text, environment={"OMP_NUM_THREADS": 4})["parts"] == {"threads": "4"}


def test_what_the_workers_use_now(ask, tmp_path):
    (tmp_path / "started.json").write_text(json.dumps({**FOUND, "fingerprint": "0" * 16}))
    result = ask(f"print({json.dumps(json.dumps(FOUND))})")
    assert (result["fingerprint"], result["started"]) == (FOUND["fingerprint"], "0" * 16)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"fingerprint": "../../etc", "parts": {}}', '{"fingerprint": "9240cc4586a5d699"}'])
def test_a_damaged_file_of_the_unit_is_none(ask, tmp_path, text):
    (tmp_path / "started.json").write_text(text)
    assert ask("raise SystemExit(1)")["started"] == ""


@pytest.mark.parametrize(
    ("text", "options", "detail"),
    [
        ("import torch_that_is_not_there", {}, "No module named 'torch_that_is_not_there'"),
        ('print(\'{"fingerprint": "../x", "parts": {}}\')', {}, "ended with 0"),
        ("import time\ntime.sleep(60)", {"timeout": 1}, "no answer within 1 s"),
        ("", {"python": "/nowhere/python"}, "this host has no /nowhere/python"),
    ],
)
def test_a_host_that_does_not_know_is_no_failure(ask, text, options, detail):
    result = ask(text, **options)
    assert (result["fingerprint"], result["parts"]) == ("", {})
    assert detail in result["detail"]
