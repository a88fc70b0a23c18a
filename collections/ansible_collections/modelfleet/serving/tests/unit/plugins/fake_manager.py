# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dragonfly's manager 2.5.1 with a MariaDB, as it answered on this collection's questions: its status codes, its texts, its traps."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

JWT_KEY = "Zm9vYmFyYmF6cXV4cXV1eA=="
BOUNDS = {
    ("scheduler_cluster_config", "candidate_parent_limit"): ("CandidateParentLimit", 1, 20),
    ("scheduler_cluster_config", "filter_parent_limit"): ("FilterParentLimit", 10, 1000),
    ("scheduler_cluster_config", "job_rate_limit"): ("JobRateLimit", 1, 1000000),
    ("peer_cluster_config", "load_limit"): ("LoadLimit", 1, 2000),
    ("seed_peer_cluster_config", "load_limit"): ("LoadLimit", 1, 50000),
}
# What it writes into a job that names none.
FILTERED = (
    "X-Amz-Algorithm&X-Amz-Credential&X-Amz-Date&X-Amz-Expires&X-Amz-SignedHeaders&X-Amz-Signature&X-Amz-Security-Token&X-Amz-User-Agent&"
    "X-Goog-Algorithm&X-Goog-Credential&X-Goog-Date&X-Goog-Expires&X-Goog-SignedHeaders&X-Goog-Signature&OSSAccessKeyId&Expires&Signature&"
    "SecurityToken&AccessKeyId&Signature&Expires&X-Obs-Date&X-Obs-Security-Token&q-sign-algorithm&q-ak&q-sign-time&q-key-time&"
    "q-header-list&q-url-param-list&q-signature&x-cos-security-token&ns"
)
NO_BLOCKS = {"task": None, "persistent_task": None, "persistent_cache_task": None}
ZEROS = {
    "scheduler_cluster_config": {"candidate_parent_limit": 0, "filter_parent_limit": 0, "job_rate_limit": 0},
    "peer_cluster_config": {"load_limit": 0, "block_list": NO_BLOCKS},
    "seed_peer_cluster_config": {"load_limit": 0, "block_list": NO_BLOCKS},
}


