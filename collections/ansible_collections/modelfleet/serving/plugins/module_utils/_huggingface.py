# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of a Hugging Face hub: what a lock says of one, and the hub's API. PRIVATE to the collection: it can have breaking changes.

A lock has ``{"<repo>@<commit>": {"revision": what was asked for, "files": {path: {"size": bytes, "sha256" or "git_sha1": digest}}}}``.
Large files, which the hub keeps beside git, have a sha256. Small ones have what git calls them, which is what the cache of a consumer
calls them.

The hub is asked with an opener of its own: that of Ansible is one for all threads of a process, and follows a redirect with all headers.
"""

from __future__ import annotations

import fnmatch
import hashlib
import http.client
import json
import os
import random
import re
import secrets
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from ansible_collections.modelfleet.serving.plugins.module_utils._bundle import collision, path_problem
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json, outer_problem

OFFICIAL = "https://huggingface.co"
GROUP = "modelfleet-hf"
# The option ``huggingface`` of a module: where models come from, and who asks.
OPTIONS = {
    "endpoint": {"type": "list", "elements": "str", "default": [OFFICIAL]},
    "token": {"type": "str", "no_log": True},
    "token_endpoint": {"type": "list", "elements": "str", "default": [OFFICIAL], "no_log": False},
    "ca_path": {"type": "path"},
}
# The option ``huggingface`` of an entry in a list of models: which commit it is.
COMMIT_OPTIONS = {
    "repo": {"type": "str", "required": True},
    "revision": {"type": "str", "required": True},
    "include": {"type": "list", "elements": "str"},
    "exclude": {"type": "list", "elements": "str"},
    "group": {"type": "str", "default": GROUP},
    "ref": {"type": "str", "default": "main"},
}
MAX_FILES = 100_000
MAX_LARGE = 1 << 50
# What is no large file at the hub has at most this.
MAX_SMALL = 64 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?")
_ACCESS_GROUP = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_MAX_REPO = 96
_TIMEOUT_S = 20
_MOST_HOPS = 5
_MOST_PAGES = 1000
_MAX_ANSWER = 32 << 20
# What gives less than so many bytes in so many seconds hangs, even if a byte comes now and then.
_LEAST_BYTES = 64 << 10
_LEAST_S = 60
# How long an answer or a small file may take.
_MOST_S = 600
# How long a hub that did not answer is passed over, twice as long each time that it does not answer again.
_DOWN_S = 30
_LONGEST_DOWN_S = 900
_FIRST_PAUSE_S = 1
_LONGEST_PAUSE_S = 15
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)


class HubFile(NamedTuple):
    """A file of a repository at one commit; it has either a sha256 or a git_sha1."""

    path: str
    size: int
    sha256: str | None = None
    git_sha1: str | None = None

    @property
    def name(self):
        """What it is called among the blobs of a consumer's cache."""
        return self.sha256 or self.git_sha1


# What an inventory says


def repo_problem(repo):
    """What is wrong with the name of a repository; None for a good one. It becomes a part of paths and of URLs."""
    parts = repo.split("/")
    if len(parts) > 2 or len(repo) > _MAX_REPO or not all(map(_NAME.fullmatch, parts)) or "--" in repo or ".." in repo:
        return "write it as organisation/name, as the page of the model shows it"
    return None


def revision_problem(repo, revision):
    if not _COMMIT.fullmatch(revision):
        return (
            f"the revision {revision!r} of {repo} is no commit of 40 hexadecimal digits, so that it may be another model tomorrow; run "
            "modelfleet.serving.pin, which prints the commit"
        )
    return None


