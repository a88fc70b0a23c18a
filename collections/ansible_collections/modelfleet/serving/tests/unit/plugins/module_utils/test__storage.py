# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import datetime
import json
import pathlib
import sys
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import (
    STORES,
    check_object_key,
    credentials_argument_spec,
    publishing_store,
    store_from,
    store_from_unchecked,
)
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

# The two primes of a key that is used nowhere.
P = int(
    "d26f0ce7359d1e5d2ad77d3b9670f88d952d31a4ecf8ff8fa5d402bb38c48450b5cb8716764263f2fa24a808b30602ffe07238839286d1435ec823941c0419da"
    "90f03b24512a2fffb5db0d02b708d763acb636c737a78c356c10a2533528bad436f572e99c80799ef665abccf3333d74403b85f37b6342cc3172d8168612ec05",
    16,
)
Q = int(
    "d188837cbeb571a7050514dd4adf276f24f4d301080f4042aaed2608698242b21d6b2f0cc832090b2a741f6ce3b39fa0fefa40dca85afd397e0444fc8360027b"
    "c10f425982b88ef9146099a821e7d4c9abe33da6aa91d7abff9197056ec013cfcc809bed75d7471d40ed02a742dfd8560391c0951a3ea32dddfd6c6f9ef2a0bd",
    16,
)


def private_key():
    d = rsa.rsa_recover_private_exponent(65537, P, Q)
    public = rsa.RSAPublicNumbers(65537, P * Q)
    numbers = rsa.RSAPrivateNumbers(P, Q, d, rsa.rsa_crt_dmp1(d, P), rsa.rsa_crt_dmq1(d, Q), rsa.rsa_crt_iqmp(P, Q), public)
    return numbers.private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


ACCOUNT = {
    "type": "service_account",
    "project_id": "example",
    "client_email": "reader@example.iam.gserviceaccount.com",
    "private_key": private_key(),
    "token_uri": "https://oauth2.googleapis.com/token",
}
S3 = {"bucket": "models", "access_key": "AK", "secret_key": "SK"}
STORAGE = {
    "s3": S3,
    "oss": {"bucket": "models", "region": "cn-hangzhou", "access_key_id": "LTAIEXAMPLE", "access_key_secret": "oss/s3cr+t"},
    "gcs": {"bucket": "models", "service_account_json": json.dumps(ACCOUNT)},
    "abs": {
        "account_name": "examplemodels",
        "account_key": base64.b64encode(b"a key of an example account").decode(),
        "container": "models",
    },
    "obs": {"bucket": "models", "region": "cn-north-4", "access_key_id": "OBSEXAMPLE", "secret_access_key": "obs/s3cr+t"},
    "http": {"url": "https://files.example.com/some/models"},
}
NOW = datetime.datetime.fromtimestamp(1760000000, datetime.timezone.utc)
KEY = "models/ünï 模型+a%2Fb//~'\"&=?#.mar"
ENCODED = "/models/%C3%BCn%C3%AF%20%E6%A8%A1%E5%9E%8B%2Ba%252Fb//~%27%22%26%3D%3F%23.mar"
TOKEN = "tok/en+=="
AMZ = "X-Amz-Algorithm X-Amz-Credential X-Amz-Date X-Amz-Expires X-Amz-SignedHeaders X-Amz-Signature"
OSS4 = "x-oss-signature-version x-oss-credential x-oss-date x-oss-expires x-oss-signature"


# What a user says of headers.
ACCEPTED = {"headers_reach_daemon_logs": True, "headers_reach_unverified_server": True}


def store(name, **changes):
    return store_from_unchecked({name: {**STORAGE[name], **changes}})


def s3(**changes):
    return store_from({"s3": {**S3, **changes}})


