# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OSS against its own SDK (signatures V1 and V4, in URLs and headers) and boto3, and against everything that is almost right."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import xml.etree.ElementTree as ET
from datetime import datetime, timedelta, timezone
from urllib.parse import urlencode

import boto3
import oss2
import pytest
import requests
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import BAD_LISTS, ODD_KEYS, OSS_KEYS, changed, listed, received, refused
from strict_origin.messages import StoreError
from strict_origin.objects import Objects
from strict_origin.oss import Oss

SECRETS = {key["access_key_id"]: key["access_key_secret"] for key in OSS_KEYS}
REGION = "cn-hangzhou"
EXPIRES = 600


def store(tmp_path, seconds=0):
    """OSS whose clock is ahead of the signing client's."""
    config = {"region": REGION, "buckets": ["models", "other"], "endpoints": ["127.0.0.1", "oss.example"], "keys": OSS_KEYS}
    return Oss(config, Objects(tmp_path), now=lambda: datetime.now(timezone.utc) + timedelta(seconds=seconds))


class Caught(Exception):
    pass


class Catcher:
    """An HTTP session of oss2 that keeps the request instead of sending it."""

    def do_request(self, req, timeout):
        headers = {name: value for name, value in req.headers.items() if value is not None}
        wire = requests.Request(req.method, req.url, params=req.params, headers=headers).prepare()
        raise Caught(received(req.method, wire.url, headers))


def bucket(version, key_id="LTAIREADER", secret=None, token=None, name="models", region=REGION, host=None, **options):
    secret = secret or SECRETS.get(key_id, "x")
    auth = oss2.StsAuth(key_id, secret, token, auth_version=version) if token else oss2.make_auth(key_id, secret, version)
    options = {"session": Catcher()} | options
    return oss2.Bucket(auth, f"https://{host or 'oss-cn-hangzhou.aliyuncs.com'}", name, region=region, **options)


def url(version, key="a.mar", method="GET", expires=EXPIRES, headers=None, params=None, signed_headers=None, slash_safe=True, **options):
    return bucket(version, **options).sign_url(method, key, expires, headers, params, slash_safe, signed_headers)


def by_header(version, method, key="a.mar", **options):
    one = bucket(version, **options)
    calls = {"GET": one.get_object, "HEAD": one.head_object, "DELETE": one.delete_object}
    with pytest.raises(Caught) as caught:
        if method == "PUT":
            one.put_object(key, b"hello", headers={"x-oss-meta-sha256": "abc", "Content-Type": "text/plain"})
        else:
            calls[method](key)
    return caught.value.args[0]


def s3(key_id="LTAIREADER", secret=None, token=None, region=REGION, endpoint=None, **options):
    options = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"} | options
    return boto3.client(
        "s3",
        region_name=region,
        endpoint_url=endpoint or "https://s3.oss-cn-hangzhou.aliyuncs.com",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret or SECRETS.get(key_id, "x"),
        aws_session_token=token,
        config=Config(signature_version="s3v4", s3={"addressing_style": "virtual"}, retries={"max_attempts": 0}, **options),
    )


def s3_url(key="a.mar", method="GET", expires=EXPIRES, name="models", **options):
    call = {"GET": "get_object", "HEAD": "head_object", "PUT": "put_object", "DELETE": "delete_object"}[method]
    return s3(**options).generate_presigned_url(call, {"Bucket": name, "Key": key}, expires)


def s3_by_header(method, key="a.mar", **options):
    """What boto3 sends, caught just before it does."""
    client = s3(**options)

    def keep(request, **_):
        raise Caught(received(request.method, request.url, dict(request.headers)))

    client.meta.events.register("before-send.s3", keep)
    with pytest.raises(Caught) as caught:
        if method == "PUT":
            client.put_object(Bucket="models", Key=key, Body=b"hello", Metadata={"sha256": "abc"})
        else:
            {"HEAD": client.head_object, "DELETE": client.delete_object}[method](Bucket="models", Key=key)
    return caught.value.args[0]


