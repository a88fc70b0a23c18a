# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import lookup_loader
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

STORAGE = {"s3": {"bucket": "models", "access_key": "AK", "secret_key": "PLANTED"}}


@pytest.fixture
def lookup():
    return lookup_loader.get("modelfleet.serving.presigned_url")


def test_one_url_for_every_key(lookup):
    urls = lookup.run(["a b.mar", "c.mar"], storage=STORAGE, method="PUT", expires=60)
    assert [urlsplit(url).path for url in urls] == ["/a%20b.mar", "/c.mar"]
    for url in urls:
        query = parse_qs(urlsplit(url).query)
        assert query["X-Amz-Expires"] == ["60"] and len(query["X-Amz-Signature"][0]) == 64
        assert "PLANTED" not in url


def test_method_is_part_of_the_signature(lookup):
    get, put = (lookup.run(["a"], storage=STORAGE, method=method)[0] for method in ("GET", "PUT"))
    assert get.rpartition("=")[2] != put.rpartition("=")[2]


def service_account():
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return json.dumps({"type": "service_account", "client_email": "reader@example.com", "private_key": key})


@pytest.mark.parametrize(
    ("storage", "url", "signature"),
    [
        (
            {"oss": {"bucket": "models", "region": "cn-hangzhou", "access_key_id": "AK", "access_key_secret": "PLANTED"}},
            "https://models.oss-cn-hangzhou.aliyuncs.com/a%20b.mar",
            "x-oss-signature",
        ),
        (
            {"gcs": {"bucket": "models", "service_account_json": service_account()}},
            "https://storage.googleapis.com/models/a%20b.mar",
            "X-Goog-Signature",
        ),
        (
            {"abs": {"account_name": "example", "account_key": "eHg=", "container": "models"}},
            "https://example.blob.core.windows.net/models/a%20b.mar",
            "sig",
        ),
        (
            {"obs": {"bucket": "models", "region": "cn-north-4", "access_key_id": "AK", "secret_access_key": "PLANTED"}},
            "https://models.obs.cn-north-4.myhuaweicloud.com/a%20b.mar",
            "Signature",
        ),
        ({"http": {"url": "https://files.example.com/models/"}}, "https://files.example.com/models/a%20b.mar", None),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_every_store(lookup, storage, url, signature, method):
    (found,) = lookup.run(["a b.mar"], storage=storage, method=method)
    assert found.partition("?")[0] == url
    assert "PLANTED" not in found
    query = parse_qs(urlsplit(found).query)
    assert signature in query if signature else not query


@pytest.mark.parametrize(("key", "storage"), [("../a", STORAGE), ("a", {}), ("a", {"s3": {"bucket": "models"}})])
def test_bad_input_is_a_lookup_error(lookup, key, storage):
    with pytest.raises(AnsibleLookupError, match="Failed to"):
        lookup.run([key], storage=storage)
