# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Register at a freshly started TorchServe what this host served before, from local disk alone.

Run by torchserve-models.service after every start of torchserve.service. One model that cannot be restored does not keep the others from
serving: each failure is one line in the journal, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import stat
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

# TorchServe gives a worker process a fixed 2 minutes to come up, before startup_timeout begins.
WORKER_BOOT_S = 120
# A worker begins to use its GPU while it loads the model.
GPU_GRACE_S = 15
BLOBS = "/var/lib/modelfleet/blobs"


class Failure(Exception):
    """One sentence for the journal."""


def segment(text):
    # A request that holds "/token" anywhere is taken for the token API.
    quoted = urllib.parse.quote(text, safe="")
    return "%74" + quoted[1:] if quoted.startswith("token") else quoted


class Api:
    def __init__(self, url, key_file):
        self.url = url.rstrip("/")
        self.key_file = key_file
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def key(self):
        try:
            with open(self.key_file, encoding="utf-8") as handle:
                return json.load(handle).get("management", {}).get("key")
        except (OSError, ValueError):
            return None  # token authorization is off, or the file comes in a moment

    def call(self, method, path, query=None, timeout=60):
        """Return (status, parsed body). The keys are new at every start and come a moment after the port: read for each call."""
        for attempt in (1, 2, 3):
            status, data = self._send(method, path, query, timeout)
            if status != 400 or not isinstance(data, dict) or data.get("type") != "InvalidKeyException":
                break
            time.sleep(attempt)
        return status, data

    def _send(self, method, path, query, timeout):
        url = self.url + path + ("?" + urllib.parse.urlencode(query, quote_via=urllib.parse.quote, safe="") if query else "")
        request = urllib.request.Request(url, method=method, data=b"" if method in ("POST", "PUT") else None)
        key = self.key()
        if key:
            request.add_header("Authorization", "Bearer " + key)
        try:
            with self.opener.open(request, timeout=timeout) as response:
                return response.status, parse(response.read())
        except urllib.error.HTTPError as exc:
            return exc.code, parse(exc.read())
        except OSError as exc:
            raise Failure("TorchServe does not answer at {}: {}".format(self.url, getattr(exc, "reason", exc))) from exc

    def wait_up(self, timeout):
        deadline = time.monotonic() + timeout
        while True:
            try:
                if self.call("OPTIONS", "/", timeout=5)[0] == 200:
                    return
            except Failure as exc:
                if time.monotonic() >= deadline:
                    raise Failure(f"{exc} after {timeout} s; see journalctl -u torchserve") from exc
            time.sleep(0.3)

    def versions(self, model):
        status, data = self.call("GET", "/models/{}/all".format(segment(model["name"])))
        return data if status == 200 else []

    def version(self, model):
        found = [item for item in self.versions(model) if item["modelVersion"] == model["version"]]
        return found[0] if found else None


def parse(body):
    text = body.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def said(data):
    return " ".join(str(data.get("message", data) if isinstance(data, dict) else data).split())


def version_path(model):
    return "/models/{}/{}".format(segment(model["name"]), segment(model["version"]))


def verify(path, sha256):
    # What distribute brought, dfdaemon cannot link again: the registration by site would fail.
    try:
        found = digest(path)
    except OSError as exc:
        raise Failure(f"{path}: {exc.strerror}; run the playbook distribute, then site") from exc
    if found != sha256:
        raise Failure(f"{path} has sha256 {found}, expected {sha256}; remove it and run the playbook distribute, then site")


def digest(path):
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def verify_bundle(directory, manifest, sha256):
    """The manifest has the sha256 of the record, and the directory has exactly the files of the manifest."""
    verify(manifest, sha256)
    with open(manifest, encoding="utf-8") as handle:
        files = json.load(handle)["files"]
    problem = tree_problem(files, directory)
    if problem:
        raise Failure(f"{directory} {problem}")


def tree_problem(files, directory):
    """What _bundle_tree.py of the collection says of the same files, which belong to a manifest."""
    found = {
        os.path.relpath(os.path.join(parent, name), directory)
        for parent, directories, names in os.walk(directory)
        for name in names + [one for one in directories if os.path.islink(os.path.join(parent, one))]
    }
    surplus = found - {file["path"] for file in files}
    if surplus:
        return f"has {min(surplus)}, which is not in its manifest; run the playbook distribute"
    for file in files:
        path = os.path.join(directory, file["path"])
        # Its content is that of the blob, of which it is another name.
        anew = f"remove {BLOBS}/{file['sha256']}{'-x' if file['mode'] == '0755' else ''} and run the playbook distribute"
        try:
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                return f"has {file['path']}, which is no file; run the playbook distribute"
            if status.st_size != file["size"]:
                return f"has {file['path']} with {status.st_size} bytes, expected {file['size']}; {anew}"
            sha256 = digest(path)
        except OSError as exc:
            return f"has no {file['path']} that can be read ({exc.strerror}); run the playbook distribute"
        if sha256 != file["sha256"]:
            return f"has {file['path']} with sha256 {sha256}, expected {file['sha256']}; {anew}"
    return None


