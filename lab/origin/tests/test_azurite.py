# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second opinion on Azure: the emulator and the lab's origin accept, and refuse, the same signatures, the collection's above all."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
from azure.storage.blob import BlobServiceClient, generate_blob_sas, generate_container_sas
from conftest import Running
from strict_origin import server

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "collections"))
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_abs import ABSStore

LAB = Path(__file__).resolve().parents[2]
ACCOUNT = "modelfleet"
KEY, SECOND_KEY, OTHER_KEY = (base64.b64encode(hashlib.sha512(name).digest()).decode() for name in (b"write", b"second", b"other"))
AZURITE_API = "2025-05-05"  # the emulator knows no version of this year
KEYS = [
    "a.mar", "models/resnet50/1.0/x.mar", "with space", "plus+sign", "per%cent", "percent%2Fslash", "uml\u00e4ut/\u6a21\u578b.mar",
    "a&b=c?d#e", "~tilde!*'()", "double//slash", "@:,;$", "quote'\"`", "brackets[]{}<>", "pipe|caret^", "emoji\U0001f642",
    "e\u0301combining", "\u00a0nbsp", "a=b",
]  # fmt: skip


@pytest.fixture(scope="module")
def azurite(tmp_path_factory):
    """The address of a running Azurite, whose account has the two keys that accounts in Azure have."""
    done = subprocess.run([str(LAB / "azurite/install")], capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"Failed to install Azurite: {done.stderr[-2000:]} Run lab/setup, and see that npm reaches its registry.")
    process = subprocess.Popen(
        [
            "node",
            done.stdout.strip(),
            "--blobHost",
            "127.0.0.1",
            "--blobPort",
            "0",
            "--inMemoryPersistence",
            "--silent",
            "--disableTelemetry",
        ],
        cwd=tmp_path_factory.mktemp("azurite"),
        env=os.environ | {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}:{SECOND_KEY}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = threading.Timer(120, process.kill)
    deadline.start()
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if "successfully listens on" in line:
                break
        else:
            pytest.fail(f"Azurite did not start: {''.join(said)[-2000:]}")
        deadline.cancel()
        yield line.split()[-1]
    finally:
        deadline.cancel()
        process.terminate()
        process.wait(30)
        process.stdout.close()


@pytest.fixture(scope="module")
def both(azurite, certificate, tmp_path_factory):
    """The endpoints of Azurite and of the strict origin, with the same blobs in them."""
    account = {"account_name": ACCOUNT, "account_key": KEY, "read_keys": [SECOND_KEY], "containers": ["models", "other"], "publish": True}
    running = Running(
        {
            "data": str(tmp_path_factory.mktemp("origin") / "data"),
            "address": "127.0.0.1",
            "listen": {"http": 0, "https": 0, "control": 0, "proxy": 0},
            "tls": certificate,
            "abs": {"endpoints": ["127.0.0.1"], "accounts": [account]},
        }
    )
    endpoints = {"azurite": azurite, "origin": f"http://127.0.0.1:{running.ports['http']}"}
    for name, endpoint in endpoints.items():
        client = client_of(endpoint)
        for container in ("models", "other"):
            if name == "azurite":
                client.create_container(container)
        for key in KEYS:
            client.get_blob_client("models", key).upload_blob(key.encode(), metadata={"sha256": "abc"})
    yield endpoints
    server.stop(running.servers)


def client_of(endpoint):
    credential = {"account_name": ACCOUNT, "account_key": KEY}
    return BlobServiceClient(f"{endpoint}/{ACCOUNT}", credential=credential, api_version=AZURITE_API, retry_total=0)


def ours(endpoint, method="GET", key="a.mar", expires=60, now=None, **changes):
    """The URL that the collection signs."""
    options = {"account_name": ACCOUNT, "account_key": SECOND_KEY, "container": "models", "endpoint": endpoint} | changes
    return ABSStore(options).presign(method, key, expires, now=now)


def by_sdk(endpoint, key="a.mar", make=generate_blob_sas, permission="r", expires=60, **more):
    names = (ACCOUNT, "models", key) if make is generate_blob_sas else (ACCOUNT, "models")
    expiry = datetime.now(timezone.utc) + timedelta(seconds=expires)
    token = make(*names, account_key=more.pop("account_key", SECOND_KEY), permission=permission, expiry=expiry, **more)
    return f"{endpoint}/{ACCOUNT}/models/{quote(key, safe='/~')}?{token}"


def ask(url, method="GET", data=None, **headers):
    request = urllib.request.Request(url, data, {name.replace("_", "-"): value for name, value in headers.items()}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.mark.parametrize("place", ["azurite", "origin"])
@pytest.mark.parametrize("key", KEYS)
def test_what_we_sign_is_accepted(both, place, key):
    endpoint = both[place]
    status, headers, body = ask(ours(endpoint, key=key))
    assert (status, body, headers["x-ms-meta-sha256"]) == (200, key.encode(), "abc")
    status, headers, _ = ask(ours(endpoint, "HEAD", key), "HEAD")
    assert (status, headers["Content-Length"]) == (200, str(len(key.encode())))
    assert ask(ours(endpoint, key=key), Range="bytes=0-0")[::2] == (206, key.encode()[:1])
    new = f"new/{key}"
    assert ask(ours(endpoint, "PUT", new, account_key=KEY), "PUT", b"x", x_ms_blob_type="BlockBlob")[0] == 201
    assert client_of(endpoint).get_blob_client("models", new).download_blob().readall() == b"x"


@pytest.mark.parametrize("place", ["azurite", "origin"])
@pytest.mark.parametrize("make", [generate_blob_sas, generate_container_sas])
@pytest.mark.parametrize("key", KEYS)
def test_what_the_sdk_signs_is_accepted(both, place, make, key):
    assert ask(by_sdk(both[place], key, make))[::2] == (200, key.encode())


SDK_MORE = {
    "start": {"start": datetime.now(timezone.utc) - timedelta(minutes=5)},
    "both protocols": {"protocol": "https,http"},
    "address": {"ip": "127.0.0.1"},
    "response headers": {"content_type": "a/b", "cache_control": "no-store", "content_disposition": "attachment"},
    "every permission": {"permission": "racwdxtmei"},
}


@pytest.mark.parametrize("place", ["azurite", "origin"])
@pytest.mark.parametrize("name", SDK_MORE)
def test_variants_are_accepted(both, place, name):
    status, headers, _ = ask(by_sdk(both[place], **SDK_MORE[name]))
    assert status == 200
    if name == "response headers":
        assert [headers[one] for one in ("Content-Type", "Cache-Control", "Content-Disposition")] == ["a/b", "no-store", "attachment"]


def changed(url, **params):
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | params
    return parts._replace(query=urlencode({name: value for name, value in query.items() if value is not None})).geturl()


def earlier(seconds):
    return datetime.now(timezone.utc) - timedelta(seconds=seconds)


TAMPERED = {
    "other blob": lambda end: ours(end).replace("a.mar", "plus%2Bsign"),
    "other container": lambda end: ours(end).replace("/models/", "/other/"),
    "other signature": lambda end: changed(ours(end), sig=base64.b64encode(bytes(32)).decode()),
    "key of nobody": lambda end: ours(end, account_key=OTHER_KEY),
    "later expiry": lambda end: changed(ours(end), se="2099-01-01T00:00:00Z"),
    "other permission": lambda end: changed(ours(end), sp="rw"),
    "other version": lambda end: changed(ours(end), sv="2020-12-06"),
    "container's scope": lambda end: changed(ours(end), sr="c"),
    "protocol added": lambda end: changed(ours(end), spr="https,http"),
    "response header added": lambda end: changed(ours(end), rsct="text/html"),
    "expired": lambda end: ours(end, now=earlier(120)),
    "not yet valid": lambda end: by_sdk(end, start=datetime.now(timezone.utc) + timedelta(minutes=5), expires=600),
    "no permission to read": lambda end: by_sdk(end, permission="w", account_key=KEY),
    "no signature": lambda end: changed(ours(end), sig=None),
    "only TLS": lambda end: by_sdk(end, protocol="https"),
}
WRITES = {
    "write with a signature to read": lambda end: ours(end, account_key=KEY),
    "delete with a signature to write": lambda end: ours(end, "PUT", account_key=KEY),
}
# What is AuthenticationFailed in Azure, and refused reading in public, has one name in the emulator.
EMULATED = {"403 AuthenticationFailed": "403 AuthorizationFailure", "409 PublicAccessNotPermitted": "403 AuthorizationFailure"}
SPECIAL = {
    "no signature": "409 PublicAccessNotPermitted",
    "no permission to read": "403 AuthorizationPermissionMismatch",
    "only TLS": "403 AuthorizationProtocolMismatch",
}


def answer(url, method="GET"):
    status, headers, _ = ask(url, method, b"x" if method == "PUT" else None, x_ms_blob_type="BlockBlob")
    return f"{status} {headers.get('x-ms-error-code')}"


@pytest.mark.parametrize("name", TAMPERED)
def test_what_is_almost_right_is_refused_alike(both, name):
    theirs, mine = (answer(TAMPERED[name](both[place])) for place in ("azurite", "origin"))
    assert mine == SPECIAL.get(name, "403 AuthenticationFailed")
    assert theirs == EMULATED.get(mine, mine)


def test_an_encryption_scope_that_is_not_signed_is_refused_by_both(both):
    """A version that does not cover it. Azurite takes none at all."""
    expiry = (datetime.now(timezone.utc) + timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%SZ")
    to_sign = "\n".join(["r", "", expiry, f"/blob/{ACCOUNT}/models/a.mar", "", "", "", "2020-10-02", "b", *[""] * 6])
    signature = base64.b64encode(hmac.digest(base64.b64decode(SECOND_KEY), to_sign.encode(), "sha256")).decode()
    query = urlencode({"sp": "r", "se": expiry, "sv": "2020-10-02", "sr": "b", "sig": signature})
    for place, expected in (("azurite", "500 FeatureNotSupported"), ("origin", "403 AuthenticationFailed")):
        url = f"{both[place]}/{ACCOUNT}/models/a.mar?{query}"
        assert ask(url)[0] == 200
        assert answer(f"{url}&ses=scope") == expected


@pytest.mark.parametrize("name", WRITES)
def test_writing_without_permission_is_refused_alike(both, name):
    method = "DELETE" if name.startswith("delete") else "PUT"
    theirs, mine = (answer(WRITES[name](both[place]), method) for place in ("azurite", "origin"))
    assert mine == theirs == "403 AuthorizationPermissionMismatch"


@pytest.mark.parametrize("name, key", [("blob", "none"), ("container", "a.mar")])
def test_what_is_not_there_is_missed_alike(both, name, key):
    changes = {"container": "missing"} if name == "container" else {}
    theirs, mine = (answer(ours(both[place], key=key, **changes)) for place in ("azurite", "origin"))
    assert mine == theirs == ("404 ContainerNotFound" if name == "container" else "404 BlobNotFound")


@pytest.mark.parametrize("place", ["azurite", "origin"])
def test_ranges_beyond_the_end(both, place):
    status, headers, _ = ask(ours(both[place]), Range="bytes=5000-")
    assert (status, headers["x-ms-error-code"]) == (416, "InvalidRange")
