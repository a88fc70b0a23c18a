# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A podman that only pretends: its answers are those of podman 4.3 and 5.4."""

from __future__ import annotations

import json

DIGEST, ANOTHER, LIST = (f"sha256:{digit * 64}" for digit in "123")
ID, OLD_ID = "a" * 64, "b" * 64
CLIENT = f"registry.example.org/dragonfly/client@{DIGEST}"
UNKNOWN = "Error: inspecting object: no such object"


class FakePodman:
    """Give ``run_command`` to a module. ``images`` are on the host, ``registry`` and ``archives`` is what may come: {reference: id}."""

    def __init__(self, version="4.3.1"):
        self.version = version
        self.images = {}
        self.registry = {}
        self.archives = {}
        self.containers = {}
        self.used = set()
        self.probe = (0, "", "")
        self.calls = []

    def run_command(self, command, **options):
        assert command[0] == "podman" and options == {"handle_exceptions": False}, command
        if self.version is None:
            raise FileNotFoundError(2, "No such file or directory")
        self.calls.append(command[1:])
        return self.answer(*command[1:])

    def made(self, verb):
        return [call for call in self.calls if call[0] == verb]

    def answer(self, verb, *rest):
        if verb == "--version":
            return 0, f"podman version {self.version}\n", ""
        if verb == "image" and rest[0] == "exists":
            return (0 if self.found(rest[1]) else 1), "", ""
        if verb == "image":
            found = self.found(rest[1])
            digests = [name for name, one in self.images.items() if one == found]
            return 0, json.dumps([{"Id": found, "Digest": digests[0].rpartition("@")[2], "RepoDigests": digests}]), ""
        if verb == "images":
            return 0, "".join(f"sha256:{one}\n" for one in dict.fromkeys(self.images.values())), ""
        if verb == "container":
            found = self.containers.get(rest[1])
            return (0, json.dumps([{"Image": found, "ImageName": CLIENT}]), "") if found else (125, "[]", UNKNOWN)
        if verb == "pull":
            return self.come(self.registry, rest[-1], f"Error: initializing source docker://{rest[-1]}: manifest unknown")
        if verb == "load":
            archive = self.archives.get(rest[-1])
            if archive is None:
                return 125, "", f"Error: open {rest[-1]}: no such file or directory"
            self.images.update(archive)
            return 0, "Loaded image: sha256:…\n", ""
        if verb == "run":
            return self.probe
        if verb == "rmi":
            identity = self.found(rest[-1]) or rest[-1]
            if identity in self.used:
                return 2, "", f"Error: image used by 1 container: image is in use by a container: {identity}"
            self.images = {name: one for name, one in self.images.items() if one != identity}
            return 0, "", ""
        raise AssertionError((verb, *rest))

    def found(self, name):
        return self.images.get(name) or next((one for one in self.images.values() if name in (one, f"sha256:{one}")), None)

    def come(self, store, name, otherwise):
        if name not in store:
            return 125, "", f"Trying to pull {name}...\n{otherwise}\n"
        self.images[name] = store[name]
        return 0, f"{store[name]}\n", ""
