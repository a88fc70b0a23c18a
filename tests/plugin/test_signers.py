# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both signers, Java's on the hosts and Python's on the controller, against the vendors' own libraries."""

from __future__ import annotations

import base64
import datetime
import functools
import itertools
import json
import random
import sys
from urllib.parse import parse_qsl, quote, urlsplit

import azure.storage.blob
import azure.storage.blob._shared_access_signature as azure_sas
import boto3
import botocore.credentials
import google.cloud.storage
import obs
import oss2
import pytest
from azure.storage.blob._serialize import _SUPPORTED_API_VERSIONS as AZURE_VERSIONS
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from conftest import KEYS, REPOSITORY, service_account
from cryptography.hazmat.primitives import serialization
from google.oauth2.service_account import Credentials

sys.path.insert(0, str(REPOSITORY / "collections"))
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import STORES

# Huawei's library makes such a context, which nothing here connects with.
pytestmark = pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLS")

TOKEN = "FwoGZXIvYXdz//////////wEaD+token=="
AZURE_VERSION = "2021-12-02"
MINUTE = datetime.datetime(2026, 3, 1, 9, 30, tzinfo=datetime.timezone.utc)


ACCOUNTS = [json.dumps(service_account(number)) for number in range(3)]

# What every description of a store has; the signer is tried with each of the variants below it.
BASES = {
    "s3": {"bucket": "models", "region": "us-east-1", "access_key": "AKIAEXAMPLE", "secret_key": "secret"},
    "oss": {"bucket": "models", "region": "cn-hangzhou", "access_key_id": "LTAIEXAMPLE", "access_key_secret": "secret"},
    "gcs": {"bucket": "models", "service_account_json": ACCOUNTS[0]},
    "abs": {"account_name": "fleet", "container": "models", "account_key": base64.b64encode(b"secret").decode()},
    "obs": {"bucket": "models", "region": "cn-north-4", "access_key_id": "OBSEXAMPLE", "secret_access_key": "secret"},
    "http": {"url": "https://models.example.com/"},
}
VARIANTS = {
    "s3": [
        {},
        {"region": "eu-central-1"},
        {"region": "ap-southeast-2", "session_token": TOKEN},
        {"region": "cn-north-1"},
        {"region": "us-gov-west-1"},
        {"bucket": "bucket.with.dots", "region": "eu-west-1"},
        {"path_style": True},
        {"requester_pays": True},
        {"requester_pays": True, "session_token": TOKEN, "endpoint": "https://minio.example.com:9000"},
        {"endpoint": "https://minio.example.com:9000", "path_style": True},
        {"endpoint": "http://minio.example.com:9000"},
        {"endpoint": "http://10.0.0.5:9000"},
        {"endpoint": "https://ceph.example.com/", "region": "default"},
        {"endpoint": "https://ceph.example.com:443", "path_style": True},
        {"endpoint": "http://ceph.example.com:80"},
        {"endpoint": "https://[fd00::5]:9000"},
    ],
    "oss": [
        {},
        {"security_token": TOKEN},
        {"region": "ap-southeast-1", "endpoint": "https://oss-ap-southeast-1-internal.aliyuncs.com"},
        {"endpoint": "https://oss-accelerate.aliyuncs.com"},
        {"endpoint": "http://10.0.0.5:9000"},
        {"endpoint": "https://10.0.0.5", "security_token": TOKEN},
        {"signature_version": "v1"},
        {"signature_version": "v1", "security_token": TOKEN},
        {"signature_version": "v1", "endpoint": "http://oss-cn-hangzhou.aliyuncs.com:80"},
        {"signature_version": "v1", "endpoint": "http://10.0.0.5:9000", "security_token": TOKEN},
    ],
    "gcs": [
        {},
        {"service_account_json": ACCOUNTS[1], "bucket": "bucket.with.dots"},
        {"service_account_json": ACCOUNTS[2], "bucket": "under_score"},
        {"endpoint": "https://storage.europe-west3.rep.googleapis.com"},
        {"endpoint": "http://gcs.example.com:4443"},
        {"user_project": "payer:of example"},
        {"endpoint": "http://10.0.0.5:80"},
    ],
    "abs": [
        {},
        {"container": "a-b-c"},
        {"endpoint_suffix": "core.usgovcloudapi.net"},
        {"endpoint_suffix": "core.chinacloudapi.cn"},
        {"endpoint": "https://models.example.com"},
        {"endpoint": "https://azurite.example.com:10000", "path_style": True},
        {"endpoint": "http://azurite.example.com:80", "path_style": True},
        {"endpoint": "http://127.0.0.1:10000"},
    ],
    "obs": [
        {},
        {"security_token": TOKEN},
        {"region": "ap-southeast-3", "bucket": "bucket.with.dots"},
        {"endpoint": "https://obs.example.com:8443", "path_style": True, "security_token": TOKEN},
        {"endpoint": "http://10.0.0.5:9000"},
        {"signature": "v4"},
        {"signature": "v4", "security_token": TOKEN, "region": "cn-east-3"},
        {"signature": "v4", "endpoint": "https://obs.example.com:443", "path_style": True},
        {"signature": "v4", "endpoint": "http://10.0.0.5:9000", "security_token": TOKEN},
    ],
    "http": [
        {},
        {"url": "http://10.0.0.5"},
        {"url": "http://under_score.example.com:8080/base/path"},
        {"url": "https://models.example.com:443/%E6%A8%A1%E5%9E%8B/"},
        {"url": "https://[fd00::5]:8443/archives"},
        {
            "headers": [{"name": "Authorization", "value": "Bearer secret"}],
            "headers_reach_daemon_logs": True,
            "headers_reach_unverified_server": True,
        },
    ],
}


