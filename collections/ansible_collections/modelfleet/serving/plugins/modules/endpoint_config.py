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
  - O(storage.gcs.service_account_json) becomes the file C(service-account.json) beside it, with the same owner, group and mode.
    That name in that directory belongs to the module, which removes the file when the storage no longer needs it.
  - An identity in O(storage), such as O(storage.s3.identity), stands there as the object C(identity) in place of keys. The plugin then
    asks for credentials itself, as the user of TorchServe, who must be able to reach who gives them out and to read the token.
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
  state:
    description: Whether the file is there. Without it the plugin downloads nothing, and no credentials are on the host.
    type: str
    choices: [present, absent]
    default: present
  proxy_url:
    description: URL of dfdaemon's proxy as TorchServe reaches it.
    type: str
    default: http://127.0.0.1:4001
  header:
    description:
      - Headers of every request to the proxy, for example C(X-Dragonfly-Tag).
      - No place for secrets, because dfdaemon logs what passes; one whose name tells of a secret, such as C(Authorization), is refused.
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
  url_expiry:
    description:
      - How long a URL that the plugin signs opens its object, in seconds, from V(60) to V(604800), which is as long as the stores allow.
      - It must outlive the queue at the seed peer and the transfer. Every attempt signs anew.
    type: int
    default: 3600
  jar:
    description: The plugin itself. It is only looked at, for RV(jar_differs).
    type: path
  jar_sha256:
    description: SHA-256 that the plugin must have.
    type: str
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

- name: Take the models with the managed identity of the host, so that no key of the storage account is there
  modelfleet.serving.endpoint_config:
    storage:
      abs:
        account_name: examplemodels
        container: models
        identity:
          source: instance
    incoming_dir: /var/lib/modelfleet/incoming
    owner: torchserve
    group: torchserve

- name: Take the models from Google Cloud Storage
  modelfleet.serving.endpoint_config:
    storage:
      gcs:
        bucket: models
        service_account_json: "{{ vault_read_service_account }}"
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
files:
  description: The files that were written, got other permissions or were removed.
  returned: success
  type: list
  elements: str
  sample: [/etc/dragonfly-endpoint/config.json]
jar_differs:
  description: Whether O(jar) is missing or another than O(jar_sha256) says, so that it must be copied.
  returned: with O(jar)
  type: bool
  sample: false
