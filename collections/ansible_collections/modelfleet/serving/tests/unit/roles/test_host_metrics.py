# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host says of itself, with runtimes that only pretend."""

from __future__ import annotations

import base64
import datetime
import importlib.util
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

SCRIPT = Path(__file__).parents[3] / "roles/monitoring/files/host_metrics.py"
NOW = 1_800_000_000.0
LABELS = '{model="demo",version="1.0",runtime="torchserve"}'


@pytest.fixture
def program():
    spec = importlib.util.spec_from_file_location("host_metrics", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Fake:
    """Every runtime on one port: {"METHOD PATH": (status, body)}; it keeps what it was asked."""

    def __init__(self):
        self.answers, self.asked = {}, []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_args):
                pass

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fake.asked.append((self.command, self.path, self.headers.get("Authorization"), body))
                status, answer = fake.answers.get(f"{self.command} {self.path}", (404, {"code": 404}))
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.address = f"127.0.0.1:{self.server.server_address[1]}"


def worker(status="READY", **more):
    return {"id": "9000", "status": status, "gpu": False, "gpuUsage": "N/A", "pid": 1, **more}


@pytest.fixture
def host(tmp_path):
    """A host that serves one model, well, with its configuration."""
    fake = Fake()
    fake.answers["GET /models/demo/all"] = (200, [{"modelVersion": "1.0", "workers": [worker(), worker()]}])
    fake.answers["POST /predictions/demo/1.0"] = (200, {"class": "cat", "score": 0.90001})
    (tmp_path / "keys").write_text(json.dumps({"management": {"key": "m"}, "inference": {"key": "i"}}))
    entry = {"name": "demo", "version": "1.0", "file": "demo.mar", "sha256": "9f" * 32, "workers": 2, "device": "cpu"}
    check = {"model": "demo", "version": "1.0", "input": {"x": 1}, "expected": {"class": "cat", "score": 0.9}, "tolerance": 0.001}
    config = {
        "record": str(tmp_path / "models.json"),
        "lock": str(tmp_path / "rollout.lock"),
        "checks": str(tmp_path / "checks.json"),
        "state": str(tmp_path / "answers.json"),
        "smoke_seconds": 300,
        "torchserve": {"management": fake.address, "inference": fake.address, "key_file": str(tmp_path / "keys")},
        "triton": {"http": fake.address},
        "certificates": {},
    }
    made = type("Host", (), {"fake": fake, "config": config, "entry": entry, "check": check, "directory": tmp_path})()
    made.record = lambda *entries, **more: (tmp_path / "models.json").write_text(json.dumps({"models": entries, **more}))
    made.checks = lambda *checks: (tmp_path / "checks.json").write_text(json.dumps(checks))
    made.record(entry)
    made.checks(check)
    return made


def samples(page):
    lines = [line for line in page.text().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _space, value in (line.rpartition(" ") for line in lines)}


def looked(program, host, now=NOW):
    page, well = program.look(host.config, now)
    return samples(page), well


def test_all_is_well(program, host):
    found, well = looked(program, host)
    assert well
    for name in ("expected", "served", "ready", "answering"):
        assert found[f"modelfleet_model_{name}{LABELS}"] == 1
    assert found["modelfleet_smoke_last_success_timestamp_seconds"] == found["modelfleet_smoke_timestamp_seconds"] == NOW
    assert found["modelfleet_rollout_in_progress"] == found["modelfleet_rollout_since_timestamp_seconds"] == 0
    assert {part: found[f'modelfleet_look_success{{part="{part}"}}'] for part in program.PARTS} == dict.fromkeys(program.PARTS, 1)
    # Each API with its own key.
    assert {(path, key) for _method, path, key, _body in host.fake.asked} == {
        ("/models/demo/all", "Bearer m"),
        ("/predictions/demo/1.0", "Bearer i"),
    }
    assert not any(name.startswith("modelfleet_model_workers_on_cpu") for name in found)


def test_every_sample_has_its_help_and_is_known(program, host):
    lines = program.look(host.config, NOW)[0].text().splitlines()
    for line in lines:
        name = line.split()[2] if line.startswith("#") else line.split("{")[0].split()[0]
        assert name in program.METRICS
    assert sum(line.startswith("# TYPE") for line in lines) == sum(line.startswith("# HELP") for line in lines)


