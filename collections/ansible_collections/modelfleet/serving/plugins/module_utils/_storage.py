# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The object stores, keyed by name. PRIVATE to the collection: it can have breaking changes at any time.

A store is one file ``_storage_<name>.py`` with one class, listed in ``STORES``. The class has

- ``name``; ``OPTIONS``, its argument spec, and ``RULES``, what the spec says of several of them (``mutually_exclusive``, ...);
- ``CREDENTIALS`` and ``CREDENTIAL_RULES``: the same for credentials that take the place of those in ``OPTIONS`` to publish,
  with the ``endpoint`` (``url``) at which the publishing machine reaches the store, where that differs;
- ``WRITES``: options of ``credentials`` for what its buckets may demand of a new object; those given are in ``writes``;
- ``IDENTITY``: the class, in ``_identity_<name>.py``, of who may give out its credentials, and ``identity``, who does; None if nobody;
- ``SECRETS``: the keys of ``to_config()`` that nobody may see, a dict with all its values;
- ``to_config()``: the block ``object_storage`` of the endpoint plugin's config.json;
- ``side_file``: None, or ``{key, name, content}`` of a file with secrets beside config.json; ``to_config()`` lacks its path, under ``key``;
- ``origin_hosts()``: ``[{host, port, tls}]``, the servers that dfdaemon reaches for it;
- ``presign(method, key, expires_s, now=None)``: a URL that needs no credentials until it expires; method is GET, HEAD or PUT;
- ``signed_s(expires_s, now=None)``: for how many of these seconds such a URL is good: no longer than what signs it;
- ``describe(key)``: the object as a human names it, without secrets.

A client that publishes uses these attributes. All stores: ``endpoint_url`` (scheme, host and port, without bucket) and ``tls``.

- s3, oss, obs: ``bucket``, ``region``, ``path_style``, ``s3_endpoint_url``, where the store speaks the protocol of S3, and without an
  identity ``access_key``, ``secret_key``, ``session_token`` (or None).
- gcs: ``bucket``, ``service_account`` (dict; a property, which reads ``service_account_file`` if that is given), ``project_id`` (or None).
- abs: ``account_name``, ``account_key``, ``container``, ``account_url`` (with the account's name if the host has it not).
- http: ``url`` (the base, without a slash at its end; an object is ``describe(key)``), ``headers`` (dict).
"""

from __future__ import annotations

import json

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_abs import ABSStore
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_gcs import GCSStore
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_http import HTTPStore
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_obs import OBSStore
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_oss import OSSStore
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_s3 import S3Store

STORES = {store.name: store for store in (S3Store, OSSStore, GCSStore, ABSStore, OBSStore, HTTPStore)}
_MAX_KEY_BYTES = 1024


class StorageModule(DiscreetModule):
    """A module whose options hold a store's secrets."""

    def _load_params(self):
        super()._load_params()
        for option in ("storage", "credentials"):
            if isinstance(self.params.get(option), dict):
                self.params[option] = _with_account_as_text(self.params[option])


def storage_argument_spec():
    """The option ``storage`` of a module: exactly one store with its own keys."""
    spec = _choice({name: {"type": "dict", "options": store.OPTIONS, **store.RULES} for name, store in STORES.items()})
    return {**spec, "required": True, "required_one_of": [list(STORES)]}


def credentials_argument_spec():
    """The option ``credentials`` of a module that publishes: of the same store, for ``publishing_store``."""
    options = {name: {**store.CREDENTIALS, **store.WRITES} for name, store in STORES.items()}
    return _choice({name: {"type": "dict", "options": options[name], **store.CREDENTIAL_RULES} for name, store in STORES.items()})


def _choice(options):
    return {"type": "dict", "options": options, "mutually_exclusive": [list(options)]}


def store_from(params):
    """The store that a validated ``storage`` option describes."""
    name = _chosen(params)
    return STORES[name](params[name])


def publishing_store(storage, credentials):
    """The store of a validated ``storage`` option with the validated ``credentials`` in place of its own; None and {} leave it its own.

    Nothing of the store's own credentials is kept beside new ones. Its endpoint is, unless the credentials have another.
    """
    name = _chosen(storage)
    if not any(value is not None for value in (credentials or {}).values()):
        return STORES[name](storage[name])
    given = credentials.get(name)
    if given is None:
        raise ModelFleetError(
            "Failed to publish: credentials has no {}, but that is the store in storage. Give credentials for it.".format(name)
        )
    server = "url" if name == "http" else "endpoint"
    replaced = {key for key in STORES[name].CREDENTIALS if key != server or given.get(key)} | set(STORES[name].WRITES)
    options = {**storage[name], **{key: given.get(key) for key in replaced}}
    return STORES[name](options, from_credentials=replaced)


def _chosen(storage):
    for name in STORES:
        if storage.get(name) is not None:
            return name
    raise ModelFleetError(
        "Failed to choose an object store: storage has none of the keys {}. Describe one store.".format(", ".join(STORES))
    )


def store_from_unchecked(storage):
    """The store that a variable describes, for plugins on the controller, which have no argument spec of their own."""
    storage = _plain(storage)
    if isinstance(storage, dict):
        storage = _with_account_as_text(storage)
    try:
        result = ArgumentSpecValidator({"storage": storage_argument_spec()}).validate({"storage": storage})
    except (AttributeError, OverflowError, TypeError) as exc:
        # It stumbles over false for a dictionary.
        raise ModelFleetError("Failed to read the storage description: a part of it has another type than it must have.") from exc
    if result.error_messages:
        raise ModelFleetError("Failed to read the storage description: {}.".format("; ".join(result.error_messages)))
    return store_from(result.validated_parameters["storage"])


def _with_account_as_text(storage):
    """A copy with a service account that is a mapping as the text of its file.

    Ansible takes either, but of a mapping it masks every word: the project's name, and the service_account in the name of the option.
    """
    gcs = storage.get("gcs")
    if not isinstance(gcs, dict) or not isinstance(gcs.get("service_account_json"), dict):
        return storage
    return {**storage, "gcs": {**gcs, "service_account_json": json.dumps(gcs["service_account_json"])}}


def _plain(value):
    """A copy with every value read: templates in a variable are resolved when it is read, and inside the validator they cannot be."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def object_key_problem(key):
    """What to change in a key that cannot be fetched, or would be another object on its way; None for a good one."""
    if not key:
        return "name an object"
    if any(part in ("", ".", "..") for part in key.split("/")):
        return "leave out outer and double slashes and the parts '.' and '..'"
    if any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) <= 0xDFFF for c in key):
        return "leave out control characters and what is not UTF-8"
    if len(key.encode()) > _MAX_KEY_BYTES:
        return "shorten it, most stores take no more than {} bytes".format(_MAX_KEY_BYTES)
    return None


def check_object_key(key):
    """Refuse a key that has a problem; any other character works."""
    problem = object_key_problem(key)
    if problem:
        raise ModelFleetError("Failed to use the object key {!r}: {}.".format(key, problem))
