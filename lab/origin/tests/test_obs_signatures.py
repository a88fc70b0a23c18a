# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OBS against its own SDK (signatures obs and v4, in URLs and headers) and boto3, and against everything that is almost right."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from datetime import datetime, timedelta, timezone

import boto3
import pytest
import requests
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import BAD_LISTS, OBS_KEYS, ODD_KEYS, changed, listed, received, refused
from obs import CompleteMultipartUploadRequest, CompletePart, ObsClient, PutObjectHeader
from strict_origin.messages import StoreError
from strict_origin.objects import Objects
from strict_origin.obs import Obs

SECRETS = {key["access_key_id"]: key["secret_access_key"] for key in OBS_KEYS}
REGION = "cn-north-4"
EXPIRES = 600


def store(tmp_path, seconds=0):
    """OBS whose clock is ahead of the signing client's."""
    config = {"region": REGION, "buckets": ["models", "other"], "keys": OBS_KEYS}
    return Obs(config, Objects(tmp_path), now=lambda: datetime.now(timezone.utc) + timedelta(seconds=seconds))


class Caught(BaseException):
    """The request that an SDK was about to send. Not an Exception: the SDKs try again after those."""


def sdk(signature, key_id="HUAWEIREADER", secret=None, token=None, region=REGION, host=REGION, **options):
    return ObsClient(
        access_key_id=key_id,
        secret_access_key=secret or SECRETS.get(key_id, "x"),
        security_token=token,
        server=f"https://obs.{host}.myhuaweicloud.com",
        signature=signature,
        region=region,
        **({"is_signature_negotiation": False} | options),
    )


def url(signature, key="a.mar", method="GET", expires=EXPIRES, name="models", params=None, headers=None, **options):
    made = sdk(signature, **options).createSignedUrl(method, name, key, expires=expires, queryParams=params, headers=headers)
    return made.signedUrl


def by_header(signature, method, key="a.mar", **options):
    client = sdk(signature, **options)

    def keep(server, method, path, headers, *_):
        raise Caught(received(method, f"https://{server}{path}", {name: str(value) for name, value in headers.items()}))

    client._send_request = keep
    with pytest.raises(Caught) as caught:
        if method == "PUT":
            # The SDK's v4 does not fold spaces as the algorithm wants it.
            metadata = {"sha256": "a  b" if signature == "obs" else "a b"}
            client.putContent("models", key, "hello", metadata=metadata, headers=PutObjectHeader(contentType="text/plain"))
        else:
            {"GET": client.getObject, "HEAD": client.headObject, "DELETE": client.deleteObject}[method]("models", key)
    return caught.value.args[0]


def s3(key_id="HUAWEIREADER", secret=None, token=None, region=REGION, style="virtual", **options):
    options = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"} | options
    return boto3.client(
        "s3",
        region_name=region,
        endpoint_url="https://obs.cn-north-4.myhuaweicloud.com",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret or SECRETS.get(key_id, "x"),
        aws_session_token=token,
        config=Config(signature_version="s3v4", s3={"addressing_style": style}, retries={"max_attempts": 0}, **options),
    )


def s3_url(key="a.mar", method="GET", expires=EXPIRES, name="models", **options):
    call = {"GET": "get_object", "HEAD": "head_object", "PUT": "put_object", "DELETE": "delete_object"}[method]
    return s3(**options).generate_presigned_url(call, {"Bucket": name, "Key": key}, expires)


def s3_by_header(method, key="a.mar", **options):
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
        for signature_ in ("obs", "v4"):
            POSITIVE[f"url {signature_} {verb} {one}"] = (one, lambda s=signature_, m=verb, k=one: received(m, url(s, k, m)))
        POSITIVE[f"url boto3 {verb} {one}"] = (one, lambda m=verb, k=one: received(m, s3_url(k, m)))
    for signature_ in ("obs", "v4"):
        for verb in ("GET", "HEAD", "PUT", "DELETE"):
            POSITIVE[f"header {signature_} {verb} {one}"] = (
                one,
                lambda s=signature_, m=verb, k=one: by_header(s, m, k, key_id="HUAWEIPUBLISHER"),
            )
    for verb in ("HEAD", "PUT", "DELETE"):
        POSITIVE[f"header boto3 {verb} {one}"] = (one, lambda m=verb, k=one: s3_by_header(m, k, key_id="HUAWEIPUBLISHER"))