def source_problem(source, pins=None):
    """What is wrong with the entry ``huggingface`` (dict) of a model, and what to do; None for a good one.

    With ``pins``, what a lock has, its files are looked at as well.
    """
    repo, revision = source.get("repo"), source.get("revision")
    if not isinstance(repo, str) or not isinstance(revision, str):
        return "give repo and revision, both as text"
    problem = repo_problem(repo)
    if problem:
        return f"the repo {repo!r} is none; {problem}"
    problem = revision_problem(repo, revision)
    if problem:
        return problem
    group, ref = source.get("group") or GROUP, source.get("ref", "main")
    if not isinstance(group, str) or not _ACCESS_GROUP.fullmatch(group):
        return f"the group {group!r} can be none of this system; use lower-case letters, digits, dashes and underscores"
    if ref and (not isinstance(ref, str) or not _REF.fullmatch(ref) or ".." in ref):
        return f"the ref {ref!r} is no name of a branch without slashes; correct it"
    for key in ("include", "exclude"):
        patterns = source.get(key) or []
        if not isinstance(patterns, list) or not all(isinstance(one, str) and one for one in patterns):
            return f"{key} is no list of patterns; write for example ['*.safetensors', '*.json']"
    if pins is None:
        return None
    try:
        files_of(source, pins)
    except ModelFleetError as exc:
        problem = str(exc).rstrip(".")
        return problem[:1].lower() + problem[1:]
    return None


def check_listed(model, pins):
    """Raise ModelFleetError where the commit of an entry of an option ``models`` is not as it must be; nothing for one without."""
    problem = source_problem(model["huggingface"], pins) if model.get("huggingface") else None
    if problem:
        raise ModelFleetError("Failed to use the huggingface of {name} {version} in models: {0}.".format(problem, **model))


def files_of(source, pins):
    """[HubFile] of an entry ``huggingface`` that is good otherwise. Raises ModelFleetError."""
    repo, commit = source["repo"], source["revision"]
    pin = pins.get(lock_key(repo, commit)) if isinstance(pins, dict) else None
    if not isinstance(pin, dict) or not pin.get("files"):
        raise ModelFleetError(f"The lock has no files of {repo} at {commit}; run modelfleet.serving.pin.")
    return selected(parse_files(repo, pin["files"]), source)


def lock_key(repo, commit):
    return f"{repo}@{commit}"


def parse_files(repo, found):
    """[HubFile] that a lock, or the hub, lists of a repository as {path: {size, sha256 or git_sha1}}, sorted. Raises ModelFleetError."""
    if not isinstance(found, dict) or not 0 < len(found) <= MAX_FILES or not all(isinstance(path, str) for path in found):
        raise ModelFleetError(f"The files of {repo} are not 1 to {MAX_FILES} by their paths. Run modelfleet.serving.pin.")
    files = []
    for path, entry in sorted(found.items()):
        problem = path_problem(path)
        if problem:
            raise ModelFleetError(
                f"The path {path[:300]!a} of a file of {repo} {problem}. Have its owner rename it; nothing of it is used."
            )
        if (
            not isinstance(entry, dict)
            or isinstance(entry.get("size"), bool)
            or not isinstance(entry.get("size"), int)
            or not 0 <= entry["size"] <= MAX_LARGE
        ):
            raise ModelFleetError(f"The file {path!r} of {repo} has no size. Run modelfleet.serving.pin.")
        sha256, git_sha1 = entry.get("sha256"), entry.get("git_sha1")
        if sha256 is not None and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
            raise ModelFleetError(f"The sha256 of the file {path!r} of {repo} is not 64 hexadecimal digits. Run modelfleet.serving.pin.")
        if sha256 is None and not (isinstance(git_sha1, str) and _COMMIT.fullmatch(git_sha1)):
            raise ModelFleetError(f"The file {path!r} of {repo} has neither sha256 nor git_sha1. Run modelfleet.serving.pin.")
        if sha256 is None and entry["size"] > MAX_SMALL:
            raise ModelFleetError(
                f"The file {path!r} of {repo} has {entry['size']} bytes and no sha256, which is too large for a file of git. Exclude it, "
                "or have its owner keep it in LFS."
            )
        files.append(HubFile(path, entry["size"], sha256, None if sha256 else git_sha1))
    both = collision(file.path for file in files)
    if both:
        raise ModelFleetError(f"The paths {both[0]!r} and {both[1]!r} of files of {repo} {both[2]}. Have its owner rename one.")
    return files


def lock_entry(files):
    """{path: {size, sha256 or git_sha1}} of [HubFile], as a lock has it."""
    return {
        file.path: {"size": file.size, **({"sha256": file.sha256} if file.sha256 else {"git_sha1": file.git_sha1})}
        for file in sorted(files)
    }