# -- what is right -----------------------------------------------------------------------------------------------------

POSITIVE = {}
for one in ODD_KEYS:
    for verb in ("GET", "HEAD"):
        for version_ in ("v1", "v4"):
            POSITIVE[f"url {version_} {verb} {one}"] = (
                one,
                lambda v=version_, m=verb, k=one: received(m, url(v, k, m)),
            )
        POSITIVE[f"url s3 {verb} {one}"] = (one, lambda m=verb, k=one: received(m, s3_url(k, m)))
    for version_ in ("v1", "v4"):
        for verb in ("GET", "HEAD", "PUT", "DELETE"):
            POSITIVE[f"header {version_} {verb} {one}"] = (
                one,
                lambda v=version_, m=verb, k=one: by_header(v, m, k, key_id="LTAIPUBLISHER"),
            )
    for verb in ("HEAD", "PUT", "DELETE"):
        POSITIVE[f"header s3 {verb} {one}"] = (one, lambda m=verb, k=one: s3_by_header(m, k, key_id="LTAIPUBLISHER"))
TOKEN = {"key_id": "STS.TEMPORARY", "token": "the+token/="}
INTERNAL = {"host": "oss-cn-hangzhou-internal.aliyuncs.com"}
for version_ in ("v1", "v4"):
    for name_, options_ in {
        "token": TOKEN,
        "internal": INTERNAL,
        "address": {"host": "127.0.0.1:8080"},
        "own name": {"host": "oss.example:8443"},
        "slashes encoded": {"slash_safe": False, "key": "b/c"},
        "response header": {"params": {"response-content-type": "text/plain; a=b"}},
        "version": {"params": {"versionId": "1"}},
        "longest": {"expires": 604800},
    }.items():
        key_ = options_.get("key", "a.mar")
        POSITIVE[f"url {version_} {name_}"] = (key_, lambda v=version_, o=options_: received("GET", url(v, **o)))
    for name_, options_ in {"token": TOKEN, "internal": INTERNAL, "address": {"host": "127.0.0.1:8080"}}.items():
        POSITIVE[f"header {version_} {name_}"] = ("a.mar", lambda v=version_, o=options_: by_header(v, "GET", **o))
EXTRA = {"x-oss-meta-a": "1", "Content-Type": "a/b"}
SIGNED = {"headers": {"Range": "bytes=0-9", "x-oss-meta-a": "1"}, "signed_headers": ["range"]}
POSITIVE |= {
    "url v1 with headers": (
        "a.mar",
        lambda: received(
            "GET", url("v1", headers={"x-oss-meta-a": "1", "Content-Type": "a/b"}), {"x-oss-meta-a": "1", "Content-Type": "a/b"}
        ),
    ),
    "url v4 additional header": ("a.mar", lambda: received("GET", url("v4", **SIGNED), SIGNED["headers"])),
    "url v1 plain range": ("a.mar", lambda: received("GET", url("v1"), {"Range": "bytes=0-9"})),
    "url v4 plain range": ("a.mar", lambda: received("GET", url("v4"), {"Range": "bytes=0-9"})),
    "url s3 token": ("a.mar", lambda: received("GET", s3_url(**TOKEN))),
    "url s3 internal": ("a.mar", lambda: received("GET", s3_url(endpoint="https://s3.oss-cn-hangzhou-internal.aliyuncs.com"))),
    "url s3 address": ("a.mar", lambda: received("GET", s3_url(endpoint="https://127.0.0.1:8080"))),
    "header s3 token": ("a.mar", lambda: s3_by_header("HEAD", **TOKEN)),
}


def test_number_of_vectors():
    assert len(POSITIVE) == 251
    assert len(NEGATIVE) == 120
    assert len({kind for _, kind in NEGATIVE}) == 48