TOKEN = {"key_id": "HUAWEITEMPORARY", "token": "the+token/="}
for signature_ in ("obs", "v4"):
    for name_, options_ in {
        "token": TOKEN,
        "response header": {"params": {"response-content-type": "text/plain"}},
        "version": {"params": {"versionId": "1"}},
        "longest": {"expires": 604800},
    }.items():
        POSITIVE[f"url {signature_} {name_}"] = ("a.mar", lambda s=signature_, o=options_: received("GET", url(s, **o)))
    POSITIVE[f"header {signature_} token"] = ("a.mar", lambda s=signature_: by_header(s, "GET", **TOKEN))
EXTRA = {"x-obs-meta-a": "1", "Content-Type": "a/b"}
POSITIVE |= {
    "url obs with headers": ("a.mar", lambda: received("GET", url("obs", headers=EXTRA), EXTRA)),
    "url obs by path": (
        "a.mar",
        lambda: received("GET", url("obs").replace("models.obs.cn-north-4.myhuaweicloud.com/", "obs.cn-north-4.myhuaweicloud.com/models/")),
    ),
    "url obs plain range": ("a.mar", lambda: received("GET", url("obs"), {"Range": "bytes=0-9"})),
    "url obs for a year": ("a.mar", lambda: received("GET", url("obs", expires=365 * 86400))),
    "url boto3 token": ("a.mar", lambda: received("GET", s3_url(**TOKEN))),
    "url boto3 by path": ("a.mar", lambda: received("GET", s3_url(style="path"))),
    "header boto3 token": ("a.mar", lambda: s3_by_header("HEAD", **TOKEN)),
    "header boto3 by path": ("a.mar", lambda: s3_by_header("HEAD", style="path")),
}


def test_number_of_vectors():
    assert len(POSITIVE) == 239
    assert len(NEGATIVE) == 117
    assert len({kind for _, kind in NEGATIVE}) == 39


@pytest.mark.parametrize("name", POSITIVE)
def test_good(tmp_path, name):
    key, make = POSITIVE[name]
    assert store(tmp_path).authorize(make())[0] == f"models/{key}"


# -- what is almost right ----------------------------------------------------------------------------------------------

MISMATCH = (403, "SignatureDoesNotMatch")
DENIED = (403, "AccessDenied")
UNKNOWN = (403, "InvalidAccessKeyId")
INVALID = (400, "InvalidArgument")
SKEWED = (403, "RequestTimeTooSkewed")
HOST = "obs.cn-north-4.myhuaweicloud.com"
OTHER_REGION = {"host": "cn-south-1", "region": "cn-south-1"}


def with_header(request, **headers):
    for name, value in headers.items():
        del request.headers[name.replace("_", "-")]
        if value is not None:
            request.headers[name.replace("_", "-")] = value
    return request


# (which signature, what is wrong): (the request, what OBS answers, by how many seconds its clock is ahead)
NEGATIVE = {}
MAKERS = {"url obs": lambda **o: url("obs", **o), "url v4": lambda **o: url("v4", **o), "url boto3": s3_url}
for style, make_ in MAKERS.items():
    token_ = {"url obs": "x_obs_security_token", "url v4": "x_amz_security_token", "url boto3": "X_Amz_Security_Token"}[style]
    NEGATIVE |= {
        (style, "other object"): (lambda m=make_: received("GET", m().replace("/a.mar", "/b.mar")), MISMATCH, 0),
        (style, "other bucket"): (lambda m=make_: received("GET", m().replace("models.", "other.")), MISMATCH, 0),
        (style, "other method"): (lambda m=make_: received("HEAD", m()), MISMATCH, 0),
        (style, "write with a read's signature"): (lambda m=make_: received("PUT", m(key_id="HUAWEIPUBLISHER")), MISMATCH, 0),
        (style, "expired"): (lambda m=make_: received("GET", m()), SKEWED, EXPIRES + 5),
        (style, "wrong secret"): (lambda m=make_: received("GET", m(secret="wrong")), MISMATCH, 0),
        (style, "unknown key"): (lambda m=make_: received("GET", m(key_id="HUAWEINOBODY")), UNKNOWN, 0),
        (style, "other user's key"): (lambda m=make_: received("GET", m().replace("HUAWEIREADER", "HUAWEIPUBLISHER")), MISMATCH, 0),
        (style, "added parameter"): (lambda m=make_: received("GET", m() + "&versionId=1"), MISMATCH, 0),
        (style, "no such bucket"): (lambda m=make_: received("GET", m(name="missing")), (404, "NoSuchBucket"), 0),
        (style, "two mechanisms"): (lambda m=make_: received("GET", m(), {"Authorization": "OBS a:b"}), INVALID, 0),
        (style, "no signature at all"): (lambda m=make_: received("GET", m().partition("?")[0]), DENIED, 0),
        (style, "reader writes"): (lambda m=make_: received("PUT", m(method="PUT")), DENIED, 0),
        (style, "reader deletes"): (lambda m=make_: received("DELETE", m(method="DELETE")), DENIED, 0),
        (style, "token missing"): (lambda m=make_: received("GET", m(key_id="HUAWEITEMPORARY")), UNKNOWN, 0),
        (style, "token taken away"): (lambda m=make_, t=token_: received("GET", changed(m(**TOKEN), **{t: None})), UNKNOWN, 0),
        (style, "wrong token"): (lambda m=make_: received("GET", m(key_id="HUAWEITEMPORARY", token="wrong")), UNKNOWN, 0),
        (style, "token where none is due"): (lambda m=make_: received("GET", m(token="the+token/=")), UNKNOWN, 0),
    }