def selected(files, source):
    """Those of the files that ``include`` names, all without it, and ``exclude`` does not; patterns are those of snapshot_download."""
    found = list(files)
    for pattern in source.get("include") or []:
        if not any(_matches(file.path, pattern) for file in files):
            raise ModelFleetError(f"The include {pattern!r} matches no file of {source['repo']}. Correct it, or leave it out.")
    if source.get("include"):
        found = [file for file in found if any(_matches(file.path, pattern) for pattern in source["include"])]
    found = [file for file in found if not any(_matches(file.path, pattern) for pattern in source.get("exclude") or [])]
    if not found:
        raise ModelFleetError(f"The include and exclude leave no file of {source['repo']}. Correct them.")
    return found


def _matches(path, pattern):
    return fnmatch.fnmatchcase(path, pattern + "*" if pattern.endswith("/") else pattern)


def endpoint_problem(endpoint):
    """What is wrong with the address of a hub, without the address, which may hold a secret; None for a good one."""
    problem = outer_problem(endpoint)
    if problem:
        return problem
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        return "is no http or https address"
    if parts.username is not None or parts.query or parts.fragment:
        return "holds more than scheme, host, port and path"
    return None


def options_problem(options):
    """What is wrong with the option ``huggingface`` of a module, and what to do; None for good ones."""
    for key in ("endpoint", "token_endpoint"):
        for endpoint in options.get(key) or []:
            problem = endpoint_problem(str(endpoint))
            if problem:
                return f"one of {key} {problem}; write it as {OFFICIAL}"
    if not options.get("endpoint"):
        return f"there is no endpoint; give one, such as {OFFICIAL}"
    token = options.get("token")
    if token:
        # It becomes a header.
        problem = outer_problem(token) or (None if token.isascii() and " " not in token else "holds what no token has")
        if problem:
            return f"the token {problem}; give it as the hub shows it"
        if not set(map(_plain, options["endpoint"])) & set(map(_plain, options.get("token_endpoint") or [])):
            return (
                "none of the endpoints may have the token; a mirror is given none unless token_endpoint names it, so name it there, or "
                "leave out the token"
            )
    return None


def _plain(endpoint):
    return endpoint.rstrip("/")


def git_sha1(content):
    """What git calls a file with this content (bytes)."""
    digest = begun_git_sha1(len(content))
    digest.update(content)
    return digest.hexdigest()


