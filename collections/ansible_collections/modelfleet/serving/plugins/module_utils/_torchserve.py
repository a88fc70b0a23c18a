# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Client of TorchServe's management and inference API. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from urllib.parse import quote, urlencode

from ansible.module_utils.common.text.converters import to_text
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._http import Unreachable, send
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json

MANAGEMENT_URL = "http://127.0.0.1:8081"
INFERENCE_URL = "http://127.0.0.1:8080"
KEY_FILE = "/var/lib/torchserve/key_file.json"
# TorchServe gives a worker process a fixed 2 minutes to come up, before startup_timeout begins.
WORKER_BOOT_S = 120
# A worker begins to use its GPU while it loads the model.
GPU_GRACE_S = 15
# Of 100 models each.
_MOST_PAGES = 1000
# What is read of a version of a model.
_DESCRIPTION = {"modelVersion": str, "modelUrl": str, "minWorkers": int, "maxWorkers": int, "workers": list}


def _key_refused(answer):
    return answer.status == 400 and isinstance(answer.data, dict) and answer.data.get("type") == "InvalidKeyException"


def segment(text):
    """Quote one path segment.

    A request that holds the text "/token" anywhere is taken for TorchServe's token API, so that a model named "tokenizer"
    would be unreachable: its first letter is percent-encoded.
    """
    quoted = quote(text, safe="")
    return "%74" + quoted[1:] if quoted.startswith("token") else quoted


class TorchServe:
    """One API of a TorchServe: ``api`` is "management" or "inference" and names the key in ``key_file``."""

    def __init__(self, module, base_url, key_file, api="management", timeout=30):
        self.module = module
        self.base_url = base_url.rstrip("/")
        self.place = base_url
        self.key_file = key_file
        self.api = api
        self.timeout = timeout

    def call(self, method, path, query=None, body=None, headers=None, timeout=None):
        """Return the Answer, whatever its status; raises Unreachable when there is none.

        TorchServe makes new keys at every start and writes them a moment after its ports open, so they are read for each call
        and once more after a refusal.
        """
        url = self.base_url + path + ("?" + urlencode(query, quote_via=quote, safe="") if query else "")
        answer = self._send(method, url, body, headers, timeout)
        if _key_refused(answer):
            time.sleep(1)
            answer = self._send(method, url, body, headers, timeout)
        if _key_refused(answer):
            raise ModelFleetError(
                f"Failed to call {method} {self.base_url + path}: TorchServe refused the {self.api} key of {self.key_file}. Check that "
                "the file is this TorchServe's and has not expired (token_expiration_min); a restart of torchserve.service makes a new one."
            )
        return answer

    def _send(self, method, url, body, headers, timeout):
        headers = dict(headers or {})
        key = self._key()
        if key:
            headers["Authorization"] = "Bearer " + key
        return send(
            method,
            url,
            body,
            headers,
            timeout or self.timeout,
            "Check that torchserve.service runs on this host (journalctl -u torchserve).",
        )

    def _key(self):
        """The current key, or None without a key file (token authorization is off)."""
        try:
            with open(self.key_file, "rb") as handle:
                key = from_json(handle.read()).get(self.api, {}).get("key") or ""
        except FileNotFoundError:
            return None
        except ValueError:
            return None  # half-written during a start; the refusal that follows reads it again
        except (OSError, AttributeError) as exc:
            raise ModelFleetError(f"Failed to read TorchServe's key file {self.key_file}: {exc}. Run the task with become.") from exc
        if not isinstance(key, str):
            raise ModelFleetError(f"Failed to read TorchServe's key file {self.key_file}: its {self.api} key is no text. Correct key_file.")
        if key:
            self.module.no_log_values.add(key)
        return key

    # Management API

    def api_description(self, wait_s=0):
        """The OpenAPI description, or None when nothing answers within ``wait_s`` seconds. Needs no key."""
        deadline = time.monotonic() + wait_s
        while True:
            try:
                answer = self.call("OPTIONS", "/", timeout=5)
                if answer.status == 200:
                    return answer.data if isinstance(answer.data, dict) else {}
            except Unreachable:
                pass
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.5)

    def model_names(self):
        names, token = [], None
        for _page in range(_MOST_PAGES):
            answer = self.call("GET", "/models", {"limit": 100, **({"next_page_token": token} if token else {})})
            if answer.status != 200:
                raise ModelFleetError(f"Failed to list the models at {self.base_url}: {answer.message}. Check torchserve.service.")
            with self._understood():
                names += [_of_type(model["modelName"], str) for model in answer.data["models"]]
                token = answer.data.get("nextPageToken")
            if not token:
                return names
        raise self._misunderstood()

    def describe(self, name):
        """Return {version: description} of every registered version; ``is_default`` is added to each."""
        answer = self.call("GET", f"/models/{segment(name)}/all")
        if answer.status == 404:
            return {}
        if answer.status != 200:
            raise ModelFleetError(f"Failed to describe model {name} at {self.base_url}: {answer.message}. Check torchserve.service.")
        default = self.call("GET", f"/models/{segment(name)}")
        with self._understood():
            default_version = default.data[0]["modelVersion"] if default.status == 200 else None
            return {item["modelVersion"]: {**_checked(item), "is_default": item["modelVersion"] == default_version} for item in answer.data}

    @contextmanager
    def _understood(self):
        """Around what looks into an answer: another server may answer as well."""
        try:
            yield
        except (AttributeError, IndexError, KeyError, TypeError) as exc:
            raise self._misunderstood() from exc

    def _misunderstood(self):
        return ModelFleetError(
            f"Failed to read what is served at {self.base_url}: what answers there is not TorchServe. Nothing was changed; correct "
            "base_url."
        )

    def register(self, query, path="/models", timeout=None):
        return self.call("POST", path, query, body=b"", timeout=timeout)

    def scale(self, name, version, workers):
        return self._done(
            self.call(
                "PUT", _version_path(name, version), {"min_worker": workers, "max_worker": workers, "synchronous": "false"}, body=b""
            ),
            f"scale model {name} {version} to {workers} workers",
        )

    def set_default(self, name, version):
        return self._done(
            self.call("PUT", _version_path(name, version) + "/set-default", body=b""),
            f"make {version} the default version of model {name}",
        )

    def unregister(self, name, version):
        answer = self.call("DELETE", _version_path(name, version), timeout=max(self.timeout, WORKER_BOOT_S + 10))
        if answer.status == 404:
            return answer
        return self._done(answer, f"unregister model {name} {version}")

    # Inference API

    def journal(self, name, version):
        """The command that shows what it said of a version."""
        return "journalctl -u torchserve"

    def predict(self, name, version, body, content_type, timeout=None):
        """``version`` may be empty: the default one answers."""
        path = "/predictions/" + segment(name) + ("/" + segment(version) if version else "")
        return self.call("POST", path, body=body, headers={"Content-Type": content_type}, timeout=timeout)

    def _done(self, answer, doing):
        if answer.status >= 300:
            raise ModelFleetError(
                f"Failed to {doing} at {self.base_url}: TorchServe answered {answer.status}: {answer.message.rstrip('.')}. "
                "See journalctl -u torchserve on this host."
            )
        return answer

    def wait_ready(self, name, version, workers, timeout, device="cpu"):
        """Wait until ``workers`` workers are READY on ``device``; raises ModelFleetError after ``timeout`` seconds.

        Neither /ping nor a 200 from a scale request proves it; only the described workers do.
        """
        started = time.monotonic()
        while True:
            description = self.describe(name).get(version)
            states = description["workers"] if description else []
            good = len(ready_workers(states, device))
            if good >= workers and description:
                return
            waited = time.monotonic() - started
            # Workers that are up on the CPU stay there.
            if waited >= (min(timeout, GPU_GRACE_S) if len(ready_workers(states)) >= workers else timeout):
                raise ModelFleetError(
                    f"Model {name} {version} at {self.base_url} has {good} of {workers} workers READY after {int(waited)} s: "
                    f"{_why_not(states, device)}. See journalctl -u torchserve on this host."
                )
            time.sleep(0.5)


