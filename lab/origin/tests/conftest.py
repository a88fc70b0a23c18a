# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running origin on loopback, with TLS, and the two identities it knows."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from strict_origin import server

KEYS = [
    {"access_key": "AKIAREADER", "secret_key": "reader-secret", "publish": False},
    {"access_key": "AKIAPUBLISHER", "secret_key": "publisher-secret", "publish": True},
    {"access_key": "ASIATEMPORARY", "secret_key": "temporary-secret", "session_token": "the-token", "publish": False},
]


class Running:
    def __init__(self, config: dict):
        self.servers = server.start(config)
        self.ca = config["tls"]["certificate"]
        self.ports = {name: one.server_address[1] for name, one in self.servers.items()}
        self.objects = self.servers["http"].origin.objects

    def control(self, method: str, path: str, value=None):
        data = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports['control']}{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def store(self, key: str, content: bytes, bucket: str = "models") -> None:
        upload = self.objects.upload()
        upload.write(content)
        self.objects.put(bucket, key, upload)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    names = "DNS:localhost,DNS:*.s3.us-east-1.amazonaws.com,DNS:s3.us-east-1.amazonaws.com,IP:127.0.0.1"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=test", "-keyout", str(folder / "key"), "-out", str(folder / "crt"), "-addext", f"subjectAltName={names}"]
    subprocess.run(command, check=True, capture_output=True)
    return {"certificate": str(folder / "crt"), "key": str(folder / "key")}


@pytest.fixture
def origin(tmp_path, certificate):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    running = Running(
        {
            "data": str(tmp_path / "data"),
            "address": "127.0.0.1",
            "listen": {"http": 0, "https": 0, "control": 0, "proxy": 0},
            "tls": certificate,
            "mirror": {"hosts": ["localhost"], "root": str(mirror)},
            "s3": {"region": "us-east-1", "buckets": ["models"], "endpoints": ["127.0.0.1"], "keys": KEYS},
        }
    )
    running.mirror = mirror
    yield running
    server.stop(running.servers)