# Each signature was made once by the vendor's own library for Python: oss2, esdk-obs-python, azure-storage-blob, google-cloud-storage.
@pytest.mark.parametrize(
    ("name", "changes", "method", "url", "names", "signature"),
    [
        (
            "oss",
            {},
            "GET",
            "https://models.oss-cn-hangzhou.aliyuncs.com",
            OSS4,
            "7bd869c899168bf966b4686fa6f33ab7450ea99b868c0c191e3ba51b449f9542",
        ),
        (
            "oss",
            {"security_token": TOKEN},
            "GET",
            "https://models.oss-cn-hangzhou.aliyuncs.com",
            OSS4 + " x-oss-security-token",
            "2fdd0bc65c38a30a8070e0952ccad5eeda39e9cd724694e7a3573989d7987a51",
        ),
        (
            "oss",
            {"signature_version": "v1"},
            "GET",
            "https://models.oss-cn-hangzhou.aliyuncs.com",
            "OSSAccessKeyId Expires Signature",
            "gVciTSvtNyKsRcInKFoH0TkEo7Y=",
        ),
        (
            "oss",
            {"signature_version": "v1", "security_token": TOKEN},
            "GET",
            "https://models.oss-cn-hangzhou.aliyuncs.com",
            "OSSAccessKeyId Expires Signature security-token",
            "MKz003x5dqYwtbLnTkalldSPSLY=",
        ),
        (
            "obs",
            {},
            "GET",
            "https://models.obs.cn-north-4.myhuaweicloud.com",
            "AccessKeyId Expires Signature",
            "DyoTDQAEWu2x88YL09Gu/ppfHeM=",
        ),
        (
            "obs",
            {"security_token": TOKEN},
            "GET",
            "https://models.obs.cn-north-4.myhuaweicloud.com",
            "AccessKeyId Expires Signature x-obs-security-token",
            "jvfgolhYrNKM8SgKnyKsXf9DqbE=",
        ),
        (
            "obs",
            {"signature": "v4"},
            "GET",
            "https://models.obs.cn-north-4.myhuaweicloud.com",
            AMZ,
            "910db0e155fefdbc9df321d67552222587b4f1cc4bc010dde20a049d36b7a0b1",
        ),
        (
            "obs",
            {"signature": "v4", "security_token": TOKEN},
            "GET",
            "https://models.obs.cn-north-4.myhuaweicloud.com",
            AMZ + " x-amz-security-token",
            "850daab43bf5de9a2c74803be7f1115f4e9d1c7f9715f0a909946ffccb0f5668",
        ),
        (
            "abs",
            {},
            "GET",
            "https://examplemodels.blob.core.windows.net/models",
            "sv sr sp se spr sig",
            "UQVkjD0ExELkmsX24t+5II0Kfeeg6Kws2onny/vTJM4=",
        ),
        (
            "abs",
            {},
            "PUT",
            "https://examplemodels.blob.core.windows.net/models",
            "sv sr sp se spr sig",
            "7dd/5Zfp4agy08jFHT8QscxkXzzR3Nr049Hwc6FSi+I=",
        ),
        (
            "abs",
            {"endpoint": "http://127.0.0.1:10000"},
            "GET",
            "http://127.0.0.1:10000/examplemodels/models",
            "sv sr sp se sig",
            "/f/9yU/yxKiMFbAM7L12ht9eIuzbfYiME1ymigjSJx8=",
        ),
        (
            "gcs",
            {},
            "GET",
            "https://storage.googleapis.com/models",
            "X-Goog-Algorithm X-Goog-Credential X-Goog-Date X-Goog-Expires X-Goog-SignedHeaders X-Goog-Signature",
            "9acdc792fcff520cf9e9864773e4c4b0b7f6933befac64c1fc1fc6f96571c680d96f5ec4aa5eed4e4220b634f8f7420ebca315dd1c6c4310b12b365e63af96e3"
            "d8d1eb08dd030eb4fa400dad67e2c9f952563a6cd4f08fd2954a1984949b8c9575b1591c9acfe1734dbe52c64509b8ab8cca45b377518b9b1677492797146c5e"
            "4cd83d720811a35f144fd211beae322e053c2f945a8dfe7070d7f0be1a76b2c7fc803fae4a47e88adfbc166a65d425b1b4eb99431358a27999cc596a39a48c05"
            "7902bd35e387388c5b1d1b45f01ebc23ffa1035bedc62256a45e6d8140550ed09ca4d1f634d04ca59b7c4d15eb04fccb7cbce91eb498560e4faf3340375ce1b4",
        ),
    ],
)
def test_presign_gives_what_the_vendors_library_gives(name, changes, method, url, names, signature):
    signed = store(name, **changes).presign(method, KEY, 600, now=NOW)
    assert signed.partition("?")[0] == url + ENCODED
    query = parse_qs(urlsplit(signed).query, strict_parsing=True)
    assert set(query) == set(names.split())
    assert [values for key, values in query.items() if key.lower().endswith("signature") or key == "sig"] == [[signature]]
    expiry = {"se": "2025-10-09T09:03:20Z", "Expires": "1760000600"}
    assert [(key, values) for key, values in query.items() if "xpires" in key or key == "se"] == [
        (key, [expiry.get(key, "600")]) for key in names.split() if "xpires" in key or key == "se"
    ]


def test_http_signs_nothing():
    assert store("http").presign("GET", KEY, 10**9) == "https://files.example.com/some/models" + ENCODED


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


