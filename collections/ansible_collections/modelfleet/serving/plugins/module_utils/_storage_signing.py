# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the signatures of the object stores share. PRIVATE to the collection: it can have breaking changes at any time.

Three of them are one scheme with other names: AWS Signature Version 4, OSS4 and GOOG4 (which signs with RSA instead of a derived key).
"""

from __future__ import annotations

import base64
import collections
import datetime
import hashlib
import hmac
from urllib.parse import quote

SEVEN_DAYS = 7 * 24 * 3600
# The signatures that name a point in time have no limit of their own; OBS documents this one.
TWENTY_YEARS = 20 * 365 * 24 * 3600

# What signs for S3, OSS and OBS. Those of an identity have the time at which they expire, in seconds since 1970.
Keys = collections.namedtuple("Keys", "access_key secret_key session_token expires", defaults=(None,))


def utc(now=None):
    return now or datetime.datetime.now(datetime.timezone.utc)


def basic_time(now):
    return utc(now).strftime("%Y%m%dT%H%M%SZ")


def epoch(now, expires_s):
    return str(int(utc(now).timestamp()) + expires_s)


def encode(text):
    """A value in a query."""
    return quote(text, safe="~")


def encode_path(path):
    return quote(path, safe="/~")


def encode_query(query):
    return "&".join("{}={}".format(encode(name), encode(value)) for name, value in sorted(query.items()))


def text_to_sign(algorithm, time, scope, canonical_lines):
    digest = hashlib.sha256("\n".join(canonical_lines).encode()).hexdigest()
    return "\n".join((algorithm, time, scope, digest))


def derived_signature(prefix, secret, scope, text):
    """HMAC with a key that is derived from the secret and every part of the scope."""
    key = (prefix + secret).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def hmac_base64(key, text, digest):
    return base64.b64encode(hmac.new(key, text.encode(), digest).digest()).decode()


def keys_of(store, now=None):
    """The ``Keys`` with which a store signs now."""
    return store.identity.current(now) if store.identity else Keys(store.access_key, store.secret_key, store.session_token)


def presign_aws4(store, method, path, expires_s, now, token_name, more=None):
    """AWS Signature Version 4 in the query string, of S3 and what speaks its protocol. ``more`` are other parameters of the query."""
    keys = keys_of(store, now)
    time = basic_time(now)
    scope = "/".join((time[:8], store.region, "s3", "aws4_request"))
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": "{}/{}".format(keys.access_key, scope),
        "X-Amz-Date": time,
        "X-Amz-Expires": str(expires_s),
        "X-Amz-SignedHeaders": "host",
        **(more or {}),
    }
    if keys.session_token:
        query[token_name] = keys.session_token
    query = encode_query(query)
    request = (method, path, query, "host:" + store.authority, "", "host", "UNSIGNED-PAYLOAD")
    text = text_to_sign("AWS4-HMAC-SHA256", time, scope, request)
    signature = derived_signature("AWS4", keys.secret_key, scope, text)
    return "{}{}?{}&X-Amz-Signature={}".format(store.base_url, path, query, signature)
