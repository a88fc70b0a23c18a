# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hub has: repositories with their commits, users with their tokens, and the control API that puts them there."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
import threading
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath

from . import git
from .objects import BLOCK, Objects, StoredObject

AUTHOR = "ModelFleet lab <lab@modelfleet.internal>"
# Which files the hub's own .gitattributes give to LFS, beside those that are too big for git.
LFS_SUFFIXES = {".bin", ".ckpt", ".gguf", ".h5", ".model", ".msgpack", ".npz", ".onnx", ".pt", ".pth", ".safetensors", ".zip"}
LFS_SIZE = 10 * 1024 * 1024


@dataclass
class File:
    sha256: str
    size: int
    oid: str  # of its blob in git: the content, or the pointer to it
    lfs: bool

    @property
    def pointer_size(self) -> int:
        return len(git.pointer(self.sha256, self.size))

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    @property
    def xet_hash(self) -> str:
        """Stands for the root of Xet's own hash tree, which only its client could verify."""
        return hashlib.sha256(f"xet {self.sha256}".encode()).hexdigest()


@dataclass
class Commit:
    parent: str | None
    date: int  # seconds since 1970
    message: str
    files: dict[str, File]
    folders: dict[str, str]  # ids of their trees, that of the root under an empty name


@dataclass
class Repository:
    name: str
    private: bool = False
    gated: str | bool = False  # False, "auto" or "manual"
    granted: list[str] = field(default_factory=list)  # users that the gate lets through
    disabled: bool = False
    xet: bool = False  # whether it tells clients where Xet has its big files
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)  # also those that no branch reaches any more

    def commit_of(self, revision: str) -> str | None:
        known = {**self.tags, **self.branches}
        return known.get(revision) or (revision if revision in self.commits else None)


SETTINGS = {"name": str, "private": bool, "gated": (str, bool), "granted": list, "disabled": bool, "xet": bool}


@dataclass
class Token:
    name: str = "lab"
    expires: int | None = None  # seconds since 1970
    revoked: bool = False
    gated: bool = True  # a fine-grained token may be kept from gated repositories


@dataclass
class User:
    orgs: list[str] = field(default_factory=list)
    tokens: dict[str, Token] = field(default_factory=dict)