@pytest.mark.parametrize(
    ("name", "changes", "most"),
    [
        ("s3", {}, 604800),
        ("oss", {}, 604800),
        ("oss", {"signature_version": "v1"}, 630720000),
        ("gcs", {}, 604800),
        ("abs", {}, 630720000),
        ("obs", {}, 630720000),
        ("obs", {"signature": "v4"}, 604800),
    ],
)
def test_presign_refuses_an_expiry_that_the_store_refuses(name, changes, most):
    one = store(name, **changes)
    for good in (1, most):
        one.presign("GET", "a", good)
    for bad in (0, most + 1, 10**30):
        with pytest.raises(ModelFleetError, match="1 to {} seconds".format(most)):
            one.presign("GET", "a", bad)


@pytest.mark.parametrize(
    ("name", "changes", "host", "port", "tls"),
    [
        ("s3", {}, "models.s3.us-east-1.amazonaws.com", 443, True),
        ("s3", {"region": "cn-north-1"}, "models.s3.cn-north-1.amazonaws.com.cn", 443, True),
        ("s3", {"region": "eusc-de-east-1"}, "models.s3.eusc-de-east-1.amazonaws.eu", 443, True),
        ("s3", {"region": "us-isob-east-1"}, "models.s3.us-isob-east-1.sc2s.sgov.gov", 443, True),
        ("s3", {"region": "RegionOne", "endpoint": "https://ceph.example.com"}, "models.ceph.example.com", 443, True),
        ("s3", {"endpoint": "https://" + "a" * 63 + ".example.com"}, "models." + "a" * 63 + ".example.com", 443, True),
        ("s3", {"path_style": True}, "s3.us-east-1.amazonaws.com", 443, True),
        ("s3", {"bucket": "with.dots"}, "s3.us-east-1.amazonaws.com", 443, True),
        ("s3", {"endpoint": "https://minio.example.com:9000"}, "models.minio.example.com", 9000, True),
        ("s3", {"endpoint": "https://MinIO.example.com/"}, "models.minio.example.com", 443, True),
        ("s3", {"endpoint": "http://10.0.0.5"}, "10.0.0.5", 80, False),
        ("s3", {"endpoint": "https://[fd00::5]:9000"}, "[fd00::5]", 9000, True),
        ("oss", {}, "models.oss-cn-hangzhou.aliyuncs.com", 443, True),
        ("oss", {"endpoint": "http://10.0.0.5:8080"}, "10.0.0.5", 8080, False),
        ("oss", {"endpoint": "https://oss.example.com", "region": "default"}, "models.oss.example.com", 443, True),
        ("gcs", {}, "storage.googleapis.com", 443, True),
        ("gcs", {"endpoint": "http://gcs.example.com:4443"}, "gcs.example.com", 4443, False),
        ("abs", {}, "examplemodels.blob.core.windows.net", 443, True),
        ("abs", {"endpoint_suffix": "core.chinacloudapi.cn"}, "examplemodels.blob.core.chinacloudapi.cn", 443, True),
        ("abs", {"endpoint": "http://azurite:10000", "path_style": True}, "azurite", 10000, False),
        ("obs", {}, "models.obs.cn-north-4.myhuaweicloud.com", 443, True),
        ("obs", {"region": "eu-west-101"}, "models.obs.eu-west-101.myhuaweicloud.eu", 443, True),
        ("obs", {"path_style": True}, "obs.cn-north-4.myhuaweicloud.com", 443, True),
        ("obs", {"endpoint": "https://[fd00::5]"}, "[fd00::5]", 443, True),
        ("http", {}, "files.example.com", 443, True),
        ("http", {"url": "http://Files.example.com:8080"}, "files.example.com", 8080, False),
        ("http", {"url": "http://files.example.com:80/a/"}, "files.example.com", 80, False),
    ],
)
def test_origin_hosts(name, changes, host, port, tls):
    assert store(name, **changes).origin_hosts() == [{"host": host, "port": port, "tls": tls}]


def test_every_region_of_aws_is_where_its_own_library_has_it():
    import botocore

    partitions = json.loads((pathlib.Path(botocore.__file__).parent / "data/partitions.json").read_text(encoding="utf-8"))["partitions"]
    regions = {region: partition["outputs"]["dnsSuffix"] for partition in partitions for region in partition["regions"]}
    regions = {region: suffix for region, suffix in regions.items() if not region.endswith("-global")}
    assert len(regions) > 30 and len(set(regions.values())) > 5
    assert {region: s3(region=region).endpoint_url for region in regions} == {
        region: "https://s3.{}.{}".format(region, suffix) for region, suffix in regions.items()
    }


