# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with a stand-in for dfdaemon, behind curl, and for dfctl: real files, real hard links, the messages of client 1.5.10."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ansible_collections.modelfleet.serving.plugins.module_utils._bundle import File, Manifest, Pack, blob_key, manifest_bytes, manifest_key

# Whom the files in the piece store belong to, where the tests may give files away.
DFDAEMON = 64999

# What reads a message there: {number of a field: [its values]}.
FIELDS = """\
def number(content):
    value = shift = 0
    while True:
        byte = content.pop(0)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7


def fields(content):
    content, found = bytearray(content), {}
    while content:
        key = number(content)
        value = number(content)
        if key & 7 == 2:
            value, content = bytes(content[:value]), content[value:]
        found.setdefault(key >> 3, []).append(value)
    return found
"""
# Stands for dfdaemon behind its socket: it reads the request and prints what curl prints of the answer.
CURL = r"""#!{python}
import base64, fcntl, hashlib, json, os, shutil, sys
from urllib.parse import quote, unquote, urlsplit

host = "{host}"
data = "{data}"


def fail(message, status_code=None):
    print("HTTP/2 200 \r\ncontent-type: application/grpc\r\n\r")
    print("grpc-status: 13\r\ngrpc-message: " + quote("backend error: " + message if status_code else message) + "\r")
    if status_code:
        details = json.dumps({{"message": message, "header": {{}}, "status_code": status_code}})
        print("grpc-status-details-bin: " + base64.b64encode(details.encode()).decode().rstrip("=") + "\r")
    sys.exit(0)


{fields}


arguments = sys.argv[1:]
socket = arguments[arguments.index("--unix-socket") + 1]
if not os.path.exists(socket):
    print("curl: (7) Failed to connect to localhost port 80 after 0 ms: Couldn't connect to server", file=sys.stderr)
    sys.exit(7)
sent = sys.stdin.buffer.read()
assert sent[:1] == b"\0" and int.from_bytes(sent[1:5], "big") == len(sent) - 5
(download,) = fields(sent[5:])[1]
download = fields(download)
url, output, task = (download[key][0].decode() for key in (1, 11, 23))
call = {{
    "task": task,
    "url": url,
    "arguments": arguments,
    "environment": dict(os.environ),
    "headers": [[part[0].decode() for part in fields(header).values()] for header in download.get(9, [])],
    "piece_length": download.get(10),
    "disable_back_to_source": download[13],
    "force_hard_link": download[22],
}}
# It begins.
if not os.path.isdir(os.path.dirname(output)):
    fail("No such file or directory (os error 2)")

name = hashlib.sha256(task.encode()).hexdigest()
with open(host + "/state.json", "r+") as handle:
    fcntl.flock(handle, fcntl.LOCK_EX)
    state = json.load(handle)
    state["calls"].append(call)
    key = unquote(urlsplit(url).path).removeprefix("/bucket").lstrip("/")
    faults = state["faults"].get(key) or state["faults"].get("*") or []
    fault = faults.pop(0) if faults else None
    handle.seek(0), handle.truncate()
    json.dump(state, handle)
if fault and "curl" in fault:
    print("curl: (%d) %s" % (fault["curl"], fault["message"]), file=sys.stderr)
    sys.exit(fault["curl"])
if fault:
    fail(**{{**fault, "message": fault["message"].replace("<URL>", url)}})

piece = os.path.join(data, "pieces", "content", "tasks", name[:3], name)
origin = os.path.join(host, "origin", key)
source = "LOCAL_PEER"
if not os.path.exists(piece):
    if not os.path.exists(origin):
        fail("404 Not Found", 404)
    source = "REMOTE_PEER"
    try:
        os.makedirs(os.path.dirname(piece), exist_ok=True)
        shutil.copyfile(origin, piece)
    except OSError as exc:
        if os.path.exists(piece):
            os.unlink(piece)
        fail("%s (os error %d)" % (exc.strerror, exc.errno))
    os.chmod(piece, 0o640)
    owner = os.stat(os.path.join(data, "pieces"))
    os.chown(piece, owner.st_uid, owner.st_gid)
with open(host + "/state.json", "r+") as handle:
    fcntl.flock(handle, fcntl.LOCK_EX)
    state = json.load(handle)
    state["traffic"][source] = state["traffic"].get(source, 0) + os.path.getsize(piece)
    handle.seek(0), handle.truncate()
    json.dump(state, handle)
# dfdaemon links as the user that it is, and the kernel has its rule for that.
owner = os.stat(os.path.join(data, "pieces"))
shelf, incoming = (os.open(os.path.dirname(path), os.O_RDONLY) for path in (piece, output))
os.setegid(owner.st_gid)
os.seteuid(owner.st_uid)
try:
    os.link(os.path.basename(piece), os.path.basename(output), src_dir_fd=shelf, dst_dir_fd=incoming)
except OSError as exc:
    fail("%s (os error %d)" % (exc.strerror, exc.errno))
print("HTTP/2 200 \r\ncontent-type: application/grpc\r\n\r\ngrpc-status: 0\r")
"""