def now():
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class FakeManager:
    """``remembers``: so many more questions for root's password are answered from the record that has none in it."""

    def __init__(self):
        self.password = "dragonfly"
        self.remembers = 0
        self.forgets_after = 2
        self.tokens = []
        self.schedulers = []
        self.clusters = [
            {
                **{"id": 1, "name": "cluster-1", "bio": "", "is_default": True},
                "scopes": {"idc": "", "location": "", "cidrs": None, "hostnames": None},
                "scheduler_cluster_config": {"candidate_parent_limit": 3, "filter_parent_limit": 15, "job_rate_limit": 10},
                "seed_peer_cluster_config": {"load_limit": 2000, "block_list": NO_BLOCKS},
                "peer_cluster_config": {"load_limit": 200, "block_list": NO_BLOCKS},
            }
        ]
        self.jobs = []
        # What becomes of the next jobs: a result, or an error; after so many looks.
        self.fails = ""
        self.fetches = True
        self.looks = 1
        self.requests = []
        self.next_id = 10
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, data = fake.answer(
                    self.command, self.path, json.loads(body) if body else None, self.headers.get("Authorization", "")
                )
                content = data.encode() if isinstance(data, str) else b"" if data is ... else json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain" if isinstance(data, str) else "application/json; charset=utf-8")
                if status == 301:
                    self.send_header("Location", "/")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = handle_any

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def token(self, scopes=("job", "cluster"), name="modelfleet", **more):
        """Make a token as if it had been there; returns its text."""
        self.next_id += 1
        entry = {"id": self.next_id, "name": name, "token": f"TOKEN{self.next_id}", "scopes": list(scopes), "state": "active"}
        self.tokens.append({**entry, "bio": "", "expired_at": "2099-01-01T00:00:00Z", "user_id": 1, **more})
        return entry["token"]

    def answer(self, method, target, body, authorization):
        split = urlsplit(target)
        query, path = dict(parse_qsl(split.query)), split.path
        self.requests.append((method, path, body))
        if path.startswith("/oapi/v1/"):
            return self.for_token(method, path, query, body, authorization)
        if path == "/api/v1/users/signin" and method == "POST":
            return self.sign_in(body)
        if path == "/api/v1/users/1/reset_password" and method == "POST":
            return self.reset(body)
        if path.startswith("/api/v1/"):
            if not self.is_session(authorization):
                return 401, {"message": "Unauthorized"}
            answer = self.for_session(method, path, body)
            # It notes who that was, by a record of him that it keeps.
            self.remembers = self.forgets_after
            return answer
        return 301, '<a href="/">Moved Permanently</a>.\n\n'

    # Users

    def sign_in(self, body):
        right = not self.remembers and body["password"] == self.password
        self.remembers = self.forgets_after
        return (200, {"token": "signed", "expire": "2099-01-01T00:00:00Z"}) if right else (401, {"message": "Unauthorized"})

    def reset(self, body):
        for key, name in (("old_password", "OldPassword"), ("new_password", "NewPassword")):
            if not 8 <= len(body[key]) <= 20:
                tag = "min" if len(body[key]) < 8 else "max"
                return 422, {"errors": f"Key: 'ResetPasswordRequest.{name}' Error:Field validation for '{name}' failed on the '{tag}' tag"}
        if self.remembers:
            self.remembers -= 1
            return 500, {"message": "crypto/bcrypt: hashedSecret too short to be a bcrypted password"}
        if body["old_password"] != self.password:
            return 401, {"message": "Unauthorized"}
        self.password = body["new_password"]
        return 200, ...

    @staticmethod
    def is_session(authorization):
        try:
            head, claims, signature = authorization.removeprefix("Bearer ").split(".")
            expected = hmac.new(JWT_KEY.encode(), f"{head}.{claims}".encode(), hashlib.sha256).digest()
            said = json.loads(base64.urlsafe_b64decode(claims + "=="))
        except ValueError:
            return False
        right = hmac.compare_digest(base64.urlsafe_b64decode(signature + "=="), expected)
        return right and said["id"] == 1 and said["exp"] > time.time() and said["orig_iat"] <= time.time()

    def for_session(self, method, path, body):
        kind, number = re.fullmatch(r"/api/v1/([a-z-]+)(?:/(\d+))?", path).groups()
        kept = {"personal-access-tokens": self.tokens, "schedulers": self.schedulers}[kind]
        if number is None and method == "GET":
            return 200, kept
        if number is None:
            if any(one["name"] == body["name"] for one in kept):
                return 409, {"message": "Conflict"}
            self.token(**{key: value for key, value in body.items() if key != "state"})
            return 200, kept[-1]
        found = next((one for one in kept if one["id"] == int(number)), None)
        if found is None:
            return 404, {"message": "record not found"}
        if method == "DELETE":
            kept.remove(found)
            return 200, ...
        found.update(body)
        return 200, found

    # What is open to a token

    def for_token(self, method, path, query, body, authorization):
        token = next((one for one in self.tokens if authorization == f"Bearer {one['token']}"), None)
        if token is None:
            return 401, {"message": "Unauthorized"}
        if token["state"] != "active":
            return 403, {"message": "Token is inactive"}
        kind, number = re.fullmatch(r"/oapi/v1/([a-z]+)(?:/(\d+))?", path).groups()
        scope = {"clusters": "cluster", "jobs": "job"}[kind]
        if scope not in token["scopes"]:
            return 403, {"message": f"Token doesn't have permission to access this resource. Required permission: {scope}"}
        return getattr(self, f"on_{kind}")(method, int(number) if number else None, query, body)

    def on_clusters(self, method, number, query, body):
        if number is None and method == "GET":
            # gorm's empty slice.
            return 200, [one for one in self.clusters if query.get("name") in (None, one["name"])] or None
        for (block, key), (name, low, high) in BOUNDS.items():
            value = ((body or {}).get(block) or {}).get(key)
            if value and not low <= value <= high:
                tag = "gte" if value < low else "lte"
                return 422, {
                    "errors": f"Key: 'UpdateClusterRequest.X.{name}' Error:Field validation for '{name}' failed on the '{tag}' tag"
                }
        if number is None:
            if any(one["name"] == body["name"] for one in self.clusters):
                return 409, {"message": "Conflict"}
            self.next_id += 1
            self.clusters.append({"id": self.next_id, "bio": "", "is_default": False, "scopes": {}})
            return 200, self.write(self.clusters[-1], body)
        found = next((one for one in self.clusters if one["id"] == number), None)
        if found is None:
            return 404, {"message": "record not found"}
        if method == "GET":
            return 200, found
        if method == "DELETE":
            if any(one["scheduler_cluster_id"] == number for one in self.schedulers):
                return 500, {"message": "scheduler cluster exists scheduler"}
            self.clusters.remove(found)
            return 200, ...
        return 200, self.write(found, body)

    @staticmethod
    def write(cluster, body):
        """A limit that a block leaves out is 0, a block that is left out stays, and so does a text that is empty."""
        for block, zeros in ZEROS.items():
            if body.get(block) is not None:
                cluster[block] = {**zeros, **body[block]}
        if body.get("scopes") is not None:
            cluster["scopes"] = {"idc": "", "location": "", "cidrs": None, "hostnames": None, **body["scopes"]}
        cluster["name"] = body.get("name") or cluster["name"]
        cluster["bio"] = body.get("bio") or cluster["bio"]
        cluster["is_default"] = body.get("is_default", False)
        return {**cluster, "scopes": body.get("scopes")}

    def on_jobs(self, method, number, query, body):
        if number is not None:
            found = next((one for one in self.jobs if one["id"] == number), None)
            if found is None:
                return 404, {"message": "record not found"}
            found["looks"] -= 1
            if found["state"] == "PENDING" and found["looks"] <= 0:
                self.end(found)
            return 200, found
        if method == "GET":
            return 200, [{**one, "scheduler_clusters": None} for one in reversed(self.jobs)]
        if not {one["id"] for one in self.clusters} >= set(body["scheduler_cluster_ids"]):
            return 429, "rate limit exceeded"
        length = body["args"].get("piece_length")
        if length is not None and not 4194304 <= length <= 67108864:
            name = "PieceLength"
            return 422, {
                "errors": f"Key: 'CreatePreheatJobRequest.Args.{name}' Error:Field validation for '{name}' failed on the 'gte' tag"
            }
        if not any(one["state"] == "active" for one in self.schedulers):
            return 500, {"message": "candidate schedulers not found"}
        self.next_id += 1
        empty = {"application": "", "filtered_query_params": FILTERED, "headers": None, "ips": None, "piece_length": None}
        args = {**empty, "scope": "single_seed_peer", "tag": "", "url": "", **body["args"]}
        clusters = [{"id": one} for one in body["scheduler_cluster_ids"]]
        self.jobs.append(
            {"id": self.next_id, "type": body["type"], "state": "PENDING", "args": args, "result": None, "scheduler_clusters": clusters}
            | {"looks": self.looks, "updated_at": now()}
        )
        return 200, self.jobs[-1]

    def end(self, job):
        """A job for a single seed peer is always a success."""
        single = job["args"]["scope"] == "single_seed_peer"
        fetched = [{"hostname": "seed", "ip": "10.0.0.2", "url": url} for url in job["args"]["urls"]] if self.fetches else None
        job["state"] = "SUCCESS" if single or not self.fails else "FAILURE"
        results = [{"failure_tasks": None, "scheduler_cluster_id": 1, "success_tasks": fetched}] if job["state"] == "SUCCESS" else None
        error = "" if job["state"] == "SUCCESS" else self.fails
        job["result"] = {
            "job_states": [{"error": error, "results": results, "state": job["state"], "task_name": "preheat"}],
            "state": job["state"],
        }
        job["updated_at"] = now()