def test_to_config_has_the_keys_of_the_public_plugin_and_ours_only_when_used():
    # As the plugin reads it, whatever the user wrote.
    for endpoint, written in ("HTTPS://MinIO:9000/", "https://minio:9000"), ("https://minio:", "https://minio"):
        assert s3(endpoint=endpoint).to_config()["endpoint"] == written
    public = {"type": "s3", "bucket_name": "models", "region": "us-east-1", "access_key": "AK", "secret_key": "SK"}
    assert s3().to_config() == public
    assert s3(requester_pays=True).to_config() == {**public, "requester_pays": True}
    assert s3(session_token="T", endpoint="http://10.0.0.5").to_config() == {
        **public,
        "session_token": "T",
        "endpoint": "http://10.0.0.5",
        "path_style": True,
    }


@pytest.mark.parametrize(
    ("name", "changes", "more"),
    [
        ("oss", {}, {"endpoint": "https://oss-cn-hangzhou.aliyuncs.com"}),
        (
            "oss",
            {"security_token": "T", "signature_version": "v1", "endpoint": "http://OSS.example.com:80/"},
            {"security_token": "T", "signature_version": "v1", "endpoint": "http://oss.example.com"},
        ),
        ("gcs", {}, {"project_id": "example"}),
        ("gcs", {"user_project": "payer"}, {"project_id": "example", "user_project": "payer"}),
        ("gcs", {"project_id": "another", "endpoint": "http://10.0.0.5"}, {"project_id": "another", "endpoint": "http://10.0.0.5"}),
        ("abs", {}, {}),
        ("abs", {"endpoint_suffix": "core.usgovcloudapi.net"}, {"endpoint_suffix": "core.usgovcloudapi.net"}),
        ("abs", {"endpoint": "http://10.0.0.5:10000"}, {"endpoint": "http://10.0.0.5:10000", "path_style": True}),
        ("obs", {}, {"endpoint": "https://obs.cn-north-4.myhuaweicloud.com"}),
        (
            "obs",
            {"security_token": "T", "signature": "v4", "path_style": True},
            {
                "security_token": "T",
                "signature": "v4",
                "path_style": True,
                "endpoint": "https://obs.cn-north-4.myhuaweicloud.com",
            },
        ),
        ("http", {}, {}),
        (
            "http",
            {"headers": [{"name": "X-Key", "value": "a b"}], **ACCEPTED},
            {"headers": {"X-Key": "a b"}, "headers_reach_daemon_logs": True},
        ),
    ],
)
def test_to_config_writes_what_the_plugin_needs(name, changes, more):
    always = {
        "oss": {
            "bucket_name": "models",
            "region": "cn-hangzhou",
            "access_key_id": "LTAIEXAMPLE",
            "access_key_secret": "oss/s3cr+t",
        },
        "gcs": {"bucket_name": "models"},
        "abs": {"account_name": "examplemodels", "account_key": STORAGE["abs"]["account_key"], "container_name": "models"},
        "obs": {"bucket_name": "models", "region": "cn-north-4", "access_key_id": "OBSEXAMPLE", "secret_access_key": "obs/s3cr+t"},
        "http": {"url": "https://files.example.com/some/models"},
    }
    assert store(name, **changes).to_config() == {"type": name, **always[name], **more}


def test_a_service_account_that_is_text_goes_into_a_file_of_its_own():
    one = store("gcs")
    assert (one.side_file["key"], one.side_file["name"]) == ("service_account_path", "service-account.json")
    assert json.loads(one.side_file["content"]) == ACCOUNT
    assert [name for name in STORES if name != "gcs" and store(name).side_file] == []


def test_a_service_account_may_be_a_mapping():
    assert store("gcs", service_account_json=ACCOUNT).presign("GET", "a", 60, now=NOW) == store("gcs").presign("GET", "a", 60, now=NOW)
    with pytest.raises(ModelFleetError, match=r"storage\.gcs\.service_account_json: its type is not service_account"):
        store("gcs", service_account_json={**ACCOUNT, "type": "authorized_user"})


def test_a_service_account_file_is_read_only_where_it_is_used(tmp_path):
    path = tmp_path / "reader.json"
    one = store_from_file(path)
    assert one.origin_hosts() and one.describe("a") == "gs://models/a"
    for use in (one.to_config, lambda: one.presign("GET", "a", 60)):
        with pytest.raises(ModelFleetError, match="Failed to read storage.gcs.service_account_file {}: No such file".format(path)):
            use()
    path.write_text(json.dumps(ACCOUNT), encoding="utf-8")
    assert one.to_config()["service_account_path"] == str(path)
    assert one.presign("GET", "a", 60, now=NOW) == store("gcs").presign("GET", "a", 60, now=NOW)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b'{"type": "authorized_user"}'])
