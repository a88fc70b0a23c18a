# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of OpenAI's protocol as a runtime, see _runtime.py: vLLM, SGLang, llama.cpp, transformers serve and others. PRIVATE to the
collection: it can have breaking changes at any time.

A version takes the place of the one before it, at the same port: memory for two is what a host with such models does not have.
"""

from __future__ import annotations

import json

from ansible_collections.modelfleet.serving.plugins.module_utils import _openai_server
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_huggingface import Place, snapshot_problem
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._http import Answer, Unreachable, send
from ansible_collections.modelfleet.serving.plugins.module_utils._model import title
from ansible_collections.modelfleet.serving.plugins.module_utils._openai_server import read_servers, unit_of
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json
from ansible_collections.modelfleet.serving.plugins.module_utils._torchserve import family_uses_gpu
from ansible_collections.modelfleet.serving.plugins.module_utils._unit_runtime import UnitRuntime, why_not_running

# By a key that only its requests have, where a request of OpenAI's protocol goes, and what of the answer is known beforehand: the rest,
# such as times and names of requests, is another one each time.
REQUESTS = {
    "messages": ("/v1/chat/completions", lambda data: data["choices"][0]["message"]["content"]),
    "prompt": ("/v1/completions", lambda data: data["choices"][0]["text"]),
    "input": ("/v1/embeddings", lambda data: [one["embedding"] for one in data["data"]]),
}
# So that the same request has the same answer, where the request does not say otherwise.
DETERMINISTIC = {"temperature": 0, "seed": 0}


class OpenAIRuntime(UnitRuntime):
    PREFIX = _openai_server.PREFIX
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

    # What is

    def unit_of(self, model):
        return unit_of(model)

    def servers(self):
        return read_servers(self.module.run_command)

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
        stopped = why_not_running(server.state)
        if stopped:
            return stopped
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

    # What changes

    def path(self, model):
        return Place(self.params, model["huggingface"]).snapshot if model.get("huggingface") else super().path(model)

    def path_problem(self, model):
        if model.get("huggingface"):
            return snapshot_problem(Place(self.params, model["huggingface"]))
        return super().path_problem(model)

    def load(self, model):
        servers = self.servers()
        server = self.unit_here(model, servers)
        for other in servers.values():
            if other.served and other.unit != server.unit and other.port == server.port:
                raise ModelFleetError(
                    f"Failed to start the server of {title(model)}: {other.unit} has its port {other.port}. Give it another port, or make "
                    f"{other.name} {other.version} absent first."
                )
        self.verify(model)
        self.start(model)

    def set_default(self, name, version):
        """Nothing to do: of versions that take turns the one that serves is the default."""

    def unload(self, name, version):
        server = self.served(name, version)
        if server:
            self.systemctl("disable", "--now", server.unit)

    # What it answers

    def predict(self, name, version, body, content_type, timeout):
        """The Answer, whose body is only what is known beforehand: a text, or the vectors of embeddings as JSON."""
        server = self.served(name, version)
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
