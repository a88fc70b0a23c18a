# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of OpenAI's protocol as a runtime, see _runtime.py: vLLM, SGLang, llama.cpp, transformers serve and others. PRIVATE to the
collection: it can have breaking changes at any time.

None of them loads a model at the request of a client, so loading one is starting its server, which the role openai_server has described in
a unit. A version takes the place of the one before it, at the same port: memory for two is what a host with such models does not have.
"""

from __future__ import annotations

import json
import os
import time

from ansible_collections.modelfleet.serving.plugins.module_utils import _openai_server
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_huggingface import Place, snapshot_problem
from ansible_collections.modelfleet.serving.plugins.module_utils._bundle_tree import read_manifest, tree_problem
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._http import Answer, Unreachable, send
from ansible_collections.modelfleet.serving.plugins.module_utils._model import file_of, title
from ansible_collections.modelfleet.serving.plugins.module_utils._openai_server import read_servers, unit_of
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json
from ansible_collections.modelfleet.serving.plugins.module_utils._torchserve import family_uses_gpu

POLL_S = 0.5
# A server that ends so often while it comes up will not come up.
MOST_STARTS = 3
# By a key that only its requests have, where a request of OpenAI's protocol goes, and what of the answer is known beforehand: the rest,
# such as times and names of requests, is another one each time.
REQUESTS = {
    "messages": ("/v1/chat/completions", lambda data: data["choices"][0]["message"]["content"]),
    "prompt": ("/v1/completions", lambda data: data["choices"][0]["text"]),
    "input": ("/v1/embeddings", lambda data: [one["embedding"] for one in data["data"]]),
}
# So that the same request has the same answer, where the request does not say otherwise.
DETERMINISTIC = {"temperature": 0, "seed": 0}


class OpenAIRuntime:
    KINDS = ("bundle", "huggingface")
    KEYS = ("command", "environment", "options", "port")
    SIDE_BY_SIDE = False
    OPTIONS = {
        "device": {"type": "str", "choices": ["cpu", "gpu"], "default": "cpu"},
        "model_store": {"type": "path", "default": "/var/lib/modelfleet/models"},
        "manifest_store": {"type": "path", "default": "/var/lib/modelfleet/manifests"},
        "huggingface_home": {"type": "path", "default": "/var/lib/modelfleet/huggingface"},
        "timeout": {"type": "int", "default": 1800},
    }
    entry_problems = staticmethod(_openai_server.entry_problems)
    place = f"http://{_openai_server.HOST}"

    def __init__(self, module):
        self.module = module
        self.params = module.params

    def journal(self, name, version):
        served = self._served(name, version)
        return f"journalctl -u {served.unit if served else _openai_server.PREFIX + name + '-*'}"

    # What is

    def servers(self):
        return read_servers(self.module.run_command)

    def _served(self, name, version=None):
        """The Server of a version, or of the one that answers; None where there is none."""
        found = [one for one in self.servers().values() if one.name == name and one.served and version in (None, "", one.version)]
        return found[0] if found else None

    def wait_up(self, seconds):
        """Each server is waited for where it is loaded."""

    def describe(self, name, devices=()):
        devices = dict(devices)
        return {
            one.version: {
                "file": one.file,
                "workers": 1,
                "ready": 0 if self.why_not_ready(one, devices.get(one.version, one.device)) else 1,
                # Of those that take turns, the one that serves is the one that is asked.
                "default": True,
            }
            for one in self.servers().values()
            if one.name == name and one.served
        }

    def why_not_ready(self, server, device):
        """Empty, or why it does not answer for its model on its device."""
        if server.state["active"] != "active":
            said = f", {server.state['result']}" if server.state["result"] not in ("", "success") else ""
            return f"systemd says {server.state['active'] or 'nothing'}, {server.state['sub'] or 'nothing'}{said}"
        try:
            health = send("GET", f"{server.url}/health", timeout=5)
            if health.status != 200:
                return f"/health answers {health.status}: {health.message}"
            models = send("GET", f"{server.url}/v1/models", timeout=5)
        except Unreachable as exc:
            return str(exc).rstrip(".")
        try:
            names = [one["id"] for one in models.data["data"]]
        except (KeyError, TypeError):
            return f"/v1/models answers {models.status}: {models.message}"
        if server.name not in names:
            known = " ".join(", ".join(map(str, names[:5])).split())[:200] or "no model"
            return f"it serves {known} and not {server.name}; have its command say {{name}} where the server takes the name of its model"
        if device == "gpu" and not family_uses_gpu(server.state["pid"]):
            return "it runs on the CPU, not on a GPU; see nvidia-smi on this host, and what its command says of the device"
        return ""

    def device(self, model):
        return model["device"] or self.params["device"]

    # What changes

    def path(self, model):
        if model.get("huggingface"):
            return Place(self.params, model["huggingface"]).snapshot
        return os.path.join(self.params["model_store"], file_of(model))

    def load(self, model):
        unit = unit_of(model)
        servers = self.servers()
        if unit not in servers:
            raise ModelFleetError(
                f"Failed to start the server of {title(model)}: this host has no {unit}. Run the playbook site with the version in "
                "modelfleet_models, which writes it."
            )
        for other in servers.values():
            if other.served and other.unit != unit and other.port == servers[unit].port:
                raise ModelFleetError(
                    f"Failed to start the server of {title(model)}: {other.unit} has its port {other.port}. Give it another port, or make "
                    f"{other.name} {other.version} absent first."
                )
        self.verify(model)
        try:
            self._systemctl("enable", "--now", unit)
            self._wait(model, 0)
        except ModelFleetError:
            self._withdraw(unit)
            raise

    def verify(self, model):
        """The directory is the bundle or the commit of the entry. Raises ModelFleetError."""
        path = self.path(model)
        if not os.path.isdir(path):
            problem = "is not there; run the playbook distribute"
        elif model.get("huggingface"):
            problem = snapshot_problem(Place(self.params, model["huggingface"]))
        else:
            manifest = read_manifest(os.path.join(self.params["manifest_store"], f"{model['sha256']}.json"), model["sha256"])
            problem = tree_problem(manifest.files, path)
        if problem:
            raise ModelFleetError(f"Failed to start the server of {title(model)}: {path} on this host {problem}.")

    def wait_ready(self, model):
        server = self.servers().get(unit_of(model))
        self._wait(model, server.state["restarts"] if server else 0)

    def _wait(self, model, restarts):
        """``restarts``: how often systemd had started it again before."""
        unit = unit_of(model)
        started = time.monotonic()
        while True:
            server = self.servers().get(unit)
            why = self.why_not_ready(server, self.device(model)) if server else "its unit is gone"
            if not why:
                return
            waited = time.monotonic() - started
            died = server is not None and server.state["restarts"] >= restarts + MOST_STARTS and server.state["active"] != "active"
            if waited >= self.params["timeout"] or died:
                why = why.rstrip(".")
                raise ModelFleetError(
                    f"The server of {title(model)} is not ready after {int(waited)} s: {why}. See journalctl -u {unit} on this host."
                )
            time.sleep(POLL_S)

    def set_default(self, name, version):
        """Nothing to do: of versions that take turns the one that serves is the default."""

    def unload(self, name, version):
        server = self._served(name, version)
        if server:
            self._systemctl("disable", "--now", server.unit)

    def _withdraw(self, unit):
        """The error that follows matters more than one here."""
        try:
            self._systemctl("disable", "--now", unit)
        except ModelFleetError as exc:
            self.module.warn(str(exc))

    def _systemctl(self, *arguments):
        rc, out, err = self.module.run_command(["systemctl", *arguments])
        if rc:
            reason = " ".join((err or out).split()).rstrip(".")
            raise ModelFleetError(f"Failed to {arguments[0]} {arguments[-1]}: {reason}. See journalctl -u {arguments[-1]} on this host.")

    # What it answers

    def predict(self, name, version, body, content_type, timeout):
        """The Answer, whose body is only what is known beforehand: a text, or the vectors of embeddings as JSON."""
        server = self._served(name, version)
        if not server:
            raise Unreachable(
                f"Failed to ask {' '.join(filter(None, (name, version)))}: no server of it runs on this host. Run the playbook site."
            )
        request, known = self._request(name, body)
        path, read = REQUESTS[known]
        remedy = f"See journalctl -u {server.unit} on this host."
        answer = send("POST", server.url + path, json.dumps(request).encode(), {"Content-Type": "application/json"}, timeout, remedy)
        if answer.status != 200:
            return answer
        try:
            found = read(answer.data)
        except (IndexError, KeyError, TypeError) as exc:
            raise ModelFleetError(
                f"Failed to read what {server.url}{path} answered: it is no answer of OpenAI's protocol. {remedy}"
            ) from exc
        return Answer(200, (found if isinstance(found, str) else json.dumps(found)).encode("utf-8", "surrogatepass"))

    @staticmethod
    def _request(name, body):
        try:
            request = from_json(body)
        except ValueError:
            request = None
        known = next((key for key in REQUESTS if isinstance(request, dict) and key in request), None)
        if known is None or request.get("stream"):
            raise ModelFleetError(
                f"Failed to ask {name}: the input is no request of OpenAI's protocol that is answered in one piece. Write JSON with "
                f"{', '.join(REQUESTS)}, and without stream."
            )
        return {"model": name, **(DETERMINISTIC if known != "input" else {}), **request}, known

    def traffic(self, name, since, until):
        """They count, and say neither percentiles nor when."""