def test_a_file_that_is_no_service_account_is_named(tmp_path, content):
    path = tmp_path / "reader.json"
    path.write_bytes(content)
    with pytest.raises(ModelFleetError, match="service_account_file {}: it".format(path)):
        store_from_file(path).to_config()


def store_from_file(path):
    return store_from_unchecked({"gcs": {"bucket": "models", "service_account_file": str(path)}})


def test_signing_for_gcs_needs_a_library_that_it_names(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.serialization", None)
    with pytest.raises(ModelFleetError, match="Failed to sign a URL for gs://models/a: the Python library cryptography is missing"):
        store("gcs").presign("GET", "a", 60)


def test_a_key_that_is_cut_short_is_named():
    account = {**ACCOUNT, "private_key": "".join(ACCOUNT["private_key"].splitlines(True)[i] for i in (0, 1, 2, -1))}
    with pytest.raises(ModelFleetError, match="not a whole RSA key") as raised:
        store("gcs", service_account_json=json.dumps(account)).presign("GET", "a", 60)
    assert ACCOUNT["private_key"][40:80] not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("s3", "s3://models/a b"),
        ("oss", "oss://models/a b"),
        ("gcs", "gs://models/a b"),
        ("abs", "https://examplemodels.blob.core.windows.net/models/a%20b"),
        ("obs", "obs://models/a b"),
        ("http", "https://files.example.com/some/models/a%20b"),
    ],
)
def test_describe(name, said):
    assert store(name).describe("a b") == said


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "https://s3.oss-cn-hangzhou.aliyuncs.com"),
        ({"endpoint": "https://oss-cn-hangzhou-internal.aliyuncs.com"}, "https://s3.oss-cn-hangzhou-internal.aliyuncs.com"),
        ({"endpoint": "https://oss.example.com:8443"}, "https://oss.example.com:8443"),
    ],
)
def test_oss_speaks_the_protocol_of_s3_under_another_name(changes, url):
    assert store("oss", **changes).s3_endpoint_url == url


def account_json(**changes):
    account = {**ACCOUNT, "private_key": "PLANTED", **changes}
    return {"service_account_json": json.dumps({key: value for key, value in account.items() if value is not None})}