"""

import json
import os
from urllib.parse import urlsplit

from ansible_collections.modelfleet.serving.plugins.module_utils._dfdaemon import checked_piece_length
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import put_file, read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._started import digest_of_file
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import (
    STORES,
    StorageModule,
    storage_argument_spec,
    store_from,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._text import SECRET_NAME, from_json, outer_problem

_SECRETS = {key for store in STORES.values() for key in store.SECRETS}
# Of a service account's file; everything else in it is treated as a secret.
_SHOWN_OF_ACCOUNT = {"type", "project_id", "private_key_id", "client_email", "client_id", "token_uri", "universe_domain"}
_SIDE_FILE = "service-account.json"


def build_config(params, store):
    config = {
        "addr": _checked_proxy_url(params["proxy_url"]),
        "header": _checked_header(params["header"]),
        "filter": params["filter"],
        "object_storage": store.to_config(),
        "require_sha256": params["require_sha256"],
        "piece_length": checked_piece_length(params["piece_length"]),
        "retry_seconds": params["retry_seconds"],
        "url_expiry": params["url_expiry"],
    }
    if not 60 <= params["url_expiry"] <= 7 * 24 * 3600:
        raise ModelFleetError("Failed to use url_expiry {}: it must be from 60 to 604800 seconds.".format(params["url_expiry"]))
    if params["incoming_dir"]:
        if not params["incoming_dir"].startswith("/"):
            raise ModelFleetError("Failed to use incoming_dir {!r}: it must be an absolute path.".format(params["incoming_dir"]))
        config["incoming_dir"] = params["incoming_dir"]
    return config


def _checked_header(header):
    for name, value in header.items():
        if SECRET_NAME.search(name):
            raise ModelFleetError(
                "Failed to use header {}: dfdaemon logs the headers that pass, and this one tells of a secret. "
                "Leave it out; a server that asks for a header gets it from storage.http.headers.".format(name)
            )
        problem = outer_problem(str(value))
        if problem:
            raise ModelFleetError(
                "Failed to use header {}: its value {}. Write it on one line without space around it.".format(name, problem)
            )
    return {name: str(value) for name, value in header.items()}


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


def _loaded(text):
    try:
        return from_json(text)
    except (ValueError, TypeError):
        return None


def _masked(value, before):
    if isinstance(value, dict):
        before = before if isinstance(before, dict) else {}
        return {name: _masked(one, before.get(name)) for name, one in value.items()}
    return "(set)" if value == before else "(set, changed)"


def _without_secrets(before, section, is_secret):
    """What a diff may show of a file: that a secret is there, and whether it is another one than before.

    The secrets are those of every store, whatever the new one is. ``section`` takes the part that holds them out of the loaded file.
    """
    old = section(_loaded(before))
    old = old if isinstance(old, dict) else {}

    def shown(text):
        whole = _loaded(text)
        part = section(whole)
        if not isinstance(part, dict):
            return "(not valid JSON)\n" if whole is None else "(not what this module writes)\n"
        part.update({name: _masked(value, old.get(name)) for name, value in part.items() if is_secret(name)})
        return json.dumps(whole, indent=2) + "\n"

    return shown


def _storage_section(config):
    return config.get("object_storage") if isinstance(config, dict) else None


def _put_side_file(module, path, content):
    shown = _without_secrets(read_text(path), lambda account: account, lambda name: name not in _SHOWN_OF_ACCOUNT)
    return put_file(module, path, content, shown=shown)


def _remove(module, path, what):
    """Remove a file that is not wanted; None when there is nothing, or what a diff shows."""
    if not os.path.lexists(path):
        return None
    if not module.check_mode:
        try:
            os.unlink(path)
        except OSError as exc:
            raise ModelFleetError("Failed to remove {}: {}. Check its directory.".format(path, exc.strerror)) from exc
    return {"before_header": path, "after_header": path, "before": f"({what})\n", "after": ""}


def run(module):
    path = module.params["path"]
    side_path = os.path.join(os.path.dirname(os.path.abspath(path)), _SIDE_FILE)
    store = store_from(module.params["storage"])
    config = build_config(module.params, store)
    storage = config["object_storage"]
    files, diffs = [], []
    if module.params["state"] == "absent":
        for unwanted, what in ((path, "credentials of the store"), (side_path, "a service account")):
            diff = _remove(module, unwanted, what)
            if diff:
                files.append(unwanted)
                diffs.append(diff)
        return _result(module, path, files, diffs)
    if store.side_file:
        storage[store.side_file["key"]] = side_path
        # First the key, then the file that names it: the plugin may read both at any moment.
        written, diff = _put_side_file(module, side_path, store.side_file["content"])
        files += [side_path] if written else []
        diffs.append(diff)
    content = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    shown = _without_secrets(read_text(path), _storage_section, _SECRETS.__contains__)
    written, diff = put_file(module, path, content, shown=shown)
    files += [path] if written else []
    diffs.insert(0, diff)
    if os.path.realpath(storage.get("service_account_path", "")) != os.path.realpath(side_path):
        diff = _remove(module, side_path, "a service account")
        if diff:
            files.append(side_path)
            diffs.append(diff)
    return _result(module, path, files, diffs)


def _result(module, path, files, diffs):
    result = {"changed": bool(files), "path": path, "files": files, "diff": diffs[0] if len(diffs) == 1 else diffs}
    if module.params["jar"]:
        result["jar_differs"] = digest_of_file(module.params["jar"]) != module.params["jar_sha256"]
    return result


def main():
    module = StorageModule(
        argument_spec={
            "storage": storage_argument_spec(),
            "path": {"type": "path", "default": "/etc/dragonfly-endpoint/config.json"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "proxy_url": {"type": "str", "default": "http://127.0.0.1:4001"},
            "header": {"type": "dict", "default": {}},
            "filter": {"type": "list", "elements": "str", "default": []},
            "require_sha256": {"type": "bool", "default": True},
            "incoming_dir": {"type": "path"},
            "piece_length": {"type": "str", "default": "auto"},
            "retry_seconds": {"type": "int", "default": 120},
            "url_expiry": {"type": "int", "default": 3600},
            "jar": {"type": "path"},
            "jar_sha256": {"type": "str"},
            "mode": {"type": "raw", "default": "0600"},
        },
        required_together=[("jar", "jar_sha256")],
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
