# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import bentoml_model, inference_check, openai_model, triton_model
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_bentoml import FakeBentoML
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_openai import FakeOpenAI
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_torchserve import FakeTorchServe
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_triton import INPUT, OUTPUT, FakeTriton


@pytest.fixture
def fake(tmp_path):
    server = FakeTorchServe(tmp_path)
    yield server
    server.close()


@pytest.fixture
def check(fake, run_module):
    def run(*checks, check=False, **options):
        args = {"checks": list(checks), "base_url": fake.url, "key_file": str(fake.key_file), **options}
        return run_module(inference_check.main, args, check=check)

    return run


def answers(fake, value, status=200):
    fake.answer = lambda name, body: (status, value if isinstance(value, bytes) else json.dumps(value).encode())


def test_near_numbers_are_equal(fake, check):
    answers(fake, {"y": [1.00001, 2], "label": "cat"})
    result = check({"model": "demo", "input": {"x": [1]}, "expected": {"y": [1, 2.0], "label": "cat"}})
    assert not result["changed"]
    (one,) = result["checks"]
    assert (one["model"], one["version"], one["ok"], one["detail"]) == ("demo", "", True, "")
    assert one["seconds"] > 0


def test_reads_in_check_mode_too(fake, check):
    answers(fake, [1])
    assert check({"model": "demo", "input": "x", "expected": "[1]"}, check=True)["checks"][0]["ok"]


@pytest.mark.parametrize(
    ("found", "expected", "detail"),
    [
        ({"y": [1, 2.5]}, {"y": [1, 2]}, "$.y[1] is 2.5, expected 2 (tolerance 0.0001)"),
        ({"y": [1]}, {"y": [1, 2]}, "$.y has 1 items, expected 2"),
        ({"y": 1}, {"z": 1}, "$.y is not expected"),
        ({}, {"z": 1}, "$.z is missing"),
        ({"y": True}, {"y": 1}, "$.y is true, expected 1"),
        ({"y": "cat"}, {"y": "dog"}, '$.y is "cat", expected "dog"'),
        (None, {"y": "dog"}, '$ is null, expected {"y": "dog"}'),
        ([], {"y": "dog"}, '$ is [], expected {"y": "dog"}'),
        (b"oops", {"y": 1}, 'the answer is not JSON: "oops"'),
        (b"oops", "fine", 'the answer is "oops", expected "fine"'),
    ],
)
def test_first_difference(fake, check, found, expected, detail):
    answers(fake, found)
    result = check({"model": "demo", "version": "2.0", "input": "x", "expected": expected})
    assert result["failed"]
    assert result["checks"][0]["detail"] == detail
    assert f"1 of 1 answers at {fake.url} are wrong: model demo 2.0: {detail}." in result["msg"]


def test_tolerance(fake, check):
    answers(fake, 1.04)
    assert check({"model": "demo", "input": "x", "expected": 1.0, "tolerance": 0.05})["checks"][0]["ok"]


@pytest.mark.parametrize(
    ("found", "expected"), [(b"tabby", "tabby\n"), (b"tabby\n", "tabby"), (b"tabby\r\n", "tabby\n"), (b" a\n", " a\n")]
)
def test_one_line_end_at_the_end_of_a_text_makes_no_difference(fake, check, found, expected):
    answers(fake, found)
    assert check({"model": "demo", "input": "x", "expected": expected})["checks"][0]["ok"]


@pytest.mark.parametrize(("found", "expected"), [(b"tabby ", "tabby"), (b"tabby\n\n", "tabby"), (b"\ntabby", "tabby")])
def test_other_white_space_does(fake, check, found, expected):
    answers(fake, found)
    assert not check({"model": "demo", "input": "x", "expected": expected}, fail_on_mismatch=False)["checks"][0]["ok"]


def test_json_in_another_order_and_format(fake, check):
    answers(fake, b'{\n  "b": 1.0,\n  "a": "x"\n}\n')
    assert check({"model": "demo", "input": "x", "expected": '{"a":"x","b":1}'})["checks"][0]["ok"]


