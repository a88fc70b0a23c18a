# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Azure verifier against azure-storage-blob's signatures and its client, and against everything that is almost right."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import os
import ssl
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from datetime import datetime, timedelta, timezone
from email.message import Message
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.core.pipeline import PipelineContext, PipelineRequest
from azure.core.rest import HttpRequest
from azure.storage.blob import BlobBlock, BlobServiceClient, ContentSettings, generate_blob_sas, generate_container_sas
from azure.storage.blob._shared.authentication import SharedKeyCredentialPolicy
from conftest import Running
from strict_origin import server
from strict_origin.abs import Abs, Target, sas_string
from strict_origin.messages import Request, StoreError
from strict_origin.objects import Objects

NOW = datetime(2026, 3, 4, 12, 0, 0, tzinfo=timezone.utc)
KEY, READ_KEY, OTHER_KEY = (base64.b64encode(hashlib.sha512(name).digest()).decode() for name in (b"write", b"read", b"other"))
ACCOUNTS = [
    {"account_name": "modelfleet", "account_key": KEY, "read_keys": [READ_KEY], "containers": ["models", "other"], "publish": True},
    {"account_name": "secondaccount", "account_key": OTHER_KEY, "containers": ["models"], "publish": True},
]
HOST = "modelfleet.blob.core.windows.net"
ODD_KEYS = [
    "a.mar", "models/resnet50/1.0/x.mar", "with space", "plus+sign", "per%cent", "percent%2Fslash", "uml\u00e4ut/\u6a21\u578b.mar",
    "a&b=c?d#e", "~tilde!*'()", "double//slash", "@:,;$", "quote'\"`", "brackets[]{}<>", "pipe|caret^", "emoji\U0001f642",
    "e\u0301combining", "\u00a0nbsp", "...", "trailing space ", "a=b",
]  # fmt: skip


def store(tmp_path, **changes):
    return Abs({"endpoints": ["127.0.0.1"], "accounts": ACCOUNTS} | changes, Objects(tmp_path), now=lambda: NOW)


def url_of(key, host=HOST, container="models"):
    return f"https://{host}/{container}/{quote(key, safe='/~')}"


def blob_url(key="a.mar", permission="r", container="models", account="modelfleet", account_key=READ_KEY, host=None, expires=60, **more):
    """A blob's URL with the service SAS that azure-storage-blob makes for it."""
    token = generate_blob_sas(
        account, container, key, account_key=account_key, permission=permission, expiry=NOW + timedelta(seconds=expires), **more
    )
    return url_of(key, host or f"{account}.blob.core.windows.net", container) + "?" + token


def container_url(key="a.mar", permission="r", container="models", account_key=READ_KEY, expires=60, **more):
    token = generate_container_sas(
        "modelfleet", container, account_key=account_key, permission=permission, expiry=NOW + timedelta(seconds=expires), **more
    )
    return url_of(key, container=container) + "?" + token


def received(method, url, headers=None, body=b"", **more):
    parts = urlsplit(url)
    message = Message()
    for name, value in (headers or {}).items():
        message[name] = value
    return Request(method, parts.netloc, parts.path, parts.query, message, io.BytesIO(body), **more)


def refused(one, request):
    with pytest.raises(StoreError) as caught:
        name, proof = one.authorize(request)
        one.handle(request, proof)
        pytest.fail(f"{name} was not refused")
    return caught.value.status, caught.value.code


