# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import lookup_loader

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


@pytest.mark.parametrize(("key", "storage"), [("../a", STORAGE), ("a", {}), ("a", {"s3": {"bucket": "models"}})])
def test_bad_input_is_a_lookup_error(lookup, key, storage):
    with pytest.raises(AnsibleLookupError, match="Failed to"):
        lookup.run([key], storage=storage)
