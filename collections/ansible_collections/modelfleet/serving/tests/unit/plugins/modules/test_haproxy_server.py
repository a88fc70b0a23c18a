# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import threading

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import haproxy_server

STATE = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight
3 modelfleet 1 gpu-1 10.0.0.1 2 {gpu-1} 1
3 modelfleet 2 gpu-2 10.0.0.2 2 {gpu-2} 1
"""
STAT = """# pxname,svname,qcur,qmax,scur,status
modelfleet,gpu-1,0,0,{},DRAIN
other,gpu-1,0,0,7,UP
modelfleet,gpu-2,0,0,0,UP
"""


class FakeHaproxy:
    """Its runtime socket, as 3.0 answers there."""

    def __init__(self, path):
        self.admin = {"gpu-1": 0, "gpu-2": 0}
        # Requests on their way to gpu-1, one answer after the other.
        self.sessions = [0]
        self.commands = []
        self.says = ""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        threading.Thread(target=self.work, daemon=True).start()

    def work(self):
        while True:
            try:
                connection, _address = self.listener.accept()
            except OSError:
                return
            with connection:
                command = connection.recv(4096).decode().strip()
                connection.sendall((self.answer(command) + "\n").encode())

    def answer(self, command):
        if command == "show servers state modelfleet":
            return STATE.format(**self.admin)
        if command.startswith("show servers state"):
            return "Can't find backend."
        if command == "show stat":
            return STAT.format(self.sessions.pop(0) if len(self.sessions) > 1 else self.sessions[0])
        self.commands.append(command)
        _set, _server, name, _state, state = command.split()
        self.admin[name.partition("/")[2]] = 0x08 if state == "drain" else 0
        return self.says


@pytest.fixture
def haproxy(tmp_path):
    fake = FakeHaproxy(str(tmp_path / "admin.sock"))
    yield fake
    fake.listener.close()


@pytest.fixture
def call(tmp_path, haproxy, run_module):
    def run(state, *servers, check=False, diff=False, **options):
        args = {"socket": str(tmp_path / "admin.sock"), "backend": "modelfleet", "servers": list(servers), "state": state, "timeout": 1}
        return run_module(haproxy_server.main, {**args, **options}, check=check, diff=diff)

    return run


def test_out_and_back(haproxy, call):
    haproxy.sessions = [3, 1, 0]
    predicted = call("drain", "gpu-1", check=True, diff=True)
    assert predicted["changed"] and haproxy.commands == []
    assert predicted["diff"] == {"before": "gpu-1: ready\n", "after": "gpu-1: drain\n"}
    assert call("drain", "gpu-1")["servers"] == {"gpu-1": "ready"}
    assert haproxy.sessions == [0], "it waits until nothing is on its way"
    assert not call("drain", "gpu-1")["changed"]
    assert call("ready", "gpu-1", "gpu-2")["changed"]
    assert not call("ready", "gpu-1", "gpu-2")["changed"]
    assert haproxy.commands == ["set server modelfleet/gpu-1 state drain", "set server modelfleet/gpu-1 state ready"]


def test_what_somebody_put_into_maintenance_stays_there(haproxy, call):
    haproxy.admin["gpu-1"] = 0x01
    for state in ("drain", "ready"):
        assert not call(state, "gpu-1")["changed"]
    assert haproxy.commands == []


def test_requests_that_do_not_end(haproxy, call):
    haproxy.sessions = [2]
    failed = call("drain", "gpu-1")
    assert failed["failed"] and "2 requests are still on their way after 1 s" in failed["msg"]


def test_bad_names(haproxy, call, tmp_path):
    assert "Failed to find gpu-9 in the backend modelfleet" in call("drain", "gpu-9")["msg"]
    assert "Failed to find the backend other" in call("drain", "gpu-1", backend="other")["msg"]
    assert "stats socket" in call("drain", "gpu-1", socket=str(tmp_path / "none"))["msg"]
    haproxy.says = "Permission denied"
    assert "Permission denied" in call("drain", "gpu-1")["msg"]
