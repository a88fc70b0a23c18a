#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_bundle
short_description: A directory in the object store, as files named by their content
version_added: 0.1.0
description:
  - Publishes the files of a directory, or those in a C(.mar), as a bundle. A bundle is a manifest that lists the files and is named by its
    own sha256, and the blobs that they consist of, named by theirs. A host fetches the blobs that it lacks and links them into a tree,
    so that what two versions share is stored, sent and kept once.
  - Only blobs that the store lacks are sent, the manifest after them. Whatever interrupts that, the next run goes on where it was.
  - Files of 4 MiB or less are put together into packs of 16 to 64 MiB, because Dragonfly does not share such small files.
  - The same files give the same manifest. Times and owners are not in it, and of a mode only whether the owner may execute the file.
  - A directory is published as it is, hidden files included; empty directories are left out. A link is published as the file that it
    points to, and refused where that is a directory or lies outside of O(src).
  - What has the key of a blob but other content than its name says is replaced, since no host would take it.
  - Nothing is ever deleted from the store.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - modelfleet.serving.storage
  - modelfleet.serving.storage.credentials
  - modelfleet.serving.storage.publishing
attributes:
  diff_mode:
    details: Shows the blobs and the manifest that the bundle consists of, before and after. Secrets are never shown.
options:
  src:
    description:
      - The directory, or a C(.mar). Of a C(.mar) a large file is unpacked into Ansible's C(remote_tmp), one at a time.
    type: path
    required: true
  bundle:
    description:
      - Prefix of the keys in the store. The manifest becomes C(<bundle>/manifests/<sha256>.json), a blob C(<bundle>/blobs/<sha256>).
      - Versions of one model belong under one prefix, where they share their blobs.
    type: str
    required: true
  sha256:
    description: The sha256 that the manifest must have, 64 hexadecimal digits. Without it whatever the files give is published.
    type: str
"""

EXAMPLES = r"""
- name: Publish a directory with a model
  modelfleet.serving.model_bundle:
    storage: "{{ modelfleet_storage }}"
    credentials: "{{ modelfleet_publish_credentials }}"
    src: /srv/models/resnet50
    bundle: models/resnet50
  delegate_to: localhost
  register: published

- name: Show the sha256 that names it
  ansible.builtin.debug:
    msg: "{{ published.sha256 }}: {{ published.files }} files in {{ published.blobs }} blobs"
"""

RETURN = r"""
bundle:
  description: The prefix of the bundle's keys.
  returned: success
  type: str
  sample: models/resnet50
manifest:
  description: The manifest as a human names it.
  returned: success
  type: str
  sample: s3://models/models/resnet50/manifests/9f2c1a4be3f2d6c7b8a90123456789abcdef0123456789abcdef0123456789ab.json
sha256:
  description: The sha256 of the manifest.
  returned: success
  type: str
  sample: 9f2c1a4be3f2d6c7b8a90123456789abcdef0123456789abcdef0123456789ab
files:
  description: The number of files.
  returned: success
  type: int
  sample: 5012
blobs:
  description: The number of blobs, which a host without any fetches.
  returned: success
  type: int
  sample: 4
bytes:
  description: The size of all files.
  returned: success
  type: int
  sample: 102400000
blobs_sent:
  description: The number of blobs that were sent, in check mode of those that would be.
  returned: success, and when it fails on the way
  type: int
  sample: 1
bytes_sent:
  description: The size of what was sent, the manifest included, in check mode of what would be.
  returned: success, and when it fails on the way
  type: int
  sample: 20480
model_name:
  description: Name of the model in C(MAR-INF/MANIFEST.json), empty for a directory without that file.
  returned: success
  type: str
  sample: resnet50
version:
  description: Version of the model in C(MAR-INF/MANIFEST.json), empty for a directory without that file.
  returned: success
  type: str
  sample: "1.0"
