# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images and containers of podman, and how an image is named. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import re

from ansible_collections.modelfleet.serving.plugins.module_utils._doctor_daemon import masked
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json, without_colours

# The log driver passthrough is of 4.0, and the names of CDI are understood from 4.1 on. Debian 12 has 4.3.
OLDEST = "4.1"
# A name has its registry, for podman would look for a short one in those that the host happens to know.
_NAMED = re.compile(
    r"(?P<registry>localhost|[A-Za-z0-9-]+(?:[.][A-Za-z0-9-]+)+(?::[0-9]+)?|[A-Za-z0-9-]+:[0-9]+)/"
    r"(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?P<tag>:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?@(?P<digest>sha256:[0-9a-f]{64})"
)
_ID = re.compile(r"sha256:[0-9a-f]{64}")


def image_problem(image):
    """What is wrong with the name of an image, in words; None for one that can only ever be one image."""
    if not isinstance(image, str) or not image:
        return "is empty; write registry/repository@sha256:… with the digest that the registry shows, or sha256:… with the id of an image"
    if _ID.fullmatch(image) or _NAMED.fullmatch(image):
        return None
    if "@" not in image and not image.startswith("sha256:"):
        return f"has no digest ('{image}'), and what a tag names may be another image tomorrow; write registry/repository@sha256:…"
    return f"is not the name of an image ('{image}'); write registry/repository@sha256:… with 64 hexadecimal digits in lower case"


def registry_of(image):
    """Where an image is pulled from, HOST or HOST:PORT; None for one that no registry has."""
    named = _NAMED.fullmatch(image)
    return named["registry"] if named and named["registry"] != "localhost" else None


def reference(image):
    """An image as podman takes it: it refuses a tag beside a digest, which is what counts."""
    named = _NAMED.fullmatch(image)
    return f"{named['registry']}/{named['repository']}@{named['digest']}" if named else image


class Podman:
    """``run_command`` is that of a module."""

    def __init__(self, run_command):
        self._run_command = run_command

    def run(self, *command):
        """Return (rc, stdout, what it says of a failure in one line). Raises ModelFleetError where there is no podman."""
        try:
            rc, out, err = self._run_command(["podman", *command], handle_exceptions=False)
        except OSError as exc:
            raise ModelFleetError(f"Failed to run podman: {exc.strerror}. Install podman {OLDEST} or newer on this host.") from None
        said = [line for line in without_colours(err).splitlines() if line.strip()]
        return rc, out, masked(" ".join((said or [f"podman ended with {rc}"])[-1].split())).rstrip(".")

    def version(self):
        """Its version as a text; an empty one where there is no podman, or one that says none."""
        try:
            rc, out, _said = self.run("--version")
        except ModelFleetError:
            return ""
        found = re.search(r"\b(\d+\.\d+(?:\.\d+)*)", out) if rc == 0 else None
        return found[1] if found else ""

    def image(self, name):
        """{id, digests} of an image that is on this host, None for one that is not. Raises ModelFleetError where podman fails."""
        rc, _out, said = self.run("image", "exists", reference(name))
        if rc == 1:
            return None
        if rc == 0:
            rc, out, said = self.run("image", "inspect", reference(name))
            found = self._first(out) if rc == 0 else None
            if found:
                # Of an image of several architectures that of its list, and that of the one which is here.
                names = found.get("RepoDigests")
                others = [str(one).rpartition("@")[2] for one in names] if isinstance(names, list) else []
                return {"id": _plain(found.get("Id")), "digests": list(dict.fromkeys([str(found.get("Digest") or ""), *others]))}
        raise ModelFleetError(f"Failed to look for the image {name}: {said}. See podman info on this host.")

    def ids(self):
        """The ids of all images that are on this host."""
        return {_plain(line.strip()) for line in self.run("images", "--quiet", "--no-trunc")[1].splitlines() if line.strip()}

    def container(self, name):
        """{image_id, image} of a container, None where there is none."""
        rc, out, _said = self.run("container", "inspect", name)
        found = self._first(out) if rc == 0 else None
        return {"image_id": _plain(found.get("Image")), "image": str(found.get("ImageName") or "")} if found else None

    @staticmethod
    def _first(out):
        try:
            found = from_json(out)
        except ValueError:
            return None
        return found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else None


def is_old(version):
    """Whether a version (str) is older than what containers here need."""
    return _numbers(version) < _numbers(OLDEST)


def _numbers(version):
    return [int(part) for part in version.split(".")[:2]]


def _plain(digest):
    return str(digest or "").removeprefix("sha256:")