def begun_git_sha1(size):
    """The digest of hashlib that has what git puts before a file of so many bytes."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


# The hub


class HubError(ModelFleetError):
    """The hub did not give what was asked for.

    ``refused``: it knows who asks, and that has no right; ``passing``: it may give it later, after ``wait_s`` seconds if it said so;
    ``gone``: it has it no more, or shows it to others only. ``down`` are the endpoints, where none of those that could be asked answers.
    """

    def __init__(self, message, refused=False, passing=False, wait_s=None, gone=False):
        super().__init__(message)
        self.down = ()
        self.refused = refused
        self.passing = passing
        self.gone = gone
        self.wait_s = wait_s


class Answer(NamedTuple):
    url: str
    status: int
    headers: http.client.HTTPMessage
    content: bytes


class Location(NamedTuple):
    """Where a large file is. ``url`` opens it to whoever has it, or is None where only the hub itself gives it to who has the token."""

    url: str | None
    endpoint: str


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Has a redirect come as the answer that it is, wherever it leads."""

    def http_error_302(self, *args):
        return None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class Hub:
    """The endpoints in their order, the first that can is asked. ``options`` are those above, checked.

    The token goes to those that ``token_endpoint`` names. Where any of them is among the endpoints, only these say who may have what: a
    mirror that gives everything to everybody proves nothing.
    """

    def __init__(self, options):
        self.endpoints = list(dict.fromkeys(map(_plain, options["endpoint"])))
        self._trusted = set(map(_plain, options["token_endpoint"] or []))
        self._token = options.get("token")
        # {endpoint: (until when it is passed over, how often in a row it did not answer, why)}
        self._down = {}
        # Since when nobody answered at all.
        self._away_since = None
        # {endpoint: [how often another had to give what it did not, what it said first]}
        self._passed_over = {}
        # How often the endpoints were asked, by all threads.
        self.requests = 0
        self._counting = threading.Lock()
        context = ssl.create_default_context()
        if options.get("ca_path"):
            try:
                context.load_verify_locations(options["ca_path"])
            except (OSError, ssl.SSLError) as exc:
                raise ModelFleetError(
                    f"Failed to read the ca_path {options['ca_path']}: {exc}. Give a file with PEM certificates."
                ) from exc
        self._opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=context))

    @property
    def judges(self):
        """The endpoints that say who may have what."""
        return [endpoint for endpoint in self.endpoints if endpoint in self._trusted] or self.endpoints

    @property
    def is_down(self):
        """Whether no endpoint answered a moment ago."""
        return all(map(self._why_down, self.endpoints))

    @property
    def warnings(self):
        """[sentence] on each endpoint that did not give what it was asked for, so that another one was."""
        with self._counting:
            return [
                f"{_host(endpoint)} was passed over for another endpoint, {'once' if count == 1 else f'{count} times'} in this run: "
                f"{_first_sentence(problem)}. Have it catch up, or take it out of endpoint (modelfleet_huggingface)."
                for endpoint, (count, problem) in self._passed_over.items()
            ]

    def _why_down(self, endpoint):
        """Why an endpoint is passed over at present (str); None if it is not."""
        until, _times, why = self._down.get(endpoint, (0, 0, None))
        return why if until > time.monotonic() else None

    def set_aside(self, endpoint, why):
        """Pass it over for a while. Those who asked it at the same time do so once together."""
        with self._counting:
            if not self._why_down(endpoint):
                times = self._down.get(endpoint, (0, 0, None))[1]
                self._down[endpoint] = time.monotonic() + min(_DOWN_S * 2**times, _LONGEST_DOWN_S), times + 1, why

    def fingerprint(self, salt):
        """What tells this host's token from another, and is none (str)."""
        return hashlib.sha256(f"{salt}\0{self._token or ''}".encode()).hexdigest()[:32]

    def _token_for(self, endpoint):
        return self._token if endpoint in self._trusted else None

    # What is asked

    def commit_of(self, repo, revision):
        """The commit that a branch, a tag or a commit is now."""
        found = self._json(repo, f"/api/models/{repo}/revision/{quote(revision, safe='')}", f"the revision {revision}")
        commit = found.get("sha") if isinstance(found, dict) else None
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise HubError(f"Failed to read the revision {revision} of {repo}: the hub names no commit. Check that the endpoint is a hub.")
        return commit

    def files(self, repo, commit):
        """[HubFile] of a commit."""
        listed = {}
        for entry in self._pages(repo, f"/api/models/{repo}/tree/{commit}?recursive=true&expand=false"):
            if not isinstance(entry, dict) or entry.get("type") != "file":
                continue
            path, large = entry.get("path"), entry.get("lfs")
            if not isinstance(path, str):
                raise HubError(f"Failed to read the tree of {repo}: it has a file without a path. Check that the endpoint is a hub.")
            if isinstance(large, dict):
                listed[path] = {"size": large.get("size", entry.get("size")), "sha256": large.get("oid")}
            else:
                listed[path] = {"size": entry.get("size"), "git_sha1": entry.get("oid")}
        return parse_files(repo, listed)

    def prove(self, repo, commit, file):
        """Fail unless this host may have a file (HubFile) of the repository. Returns the Location of a large one."""
        return self._first(self.judges, lambda endpoint: self._locate(endpoint, repo, commit, file), decisive=True)

    def locate(self, repo, commit, file, without=()):
        """The Location of a large file, at an endpoint that is none of ``without``."""
        endpoints = [endpoint for endpoint in self.endpoints if endpoint not in without]
        return self._first(endpoints, lambda endpoint: self._locate(endpoint, repo, commit, file))

    def small(self, repo, commit, file):
        """The verified content (bytes) of a file that is in git."""
        if not file.size:
            content = b""
            self._verify_small(repo, commit, file, content, "the lock")
            return content

        def get(endpoint):
            answer = self._follow("GET", endpoint, _resolve(repo, commit, file), file.size + 1)
            self._require(endpoint, repo, answer, f"the file {file.path} at {commit}")
            self._verify_small(repo, commit, file, answer.content, endpoint)
            return answer.content

        return self._first(self.endpoints, get)

    def stream(self, location, repo, commit, file, sink):
        """Write a large file that only the hub itself gives to the open file ``sink``."""
        answer = self._follow("GET", location.endpoint, _resolve(repo, commit, file), file.size + 1, sink)
        self._require(location.endpoint, repo, answer, f"the file {file.path} at {commit}")

    def _verify_small(self, repo, commit, file, content, endpoint):
        found = git_sha1(content)
        if found != file.git_sha1:
            raise HubError(
                f"Failed to verify {file.path} of {repo} at {commit}: {_host(endpoint)} gave what git calls {found}, and the lock says "
                f"{file.git_sha1}. Use another endpoint; if the hub itself gives it, run modelfleet.serving.pin again."
            )

    def _locate(self, endpoint, repo, commit, file):
        answer = self._follow("HEAD", endpoint, _resolve(repo, commit, file), 0, elsewhere=False)
        there = answer.status in _REDIRECTS
        if not there:
            self._require(endpoint, repo, answer, f"the file {file.path} at {commit}")
        self._compare(endpoint, repo, commit, file, answer)
        if there:
            return Location(_target(answer), endpoint)
        # Without a token, everybody has it from there.
        return Location(None if self._token_for(endpoint) else answer.url, endpoint)

    @staticmethod
    def _compare(endpoint, repo, commit, file, answer):
        """What the hub says of a file against the lock. It need not say anything: the content is compared in any case."""
        told = answer.headers.get("X-Linked-Etag") or answer.headers.get("ETag") or ""
        told = told.removeprefix("W/").strip('"')
        size = answer.headers.get("X-Linked-Size") or ""
        other_commit = answer.headers.get("X-Repo-Commit") or commit
        digest = _SHA256 if file.sha256 else _COMMIT
        differs = (digest.fullmatch(told) and told != file.name) or (size.isdecimal() and size != str(file.size))
        if other_commit != commit or differs:
            says = f"{_harmless(told) or 'nothing'} with {_harmless(size) or 'no'} bytes at {_harmless(other_commit)}"
            raise HubError(
                f"The lock does not match the hub: of {file.path} in {repo} at {commit}, {_host(endpoint)} says {says}, and the lock "
                f"{file.name} with {file.size}. Run modelfleet.serving.pin again, or find out who changed one of them."
            )

    def _json(self, repo, path, what):
        def get(endpoint):
            answer = self._follow("GET", endpoint, path, _MAX_ANSWER)
            self._require(endpoint, repo, answer, what)
            return _parsed(endpoint, repo, answer)

        return self._first(self.judges, get)

    def _pages(self, repo, path):
        def get(endpoint):
            found, url = [], path
            for _page in range(_MOST_PAGES):
                answer = self._follow("GET", endpoint, url, _MAX_ANSWER)
                self._require(endpoint, repo, answer, "its tree")
                page = _parsed(endpoint, repo, answer)
                if not isinstance(page, list):
                    raise HubError(f"Failed to read the tree of {repo}: {_host(endpoint)} gave no list. Check that it is a hub.")
                found += page
                url = _next_page(answer)
                if not url or len(found) > 2 * MAX_FILES:
                    return found
            return found

        return self._first(self.judges, get)

    # How it is asked

    def _first(self, endpoints, ask, decisive=False):
        """What the first endpoint answers that can; where it is ``decisive``, one that refuses is not passed over."""
        problem, failed = None, {}
        for endpoint in sorted(endpoints, key=lambda one: bool(self._why_down(one))):
            try:
                why = self._why_down(endpoint)
                if why:
                    raise problem or _unreachable(endpoint, f"{why}, a moment ago")
                found = ask(endpoint)
            except HubError as exc:
                if decisive and exc.refused:
                    raise
                failed[endpoint] = exc
                # What the first says counts: a mirror that lacks it says less than the hub that refuses it.
                if problem is None or (problem.passing and (not exc.passing or problem.wait_s is None is not exc.wait_s)):
                    problem = exc
            else:
                for other, exc in failed.items():
                    # That a mirror refuses is no fault of it: it has no token.
                    if not exc.refused:
                        self.note_passed_over(other, str(exc))
                return found
        if all(map(self._why_down, endpoints)):
            problem.down = endpoints
            self._away_since = self._away_since or time.monotonic()
        raise problem

    def note_passed_over(self, endpoint, problem):
        """Another one is asked for what this endpoint did not give (``problem``, str)."""
        with self._counting:
            self._passed_over.setdefault(endpoint, [0, problem])[0] += 1

    def patiently(self, ask, retry_s):
        """Ask again while the failure may pass, as long as the hub says or ever longer, in all ``retry_s`` seconds.

        Where nobody answers, that is the time for all who ask together.
        """
        began, ceiling = time.monotonic(), _FIRST_PAUSE_S
        while True:
            try:
                return ask()
            except HubError as exc:
                pause = random.uniform(ceiling / 2, ceiling) if exc.wait_s is None else exc.wait_s + random.uniform(0, ceiling)
                since = min(began, self._away_since or began) if exc.down else began
                if not exc.passing or time.monotonic() + pause - since > retry_s:
                    raise
                ceiling = min(2 * ceiling, _LONGEST_PAUSE_S)
                time.sleep(pause)
                # Where another endpoint answers, one that does not is not waited for again.
                for endpoint in exc.down:
                    self._down.pop(endpoint, None)

    def _follow(self, method, endpoint, path, most, sink=None, elsewhere=True):
        """The Answer at the end of redirects. Without ``elsewhere`` one to another server is the end.

        The token goes to the endpoint's own server only, whatever that answers.
        """
        url = urljoin(endpoint + "/", path) if path.startswith("http") else endpoint + path
        for _hop in range(_MOST_HOPS + 1):
            own = _server(url) == _server(endpoint)
            answer = self._request(method, endpoint, url, self._token_for(endpoint) if own else None, most, sink)
            target = _target(answer) if answer.status in _REDIRECTS and answer.headers.get("Location") else None
            if not target or (not elsewhere and _server(target) != _server(endpoint)):
                self._down.pop(endpoint, None)
                self._away_since = None
                return answer
            url = target
        raise HubError(f"Failed to ask {_host(endpoint)}: it leads from one address to the next without end. Check the endpoint.")

    def _request(self, method, endpoint, url, token, most, sink):
        own = _server(url) == _server(endpoint)
        if own:
            with self._counting:
                self.requests += 1
        request = urllib.request.Request(url, method=method, headers={"User-Agent": "modelfleet", "Accept-Encoding": "identity"})
        if token:
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        try:
            try:
                with self._opener.open(request, timeout=_TIMEOUT_S) as reply:
                    return Answer(url, reply.status, reply.headers, _read(reply, most, sink))
            except urllib.error.HTTPError as exc:
                with exc:
                    return Answer(url, exc.code, exc.headers, b"")
        except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as exc:
            reason = getattr(exc, "reason", exc)
            hangs = isinstance(reason, socket.timeout)
            why = f"nothing came from it for {_TIMEOUT_S} s" if hangs else _without_addresses(reason)
            if own:
                self.set_aside(endpoint, why)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise HubError(
                    f"Failed to reach {_host(url)}: its certificate is not trusted ({reason.verify_message}). Give its CA as ca_path."
                ) from None
            raise _unreachable(url, why) from None

    def _require(self, endpoint, repo, answer, what):
        """Raise, in one sentence, what an answer means that is not the thing itself."""
        if answer.status == 200:
            return
        host, status, token = _host(endpoint), answer.status, self._token_for(endpoint)
        code, said = answer.headers.get("X-Error-Code") or "", answer.headers.get("X-Error-Message") or ""
        failed = f"Failed to get {what} of {repo} from {host}: "
        page = f"{endpoint}/{repo}"
        if status == 429:
            wait_s = _wait_s(answer.headers)
            after = f" after {wait_s} s" if wait_s is not None else " in 5 minutes"
            own = "" if token else ", or give this host a token, which has a limit of its own"
            raise HubError(
                f"{failed}it takes no more requests from this host for now (429). Run again{after}{own}.", passing=True, wait_s=wait_s
            )
        if code == "GatedRepo":
            remedy = "the account of this host's token has not been granted access" if token else "it is gated, and this host gave no token"
            raise HubError(
                f"{failed}{remedy} ({status}). Request access at {page}, and set the token of an account that has it (token in "
                "modelfleet_huggingface).",
                refused=True,
            )
        if status == 401 and token and code != "RepoNotFound":
            raise HubError(
                f"{failed}it refused the token of this host (401), which is wrong, has expired or was revoked. Make one at the hub, and "
                "set it (token in modelfleet_huggingface).",
                refused=True,
            )
        if code == "RevisionNotFound" or code == "EntryNotFound":
            raise HubError(
                f"{failed}it has no such {'revision' if code == 'RevisionNotFound' else 'file'}. Run modelfleet.serving.pin again.",
                gone=True,
            )
        if code == "RepoNotFound" or status in (401, 404):
            who = "the account of this host's token" if token else "who has no token"
            raise HubError(
                f"{failed}it has no such repository, or none that {who} may see ({status}). Correct the repo, or set the token of an "
                "account that may (token in modelfleet_huggingface).",
                gone=True,
            )
        if status == 403:
            raise HubError(
                f"{failed}it refused this host (403{': ' + _harmless(said) if said else ''}). See {page}, and what the token may.",
                refused=True,
            )
        if status in _PASSING:
            raise HubError(f"{failed}it answered {status}. Look at its state, and run again.", passing=True)
        raise HubError(f"{failed}it answered {status}. Check that the endpoint is a hub.")


