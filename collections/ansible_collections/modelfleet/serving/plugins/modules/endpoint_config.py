#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: endpoint_config
short_description: Write the configuration of TorchServe's endpoint plugin
version_added: 0.1.0
description:
  - Writes C(config.json) of the plugin that adds C(POST /dragonfly/models) to TorchServe.
  - The plugin reads the file at every call, so nothing is restarted.
  - Secrets appear neither in the output nor in a diff, which tells only whether they changed.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - modelfleet.serving.storage
  - ansible.builtin.files
options:
  path:
    description: The file. Its directory must exist.
    type: path
    default: /etc/dragonfly-endpoint/config.json
  proxy_url:
    description: URL of dfdaemon's proxy as TorchServe reaches it.
    type: str
    default: http://127.0.0.1:4001
  header:
    description: Headers of every request to the proxy, for example C(X-Dragonfly-Tag). No place for secrets.
    type: dict
    default: {}
  filter:
    description: Query parameters that do not tell two objects apart, instead of dfdaemon's own list. Matters only without a digest.
    type: list
    elements: str
    default: []
  require_sha256:
    description: Whether a call without C(sha256) is refused.
    type: bool
    default: true
  incoming_dir:
    description:
      - Directory into which dfdaemon hard-links a finished file, on the filesystem of piece store and model store.
      - Without it the plugin writes a copy into the model store.
    type: path
  piece_length:
    description: Length of a piece, V(auto) or a size of at least V(4MiB). One value for the whole fleet.
    type: str
    default: auto
  retry_seconds:
    description: How long a failure that may pass is retried, for example while a seed peer restarts.
    type: int
    default: 120
  mode:
    default: "0600"
"""

EXAMPLES = r"""
- name: Configure the endpoint plugin
  modelfleet.serving.endpoint_config:
    storage:
      s3:
        bucket: models
        region: us-east-1
        access_key: "{{ vault_read_access_key }}"
        secret_key: "{{ vault_read_secret_key }}"
    incoming_dir: /var/lib/modelfleet/incoming
    owner: torchserve
    group: torchserve
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /etc/dragonfly-endpoint/config.json
"""

import json
import re
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import put_file, read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import storage_argument_spec, store_from

_PIECE_LENGTH = re.compile(r"(\d+)([kmg]i?b)\Z", re.IGNORECASE)


def build_config(params):
    store = store_from(params["storage"])
    config = {
        "addr": _checked_proxy_url(params["proxy_url"]),
        "header": {name: str(value) for name, value in params["header"].items()},
        "filter": params["filter"],
        "object_storage": store.to_config(),
        "require_sha256": params["require_sha256"],
        "piece_length": _checked_piece_length(params["piece_length"]),
        "retry_seconds": params["retry_seconds"],
    }
    if params["retry_seconds"] < 0:
        raise ModelFleetError("Failed to use retry_seconds {}: it must not be negative.".format(params["retry_seconds"]))
    if params["incoming_dir"]:
        if not params["incoming_dir"].startswith("/"):
            raise ModelFleetError("Failed to use incoming_dir {!r}: it must be an absolute path.".format(params["incoming_dir"]))
        config["incoming_dir"] = params["incoming_dir"]
    return config, store.SECRETS


def _checked_proxy_url(url):
    try:
        parts = urlsplit(url)
        good = (
            parts.scheme == "http"
            and parts.hostname
            and parts.port
            and parts.path in ("", "/")
            and not parts.query
            and parts.username is None
        )
    except ValueError:
        good = False
    if not good:
        raise ModelFleetError(
            "Failed to use proxy_url: it must look like http://127.0.0.1:4001. dfdaemon's proxy speaks no TLS and takes no password."
        )
    return url.rstrip("/")


def _checked_piece_length(text):
    if text == "auto":
        return text
    units = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
    match = _PIECE_LENGTH.match(text)
    if not match or not 4 << 20 <= int(match[1]) * units[match[2][0].lower()] <= 64 << 20:
        raise ModelFleetError("Failed to use piece_length {!r}: it must be auto or a size from 4MiB to 64MiB.".format(text))
    return text


def _secrets_of(text, names):
    try:
        storage = json.loads(text)["object_storage"]
        return {name: storage[name] for name in names if name in storage}
    except (ValueError, TypeError, KeyError):
        return {}


def _without_secrets(names, before):
    """What a diff may show of a file: that a secret is there, and whether it is another one than before."""
    old = _secrets_of(before, names)

    def shown(text):
        try:
            config = json.loads(text)
            for name, value in _secrets_of(text, names).items():
                config["object_storage"][name] = "(set)" if old.get(name) == value else "(set, changed)"
            return json.dumps(config, indent=2) + "\n"
        except (ValueError, TypeError):
            return "(not valid JSON)\n"

    return shown


def run(module):
    config, secrets = build_config(module.params)
    path = module.params["path"]
    content = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    changed, diff = put_file(module, path, content, shown=_without_secrets(secrets, read_text(path)))
    return {"changed": changed, "path": path, "diff": diff}


def main():
    module = AnsibleModule(
        argument_spec={
            "storage": storage_argument_spec(),
            "path": {"type": "path", "default": "/etc/dragonfly-endpoint/config.json"},
            "proxy_url": {"type": "str", "default": "http://127.0.0.1:4001"},
            "header": {"type": "dict", "default": {}},
            "filter": {"type": "list", "elements": "str", "default": []},
            "require_sha256": {"type": "bool", "default": True},
            "incoming_dir": {"type": "path"},
            "piece_length": {"type": "str", "default": "auto"},
            "retry_seconds": {"type": "int", "default": 120},
            "mode": {"type": "raw", "default": "0600"},
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