DFCTL = r"""#!{python}
import fcntl, json, os, sys

host = "{host}"
data = "{data}"
command, endpoint = sys.argv[2], sys.argv[3].partition("=")[2]


def fail(title, *fields):
    print("\x1b[38;5;1m\x1b[3m\x1b[1m" + title + "\x1b[m")
    print("\x1b[38;5;0m\x1b[3m\x1b[1m" + "*" * 40 + "\x1b[m")
    for name, value in fields:
        print("\x1b[38;5;6m\x1b[3m\x1b[1m" + name + ":\x1b[m " + str(value))
    sys.exit(1)


def require(endpoint):
    if not os.path.exists(endpoint):
        said = "can not connect ConnectError cause: transport error, please check the unix socket "
        fail("Connect Dfdaemon Failed!", ("Message", said + endpoint))


assert sys.argv[1] == "task"
require(endpoint)
with open(host + "/state.json", "r+") as handle:
    fcntl.flock(handle, fcntl.LOCK_EX)
    state = json.load(handle)
    shelves = os.path.join(data, "pieces", "content", "tasks")
    found = {{name for _shelf, _below, names in os.walk(shelves) for name in names}}
    known = (found | set(state.get("ghosts", []))) - set(state.get("orphans", []))
    if command == "ls":
        print(" ID " + " " * 63 + "PIECE LENGTH  CONTENT LENGTH  CREATED")
        for name in sorted(known):
            print(" " + name + "  4.0 MiB  5.0 MiB  2026-11-26 06:00:00 ")
        sys.exit(0)
    (task,) = sys.argv[4:]
    state.setdefault("forgotten", []).append(task)
    fault = state.get("rm_fault")
    if state.get("full"):
        # The database takes no more.
        state.setdefault("ghosts", []).append(task)
    handle.seek(0), handle.truncate()
    json.dump(state, handle)
if task not in known:
    fail("Removing Task Failed!", ("Bad Code", "Internal error"), ("Message", "task " + task + " not found"))
if fault and not fault.get("after"):
    fail("Removing Task Failed!", ("Bad Code", "Internal error"), ("Message", fault["message"]))
os.unlink(os.path.join(shelves, task[:3], task))
if fault:
    fail("Removing Task Failed!", ("Bad Code", "Internal error"), ("Message", fault["message"]))
print("Task Removed!")
"""


