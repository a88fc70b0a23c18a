# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with units of servers of OpenAI's protocol, each of which answers at its port while its unit runs."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ansible_collections.modelfleet.serving.plugins.module_utils import _openai_server, _unit_runtime
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule

STOPPED = {"LoadState": "loaded", "UnitFileState": "disabled", "ActiveState": "inactive", "SubState": "dead", "Result": "success"}
RUNS = {"ActiveState": "active", "SubState": "running", "MainPID": str(os.getpid()), "Result": "success", "NRestarts": "0"}


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Served:
    """A server that says letters; ``answers`` are (status, data) by the path of the request."""

    def __init__(self, name, port):
        self.answers = {
            "/health": (200, {"status": "ok"}),
            "/v1/models": (200, {"object": "list", "data": [{"id": name, "object": "model"}]}),
            "/v1/completions": (200, {"id": "cmpl-1", "created": 1, "choices": [{"index": 0, "text": "def"}]}),
            "/v1/chat/completions": (200, {"choices": [{"message": {"role": "assistant", "content": "def"}}]}),
            "/v1/embeddings": (200, {"data": [{"index": 0, "embedding": [0.5, 0.25]}]}),
        }
        self.requests = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if body:
                    served.requests.append((self.path, json.loads(body)))
                status, data = served.answers.get(self.path, (404, {"error": {"message": "not found"}}))
                content = data if isinstance(data, bytes) else json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = handle_any

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class FakeOpenAI:
    """``served`` is {unit: Served} of those that run, ``broken`` {unit: state} of those that do not come up."""

    def __init__(self, directory, monkeypatch):
        self.units, self.store, self.manifests, self.state = (directory / name for name in ("units", "models", "manifests", "state"))
        for path in (self.units, self.store, self.manifests, self.state):
            path.mkdir()
        self.hub = directory / "huggingface"
        self.record = self.state / "models.json"
        self.states = {}
        self.served = {}
        self.broken = {}
        self.calls = []
        monkeypatch.setattr(_openai_server, "UNITS", str(self.units))
        monkeypatch.setattr(_unit_runtime, "POLL_S", 0.01)
        monkeypatch.setattr(CheckedModule, "run_command", lambda _module, command, **_options: self.systemctl(command))

    def close(self):
        for one in self.served.values():
            one.close()

    def model(self, version, name="letters", port=None, unit=True, **options):
        """An entry of the list, with its bundle in the store and its unit beside those of systemd."""
        content = f"{name} {version}".encode()
        file = {"mode": "0644", "path": "model.gguf", "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        manifest = json.dumps({"files": [file], "format": 1, "packs": []}, separators=(",", ":"), sort_keys=True).encode()
        sha256 = hashlib.sha256(manifest).hexdigest()
        (self.manifests / f"{sha256}.json").write_bytes(manifest)
        directory = self.store / f"{name}-{version}-{sha256[:12]}"
        directory.mkdir(exist_ok=True)
        (directory / "model.gguf").write_bytes(content)
        entry = {"name": name, "version": version, "bundle": f"models/{name}", "sha256": sha256, "port": port or free_port(), **options}
        if unit:
            self.unit(entry, directory.name)
        return entry

    def commit(self, version, name="letters", port=None, content=None):
        """As ``model``, with a commit of a hub in the cache of an access group; the same ``content`` is the same commit."""
        large, small = (content or f"{name} {version}").encode(), b"{}"
        names = {"model.gguf": hashlib.sha256(large).hexdigest(), "config.json": hashlib.sha1(b"blob 2\0" + small).hexdigest()}
        source = {"repo": f"org/{name}", "revision": hashlib.sha1(large).hexdigest(), "group": "modelfleet-hf"}
        folder = self.hub / "modelfleet-hf/hub" / f"models--org--{name}"
        snapshot = folder / "snapshots" / source["revision"]
        snapshot.mkdir(parents=True, exist_ok=True)
        (folder / "blobs").mkdir(exist_ok=True)
        for path, data in (("model.gguf", large), ("config.json", small)):
            (folder / "blobs" / names[path]).write_bytes(data)
            if not (snapshot / path).is_symlink():
                (snapshot / path).symlink_to(f"../../blobs/{names[path]}")
        entry = {"name": name, "version": version, "huggingface": source, "port": port or free_port()}
        self.unit(entry, source["revision"])
        return entry

    def unit(self, entry, file):
        said = {"Name": entry["name"], "Version": entry["version"], "File": file, "Port": entry["port"]}
        lines = "".join(f"{key}={value}\n" for key, value in {**said, "Device": entry.get("device", "cpu")}.items())
        unit = self.units / self.unit_of(entry)
        unit.write_text(f"[Service]\nExecStart=/bin/server\n\n[X-ModelFleet]\n{lines}")
        self.states[unit.name] = dict(STOPPED)

    def unit_of(self, entry):
        content = entry["huggingface"]["revision"] if "huggingface" in entry else entry["sha256"]
        return f"openai-server-{entry['name']}-{entry['version']}-{content[:12]}.service"

    def systemctl(self, command):
        unit = command[-1]
        state = self.states.get(unit, {})
        if command[1] == "show":
            return 0, "".join(f"{key}={value}\n" for key, value in state.items()), ""
        self.calls.append(" ".join(command[1:]))
        if command[1] == "enable":
            state.update(UnitFileState="enabled", **(self.broken.get(unit) or RUNS))
            if unit not in self.broken and unit not in self.served:
                said = dict(line.split("=", 1) for line in (self.units / unit).read_text().splitlines() if "=" in line)
                self.served[unit] = Served(said["Name"], int(said["Port"]))
        else:
            state.update(STOPPED)
            if unit in self.served:
                self.served.pop(unit).close()
        return 0, "", ""

    def told(self):
        calls, self.calls = self.calls, []
        return calls

    def recorded(self):
        return {(one["name"], one["version"]): one for one in json.loads(self.record.read_text())["models"]}

    def arguments(self, *models, **options):
        paths = {"model_store": self.store, "manifest_store": self.manifests, "huggingface_home": self.hub, "record": self.record}
        return {"models": list(models), **{key: str(path) for key, path in paths.items()}, "record_group": "root", "timeout": 5, **options}