def random_credentials(name, random_):
    """Other secrets for a store, with every character that its vendor uses."""
    secret = "".join(random_.choices("abcXYZ0189/+=", k=40))
    user = f"USER{random_.randint(0, 9**9)}"
    return {
        "s3": {"access_key": user, "secret_key": secret},
        "oss": {"access_key_id": user, "access_key_secret": secret},
        "gcs": {"service_account_json": random_.choice(ACCOUNTS)},
        "abs": {"account_name": user.lower(), "account_key": base64.b64encode(random_.randbytes(64)).decode()},
        "obs": {"access_key_id": user, "secret_access_key": secret},
        "http": {},
    }[name]


def descriptions(name):
    """The chosen keys and variants, and random ones of a fixed seed: signatures of secrets and keys with any character."""
    random_ = random.Random(7)
    alphabet = [chr(c) for c in range(32, 127)] + list("äß€中ع🙂")
    for variant, key in itertools.product(VARIANTS[name], KEYS):
        yield {**BASES[name], **variant}, key
    for _ in range(60):
        segments = ["".join(random_.choices(alphabet, k=random_.randint(1, 20))) for _ in range(random_.randint(1, 4))]
        key = "/".join(segment.replace("/", "_") if segment.strip(".") else "dots" for segment in segments)
        yield {**BASES[name], **random_.choice(VARIANTS[name]), **random_credentials(name, random_)}, key


def query_of(url):
    return dict(parse_qsl(urlsplit(url).query))


def time_in(url, parameter):
    return datetime.datetime.strptime(query_of(url)[parameter], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)


def time_before(url, expires):
    """When a URL was signed that tells only when it expires."""
    return datetime.datetime.fromtimestamp(int(query_of(url)["Expires"]) - expires, datetime.timezone.utc)


# The references. Each signs with its vendor's library, and returns the URL and the time it signed at.