def http_header(name="X-Key", value="PLANTED"):
    return {"headers": [{"name": name, "value": value}], **ACCEPTED}


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("s3", {"bucket": "Upper"}, "storage.s3.bucket 'Upper'"),
        ("s3", {"bucket": "ab"}, "storage.s3.bucket"),
        ("s3", {"bucket": "under_score"}, "storage.s3.bucket"),
        ("s3", {"bucket": "192.168.0.1"}, "storage.s3.bucket"),
        ("s3", {"bucket": "two..dots"}, "storage.s3.bucket"),
        ("s3", {"bucket": ""}, "bucket is empty. Set it in modelfleet_storage"),
        ("s3", {"secret_key": ""}, "secret_key is empty"),
        ("s3", {"region": "us east"}, "storage.s3.region"),
        ("s3", {"region": "RegionOne"}, "storage.s3.region 'RegionOne': a region looks like us-east-1"),
        ("s3", {"region": "Region/One", "endpoint": "https://ceph.example.com"}, "storage.s3.region"),
        ("s3", {"endpoint": "https://user:PLAN#TED@minio:9000"}, "storage.s3.endpoint: it must be"),
        ("s3", {"endpoint": "https://user:PLAN?TED@minio:9000"}, "storage.s3.endpoint: it must be"),
        ("s3", {"endpoint": "https://" + "a" * 64 + ".example.com"}, "storage.s3.endpoint"),
        ("s3", {"endpoint": "minio.example.com"}, "storage.s3.endpoint"),
        ("s3", {"endpoint": "ftp://minio.example.com"}, "storage.s3.endpoint"),
        ("s3", {"endpoint": "https://minio.example.com/models"}, "storage.s3.endpoint"),
        ("s3", {"endpoint": "https://minio.example.com?x=1"}, "storage.s3.endpoint"),
        ("s3", {"endpoint": "https://minio.example.com?"}, "storage.s3.endpoint"),
        ("s3", {"endpoint": "https://user:PLANTED@minio.example.com"}, "storage.s3.endpoint"),
        ("s3", {"endpoint": "https://minio.example.com:port"}, "storage.s3.endpoint"),
        ("s3", {"endpoint": "https://minio example.com"}, "storage.s3.endpoint"),
        ("s3", {"endpoint": "https://[fd00::5"}, "storage.s3.endpoint"),
        ("oss", {"bucket": "with.dots"}, "storage.oss.bucket 'with.dots'"),
        ("oss", {"bucket": "-models"}, "storage.oss.bucket"),
        ("oss", {"bucket": "a" * 64}, "storage.oss.bucket"),
        ("oss", {"region": "oss-cn-hangzhou"}, "without the oss- of its host name, cn-hangzhou"),
        ("oss", {"region": "hangzhou"}, "a region looks like cn-hangzhou"),
        ("oss", {"access_key_secret": ""}, "storage.oss: access_key_secret is empty"),
        ("oss", {"signature_version": "v2"}, "signature_version"),
        ("oss", {"endpoint": "oss-cn-hangzhou.aliyuncs.com"}, "storage.oss.endpoint"),
        ("oss", {"endpoint": "https://oss.example.com/?security-token=PLANTED"}, "storage.oss.endpoint"),
        ("gcs", {"bucket": "goog-models"}, "storage.gcs.bucket 'goog-models'"),
        ("gcs", {"bucket": "my-google-models"}, "storage.gcs.bucket"),
        ("gcs", {"bucket": "_models"}, "storage.gcs.bucket"),
        ("gcs", {"bucket": "models."}, "storage.gcs.bucket"),
        ("gcs", {"bucket": "a" * 64}, "storage.gcs.bucket"),
        ("gcs", {"bucket": ".".join(["a" * 63] * 4)}, "storage.gcs.bucket"),
        ("gcs", {"bucket": "10.0.0.5"}, "storage.gcs.bucket"),
        ("gcs", {"service_account_json": ""}, "service_account_json is empty"),
        ("gcs", {"service_account_json": "PLANTED"}, "storage.gcs.service_account_json: it is not a JSON object"),
        ("gcs", {"service_account_json": '["PLANTED"]'}, "it is not a JSON object"),
        ("gcs", account_json(type="authorized_user"), "its type is not service_account"),
        ("gcs", account_json(client_email=None), "it has no client_email"),
        ("gcs", account_json(), "its private_key is not a key in PEM"),
        ("gcs", account_json(private_key=None), "its private_key is not a key in PEM"),
        ("gcs", account_json(private_key=ACCOUNT["private_key"].replace("\n", "\\n")), "its private_key is not a key in PEM"),
        ("gcs", account_json(private_key=ACCOUNT["private_key"], token_uri="PLANTED"), "its token_uri is not a URL"),
        (
            "gcs",
            {"service_account_file": "/etc/reader.json"},
            "service_account_json|service_account_file|identity found in",
        ),
        ("abs", {"account_name": "Example-Models"}, "storage.abs.account_name 'Example-Models'"),
        ("abs", {"account_name": "ab"}, "storage.abs.account_name"),
        ("abs", {"container": "two--hyphens"}, "storage.abs.container"),
        ("abs", {"container": "ab"}, "storage.abs.container"),
        ("abs", {"container": "$root"}, "storage.abs.container"),
        ("abs", {"account_key": "PLANTED!"}, "storage.abs.account_key: it is not base64"),
        ("abs", {"account_key": "PLANTED"}, "storage.abs.account_key: it is not base64"),
        ("abs", {"account_key": ""}, "account_key is empty"),
        ("abs", {"endpoint_suffix": "example.com"}, "endpoint_suffix"),
        (
            "abs",
            {"endpoint_suffix": "core.windows.net", "endpoint": "https://a.example.com"},
            "mutually exclusive: endpoint_suffix|endpoint",
        ),
        ("abs", {"endpoint": "https://a.example.com/container"}, "storage.abs.endpoint"),
        ("obs", {"bucket": "a.-b"}, "storage.obs.bucket 'a.-b'"),
        ("obs", {"bucket": "10.0.0.5"}, "storage.obs.bucket"),
        ("obs", {"region": "obs.cn-north-4"}, "without the rest of its host name"),
        ("obs", {"region": "cn-north"}, "a region looks like cn-north-4"),
        ("obs", {"endpoint": "http://"}, "storage.obs.endpoint"),
        ("http", {"url": ""}, "url is empty"),
        ("http", {"url": "files.example.com"}, "storage.http.url 'files.example.com'"),
        ("http", {"url": "https://user:PLANTED@files.example.com"}, "storage.http.url"),
        ("http", {"url": "https://files.example.com/a?token=PLANTED"}, "storage.http.url"),
        ("http", {"url": "https://user:PLAN#TED@files.example.com"}, "storage.http.url: it must be"),
        ("http", {"url": "https://user:PLAN?TED@files.example.com"}, "storage.http.url: it must be"),
        ("http", {"url": "https://" + "a" * 64 + "/models"}, "storage.http.url"),
        ("http", {"url": "https://files.example.com/a#PLANTED"}, "storage.http.url"),
        ("http", {"url": "https://files.example.com/a b"}, "storage.http.url"),
        ("http", {"url": "https://files.example.com/100%"}, "storage.http.url"),
        ("http", {"url": "https://files.example.com/ü"}, "storage.http.url"),
        ("http", {"headers": [{"name": "X-Key", "value": "PLANTED"}]}, "headers_reach_daemon_logs to true"),
        ("http", {**http_header(), "headers_reach_unverified_server": False}, "dfdaemon does not verify the certificate of the server"),
        ("http", {**http_header(), "headers_reach_unverified_server": False}, "headers_reach_unverified_server to true"),
        (
            "http",
            {**http_header(), "headers_reach_unverified_server": False, "url": "http://files.example.com"},
            "the URL is http, so they go in clear text",
        ),
        ("http", http_header(name="Host"), "Host is set by those who carry the request"),
        ("http", http_header(name="x-dragonfly-Tag"), "x-dragonfly-Tag is set by"),
        ("http", http_header(name="X Key"), "a name is not one that HTTP allows"),
        ("http", http_header(value="PLANTED\nHost: a"), "the value of X-Key holds a control character"),
        ("http", http_header(value=""), "the value of X-Key is empty"),
        (
            "http",
            {"headers": http_header()["headers"] + http_header("x-key")["headers"], **ACCEPTED},
            "x-key is listed more than once",
        ),
        ("http", {"headers": {"X-Key": "PLANTED"}}, "headers"),
        ("http", {"headers": [{"name": "X-Key"}]}, "missing required arguments: value found in storage -> http -> headers"),
    ],
)
def test_bad_options_are_one_sentence_that_names_the_key(name, changes, said):
    with pytest.raises(ModelFleetError) as raised:
        store(name, **changes)
    assert said in str(raised.value)
    assert str(raised.value).startswith("Failed to ")
    assert "PLAN" not in str(raised.value) and "TED" not in str(raised.value)


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ({}, "one of the following is required: s3, oss, gcs, abs, obs, http found in storage"),
        ({"s3": None}, "Failed to choose an object store"),
        ({"s3": S3, "http": STORAGE["http"]}, "mutually exclusive: s3|oss|gcs|abs|obs|http found in storage"),
        ({"swift": {}}, "swift"),
        ({"s3": {**S3, "container": "x"}}, "storage.s3.container"),
        ({"oss": {**STORAGE["oss"], "secret_key": "x"}}, "storage.oss.secret_key"),
        ({"gcs": {"bucket": "models"}}, "required: service_account_json, service_account_file, identity found in storage -> gcs"),
        ([], "storage"),
    ],
)
def test_a_foreign_missing_or_second_key_is_refused(storage, said):
    with pytest.raises(ModelFleetError, match=r"Failed to (read the storage description|choose an object store)") as raised:
        store_from_unchecked(storage)
    assert said in str(raised.value)