for style, make_ in (("url v4", MAKERS["url v4"]), ("url boto3", s3_url)):
    malformed = (400, "AuthorizationQueryParametersError")
    NEGATIVE |= {
        (style, "other signature"): (lambda m=make_: received("GET", changed(m(), X_Amz_Signature="0" * 64)), MISMATCH, 0),
        (style, "signature missing"): (lambda m=make_: received("GET", changed(m(), X_Amz_Signature=None)), malformed, 0),
        (style, "longer expiry"): (lambda m=make_: received("GET", changed(m(), X_Amz_Expires="6000")), MISMATCH, 0),
        (style, "malformed expiry"): (lambda m=make_: received("GET", changed(m(), X_Amz_Expires="1h")), malformed, 0),
        (style, "too long"): (lambda m=make_: received("GET", m(expires=604801)), malformed, 0),
        (style, "too early"): (lambda m=make_: received("GET", m()), SKEWED, -16 * 60),
        (style, "parameter twice"): (lambda m=make_: received("GET", m() + "&X-Amz-Expires=600"), malformed, 0),
        (style, "region of the signature"): (lambda m=make_: received("GET", m(region="cn-south-1")), malformed, 0),
        (style, "added header"): (lambda m=make_: received("GET", m(), {"x-amz-meta-a": "1"}), DENIED, 0),
        (style, "path for a host"): (
            lambda m=make_: received(
                "GET", m().replace("models.obs.cn-north-4.myhuaweicloud.com", "obs.cn-north-4.myhuaweicloud.com/models")
            ),
            MISMATCH,
            0,
        ),
    }
