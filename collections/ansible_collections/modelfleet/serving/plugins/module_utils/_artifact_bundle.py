# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An artifact that is a directory. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import os
import shutil
import stat

from ansible_collections.modelfleet.serving.plugins.module_utils._artifact import (
    Artifact,
    is_kept,
    keep,
    kept_mode,
    lstat,
    remove,
    writing,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._bundle import (
    MAX_MANIFEST,
    blob_key,
    blobs,
    manifest_key,
    parse_manifest,
    prefix_problem,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import digest_of, sha256_of
from ansible_collections.modelfleet.serving.plugins.module_utils._model import model_directory


class BundleArtifact(Artifact):
    """A directory of the model store, whose files are hard links of blobs."""

    kind = "bundle"
    key_problem = staticmethod(prefix_problem)

    def __init__(self, entry, params, store):
        super().__init__(entry, params, store)
        self.path = os.path.join(params["model_store"], model_directory(entry["name"], entry["version"], self.sha256))
        self.manifest_path = os.path.join(params["manifest_store"], f"{self.sha256}.json")
        # That of this host, read when somebody looks whether all is here.
        self.manifest = None

    def _read_manifest(self):
        found = lstat(self.manifest_path)
        if not found or not is_kept(found, "0644") or sha256_of(self.manifest_path) != self.sha256:
            return None
        return self._parse(self.manifest_path)

    def _use(self, manifest):
        self.manifest = manifest
        if manifest:
            self.objects = {self.sha256, *blobs(manifest)}

    def _parse(self, path):
        with open(path, "rb") as handle:
            # One byte more than it may have is enough to refuse it.
            return parse_manifest(handle.read(MAX_MANIFEST + 1), manifest_key(self.key, self.sha256))

    def _files(self):
        """{(sha256, mode): File} of the files that have bytes."""
        return {(file.sha256, file.mode): file for file in self.manifest.files if file.size}

    def _lacking_files(self):
        return {name: file for name, file in self._files().items() if not self.blobs.status(*name)}

    def _lacking_objects(self):
        """{sha256 of a blob in the store: mode} of what must be fetched for the files that this host lacks."""
        objects = {}
        for file in self._lacking_files().values():
            if self.blobs.other(file.sha256, file.mode):
                continue
            if file.pack is None:
                objects.setdefault(file.sha256, file.mode)
            elif not self.blobs.status(file.pack):
                objects[file.pack] = "0644"
        return objects

    def digests(self):
        found = {self.sha256}
        if self.manifest:
            found |= {file.sha256 for file in self.manifest.files}
        return found

    @property
    def size(self):
        """Bytes, None while that is not known."""
        return self.manifest.size if self.manifest else None

    @property
    def links(self):
        """Those of the largest file."""
        largest = max(self.manifest.files, key=lambda file: file.size)
        return os.lstat(os.path.join(self.path, largest.path)).st_nlink

    def lacking(self):
        if not self.manifest:
            return None
        sizes = blobs(self.manifest)
        return sum(sizes[sha256] for sha256 in self._lacking_objects())

    def is_complete(self):
        """Whether the tree has exactly what the manifest says, as hard links of blobs."""
        with writing(self.title, self.params["manifest_store"]):
            self._use(self._read_manifest())
        if not self.manifest:
            return False
        blob_status = {name: self.blobs.status(*name) for name in self._files()}
        directories = {os.path.dirname(file.path) for file in self.manifest.files} - {""}
        for path in list(directories):
            while os.path.dirname(path):
                path = os.path.dirname(path)
                directories.add(path)
        names = sum(len(subdirectories) + len(files) for _path, subdirectories, files in os.walk(self.path))
        if names != len(self.manifest.files) + len(directories):
            return False
        if not all(is_own_directory(os.path.join(self.path, path)) for path in ["", *directories]):
            return False
        return all(self._is_file(file, blob_status.get((file.sha256, file.mode))) for file in self.manifest.files)

    def _is_file(self, file, blob):
        path = os.path.join(self.path, file.path)
        found = lstat(path)
        if not found or not is_kept(found, file.mode) or found.st_size != file.size:
            return False
        # A file of its own was too much for the links of one.
        return not file.size or bool(blob and os.path.samestat(found, blob)) or sha256_of(path) == file.sha256

    def fetch(self, fetcher):
        if not self.manifest:
            self._fetch_manifest(fetcher)
        fetcher.drop_damaged(self.title, self._files())
        objects = self._lacking_objects()
        sizes = blobs(self.manifest)
        # What is in a pack is written once more.
        sizes.update((pack.sha256, 2 * pack.size) for pack in self.manifest.packs)
        self.wait(fetcher, [(blob_key(self.key, sha256), sha256, mode, sizes[sha256]) for sha256, mode in objects.items()])
        with writing(self.title, self.blobs.directory):
            self._unpack()
            for sha256, mode in self._lacking_files():
                self.blobs.copy(sha256, mode)

    def _fetch_manifest(self, fetcher):
        try:
            self.wait(fetcher, [(manifest_key(self.key, self.sha256), self.sha256, "0644", None)])
        except ModelFleetError as exc:
            if "has no such object" in str(exc):
                raise ModelFleetError(
                    f"{exc} A bundle has its manifest there; what is one file has the key object.", **exc.result
                ) from None
            raise
        with writing(self.title, self.params["manifest_store"]):
            manifest = self._parse(self.blobs.path(self.sha256))
            self.blobs.put(self.sha256, self.manifest_path)
        self._use(manifest)

    def _unpack(self):
        """Take the files that this host lacks out of their packs."""
        packs = {}
        for (sha256, mode), file in self._lacking_files().items():
            if file.pack and not self.blobs.other(sha256, mode):
                packs.setdefault(file.pack, []).append(file)
        made = {}
        try:
            for pack, files in packs.items():
                with open(self.blobs.path(pack), "rb") as handle:
                    for file in files:
                        temporary = self.blobs.temporary()
                        made[temporary] = self.blobs.path(file.sha256, file.mode)
                        self._extract(handle, file, temporary)
            if made:
                # A name is for what is on the disk; one by one that takes long for many small files.
                os.sync()
            for temporary, path in made.items():
                os.rename(temporary, path)
        finally:
            for temporary in made:
                remove(temporary)

    def _extract(self, pack, file, target):
        pack.seek(file.offset)
        with open(target, "xb") as sink:
            found = digest_of(pack, file.size, sink)
            sink.flush()
            keep(sink.fileno(), file.mode, sync=False)
        if found != file.sha256:
            raise ModelFleetError(
                f"Failed to take {file.path} out of the pack {file.pack} of {self.key}: it has the sha256 {found}, and the manifest says "
                f"{file.sha256}. Publish the bundle again."
            )

    def build(self):
        # Not in the model store: TorchServe's user owns that, and could have a name in it lead elsewhere while the tree grows.
        tree, old = self.blobs.temporary(), self.blobs.temporary()
        with writing(self.title, self.params["model_store"]):
            try:
                self._make_tree(tree)
                if lstat(self.path):
                    # It is damaged, and a directory takes no other's place.
                    os.rename(self.path, old)
                os.rename(tree, self.path)
            finally:
                remove_tree(tree)
                remove_tree(old)

    def _make_tree(self, top):
        made = set()

        def make(directory):
            if directory not in made:
                if directory != top:
                    make(os.path.dirname(directory))
                os.mkdir(directory, 0o700)
                made.add(directory)

        make(top)
        for file in self.manifest.files:
            path = os.path.join(top, file.path)
            make(os.path.dirname(path))
            if file.size:
                self.blobs.link(file.sha256, file.mode, path)
            else:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, kept_mode(file.mode)))
                os.chmod(path, kept_mode(file.mode))
        for directory in made:
            os.chmod(directory, 0o755)


def digests_in(path, packs=False):
    """{sha256} of the files that a manifest on this host lists, and of its ``packs``; none for one that cannot be read."""
    try:
        with open(path, "rb") as handle:
            manifest = parse_manifest(handle.read(MAX_MANIFEST + 1), path)
        return {file.sha256 for file in manifest.files} | {pack.sha256 for pack in manifest.packs if packs}
    except (OSError, ModelFleetError):
        return set()


def is_own_directory(path):
    found = lstat(path)
    return bool(is_directory(found) and found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == 0o755)


def is_directory(status):
    """Whether an os.stat_result, None for what is not there, is of a directory."""
    return bool(status and stat.S_ISDIR(status.st_mode))


def remove_tree(path):
    """Remove a file or a directory, if it is there."""
    if is_directory(lstat(path)):
        shutil.rmtree(path)
    else:
        remove(path)