def by_botocore(store, key, expires):
    client = s3_client(store.region, store.endpoint_url, store.access_key, store.secret_key, store.session_token, store.path_style)
    url = client.generate_presigned_url("get_object", {"Bucket": store.bucket, "Key": key}, ExpiresIn=expires)
    if store.requester_pays:
        # With RequestPayer the client signs a header, which every reader would have to send; its signer takes a query as well.
        request = AWSRequest("GET", url.partition("?")[0] + "?x-amz-request-payer=requester")
        keys = botocore.credentials.Credentials(store.access_key, store.secret_key, store.session_token)
        S3SigV4QueryAuth(keys, "s3", store.region, expires).add_auth(request)
        url = request.url
    return url, time_in(url, "X-Amz-Date")


@functools.cache
def s3_client(region, endpoint, access_key, secret_key, session_token, path_style):
    return boto3.client(
        "s3",
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        aws_session_token=session_token,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path" if path_style else "virtual"}),
    )


def by_oss2(store, key, expires):
    version = {"v4": oss2.AUTH_VERSION_4, "v1": oss2.AUTH_VERSION_1}[store.signature_version]
    if store.session_token:
        auth = oss2.StsAuth(store.access_key, store.secret_key, store.session_token, auth_version=version)
    else:
        auth = oss2.make_auth(store.access_key, store.secret_key, version)
    bucket = oss2.Bucket(auth, store.endpoint_url, store.bucket, region=store.region)
    # Without slash_safe the library encodes the slashes, too: another spelling of the same signed name.
    url = bucket.sign_url("GET", key, expires, slash_safe=True)
    return url, time_in(url, "x-oss-date") if store.signature_version == "v4" else time_before(url, expires)


def by_google(store, key, expires):
    client = google_client(json.dumps(store.service_account))
    blob = client.bucket(store.bucket).blob(key)
    url = blob.generate_signed_url(
        version="v4",
        expiration=datetime.timedelta(seconds=expires),
        method="GET",
        api_access_endpoint=store.endpoint_url,
        query_parameters={"userProject": store.user_project} if store.user_project else None,
    )
    return url, time_in(url, "X-Goog-Date")


@functools.cache
def google_client(text):
    return google.cloud.storage.Client(project="fleet", credentials=Credentials.from_service_account_info(json.loads(text)))


def by_azure(store, key, expires):
    with pytest.MonkeyPatch.context() as patch:
        # The library signs with its newest version, which not every cloud speaks. What is signed is the same.
        patch.setattr(azure_sas, "X_MS_VERSION", AZURE_VERSION)
        sas = azure.storage.blob.generate_blob_sas(
            store.account_name,
            store.container,
            key,
            account_key=store.account_key,
            permission="r",
            expiry=MINUTE + datetime.timedelta(seconds=expires),
            protocol="https" if store.tls else None,
        )
    return azure.storage.blob.BlobClient(store.account_url, store.container, key).url + "?" + sas, MINUTE


def by_huawei(store, key, expires):
    client = obs_client(
        store.endpoint_url, store.region, store.access_key, store.secret_key, store.session_token, store.path_style, store.signature
    )
    url = client.createSignedUrl("GET", store.bucket, key, expires=expires).signedUrl
    return url, time_in(url, "X-Amz-Date") if store.signature == "v4" else time_before(url, expires)


@functools.cache
def obs_client(server, region, access_key, secret_key, token, path_style, signature):
    # As client_mode=obs the library turns to the older V2 parameters (AWSAccessKeyId) where the bucket is in the path.
    return obs.ObsClient(
        access_key, secret_key, server=server, region=region, security_token=token, path_style=path_style, signature=signature,
        client_mode="workflow",
    )  # fmt: skip


def by_quoting(store, key, expires):
    return store.url + "/" + quote(key, safe="/~"), MINUTE


REFERENCES = {"s3": by_botocore, "oss": by_oss2, "gcs": by_google, "abs": by_azure, "obs": by_huawei, "http": by_quoting}