NEGATIVE |= {
    ("url obs", "other signature"): (lambda: received("GET", changed(url("obs"), Signature="A" * 27 + "=")), MISMATCH, 0),
    ("url obs", "signature missing"): (lambda: received("GET", changed(url("obs"), Signature=None)), DENIED, 0),
    ("url obs", "longer expiry"): (lambda: received("GET", changed(url("obs"), Expires="4102444800")), MISMATCH, 0),
    ("url obs", "malformed expiry"): (lambda: received("GET", changed(url("obs"), Expires="1h")), DENIED, 0),
    ("url obs", "expiry missing"): (lambda: received("GET", changed(url("obs"), Expires=None)), DENIED, 0),
    ("url obs", "parameter twice"): (lambda: received("GET", url("obs") + "&Expires=4102444800"), INVALID, 0),
    ("url obs", "token twice"): (lambda: received("GET", url("obs", **TOKEN), {"x-obs-security-token": "the+token/="}), UNKNOWN, 0),
    ("url obs", "added header"): (lambda: received("GET", url("obs"), {"x-obs-meta-a": "1"}), MISMATCH, 0),
    ("url obs", "added content type"): (lambda: received("GET", url("obs"), {"Content-Type": "a/b"}), MISMATCH, 0),
    ("url obs", "region of the host"): (lambda: received("GET", url("obs", **OTHER_REGION)), (301, "PermanentRedirect"), 0),
    ("url v4", "region of the host"): (lambda: received("GET", url("v4", **OTHER_REGION)), (301, "PermanentRedirect"), 0),
    ("header boto3", "clock ahead"): (lambda: s3_by_header("HEAD"), SKEWED, -16 * 60),
    ("header boto3", "clock behind"): (lambda: s3_by_header("HEAD"), SKEWED, 16 * 60),
    ("header boto3", "reader writes"): (lambda: s3_by_header("PUT"), DENIED, 0),
    ("header boto3", "added header"): (lambda: with_header(s3_by_header("HEAD"), x_amz_meta_a="1"), DENIED, 0),
    ("header boto3", "chunks that end in a checksum"): (
        lambda: s3_by_header("PUT", key_id="HUAWEIPUBLISHER", request_checksum_calculation="when_supported"),
        (400, "XAmzContentSHA256Mismatch"),
        0,
    ),
}
for signature_ in ("obs", "v4"):
    style = f"header {signature_}"
    prefix = "x_obs_" if signature_ == "obs" else "x_amz_"
    NEGATIVE |= {
        (style, "clock ahead"): (lambda s=signature_: by_header(s, "GET"), SKEWED, -16 * 60),
        (style, "clock behind"): (lambda s=signature_: by_header(s, "GET"), SKEWED, 16 * 60),
        (style, "other object"): (lambda s=signature_: moved(by_header(s, "GET")), MISMATCH, 0),
        (style, "wrong secret"): (lambda s=signature_: by_header(s, "GET", secret="wrong"), MISMATCH, 0),
        (style, "unknown key"): (lambda s=signature_: by_header(s, "GET", key_id="HUAWEINOBODY"), UNKNOWN, 0),
        (style, "reader writes"): (lambda s=signature_: by_header(s, "PUT"), DENIED, 0),
        (style, "reader deletes"): (lambda s=signature_: by_header(s, "DELETE"), DENIED, 0),
        (style, "wrong token"): (lambda s=signature_: by_header(s, "GET", key_id="HUAWEITEMPORARY", token="wrong"), UNKNOWN, 0),
        (style, "token taken away"): (
            lambda s=signature_, p=prefix: with_header(by_header(s, "GET", **TOKEN), **{p + "security_token": None}),
            UNKNOWN,
            0,
        ),
        (style, "no date"): (lambda s=signature_: with_header(by_header(s, "GET"), Date=None), DENIED, 0),
        (style, "other date"): (
            lambda s=signature_: with_header(by_header(s, "GET"), Date=(datetime.now(timezone.utc) + timedelta(seconds=9)).strftime(HTTP)),
            MISMATCH,
            0,
        ),
    }
NEGATIVE |= {
    ("header obs", "added header"): (lambda: with_header(by_header("obs", "GET"), x_obs_meta_a="1"), MISMATCH, 0),
    ("header v4", "added header"): (lambda: with_header(by_header("v4", "GET"), x_amz_meta_a="1"), DENIED, 0),
    ("header obs", "malformed"): (lambda: with_header(by_header("obs", "GET"), Authorization="OBS nonsense"), INVALID, 0),
    ("header obs", "of another store"): (lambda: with_header(by_header("obs", "GET"), Authorization="OSS HUAWEIREADER:x"), INVALID, 0),
    ("header v4", "region of the signature"): (
        lambda: by_header("v4", "GET", region="cn-south-1"),
        (400, "AuthorizationHeaderMalformed"),
        0,
    ),
}
HTTP = "%a, %d %b %Y %H:%M:%S GMT"


def moved(request):
    request.path = "/b.mar"
    return request


@pytest.mark.parametrize("case", NEGATIVE, ids=": ".join)
def test_refused(tmp_path, case):
    make, expected, seconds = NEGATIVE[case]
    assert refused(store(tmp_path, seconds), make()) == expected


@pytest.mark.parametrize("signature", ["obs", "v4"])
@pytest.mark.parametrize("seconds, good", [(EXPIRES - 5, True), (EXPIRES + 5, False), (-14 * 60, True)])
def test_life_of_a_url(tmp_path, signature, seconds, good):
    request = received("GET", url(signature))
    if good:
        assert store(tmp_path, seconds).authorize(request)
    else:
        assert refused(store(tmp_path, seconds), request) == SKEWED


