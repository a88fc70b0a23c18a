# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import check_object_key, store_from, store_from_unchecked

S3 = {"bucket": "models", "access_key": "AK", "secret_key": "SK"}


def s3(**changes):
    return store_from({"s3": {**S3, **changes}})


def test_presign_gives_the_example_of_the_aws_documentation():
    store = s3(
        bucket="examplebucket",
        endpoint="https://s3.amazonaws.com",
        access_key="AKIAIOSFODNN7EXAMPLE",
        secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    )
    url = store.presign("GET", "test.txt", 86400, now=datetime.datetime(2013, 5, 24, tzinfo=datetime.timezone.utc))
    assert url == (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"
        "&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


@pytest.mark.parametrize("expires", [0, 604801])
def test_presign_refuses_an_expiry_that_s3_refuses(expires):
    with pytest.raises(ModelFleetError, match="1 to 604800 seconds"):
        s3().presign("GET", "a", expires)


@pytest.mark.parametrize(
    ("changes", "host", "port", "tls"),
    [
        ({}, "models.s3.us-east-1.amazonaws.com", 443, True),
        ({"region": "cn-north-1"}, "models.s3.cn-north-1.amazonaws.com.cn", 443, True),
        ({"path_style": True}, "s3.us-east-1.amazonaws.com", 443, True),
        ({"bucket": "with.dots"}, "s3.us-east-1.amazonaws.com", 443, True),
        ({"endpoint": "https://minio.example.com:9000"}, "models.minio.example.com", 9000, True),
        ({"endpoint": "http://10.0.0.5"}, "10.0.0.5", 80, False),
        ({"endpoint": "https://[fd00::5]:9000"}, "[fd00::5]", 9000, True),
    ],
)
def test_origin_hosts(changes, host, port, tls):
    assert s3(**changes).origin_hosts() == [{"host": host, "port": port, "tls": tls}]


def test_to_config_has_the_keys_of_the_public_plugin_and_ours_only_when_used():
    public = {"type": "s3", "bucket_name": "models", "region": "us-east-1", "access_key": "AK", "secret_key": "SK"}
    assert s3().to_config() == public
    assert s3(session_token="T", endpoint="http://10.0.0.5").to_config() == {
        **public,
        "session_token": "T",
        "endpoint": "http://10.0.0.5",
        "path_style": True,
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bucket": "Upper"}, "storage.s3.bucket 'Upper'"),
        ({"bucket": "ab"}, "storage.s3.bucket"),
        ({"bucket": "under_score"}, "storage.s3.bucket"),
        ({"bucket": "192.168.0.1"}, "storage.s3.bucket"),
        ({"bucket": "two..dots"}, "storage.s3.bucket"),
        ({"bucket": ""}, "bucket is empty"),
        ({"secret_key": ""}, "secret_key is empty"),
        ({"region": "us east"}, "storage.s3.region"),
        ({"endpoint": "minio.example.com"}, "storage.s3.endpoint"),
        ({"endpoint": "ftp://minio.example.com"}, "storage.s3.endpoint"),
        ({"endpoint": "https://minio.example.com/models"}, "storage.s3.endpoint"),
        ({"endpoint": "https://minio.example.com?x=1"}, "storage.s3.endpoint"),
        ({"endpoint": "https://user:PLANTED@minio.example.com"}, "storage.s3.endpoint"),
        ({"endpoint": "https://minio.example.com:port"}, "storage.s3.endpoint"),
    ],
)
def test_bad_options_are_one_sentence_that_names_the_key(changes, said):
    with pytest.raises(ModelFleetError, match=said) as raised:
        s3(**changes)
    assert "PLANTED" not in str(raised.value)


@pytest.mark.parametrize(
    "storage", [{}, {"s3": None}, {"s3": S3, "gcs": {}}, {"s3": {**S3, "container": "x"}}, {"s3": {"bucket": "models"}}, []]
)
def test_a_foreign_missing_or_second_store_is_refused(storage):
    with pytest.raises(ModelFleetError, match=r"Failed to (read the storage description|choose an object store)"):
        store_from_unchecked(storage)


@pytest.mark.parametrize("key", ["a", "a b+ü%2F", "models/x..y.mar", "a//b", ".hidden"])
def test_odd_keys_are_allowed(key):
    check_object_key(key)


@pytest.mark.parametrize("key", ["", "/a", "a/", "../a", "a/./b", "a/..", "a\nb", "a\x7fb"])
def test_bad_keys_are_refused(key):
    with pytest.raises(ModelFleetError, match="Failed to use the object key"):
        check_object_key(key)
