# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An artifact that is a commit of a Hugging Face repository. PRIVATE to the collection: it can have breaking changes at any time.

It lies as huggingface_hub has it in its cache, ``<home>/<group>/hub/models--<org>--<name>/{blobs,snapshots/<commit>,refs}``, in a
directory that only the access group may enter. A large file is a hard link of the blob of this host, a small one is only here.
"""

from __future__ import annotations

import fcntl
import grp
import hashlib
import json
import os
import stat
import threading
from contextlib import contextmanager

from ansible_collections.modelfleet.serving.plugins.module_utils._artifact import (
    Artifact,
    is_kept,
    keep,
    listdir,
    lstat,
    remove,
    writing,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_bundle import is_directory, is_own_directory, remove_tree
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import digest_of
from ansible_collections.modelfleet.serving.plugins.module_utils._huggingface import (
    GROUP,
    HubError,
    HubStore,
    files_of,
    git_sha1,
    lock_entry,
    source_problem,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._huggingface_pack import Pack

HOME_MODE = 0o750
# Artifacts come side by side, and have directories in common.
_ALONE = threading.Lock()
# ioctl of Linux: another name for what is on the disk, where the filesystem can.
_FICLONE = 0x40049409
# What the hub shows of a gated repository to everybody.
_PUBLIC = ("README.md", ".gitattributes", "LICENSE")


class HuggingFaceArtifact(Artifact):
    """A snapshot in the cache of an access group. ``hub`` is the Hub, ``decisions`` the Decisions of this host."""

    kind = "huggingface"
    key_problem = staticmethod(source_problem)

    def __init__(self, entry, params, blobs, hub, decisions):
        super().__init__(entry, params, blobs)
        self.hub = hub
        self.decisions = decisions
        self.repo, self.commit = self.key["repo"], self.key["revision"]
        self.ref = self.key["ref"]
        self.files = files_of(self.key, params["huggingface_pins"])
        self.place = Place(params, self.key)
        self.path = self.place.snapshot
        listing = json.dumps([self.repo, self.commit, lock_entry(self.files)], sort_keys=True)
        self.sha256 = hashlib.sha256(listing.encode()).hexdigest()
        self._large = {file.sha256: file for file in self.files if file.sha256}
        self._small = {file.git_sha1: file for file in self.files if file.git_sha1}
        self.objects = set(self._large)
        self._store = HubStore(hub, self.repo, self.commit, self.files, params["retry_s"])
        # Names of blobs that stay where a commit comes to this repository.
        self.wanted = set()
        self._withdrawn = False
        # What the hub said of the right to it in this call: None, True, or a HubError.
        self._answer = None
        self._patience_s = params["retry_s"]

    # What is

    @property
    def size(self):
        return sum(file.size for file in self.files)

    @property
    def links(self):
        """Those of the largest file."""
        return os.lstat(self.place.blob(max(self.files, key=lambda file: file.size).name)).st_nlink

    def digests(self):
        return set() if self._withdrawn else set(self._large)

    def lacking(self):
        return sum(file.size for file in self._lacking())

    def _lacking(self):
        """The large files that are nowhere on this host yet where it can be seen without reading them."""
        return [file for file in self._large.values() if not self.blobs.status(file.sha256) and not self._kept(file)]

    def lacking_small(self):
        """[git_sha1] of the small files for which the hub must be asked; none where this host cannot prove its right."""
        try:
            self.place.check(self.params["blob_store"])
            with writing(self.title, self.place.home):
                lacking = sorted(name for name, file in self._small.items() if file.size and not self._lies_in_a_cache(file))
            if lacking:
                self.hub.patiently(self._prove, self._patience_s)
            return lacking
        except ModelFleetError:
            # Whoever looks whether it is complete, or fetches it, says so, without waiting as long again.
            self._patience_s = 0
            return []

    def _lies_in_a_cache(self, file):
        for path in self._in_caches(file):
            with _opened(path, file) as handle:
                if handle and _digest(handle, file) == file.name:
                    return True
        return False

    def _in_caches(self, file):
        """Where a file may lie already: in this cache, and in those of users."""
        return [os.path.join(cache, self.place.name, "blobs", file.name) for cache in (self.place.cache, *self.params["huggingface_adopt"])]

    def _kept(self, file):
        """The os.stat_result of a blob in the cache that nobody else can have changed; None without one."""
        found = lstat(self.place.blob(file.name))
        return found if found and is_kept(found, "0644") and found.st_size == file.size else None

    def is_complete(self):
        """Whether all is here, and this host has the right to it. Raises HubError where it has not, or what is to come cannot come."""
        self.place.check(self.params["blob_store"])
        with writing(self.title, self.place.home):
            whole = self._is_whole()
        try:
            self._prove()
        except HubError as exc:
            # What is here is served on while the hub is away, and when it has it no more.
            if not exc.passing and not (whole and exc.gone):
                raise
            if whole:
                self.warning = f"The {self.title} stays on this host, which could not prove its right to it. {exc}"
        return whole

    def _is_whole(self):
        if not self.place.is_ready() or not is_own_directory(self.path) or any(map(lstat, self.place.misleading())):
            return False
        texts = {self.place.environment: self.place.variables()}
        if self.ref:
            texts[self.place.ref_path(self.ref)] = self.commit
        for path, text in texts.items():
            found = lstat(path)
            if not found or not is_kept(found, "0644") or read(path) != text:
                return False
        wanted = {file.path: file for file in self.files}
        if set(self.place.names()) != set(wanted) or not all(self._is_link(file) for file in self.files):
            return False
        return all(self._is_blob(file) for file in self.files)

    def _is_link(self, file):
        path = os.path.join(self.path, file.path)
        found = lstat(path)
        return bool(found and stat.S_ISLNK(found.st_mode) and os.readlink(path) == self.place.target(file))

    def _is_blob(self, file):
        found = self._kept(file)
        if not found:
            return False
        if file.sha256:
            blob = self.blobs.status(file.sha256)
            return bool(blob and os.path.samestat(blob, found))
        with open(self.place.blob(file.name), "rb") as handle:
            return git_sha1(handle.read()) == file.git_sha1

    # Who may have it

    def _prove(self):
        """Fail unless this host may have it: the hub says so, or said so a while ago."""
        if isinstance(self._answer, HubError):
            raise self._answer
        if self._answer or self.decisions.holds(self.hub, self.repo, self.commit):
            return
        file = min(self.files, key=lambda one: (one.sha256 is None, one.path in _PUBLIC, -one.size))
        try:
            location = self.hub.prove(self.repo, self.commit, file)
        except HubError as exc:
            if not exc.passing:
                self._note(False)
                self._answer = exc
            raise
        self._note(True)
        self._answer = True
        if file.sha256 and location.endpoint == self.hub.endpoints[0] and not self.blobs.status(file.sha256):
            self._store.put(file.path, location)

    def _note(self, granted):
        with writing("what this host may have", os.path.dirname(self.decisions.path)):
            self.decisions.note(self.hub, self.repo, self.commit, granted)

    def withdraw(self):
        """Take it from this host's users, where the hub has said that they have no right to it. Returns whether it was there."""
        self._withdrawn = True
        with writing(f"the removal of {self.title}", self.place.folder):
            return self.place.remove_snapshot(self.blobs)

    # What comes

    def fetch(self, fetcher):
        # What the first look could not find out, for the hub was away.
        self.hub.patiently(self._prove, self._patience_s)
        self.place.prepare(self.title)
        fetcher.drop_damaged(self.title, [(sha256, "0644") for sha256 in self._large])
        with writing(self.title, self.blobs.directory):
            self._take_what_is_here()
        through, direct = [], []
        for file in self._large.values():
            if self.blobs.status(file.sha256):
                continue
            if self.blobs.other(file.sha256, "0644"):
                with writing(self.title, self.blobs.directory):
                    self.blobs.copy(file.sha256, "0644")
            else:
                (through if self._store.location(file.path).url else direct).append(file)
        self.wait(fetcher.at(self._store), [(file.path, file.sha256, "0644", file.size) for file in through])
        for file in direct:
            self._stream(file)
        with Pack(self.params["huggingface_small_path"]) as pack:
            for file in self._small.values():
                self._bring_small(file, pack)

    def _take_what_is_here(self):
        """Adopt what lies in the cache already, or in one of those that users have, if it has the content."""
        for file in self.files:
            if self.blobs.status(file.sha256) if file.sha256 else self._is_blob(file):
                continue
            for path in self._in_caches(file):
                if self._adopt(path, file):
                    break

    def _adopt(self, path, file):
        """Make a file of a cache this host's own if it has the content; returns whether it has.

        Where only root can ever have written it, it gets another name. Anybody else may have it open, so that is copied.
        """
        temporary = self.blobs.temporary()
        with _opened(path, file) as handle:
            if not handle:
                return False
            found = os.fstat(handle.fileno())
            only_roots = found.st_uid == os.geteuid() and not found.st_mode & 0o022
            try:
                if only_roots and self._link(handle, path, temporary):
                    return self._keep(handle, _digest(handle, file), temporary, file)
                with open(temporary, "x+b") as sink:
                    return self._keep(sink, _copy(handle, sink, file), temporary, file)
            finally:
                remove(temporary)

    def _keep(self, handle, digest, temporary, file):
        """Have the open file ``temporary`` where it belongs if it has the content; returns whether it has."""
        if digest != file.name:
            return False
        keep(handle.fileno(), "0644")
        os.rename(temporary, self.blobs.path(file.sha256) if file.sha256 else self.place.blob(file.name))
        return True

    @staticmethod
    def _link(handle, path, temporary):
        """Give an open file another name; returns whether that could be done."""
        try:
            os.link(path, temporary, follow_symlinks=False)
        except OSError:
            return False
        if os.path.samestat(os.lstat(temporary), os.fstat(handle.fileno())):
            return True
        remove(temporary)
        return False

    def _stream(self, file):
        """Bring a large file that the hub gives only to who has the token, so that it cannot come through dfdaemon."""
        temporary = self.blobs.temporary()

        def bring():
            with open(temporary, "w+b") as sink:
                self.hub.stream(self._store.location(file.path), self.repo, self.commit, file, sink)
                sink.flush()
                sink.seek(0)
                found = digest_of(sink)
                if found != file.sha256:
                    raise ModelFleetError(
                        f"Failed to verify {self._store.describe(file.path)}: it has the sha256 {found}, and the lock says {file.sha256}. "
                        "Use another endpoint, or run modelfleet.serving.pin again."
                    )
                keep(sink.fileno(), "0644")

        with writing(self.title, self.blobs.directory):
            try:
                self._from_each_endpoint(file, lambda: self.hub.patiently(bring, self.params["retry_s"]))
                os.rename(temporary, self.blobs.path(file.sha256))
            finally:
                remove(temporary)

    def _from_each_endpoint(self, file, bring):
        first = None
        while True:
            try:
                return bring()
            except ModelFleetError as exc:
                first = first or exc
                if not self._store.pass_over(file.path, str(exc)):
                    raise first from None

    def _bring_small(self, file, pack):
        with writing(self.title, self.place.folder):
            if self._is_blob(file):
                return
            content = pack.read(file)
            if content is None:
                content = self.hub.patiently(lambda: self.hub.small(self.repo, self.commit, file), self.params["retry_s"])
            temporary = self.blobs.temporary()
            try:
                with open(temporary, "xb") as sink:
                    sink.write(content)
                    sink.flush()
                    keep(sink.fileno(), "0644")
                os.rename(temporary, self.place.blob(file.name))
            finally:
                remove(temporary)

    def build(self):
        with _ALONE, writing(self.title, self.place.folder):
            for sha256 in self._large:
                self.blobs.put(sha256, self.place.blob(sha256))
            tree, old = self.blobs.temporary(), self.blobs.temporary()
            try:
                self._make_tree(tree)
                if lstat(self.path):
                    os.rename(self.path, old)
                os.rename(tree, self.path)
            finally:
                remove_tree(tree)
                remove_tree(old)
            for path in self.place.misleading():
                remove_tree(path)
            if self.ref:
                self.place.set_ref(self.ref, self.commit, self.blobs)
            self.place.tidy(self.wanted)
            put(self.place.environment, self.place.variables(), self.blobs)

    def _make_tree(self, top):
        made = {top}
        os.mkdir(top, 0o755)
        for file in self.files:
            directory = os.path.dirname(os.path.join(top, file.path))
            os.makedirs(directory, exist_ok=True)
            os.symlink(self.place.target(file), os.path.join(top, file.path))
            while directory not in made:
                made.add(directory)
                directory = os.path.dirname(directory)
        for directory in made:
            os.chmod(directory, 0o755)


