# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Amazon S3 as far as publishing and fetching models goes, with AWS Signature Version 4 truly verified.

Query and header signatures, signed and unsigned payloads, aws-chunked bodies with signatures or checksum trailers, multipart uploads.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import threading
import xml.etree.ElementTree as ET
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from .messages import Part, Request, Response, StoreError
from .objects import BLOCK, Objects, Upload
from .reading import byte_range, object_headers

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW = timedelta(minutes=15)
LONGEST = 7 * 24 * 3600
SMALLEST_PART = 5 * 1024 * 1024
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
HOST = re.compile(r"^(?:(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\.)?s3(?:[.-](?P<region>[a-z]{2}(?:-[a-z]+)+-\d))?\.amazonaws\.com$")


@dataclass
class Signature:
    """One signature as the client sent it, and everything it was made from."""

    access_key: str
    scope: str  # date/region/service/aws4_request
    date: str  # 20260131T235959Z
    signed_headers: list[str]
    signature: str
    payload: str  # hash of the body, or one of the literal values
    expires: int | None = None  # seconds; None for a signature in the header

    @property
    def time(self) -> datetime:
        return datetime.strptime(self.date, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)


class S3:
    """config: {region, buckets: [..], endpoints: [host, ..], keys: [{access_key, secret_key, session_token, publish}, ..]}"""

    def __init__(self, config: dict, objects: Objects, now=lambda: datetime.now(timezone.utc)):
        self.region = config["region"]
        self.buckets = set(config["buckets"])
        self.endpoints = [host.lower() for host in config.get("endpoints", [])]
        self.keys = {key["access_key"]: key for key in config["keys"]}
        self.objects = objects
        self.now = now
        self._uploads: dict[str, dict] = {}
        self._lock = threading.Lock()

    # -- which requests are ours, and how errors look ------------------------------------------------------------------

    def claims(self, hostname: str) -> bool:
        return bool(HOST.match(hostname)) or any(hostname == end or hostname.endswith("." + end) for end in self.endpoints)

    def locate(self, request: Request) -> tuple[str, str, str]:
        """Return (region, bucket, key) of a request, from a virtual-hosted or a path-style name."""
        hostname = request.hostname
        path = unquote(request.path)[1:]
        bucket, region = "", self.region
        if match := HOST.match(hostname):
            bucket, region = match["bucket"] or "", match["region"] or "us-east-1"
        else:
            for end in self.endpoints:
                if hostname.endswith("." + end):
                    bucket = hostname[: -len(end) - 1]
        if not bucket:
            bucket, _, path = path.partition("/")
        return region, bucket, path

    def render(self, error: StoreError, request: Request) -> Response:
        fields = {"Code": error.code, "Message": error.message, **error.details, "RequestId": secrets.token_hex(8).upper()}
        rows = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{rows}</Error>'.encode()
        return Response(error.status, {"Content-Type": "application/xml", **error.headers}, body)

    # -- one request ---------------------------------------------------------------------------------------------------

    def authorize(self, request: Request) -> tuple[str, Signature]:
        """Verify the request; return the name of the object it is about and its signature."""
        region, bucket, key = self.locate(request)
        signature = self.verify(request, region)
        if request.method not in ("GET", "HEAD") and not self.keys[signature.access_key].get("publish"):
            raise StoreError(403, "AccessDenied", "Access Denied")
        if bucket not in self.buckets:
            raise StoreError(404, "NoSuchBucket", "The specified bucket does not exist", BucketName=bucket)
        if region != self.region:
            raise StoreError(
                301,
                "PermanentRedirect",
                "The bucket you are attempting to access must be addressed using the specified endpoint.",
                {"x-amz-bucket-region": self.region},
                Bucket=bucket,
                Endpoint=f"{bucket}.s3.{self.region}.amazonaws.com",
            )
        return f"{bucket}/{key}", signature

    def handle(self, request: Request, signature: Signature, no_range: bool = False) -> Response:
        _, bucket, key = self.locate(request)
        params = dict(request.params)
        if not key:
            if request.method == "HEAD":
                return Response(200, {"x-amz-bucket-region": self.region})
            raise StoreError(501, "NotImplemented", "This origin has no bucket operations beyond HEAD.")
        if request.method in ("GET", "HEAD"):
            return self._get(request, bucket, key, no_range)
        if request.method == "PUT" and "uploadId" in params:
            return self._put_part(request, signature, params)
        if request.method == "PUT" and "x-amz-copy-source" not in request.headers:
            return self._put(request, signature, bucket, key)
        if request.method == "POST" and "uploads" in params:
            return self._create_multipart(request, signature, bucket, key)
        if request.method == "POST" and "uploadId" in params:
            return self._complete_multipart(request, signature, params)
        if request.method == "DELETE":
            self._receive(request, signature).discard()
            if "uploadId" in params:
                self._forget(params["uploadId"])
            else:
                self.objects.delete(bucket, key)
            return Response(204)
        raise StoreError(501, "NotImplemented", "A header or query you provided implies functionality that is not implemented.")

    # -- signatures ----------------------------------------------------------------------------------------------------

    def verify(self, request: Request, region: str) -> Signature:
        params = dict(request.params)
        authorization = request.headers.get("Authorization")
        if "X-Amz-Algorithm" in params or "X-Amz-Signature" in params:
            if authorization:
                raise StoreError(400, "InvalidArgument", "Only one auth mechanism allowed", ArgumentName="Authorization")
            signature = self._from_query(request, params)
            malformed = "AuthorizationQueryParametersError"
        elif authorization:
            signature = self._from_header(request, authorization)
            malformed = "AuthorizationHeaderMalformed"
        else:
            raise StoreError(403, "AccessDenied", "Access Denied")
        self._check_scope(signature, region, malformed)
        self._check_time(signature)

        key = self.keys.get(signature.access_key)
        if key is None:
            raise StoreError(
                403,
                "InvalidAccessKeyId",
                "The AWS Access Key Id you provided does not exist in our records.",
                AWSAccessKeyId=signature.access_key,
            )
        token = params.get("X-Amz-Security-Token") or request.headers.get("x-amz-security-token") or ""
        if token != key.get("session_token", ""):
            raise StoreError(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")

        self._check_signed_headers(request, signature)
        canonical = canonical_request(request, signature)
        to_sign = "\n".join([ALGORITHM, signature.date, signature.scope, hashlib.sha256(canonical.encode()).hexdigest()])
        expected = hmac.new(signing_key(key["secret_key"], signature.scope), to_sign.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, signature.signature):
            raise StoreError(
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
                AWSAccessKeyId=signature.access_key,
                StringToSign=to_sign,
                CanonicalRequest=canonical,
            )
        return signature

    def _from_query(self, request: Request, params: dict[str, str]) -> Signature:
        required = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature")
        code = "AuthorizationQueryParametersError"
        if any(not params.get(name) for name in required):
            raise StoreError(400, code, "Query-string authentication version 4 requires the parameters " + ", ".join(required) + ".")
        names = [name for name, _ in request.params if name.startswith("X-Amz-")]
        if len(names) != len(set(names)):
            raise StoreError(400, code, "A parameter of the signature is given twice.")
        if params["X-Amz-Algorithm"] != ALGORITHM:
            raise StoreError(400, code, f'X-Amz-Algorithm only supports "{ALGORITHM}"')
        if not params["X-Amz-Expires"].isdecimal():
            raise StoreError(400, code, "X-Amz-Expires should be a number")
        expires = int(params["X-Amz-Expires"])
        if not 1 <= expires <= LONGEST:
            raise StoreError(400, code, "X-Amz-Expires must be less than a week (in seconds) and 1 or more")
        access_key, _, scope = params["X-Amz-Credential"].partition("/")
        return Signature(
            access_key=access_key,
            scope=scope,
            date=params["X-Amz-Date"],
            signed_headers=params["X-Amz-SignedHeaders"].split(";"),
            signature=params["X-Amz-Signature"],
            payload=request.headers.get("x-amz-content-sha256") or params.get("X-Amz-Content-Sha256") or "UNSIGNED-PAYLOAD",
            expires=expires,
        )

    def _from_header(self, request: Request, authorization: str) -> Signature:
        algorithm, _, rest = authorization.partition(" ")
        fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
        if algorithm != ALGORITHM or any(not fields.get(name) for name in ("Credential", "SignedHeaders", "Signature")):
            raise StoreError(400, "AuthorizationHeaderMalformed", "The authorization header that you provided is not valid.")
        if not request.headers.get("x-amz-date"):
            raise StoreError(403, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
        payload = request.headers.get("x-amz-content-sha256")
        if not payload:
            raise StoreError(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
        access_key, _, scope = fields["Credential"].partition("/")
        return Signature(
            access_key=access_key,
            scope=scope,
            date=request.headers["x-amz-date"],
            signed_headers=fields["SignedHeaders"].split(";"),
            signature=fields["Signature"],
            payload=payload,
        )

    @staticmethod
    def _check_scope(signature: Signature, region: str, malformed: str) -> None:
        parts = signature.scope.split("/")
        if len(parts) != 4:
            raise StoreError(400, malformed, "The Credential should be of the form <access key>/YYYYMMDD/REGION/SERVICE/aws4_request")
        date, scope_region, service, terminator = parts
        if scope_region != region:
            message = f"The region '{scope_region}' is wrong; expecting '{region}'"
            raise StoreError(400, malformed, message, {"x-amz-bucket-region": region}, Region=region)
        if service != "s3" or terminator != "aws4_request":
            raise StoreError(400, malformed, "The Credential should name the service s3 and end in aws4_request")
        if date != signature.date[:8]:
            raise StoreError(400, malformed, f"Invalid credential date '{date}'. This date is not the same as X-Amz-Date.")

    def _check_time(self, signature: Signature) -> None:
        try:
            made = signature.time
        except ValueError:
            raise StoreError(403, "AccessDenied", "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"") from None
        now = self.now()
        if signature.expires is None:
            if abs(now - made) > SKEW:
                raise StoreError(
                    403,
                    "RequestTimeTooSkewed",
                    "The difference between the request time and the current time is too large.",
                    RequestTime=signature.date,
                    ServerTime=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                )
        elif made - now > SKEW:
            raise StoreError(403, "AccessDenied", "Request is not yet valid")
        elif now > made + timedelta(seconds=signature.expires):
            raise StoreError(403, "AccessDenied", "Request has expired", {}, **{"X-Amz-Expires": str(signature.expires)})

    @staticmethod
    def _check_signed_headers(request: Request, signature: Signature) -> None:
        must = {"host"} | {name.lower() for name in request.headers if name.lower().startswith("x-amz-")}
        if signature.expires is not None:
            must.discard("x-amz-content-sha256")
        unsigned = sorted(must - set(signature.signed_headers))
        if unsigned:
            message = "There were headers present in the request which were not signed"
            raise StoreError(403, "AccessDenied", message, HeadersNotSigned=", ".join(unsigned))

    # -- reading -------------------------------------------------------------------------------------------------------

    def _get(self, request: Request, bucket: str, key: str, no_range: bool) -> Response:
        item = self.objects.get(bucket, key)
        if item is None:
            raise StoreError(404, "NoSuchKey", "The specified key does not exist.", Key=key)
        headers = object_headers(item)
        if (wanted := request.headers.get("If-Match")) and wanted not in ("*", headers["ETag"]):
            raise StoreError(
                412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold", Condition="If-Match"
            )
        if request.headers.get("If-None-Match") in ("*", headers["ETag"]):
            return Response(304, headers)
        wanted = None if no_range else byte_range(request.headers.get("Range"), item.size)
        if wanted is None:
            return Response(200, headers, Part(item, 0, item.size))
        start, end = wanted
        if start >= end:
            raise StoreError(
                416,
                "InvalidRange",
                "The requested range is not satisfiable",
                {"Content-Range": f"bytes */{item.size}"},
                RangeRequested=request.headers["Range"],
                ActualObjectSize=str(item.size),
            )
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{item.size}"
        return Response(206, headers, Part(item, start, end))

    # -- writing -------------------------------------------------------------------------------------------------------

    def _receive(self, request: Request, signature: Signature) -> Upload:
        """Read the whole body, checked against whatever the client promised about it."""
        body = Body(request, signature, self.keys[signature.access_key]["secret_key"])
        upload = self.objects.upload()
        try:
            for block in body:
                upload.write(block)
            body.check(upload)
        except BaseException:
            upload.discard()
            raise
        return upload

    def _put(self, request: Request, signature: Signature, bucket: str, key: str) -> Response:
        if request.headers.get("If-None-Match") == "*" and self.objects.get(bucket, key):
            raise StoreError(
                412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold", Condition="If-None-Match"
            )
        upload = self._receive(request, signature)
        item = self.objects.put(bucket, key, upload, content_type=request.headers.get("Content-Type", ""), metadata=user_metadata(request))
        return Response(200, {"ETag": f'"{item.etag}"'})

    def _create_multipart(self, request: Request, signature: Signature, bucket: str, key: str) -> Response:
        self._receive(request, signature).discard()
        upload_id = secrets.token_urlsafe(24)
        facts = {"content_type": request.headers.get("Content-Type", ""), "metadata": user_metadata(request)}
        with self._lock:
            self._uploads[upload_id] = {"bucket": bucket, "key": key, "parts": {}, "facts": facts}
        return xml("InitiateMultipartUploadResult", Bucket=bucket, Key=key, UploadId=upload_id)

    def _multipart(self, upload_id: str) -> dict:
        with self._lock:
            if upload_id not in self._uploads:
                raise StoreError(404, "NoSuchUpload", "The specified multipart upload does not exist.", UploadId=upload_id)
            return self._uploads[upload_id]

    def _put_part(self, request: Request, signature: Signature, params: dict[str, str]) -> Response:
        number = params.get("partNumber", "")
        if not number.isdecimal() or not 1 <= int(number) <= 10000:
            raise StoreError(
                400, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive", ArgumentName="partNumber"
            )
        multipart = self._multipart(params["uploadId"])
        part = self._receive(request, signature)
        part.stream.close()
        with self._lock:
            replaced = multipart["parts"].get(int(number))
            multipart["parts"][int(number)] = part
        if replaced:
            replaced.discard()
        return Response(200, {"ETag": f'"{part.md5.hexdigest()}"'})

    def _complete_multipart(self, request: Request, signature: Signature, params: dict[str, str]) -> Response:
        multipart = self._multipart(params["uploadId"])
        body = self._receive(request, signature)
        body.stream.close()
        try:
            listed = [
                {child.tag.rpartition("}")[2]: child.text or "" for child in part}
                for part in ET.fromstring(body.path.read_bytes())
                if part.tag.rpartition("}")[2] == "Part"
            ]
            numbers = [int(part["PartNumber"]) for part in listed]
        except (ET.ParseError, KeyError, ValueError):
            message = "The XML you provided was not well-formed or did not validate against our published schema"
            raise StoreError(400, "MalformedXML", message) from None
        finally:
            body.discard()
        if not numbers or numbers != sorted(set(numbers)):
            raise StoreError(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        parts = []
        for number, part in zip(numbers, listed):
            have = multipart["parts"].get(number)
            if have is None or part.get("ETag", "").strip('"') != have.md5.hexdigest():
                raise StoreError(400, "InvalidPart", "One or more of the specified parts could not be found.", PartNumber=str(number))
            parts.append(have)
        if any(part.size < SMALLEST_PART for part in parts[:-1]):
            raise StoreError(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed object size.")

        whole = self.objects.upload()
        for part in parts:
            with part.path.open("rb") as stream:
                while block := stream.read(BLOCK):
                    whole.write(block)
        etag = hashlib.md5(b"".join(part.md5.digest() for part in parts), usedforsecurity=False).hexdigest() + f"-{len(parts)}"
        bucket, key = multipart["bucket"], multipart["key"]
        self.objects.put(bucket, key, whole, etag=etag, **multipart["facts"])
        self._forget(params["uploadId"])
        return xml("CompleteMultipartUploadResult", Bucket=bucket, Key=key, ETag=f'"{etag}"')

    def _forget(self, upload_id: str) -> None:
        multipart = self._multipart(upload_id)
        with self._lock:
            del self._uploads[upload_id]
        for part in multipart["parts"].values():
            part.discard()


class Body:
    """A request body: iterate for its bytes, then check() them against every digest that the client gave."""

    SIGNED = ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")
    UNSIGNED = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    CHECKSUMS = {"x-amz-checksum-crc32": "crc32", "x-amz-checksum-sha1": "sha1", "x-amz-checksum-sha256": "sha256"}

    def __init__(self, request: Request, signature: Signature, secret: str):
        self.request = request
        self.signature = signature
        self.key = signing_key(secret, signature.scope)
        self.previous = signature.signature
        self.trailer: dict[str, str] = {}
        self.sha256 = hashlib.sha256()
        self.sha1 = hashlib.sha1(usedforsecurity=False)
        self.crc32 = 0

    def __iter__(self):
        chunked = self.signature.payload in (*self.SIGNED, self.UNSIGNED)
        for block in self._chunks() if chunked else iter(lambda: self.request.body.read(BLOCK), b""):
            self.sha256.update(block)
            self.sha1.update(block)
            self.crc32 = zlib.crc32(block, self.crc32)
            yield block

    def check(self, upload: Upload) -> None:
        headers = self.request.headers
        payload = self.signature.payload
        literal = payload == "UNSIGNED-PAYLOAD" or payload in (*self.SIGNED, self.UNSIGNED)
        if not literal and payload != self.sha256.hexdigest():
            raise StoreError(
                400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed."
            )
        decoded = headers.get("x-amz-decoded-content-length")
        if payload.startswith("STREAMING-") and decoded != str(upload.size):
            raise StoreError(400, "IncompleteBody", "You did not provide the number of bytes specified by x-amz-decoded-content-length")
        md5 = headers.get("Content-MD5")
        if md5 and md5 != base64.b64encode(upload.md5.digest()).decode():
            raise StoreError(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
        promised = headers.get("x-amz-trailer", "").strip().lower()
        if promised and promised not in self.trailer:
            raise StoreError(400, "MalformedTrailerError", f"The request lacks the trailer {promised} that x-amz-trailer promises.")
        given = {name.lower(): value for name, value in headers.items()} | self.trailer
        mine = {"sha256": self.sha256.digest(), "sha1": self.sha1.digest(), "crc32": self.crc32.to_bytes(4, "big")}
        for name, value in given.items():
            # Names of the form -algorithm and -type describe the checksum, they do not carry one.
            if not name.startswith("x-amz-checksum-") or name in ("x-amz-checksum-algorithm", "x-amz-checksum-type", "x-amz-checksum-mode"):
                continue
            if name not in self.CHECKSUMS:
                raise StoreError(501, "NotImplemented", f"This origin cannot verify {name}, and accepts nothing that it cannot verify.")
            if value != base64.b64encode(mine[self.CHECKSUMS[name]]).decode():
                algorithm = self.CHECKSUMS[name].upper()
                raise StoreError(400, "BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            byte = self.request.body.read(1)
            if not byte or len(line) > 4096:
                raise StoreError(400, "IncompleteBody", "The request body terminated unexpectedly")
            line += byte
        return line[:-2]

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            block = self.request.body.read(count - len(data))
            if not block:
                raise StoreError(400, "IncompleteBody", "The request body terminated unexpectedly")
            data += block
        return data

    def _chunks(self):
        signed = self.signature.payload in self.SIGNED
        while True:
            size, _, extension = self._line().decode("latin-1").partition(";")
            try:
                count = int(size, 16)
            except ValueError:
                raise StoreError(400, "InvalidChunkSizeError", "A chunk of the body does not begin with its size") from None
            chunk = self._exactly(count) if count else b""
            if signed:
                what = "\n".join([EMPTY_SHA256, hashlib.sha256(chunk).hexdigest()])
                self._check_signature("AWS4-HMAC-SHA256-PAYLOAD", what, extension.partition("chunk-signature=")[2])
            if not count:
                break
            if self._exactly(2) != b"\r\n":
                raise StoreError(400, "InvalidChunkSizeError", "A chunk of the body does not end where its size says")
            yield chunk
        signature = ""
        canonical = ""
        while line := self._line().decode("latin-1"):
            name, _, value = line.partition(":")
            if name.lower() == "x-amz-trailer-signature":
                signature = value.strip()
            else:
                self.trailer[name.lower()] = value.strip()
                canonical += f"{name.lower()}:{value.strip()}\n"
        if self.signature.payload == self.SIGNED[1]:
            self._check_signature("AWS4-HMAC-SHA256-TRAILER", hashlib.sha256(canonical.encode()).hexdigest(), signature)

    def _check_signature(self, algorithm: str, what: str, given: str) -> None:
        to_sign = "\n".join([algorithm, self.signature.date, self.signature.scope, self.previous, what])
        self.previous = hmac.new(self.key, to_sign.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(self.previous, given):
            raise StoreError(403, "SignatureDoesNotMatch", "The signature of a chunk of the body does not match.")


def canonical_request(request: Request, signature: Signature) -> str:
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in request.params if name != "X-Amz-Signature")
    headers = "".join(f"{name}:{header_value(request, name)}\n" for name in signature.signed_headers)
    return "\n".join(
        [
            request.method,
            quote(unquote(request.path), safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            headers,
            ";".join(signature.signed_headers),
            signature.payload,
        ]
    )


def header_value(request: Request, name: str) -> str:
    values = [request.host] if name == "host" else request.headers.get_all(name, [])
    return ",".join(" ".join(value.split()) for value in values)


def signing_key(secret: str, scope: str) -> bytes:
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def user_metadata(request: Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items() if name.lower().startswith("x-amz-meta-")}


def xml(root: str, **fields: str) -> Response:
    rows = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{namespace}">{rows}</{root}>'.encode()
    return Response(200, {"Content-Type": "application/xml"}, body)