@pytest.mark.parametrize("name", POSITIVE)
def test_good(tmp_path, name):
    key, make = POSITIVE[name]
    assert store(tmp_path).authorize(make())[0] == f"models/{key}"


# -- what is almost right ----------------------------------------------------------------------------------------------

MISMATCH = (403, "SignatureDoesNotMatch")
DENIED = (403, "AccessDenied")
UNKNOWN = (403, "InvalidAccessKeyId")
INVALID = (400, "InvalidArgument")
REGION_MOVED = "oss-cn-shenzhen.aliyuncs.com"


def with_header(request, **headers):
    for name, value in headers.items():
        del request.headers[name.replace("_", "-")]
        if value is not None:
            request.headers[name.replace("_", "-")] = value
    return request


def altered(version, **params):
    return lambda: received("GET", changed(url(version), **params))


def replaced(make, old, new, method="GET"):
    return lambda: received(method, make().replace(old, new))


# (which signature, what is wrong): (the request, what OSS answers, by how many seconds its clock is ahead)
NEGATIVE = {}
MAKERS = {"url v1": lambda **o: url("v1", **o), "url v4": lambda **o: url("v4", **o), "url s3": s3_url}
for style, make_ in MAKERS.items():
    NEGATIVE |= {
        (style, "other object"): (replaced(make_, "/a.mar", "/b.mar"), MISMATCH, 0),
        (style, "other bucket"): (replaced(make_, "models.", "other."), MISMATCH, 0),
        (style, "other method"): (lambda m=make_: received("HEAD", m()), MISMATCH, 0),
        (style, "write with a read's signature"): (lambda m=make_: received("PUT", m(key_id="LTAIPUBLISHER")), MISMATCH, 0),
        (style, "expired"): (lambda m=make_: received("GET", m()), DENIED, EXPIRES + 5),
        (style, "wrong secret"): (lambda m=make_: received("GET", m(secret="wrong")), MISMATCH, 0),
        (style, "unknown key"): (lambda m=make_: received("GET", m(key_id="LTAINOBODY")), UNKNOWN, 0),
        (style, "other user's key"): (replaced(make_, "LTAIREADER", "LTAIPUBLISHER"), MISMATCH, 0),
        (style, "added parameter"): (lambda m=make_: received("GET", m() + "&versionId=1"), MISMATCH, 0),
        (style, "no such bucket"): (lambda m=make_: received("GET", m(name="missing")), (404, "NoSuchBucket"), 0),
        (style, "two mechanisms"): (lambda m=make_: received("GET", m(), {"Authorization": "OSS a:b"}), INVALID, 0),
        (style, "no signature at all"): (lambda m=make_: received("GET", m().partition("?")[0]), DENIED, 0),
        (style, "reader writes"): (lambda m=make_: received("PUT", m(method="PUT")), DENIED, 0),
        (style, "reader deletes"): (lambda m=make_: received("DELETE", m(method="DELETE")), DENIED, 0),
    }
