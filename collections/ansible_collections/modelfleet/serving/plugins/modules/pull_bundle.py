#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pull_bundle
short_description: Make the signed bundle that hosts in pull mode fetch
version_added: 0.1.0
description:
  - Runs on the controller. Packs what a host needs to set itself up into one archive, named by its SHA-256, and writes the file C(current),
    which names the archive, has a number that only grows, and is signed by a key of OpenSSH.
  - The same files give the same archive. While they are the same and the signature is good, nothing is written.
  - No secret gets into it unseen. A file that C(ansible-vault) encrypted is left out, a file with encrypted values in it is refused, and so
    is one in which a secret of O(secrets) stands.
author:
  - ModelFleet developers (@modelfleet)
requirements:
  - OpenSSH 8.2 or newer on the controller
extends_documentation_fragment:
  - modelfleet.serving.attributes
attributes:
  diff_mode:
    details: Shows which archive is current.
options:
  dest:
    description: The directory that is published, by whatever serves files. It is created. Archives of before stay.
    type: path
    required: true
  sources:
    description: What is packed.
    type: list
    elements: dict
    required: true
    suboptions:
      src:
        description: A file or a directory.
        type: path
        required: true
      path:
        description: Where it is in the archive.
        type: str
        required: true
  exclude:
    description:
      - Patterns of names that are left out, as a shell has them. A pattern is compared with the name of each file and directory.
    type: list
    elements: str
    default: []
  secrets:
    description:
      - Texts that must not be in any file. One with fewer than 6 characters is not looked for.
    type: list
    elements: str
    default: []
  signing_key:
    description: File with the key that signs, or with its public half where an agent has it. Hosts must know it.
    type: path
    required: true
seealso:
  - module: modelfleet.serving.model_bundle
"""

EXAMPLES = r"""
- name: Make the bundle
  modelfleet.serving.pull_bundle:
    dest: /srv/www/fleet
    sources:
      - {src: inventory/prod, path: inventory}
      - {src: /usr/share/ansible/collections/ansible_collections/modelfleet/serving, path: ansible_collections/modelfleet/serving}
    exclude: ["*.pki", .git]
    secrets: ["{{ vault_read_secret_key }}"]
    signing_key: /root/fleet-signing-key
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
sha256:
  description: The SHA-256 of the archive.
  returned: success
  type: str
  sample: 9f2c1a4be3f2d6c7b8a90123456789abcdef0123456789abcdef0123456789ab
serial:
  description: The number of the bundle. In check mode that which it would have.
  returned: success
  type: int
  sample: 7
bytes:
  description: Size of the archive.
  returned: success
  type: int
  sample: 2500000
files:
  description: How many files are in it.
  returned: success
  type: int
  sample: 412
left_out:
  description: Files that C(ansible-vault) encrypted, which are not in it.
  returned: success
  type: list
  elements: str
  sample: [inventory/group_vars/all/vault.yml]
