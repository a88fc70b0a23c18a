# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The running origin: boto3 as the publisher, presigned reads, ranges, counters, faults, the proxy and the mirror."""

from __future__ import annotations

import hashlib
import http.client
import os
import threading
import time
import urllib.error
import urllib.request

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import KEYS

SECRETS = {key["access_key"]: key["secret_key"] for key in KEYS}
ONCE = {"max_attempts": 0}


def client(origin, access_key="AKIAPUBLISHER", secret=None, **config):
    """boto3 by path-style over plain http."""
    return boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{origin.ports['http']}",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret or SECRETS[access_key],
        config=Config(signature_version="s3v4", retries=ONCE, **config),
    )


def proxied(origin, access_key="AKIAPUBLISHER", ca=None):
    """boto3 as a user has it: AWS's own names and TLS, here through the CONNECT proxy."""
    return boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url="https://s3.us-east-1.amazonaws.com",
        aws_access_key_id=access_key,
        aws_secret_access_key=SECRETS[access_key],
        verify=ca or origin.ca,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "virtual"},
            proxies={"https": f"http://127.0.0.1:{origin.ports['proxy']}"},
            retries=ONCE,
        ),
    )


def presigned(origin, key="m.mar", method="get_object", access_key="AKIAREADER", expires=60):
    return client(origin, access_key).generate_presigned_url(method, Params={"Bucket": "models", "Key": key}, ExpiresIn=expires)