for style, param, wrong in (("url v1", "Signature", "A" * 27 + "="), ("url v4", "x_oss_signature", "0" * 64)):
    version_ = style[-2:]
    token_ = {"v1": "security_token", "v4": "x_oss_security_token"}[version_]
    NEGATIVE |= {
        (style, "other signature"): (altered(version_, **{param: wrong}), MISMATCH, 0),
        (style, "signature missing"): (altered(version_, **{param: None}), DENIED, 0),
        (style, "token missing"): (lambda v=version_: received("GET", url(v, key_id="STS.TEMPORARY")), UNKNOWN, 0),
        (style, "token taken away"): (
            lambda v=version_, t=token_: received("GET", changed(url(v, **TOKEN), **{t: None})),
            UNKNOWN,
            0,
        ),
        (style, "wrong token"): (
            lambda v=version_: received("GET", url(v, key_id="STS.TEMPORARY", token="wrong")),
            (403, "InvalidSecurityToken"),
            0,
        ),
        (style, "token where none is due"): (lambda v=version_: received("GET", url(v, token="the+token/=")), UNKNOWN, 0),
        (style, "token twice"): (
            lambda v=version_: received("GET", url(v, **TOKEN), {"x-oss-security-token": "the+token/="}),
            (403, "InvalidSecurityToken"),
            0,
        ),
        (style, "added header"): (lambda v=version_: received("GET", url(v), {"x-oss-meta-a": "1"}), MISMATCH, 0),
        (style, "added content type"): (lambda v=version_: received("GET", url(v), {"Content-Type": "a/b"}), MISMATCH, 0),
        (style, "region of the host"): (
            lambda v=version_: received("GET", url(v, host=REGION_MOVED, region="cn-shenzhen")),
            DENIED,
            0,
        ),
        (style, "bucket not in the host"): (
            replaced(MAKERS[style], "models.oss-cn-hangzhou.aliyuncs.com/", "oss-cn-hangzhou.aliyuncs.com/models/"),
            (403, "SecondLevelDomainForbidden"),
            0,
        ),
        (style, "at the S3-compatible host"): (replaced(MAKERS[style], "models.oss-", "models.s3.oss-"), DENIED, 0),
    }
