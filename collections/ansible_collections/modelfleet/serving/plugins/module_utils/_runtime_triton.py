# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Triton as a runtime, see _runtime.py: the Open Inference Protocol with Triton's own extension for its model repository. PRIVATE to the
collection: it can have breaking changes at any time.

A model of Triton has one configuration for all its versions, and its versions are numbers; each version of ours comes with a configuration
of its own, and is a text. So one version of ours is loaded at a time, whatever number it has in its bundle, and the next one takes its
place. Triton's repository has a link for each model that is served, by its name, to the directory of a version, whose files are hard links
of the bundle's. What the links say is what a start loads, and whose directory they name is which version of ours that is.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from urllib.parse import quote

from ansible_collections.modelfleet.serving.plugins.module_utils._bundle_tree import read_manifest, tree_problem
from ansible_collections.modelfleet.serving.plugins.module_utils._doctor_daemon import unit_state
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._http import Answer, Unreachable, send
from ansible_collections.modelfleet.serving.plugins.module_utils._model import file_of, title
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json
from ansible_collections.modelfleet.serving.plugins.module_utils._triton import (
    CONFIG,
    UNIT,
    config_problem,
    read_unit,
    release_problem,
    version_of,
)

# On the filesystem of the model store, and root's alone: where TorchServe's plugin downloads, its user may rename in the model store.
REPOSITORY = "/var/lib/modelfleet/triton"
POLL_S = 0.5
SEE = f"See journalctl -u {UNIT} on this host."
# Where a model is, and may come to be another thing by itself.
_TURNING = ("LOADING", "UNLOADING")


