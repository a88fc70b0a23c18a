# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Google verifier against google-cloud-storage's signatures and its client, and against everything that is almost right."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import os
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from datetime import datetime, timedelta, timezone
from email.message import Message
from unittest import mock
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import google_crc32c
import pytest
import requests
from conftest import BAD_LISTS, Running
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from google.api_core.exceptions import BadRequest, Forbidden, NotFound, PreconditionFailed
from google.auth import crypt, jwt
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import Request as AuthRequest
from google.cloud import storage
from google.oauth2 import service_account
from strict_origin import server
from strict_origin.crc32c import BLOCK, SMALL, crc32c
from strict_origin.gcs import Gcs
from strict_origin.messages import Request, StoreError
from strict_origin.objects import Objects

NOW = datetime(2026, 3, 4, 12, 0, 0, tzinfo=timezone.utc)
ODD_KEYS = [
    "a.mar", "models/resnet50/1.0/x.mar", "with space", "plus+sign", "per%cent", "percent%2Fslash", "uml\u00e4ut/\u6a21\u578b.mar",
    "a&b=c?d#e", "~tilde!*'()", "double//slash", "@:,;$", "quote'\"`", "brackets[]{}<>", "pipe|caret^", "emoji\U0001f642",
    "e\u0301combining", "\u00a0nbsp", "...", "trailing space ", "a=b",
]  # fmt: skip


class Identity:
    """A service account as its owner has it, and as the origin knows it."""

    def __init__(self, name, publish):
        self.key = rsa.generate_private_key(65537, 2048)
        self.email = f"{name}@lab-project.iam.gserviceaccount.com"
        self.publish = publish
        self.signer = self.credentials()

    def info(self, **changes):
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        facts = {"type": "service_account", "client_email": self.email, "private_key_id": "k1", "private_key": pem}
        return facts | {"token_uri": "https://oauth2.googleapis.com/token"} | changes

    def account(self):
        pem = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        return {"client_email": self.email, "public_key": pem, "private_key_id": "k1", "publish": self.publish}

    def credentials(self, **changes):
        return service_account.Credentials.from_service_account_info(self.info(**changes))


READER, PUBLISHER, STRANGER = Identity("reader", False), Identity("publisher", True), Identity("stranger", True)
ACCOUNTS = [READER.account(), PUBLISHER.account()]


def store(tmp_path, **changes):
    return Gcs({"buckets": ["models", "other"], "accounts": ACCOUNTS} | changes, Objects(tmp_path), now=lambda: NOW)


def signed(key="a.mar", method="GET", who=READER, bucket="models", expires=60, at=NOW, **more):
    """A signed URL of google-cloud-storage."""
    blob = storage.Client("lab-project", AnonymousCredentials()).bucket(bucket).blob(key)
    stamps = at.strftime("%Y%m%dT%H%M%SZ"), at.strftime("%Y%m%d")
    with mock.patch("google.cloud.storage._signing.get_v4_now_dtstamps", return_value=stamps):
        return blob.generate_signed_url(version="v4", expiration=timedelta(seconds=expires), method=method, credentials=who.signer, **more)


def received(method, url, headers=None, body=b""):
    parts = urlsplit(url)
    message = Message()
    for name, value in (headers or {}).items():
        message[name] = value
    return Request(method, parts.netloc, parts.path, parts.query, message, io.BytesIO(body))


def refused(one, request):
    with pytest.raises(StoreError) as caught:
        name, proof = one.authorize(request)
        one.handle(request, proof)
        pytest.fail(f"{name} was not refused")
    return caught.value.status, caught.value.code