def parts(url):
    """What must be equal of two URLs. The scheme is not signed, and the order of the query is free."""
    url = urlsplit(url)
    default = {"http": ":80", "https": ":443"}[url.scheme]
    return url.netloc.removesuffix(default), url.path, sorted(parse_qsl(url.query, keep_blank_values=True))


@pytest.fixture(scope="module")
def vectors():
    found = {}
    for name, sign in REFERENCES.items():
        found[name] = []
        for number, (options, key) in enumerate(descriptions(name)):
            store = STORES[name](options)
            expires = 1 + number * 97 % 604800
            url, now = sign(store, key, expires)
            found[name].append({"store": store, "options": options, "key": key, "expires": expires, "now": now, "expected": url})
    return found


@pytest.fixture(scope="module")
def account_files(tmp_path_factory):
    """The path of a file with a service account's key."""
    directory = tmp_path_factory.mktemp("accounts")

    def write(text):
        path = directory / f"{ACCOUNTS.index(text)}.json"
        path.write_text(text)
        return str(path)

    return write


def config_of(vector, account_files):
    config = vector["store"].to_config()
    if config["type"] == "gcs":
        config["service_account_path"] = account_files(vector["options"]["service_account_json"])
    return config


@pytest.fixture(scope="module")
def java_answers(vectors, java, account_files):
    def answer(vector):
        now = int(vector["now"].timestamp())
        return java({"storage": config_of(vector, account_files), "key": vector["key"], "now": now, "expires": vector["expires"]})

    return {name: [answer(vector) for vector in found] for name, found in vectors.items()}


@pytest.mark.parametrize("name", STORES)
def test_the_python_signer_agrees_with_the_vendor(vectors, name, record_property, monkeypatch):
    # Reading a key takes longer than all the rest.
    monkeypatch.setattr(serialization, "load_pem_private_key", functools.cache(serialization.load_pem_private_key))
    record_property("vectors", len(vectors[name]))
    assert len(vectors[name]) >= 150
    for vector in vectors[name]:
        url = vector["store"].presign("GET", vector["key"], vector["expires"], now=vector["now"])
        assert parts(url) == parts(vector["expected"]), vector


@pytest.mark.parametrize("name", STORES)
def test_the_java_signer_agrees_with_the_vendor(vectors, java_answers, name, record_property):
    record_property("vectors", len(vectors[name]))
    for vector, answer in zip(vectors[name], java_answers[name], strict=True):
        assert answer["url"].startswith("http://"), "the proxy is spoken to in plain HTTP, its rule decides on TLS"
        url = ("https" if vector["store"].tls else "http") + answer["url"][4:]
        assert parts(url) == parts(vector["expected"]), vector


@pytest.mark.parametrize("name", STORES)
def test_both_sides_name_an_object_alike(vectors, java_answers, name):
    for vector, answer in zip(vectors[name], java_answers[name], strict=True):
        assert answer["object"] == vector["store"].describe(vector["key"])
        assert answer["headers"] == getattr(vector["store"], "headers", {})


@pytest.mark.parametrize("name", STORES)
def test_the_plugin_knows_the_parameters_of_its_signatures(java_answers, name):
    for answer in java_answers[name]:
        assert set(query_of(answer["url"])) <= set(answer["parameters"])
    assert any(set(query_of(answer["url"])) == set(answer["parameters"]) for answer in java_answers[name])


def test_azure_knows_the_version_that_is_signed():
    assert AZURE_VERSION in AZURE_VERSIONS


OSS_KEYS = {"type": "oss", "bucket_name": "models", "access_key_id": "LTAIEXAMPLE", "access_key_secret": "secret"}
S3_KEYS = {"type": "s3", "bucket_name": "models", "access_key": "AKIAEXAMPLE", "secret_key": "secret"}


