# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the endpoint plugin share: TorchServe's own jar, the plugin, TorchServe with the plugin, a proxy."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fleet import ALL

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = REPOSITORY / "collections/ansible_collections/modelfleet/serving/roles/endpoint_plugin/files/src"
VERSIONS = ["0.11.1", "0.12.0"]
KEYS = [
    "a.mar", "models/resnet50/1.0/resnet50.mar", "with space.mar", "plus+sign", "percent%2Fslash", "100%", "ünïcödé/模型.mar", "emoji🙂",
    "tilde~dash-dot.under_score", "a=b&c?d#e", "quote'\"`", "(brackets)[]{}<>", "semi;colon:at@bang!star*comma,dollar$",
    "pipe|caret^back\\slash",
    "e\u0301combining", "\u00a0nbsp", "a//b", "...", "a/..b/c..", "trailing space ",
]  # fmt: skip


def service_account(number=0):
    """What is in the file of a Google service account, with an RSA key of its own."""
    key = rsa.generate_private_key(65537, 2048)
    return {
        "type": "service_account",
        "project_id": "fleet",
        "private_key_id": f"{number:040x}",
        "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "client_email": f"reader-{number}@fleet.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }


@pytest.fixture(scope="session")
def server_jar(tmp_path_factory):
    """model-server.jar of a TorchServe version; the wheels are kept in the user's cache."""
    wheels = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "modelfleet/wheels"

    def get(version):
        wheel = wheels / f"torchserve-{version}-py3-none-any.whl"
        if not wheel.exists():
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), f"torchserve=={version}"]
            subprocess.run(command, check=True)
        home = tmp_path_factory.getbasetemp() / f"site-packages-{version}"
        jar = home / "ts/frontend/model-server.jar"
        if not jar.exists():
            with zipfile.ZipFile(wheel) as archive:
                wanted = [name for name in archive.namelist() if name.startswith(("ts/frontend/", "ts/configs/", "ts/version.txt"))]
                archive.extractall(home, wanted)
        return jar

    return get