@pytest.mark.parametrize(
    ("workers", "served", "ready"), [([worker()], 1, 0), ([worker(), worker("UNLOADED")], 1, 0), ([worker()] * 3, 1, 1), (None, 0, 0)]
)
def test_as_many_workers_as_the_record_says(program, host, workers, served, ready):
    host.fake.answers["GET /models/demo/all"] = (404, {}) if workers is None else (200, [{"modelVersion": "1.0", "workers": workers}])
    found, _well = looked(program, host)
    assert (found[f"modelfleet_model_served{LABELS}"], found[f"modelfleet_model_ready{LABELS}"]) == (served, ready)


def test_another_version_is_not_this_one(program, host):
    host.fake.answers["GET /models/demo/all"] = (200, [{"modelVersion": "2.0", "workers": [worker(), worker()]}])
    assert looked(program, host)[0][f"modelfleet_model_served{LABELS}"] == 0


def test_a_torchserve_that_is_down_is_no_failure_of_the_look(program, host):
    host.config["torchserve"]["management"] = host.config["torchserve"]["inference"] = "127.0.0.1:1"
    found, well = looked(program, host)
    assert well and found[f"modelfleet_model_ready{LABELS}"] == 0 and found[f"modelfleet_model_answering{LABELS}"] == 0


def test_workers_that_fell_back_to_the_cpu_count_and_are_not_ready(program, host, monkeypatch):
    host.record({**host.entry, "device": "gpu"})
    on = {"gpu": True, "gpuUsage": "gpuId::0 utilization.gpu [%]::0 %"}
    monkeypatch.setattr(program, "uses_gpu", lambda pid: pid == 10)
    monkeypatch.setattr(program, "family", lambda pid: [pid])
    for workers, fallen, ready in (
        ([worker(pid=10, **on), worker(pid=10, **on)], 0, 1),
        ([worker(pid=10, **on), worker(pid=11, **on)], 1, 0),
        ([worker(pid=10), worker(pid=10, gpu=True, gpuUsage="failed to obtain gpu usage")], 2, 0),
    ):
        host.fake.answers["GET /models/demo/all"] = (200, [{"modelVersion": "1.0", "workers": workers}])
        found, _well = looked(program, host)
        assert found[f"modelfleet_model_workers_on_cpu{LABELS}"] == fallen and found[f"modelfleet_model_ready{LABELS}"] == ready


def test_triton(program, host):
    host.record({**host.entry, "runtime": "triton"})
    host.checks({**host.check, "runtime": "triton", "expected": [{"name": "y", "data": [1.0]}]})
    host.fake.answers["POST /v2/repository/index"] = (200, [{"name": "demo", "version": "1", "state": "READY"}])
    host.fake.answers["GET /v2/models/demo/ready"] = (200, b"")
    host.fake.answers["POST /v2/models/demo/infer"] = (200, {"id": "17", "outputs": [{"name": "y", "data": [1.0]}]})
    labels = LABELS.replace("torchserve", "triton")
    found, _well = looked(program, host)
    assert all(found[f"modelfleet_model_{name}{labels}"] == 1 for name in ("served", "ready", "answering"))
    host.fake.answers["GET /v2/models/demo/ready"] = (400, b"")
    assert looked(program, host)[0][f"modelfleet_model_ready{labels}"] == 0
    host.fake.answers["POST /v2/repository/index"] = (200, [{"name": "demo", "version": "1", "state": "UNAVAILABLE", "reason": "x"}])
    assert looked(program, host)[0][f"modelfleet_model_served{labels}"] == 0


@pytest.mark.parametrize(("runtime", "path"), [("openai", "/health"), ("bentoml", "/readyz")])
def test_a_server_with_a_unit_of_its_own(program, host, monkeypatch, runtime, path):
    monkeypatch.setattr(program.Unit.__init__, "__defaults__", (str(host.directory),))
    host.record({**host.entry, "runtime": runtime, "workers": 1})
    host.checks({**host.check, "runtime": runtime})
    labels = LABELS.replace("torchserve", runtime)
    assert looked(program, host)[0][f"modelfleet_model_served{labels}"] == 0
    name, port = host.fake.address.split(":")
    section = f"[X-ModelFleet]\nName=demo\nVersion=1.0\nFile=x\nPort={port}\nDevice=cpu\nAddress={name}\nRoute=classify\n"
    (host.directory / f"{runtime}-{'server-' if runtime == 'openai' else ''}demo-1.0-9f.service").write_text(f"[Service]\n\n{section}")
    found, _well = looked(program, host)
    assert found[f"modelfleet_model_served{labels}"] == 1 and found[f"modelfleet_model_ready{labels}"] == 0
    host.fake.answers[f"GET {path}"] = (200, b"")
    host.fake.answers["POST /classify"] = (200, {"class": "cat", "score": 0.9})
    found, _well = looked(program, host)
    assert found[f"modelfleet_model_ready{labels}"] == 1
    # What the server of a chat is to be asked smoke knows, and not this.
    assert found.get(f"modelfleet_model_answering{labels}") == (1 if runtime == "bentoml" else None)


