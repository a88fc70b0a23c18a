# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: gateway_findings
short_description: Find what is wrong with the variables of a gateway
version_added: 0.1.0
description:
  - Checks what an argument specification cannot say, such as a key that is not that of the certificate or a token that two clients have.
  - Returns every finding at once, as sentences that say what is wrong and what to do. No sentence holds a token or a key.
positional: _input
options:
  _input:
    description:
      - The variables of one host, by name. Those of the role P(modelfleet.serving.gateway#role), C(inventory_hostname), the content of its
        files as C(certificate), C(key) and C(client_ca), and of TorchServe C(max_request_size).
      - C(daemons) are those of the host that listen as well, as P(modelfleet.serving.addresses#filter) calls them, by the variables in
        C(listening).
    type: dict
    required: true
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Check the clients of the gateway
  ansible.builtin.assert:
    that: dict(gateway_clients=gateway_clients) | modelfleet.serving.gateway_findings | length == 0
"""

RETURN = r"""
_value:
  description: The findings, one sentence each.
  type: list
  elements: str
"""

import datetime
import ipaddress
import re

from ansible_collections.modelfleet.serving.plugins.module_utils import _addresses, _certificates
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

# Where the content of a file is, by the option that names it.
FILES = {"gateway_certificate": "certificate", "gateway_key": "key", "gateway_client_ca": "client_ca"}
SHORTEST_TOKEN = 32
LONGEST_TOKEN = 256
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
# They become words of HAProxy's configuration and of its maps.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
_COMMON_NAME = re.compile(r"[A-Za-z0-9._@:/+-]{1,64}")


def _certificates_in(text, path):
    """The certificates of a PEM text; none where one of them cannot be read."""
    try:
        found = _certificates.certificates_of(text.encode("utf-8", "replace"), path)
        for one in found:
            one.public_key()
    except Exception:  # the library has no base for what a damaged certificate is
        return []
    return found


def _validity(label, certificates, now):
    for certificate in certificates:
        problem = _certificates.validity_problem(certificate, now)
        if problem:
            yield f"The {label} ({_certificates.subject_of(certificate)}) cannot be used: {problem}."


def _certificate_findings(settings, now):
    for name in ("gateway_certificate", "gateway_key"):
        if not settings.get(name):
            yield f"The {name} is empty, and the gateway speaks TLS only; set it to a PEM file on the controller."
        elif not settings[FILES[name]]:
            yield f"The file {settings[name]} of {name} cannot be read, or is empty; correct the path or the permissions."
    certificates = []
    if settings["certificate"]:
        certificates = _certificates_in(settings["certificate"], settings["gateway_certificate"])
        if not certificates:
            path = settings["gateway_certificate"]
            yield f"The file {path} of gateway_certificate holds no certificate in PEM; convert it with openssl x509."
        else:
            yield from _validity("certificate of the gateway", certificates, now)
        if "PRIVATE KEY-----" in settings["certificate"]:
            yield "The file of gateway_certificate holds a private key as well; leave only certificates in it."
    if settings["key"]:
        path = settings["gateway_key"]
        try:
            key = _certificates.key_of(settings["key"].encode("utf-8", "replace"), path)
        except ModelFleetError:
            if "ENCRYPTED" in settings["key"]:
                yield f"The file {path} of gateway_key has a password, which nobody types at a start; write it without."
            else:
                yield f"The file {path} of gateway_key holds no private key in PEM, of RSA or a curve; convert it with openssl pkey."
        else:
            if certificates and not _certificates.same_key(certificates[0], key):
                yield (
                    f"The key {path} does not belong to the first certificate in {settings['gateway_certificate']}; "
                    "give the one that it was made with, and put the certificate of the server before those of its CAs."
                )


def _authority_findings(settings, now):
    if not settings.get("gateway_client_ca"):
        return
    certificates = _certificates_in(settings["client_ca"], settings["gateway_client_ca"])
    if not certificates:
        yield f"The file {settings['gateway_client_ca']} of gateway_client_ca cannot be read or holds no certificate in PEM; correct it."
        return
    yield from _validity("CA of the clients", certificates, now)


def _client_findings(settings):
    clients = settings.get("gateway_clients") or []
    if not clients:
        yield "The list gateway_clients is empty, so that nobody could ask; add a client, or take the host out of modelfleet_gateways."
    names, tokens, certificates = {}, {}, {}
    for number, client in enumerate(clients if isinstance(clients, list) else []):
        if not hasattr(client, "get"):
            continue
        name = str(client.get("name", ""))
        label = f"client gateway_clients[{number}]" + (f" ({name})" if _NAME.fullmatch(name) else "")
        if not _NAME.fullmatch(name):
            yield f"The name of the {label} must be of letters, digits and ._-, 63 at most, with a letter or digit first; rename it."
        elif name in names:
            yield f"The {label} has the name of another one; give each its own, as the log and the limits go by it."
        names[name] = True
        if ("token" in client) == ("certificate" in client):
            yield f"The {label} must have either a token or a certificate; write one of them."
            continue
        if "token" in client:
            token = str(client["token"] or "")
            if not token:
                yield f"The token of the {label} is empty; make one with: openssl rand -hex 32."
            elif not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN:
                yield (
                    f"The token of the {label} has {len(token)} characters, and must have {SHORTEST_TOKEN} to {LONGEST_TOKEN}; make one "
                    "with: openssl rand -hex 32."
                )
            elif not _TOKEN.fullmatch(token):
                yield f"The token of the {label} has a character that HTTP does not take; make one with: openssl rand -hex 32."
            elif token in tokens:
                yield f"The {label} has the token of {tokens[token]}, so that nobody could tell them apart; make another one."
            tokens.setdefault(token, f"the {label}")
        else:
            common_name = str(client["certificate"] or "")
            if not _COMMON_NAME.fullmatch(common_name):
                yield f"The certificate of the {label} must be its common name, of letters, digits and ._@:/+-, 64 at most; correct it."
            elif common_name in certificates:
                yield f"The {label} has the common name of {certificates[common_name]}; give each client a certificate of its own."
            elif not settings.get("gateway_client_ca"):
                yield f"The {label} comes by a certificate, and gateway_client_ca is empty; name the CA that has signed it."
            certificates.setdefault(common_name, f"the {label}")
        if (_addresses.whole(client.get("requests_per_minute", 1)) or 0) < 1:
            yield f"The requests_per_minute of the {label} must be 1 or more; take the client out of the list to keep it out."


def _address_findings(settings):
    address = str(settings.get("gateway_address", ""))
    try:
        ipaddress.ip_address(address)
    except ValueError:
        yield f"The gateway_address is not an IP address ('{address}'); write one of this host, or 0.0.0.0 or :: for all of them."
    port = _addresses.whole(settings.get("gateway_port")) or 0
    if not 1024 <= port <= 65535:
        yield f"The gateway_port is {port}, and the gateway has no privileges; use one from 1024 to 65535, to which 443 may be redirected."
    else:
        yield from _addresses.taken(settings, port, "gateway_port")
    host = str(settings.get("inventory_hostname", ""))
    if not _HOST.fullmatch(host):
        yield f"The host '{host}' has a name that HAProxy does not take for a server; rename it, with letters, digits and ._- only."


def _limit_findings(settings):
    for name, least in (
        ("gateway_requests_per_minute", 1),
        ("gateway_max_connections", 1),
        ("gateway_threads", 1),
        ("gateway_timeout", 1),
        ("gateway_hold_seconds", 0),
        ("gateway_drain_seconds", 0),
    ):
        if name in settings and (number := _addresses.whole(settings[name])) is not None and number < least:
            yield f"The {name} is {settings[name]}; set it to {least} or more."
    # TimeoutStopSec= of its unit.
    if (_addresses.whole(settings.get("gateway_drain_seconds")) or 0) > 50:
        seconds = settings["gateway_drain_seconds"]
        yield f"The gateway_drain_seconds is {seconds}, and systemd ends the stop of TorchServe after 60; set it to 50 or less."
    if "gateway_max_body_bytes" not in settings:
        return
    wanted, takes = str(settings["gateway_max_body_bytes"]), _addresses.whole(settings.get("max_request_size")) or 0
    if not re.fullmatch(r"[1-9]\d*", wanted):
        yield f"The gateway_max_body_bytes is no number of bytes ('{wanted}'); write one such as 6553500."
    elif takes and int(wanted) > takes:
        yield (
            f"The gateway_max_body_bytes is {wanted}, and TorchServe takes {takes} bytes; raise max_request_size in torchserve_config "
            "as well, or lower it."
        )


def gateway_findings(settings, now=None):
    now = now or datetime.datetime.now(datetime.timezone.utc)
    # The content of a file that nobody named is none.
    contents = {content: settings.get(name) and settings.get(content) for name, content in FILES.items()}
    settings = {**settings, **{content: str(text or "") for content, text in contents.items()}}
    return [
        *_certificate_findings(settings, now),
        *_authority_findings(settings, now),
        *_client_findings(settings),
        *_address_findings(settings),
        *_limit_findings(settings),
    ]


class FilterModule:
    def filters(self):
        return {"gateway_findings": gateway_findings}
