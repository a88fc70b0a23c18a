# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway as its role configures it: HAProxy, the watch and TorchServe with workers, on loopback. Nothing here needs torch."""

from __future__ import annotations

import datetime
import http.client
import json
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fleet import only_in_all

REPOSITORY = Path(__file__).resolve().parent.parent
COLLECTION = REPOSITORY / "collections/ansible_collections/modelfleet/serving"
WHEEL = REPOSITORY / ".cache/wheels/torchserve-0.12.0-py3-none-any.whl"
TOKENS = {name: f"{name}-{'0123456789abcdef' * 4}" for name in ("anna", "slow", "nobody")}
HOLD_S = 40
LIMIT = 65536
# What a worker imports, and this machine need not have.
STUBS = {
    "torch.py": "class Tensor: pass\n",
    "psutil.py": "class Process:\n    def memory_info(self):\n        return type('Memory', (), {'rss': 0})\n",
}
HANDLER = """
import time
def handle(data, context):
    if data is None:
        return None
    body = data[0].get("body") or data[0].get("data") or b""
    time.sleep(float(context.get_request_header(0, "x-seconds") or 0))
    said = context.get_request_header(0, "authorization") or ""
    return [{"model": context.manifest["model"]["modelName"], "length": len(body), "authorization": said}] * len(data)
"""

