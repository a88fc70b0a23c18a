# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a server or a program answers, a module reads it or says that it cannot."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import (
    _bentoml,
    _dfdaemon,
    _doctor_daemon,
    _openai_server,
    _podman,
    _runtime_openai,
    _runtime_torchserve,
    _runtime_triton,
    _triton,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._http import Answer
from ansible_collections.modelfleet.serving.plugins.modules import haproxy_server
from hypothesis import example, given
from hypothesis import strategies as st
from inputs import changed, damaged, junk, odd_texts, texts
from sandbox import World

WORKER = {"id": "9000", "status": "READY", "gpu": True, "gpuUsage": "N/A", "pid": 1}
VERSION = {
    "modelName": "m", "modelVersion": "1", "modelUrl": f"m-1-{'a' * 12}.mar", "minWorkers": 1, "maxWorkers": 1, "workers": [WORKER],
    "batchSize": 1, "deviceType": "gpu",
}  # fmt: skip
METRICS = """# HELP x
dragonfly_client_version{git_version="1.5.10",platform="linux"} 1
process_start_time_seconds 1.7e9
dragonfly_client_disk_space_total 1000
dragonfly_client_disk_usage_space_total{a="b"} 10
dragonfly_client_download_traffic{type="BACK_TO_SOURCE",task_type="STANDARD"} 12
dragonfly_client_download_traffic{type="REMOTE_PEER"} 1e3 17
"""
NUMBERS_IN_TEXT = ["NaN", "+Inf", "-Inf", "1e999", "²", "٣", "--5", "9" * 5000, "0x1", "1_0", ""]
GPU = """<?xml version="1.0" ?><nvidia_smi_log><driver_version>570.1</driver_version><cuda_version>12.8</cuda_version><gpu id="0:1">
<product_name>H100</product_name><uuid>GPU-1</uuid><fb_memory_usage><total>81559 MiB</total><used>2 MiB</used></fb_memory_usage>
<temperature><gpu_temp>30 C</gpu_temp></temperature><ecc_errors><volatile><dram_uncorrectable>0</dram_uncorrectable></volatile></ecc_errors>
<processes><process_info><pid>12</pid><type>C</type><process_name>p</process_name><used_memory>3 MiB</used_memory></process_info>
</processes>
</gpu></nvidia_smi_log>"""
STATES = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state
3 models 1 gpu-1 10.0.0.1 2 0
3 models 2 gpu-2 10.0.0.2 2 8
"""
STATS = """# pxname,svname,qcur,scur,
models,gpu-1,0,3,
models,gpu-2,0,,
"""


@st.composite
def text_like(draw, text):
    """A text with some of its numbers and words others."""
    words = text.split(" ")
    for _turn in range(draw(st.integers(0, 3))):
        words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(NUMBERS_IN_TEXT) | odd_texts)
    return " ".join(words)


def http(status, body, framing):
    """An answer as it comes from the network."""
    length = {"right": len(body), "short": len(body) + 9, "none": None}.get(framing, framing)
    head = f"HTTP/1.1 {status} said\r\nContent-Type: application/json\r\n"
    head += "" if length is None else f"Content-Length: {length}\r\n"
    return head.encode("utf-8", "replace") + b"\r\n" + body


framings = st.sampled_from(["right"] * 9 + ["short", "none", "x", "-1", "²"])


def answers(value):
    """Answers with this JSON, nearly right."""
    body = changed(value).map(lambda found: json.dumps(found).encode())
    bodies = st.integers(0, 9).flatmap(lambda turn: st.binary(max_size=20) | st.just(b"[" * 100_000) if turn == 0 else body)
    statuses = st.integers(0, 7).flatmap(
        lambda turn: st.sampled_from([100, 204, 302, 400, 404, 409, 500, 999, "x"]) if turn == 0 else st.just(200)
    )
    whole = st.builds(http, statuses, bodies, framings)
    return st.integers(0, 19).flatmap(lambda turn: st.binary(max_size=30) if turn == 0 else whole)


@st.composite
def torchserves(draw):
    refusal = {"code": 400, "type": "InvalidKeyException", "message": "Token"}
    return {
        "OPTIONS": draw(answers({"openapi": "3", "info": {"version": "0.12.0"}})),
        "/all": draw(answers([VERSION, {**VERSION, "modelVersion": "2"}])),
        "GET /models?": draw(answers({"models": [{"modelName": "m", "modelUrl": "m.mar"}]})),
        "GET /models/": draw(answers([VERSION])),
        "/metrics": http(200, draw(text_like(METRICS)).encode("utf-8", "replace"), "right"),
        "/predictions": draw(answers({"tabby": 0.5})),
        "": draw(answers({"status": "done"}) | answers(refusal)),
    }


MODEL = {"name": "m", "version": "1", "sha256": "a" * 64, "object": "m.mar"}
RUNTIME = {"base_url": "http://127.0.0.1:1", "inference_url": "http://127.0.0.1:2", "timeout": 5}


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("torchserve_info", {"wait_s": 1}),
        ("torchserve_model", {"models": [MODEL], "timeout": 5}),
        ("torchserve_model", {"models": [{**MODEL, "state": "absent"}], "timeout": 5}),
        ("model_rollout", {"models": [MODEL], "state": "prepared", **RUNTIME}),
        ("model_prune", {"models": [MODEL]}),
        ("inference_check", {"checks": [{"model": "m", "input": [1], "expected": {"tabby": 0.5}}]}),
        ("traffic_check", {"model": "m", "version": "1", "old_version": "2", "since": 0.0, "before": 0.0, "seconds": 1, "requests": 2,
                           "checks": [{"model": "m", "input": [1], "expected": 1}], **RUNTIME}),
        ("dfdaemon_info", {"min_uptime_s": 5, "wait_s": 2}),
        ("daemon", {"name": "x.service", "files": [], "started_record": "/x"}),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)  # fmt: skip
def test_a_server_that_answers_anything_is_understood_or_refused(sandbox, module, options):
    named = str(sandbox.named)
    options = {
        **options,
        **({"record": f"{named}/state/models.json", "key_file": f"{named}/new"} if module.startswith(("torchserve", "model_")) else {}),
        **({"key_file": f"{named}/new"} if module in ("inference_check", "traffic_check") else {}),
    }
    if module in ("torchserve_model", "model_rollout"):
        options["record_group"] = "root"  # there is no other here, so that it would not come further than its first record
    if module == "model_prune":
        stores = ("model_store", "blob_store", "manifest_store", "incoming", "piece_store", "unpack_dir")
        options.update(dict.fromkeys(stores, f"{named}/empty"))
    if module == "daemon":
        unit = {"path": f"{named}/units/x.service", "content": "[Service]\n"}
        options.update(files=[unit], started_record=f"{named}/state/x", answers={"url": "http://127.0.0.1:1/x", "timeout": 1})

    @given(torchserves(), st.booleans(), st.lists(st.tuples(st.just(0), texts, texts), min_size=1, max_size=2))
    def ends(servers, check, programs):
        sandbox.run(module, options, check, world=World(programs, servers))

    ends()


@given(text_like(METRICS) | texts)
@example('dragonfly_client_download_traffic{type="REMOTE_PEER"} +Inf')
def test_counters_are_read(text):
    assert all(isinstance(value, int) for value in _dfdaemon.parse_traffic(text).values())


@given(text_like(GPU) | texts | damaged(GPU.encode()).map(lambda content: content.decode("utf-8", "surrogateescape")))
@example(GPU.replace("12<", "N/A<").replace("30 C", "--5 C").replace("81559", "²"))
def test_gpus_are_read_or_refused(sandbox, text):
    sandbox.run("gpu_info", {}, world=World([(0, text, "")]))


@given(text_like(STATES) | texts, text_like(STATS) | texts, st.sampled_from(["drain", "ready"]), st.booleans())
@example(STATES.replace("srv_name", "name"), STATS, "ready", True)
@example(STATES, STATS.replace("scur", "other"), "drain", False)
@example(STATES.replace("2 8", "2 x"), STATS, "ready", False)
def test_a_balancer_is_understood_or_refused(sandbox, states, stats, state, check):
    before = haproxy_server.Haproxy.ask
    haproxy_server.Haproxy.ask = lambda _self, command: {"servers": states, "stat": stats}.get(command.split()[1], "").strip()
    try:
        sandbox.run("haproxy_server", {"servers": ["gpu-1", "gpu-2"], "backend": "models", "state": state, "timeout": 1}, check, diff=True)
    finally:
        haproxy_server.Haproxy.ask = before


LOG = 'ACCESS_LOG - /127.0.0.1:1 "POST /predictions/m/1?x=y HTTP/1.1" 200 12'


@given(text_like(LOG) | texts | st.text(st.sampled_from("[]:/?#m% ")).map(lambda path: LOG.replace("/predictions/m/1?x=y", path)))
@example(LOG.replace("/predictions", "//[/predictions"))
def test_whatever_was_requested_the_access_log_is_read(text):
    for version, status, milliseconds in _runtime_torchserve.requests_of(text, "m"):
        assert (version is None or isinstance(version, str)) and isinstance(status, int) and isinstance(milliseconds, int)


SHOWN = "LoadState=loaded\nActiveState=active\nMainPID= 12\nNRestarts= 0\nExecMainStatus= 0\nActiveEnterTimestampMonotonic= 1000000"


@given(text_like(SHOWN).map(lambda text: text.replace("= ", "=")), texts)
@example(SHOWN.replace("= 12", "=²"), "")
def test_a_unit_is_as_systemd_says_or_not_known(text, line):
    state = _doctor_daemon.unit_state(lambda *_args, **_kwargs: (0, text, ""), "x.service")
    assert all(isinstance(state[key], int) for key in ("exit_status", "restarts", "pid"))
    assert len(_doctor_daemon.masked(line)) <= _doctor_daemon.LONGEST_LINE


@given(junk | st.fixed_dictionaries({"message": texts | junk}))
@example({"message": "a\n b"})
def test_a_message_of_torchserve_is_one_line(value):
    said = Answer(500, json.dumps(value).encode()).message
    assert said and "\n" not in said


LISTED = {"object": "list", "data": [{"id": "letters", "object": "model"}]}
SAID = {
    "messages": {"choices": [{"index": 0, "message": {"role": "assistant", "content": "def"}}]},
    "prompt": {"choices": [{"index": 0, "text": "def"}]},
    "input": {"data": [{"index": 0, "embedding": [0.5, 0.25]}]},
}
SERVER = _openai_server.Server("openai-server-letters-1-a.service", "letters", "1", "letters-1-a", 8101, "cpu", {
    "enabled": "enabled", "active": "active", "sub": "running", "result": "success", "pid": 0, "restarts": 0,
})  # fmt: skip


@given(changed(LISTED) | junk)
@example({"data": [{"id": "a\n b"}] * 1000})
@example("x" * 70_000)
def test_what_a_server_says_of_its_models_is_a_sentence(value):
    runtime = _runtime_openai.OpenAIRuntime(SimpleNamespace(params={}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_runtime_openai, "send", lambda _method, url, **_options: Answer(200, json.dumps(value).encode()))
        said = runtime.why_not_ready(SERVER, "cpu")
    assert "\n" not in said and len(said) < 10_000


@given(st.sampled_from(sorted(SAID)).flatmap(lambda known: st.tuples(st.just(known), changed(SAID[known]) | junk)))
@example(("prompt", {"choices": [{"text": None}]}))
def test_an_answer_of_openais_protocol_is_a_text_or_an_error(asked):
    known, value = asked
    runtime = _runtime_openai.OpenAIRuntime(SimpleNamespace(params={}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_runtime_openai, "send", lambda *_arguments: Answer(200, json.dumps(value).encode()))
        patch.setattr(runtime, "servers", lambda: {SERVER.unit: SERVER})
        try:
            answer = runtime.predict("letters", "1", json.dumps({known: "abc"}).encode(), "application/json", 1)
        except ModelFleetError:
            return
    assert isinstance(answer.text, str)


SECTIONS = _bentoml.sections_text({"moved": _bentoml.Section(8301, "moved-1-" + "a" * 12, "127.64.0.1")})
DESCRIPTION = "services:\n- models:\n  - tag: moved:1\n"


def with_odd_texts(text):
    return st.text() | st.tuples(st.integers(0, len(text)), odd_texts).map(lambda at: text[: at[0]] + at[1] + text[at[0] :])


@given(with_odd_texts(SECTIONS))
@example(SECTIONS)
def test_where_ports_lead_is_read_or_refused(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_bentoml, "read_text", lambda _path: text)
        try:
            sections = _bentoml.read_sections()
        except ModelFleetError:
            return
    assert not text or _bentoml.sections_text(sections) == text


@given(with_odd_texts(DESCRIPTION))
def test_the_description_of_a_bento_is_read(text):
    said = _bentoml.bundle_problem({"bento.yaml"}, text)
    assert said is None or "\n" not in said


INDEX = [{"name": "double", "version": "1", "state": "UNAVAILABLE", "reason": "no\nmemory"}, {"name": "other"}]
GROUPS = {"name": "double", "instance_group": [{"kind": "KIND_GPU", "count": 1}]}
OUTPUTS = {"model_name": "double", "model_version": "1", "outputs": [{"name": "Y", "datatype": "FP32", "shape": [1], "data": [2.0]}]}


def triton(patch, answers):
    """The runtime where ``answers`` are (status, value) by the end of what is asked."""
    runtime = _runtime_triton.TritonRuntime(SimpleNamespace(params={}))

    def answer(_method, url, *_rest):
        status, value = next(found for end, found in answers.items() if url.endswith(end))
        return Answer(status, json.dumps(value).encode())

    patch.setattr(_runtime_triton, "send", answer)
    patch.setattr(_runtime_triton, "read_unit", lambda: _triton.Unit(8200, False))
    patch.setattr(runtime, "served", lambda: {"double": "double-1-" + "a" * 12})
    patch.setattr(runtime, "_number", lambda _name: "1")
    return runtime


@given(st.sampled_from([400, 503]), changed(INDEX) | junk)
def test_what_tritons_index_says_is_a_sentence(status, value):
    with pytest.MonkeyPatch.context() as patch:
        said = triton(patch, {"/ready": (status, None), "/index": (200, value)}).why_not_ready("double", "cpu")
    assert said and "\n" not in said


@given(changed(GROUPS) | junk, st.dictionaries(st.just("version"), odd_texts) | junk)
def test_what_triton_says_of_itself_and_of_a_device_is_read_or_refused(groups, release):
    with pytest.MonkeyPatch.context() as patch:
        runtime = triton(patch, {"/ready": (200, None), "/config": (200, groups), "/v2": (200, release)})
        said = runtime.why_not_ready("double", "gpu")
        try:
            problem = runtime.release()[1]
        except ModelFleetError as exc:
            problem = str(exc)
    assert "\n" not in said and (problem is None or "\n" not in problem)


@given(changed(OUTPUTS) | junk)
def test_an_answer_of_triton_is_its_outputs_or_an_error(value):
    with pytest.MonkeyPatch.context() as patch:
        try:
            answer = triton(patch, {"/infer": (200, value)}).predict("double", "1", b'{"inputs": []}', "application/json", 1)
        except ModelFleetError:
            return
    assert isinstance(json.loads(answer.text), list)


CONFIG = """name: "double" # a comment
backend: 'python'
input [ { name: "X" data_type: TYPE_FP32 dims: [ -1, 3 ] } ]
instance_group { count: 2 kind: KIND_CPU }
parameters: { key: "a" value: { string_value: "\\"b" } }
"""


@given(damaged(CONFIG.encode()) | texts | odd_texts)
@example("#" * 1000 + " " * 1000 + "§")
def test_a_configuration_of_triton_is_read_or_refused(text):
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    said = _triton.config_problem(text, "double", "cpu")
    assert said is None or "\n" not in said


INSPECTED = [{"Id": "a" * 64, "Digest": f"sha256:{'1' * 64}", "RepoDigests": ["localhost/a@sha256:1"], "Image": "a", "ImageName": "b"}]


@given(changed(INSPECTED) | junk, texts)
def test_what_podman_says_is_read_or_refused(value, said):
    answers = {"image": json.dumps(value), "container": json.dumps(value), "--version": said}
    podman = _podman.Podman(lambda command, **_options: (0, answers[command[1]], said))
    try:
        found = podman.image(f"sha256:{'a' * 64}")
        assert isinstance(found["id"], str) and all(isinstance(one, str) for one in found["digests"])
    except ModelFleetError as exc:
        assert "\n" not in str(exc)
    container = podman.container("dfdaemon")
    assert container is None or isinstance(container["image_id"], str)
    assert podman.version() == "" or not _podman.is_old("5.0")
