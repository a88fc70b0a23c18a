# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The object protocol that S3 gave the world, and OSS and OBS took up: everything about it but who may do what.

GET with ranges, HEAD, PUT, DELETE, multipart uploads, user metadata, errors in XML. The stores add their names, signatures and words.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import threading
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import unquote
from xml.sax.saxutils import escape

from .messages import Part, Request, Response, StoreError
from .objects import BLOCK, Objects, Upload
from .reading import byte_range, object_headers

SKEW = timedelta(minutes=15)  # that all three allow a client's clock
LONGEST = 7 * 24 * 3600  # seconds that a signature of version 4 in a URL can live, at all three


@dataclass
class Key:
    id: str
    secret: str
    token: str = ""  # a temporary key is good with its token only, and any other without one
    publish: bool = False
    until: datetime | None = None  # when a temporary key that was issued here expires


@dataclass
class Place:
    """What a request's host and path name."""

    region: str
    bucket: str
    key: str
    virtual: bool = False  # the bucket is in the host's name
    api: str = ""  # the API that this host name has; empty where the signature decides


class Refusal(NamedTuple):
    status: int
    code: str
    message: str
    ec: str = ""  # OSS's number of the cause


MISMATCH = Refusal(
    403,
    "SignatureDoesNotMatch",
    "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
)


@dataclass
class Proof:
    """A signature that was verified: whose it is, and of which API."""

    key: Key
    prefix: str  # of that API's headers, such as x-amz-

    def body(self, request: Request) -> Body:
        return Body(request)


