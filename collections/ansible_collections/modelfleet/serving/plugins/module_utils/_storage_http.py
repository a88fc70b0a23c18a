# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any HTTP server, with or without headers that let one in. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ansible_collections.modelfleet.serving.plugins.module_utils._storage_checks import BaseStore, is_url
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_signing import encode_path

_BASE_PATH = re.compile(r"(/|(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)*/?)\Z")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
# Visible ASCII, with spaces and tabs inside only: what every client and server on the way passes on unchanged.
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?\Z")
# What belongs to the connection, the transfer or Dragonfly; Java's client drops some of them without a word.
_TAKEN = re.compile(
    r"(accept-encoding|access-control-request-.*|connection|content-length|content-transfer-encoding|expect|host|keep-alive"
    r"|origin|proxy-.*|range|te|trailer|transfer-encoding|upgrade|via|x-dragonfly-.*)\Z",
    re.IGNORECASE,
)


class HTTPStore(BaseStore):
    name = "http"
    title = "HTTP"
    _HEADERS = {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "value": {"type": "str", "required": True, "no_log": True},
        },
    }
    CREDENTIALS = {
        "url": {"type": "str"},
        "headers": _HEADERS,
    }
    OPTIONS = {
        "url": {"type": "str", "required": True},
        "headers": _HEADERS,
        "headers_reach_daemon_logs": {"type": "bool", "default": False},
        "headers_reach_unverified_server": {"type": "bool", "default": False},
    }
    SECRETS = ("headers",)

    def __init__(self, options, from_credentials=()):
        super().__init__(options, from_credentials)
        self.headers_reach_daemon_logs = bool(options.get("headers_reach_daemon_logs"))
        self.headers_reach_unverified_server = bool(options.get("headers_reach_unverified_server"))
        url = options["url"]
        self._need(url=url)
        if not is_url(url) or not _BASE_PATH.match(urlsplit(url).path):
            raise self._refuse_url(
                "url",
                url,
                "it must be http:// or https:// with a host and perhaps a port and a percent-encoded path, without user and query",
            )
        self._locate(url)
        self.base_path = urlsplit(url).path.rstrip("/")
        self.url = self.base_url + self.base_path
        self.headers = self._checked_headers(options.get("headers") or [])

    def _checked_headers(self, headers):
        checked = {}
        for header in headers:
            name, value = header["name"], header["value"]
            if not _HEADER_NAME.match(name):
                raise self.refuse_secret("headers", "a name is not one that HTTP allows. Write one like X-Api-Key")
            if _TAKEN.match(name):
                raise self.refuse_secret("headers", "{} is set by those who carry the request. Leave it out".format(name))
            if name.lower() in map(str.lower, checked):
                raise self.refuse_secret("headers", "{} is listed more than once. Keep one".format(name))
            self.check_text("headers", value, "the value of {}".format(name))
            if not _HEADER_VALUE.match(value):
                raise self.refuse_secret("headers", "the value of {} is empty or not plain ASCII on one line. Correct it".format(name))
            checked[name] = value
        if not checked or "headers" in self._from_credentials:
            return checked
        if not self.headers_reach_daemon_logs:
            raise self.refuse_secret(
                "headers",
                "dfdaemon and the scheduler pass on the headers of a request and write them to their logs at level info."
                " Set headers_reach_daemon_logs to true to accept that, or let the server admit the hosts by their addresses",
            )
        # What a store signs is of one object and for a while; a header opens everything until somebody changes it.
        if not self.headers_reach_unverified_server:
            how = "dfdaemon does not verify the certificate of the server" if self.tls else "the URL is http, so they go in clear text"
            raise self.refuse_secret(
                "headers",
                "they let in whoever has them, and {}, so that whoever is on the way can take them."
                " Set headers_reach_unverified_server to true to accept that, let the server admit the hosts by their addresses,"
                " or use a store whose URLs are signed".format(how),
            )
        return checked

    def to_config(self):
        config = {"type": self.name, "url": self.url}
        if self.headers:
            config["headers"] = dict(self.headers)
            config["headers_reach_daemon_logs"] = True
        return config

    def describe(self, key):
        return "{}/{}".format(self.url, encode_path(key))

    def presign(self, method, key, expires_s, now=None):
        """The plain URL: a server that wants a header gets none this way."""
        return self.describe(key)