def keep_each_others(artifacts):
    """Have artifacts (of any kind) that are of one repository leave the blobs of each other, which may have no snapshot yet."""
    wanted = {}
    for artifact in artifacts:
        if isinstance(artifact, HuggingFaceArtifact):
            artifact.wanted = wanted.setdefault(artifact.place.folder, set())
            artifact.wanted.update(file.name for file in artifact.files)


class Place:
    """Where a commit of a repository lies on this host. ``key`` is the entry ``huggingface`` of a model."""

    def __init__(self, params, key):
        self.root = params["huggingface_home"]
        self.group = key.get("group") or GROUP
        self.home = os.path.join(self.root, self.group)
        self.cache = os.path.join(self.home, "hub")
        self.environment = f"{self.home}.env"
        self.repo = key["repo"]
        self.name = "--".join(["models", *self.repo.split("/")])
        self.folder = os.path.join(self.cache, self.name)
        self.commit = key["revision"]
        self.snapshot = os.path.join(self.folder, "snapshots", self.commit)

    def blob(self, name):
        return os.path.join(self.folder, "blobs", name)

    def target(self, file):
        """What the symbolic link of a file holds."""
        return "../" * (2 + file.path.count("/")) + "blobs/" + file.name

    def names(self):
        """Paths in the snapshot of what is no directory."""
        return [os.path.relpath(os.path.join(parent, name), self.snapshot) for parent, name in _leaves(self.snapshot)]

    def misleading(self):
        """What consumers note of a commit, and believe more than what is here: all its files, and those that it has not."""
        return [os.path.join(self.folder, "trees", f"{self.commit}.json"), os.path.join(self.folder, ".no_exist", self.commit)]

    def ref(self, name):
        """The commit that a branch is here; None without one."""
        return read(self.ref_path(name))

    def ref_path(self, name):
        return os.path.join(self.folder, "refs", name)

    def refs(self):
        """{branch: commit} of what is here."""
        directory = os.path.join(self.folder, "refs")
        return {name: self.ref(name) for name in listdir(directory) if os.path.isfile(os.path.join(directory, name))}

    def set_ref(self, name, commit, blobs):
        """At last, for from there a consumer finds the rest. Readers take a line end for a part of the commit."""
        put(self.ref_path(name), commit, blobs)

    def variables(self):
        """What a unit or a shell of the access group needs, as lines. No consumer writes here, nor asks the hub or its store beside it."""
        return f"HF_HOME={self.home}\nHF_HUB_CACHE={self.cache}\nHF_HUB_OFFLINE=1\nHF_HUB_DISABLE_XET=1\nHF_HUB_DISABLE_TELEMETRY=1\n"

    def gid(self):
        try:
            return grp.getgrnam(self.group).gr_gid
        except KeyError:
            raise ModelFleetError(
                f"Failed to use the group {self.group} for {self.home}: this host has no such group. Run the role "
                "modelfleet.serving.dfdaemon, or make the group."
            ) from None

    def check(self, blob_store):
        """Refuse a place that cannot have hard links of the blobs."""
        place = self.folder
        while not lstat(place) and place != os.path.dirname(place):
            place = os.path.dirname(place)
        if lstat(blob_store) and os.stat(place).st_dev != os.stat(blob_store).st_dev:
            raise ModelFleetError(
                f"Failed to use {place} for the models of the hub: it is on another filesystem than {blob_store}, and no file has names on "
                "two. Have both on one, under one mount."
            )

    def is_ready(self):
        """Whether only the access group may enter, and what is below belongs to who runs the module."""
        found = lstat(self.home)
        if (
            not is_directory(found)
            or found.st_uid != os.geteuid()
            or stat.S_IMODE(found.st_mode) != HOME_MODE
            or found.st_gid != self.gid()
        ):
            return False
        return all(map(is_own_directory, self.directories()))

    def directories(self):
        return [self.cache, self.folder, *(os.path.join(self.folder, name) for name in ("blobs", "snapshots", "refs"))]

    def prepare(self, what):
        with _ALONE, writing(what, self.root):
            # Nobody enters until the group is right.
            self._own(self.home, HOME_MODE, self.gid())
            for directory in self.directories():
                self._own(directory, 0o755, os.getegid())

    @staticmethod
    def _own(directory, mode, gid):
        found = lstat(directory)
        if found and not is_directory(found):
            # A link would lead what root writes elsewhere.
            remove(directory)
            found = None
        if not found:
            os.mkdir(directory, 0o700)
        os.chown(directory, os.geteuid(), gid, follow_symlinks=False)
        os.chmod(directory, mode)

    def remove_snapshot(self, blobs, wanted=()):
        """Remove the commit, in one step, and what only that had; returns whether it was there. The rest is as for ``tidy``."""
        if not lstat(self.snapshot):
            return False
        temporary = blobs.temporary()
        os.rename(self.snapshot, temporary)
        remove_tree(temporary)
        self.tidy(wanted)
        return True

    def linked(self):
        """{path in a snapshot: path of its blob} of all links in the snapshots of the repository."""
        paths = [os.path.join(*leaf) for leaf in _leaves(os.path.join(self.folder, "snapshots"))]
        return {path: self.blob(os.path.basename(os.readlink(path))) for path in paths if os.path.islink(path)}

    def tidy(self, wanted=()):
        """Remove the blobs that no snapshot has, refs to commits that are not here, and the directory when there is nothing in it.

        The blobs that are ``wanted`` (names) stay, for a commit that did not come yet.
        """
        snapshots, blobs = (os.path.join(self.folder, name) for name in ("snapshots", "blobs"))
        used = {*self.linked().values(), *map(self.blob, wanted)}
        for name in listdir(blobs):
            if self.blob(name) not in used:
                remove_tree(self.blob(name))
        here = set(listdir(snapshots))
        for name, commit in self.refs().items():
            if commit not in here:
                remove(self.ref_path(name))
        if not here and not wanted:
            remove_tree(self.folder)


