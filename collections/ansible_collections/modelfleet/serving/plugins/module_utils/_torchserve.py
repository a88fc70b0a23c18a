# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Client of TorchServe's management and inference API. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import json
import os
import re
import time
from urllib.error import HTTPError
from urllib.parse import quote, urlencode

from ansible.module_utils.common.text.converters import to_text
from ansible.module_utils.urls import open_url

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

MANAGEMENT_URL = "http://127.0.0.1:8081"
INFERENCE_URL = "http://127.0.0.1:8080"
KEY_FILE = "/var/lib/torchserve/key_file.json"
# TorchServe gives a worker process a fixed 2 minutes to come up, before startup_timeout begins.
WORKER_BOOT_S = 120


class Unreachable(ModelFleetError):
    """Nothing answers at the address."""


class Answer:
    """An HTTP answer: ``status`` and ``body`` (bytes)."""

    def __init__(self, status, body):
        self.status = status
        self.body = body

    @property
    def text(self):
        return to_text(self.body, errors="surrogate_then_replace")

    @property
    def data(self):
        """The parsed JSON body, or None where it is not JSON."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None

    @property
    def message(self):
        """What the server said, in one line."""
        data = self.data
        text = data.get("message") or data.get("status") or self.text if isinstance(data, dict) else self.text
        return " ".join(str(text).split()) or "HTTP {0} without a text".format(self.status)

    @property
    def key_refused(self):
        return self.status == 400 and isinstance(self.data, dict) and self.data.get("type") == "InvalidKeyException"


def segment(text):
    """Quote one path segment.

    A request that holds the text "/token" anywhere is taken for TorchServe's token API, so that a model named "tokenizer"
    would be unreachable: its first letter is percent-encoded.
    """
    quoted = quote(text, safe="")
    return "%74" + quoted[1:] if quoted.startswith("token") else quoted


def model_file(name, version, sha256):
    """Name of a model's file in the model store; two contents never share a name."""
    return "{0}-{1}-{2}.mar".format(name, version, sha256[:12])


