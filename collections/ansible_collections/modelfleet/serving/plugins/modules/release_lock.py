#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_lock
short_description: Pin release archives by their SHA-256 in a file
version_added: 0.1.0
description:
  - Downloads each archive, or reads it where it is a file, and writes its SHA-256 and where it came from into a YAML file of variables.
  - An archive that is pinned in the file already must be the same as then. If it is not, nothing is written.
  - Where the server has checksums beside the archive (C(<archive>.sha256), C(checksums.txt), C(SHA256SUMS)) or a provenance
    (C(multiple.intoto.jsonl)), the archive must be the one that they name. Their signatures are not verified.
  - Entries of other releases stay in the file.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
attributes:
  check_mode:
    details: Archives are downloaded and compared in check mode too, since nothing is known of them before. They are not kept.
options:
  path:
    description: The file. Its directory is made, and beside it there must be no file that Ansible would not read any more because of that.
    type: path
    required: true
  releases:
    description: The releases to pin.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the release, for example V(client).
        type: str
        required: true
      version:
        description: Its version.
        type: str
        required: true
      architecture:
        description: What the archive runs on, as Ansible's facts name it, for example V(x86_64).
        type: str
        required: true
      url:
        description: Where the archive is downloaded from. Exactly one of O(releases[].url) and O(releases[].src) is required.
        type: str
      src:
        description: The archive as a file.
        type: path
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
  - module: modelfleet.serving.dragonfly_release
"""

EXAMPLES = r"""
- name: Pin the Dragonfly client
  modelfleet.serving.release_lock:
    path: "{{ inventory_dir }}/group_vars/all/releases.lock.yml"
    releases:
      - name: client
        version: 1.5.10
        architecture: x86_64
        url: https://github.com/dragonflyoss/client/releases/download/v1.5.10/dragonfly-client-v1.5.10-x86_64-unknown-linux-musl.tar.gz
  delegate_to: localhost
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: inventory/prod/group_vars/all/releases.lock.yml
pins:
  description: What became of each release, each once.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its key in the file, name, version and architecture.
      type: str
      sample: client-1.5.10-x86_64
    sha256:
      description: SHA-256 of the archive.
      type: str
    source:
      description: Where the archive is from, without credentials.
      type: str
    confirmed_by:
      description: The names of the files beside the archive that name this digest.
      type: list
      elements: str
      sample: [checksums.txt]
    new:
      description: Whether it was not pinned before.
      type: bool
"""

import base64
import os
import re
import tempfile
import urllib.parse

from ansible_collections.modelfleet.serving.plugins.module_utils._download import (
    NotThere,
    download,
    is_url,
    without_credentials,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import sha256_of
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule
from ansible_collections.modelfleet.serving.plugins.module_utils._pins import Pins
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json

HEADER = """\
# Written by modelfleet.serving.pin_releases. Keep it with the inventory: every run installs exactly these archives.
# To pin another archive under the same name, take its entry out and run the play again.
"""
_PLAIN = re.compile(r"[A-Za-z0-9._+-]+\Z")
_CHECKSUM = re.compile(r"([0-9a-fA-F]{64})(?:[ \t]+[*]?(\S.*))?\Z")


def listed_in_checksums(text, name):
    """The digest (str) that lines as sha256sum prints them have for the file ``name``, or None. A lone digest is that of the file."""
    for line in text.splitlines():
        match = _CHECKSUM.match(line.strip())
        if match and (match[2] is None or match[2].rpartition("/")[2] == name):
            return match[1].lower()
    return None


def listed_in_provenance(text, name):
    """The digest (str) that in-toto statements, a DSSE envelope a line, have for the file ``name``, or None."""
    for line in text.splitlines():
        try:
            statement = from_json(base64.b64decode(from_json(line)["payload"]))
            for subject in statement["subject"]:
                if subject["name"].rpartition("/")[2] == name:
                    return subject["digest"]["sha256"].lower()
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return None


class Lock(Pins):
    variable = "modelfleet_release_pins"
    header = HEADER
    setting = "modelfleet_release_lock"

    def __init__(self, module):
        super().__init__(module)
        self.directory = tempfile.mkdtemp(dir=module.tmpdir)

    def is_pin(self, pin):
        return "sha256" in pin

    def pin(self, wanted):
        name = "-".join(wanted[part] for part in ("name", "version", "architecture"))
        if not _PLAIN.match(name):
            raise ModelFleetError(f"Refused the release {name!r}: it becomes a name, so use letters, digits, '.', '_', '+' and '-'.")
        if wanted["src"]:
            source = wanted["src"]
            try:
                sha256 = sha256_of(source)
            except OSError as exc:
                raise ModelFleetError(f"Failed to read {source}: {exc.strerror}. Put the archive there, or correct its path.") from exc
            confirmed = []
        else:
            if not is_url(wanted["url"]):
                raise ModelFleetError(f"Refused the url of {name}: use an https, http or file URL.")
            source = without_credentials(wanted["url"])
            sha256 = sha256_of(self.fetched(wanted["url"]))
            confirmed = self.confirm(wanted["url"], source, sha256)
        before = self.pinned.get(name)
        if before and before["sha256"] != sha256:
            raise ModelFleetError(
                f"Refused {source}: its sha256 is {sha256}, but {before['sha256']} was pinned for {name} "
                f"from {before.get('source', 'elsewhere')}. Find out who changed it. "
                f"If this is the archive that you want, take {name} out of {self.path} and run again."
            )
        if not before:
            self.pinned[name] = {"sha256": sha256, "source": source}
        return {"name": name, **self.pinned[name], "confirmed_by": confirmed, "new": not before}

    def fetched(self, url):
        target = os.path.join(self.directory, "file")
        params = self.module.params
        download(url, target, params["ca_path"], params["timeout"], params["retries"])
        return target

    def confirm(self, url, source, sha256):
        """Compare with what the publisher says beside the archive; return the names of the files that say so."""
        parts = urllib.parse.urlsplit(url)
        place, name = os.path.split(parts.path)
        confirmed = []
        for beside, listed in (
            (name + ".sha256", listed_in_checksums),
            ("checksums.txt", listed_in_checksums),
            ("SHA256SUMS", listed_in_checksums),
            ("multiple.intoto.jsonl", listed_in_provenance),
        ):
            try:
                path = self.fetched(urllib.parse.urlunsplit(parts._replace(path=f"{place}/{beside}")))
            except NotThere:
                continue
            with open(path, encoding="utf-8", errors="replace") as handle:
                expected = listed(handle.read(16 << 20), urllib.parse.unquote(name))
            if expected and expected != sha256:
                raise ModelFleetError(
                    f"Refused {source}: its sha256 is {sha256}, but {beside} beside it says {expected}. "
                    "Nothing was pinned. Try again later or use another mirror; if it stays so, ask who publishes it."
                )
            if expected:
                confirmed.append(beside)
        return confirmed


def main():
    module = DiscreetModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "releases": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "version": {"type": "str", "required": True},
                    "architecture": {"type": "str", "required": True},
                    "url": {"type": "str"},
                    "src": {"type": "path"},
                },
                "mutually_exclusive": [("url", "src")],
                "required_one_of": [("url", "src")],
            },
            "ca_path": {"type": "path"},
            "timeout": {"type": "int", "default": 60},
            "retries": {"type": "int", "default": 4},
        },
        supports_check_mode=True,
    )
    try:
        result = Lock(module).run(module.params["releases"])
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
