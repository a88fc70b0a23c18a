# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Hugging Face hub with the answers that the real one gives: large files are elsewhere, small ones behind a relative redirect."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = 1000


def git_sha1(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class Repository:
    def __init__(self):
        self.commits = {}
        self.branches = {}
        # None: everybody may have it; otherwise the tokens that may.
        self.granted = None
        self.private = False


class FakeHub:
    """``cdn`` (a FakeDragonfly) has the large files. ``asked`` is what was asked for, as (method, path, token)."""

    def __init__(self, cdn, page=1000):
        self.cdn = cdn
        self.page = page
        self.repositories = {}
        self.tokens = {"alice", "bob"}
        self.asked = []
        # (status, headers) that everything is answered with.
        self.fault = None
        # What the hub has in place of its own content, {path: bytes}.
        self.wrong = {}
        # Whether it gives large files itself.
        self.direct = False
        # Where at the CDN large files are, and whether it says of them only that.
        self.shelf = "cdn"
        self.mute = False
        # Parts of paths: what hangs before it answers, what hangs in the middle, and what is broken off there. With ``goes_on`` set, what
        # would hang is broken off at once.
        self.hangs = self.stops = self.breaks_off = ()
        self.goes_on = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                fake.answer(self)

            do_GET = do_HEAD

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self):
        self.goes_on.set()
        self._server.shutdown()
        self._server.server_close()

    def commit(self, repo, files, branch="main"):
        """Make {path: content} the newest commit of a branch; returns the commit."""
        repository = self.repositories.setdefault(repo, Repository())
        commit = hashlib.sha1(json.dumps([branch, sorted(files), [git_sha1(one) for one in files.values()]]).encode()).hexdigest()
        repository.commits[commit] = files
        repository.branches[branch] = commit
        for content in files.values():
            if len(content) >= LARGE:
                self.cdn.publish(f"cdn/{hashlib.sha256(content).hexdigest()}", content)
        return commit

    def listing(self, repo, commit):
        """The files as a lock has them."""
        return {
            path: {"size": len(content), **({"sha256": digest(content)} if len(content) >= LARGE else {"git_sha1": git_sha1(content)})}
            for path, content in self.repositories[repo].commits[commit].items()
        }

    def answer(self, handler):
        token = (handler.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        path = unquote(urlsplit(handler.path).path)
        self.asked.append((handler.command, path, token))
        if any(part in path for part in self.hangs):
            self.goes_on.wait(60)
            return
        status, headers, content = self._answer(path, token)
        if "resolve" not in path and isinstance(content, list):
            begin = int(urlsplit(handler.path).query.partition("cursor=")[2] or 0)
            if len(content) > begin + self.page:
                headers["Link"] = f'<{self.url}{path}?cursor={begin + self.page}>; rel="next"'
            content = content[begin : begin + self.page]
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            handler.send_header(name, str(value))
        handler.end_headers()
        if handler.command == "GET":
            stops, breaks_off = (any(part in path for part in parts) for parts in (self.stops, self.breaks_off))
            handler.wfile.write(body[: len(body) // 2] if stops or breaks_off else body)
            if stops:
                self.goes_on.wait(60)

    def _answer(self, path, token):
        if self.fault:
            return *self.fault, b""
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self._api("/".join(parts[2:4]), parts[4:], token)
        if parts[:2] == ["api", "resolve-cache"]:
            return self._file("/".join(parts[3:5]), parts[5], "/".join(parts[6:]), token, cached=True)
        return self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]), token)

    def _refusal(self, repo, token, bytes_of):
        if token is not None and token not in self.tokens:
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b""
        repository = self.repositories.get(repo)
        may = repository and (repository.granted is None or token in repository.granted)
        if not repository or (repository.private and not may):
            return 404 if token else 401, {"X-Error-Code": "RepoNotFound"}, b""
        if bytes_of and not may:
            return 403 if token else 401, {"X-Error-Code": "GatedRepo", "X-Error-Message": f"Access to {repo} is restricted"}, b""
        return None

    def _api(self, repo, what, token):
        refusal = self._refusal(repo, token, bytes_of=False)
        if refusal:
            return refusal
        repository = self.repositories[repo]
        commit = repository.branches.get(what[1], what[1])
        if commit not in repository.commits:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if what[0] == "revision":
            return 200, {}, {"id": repo, "sha": commit}
        listed = [{"type": "directory", "path": "onnx", "oid": "0" * 40, "size": 0}]
        for path, content in repository.commits[commit].items():
            entry = {"type": "file", "path": path, "oid": git_sha1(content), "size": len(content)}
            if len(content) >= LARGE:
                entry["lfs"] = {"oid": digest(content), "size": len(content), "pointerSize": 134}
            listed.append(entry)
        return 200, {}, listed

    def _file(self, repo, commit, path, token, cached=False):
        refusal = self._refusal(repo, token, bytes_of=True)
        if refusal:
            return refusal
        files = self.repositories[repo].commits.get(commit)
        if files is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if path not in files:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        content = self.wrong.get(path, files[path])
        headers = {"X-Repo-Commit": commit}
        if len(files[path]) >= LARGE:
            headers = {} if self.mute else {**headers, "X-Linked-Etag": f'"{digest(content)}"', "X-Linked-Size": len(content)}
            if self.direct:
                return 200, headers, content
            return (
                302,
                {**headers, "Location": f"{self.cdn.url}/{self.shelf}/{digest(files[path])}?Expires=2000000000&Signature=opens-it"},
                b"",
            )
        if not cached:
            return 307, {**headers, "Location": f"/api/resolve-cache/models/{repo}/{commit}/{path}?etag=x"}, b""
        return 200, {**headers, "ETag": f'"{git_sha1(files[path])}"'}, content


def digest(content):
    return hashlib.sha256(content).hexdigest()


def inventory(models):
    """(models, pins) of models whose ``huggingface`` has the ``files`` that a lock has of them."""
    entries, pins = [], {}
    for one in models:
        source = dict(one["huggingface"])
        pins[f"{source['repo']}@{source['revision']}"] = {"files": source.pop("files")}
        entries.append({**one, "huggingface": source})
    return entries, pins