class HubStore:
    """The large files of a commit as a store of objects for the Fetcher: a key is a path, and what signs a URL is the hub."""

    name = "huggingface"
    # The hub chooses for how long a URL is good: one that was refused is asked for once more.
    identity = True

    def __init__(self, hub, repo, commit, files, retry_s):
        self._hub = hub
        self._repo = repo
        self._commit = commit
        self._files = {file.path: file for file in files}
        self._retry_s = retry_s
        # Locations that nobody has used yet, the endpoints of those that were used, and the endpoints that are not asked for a file again.
        self._fresh = {}
        self._used = {}
        self._without = {}

    def put(self, path, location):
        self._fresh[path] = location
        self._used[path] = location.endpoint

    def location(self, path):
        """The Location of a file; it stays for the first URL that is wanted."""
        if path not in self._fresh:
            file, without = self._files[path], self._without.get(path, ())
            self._fresh[path] = self._hub.patiently(lambda: self._hub.locate(self._repo, self._commit, file, without), self._retry_s)
            self._used[path] = self._fresh[path].endpoint
        return self._fresh[path]

    def pass_over(self, path, problem):
        """Have the next address of a file be of another endpoint, since what came by the last was wrong or did not come (``problem``, str).

        Returns whether there is another.
        """
        endpoint, without = self._used.pop(path, None), self._without.setdefault(path, set())
        if endpoint is None or without | {endpoint} >= set(self._hub.endpoints):
            return False
        without.add(endpoint)
        self._fresh.pop(path, None)
        self._hub.set_aside(endpoint, "what it gave was wrong, or did not come")
        self._hub.note_passed_over(endpoint, problem)
        return True

    def presign(self, _method, path, _expires_s, now=None):
        location = self.location(path)
        self._fresh.pop(path, None)
        if location.url is None:
            raise HubError(
                f"Failed to get {self.describe(path)}: {_host(location.endpoint)} gives it only to who has the token, which is not handed "
                "on. Run again."
            )
        return location.url

    def signed_s(self, expires_s, now=None):
        return expires_s

    def describe(self, path):
        return f"{path} of {self._repo} at {self._commit[:12]}"