def publishing(name, credentials, **changes):
    """As in a module: both options are validated first."""
    spec = {"credentials": credentials_argument_spec()}
    result = ArgumentSpecValidator(spec).validate({"credentials": credentials})
    assert result.error_messages == []
    return publishing_store({name: {**STORAGE[name], **changes}}, result.validated_parameters["credentials"])


@pytest.mark.parametrize("name", list(STORES))
@pytest.mark.parametrize("credentials", [None, {}])
def test_without_credentials_a_store_publishes_with_its_own(name, credentials):
    assert publishing(name, credentials).presign("PUT", "a", 60, now=NOW) == store(name).presign("PUT", "a", 60, now=NOW)


@pytest.mark.parametrize(
    ("name", "changes", "given", "expected"),
    [
        (
            "s3",
            {"session_token": "T"},
            {"access_key": "W", "secret_key": "X"},
            {"access_key": "W", "secret_key": "X", "session_token": None},
        ),
        ("oss", {"security_token": "T"}, {"access_key_id": "W", "access_key_secret": "X"}, {"access_key": "W", "session_token": None}),
        ("obs", {"security_token": "T"}, {"access_key_id": "W", "secret_access_key": "X"}, {"secret_key": "X", "session_token": None}),
        ("abs", {}, {"account_key": "eHg="}, {"account_key": "eHg="}),
        ("gcs", {}, {"service_account_file": "/nonexistent"}, {"service_account_file": "/nonexistent", "side_file": None}),
        (
            "http",
            {"headers": [{"name": "X-Read", "value": "R"}], **ACCEPTED},
            {"headers": [{"name": "X-Write", "value": "W"}]},
            {"headers": {"X-Write": "W"}},
        ),
        ("http", {"headers": [{"name": "X-Read", "value": "R"}], **ACCEPTED}, {}, {"headers": {}}),
        ("http", {}, {"headers": [{"name": "X-Write", "value": "W"}]}, {"headers": {"X-Write": "W"}}),
    ],
)
def test_credentials_replace_those_of_the_store_completely(name, changes, given, expected):
    one = publishing(name, {name: given}, **changes)
    assert {key: getattr(one, key) for key in expected} == expected
    assert one.endpoint_url == store(name).endpoint_url


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("s3", {"access_key": "W", "secret_key": "X"}),
        ("oss", {"access_key_id": "W", "access_key_secret": "X"}),
        ("gcs", {"service_account_json": json.dumps(ACCOUNT)}),
        ("abs", {"account_key": "eHg="}),
        ("obs", {"access_key_id": "W", "secret_access_key": "X"}),
        ("http", {}),
    ],
)
def test_the_publishing_machine_may_reach_the_store_elsewhere(name, given):
    server = "url" if name == "http" else "endpoint"
    usual = "https://usual.example.com"
    assert publishing(name, {name: given}, **{server: usual}).endpoint_url == usual
    there = publishing(name, {name: {**given, server: "http://10.0.0.5:9000"}}, **{server: usual})
    assert (there.endpoint_url, there.tls) == ("http://10.0.0.5:9000", False)