class Repositories:
    """All of it is in one file, so that a restarted origin has it still. Contents are objects of the bucket "hub", by their sha256."""

    BUCKET = "hub"

    def __init__(self, objects: Objects, now, users: dict):
        self.objects = objects
        self.now = now
        self.lock = threading.Lock()
        self.path = objects.root / "hub-repositories"
        saved = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.key = bytes.fromhex(saved.get("key", secrets.token_hex(32)))  # signs addresses at the CDN
        self.repositories = {name: parse_repository(one) for name, one in saved.get("repositories", {}).items()}
        self.moved: dict[str, str] = saved.get("moved", {})
        # Of those in the configuration only what was put since is kept: another configuration has other users.
        self.put_users = {name: parse_user(one) for name, one in saved.get("users", {}).items()}
        self.users = {**{name: parse_user(one) for name, one in users.items()}, **self.put_users}

    def find(self, name: str) -> Repository | None:
        """By any name that it ever had, in any case."""
        key = name.lower()
        for _ in range(10):
            if key in self.repositories:
                return self.repositories[key]
            if key not in self.moved:
                break
            key = self.moved[key]
        return None

    def content(self, one: File) -> StoredObject | None:
        return self.objects.get(self.BUCKET, one.sha256)

    # -- the control API -----------------------------------------------------------------------------------------------

    def control(self, method: str, path: str, body):
        """Answer a request below /hub; None where there is no such thing."""
        kind, _, name = path.partition("/")
        if (method, path) == ("PUT", "blobs"):
            return self._put_blob(body)
        given = json.loads(body.read(1 << 24) or b"{}") if method == "PUT" else {}
        with self.lock:
            if (method, path) == ("GET", ""):
                return {"repositories": {one.name: describe(one) for one in self.repositories.values()}, "users": sorted(self.users)}
            verbs = {
                ("PUT", "repositories"): self._put_repository,
                ("PUT", "commits"): self._put_commit,
                ("PUT", "refs"): self._put_refs,
                ("PUT", "users"): self._put_user,
                ("DELETE", "repositories"): self._delete_repository,
                ("DELETE", "users"): self._delete_user,
            }
            if not name or (method, kind) not in verbs:
                return None
            answer = verbs[method, kind](name, given)
            self._save()
            return answer

    def _put_blob(self, body) -> dict:
        upload, digest = self.objects.upload(), hashlib.sha256()
        while block := body.read(BLOCK):
            upload.write(block)
            digest.update(block)
        item = self.objects.put(self.BUCKET, digest.hexdigest(), upload)
        return {"sha256": digest.hexdigest(), "size": item.size}

    def _put_repository(self, name: str, given: dict) -> dict:
        for key, value in given.items():
            if key not in SETTINGS or not isinstance(value, SETTINGS[key]):
                raise ValueError(f"{key}: {value!r} is not a setting of a repository")
        if given.get("gated", False) not in (False, "auto", "manual"):
            raise ValueError("gated is false, auto or manual")
        one = self.repositories.get(name.lower()) or Repository(name)
        before, after = name.lower(), given.get("name", one.name).lower()
        if after != before and after in self.repositories:
            raise ValueError(f"there is a repository {self.repositories[after].name} already")
        for key, value in given.items():
            setattr(one, key, value)
        if after != before:
            self.repositories.pop(before, None)
            self.moved[before] = after
        # A repository at a name that led elsewhere takes it back.
        self.moved.pop(after, None)
        self.repositories[after] = one
        return describe(one)

    def _delete_repository(self, name: str, given: dict) -> dict:
        del self.repositories[name.lower()]
        return {"name": name}

    def _put_commit(self, name: str, given: dict) -> dict:
        """files: {path: {"text": ..} or {"sha256": of a blob that was put}, each with "lfs": where that is not to be as the hub decides}"""
        one = self.repositories.get(name.lower()) or Repository(name)
        branch = given.get("branch", "main")
        parent = given["parent"] if "parent" in given else one.branches.get(branch)
        files = dict(one.commits[parent].files) if parent else {}
        for path in given.get("remove", []):
            del files[path]
        for path, what in given.get("files", {}).items():
            files[path] = self._file(path, what)
        folders = git.trees({path: file.oid for path, file in files.items()})
        when, message = int(given.get("date", self.now().timestamp())), given.get("message", "Upload files")
        commit = git.commit_id(folders[""], parent, AUTHOR, when, message)
        one.commits[commit] = Commit(parent, when, message, files, folders)
        one.branches[branch] = commit
        self.repositories[name.lower()] = one
        return {"commit": commit, "tree": folders[""], "files": {path: asdict(file) for path, file in files.items()}}

    def _file(self, path: str, what: dict) -> File:
        if "text" in what:
            upload, content = self.objects.upload(), what["text"].encode()
            upload.write(content)
            sha256 = hashlib.sha256(content).hexdigest()
            item = self.objects.put(self.BUCKET, sha256, upload)
        else:
            sha256 = what["sha256"]
            item = self.objects.get(self.BUCKET, sha256)
            if item is None:
                raise ValueError(f"no blob {sha256} was put")
        if what.get("lfs", item.size > LFS_SIZE or PurePosixPath(path).suffix in LFS_SUFFIXES):
            return File(sha256, item.size, git.object_id("blob", git.pointer(sha256, item.size)), True)
        with item.path.open("rb") as stream:
            return File(sha256, item.size, git.blob_id(iter(lambda: stream.read(BLOCK), b""), item.size), False)

    def _put_refs(self, name: str, given: dict) -> dict:
        """{"branches": {name: commit or null}, "tags": the same, "forget": [commits that the hub no longer has]}"""
        one = self.repositories[name.lower()]
        refs = {kind: {**getattr(one, kind), **given.get(kind, {})} for kind in ("branches", "tags")}
        refs = {kind: {ref: commit for ref, commit in known.items() if commit is not None} for kind, known in refs.items()}
        used = {commit for known in refs.values() for commit in known.values()}
        commits = {commit: what for commit, what in one.commits.items() if commit not in given.get("forget", [])}
        if not used <= set(commits):
            raise ValueError(f"a branch or a tag would be at a commit that {name} does not have: {sorted(used - set(commits))}")
        one.branches, one.tags, one.commits = refs["branches"], refs["tags"], commits
        return describe(one)

    def _put_user(self, name: str, given: dict) -> dict:
        self.users[name] = self.put_users[name] = parse_user(given)
        return {"name": name, "orgs": self.users[name].orgs, "tokens": len(self.users[name].tokens)}

    def _delete_user(self, name: str, given: dict) -> dict:
        del self.users[name]
        self.put_users.pop(name, None)
        return {"name": name}

    def _save(self) -> None:
        state = {
            "key": self.key.hex(),
            "repositories": {key: asdict(one) for key, one in self.repositories.items()},
            "moved": self.moved,
            "users": {name: asdict(user) for name, user in self.put_users.items()},
        }
        with tempfile.NamedTemporaryFile("w", dir=self.path.parent, delete=False) as stream:
            json.dump(state, stream)
        os.replace(stream.name, self.path)


def describe(one: Repository) -> dict:
    facts = {name: getattr(one, name) for name in (*SETTINGS, "branches", "tags")}
    return {**facts, "commits": list(one.commits)}


def parse_repository(saved: dict) -> Repository:
    commits = {
        name: Commit(**{**commit, "files": {path: File(**file) for path, file in commit["files"].items()}})
        for name, commit in saved["commits"].items()
    }
    return Repository(**{**saved, "commits": commits})


def parse_user(given: dict) -> User:
    return User(**{**given, "tokens": {value: Token(**one) for value, one in given.get("tokens", {}).items()}})