NEGATIVE |= {
    ("url v1", "parameter twice"): (lambda: received("GET", url("v1") + "&Expires=4102444800"), INVALID, 0),
    ("url v1", "longer expiry"): (altered("v1", Expires="4102444800"), MISMATCH, 0),
    ("url v1", "malformed expiry"): (altered("v1", Expires="1h"), DENIED, 0),
    ("url v1", "expiry missing"): (altered("v1", Expires=None), DENIED, 0),
    ("url v4", "parameter twice"): (lambda: received("GET", url("v4") + "&x-oss-expires=6000"), INVALID, 0),
    ("url v4", "longer expiry"): (altered("v4", x_oss_expires="6000"), MISMATCH, 0),
    ("url v4", "malformed expiry"): (altered("v4", x_oss_expires="1h"), INVALID, 0),
    ("url v4", "expiry missing"): (altered("v4", x_oss_expires=None), DENIED, 0),
    ("url v4", "too long"): (lambda: received("GET", url("v4", expires=604801)), INVALID, 0),
    ("url v4", "too early"): (lambda: received("GET", url("v4")), DENIED, -16 * 60),
    ("url v4", "malformed date"): (altered("v4", x_oss_date="now"), DENIED, 0),
    ("url v4", "unknown version"): (altered("v4", x_oss_signature_version="OSS2"), DENIED, 0),
    ("url v4", "region of the signature"): (lambda: received("GET", url("v4", region="cn-shenzhen")), INVALID, 0),
    ("url v4", "region with oss-"): (lambda: received("GET", url("v4", region="oss-cn-hangzhou")), INVALID, 0),
    ("url v4", "scope"): (replaced(MAKERS["url v4"], "aliyun_v4_request", "aliyun_v5_request"), INVALID, 0),
    ("url v4", "date of the scope"): (replaced(MAKERS["url v4"], "LTAIREADER%2F20", "LTAIREADER%2F19"), INVALID, 0),
    ("url v4", "additional header dropped"): (lambda: received("GET", url("v4", **SIGNED), {"x-oss-meta-a": "1"}), INVALID, 0),
    ("url v4", "additional header changed"): (
        lambda: received("GET", url("v4", **SIGNED), SIGNED["headers"] | {"Range": "bytes=0-99"}),
        MISMATCH,
        0,
    ),
    ("url v4", "additional headers not named"): (
        lambda: received("GET", changed(url("v4", **SIGNED), x_oss_additional_headers=None), SIGNED["headers"]),
        MISMATCH,
        0,
    ),
    ("url s3", "other signature"): (lambda: received("GET", changed(s3_url(), X_Amz_Signature="0" * 64)), MISMATCH, 0),
    ("url s3", "longer expiry"): (lambda: received("GET", changed(s3_url(), X_Amz_Expires="6000")), MISMATCH, 0),
    ("url s3", "too early"): (lambda: received("GET", s3_url()), DENIED, -16 * 60),
    ("url s3", "token missing"): (lambda: received("GET", s3_url(key_id="STS.TEMPORARY")), UNKNOWN, 0),
    ("url s3", "wrong token"): (
        lambda: received("GET", s3_url(key_id="STS.TEMPORARY", token="wrong")),
        (403, "InvalidSecurityToken"),
        0,
    ),
    ("url s3", "at the host of OSS's own API"): (replaced(s3_url, "models.s3.oss-", "models.oss-"), DENIED, 0),
    ("url s3", "bucket not in the host"): (
        replaced(s3_url, "models.s3.oss-cn-hangzhou.aliyuncs.com/", "s3.oss-cn-hangzhou.aliyuncs.com/models/"),
        (403, "SecondLevelDomainForbidden"),
        0,
    ),
    ("header s3", "clock ahead"): (lambda: s3_by_header("HEAD"), (403, "RequestTimeTooSkewed"), -16 * 60),
    ("header s3", "reader writes"): (lambda: s3_by_header("PUT"), DENIED, 0),
    ("header s3", "added header"): (lambda: with_header(s3_by_header("HEAD"), x_amz_meta_a="1"), DENIED, 0),
    ("header s3", "chunks that end in a checksum"): (
        lambda: s3_by_header("PUT", key_id="LTAIPUBLISHER", request_checksum_calculation="when_supported"),
        INVALID,
        0,
    ),
}
for version_ in ("v1", "v4"):
    style = f"header {version_}"
    SKEWED = (403, "RequestTimeTooSkewed")
    NEGATIVE |= {
        (style, "clock ahead"): (lambda v=version_: by_header(v, "GET"), SKEWED, -16 * 60),
        (style, "clock behind"): (lambda v=version_: by_header(v, "GET"), SKEWED, 16 * 60),
        (style, "wrong secret"): (lambda v=version_: by_header(v, "GET", secret="wrong"), MISMATCH, 0),
        (style, "unknown key"): (lambda v=version_: by_header(v, "GET", key_id="LTAINOBODY"), UNKNOWN, 0),
        (style, "reader writes"): (lambda v=version_: by_header(v, "PUT"), DENIED, 0),
        (style, "reader deletes"): (lambda v=version_: by_header(v, "DELETE"), DENIED, 0),
        (style, "added header"): (lambda v=version_: with_header(by_header(v, "GET"), x_oss_meta_a="1"), MISMATCH, 0),
        (style, "wrong token"): (
            lambda v=version_: by_header(v, "GET", key_id="STS.TEMPORARY", token="wrong"),
            (403, "InvalidSecurityToken"),
            0,
        ),
        (style, "token taken away"): (lambda v=version_: with_header(by_header(v, "GET", **TOKEN), x_oss_security_token=None), UNKNOWN, 0),
        (style, "malformed"): (lambda v=version_: with_header(by_header(v, "GET"), Authorization="OSS4 nonsense"), INVALID, 0),
        (style, "no date"): (lambda v=version_: with_header(by_header(v, "GET"), Date=None, x_oss_date=None), DENIED, 0),
    }
NEGATIVE[("header v4", "region of the signature")] = (lambda: by_header("v4", "GET", region="cn-shenzhen"), INVALID, 0)
NEGATIVE[("header v4", "payload")] = (lambda: with_header(by_header("v4", "GET"), x_oss_content_sha256="0" * 64), INVALID, 0)


@pytest.mark.parametrize("case", NEGATIVE, ids=": ".join)
def test_refused(tmp_path, case):
    make, expected, seconds = NEGATIVE[case]
    assert refused(store(tmp_path, seconds), make()) == expected