def read_models(server):
    """Every registered version of every model, as torchserve_info returns them."""
    return [
        {
            "name": name,
            "version": version,
            "default": item["is_default"],
            "file": os.path.basename(item["modelUrl"]),
            "workers": item["minWorkers"],
            "workers_ready": len(ready_workers(item["workers"])),
            "gpu": len(ready_workers(item["workers"], "gpu")),
        }
        for name in sorted(server.model_names())
        for version, item in sorted(server.describe(name).items())
    ]


def _checked(item):
    """One version of a model as TorchServe describes it. Raises KeyError or TypeError for what is none."""
    for key, kind in _DESCRIPTION.items():
        _of_type(item[key], kind)
    for worker in item["workers"]:
        _of_type(worker, dict)
    return item


def _of_type(value, kind):
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _version_path(name, version):
    return f"/models/{segment(name)}/{segment(version)}"


def ready_workers(workers, device="cpu"):
    """The workers that are READY; with ``device`` "gpu" only those that truly use one."""
    return [worker for worker in workers if worker.get("status") == "READY" and (device != "gpu" or on_gpu(worker))]


def on_gpu(worker):
    """Whether TorchServe gave the worker a GPU that works and the process uses it.

    A handler stays on the CPU without a word when torch has no CUDA, the driver is broken, or it does not care. ``gpu`` is what it was
    given, ``gpuUsage`` that of all programs. One that fell back after it had used the GPU, out of memory for example, cannot be told.
    """
    if not worker.get("gpu") or str(worker.get("gpuUsage", "")).startswith("failed"):
        return False
    pid = worker.get("pid")
    return family_uses_gpu(pid if isinstance(pid, int) else -1)


def family_uses_gpu(pid):
    """Whether a process or one of its descendants uses a GPU, or may: that cannot be seen from everywhere."""
    used = [_uses_gpu(one) for one in _family(pid)]
    return any(seen is not False for seen in used)


def _uses_gpu(pid, proc="/proc"):
    """Whether the process has a CUDA context; None when that cannot be seen from here.

    Who has one maps /dev/nvidia-uvm. Whoever only asked, as torch.cuda.is_available() does, has that and the GPU open as well.
    """
    try:
        with open(f"{proc}/{pid}/maps", "rb") as handle:
            return any(line.rstrip().endswith(b" /dev/nvidia-uvm") for line in handle)
    except OSError:
        return None


def _family(pid):
    """The process and its descendants (torchrun starts the real workers as children)."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as handle:
                    parents.setdefault(int(to_text(handle.read()).rpartition(")")[2].split()[1]), []).append(int(entry))
            except (OSError, IndexError, ValueError):
                continue
    family = [pid]
    for member in family:
        family += parents.get(member, [])
    return family


def _why_not(workers, device):
    fallen = [worker for worker in ready_workers(workers) if device == "gpu" and not on_gpu(worker)]
    if fallen:
        return (
            f"worker {fallen[0].get('pid')} runs on the CPU, not on a gpu; check that its handler uses the gpu_id it is given, and "
            "torch.cuda.is_available() and nvidia-smi on this host"
        )
    return "the workers are " + ", ".join(sorted(str(worker.get("status")) for worker in workers)) if workers else "it has no workers"
