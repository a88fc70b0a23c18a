# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the repository share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from clouds import CONTENT, KEY, Authority, Cloud

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def run():
    """Run one of Ansible's programs from the repository; returns the finished process with its output as text."""
    programs = Path(sys.executable).parent

    def run_program(program, *arguments, cwd=REPOSITORY, **environment):
        env = {
            **os.environ,
            "ANSIBLE_NOCOLOR": "1",
            # Tests read the lines of every task.
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            **environment,
        }
        command = [program, *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)

    return run_program


@pytest.fixture(scope="session")
def authority():
    """Who issues the tokens that a cloud takes for credentials."""
    return Authority()


@pytest.fixture(scope="session")
def loopback_certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=test", "-keyout", str(folder / "key"), "-out", str(folder / "crt"), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return {"certificate": str(folder / "crt"), "key": str(folder / "key")}


@pytest.fixture
def cloud(request, tmp_path, loopback_certificate, authority, monkeypatch):
    """A running store, and who gives out credentials for it: the parameter is (store, source)."""
    name, source = request.param
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", loopback_certificate["certificate"])
    (tmp_path / "token").write_text(authority.token() + "\n")
    config = {
        "data": str(tmp_path / "data"),
        "address": "127.0.0.1",
        "listen": {"http": 0, "https": 0, "control": 0, "proxy": 0},
        "tls": loopback_certificate,
        "identity": {"listen": 0, "issuer": authority.issuer, "publish": True},
    }
    running = Cloud(name, source, config, tmp_path / "token")
    running.put(KEY, CONTENT)
    yield running
    running.stop()