@pytest.mark.parametrize("version", ["v1", "v4"])
@pytest.mark.parametrize("seconds, good", [(EXPIRES - 5, True), (EXPIRES + 5, False), (-14 * 60, True)])
def test_life_of_a_url(tmp_path, version, seconds, good):
    request = received("GET", url(version))
    if good:
        assert store(tmp_path, seconds).authorize(request)
    else:
        assert refused(store(tmp_path, seconds), request) == DENIED


# -- how it says so ----------------------------------------------------------------------------------------------------


def said(one, request):
    with pytest.raises(StoreError) as caught:
        one.authorize(request)
    response = one.render(caught.value, request)
    return response, {child.tag: child.text for child in ET.fromstring(response.body)}


@pytest.mark.parametrize("version, number", [("v1", "0002-00000040"), ("v4", "0002-00000201")])
def test_mismatch_is_explained(tmp_path, version, number):
    response, fields = said(store(tmp_path), received("GET", url(version).replace("a.mar", "b.mar")))
    assert response.status == 403
    assert response.headers["x-oss-ec"] == fields["EC"] == number
    assert fields["RequestId"] == response.headers["x-oss-request-id"]
    assert fields["HostId"] == "models.oss-cn-hangzhou.aliyuncs.com"
    assert fields["OSSAccessKeyId"] == "LTAIREADER"
    assert fields["StringToSign"].startswith("GET" if version == "v1" else "OSS4-HMAC-SHA256")
    assert fields["SignatureProvided"]
    if version == "v1":
        assert bytes.fromhex(fields["StringToSignBytes"]).decode() == fields["StringToSign"]


@pytest.mark.parametrize(
    "make, number", [(lambda: url("v1"), "0002-00000069"), (lambda: url("v4"), "0002-00000236"), (s3_url, "0002-00000418")]
)
def test_expiry_is_explained(tmp_path, make, number):
    _, fields = said(store(tmp_path, EXPIRES + 5), received("GET", make()))
    assert fields["Message"] == "Request has expired."
    assert (fields["EC"], fields["RecommendDoc"]) == (number, f"https://api.aliyun.com/troubleshoot?q={number}")
    assert fields["Expires"] < fields["ServerTime"]


def v4_by_hand(additional, where):
    """A request for a range with these additional headers, signed as the documentation says, whatever the list."""
    date = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{date[:8]}/{REGION}/oss/aliyun_v4_request"
    params = {"x-oss-additional-headers": additional, "x-oss-credential": f"LTAIREADER/{scope}", "x-oss-date": date, "x-oss-expires": "60"}
    query = urlencode(params | {"x-oss-signature-version": "OSS4-HMAC-SHA256"}) if where == "query" else ""
    sent = {"range": "bytes=0-9"} | ({} if where == "query" else {"x-oss-content-sha256": "UNSIGNED-PAYLOAD", "x-oss-date": date})
    names = sorted({name for name in additional.lower().split(";") if name})
    own = {"host": "models.oss-cn-hangzhou.aliyuncs.com"} | sent
    lines = "".join(f"{name}:{value}\n" for name, value in sorted(own.items()) if name in names or name.startswith("x-oss-"))
    canonical = "\n".join(["GET", "/models/a.mar", query, lines, ";".join(names), "UNSIGNED-PAYLOAD"])
    key = b"aliyun_v4reader-secret"
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    to_sign = f"OSS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    address = f"https://{own['host']}/a.mar"
    if where == "query":
        return received("GET", f"{address}?{query}&x-oss-signature={signature}", sent)
    fields = f"Credential=LTAIREADER/{scope},AdditionalHeaders={additional},Signature={signature}"
    return received("GET", address, sent | {"Authorization": f"OSS4-HMAC-SHA256 {fields}"})


@pytest.mark.parametrize("where", ["query", "header"])
@pytest.mark.parametrize(
    "additional, number",
    [("host;range", ""), ("host;range;x-absent", "0002-00000211")]
    + [(names, "0002-00000210") for names in ("range;host", "host;host", "host;;range", "host;", "host;Range", "")],
)
def test_additional_headers_are_sorted_and_sent_and_named_once(tmp_path, additional, number, where):
    request = v4_by_hand(additional, where)
    if not number:
        assert store(tmp_path).authorize(request)
        return
    response, fields = said(store(tmp_path), request)
    assert (response.status, fields["Code"], fields["EC"]) == (*INVALID, number)


