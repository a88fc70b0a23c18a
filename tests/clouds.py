# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of credentials share that are in no file: who gives them out, the stores, and the authority of another's tokens."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "collections"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lab/origin"))

from ansible_collections.modelfleet.serving.plugins.module_utils._storage import store_from_unchecked
from strict_origin import server

KEY = "models/ä b+c%2Fd~e.mar"
CONTENT = os.urandom(300_000)
ISSUER = {"url": "https://issuer.example.com", "audience": "the-fleet", "subject": "system:serviceaccount:models:reader"}
ROLE = "arn:aws:iam::123456789012:role/reader"


class Authority:
    """Who issues the tokens that a cloud takes for credentials."""

    def __init__(self):
        self._key = rsa.generate_private_key(65537, 2048)
        pem = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        self.issuer = {**ISSUER, "public_key": pem}

    def token(self, **claims):
        claims = {"iss": ISSUER["url"], "aud": ISSUER["audience"], "sub": ISSUER["subject"], "exp": int(time.time()) + 600, **claims}
        signed = ".".join(map(encoded, (json.dumps({"alg": "RS256", "kid": "1"}).encode(), json.dumps(claims).encode())))
        return signed + "." + encoded(self._key.sign(signed.encode(), PKCS1v15(), SHA256()))


def encoded(part):
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


# What the origin is told of a store, of who gives out credentials for it, and what the user says of the store and of web_identity.
EMAIL = "reader@lab.iam.gserviceaccount.com"
AUDIENCE = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/fleet/providers/cluster"
RAM = {"role_arn": "acs:ram::123456789012:role/reader", "oidc_provider_arn": "acs:ram::123456789012:oidc-provider/cluster"}
ENTRA = {"tenant_id": "11111111-1111-4111-8111-111111111111", "client_id": "22222222-2222-4222-8222-222222222222"}
HERE = {"buckets": ["models"], "endpoints": ["127.0.0.1"], "keys": []}
STORES = {
    "s3": ({"region": "us-east-1", **HERE}, {"role_arn": ROLE}, {"bucket": "models"}, {"role_arn": ROLE}),
    "oss": ({"region": "cn-hangzhou", **HERE}, RAM, {"bucket": "models", "region": "cn-hangzhou"}, RAM),
    "gcs": (
        {"buckets": ["models"], "accounts": [], "hosts": ["127.0.0.1"]},
        {"client_email": EMAIL, "audience": AUDIENCE},
        {"bucket": "models"},
        {"audience": AUDIENCE, "service_account": EMAIL},
    ),
    "abs": (
        {
            "accounts": [{"account_name": "lab", "account_key": base64.b64encode(b"a key").decode(), "containers": ["models"]}],
            "endpoints": ["127.0.0.1"],
        },
        ENTRA,
        {"account_name": "lab", "container": "models"},
        ENTRA,
    ),
    "obs": ({"region": "cn-north-4", **HERE}, {}, {"bucket": "models", "region": "cn-north-4"}, None),
}
CASES = [(name, source) for name in STORES for source in ("instance", "web_identity") if source == "instance" or STORES[name][3]]
INSTANCES = [name for name, source in CASES if source == "instance"]
WEB = [name for name, source in CASES if source == "web_identity"]


# What is said where an instance has no identity.
UNATTACHED = {
    "s3": "no role is attached to this instance. Attach an instance profile whose role may read the bucket.",
    "oss": "no role is attached to this instance. Attach a RAM role to it that may read the bucket.",
    "gcs": "this machine has no service account (404). Attach one that may read the bucket.",
    "abs": "this machine has no such managed identity (400). Assign one to it that may read the container; of several, name one in"
    " identity.client_id.",
    "obs": "no agency is configured for this server (401). Configure an agency for this server that may read the bucket (Cloud Service"
    " Agency).",
}


class Cloud:
    """A store, and who gives out credentials for it."""

    def __init__(self, name, source, config, token_path):
        origin, identity, self.options, web = STORES[name]
        self.name, self.source = name, source
        self.servers = server.start({**config, name: origin, "identities": {name: {**config["identity"], **identity}}})
        self.origin = self.servers["http"].origin
        self.store = self.origin.stores[0]
        self.identity = self.origin.identities[name]
        self.ports = {name: one.server_address[1] for name, one in self.servers.items()}
        # Azure takes tokens by TLS only.
        self.url = f"https://127.0.0.1:{self.ports['https']}" if name == "abs" else f"http://127.0.0.1:{self.ports['http']}"
        self.identity_url = f"http://127.0.0.1:{self.ports[f'identity-{name}']}"
        self.token_path = token_path
        self.ca = config["tls"]["certificate"]
        self.unattached = UNATTACHED[name]
        self.own = {"source": source, "endpoint": self.identity_url}
        if name == "gcs":
            self.own["iam_endpoint"] = self.identity_url
        if source == "web_identity":
            self.own.update(web, token_path=str(token_path))

    def through_rules(self, url):
        """A URL of the plugin, as dfdaemon's rules have it reach the origin."""
        return url.replace("http://", "https://", 1) if self.name == "abs" else url

    def storage(self, **changes):
        identity = {key: value for key, value in {**self.own, **changes}.items() if value is not None}
        return {self.name: {**self.options, "endpoint": self.url, "identity": identity}}

    def signer(self, **changes):
        return store_from_unchecked(self.storage(**changes))

    def put(self, key, content):
        upload = self.origin.objects.upload()
        upload.write(content)
        self.origin.objects.put("models", key, upload)

    def secrets(self):
        """Everything that was given out and nobody may see."""
        if self.name == "gcs":
            return [*self.store._tokens, *self.identity.federated]
        if self.name == "abs":
            return [*self.store.tokens, *(base64.b64encode(one["key"]).decode() for one in self.store._delegations.values())]
        return [part for key in self.store.keys.values() for part in (key.secret, key.token)]

    def stop(self):
        server.stop(self.servers)


def got(url, **headers):
    """Status and content."""
    # Ansible's open_url leaves an opener of its own behind for whoever has none.
    opener = urllib.request.build_opener()
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read()
