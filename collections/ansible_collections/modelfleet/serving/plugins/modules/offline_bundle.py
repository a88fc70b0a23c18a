#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: offline_bundle
short_description: Make one directory with all that a fleet without internet needs, and a signed manifest of it
version_added: 0.1.0
description:
  - Gets files, wheels (C(pip download)), packages of Debian and Ubuntu with all that they depend on (C(apt-get), C(apt-ftparchive))
    and images of containers (C(skopeo)) into a directory.
  - C(MANIFEST.json) names each file with its size, SHA-256, source and, where it is known, licence. C(MANIFEST.json.asc) is its
    signature, and C(key.asc) the public key that made it.
  - What is there already, is whole and was asked for in the same way is left alone, so that newer versions come only with O(refresh).
  - Everything is got before anything in the directory is changed. What an earlier manifest names and nobody asks for any more is
    removed. What no manifest names is never removed; the module refuses to go on.
  - apt works in a state of its own. What this machine has installed, and the lists and caches of its own apt, are neither read nor changed.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
attributes:
  check_mode:
    support: partial
    details: What would be downloaded is not looked at in check mode, so that it is said which parts would be made, and not which files.
options:
  path:
    description: The directory. It must be empty, absent, or a bundle.
    type: path
    required: true
  key:
    description: The key of gpg that signs, for example its fingerprint. gpg must be able to sign without asking.
    type: str
    default: ""
  unsigned:
    description: Make a bundle that nobody signs where there is no O(key).
    type: bool
    default: false
  platforms:
    description: What the hosts run, for example V(debian-13-x86_64). The manifest says it.
    type: list
    elements: str
    default: []
  files:
    description: Single files.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where it lies in the bundle.
        type: str
        required: true
      src:
        description: The file on this machine. Exactly one of O(files[].src) and O(files[].url) is required.
        type: path
      url:
        description: Where it is downloaded from. It needs O(files[].sha256).
        type: str
      sha256:
        description: Its SHA-256, 64 hexadecimal digits.
        type: str
      source:
        description: Where it comes from, for the manifest. By default O(files[].url) without credentials, or the name of O(files[].src).
        type: str
      licence:
        description: Its licence, for the manifest.
        type: str
        default: ""
  wheels:
    description: Directories of wheels, each of what one kind of hosts installs.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The directory in the bundle.
        type: str
        required: true
      platform:
        description: What these hosts run, for example V(debian-13-x86_64).
        type: str
        required: true
      python:
        description: The version of their Python, for example V(3.13). By default that of the distribution.
        type: str
        default: ""
      pip:
        description:
          - A Python on this machine that has pip, best of the version O(wheels[].python). pip decides by the version that it runs on
            whether what depends on the version of Python is needed.
          - By default the Python that runs this module.
        type: str
        default: ""
      first:
        description: What to get from O(wheels[].first_index_url), each as a line of pip's requirements file.
        type: list
        elements: str
        default: []
      first_index_url:
        description: The package index for O(wheels[].first) and what it depends on.
        type: str
        default: ""
      packages:
        description:
          - What else to get, each as a line of pip's requirements file. A wheel of a line with C(--hash=sha256:…) must have that hash.
        type: list
        elements: str
        default: []
      index_url:
        description: The package index. By default what pip is configured for.
        type: str
        default: ""
      hashes:
        description: Hashes for lines that have none, as C(sha256:) with the digest, by the line.
        type: dict
        default: {}
  packages:
    description: Repositories of packages of the distribution, each for one platform with apt.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The directory in the bundle.
        type: str
        required: true
      platform:
        description: The distribution and the architecture, for example V(debian-13-x86_64).
        type: str
        required: true
      names:
        description: The packages. What they depend on comes with them, down to the C library.
        type: list
        elements: str
        required: true
      sources:
        description:
          - Where from, each as a line of C(sources.list) or as a paragraph of a file C(.sources), with the keyring that signs it
            (C(signed-by)).
          - By default the sources of this machine, where it has the same distribution in the same version.
        type: list
        elements: str
        default: []
  images:
    description: Images of containers, each as an archive that podman loads.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The file in the bundle.
        type: str
        required: true
      image:
        description: The image with its digest, for example C(nvcr.io/nvidia/tritonserver@sha256:…). Of several architectures, that of one.
        type: str
        required: true
      platform:
        description: What the hosts run, for example V(debian-13-x86_64).
        type: str
        required: true
  refresh:
    description: Get wheels, packages and images anew, also where the same was asked for before.
    type: bool
    default: false
  ca_path:
    description: File with CA certificates (PEM) that are trusted for downloads of O(files) beside those of the system.
    type: path
  timeout:
    description: Seconds that a server of O(files) may be silent.
    type: int
    default: 60
  retries:
    description: How many times a download of O(files) that failed for a passing reason is tried again.
    type: int
    default: 4
