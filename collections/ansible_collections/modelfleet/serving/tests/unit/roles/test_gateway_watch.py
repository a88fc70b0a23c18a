# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch of the gateway, step by step, on a TorchServe and an HAProxy that only pretend; tests/test_gateway.py has the real ones."""

from __future__ import annotations

import importlib.util
import json
import socket
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

SCRIPT = Path(__file__).parents[3] / "roles/gateway/files/gateway_watch.py"


@pytest.fixture
def gateway_watch():
    spec = importlib.util.spec_from_file_location("gateway_watch", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class FakeTorchServe:
    """Both APIs on one port, with keys that are void once another one is made."""

    def __init__(self, life_s=3600):
        self.life_s, self.made, self.models = life_s, 0, {}
        self.keys = {"API": {"key": "api"}}
        self.calls = []
        self.broken = ""  # a path that answers 500
        for kind in ("inference", "management"):
            self.make(kind)
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_args):
                pass

            def do_GET(self):
                status, answer = fake.answer(self.path, self.headers.get("Authorization", ""))
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.address = f"127.0.0.1:{self.server.server_address[1]}"

    def make(self, kind):
        self.made += 1
        ends = time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime(time.time() + self.life_s))
        self.keys[kind] = {"key": f"{kind}-{self.made}", "expiration time": ends}

    def serve(self, name, version="1.0", ready=1, workers=1):
        states = ["READY"] * ready + ["UNLOADING"] * (workers - ready)
        self.models.setdefault(name, {})[version] = {"modelVersion": version, "workers": [{"status": state} for state in states]}

    def answer(self, path, authorization):
        self.calls.append(path)
        path, _question, query = path.partition("?")
        kind = "API" if path == "/token" else "inference" if path == "/ping" else "management"
        if authorization != f"Bearer {self.keys[kind]['key']}":
            return 400, {"code": 400, "type": "InvalidKeyException"}
        if path == self.broken:
            return 500, {}
        if path == "/token":
            self.make(query.partition("=")[2])
            return 200, {}
        if path == "/ping":
            return 200, {}
        if path == "/models":
            return 200, {"models": [{"modelName": name} for name in self.models]}
        name, _slash, rest = path.removeprefix("/models/").partition("/")
        versions = list(self.models[name.replace("%74", "t")].values())
        return 200, versions if rest == "all" else versions[:1]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class FakeHaproxy:
    """A master with the maps of its workers."""

    def __init__(self, path, state_file):
        self.path, self.state_file, self.maps, self.requests, self.asked = path, state_file, {"100": {}}, [], []
        self.silent = 0
        fake = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(fake.answer(self.rfile.read().decode().strip()).encode())

        self.server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, command):
        if command == "show proc":
            if self.silent:
                self.silent -= 1
                # What the new worker read is older than what the other one was told.
                self.maps.setdefault("200", {**self.maps["100"], "hold": "0"})
                return ""
            return "#<PID> <type>\n1 master 0\n# workers\n" + "".join(f"{pid} worker 0\n" for pid in self.maps) + "# programs\n\n"
        pid, command = command[2:].split(" ", 1)
        self.asked.append(command)
        words = command.split()
        if command == "show stat":
            count = self.requests.pop(0) if self.requests else 0
            return f"# pxname,svname,scur,\nmodelfleet,gpu-1,{count},\nmodelfleet,BACKEND,{count},\nother,BACKEND,7,\n\n"
        assert words[2] == str(self.state_file)
        known = self.maps[pid]
        if words[0] == "show":
            return "".join(f"0x1 {name} {value}\n" for name, value in known.items()) + "\n"
        if words[0] == "del":
            return "\n" if known.pop(words[3], None) else "entry not found.\n\n"
        if (words[0] == "set") != (words[3] in known):
            return "entry not found.\n\n"
        known[words[3]] = words[4]
        return "\n"

    def reload(self):
        """The master answers nobody for a while, and then it has one more worker."""
        self.silent = 5

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.path.unlink(missing_ok=True)


@pytest.fixture
def torchserve():
    fake = FakeTorchServe()
    yield fake
    fake.close()


@pytest.fixture
def haproxy(tmp_path):
    fake = FakeHaproxy(tmp_path / "master.sock", tmp_path / "state.map")
    yield fake
    fake.close()


