# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: host_certificate
author: ModelFleet developers (@modelfleet)
version_added: 0.1.0
short_description: What a host needs for mutual TLS
description:
  - Reads on the controller what M(modelfleet.serving.host_certificates) has issued, or the user's own certificates.
  - What it returns holds the private key of the host. Pass it to an option that shows nothing of it.
extends_documentation_fragment:
  - modelfleet.serving.certificates
options:
  _terms:
    description: Names of the hosts in the inventory.
    required: true
  certificate_path:
    description: With O(ca_path), the file with the certificate of the host.
    type: path
  key_path:
    description: With O(ca_path), the file with its key.
    type: path
  predicted:
    description: Whether a certificate that is not there yet is no error, as in check mode, where it is not issued.
    type: bool
    default: false
seealso:
  - module: modelfleet.serving.host_certificates
"""

EXAMPLES = r"""
- name: Write what this host needs
  modelfleet.serving.daemon:
    name: example.service
    files:
      - {path: /etc/systemd/system/example.service, content: "{{ lookup('ansible.builtin.template', 'example.service.j2') }}"}
      - {path: /etc/example/ca.pem, content: "{{ tls.trusted }}"}
      - {path: /etc/example/host.pem, content: "{{ tls.certificate }}", group: example, mode: "0640", secret: true}
    started_record: /run/example/started.sha256
  vars:
    tls: "{{ query('modelfleet.serving.host_certificate', inventory_hostname, directory='/srv/ansible/prod.pki') | first }}"
"""

RETURN = r"""
_raw:
  description: For each host the files that it needs.
  type: list
  elements: dict
  contains:
    trusted:
      description: The certificates of all authorities that are trusted, in PEM.
      type: str
    certificate:
      description: The certificate of the host and behind it its key, in PEM and not encrypted.
      type: str
"""

import os

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.modelfleet.serving.plugins.module_utils import _certificates as pki
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError


def _authorities(directory):
    """Those of a rotation as well; the one that issues comes first."""
    paths = [os.path.join(directory, name) for name in (pki.AUTHORITY, pki.NEXT, pki.PREVIOUS)]
    return [pki.certificates_of(pki.read_pem(path), path)[0] for path in paths if os.path.lexists(path) or path == paths[0]]


def _files(name, options):
    passphrase = options["passphrase"]
    if options["ca_path"]:
        trusted = pki.read_trusted(options["ca_path"], pki.now())
        certificate, key = options["certificate_path"], options["key_path"]
        if not certificate or not key:
            raise ModelFleetError(
                f"The host {name} has no certificate or no key: with modelfleet_pki_ca_path set modelfleet_pki_certificate_path and "
                "modelfleet_pki_key_path as well."
            )
    elif not options["directory"]:
        raise ModelFleetError("Failed to find the certificates: set modelfleet_pki_directory, or modelfleet_pki_ca_path.")
    else:
        certificate = key = pki.host_file(options["directory"], name)
        if options["predicted"] and not os.path.lexists(certificate):
            return {"trusted": "(not made yet)\n", "certificate": "(not made yet)\n"}
        if not os.path.lexists(certificate):
            raise ModelFleetError(
                f"Failed to read the certificate of {name}: {certificate} is not there. The play site issues it; "
                "run that from the controller that has the authority of the fleet, or correct modelfleet_pki_directory."
            )
        trusted = _authorities(options["directory"])
    chain = pki.certificates_of(pki.read_pem(certificate), certificate)
    text = pki.pem_of(chain, pki.key_of(pki.read_pem(key), key, passphrase))
    return {"trusted": pki.pem_of(trusted), "certificate": text}


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        # Of an empty path Ansible makes that in which it was started.
        self.set_options(var_options=variables, direct={name: value for name, value in kwargs.items() if value != ""})
        try:
            pki.need_library()
            return [_files(name, self.get_options()) for name in terms]
        except ModelFleetError as exc:
            raise AnsibleLookupError(str(exc)) from exc
