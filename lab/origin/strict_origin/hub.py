# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hugging Face's hub for models, as who downloads them sees it: its API, its files, and the CDN that gives out the big ones.

The listing of a gated repository is for everybody, its contents are not. Somebody without a name learns by 401 of neither a missing nor a
private repository which of them it is, somebody with one by 404. A renamed repository is a redirect of each of its addresses.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
from dataclasses import replace
from datetime import datetime, timezone
from email.utils import formatdate
from urllib.parse import parse_qsl, quote, unquote, urlencode

from .hub_repositories import File, Repositories, Repository, Token
from .messages import Part, Request, Response, StoreError
from .objects import Objects
from .reading import byte_range

CODES = {"RepoNotFound", "RevisionNotFound", "EntryNotFound", "GatedRepo"}
WINDOW = 300  # seconds
LIMITS = {"anonymous": {"api": 500, "resolvers": 3000}, "user": {"api": 1000, "resolvers": 5000}}  # requests in a window
COMMIT = re.compile(r"[0-9a-f]{40}")
PARTS = {"revision", "tree", "refs", "auth-check", "resolve"}  # what may follow the name of a repository
# In base64 of a policy in an address: these characters mean something there.
SAFE64 = str.maketrans("+=/", "-_~")


class Hub:
    """config: {hosts: [the hub's names], cdn: name of its CDN, mirrors: {name of one: {token: its own, which it asks for}},
    users: {name: {orgs: [..], tokens: {the token: {name, expires, revoked, gated}}}}}

    A mirror has what everybody may read, and takes no token but its own. The rest is put by the control API, and these settings:
    ``limits`` (requests in five minutes), ``retry_after`` (whether a 429 says so by that header too), ``lifetime`` of an address at the CDN
    in seconds, ``page`` (entries of a tree in one answer), ``resolve_cache`` (whether small files are elsewhere, as since 2025).
    """

    SETTINGS = {"limits": dict, "retry_after": bool, "lifetime": int, "page": int, "resolve_cache": bool}

    def __init__(self, config: dict, objects: Objects, now=lambda: datetime.now(timezone.utc)):
        self.hosts = {host.lower() for host in config["hosts"]}
        self.cdn = config["cdn"].lower()
        self.mirrors = {name.lower(): mirror for name, mirror in config.get("mirrors", {}).items()}
        self.now = now
        self.repositories = Repositories(objects, now, config.get("users", {}))
        self.limits = LIMITS
        self.retry_after = False
        self.lifetime = 3600
        self.page = 1000
        self.resolve_cache = True
        self._windows: dict[tuple[str, str], tuple[float, int]] = {}
        self._lock = threading.Lock()

    def claims(self, hostname: str) -> bool:
        return hostname in self.hosts or hostname in self.mirrors or hostname == self.cdn

    def control(self, method: str, path: str, body):
        if path != "settings":
            return self.repositories.control(method, path, body)
        given = json.loads(body.read(1 << 16)) if method == "PUT" else {}
        for name, value in given.items():
            if not isinstance(value, self.SETTINGS.get(name, ())):
                raise ValueError(f"{name}: {value!r} is not a setting of the hub")
        for name, value in given.items():
            setattr(self, name, value)
        return {name: getattr(self, name) for name in self.SETTINGS}

    # -- requests ------------------------------------------------------------------------------------------------------

    def authorize(self, request: Request) -> tuple[str, None]:
        """Name what the request is about. Who may have it the hub decides when it knows what that is; refusals are requests, too."""
        if request.hostname == self.cdn:
            self._check_address(request)
            return f"{self.cdn}/{request.path.rpartition('/')[2]}", None
        return request.hostname + unquote(request.path), None

    def handle(self, request: Request, proof: None, no_range: bool = False) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise StoreError(405, "", "Method Not Allowed", {"Allow": "GET, HEAD"})
        if request.hostname == self.cdn:
            return self._from_cdn(request, no_range)
        user, wrong = None, None
        try:
            user, token = self._who(request)
        except StoreError as error:
            wrong = error
        # The limits are in every answer, and every answer counts.
        limits = self._count(request, user)
        try:
            if wrong:
                raise wrong
            response = self._route(request, user, token, no_range)
        except StoreError as error:
            error.headers = {**limits, **error.headers}
            raise
        response.headers.update(limits)
        return response

    def render(self, error: StoreError, request: Request) -> Response:
        if request.hostname == self.cdn:
            body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{error.code}</Code><Message>{error.message}</Message></Error>'
            return Response(error.status, {"Content-Type": "text/xml", **error.headers}, body.encode())
        if error.status < 400:
            return Response(error.status, {"Content-Type": "text/plain; charset=utf-8", **error.headers}, error.message.encode())
        # What was asked for may be in it, and is anything.
        message = re.sub("[^ -~]", "?", error.message)
        headers = {"Content-Type": "application/json; charset=utf-8", "X-Error-Message": message, **error.headers}
        if error.code in CODES:
            headers["X-Error-Code"] = error.code
        return Response(error.status, headers, json.dumps({"error": error.message}).encode())

    def _who(self, request: Request) -> tuple[str | None, Token]:
        """The user that a token belongs to. A wrong one is refused also where none is needed."""
        header = request.headers.get("Authorization")
        mirror = self.mirrors.get(request.hostname)
        given = header[len("Bearer ") :] if header and header.startswith("Bearer ") else header
        if mirror is not None:
            if given != mirror.get("token"):
                raise StoreError(401, "", "This mirror does not know that token" if given else "This mirror asks for a token of its own")
            return None, Token()
        if given is None:
            return None, Token()
        for name, user in list(self.repositories.users.items()):
            token = user.tokens.get(given)
            if token and not token.revoked:
                if token.expires is not None and token.expires <= self.now().timestamp():
                    raise StoreError(401, "", f'User Access Token "{token.name}" is expired')
                return name, token
        raise StoreError(401, "", "Invalid credentials in Authorization header")

    def _count(self, request: Request, user: str | None) -> dict[str, str]:
        """Take one request off what somebody has left; the headers that say what is left."""
        kind = "api" if request.path.startswith("/api/") and not request.path.startswith("/api/resolve-cache/") else "resolvers"
        now, who = self.now().timestamp(), f"{request.hostname} {user or request.client}"
        quota = self.limits["user" if user else "anonymous"][kind]
        with self._lock:
            ends, used = self._windows.get((who, kind), (0, 0))
            if not now < ends <= now + WINDOW:
                ends, used = now + WINDOW, 0
            self._windows[who, kind] = ends, used + 1
        wait = max(1, int(ends - now))
        headers = {"RateLimit": f'"{kind}";r={max(0, quota - used - 1)};t={wait}'}
        headers["RateLimit-Policy"] = f'"fixed window";"{kind}";q={quota};w={WINDOW}'
        if used < quota:
            return headers
        if self.retry_after:
            headers["Retry-After"] = str(wait)
        if user:
            message = f"We had to rate limit you, you hit the quota of {quota} {kind} requests per 5 minutes period."
        else:
            message = f"We had to rate limit your IP ({request.client}). To continue using our service, pass a HF_TOKEN."
        raise StoreError(429, "", message, headers)

    def _route(self, request: Request, user: str | None, token: Token, no_range: bool) -> Response:
        raw = request.path.split("/")[1:]
        parts = [unquote(part) for part in raw]
        if parts == ["api", "whoami-v2"]:
            return self._whoami(user, token)
        if parts[:2] == ["api", "models"]:
            first, last = 2, 3 if parts[3:4] and parts[3] in PARTS else 4
        elif parts[:3] == ["api", "resolve-cache", "models"]:
            first, last = 3, 4 if parts[4:5] and COMMIT.fullmatch(parts[4]) else 5
        elif "resolve" in parts[1:3]:
            first, last = 0, parts.index("resolve", 1)
        else:
            raise StoreError(404, "", "Sorry, we can't find the page you are looking for.")
        one = self._visible("/".join(parts[first:last]), user)
        if one.name != "/".join(parts[first:last]):
            where = "/" + "/".join([*raw[:first], one.name, *raw[last:]]) + (f"?{request.query}" if request.query else "")
            raise StoreError(307, "", f"Temporary Redirect. Redirecting to {where}", {"Location": where})
        rest = parts[last:]
        if first != 2:
            self._check_content(one, user, token)
            cached = first == 3
            revision, path = (rest[:1], rest[1:]) if cached else (rest[1:2], rest[2:])
            return self._file(request, one, *revision, "/".join(path), cached, no_range)
        if rest == ["auth-check"]:
            self._check_content(one, user, token)
            return json_response({"status": "ok"})
        if rest == ["refs"]:
            refs = {"branches": ("heads", one.branches), "tags": ("tags", one.tags)}
            rows = {
                kind: [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": commit} for name, commit in known.items()]
                for kind, (folder, known) in refs.items()
            }
            return json_response({**rows, "converts": []})
        if not rest or (rest[0] == "revision" and len(rest) == 2):
            return self._info(request, one, rest[1] if rest else "main")
        if rest[0] == "tree" and len(rest) > 1:
            return self._tree(request, one, rest[1], "/".join(rest[2:]))
        raise StoreError(404, "", "Sorry, we can't find the page you are looking for.")

    # -- rights --------------------------------------------------------------------------------------------------------

    def _orgs(self, user: str) -> list[str]:
        known = self.repositories.users.get(user)
        return known.orgs if known else []

    def _belongs(self, one: Repository, user: str | None) -> bool:
        owner = one.name.partition("/")[0]
        return user is not None and (user == owner or owner in self._orgs(user))

    def _visible(self, name: str, user: str | None) -> Repository:
        one = self.repositories.find(name)
        if one is not None and (not one.private or self._belongs(one, user)):
            return one
        if user is None:
            asked = {"WWW-Authenticate": 'Bearer realm="Authentication required", charset="UTF-8"'}
            raise StoreError(401, "", "Invalid username or password.", asked)
        raise StoreError(404, "RepoNotFound", "Repository not found")

    def _check_content(self, one: Repository, user: str | None, token: Token) -> None:
        if one.disabled:
            raise StoreError(403, "", "Access to this resource is disabled.")
        if not one.gated or self._belongs(one, user):
            return
        if user is None:
            why = "You must have access to it and be authenticated to access it. Please log in."
            raise StoreError(401, "GatedRepo", f"Access to model {one.name} is restricted. {why}")
        if user not in one.granted:
            why = f"Visit https://huggingface.co/{one.name} to ask for access."
            raise StoreError(403, "GatedRepo", f"Access to model {one.name} is restricted and you are not in the authorized list. {why}")
        if not token.gated:
            where = "in your fine-grained token settings to view this repository."
            raise StoreError(403, "", f"Please enable access to public gated repositories {where}")

    # -- what it answers -----------------------------------------------------------------------------------------------

    def _whoami(self, user: str | None, token: Token) -> Response:
        if user is None:
            raise StoreError(401, "", "Invalid username or password.")
        orgs = [{"type": "org", "id": identity(name), "name": name, "fullname": name} for name in self._orgs(user)]
        auth = {"type": "access_token", "accessToken": {"displayName": token.name, "role": "read"}}
        return json_response({"type": "user", "id": identity(user), "name": user, "fullname": user, "orgs": orgs, "auth": auth})

    @staticmethod
    def _commit(one: Repository, revision: str) -> str:
        commit = one.commit_of(revision)
        if commit is None:
            raise StoreError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def _info(self, request: Request, one: Repository, revision: str) -> Response:
        params = query_of(request)
        if params.get("expand") or params.get("expand[]"):
            raise StoreError(400, "", "This hub does not play expand")
        name = self._commit(one, revision)
        commit = one.commits[name]
        siblings = []
        for path, file in sorted(commit.files.items()):
            sibling = {"rfilename": path}
            if truth(params.get("blobs")):
                sibling |= {"size": file.size, "blobId": file.oid}
                if file.lfs:
                    sibling["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
            siblings.append(sibling)
        created = min(commit.date for commit in list(one.commits.values()))
        return json_response(
            {
                "_id": identity(one.name),
                "id": one.name,
                "modelId": one.name,
                "author": one.name.rpartition("/")[0] or None,
                "private": one.private,
                "gated": one.gated,
                "disabled": one.disabled,
                "sha": name,
                "lastModified": iso(commit.date),
                "createdAt": iso(created),
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": siblings,
                "usedStorage": sum(file.size for file in commit.files.values()),
            }
        )

    def _tree(self, request: Request, one: Repository, revision: str, folder: str) -> Response:
        params = query_of(request)
        if truth(params.get("expand")):
            raise StoreError(400, "", "This hub does not play expand")
        commit = one.commits[self._commit(one, revision)]
        folder = folder.strip("/")
        if folder not in commit.folders:
            raise StoreError(404, "EntryNotFound", f'{folder} does not exist on "{revision}"')
        rows = [
            {"type": "directory", "oid": oid, "size": 0, "path": path} for path, oid in commit.folders.items() if path and path != folder
        ]
        for path, file in commit.files.items():
            row = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
            if file.lfs:
                row["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
                if one.xet:
                    row["xetHash"] = file.xet_hash
            rows.append(row)
        below = f"{folder}/" if folder else ""
        deep = truth(params.get("recursive"))
        rows = [row for row in rows if row["path"].startswith(below) and (deep or "/" not in row["path"][len(below) :])]
        rows.sort(key=lambda row: (row["type"], row["path"]))
        size = min(self.page, int(params["limit"]) if params.get("limit", "").isdecimal() else self.page)
        # The cursor names what the last page ended with.
        try:
            after = json.loads(base64.urlsafe_b64decode(params["cursor"])) if "cursor" in params else None
            rows = [row for row in rows if after is None or [row["type"], row["path"]] > after]
        except (ValueError, TypeError):
            raise StoreError(400, "", "Invalid cursor") from None
        response = json_response(rows[:size])
        if len(rows) > size > 0:
            cursor = base64.urlsafe_b64encode(json.dumps([rows[size - 1]["type"], rows[size - 1]["path"]]).encode()).decode()
            following = urlencode({**params, "limit": size, "cursor": cursor})
            response.headers["Link"] = f'<{scheme(request)}://{request.host}{request.path}?{following}>; rel="next"'
        return response

    def _file(self, request: Request, one: Repository, revision: str, path: str, cached: bool, no_range: bool) -> Response:
        name = self._commit(one, revision)
        headers = {"X-Repo-Commit": name, "Accept-Ranges": "bytes"}
        file = one.commits[name].files.get(path)
        if file is None or (cached and file.lfs):
            raise StoreError(404, "EntryNotFound", "Entry not found", headers)
        if file.lfs:
            where = self._address(request, one, path, file)
            headers |= {"Location": where, "X-Linked-Size": str(file.size), "X-Linked-ETag": f'"{file.sha256}"'}
            if one.xet:
                api = f"{scheme(request)}://{request.host}/api/models/{one.name}/xet-read-token/{name}"
                headers |= {"X-Xet-Hash": file.xet_hash, "Link": f'<{api}>; rel="xet-auth"'}
            headers["Content-Type"] = "text/plain; charset=utf-8"
            return Response(302, headers, f"Found. Redirecting to {where}".encode())
        if self.resolve_cache and not cached:
            query = f"{quote(request.path, safe='')}=&etag={quote(file.etag.join(chr(34) * 2))}"
            where = f"/api/resolve-cache/models/{one.name}/{name}/{quote(path)}?{query}"
            headers |= {"Location": where, "Content-Type": "text/plain; charset=utf-8"}
            return Response(307, headers, f"Temporary Redirect. Redirecting to {where}".encode())
        headers |= {"ETag": f'"{file.etag}"', "Content-Type": "text/plain; charset=utf-8", "Content-Disposition": disposition(path)}
        return self._content(request, f"{request.hostname}{unquote(request.path)}", file, headers, no_range)

    def _content(self, request: Request, name: str, file: File, headers: dict[str, str], no_range: bool) -> Response:
        item = self.repositories.content(file)
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return Response(304, headers)
        item = replace(item, name=name)
        wanted = None if no_range else byte_range(request.headers.get("Range"), item.size)
        if wanted is None or request.headers.get("If-Range", headers["ETag"]) != headers["ETag"]:
            return Response(200, headers, Part(item, 0, item.size))
        start, end = wanted
        if start >= end:
            raise StoreError(416, "InvalidRange", "The requested range is not satisfiable", {"Content-Range": f"bytes */{item.size}"})
        return Response(206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{item.size}"}, Part(item, start, end))

    # -- the CDN -------------------------------------------------------------------------------------------------------

    def _sign(self, policy: str) -> str:
        return hmac.new(self.repositories.key, policy.encode(), hashlib.sha256).hexdigest()

    def _address(self, request: Request, one: Repository, path: str, file: File) -> str:
        """Where the CDN has a file, for as long as the address is good. Whoever has it needs no token."""
        folder = hashlib.sha256(one.name.encode()).hexdigest()
        port = request.host[len(request.hostname) :]
        where = f"{scheme(request)}://{self.cdn}{port}/repos/{folder[:2]}/{folder[2:4]}/{folder}/{file.sha256}"
        expires = int(self.now().timestamp()) + self.lifetime
        statement = {"Resource": f"{where}*", "Condition": {"DateLessThan": {"AWS:EpochTime": expires}}}
        policy = base64.b64encode(json.dumps({"Statement": [statement]}).encode()).decode().translate(SAFE64)
        params = {"response-content-disposition": disposition(path), "Expires": expires, "Policy": policy}
        return f"{where}?{urlencode({**params, 'Signature': self._sign(policy), 'Key-Pair-Id': 'KMODELFLEETLAB'})}"

    def _check_address(self, request: Request) -> None:
        if request.headers.get("Authorization"):
            why = "Only one auth mechanism allowed: the address is signed, and the Authorization header belongs to the hub."
            raise StoreError(400, "InvalidArgument", why)
        params = query_of(request)
        if "Key-Pair-Id" not in params:
            raise StoreError(403, "MissingKey", "Missing Key-Pair-Id query parameter or cookie value")
        policy = params.get("Policy", "")
        if not hmac.compare_digest(self._sign(policy).encode(), params.get("Signature", "").encode()):
            raise StoreError(403, "AccessDenied", "Access denied")
        statement = json.loads(base64.b64decode(policy.translate(str.maketrans("-_~", "+=/"))))["Statement"][0]
        expires = statement["Condition"]["DateLessThan"]["AWS:EpochTime"]
        here = f"{scheme(request)}://{request.host}{request.path}*"
        if here != statement["Resource"] or params.get("Expires") != str(expires) or self.now().timestamp() >= expires:
            raise StoreError(403, "AccessDenied", "Access denied")

    def _from_cdn(self, request: Request, no_range: bool) -> Response:
        sha256 = request.path.rpartition("/")[2]
        item = self.repositories.objects.get(Repositories.BUCKET, sha256)
        if item is None:
            raise StoreError(404, "NoSuchKey", "The specified key does not exist.")
        headers = {
            "ETag": f'"{item.etag}"',
            "Last-Modified": formatdate(item.modified, usegmt=True),
            "Content-Type": "binary/octet-stream",
            "Content-Disposition": query_of(request).get("response-content-disposition", "inline"),
            "Accept-Ranges": "bytes",
        }
        return self._content(request, f"{self.cdn}/{sha256}", File(sha256, item.size, "", True), headers, no_range)


def query_of(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.query, keep_blank_values=True))


def truth(value: str | None) -> bool:
    return (value or "").lower() in ("1", "true")


def scheme(request: Request) -> str:
    return "https" if request.secure else "http"


def disposition(path: str) -> str:
    name = path.rpartition("/")[2]
    return f"inline; filename*=UTF-8''{quote(name)}; filename=\"{quote(name, safe=' ')}\";"


def identity(name: str) -> str:
    """What stands for the id that the hub's own database gives to everything."""
    return hashlib.sha256(name.encode()).hexdigest()[:24]


def iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def json_response(value) -> Response:
    return Response(200, {"Content-Type": "application/json; charset=utf-8"}, json.dumps(value).encode())