def test_a_runtime_that_is_newer_fails_only_its_part(program, host, capsys):
    host.record(host.entry, {**host.entry, "name": "other", "runtime": "quantum"})
    found, well = looked(program, host)
    assert not well and found['modelfleet_look_success{part="models"}'] == 0
    assert found[f"modelfleet_model_ready{LABELS}"] == 1
    assert found['modelfleet_model_expected{model="other",version="1.0",runtime="quantum"}'] == 1
    assert "quantum" in capsys.readouterr().err


# Known answers


def test_right_answers_are_not_asked_for_again_too_soon(program, host):
    looked(program, host)
    asked = len(host.fake.asked)
    found, _well = looked(program, host, NOW + 200)
    assert [one[1] for one in host.fake.asked[asked:]] == ["/models/demo/all"]
    assert found["modelfleet_smoke_timestamp_seconds"] == NOW and found[f"modelfleet_model_answering{LABELS}"] == 1
    assert looked(program, host, NOW + 301)[0]["modelfleet_smoke_timestamp_seconds"] == NOW + 301
    # A clock that was set back does not silence it.
    assert looked(program, host, NOW)[0]["modelfleet_smoke_timestamp_seconds"] == NOW


def test_a_wrong_answer_is_asked_for_until_it_is_right(program, host):
    looked(program, host)
    host.fake.answers["POST /predictions/demo/1.0"] = (200, {"class": "dog", "score": 0.9})
    for later in (301, 331):
        found, well = looked(program, host, NOW + later)
        assert well and found[f"modelfleet_model_answering{LABELS}"] == 0
        assert found["modelfleet_smoke_last_success_timestamp_seconds"] == NOW
        assert found["modelfleet_smoke_timestamp_seconds"] == NOW + later
    host.fake.answers["POST /predictions/demo/1.0"] = (200, {"class": "cat", "score": 0.9})
    assert looked(program, host, NOW + 361)[0]["modelfleet_smoke_last_success_timestamp_seconds"] == NOW + 361


@pytest.mark.parametrize(
    ("check", "answer", "right"),
    [
        ({"expected": "cat\n"}, (200, b"cat"), True),
        ({"expected": "cat"}, (200, b"dog"), False),
        ({"expected": {"a": [1, {"b": None}]}}, (200, b'{"a": [1.00001, {"b": null}]}'), True),
        ({"expected": {"a": 1}}, (200, b'{"a": 1, "b": 2}'), False),
        ({"expected": [1]}, (200, b"[1, 2]"), False),
        ({"expected": True}, (200, b"1"), False),
        ({"expected": [1]}, (200, b"no JSON"), False),
        ({"expected": [1]}, (503, b"[1]"), False),
        ({"expected_base64": base64.b64encode(b"\0\1").decode()}, (200, b"\0\1"), True),
        ({"expected_base64": base64.b64encode(b"\0\1").decode()}, (200, b"\0"), False),
    ],
)
def test_answers_are_compared_as_inference_check_does(program, host, check, answer, right):
    kept = {key: value for key, value in host.check.items() if key != "expected"}
    host.checks({**kept, **check})
    host.fake.answers["POST /predictions/demo/1.0"] = answer
    assert looked(program, host)[0][f"modelfleet_model_answering{LABELS}"] == right


def test_an_input_goes_as_it_is(program, host):
    host.checks({**{key: value for key, value in host.check.items() if key != "input"}, "input_base64": base64.b64encode(b"\xff").decode()})
    looked(program, host)
    assert host.fake.asked[-1][3] == b"\xff"


def test_what_is_not_served_here_is_not_asked_for(program, host):
    """After a rollout the host may have the checks of the version before."""
    host.checks(host.check, {**host.check, "version": "2.0"})
    found, well = looked(program, host)
    assert well and [name for name in found if name.startswith("modelfleet_model_answering")] == [f"modelfleet_model_answering{LABELS}"]
    host.checks()
    assert "modelfleet_smoke_timestamp_seconds" not in looked(program, host)[0]


# Rollouts


def test_a_lock_is_a_rollout(program, host):
    (host.directory / "rollout.lock").write_text('{"run": "x", "since": "2026-01-02T03:04:05Z"}')
    found, _well = looked(program, host)
    assert found["modelfleet_rollout_in_progress"] == 1 and found["modelfleet_rollout_since_timestamp_seconds"] == 1767323045