"""

import fnmatch
import gzip
import json
import mmap
import os
import re
import shutil
import tarfile
import tempfile

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import sha256_of
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule

CURRENT = "current"
NAMESPACE = "modelfleet-pull"
FORMAT = 1
SHORTEST_SECRET = 6
# A host takes no more.
MOST_FILES = 100_000
SIGNATURE = "-----BEGIN SSH SIGNATURE-----"
VAULT = b"$ANSIBLE_VAULT;"
# One value, in a file of others.
VAULT_VALUE = re.compile(rb"!vault(-encrypted)?\b")
PLACE = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*\Z")


def error(what, remedy):
    return ModelFleetError(f"Failed to make the bundle: {what}. {remedy}.")


def collect(params):
    """({name in the archive: path}, [those that are left out because they are encrypted])"""
    found, left_out = {}, []
    for source in params["sources"]:
        place, top = source["path"], source["src"]
        if not PLACE.match(place) or ".." in place.split("/"):
            raise error(f"the path {place[:80]!r} is none in an archive", "Write it as names with / between them, without ..")
        if os.path.isfile(top):
            pairs = [(place, top)]
        elif os.path.isdir(top):
            pairs = ((f"{place}/{name}", path) for name, path in walk(top, params["exclude"]))
        else:
            raise error(f"there is no {top}", "Correct its path")
        for name, path in pairs:
            if name in found and found[name] != path:
                raise error(f"{found[name]} and {path} would both be {name}", "Give one of them another path")
            if is_vault(path):
                left_out.append(name)
            else:
                found[name] = path
            if len(found) > MOST_FILES:
                raise error(f"there are more than {MOST_FILES} files below {top}", "Name the directory of the inventory, or exclude more")
    return found, left_out


def walk(top, exclude):
    """Yield (name, path) of the files below a directory."""

    def wanted(name):
        return not any(fnmatch.fnmatchcase(name, pattern) for pattern in exclude)

    for directory, directories, names in os.walk(top):
        directories[:] = sorted(filter(wanted, directories))
        for name in directories:
            path = os.path.join(directory, name)
            if os.path.islink(path):
                raise error(f"{path} is a link to a directory", "Name that directory as a source, or exclude the link")
        for name in sorted(filter(wanted, names)):
            path = os.path.join(directory, name)
            if not os.path.isfile(path):
                raise error(f"{path} is no regular file", "Remove it, or exclude it")
            yield os.path.relpath(path, top), path


def is_vault(path):
    if os.path.getsize(path) == 0:
        return False
    with opened(path) as handle:
        return handle.read(len(VAULT)) == VAULT


def opened(path):
    try:
        return open(path, "rb")
    except OSError as exc:
        raise error(f"{path} cannot be read ({exc.strerror})", "Check its permissions") from exc


def refuse_secrets(files, secrets):
    """Name the files that hold what must not leave the controller, and never what that is."""
    wanted = [secret.encode("utf-8", "surrogateescape") for secret in secrets if len(secret) >= SHORTEST_SECRET]
    encrypted, holding = [], []
    for name, path in files.items():
        if os.path.getsize(path) == 0:
            continue
        with opened(path) as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if name.endswith((".yml", ".yaml")) and VAULT_VALUE.search(content) and content.find(VAULT) >= 0:
                encrypted.append(path)
            if any(content.find(secret) >= 0 for secret in wanted):
                holding.append(path)
    if encrypted:
        raise error(
            f"{', '.join(encrypted)} has values that ansible-vault encrypted, and hosts have no password for them",
            "Move them into a file of their own that ansible-vault encrypts whole, and name those variables in pull_secret_variables",
        )
    if holding:
        raise error(f"a secret stands in {', '.join(holding)}", "Take it out, and have it come from a variable in a vault")


def write_archive(files, path):
    """The same bytes for the same files: no time, no owner, the order of the names."""
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed, tarfile.TarFile(fileobj=packed, mode="w") as tar:
        for name in sorted(files):
            with opened(files[name]) as handle:
                entry = tarfile.TarInfo(name)
                entry.size = os.fstat(handle.fileno()).st_size
                entry.mode = 0o755 if os.fstat(handle.fileno()).st_mode & 0o100 else 0o644
                tar.addfile(entry, handle)


class Publication:
    """The directory that is published."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.dest = module.params["dest"]

    def path(self, name):
        return os.path.join(self.dest, name)

    def current(self):
        """What the file says that is there, or {}."""
        try:
            with open(self.path(CURRENT), encoding="utf-8") as handle:
                said, _begin, _rest = handle.read().partition(SIGNATURE)
            found = json.loads(said)
            if not isinstance(found, dict) or not isinstance(found.get("serial"), int):
                raise ValueError("it does not say a serial")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as exc:
            raise error(
                f"{self.path(CURRENT)} cannot be used ({' '.join(str(exc).split())})",
                "Bring it back from a copy: hosts take no bundle whose number is less than that of the last one",
            ) from exc
        return found

    def is_signed(self):
        """Whether the key that signs now has signed what is there."""
        with open(self.path(CURRENT), encoding="utf-8") as handle:
            said, begin, rest = handle.read().partition(SIGNATURE)
        signature = os.path.join(self.module.tmpdir, "signature")
        with open(signature, "w", encoding="utf-8") as handle:
            handle.write(begin + rest)
        command = ["ssh-keygen", "-Y", "check-novalidate", "-n", NAMESPACE, "-s", signature]
        status, out, _err = self.module.run_command(command, data=said, binary_data=True)
        return status == 0 and self.fingerprint() in out.split()

    def fingerprint(self):
        key = self.params["signing_key"]
        status, out, err = self.module.run_command(["ssh-keygen", "-l", "-f", key])
        if status or len(out.split()) < 2:
            raise error(
                f"the key {key} cannot be read ({' '.join(err.split()) or 'ssh-keygen failed'})", "Make one with: ssh-keygen -t ed25519"
            )
        return out.split()[1]

    def sign(self, said):
        """The text of the file with its signature behind it."""
        place = os.path.join(self.module.tmpdir, CURRENT)
        with open(place, "w", encoding="utf-8") as handle:
            handle.write(said)
        key = self.params["signing_key"]
        # Nobody is there to be asked for a passphrase.
        quiet = {"SSH_ASKPASS_REQUIRE": "never"}
        status, _out, err = self.module.run_command(["ssh-keygen", "-Y", "sign", "-f", key, "-n", NAMESPACE, place], environ_update=quiet)
        if status:
            raise error(
                f"ssh-keygen did not sign with {key} ({' '.join(err.split())})",
                "Check the file; where the key has a passphrase, load it into an agent and name its public half",
            )
        with open(place + ".sig", encoding="utf-8") as handle:
            return said + handle.read()

    def publish(self):
        files, left_out = collect(self.params)
        if not files:
            raise error("there is nothing to pack", "Correct sources and exclude")
        refuse_secrets(files, self.params["secrets"])
        self.fingerprint()
        packed = os.path.join(self.module.tmpdir, "bundle.tar.gz")
        write_archive(files, packed)
        sha256, size = sha256_of(packed), os.path.getsize(packed)
        before = self.current()
        archive = self.path(f"{sha256}.tar.gz")
        whole = os.path.isfile(archive) and sha256_of(archive) == sha256
        same = before.get("sha256") == sha256
        changed = not (same and whole and self.is_signed())
        serial = before.get("serial", 0) + (0 if same else 1)
        if changed and not self.module.check_mode:
            os.makedirs(self.dest, exist_ok=True)
            if not whole:
                self.put(packed, archive)
            said = json.dumps({"format": FORMAT, "serial": serial, "sha256": sha256, "bytes": size}, sort_keys=True) + "\n"
            signed = os.path.join(self.module.tmpdir, "signed")
            with open(signed, "w", encoding="utf-8") as handle:
                handle.write(self.sign(said))
            # Last: whoever reads it finds the archive.
            self.put(signed, self.path(CURRENT))
        shown = {"before": f"{before.get('sha256', '')}\n", "after": f"{sha256}\n"}
        header = {"before_header": self.path(CURRENT), "after_header": self.path(CURRENT)}
        return {
            "changed": changed,
            "sha256": sha256,
            "serial": serial,
            "bytes": size,
            "files": len(files),
            "left_out": left_out,
            "diff": {**header, **shown},
        }

    def put(self, src, path):
        """Whole or not at all, and readable for whoever serves it."""
        handle, temporary = tempfile.mkstemp(prefix=".modelfleet-", dir=self.dest)
        try:
            with os.fdopen(handle, "wb") as target, open(src, "rb") as source:
                shutil.copyfileobj(source, target)
                os.fchmod(target.fileno(), 0o644)
            os.replace(temporary, path)
        except OSError as exc:
            os.unlink(temporary)
            raise error(f"{path} cannot be written ({exc.strerror})", "Check the directory and the room there") from exc


def main():
    module = DiscreetModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "sources": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"src": {"type": "path", "required": True}, "path": {"type": "str", "required": True}},
            },
            "exclude": {"type": "list", "elements": "str", "default": []},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "signing_key": {"type": "path", "required": True, "no_log": False},
        },
        supports_check_mode=True,
    )
    try:
        result = Publication(module).publish()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc))
    except OSError as exc:
        module.fail_json(
            msg=f"Failed to make the bundle in {module.params['dest']}: {exc.strerror}. Check the directory and the room there."
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
