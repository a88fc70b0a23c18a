# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import http.server
import threading
import time

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils._dfdaemon import parse_traffic, read_traffic
from ansible_collections.modelfleet.serving.plugins.modules import dfdaemon_info

METRICS = """# HELP dragonfly_client_download_traffic Counter of the number of the download traffic.
# TYPE dragonfly_client_download_traffic counter
dragonfly_client_download_traffic{type="BACK_TO_SOURCE"} 34603008
dragonfly_client_download_traffic{type="REMOTE_PEER"} 6.7108864e+07
dragonfly_client_upload_traffic{task_type="0"} 99
dragonfly_client_disk_space_total 270553174016
dragonfly_client_disk_usage_space_total 191868682240
dragonfly_client_version{build_time="unknown",git_commit="un\\"known",git_version="1.5.10",platform="x86_64-unknown-linux-gnu"} 1
process_start_time_seconds START
broken{ line
"""


class Dfdaemon(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen += 1
        ready = self.server.seen > self.server.failures
        body = (METRICS.replace("START", str(self.server.started)) if self.path == "/metrics" else "").encode()
        self.send_response(200 if ready else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        pass


@pytest.fixture
def dfdaemon():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dfdaemon)
    server.seen = server.failures = 0
    server.started = int(time.time()) - 100
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def ask(run_module, tmp_path):
    def run(port, check=False, **args):
        urls = {"health_url": f"http://127.0.0.1:{port}/healthy", "metrics_url": f"http://127.0.0.1:{port}/metrics"}
        return run_module(dfdaemon_info.main, {**urls, "storage_dir": str(tmp_path), **args}, check=check)

    return run


def test_traffic_has_every_source():
    assert parse_traffic(METRICS) == {"origin": 34603008, "remote_peer": 67108864, "local_peer": 0}
    assert parse_traffic("") == {"origin": 0, "remote_peer": 0, "local_peer": 0}


def test_read_traffic(dfdaemon):
    assert read_traffic(f"http://127.0.0.1:{dfdaemon.server_port}/metrics")["origin"] == 34603008


def test_healthy(ask, dfdaemon, tmp_path):
    shelf = tmp_path / "content/tasks/abc"
    shelf.mkdir(parents=True)
    (shelf / "abcdef").write_bytes(b"x" * 1000)
    for check in (False, True):
        result = ask(dfdaemon.server_port, check=check)
        assert not result["changed"] and result["healthy"] and result["problem"] == "" and result["version"] == "1.5.10"
        assert result["traffic"]["remote_peer"] == 67108864
        assert result["disk"] == {"total": 270553174016, "used": 191868682240}
        assert result["cache"] == {"tasks": 1, "bytes": 1000}
        assert 100 <= result["uptime_s"] < 160


def test_unhealthy_is_a_result_without_waiting(ask, dfdaemon):
    dfdaemon.failures = 99
    result = ask(dfdaemon.server_port)
    assert not result.get("failed") and not result["healthy"] and "503" in result["problem"] and result["cache"] == {"tasks": 0, "bytes": 0}


def test_dead_is_a_result_without_waiting(ask):
    result = ask(1)
    assert not result["healthy"] and "127.0.0.1:1" in result["problem"] and "journalctl" in result["problem"]


def test_waits_until_it_is_healthy(ask, dfdaemon, monkeypatch):
    monkeypatch.setattr(dfdaemon_info, "POLL_S", 0.01)
    dfdaemon.failures = 3
    assert ask(dfdaemon.server_port, wait_s=30)["healthy"]


def test_gives_up_with_one_sentence(ask, monkeypatch):
    monkeypatch.setattr(dfdaemon_info, "POLL_S", 0.01)
    result = ask(1, wait_s=1)
    assert result["failed"] and "not healthy within 1 s" in result["msg"] and "127.0.0.1:1" in result["msg"]


def test_waits_until_it_is_old_enough(ask, dfdaemon):
    dfdaemon.started = int(time.time()) - 1
    before = time.monotonic()
    assert ask(dfdaemon.server_port, min_uptime_s=3)["uptime_s"] >= 3
    assert time.monotonic() - before < 30