def snapshot_problem(place):
    """What is wrong with the content of a commit that lies on this host: what a blob must hold says its name. None for a good one.

    Which files make it up says the lock of an inventory, by which the commit came here.
    """
    for path, blob in sorted((path, blob) for path, blob in place.linked().items() if path.startswith(f"{place.snapshot}/")):
        shown = os.path.relpath(path, place.snapshot)
        try:
            with open(blob, "rb") as handle:
                found = digest_of(handle) if len(os.path.basename(blob)) == 64 else git_sha1(handle.read())
        except OSError as exc:
            return f"has {shown}, which cannot be read ({exc.strerror})"
        if found != os.path.basename(blob):
            return f"has {shown} with the content {found}, expected {os.path.basename(blob)}"
    return None


def read(path):
    """The text of a small file; None without one."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read(1 << 16)
    except OSError:
        return None


def put(path, content, blobs):
    """Have a small file with this text, for nobody to write."""
    temporary = blobs.temporary()
    try:
        with open(temporary, "x", encoding="utf-8") as sink:
            sink.write(content)
            sink.flush()
            keep(sink.fileno(), "0644")
        os.rename(temporary, path)
    finally:
        remove(temporary)


def _leaves(top):
    """Yield (directory, name) of all that is no directory below ``top``; a link to one is none."""
    for parent, directories, names in os.walk(top):
        yield from ((parent, name) for name in names)
        yield from ((parent, name) for name in directories if os.path.islink(os.path.join(parent, name)))


@contextmanager
def _opened(path, file):
    """An open file of a cache if it may be ``file``, None otherwise. A user can have anything there."""
    try:
        source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield None
        return
    found = os.fstat(source)
    if stat.S_ISREG(found.st_mode) and found.st_size == file.size:
        with os.fdopen(source, "rb") as handle:
            yield handle
    else:
        os.close(source)
        yield None


def _digest(handle, file):
    """What the cache of a consumer calls the content of an open file."""
    handle.seek(0)
    return digest_of(handle) if file.sha256 else git_sha1(handle.read())


def _copy(handle, sink, file):
    """Copy an open file, without a second copy on the disk where the filesystem can, and return its digest as it was copied."""
    try:
        fcntl.ioctl(sink.fileno(), _FICLONE, handle.fileno())
    except OSError:
        digest_of(handle, file.size, sink)
        sink.flush()
    return _digest(sink, file)
