# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The object stores, keyed by name. PRIVATE to the collection: it can have breaking changes at any time.

A store is one file ``_storage_<name>.py`` with one class, listed in ``STORES``. The class has

- ``name``; ``OPTIONS``, its argument spec, and ``CREDENTIALS``, the part of it that identifies a user;
- ``SECRETS``: the keys of ``to_config()`` that nobody may see;
- ``to_config()``: the block ``object_storage`` of the endpoint plugin's config.json;
- ``origin_hosts()``: ``[{host, port, tls}]``, the servers that dfdaemon reaches for it;
- ``presign(method, key, expires_s, now=None)``: a URL that needs no credentials until it expires;
- ``describe(key)``: the object as a human names it.
"""

from __future__ import annotations

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_s3 import S3Store

STORES = {store.name: store for store in (S3Store,)}


def storage_argument_spec():
    """The option ``storage`` of a module: one store with its own keys; ``store_from`` refuses none."""
    return _one_of({name: store.OPTIONS for name, store in STORES.items()}, required=True)


def credentials_argument_spec():
    """The option ``credentials`` of a module that publishes: those of the same store, which may write."""
    return _one_of({name: store.CREDENTIALS for name, store in STORES.items()}, required=False)


def _one_of(options, required):
    spec = {"type": "dict", "required": required, "options": {name: {"type": "dict", "options": own} for name, own in options.items()}}
    if len(options) > 1:  # Ansible's schema refuses a choice among one
        spec["mutually_exclusive"] = [sorted(options)]
    return spec


def store_from(params):
    """The store that a validated ``storage`` option describes."""
    for name, store in STORES.items():
        if params.get(name) is not None:
            return store(params[name])
    raise ModelFleetError(
        "Failed to choose an object store: storage has none of the keys {}. Describe one store.".format(", ".join(sorted(STORES)))
    )


def store_from_unchecked(storage):
    """The store that a variable describes, for plugins on the controller, which have no argument spec of their own."""
    result = ArgumentSpecValidator({"storage": storage_argument_spec()}).validate({"storage": storage})
    if result.error_messages:
        raise ModelFleetError("Failed to read the storage description: {}.".format("; ".join(result.error_messages)))
    return store_from(result.validated_parameters["storage"])


def check_object_key(key):
    """Refuse what cannot be fetched or would be another object on its way; any other character works."""
    segments = key.split("/")
    if (
        not key
        or key.startswith("/")
        or key.endswith("/")
        or "." in segments
        or ".." in segments
        or any(ord(c) < 32 or ord(c) == 127 for c in key)
    ):
        raise ModelFleetError(
            "Failed to use the object key {!r}: it must not be empty, begin or end with '/', have '.' or '..' as a path segment or"
            " hold control characters. Rename the object.".format(key)
        )
