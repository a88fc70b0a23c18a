# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running origin on loopback, with TLS, the identities it knows, and what the tests of signatures share."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import urllib.request
from email.message import Message
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from strict_origin import server
from strict_origin.messages import Request, StoreError

KEYS = [
    {"access_key": "AKIAREADER", "secret_key": "reader-secret", "publish": False},
    {"access_key": "AKIAPUBLISHER", "secret_key": "publisher-secret", "publish": True},
    {"access_key": "ASIATEMPORARY", "secret_key": "temporary-secret", "session_token": "the-token", "publish": False},
]
OSS_KEYS = [
    {"access_key_id": "LTAIREADER", "access_key_secret": "reader-secret", "publish": False},
    {"access_key_id": "LTAIPUBLISHER", "access_key_secret": "publisher-secret", "publish": True},
    {"access_key_id": "STS.TEMPORARY", "access_key_secret": "temporary-secret", "security_token": "the+token/=", "publish": False},
]
OBS_KEYS = [
    {"access_key_id": "HUAWEIREADER", "secret_access_key": "reader-secret", "publish": False},
    {"access_key_id": "HUAWEIPUBLISHER", "secret_access_key": "publisher-secret", "publish": True},
    {"access_key_id": "HUAWEITEMPORARY", "secret_access_key": "temporary-secret", "security_token": "the+token/=", "publish": False},
]
ODD_KEYS = [
    "a.mar",
    "models/resnet50/1.0/x.mar",
    "with space",
    "plus+sign",
    "per%cent",
    "per%2Fcent",
    "uml\u00e4ut/\u6a21\u578b.mar",
    "a&b=c?d#e",
    "~tilde!*'()",
    "//double//slash",
    "a/../b",
    "@:,;$",
    '"quotes"',
]


def received(method, url, headers=None, body=b""):
    """A request as the server would hand it to a store."""
    parts = urlsplit(url)
    message = Message()
    for name, value in (headers or {}).items():
        if value is not None:
            message[name] = value if isinstance(value, str) else value.decode()
    return Request(method, parts.netloc, parts.path, parts.query, message, io.BytesIO(body))


def refused(one, request):
    """The status and code with which a store refuses a request."""
    with pytest.raises(StoreError) as caught:
        one.authorize(request)
    return caught.value.status, caught.value.code


def changed(url, **params):
    """The URL with these parameters changed, or removed where the value is None; underscores stand for hyphens."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | {name.replace("_", "-"): value for name, value in params.items()}
    return parts._replace(query=urlencode({name: value for name, value in query.items() if value is not None})).geturl()


class Listed(S3SigV4QueryAuth):
    """Signs a list of headers as it is given: out of order, with a name twice, or with one that the request has not.

    tidy: signs what the store would make of that list, and still sends the list as it is given.
    """

    def __init__(self, key_id, secret, region, names, tidy):
        super().__init__(Credentials(key_id, secret), "s3", region, expires=60)
        self.names, self.tidy = names, tidy

    def signed_headers(self, headers_to_sign):
        return self.names

    def canonical_request(self, request):
        sent = self.headers_to_sign(request)
        names = self.names.split(";")
        names = sorted({name.lower() for name in names if name in sent}) if self.tidy else names
        path = self._normalize_url_path(urlsplit(request.url).path)
        lines = [f"{name}:{sent.get(name, '')}" for name in names]
        return "\n".join([request.method, path, self.canonical_query_string(request), *lines, "", ";".join(names), self.payload(request)])


BAD_LISTS = ["range;host", "host;host;range", "host;range;x-absent", "host;;range", "host;Range"]


def listed(url, names, key_id, secret, region, tidy):
    """A request for a range whose signature in the URL names these headers."""
    request = AWSRequest("GET", url, {"Range": "bytes=0-9"})
    Listed(key_id, secret, region, names, tidy).add_auth(request)
    return received("GET", request.url, {"Range": "bytes=0-9"})


class Running:
    def __init__(self, config: dict):
        self.servers = server.start(config)
        self.ca = config["tls"]["certificate"]
        self.ports = {name: one.server_address[1] for name, one in self.servers.items()}
        self.objects = self.servers["http"].origin.objects

    def control(self, method: str, path: str, value=None):
        data = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports['control']}{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def store(self, key: str, content: bytes, bucket: str = "models") -> None:
        upload = self.objects.upload()
        upload.write(content)
        self.objects.put(bucket, key, upload)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    hosts = ["localhost", "*.s3.us-east-1.amazonaws.com", "s3.us-east-1.amazonaws.com", "*.oss-cn-hangzhou.aliyuncs.com"]
    hosts += ["*.s3.oss-cn-hangzhou.aliyuncs.com", "*.obs.cn-north-4.myhuaweicloud.com", "obs.cn-north-4.myhuaweicloud.com"]
    hosts += ["storage.googleapis.com", "*.storage.googleapis.com", "oauth2.googleapis.com", "*.blob.core.windows.net"]
    hosts += ["huggingface.co", "cdn-lfs.hf.co", "hub.mirror.example"]
    names = ",".join(f"DNS:{host}" for host in hosts) + ",IP:127.0.0.1"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=test", "-keyout", str(folder / "key"), "-out", str(folder / "crt"), "-addext", f"subjectAltName={names}"]
    subprocess.run(command, check=True, capture_output=True)
    return {"certificate": str(folder / "crt"), "key": str(folder / "key")}


@pytest.fixture
def origin(tmp_path, certificate):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    running = Running(
        {
            "data": str(tmp_path / "data"),
            "address": "127.0.0.1",
            "listen": {"http": 0, "https": 0, "control": 0, "proxy": 0},
            "tls": certificate,
            "mirror": {"hosts": ["localhost"], "root": str(mirror)},
            "s3": {"region": "us-east-1", "buckets": ["models"], "endpoints": ["127.0.0.1"], "keys": KEYS},
            "oss": {"region": "cn-hangzhou", "buckets": ["models"], "keys": OSS_KEYS},
            "obs": {"region": "cn-north-4", "buckets": ["models"], "keys": OBS_KEYS},
            "gcs": {"buckets": [], "accounts": []},
            "abs": {"accounts": []},
            "http": {"hosts": ["files.example.org"], "bucket": "files"},
        }
    )
    running.mirror = mirror
    yield running
    server.stop(running.servers)
