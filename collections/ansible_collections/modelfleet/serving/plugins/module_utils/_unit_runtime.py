# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runtimes share that have a unit for each version, see _runtime.py. PRIVATE to the collection: it can have breaking changes at any
time.

None of their servers loads a model at the request of a client, so loading one is starting its server, which a role has described in a unit.
"""

from __future__ import annotations

import os
import time

from ansible_collections.modelfleet.serving.plugins.module_utils._bundle_tree import read_manifest, tree_problem
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._model import file_of, title

POLL_S = 0.5
# A server that ends so often while it comes up will not come up.
MOST_STARTS = 3


class UnitRuntime:
    """A subclass has PREFIX of its units, ``unit_of`` (of an entry), ``servers`` ({unit: Server}) and ``why_not_ready`` (empty, or why)."""

    PREFIX = ""

    def __init__(self, module):
        self.module = module
        self.params = module.params

    def journal(self, name, version):
        served = self.served(name, version)
        return f"journalctl -u {served.unit if served else f'{self.PREFIX}{name}-*'}"

    # What is

    def unit_of(self, model):
        raise NotImplementedError

    def servers(self):
        raise NotImplementedError

    def why_not_ready(self, server, device):
        raise NotImplementedError

    def served(self, name, version=None):
        """The Server of a version, or of the one that answers; None where there is none."""
        found = [one for one in self.servers().values() if one.name == name and one.served and version in (None, "", one.version)]
        return found[0] if found else None

    def wait_up(self, seconds):
        """Each server is waited for where it is loaded."""

    def device(self, model):
        return model["device"] or self.params["device"]

    # What changes

    def path(self, model):
        return os.path.join(self.params["model_store"], file_of(model))

    def start(self, model):
        """Have the server of a version run, and at every boot, and wait until it is ready; it is stopped again after an error."""
        unit = self.unit_of(model)
        try:
            self.systemctl("enable", "--now", unit)
            self._wait(model, 0)
        except ModelFleetError:
            self._withdraw(unit)
            raise

    def unit_here(self, model, servers):
        """The Server of a version. Raises ModelFleetError where this host has none."""
        unit = self.unit_of(model)
        if unit not in servers:
            raise ModelFleetError(
                f"Failed to start the server of {title(model)}: this host has no {unit}. Run the playbook site with the version in "
                "modelfleet_models, which writes it."
            )
        return servers[unit]

    def verify(self, model):
        """The directory is the bundle of the entry. Raises ModelFleetError."""
        path = self.path(model)
        problem = self.path_problem(model) if os.path.isdir(path) else "is not there; run the playbook distribute"
        if problem:
            raise ModelFleetError(f"Failed to start the server of {title(model)}: {path} on this host {problem}.")

    def manifest(self, model):
        return read_manifest(os.path.join(self.params["manifest_store"], f"{model['sha256']}.json"), model["sha256"])

    def path_problem(self, model):
        return tree_problem(self.manifest(model).files, self.path(model))

    def wait_ready(self, model):
        server = self.servers().get(self.unit_of(model))
        self._wait(model, server.state["restarts"] if server else 0)

    def _wait(self, model, restarts):
        """``restarts``: how often systemd had started it again before."""
        unit = self.unit_of(model)
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

    def _withdraw(self, unit):
        """The error that follows matters more than one here."""
        try:
            self.systemctl("disable", "--now", unit)
        except ModelFleetError as exc:
            self.module.warn(str(exc))

    def systemctl(self, *arguments):
        rc, out, err = self.module.run_command(["systemctl", *arguments])
        if rc:
            reason = " ".join((err or out).split()).rstrip(".")
            raise ModelFleetError(f"Failed to {arguments[0]} {arguments[-1]}: {reason}. See journalctl -u {arguments[-1]} on this host.")


def why_not_running(state):
    """Empty, or what systemd says of a unit (unit_state) that does not run."""
    if state["active"] == "active":
        return ""
    said = f", {state['result']}" if state["result"] not in ("", "success") else ""
    return f"systemd says {state['active'] or 'nothing'}, {state['sub'] or 'nothing'}{said}"