@pytest.mark.parametrize(
    ("name", "given", "changes", "said"),
    [
        ("oss", {"s3": {"access_key": "W", "secret_key": "X"}}, {}, "credentials has no oss, but that is the store"),
        (
            "s3",
            {"s3": {"access_key": "W", "secret_key": ""}},
            {},
            "Failed to use credentials.s3: secret_key is empty. Set it in modelfleet_publish_credentials.",
        ),
        ("abs", {"abs": {"account_key": "PLANTED!"}}, {}, "Failed to use credentials.abs.account_key: it is not base64"),
        ("s3", {"s3": {"access_key": "W", "secret_key": "X"}}, {"bucket": "Upper"}, "Failed to use storage.s3.bucket"),
        ("s3", {"s3": {"access_key": "W", "secret_key": "X", "endpoint": "minio"}}, {}, "Failed to use credentials.s3.endpoint"),
        (
            "s3",
            {"s3": {"access_key": "W", "secret_key": "X", "server_side_encryption": "AES256", "sse_kms_key_id": "key-1"}},
            {},
            "Failed to use credentials.s3.sse_kms_key_id 'key-1': server_side_encryption must be aws:kms or aws:kms:dsse.",
        ),
        (
            "obs",
            {"obs": {"access_key_id": "W", "secret_access_key": "X", "sse_kms_key_id": "key-1"}},
            {},
            "Failed to use credentials.obs.sse_kms_key_id 'key-1': server_side_encryption must be kms.",
        ),
    ],
)
def test_bad_credentials_are_named_as_such(name, given, changes, said):
    with pytest.raises(ModelFleetError) as raised:
        publishing(name, given, **changes)
    assert said in str(raised.value)


TEXTS = [
    (name, where, key)
    for name, store_class in STORES.items()
    for where, options in (("storage", store_class.OPTIONS), ("credentials", store_class.CREDENTIALS))
    for key, option in options.items()
    if option["type"] in ("str", "path") and "choices" not in option
]


@pytest.mark.parametrize("value", ["/text\n", " /text", "/te\nxt"])
@pytest.mark.parametrize(("name", "where", "key"), TEXTS)
def test_no_option_has_outer_white_space_or_control_characters(name, where, key, value):
    given = {option: STORAGE[name].get(option) for option in STORES[name].CREDENTIALS}
    with pytest.raises(ModelFleetError) as raised:
        if where == "storage":
            STORES[name]({**STORAGE[name], key: value})
        else:
            publishing_store({name: STORAGE[name]}, {name: {**given, key: value}})
    message = str(raised.value)
    assert message.startswith(f"Failed to use {where}.{name}.{key}: it ") and "printf %s" in message and "/te" not in message


def test_no_header_has_a_line_end():
    with pytest.raises(ModelFleetError, match=r"storage\.http\.headers: the value of X-Key ends with a line end; .*printf %s"):
        store("http", headers=[{"name": "X-Key", "value": "key\n"}], **ACCEPTED)


@pytest.mark.parametrize("key", ["a", "a b+ü%2F", "models/x..y.mar", ".hidden", "k" * 1024, "ü" * 512])
def test_odd_keys_are_allowed(key):
    check_object_key(key)


@pytest.mark.parametrize("key", ["", "/a", "a/", "../a", "a/./b", "a/..", "a\nb", "a\x7fb", "a\ud800b", "a//b", "k" * 1025, "ü" * 513])
def test_bad_keys_are_refused(key):
    with pytest.raises(ModelFleetError, match="Failed to use the object key"):
        check_object_key(key)
