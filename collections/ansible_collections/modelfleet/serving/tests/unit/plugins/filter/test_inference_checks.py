# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter.inference_checks import FilterModule

inference_checks = FilterModule().filters()["inference_checks"]


def model(**check):
    return {"name": "resnet50", "version": "1.0", "check": check}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "cat.json").write_text('{"x": [1, 2]}', encoding="utf-8")
    (tmp_path / "cat.expected.json").write_text("[0.5]\n", encoding="utf-8")
    (tmp_path / "cat.jpg").write_bytes(b"\xff\xd8\x00")
    (tmp_path / "cat.txt").write_bytes(b"a cat\n")
    (tmp_path / "nul.bin").write_bytes(b"a\x00\n")
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    return str(tmp_path)


def test_json_is_sent_and_compared_as_json(files):
    checks = inference_checks([model(input_file="cat.json", expected_file="cat.expected.json", tolerance=0.1)], files)
    assert checks == [{"model": "resnet50", "version": "1.0", "input": {"x": [1, 2]}, "expected": [0.5], "tolerance": 0.1}]


def test_the_runtime_goes_with_it_where_it_is_another_one(files):
    known = {"input_file": "cat.json", "expected_file": "cat.txt"}
    checks = inference_checks([{**model(**known), "runtime": "openai"}, {**model(**known), "runtime": "torchserve"}], files)
    assert [check.get("runtime") for check in checks] == ["openai", None]


def test_a_text_is_compared_as_text_and_anything_else_byte_for_byte(files):
    (text,) = inference_checks([model(input_file="cat.jpg", expected_file="cat.txt")], files)
    assert base64.b64decode(text["input_base64"]) == b"\xff\xd8\x00"
    assert (text["expected"], text["tolerance"]) == ("a cat\n", 1e-4)
    (binary,) = inference_checks([model(input_file="cat.jpg", expected_file="cat.jpg")], files)
    assert base64.b64decode(binary["expected_base64"]) == b"\xff\xd8\x00"
    (nul,) = inference_checks([model(input_file="cat.jpg", expected_file="nul.bin")], files)
    assert base64.b64decode(nul["expected_base64"]) == b"a\x00\n"


def test_leaves_out_what_cannot_be_asked(files):
    known = {"input_file": "cat.json", "expected_file": "cat.expected.json"}
    assert inference_checks([{**model(**known), "state": "absent"}, {"name": "a", "version": "1"}], files) == []
    assert inference_checks([model(**known)], files, only=[]) == []
    assert len(inference_checks([model(**known)], files, only=[{"name": "resnet50", "version": "1.0", "action": "unchanged"}])) == 1


@pytest.mark.parametrize(("name", "words"), [("nothing.json", "No such file"), ("broken.json", "as JSON")])
def test_a_file_that_cannot_be_used_is_named(files, name, words):
    with pytest.raises(AnsibleFilterError) as raised:
        inference_checks([model(input_file=name, expected_file="cat.expected.json")], files)
    assert f"{files}/{name} on the controller" in str(raised.value)
    assert words in str(raised.value)