def test_bytes(fake, check):
    seen = []
    fake.answer = lambda name, body: (seen.append(body), (200, b"\x00\x01\x02"))[1]
    good = {"model": "demo", "input_base64": base64.b64encode(b"\xff\xd8").decode(), "expected_base64": "AAEC"}
    assert check(good)["checks"][0]["ok"]
    assert seen == [b"\xff\xd8"]
    wrong = check({**good, "expected_base64": "AAE="}, fail_on_mismatch=False)
    assert wrong["checks"][0]["detail"] == "the answer differs from byte 2 on (3 bytes, expected 2)"
    assert "is not base64" in check({**good, "input_base64": "*"})["msg"]


def test_server_error_is_quoted(fake, check):
    answers(fake, {"code": 503, "type": "InternalServerException", "message": "Prediction failed"}, 503)
    assert "model demo: the answer is 503: Prediction failed" in check({"model": "demo", "input": "x", "expected": 1})["msg"]


def test_every_check_is_made(fake, check):
    fake.answer = lambda name, body: (200, b"1" if name == "good" else b"2")
    checks = [{"model": name, "input": "x", "expected": 1} for name in ("bad", "good", "tokenizer")]
    result = check(*checks, fail_on_mismatch=False)
    assert [one["ok"] for one in result["checks"]] == [False, True, False]


def test_unreachable(check):
    result = check({"model": "demo", "input": "x", "expected": 1}, base_url="http://127.0.0.1:9")
    assert "http://127.0.0.1:9/predictions/demo" in result["msg"]


def test_needs_input_and_expected(check):
    assert "one of the following is required" in check({"model": "demo", "input": "x"})["msg"]


class TestOpenAI:
    """Of servers of OpenAI's protocol, beside those of TorchServe."""

    @pytest.fixture
    def host(self, tmp_path, monkeypatch):
        fake = FakeOpenAI(tmp_path, monkeypatch)
        yield fake
        fake.close()

    @pytest.fixture
    def server(self, host, run_module):
        model = host.model("1.0")
        run_module(openai_model.main, host.arguments(model))
        return host.served[host.unit_of(model)]

    @pytest.mark.parametrize(
        ("given", "expected", "path", "sent"),
        [
            ({"prompt": "abc"}, "def", "/v1/completions", {"model": "letters", "temperature": 0, "seed": 0, "prompt": "abc"}),
            (
                {"prompt": "abc", "seed": 7, "model": "x"},
                "def\n",
                "/v1/completions",
                {"model": "x", "temperature": 0, "seed": 7, "prompt": "abc"},
            ),
            ({"messages": []}, "def", "/v1/chat/completions", {"model": "letters", "temperature": 0, "seed": 0, "messages": []}),
            ({"input": "abc"}, [[0.5, 0.25]], "/v1/embeddings", {"model": "letters", "input": "abc"}),
            ('{"prompt": "abc"}', "def", "/v1/completions", {"model": "letters", "temperature": 0, "seed": 0, "prompt": "abc"}),
        ],
    )
    def test_what_is_asked_and_what_of_the_answer_counts(self, server, check, given, expected, path, sent):
        one = {"model": "letters", "version": "1.0", "runtime": "openai", "input": given, "expected": expected}
        assert check(one)["checks"][0]["ok"]
        assert server.requests == [(path, sent)]

    def test_both_runtimes_in_one_list(self, fake, server, check):
        answers(fake, {"y": 1})
        other = {"model": "letters", "runtime": "openai", "input": {"prompt": "abc"}, "expected": "xyz"}
        result = check({"model": "demo", "input": "x", "expected": {"y": 1}}, other)
        assert [one["ok"] for one in result["checks"]] == [True, False] and result["failed"]
        assert '1 of 2 answers at http://127.0.0.1 are wrong: model letters: the answer is "def", expected "xyz".' in result["msg"]
        assert "see journalctl -u openai-server-letters-1.0-" in result["msg"] and "torchserve" not in result["msg"]

    @pytest.mark.parametrize(
        ("given", "answer", "words"),
        [
            (
                {"prompt": "abc", "stream": True},
                None,
                "the input is no request of OpenAI's protocol that is answered in one piece. Write JSON",
            ),
            ("abc", None, "the input is no request of OpenAI's protocol"),
            ({"prompt": "abc"}, (404, {"error": {"message": "no such model", "code": 404}}), "the answer is 404: no such model"),
            ({"prompt": "abc"}, (200, {"choices": []}), "/v1/completions answered: it is no answer of OpenAI's protocol"),
            ({"prompt": "abc"}, (200, b"[]"), "it is no answer of OpenAI's protocol"),
        ],
    )
    def test_what_is_no_answer(self, server, check, given, answer, words):
        if answer:
            server.answers["/v1/completions"] = answer
        result = check({"model": "letters", "runtime": "openai", "input": given, "expected": "def"}, fail_on_mismatch=False)
        assert words in result["checks"][0]["detail"]

    def test_a_model_without_a_server(self, host, check):
        result = check({"model": "letters", "version": "2.0", "runtime": "openai", "input": {"prompt": "a"}, "expected": "b"})
        assert result["failed"] and "no server of it runs on this host. Run the playbook site" in result["msg"]