def restore(api, model, store, manifests, timeout):
    """Register one recorded model as torchserve_model does, and wait for its workers."""
    device = model.get("device", "cpu")
    here = api.version(model)
    if here and not ready(here, device):
        unregister(api, model)
        here = None
    if not here:
        path = os.path.join(store, model["file"])
        if model.get("kind") == "bundle":
            verify_bundle(path, os.path.join(manifests, model["sha256"] + ".json"), model["sha256"])
        else:
            verify(path, model["sha256"])
        register(api, model, timeout)
        here = api.version(model)
    if here and not here["minWorkers"] == here["maxWorkers"] == model["workers"]:
        # The minWorkers and maxWorkers of a model-config.yaml take the place of initial_workers.
        workers = model["workers"]
        require(api.call("PUT", version_path(model), {"min_worker": workers, "max_worker": workers, "synchronous": "false"}), "scale")
    if model.get("default"):
        require(api.call("PUT", version_path(model) + "/set-default"), "become the default version")
    wait_ready(api, model, device, timeout)


def require(answer, doing):
    status, data = answer
    if status >= 300:
        raise Failure(f"it did not {doing}: TorchServe answered {status}: {said(data)}; see journalctl -u torchserve")


def unregister(api, model):
    """TorchServe refuses to unregister the default version while others exist: another one is it until this one is back."""
    status, data = api.call("DELETE", version_path(model), timeout=WORKER_BOOT_S + 10)
    if status == 403:
        others = [item["modelVersion"] for item in api.versions(model) if item["modelVersion"] != model["version"]]
        require(api.call("PUT", version_path({**model, "version": others[0]}) + "/set-default"), "hand over the default")
        status, data = api.call("DELETE", version_path(model), timeout=WORKER_BOOT_S + 10)
    if status != 404:
        require((status, data), "unregister")


def wait_ready(api, model, device, timeout):
    started = time.monotonic()
    while True:
        here = api.version(model)
        count = ready(here, device) if here else 0
        if count >= model["workers"]:
            return
        waited = time.monotonic() - started
        # Workers that are up on the CPU stay there.
        fallen = here is not None and ready(here) >= model["workers"]
        if waited >= (min(timeout, GPU_GRACE_S) if fallen else timeout):
            where = " on a GPU, the others fell back to the CPU," if fallen else ""
            raise Failure(f"{count} of {model['workers']} workers are READY{where} after {int(waited)} s; see journalctl -u torchserve")
        time.sleep(0.3)


def register(api, model, timeout):
    query = {"url": model["file"], "initial_workers": model["workers"], "synchronous": "true", **model.get("params", {})}
    limit = timeout + WORKER_BOOT_S
    status, data = api.call("POST", "/models", query, limit)
    if status >= 500 and api.version(model):
        # A failed registration sometimes leaves the name behind.
        unregister(api, model)
        status, data = api.call("POST", "/models", query, limit)
    if status != 409:
        require((status, data), "register")


def ready(item, device="cpu"):
    """Number of READY workers; with ``device`` "gpu" only of those that truly use one."""
    return sum(worker.get("status") == "READY" and (device != "gpu" or on_gpu(worker)) for worker in item["workers"])


def on_gpu(worker):
    """Whether TorchServe gave the worker a GPU that works and the process uses it: a handler stays on the CPU without a word."""
    if not worker.get("gpu") or str(worker.get("gpuUsage", "")).startswith("failed"):
        return False
    return any(uses_gpu(pid) is not False for pid in family(worker.get("pid", -1)))


def uses_gpu(pid, proc="/proc"):
    """Whether the process has a CUDA context, for which it maps this device; None when that cannot be seen from here."""
    try:
        with open(f"{proc}/{pid}/maps", "rb") as handle:
            return any(line.rstrip().endswith(b" /dev/nvidia-uvm") for line in handle)
    except OSError:
        return None


def family(pid):
    """The process and its descendants (torchrun starts the real workers as children)."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as handle:
                    parents.setdefault(int(handle.read().rpartition(")")[2].split()[1]), []).append(int(entry))
            except (OSError, IndexError, ValueError):
                continue
    members = [pid]
    for member in members:
        members += parents.get(member, [])
    return members


def read_record(path):
    try:
        with open(path, encoding="utf-8") as handle:
            models = json.load(handle)["models"]
        for model in models:
            if not all(isinstance(model[key], str) for key in ("name", "version", "file", "sha256")) or not isinstance(
                model["workers"], int
            ):
                raise TypeError("it says something else than what it must say of a model")
        # Other runtimes restore theirs themselves.
        return [model for model in models if model.get("runtime", "torchserve") == "torchserve"]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise Failure(f"Cannot read the record {path}: {exc}; run the playbook site, which writes it anew") from exc


def complain(text):
    print("<3>" + text, file=sys.stderr, flush=True)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--manifests", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--key-file", required=True)
    parser.add_argument("--timeout", type=int, default=1800, help="seconds, for TorchServe to answer and for each model")
    args = parser.parse_args(argv)
    # torchserve_model works under the same lock.
    lock = os.open(os.path.dirname(args.record), os.O_RDONLY)
    failed = 0
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        models = read_record(args.record)
        api = Api(args.url, args.key_file)
        api.wait_up(args.timeout)
        for model in models:
            title = f"model {model['name']} {model['version']}"
            started = time.monotonic()
            try:
                restore(api, model, args.store, args.manifests, args.timeout)
                print(
                    f"Restored {title} with {model['workers']} workers in {time.monotonic() - started:.1f} s",
                    flush=True,
                )
            except Failure as exc:
                failed += 1
                complain(f"Failed to restore {title}: {exc}.")
    except Failure as exc:
        failed += 1
        complain(f"{exc}.")
    finally:
        os.close(lock)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