def changed(url, **params):
    """The URL with some parameters of its query set, or taken out where they are None."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | params
    return parts._replace(query=urlencode({name: value for name, value in query.items() if value is not None})).geturl()


# -- what the SDK signs is accepted --------------------------------------------------------------------------------------

MORE = {
    "start": {"start": NOW - timedelta(minutes=5)},
    "https": {"protocol": "https"},
    "https or http": {"protocol": "https,http"},
    "address": {"ip": "10.0.0.5"},
    "range of addresses": {"ip": "10.0.0.0-10.0.0.255"},
    "response headers": {
        "cache_control": "no-store",
        "content_disposition": 'attachment; filename="a b.mar"',
        "content_type": "application/zip",
        "content_language": "de",
        "content_encoding": "identity",
    },
    "encryption scope": {"encryption_scope": "scope-1"},
    "everything": {"start": NOW, "protocol": "https", "ip": "10.0.0.5", "content_type": "a/b", "encryption_scope": "s"},
}
VECTORS = {
    **{f"{method} {make.__name__} {key}": (method, make(key), key)
       for method, make, key in itertools.product(("GET", "HEAD"), (blob_url, container_url), ODD_KEYS)},
    **{f"GET {make.__name__} {name}": ("GET", make(**more), "a.mar") for make in (blob_url, container_url) for name, more in MORE.items()},
    **{f"PUT {key}": ("PUT", blob_url(key, "cw", account_key=KEY), key) for key in ODD_KEYS},
    **{f"by path {key}": ("GET", blob_url(key, host="127.0.0.1:10000/modelfleet"), key) for key in ODD_KEYS},
    "every permission": ("GET", blob_url(permission="racwdxytmei"), "a.mar"),
    "fraction of a second": ("GET", blob_url(start="2026-03-04T11:59:59.5000000Z"), "a.mar"),
    "a date alone": ("GET", blob_url(start="2026-03-04"), "a.mar"),
}  # fmt: skip


def test_number_of_vectors():
    assert len(VECTORS) == 139
    assert len(TAMPERED) == 31


@pytest.mark.parametrize("name", VECTORS)
def test_good_sas(tmp_path, name):
    method, url, key = VECTORS[name]
    assert store(tmp_path).authorize(received(method, url, client="10.0.0.5"))[0] == f"models/{key}"


def test_order_and_escapes_of_the_query_are_free(tmp_path):
    parts = urlsplit(blob_url())
    again = parts._replace(query="&".join(reversed(parts.query.split("&"))).replace("=r&", "=%72&")).geturl()
    assert store(tmp_path).authorize(received("GET", again))


def test_custom_domain(tmp_path):
    one = store(tmp_path, endpoints=[{"host": "models.example.com", "account": "modelfleet"}])
    assert one.authorize(received("GET", blob_url(host="models.example.com")))[0] == "models/a.mar"
    assert not one.claims("example.com")


@pytest.mark.parametrize("seconds, good", [(-1, False), (0, False), (1, True), (3600, True)])
def test_expiry(tmp_path, seconds, good):
    request = received("GET", blob_url(expires=seconds))
    if good:
        assert store(tmp_path).authorize(request)
    else:
        assert refused(store(tmp_path), request) == DENIED


def test_versions_before_the_encryption_scope_sign_without_it(tmp_path):
    old = {"sv": "2020-10-02", "sr": "b", "sp": "r"}
    assert sas_string(Target("modelfleet", "models", "a"), old).count("\n") == 14
    assert sas_string(Target("modelfleet", "models", "a"), old | {"sv": "2020-12-06"}).count("\n") == 15


# -- what is almost right is not -----------------------------------------------------------------------------------------

DENIED = (403, "AuthenticationFailed")
MISMATCH = (403, "AuthorizationPermissionMismatch")
TAMPERED = {
    "other blob": ("GET", blob_url().replace("/a.mar", "/b.mar"), DENIED),
    "other container": ("GET", blob_url().replace("/models/", "/other/"), DENIED),
    "other container of a container's signature": ("GET", container_url().replace("/models/", "/other/"), DENIED),
    "other account": ("GET", blob_url().replace("modelfleet.", "secondaccount."), DENIED),
    "unknown account": ("GET", blob_url().replace("modelfleet.", "nobody."), (404, "ResourceNotFound")),
    "container that is not there": ("GET", blob_url(container="missing"), (404, "ContainerNotFound")),
    "blob that is not there": ("GET", blob_url(), (404, "BlobNotFound")),
    "key of another account": ("GET", blob_url(account_key=OTHER_KEY), DENIED),
    "other signature": ("GET", changed(blob_url(), sig=base64.b64encode(bytes(32)).decode()), DENIED),
    "later expiry": ("GET", changed(blob_url(), se="2026-03-05T12:00:00Z"), DENIED),
    "more permissions": ("GET", changed(blob_url(), sp="rw"), DENIED),
    "other version": ("GET", changed(blob_url(), sv="2024-11-04"), DENIED),
    "future version": ("GET", changed(blob_url(), sv="2099-01-01"), DENIED),
    "blob's signature as a container's": ("GET", changed(blob_url(), sr="c"), DENIED),
    "container's signature as a blob's": ("GET", changed(container_url(), sr="b"), DENIED),
    "start taken out": ("GET", changed(blob_url(start=NOW + timedelta(minutes=5)), st=None), DENIED),
    "protocol taken out": ("GET", changed(blob_url(protocol="https"), spr=None), DENIED),
    "added response header": ("GET", changed(blob_url(), rsct="text/html"), DENIED),
    "expired": ("GET", blob_url(expires=-60), DENIED),
    "not yet valid": ("GET", blob_url(start=NOW + timedelta(minutes=5), expires=3600), DENIED),
    "method without permission": ("GET", blob_url(permission="w"), MISMATCH),
    "write with permission to read": ("PUT", blob_url(permission="r", account_key=KEY), MISMATCH),
    "delete with permission to write": ("DELETE", blob_url(permission="cw", account_key=KEY), MISMATCH),
    "write with the key for reading": ("PUT", blob_url(permission="cw"), MISMATCH),
    "order of the permissions": ("GET", blob_url(permission="wr", account_key=KEY), DENIED),
    "no expiry": ("GET", changed(blob_url(), se=None), DENIED),
    "no version": ("GET", changed(blob_url(), sv=None), DENIED),
    "stored policy that is not there": ("GET", blob_url(policy_id="p"), DENIED),
    "parameter twice": ("GET", blob_url() + "&sp=r", DENIED),
    "no signature": ("GET", blob_url().partition("?")[0], (409, "PublicAccessNotPermitted")),
    "no signature on a write": ("PUT", blob_url().partition("?")[0], (401, "NoAuthenticationInformation")),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered(tmp_path, name):
    method, url, expected = TAMPERED[name]
    assert refused(store(tmp_path), received(method, url)) == expected


def test_protocol_and_address_are_enforced(tmp_path):
    one = store(tmp_path)
    assert refused(one, received("GET", blob_url(protocol="https"), secure=False)) == (403, "AuthorizationProtocolMismatch")
    assert one.authorize(received("GET", blob_url(protocol="https,http"), secure=False))
    assert refused(one, received("GET", blob_url(ip="10.0.0.5"), client="10.0.0.6")) == (403, "AuthorizationSourceIPMismatch")
    assert refused(one, received("GET", blob_url(ip="10.0.0.5-10.0.0.9"), client="fd00::5")) == (403, "AuthorizationSourceIPMismatch")


def test_creating_does_not_overwrite(tmp_path):
    one = store(tmp_path)
    for permission, expected in (("c", 201), ("cw", 201), ("w", 201)):
        put = received(
            "PUT", blob_url(permission, permission, account_key=KEY), {"x-ms-blob-type": "BlockBlob", "Content-Length": "1"}, b"x"
        )
        assert one.handle(put, one.authorize(put)[1]).status == expected
    again = received("PUT", blob_url("c", "c", account_key=KEY), {"x-ms-blob-type": "BlockBlob", "Content-Length": "1"}, b"y")
    assert refused(one, again) == (403, "UnauthorizedBlobOverwrite")


# -- the client, against a running origin --------------------------------------------------------------------------------


@pytest.fixture
def azure(tmp_path, certificate):
    listen = {"http": 0, "https": 0, "control": 0, "proxy": 0}
    config = {"data": str(tmp_path / "data"), "address": "127.0.0.1", "listen": listen, "tls": certificate}
    running = Running(config | {"abs": {"endpoints": ["127.0.0.1"], "accounts": ACCOUNTS}})
    yield running
    server.stop(running.servers)


def client(origin, account_key=KEY, account="modelfleet", **more):
    return BlobServiceClient(
        f"http://127.0.0.1:{origin.ports['http']}/{account}",
        credential={"account_name": account, "account_key": account_key},
        retry_total=0,
        **more,
    )


def failed(kind, call, **arguments):
    with pytest.raises(kind) as caught:
        call(**arguments)
    return caught.value.status_code, str(getattr(caught.value.error_code, "value", caught.value.error_code))


def get(url, **headers):
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.mark.parametrize("key", ODD_KEYS)
def test_client_publishes_and_reads(azure, key):
    body = os.urandom(70_000)
    blob = client(azure).get_blob_client("models", key)
    blob.upload_blob(body, metadata={"sha256": "abc", "a_1": "x", "a1": "y"}, content_settings=ContentSettings("application/zip"))
    facts = blob.get_blob_properties()
    assert (facts.size, facts.metadata["sha256"], facts.content_settings.content_type) == (70_000, "abc", "application/zip")
    assert facts.etag.startswith('"0x8D')
    assert client(azure, READ_KEY).get_blob_client("models", key).download_blob().readall() == body
    assert azure.objects.get("models", key).metadata["sha256"] == "abc"
    blob.delete_blob()
    assert not blob.exists()
    assert not list(azure.objects.root.iterdir())


def test_client_uploads_in_blocks(azure, tmp_path):
    body = os.urandom(5 << 20)
    one = client(azure, max_single_put_size=1 << 20, max_block_size=1 << 20, max_chunk_get_size=1 << 20, max_single_get_size=1 << 20)
    blob = one.get_blob_client("models", "m.mar")
    blob.upload_blob(io.BytesIO(body), metadata={"sha256": "abc"}, max_concurrency=2)
    assert blob.download_blob(max_concurrency=2).readall() == body
    assert blob.download_blob(offset=100, length=1000).readall() == body[100:1100]
    assert blob.get_blob_properties().metadata == {"sha256": "abc"}
    assert len(list(azure.objects.root.iterdir())) == 2, "no block is left behind"


def test_blocks_gone_wrong(azure):
    blob = client(azure).get_blob_client("models", "m.mar")
    blob.stage_block("0001", b"hello")
    assert failed(HttpResponseError, blob.commit_block_list, block_list=[BlobBlock("0002")]) == (400, "InvalidBlockList")
    assert failed(HttpResponseError, blob.stage_block, block_id="0000001", data=b"x") == (400, "InvalidBlobOrBlock")
    blob.commit_block_list([BlobBlock("0001")])
    assert blob.download_blob().readall() == b"hello"


def test_empty_blob(azure):
    blob = client(azure).get_blob_client("models", "empty")
    blob.upload_blob(b"")
    assert blob.download_blob().readall() == b""


def test_conditions(azure):
    blob = client(azure).get_blob_client("models", "a")
    etag = blob.upload_blob(b"1")["etag"]
    assert failed(ResourceExistsError, blob.upload_blob, data=b"2") == (409, "BlobAlreadyExists")
    blob.upload_blob(b"2", overwrite=True)
    stale = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
    assert failed(ResourceModifiedError, blob.upload_blob, data=b"3", overwrite=True, **stale) == (412, "ConditionNotMet")
    assert blob.download_blob().readall() == b"2"


def test_who_may_do_what(azure):
    client(azure).get_blob_client("models", "a").upload_blob(b"1")
    reader = client(azure, READ_KEY).get_blob_client("models", "a")
    assert reader.download_blob().readall() == b"1"
    assert failed(HttpResponseError, reader.upload_blob, data=b"2", overwrite=True) == MISMATCH
    assert failed(HttpResponseError, reader.delete_blob) == MISMATCH
    wrong = client(azure, OTHER_KEY).get_blob_client("models", "a")
    assert failed(HttpResponseError, wrong.download_blob) == DENIED
    assert failed(HttpResponseError, wrong.upload_blob, data=b"2", overwrite=True) == DENIED
    other = client(azure, OTHER_KEY, "secondaccount")
    assert failed(ResourceNotFoundError, other.get_blob_client("other", "a").download_blob) == (404, "ContainerNotFound")
    assert failed(ResourceNotFoundError, client(azure).get_blob_client("models", "b").download_blob) == (404, "BlobNotFound")
    assert client(azure).get_container_client("models").exists()
    assert not client(azure).get_container_client("missing").exists()


@pytest.mark.parametrize("minutes, good", [(-16, False), (-14, True), (14, True), (16, False)])
def test_clock_of_a_shared_key(azure, minutes, good):
    when = (datetime.now(timezone.utc) + timedelta(minutes=minutes)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    signed = shared_key_headers(SharedKeyCredentialPolicy("modelfleet", KEY), azure, {"x-ms-date": when})
    status, headers, _ = get(f"http://127.0.0.1:{azure.ports['http']}/modelfleet/models/a", **signed)
    assert (status, headers["x-ms-error-code"]) == ((404, "BlobNotFound") if good else DENIED)


def shared_key_headers(policy, origin, changes):
    headers = {"x-ms-version": "2025-05-05", "x-ms-client-request-id": "1", **changes}
    request = HttpRequest("GET", f"http://127.0.0.1:{origin.ports['http']}/modelfleet/models/a", headers=headers)
    policy.on_request(PipelineRequest(request, PipelineContext(None)))
    return dict(request.headers)


def test_every_signed_header_counts(azure):
    date = datetime.now(timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    signed = shared_key_headers(SharedKeyCredentialPolicy("modelfleet", KEY), azure, {"x-ms-date": date, "x-ms-range": "bytes=0-1"})
    url = f"http://127.0.0.1:{azure.ports['http']}/modelfleet/models/a"
    assert get(url, **signed)[1]["x-ms-error-code"] == "BlobNotFound"
    for change in ({"x-ms-range": "bytes=0-2"}, {"x-ms-version": "2024-11-04"}, {"x-ms-extra": "1"}, {"Range": "bytes=0-1"}):
        assert get(url, **(signed | change))[0] == 403, change
    assert get(url + "?comp=metadata", **signed)[0] == 403
    assert get(url, **(signed | {"x-ms-version": "2031-01-01"}))[0] == 400
    assert get(url, **(signed | {"Authorization": signed["Authorization"].replace("SharedKey", "SharedKeyLite")}))[0] == 400


# -- reading through a signed URL ----------------------------------------------------------------------------------------


def sas(origin, key="m.mar", scheme="http", **more):
    soon = datetime.now(timezone.utc) + timedelta(minutes=1)
    token = generate_blob_sas("modelfleet", "models", key, account_key=READ_KEY, permission="r", expiry=soon, **more)
    return f"{scheme}://127.0.0.1:{origin.ports[scheme]}/modelfleet/models/{quote(key)}?{token}"


@pytest.mark.parametrize(
    "range_, status, start, end",
    [
        (None, 200, 0, 5000),
        ("bytes=0-0", 206, 0, 1),
        ("bytes=100-199", 206, 100, 200),
        ("bytes=4990-", 206, 4990, 5000),
        ("bytes=0-99999", 206, 0, 5000),
        ("bytes=-10", 200, 0, 5000),
        ("bytes=5000-", 416, 0, 0),
    ],
)
def test_ranges(azure, range_, status, start, end):
    content = os.urandom(5000)
    azure.store("m.mar", content)
    got, headers, body = get(sas(azure), **({"Range": range_} if range_ else {}))
    assert got == status
    if status == 416:
        assert (headers["x-ms-error-code"], headers["Content-Range"]) == ("InvalidRange", "bytes */5000")
        return
    assert body == content[start:end]
    assert headers.get("Content-Range") == (f"bytes {start}-{end - 1}/5000" if status == 206 else None)
    assert headers["x-ms-blob-type"] == "BlockBlob"


def test_response_headers_of_the_signature(azure):
    azure.store("m.mar", b"x")
    _, headers, _ = get(sas(azure, content_type="a/b", cache_control="no-store", content_disposition="attachment"))
    assert [headers[name] for name in ("Content-Type", "Cache-Control", "Content-Disposition")] == ["a/b", "no-store", "attachment"]


def test_errors_are_xml_with_a_code_in_the_header_too(azure):
    status, headers, body = get(sas(azure).replace("m.mar", "n.mar"))
    error = ET.fromstring(body.decode("utf-8-sig"))
    assert (status, headers["x-ms-error-code"], error.findtext("Code")) == (403, "AuthenticationFailed", "AuthenticationFailed")
    assert error.findtext("AuthenticationErrorDetail").startswith("Signature did not match. String to sign used was r\n")
    azure.store("m.mar", b"x")
    azure.control("PUT", "/faults", {"key": "models/*", "status": 503})
    assert get(sas(azure))[1]["x-ms-error-code"] == "ServerBusy"


def test_plain_http_is_refused_where_the_signature_wants_tls(azure):
    azure.store("m.mar", b"x")
    assert get(sas(azure, protocol="https"))[1]["x-ms-error-code"] == "AuthorizationProtocolMismatch"
    context = ssl.create_default_context(cafile=azure.ca)
    with urllib.request.urlopen(sas(azure, scheme="https", protocol="https"), timeout=10, context=context) as response:
        assert response.read() == b"x"


def test_by_its_own_name_through_the_proxy(azure):
    """As a user has it: Azure's own names and TLS, here through the CONNECT proxy."""
    one = BlobServiceClient(
        f"https://{HOST}",
        credential={"account_name": "modelfleet", "account_key": KEY},
        connection_verify=azure.ca,
        proxies={"https": f"http://127.0.0.1:{azure.ports['proxy']}"},
        retry_total=0,
    )
    one.get_blob_client("models", "a b+c").upload_blob(b"12345")
    assert one.get_blob_client("models", "a b+c").download_blob().readall() == b"12345"


def test_counters_name_the_object(azure):
    azure.store("m.mar", b"12345")
    get(sas(azure))
    assert azure.control("GET", "/counters")["objects"]["models/m.mar"]["bytes"] == 5