seealso:
  - module: modelfleet.serving.offline_bundle_check
"""

EXAMPLES = r"""
- name: Bundle the client, TorchServe and a Java runtime for Debian 13
  modelfleet.serving.offline_bundle:
    path: /srv/bundle
    key: 0123456789ABCDEF0123456789ABCDEF01234567
    platforms: [debian-13-x86_64]
    files:
      - path: releases/client.tar.gz
        url: https://github.com/dragonflyoss/client/releases/download/v1.5.10/dragonfly-client-v1.5.10-x86_64-unknown-linux-musl.tar.gz
        sha256: "{{ dfdaemon_release_sha256 }}"
        licence: Apache-2.0
    wheels:
      - path: wheels/debian-13-x86_64
        platform: debian-13-x86_64
        packages: [torchserve==0.12.0, PyYAML]
    packages:
      - path: packages/debian-13-x86_64
        platform: debian-13-x86_64
        names: [default-jre-headless, python3-venv]
"""

RETURN = r"""
path:
  description: The directory.
  returned: success
  type: str
key:
  description: The fingerprint of the key that signed; empty where none did.
  returned: success
  type: str
files:
  description: How many files the manifest names; in check mode those that are there.
  returned: success
  type: int
bytes:
  description: How large they are together.
  returned: success
  type: int
made:
  description: Files and directories in the bundle that are new, sorted.
  returned: success
  type: list
  elements: str
  sample: [packages/debian-13-x86_64]
removed:
  description: Files that nobody asks for any more, sorted.
  returned: success
  type: list
  elements: str
