#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dragonfly_release
short_description: Install Dragonfly programs at one version
version_added: 0.1.0
description:
  - Installs the programs of one Dragonfly release archive under C(<root>/<name>/<version>)
    and points the link C(<root>/<name>/current) at it.
  - The archive is taken from a URL (the published release, a mirror, C(file://)) or from a file that is already on the host.
  - Its SHA-256 is required and checked before anything is unpacked. Only the named programs are unpacked, from the top of the archive or
    from its one top directory, which are the two layouts in which Dragonfly is published.
  - The link is switched in one step. A release that is damaged on disk is installed again.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
attributes:
  check_mode:
    details: The archive is neither downloaded nor verified in check mode.
options:
  name:
    description: Name of the directory that holds the versions, for example V(scheduler) or V(client).
    type: str
    required: true
  version:
    description: The version, which names the directory of this release.
    type: str
    required: true
  url:
    description: Where the archive is downloaded from. Exactly one of O(url) and O(src) is required.
    type: str
  src:
    description: The archive as a file on the host.
    type: path
  sha256:
    description: SHA-256 of the archive, 64 hexadecimal digits.
    type: str
    required: true
  programs:
    description: The programs that this release must hold. Nothing else of the archive is installed.
    type: list
    elements: str
    required: true
  root:
    description: Directory of all Dragonfly releases.
    type: path
    default: /opt/dragonfly
  keep:
    description: How many other versions stay installed beside the current one, the one that was current before first.
    type: int
    default: 1
  ca_path:
    description: File with CA certificates (PEM) that are trusted for the download beside those of the system.
    type: path
  timeout:
    description: Seconds that the server may be silent.
    type: int
    default: 60
  retries:
    description: How many times a download that failed for a passing reason is tried again.
    type: int
    default: 4
seealso:
  - module: modelfleet.serving.dragonfly_config
"""

EXAMPLES = r"""
- name: Install the Dragonfly client from the published release
  modelfleet.serving.dragonfly_release:
    name: client
    version: 1.5.10
    url: https://github.com/dragonflyoss/client/releases/download/v1.5.10/dragonfly-client-v1.5.10-x86_64-unknown-linux-musl.tar.gz
    sha256: "{{ dfdaemon_release_sha256 }}"
    programs: [dfdaemon, dfget, dfctl]

- name: Install the scheduler from an archive that is already on the host
  modelfleet.serving.dragonfly_release:
    name: scheduler
    version: 2.5.1
    src: /var/cache/dragonfly-2.5.1-linux-amd64.tar.gz
    sha256: "{{ dragonfly_scheduler_release_sha256 }}"
    programs: [scheduler]
"""

RETURN = r"""
version:
  description: The version that is current now.
  returned: success
  type: str
  sample: 1.5.10
previous_version:
  description: The version that was current before, or nothing.
  returned: success
  type: str
  sample: 1.5.9
path:
  description: The link to the current release; programs are called through it.
  returned: success
  type: str
  sample: /opt/dragonfly/client/current
reason:
  description: Why the release had to be installed or the link switched, empty if nothing had to be done.
  returned: success
  type: str
  sample: dfget is damaged
removed:
  description: Versions that were removed because of O(keep).
  returned: success
  type: list
  elements: str
  sample: [1.5.7]
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tarfile

from ansible_collections.modelfleet.serving.plugins.module_utils._download import CHUNK, download, is_url, without_credentials
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import sha256_of
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json

RELEASE_FILE = ".release.json"
STAGING = ".new"
PLAIN_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._+-]*\Z")


class Release:
    def __init__(self, module):
        self.module = module
        params = module.params
        self.version = params["version"]
        self.sha256 = params["sha256"].lower()
        self.programs = params["programs"]
        self.keep = params["keep"]
        self.base = os.path.join(params["root"], params["name"])
        self.directory = os.path.join(self.base, self.version)
        self.staging = os.path.join(self.base, STAGING)
        self.link = os.path.join(self.base, "current")
        self.origin = params["src"] or without_credentials(params["url"])

    def run(self):
        self.check_parameters()
        previous = self.current_version()
        damage = self.damage()
        reason = damage or ("" if previous == self.version else "current is {}".format(previous or "missing"))
        removed = self.releases_to_remove(previous)
        if not self.module.check_mode:
            try:
                if damage:
                    self.install()
                if reason:
                    self.switch()
                for version in removed:
                    shutil.rmtree(os.path.join(self.base, version))
            except OSError as exc:
                raise self.explained(exc) from exc
        result = {
            "changed": bool(reason or removed),
            "version": self.version,
            "previous_version": previous,
            "path": self.link,
            "reason": reason,
            "removed": removed,
        }
        if self.module._diff:
            result["diff"] = {
                "before_header": self.link,
                "after_header": self.link,
                "before": self.described(previous) if previous else "",
                "after": f"version: {self.version}\nsha256: {self.sha256}\n",
            }
        return result

    def check_parameters(self):
        params = self.module.params
        if not re.match(r"^[0-9a-f]{64}\Z", self.sha256):
            raise ModelFleetError(
                "Refused to install {} {}: sha256 is '{}', not 64 hexadecimal digits. "
                "Run modelfleet.serving.pin_releases, or take it from sha256sum of an archive that you trust.".format(
                    params["name"], self.version, params["sha256"]
                )
            )
        for option, values in (("name", [params["name"]]), ("version", [self.version]), ("programs", self.programs)):
            for value in values:
                if not PLAIN_NAME.match(value) or value == "current":
                    raise ModelFleetError(
                        f"Refused {option} '{value}': it becomes a file name, so use letters, digits, '.', '_', '+' and '-'."
                    )
        if not self.programs:
            raise ModelFleetError(
                "Refused to install {} {}: programs is empty. Name the programs to install.".format(params["name"], self.version)
            )
        if self.keep < 0:
            raise ModelFleetError(f"Refused keep={self.keep}: it is a number of versions, so use 0 or more.")
        if params["url"] and not is_url(params["url"]):
            raise ModelFleetError(f"Refused url '{self.origin}': use an https, http or file URL.")

    # what is there

    def current_version(self):
        try:
            return os.path.basename(os.readlink(self.link))
        except OSError:
            return None

    def recorded(self, version):
        try:
            with open(os.path.join(self.base, version, RELEASE_FILE), encoding="utf-8") as handle:
                record = from_json(handle.read())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def described(self, version):
        return "version: {}\nsha256: {}\n".format(version, self.recorded(version).get("sha256", "unknown"))

    def damage(self):
        """Say what is wrong with this version on disk, in a few words; empty if it is what was asked for."""
        if not os.path.isdir(self.directory):
            return f"version {self.version} is not installed"
        record = self.recorded(self.version)
        if record.get("sha256") != self.sha256:
            return f"version {self.version} was installed from another archive"
        digests = record.get("programs") or {}
        for program in self.programs:
            path = os.path.join(self.directory, program)
            if not os.path.isfile(path):
                return f"{program} is missing"
            try:
                if os.stat(path).st_mode & 0o7777 != 0o755 or sha256_of(path) != digests.get(program):
                    return f"{program} is damaged"
            except OSError as exc:
                return f"{program} cannot be read ({exc.strerror})"
        return ""

    def releases_to_remove(self, previous):
        """The versions that go, so that ``keep`` stay beside the current one: the one current before, then the newest."""
        if not os.path.isdir(self.base):
            return []
        others = [
            entry
            for entry in os.scandir(self.base)
            if entry.is_dir(follow_symlinks=False) and entry.name not in (self.version, STAGING) and self.recorded(entry.name)
        ]
        others.sort(key=lambda entry: (entry.name == previous, entry.stat().st_mtime), reverse=True)
        return [entry.name for entry in others[self.keep :]]

    # what changes

    def install(self):
        shutil.rmtree(self.staging, ignore_errors=True)
        try:
            os.makedirs(os.path.join(self.staging, "programs"))
            archive = self.module.params["src"] or self.downloaded()
            self.verify(archive)
            record = {"version": self.version, "sha256": self.sha256, "programs": self.unpack(archive)}
            with open(os.path.join(self.staging, "programs", RELEASE_FILE), "w", encoding="utf-8") as handle:
                json.dump(record, handle, indent=2, sort_keys=True)
                handle.write("\n")
                handle.flush()
                os.fsync(handle.fileno())
            for path, mode in (
                (handle.name, 0o644),
                (os.path.dirname(handle.name), 0o755),
                (self.base, 0o755),
                (os.path.dirname(self.base), 0o755),
            ):
                os.chmod(path, mode)
            if os.path.isdir(self.directory):
                os.rename(self.directory, os.path.join(self.staging, "damaged"))
            os.rename(os.path.join(self.staging, "programs"), self.directory)
        finally:
            shutil.rmtree(self.staging, ignore_errors=True)

    def switch(self):
        os.makedirs(self.base, exist_ok=True)
        if os.path.isdir(self.link) and not os.path.islink(self.link):
            raise ModelFleetError(f"Failed to switch {self.link}: it is a directory, not a link. Move it away and run again.")
        temporary = os.path.join(self.base, ".current")
        if os.path.lexists(temporary):
            os.unlink(temporary)
        os.symlink(self.version, temporary)
        os.replace(temporary, self.link)

    def downloaded(self):
        params = self.module.params
        target = os.path.join(self.staging, "archive")
        download(params["url"], target, params["ca_path"], params["timeout"], params["retries"])
        return target

    def verify(self, archive):
        try:
            actual = sha256_of(archive)
        except FileNotFoundError as exc:
            raise ModelFleetError(f"Failed to read {archive}: there is no such file on this host. Copy the archive there first.") from exc
        if actual != self.sha256:
            raise ModelFleetError(
                f"Refused {self.origin}: its sha256 is {actual}, expected {self.sha256}. Nothing was unpacked. "
                "Find out who changed it. If it is the archive that you want, correct the sha256, or take its entry out of "
                "releases.lock.yml and run modelfleet.serving.pin_releases again."
            )

    def unpack(self, archive):
        """Write the programs to the staging directory, and nothing else. Return their digests."""
        digests = {}
        try:
            with tarfile.open(archive) as tar:
                for member in tar:
                    parts = [part for part in member.name.split("/") if part not in ("", ".")]
                    if member.name.startswith("/") or ".." in parts:
                        raise ModelFleetError(
                            f"Refused {self.origin}: its entry '{member.name}' points outside the archive. Do not trust this archive."
                        )
                    if not 1 <= len(parts) <= 2 or parts[-1] not in self.programs:
                        continue
                    if not member.isreg() or parts[-1] in digests:
                        raise ModelFleetError(
                            "Refused {}: its entry '{}' is {}. Do not trust this archive.".format(
                                self.origin, member.name, "there twice" if member.isreg() else "not a plain file"
                            )
                        )
                    digests[parts[-1]] = self.write_program(parts[-1], tar.extractfile(member))
        except (tarfile.TarError, EOFError, ValueError) as exc:
            raise ModelFleetError(
                f"Failed to unpack {self.origin}: it is not a tar archive that can be read ({exc}). Use a .tar.gz release archive."
            ) from exc
        missing = [program for program in self.programs if program not in digests]
        if missing:
            raise ModelFleetError(
                "Failed to unpack {}: it does not hold {}. Check name, version and programs.".format(self.origin, ", ".join(missing))
            )
        return digests

    def write_program(self, program, source):
        digest = hashlib.sha256()
        path = os.path.join(self.staging, "programs", program)
        with open(path, "xb") as handle:
            for chunk in iter(lambda: source.read(CHUNK), b""):
                digest.update(chunk)
                handle.write(chunk)
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(path, 0o755)
        return digest.hexdigest()

    def explained(self, exc):
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            return ModelFleetError(
                "Failed to install {} {}: the disk that holds {} is full. "
                "Free some space there and run again; what was installed before is untouched.".format(
                    self.module.params["name"], self.version, self.base
                )
            )
        return ModelFleetError(
            "Failed to install {} {} in {}: {}. Check the directory and its permissions.".format(
                self.module.params["name"], self.version, self.base, exc
            )
        )


def main():
    module = DiscreetModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "url": {"type": "str"},
            "src": {"type": "path"},
            "sha256": {"type": "str", "required": True},
            "programs": {"type": "list", "elements": "str", "required": True},
            "root": {"type": "path", "default": "/opt/dragonfly"},
            "keep": {"type": "int", "default": 1},
            "ca_path": {"type": "path"},
            "timeout": {"type": "int", "default": 60},
            "retries": {"type": "int", "default": 4},
        },
        mutually_exclusive=[("url", "src")],
        required_one_of=[("url", "src")],
        supports_check_mode=True,
    )
    try:
        result = Release(module).run()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