@pytest.mark.parametrize(
    ("storage", "name", "options"),
    [
        ({**S3_KEYS, "region": "us-west-1"}, "s3", {"region": "us-west-1"}),
        ({**S3_KEYS, "region": "us-west-1", "endpoint": ""}, "s3", {"region": "us-west-1"}),
        ({**S3_KEYS, "region": "us-west-1", "endpoint": "minio.example.com:9000"}, "s3",
         {"region": "us-west-1", "endpoint": "https://minio.example.com:9000"}),
        ({**OSS_KEYS, "endpoint": "oss-cn-hangzhou.aliyuncs.com"}, "oss", {}),
        ({**OSS_KEYS, "endpoint": "http://oss-us-west-1-internal.aliyuncs.com"}, "oss",
         {"region": "us-west-1", "endpoint": "http://oss-us-west-1-internal.aliyuncs.com"}),
        ({**OSS_KEYS, "endpoint": "https://oss-accelerate.aliyuncs.com"}, "oss",
         {"signature_version": "v1", "endpoint": "https://oss-accelerate.aliyuncs.com"}),
        ({**OSS_KEYS, "endpoint": "oss.example.com"}, "oss", {"signature_version": "v1", "endpoint": "https://oss.example.com"}),
        ({**OSS_KEYS, "endpoint": "oss.example.com", "region": "cn-hangzhou"}, "oss", {"endpoint": "https://oss.example.com"}),
        ({"type": "gcs", "bucket_name": "models", "project_id": "fleet"}, "gcs", {}),
        ({"type": "abs", "account_name": "fleet", "account_key": BASES["abs"]["account_key"], "container_name": "models"}, "abs", {}),
        ({"type": "obs", "bucket_name": "models", "endpoint": "obs.cn-north-4.myhuaweicloud.com", "access_key": "OBSEXAMPLE",
          "secret_key": "secret"}, "obs", {}),
    ],
)  # fmt: skip
def test_a_storage_of_the_public_plugin_is_signed_as_its_vendor_does(java, account_files, storage, name, options):
    if name == "gcs":
        storage = {**storage, "service_account_path": account_files(ACCOUNTS[0])}
    store = STORES[name]({**BASES[name], **options})
    expected, now = REFERENCES[name](store, "models/tiny ü.mar", 3600)
    answer = java({"storage": storage, "key": "models/tiny ü.mar", "now": int(now.timestamp()), "expires": 3600})
    assert parts(answer["url"].replace("http", "https", 1) if store.tls else answer["url"]) == parts(expected)


def test_the_plugin_finds_every_region_where_the_vendor_has_it(java):
    session = boto3.Session()
    regions = [region for partition in session.get_available_partitions() for region in session.get_available_regions("s3", partition)]
    # The first region has a name without region, too, which clients prefer.
    regions = [region for region in regions if region not in ("us-east-1", "aws-global")]
    assert len(regions) > 35
    for region in regions:
        server = urlsplit(session.client("s3", region_name=region).meta.endpoint_url).netloc
        answer = java({"storage": {**S3_KEYS, "region": region}, "key": "a.mar", "now": 0, "expires": 60})
        assert urlsplit(answer["url"]).netloc == f"models.{server}"
    dublin = {"type": "obs", "bucket_name": "models", "region": "eu-west-101", "access_key": "a", "secret_key": "s"}
    url = java({"storage": dublin, "key": "a.mar", "now": 0, "expires": 60})["url"]
    assert urlsplit(url).netloc == "models.obs.eu-west-101.myhuaweicloud.eu"