def _resolve(repo, commit, file):
    return f"/{repo}/resolve/{commit}/{quote(file.path)}"


def _server(url):
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _host(url):
    """Host and port of a URL, without what may be a secret."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or "the hub"


def _target(answer):
    return _joined(answer.url, answer.headers.get("Location"))


def _next_page(answer):
    found = re.search(r'<([^<>]+)>\s*;\s*rel="?next"?', answer.headers.get("Link") or "")
    return _joined(answer.url, found[1]) if found else None


def _joined(url, reference):
    try:
        target = urljoin(url, reference)
        # What is no address has no server either.
        _server(target)
    except ValueError:
        raise HubError(f"Failed to ask {_host(url)}: it leads to what is no address. Check that the endpoint is a hub.") from None
    if urlsplit(target).scheme not in ("http", "https"):
        raise HubError(f"Failed to ask {_host(url)}: it leads to what is no http. Check that the endpoint is a hub.")
    return target


def _parsed(endpoint, repo, answer):
    try:
        return from_json(answer.content)
    except ValueError:
        raise HubError(f"Failed to read what {_host(endpoint)} says of {repo}: it is no JSON. Check that the endpoint is a hub.") from None


def _read(reply, most, sink):
    """At most so many bytes of a reply, returned or written to ``sink``. Raises OSError if it does not come to its end."""
    wanted = most if reply.length is None else min(most, reply.length)
    chunks, came, before = [], 0, 0
    began = since = time.monotonic()
    while came < wanted:
        chunk = reply.read1(min(wanted - came, 1 << 20))
        if not chunk:
            break
        came += len(chunk)
        if sink is None:
            chunks.append(chunk)
        else:
            sink.write(chunk)
        now = time.monotonic()
        if came < wanted and sink is None and now - began > _MOST_S:
            raise OSError(f"it gave {came} bytes in {_MOST_S} s")
        if came < wanted and now - since > _LEAST_S:
            if came - before < _LEAST_BYTES:
                raise OSError(f"it gave {came - before} bytes in {_LEAST_S} s")
            before, since = came, now
    if came < wanted and reply.length is not None:
        raise OSError(f"it broke off after {came} of {wanted} bytes")
    return b"".join(chunks)


def _unreachable(url, why):
    return HubError(f"Failed to reach {_host(url)}: {why}. Check network, proxies and the state of the hub.", passing=True)


def _first_sentence(text):
    return text.partition(". ")[0].rstrip(".")


def _without_addresses(reason):
    """What a connection failed of; a URL in it may open a file."""
    return _harmless(re.sub(r"https?://\S+", "a URL", str(reason)))


def _harmless(text):
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200].rstrip(" .")


def _wait_s(headers):
    """For how many seconds the hub takes no more requests, None where it does not say."""
    found = re.fullmatch(r"\s*([0-9]{1,6})\s*", headers.get("Retry-After") or "")
    found = found or re.search(r"[;,]\s*t=([0-9]{1,6})(?![0-9])", headers.get("RateLimit") or "")
    return int(found[1]) if found else None


# What a host proved


class Decisions:
    """Which repositories this host proved its right to, each until when: no token and no answer of the hub. Only root reads the file."""

    def __init__(self, path, access_s, check_mode):
        self.path = path
        self.access_s = access_s
        self.check_mode = check_mode
        self._lock = threading.Lock()
        found = _read_decisions(path)
        self._salt = found["salt"] if found else secrets.token_hex(16)
        self._until = found["until"] if found else {}

    def _name(self, hub, repo, commit):
        return " ".join([repo, commit, hub.fingerprint(" ".join([self._salt, *hub.judges]))])

    def holds(self, hub, repo, commit):
        now = time.time()
        # A clock that was set back does not make it last longer.
        return now < self._until.get(self._name(hub, repo, commit), 0) <= now + self.access_s

    def note(self, hub, repo, commit, granted):
        with self._lock:
            name = self._name(hub, repo, commit)
            before = dict(self._until)
            self._until = {key: until for key, until in self._until.items() if until > time.time() and key != name}
            if granted and self.access_s:
                self._until[name] = int(time.time()) + self.access_s
            if self._until != before and not self.check_mode:
                self._write()

    def _write(self):
        temporary = f"{self.path}.new"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            os.fchmod(handle, 0o600)
            json.dump({"salt": self._salt, "until": self._until}, stream, sort_keys=True)
        os.replace(temporary, self.path)


def _read_decisions(path):
    try:
        with open(path, "rb") as handle:
            found = from_json(handle.read(16 << 20))
    except (OSError, ValueError):
        return None
    good = isinstance(found, dict) and isinstance(found.get("salt"), str) and isinstance(found.get("until"), dict)
    good = good and re.fullmatch(r"[0-9a-f]{32}", found["salt"])
    good = good and all(isinstance(until, int) for until in found["until"].values())
    return found if good else None