@pytest.mark.parametrize("names", ["host;range", *BAD_LISTS])
def test_signed_headers_of_the_s3_api_are_sorted_and_sent_and_named_once(tmp_path, names):
    address = "https://models.s3.oss-cn-hangzhou.aliyuncs.com/a.mar"
    request = listed(address, names, "LTAIREADER", "reader-secret", REGION, tidy=True)
    if names not in BAD_LISTS:
        assert store(tmp_path).authorize(request)
        return
    response, fields = said(store(tmp_path), request)
    absent = names in ("host;range;x-absent", "host;;range")
    expected = (400, "InvalidArgument", "0002-00000428") if absent else (403, "SignatureDoesNotMatch", "0002-00000429")
    assert (response.status, fields["Code"], fields["EC"]) == expected


def test_head_is_told_in_a_header(tmp_path):
    response, fields = said(store(tmp_path), received("HEAD", url("v4")))
    assert base64.b64decode(response.headers["x-oss-err"]) == response.body
    assert fields["Code"] == "SignatureDoesNotMatch"


def test_wrong_region_names_the_right_one(tmp_path):
    _, fields = said(store(tmp_path), received("GET", url("v4", host=REGION_MOVED, region="cn-shenzhen")))
    assert (fields["Endpoint"], fields["EC"]) == ("oss-cn-hangzhou.aliyuncs.com", "0003-00001403")


# -- the SDKs and the running origin, by OSS's own names and with TLS ---------------------------------------------------


