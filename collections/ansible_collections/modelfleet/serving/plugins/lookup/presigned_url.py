# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: presigned_url
author: ModelFleet developers (@modelfleet)
version_added: 0.1.0
short_description: URLs that read or write one object without credentials
description:
  - Signs URLs on the controller; there is no contact with the store, but for an identity, which the controller must have and ask.
  - A presigned URL is a secret until it expires. Pass it to an option with C(no_log), and set C(no_log) on a task that shows it.
  - At Azure a request with O(method=PUT) needs the header C(x-ms-blob-type) with the value V(BlockBlob).
  - A plain web server knows no such URLs. There the lookup returns the URL of the object, whatever O(method) and O(expires) are.
  - For Google Cloud Storage the Python library cryptography must be on the controller, where ansible-core needs it too.
options:
  _terms:
    description: Keys of the objects.
    required: true
  storage:
    description: The storage description, keyed by the store's type, as in O(modelfleet.serving.endpoint_config#module:storage).
    type: dict
    required: true
  method:
    description: The one HTTP method that the URL allows.
    type: str
    choices: [GET, HEAD, PUT]
    default: GET
  expires:
    description: Seconds until the URL expires, up to seven days for a signature of version 4, but no longer than what an identity is given.
    type: int
    default: 3600
"""

EXAMPLES = r"""
- name: Take the model file from the store
  ansible.builtin.get_url:
    url: "{{ lookup('modelfleet.serving.presigned_url', 'models/resnet50/1.0/resnet50.mar', storage=modelfleet_storage) }}"
    dest: /tmp/resnet50.mar
    mode: "0644"
  no_log: true
"""

RETURN = r"""
_raw:
  description: One URL for every key.
  type: list
  elements: str
"""

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import check_object_key, store_from_unchecked


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        try:
            store = store_from_unchecked(self.get_option("storage"))
            for key in terms:
                check_object_key(key)
            return [store.presign(self.get_option("method"), key, self.get_option("expires")) for key in terms]
        except ModelFleetError as exc:
            raise AnsibleLookupError(str(exc)) from exc
