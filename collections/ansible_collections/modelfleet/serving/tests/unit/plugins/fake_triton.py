# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with a Triton under explicit model control, which serves what its repository has and doubles numbers."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ansible_collections.modelfleet.serving.plugins.module_utils import _runtime_triton, _triton
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule

CONFIG = 'name: "{name}"\nbackend: "python"\nmax_batch_size: 0\n'
INPUT = {"inputs": [{"name": "X", "shape": [2], "datatype": "FP32", "data": [1, 2]}]}
OUTPUT = [{"name": "Y", "datatype": "FP32", "shape": [2], "data": [2.0, 4.0]}]


class FakeTriton:
    """``broken`` is {name: reason} of models that do not load, ``kinds`` {name: kind of its instances}, ``loaded`` {name: number}."""

    def __init__(self, directory, monkeypatch, release="2.62.0"):
        self.store, self.manifests, self.state, self.repository = (directory / name for name in ("models", "manifests", "state", "triton"))
        for path in (self.store, self.manifests, self.state, self.repository, self.repository / "models", self.repository / "versions"):
            path.mkdir()
        self.record = self.state / "models.json"
        self.unit = directory / "triton.service"
        self.release, self.active = release, "active"
        self.broken, self.kinds, self.loaded, self.reasons, self.answers = {}, {}, {}, {}, {}
        self.unloading = []
        self.calls = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.command == "POST":
                    json.loads(body)
                status, data = fake.answers.get(self.path) or fake.answer(self.command, self.path, body)
                content = data if isinstance(data, bytes) else b"" if data is None else json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = handle_any

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.describe()
        monkeypatch.setattr(_triton, "UNIT_FILE", str(self.unit))
        monkeypatch.setattr(_runtime_triton, "REPOSITORY", str(self.repository))
        monkeypatch.setattr(_runtime_triton, "POLL_S", 0.01)
        monkeypatch.setattr(CheckedModule, "run_command", lambda _module, command, **_options: self.systemctl(command))

    def describe(self, holes="refused"):
        self.unit.write_text(f"[Service]\nExecStart=/bin/server\n\n[X-ModelFleet]\nHttp={self.server.server_port}\nHoles={holes}\n")

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def restart(self):
        """It loads what its repository has before it answers anybody."""
        self.loaded.clear()
        for name in os.listdir(self.repository / "models"):
            self.load(name)

    def answer(self, method, path, body):
        if (method, path) == ("GET", "/v2"):
            return 200, {"name": "triton", "version": self.release, "extensions": ["model_repository", "model_configuration"]}
        if (method, path) == ("GET", "/v2/health/ready"):
            return 200, None
        if (method, path) == ("POST", "/v2/repository/index"):
            return 200, self.index()
        found = re.fullmatch(r"/v2/repository/models/([^/]+)/(load|unload)", path)
        if method == "POST" and found:
            self.calls.append(f"{found[2]} {found[1]}")
            return self.load(found[1]) if found[2] == "load" else self.unload(found[1])
        found = re.fullmatch(r"/v2/models/([^/]+)/versions/([0-9]+)/(ready|config|infer)", path)
        if found:
            return self.of_model(method, *found.groups(), body)
        return 404, {"error": "Not Found"}

    def of_model(self, method, name, number, what, body):
        if self.loaded.get(name) != number:
            text = f"Request for unknown model: '{name}' version {number} is not at ready state"
            return 400, None if what == "ready" else {"error": text}
        if what == "ready":
            return 200, None
        if what == "config":
            return 200, {"name": name, "instance_group": [{"kind": self.kinds.get(name, "KIND_CPU"), "count": 1}]}
        if method != "POST" or "inputs" not in json.loads(body):
            return 400, {"error": "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"}
        (given,) = json.loads(body)["inputs"]
        outputs = [{**OUTPUT[0], "shape": given["shape"], "data": [2.0 * one for one in given["data"]]}]
        return 200, {"id": os.urandom(4).hex(), "model_name": name, "model_version": number, "outputs": outputs}

    def load(self, name):
        place = self.repository / "models" / name
        if not place.is_dir():
            return 500, {"error": f"failed to load '{name}', failed to poll from model repository"}
        (number,) = (one for one in os.listdir(place) if one.isdigit())
        if name in self.broken or not (place / "config.pbtxt").is_file():
            self.reasons[name] = self.broken.get(name, "no config.pbtxt")
            return 400, {"error": f"load failed for model '{name}': version {number} is at UNAVAILABLE state: {self.reasons[name]};\n"}
        self.loaded[name] = number
        self.reasons.pop(name, None)
        return 200, None

    def unload(self, name):
        if name in self.loaded:
            del self.loaded[name]
            self.unloading.append(name)
        self.reasons[name] = "unloaded"
        return 200, None

    def index(self):
        rows = []
        for name in sorted(set(self.loaded) | set(self.reasons) | set(os.listdir(self.repository / "models"))):
            if name in self.loaded:
                rows.append({"name": name, "version": self.loaded[name], "state": "READY"})
            elif name in self.unloading:
                self.unloading.remove(name)
                rows.append({"name": name, "version": "1", "state": "UNLOADING"})
            elif name in self.reasons:
                rows.append({"name": name, "version": "1", "state": "UNAVAILABLE", "reason": self.reasons[name]})
            else:
                rows.append({"name": name})
        return rows

    def model(self, version, name="double", config=None, files=None, **options):
        """An entry of the list, with its bundle in the store."""
        contents = files or {"config.pbtxt": config or CONFIG.format(name=name), "1/model.py": f"# {name} {version}\n"}
        rows = [
            {"mode": "0644", "path": path, "sha256": hashlib.sha256(content.encode()).hexdigest(), "size": len(content)}
            for path, content in sorted(contents.items())
        ]
        manifest = json.dumps({"files": rows, "format": 1, "packs": []}, separators=(",", ":"), sort_keys=True).encode()
        sha256 = hashlib.sha256(manifest).hexdigest()
        (self.manifests / f"{sha256}.json").write_bytes(manifest)
        directory = self.store / f"{name}-{version}-{sha256[:12]}"
        for path, content in contents.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_text(content)
        return {"name": name, "version": version, "bundle": f"models/{name}", "sha256": sha256, **options}

    def systemctl(self, command):
        assert command[:2] == ["systemctl", "show"] and command[-1] == "triton.service"
        return 0, f"LoadState=loaded\nActiveState={self.active}\n", ""

    def told(self):
        calls, self.calls = self.calls, []
        return calls

    def links(self):
        return {one.name: os.readlink(one) for one in (self.repository / "models").iterdir()}

    def recorded(self):
        return {(one["name"], one["version"]): one for one in json.loads(self.record.read_text())["models"]}

    def arguments(self, *models, **options):
        paths = {"model_store": self.store, "manifest_store": self.manifests, "record": self.record}
        return {"models": list(models), **{key: str(path) for key, path in paths.items()}, "record_group": "root", "timeout": 5, **options}
