# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verifier against botocore's signatures and AWS's published example, and against everything that is almost right."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from unittest import mock
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from conftest import BAD_LISTS, KEYS, ODD_KEYS, changed, listed, received, refused
from strict_origin.messages import StoreError
from strict_origin.objects import Objects
from strict_origin.s3 import S3

NOW = datetime(2026, 3, 4, 12, 0, 0, tzinfo=timezone.utc)


def store(tmp_path, **changes):
    config = {"region": "us-east-1", "buckets": ["models", "other"], "keys": KEYS} | changes
    return S3(config, Objects(tmp_path), now=lambda: NOW)


def credentials(access_key="AKIAREADER", secret=None, token=None):
    known = {key["access_key"]: key["secret_key"] for key in KEYS}
    return Credentials(access_key, secret or known[access_key], token)


def signed(auth, method, url, headers=None, data=b"", at=NOW):
    request = AWSRequest(method=method, url=url, headers=headers or {}, data=data)
    # S3's own addressing, as the client sets it up: sign the path as it is.
    with (
        mock.patch("botocore.auth.get_current_datetime", return_value=at.replace(tzinfo=None)),
        mock.patch("botocore.compat.get_current_datetime", return_value=at.replace(tzinfo=None)),
    ):
        auth.add_auth(request)
    return request


def presigned(key="a.mar", method="GET", creds=None, region="us-east-1", expires=60, at=NOW, host=None, headers=None):
    url = f"https://{host or 'models.s3.us-east-1.amazonaws.com'}/{quote(key, safe='/~')}"
    return signed(S3SigV4QueryAuth(creds or credentials(), "s3", region, expires=expires), method, url, headers, at=at).url


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_good_presign(tmp_path, key, method):
    assert store(tmp_path).authorize(received(method, presigned(key, method)))[0] == f"models/{key}"


def test_good_presign_by_path_and_with_session_token(tmp_path):
    one = store(tmp_path)
    assert one.authorize(received("GET", presigned("models/a.mar", host="s3.us-east-1.amazonaws.com")))[0] == "models/a.mar"
    assert one.authorize(received("GET", presigned(creds=credentials("ASIATEMPORARY", token="the-token"))))[0] == "models/a.mar"


def test_http_is_as_good_as_https(tmp_path):
    assert store(tmp_path).authorize(received("GET", presigned().replace("https:", "http:")))


def test_session_token_is_required_and_checked(tmp_path):
    one = store(tmp_path)
    assert refused(one, received("GET", presigned(creds=credentials("ASIATEMPORARY")))) == (400, "InvalidToken")
    assert refused(one, received("GET", presigned(creds=credentials("ASIATEMPORARY", token="wrong")))) == (400, "InvalidToken")


@pytest.mark.parametrize("seconds, good", [(-3600, False), (-61, False), (-59, True), (0, True), (14 * 60, True), (16 * 60, False)])
def test_expiry_and_clock(tmp_path, seconds, good):
    request = received("GET", presigned(at=NOW + timedelta(seconds=seconds)))
    if good:
        assert store(tmp_path).authorize(request)
    else:
        assert refused(store(tmp_path), request) == (403, "AccessDenied")


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "POST"])
def test_wrong_method(tmp_path, method):
    url = presigned(creds=credentials("AKIAPUBLISHER"))
    assert refused(store(tmp_path), received(method, url)) == (403, "SignatureDoesNotMatch")


def test_read_key_cannot_publish(tmp_path):
    one = store(tmp_path)
    for method in ("PUT", "POST", "DELETE"):
        assert refused(one, received(method, presigned(method=method))) == (403, "AccessDenied")
        assert one.authorize(received(method, presigned(method=method, creds=credentials("AKIAPUBLISHER"))))


