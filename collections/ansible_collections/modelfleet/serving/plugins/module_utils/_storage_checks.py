# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the object stores share: naming and checking of options, and the server of a URL. PRIVATE to the collection."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_signing import utc
from ansible_collections.modelfleet.serving.plugins.module_utils._text import OUTER_REMEDY, outer_problem

_LABEL = r"(?![a-z0-9_-]{64})[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_HOST = re.compile(r"(?=.{{1,253}}\Z){0}(\.{0})*\.?\Z".format(_LABEL))
_REGION = re.compile(r"[a-z0-9-]+\Z")


class BaseStore:
    """A store with its options read. ``from_credentials`` names those that came from the publishing credentials, for messages."""

    RULES = {}
    CREDENTIAL_RULES = {}
    WRITES = {}
    SECRETS = ()
    # Who gives out its credentials, a class of _identity_<name>.py, where that is supported.
    IDENTITY = None
    identity = None
    side_file = None

    def __init__(self, options, from_credentials=()):
        self._from_credentials = frozenset(from_credentials)
        self.writes = {key: options[key] for key in self.WRITES if options.get(key)}
        for key, value in options.items():
            # A key file ends with a line end, and is read as JSON.
            if key != "service_account_json":
                self.check_text(key, value)

    def check_text(self, key, value, what="it"):
        problem = outer_problem(value) if isinstance(value, str) else None
        if problem:
            raise self.refuse_secret(key, "{} {}; {}".format(what, problem, OUTER_REMEDY))

    def option(self, key):
        """An option as the user wrote it."""
        whole = key.partition(".")[0]
        return "{}.{}.{}".format("credentials" if whole in self._from_credentials else "storage", self.name, key)

    def refuse(self, key, value, rule):
        """The error for an option with a value that may be shown."""
        return ModelFleetError("Failed to use {} {!r}: {}.".format(self.option(key), value, rule))

    def refuse_secret(self, key, rule):
        """The error for an option whose value nobody may see."""
        return ModelFleetError("Failed to use {}: {}.".format(self.option(key), rule))

    def _refuse_url(self, key, url, rule):
        """The error for an option with a URL, which may hold a password or a signature, and where these end is not sure in a bad one."""
        return self.refuse_secret(key, rule) if set("?#@") & set(url) else self.refuse(key, url, rule)

    def _need(self, **values):
        for key, value in values.items():
            if not value:
                block = self.option(key).rpartition(".")[0]
                variable = "modelfleet_publish_credentials" if key in self._from_credentials else "modelfleet_storage"
                raise ModelFleetError("Failed to use {}: {} is empty. Set it in {}.".format(block, key, variable))

    def _identify(self, options, *keys):
        """Take the identity of the options, or see that they have all of ``keys``, which stand for it."""
        given = [key for key in dict.fromkeys((*keys, *self.SECRETS)) if options.get(key)]
        if options.get("identity") is None:
            if all(options.get(key) is None for key in keys):
                block = self.option("identity").rpartition(".")[0]
                raise ModelFleetError(
                    "Failed to use {}: it has no credentials. Give {}, or identity, so that they need not be in a file.".format(
                        block, " and ".join(keys)
                    )
                )
            self._need(**{key: options.get(key) for key in keys})
        elif given:
            raise self.refuse_secret(given[0], "with identity there would be two kinds of credentials. Leave one of them out")
        else:
            self.identity = self.IDENTITY(self, options["identity"])

    def _credentials_config(self, **keys):
        """What config.json has of them: the keys, or the identity in their place."""
        return {"identity": self.identity.to_config()} if self.identity else keys

    def _check_encryption(self):
        """Refuse a key of the key service without the encryption that uses it."""
        kind = self.writes.get("server_side_encryption", "")
        if "sse_kms_key_id" in self.writes and "kms" not in kind:
            kinds = [one for one in self.WRITES["server_side_encryption"]["choices"] if "kms" in one]
            raise self.refuse(
                "sse_kms_key_id", self.writes["sse_kms_key_id"], "server_side_encryption must be {}".format(" or ".join(kinds))
            )

    def _check_region(self, region, pattern, example):
        if not (pattern or _REGION).match(region):
            raise self.refuse("region", region, "a region looks like {}".format(example))

    def _check_endpoint(self, endpoint):
        self.check_endpoint("endpoint", endpoint, " The bucket or container has its own key")

    def check_endpoint(self, key, endpoint, more=""):
        if not _is_server_url(endpoint, path=False):
            rule = "it must be http:// or https:// with a host and perhaps a port, without user, path and query."
            raise self._refuse_url(key, endpoint, (rule + more).rstrip("."))

    def signed_s(self, expires_s, now=None):
        """For how many seconds a URL that is signed now for ``expires_s`` opens its object: no longer than what signs it is good."""
        if self.identity is None:
            return expires_s
        return max(1, min(expires_s, int(self.identity.current(now).expires - utc(now).timestamp())))

    def _check_expiry(self, key, expires_s, most):
        if not 1 <= expires_s <= most:
            raise ModelFleetError("Failed to sign a URL for {}: {} allows 1 to {} seconds.".format(self.describe(key), self.title, most))

    def _locate(self, url, subdomain=""):
        """Set what a URL's server is called: in DNS, in a Host header, and as the beginning of every URL."""
        parts = urlsplit(url)
        self.tls = parts.scheme == "https"
        default_port = 443 if self.tls else 80
        self.port = parts.port or default_port
        server = "[{}]".format(parts.hostname) if ":" in parts.hostname else parts.hostname
        port = "" if self.port == default_port else ":{}".format(self.port)
        scheme = "https" if self.tls else "http"
        self.endpoint_url = "{}://{}{}".format(scheme, server, port)
        self.hostname = "{}.{}".format(subdomain, server) if subdomain else server
        self.authority = self.hostname + port
        self.base_url = "{}://{}".format(scheme, self.authority)

    def origin_hosts(self):
        return [{"host": self.hostname, "port": self.port, "tls": self.tls}]


def is_address(host):
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def has_address(url):
    """Whether the server of a URL is an IP address, which takes no subdomain."""
    return is_address(urlsplit(url).hostname)


def is_url(url):
    """Whether this is an http(s) URL of a server, perhaps with a path, and nothing more."""
    return _is_server_url(url, path=True)


def _is_server_url(text, path):
    try:
        url = urlsplit(text)
        host = url.hostname or ""
        good = url.scheme in ("http", "https") and (is_address(host) or _HOST.match(host)) and (url.port is None or url.port > 0)
    except ValueError:
        return False
    # An empty query or fragment leaves no trace in the parts.
    return bool(good and (path or url.path in ("", "/")) and not set("?#@ ") & set(text) and text.isascii() and text.isprintable())