# -- how it says so ----------------------------------------------------------------------------------------------------


def said(one, request):
    with pytest.raises(StoreError) as caught:
        one.authorize(request)
    response = one.render(caught.value, request)
    return response, {child.tag: child.text for child in ET.fromstring(response.body)}


def test_mismatch_is_explained(tmp_path):
    response, fields = said(store(tmp_path), received("GET", url("obs").replace("a.mar", "b.mar")))
    assert (response.status, response.headers["Content-Type"]) == (403, "application/xml")
    assert list(fields)[:4] == ["Code", "Message", "RequestId", "HostId"]
    assert fields["RequestId"] == response.headers["x-obs-request-id"]
    assert fields["AccessKeyId"] == "HUAWEIREADER"
    assert fields["StringToSign"].startswith("GET\n\n\n")
    assert fields["StringToSign"].endswith("\n/models/b.mar")


@pytest.mark.parametrize(
    "make, seconds, message",
    [
        (lambda: received("GET", url("obs")), EXPIRES + 5, "Request has expired."),
        (lambda: by_header("obs", "GET"), 16 * 60, "Request is no longer valid."),
        (lambda: by_header("obs", "GET"), -16 * 60, "Request is not yet valid."),
        (lambda: by_header("obs", "GET", key_id="HUAWEITEMPORARY", token="wrong"), 0, "The security token is invalid."),
        (
            lambda: by_header("obs", "GET", key_id="HUAWEINOBODY"),
            0,
            "The OBS Access Key Id you provided does not exist in our records.",
        ),
    ],
)
def test_words(tmp_path, make, seconds, message):
    assert said(store(tmp_path, seconds), make())[1]["Message"] == message


# -- the SDKs and the running origin, by OBS's own names and with TLS ---------------------------------------------------


def live(origin, signature, key_id="HUAWEIPUBLISHER", **options):
    options = {"max_retry_count": 0, "ssl_verify": origin.ca} | options
    return sdk(signature, key_id, proxy_host="127.0.0.1", proxy_port=origin.ports["proxy"], **options)


def live_s3(origin, key_id="HUAWEIPUBLISHER", **options):
    client = s3(key_id, proxies={"https": f"http://127.0.0.1:{origin.ports['proxy']}"}, **options)
    client._endpoint.http_session._verify = origin.ca
    return client


def fetch(origin, address, **headers):
    proxies = {"https": f"http://127.0.0.1:{origin.ports['proxy']}"}
    return requests.get(address, proxies=proxies, verify=origin.ca, headers=headers, timeout=10)


@pytest.mark.parametrize("signature, negotiate", [("obs", False), ("obs", True), ("v4", False)])
def test_sdk_publishes_reads_and_deletes(origin, signature, negotiate, tmp_path):
    one = live(origin, signature, is_signature_negotiation=negotiate)
    key, body = "a b/\u00e4+%2F.mar", os.urandom(300_000)
    (tmp_path / "m").write_bytes(body)
    assert one.putFile("models", key, str(tmp_path / "m"), metadata={"sha256": "abc"}).status == 200
    head = dict(one.getObjectMetadata("models", key).header)
    assert (head["content-length"], head["sha256"]) == ("300000", "abc")
    got = live(origin, signature, "HUAWEIREADER").getObject("models", key, loadStreamInMemory=True)
    assert bytes(got.body.buffer) == body
    started = one.initiateMultipartUpload("models", "big.mar").body.uploadId
    parts = []
    for number, part in enumerate((body[:200_000], body[200_000:]), 1):
        (tmp_path / "part").write_bytes(part)
        sent = one.uploadPart("models", "big.mar", number, started, str(tmp_path / "part"), isFile=True)
        parts.append(CompletePart(number, sent.body.etag))
    assert one.completeMultipartUpload("models", "big.mar", started, CompleteMultipartUploadRequest(parts)).status == 200
    assert origin.objects.get("models", "big.mar").path.read_bytes() == body
    assert one.deleteObject("models", key).status == 204
    missing = one.getObject("models", key, loadStreamInMemory=True)
    assert (missing.status, missing.errorCode) == (404, "NoSuchKey")