@pytest.fixture(scope="session")
def build_plugin(run):
    """Build the plugin with the module that users use; returns what the module returned."""

    def build(jar, dest, src=SOURCES):
        arguments = json.dumps({"src": str(src), "torchserve_jar": str(jar), "dest": str(dest), "mode": "0644"})
        done = run(
            "ansible", "localhost", "-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}",
            "-m", "modelfleet.serving.endpoint_plugin", "-a", arguments, ANSIBLE_CALLBACK_RESULT_FORMAT="json",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return json.loads(done.stdout[done.stdout.index("{") :])

    return build


@pytest.fixture(scope="session")
def plugin_jar(server_jar, build_plugin, tmp_path_factory):
    """The one jar that must work with every version of TorchServe."""
    jar = tmp_path_factory.mktemp("plugin") / "dragonfly-endpoint.jar"
    build_plugin(server_jar("0.12.0"), jar)
    return jar


@pytest.fixture(scope="session")
def trusting(loopback_certificate, tmp_path_factory):
    """Options with which a JVM trusts a server of the tests."""
    store = tmp_path_factory.mktemp("trust") / "trust.p12"
    command = ["keytool", "-importcert", "-noprompt", "-alias", "test", "-file", loopback_certificate["certificate"]]
    subprocess.run([*command, "-keystore", str(store), "-storepass", "changeit"], check=True, capture_output=True)
    return [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=changeit"]


@pytest.fixture(scope="session")
def java(plugin_jar, server_jar, trusting, tmp_path_factory):
    """Ask the plugin's signers; a case is {storage, key, now, expires}. One JVM answers all of them."""
    classes = tmp_path_factory.mktemp("driver")
    classpath = f"{plugin_jar}:{server_jar('0.12.0')}"
    driver = REPOSITORY / "tests/plugin/java/SignerDriver.java"
    subprocess.run(["javac", "--release", "11", "-proc:none", "-cp", classpath, "-d", classes, driver], check=True)
    process = subprocess.Popen(
        ["java", *trusting, "-cp", f"{classes}:{classpath}", "org.modelfleet.serving.endpoint.SignerDriver"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        bufsize=1,
    )

    def sign(case):
        process.stdin.write(json.dumps(case) + "\n")
        return json.loads(process.stdout.readline())

    yield sign
    process.stdin.close()
    assert process.wait(timeout=30) == 0


@dataclass
class FakeDfdaemon:
    """Answers as dfdaemon's proxy does, from a dict of objects; dfdaemon itself is exercised by the scenarios."""

    objects: dict = field(default_factory=dict)
    tasks: dict = field(default_factory=dict)  # finished tasks by name: dfdaemon answers for them without the origin
    requests: list = field(default_factory=list)
    failures: list = field(default_factory=list)  # (status, error type) of the next answers
    link: str = "right"  # what is linked: right, wrong or nothing
    truncate: int = 0  # how many of the next bodies end early
    ranges: bool = True
    body_delay: float = 0.0
    # Where it takes objects from the origin itself, with the URL that it is given: how many bytes at a time, half a second each.
    step: int = 0
    pieces: dict = field(default_factory=dict)  # what came of each task so far
    ca: str = ""  # of an origin that it speaks TLS to, whatever the URL says: its rules tell it

    def start(self):
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_args):
                pass

            def do_GET(self):
                fake.answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def reset(self):
        self.objects, self.tasks, self.requests, self.failures = {}, {}, [], []
        self.link, self.truncate, self.ranges, self.body_delay, self.step, self.pieces, self.ca = "right", 0, True, 0.0, 0, {}, ""

    def answer(self, request):
        url = urllib.parse.urlsplit(request.path)
        self.requests.append({"target": request.path, "url": url, "headers": dict(request.headers)})
        if self.failures:
            self.refuse(request, *self.failures.pop(0))
            return
        key = urllib.parse.unquote(url.path)[1:]
        name = request.headers.get("X-Dragonfly-Content-For-Calculating-Task-ID") or url.path
        if "Range" in request.headers and self.ranges:
            self.send(request, 206, self.objects[key][:1], self.objects[key])
            return
        try:
            content = self.tasks.get(name) or (self.from_origin(request.path, name) if self.step else self.objects.get(key))
        except urllib.error.HTTPError as exc:
            self.refuse(request, exc.code, "backend")
            return
        if content is None:
            self.refuse(request, 404, "backend")
            return
        self.tasks[name] = content
        time.sleep(self.body_delay)
        cut = self.truncate > 0
        self.truncate -= cut
        self.send(request, 200, content[: len(content) // 2] if cut else content, content)
        path = request.headers.get("X-Dragonfly-Output-Path")
        if path and not cut and self.link != "nothing":
            time.sleep(0.05)  # as in life, the file appears after the body
            # It is dfdaemon's own file, which may be old.
            own = Path(path).with_name("piece")
            own.write_bytes(content if self.link == "right" else bytes(len(content)))
            os.utime(own, (1, 1))
            own.rename(path)

    def from_origin(self, url, name):
        """The object, one range after the other; what came stays, as it does at a seed peer."""
        came = self.pieces.setdefault(name, bytearray())
        context = ssl.create_default_context(cafile=self.ca) if self.ca else None
        url = url.replace("http://", "https://", 1) if self.ca else url
        while True:
            wanted = urllib.request.Request(url, headers={"Range": f"bytes={len(came)}-{len(came) + self.step - 1}"})
            with urllib.request.urlopen(wanted, timeout=10, context=context) as answer:
                came += answer.read()
                if len(came) == int(answer.headers["Content-Range"].rpartition("/")[2]):
                    return bytes(came)
            time.sleep(0.5)

    @staticmethod
    def send(request, status, body, whole):
        request.send_response(status)
        request.send_header("ETag", f'"{hashlib.md5(whole).hexdigest()}"')
        request.send_header("Content-Length", str(len(whole) if status == 200 else len(body)))
        request.end_headers()
        request.wfile.write(body)
        request.wfile.flush()

    @staticmethod
    def refuse(request, status, blame):
        request.send_response(status)
        request.send_header("X-Dragonfly-Error-Type", blame)
        if status == 401:
            request.send_header("WWW-Authenticate", 'Basic realm="models"')
        request.send_header("Content-Length", "0")
        request.end_headers()


@pytest.fixture(scope="session")
def dfdaemon():
    return FakeDfdaemon().start()


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class TorchServe:
    """TorchServe's frontend with the plugin. Models are registered without workers, so it needs no torch."""

    def __init__(self, jar, plugin, home, options):
        self.home = home
        self.config = home / "config.json"
        self.store = home / "models"
        self.incoming = home / "incoming"
        for directory in (self.store, self.incoming, home / "tmp"):
            directory.mkdir()
        inference, self.port, metrics, grpc1, grpc2 = free_ports(5)
        (home / "config.properties").write_text(
            f"inference_address=http://127.0.0.1:{inference}\n"
            f"management_address=http://127.0.0.1:{self.port}\n"
            f"metrics_address=http://127.0.0.1:{metrics}\n"
            f"grpc_inference_port={grpc1}\ngrpc_management_port={grpc2}\n"
            "disable_token_authorization=true\nenable_model_api=true\ndisable_system_metrics=true\nallowed_urls=none\ndefault_workers_per_model=0\n"
        )
        self.log = (home / "out.log").open("wb")
        self.process = subprocess.Popen(
            ["java", "-Xmx192m", *options, f"-Djava.io.tmpdir={home}/tmp", f"-Dmodel_server_home={jar.parents[2]}",
             "-cp", f"{jar}:{plugin}",
             "org.pytorch.serve.ModelServer", "--python", sys.executable, "-f", "config.properties", "-s", str(self.store), "-ncs"],
            # No locale, as under systemd.
            cwd=home, env={**os.environ, "LC_ALL": "C", "TEMP": f"{home}/tmp", "DRAGONFLY_ENDPOINT_CONFIG": str(self.config)},
            stdout=self.log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.wait()

    def wait(self):
        for _ in range(300):
            assert self.process.poll() is None, (self.home / "out.log").read_text()
            try:
                return self.call("OPTIONS", "/")
            except OSError:
                time.sleep(0.1)
        raise AssertionError("TorchServe did not start: " + (self.home / "out.log").read_text())

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)
        self.log.close()

    def call(self, method, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def register(self, **query):
        """POST /dragonfly/models; every answer must be JSON by the letter and say so."""
        status, headers, body = self.call("POST", "/dragonfly/models?" + urllib.parse.urlencode(query, quote_via=urllib.parse.quote))
        assert headers["Content-Type"] == "application/json"
        answer = json.loads(body)
        if status >= 400:
            assert set(answer) == {"code", "type", "message"} and answer["code"] == status
        return status, answer

    def files(self):
        return sorted(path.name for path in self.store.iterdir()) + sorted(path.name for path in self.incoming.iterdir())

    def registered(self):
        return {model["modelName"] for model in json.loads(self.call("GET", "/models")[2])["models"]}

    def clear(self):
        for name in self.registered():
            self.call("DELETE", f"/models/{name}")
        for path in [*self.store.iterdir(), *self.incoming.iterdir()]:
            path.unlink()


# On a fleet "make test" has both.
@pytest.fixture(scope="session", params=VERSIONS if ALL else VERSIONS[-1:])
def torchserve_process(request, server_jar, plugin_jar, trusting, tmp_path_factory):
    server = TorchServe(server_jar(request.param), plugin_jar, tmp_path_factory.mktemp(f"torchserve-{request.param}"), trusting)
    yield server
    server.stop()


@pytest.fixture
def config(torchserve_process, dfdaemon):
    """What config.json holds; call it with changes to write another one."""
    values = {
        "addr": dfdaemon.url,
        "header": {"X-Dragonfly-Tag": "fleet"},
        "filter": ["a", "b"],
        "object_storage": {
            "type": "s3",
            "bucket_name": "models",
            "region": "eu-west-1",
            "access_key": "PLANTEDACCESSKEY",
            "secret_key": "PLANTED/SECRET/KEY",
        },
        "require_sha256": True,
        "incoming_dir": str(torchserve_process.incoming),
        "retry_seconds": 5,
    }

    def write(**changes):
        changed = {name: value for name, value in {**values, **changes}.items() if value is not None}
        torchserve_process.config.write_text(json.dumps(changed))

    write()
    return write


@pytest.fixture
def torchserve(torchserve_process, dfdaemon, config):
    dfdaemon.reset()
    yield torchserve_process
    torchserve_process.clear()


@pytest.fixture
def mar(tmp_path):
    """Make a model archive; returns its bytes and their sha256."""

    def make(name="tiny", version="1.0", filler=b""):
        path = tmp_path / "model.mar"
        manifest = {
            "createdOn": "01/01/2026 00:00:00",
            "runtime": "python",
            "archiverVersion": "0.12.0",
            "model": {"modelName": name, "modelVersion": version, "handler": "handler.py"},
        }
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
            archive.writestr("handler.py", "def handle(data, context):\n    return [1] * len(data)\n")
            archive.writestr("filler", filler)
        content = path.read_bytes()
        return content, hashlib.sha256(content).hexdigest()

    return make