def test_a_lock_that_nobody_can_read_is_one_too(program, host):
    (host.directory / "rollout.lock").write_text("{")
    os.utime(host.directory / "rollout.lock", (NOW - 60, NOW - 60))
    assert looked(program, host)[0]["modelfleet_rollout_since_timestamp_seconds"] == NOW - 60


def test_what_was_left_half_way_is_one(program, host):
    host.record(host.entry, staged=[{**host.entry, "version": "2.0", "since": NOW - 7200, "run": "x"}])
    found, _well = looked(program, host)
    assert found["modelfleet_rollout_in_progress"] == 1 and found["modelfleet_rollout_since_timestamp_seconds"] == NOW - 7200


def test_a_host_without_models_has_no_rollouts(program, host):
    host.config["record"] = ""
    found, well = looked(program, host)
    assert well and not any(name.startswith(("modelfleet_rollout", "modelfleet_model")) for name in found)


# Certificates


def certificate(path, days):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    end = datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc) + datetime.timedelta(days=days)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(end - datetime.timedelta(days=400)).not_valid_after(end).sign(key, hashes.SHA256())
    with open(path, "ab") as handle:
        handle.write(made.public_bytes(Encoding.PEM))


@pytest.mark.parametrize("days", [10, 20000])
def test_the_first_certificate_of_a_file_that_expires(program, host, days):
    path = host.directory / "dfdaemon.pem"
    certificate(path, days + 1)
    certificate(path, days)
    host.config["certificates"] = {"dfdaemon": str(path)}
    found, well = looked(program, host)
    assert well and found['modelfleet_certificate_expiry_timestamp_seconds{certificate="dfdaemon"}'] == NOW + days * 86400


def test_a_file_without_a_certificate_is_a_failure(program, host, capsys):
    (host.directory / "empty.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    certificate(host.directory / "good.pem", 5)
    names = ("empty", "good", "gone")
    host.config["certificates"] = {name: str(host.directory / f"{name}.pem") for name in names}
    found, well = looked(program, host)
    assert not well and found['modelfleet_look_success{part="certificates"}'] == 0
    assert 'modelfleet_certificate_expiry_timestamp_seconds{certificate="good"}' in found
    said = capsys.readouterr().err
    assert "empty.pem" in said and "gone.pem" in said and "good.pem" not in said


# The program


@pytest.mark.parametrize("text", ["{", '{"models": {}}', '{"models": [{"name": 1}]}', '{"models": [null]}', "[]", "\x00"])
def test_a_damaged_record_is_a_failure_and_no_traceback(program, host, capsys, text):
    Path(host.config["record"]).write_text(text)
    found, well = looked(program, host)
    said = capsys.readouterr().err
    assert (well, found['modelfleet_look_success{part="models"}']) in ((False, 0), (True, 1))
    assert "Traceback" not in said and (well or "models.json" in said)
    assert found['modelfleet_look_success{part="certificates"}'] == 1


def test_whatever_a_part_raises_the_others_go_on(program, host, monkeypatch, capsys):
    def broken(*_args):
        raise RuntimeError("unforeseen")

    monkeypatch.setitem(program.PARTS, "models", broken)
    found, well = looked(program, host)
    assert not well and found['modelfleet_look_success{part="models"}'] == 0 and found["modelfleet_rollout_in_progress"] == 0
    assert "unforeseen" in capsys.readouterr().err


def test_the_page_is_replaced_in_one_step_and_others_may_read_it(program, host):
    (host.directory / "look.json").write_text(json.dumps(host.config))
    page = host.directory / "host.prom"
    page.write_text("old")
    before = os.stat(page).st_ino
    os.umask(0o077)
    assert program.main(["--config", str(host.directory / "look.json"), "--page", str(page)]) == 0
    assert os.stat(page).st_ino != before and os.stat(page).st_mode & 0o777 == 0o644
    assert "modelfleet_model_ready" in page.read_text() and not (host.directory / "host.prom.new").exists()


def test_without_its_configuration_it_says_that_nothing_is_known(program, host, capsys):
    page = host.directory / "host.prom"
    for text in ("{", "[]"):
        (host.directory / "look.json").write_text(text)
        assert program.main(["--config", str(host.directory / "look.json"), "--page", str(page)]) == 1
        assert 'modelfleet_look_success{part="models"} 0' in page.read_text()
        assert "look.json" in capsys.readouterr().err


def test_a_label_cannot_break_the_page(program, host):
    host.record({**host.entry, "name": 'a"\\\nb'})
    text = program.look(host.config, NOW)[0].text()
    assert 'model="a\\"\\\\\\nb"' in text