@pytest.mark.parametrize("names", ["host;range", *BAD_LISTS])
def test_signed_headers_are_sorted_and_sent_and_named_once(tmp_path, names):
    address = "https://models.obs.cn-north-4.myhuaweicloud.com/a.mar"
    request = listed(address, names, "HUAWEIREADER", "reader-secret", REGION, tidy=True)
    if names in BAD_LISTS:
        assert refused(store(tmp_path), request) == (403, "SignatureDoesNotMatch")
    else:
        assert store(tmp_path).authorize(request)


@pytest.mark.parametrize("signature", ["obs", "v4"])
def test_an_upload_id_is_good_for_its_object_only(origin, signature):
    one = live(origin, signature)
    upload = one.initiateMultipartUpload("models", "a.mar").body.uploadId
    parts = CompleteMultipartUploadRequest([CompletePart(1, one.uploadPart("models", "a.mar", 1, upload, "hello").body.etag)])
    for answer in (
        one.uploadPart("models", "b.mar", 1, upload, "jello"),
        one.listParts("models", "b.mar", upload),
        one.completeMultipartUpload("models", "b.mar", upload, parts),
        one.abortMultipartUpload("models", "b.mar", upload),
    ):
        assert (answer.status, answer.errorCode) == (404, "NoSuchUpload")
    assert one.completeMultipartUpload("models", "a.mar", upload, parts).status == 200
    assert origin.objects.get("models", "a.mar").path.read_bytes() == b"hello"


@pytest.mark.parametrize("signature", ["obs", "v4"])
def test_sdk_is_refused(origin, signature):
    for one, status, code in (
        (live(origin, signature, "HUAWEIREADER"), 403, "AccessDenied"),
        (live(origin, signature, secret="wrong"), 403, "SignatureDoesNotMatch"),
        (live(origin, signature, "HUAWEINOBODY"), 403, "InvalidAccessKeyId"),
    ):
        answer = one.putContent("models", "a.mar", "hello")
        assert (answer.status, answer.errorCode) == (status, code)
        assert answer.requestId
        assert answer.hostId
    assert origin.objects.get("models", "a.mar") is None


def test_boto3_publishes_and_every_api_sees_it(origin, tmp_path):
    body = os.urandom(6 << 20)
    (tmp_path / "m.mar").write_bytes(body)
    client = live_s3(origin)
    parts = TransferConfig(multipart_threshold=1 << 20, multipart_chunksize=5 << 20)
    client.upload_file(str(tmp_path / "m.mar"), "models", "m.mar", Config=parts, ExtraArgs={"Metadata": {"sha256": "abc"}})
    client.put_object(Bucket="models", Key="small \u00e4", Body=b"hello", Metadata={"sha256": "def"})
    assert client.head_object(Bucket="models", Key="m.mar")["Metadata"] == {"sha256": "abc"}
    assert dict(live(origin, "obs", "HUAWEIREADER").getObjectMetadata("models", "small \u00e4").header)["sha256"] == "def"
    answer = fetch(origin, url("obs", "m.mar"))
    assert answer.content == body
    assert answer.headers["x-obs-meta-sha256"] == "abc"
    assert "x-amz-meta-sha256" not in answer.headers
    for address in (url("v4", "m.mar"), s3_url("m.mar")):
        answer = fetch(origin, address, Range="bytes=1-2")
        assert (answer.status_code, answer.content, answer.headers["x-amz-meta-sha256"]) == (206, body[1:3], "abc")
    live(origin, "obs").putContent("models", "n.mar", "hello", metadata={"sha256": "ghi"})
    assert client.head_object(Bucket="models", Key="n.mar")["Metadata"] == {"sha256": "ghi"}
    client.delete_object(Bucket="models", Key="m.mar")
    assert fetch(origin, url("obs", "m.mar")).status_code == 404


@pytest.mark.parametrize(
    "options, code",
    [
        ({"key_id": "HUAWEIREADER"}, "AccessDenied"),
        ({"secret": "wrong"}, "SignatureDoesNotMatch"),
        ({"key_id": "HUAWEINOBODY"}, "InvalidAccessKeyId"),
        ({"request_checksum_calculation": "when_supported"}, "XAmzContentSHA256Mismatch"),
    ],
)
def test_boto3_is_refused(origin, options, code):
    with pytest.raises(ClientError) as caught:
        live_s3(origin, **options).put_object(Bucket="models", Key="a", Body=b"x")
    assert caught.value.response["Error"]["Code"] == code
    assert origin.objects.get("models", "a") is None