class Body:
    """A request body: iterate for its bytes, then check() them against whatever the client said of it."""

    def __init__(self, request: Request):
        self.request = request

    def __iter__(self):
        return iter(lambda: self.request.body.read(BLOCK), b"")

    def check(self, upload: Upload) -> None:
        length = self.request.headers.get("Content-Length")
        if length is not None and length != str(upload.size):
            raise StoreError(400, "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header")
        self.check_md5(upload)

    def check_md5(self, upload: Upload) -> None:
        md5 = self.request.headers.get("Content-MD5")
        if md5 and md5 != base64.b64encode(upload.md5.digest()).decode():
            raise StoreError(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")


class XmlStore:
    """config: {region, buckets: [..], endpoints: [host, ..], keys: [..]}, the keys' fields in the store's own words.

    ``demands: {header: value}`` is a bucket policy that refuses an upload without these headers, which are named without their prefix;
    ``object_lock: true`` refuses one without a checksum, ``requester_pays: true`` (S3) every request that does not say who pays.
    """

    HOST: re.Pattern  # of the store's own names: groups bucket and region, and api where its names tell that
    DEFAULT_REGION = ""  # of a name without one
    KEY_FIELDS: tuple[str, str, str]  # identifier, secret and token in the configuration
    SMALLEST_PART = 100 * 1024
    REQUEST_ID = "x-amz-request-id"
    REFUSALS = {
        "anonymous": Refusal(403, "AccessDenied", "Access Denied"),
        "not allowed": Refusal(403, "AccessDenied", "Access Denied"),
        "two mechanisms": Refusal(400, "InvalidArgument", "Only one auth mechanism allowed"),
        "unknown key": Refusal(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."),
        "token missing": Refusal(400, "InvalidToken", "The provided token is malformed or otherwise invalid."),
        "token not needed": Refusal(400, "InvalidToken", "The provided token is malformed or otherwise invalid."),
        "wrong token": Refusal(400, "InvalidToken", "The provided token is malformed or otherwise invalid."),
        "token expired": Refusal(400, "ExpiredToken", "The provided token has expired."),
        "mismatch": MISMATCH,
        "absent header": MISMATCH,
        "expired": Refusal(403, "AccessDenied", "Request has expired"),
        "too early": Refusal(403, "AccessDenied", "Request is not yet valid"),
        "clock ahead": Refusal(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
        "clock behind": Refusal(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
        "no bucket": Refusal(404, "NoSuchBucket", "The specified bucket does not exist"),
        "no key": Refusal(404, "NoSuchKey", "The specified key does not exist."),
        "no upload": Refusal(
            404,
            "NoSuchUpload",
            "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
        ),
        "elsewhere": Refusal(
            301, "PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint."
        ),
    }

    def __init__(self, config: dict, objects: Objects, now=lambda: datetime.now(timezone.utc)):
        self.region = config["region"]
        self.buckets = set(config["buckets"])
        self.endpoints = [host.lower() for host in config.get("endpoints", [])]
        name, secret, token = self.KEY_FIELDS
        keys = [Key(key[name], key[secret], key.get(token, ""), key.get("publish", False)) for key in config["keys"]]
        self.keys = {key.id: key for key in keys}
        self.demands = config.get("demands", {})
        self.object_lock = config.get("object_lock", False)
        self.requester_pays = config.get("requester_pays", False)
        self.objects = objects
        self.now = now
        self._uploads: dict[str, dict] = {}
        self._lock = threading.Lock()

    # -- which requests are ours, and how errors look ------------------------------------------------------------------

    def claims(self, hostname: str) -> bool:
        return bool(self.HOST.match(hostname)) or any(hostname == end or hostname.endswith("." + end) for end in self.endpoints)

    def locate(self, request: Request) -> Place:
        """What a request is about, from a virtual-hosted or a path-style name."""
        hostname = request.hostname
        place = Place(self.region, "", unquote(request.path)[1:])
        if match := self.HOST.match(hostname):
            place.bucket, place.region = match["bucket"] or "", match["region"] or self.DEFAULT_REGION
            place.api = match.groupdict().get("api") or "own"
        else:
            for end in self.endpoints:
                if hostname.endswith("." + end):
                    place.bucket = hostname[: -len(end) - 1]
        place.virtual = bool(place.bucket)
        if not place.virtual:
            place.bucket, _, place.key = place.key.partition("/")
        return place

    def endpoint(self, place: Place) -> str:
        """Where the bucket of a request really is."""
        raise NotImplementedError

    def refuse(self, reason: str, headers: dict[str, str] | None = None, **details: str) -> StoreError:
        refusal = self.REFUSALS[reason]
        if refusal.ec:
            details["EC"] = refusal.ec
        return StoreError(refusal.status, refusal.code, refusal.message, headers, **details)

    def common_headers(self) -> dict[str, str]:
        return {self.REQUEST_ID: secrets.token_hex(12).upper()}

    def error_fields(self, error: StoreError, request: Request, request_id: str) -> dict[str, str]:
        return {"Code": error.code, "Message": error.message, **error.details, "RequestId": request_id}

    def render(self, error: StoreError, request: Request) -> Response:
        headers = {"Content-Type": "application/xml", **self.common_headers(), **error.headers}
        fields = self.error_fields(error, request, headers[self.REQUEST_ID])
        return Response(error.status, headers, f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{rows(fields)}</Error>'.encode())

    # -- who may do what -----------------------------------------------------------------------------------------------

    def verify(self, request: Request, place: Place) -> Proof:
        raise NotImplementedError

    def authorize(self, request: Request) -> tuple[str, Proof]:
        """Verify the request; return the name of the object it is about and the proof of it."""
        place = self.locate(request)
        proof = self.verify(request, place)
        if request.method not in ("GET", "HEAD") and not proof.key.publish:
            raise self.refuse("not allowed")
        if place.bucket not in self.buckets:
            raise self.refuse("no bucket", BucketName=place.bucket)
        if place.region != self.region:
            raise self.refuse("elsewhere", {"x-amz-bucket-region": self.region}, Bucket=place.bucket, Endpoint=self.endpoint(place))
        return f"{place.bucket}/{place.key}", proof

    def known_key(self, name: str, tokens: list[str], **details: str) -> Key:
        """The key of that name if these are the security tokens to use it with; the details are told if not."""
        key = self.keys.get(name)
        if key is None:
            raise self.refuse("unknown key", **details)
        if tokens == ([key.token] if key.token else []):
            if key.until and self.now() >= key.until:
                raise self.refuse("token expired", **details)
            return key
        raise self.refuse("token missing" if not tokens else "wrong token" if key.token else "token not needed", **details)

    def check_clock(self, made: datetime, told: str) -> None:
        """Refuse a signed header whose time is not about now."""
        now = self.now()
        if abs(now - made) > SKEW:
            server = now.strftime("%Y-%m-%dT%H:%M:%SZ")
            raise self.refuse("clock ahead" if made > now else "clock behind", RequestTime=told, ServerTime=server)

    # -- one request ---------------------------------------------------------------------------------------------------

    def handle(self, request: Request, proof: Proof, no_range: bool = False) -> Response:
        response = self._answer(request, proof, no_range)
        response.headers = self.common_headers() | response.headers
        return response

    def _answer(self, request: Request, proof: Proof, no_range: bool) -> Response:
        place = self.locate(request)
        params = dict(request.params)
        if not place.key:
            if request.method == "HEAD":
                return Response(200, {"x-amz-bucket-region": self.region})
            raise StoreError(501, "NotImplemented", "This origin has no bucket operations beyond HEAD.")
        if request.method == "GET" and "uploadId" in params:
            return self._list_parts(proof, place, params)
        if request.method in ("GET", "HEAD"):
            return self._get(request, proof, place, no_range)
        if request.method == "PUT" and "uploadId" in params:
            return self._put_part(request, proof, place, params)
        if request.method == "PUT" and proof.prefix + "copy-source" not in request.headers:
            return self._put(request, proof, place)
        if request.method == "POST" and "uploads" in params:
            return self._create_multipart(request, proof, place)
        if request.method == "POST" and "uploadId" in params:
            return self._complete_multipart(request, proof, place, params)
        if request.method == "DELETE":
            self._receive(request, proof).discard()
            if "uploadId" in params:
                self._forget(place, params["uploadId"])
            else:
                self.objects.delete(place.bucket, place.key)
            return Response(204)
        raise StoreError(501, "NotImplemented", "A header or query you provided implies functionality that is not implemented.")

    # -- reading -------------------------------------------------------------------------------------------------------

    def _get(self, request: Request, proof: Proof, place: Place, no_range: bool) -> Response:
        item = self.objects.get(place.bucket, place.key)
        if item is None:
            raise self.refuse("no key", Key=place.key)
        headers = object_headers(item, proof.prefix + "meta-")
        if (wanted := request.headers.get("If-Match")) and wanted not in ("*", headers["ETag"]):
            raise precondition_failed("If-Match")
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

    def _check_demands(self, request: Request, proof: Proof) -> None:
        if any(request.headers.get(proof.prefix + name) != value for name, value in self.demands.items()):
            raise self.refuse("not allowed")

    def _check_checksum(self, request: Request, what: str) -> None:
        names = {name.lower() for name in request.headers}
        if self.object_lock and not any(name in ("content-md5", "x-amz-trailer") or name.startswith("x-amz-checksum-") for name in names):
            message = f"Content-MD5 OR x-amz-checksum- HTTP header is required for {what} requests with Object Lock parameters"
            raise StoreError(400, "InvalidRequest", message)

    def _receive(self, request: Request, proof: Proof) -> Upload:
        """Read the whole body, checked against whatever the client promised about it."""
        body = proof.body(request)
        upload = self.objects.upload()
        try:
            for block in body:
                upload.write(block)
            body.check(upload)
        except BaseException:
            upload.discard()
            raise
        return upload

    def _put(self, request: Request, proof: Proof, place: Place) -> Response:
        if request.headers.get("If-None-Match") == "*" and self.objects.get(place.bucket, place.key):
            raise precondition_failed("If-None-Match")
        self._check_demands(request, proof)
        self._check_checksum(request, "Put Object")
        item = self.objects.put(place.bucket, place.key, self._receive(request, proof), **described(request, proof))
        return Response(200, {"ETag": f'"{item.etag}"'})

    def _create_multipart(self, request: Request, proof: Proof, place: Place) -> Response:
        self._check_demands(request, proof)
        self._receive(request, proof).discard()
        upload_id = secrets.token_hex(16)
        with self._lock:
            self._uploads[upload_id] = {"bucket": place.bucket, "key": place.key, "parts": {}, "facts": described(request, proof)}
        return xml("InitiateMultipartUploadResult", proof, Bucket=place.bucket, Key=place.key, UploadId=upload_id)

    def _multipart(self, place: Place, upload_id: str) -> dict:
        """An upload by its identifier, which is good for the object it was begun for and no other."""
        with self._lock:
            multipart = self._uploads.get(upload_id)
        if multipart is None or (multipart["bucket"], multipart["key"]) != (place.bucket, place.key):
            raise self.refuse("no upload", UploadId=upload_id)
        return multipart

    def _put_part(self, request: Request, proof: Proof, place: Place, params: dict[str, str]) -> Response:
        number = params.get("partNumber", "")
        if not number.isdecimal() or not 1 <= int(number) <= 10000:
            raise StoreError(
                400, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive", ArgumentName="partNumber"
            )
        multipart = self._multipart(place, params["uploadId"])
        self._check_checksum(request, "Put Part")
        part = self._receive(request, proof)
        part.stream.close()
        with self._lock:
            replaced = multipart["parts"].get(int(number))
            multipart["parts"][int(number)] = part
        if replaced:
            replaced.discard()
        return Response(200, {"ETag": f'"{part.md5.hexdigest()}"'})

    def _list_parts(self, proof: Proof, place: Place, params: dict[str, str]) -> Response:
        multipart = self._multipart(place, params["uploadId"])
        marker = params.get("part-number-marker", "")
        marker = int(marker) if marker.isdecimal() else 0
        last = parts = ""
        for number, part in sorted(multipart["parts"].items()):
            if number > marker:
                made = datetime.fromtimestamp(part.path.stat().st_mtime, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
                last = str(number)
                facts = {"PartNumber": last, "LastModified": made, "ETag": f'"{part.md5.hexdigest()}"', "Size": str(part.size)}
                parts += f"<Part>{rows(facts)}</Part>"
        names = {"Bucket": multipart["bucket"], "Key": multipart["key"], "UploadId": params["uploadId"]}
        return xml("ListPartsResult", proof, parts, **names, NextPartNumberMarker=last or "0", IsTruncated="false")

    def _complete_multipart(self, request: Request, proof: Proof, place: Place, params: dict[str, str]) -> Response:
        multipart = self._multipart(place, params["uploadId"])
        body = self._receive(request, proof)
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
            if have is None or part.get("ETag", "").strip('"').lower() != have.md5.hexdigest():
                raise StoreError(400, "InvalidPart", "One or more of the specified parts could not be found.", PartNumber=str(number))
            parts.append(have)
        if any(part.size < self.SMALLEST_PART for part in parts[:-1]):
            raise StoreError(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed object size.")

        whole = self.objects.upload()
        for part in parts:
            with part.path.open("rb") as stream:
                while block := stream.read(BLOCK):
                    whole.write(block)
        etag = hashlib.md5(b"".join(part.md5.digest() for part in parts), usedforsecurity=False).hexdigest() + f"-{len(parts)}"
        bucket, key = multipart["bucket"], multipart["key"]
        self.objects.put(bucket, key, whole, etag=etag, **multipart["facts"])
        self._forget(place, params["uploadId"])
        return xml("CompleteMultipartUploadResult", proof, Bucket=bucket, Key=key, ETag=f'"{etag}"')

    def _forget(self, place: Place, upload_id: str) -> None:
        multipart = self._multipart(place, upload_id)
        with self._lock:
            del self._uploads[upload_id]
        for part in multipart["parts"].values():
            part.discard()


def described(request: Request, proof: Proof) -> dict:
    """What a client says of the object it sends: its type and the user metadata, without the prefix of the API that it speaks."""
    prefix = proof.prefix + "meta-"
    metadata = {name.lower()[len(prefix) :]: value for name, value in request.headers.items() if name.lower().startswith(prefix)}
    return {"content_type": request.headers.get("Content-Type", ""), "metadata": metadata}


def http_date(text: str | None, form: str) -> str:
    """An HTTP date in another form, empty if it is none."""
    try:
        return parsedate_to_datetime(text or "").astimezone(timezone.utc).strftime(form)
    except (TypeError, ValueError, OverflowError):
        return ""


def expiry(ends: datetime, now: datetime) -> dict[str, str]:
    form = "%Y-%m-%dT%H:%M:%S.000Z"
    return {"Expires": ends.strftime(form), "ServerTime": now.strftime(form)}


def precondition_failed(condition: str) -> StoreError:
    message = "At least one of the pre-conditions you specified did not hold"
    return StoreError(412, "PreconditionFailed", message, Condition=condition)


def rows(fields: dict[str, str]) -> str:
    return "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())


def xml(root: str, proof: Proof, more: str = "", **fields: str) -> Response:
    namespace = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"' if proof.prefix == "x-amz-" else ""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}{namespace}>{rows(fields)}{more}</{root}>'.encode()
    return Response(200, {"Content-Type": "application/xml"}, body)