def get(url, **headers):
    """Return (status, headers, body), whatever the status."""
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def refused(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(Bucket="models", **arguments)
    return caught.value.response["ResponseMetadata"]["HTTPStatusCode"], caught.value.response["Error"]["Code"]


@pytest.fixture
def content(origin):
    content = os.urandom(1 << 20)
    origin.store("m.mar", content)
    return content


# -- publishing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [client, proxied])
def test_boto3_publishes_and_reads(origin, make):
    s3 = make(origin)
    body = os.urandom(300_000)
    s3.put_object(Bucket="models", Key="a b/\u00e4+.mar", Body=body, Metadata={"sha256": "abc"}, ContentType="application/zip")
    head = s3.head_object(Bucket="models", Key="a b/\u00e4+.mar")
    assert (head["ContentLength"], head["Metadata"], head["ContentType"]) == (300_000, {"sha256": "abc"}, "application/zip")
    assert head["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert make(origin, "AKIAREADER").get_object(Bucket="models", Key="a b/\u00e4+.mar")["Body"].read() == body


@pytest.mark.parametrize("make", [client, proxied])
def test_boto3_multipart(origin, make, tmp_path):
    body = os.urandom(11 << 20)
    (tmp_path / "m.mar").write_bytes(body)
    parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    make(origin).upload_file(str(tmp_path / "m.mar"), "models", "m.mar", Config=parts, ExtraArgs={"Metadata": {"sha256": "abc"}})
    item = origin.objects.get("models", "m.mar")
    assert item.path.read_bytes() == body
    assert item.etag.endswith("-3")
    assert item.metadata == {"sha256": "abc"}
    assert len(list(origin.objects.root.iterdir())) == 2, "no part is left behind"


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_boto3_checksums_and_signed_payload(origin, algorithm):
    client(origin).put_object(Bucket="models", Key="a", Body=b"hello", ChecksumAlgorithm=algorithm)
    proxied(origin).put_object(Bucket="models", Key="b", Body=b"hello", ChecksumAlgorithm=algorithm)
    client(origin, s3={"payload_signing_enabled": True}).put_object(Bucket="models", Key="c", Body=b"hello")
    assert [origin.objects.get("models", key).size for key in "abc"] == [5, 5, 5]


def test_multipart_gone_wrong(origin):
    s3 = client(origin)
    upload = s3.create_multipart_upload(Bucket="models", Key="m")["UploadId"]
    small = s3.upload_part(Bucket="models", Key="m", UploadId=upload, PartNumber=1, Body=b"a")["ETag"]
    last = s3.upload_part(Bucket="models", Key="m", UploadId=upload, PartNumber=2, Body=b"b")["ETag"]

    def complete(*parts):
        listed = {"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in parts]}
        return refused(s3.complete_multipart_upload, Key="m", UploadId=upload, MultipartUpload=listed)

    assert complete((1, small), (2, last)) == (400, "EntityTooSmall")
    assert complete((2, last), (1, small)) == (400, "InvalidPartOrder")
    assert complete((1, last)) == (400, "InvalidPart")
    assert complete((3, last)) == (400, "InvalidPart")
    s3.abort_multipart_upload(Bucket="models", Key="m", UploadId=upload)
    assert refused(s3.upload_part, Key="m", UploadId=upload, PartNumber=1, Body=b"a") == (404, "NoSuchUpload")
    assert not list(origin.objects.root.iterdir())


def test_bad_checksum_is_refused(origin):
    assert refused(client(origin).put_object, Key="a", Body=b"hello", ChecksumSHA256="AAAA") == (400, "BadDigest")
    assert refused(client(origin).put_object, Key="a", Body=b"hello", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==") == (400, "BadDigest")
    assert origin.objects.get("models", "a") is None


def test_conditional_put(origin):
    client(origin).put_object(Bucket="models", Key="a", Body=b"1", IfNoneMatch="*")
    assert refused(client(origin).put_object, Key="a", Body=b"2", IfNoneMatch="*") == (412, "PreconditionFailed")


def test_who_may_do_what(origin, content):
    assert refused(client(origin, "AKIAREADER").put_object, Key="a", Body=b"x") == (403, "AccessDenied")
    assert refused(client(origin, "AKIAREADER").delete_object, Key="m.mar") == (403, "AccessDenied")
    assert refused(client(origin, secret="wrong").put_object, Key="a", Body=b"x") == (403, "SignatureDoesNotMatch")
    assert refused(client(origin, "AKIANOBODY", "x").get_object, Key="m.mar") == (403, "InvalidAccessKeyId")
    assert refused(client(origin).get_object, Key="none") == (404, "NoSuchKey")
    client(origin).delete_object(Bucket="models", Key="m.mar")
    assert refused(client(origin).get_object, Key="m.mar") == (404, "NoSuchKey")


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "range_, status, start, end",
    [
        (None, 200, 0, 1 << 20),
        ("bytes=0-0", 206, 0, 1),
        ("bytes=100-199", 206, 100, 200),
        ("bytes=1048000-", 206, 1048000, 1 << 20),
        ("bytes=-10", 206, (1 << 20) - 10, 1 << 20),
        ("bytes=0-99999999", 206, 0, 1 << 20),
        ("bytes=5-2", 200, 0, 1 << 20),
        ("bytes=0-1,5-6", 200, 0, 1 << 20),
        ("bytes=1048576-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
    ],
)
def test_ranges(origin, content, range_, status, start, end):
    got, headers, body = get(presigned(origin), **({"Range": range_} if range_ else {}))
    assert got == status
    if status == 416:
        assert headers["Content-Range"] == f"bytes */{len(content)}"
        assert b"<Code>InvalidRange</Code>" in body
        return
    assert body == content[start:end]
    if status == 206:
        assert headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(content)}"
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Last-Modified"].endswith("GMT")


def test_errors_are_xml_with_a_code(origin, content):
    url = presigned(origin)
    for tampered, status, code in (
        (url.replace("m.mar", "n.mar"), 403, b"SignatureDoesNotMatch"),
        (presigned(origin, "none"), 404, b"NoSuchKey"),
        (url.partition("?")[0], 403, b"AccessDenied"),
    ):
        got, headers, body = get(tampered)
        assert (got, headers["Content-Type"]) == (status, "application/xml")
        assert b"<Code>" + code + b"</Code>" in body


def test_presigned_link_expires(origin, content):
    url = presigned(origin, expires=1)
    assert get(url)[0] == 200
    deadline = time.monotonic() + 10
    while (answer := get(url))[0] == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert answer[0] == 403
    assert b"Request has expired" in answer[2]


def test_conditional_get(origin, content):
    etag = get(presigned(origin))[1]["ETag"]
    assert get(presigned(origin), If_None_Match=etag)[0] == 304
    assert get(presigned(origin), If_Match='"other"')[0] == 412


STORES = {
    "models.s3.us-east-1.amazonaws.com": "S3",
    "models.oss-cn-hangzhou.aliyuncs.com": "Oss",
    "models.s3.oss-cn-hangzhou-internal.aliyuncs.com": "Oss",
    "storage.googleapis.com": "Gcs",
    "account.blob.core.windows.net": "Abs",
    "models.obs.cn-north-4.myhuaweicloud.com": "Obs",
    "files.example.org": "Http",
}


@pytest.mark.parametrize("host", STORES)
def test_every_store_has_its_names(origin, host):
    one = origin.servers["http"].origin
    assert [type(store).__name__ for store in one.stores if store.claims(host)] == [STORES[host]]
    assert one.plays(host)
    assert not one.plays(host + ".example.com")
    assert get(f"http://127.0.0.1:{origin.ports['http']}/models/a", Host=host)[0] in (400, 403, 404)


def test_unknown_host_is_refused(origin):
    assert get(f"http://127.0.0.1:{origin.ports['http']}/", Host="example.org")[0] == 421


# -- counters and faults -----------------------------------------------------------------------------------------------


def test_counters(origin, content):
    get(presigned(origin), Range="bytes=0-99")
    get(presigned(origin))
    get(presigned(origin), Range="bytes=0-0")
    client(origin, "AKIAREADER").head_object(Bucket="models", Key="m.mar")
    get(presigned(origin, expires=60).replace("X-Amz-Signature=", "X-Amz-Signature=0"))
    row = origin.control("GET", "/counters")["objects"]["models/m.mar"]
    assert row["bytes"] == len(content) + 101
    assert (row["requests"], row["get"], row["probe"], row["head"]) == (4, 2, 1, 1)
    assert row["clients"]["127.0.0.1"]["bytes"] == row["bytes"]
    assert origin.control("DELETE", "/counters") == {"bytes": 0, "objects": {}}


@pytest.mark.parametrize("status, code", [(403, b"AccessDenied"), (404, b"NoSuchKey"), (500, b"InternalError"), (503, b"SlowDown")])
def test_fault_status_for_a_number_of_times(origin, content, status, code):
    origin.control("PUT", "/faults", {"key": "models/*", "status": status, "times": 2})
    for _ in range(2):
        got, _, body = get(presigned(origin))
        assert got == status
        assert code in body
    assert get(presigned(origin))[0] == 200


@pytest.mark.parametrize("fault, error", [({"reset_at": 5000}, ConnectionResetError), ({"short_by": 10}, Exception)])
def test_fault_broken_body(origin, content, fault, error):
    origin.control("PUT", "/faults", fault)
    with pytest.raises(error):
        get(presigned(origin))
    assert origin.control("GET", "/counters")["bytes"] == fault.get("reset_at", len(content) - 10)
    origin.control("DELETE", "/faults")
    assert get(presigned(origin))[2] == content


def test_fault_reset_under_tls(origin, content):
    origin.control("PUT", "/faults", {"reset_at": 5000})
    with pytest.raises(Exception, match=r"(?i)reset|connection broken|incomplete|closed|eof"):
        proxied(origin, "AKIAREADER").get_object(Bucket="models", Key="m.mar")["Body"].read()


def test_fault_slow(origin, content):
    origin.control("PUT", "/faults", {"slow": 2 << 20})
    started = time.monotonic()
    assert get(presigned(origin))[2] == content
    assert time.monotonic() - started > 0.4


def test_a_slow_answer_goes_on_at_full_speed_when_the_fault_is_taken_back(origin, content):
    origin.control("PUT", "/faults", {"slow": 10})
    with urllib.request.urlopen(presigned(origin), timeout=60) as response:
        start = response.read(1)
        origin.control("DELETE", "/faults")
        assert start + response.read() == content


def test_fault_changed_object_and_no_range(origin, content):
    etag = get(presigned(origin))[1]["ETag"]
    origin.control("PUT", "/faults", [{"change": True, "method": "GET"}])
    _, headers, body = get(presigned(origin))
    assert len(body) == len(content)
    assert body[1:] == content[1:]
    assert body[0] != content[0]
    assert headers["ETag"] != etag
    origin.control("PUT", "/faults", [{"no_range": True}])
    assert get(presigned(origin), Range="bytes=0-0")[::2] == (200, content)


def test_faults_match_key_client_and_method(origin, content):
    origin.control(
        "PUT", "/faults", [{"key": "models/n*", "status": 500}, {"client": "10.*", "status": 500}, {"method": "HEAD", "status": 500}]
    )
    assert get(presigned(origin))[0] == 200


@pytest.mark.parametrize("fault", [{}, {"status": "x"}, {"nonsense": 1}, {"slow": 0}, {"key": "*"}])
def test_bad_fault_is_refused(origin, fault):
    with pytest.raises(urllib.error.HTTPError) as caught:
        origin.control("PUT", "/faults", fault)
    assert caught.value.code == 400


def test_a_clock_that_goes_ahead_makes_signatures_expire(origin, content):
    url = presigned(origin)
    origin.control("PUT", "/clock", {"ahead": 8 * 24 * 3600})
    try:
        status, _, body = get(url)
        assert (status, b"Request has expired" in body) == (403, True)
    finally:
        origin.control("PUT", "/clock", {"ahead": 0})
    assert get(url)[0] == 200


def test_object_replaced_behind_everybodys_back(origin, content):
    url = presigned(origin)
    origin.control("PUT", "/objects/models/m.mar", b"something else")
    assert get(url)[2] == b"something else"
    origin.control("DELETE", "/objects/models/m.mar")
    assert get(url)[0] == 404


def test_many_at_once(origin, content):
    results = []
    threads = [threading.Thread(target=lambda: results.append(get(presigned(origin))[2] == content)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 16
    assert origin.control("GET", "/counters")["bytes"] == 16 * len(content)


# -- proxy and mirror --------------------------------------------------------------------------------------------------


def test_proxy_reaches_nothing_else(origin):
    connection = http.client.HTTPConnection("127.0.0.1", origin.ports["proxy"], timeout=10)
    for target in ("example.org", "10.0.0.1", "s3.us-east-1.amazonaws.com.example.org"):
        connection.set_tunnel(target, 443)
        with pytest.raises(OSError, match="403"):
            connection.connect()


def test_tls_is_verified(origin, tmp_path):
    other = tmp_path / "other.crt"
    other.write_text("")
    with pytest.raises(Exception, match=r"(?i)certificate|SSL|no start line|invalid"):
        proxied(origin, ca=str(other)).list_buckets()


def test_mirror(origin):
    folder = origin.mirror / "owner/name/releases/download/v1"
    folder.mkdir(parents=True)
    (folder / "a.tar.gz").write_bytes(b"0123456789")
    base = f"http://localhost:{origin.ports['http']}"
    assert get(f"{base}/owner/name/releases/download/v1/a.tar.gz")[2] == b"0123456789"
    assert get(f"{base}/owner/name/releases/download/v1/a.tar.gz", Range="bytes=2-3")[2] == b"23"
    assert get(f"{base}/owner/name")[0] == 404
    assert get(f"{base}/../../../etc/passwd")[0] == 404
    assert get(f"{base}/%2e%2e/data")[0] == 404
