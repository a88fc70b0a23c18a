# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both signers, Java's on the hosts and Python's on the controller, against botocore."""

from __future__ import annotations

import datetime
import json
import random
import subprocess
import sys
from urllib.parse import parse_qsl, urlsplit

import boto3
import pytest
from botocore.config import Config
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "collections"))
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_s3 import S3Store

KEYS = [
    "a.mar", "models/resnet50/1.0/resnet50.mar", "with space.mar", "plus+sign", "percent%2Fslash", "100%", "ünïcödé/模型.mar", "emoji🙂",
    "tilde~dash-dot.under_score", "a=b&c?d#e", "quote'\"`", "(brackets)[]{}<>", "semi;colon:at@bang!star*comma,dollar$",
    "pipe|caret^back\\slash",
    "e\u0301combining", "\u00a0nbsp", "a//b", "...", "a/..b/c..", "trailing space ",
]  # fmt: skip
STORES = [
    {},
    {"region": "eu-central-1"},
    {"region": "ap-southeast-2", "session_token": "FwoGZXIvYXdz//////////wEaD+token=="},
    {"region": "cn-north-1"},
    {"region": "us-gov-west-1"},
    {"bucket": "bucket.with.dots", "region": "eu-west-1"},
    {"path_style": True},
    {"endpoint": "https://minio.example.com:9000", "path_style": True},
    {"endpoint": "http://minio.example.com:9000"},
    {"endpoint": "http://10.0.0.5:9000"},
    {"endpoint": "https://ceph.example.com/", "region": "default"},
    {"endpoint": "https://ceph.example.com:443", "path_style": True},
    {"endpoint": "http://ceph.example.com:80"},
    {"endpoint": "https://[fd00::5]:9000"},
]


def generated_cases():
    """The chosen keys and stores, and random ones of a fixed seed: signatures of secrets and keys with any character."""
    random_ = random.Random(7)
    alphabet = [chr(c) for c in range(32, 127)] + list("äß€中ع🙂")
    cases = [(store, key) for store in STORES for key in KEYS]
    for _ in range(60):
        segments = ["".join(random_.choices(alphabet, k=random_.randint(1, 20))) for _ in range(random_.randint(1, 4))]
        key = "/".join(segment.replace("/", "_") if segment.strip(".") else "dots" for segment in segments)
        secret = "".join(random_.choices("abcXYZ0189/+=", k=40))
        store = {**random_.choice(STORES), "secret_key": secret, "access_key": f"AKIA{random_.randint(0, 9**9)}"}
        cases.append((store, key))
    for store, key in cases:
        yield {"bucket": "models", "region": "us-east-1", "access_key": "AKIAEXAMPLE", "secret_key": "secret", **store}, key


def by_botocore(store, key, expires):
    client = boto3.client(
        "s3",
        region_name=store["region"],
        endpoint_url=S3Store(store).endpoint_url,
        aws_access_key_id=store["access_key"],
        aws_secret_access_key=store["secret_key"],
        aws_session_token=store.get("session_token"),
        config=Config(signature_version="s3v4", s3={"addressing_style": "path" if S3Store(store).path_style else "virtual"}),
    )
    return client.generate_presigned_url("get_object", {"Bucket": store["bucket"], "Key": key}, ExpiresIn=expires)


def parts(url):
    """What must be equal of two URLs. The scheme is not signed, and the order of the query is free."""
    url = urlsplit(url)
    default = {"http": ":80", "https": ":443"}[url.scheme]
    return url.netloc.removesuffix(default), url.path, sorted(parse_qsl(url.query, keep_blank_values=True))


@pytest.fixture(scope="module")
def cases():
    found = []
    for store, key in generated_cases():
        expires = 1 + len(found) * 97 % 604800
        expected = by_botocore(store, key, expires)
        signed_at = dict(parse_qsl(urlsplit(expected).query))["X-Amz-Date"]
        now = datetime.datetime.strptime(signed_at, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        found.append({"store": store, "key": key, "expires": expires, "now": now, "expected": expected})
    assert len(found) >= 300
    return found


def test_the_python_signer_agrees_with_botocore(cases):
    for case in cases:
        url = S3Store(case["store"]).presign("GET", case["key"], case["expires"], now=case["now"])
        assert parts(url) == parts(case["expected"]), case


def test_the_java_signer_agrees_with_botocore(cases, plugin_jar, server_jar, tmp_path):
    classpath = f"{plugin_jar}:{server_jar('0.12.0')}"
    driver = REPOSITORY / "tests/plugin/java/SignerDriver.java"
    subprocess.run(["javac", "--release", "11", "-proc:none", "-cp", classpath, "-d", tmp_path, driver], check=True)
    lines = [
        {
            "storage": S3Store(case["store"]).to_config(),
            "key": case["key"],
            "now": int(case["now"].timestamp()),
            "expires": case["expires"],
        }
        for case in cases
    ]
    done = subprocess.run(
        ["java", "-Dfile.encoding=UTF-8", "-cp", f"{tmp_path}:{classpath}", "org.modelfleet.serving.endpoint.SignerDriver"],
        input="".join(json.dumps(line) + "\n" for line in lines),
        capture_output=True,
        text=True,
        check=True,
    )
    urls = done.stdout.splitlines()
    assert len(urls) == len(cases)
    for url, case in zip(urls, cases, strict=True):
        assert url.startswith("http://"), "the proxy is spoken to in plain HTTP, its rule decides on TLS"
        if S3Store(case["store"]).tls:
            url = "https" + url[4:]
        assert parts(url) == parts(case["expected"]), case