SAME = (403, "SignatureDoesNotMatch")
TAMPERED = {
    "other key": (lambda url: url.replace("/a.mar", "/b.mar"), SAME),
    "other bucket": (lambda url: url.replace("models.s3", "other.s3"), SAME),
    "path-style of a virtual-hosted signature": (
        lambda url: url.replace("models.s3.us-east-1.amazonaws.com/", "s3.us-east-1.amazonaws.com/models/"),
        SAME,
    ),
    "longer expiry": (lambda url: changed(url, X_Amz_Expires="6000"), SAME),
    "later date": (lambda url: changed(url, X_Amz_Date="20260304T120100Z"), SAME),
    "other signature": (lambda url: changed(url, X_Amz_Signature="0" * 64), SAME),
    "added parameter": (lambda url: url + "&versionId=1", SAME),
    "fewer signed headers": (lambda url: changed(url, X_Amz_SignedHeaders="range"), (403, "AccessDenied")),
    "other user": (lambda url: url.replace("AKIAREADER", "AKIAPUBLISHER"), SAME),
    "unknown user": (lambda url: url.replace("AKIAREADER", "AKIANOBODY"), (403, "InvalidAccessKeyId")),
    "parameter twice": (lambda url: url + "&X-Amz-Expires=60", (400, "AuthorizationQueryParametersError")),
    "no signature": (lambda url: url.partition("&X-Amz-Signature")[0], (400, "AuthorizationQueryParametersError")),
    "no query": (lambda url: url.partition("?")[0], (403, "AccessDenied")),
    "not a number": (lambda url: changed(url, X_Amz_Expires="1h"), (400, "AuthorizationQueryParametersError")),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered(tmp_path, name):
    tamper, expected = TAMPERED[name]
    assert refused(store(tmp_path), received("GET", tamper(presigned()))) == expected


def test_wrong_secret_region_service_and_too_long(tmp_path):
    one = store(tmp_path)
    assert refused(one, received("GET", presigned(creds=credentials(secret="wrong")))) == SAME
    assert refused(one, received("GET", presigned(region="eu-west-1"))) == (400, "AuthorizationQueryParametersError")
    assert refused(one, received("GET", presigned(expires=604801))) == (400, "AuthorizationQueryParametersError")
    url = signed(S3SigV4QueryAuth(credentials(), "sqs", "us-east-1", expires=60), "GET", "https://models.s3.us-east-1.amazonaws.com/a").url
    assert refused(one, received("GET", url)) == (400, "AuthorizationQueryParametersError")
    foreign = presigned(region="eu-west-1", host="models.s3.eu-west-1.amazonaws.com")
    assert refused(one, received("GET", foreign)) == (301, "PermanentRedirect")
    assert refused(one, received("GET", presigned(host="missing.s3.us-east-1.amazonaws.com"))) == (404, "NoSuchBucket")


def test_unsigned_amz_header_is_refused_and_a_range_is_not(tmp_path):
    one = store(tmp_path)
    assert one.authorize(received("GET", presigned(), {"Range": "bytes=0-0"}))
    assert refused(one, received("GET", presigned(), {"x-amz-meta-a": "1"})) == (403, "AccessDenied")


@pytest.mark.parametrize("tidy", [False, True])
@pytest.mark.parametrize("names", ["host;range", *BAD_LISTS])
def test_signed_headers_are_sorted_and_sent_and_named_once(tmp_path, names, tidy):
    config = {"region": "us-east-1", "buckets": ["models"], "keys": KEYS}
    one = S3(config, Objects(tmp_path))
    request = listed("https://models.s3.us-east-1.amazonaws.com/a.mar", names, "AKIAREADER", "reader-secret", "us-east-1", tidy)
    if names in BAD_LISTS:
        assert refused(one, request) == SAME
    else:
        assert one.authorize(request)


def test_signed_headers_in_the_header(tmp_path):
    one = store(tmp_path)
    request = header_signed()
    names = request.headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    for wrong in (";".join(reversed(names.split(";"))), f"{names};{names.rpartition(';')[2]}", names.replace("host", "Host")):
        headers = dict(request.headers) | {"Authorization": request.headers["Authorization"].replace(names, wrong)}
        assert refused(one, received("PUT", request.url, headers))[0] == 403


@pytest.mark.parametrize("where", ["models.s3.us-east-1.amazonaws.com/b.mar", "other.s3.us-east-1.amazonaws.com/a.mar"])
def test_an_upload_id_is_good_for_its_object_only(tmp_path, where):
    """Whoever may write one object does not write another one with its upload's identifier, and does not read or end that upload."""
    one = store(tmp_path)

    def call(method, place, query, body=b""):
        url = signed(S3SigV4QueryAuth(credentials("AKIAPUBLISHER"), "s3", "us-east-1", 60), method, f"https://{place}?{query}").url
        request = received(method, url, body=body)
        return one.handle(request, one.authorize(request)[1]).body.decode()

    own = "models.s3.us-east-1.amazonaws.com/a.mar"
    upload = call("POST", own, "uploads=").partition("<UploadId>")[2].partition("<")[0]
    call("PUT", own, f"partNumber=1&uploadId={upload}", b"hello")
    listed = b"<C><Part><PartNumber>1</PartNumber><ETag>5d41402abc4b2a76b9719d911017c592</ETag></Part></C>"
    for method, query, body in (
        ("PUT", f"partNumber=1&uploadId={upload}", b"jello"),
        ("GET", f"uploadId={upload}", b""),
        ("POST", f"uploadId={upload}", listed),
        ("DELETE", f"uploadId={upload}", b""),
    ):
        with pytest.raises(StoreError) as caught:
            call(method, where, query, body)
        assert (caught.value.status, caught.value.code, caught.value.details) == (404, "NoSuchUpload", {"UploadId": upload})
    call("POST", own, f"uploadId={upload}", listed)
    assert one.objects.get("models", "a.mar").path.read_bytes() == b"hello"
    assert len(list(tmp_path.iterdir())) == 2, "nothing is left of what was refused"


def header_signed(creds=None, at=NOW, data=b"hello"):
    return signed(
        S3SigV4Auth(creds or credentials("AKIAPUBLISHER"), "s3", "us-east-1"),
        "PUT",
        "https://models.s3.us-east-1.amazonaws.com/a%20b.mar",
        {"Content-Type": "text/plain", "x-amz-meta-sha256": "a  b"},
        data,
        at,
    )


def test_header_signed_put(tmp_path):
    one = store(tmp_path)
    request = header_signed()
    put = received("PUT", request.url, dict(request.headers), b"hello")
    name, signature = one.authorize(put)
    assert name == "models/a b.mar"
    one.handle(put, signature)
    item = one.objects.get("models", "a b.mar")
    assert (item.path.read_bytes(), item.content_type, item.metadata) == (b"hello", "text/plain", {"sha256": "a  b"})


def test_header_signed_put_gone_wrong(tmp_path):
    one = store(tmp_path)
    request = header_signed()
    for header, value in (("x-amz-meta-sha256", "c"), ("X-Amz-Date", "20260304T120001Z")):
        assert refused(one, received("PUT", request.url, dict(request.headers) | {header: value})) == SAME
    put = received("PUT", request.url, dict(request.headers), b"jello")
    _, signature = one.authorize(put)
    with pytest.raises(StoreError, match="content-sha256"):
        one.handle(put, signature)
    assert one.objects.get("models", "a b.mar") is None
    assert not list(one.objects.root.iterdir()), "an upload that failed leaves nothing behind"
    skewed = header_signed(at=NOW - timedelta(minutes=16))
    assert refused(one, received("PUT", skewed.url, dict(skewed.headers))) == (403, "RequestTimeTooSkewed")
    reader = header_signed(credentials())
    assert refused(one, received("PUT", reader.url, dict(reader.headers))) == (403, "AccessDenied")


def test_aws_example_of_a_signed_chunked_upload(tmp_path):
    """The worked example of the AWS documentation: 65 KiB + 1 KiB of the letter a, with its published signatures."""
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    keys = [{"access_key": "AKIAIOSFODNN7EXAMPLE", "secret_key": secret, "publish": True}]
    one = S3(
        {"region": "us-east-1", "buckets": ["examplebucket"], "keys": keys},
        Objects(tmp_path),
        now=lambda: datetime(2013, 5, 24, tzinfo=timezone.utc),
    )
    chunks = [
        (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
    ]
    headers = {
        "x-amz-date": "20130524T000000Z",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class,"
        "Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "Content-Encoding": "aws-chunked",
        "x-amz-decoded-content-length": "66560",
        "Content-Length": "66824",
    }

    def put(chunks):
        body = b"".join(f"{size:x};chunk-signature={signature}\r\n".encode() + b"a" * size + b"\r\n" for size, signature in chunks)
        request = received("PUT", "https://s3.amazonaws.com/examplebucket/chunkObject.txt", headers, body)
        _, signature = one.authorize(request)
        return one.handle(request, signature)

    assert put(chunks).status == 200
    assert one.objects.get("examplebucket", "chunkObject.txt").size == 66560
    with pytest.raises(StoreError, match="chunk"):
        put([chunks[1], chunks[0], chunks[2]])
    with pytest.raises(StoreError, match="terminated"):
        put(chunks[:2])
