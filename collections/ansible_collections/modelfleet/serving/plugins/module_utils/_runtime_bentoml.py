# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""BentoML as a runtime, see _runtime.py. PRIVATE to the collection: it can have breaking changes at any time.

Versions of a model are servers beside each other, and the port of the model leads to one of them. HAProxy takes another one over by a
reload, which keeps its listening socket and finishes what is on its way, so that no request is refused.
"""

from __future__ import annotations

import os
import time

from ansible_collections.modelfleet.serving.plugins.module_utils import _bentoml
from ansible_collections.modelfleet.serving.plugins.module_utils._bentoml import (
    DESCRIPTION,
    HEADER,
    SWITCH,
    Section,
    bundle_problem,
    read_sections,
    read_servers,
    sections_text,
    unit_of,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._doctor_daemon import unit_state
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import put_file, read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._http import Unreachable, send
from ansible_collections.modelfleet.serving.plugins.module_utils._model import title
from ansible_collections.modelfleet.serving.plugins.module_utils._openai_server import HOST
from ansible_collections.modelfleet.serving.plugins.module_utils._torchserve import family_uses_gpu
from ansible_collections.modelfleet.serving.plugins.module_utils._unit_runtime import UnitRuntime, why_not_running

POLL_S = 0.1
# How long HAProxy may take to have a port lead elsewhere.
TURN_S = 20


class BentoMLRuntime(UnitRuntime):
    PREFIX = _bentoml.PREFIX
    KINDS = ("bundle",)
    KEYS = ("environment", "port", "route")
    SIDE_BY_SIDE = True
    OPTIONS = {
        "device": {"type": "str", "choices": ["cpu", "gpu"], "default": "cpu"},
        "model_store": {"type": "path", "default": "/var/lib/modelfleet/models"},
        "manifest_store": {"type": "path", "default": "/var/lib/modelfleet/manifests"},
        "timeout": {"type": "int", "default": 1800},
    }
    entry_problems = staticmethod(_bentoml.entry_problems)
    place = f"http://{HOST}"

    # What is

    def unit_of(self, model):
        return unit_of(model)

    def servers(self):
        return read_servers(self.module.run_command)

    def default(self, name):
        """The Server that answers at the port of a model, None without one."""
        section = read_sections().get(name)
        return next((one for one in self.servers().values() if section and one.served and one.file == section.file), None)

    def leads(self, name, version):
        """Whether the port of a model leads to where a version is by its unit, which may have another port now."""
        server = super().served(name, version)
        return server is not None and read_sections().get(name) == Section(server.port, server.file, server.address)

    def served(self, name, version=None):
        return super().served(name, version) if version else self.default(name) or super().served(name)

    def describe(self, name, devices=()):
        devices, default = dict(devices), self.default(name)
        return {
            one.version: {
                "file": one.file,
                "workers": 1,
                "ready": 0 if self.why_not_ready(one, devices.get(one.version, one.device)) else 1,
                "default": default is not None and one.unit == default.unit,
            }
            for one in self.servers().values()
            if one.name == name and one.served
        }

    def why_not_ready(self, server, device):
        """Empty, or why it does not answer at its own address on its device."""
        stopped = why_not_running(server.state)
        if stopped:
            return stopped
        try:
            ready = send("GET", f"{server.url}/readyz", timeout=5)
        except Unreachable as exc:
            return str(exc).rstrip(".")
        if ready.status != 200:
            return f"/readyz answers {ready.status}: {ready.message}"
        if device == "gpu" and not family_uses_gpu(server.state["pid"]):
            return "it runs on the CPU, not on a GPU; see nvidia-smi on this host, and the resources that its service asks for"
        return ""

    def why_not_reached(self, name):
        """Empty, or why the port of a model does not lead to the version that is the default."""
        section = read_sections().get(name)
        if not section:
            return "no port leads to it"
        try:
            answer = send("GET", f"{section.url}/readyz", timeout=5)
        except Unreachable as exc:
            stopped = why_not_running(unit_state(self.module.run_command, SWITCH))
            return f"{str(exc).rstrip('.')}" + (f" ({SWITCH}: {stopped})" if stopped else "")
        found = answer.headers.get(HEADER)
        if found != section.file:
            return f"port {section.port} leads to {found or 'somebody else'} and not to {section.file}; see journalctl -u {SWITCH}"
        return "" if answer.status == 200 else f"port {section.port} answers {answer.status}: {answer.message}"

    # What changes

    def check(self, model):
        """Refuse a bundle that BentoML could not serve; nothing is changed."""
        path = self.path(model)
        problem = bundle_problem({file.path for file in self.manifest(model).files}, read_text(os.path.join(path, DESCRIPTION)))
        if problem:
            raise ModelFleetError(f"Refused {title(model)} for BentoML: {path} on this host {problem}. Nothing was changed.")

    def load(self, model):
        server = self.unit_here(model, self.servers())
        for name, section in read_sections().items():
            if name != server.name and section.port == server.port:
                raise ModelFleetError(
                    f"Failed to start the server of {title(model)}: the port {server.port} is that of {name}. Give it another port, or "
                    f"make {name} absent first."
                )
        self.check(model)
        self.verify(model)
        self.start(model)
        if self.default(server.name) is None:
            try:
                self.set_default(server.name, server.version)
            except ModelFleetError:
                self._withdraw(server.unit)
                raise

    def set_default(self, name, version):
        server = self.served(name, version)
        if not server:
            raise ModelFleetError(f"Failed to have {name} {version} answer at its port: no server of it runs here. Run the playbook site.")
        before = read_sections()
        self._turn({**before, name: Section(server.port, server.file, server.address)})
        deadline = time.monotonic() + TURN_S
        while True:
            why = self.why_not_reached(name)
            if not why:
                return
            if time.monotonic() >= deadline:
                break
            time.sleep(POLL_S)
        try:
            self._turn(before)
        except ModelFleetError as exc:
            self.module.warn(str(exc))
        raise ModelFleetError(
            f"Failed to have {name} {version} answer at port {server.port} of this host within {TURN_S} s: {why}. What answered there "
            f"before does so still. See journalctl -u {SWITCH} on this host."
        )

    def unload(self, name, version):
        server = self.served(name, version)
        if not server:
            return
        sections = read_sections()
        if name in sections and sections[name].file == server.file:
            self._turn({other: section for other, section in sections.items() if other != name})
        self.systemctl("disable", "--now", server.unit)

    def _turn(self, sections):
        """Have ports lead where ``sections`` say, also after a boot."""
        before = read_text(_bentoml.SECTIONS)
        self._write(sections_text(sections))
        try:
            state = unit_state(self.module.run_command, SWITCH)
            if not sections:
                self.systemctl("disable", "--now", SWITCH)
            # Where it still takes over what it was told before, a start would tell it nothing, and a reload waits for its turn.
            elif state["active"] in ("active", "reloading"):
                self.systemctl("reload", SWITCH)
            else:
                self.systemctl("start", SWITCH)
            if sections and state["enabled"] != "enabled":
                self.systemctl("enable", SWITCH)
        except ModelFleetError:
            # For the next start; without a port there is nothing to start.
            self._write(before or sections_text({}))
            if sections and not read_sections():
                self._withdraw(SWITCH)
            raise

    def _write(self, text):
        put_file(self.module, _bentoml.SECTIONS, text, params={"owner": "root", "group": "root", "mode": "0644"})

    # What it answers

    def predict(self, name, version, body, content_type, timeout):
        """The default version is asked at the port of the model, as everybody asks it, another one at its own address."""
        server, section = self.served(name, version), read_sections().get(name)
        if not server:
            raise Unreachable(
                f"Failed to ask {' '.join(filter(None, (name, version)))}: no server of it runs on this host. Run the playbook site."
            )
        url = section.url if section and section.file == server.file else server.url
        remedy = f"See journalctl -u {server.unit} on this host."
        return send("POST", f"{url}/{server.route}", body, {"Content-Type": content_type}, timeout, remedy)

    def traffic(self, name, since, until):
        """It counts, and says neither percentiles nor when."""