def changed(url, **params):
    """The URL with some parameters of its query set, or taken out where they are None."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | {name.replace("_", "-"): value for name, value in params.items()}
    return parts._replace(query=urlencode({name: value for name, value in query.items() if value is not None})).geturl()


# -- what the SDK signs is accepted --------------------------------------------------------------------------------------

VECTORS = {
    **{f"{method} {key}": (method, signed(key, method), {}, key) for method, key in itertools.product(("GET", "HEAD"), ODD_KEYS)},
    **{f"virtual-hosted {key}": ("GET", signed(key, virtual_hosted_style=True), {}, key) for key in ODD_KEYS},
    **{f"PUT {key}": ("PUT", signed(key, "PUT", PUBLISHER), {}, key) for key in ODD_KEYS},
    "DELETE": ("DELETE", signed(method="DELETE", who=PUBLISHER), {}, "a.mar"),
    "longest": ("GET", signed(expires=604800), {}, "a.mar"),
    "just before its end": ("GET", signed(at=NOW - timedelta(seconds=60)), {}, "a.mar"),
    "clock ahead": ("GET", signed(at=NOW + timedelta(minutes=14)), {}, "a.mar"),
    "yesterday's": ("GET", signed(at=NOW - timedelta(hours=20), expires=86400), {}, "a.mar"),
    "response headers": ("GET", signed(response_disposition='attachment; filename="a b"', response_type="a/b"), {}, "a.mar"),
    "generation": ("GET", signed(generation="17"), {}, "a.mar"),
    "other parameters": ("GET", signed(query_parameters={"userProject": "a b", "z": ""}), {}, "a.mar"),
    "type": ("PUT", signed(method="PUT", who=PUBLISHER, content_type="a/b"), {"Content-Type": "a/b"}, "a.mar"),
    "metadata": (
        "PUT",
        signed(method="PUT", who=PUBLISHER, headers={"x-goog-meta-sha256": "a   b"}),
        {"x-goog-meta-sha256": "a b"},
        "a.mar",
    ),
    "payload": (
        "PUT",
        signed(method="PUT", who=PUBLISHER, headers={"x-goog-content-sha256": hashlib.sha256(b"").hexdigest()}),
        {"x-goog-content-sha256": hashlib.sha256(b"").hexdigest()},
        "a.mar",
    ),
    "another endpoint": ("GET", signed(api_access_endpoint="https://storage.googleapis.com:8443"), {}, "a.mar"),
    "unsigned range": ("GET", signed(), {"Range": "bytes=0-0"}, "a.mar"),
}


def test_number_of_vectors():
    assert len(VECTORS) == 93
    assert len(TAMPERED) + len(ASSERTIONS) == 45


@pytest.mark.parametrize("name", VECTORS)
def test_good_signature(tmp_path, name):
    method, url, headers, key = VECTORS[name]
    assert store(tmp_path).authorize(received(method, url, headers))[0] == f"models/{key}"


def by_hand(names, headers):
    """A request with these signed headers, in this order and case."""
    params = {
        "x-goog-algorithm": "GOOG4-RSA-SHA256",
        "x-goog-credential": f"{READER.email}/20260304/us-east1/storage/goog4_request",
        "x-goog-date": "20260304T120000Z",
        "x-goog-expires": "60",
        "x-goog-signedheaders": names,
    }
    query = urlencode(params, quote_via=quote)
    values = {"host": "storage.googleapis.com"} | headers
    lines = "".join(f"{name}:{values.get(name.lower(), '')}\n" for name in dict.fromkeys(names.split(";")))
    canonical = f"GET\n/models/a.mar\n{query}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"GOOG4-RSA-SHA256\n20260304T120000Z\n20260304/us-east1/storage/goog4_request\n{digest}"
    signature = READER.signer.sign_bytes(to_sign).hex()
    return received("GET", f"https://storage.googleapis.com/models/a.mar?{query}&x-goog-signature={signature}", headers)


def test_names_of_the_parameters_in_lower_case_and_a_region(tmp_path):
    """As gsutil signs."""
    assert store(tmp_path).authorize(by_hand("host", {}))[0] == "models/a.mar"


# -- what is almost right is not -----------------------------------------------------------------------------------------

MISMATCH = (403, "SignatureDoesNotMatch")
MALFORMED = (400, "MalformedSecurityHeader")
DENIED = (403, "AccessDenied")
URL = signed()
TAMPERED = {
    "other object": ("GET", URL.replace("/a.mar", "/b.mar"), MISMATCH),
    "other bucket": ("GET", URL.replace("/models/", "/other/"), MISMATCH),
    "bucket that is not there": ("GET", signed(bucket="missing"), (404, "NoSuchBucket")),
    "object that is not there": ("GET", URL, (404, "NoSuchKey")),
    "virtual-hosted with a path's signature": (
        "GET",
        URL.replace("storage.googleapis.com/models/", "models.storage.googleapis.com/"),
        MISMATCH,
    ),
    "other method": ("HEAD", URL, MISMATCH),
    "write with a signature to read": ("PUT", URL, MISMATCH),
    "key of another account": ("GET", changed(URL, X_Goog_Credential=f"{PUBLISHER.email}/20260304/auto/storage/goog4_request"), MISMATCH),
    "unknown account": ("GET", signed(who=STRANGER), (403, "InvalidSecurity")),
    "other signature": ("GET", changed(URL, X_Goog_Signature="00" * 256), MISMATCH),
    "short signature": ("GET", changed(URL, X_Goog_Signature="00"), MISMATCH),
    "signature that is not hexadecimal": ("GET", changed(URL, X_Goog_Signature="xyz"), MALFORMED),
    "longer expiry": ("GET", changed(URL, X_Goog_Expires="600"), MISMATCH),
    "other date": ("GET", changed(URL, X_Goog_Date="20260304T120001Z"), MISMATCH),
    "date of the scope": ("GET", changed(URL, X_Goog_Date="20260303T120000Z"), MALFORMED),
    "other location": ("GET", changed(URL, X_Goog_Credential=f"{READER.email}/20260304/us/storage/goog4_request"), MISMATCH),
    "other service": ("GET", changed(URL, X_Goog_Credential=f"{READER.email}/20260304/auto/compute/goog4_request"), MALFORMED),
    "terminator of AWS": ("GET", changed(URL, X_Goog_Credential=f"{READER.email}/20260304/auto/storage/aws4_request"), MALFORMED),
    "added parameter": ("GET", URL + "&generation=1", MISMATCH),
    "parameter taken out": ("GET", changed(signed(response_type="a/b"), **{"response-content-type": None}), MISMATCH),
    "parameter twice": ("GET", URL + "&X-Goog-Expires=60", MALFORMED),
    "no expiry": ("GET", changed(URL, X_Goog_Expires=None), MALFORMED),
    "no signature": ("GET", changed(URL, X_Goog_Signature=None), MALFORMED),
    "no query": ("GET", URL.partition("?")[0], DENIED),
    "longer than a week": ("GET", changed(URL, X_Goog_Expires="604801"), MALFORMED),
    "expiry that is no number": ("GET", changed(URL, X_Goog_Expires="1h"), MALFORMED),
    "algorithm": ("GET", changed(URL, X_Goog_Algorithm="GOOG4-HMAC-SHA256"), MALFORMED),
    "expired": ("GET", signed(at=NOW - timedelta(seconds=61)), (400, "ExpiredToken")),
    "not yet valid": ("GET", signed(at=NOW + timedelta(minutes=16)), DENIED),
    "signed header that is not sent": ("GET", signed(headers={"x-goog-a": "1"}), MALFORMED),
    "host that is not signed": ("GET", changed(URL, X_Goog_SignedHeaders="range"), MALFORMED),
    "reader's signature to write": ("PUT", signed(method="PUT"), DENIED),
    "reader's signature to delete": ("DELETE", signed(method="DELETE"), DENIED),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered(tmp_path, name):
    method, url, expected = TAMPERED[name]
    assert refused(store(tmp_path), received(method, url)) == expected


@pytest.mark.parametrize("names", ["host;range", *BAD_LISTS])
def test_signed_headers_are_sorted_and_sent_and_named_once(tmp_path, names):
    request = by_hand(names, {"range": "bytes=0-9"})
    if names in BAD_LISTS:
        assert refused(store(tmp_path), request) == MALFORMED
    else:
        assert store(tmp_path).authorize(request)


def test_headers_of_google_must_be_signed_and_match(tmp_path):
    one = store(tmp_path)
    assert refused(one, received("GET", URL, {"x-goog-meta-a": "1"})) == MALFORMED
    url = signed(method="PUT", who=PUBLISHER, headers={"x-goog-meta-sha256": "abc"})
    assert refused(one, received("PUT", url, {"x-goog-meta-sha256": "abd"})) == MISMATCH
    payload = signed(method="PUT", who=PUBLISHER, headers={"x-goog-content-sha256": hashlib.sha256(b"1").hexdigest()})
    wrong = received("PUT", payload, {"x-goog-content-sha256": hashlib.sha256(b"1").hexdigest()}, b"2")
    assert refused(one, wrong) == (400, "InvalidArgument")
    assert not list(one.objects.root.iterdir()), "an upload that failed leaves nothing behind"


# -- the token endpoint --------------------------------------------------------------------------------------------------

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


def assertion(who=READER, signer=None, key_id="k1", header=None, **changes):
    issued = int(NOW.timestamp())
    claims = {"iss": who.email, "aud": "https://oauth2.googleapis.com/token", "iat": issued, "exp": issued + 3600, "scope": SCOPE} | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(crypt.RSASigner.from_service_account_info((signer or who).info()), claims, header, key_id).decode()


def sell(one, text, grant="urn:ietf:params:oauth:grant-type:jwt-bearer"):
    body = urlencode({"grant_type": grant, "assertion": text}).encode()
    request = received("POST", "https://oauth2.googleapis.com/token", body=body)
    name, proof = one.authorize(request)
    assert name == "gcs:token"
    return one.handle(request, proof)


NOON = int(NOW.timestamp())
INVALID = (400, "invalid_grant")
ASSERTIONS = {
    "account that is not there": ({"who": STRANGER}, INVALID),
    "key of another account": ({"signer": PUBLISHER}, INVALID),
    "name of another key": ({"key_id": "k2"}, INVALID),
    "audience": ({"aud": "https://storage.googleapis.com/"}, INVALID),
    "longer than an hour": ({"exp": NOON + 3601}, INVALID),
    "expired": ({"iat": NOON - 3700, "exp": NOON - 100}, INVALID),
    "from the future": ({"iat": NOON + 1000, "exp": NOON + 4000}, INVALID),
    "no scope": ({"scope": None}, (400, "invalid_scope")),
    "no issuer": ({"iss": None}, (400, "invalid_request")),
    "no time": ({"iat": None}, (400, "invalid_request")),
    "issuer that is no name": ({"iss": ["x"]}, INVALID),
    "algorithm": ({"header": {"alg": "HS256"}}, INVALID),
}


@pytest.mark.parametrize("name", ASSERTIONS)
def test_bad_assertion(tmp_path, name):
    arguments, expected = ASSERTIONS[name]
    with pytest.raises(StoreError) as caught:
        sell(store(tmp_path), assertion(**arguments))
    assert (caught.value.status, caught.value.code) == expected


def test_good_and_tampered_assertions(tmp_path):
    one = store(tmp_path)
    answer = json.loads(sell(one, assertion()).body)
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3599)
    head, claims, signature = assertion().split(".")
    other = base64.urlsafe_b64encode(base64.urlsafe_b64decode(claims + "==").replace(b"reader", b"publisher")).decode().rstrip("=")
    listed = base64.urlsafe_b64encode(b"[]").decode()
    endless = base64.urlsafe_b64encode(b'{"iss": "x", "iat": Infinity, "exp": 1}').decode().rstrip("=")
    for text in (f"{listed}.{claims}.{signature}", f"{head}.{listed}.{signature}", f"{head}.{endless}.{signature}"):
        with pytest.raises(StoreError, match="Bad Request"):
            sell(one, text)
    for text in ("", "a.b", f"{head}.{claims}.", f"{head}.{other}.{signature}", f"{head}.{claims}.{'A' * len(signature)}"):
        with pytest.raises(StoreError) as caught:
            sell(one, text)
        assert caught.value.status == 400
    with pytest.raises(StoreError, match="grant_type"):
        sell(one, assertion(), grant="authorization_code")
    rendered = one.render(caught.value, received("POST", "https://oauth2.googleapis.com/token"))
    assert json.loads(rendered.body) == {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}


# -- the client, against a running origin --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_other_service(monkeypatch):
    """google-auth also asks another service of Google's, in the background, where an account may be used."""
    lookup = "google.auth.credentials.CredentialsWithRegionalAccessBoundary._is_regional_access_boundary_lookup_required"
    monkeypatch.setattr(lookup, lambda self: False)


