# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have the TorchServe of this pod serve a list of models, by its endpoint plugin, for as long as the pod runs.

It is beside TorchServe in each pod, so that a pod that comes to another node serves without anybody's help. The list is read again in every
round. The pod is ready when all of the list is served. A version that serves other content is never replaced.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

ROUND_S = 10
WORKER_BOOT_S = 120


class Failure(Exception):
    """One sentence for the log."""


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
        """(status, parsed body)."""
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

    def versions(self, name):
        status, data = self.call("GET", f"/models/{segment(name)}/all")
        return {item["modelVersion"]: item for item in data} if status == 200 else {}

    def default(self, name):
        status, data = self.call("GET", f"/models/{segment(name)}")
        return data[0]["modelVersion"] if status == 200 else None


def parse(body):
    text = body.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def said(data):
    return " ".join(str(data.get("message", data) if isinstance(data, dict) else data).split())


def require(answer, doing):
    status, data = answer
    if status >= 300:
        raise Failure(f"it did not {doing}: TorchServe answered {status}: {said(data)}")


def ready(item):
    return sum(worker.get("status") == "READY" for worker in item["workers"])


def settle(api, model, timeout):
    """Bring one entry of the list about; raises Failure where it is not, which the next round tries again."""
    path = f"/models/{segment(model['name'])}/{segment(model['version'])}"
    here = api.versions(model["name"]).get(model["version"])
    if model["state"] == "absent":
        if here:
            require(api.call("DELETE", path, timeout=WORKER_BOOT_S + 10), "unregister")
        return
    if here and os.path.basename(here["modelUrl"]) != model["file"]:
        raise Failure(f"{os.path.basename(here['modelUrl'])} is served under its name, which stays; publish it as another version")
    if not here:
        status, data = api.call("POST", "/dragonfly/models", model["query"], timeout + WORKER_BOOT_S)
        if status != 409:
            require((status, data), "register")
        here = api.versions(model["name"]).get(model["version"])
    if here and not here["minWorkers"] == here["maxWorkers"] == model["workers"]:
        workers = {"min_worker": model["workers"], "max_worker": model["workers"], "synchronous": "false"}
        require(api.call("PUT", path, workers), "scale")
    if model["default"] and api.default(model["name"]) != model["version"]:
        require(api.call("PUT", path + "/set-default"), "become the default version")
    count = ready(api.versions(model["name"]).get(model["version"], {"workers": []}))
    if count < model["workers"]:
        raise Failure(f"{count} of {model['workers']} workers are READY")


def one_round(api, path, timeout, told):
    """Whether all of the list is served; says what is new of what is not."""
    with open(path, encoding="utf-8") as handle:
        models = json.load(handle)["models"]
    problems = {}
    # What goes makes room for what comes.
    for model in sorted(models, key=lambda one: one["state"] != "absent"):
        title = f"model {model['name']} {model['version']}"
        try:
            settle(api, model, timeout)
        except Failure as exc:
            problems[title] = str(exc)
    for title, problem in problems.items():
        if told.get(title) != problem:
            print(f"Not served yet: {title}: {problem}.", file=sys.stderr, flush=True)
    for title in set(told) - set(problems):
        print(f"As listed now: {title}.", flush=True)
    told.clear()
    told.update(problems)
    return not problems


def mark(path, holds):
    if holds:
        with open(path, "w", encoding="utf-8"):
            pass
    elif os.path.exists(path):
        os.unlink(path)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--key-file", required=True)
    parser.add_argument("--ready", required=True)
    parser.add_argument("--timeout", type=int, default=1800, help="seconds, for the registration of one model")
    parser.add_argument("--rounds", type=int, default=0, help="end after so many, with 0 when all is served; for tests")
    args = parser.parse_args(argv)
    api, told, number = Api(args.url, args.key_file), {}, 0
    while True:
        number += 1
        try:
            holds = one_round(api, args.models, args.timeout, told)
        except (Failure, OSError, ValueError, KeyError, TypeError) as exc:
            print(f"Cannot read the list {args.models} or ask TorchServe: {exc}.", file=sys.stderr, flush=True)
            holds = False
        mark(args.ready, holds)
        if args.rounds and number >= args.rounds:
            return 0 if holds else 1
        time.sleep(ROUND_S)


if __name__ == "__main__":
    sys.exit(main())