@pytest.fixture
def proxy(origin, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", origin.ca)
    return {"https": f"http://127.0.0.1:{origin.ports['proxy']}"}


def live(version, proxy, key_id="LTAIPUBLISHER", **options):
    return bucket(version, key_id, session=oss2.Session(), proxies=proxy, **options)


def live_s3(origin, key_id="LTAIPUBLISHER", **options):
    client = s3(key_id, proxies={"https": f"http://127.0.0.1:{origin.ports['proxy']}"}, **options)
    client._endpoint.http_session._verify = origin.ca
    return client


def fetch(address, proxy, ca, **headers):
    return requests.get(address, proxies=proxy, verify=ca, headers=headers, timeout=10)


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_an_upload_id_is_good_for_its_object_only(origin, proxy, version):
    one = live(version, proxy)
    upload = one.init_multipart_upload("a.mar").upload_id
    part = oss2.models.PartInfo(1, one.upload_part("a.mar", upload, 1, b"hello").etag)
    for call in (
        lambda: one.upload_part("b.mar", upload, 1, b"jello"),
        lambda: one.list_parts("b.mar", upload),
        lambda: one.complete_multipart_upload("b.mar", upload, [part]),
        lambda: one.abort_multipart_upload("b.mar", upload),
    ):
        with pytest.raises(oss2.exceptions.NoSuchUpload) as caught:
            call()
        assert (caught.value.status, caught.value.ec, caught.value.details["UploadId"]) == (404, "0017-00000244", upload)
    one.complete_multipart_upload("a.mar", upload, [part])
    assert origin.objects.get("models", "a.mar").path.read_bytes() == b"hello"


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_oss2_publishes_reads_and_deletes(origin, proxy, version, tmp_path):
    one = live(version, proxy)
    key, body = "a b/\u00e4+%2F.mar", os.urandom(300_000)
    one.put_object(key, body, headers={"x-oss-meta-sha256": "abc"})
    head = one.head_object(key)
    assert (head.content_length, head.headers["x-oss-meta-sha256"]) == (300_000, "abc")
    assert live(version, proxy, "LTAIREADER").get_object(key, byte_range=(10, 19)).read() == body[10:20]
    (tmp_path / "m").write_bytes(body)
    record = oss2.ResumableStore(root=str(tmp_path))
    oss2.resumable_upload(one, "big.mar", str(tmp_path / "m"), record, multipart_threshold=100_000, part_size=100 * 1024, num_threads=1)
    assert origin.objects.get("models", "big.mar").etag.endswith("-3")
    assert one.get_object("big.mar").read() == body
    one.delete_object(key)
    with pytest.raises(oss2.exceptions.NoSuchKey) as caught:
        one.get_object(key)
    assert caught.value.ec == "0026-00000001"
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        one.head_object(key)
    assert caught.value.code == "NoSuchKey", "a HEAD has its error in a header"


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_oss2_is_refused(origin, proxy, version):
    origin.store("a.mar", b"hello")
    for one, code in (
        (live(version, proxy, "LTAIREADER"), "AccessDenied"),
        (live(version, proxy, secret="wrong"), "SignatureDoesNotMatch"),
        (live(version, proxy, "LTAINOBODY"), "InvalidAccessKeyId"),
        (live(version, proxy, name="missing"), "NoSuchBucket"),
    ):
        with pytest.raises(oss2.exceptions.ServerError) as caught:
            one.put_object("a.mar", b"other")
        assert caught.value.code == code
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        live(version, proxy).put_object("a.mar", b"other", headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="})
    assert caught.value.code in ("BadDigest", "InvalidDigest")
    assert live(version, proxy).get_object("a.mar").read() == b"hello"


def test_boto3_publishes_and_every_api_sees_it(origin, proxy, tmp_path):
    body = os.urandom(6 << 20)
    (tmp_path / "m.mar").write_bytes(body)
    client = live_s3(origin)
    parts = TransferConfig(multipart_threshold=1 << 20, multipart_chunksize=5 << 20)
    client.upload_file(str(tmp_path / "m.mar"), "models", "m.mar", Config=parts, ExtraArgs={"Metadata": {"sha256": "abc"}})
    client.put_object(Bucket="models", Key="small \u00e4", Body=b"hello", Metadata={"sha256": "def"})
    assert client.head_object(Bucket="models", Key="m.mar")["Metadata"] == {"sha256": "abc"}
    assert live("v4", proxy, "LTAIREADER").head_object("small \u00e4").headers["x-oss-meta-sha256"] == "def"
    answer = fetch(url("v4", "m.mar"), proxy, origin.ca)
    assert answer.content == body
    assert answer.headers["x-oss-meta-sha256"] == "abc"
    assert "x-amz-meta-sha256" not in answer.headers
    answer = fetch(s3_url("m.mar"), proxy, origin.ca, Range="bytes=1-2")
    assert (answer.status_code, answer.content, answer.headers["x-amz-meta-sha256"]) == (206, body[1:3], "abc")
    live("v1", proxy).put_object("n.mar", b"hello", headers={"x-oss-meta-sha256": "ghi"})
    assert client.head_object(Bucket="models", Key="n.mar")["Metadata"] == {"sha256": "ghi"}
    client.delete_object(Bucket="models", Key="m.mar")
    assert fetch(url("v1", "m.mar"), proxy, origin.ca).status_code == 404


@pytest.mark.parametrize(
    "options, key, code",
    [
        ({"key_id": "LTAIREADER"}, "a", "AccessDenied"),
        ({"secret": "wrong"}, "a", "SignatureDoesNotMatch"),
        ({"key_id": "LTAINOBODY"}, "a", "InvalidAccessKeyId"),
        ({"request_checksum_calculation": "when_supported"}, "a", "InvalidArgument"),
    ],
)
def test_boto3_is_refused(origin, options, key, code):
    with pytest.raises(ClientError) as caught:
        live_s3(origin, **options).put_object(Bucket="models", Key=key, Body=b"x")
    assert caught.value.response["Error"]["Code"] == code
    assert origin.objects.get("models", key) is None
