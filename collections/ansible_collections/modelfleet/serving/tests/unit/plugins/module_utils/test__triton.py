# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _triton
from ansible_collections.modelfleet.serving.plugins.module_utils._triton import Unreadable, config_problem, device_kinds, parse_config

FULL = """# a comment, with { and "
name: "double"  platform: 'onnxruntime_' "onnx"
max_batch_size: 8;
input [
  { name: "X" data_type: TYPE_FP32 dims: [ -1, 3 ] },
  { name: "Z#}" data_type: TYPE_FP32, dims: 1, dims: 2 }
]
instance_group { count: 2 kind: KIND_CPU }
instance_group: [ < kind: 1 gpus: [ 0 ] > ]
parameters: { key: "a" value: { string_value: "\\"b\\"" } }
dynamic_batching {}
response_cache { enable: false } optimization { priority: 1e-5 }
"""


def test_what_triton_reads_is_read():
    found = parse_config(FULL)
    assert found["name"] == ["double"] and found["platform"] == ["onnxruntime_onnx"] and found["max_batch_size"] == ["8"]
    assert [one["dims"] for one in found["input"]] == [["-1", "3"], ["1", "2"]] and found["input"][1]["name"] == ["Z#}"]
    assert found["dynamic_batching"] == [{}] and found["optimization"] == [{"priority": ["1e-5"]}]
    assert device_kinds(found) == {"KIND_CPU", "KIND_GPU"} and device_kinds(parse_config("instance_group {}")) == {"KIND_AUTO"}
    assert config_problem(FULL, "double", "gpu") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name: "a', "line 1 cannot be read"),
        ("\nname", "line 2 has no value for name"),
        ("name:", "line 1 has no value where one must be"),
        ('name "a"', "line 1 has no value for name"),
        ('"name": "a"', "line 1 has no name of a field"),
        ('8: "a"', "line 1 has no name of a field"),
        ("a {", "line 1 has no name of a field"),
        ("a { >", "line 1 has no name of a field"),
        ("}", "line 1 has no name of a field"),
        ("a: [ 1", "has a list without its end"),
        ("a: [ 1, ]", "has a list that ends with a comma"),
        ("a: [ 1 2 ]", "has a list without its end"),
        ("a [ 1 ]", "has no value where one must be"),
        ('[nvidia.extension] { a: "b" }', "has no name of a field"),
        ("a {" * 60, "is in more than 50 blocks"),
        ("name: §", "cannot be read"),
        ("#" * 200 + "\n" + " " * 200 + "§", "line 1 cannot be read"),
        ('{"name": "a"}', "has no name of a field"),
    ],
)
def test_what_cannot_be_read_is_refused(text, words):
    with pytest.raises(Unreadable, match=words.replace("[", r"\[")):
        parse_config(text)
    assert "that cannot be read: line" in config_problem(text, "a", "cpu")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name: "a" name: "a" backend: "b"', "it has name 2 times"),
        ('name: "\\141" backend: "b"', "its name is no plain text in quotes"),
        ("name { a: 1 }", "its name is no plain text"),
        ('backend: "b" instance_group: KIND_GPU', "kind that is none of Triton's"),
        ('backend: "b" instance_group { kind: KIND_TPU }', "kind that is none of Triton's"),
        ('backend: "b" instance_group { kind: KIND_CPU kind: KIND_GPU }', "kind that is none of Triton's"),
    ],
)
def test_what_says_two_things_is_refused(text, words):
    assert words in config_problem(text, "a", "cpu")


DIGEST = f"@sha256:{'0f' * 32}"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"triton_image": "nvcr.io/nvidia/tritonserver:25.07-py3"}, "is not the name of an image with its digest"),
        ({"triton_image": f"tritonserver{DIGEST}; rm"}, "is not the name of an image"),
        ({"triton_image": f"nvcr.io/nvidia/tritonserver:25.06-py3{DIGEST}"}, "is the container 25.06, with CVE-2025-23319"),
        ({"triton_image": f"nvcr.io/nvidia/tritonserver:25.07-py3{DIGEST}"}, ""),
        ({"triton_image": f"registry:5000/tritonserver{DIGEST}"}, ""),
        ({"triton_image": f"tritonserver:24.10{DIGEST}", "triton_accept_known_holes": True}, ""),
        ({"triton_home": "/opt/tritonserver", "triton_image": ""}, ""),
        ({"triton_home": "/home/me/tritonserver", "triton_image": ""}, "is not a directory below /opt or /usr"),
        (
            {"triton_options": ["--log-verbose=1", "--http-address=0.0.0.0"]},
            "The option --http-address in triton_options is what the unit says",
        ),
        ({"triton_options": "--log-verbose=1"}, "is not a list"),
        ({"triton_options": ["--a\n"]}, "The option 1 in triton_options has the character U+000A"),
        ({"triton_options": ["--api-token=x"]}, "is a secret by its name"),
        ({"triton_http_port": 80}, "The triton_http_port is not a port ('80')"),
        ({"triton_http_port": 8200, "triton_grpc_port": 8200}, "The triton_grpc_port is that of triton_http_port (8200)"),
    ],
)
def test_settings(settings, words):
    found = list(_triton.settings_problems(settings))
    assert len(found) == bool(words) and all(words in one for one in found), found