@pytest.fixture
def google(tmp_path, certificate):
    listen = {"http": 0, "https": 0, "control": 0, "proxy": 0}
    config = {"data": str(tmp_path / "data"), "address": "127.0.0.1", "listen": listen, "tls": certificate}
    running = Running(config | {"gcs": {"buckets": ["models"], "accounts": ACCOUNTS, "hosts": ["127.0.0.1"]}})
    yield running
    server.stop(running.servers)


def client(origin, who=PUBLISHER, scopes=None, **changes):
    base = f"http://127.0.0.1:{origin.ports['http']}"
    credentials = who.credentials(token_uri=f"{base}/token", **changes)
    if scopes:
        credentials = credentials.with_scopes(scopes)
    return storage.Client("lab-project", credentials, client_options={"api_endpoint": base})


def blob_of(origin, key="m.mar", who=PUBLISHER, bucket="models", **more):
    return client(origin, who, **more).bucket(bucket).blob(key)


def get(url, method="GET", data=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.mark.parametrize("key", ODD_KEYS)
def test_client_publishes_and_reads(google, key, tmp_path):
    body = os.urandom(70_000)
    (tmp_path / "m").write_bytes(body)
    blob = blob_of(google, key)
    blob.metadata = {"sha256": "abc"}
    blob.upload_from_filename(str(tmp_path / "m"), content_type="application/zip", if_generation_match=0, retry=None)
    again = blob_of(google, key, READER)
    assert again.exists(retry=None)
    again.reload(retry=None)
    assert (again.size, again.metadata, again.content_type) == (70_000, {"sha256": "abc"}, "application/zip")
    assert again.md5_hash == base64.b64encode(hashlib.md5(body).digest()).decode()
    assert again.crc32c == base64.b64encode(google_crc32c.value(body).to_bytes(4, "big")).decode()
    assert again.download_as_bytes(retry=None) == body
    url = again.generate_signed_url(
        timedelta(minutes=1), version="v4", credentials=READER.signer, api_access_endpoint=f"http://127.0.0.1:{google.ports['http']}"
    )
    status, headers, content = get(url)
    assert (status, content, headers["x-goog-meta-sha256"]) == (200, body, "abc")
    blob.delete(retry=None)
    assert not again.exists(retry=None)
    assert not list(google.objects.root.iterdir())


def test_client_uploads_resumably(google, tmp_path):
    body = os.urandom(9 << 20)  # from 8 MiB on the client does it by itself
    (tmp_path / "m").write_bytes(body)
    whole = blob_of(google, "whole")
    whole.metadata = {"sha256": "abc"}
    whole.upload_from_filename(str(tmp_path / "m"), if_generation_match=0, retry=None)
    parts = client(google).bucket("models").blob("parts", chunk_size=1 << 20)
    parts.upload_from_filename(str(tmp_path / "m"), if_generation_match=0, retry=None)
    for key in ("whole", "parts"):
        assert google.objects.get("models", key).path.read_bytes() == body
        blob = client(google, READER).bucket("models").blob(key, chunk_size=1 << 20)
        assert blob.download_as_bytes(retry=None) == body
    assert google.objects.get("models", "whole").metadata == {"sha256": "abc"}
    assert len(list(google.objects.root.iterdir())) == 4, "no part is left behind"


@pytest.mark.parametrize("checksum", ["md5", "crc32c", "auto", None])
@pytest.mark.parametrize("size", [0, 1, 300_000, (8 << 20) + 1])
def test_client_checksums(google, checksum, size):
    body = os.urandom(size)
    blob = blob_of(google)
    blob.upload_from_file(io.BytesIO(body), size=size, checksum=checksum, retry=None)
    assert blob.download_as_bytes(checksum=checksum, retry=None) == body


def test_content_that_does_not_match_its_checksum_is_refused(google):
    blob = blob_of(google)
    blob.md5_hash = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    with pytest.raises(BadRequest, match="MD5"):
        blob.upload_from_string(b"hello", checksum=None, retry=None)
    assert not list(google.objects.root.iterdir())


def test_an_object_is_not_overwritten_where_that_was_not_meant(google):
    blob_of(google).upload_from_string(b"1", if_generation_match=0, retry=None)
    with pytest.raises(PreconditionFailed):
        blob_of(google).upload_from_string(b"2", if_generation_match=0, retry=None)
    with pytest.raises(PreconditionFailed):
        client(google).bucket("models").blob("m.mar", chunk_size=1 << 20).upload_from_file(
            io.BytesIO(bytes(2 << 20)), if_generation_match=0, retry=None
        )
    blob = blob_of(google)
    blob.reload(retry=None)
    first = blob.generation
    blob.upload_from_string(b"2", if_generation_match=first, retry=None)
    assert blob.generation != first
    assert blob_of(google).download_as_bytes(retry=None) == b"2"


def test_who_may_do_what(google):
    blob_of(google).upload_from_string(b"1", retry=None)
    with pytest.raises(Forbidden, match=r"reader@\S+ does not have storage\.objects\.create access"):
        blob_of(google, who=READER).upload_from_string(b"2", retry=None)
    with pytest.raises(Forbidden, match=r"storage\.objects\.delete"):
        blob_of(google, who=READER).delete(retry=None)
    with pytest.raises(NotFound, match="No such object: models/none"):
        blob_of(google, "none").reload(retry=None)
    with pytest.raises(NotFound, match="No such object: models/none"):
        blob_of(google, "none").download_as_bytes(retry=None)
    with pytest.raises(NotFound, match="bucket does not exist"):
        blob_of(google, bucket="missing").upload_from_string(b"1", retry=None)
    with pytest.raises(RefreshError, match="account not found"):
        blob_of(google, who=STRANGER).reload(retry=None)
    with pytest.raises(RefreshError, match="Invalid JWT Signature"):
        blob_of(google, private_key=STRANGER.info()["private_key"]).reload(retry=None)
    read_only = ["https://www.googleapis.com/auth/devstorage.read_only"]
    assert blob_of(google, scopes=read_only).download_as_bytes(retry=None) == b"1"
    with pytest.raises(Forbidden, match="scope"):
        blob_of(google, scopes=read_only).upload_from_string(b"2", retry=None)
    with pytest.raises(Forbidden, match="scope"):
        blob_of(google, scopes=["https://www.googleapis.com/auth/compute"]).reload(retry=None)
    assert blob_of(google).download_as_bytes(retry=None) == b"1"


def test_a_token_is_asked_for(google):
    base = f"http://127.0.0.1:{google.ports['http']}"
    metadata = f"{base}/storage/v1/b/models/o/a"
    status, _, body = get(metadata)
    assert (status, json.loads(body)["error"]["message"].split(" access")[0]) == (401, "Anonymous caller does not have storage.objects.get")
    status, headers, body = get(metadata, Authorization="Bearer ya29.c.invented")
    assert (status, json.loads(body)["error"]["errors"][0]["reason"]) == (401, "authError")
    assert headers["WWW-Authenticate"].startswith("Bearer")
    assert get(f"{base}/models/a", Authorization="Bearer ya29.c.invented")[0] == 401
    credentials = READER.credentials(token_uri=f"{base}/token").with_scopes(["https://www.googleapis.com/auth/devstorage.read_only"])
    credentials.refresh(AuthRequest())
    assert b"NoSuchKey" in get(f"{base}/models/a", Authorization=f"Bearer {credentials.token}")[2]
    assert get(f"{base}/models/a", "PUT", b"x", Authorization=f"Bearer {credentials.token}")[0] == 403


def test_by_their_own_names_through_the_proxy(tmp_path, certificate, monkeypatch):
    """As a user has it: Google's own names and TLS, here through the CONNECT proxy."""
    listen = {"http": 0, "https": 0, "control": 0, "proxy": 0}
    config = {"data": str(tmp_path / "data"), "address": "127.0.0.1", "listen": listen, "tls": certificate}
    running = Running(config | {"gcs": {"buckets": ["models"], "accounts": ACCOUNTS}})
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{running.ports['proxy']}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", running.ca)
    try:
        blob = storage.Client("lab-project", PUBLISHER.credentials()).bucket("models").blob("a b+c", chunk_size=1 << 18)
        blob.upload_from_string(bytes(300_000), if_generation_match=0, retry=None)
        assert blob.download_as_bytes(retry=None) == bytes(300_000)
        for style in (True, False):
            url = blob.generate_signed_url(timedelta(minutes=1), version="v4", credentials=READER.signer, virtual_hosted_style=style)
            assert requests.get(url, timeout=10).content == bytes(300_000)
    finally:
        server.stop(running.servers)


# -- resumable uploads by hand -------------------------------------------------------------------------------------------


def bought(origin):
    base = f"http://127.0.0.1:{origin.ports['http']}"
    credentials = PUBLISHER.credentials(token_uri=f"{base}/token").with_scopes([SCOPE])
    credentials.refresh(AuthRequest())
    return credentials.token


def begin(origin, key="m.mar", token=None, **headers):
    base = f"http://127.0.0.1:{origin.ports['http']}"
    url = f"{base}/upload/storage/v1/b/models/o?uploadType=resumable&name={quote(key)}"
    bearer = f"Bearer {token or bought(origin)}"
    status, answer, _ = get(url, "POST", b'{"metadata": {"sha256": "abc"}}', Authorization=bearer, **headers)
    assert status == 200
    return answer["Location"]


def test_an_upload_goes_on_where_it_broke_off(google):
    piece = 256 * 1024
    body = os.urandom(piece * 2 + 100)
    session = begin(google, X_Upload_Content_Type="application/zip")

    def put(data, content_range):
        status, headers, content = get(session, "PUT", data, Content_Range=content_range)
        return status, headers["Range"] if status == 308 else content

    assert put(b"", "bytes */*") == (308, None)
    assert put(body[:100], f"bytes 0-99/{len(body)}")[0] == 400
    assert put(body[:piece], f"bytes 0-{piece - 1}/*") == (308, f"bytes=0-{piece - 1}")
    assert put(body[:piece], f"bytes 0-{piece - 1}/*") == (308, f"bytes=0-{piece - 1}"), "what is there already is not taken again"
    assert put(body[-100:], f"bytes {piece * 2}-{len(body) - 1}/{len(body)}") == (308, f"bytes=0-{piece - 1}"), "nor what leaves a gap"
    assert put(b"", f"bytes */{len(body)}") == (308, f"bytes=0-{piece - 1}")
    assert google.objects.get("models", "m.mar") is None
    status, content = put(body[piece:], f"bytes {piece}-{len(body) - 1}/{len(body)}")
    assert (status, json.loads(content)["metadata"]) == (200, {"sha256": "abc"})
    assert put(b"", f"bytes */{len(body)}")[0] == 200
    item = google.objects.get("models", "m.mar")
    assert (item.path.read_bytes(), item.content_type) == (body, "application/zip")


def test_resumable_upload_gone_wrong(google):
    session = begin(google, X_Upload_Content_Length="10")
    assert get(session, "PUT", b"hello", Content_Range="bytes 0-4/5")[0] == 400
    assert get(session, "PUT", b"hello", Content_Range="bytes 0-9/10")[0] == 400
    assert get(session, "PUT", b"hello", Content_Range="from here on")[0] == 400
    assert get(session, "PUT", b"0123456789", Content_Range="bytes 0-9/10", X_Goog_Hash="crc32c=AAAAAA==")[0] == 400
    assert get(session, "PUT", b"0123456789", Content_Range="bytes 0-9/10")[0] == 404, "the session ended with its content"
    assert not list(google.objects.root.iterdir())
    session = begin(google)
    assert get(session, "DELETE")[0] == 499
    assert get(session, "PUT", b"x")[0] == 404
    session = begin(google)
    assert get(session, "PUT", b"x")[0] == 200, "without a Content-Range the body is the object"
    assert get(session + "x", "PUT", b"x")[0] == 404
    url = f"http://127.0.0.1:{google.ports['http']}/upload/storage/v1/b/models/o?uploadType=resumable&name=a"
    assert get(url, "POST", b"{}")[0] == 401


def test_a_session_that_nobody_used_for_an_hour_ends_with_the_next(google):
    left, used, done = begin(google, "left"), begin(google, "used"), begin(google, "done")
    assert get(done, "PUT", b"x")[0] == 200
    google.control("PUT", "/clock", {"ahead": 50 * 60})
    token = bought(google)
    assert get(used, "PUT", b"", Content_Range="bytes */*")[0] == 308
    google.control("PUT", "/clock", {"ahead": 70 * 60})
    started = len(list(google.objects.root.glob("upload-*")))
    begin(google, "new", token)
    assert (get(left, "PUT", b"x")[0], get(done, "PUT", b"x")[0]) == (404, 404)
    assert get(used, "PUT", b"y")[0] == 200
    assert (started, len(list(google.objects.root.glob("upload-*")))) == (2, 1), "what was left is gone, the new one is there"
    assert [google.objects.get("models", key).path.read_bytes() for key in ("used", "done")] == [b"y", b"x"]


# -- reading through a signed URL ----------------------------------------------------------------------------------------


def link(origin, key="m.mar", **more):
    blob = storage.Client("lab-project", AnonymousCredentials()).bucket("models").blob(key)
    base = f"http://127.0.0.1:{origin.ports['http']}"
    return blob.generate_signed_url(timedelta(minutes=1), version="v4", credentials=READER.signer, api_access_endpoint=base, **more)


@pytest.mark.parametrize(
    "range_, status, start, end",
    [
        (None, 200, 0, 5000),
        ("bytes=0-0", 206, 0, 1),
        ("bytes=100-199", 206, 100, 200),
        ("bytes=4990-", 206, 4990, 5000),
        ("bytes=-10", 206, 4990, 5000),
        ("bytes=0-99999", 206, 0, 5000),
        ("bytes=5000-", 416, 0, 0),
    ],
)
def test_ranges(google, range_, status, start, end):
    content = os.urandom(5000)
    google.store("m.mar", content)
    got, headers, body = get(link(google), **({"Range": range_} if range_ else {}))
    assert got == status
    if status == 416:
        assert b"<Code>InvalidRange</Code>" in body
        return
    assert body == content[start:end]
    assert headers.get("Content-Range") == (f"bytes {start}-{end - 1}/5000" if status == 206 else None)
    assert headers["x-goog-hash"].startswith("crc32c=")


def test_errors_are_xml_with_details(google):
    status, headers, body = get(link(google).replace("m.mar", "n.mar"))
    error = ET.fromstring(body)
    assert (status, headers["Content-Type"], error.findtext("Code")) == (403, "application/xml; charset=UTF-8", "SignatureDoesNotMatch")
    assert error.findtext("StringToSign").startswith("GOOG4-RSA-SHA256\n")
    assert error.findtext("CanonicalRequest").startswith("GET\n/models/n.mar\n")
    google.store("m.mar", b"x")
    google.control("PUT", "/faults", {"key": "models/*", "status": 503, "times": 2})
    assert b"<Code>ServiceUnavailable</Code>" in get(link(google))[2]


def test_counters_tell_objects_from_the_rest(google):
    blob = blob_of(google)
    blob.upload_from_string(b"12345", retry=None)
    blob.reload(retry=None)
    google.control("DELETE", "/counters")
    get(link(google))
    blob.reload(retry=None)
    rows = google.control("GET", "/counters")["objects"]
    assert (rows["models/m.mar"]["bytes"], rows["models/m.mar"]["requests"]) == (5, 1)
    assert rows["gcs:metadata"]["bytes"] == 0
    assert all(name.startswith("gcs:") for name in rows if name != "models/m.mar")


@pytest.mark.parametrize("size", [0, 1, 3, 9, SMALL - 1, SMALL, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + SMALL + 3, 2 * BLOCK + 4])
def test_crc32c(tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    assert crc32c(tmp_path / "file") == google_crc32c.value(data)