class TorchServe:
    """One API of a TorchServe: ``api`` is "management" or "inference" and names the key in ``key_file``."""

    def __init__(self, module, base_url, key_file, api="management", timeout=30):
        self.module = module
        self.base_url = base_url.rstrip("/")
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
        if answer.key_refused:
            time.sleep(1)
            answer = self._send(method, url, body, headers, timeout)
        if answer.key_refused:
            raise ModelFleetError(
                "Failed to call {0} {1}: TorchServe refused the {2} key of {3}. Check that the file belongs to this TorchServe "
                "and has not expired (token_expiration_min); a restart of torchserve.service makes a new one.".format(
                    method, self.base_url + path, self.api, self.key_file
                )
            )
        return answer

    def _send(self, method, url, body, headers, timeout):
        headers = dict(headers or {})
        key = self._key()
        if key:
            headers["Authorization"] = "Bearer " + key
        try:
            response = open_url(
                url,
                method=method,
                data=body,
                headers=headers,
                timeout=timeout or self.timeout,
                use_proxy=False,
                follow_redirects="none",
                http_agent="modelfleet.serving",
            )
            return Answer(response.getcode(), response.read())
        except HTTPError as exc:
            return Answer(exc.code, exc.read())
        except Exception as exc:  # open_url lets URLError, socket timeouts and HTTPException through
            reason = getattr(exc, "reason", None) or exc
            raise Unreachable(
                "Failed to call {0} {1}: {2}. Check that torchserve.service runs on this host (journalctl -u torchserve).".format(
                    method, url.split("?")[0], reason
                )
            ) from exc

    def _key(self):
        """The current key, or None without a key file (token authorization is off)."""
        try:
            with open(self.key_file, "rb") as handle:
                key = json.load(handle).get(self.api, {}).get("key")
        except FileNotFoundError:
            return None
        except ValueError:
            return None  # half-written during a start; the refusal that follows reads it again
        except (OSError, AttributeError) as exc:
            raise ModelFleetError(
                "Failed to read TorchServe's key file {0}: {1}. Run the task with become.".format(self.key_file, exc)
            ) from exc
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
                    return answer.data or {}
            except Unreachable:
                pass
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.5)

    def model_names(self):
        names, token = [], None
        while True:
            answer = self.call("GET", "/models", {"limit": 100, **({"next_page_token": token} if token else {})})
            if answer.status != 200:
                raise ModelFleetError(
                    "Failed to list the models at {0}: {1}. Check torchserve.service.".format(self.base_url, answer.message)
                )
            names += [model["modelName"] for model in answer.data["models"]]
            token = answer.data.get("nextPageToken")
            if not token:
                return names

    def describe(self, name):
        """Return {version: description} of every registered version; ``is_default`` is added to each."""
        answer = self.call("GET", "/models/{0}/all".format(segment(name)))
        if answer.status == 404:
            return {}
        if answer.status != 200:
            raise ModelFleetError(
                "Failed to describe model {0} at {1}: {2}. Check torchserve.service.".format(name, self.base_url, answer.message)
            )
        default = self.call("GET", "/models/{0}".format(segment(name)))
        default_version = default.data[0]["modelVersion"] if default.status == 200 else None
        return {item["modelVersion"]: {**item, "is_default": item["modelVersion"] == default_version} for item in answer.data}

    def register(self, query, path="/models", timeout=None):
        return self.call("POST", path, query, body=b"", timeout=timeout)

    def scale(self, name, version, workers):
        return self._done(
            self.call(
                "PUT", _version_path(name, version), {"min_worker": workers, "max_worker": workers, "synchronous": "false"}, body=b""
            ),
            "scale model {0} {1} to {2} workers".format(name, version, workers),
        )

    def set_default(self, name, version):
        return self._done(
            self.call("PUT", _version_path(name, version) + "/set-default", body=b""),
            "make {1} the default version of model {0}".format(name, version),
        )

    def unregister(self, name, version):
        answer = self.call("DELETE", _version_path(name, version), timeout=max(self.timeout, WORKER_BOOT_S + 10))
        if answer.status == 404:
            return answer
        return self._done(answer, "unregister model {0} {1}".format(name, version))

    def _done(self, answer, doing):
        if answer.status >= 300:
            raise ModelFleetError(
                "Failed to {0} at {1}: TorchServe answered {2}: {3}. See journalctl -u torchserve on this host.".format(
                    doing, self.base_url, answer.status, answer.message.rstrip(".")
                )
            )
        return answer

    def wait_ready(self, name, version, workers, timeout, device="cpu"):
        """Wait until ``workers`` workers are READY on ``device``; returns their number, raises ModelFleetError after ``timeout`` seconds.

        Neither /ping nor a 200 from a scale request proves it; only the described workers do.
        """
        deadline = time.monotonic() + timeout
        while True:
            description = self.describe(name).get(version)
            states = description["workers"] if description else []
            good = ready_workers(states, device)
            if description is not None and len(good) >= workers:
                return len(good)
            if time.monotonic() >= deadline:
                raise ModelFleetError(
                    "Model {0} {1} at {2} has {3} of {4} workers READY after {5} s{6}. See journalctl -u torchserve on this host.".format(
                        name, version, self.base_url, len(good), workers, int(timeout), _why_not(states, device)
                    )
                )
            time.sleep(0.5)


def _version_path(name, version):
    return "/models/{0}/{1}".format(segment(name), segment(version))


def ready_workers(workers, device="cpu"):
    """The workers that are READY; with ``device`` "gpu" only those that truly use one."""
    return [worker for worker in workers if worker.get("status") == "READY" and (device != "gpu" or on_gpu(worker))]


def on_gpu(worker):
    """Whether TorchServe gave the worker a GPU that works and the process has it open.

    A handler falls back to the CPU without a word when torch has no CUDA or the driver is broken.
    """
    if not worker.get("gpu") or str(worker.get("gpuUsage", "")).startswith("failed"):
        return False
    opened = [_holds_gpu(pid) for pid in _family(worker.get("pid", -1))]
    return any(seen is not False for seen in opened)


def _holds_gpu(pid):
    """Whether the process has an NVIDIA device open; None when that cannot be seen from here."""
    directory = "/proc/{0}/fd".format(pid)
    try:
        return any(re.match(r"/dev/nvidia\d", os.readlink(os.path.join(directory, fd))) for fd in os.listdir(directory))
    except OSError:
        return None


def _family(pid):
    """The process and its descendants (torchrun starts the real workers as children)."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open("/proc/{0}/stat".format(entry), "rb") as handle:
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
        return ": worker {0} runs on the CPU although the device is gpu; check that torch has CUDA and that nvidia-smi works here".format(
            fallen[0].get("pid")
        )
    if workers:
        return " (worker states: {0})".format(", ".join(sorted(str(worker.get("status")) for worker in workers)))
    return " (it has no workers)"