class TestBentoML:
    """Of the route that the unit of a version names."""

    @pytest.fixture
    def host(self, tmp_path, monkeypatch, run_module):
        fake = FakeBentoML(tmp_path, monkeypatch)
        self.old = fake.model("1.0")
        self.new = fake.model("2.0", port=self.old["port"])
        assert run_module(bentoml_model.main, fake.arguments(self.old, self.new))["changed"]
        yield fake
        fake.close()

    @pytest.mark.parametrize("version", ["1.0", "2.0", None])
    def test_a_version_is_asked_where_it_is(self, host, check, version):
        one = {"model": "letters", "version": version, "runtime": "bentoml", "input": {"text": "abc"}}
        one["expected"] = {"version": version or "1.0"}
        assert check(one)["checks"][0]["ok"]
        asked = [("/predict", "application/json", {"text": "abc"})]
        # The default version where its clients ask, another one at its own address.
        assert host.ports[self.old["port"]].requests == ([] if version == "2.0" else asked)
        assert host.served[host.unit_of(self.new)].requests == (asked if version == "2.0" else [])
        wrong = check({**one, "expected": {"version": "3.0"}})
        assert f"see journalctl -u bentoml-letters-{version or '1.0'}-" in wrong["msg"]

    def test_what_is_no_answer(self, host, check):
        host.served[host.unit_of(self.old)].answers["/predict"] = (400, {"error": "Field required"})
        one = {"model": "letters", "version": "1.0", "runtime": "bentoml", "input": {"text": "abc"}, "expected": "1.0"}
        assert check(one, fail_on_mismatch=False)["checks"][0]["detail"] == "the answer is 400: Field required"
        gone = check({**one, "version": "3.0"})
        assert "Failed to ask letters 3.0: no server of it runs on this host. Run the playbook site" in gone["msg"]


class TestTriton:
    """Of the Open Inference Protocol."""

    @pytest.fixture
    def host(self, tmp_path, monkeypatch, run_module):
        fake = FakeTriton(tmp_path, monkeypatch)
        assert run_module(triton_model.main, fake.arguments(fake.model("1.0")))["changed"]
        yield fake
        fake.close()

    @pytest.mark.parametrize("version", ["1.0", None])
    def test_only_the_outputs_count(self, host, check, version):
        one = {"model": "double", "version": version, "runtime": "triton", "input": INPUT, "expected": OUTPUT}
        assert check(one)["checks"][0]["ok"]
        wrong = check({**one, "expected": [{**OUTPUT[0], "data": [2.0, 5.0]}]})
        assert "$[0].data[1] is 4.0, expected 5.0" in wrong["msg"] and "see journalctl -u triton.service on this host" in wrong["msg"]

    @pytest.mark.parametrize(
        ("changed", "answer", "words"),
        [
            ({"input": "abc"}, None, "the input is no request of the Open Inference Protocol. Write JSON with inputs"),
            ({"input": {"prompt": "abc"}}, None, "the input is no request of the Open Inference Protocol"),
            ({}, (400, {"error": "unexpected shape for input 'X'"}), "the answer is 400: unexpected shape for input 'X'"),
            ({}, (200, b"\x00"), "it is no answer of the Open Inference Protocol in JSON. Ask without binary_data"),
            ({"version": "2.0"}, None, "it is not loaded on this host. Run the playbook site"),
            ({"model": "other"}, None, "Failed to ask other 1.0: it is not loaded on this host"),
        ],
    )
    def test_what_is_no_answer(self, host, check, changed, answer, words):
        host.answers["/v2/models/double/versions/1/infer"] = answer
        one = {"model": "double", "version": "1.0", "runtime": "triton", "input": INPUT, "expected": OUTPUT}
        assert words in check({**one, **changed}, fail_on_mismatch=False)["checks"][0]["detail"]
