#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_certificates
short_description: Certificates for the hosts of a fleet, by an authority of its own or by the user's
version_added: 0.1.0
description:
  - Runs on the controller. Makes an authority and issues a certificate for each host, with which it is a server and a client of mutual TLS.
  - A certificate that is good stays. One that nears its end, is for another address, or is not of the authority that issues now, is issued
    anew.
  - With O(ca_path) the certificates are the user's own. Nothing is issued then; all that Dragonfly would refuse in them is named at once.
  - The private keys are in no result. P(modelfleet.serving.host_certificate#lookup) gives them to the task that writes them.
  - "The modules of community.crypto would be another way. They need the library cryptography too, which ansible-core brings along, and
    a collection that a controller without an access to a server of collections does not have."
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - modelfleet.serving.certificates
options:
  hosts:
    description: The hosts.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the host in the inventory.
        type: str
        required: true
      address:
        description: The IP address, or the name in DNS, at which the others call it. It is the subjectAltName of the certificate.
        type: str
        required: true
      certificate_path:
        description: File with the user's own certificate of this host, behind it those between it and the authority.
        type: path
      key_path:
        description: File with the key of that certificate.
        type: path
  state:
    description: Whether the hosts have certificates. V(absent) removes those that were issued here, and needs no address.
    type: str
    choices: [present, absent]
    default: present
  days:
    description: How long a certificate of a host is valid. None is valid for longer than its authority.
    type: int
    default: 365
  renew_days:
    description: So many days before its end a certificate is issued anew. Fewer than O(days).
    type: int
    default: 30
  authority_days:
    description: How long an authority that is made is valid.
    type: int
    default: 3650
  rotation:
    description:
      - A step from one authority to the next. What has been done already is not done again, so a rotation that was interrupted goes on.
      - V(trust) makes the next authority and trusts it beside the present one, which goes on issuing.
      - V(issue) has the next one issue; the one before stays trusted. Every host must trust both by then.
      - V(finish) trusts the one before no more. Every host must have a certificate of the new one by then.
    type: str
    choices: [none, trust, issue, finish]
    default: none
seealso:
  - plugin: modelfleet.serving.host_certificate
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Provide the certificates of the fleet
  modelfleet.serving.host_certificates:
    directory: /srv/ansible/prod.pki
    passphrase: "{{ vault_pki_passphrase }}"
    hosts:
      - {name: scheduler-1, address: 10.0.0.1}
      - {name: gpu-1, address: 10.0.0.11}
  delegate_to: localhost
  run_once: true

- name: Check certificates of an authority that is there already
  modelfleet.serving.host_certificates:
    ca_path: /srv/pki/ca.pem
    hosts:
      - {name: gpu-1, address: 10.0.0.11, certificate_path: /srv/pki/gpu-1.pem, key_path: /srv/pki/gpu-1.key}
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
hosts:
  description: The certificates, in the order of O(hosts). Empty with O(state=absent).
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the host.
      type: str
      sample: gpu-1
    expires:
      description: When its certificate expires, in seconds since the epoch.
      type: int
      sample: 1798761600
    reason:
      description: Why it was issued; empty for one that stays.
      type: str
      sample: there was none
trusted:
  description: The authorities that are trusted, the one that issues first. Empty with O(state=absent).
  returned: success
  type: list
  elements: dict
  contains:
    subject:
      description: Its name.
      type: str
      sample: CN=ModelFleet 1f2e3d4c
    expires:
      description: When it expires, in seconds since the epoch.
      type: int
      sample: 2082758400
rotation:
  description: How far a rotation has come, V(trust) or V(issue); V(none) when there is none.
  returned: success
  type: str
  sample: none
"""

import contextlib
import fcntl
import os
import re

from ansible_collections.modelfleet.serving.plugins.module_utils import _certificates as pki
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import put_file
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule

CLOSED = {"owner": None, "group": None, "mode": "0600"}
LONGEST = 36500
ADDRESS = re.compile(r"[0-9A-Fa-f:.]+\Z|[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?\Z")


def check(params):
    for name in ("days", "authority_days"):
        if not 1 <= params[name] <= LONGEST:
            raise ModelFleetError(f"Refused {name} {params[name]}: it must be from 1 to {LONGEST} days.")
    if not 0 <= params["renew_days"] < params["days"]:
        raise ModelFleetError(
            f"Refused renew_days {params['renew_days']}: it must be from 0 to less than days ({params['days']}), "
            "or every run would issue every certificate."
        )
    if len(params["passphrase"].encode()) > 1000:
        raise ModelFleetError("Refused the passphrase: it is longer than 1000 bytes. Choose a shorter one.")
    names = [host["name"] for host in params["hosts"]]
    for host in params["hosts"]:
        name = host["name"]
        if not name or len(name) > 200 or not name.isprintable():
            raise ModelFleetError(f"Refused the name {name[:50]!r}: a host is called by 1 to 200 printable characters.")
        if names.count(name) > 1:
            raise ModelFleetError(f"Refused the hosts: {name} is there twice; list each once.")
        if params["state"] == "present" and not ADDRESS.match(host["address"]):
            raise ModelFleetError(f"Refused the address {host['address'][:50]!r} of {name}: set modelfleet_address to an IP address.")


class Store:
    """The authority in ``directory`` with what it has issued. In check mode nothing is written, and what would be is made all the same."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.directory = self.params["directory"]
        self.passphrase = self.params["passphrase"]
        self.at = pki.now()
        self.changed = False
        self.diffs = []

    def path(self, name):
        return os.path.join(self.directory, name)

    def make_directory(self, path):
        if os.path.isdir(path) or self.module.check_mode:
            return
        try:
            os.makedirs(path, mode=0o700)
        except OSError as exc:
            raise ModelFleetError(
                f"Failed to make {path}: {exc.strerror}. Make it on the controller, or set modelfleet_pki_directory to another."
            ) from exc

    @contextlib.contextmanager
    def locked(self):
        """Hosts may come one by one, each by a task of its own, and one authority must be made for all."""
        if self.module.check_mode:
            yield
            return
        try:
            lock = os.open(self.directory, os.O_RDONLY)
        except OSError as exc:
            raise ModelFleetError(f"Failed to open {self.directory}: {exc.strerror}. Check that it is a directory of this user's.") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def put(self, path, certificates, key, reason):
        """Write a file, of which a diff shows the certificate only."""
        text = pki.pem_of(certificates, key, self.passphrase)
        before = self.shown(path) if os.path.isfile(path) else ""
        put_file(self.module, path, text, shown=lambda _text: "", params=CLOSED)
        self.changed = True
        after = f"{describe(certificates[0])}\n# {reason}\n"
        self.diffs.append({"before_header": path, "after_header": path, "before": before, "after": after})

    def shown(self, path):
        try:
            return f"{describe(pki.certificates_of(pki.read_pem(path), path)[0])}\n"
        except ModelFleetError:
            return "(no certificate)\n"

    def read(self, name):
        """The certificate and the key of an authority, or None where the file is not there. Raises ModelFleetError."""
        path = self.path(name)
        if not os.path.lexists(path):
            return None
        data = pki.read_pem(path)
        certificate = pki.certificates_of(data, path)[0]
        key = pki.key_of(data, path, self.passphrase)
        problem = pki.validity_problem(certificate, self.at)
        if not problem and not pki.is_authority(certificate):
            problem = "it is not that of an authority"
        if not problem and not pki.same_key(certificate, key):
            problem = "the key behind it is that of another"
        if problem:
            raise ModelFleetError(
                f"Refused the authority in {path}: {problem.partition(';')[0]}. Correct the clock of the controller, or put "
                "the right file there; one that has expired is moved away by hand, and the next run of site makes another."
            )
        return certificate, key

    def make(self, name, reason):
        made = pki.new_authority("ModelFleet", self.params["authority_days"], self.at)
        self.put(self.path(name), [made[0]], made[1], reason)
        if not self.passphrase and not self.module.check_mode:
            self.module.warn(
                f"The key of the fleet's authority in {self.path(name)} is not encrypted: whoever reads it can join the fleet. "
                "Set modelfleet_pki_passphrase from a vault, or keep that directory as a secret."
            )
        return made

    def previous(self):
        path = self.path(pki.PREVIOUS)
        return pki.certificates_of(pki.read_pem(path), path)[0] if os.path.lexists(path) else None

    def authorities(self):
        """The authority that issues with its key, the next one and the one before, after the step of a rotation that was asked for."""
        step = self.params["rotation"]
        issuer = self.read(pki.AUTHORITY)
        coming = self.read(pki.NEXT)
        before = self.previous()
        if issuer is None:
            if coming or before or step in ("issue", "finish"):
                raise ModelFleetError(
                    f"Failed to issue certificates: {self.path(pki.AUTHORITY)} is not there, and a rotation is on its way. "
                    "Bring that file back from a copy of the controller's."
                )
            issuer = self.make(pki.AUTHORITY, "there was no authority")
        # In check mode no step was taken before this one.
        if step == "issue" and self.module.check_mode and not coming and not before:
            coming = self.make(pki.NEXT, "a rotation begins")
        if step == "trust" and not coming and not before:
            coming = self.make(pki.NEXT, "a rotation begins")
        elif step == "issue" and coming:
            self.put(self.path(pki.PREVIOUS), [issuer[0]], None, "it issues no more")
            self.rename(pki.NEXT, pki.AUTHORITY)
            issuer, coming, before = coming, None, issuer[0]
        elif step == "issue" and not before:
            raise ModelFleetError("Refused to issue with the next authority: there is none. Begin with the step trust.")
        elif step == "finish" and coming and not self.module.check_mode:
            raise ModelFleetError("Refused to finish: the next authority does not issue yet. Take the step issue first.")
        elif step == "finish" and before:
            self.discard(self.path(pki.PREVIOUS), f"{describe(before)}\n")
            before = None
        return issuer, coming, before

    def rename(self, name, other):
        if self.module.check_mode:
            return
        try:
            os.replace(self.path(name), self.path(other))
        except OSError as exc:
            raise ModelFleetError(f"Failed to rename {self.path(name)}: {exc.strerror}. Check {self.directory} and run again.") from exc

    def discard(self, path, shown):
        if not self.module.check_mode:
            try:
                os.unlink(path)
            except OSError as exc:
                raise ModelFleetError(f"Failed to remove {path}: {exc.strerror}. Check {self.directory} and run again.") from exc
        self.changed = True
        self.diffs.append({"before_header": path, "after_header": path, "before": shown, "after": ""})

    def provide(self):
        self.make_directory(self.directory)
        with self.locked():
            return self.issue()

    def issue(self):
        (authority, key), coming, before = self.authorities()
        self.make_directory(self.path(pki.HOSTS))
        found = []
        for host in self.params["hosts"]:
            path = pki.host_file(self.directory, host["name"])
            certificate, reason = self.present(path, host["address"], authority)
            if reason:
                certificate, host_key = pki.new_host(host["name"], host["address"], self.params["days"], authority, key, self.at)
                self.put(path, [certificate], host_key, reason)
            found.append({"name": host["name"], "expires": epoch(pki.not_after(certificate)), "reason": reason})
        others = [one for one in (coming and coming[0], before) if one]
        return found, [authority, *others], "trust" if coming else "issue" if before else "none"

    def present(self, path, address, authority):
        """The certificate of a host that is there, and why another one must be issued."""
        if not os.path.lexists(path):
            return None, "there was none"
        try:
            data = pki.read_pem(path)
            chain, key = pki.certificates_of(data, path), pki.key_of(data, path, self.passphrase)
        except ModelFleetError as exc:
            # A passphrase that is wrong was refused with the authority, so this file is damaged, or of another time.
            return None, f"it could not be used: {exc}"
        problems = pki.host_problems(chain, key, address, [authority], self.at)
        if problems:
            return chain[0], problems[0]
        left = (pki.not_after(chain[0]) - self.at).days
        # One that ends with its authority would be issued anew by every run.
        longer = pki.host_end(self.params["days"], authority, self.at) - pki.not_after(chain[0])
        if left < self.params["renew_days"] and longer.days >= 1:
            return chain[0], f"it ended in {left} days"
        return chain[0], ""

    def remove(self):
        for host in self.params["hosts"]:
            path = pki.host_file(self.directory, host["name"])
            if os.path.lexists(path):
                self.discard(path, self.shown(path))


def describe(certificate):
    begin, end = (moment.strftime("%Y-%m-%d %H:%M:%S") for moment in (pki.not_before(certificate), pki.not_after(certificate)))
    return f"{pki.subject_of(certificate)}, number {certificate.serial_number:x}, valid from {begin} to {end} UTC"


def epoch(moment):
    return int(moment.timestamp())


def check_own(params):
    """The certificates of the user's own, all of which must be good. Raises ModelFleetError with every problem at once."""
    at = pki.now()
    trusted = pki.read_trusted(params["ca_path"], at)
    found, problems = [], []
    for host in params["hosts"]:
        try:
            certificate_path, key_path = host["certificate_path"], host["key_path"]
            if not certificate_path or not key_path:
                raise ModelFleetError(
                    f"The host {host['name']} has no certificate or no key, so there would be no TLS: with modelfleet_pki_ca_path set "
                    "modelfleet_pki_certificate_path and modelfleet_pki_key_path as well."
                )
            chain = pki.certificates_of(pki.read_pem(certificate_path), certificate_path)
            key = pki.key_of(pki.read_pem(key_path), key_path, params["passphrase"])
            wrong = pki.host_problems(chain, key, host["address"], trusted, at)
            if wrong:
                raise ModelFleetError(f"Refused the certificate of {host['name']} in {certificate_path}: {'; '.join(wrong)}.")
            found.append({"name": host["name"], "expires": epoch(pki.not_after(chain[0])), "reason": ""})
        except ModelFleetError as exc:
            problems.append(str(exc))
    if problems:
        raise ModelFleetError(" ".join(problems))
    return found, trusted


def run(module):
    params = module.params
    pki.need_library()
    check(params)
    own = bool(params["ca_path"])
    if own == bool(params["directory"]):
        raise ModelFleetError(
            "Failed to find the certificates: set one of directory and ca_path. An inventory without a directory of its own has none by "
            "default: set modelfleet_pki_directory, or modelfleet_pki_ca_path for certificates of your own."
        )
    store = Store(module)
    found, trusted, rotation = [], [], "none"
    if own and params["rotation"] != "none":
        raise ModelFleetError(
            "Refused to rotate: the authority is not this collection's. Put the old and the new certificate into modelfleet_pki_ca_path "
            "and run site, then give the hosts new certificates and run it again, then take the old one out and run it again."
        )
    if params["state"] == "absent":
        if not own:
            store.remove()
    elif own:
        found, trusted = check_own(params)
    else:
        found, trusted, rotation = store.provide()
    result = {
        "changed": store.changed,
        "hosts": found,
        "trusted": [{"subject": pki.subject_of(one), "expires": epoch(pki.not_after(one))} for one in trusted],
        "rotation": rotation,
    }
    if module._diff:
        result["diff"] = store.diffs
    return result


def main():
    module = CheckedModule(
        argument_spec={
            "hosts": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                    "certificate_path": {"type": "path"},
                    "key_path": {"type": "path", "no_log": False},
                },
            },
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "directory": {"type": "path"},
            "passphrase": {"type": "str", "default": "", "no_log": True},
            "ca_path": {"type": "path"},
            "days": {"type": "int", "default": 365},
            "renew_days": {"type": "int", "default": 30},
            "authority_days": {"type": "int", "default": 3650},
            "rotation": {"type": "str", "choices": ["none", "trust", "issue", "finish"], "default": "none"},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