"""

import hashlib
import os
import re
import stat
import zipfile

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.modelfleet.serving.plugins.module_utils._bundle import (
    MAX_FILES,
    MAX_MANIFEST,
    File,
    Manifest,
    Pack,
    blob_key,
    blobs,
    collision,
    manifest_bytes,
    manifest_key,
    path_problem,
    prefix_problem,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._compile_cache import IDENTITY
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._model_archive import DAMAGED, MANIFEST, NOT_INSTALLED, described
from ansible_collections.modelfleet.serving.plugins.module_utils._publish_answers import MissingLibrary, Progress
from ansible_collections.modelfleet.serving.plugins.module_utils._publish_object import (
    Publisher,
    Source,
    publishing_argument_spec,
    same,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import StorageModule

_SMALL = 4 << 20  # bytes; Dragonfly does not share files up to this size
_PACK = 64 << 20
_PACK_LEAST = 16 << 20  # from here on a pack may end
_BLOCK = 1 << 20


class Bundle:
    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.src, self.bundle, self.wanted = self.params["src"], self.params["bundle"], self.params["sha256"]
        problem = prefix_problem(self.bundle)
        if problem:
            raise ModelFleetError("Failed to use the bundle {!r}: {}.".format(self.bundle, problem))
        if self.wanted is not None and not re.match(r"[0-9a-fA-F]{64}\Z", self.wanted):
            raise ModelFleetError("Failed to use sha256 {!r}: it must be 64 hexadecimal digits.".format(self.wanted))
        self.publisher = Publisher(self.params, self.bundle)
        self.parts = {}
        self.model = ("", "")
        self.sent = {"blobs_sent": 0, "bytes_sent": 0}

    def run(self):
        self.tree = _Directory(self.src) if os.path.isdir(self.src) else _Archive(self.src)
        self._check_paths()
        manifest = self._read()
        content = manifest_bytes(manifest)
        if len(content) > MAX_MANIFEST:
            raise self._error("its manifest would have {} bytes, more than {}".format(len(content), MAX_MANIFEST), "Publish fewer files")
        self.sha256 = hashlib.sha256(content).hexdigest()
        if self.wanted is not None and self.wanted.lower() != self.sha256:
            raise self._error(
                "its manifest has the sha256 {}, but {} was asked for".format(self.sha256, self.wanted),
                "Take the right files or correct sha256",
            )
        self.parts[self.sha256] = content
        # The manifest comes last: what it names is there then.
        wanted = [(blob_key(self.bundle, one), Pack(one, size)) for one, size in blobs(manifest).items()]
        wanted.append((manifest_key(self.bundle, self.sha256), Pack(self.sha256, len(content))))
        objects = [self.publisher.object(key, overwrite=True) for key, _blob in wanted]
        before = [one.look(blob.size) for one, (_key, blob) in zip(objects, wanted)]
        missing = [(one, found, blob) for one, found, (_key, blob) in zip(objects, before, wanted) if not same(found, blob)]
        if self.module.check_mode:
            for _one, _found, blob in missing:
                self._count(blob)
        else:
            self._send(missing)
        return {
            "changed": bool(missing),
            "bundle": self.bundle,
            "manifest": objects[-1].name,
            "sha256": self.sha256,
            "files": len(manifest.files),
            "blobs": len(wanted) - 1,
            "bytes": manifest.size,
            **self.sent,
            "model_name": self.model[0],
            "version": self.model[1],
            "diff": self._diff(wanted, before),
        }

    def _error(self, reason, remedy):
        return _error(self.src, reason, remedy)

    def _check_paths(self):
        if not 0 < len(self.tree.files) <= MAX_FILES:
            raise self._error("it has {} files, not 1 to {}".format(len(self.tree.files), MAX_FILES), "Publish that many")
        for path in self.tree.files:
            problem = path_problem(path)
            if problem:
                raise self._error("the path {!a} {}".format(path, problem), "Rename the file")
        pair = collision(sorted(self.tree.files))
        if pair:
            raise self._error("{!r} and {!r} {}".format(*pair), "Rename one of them")

    def _read(self):
        """The manifest of the tree; notes in ``parts`` which files each blob consists of."""
        rows, packs, placed = [], [], {}
        for path in sorted(self.tree.files):
            content = self.tree.read(path)
            if path == MANIFEST:
                self._identify(content)
            if content is None:
                whole = self.tree.measure(path)
                self.parts[whole.sha256] = [path]
                rows.append((path, whole.size, whole.sha256, None))
                continue
            sha256 = hashlib.sha256(content).hexdigest()
            if content and sha256 not in placed:
                if not packs or packs[-1].ended or packs[-1].size + len(content) > _PACK:
                    packs.append(_Packing())
                placed[sha256] = packs[-1], packs[-1].add(path, content, sha256)
            rows.append((path, len(content), sha256, placed.get(sha256)))
        sizes = {pack.sha256: pack.size for pack in packs}
        self.parts.update((pack.sha256, pack.paths) for pack in packs)
        files = [
            File(path, size, sha256, self.tree.files[path], *((place[0].sha256, place[1]) if place else ()))
            for path, size, sha256, place in rows
        ]
        return Manifest(files, [Pack(*one) for one in sorted(sizes.items())])

    def _identify(self, content):
        try:
            name, version, requirements = described(content or b"")
        except ValueError:
            raise self._error(
                "its {} is damaged".format(MANIFEST), "Build it with torch-model-archiver, or leave the file out for another runtime"
            ) from None
        self.model = (name, version)
        if requirements:
            self.module.warn(NOT_INSTALLED.format(path=self.src, name=requirements))

    def _send(self, missing):
        progress = Progress(self.params["progress_path"], sum(blob.size for _one, _found, blob in missing))
        temporary = os.path.join(self.module.tmpdir, "blob")
        try:
            for one, found, blob in missing:
                one.write(self._source(blob, temporary), found, progress)
                progress.finish(blob.size)
                self._count(blob)
        except ModelFleetError as exc:
            # What was sent is in the store all the same.
            exc.result.update(changed=self.sent["bytes_sent"] > 0, **self.sent)
            raise
        finally:
            progress.close()
            if os.path.exists(temporary):
                os.unlink(temporary)

    def _count(self, blob):
        self.sent["blobs_sent"] += blob.sha256 != self.sha256
        self.sent["bytes_sent"] += blob.size

    def _source(self, blob, temporary):
        """A file with the content of a blob or of the manifest: that in the directory itself, or a temporary one."""
        parts = self.parts[blob.sha256]
        source = self.tree.source(parts[0]) if isinstance(parts, list) and len(parts) == 1 else None
        if source is None:
            blocks = [parts] if isinstance(parts, bytes) else (block for path in parts for block in self.tree.blocks(path))
            try:
                with open(temporary, "wb") as target:
                    target.writelines(blocks)
            except OSError as exc:
                raise self._error(
                    "{} cannot be written ({})".format(temporary, exc.strerror), "Give remote_tmp of Ansible more room, or correct it"
                ) from exc
            source = Source(temporary)
        if source.sha256 != blob.sha256:
            raise self._error("it changed while it was read", "Publish again when nothing writes there")
        return source

    def _diff(self, wanted, before):
        def line(key, state):
            return "{} sha256:{} {} bytes\n".format(key, state.sha256 or "not recorded", state.size)

        place = self.publisher.object(self.bundle, overwrite=True).name
        return {
            "before_header": place,
            "after_header": place,
            "before": "".join(line(key, found) for (key, _blob), found in zip(wanted, before) if found),
            "after": "".join(line(key, blob) for key, blob in wanted),
        }


class _Packing:
    """A pack that grows."""

    def __init__(self):
        self.paths = []
        self.size = 0
        self.ended = False
        self._digest = hashlib.sha256()

    def add(self, path, content, sha256):
        """Where the content begins."""
        offset = self.size
        self.paths.append(path)
        self.size += len(content)
        self._digest.update(content)
        # One file in 16 ends a pack. Borders that hang on contents stay where they are when a file before them changes.
        self.ended = self.size >= _PACK_LEAST and sha256.startswith("0")
        return offset

    @property
    def sha256(self):
        return self._digest.hexdigest()


class _Tree:
    """What becomes a bundle: ``files`` is {path: mode}.

    ``blocks(path)`` yields the content of a file, ``measure(path)`` has its ``size`` and ``sha256``, and ``source(path)`` is the Source
    that was measured, None where there is no file of its own. Raises ModelFleetError for what cannot be published.
    """

    def __init__(self, src):
        self.src = src
        self.files = {}

    def read(self, path):
        """The content of a small file, None for another."""
        content = b""
        for block in self.blocks(path):
            content += block
            if len(content) > _SMALL:
                return None
        return content

    def _error(self, reason, remedy):
        return _error(self.src, reason, remedy)


class _Directory(_Tree):
    def __init__(self, src):
        super().__init__(src)
        self._sources = {}
        self._root = os.path.realpath(src)

        def refuse(exc):
            raise self._unreadable(exc)

        for directory, subdirectories, names in os.walk(self._root, onerror=refuse):
            inside = os.path.relpath(directory, self._root)
            for name in subdirectories:
                if os.path.islink(os.path.join(directory, name)):
                    raise self._error(
                        "{!r} is a link to a directory".format(os.path.join(directory, name)), "Put the directory itself there"
                    )
            for name in names:
                self.files[os.path.normpath(os.path.join(inside, name))] = self._mode(os.path.join(directory, name))

    def _mode(self, path):
        if os.path.islink(path) and os.path.commonpath([self._root, os.path.realpath(path)]) != self._root:
            raise self._error("{!r} is a link that leads out of the directory".format(path), "Put the file itself there")
        try:
            mode = os.stat(path).st_mode
        except OSError as exc:
            raise self._unreadable(exc) from exc
        if not stat.S_ISREG(mode):
            raise self._error("{!r} is not a regular file".format(path), "Take it away")
        return "0755" if mode & stat.S_IXUSR else "0644"

    def _unreadable(self, exc):
        return self._error("{!r} cannot be read ({})".format(exc.filename, exc.strerror), "Check the file and its permissions")

    def blocks(self, path):
        try:
            with open(os.path.join(self._root, path), "rb") as handle:
                yield from iter(lambda: handle.read(_BLOCK), b"")
        except OSError as exc:
            exc.filename = path
            raise self._unreadable(exc) from exc

    def measure(self, path):
        self._sources[path] = Source(os.path.join(self._root, path))
        return self._sources[path]

    def source(self, path):
        return self._sources.get(path)


class _Archive(_Tree):
    def __init__(self, src):
        super().__init__(src)
        try:
            self._archive = zipfile.ZipFile(src)
        except OSError as exc:
            raise self._error(exc.strerror or str(exc), "Check src") from exc
        except (*DAMAGED, ValueError) as exc:
            raise self._error("it is neither a directory nor a model archive", "Check src") from exc
        for entry in self._archive.infolist():
            # Not entry.is_dir(), which takes for granted that there is a name.
            if not entry.filename.endswith("/"):
                self._add(entry)
        if not {MANIFEST, IDENTITY} & self.files.keys():
            raise self._error("it is no model archive, it has no {}".format(MANIFEST), "Build it with torch-model-archiver")

    def _add(self, entry):
        # Other systems than Unix (3) keep something else there.
        mode = entry.external_attr >> 16 if entry.create_system == 3 else 0
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise self._error("its member {!r} is not a regular file".format(entry.filename), "Build it with torch-model-archiver")
        if entry.filename in self.files:
            raise self._error("it has two members {!r}".format(entry.filename), "Build it with torch-model-archiver")
        self.files[entry.filename] = "0755" if mode & stat.S_IXUSR else "0644"

    def blocks(self, path):
        try:
            with self._archive.open(path) as handle:
                yield from iter(lambda: handle.read(_BLOCK), b"")
        except (*DAMAGED, OSError, ValueError) as exc:
            raise self._error("its member {!r} cannot be read ({})".format(path, exc), "Build it again") from exc

    def measure(self, path):
        digest, size = hashlib.sha256(), 0
        for block in self.blocks(path):
            digest.update(block)
            size += len(block)
        return Pack(digest.hexdigest(), size)

    def source(self, path):
        return None


def _error(src, reason, remedy):
    return ModelFleetError("Failed to publish {} as a bundle: {}. {}.".format(src, reason, remedy))


def main():
    module = StorageModule(
        argument_spec={
            **publishing_argument_spec(),
            "src": {"type": "path", "required": True},
            "bundle": {"type": "str", "required": True},
            "sha256": {"type": "str"},
        },
        supports_check_mode=True,
    )
    try:
        result = Bundle(module).run()
    except MissingLibrary as exc:
        module.fail_json(msg=missing_required_lib(exc.library), exception=exc.trace)
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