# A host on which nothing of it is yet.
SYSTEMCTL = """#!/bin/sh
case "$1" in
    show) printf 'ActiveState=inactive\\nSubState=dead\\nUnitFileState=\\nResult=success\\nNeedDaemonReload=no\\n' ;;
    *) echo "changed: $*" >> "$CHANGED" ;;
esac
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the files belong to root")


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Authority:
    """A CA, and what it signs."""

    def __init__(self, directory, name):
        self.directory = directory
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.path = directory / f"{name}.pem"
        self.path.write_bytes(self.sign(name, self.key, ca=True).public_bytes(Encoding.PEM))

    def sign(self, name, key, ca=False):
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def issue(self, name, path):
        """Write <path>.crt and <path>.key; return them."""
        key = ec.generate_private_key(ec.SECP256R1())
        crt, pem = self.directory / f"{path}.crt", self.directory / f"{path}.key"
        crt.write_bytes(self.sign(name, key).public_bytes(Encoding.PEM))
        pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return crt, pem


class TorchServe:
    """TorchServe with workers, on this machine."""

    def __init__(self, home, ports, **config):
        self.home = home
        self.inference, self.management, metrics, grpc1, grpc2, workers = ports
        for name in ("store", "stubs", "tmp"):
            (home / name).mkdir()
        with zipfile.ZipFile(WHEEL) as wheel:
            wheel.extractall(home / "site")
        for name, text in STUBS.items():
            (home / "stubs" / name).write_text(text)
        for name in ("demo", "idle", "tokenizer"):
            manifest = {"modelName": name, "modelVersion": "1.0", "handler": "handler.py"}
            with zipfile.ZipFile(home / f"store/{name}.mar", "w") as archive:
                archive.writestr(
                    "MAR-INF/MANIFEST.json",
                    json.dumps({"createdOn": "", "runtime": "python", "archiverVersion": "0.12.0", "model": manifest}),
                )
                archive.writestr("handler.py", HANDLER)
        self.config = {
            "inference_address": f"http://127.0.0.1:{self.inference}",
            "management_address": f"http://127.0.0.1:{self.management}",
            "metrics_address": f"http://127.0.0.1:{metrics}",
            "grpc_inference_port": grpc1,
            "grpc_management_port": grpc2,
            "initial_worker_port": workers,
            "enable_model_api": "true",
            "disable_system_metrics": "true",
            "number_of_netty_threads": 2,
            "netty_client_threads": 2,
            **config,
        }
        self.process = None

    @property
    def key_file(self):
        return self.home / "key_file.json"

    def keys(self):
        while self.key_file.exists():
            try:
                return json.loads(self.key_file.read_text())
            except ValueError:
                time.sleep(0.01)  # TorchServe is writing it
        return {}

    def start(self):
        self.key_file.unlink(missing_ok=True)
        (self.home / "config.properties").write_text("".join(f"{name}={value}\n" for name, value in self.config.items()))
        environment = {
            **os.environ, "PYTHONPATH": str(self.home / "stubs"), "TEMP": str(self.home / "tmp"), "LOG_LOCATION": str(self.home / "logs"),
            "METRICS_LOCATION": str(self.home / "logs"),
        }  # fmt: skip
        command = [
            "java", "-Xmx192m", f"-Djava.io.tmpdir={self.home}/tmp", f"-Dmodel_server_home={self.home}/site",
            "-cp", f"{self.home}/site/ts/frontend/*",
            "org.pytorch.serve.ModelServer", "--python", sys.executable, "-f", "config.properties", "-s", str(self.home / "store"), "-ncs",
        ]  # fmt: skip
        with (self.home / "torchserve.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.home, env=environment, stdout=log, stderr=log, start_new_session=True)
        wait_for(lambda: self.call("OPTIONS", "/")[0] == 200, "TorchServe did not start")

    def serve(self):
        """What torchserve-models.service does after each start."""
        for name, workers in (("demo", 2), ("idle", 0), ("tokenizer", 1)):
            wait_for(
                lambda name=name, workers=workers: self.call("POST", f"/models?url={name}.mar&initial_workers={workers}")[0] == 200, name
            )

    def call(self, method, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.management, timeout=60)
        try:
            key = self.keys().get("management", {}).get("key")
            connection.request(method, path, headers={"Authorization": f"Bearer {key}"} if key else {})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, ValueError):
            return 0, b""
        finally:
            connection.close()

    def stop(self, how=signal.SIGTERM):
        if self.process:
            os.kill(self.process.pid, how)
            self.process.wait(timeout=30)
            # systemd ends the rest of a unit as well.
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process = None


class Gateway:
    """What the role would install, below a directory, run by the commands of its units."""

    def __init__(self, run, home, torchserve, **variables):
        self.run, self.home, self.torchserve = run, home, torchserve
        self.port, self.other_port = free_ports(2)
        self.pki = Authority(home, "servers")
        self.clients = Authority(home, "clients")
        self.variables = variables
        self.processes = {}
        (home / "etc").mkdir()
        (home / "run").mkdir()
        self.pki.issue("localhost", "server")
        self.write()

    def write(self):
        """Have the role's files written, as far as they are not systemd's; keep the units."""
        variables = {
            "ansible_python_interpreter": sys.executable,
            "modelfleet_address": "127.0.0.1",
            "modelfleet_storage": {"http": {"url": "http://127.0.0.1"}},
            "torchserve_config": self.torchserve.config,
            "gateway_address": "127.0.0.1",
            "gateway_port": self.port,
            "gateway_certificate": str(self.home / "server.crt"),
            "gateway_key": str(self.home / "server.key"),
            "gateway_client_ca": str(self.clients.path),
            "gateway_clients": [
                {"name": "anna", "token": TOKENS["anna"]},
                {"name": "slow", "token": TOKENS["slow"], "requests_per_minute": 5},
                {"name": "batch", "certificate": "batch.example.com"},
            ],
            "gateway_requests_per_minute": 1000000,
            "gateway_max_body_bytes": str(LIMIT),
            "gateway_hold_seconds": HOLD_S,
            "gateway_threads": 2,
            "__gateway_directory": str(self.home / "etc"),
            "__gateway_home": str(COLLECTION / "roles/gateway/files"),
            "__gateway_state": str(self.home / "run/state.map"),
            "__gateway_master_socket": str(self.home / "run/master.sock"),
            "__gateway_admin_socket": str(self.home / "run/admin.sock"),
            "__gateway_key_socket": str(self.home / "run/key.sock"),
            **self.variables,
        }
        check = {"ansible.builtin.include_role": {"name": "modelfleet.serving.gateway", "tasks_from": "check"}}
        files = {
            "ansible.builtin.copy": {
                "content": "{{ __gateway_files + __gateway_client_ca_files + __gateway_watch_files }}",
                "dest": str(self.home / "files.json"),
                "mode": "0600",
            },
            "no_log": True,
        }
        roles = COLLECTION / "roles"
        play = [
            {
                "hosts": "gpu-1",
                "connection": "local",
                "gather_facts": False,
                "vars": {"role_path": str(roles / "gateway")},
                "vars_files": [
                    *(f"{roles}/{role}/defaults/main.yml" for role in ("modelfleet", "torchserve", "gateway")),
                    *(f"{roles}/{role}/vars/main.yml" for role in ("modelfleet", "gateway")),
                ],
                "tasks": [check, files],
            }
        ]
        for folder in ("templates", "files"):
            (self.home / folder).symlink_to(roles / "gateway" / folder)
        (self.home / "play.yml").write_text(yaml.safe_dump(play))
        (self.home / "vars.yml").write_text(yaml.safe_dump(variables))
        done = self.run("ansible-playbook", "-i", "gpu-1,", self.home / "play.yml", "-e", f"@{self.home / 'vars.yml'}")
        assert done.returncode == 0, done.stdout
        for entry in json.loads((self.home / "files.json").read_text()):
            path = Path(entry["path"])
            if not path.is_relative_to(COLLECTION):
                path = self.home / path.name if path.is_relative_to("/etc/systemd") else path
                path.write_text(entry["content"])
                path.chmod(0o640)

    def command(self, unit, line="ExecStart"):
        text = (self.home / f"modelfleet-{unit}.service").read_text().replace("\\\n", " ")
        command = shlex.split(re.search(rf"^{line}=(.*)$", text, re.MULTILINE)[1])
        # Where systemd would have made a directory.
        return [str(self.home / "run/known") if part == "/var/lib/modelfleet-gateway-watch/known" else part for part in command]

    def start(self):
        threading.Thread(target=self.answer_keys, daemon=True).start()
        self.spawn("gateway-watch", "--interval", "1")
        wait_for((self.home / "run/state.map").exists, "the watch wrote nothing")
        self.spawn("gateway")
        wait_for(lambda: self.port_open(), "HAProxy did not start")

    def port_open(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def answer_keys(self):
        """What the socket unit and its cat do."""
        path = self.home / "run/key.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen()
            while True:
                with server.accept()[0] as connection:
                    if self.torchserve.key_file.exists():
                        connection.sendall(self.torchserve.key_file.read_bytes())

    def spawn(self, unit, *options):
        with (self.home / f"{unit}.log").open("ab") as log:
            self.processes[unit] = subprocess.Popen([*self.command(unit), *options], stdout=log, stderr=log)

    def reload(self):
        """As the unit says it: the check, then the signal."""
        checked = subprocess.run(self.command("gateway", "ExecReload"), capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        os.kill(self.processes["gateway"].pid, signal.SIGUSR2)

    def drain(self):
        (line,) = [line for line in (self.home / "gateway.conf").read_text().splitlines() if line.startswith("ExecStop=-+")]
        return subprocess.run(shlex.split(line.partition("-+")[2]), check=False).returncode

    def stop(self):
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(timeout=30)

    def log(self):
        return "".join((self.home / f"{unit}.log").read_text() for unit in ("gateway", "gateway-watch"))

    # clients

    def context(self, certificate=None):
        context = ssl.create_default_context(cafile=self.pki.path)
        if certificate:
            context.load_cert_chain(*certificate)
        return context

    def connect(self, certificate=None, timeout=HOLD_S + 60):
        return http.client.HTTPSConnection("localhost", self.port, context=self.context(certificate), timeout=timeout)

    def ask(self, path="/predictions/demo", method="POST", body=b"x", client="anna", certificate=None, connection=None, **headers):
        """Return (status, parsed JSON or text, headers)."""
        own = connection or self.connect(certificate)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            if client:
                sent["Authorization"] = f"Bearer {TOKENS[client]}"
            own.request(method, path, body=body if method in ("POST", "PUT") else None, headers=sent)
            response = own.getresponse()
            text = response.read().decode()
            try:
                return response.status, json.loads(text), response.headers
            except ValueError:
                return response.status, text, response.headers
        finally:
            if not connection:
                own.close()

    def serial(self):
        with closing(self.connect()) as own:
            own.connect()
            return own.sock.getpeercert()["serialNumber"]


@pytest.fixture(scope="module")
def gateway(run, tmp_path_factory):
    home = tmp_path_factory.mktemp("gateway")
    (home / "torchserve").mkdir()
    torchserve = TorchServe(home / "torchserve", free_ports(6), token_expiration_min=0.4)
    made = Gateway(run, home, torchserve)
    try:
        torchserve.start()
        # The watch renews the keys, however long the rest takes.
        made.start()
        torchserve.serve()
        # The watch knows a model from its next look on.
        for name in ("demo", "tokenizer"):
            wait_for(lambda name=name: made.ask(f"/predictions/{name}")[0] == 200, f"no client was answered by {name}")
        yield made
    finally:
        made.stop()
        torchserve.stop()


def gateway_variables(directory):
    """The variables of a gateway with which nothing is wrong."""
    certificate, key = Authority(directory, "servers").issue("localhost", "server")
    clients = [{"name": "anna", "token": TOKENS["anna"]}]
    return {"gateway_certificate": str(certificate), "gateway_key": str(key), "gateway_clients": clients}


def played(run, directory, *options, **variables):
    """The role by itself, on this machine."""
    right = gateway_variables(directory)
    (directory / "bin").mkdir()
    (directory / "bin/systemctl").write_text(SYSTEMCTL)
    (directory / "bin/systemctl").chmod(0o755)
    variables = {
        "ansible_python_interpreter": sys.executable,
        "modelfleet_address": "127.0.0.1",
        "modelfleet_storage": {"http": {"url": "http://127.0.0.1"}},
        **right,
        **variables,
    }
    (directory / "play.yml").write_text(
        yaml.safe_dump([{"hosts": "gpu-1", "connection": "local", "gather_facts": False, "roles": ["modelfleet.serving.gateway"]}])
    )
    (directory / "vars.yml").write_text(yaml.safe_dump(variables))
    environment = {
        "PATH": f"{directory}/bin{os.pathsep}{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}",
        "CHANGED": str(directory / "changed"),
    }
    done = run("ansible-playbook", "-i", "gpu-1,", directory / "play.yml", "-e", f"@{directory / 'vars.yml'}", *options, **environment)
    assert not (directory / "changed").exists()
    return done, Path(right["gateway_key"]).read_text()


def test_an_empty_host_in_check_mode(run, tmp_path):
    """It says what it would do, does nothing, and shows no secret however it is asked."""
    done, key = played(run, tmp_path, "--check", "--diff", "-vvv")
    assert done.returncode == 0, done.stdout
    assert " changed=3 " in done.stdout and "/etc/modelfleet-gateway/server.pem" in done.stdout and "+(another secret)" in done.stdout
    assert not Path("/etc/modelfleet-gateway").exists() and not Path("/etc/systemd/system/modelfleet-gateway.service").exists()
    for secret in (TOKENS["anna"], *key.splitlines()[1:-1]):
        assert secret not in done.stdout


def test_mistakes_are_named_before_anything_changes(run, tmp_path):
    stranger = Authority(tmp_path, "strangers").issue("localhost", "stranger")[1]
    clients = [{"name": "anna", "token": TOKENS["anna"]}, {"name": "anna", "token": "too-short"}, {"name": "bert", "token": ""}]
    variables = {"gateway_key": str(stranger), "gateway_clients": clients, "gateway_port": 8081}
    done, _key = played(run, tmp_path, "-vvv", **variables, ansible_become=False)
    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    for words in (
        "does not belong to the first certificate in",
        "The client gateway_clients[1] (anna) has the name of another one",
        "has 9 characters, and must have 32 to 256",
        "The token of the client gateway_clients[2] (bert) is empty",
        "The gateway_port is 8081, which TorchServe has on this host (management)",
    ):
        assert words in said, words
    assert TOKENS["anna"] not in said and "too-short" not in said
    assert "Install HAProxy" not in said and "Create the users" not in said


class Load:
    """Clients that ask without a break, over connections that they keep; counts what was no right answer."""

    def __init__(self, gateway, clients=4, seconds="0.02"):
        self.gateway, self.seconds = gateway, seconds
        self.stopped = threading.Event()
        self.answered, self.failed = 0, []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.client) for _ in range(clients)]

    def client(self):
        connection = self.gateway.connect()
        while not self.stopped.is_set():
            try:
                status, answer, headers = self.gateway.ask(connection=connection, x_seconds=self.seconds)
                good = status == 200 and answer["length"] == 1
                if headers.get("Connection", "").lower() == "close":
                    connection.close()
            except (OSError, http.client.HTTPException) as exc:
                good, status, answer = False, type(exc).__name__, str(exc)
                connection.close()
            with self.lock:
                self.answered += good
                if not good:
                    self.failed.append((time.time(), status, answer))
        connection.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_exc):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def goes_on(self, more=20):
        """Wait until so many more were answered."""
        wanted = self.answered + more
        wait_for(lambda: self.answered >= wanted or self.failed, "the load is not answered", HOLD_S + 30)


@pytest.mark.parametrize(
    "path",
    [
        "/predictions/demo",
        "/predictions/demo/1.0",
        "/predictions/tokenizer",
        "/v1/models/demo:predict",
        "/v2/models/demo/infer",
        "/predictions/demo?x=/token",
    ],
)
def test_a_client_is_answered(gateway, path):
    status, answer, _headers = gateway.ask(path, body=b'{"instances": [1], "inputs": []}', Content_Type="application/json")
    assert status == 200 and answer["model"] == ("tokenizer" if "tokenizer" in path else "demo"), answer


def test_the_token_of_a_client_never_reaches_torchserve(gateway):
    _status, answer, _headers = gateway.ask()
    assert answer["authorization"] == f"Bearer {gateway.torchserve.keys()['inference']['key']}"


@pytest.mark.parametrize(
    ("client", "headers"),
    [(None, {}), ("nobody", {}), (None, {"Authorization": f"Basic {TOKENS['anna']}"}), (None, {"Authorization": "Bearer"})],
    ids=["no token", "an unknown one", "another scheme", "an empty one"],
)
def test_a_stranger_is_refused(gateway, client, headers):
    for path in ("/predictions/demo", "/ping", "/models", "/nothing"):
        status, answer, answered = gateway.ask(path, client=client, **headers)
        assert status == 401 and answer["type"] == "UnauthorizedException" and answered["WWW-Authenticate"] == "Bearer", path


@pytest.mark.parametrize("key", ["inference", "management", "API"])
def test_the_keys_of_torchserve_open_nothing(gateway, key):
    assert gateway.ask(client=None, Authorization=f"Bearer {gateway.torchserve.keys()[key]['key']}")[0] == 401


@pytest.mark.parametrize(
    "path",
    [
        "/", "/models", "/models/demo", "/predictions", "/predictions/", "/predictions/demo/1.0/x", "/predictions/demo/",
        "/predictions//demo", "/predictions/demo/../../models", "/predictions/%64emo", "/predictions/other", "/predictions/demo/2.0",
        "/token?type=inference", "/metrics",
        "/dragonfly/models", "/workflows", "/invocations", "/explanations/demo", "/v1/models/demo", "/v1/models/demo:explain",
        "/v2/models/demo",
        "/v2", "/v2/models/demo/infer/x", "/api-description", "//predictions/demo", "/PREDICTIONS/demo",
    ],
)  # fmt: skip
def test_nothing_else_has_a_path(gateway, path):
    for method in ("POST", "GET", "DELETE"):
        assert gateway.ask(path, method=method)[0] in ((404,) if method == "POST" else (404, 405)), (method, path)


def test_methods_are_limited(gateway):
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "TRACE"):
        status, _answer, headers = gateway.ask(method=method)
        assert (status, headers["Allow"]) == (405, "POST"), method
    status, _answer, headers = gateway.ask("/ping")
    assert (status, headers["Allow"]) == (405, "GET")


def test_bodies_are_limited(gateway):
    assert gateway.ask(body=b"x" * LIMIT)[:2][1]["length"] == LIMIT
    # Told before anything of it has come.
    for header, value, told in (("Content-Length", str(LIMIT + 1), 413), ("Transfer-Encoding", "chunked", 411)):
        with closing(gateway.connect()) as connection:
            connection.putrequest("POST", "/predictions/demo")
            connection.putheader("Authorization", f"Bearer {TOKENS['anna']}")
            connection.putheader(header, value)
            connection.endheaders()
            response = connection.getresponse()
            assert response.status == told
            message = json.loads(response.read())["message"]
            assert str(LIMIT) in message or told == 411


def test_a_client_may_send_so_many(gateway):
    answers = [gateway.ask(client="slow") for _ in range(7)]
    assert [status for status, _answer, _headers in answers] == [200] * 5 + [429] * 2
    assert answers[-1][2]["Retry-After"] == "10"
    assert gateway.ask()[0] == 200, "others are not limited by it"


def test_certificates_of_clients(gateway):
    batch = gateway.clients.issue("batch.example.com", "batch")
    assert gateway.ask(client=None, certificate=batch)[0] == 200
    assert gateway.ask(client=None, certificate=gateway.clients.issue("other.example.com", "other"))[0] == 401
    stranger = Authority(gateway.home, "strangers").issue("batch.example.com", "stranger")
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        gateway.ask(client=None, certificate=stranger)


def test_only_tls_and_not_an_old_one(gateway):
    plain = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    with pytest.raises((OSError, http.client.HTTPException)):
        plain.request("GET", "/ping")
        plain.getresponse().read()
    for version in ("tls1", "tls1_1", "tls1_2", "tls1_3"):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.port}", f"-{version}", "-cipher", "ALL:@SECLEVEL=0"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert ("BEGIN CERTIFICATE" in done.stdout) == (version in ("tls1_2", "tls1_3")), (version, done.stdout[-500:])


@only_in_all
def test_a_model_without_workers_is_not_asked(gateway):
    started = time.monotonic()
    status, answer, headers = gateway.ask("/predictions/idle")
    assert status == 503 and "No worker of the model is READY" in answer["message"] and headers["Retry-After"] == "10"
    assert time.monotonic() - started >= HOLD_S
    # One that gets its workers meanwhile is waited for.
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(gateway.ask("/predictions/idle")))
    waiting.start()
    assert gateway.ask("/ping", method="GET")[:2] == (503, {"status": "Unhealthy"})
    assert gateway.torchserve.call("PUT", "/models/idle?min_worker=1&synchronous=true")[0] in (200, 202)
    waiting.join()
    assert answers[0][0] == 200, answers
    wait_for(lambda: gateway.ask("/ping", method="GET")[:2] == (200, {"status": "Healthy"}), "ping")
    assert gateway.ask("/v2/health/ready", method="GET")[0] == 200


def test_the_hook_of_a_rollout_takes_the_host_out(gateway):
    """By the calls of the module haproxy_server."""
    sys.path.insert(0, str(COLLECTION.parents[2]))
    from ansible_collections.modelfleet.serving.plugins.modules.haproxy_server import Haproxy

    haproxy = Haproxy(str(gateway.home / "run/admin.sock"), "modelfleet")
    assert haproxy.states() == {"gpu-1": "ready"}
    haproxy.set("gpu-1", "drain")
    try:
        assert haproxy.states() == {"gpu-1": "drain"} and haproxy.sessions("gpu-1") == 0
        status, answer, _headers = gateway.ask()
        assert status == 503 and "out of the balancing" in answer["message"]
        assert gateway.ask("/ping", method="GET")[0] == 503
    finally:
        haproxy.set("gpu-1", "ready")
    assert gateway.ask()[0] == 200


def test_nothing_fails_while_things_change(gateway):
    """Under load: the key expires, TorchServe restarts as its unit does it, and another certificate takes the place of the old one."""
    key = gateway.torchserve.keys()["inference"]
    serial = gateway.serial()

    def renewed_beside_reloads(before):
        gateway.reload()
        time.sleep(1)
        return gateway.torchserve.keys()["inference"]["key"] != before

    with Load(gateway) as load:
        load.goes_on()
        # Twice, and longer than the first one lived. While HAProxy starts anew for a reload nobody can tell it anything.
        for _ in range(2):
            before = gateway.torchserve.keys()["inference"]["key"]
            wait_for(lambda before=before: renewed_beside_reloads(before), "the key was not renewed")
            load.goes_on()
        ends = datetime.datetime.fromisoformat(key["expiration time"][:19] + "+00:00")
        wait_for(lambda: datetime.datetime.now(datetime.timezone.utc) > ends, "the first key did not expire")
        load.goes_on()

        assert gateway.drain() == 0
        gateway.torchserve.stop()
        gateway.torchserve.start()
        gateway.torchserve.serve()
        load.goes_on(100)

        gateway.pki.issue("localhost", "server")
        (gateway.home / "etc/server.pem").write_bytes(
            (gateway.home / "server.crt").read_bytes() + (gateway.home / "server.key").read_bytes()
        )
        gateway.reload()
        wait_for(lambda: gateway.serial() != serial, "the old certificate is still shown")
        load.goes_on(100)
    print(f"{load.answered} requests were answered, {len(load.failed)} failed")
    assert load.failed == [] and load.answered > 300


def test_a_torchserve_that_dies(gateway):
    """What it works on fails, since nobody knows how far it came; what comes after that waits, and no request goes with an old key."""
    statuses = []
    on_the_way = threading.Thread(target=lambda: statuses.append(gateway.ask(x_seconds="30")[0]))
    on_the_way.start()
    wait_for(lambda: b'"pendingRequests": 0' in gateway.torchserve.call("GET", "/models/demo")[1], "it did not begin")
    time.sleep(1)
    gone = r"Requests wait: TorchServe (?:has gone|does not answer)"
    before = len(re.findall(gone, gateway.log()))
    gateway.torchserve.stop(signal.SIGKILL)
    on_the_way.join()
    assert statuses == [502]
    wait_for(lambda: len(re.findall(gone, gateway.log())) > before, "the watch did not see it")
    answers = []
    waiting = [threading.Thread(target=lambda: answers.append(gateway.ask()[:2])) for _ in range(3)]
    for thread in waiting:
        thread.start()
    gateway.torchserve.start()
    gateway.torchserve.serve()
    for thread in waiting:
        thread.join()
    assert [status for status, _answer in answers] == [200] * 3, answers


def test_no_secret_is_where_others_see_it(gateway):
    """After all of the above."""
    secrets = [*TOKENS.values(), *(one["key"] for one in gateway.torchserve.keys().values())]
    log = gateway.log()
    assert "client=anna address=127.0.0.1 method=POST model=demo status=200 ms=" in log
    assert "client=batch " in log and "client=- " in log and "status=401" in log
    arguments = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()).decode(errors="replace")
    configuration = "".join(path.read_text() for path in (gateway.home / "etc").iterdir())
    for secret in secrets:
        assert secret not in log and secret not in arguments and secret not in configuration
    assert "PRIVATE " + "KEY" not in log
    modes = {path.name: path.stat().st_mode & 0o777 for path in (gateway.home / "run").iterdir() if path.name in ("state.map", "known")}
    assert modes == {"state.map": 0o640, "known": 0o640}


def test_without_token_authorization(run, gateway, tmp_path_factory):
    """TorchServe asks for no key: none is sent, that of the client neither."""
    home = tmp_path_factory.mktemp("open")
    (home / "torchserve").mkdir()
    torchserve = TorchServe(home / "torchserve", free_ports(6), disable_token_authorization="true")
    made = Gateway(run, home, torchserve, gateway_open_ping=True)
    assert "key-socket" not in (home / "modelfleet-gateway-watch.service").read_text()
    try:
        torchserve.start()
        torchserve.call("POST", "/models?url=demo.mar&initial_workers=1")
        made.start()
        wait_for(lambda: made.ask()[0] == 200, "no client was answered")
        assert made.ask()[1]["authorization"] == ""
        assert made.ask(client=None)[0] == 401
        assert made.ask("/ping", method="GET", client=None)[:2] == (200, {"status": "Healthy"})
    finally:
        made.stop()
        torchserve.stop()