"""

import fcntl
import hashlib
import json
import os
import re
import shutil

from ansible_collections.modelfleet.serving.plugins.module_utils import _offline_parts
from ansible_collections.modelfleet.serving.plugins.module_utils._download import download, is_url, without_credentials
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import UNFINISHED, put_file, sha256_of
from ansible_collections.modelfleet.serving.plugins.module_utils._gpg import public_key, sign, signature_problem, signing_key
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule
from ansible_collections.modelfleet.serving.plugins.module_utils._offline_manifest import (
    KEY,
    MANIFEST,
    SIGNATURE,
    differences,
    path_problem,
    read,
    some,
    text_of,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._offline_platform import platform

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
# How releases of the bundle's programs may change what a part holds.
_MAKING = 1


class Bundle:
    def __init__(self, module):
        self.module, self.params, self.path = module, module.params, module.params["path"]
        self.new = os.path.join(self.path, f"{UNFINISHED}new")
        self.made, self.files, self.parts, self.guard = [], [], [], None

    def run(self):
        before = os.umask(0o022)
        try:
            self.check()
            self.key = signing_key(self.module, self.params["key"]) if self.params["key"] else ""
            self.look()
            if not self.module.check_mode:
                self.begin()
            for one in self.params["files"]:
                self.file(one)
            self.public_key()
            for kind in ("wheels", "packages", "images"):
                for one in self.params[kind]:
                    self.part(kind, one)
            return self.finish()
        except OSError as exc:
            raise ModelFleetError(
                f"Failed to write the bundle {self.path}: {exc.filename or ''}: {exc.strerror}. Check its permissions and the free space."
            ) from exc
        finally:
            os.umask(before)
            if self.guard is not None:
                shutil.rmtree(self.new, ignore_errors=True)
                os.close(self.guard)

    def begin(self):
        """Have the directory for this run alone, without what a killed one has left."""
        os.makedirs(self.path, exist_ok=True)
        guard = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(guard)
            raise ModelFleetError(f"Refused to make the bundle {self.path}: another run is making it. Wait for its end.") from exc
        self.guard = guard
        shutil.rmtree(self.new, ignore_errors=True)
        os.makedirs(self.new)

    def check(self):
        """What can be said before anything is read."""
        if not self.params["key"] and not self.params["unsigned"]:
            raise ModelFleetError(
                f"Refused to make the bundle {self.path}: nobody would sign it. Name a key of gpg, or allow a bundle without a signature."
            )
        for name in self.params["platforms"]:
            platform(name)
        taken = []
        for kind in ("files", "wheels", "packages", "images"):
            for one in self.params[kind]:
                path = one["path"]
                problem = path_problem(path)
                if not problem and (
                    path == KEY or any(f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/") for other in taken)
                ):
                    problem = "something else of the bundle lies there"
                if problem:
                    raise ModelFleetError(
                        f"Refused the path {path!r} in the bundle: {problem}. Choose another one, such as releases/client.tar.gz."
                    )
                taken.append(path)
        for one in self.params["files"]:
            if one["sha256"] and not _SHA256.match(one["sha256"].lower()):
                raise ModelFleetError(f"Refused the sha256 of {one['path']}: it is not 64 hexadecimal digits. Correct it.")
            if one["url"] and not one["sha256"]:
                raise ModelFleetError(f"Refused to download {one['path']}: it has no sha256, so nobody could tell what it is. Add it.")
            if one["url"] and not is_url(one["url"]):
                raise ModelFleetError(f"Refused the url of {one['path']}: use an https, http or file URL.")

    def look(self):
        """What is there already, and is as its manifest says."""
        if os.path.lexists(self.path) and not os.path.isdir(self.path):
            raise ModelFleetError(f"Failed to make the bundle {self.path}: it is no directory. Move it away, or name another place.")
        self.before = read(self.path) or {"files": [], "parts": [], "platforms": []}
        wrong = differences(self.path, self.before["files"]) if os.path.isdir(self.path) else {"extra": [], "missing": [], "altered": []}
        if wrong["extra"]:
            raise ModelFleetError(
                f"Refused to make the bundle in {self.path}: {some(wrong['extra'])} would be lost in it, for no manifest names it. "
                "Move it away, or name an empty directory."
            )
        bad = set(wrong["missing"] + wrong["altered"])
        self.known = {file["path"]: file for file in self.before["files"] if file["path"] not in bad}

    def add(self, path, within, source, licence):
        """Note a file that was made at ``within`` of the place for new ones."""
        whole = os.path.join(self.new, within)
        size = os.stat(whole).st_size
        self.files.append({"path": path, "size": size, "sha256": sha256_of(whole), "source": source, "licence": licence})

    def file(self, one):
        path, expected = one["path"], (one["sha256"] or "").lower()
        source = one["source"] or (without_credentials(one["url"]) if one["url"] else os.path.basename(one["src"]))
        if one["src"]:
            try:
                found = sha256_of(one["src"])
            except OSError as exc:
                raise ModelFleetError(
                    f"Failed to read {one['src']} for {path}: {exc.strerror}. Put the file there, or correct its path."
                ) from exc
            self.compare(path, found, expected or found, one["src"])
            expected = found
        if self.known.get(path, {}).get("sha256") == expected:
            self.files.append({**self.known[path], "source": source, "licence": one["licence"]})
            return
        self.made.append(path)
        if self.module.check_mode:
            return
        target = os.path.join(self.new, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if one["src"]:
            shutil.copyfile(one["src"], target)
        else:
            download(one["url"], target, self.params["ca_path"], self.params["timeout"], self.params["retries"])
        self.add(path, path, source, one["licence"])
        self.compare(path, self.files[-1]["sha256"], expected, source)

    def compare(self, path, found, expected, source):
        if found != expected:
            raise ModelFleetError(
                f"Refused {source} for {path}: its sha256 is {found}, expected {expected}. Find out who changed it, or correct the sha256."
            )

    def public_key(self):
        if not self.key:
            return
        text = public_key(self.module, self.key)
        if self.known.get(KEY, {}).get("sha256") == hashlib.sha256(text.encode()).hexdigest():
            self.files.append(self.known[KEY])
            return
        self.made.append(KEY)
        if not self.module.check_mode:
            with open(os.path.join(self.new, KEY), "w", encoding="utf-8") as handle:
                handle.write(text)
            self.add(KEY, KEY, "gpg", "")

    def part(self, kind, one):
        path = one["path"]
        asked = self.asked(kind, one)
        whole = {file["path"] for file in self.before["files"] if _is_of(path, file["path"])}
        part = {"kind": kind, "path": path, "asked": asked}
        self.parts.append(part)
        if part in self.before["parts"] and whole and whole <= set(self.known) and not self.params["refresh"]:
            self.files.extend(self.known[name] for name in sorted(whole))
            return
        self.made.append(path)
        if self.module.check_mode:
            return
        # An image is a file, the others are directories of them.
        place = os.path.dirname(path) if kind == "images" else path
        os.makedirs(os.path.join(self.new, place), exist_ok=True)
        arguments = (self.key,) if kind == "packages" else ()
        made = getattr(_offline_parts, kind)(self.module, one, os.path.join(self.new, place), *arguments)
        for name, (source, licence) in sorted(made.items()):
            self.add(f"{place}/{name}" if place else name, f"{place}/{name}", source, licence)

    def asked(self, kind, one):
        """The digest (str) of what makes a part another one; no password is in it."""
        shown = {}
        for name, value in one.items():
            if name in ("index_url", "first_index_url"):
                value = without_credentials(value)
            elif name in ("sources", "first", "packages"):
                value = [_offline_parts.without_passwords(line) for line in value]
            # Where pip runs is no property of what it gets.
            shown[name] = "" if name == "pip" else value
        text = json.dumps([_MAKING, kind, shown, self.key if kind == "packages" else ""], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def finish(self):
        wanted = {file["path"] for file in self.files}
        removed = sorted(path for path in self.known if path not in wanted and not self.is_made(path))
        content = text_of(self.parts, set(self.params["platforms"]), self.files)
        manifest, signature = os.path.join(self.path, MANIFEST), os.path.join(self.path, SIGNATURE)
        anew = bool(self.made or removed)
        if anew and not self.module.check_mode:
            # From here to the signature the directory is no bundle, and says so.
            for path in (signature, manifest):
                if os.path.lexists(path):
                    os.unlink(path)
            self.replace()
        written = not os.path.isdir(self.path)
        if not written:
            written, _diff = put_file(self.module, manifest, content, params={"mode": "0644", "owner": None, "group": None})
        signed = self.sign(manifest, signature, written or anew)
        result = {
            "changed": bool(written or anew or signed),
            "path": self.path,
            "key": self.key,
            "files": len(self.files),
            "bytes": sum(file["size"] for file in self.files),
            "made": sorted(self.made),
            "removed": removed,
        }
        if self.module._diff:
            result["diff"] = {
                "before_header": self.path,
                "after_header": self.path,
                "before": _lines(self.before["files"], []),
                "after": _lines(self.files, self.made if self.module.check_mode else []),
            }
        return result

    def is_made(self, path):
        return any(_is_of(one, path) for one in self.made)

    def replace(self):
        """Put what is new in the place of what was there, and remove what nobody names."""
        wanted = {file["path"] for file in self.files}
        for file in self.before["files"]:
            whole = os.path.join(self.path, file["path"])
            if (file["path"] not in wanted or self.is_made(file["path"])) and os.path.lexists(whole):
                os.unlink(whole)
        for directory, _subdirectories, names in os.walk(self.new):
            for name in names:
                within = os.path.relpath(os.path.join(directory, name), self.new)
                target = os.path.join(self.path, within)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.replace(os.path.join(directory, name), target)
        shutil.rmtree(self.new, ignore_errors=True)
        for directory, subdirectories, names in os.walk(self.path, topdown=False):
            if (
                directory != self.path
                and not names
                and not any(map(os.path.exists, (os.path.join(directory, one) for one in subdirectories)))
            ):
                os.rmdir(directory)

    def sign(self, manifest, signature, anew):
        """Whether a signature was made or removed, or would be."""
        if not self.key:
            unwanted = os.path.lexists(signature)
            if unwanted and not self.module.check_mode:
                os.unlink(signature)
            return unwanted
        keys = [os.path.join(self.path, KEY)]
        there = not anew and os.path.isfile(signature) and os.path.isfile(keys[0])
        if there and signature_problem(self.module, signature, manifest, self.key, keys) is None:
            return False
        if not self.module.check_mode:
            sign(self.module, self.key, manifest, signature)
        return True


def _is_of(part, path):
    """Whether a path is a part of the bundle, or below it."""
    return path == part or path.startswith(f"{part}/")


def _lines(files, made):
    lines = [f"{file['path']} {file['sha256']}" for file in files] + [f"{path} (made anew)" for path in made]
    return "".join(f"{line}\n" for line in sorted(lines))


def main():
    texts = {"type": "list", "elements": "str", "default": []}
    empty = {"type": "str", "default": ""}
    required = {"type": "str", "required": True}

    def entries(**options):
        return {"type": "list", "elements": "dict", "default": [], "options": options}

    module = DiscreetModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "key": {"type": "str", "default": "", "no_log": False},
            "unsigned": {"type": "bool", "default": False},
            "platforms": texts,
            "files": {
                **entries(
                    path=required,
                    src={"type": "path"},
                    url={"type": "str"},
                    sha256={"type": "str"},
                    source={"type": "str"},
                    licence=empty,
                ),
                "mutually_exclusive": [("src", "url")],
                "required_one_of": [("src", "url")],
            },
            "wheels": entries(
                path=required,
                platform=required,
                python=empty,
                pip=empty,
                first=texts,
                first_index_url=empty,
                packages=texts,
                index_url=empty,
                hashes={"type": "dict", "default": {}},
            ),
            "packages": entries(
                path=required, platform=required, names={"type": "list", "elements": "str", "required": True}, sources=texts
            ),
            "images": entries(path=required, image=required, platform=required),
            "refresh": {"type": "bool", "default": False},
            "ca_path": {"type": "path"},
            "timeout": {"type": "int", "default": 60},
            "retries": {"type": "int", "default": 4},
        },
        supports_check_mode=True,
    )
    try:
        result = Bundle(module).run()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
