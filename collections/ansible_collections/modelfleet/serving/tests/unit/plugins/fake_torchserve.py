# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A TorchServe that answers as 0.12.0 does, without models: what it holds is ``models`` = {name: {version: description}}."""

from __future__ import annotations

import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from ansible_collections.modelfleet.serving.tests.unit.plugins.recorded_gpu import GPU_USAGE

KEYS = {"management": {"key": "mgmtKEY1"}, "inference": {"key": "inferKEY"}, "API": {"key": "apiKEY"}}


# What TorchServe describes of a model that says nothing.
DEFAULTS = {"batchSize": 1, "maxBatchDelay": 100, "responseTimeout": 120, "startupTimeout": 120, "deviceType": "cpu"}
PARAMETERS = {
    "batch_size": "batchSize",
    "max_batch_delay": "maxBatchDelay",
    "response_timeout": "responseTimeout",
    "startup_timeout": "startupTimeout",
}


def description(version, file, workers=1, status="READY", min_workers=None, **described):
    # Given a GPU, but it is this process, which does not use one.
    given = {"pid": os.getpid(), "gpu": True, "gpuUsage": GPU_USAGE} if described.get("deviceType") == "gpu" else {}
    return {
        **DEFAULTS,
        **described,
        "modelVersion": version,
        "modelUrl": file,
        "minWorkers": workers if min_workers is None else min_workers,
        "maxWorkers": workers if min_workers is None else min_workers,
        "workers": [{"id": str(9000 + n), "status": status, "pid": -1, "gpu": False, "gpuUsage": "N/A", **given} for n in range(workers)],
    }


class FakeTorchServe:
    def __init__(self, directory):
        self.models = {}
        self.defaults = {}
        self.calls = []
        # Answers that registrations give before they begin to work: (status, type, message, what stays registered).
        self.failures = []
        self.plugin = True
        # The model-config.yaml of an archive, by the name of its model.
        self.configs = {}
        self.answer = lambda name, body: (200, b"{}")
        self.key_file = directory / "key_file.json"
        self.key_file.write_text(json.dumps(KEYS))
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, data = fake.serve(self.command, self.path, dict(self.headers), body)
                data = data if isinstance(data, bytes) else json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = handle_any

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def put(self, name, *descriptions):
        self.models[name] = {item["modelVersion"]: item for item in descriptions}
        self.defaults[name] = descriptions[0]["modelVersion"]

    def changes(self):
        return [call for call in self.calls if not call.startswith(("GET", "OPTIONS", "POST /predictions"))]

    def serve(self, method, target, headers, body):
        if method == "OPTIONS":
            return 200, {"openapi": "3.0.1", "info": {"title": "TorchServe APIs", "version": "0.12.0"}}
        if "/token" in target:
            return error(
                400, "InvalidKeyException", "Token Authentication failed. Token either incorrect, expired, or not provided correctly"
            )
        parts = urlsplit(target)
        path = [unquote(part) for part in parts.path.strip("/").split("/")]
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.calls.append(method + " /" + "/".join(path))
        kind = "inference" if path[0] == "predictions" else "management"
        if headers.get("Authorization") != "Bearer " + json.loads(self.key_file.read_text())[kind]["key"]:
            return error(
                400, "InvalidKeyException", "Token Authentication failed. Token either incorrect, expired, or not provided correctly"
            )
        if path[0] == "predictions":
            return self.answer(path[1], body)
        if method == "POST":
            return self.register(path, query)
        if method == "GET" and len(path) == 1:
            return 200, {"models": [{"modelName": name, "modelUrl": "x"} for name in self.models]}
        name, version = path[1], path[2] if len(path) > 2 else None
        if not self.models.get(name):
            return error(404, "ModelNotFoundException", f"Model not found: {name}")
        if method == "GET":
            versions = self.models[name].values() if version == "all" else [self.models[name][version or self.defaults[name]]]
            return 200, list(versions)
        if version not in self.models[name]:
            return error(404, "ModelVersionNotFoundException", f"Model version: {version} does not exist for model: {name}")
        return self.change(method, name, version, query, path)

    def change(self, method, name, version, query, path):
        if path[-1] == "set-default":
            self.defaults[name] = version
            return 200, {"status": "Default version successfully updated"}
        if method == "PUT":
            fresh = description(version, "", int(query["min_worker"]))
            self.models[name][version].update({key: fresh[key] for key in ("minWorkers", "maxWorkers", "workers")})
            return 202, {"status": "Processing worker updates..."}
        if self.defaults[name] == version and len(self.models[name]) > 1:
            return error(403, "InvalidModelVersionException", f"Can't remove default version: {version}")
        del self.models[name][version]
        if not self.models[name]:
            del self.models[name], self.defaults[name]
        return 200, {"status": f'Model "{name}" unregistered'}

    def register(self, path, query):
        if path[0] == "dragonfly":
            if not self.plugin:
                return error(404, "ResourceNotFoundException", "Requested resource is not found, please refer to API document.")
            name, version = query["model_name"], query["model_version"]
            file = f"{name}-{version}-{query['sha256'][:12]}.mar"
        else:
            file = query["url"]
            name, version = re.fullmatch(r"(.+)-(.+)-[0-9a-f]{12}(?:\.mar)?", file).groups()
        if self.failures:
            status, kind, message, left = self.failures.pop(0)
            if left:
                self.models.setdefault(name, {})[version] = left
                self.defaults.setdefault(name, version)
            return error(status, kind, message)
        if version in self.models.get(name, {}):
            return error(409, "ConflictStatusException", f"Model version {version} is already registered for model {name}")
        described = {PARAMETERS[key]: int(value) for key, value in query.items() if key in PARAMETERS}
        config = self.configs.get(name)
        workers = int(query["initial_workers"])
        if config is not None:
            # Any model-config.yaml overrides the timeouts, if only with TorchServe's own; a request overrides its batches.
            timeouts = {key: config.get(key, 120) for key in ("responseTimeout", "startupTimeout")}
            described = {**{key: value for key, value in config.items() if key in DEFAULTS}, **described, **timeouts}
            if 1 <= config.get("minWorkers", 0) <= config.get("maxWorkers", 0):
                workers = config["minWorkers"]
        self.models.setdefault(name, {})[version] = description(version, file, workers, **described)
        self.defaults.setdefault(name, version)
        return 200, {"status": f'Model "{name}" Version: {version} registered with {query["initial_workers"]} initial workers'}


def error(status, kind, message):
    return status, {"code": status, "type": kind, "message": message}
