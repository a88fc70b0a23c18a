#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: torchserve_config
short_description: Write TorchServe's configuration
description:
  - Writes C(config.properties), checked against the keys that the installed version of TorchServe reads. TorchServe itself ignores a
    key that it does not know.
  - Refuses keys that would take over what this collection does, such as C(load_models) and C(model_snapshot) (models without a sha256),
    C(models) and C(enable_envvars_config).
  - Unless the configuration says otherwise, it binds loopback addresses, keeps token authorization on with keys that last as long as
    the process, lets models be removed (with the key), and loads models from files only.
version_added: 0.1.0
author: ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - ansible.builtin.files
options:
  path:
    description: The file. Its directory must exist.
    type: path
    default: /etc/torchserve/config.properties
  version:
    description: Version of the TorchServe that reads the file.
    type: str
    choices: ["0.11.1", "0.12.0"]
    default: "0.12.0"
  config:
    description: Keys and values of C(config.properties). Secrets do not belong here.
    type: dict
    default: {}
  allow:
    description: What is refused unless it is named here.
    type: list
    elements: str
    default: []
    choices:
      lan_bind: Addresses that are not loopback.
      no_token: C(disable_token_authorization=true).
      remote_urls: C(allowed_urls), so that models load from URLs without a sha256.
seealso:
  - module: modelfleet.serving.daemon
  - module: modelfleet.serving.torchserve_info
"""

EXAMPLES = r"""
- name: Configure TorchServe with its safe defaults
  modelfleet.serving.torchserve_config:
    group: torchserve
    mode: "0640"

- name: Allow larger requests and give models more time to load
  modelfleet.serving.torchserve_config:
    config:
      max_request_size: 52428800
      default_startup_timeout: 600
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /etc/torchserve/config.properties
problems:
  description: Everything that is wrong with the configuration.
  returned: failure
  type: list
  elements: dict
  contains:
    key:
      description: The key.
      type: str
    problem:
      description: What is wrong and what to do.
      type: str
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import put_file
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule
from ansible_collections.modelfleet.serving.plugins.module_utils._torchserve_config import KEYS, file_text


def run(module):
    params = module.params
    content = file_text(params["version"], params["config"], params["allow"], params["path"])
    changed, diff = put_file(module, params["path"], content)
    result = {"changed": changed, "path": params["path"]}
    if module._diff:
        result["diff"] = diff
    return result


def main():
    module = DiscreetModule(
        argument_spec={
            "path": {"type": "path", "default": "/etc/torchserve/config.properties"},
            "version": {"type": "str", "choices": list(KEYS), "default": "0.12.0"},
            "config": {"type": "dict", "default": {}},
            "allow": {"type": "list", "elements": "str", "choices": ["lan_bind", "no_token", "remote_urls"], "default": []},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