class TritonRuntime:
    KINDS = ("bundle",)
    KEYS = ()
    SIDE_BY_SIDE = False
    OPTIONS = {
        "device": {"type": "str", "choices": ["cpu", "gpu"], "default": "cpu"},
        "model_store": {"type": "path", "default": "/var/lib/modelfleet/models"},
        "manifest_store": {"type": "path", "default": "/var/lib/modelfleet/manifests"},
        "timeout": {"type": "int", "default": 1800},
    }

    def __init__(self, module):
        self.module = module
        self.params = module.params

    @staticmethod
    def entry_problems(model, settings):
        """What a bundle has in it is seen on the hosts."""
        return ()

    @property
    def place(self):
        unit = read_unit()
        return unit.url if unit else "Triton"

    def journal(self, name, version):
        return f"journalctl -u {UNIT}"

    # What is

    def served(self):
        """{name: the name of its directory} of what Triton is to serve, also after a start."""
        links = os.path.join(REPOSITORY, "models")
        try:
            names = sorted(os.listdir(links))
        except FileNotFoundError:
            return {}
        return {
            name: os.path.basename(os.readlink(os.path.join(links, name))) for name in names if os.path.islink(os.path.join(links, name))
        }

    def version(self, name):
        """The version of ours that is served of a model, empty without one."""
        file = self.served().get(name, "")
        return file[len(name) + 1 : -13] if file else ""

    def wait_up(self, seconds):
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self._send("GET", "/v2/health/ready", timeout=5).status == 200:
                    return
            except ModelFleetError:
                pass
            if time.monotonic() >= deadline:
                return
            time.sleep(POLL_S)

    def describe(self, name, devices=()):
        version, devices = self.version(name), dict(devices)
        if not version:
            return {}
        ready = not self.why_not_ready(name, devices.get(version, "cpu"))
        return {version: {"file": self.served()[name], "workers": 1, "ready": 1 if ready else 0, "default": True}}

    def why_not_ready(self, name, device):
        """Empty, or why Triton does not answer for a model on its device."""
        try:
            answer = self._send("GET", f"{self._path(name)}/ready", timeout=5)
            if answer.status != 200:
                state, reason = self._state(name)
                said = f"{state}, {reason}" if state and reason else state or f"/ready answers {answer.status}: {answer.message}"
                return f"Triton says {said}".rstrip(".")
            return self._why_not_gpu(name) if device == "gpu" else ""
        except ModelFleetError as exc:
            return str(exc).rstrip(".")

    def _why_not_gpu(self, name):
        """Where its instances are, which Triton has chosen by now where the bundle did not."""
        answer = self._send("GET", f"{self._path(name)}/config", timeout=5)
        try:
            kinds = {group["kind"] for group in answer.data["instance_group"]}
        except (KeyError, TypeError):
            return f"/config answers {answer.status} without an instance_group: {answer.message[:200]}"
        return "" if kinds & {"KIND_GPU", "KIND_MODEL"} else "its instances are on the CPU, not on a GPU; see nvidia-smi on this host"

    def _state(self, name):
        """(state, reason) of a model in the repository's index; of a model that was never loaded both are empty."""
        answer = self._send("POST", "/v2/repository/index", {}, timeout=30)
        rows = answer.data if answer.status == 200 and isinstance(answer.data, list) else None
        if rows is None or not all(isinstance(one, dict) for one in rows):
            raise ModelFleetError(f"Failed to read what {self.place} has: its index answers {answer.status}: {answer.message[:200]}. {SEE}")
        found = [one for one in rows if one.get("name") == name]
        # One that goes or comes says more than one that is gone.
        found.sort(key=lambda one: one.get("state") not in (*_TURNING, "READY"))
        return tuple(" ".join(str(found[0].get(key) or "").split()) for key in ("state", "reason")) if found else ("", "")

    def _number(self, name):
        """The number by which Triton names the version that is served."""
        file = self.served().get(name)
        names = os.listdir(os.path.join(REPOSITORY, "versions", file)) if file else []
        return next((one for one in names if one.isdigit() and not one.startswith("0")), "")

    def _path(self, name):
        return f"/v2/models/{quote(name)}/versions/{self._number(name)}"

    def device(self, model):
        return model["device"] or self.params["device"]

    def path(self, model):
        return os.path.join(self.params["model_store"], model.get("file") or file_of(model))

    # What changes

    def check(self, model):
        """Refuse a bundle that Triton could not load as the entry says, and a Triton that must not load any; nothing is changed."""
        sha256 = model["sha256"]
        manifest = read_manifest(os.path.join(self.params["manifest_store"], f"{sha256}.json"), sha256)
        problem = version_of([file.path for file in manifest.files])[1]
        if not problem:
            text = read_text(os.path.join(self.path(model), CONFIG))
            problem = (
                "is not there; run the playbook distribute" if text is None else config_problem(text, model["name"], self.device(model))
            )
        if problem:
            raise ModelFleetError(f"Refused {title(model)} for Triton: {self.path(model)} on this host {problem}. Nothing was changed.")
        return manifest

    def check_release(self):
        """Raises ModelFleetError for a Triton that answers and has known holes."""
        version, problem = self.release()
        if problem:
            raise ModelFleetError(f"Refused to load a model: the Triton of this host {problem}. Nothing was changed.")
        return version

    def release(self):
        """(what the server says of its release, what is wrong with that or None)"""
        answer = self._send("GET", "/v2", timeout=30)
        version = answer.data.get("version") if answer.status == 200 and isinstance(answer.data, dict) else None
        if not isinstance(version, str):
            raise ModelFleetError(f"Failed to read the release of {self.place}: /v2 answers {answer.status}: {answer.message[:200]}. {SEE}")
        return version, None if read_unit().accepts_holes else release_problem(version)

    def load(self, model):
        manifest = self.check(model)
        self.check_release()
        name = model["name"]
        if self.version(name) and self.served()[name] != file_of(model):
            raise ModelFleetError(
                f"Failed to load {title(model)}: this host serves {self.served()[name]}, and one version at a time. "
                f"Make {self.version(name)} absent first."
            )
        try:
            self._link(model, manifest)
            self._load(model)
            self.wait_ready(model)
        except ModelFleetError:
            self._withdraw(name)
            raise

    def _link(self, model, manifest):
        """Give the bundle's files other names where Triton reads, verified there, and the model its link."""
        file, name = file_of(model), model["name"]
        tree = os.path.join(REPOSITORY, "versions", file)
        link = os.path.join(REPOSITORY, "models", name)
        try:
            self._sweep(keep=set(self.served().values()) - {file})
            for one in manifest.files:
                self._directory(tree, os.path.dirname(one.path))
                os.link(os.path.join(self.path(model), one.path), os.path.join(tree, one.path), follow_symlinks=False)
        except OSError as exc:
            raise ModelFleetError(
                f"Failed to load {title(model)}: {self.path(model)} cannot be linked into {tree}: {exc.strerror}. Keep both on "
                "one filesystem, and run the playbook distribute."
            ) from exc
        problem = self._foreign(tree) or tree_problem(manifest.files, tree)
        if problem:
            self._sweep(keep=set(self.served().values()) - {file})
            raise ModelFleetError(f"Failed to load {title(model)}: {self.path(model)} on this host {problem}.")
        if not os.path.islink(link):
            os.symlink(os.path.join("..", "versions", file), link)

    @staticmethod
    def _foreign(tree):
        """What brought the bundle is root's. Another's file would be what it is now for as long as he likes."""
        for parent, _directories, names in os.walk(tree):
            for name in names:
                if os.lstat(os.path.join(parent, name)).st_uid != os.geteuid():
                    return f"has {os.path.relpath(os.path.join(parent, name), tree)}, which is not root's; run the playbook distribute"
        return None

    @staticmethod
    def _directory(tree, below):
        """Each directory of a path is root's, and readable by those who may come as far as to the repository."""
        parts = below.split("/") if below else []
        for count in range(len(parts) + 1):
            path = os.path.join(tree, *parts[:count])
            if not os.path.isdir(path):
                os.mkdir(path)
                os.chmod(path, 0o755)

    @staticmethod
    def _sweep(keep):
        """Remove the directories of versions but those to ``keep``; a run that was killed leaves its own."""
        place = os.path.join(REPOSITORY, "versions")
        for file in set(os.listdir(place)) - set(keep):
            shutil.rmtree(os.path.join(place, file))

    def _load(self, model):
        name = model["name"]
        answer = self._send("POST", f"/v2/repository/models/{quote(name)}/load", {}, timeout=self.params["timeout"])
        if answer.status != 200:
            reason = self._state(name)[1]
            said = answer.message.rstrip(".")
            more = f" ({reason.rstrip('.')})" if reason and reason not in said else ""
            raise ModelFleetError(f"Triton does not load {title(model)}: {said}{more}. {SEE}")

    def wait_ready(self, model):
        name, device = model["name"], self.device(model)
        started, again = time.monotonic(), True
        while True:
            why = self.why_not_ready(name, device)
            if not why:
                return
            waited = time.monotonic() - started
            state = self._reachable_state(name)
            if again and state not in (None, "READY", *_TURNING):
                # It did not load with the server, or somebody unloaded it.
                again = False
                self._load(model)
                continue
            # On another device it stays where it is.
            if waited >= self.params["timeout"] or state == "UNAVAILABLE" or (state == "READY" and "on a GPU" in why):
                raise ModelFleetError(f"The {title(model)} is not ready after {int(waited)} s: {why}. {SEE}")
            time.sleep(POLL_S)

    def _reachable_state(self, name):
        try:
            return self._state(name)[0]
        except Unreachable:
            return None

    def set_default(self, name, version):
        """Nothing to do: of versions that take turns the one that is loaded is the default."""

    def unload(self, name, version):
        if self.version(name) != version:
            return
        try:
            answer = self._send("POST", f"/v2/repository/models/{quote(name)}/unload", {})
            state = self._state(name)[0]
            if answer.status != 200 and state in ("READY", *_TURNING):
                raise ModelFleetError(f"Triton does not unload {name} {version}: {answer.message.rstrip('.')}. {SEE}")
            self._wait_unloaded(name, version)
        except Unreachable:
            # One that does not run has nothing loaded, and loads at its next start what has a link.
            if unit_state(self.module.run_command, UNIT)["active"] not in ("", "inactive", "failed"):
                raise
        self._unlink(name)

    def _wait_unloaded(self, name, version):
        """Requests that it is answering are answered."""
        deadline = time.monotonic() + self.params["timeout"]
        while self._state(name)[0] in ("READY", *_TURNING):
            if time.monotonic() >= deadline:
                raise ModelFleetError(f"Triton still has {name} {version} loaded after {self.params['timeout']} s. {SEE}")
            time.sleep(POLL_S)

    def _unlink(self, name):
        try:
            os.unlink(os.path.join(REPOSITORY, "models", name))
            self._sweep(keep=set(self.served().values()))
        except OSError as exc:
            raise ModelFleetError(f"Failed to take {name} out of {REPOSITORY}: {exc.strerror}. Check its permissions.") from exc

    def _withdraw(self, name):
        """The error that follows matters more than one here."""
        version = self.version(name)
        try:
            if version:
                self.unload(name, version)
        except ModelFleetError as exc:
            self.module.warn(str(exc))

    def _send(self, method, path, data=None, timeout=30):
        unit = read_unit()
        if not unit:
            raise Unreachable(f"Failed to ask Triton: this host has no {UNIT} of modelfleet.serving. Run the playbook site.")
        body = None if data is None else data if isinstance(data, bytes) else json.dumps(data).encode()
        return send(method, unit.url + path, body, {"Content-Type": "application/json"} if body is not None else None, timeout, SEE)

    # What it answers

    def predict(self, name, version, body, content_type, timeout):
        """The Answer, whose body is the outputs as JSON: the rest, such as the id of a request, is another one each time."""
        here = self.version(name)
        if not here or version not in (None, "", here):
            raise Unreachable(
                f"Failed to ask {' '.join(filter(None, (name, version)))}: it is not loaded on this host. Run the playbook site."
            )
        try:
            request = from_json(body)
        except ValueError:
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("inputs"), list):
            raise ModelFleetError(
                f"Failed to ask {name}: the input is no request of the Open Inference Protocol. Write JSON with inputs, each with "
                "name, shape, datatype and data."
            )
        answer = self._send("POST", f"{self._path(name)}/infer", json.dumps(request).encode(), timeout)
        if answer.status != 200:
            return answer
        outputs = answer.data.get("outputs") if isinstance(answer.data, dict) else None
        if not isinstance(outputs, list):
            raise ModelFleetError(
                f"Failed to read what {self.place} answered for {name}: it is no answer of the Open Inference Protocol in JSON. Ask "
                f"without binary_data. {SEE}"
            )
        return Answer(200, json.dumps(outputs).encode("utf-8", "surrogatepass"))

    def traffic(self, name, since, until):
        """It counts, and says neither percentiles of a time nor which status a request had."""
