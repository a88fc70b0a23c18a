# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store in memory: what it holds is ``objects`` = {key: (content, recorded sha256)}."""

from __future__ import annotations

import hashlib

from ansible_collections.modelfleet.serving.plugins.module_utils._publish_answers import Found, Taken


class Bucket:
    """A store and its client in one."""

    place = "https://s3.us-east-1.amazonaws.com"

    def __init__(self):
        self.objects = {}
        self.calls = []
        self.made_with = None
        self.raises = {}
        self.meanwhile = None
        self.before_put = lambda _src: None

    def __call__(self, *made_with):
        self.made_with = made_with
        return self

    def _called(self, name):
        self.calls.append(name)
        if name in self.raises:
            raise self.raises[name]

    def head(self, key):
        self._called("head")
        content, sha256 = self.objects.get(key, (None, ""))
        return None if content is None else Found(len(content), sha256, "generation")

    def read_sha256(self, key):
        self._called("read")
        return hashlib.sha256(self.objects[key][0]).hexdigest()

    def put(self, key, src, size, sha256, found, progress):
        self.before_put(src)
        self._called("put")
        if self.meanwhile is not None:
            self.objects[key] = self.meanwhile
        if found is None and key in self.objects:
            raise Taken()
        with open(src, "rb") as handle:
            self.objects[key] = (handle.read(), sha256)
        progress.add(size)

    def delete(self, key):
        self._called("delete")
        del self.objects[key]