def test_a_storage_that_cannot_be_used_is_refused_by_name(java, tmp_path):
    def account_file(content, **changes):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        path.write_text(json.dumps({**json.loads(ACCOUNTS[0]), **changes}) if content is None else content)
        return {"type": "gcs", "bucket_name": "models", "service_account_path": str(path)}

    broken = "-----BEGIN {0}-----\nMIGHPLANTED\n-----END {0}-----\n".format("PRIVATE KEY")
    abs_keys = {"type": "abs", "account_name": "fleet", "container_name": "models"}
    obs_keys = {"type": "obs", "bucket_name": "models", "endpoint": "obs.example.com"}
    http = {"type": "http", "url": "https://models.example.com"}
    refusals = [
        ({}, "type is missing"),
        ({"type": "floppy"}, "names the store floppy, which this plugin does not know; it knows s3, oss, gcs, abs, obs and http"),
        ({**S3_KEYS, "bucket_name": "a b"}, "bucket_name must be letters"),
        ({**S3_KEYS, "region": "a/b"}, "region must be letters"),
        ({**S3_KEYS, "endpoint": "https://user:PLANTED@example.com"}, "endpoint must be a URL without user, path and query"),
        ({**S3_KEYS, "endpoint": "https://example.com/path"}, "endpoint must be a URL without user, path and query"),
        ({**S3_KEYS, "endpoint": "https://example.com:99999"}, "endpoint must be a URL without user, path and query"),
        (OSS_KEYS, "endpoint is missing"),
        ({**OSS_KEYS, "endpoint": "oss.example.com", "signature_version": "v4"}, "region is missing: signature version 4 needs it"),
        ({**OSS_KEYS, "region": "cn-hangzhou", "signature_version": "v2"}, "signature_version must be one of v4, v1"),
        ({"type": "gcs", "bucket_name": "models"}, "service_account_path is missing"),
        ({"type": "gcs", "bucket_name": "models", "service_account_path": "/nonexistent.json"}, "/nonexistent.json, which does not exist"),
        ({"type": "gcs", "bucket_name": "models", "service_account_path": str(tmp_path)}, "is no file with a JSON object"),
        (account_file("PLANTED"), "is no file with a JSON object"),
        (account_file(None, type="authorized_user"), "is not the key of a service account"),
        (account_file(None, client_email=None), "is not the key of a service account"),
        (account_file(None, private_key=None), "has a private_key that is no RSA key in PKCS #8"),
        (account_file(None, private_key=broken), "has a private_key that is no RSA key in PKCS #8"),
        ({**abs_keys, "account_key": "PLANTED!"}, "account_key must be base64"),
        ({"type": "abs", "account_name": "fleet", "account_key": "c2VjcmV0"}, "container_name is missing"),
        ({**obs_keys, "access_key_id": "a"}, "secret_access_key is missing"),
        ({**obs_keys, "access_key_id": "a", "secret_access_key": "b", "signature": "v4"}, "region is missing"),
        ({**obs_keys, "access_key_id": "a", "secret_access_key": "b", "signature": "v2"}, "signature must be one of obs, v4"),
        ({"type": "http"}, "url is missing"),
        ({"type": "http", "url": "ftp://models.example.com"}, "url must be a URL without user and query"),
        ({"type": "http", "url": "https://models.example.com/?token=PLANTED"}, "url must be a URL without user and query"),
        ({"type": "http", "url": "https://models.example.com/100%"}, "url must be a URL without user and query"),
        ({**http, "headers": {"Authorization": "PLANTED"}}, "daemons forward these headers and write them to their logs"),
        ({**http, "headers": {"Authorization": "PLANTED"}, "headers_reach_daemon_logs": False}, "daemons forward these headers"),
        ({**http, "headers": {"X-Key": "PLANTED\n"}, "headers_reach_daemon_logs": True}, "cannot be sent as an HTTP header"),
        ({**http, "headers": {"X Key": "PLANTED"}, "headers_reach_daemon_logs": True}, "cannot be sent as an HTTP header"),
        ({**http, "headers": {"host": "PLANTED"}, "headers_reach_daemon_logs": True}, "must not have host"),
        ({**http, "headers": "PLANTED"}, "headers is missing or not an object"),
    ]  # fmt: skip
    for storage, said in refusals:
        answer = java({"storage": storage, "key": "a.mar", "now": 0, "expires": 1})
        assert said in answer.get("error", ""), (storage, answer)
        assert "object_storage." in answer["error"] and "PLANTED" not in answer["error"]