@pytest.fixture
def key_socket(torchserve, tmp_path):
    """Answers with what is in TorchServe's file, until TorchServe has none."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(json.dumps(torchserve.keys).encode() if torchserve.keys else b"")

    server = socketserver.ThreadingUnixStreamServer(str(tmp_path / "key.sock"), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield str(tmp_path / "key.sock")
    server.shutdown()
    server.server_close()


@pytest.fixture
def watch(gateway_watch, torchserve, haproxy, key_socket, tmp_path):
    def make(**changed):
        args = SimpleNamespace(
            **{
                "inference": torchserve.address,
                "management": torchserve.address,
                "state": str(tmp_path / "state.map"),
                "known": str(tmp_path / "known"),
                "key_minutes": 60,
                "interval": 5,
                "forget": 1800,
                "drain_seconds": 10,
                "key_socket": key_socket,
                **changed,
            }
        )
        made = gateway_watch.Haproxy(str(tmp_path / "master.sock"), args.state, "modelfleet")
        return gateway_watch.Watch(gateway_watch.TorchServe(args.inference, args.management, args.key_socket), made, args)

    return make


def written(tmp_path):
    return dict(line.split(" ") for line in (tmp_path / "state.map").read_text().splitlines())


def test_what_haproxy_is_told(watch, torchserve, haproxy, tmp_path):
    torchserve.serve("demo")
    torchserve.serve("demo", "2.0", ready=0)
    torchserve.serve("tokenizer", ready=0, workers=2)
    made = watch()
    assert made.step() < 1
    wanted = {
        "@demo": "ready", "@demo/1.0": "ready", "@demo/2.0": "loading", "@tokenizer": "loading", "@tokenizer/1.0": "loading",
        "key": "inference-1", "hold": "0", "ping": "Unhealthy",
    }  # fmt: skip
    assert haproxy.maps["100"] == written(tmp_path) == wanted
    # A request that holds "/token" would be one to the token API.
    assert not [path for path in torchserve.calls if "/token" in path]
    torchserve.serve("demo", "2.0")
    torchserve.serve("tokenizer")
    assert made.step() == 5
    assert haproxy.maps["100"]["ping"] == "Healthy"
    assert (tmp_path / "state.map").stat().st_mode & 0o777 == 0o640


def test_nobody_passes_before_the_rest_is_right(watch, torchserve, haproxy):
    torchserve.serve("demo")
    made = watch()
    made.step()
    changes = [command.split()[3:] for command in haproxy.asked if command.split()[0] in ("set", "add")]
    assert changes[-1] == ["hold", "0"]
    haproxy.asked.clear()
    made.lose("a test")
    changes = [command.split()[3:] for command in haproxy.asked if command.split()[0] in ("set", "add")]
    assert changes[0] == ["hold", "1"] and haproxy.maps["100"]["key"] == "none"


def test_every_worker_is_told(watch, torchserve, haproxy):
    torchserve.serve("demo")
    made = watch()
    made.step()
    # After a reload: one that read an older file, beside the one that finishes its requests.
    haproxy.maps["200"] = {"key": "old", "@gone": "ready", "hold": "0"}
    made.haproxy.tell(made.entries)
    assert haproxy.maps["100"] == haproxy.maps["200"] == made.entries


def test_haproxy_need_not_run(watch, torchserve, haproxy, tmp_path):
    torchserve.serve("demo")
    haproxy.close()
    watch().step()
    assert written(tmp_path)["@demo"] == "ready"


def test_a_torchserve_that_goes_shuts_the_gate(watch, torchserve, haproxy):
    torchserve.serve("demo")
    made = watch()
    made.step()
    made.link.close()
    here, there = socket.socketpair()
    made.link = here
    assert not made.gone()
    there.close()
    assert made.gone()
    assert haproxy.maps["100"] == {"@demo": "restoring", "@demo/1.0": "restoring", "key": "none", "hold": "1", "ping": "Unhealthy"}


def test_what_was_served_is_waited_for_after_a_start(watch, torchserve, haproxy):
    torchserve.serve("demo")
    torchserve.serve("other")
    made = watch()
    made.step()
    made.lose("a test")
    other = torchserve.models.pop("other")
    made.step()
    assert (haproxy.maps["100"]["@demo"], haproxy.maps["100"]["@other"]) == ("ready", "restoring")
    torchserve.models["other"] = other
    made.step()
    assert haproxy.maps["100"]["@other"] == "ready"
    # From now on who is missing was taken away.
    torchserve.models.pop("other")
    made.step()
    assert "@other" not in haproxy.maps["100"] and "@other/1.0" not in haproxy.maps["100"]


def test_what_was_served_is_known_after_a_boot_and_not_for_ever(watch, torchserve, haproxy):
    torchserve.serve("demo")
    watch().step()
    torchserve.models.clear()
    again = watch(forget=0.2)
    again.step()
    assert haproxy.maps["100"]["@demo"] == "restoring"
    time.sleep(0.25)
    again.step()
    assert "@demo" not in haproxy.maps["100"]


def test_keys_are_renewed_before_they_expire(watch, torchserve, haproxy):
    torchserve.life_s = 15
    for kind in ("inference", "management"):
        torchserve.make(kind)
    torchserve.serve("demo")
    # A key of a minute is renewed 20 seconds before its end.
    made = watch(key_minutes=1)
    torchserve.life_s = 3600
    made.step()
    assert torchserve.calls[:2] == ["/token?type=management", "/token?type=inference"]
    assert haproxy.maps["100"]["key"] == torchserve.keys["inference"]["key"]
    calls = len([path for path in torchserve.calls if path.startswith("/token")])
    made.step()
    assert len([path for path in torchserve.calls if path.startswith("/token")]) == calls


def test_a_renewal_lets_the_requests_on_their_way_end(watch, torchserve, haproxy):
    torchserve.serve("demo")
    made = watch(key_minutes=1)
    made.step()
    torchserve.keys["inference"]["expiration time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 18))
    made.torchserve.read_keys()
    haproxy.requests = [2, 1]
    haproxy.asked.clear()
    made.step()
    names = [" ".join(command.split()[3:]) if command.split()[0] in ("set", "add") else command for command in haproxy.asked]
    assert names[0] == "hold 1" and names[-1] == "hold 0"
    assert names.count("show stat") >= 4, "two busy answers, and two that nobody is there"
    assert haproxy.maps["100"]["key"] == torchserve.keys["inference"]["key"] != "inference-1"


def test_a_renewal_waits_for_a_reload(watch, torchserve, haproxy, monkeypatch):
    """The workers go on while their master cannot be asked, and none may go on with the old key."""
    torchserve.serve("demo")
    made = watch(key_minutes=1)
    made.step()
    torchserve.keys["inference"]["expiration time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 18))
    made.torchserve.read_keys()
    held = []
    monkeypatch.setattr(torchserve, "make", lambda kind, make=torchserve.make: (
        held.append({pid: known["hold"] for pid, known in haproxy.maps.items()}), make(kind)))  # fmt: skip
    haproxy.reload()
    made.step()
    assert held == [{"100": "1", "200": "1"}]
    for known in haproxy.maps.values():
        assert (known["key"], known["hold"]) == (torchserve.keys["inference"]["key"], "0") and known["key"] != "inference-1"


@pytest.mark.parametrize("answer", ["", "# pxname,svname,scur,\nmodelfleet,gpu-1,0,\n"])
def test_an_answer_that_was_cut_off_does_not_mean_that_nobody_is_there(gateway_watch, haproxy, monkeypatch, tmp_path, answer):
    monkeypatch.setattr(haproxy, "answer", lambda command, full=haproxy.answer: answer if "show stat" in command else full(command))
    made = gateway_watch.Haproxy(str(tmp_path / "master.sock"), str(tmp_path / "state.map"), "modelfleet")
    assert made.wait_idle(0.2, lambda: True) is False


def test_a_renewal_that_fails_stops_nobody(watch, torchserve, haproxy, capsys):
    torchserve.serve("demo")
    made = watch(key_minutes=1)
    made.step()
    torchserve.keys["inference"]["expiration time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 18))
    made.torchserve.read_keys()
    torchserve.broken = "/token"
    made.step()
    assert haproxy.maps["100"]["hold"] == "0" and haproxy.maps["100"]["key"] == "inference-1"
    assert "Failed to renew TorchServe's inference key: it answered 500" in capsys.readouterr().err
    calls = torchserve.calls.count("/token?type=inference")
    made.step()
    assert torchserve.calls.count("/token?type=inference") == calls, "not at once again"


def test_a_key_that_somebody_else_has_renewed(watch, torchserve, haproxy):
    torchserve.serve("demo")
    made = watch()
    made.step()
    torchserve.make("inference")
    assert made.step() == 0
    made.step()
    assert haproxy.maps["100"]["key"] == torchserve.keys["inference"]["key"] and haproxy.maps["100"]["hold"] == "0"


def test_keys_that_are_not_written_yet(watch, torchserve, haproxy):
    torchserve.serve("demo")
    keys, torchserve.keys = torchserve.keys, {}
    made = watch()
    made.step()
    assert haproxy.maps["100"]["hold"] == "1"
    torchserve.keys = keys
    made.step()
    assert haproxy.maps["100"]["hold"] == "0"


@pytest.mark.parametrize("key", ["two words", "a\nset map x y z", "", None, 7, "ключ"])
def test_a_key_that_is_none_is_not_passed_on(watch, torchserve, haproxy, key):
    torchserve.keys["inference"]["key"] = key
    watch().step()
    assert haproxy.maps["100"] == {"key": "none", "hold": "1", "ping": "Unhealthy"}


def test_names_that_are_no_words_have_no_address(watch, torchserve, haproxy):
    torchserve.models["two words;x"] = {"1.0": {"modelVersion": "1.0", "workers": [{"status": "READY"}]}}
    made = watch()
    made.torchserve.described = lambda _path: [{"modelVersion": "1.0", "workers": [{"status": "READY"}]}]
    made.step()
    assert sorted(haproxy.maps["100"]) == ["hold", "key", "ping"]


def test_without_token_authorization(watch, torchserve, haproxy, monkeypatch):
    torchserve.serve("demo")
    monkeypatch.setattr(torchserve, "answer", lambda path, _none, answer=torchserve.answer: answer(
        path, f"Bearer {torchserve.keys['inference' if path == '/ping' else 'management']['key']}" if not _none else ""))  # fmt: skip
    watch(key_socket="").step()
    assert (haproxy.maps["100"]["key"], haproxy.maps["100"]["hold"], haproxy.maps["100"]["@demo"]) == ("none", "0", "ready")


def test_somebody_else_at_the_port(watch, torchserve, haproxy, capsys, monkeypatch):
    monkeypatch.setattr(torchserve, "answer", lambda _path, _authorization: (200, ["what"]))
    watch().step()
    assert haproxy.maps == {"100": {}} or haproxy.maps["100"].get("hold") != "0"
    assert "is not TorchServe" in capsys.readouterr().err


def test_a_drain_holds_and_waits(gateway_watch, haproxy, tmp_path, capsys):
    haproxy.maps["100"] = {"hold": "0"}
    haproxy.requests = [3, 0, 1, 0, 0]
    command = ["--drain", "--master", str(tmp_path / "master.sock"), "--state", str(tmp_path / "state.map"), "--backend", "modelfleet"]
    assert gateway_watch.main([*command, "--drain-seconds", "5"]) == 0
    assert haproxy.maps["100"]["hold"] == "1" and haproxy.requests == []
    haproxy.requests = []
    haproxy.reload()
    assert gateway_watch.main([*command, "--drain-seconds", "5"]) == 0
    assert haproxy.maps["200"]["hold"] == "1"
    haproxy.requests = [1] * 1000
    assert gateway_watch.main([*command, "--drain-seconds", "0"]) == 1
    haproxy.silent = 1000
    assert gateway_watch.main([*command, "--drain-seconds", "0.2"]) == 1
    assert capsys.readouterr().err.count("Requests are still on their way") == 2
    haproxy.close()
    assert gateway_watch.main([*command, "--drain-seconds", "1"]) == 0, "nobody is there to be waited for"


def test_a_torchserve_that_is_busy_is_not_gone(gateway_watch, watch, torchserve, haproxy, monkeypatch, capsys):
    torchserve.serve("demo")
    made = watch()
    made.step()
    monkeypatch.setattr(gateway_watch, "TIMEOUT_S", 0.2)
    slow = threading.Event()
    monkeypatch.setattr(torchserve, "answer", lambda _path, _authorization: (200, slow.wait(5)))
    made.step()
    slow.set()
    assert haproxy.maps["100"]["hold"] == "0" and haproxy.maps["100"]["@demo"] == "ready"
    assert "has not answered within" in capsys.readouterr().err