class FakeDragonfly:
    """``origin`` has the objects by key, ``tags`` and ``sizes`` what it says of them; ``fault`` makes the next downloads fail."""

    def __init__(self, path, data=None):
        """``data`` is where the disk for models and pieces is mounted, if that is another."""
        self.path, data = path, data or path
        for name in ("origin", "state"):
            setattr(self, name, path / name)
        for name in ("pieces", "incoming", "models", "blobs", "manifests"):
            setattr(self, name, data / name)
        for directory in (self.origin, self.state, self.pieces, self.incoming, self.models, self.blobs, self.manifests):
            directory.mkdir()
        if os.geteuid() == 0:
            os.chown(self.pieces, DFDAEMON, DFDAEMON)
            os.chown(self.incoming, DFDAEMON, DFDAEMON)
        self.curl = path / "curl"
        self.curl.write_text(CURL.format(fields=FIELDS, python=sys.executable, host=path, data=data))
        self.curl.chmod(0o755)
        self.dfctl = path / "dfctl"
        self.dfctl.write_text(DFCTL.format(python=sys.executable, host=path, data=data))
        self.dfctl.chmod(0o755)
        self.socket = path / "dfdaemon.sock"
        self.socket.touch()
        self._state = path / "state.json"
        self._state.write_text(json.dumps({"calls": [], "faults": {}, "traffic": {}}))
        self.tags = {}
        self.sizes = {}
        self.asked = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path == "/metrics":
                    lines = [
                        f'dragonfly_client_download_traffic{{type="{key}"}} {value}' for key, value in fake.state_of("traffic").items()
                    ]
                    self.answer(200, {}, "\n".join(lines).encode())
                else:
                    fake.asked.append((self.path, dict(self.headers)))
                    key = self.path.partition("?")[0].removeprefix("/bucket").lstrip("/")
                    size = os.path.getsize(fake.origin / key) if (fake.origin / key).exists() else 0
                    size = fake.sizes.get(key, size)
                    self.answer(206 if size else 404, {"Content-Range": f"bytes 0-0/{size}", **fake.tags.get(key, {})}, b"x")

            def answer(self, status, headers, body):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def state_of(self, key):
        return json.loads(self._state.read_text() or "{}").get(key, {})

    @property
    def calls(self):
        return self.state_of("calls")

    def fault(self, *faults, key="*"):
        state = json.loads(self._state.read_text())
        state["faults"][key] = list(faults)
        self._state.write_text(json.dumps(state))

    def say(self, **state):
        """Change what the programs find: ``orphans`` and ``ghosts`` are tasks without an entry in the database, and without a file."""
        self._state.write_text(json.dumps({**json.loads(self._state.read_text()), **state}))

    def publish(self, key, content):
        """Put an object into the origin; returns its sha256."""
        path = self.origin / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    def piece(self, task):
        name = hashlib.sha256(task.encode()).hexdigest()
        return self.pieces / "content" / "tasks" / name[:3] / name

    def options(self):
        return {
            "storage": {"s3": {"bucket": "bucket", "endpoint": self.url, "access_key": "AKIDEXAMPLE", "secret_key": "s3cret"}},
            "model_store": str(self.models),
            "blob_store": str(self.blobs),
            "manifest_store": str(self.manifests),
            "incoming": str(self.incoming),
            "piece_store": str(self.pieces),
            "record": str(self.state / "models.json"),
            "curl": str(self.curl),
            "socket": str(self.socket),
            "dfdaemon_metrics_url": self.url + "/metrics",
            "retry_s": 0,
        }

    def left(self):
        """What an ended call must not leave."""
        found = [name for directory in (self.incoming, self.blobs, self.manifests, self.models) for name in os.listdir(directory)]
        return [name for name in found if name.startswith(".") and name != ".lock"]


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def bundle(host, files, prefix="bundles/demo", pack_below=1000, executable=()):
    """Publish a tree {path: content}; returns the sha256 of its manifest."""
    packed, entries = b"", []
    for path in sorted(files):
        content = files[path]
        entry = {"path": path, "size": len(content), "sha256": sha256(content), "mode": "0755" if path in executable else "0644"}
        if content and len(content) <= pack_below:
            entry["offset"] = len(packed)
            packed += content
        elif content:
            host.publish(blob_key(prefix, entry["sha256"]), content)
        entries.append(entry)
    packs = [Pack(sha256(packed), len(packed))] if packed else []
    if packed:
        host.publish(blob_key(prefix, packs[0].sha256), packed)
    manifest = Manifest([File(pack=packs[0].sha256 if "offset" in entry else None, **entry) for entry in entries], packs)
    content = manifest_bytes(manifest)
    host.publish(manifest_key(prefix, sha256(content)), content)
    return sha256(content)
