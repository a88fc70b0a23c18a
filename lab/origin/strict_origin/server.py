# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listeners: stores and release mirror (http and https), a CONNECT proxy to this origin alone, and the control API.

Who gives out credentials for a store answers beside the stores under the names of its vendor, and on a port of its own under any name.
"""

from __future__ import annotations

import json
import mimetypes
import os
import select
import socket
import ssl
import struct
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from .abs import Abs
from .gcs import Gcs
from .hub import Hub
from .identity_abs import AbsIdentity
from .identity_gcs import GcsIdentity
from .identity_obs import ObsIdentity
from .identity_oss import OssIdentity
from .identity_s3 import S3Identity
from .messages import Part, Request, Response, StoreError
from .objects import BLOCK, Counters, Fault, Faults, Objects, StoredObject
from .obs import Obs
from .oss import Oss
from .reading import byte_range
from .s3 import S3
from .web import Http

LINGER = 8 * 1024 * 1024  # bytes


class Origin:
    def __init__(self, config: dict):
        self.objects = Objects(Path(config["data"]))
        self.counters = Counters()
        self.faults = Faults()
        self.clock_ahead = 0  # seconds
        # One entry a store. The name in a request's Host header decides which of them it is for.
        makers = {"s3": S3, "oss": Oss, "gcs": Gcs, "abs": Abs, "obs": Obs, "http": Http, "hub": Hub}
        stores = {name: make(config[name], self.objects, now=self.now) for name, make in makers.items() if name in config}
        self.stores = list(stores.values())
        self.hub = stores.get("hub")
        issuers = {"s3": S3Identity, "oss": OssIdentity, "gcs": GcsIdentity, "abs": AbsIdentity, "obs": ObsIdentity}
        given = config.get("identities", {})
        self.identities = {name: make(given[name], stores[name], self.now) for name, make in issuers.items() if name in given}
        self.mirror_hosts = config.get("mirror", {}).get("hosts", [])
        self.mirror_root = Path(config.get("mirror", {}).get("root", "/nonexistent"))

    def now(self) -> datetime:
        """The time by which signatures are judged."""
        return datetime.now(timezone.utc) + timedelta(seconds=self.clock_ahead)

    def store_for(self, hostname: str):
        return next((store for store in self.stores if store.claims(hostname)), None)

    def identity_for(self, hostname: str):
        return next((identity for identity in self.identities.values() if identity.claims(hostname)), None)

    def plays(self, hostname: str) -> bool:
        return hostname in self.mirror_hosts or self.store_for(hostname) is not None or self.identity_for(hostname) is not None


def kind_of(request: Request) -> str:
    """As which a request is counted. Who asks for the first byte wants to know about an object, and not to have it."""
    return "probe" if request.method == "GET" and request.headers.get("Range") == "bytes=0-0" else request.method.lower()


class LimitedBody:
    """The body of one request: never reads into the next."""

    def __init__(self, stream, length: int):
        self.stream = stream
        self.left = length

    def read(self, count: int) -> bytes:
        block = self.stream.read(min(count, self.left))
        self.left -= len(block)
        return block


class ChunkedBody:
    """The same for a body in HTTP chunks."""

    def __init__(self, stream):
        self.stream = stream
        self.chunk = 0  # what is left of the current chunk
        self.left = True  # the end has not been seen

    def read(self, count: int) -> bytes:
        if not self.chunk and self.left:
            self.chunk = self._next()
        block = self.stream.read(min(count, self.chunk))
        self.chunk -= len(block)
        if block and not self.chunk:
            self.stream.readline(3)
        return block

    def _next(self) -> int:
        try:
            size = int(self.stream.readline(64).partition(b";")[0], 16)
        except ValueError:
            raise ConnectionAbortedError("malformed chunk") from None
        if size == 0:
            self.left = False
            while self.stream.readline(4096).strip():
                pass
        return size


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "ModelFleetOrigin"
    sys_version = ""
    timeout = 120  # of one read or write, not of a request
    wbufsize = 64 * 1024
    disable_nagle_algorithm = True

    @property
    def origin(self) -> Origin:
        return self.server.origin

    def log_message(self, format, *args):
        # Query strings hold signatures: they stay out of the log.
        sys.stderr.write(
            f"{self.client_address[0]} {self.headers.get('Host', '-') if hasattr(self, 'headers') else '-'} {self._line()} {args[-2:]}\n"
        )

    def handle_expect_100(self) -> bool:
        answer = super().handle_expect_100()
        self.wfile.flush()  # the client waits for it
        return answer

    def _line(self) -> str:
        return f"{self.command or '-'} {getattr(self, 'path', '-').partition('?')[0]}"

    def read_request(self) -> Request | None:
        """The request's parts; None if it has been refused already."""
        path, _, query = self.path.partition("?")
        encoding = self.headers.get("Transfer-Encoding", "").lower()
        length = self.headers.get("Content-Length", "0")
        if encoding not in ("", "chunked") or not length.isdecimal():
            self.close_connection = True
            self.send(Response(400, {}, b"The request's body has no usable length.\n"))
            return None
        self.body = ChunkedBody(self.rfile) if encoding else LimitedBody(self.rfile, int(length))
        secure = isinstance(self.connection, ssl.SSLSocket)
        host = self.headers.get("Host", "")
        return Request(self.command, host, path, query, self.headers, self.body, secure, self.client_address[0])

    def send(self, response: Response, fault: Fault | None = None) -> None:
        body = response.body
        size = body.end - body.start if isinstance(body, Part) else len(body)
        if getattr(self, "body", None) and self.body.left:
            self.close_connection = True  # the rest of the request's body is still on the wire
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.status not in (204, 304):
            self.send_header("Content-Length", str(size))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD" and response.status not in (204, 304):
            if isinstance(body, Part):
                self._send_part(body, fault)
            else:
                self.wfile.write(body)
        self.wfile.flush()
        if self.close_connection and getattr(self, "body", None):
            self._linger()

    def _linger(self) -> None:
        """Take what the client still sends, for a moment: a connection closed before that is reset, and the answer with it."""
        self.connection.settimeout(1)
        taken = 0
        try:
            while self.body.left and taken < LINGER and (block := self.body.read(BLOCK)):
                taken += len(block)
        except OSError:
            pass

    def _send_part(self, part: Part, fault: Fault | None) -> None:
        left = part.end - part.start
        if fault and fault.short_by is not None:
            left = max(0, left - fault.short_by)
            self.close_connection = True
        if fault and fault.reset_at is not None:
            left = min(left, fault.reset_at)
        client = self.client_address[0]
        with part.item.path.open("rb") as stream:
            stream.seek(part.start)
            while left:
                slow = fault.slow if fault else None  # until the fault is taken back, also from an answer on its way
                block = stream.read(min(left, BLOCK if not slow else max(1, min(BLOCK, slow // 10))))
                if not block:
                    break
                if fault and fault.change and stream.tell() == part.start + len(block) and part.start == 0:
                    block = bytes([block[0] ^ 0xFF]) + block[1:]
                # Before the write: whoever has the last byte finds it counted.
                self.origin.counters.sent(part.item.name, client, len(block))
                self.wfile.write(block)
                self.wfile.flush()
                left -= len(block)
                if slow:
                    time.sleep(len(block) / slow)
        if fault and fault.reset_at is not None:
            self._reset()

    def _reset(self) -> None:
        """Close with RST. The descriptor is closed below any TLS layer, which would say goodbye first."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        raise ConnectionResetError


class StoreHandler(Handler):
    def handle_one(self) -> None:
        request = self.read_request()
        if request is None:
            return
        if request.hostname in self.origin.mirror_hosts:
            self.send(self.mirror(request))
            return
        identity = self.origin.identity_for(request.hostname)
        if identity:
            self.send(identity.answer(request))
            return
        store = self.origin.store_for(request.hostname)
        if store is None:
            self.send(Response(421, {"Content-Type": "text/plain"}, f"This origin plays no host {request.hostname}.\n".encode()))
            return
        fault = None
        try:
            name, proof = store.authorize(request)
            self.origin.counters.request(name, self.client_address[0], kind_of(request))
            fault = self.origin.faults.take(name, self.client_address[0], self.command)
            if fault and fault.status is not None:
                codes = {403: "AccessDenied", 404: "NoSuchKey", 503: "SlowDown"}
                raise StoreError(fault.status, codes.get(fault.status, "InternalError"), "A fault was injected.")
            response = store.handle(request, proof, no_range=bool(fault and fault.no_range))
            if fault and fault.change and "ETag" in response.headers:
                response.headers["ETag"] = '"changed-' + response.headers["ETag"].strip('"') + '"'
        except StoreError as error:
            response = store.render(error, request)
        self.send(response, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one

    def mirror(self, request: Request) -> Response:
        path = (self.origin.mirror_root / unquote(request.path).lstrip("/")).resolve()
        if request.method not in ("GET", "HEAD"):
            return Response(405, {"Allow": "GET, HEAD"}, b"The mirror is read-only.\n")
        if self.origin.mirror_root.resolve() not in path.parents or not path.is_file():
            return Response(404, {"Content-Type": "text/plain"}, b"No such file on this mirror.\n")
        facts = path.stat()
        name = f"mirror{unquote(request.path)}"
        item = StoredObject(path, name, facts.st_size, f"{facts.st_mtime_ns:x}-{facts.st_size:x}", facts.st_mtime)
        self.origin.counters.request(name, self.client_address[0], kind_of(request))
        headers = {"Content-Type": mimetypes.guess_type(path.name)[0] or "application/octet-stream", "Accept-Ranges": "bytes"}
        wanted = byte_range(request.headers.get("Range"), item.size)
        if wanted is None:
            return Response(200, headers, Part(item, 0, item.size))
        start, end = wanted
        if start >= end:
            return Response(416, {"Content-Range": f"bytes */{item.size}"})
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{item.size}"
        return Response(206, headers, Part(item, start, end))


class IdentityHandler(Handler):
    """One of the services that give out credentials, under any name."""

    def handle_one(self) -> None:
        request = self.read_request()
        if request is not None:
            self.send(self.server.identity.answer(request))

    do_GET = do_PUT = do_POST = handle_one


class ControlHandler(Handler):
    """/counters, /faults, /clock, /identities/<store>, /objects/<bucket>/<key>, /hub/.., /health; see README.md of the lab.

    No authentication: lab only.
    """

    def handle_one(self) -> None:
        request = self.read_request()
        if request is None:
            return
        try:
            answer = self.answer(request)
        except (ValueError, TypeError, KeyError) as exc:
            self.send_json(400, {"message": str(exc)})
            return
        if answer is None:
            self.send_json(404, {"message": f"{request.method} {request.path} is not part of the control API."})
        else:
            self.send_json(200, answer)

    do_GET = do_PUT = do_DELETE = handle_one

    def answer(self, request: Request):
        origin = self.origin
        wanted = (request.method, request.path)
        if wanted == ("GET", "/health"):
            return {"healthy": True}
        if wanted == ("GET", "/counters"):
            return origin.counters.snapshot()
        if wanted == ("DELETE", "/counters"):
            origin.counters.clear()
            return origin.counters.snapshot()
        if wanted == ("PUT", "/faults"):
            faults = json.loads(request.body.read(1 << 20))
            origin.faults.set(faults if isinstance(faults, list) else [faults])
            return origin.faults.snapshot()
        if wanted == ("DELETE", "/faults"):
            origin.faults.set([])
            return []
        if wanted == ("GET", "/faults"):
            return origin.faults.snapshot()
        if wanted == ("PUT", "/clock"):
            ahead = json.loads(request.body.read(1 << 10))["ahead"]
            if not isinstance(ahead, int):
                raise ValueError("ahead must be a number of seconds")
            origin.clock_ahead = ahead
        if request.path == "/clock" and request.method in ("GET", "PUT"):
            return {"ahead": origin.clock_ahead}
        if request.path.startswith("/identities/") and request.method in ("GET", "PUT"):
            identity = origin.identities[request.path[len("/identities/") :]]
            if request.method == "PUT":
                identity.change(json.loads(request.body.read(1 << 10)))
            return identity.settings()
        if origin.hub and (request.path + "/").startswith("/hub/"):
            return origin.hub.control(request.method, unquote(request.path)[len("/hub/") :], request.body)
        if request.path.startswith("/objects/"):
            bucket, _, key = unquote(request.path)[len("/objects/") :].partition("/")
            if request.method == "PUT" and key:
                upload = origin.objects.upload()
                while block := request.body.read(BLOCK):
                    upload.write(block)
                before = origin.objects.get(bucket, key)
                # Behind everybody's back: what is known about the object stays as it was.
                item = origin.objects.put(bucket, key, upload, metadata=before.metadata if before else None)
                return {"name": item.name, "size": item.size, "etag": item.etag}
            if request.method == "DELETE" and key:
                origin.objects.delete(bucket, key)
                return {"name": f"{bucket}/{key}"}
        return None

    def send_json(self, status: int, value) -> None:
        self.send(Response(status, {"Content-Type": "application/json"}, json.dumps(value).encode() + b"\n"))


class ProxyHandler(Handler):
    """CONNECT to this origin under any name that it plays, so that a machine outside its DNS can use it with TLS end to end."""

    def do_CONNECT(self) -> None:
        hostname, _, port = self.path.rpartition(":")
        target = self.server.targets.get(port)
        if target is None or not self.origin.plays(hostname.lower()):
            self.close_connection = True
            self.send(
                Response(403, {"Content-Type": "text/plain"}, f"This proxy reaches the lab's origin only, not {self.path}.\n".encode())
            )
            return
        with socket.create_connection(target, timeout=10) as upstream:
            self.send_response_only(200, "Connection established")
            self.end_headers()
            self.wfile.flush()
            self._tunnel(upstream)
        self.close_connection = True

    def _tunnel(self, upstream: socket.socket) -> None:
        peers = {self.connection: upstream, upstream: self.connection}
        while True:
            readable, _, _ = select.select(list(peers), [], [], 600)
            if not readable:
                return
            for source in readable:
                block = source.recv(BLOCK)
                if not block:
                    return
                peers[source].sendall(block)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, origin: Origin, address: tuple[str, int], handler, context: ssl.SSLContext | None = None):
        self.origin = origin
        self.targets: dict[str, tuple[str, int]] = {}
        super().__init__(address, handler)
        if context:
            # The handshake belongs to the thread of its connection: a silent client must not stop the listener.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request, client_address) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError, ssl.SSLError)):
            super().handle_error(request, client_address)


def start(config: dict) -> dict[str, Server]:
    """Start every listener of the configuration; return them by name. Port 0 takes any."""
    origin = Origin(config)
    listen = config["listen"]
    address = config.get("address", "0.0.0.0")
    servers = {"http": Server(origin, (address, listen["http"]), StoreHandler)}
    if "tls" in config:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(config["tls"]["certificate"], config["tls"]["key"])
        servers["https"] = Server(origin, (address, listen["https"]), StoreHandler, context)
    servers["control"] = Server(origin, (address, listen["control"]), ControlHandler)
    servers["proxy"] = Server(origin, (address, listen["proxy"]), ProxyHandler)
    for name, identity in origin.identities.items():
        if "listen" in config["identities"][name]:
            servers[f"identity-{name}"] = Server(origin, (address, config["identities"][name]["listen"]), IdentityHandler)
            servers[f"identity-{name}"].identity = identity
    # What a client calls port 443 is wherever this origin listens for it.
    local = "127.0.0.1" if address in ("0.0.0.0", "") else address
    names = {"80": "http", "443": "https"}
    servers["proxy"].targets = {port: (local, servers[name].server_address[1]) for port, name in names.items() if name in servers}
    for server in servers.values():
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    return servers


def stop(servers: dict[str, Server]) -> None:
    threads = [threading.Thread(target=server.shutdown) for server in servers.values()]
    for thread in threads:
        thread.start()
    for thread, server in zip(threads, servers.values()):
        thread.join()
        server.server_close()
