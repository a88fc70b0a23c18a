# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with units of BentoML, each of which answers at its own address while its unit runs, and who leads their ports."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ansible_collections.modelfleet.serving.plugins.module_utils import _bentoml, _runtime_bentoml, _unit_runtime
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_openai import RUNS, STOPPED, free_port


class Served:
    """What answers at an address; ``answers`` are (status, data) by the path of a request, ``headers`` those of each answer."""

    def __init__(self, address, port, answers, headers):
        self.answers = answers
        self.headers = headers
        self.requests = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if body:
                    served.requests.append((self.path, self.headers.get("Content-Type"), json.loads(body)))
                status, data = served.answers.get(self.path, (404, "Not Found"))
                content = json.dumps(data).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **served.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = handle_any

        self.server = ThreadingHTTPServer((address, port), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class FakeBentoML:
    """``served`` is {unit: Served} of those that run, ``ports`` {port: Served} of where they lead, ``broken`` {unit: state} of those that
    do not come up; ``lost`` has the configuration of who leads them come to nothing, and ``refuses`` is why it does not take it."""

    def __init__(self, directory, monkeypatch):
        self.units, self.store, self.manifests, self.state = (directory / name for name in ("units", "models", "manifests", "state"))
        for path in (self.units, self.store, self.manifests, self.state):
            path.mkdir()
        self.record = self.state / "models.json"
        self.sections = directory / "models.cfg"
        self.states = {_bentoml.SWITCH: dict(STOPPED)}
        self.served = {}
        self.ports = {}
        self.broken = {}
        self.lost = False
        self.refuses = ""
        self.calls = []
        monkeypatch.setattr(_bentoml, "UNITS", str(self.units))
        monkeypatch.setattr(_bentoml, "SECTIONS", str(self.sections))
        monkeypatch.setattr(_unit_runtime, "POLL_S", 0.01)
        monkeypatch.setattr(_runtime_bentoml, "POLL_S", 0.01)
        monkeypatch.setattr(CheckedModule, "run_command", lambda _module, command, **_options: self.systemctl(command))

    def close(self):
        for one in (*self.served.values(), *self.ports.values()):
            one.close()

    def model(self, version, name="letters", port=None, unit=True, files=None, **options):
        """An entry of the list, with its bundle in the store and its unit beside those of systemd."""
        contents = {
            "bento.yaml": f"service: service:Letters\nservices:\n- models:\n  - tag: {name}:{version}\n",
            "src/service.py": f"# {name} {version}\n",
            f"models/{name}/{version}/model.yaml": f"name: {name}\n",
        }
        contents.update(files or {})
        contents = {path: text.encode() for path, text in contents.items() if text is not None}
        listed = [
            {"mode": "0644", "path": path, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            for path, content in sorted(contents.items())
        ]
        manifest = json.dumps({"files": listed, "format": 1, "packs": []}, separators=(",", ":"), sort_keys=True).encode()
        sha256 = hashlib.sha256(manifest).hexdigest()
        (self.manifests / f"{sha256}.json").write_bytes(manifest)
        directory = self.store / f"{name}-{version}-{sha256[:12]}"
        for path, content in contents.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(content)
        entry = {"name": name, "version": version, "bundle": f"models/{name}", "sha256": sha256, "port": port or free_port(), **options}
        if unit:
            self.unit(entry)
        return entry

    def unit(self, entry, route="predict"):
        said = {"Name": entry["name"], "Version": entry["version"], "File": self.file_of(entry), "Port": entry["port"]}
        said.update(Device=entry.get("device", "cpu"), Address=self.address_of(entry), Route=route)
        unit = self.units / self.unit_of(entry)
        unit.write_text("[Service]\nExecStart=/bin/server\n\n[X-ModelFleet]\n" + "".join(f"{key}={value}\n" for key, value in said.items()))
        self.states.setdefault(unit.name, dict(STOPPED))

    @staticmethod
    def file_of(entry):
        return f"{entry['name']}-{entry['version']}-{entry['sha256'][:12]}"

    @staticmethod
    def address_of(entry):
        return f"127.64.0.{int(entry['sha256'][:2], 16) % 254 + 1}"

    def unit_of(self, entry):
        return f"bentoml-{self.file_of(entry)}.service"

    def systemctl(self, command):
        unit, state = command[-1], self.states.get(command[-1], {})
        if command[1] == "show":
            return 0, "".join(f"{key}={value}\n" for key, value in state.items()), ""
        self.calls.append(" ".join(command[1:]))
        if unit == _bentoml.SWITCH:
            return self.switch(command[1], state)
        if command[1] == "enable":
            state.update(UnitFileState="enabled", **(self.broken.get(unit) or RUNS))
            if unit not in self.broken and unit not in self.served:
                self.serve(unit)
        else:
            state.update(STOPPED)
            if unit in self.served:
                self.served.pop(unit).close()
        return 0, "", ""

    def serve(self, unit):
        said = dict(line.split("=", 1) for line in (self.units / unit).read_text().splitlines() if "=" in line)
        answers = {"/readyz": (200, ""), f"/{said['Route']}": (200, {"version": said["Version"]})}
        self.served[unit] = Served(said["Address"], int(said["Port"]), answers, {})

    def switch(self, verb, state):
        if self.refuses and verb in ("start", "reload"):
            return 1, "", self.refuses
        state.update({"enable": {"UnitFileState": "enabled"}, "disable": STOPPED}.get(verb, RUNS if verb in ("start", "reload") else {}))
        if verb != "enable":
            for one in self.ports.values():
                one.close()
            self.ports = {}
        for section in _bentoml.read_sections().values() if verb in ("start", "reload") and not self.lost else ():
            there = self.served.get(f"bentoml-{section.file}.service")
            answers = there.answers if there else {"/readyz": (503, "")}
            self.ports[section.port] = Served("127.0.0.1", section.port, answers, {_bentoml.HEADER: section.file})
        return 0, "", ""

    def leads(self):
        """{name: the directory of the version that answers} of what is configured."""
        return {name: section.file for name, section in _bentoml.read_sections().items()}

    def told(self):
        calls, self.calls = self.calls, []
        return calls

    def recorded(self, part="models"):
        return {(one["name"], one["version"]): one for one in json.loads(self.record.read_text()).get(part, [])}

    def arguments(self, *models, **options):
        paths = {"model_store": self.store, "manifest_store": self.manifests, "record": self.record}
        return {
            "models": list(models),
            **{key: str(path) for key, path in paths.items()},
            "record_group": "root",
            "timeout": 5,
            **options,
        }
