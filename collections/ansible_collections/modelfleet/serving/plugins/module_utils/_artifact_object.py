# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An artifact that is one file. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import os
import re
import stat

from ansible_collections.modelfleet.serving.plugins.module_utils._artifact import Artifact, lstat, writing
from ansible_collections.modelfleet.serving.plugins.module_utils._model import model_file
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import object_key_problem

_MANIFEST = re.compile(r"(.+)/manifests/[0-9a-f]{64}\.json\Z")


class ObjectArtifact(Artifact):
    """A file of the model store, a hard link of its blob."""

    kind = "object"

    def __init__(self, entry, params, blobs):
        super().__init__(entry, params, blobs)
        self.path = os.path.join(params["model_store"], model_file(entry["name"], entry["version"], self.sha256))

    @staticmethod
    def key_problem(key):
        manifest = _MANIFEST.match(key)
        if manifest:
            return f"it is the manifest of a bundle, so give bundle: {manifest[1]} instead"
        return object_key_problem(key)

    def digests(self):
        return {self.sha256}

    def is_complete(self):
        blob, found = self.blobs.status(self.sha256), lstat(self.path)
        return bool(blob and found and os.path.samestat(blob, found))

    def lacking(self):
        return 0 if self.blobs.status(self.sha256) or self.blobs.other(self.sha256, "0644") else None

    @property
    def size(self):
        """Bytes, None while that is not known."""
        found = self.blobs.status(self.sha256)
        return found.st_size if found else None

    @property
    def links(self):
        return os.lstat(self.path).st_nlink

    def fetch(self, fetcher):
        fetcher.drop_damaged(self.title, [(self.sha256, "0644")])
        if not self.blobs.status(self.sha256) and not self._take_what_is_there():
            self.wait(fetcher, [(self.key, self.sha256, "0644", None)])
        if not self.blobs.status(self.sha256):
            # A bundle has it as an executable file.
            with writing(self.title, self.blobs.directory):
                self.blobs.copy(self.sha256, "0644")

    def _take_what_is_there(self):
        """The endpoint plugin may have brought it; only the digest tells."""
        found = lstat(self.path)
        if not found or not stat.S_ISREG(found.st_mode):
            return False
        temporary = self.blobs.temporary()
        with writing(self.title, self.blobs.directory):
            os.link(self.path, temporary, follow_symlinks=False)
            return self.blobs.take(temporary, self.sha256)[0] == self.sha256

    def build(self):
        with writing(self.title, self.params["model_store"]):
            self.blobs.put(self.sha256, self.path)
