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
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from urllib.parse import quote, unquote

from .messages import Request, StoreError
from .objects import BLOCK, Upload
from .xmlstore import LONGEST, SKEW, Body, Place, Proof, XmlStore, expiry, http_date

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


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


@dataclass
class SigV4Proof(Proof):
    signature: Signature

    def body(self, request: Request) -> Body:
        return SigV4Body(request, self.signature, self.key.secret)


class SigV4(XmlStore):
    """A store that takes AWS Signature Version 4."""

    TOKEN_PARAMS = ("X-Amz-Security-Token",)

    # -- signatures ----------------------------------------------------------------------------------------------------

    def verify(self, request: Request, place: Place) -> Proof:
        proof = self.verify_sigv4(request, place)
        payers = [request.headers.get("x-amz-request-payer"), dict(request.params).get("x-amz-request-payer")]
        if self.requester_pays and "requester" not in payers:
            raise self.refuse("not allowed")
        return proof

    def verify_sigv4(self, request: Request, place: Place) -> SigV4Proof:
        params = dict(request.params)
        authorization = request.headers.get("Authorization")
        if "X-Amz-Algorithm" in params or "X-Amz-Signature" in params:
            if authorization:
                raise self.refuse("two mechanisms", ArgumentName="Authorization")
            signature = self._from_query(request, params)
            malformed = "AuthorizationQueryParametersError"
        elif authorization:
            signature = self._from_header(request, authorization)
            malformed = "AuthorizationHeaderMalformed"
        else:
            raise self.refuse("anonymous")
        self._check_scope(signature, place.region, malformed)
        self._check_time(signature)

        tokens = [value for name, value in request.params if name in self.TOKEN_PARAMS and value]
        tokens += request.headers.get_all("x-amz-security-token", [])
        key = self.known_key(signature.access_key, tokens, AWSAccessKeyId=signature.access_key)
        self._check_signed_headers(request, signature)
        canonical = canonical_request(request, signature)
        to_sign = "\n".join([ALGORITHM, signature.date, signature.scope, hashlib.sha256(canonical.encode()).hexdigest()])
        expected = hmac.new(signing_key(key.secret, signature.scope), to_sign.encode(), hashlib.sha256).hexdigest()
        wrong = "" if hmac.compare_digest(expected.encode(), signature.signature.encode()) else "mismatch"
        if signature.signed_headers != canonical_names(request, signature):
            wrong = "mismatch" if all(is_sent(request, name) for name in signature.signed_headers) else "absent header"
        if wrong:
            raise self.refuse(
                wrong,
                AWSAccessKeyId=signature.access_key,
                SignatureProvided=signature.signature,
                StringToSign=to_sign,
                CanonicalRequest=canonical,
            )
        return SigV4Proof(key, "x-amz-", signature)

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
        date = request.headers.get("x-amz-date") or http_date(request.headers.get("Date"), "%Y%m%dT%H%M%SZ")
        if not date:
            raise StoreError(403, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
        payload = request.headers.get("x-amz-content-sha256")
        if not payload:
            raise StoreError(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
        access_key, _, scope = fields["Credential"].partition("/")
        return Signature(
            access_key=access_key,
            scope=scope,
            date=date,
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
            self.check_clock(made, signature.date)
        elif made - now > SKEW:
            raise self.refuse("too early")
        elif now > (ends := made + timedelta(seconds=signature.expires)):
            raise self.refuse("expired", **expiry(ends, now), **{"X-Amz-Expires": str(signature.expires)})

    @staticmethod
    def _check_signed_headers(request: Request, signature: Signature) -> None:
        must = {"host"} | {name.lower() for name in request.headers if name.lower().startswith("x-amz-")}
        if signature.expires is not None:
            must.discard("x-amz-content-sha256")
        unsigned = sorted(must - set(signature.signed_headers))
        if unsigned:
            message = "There were headers present in the request which were not signed"
            raise StoreError(403, "AccessDenied", message, HeadersNotSigned=", ".join(unsigned))


class S3(SigV4):
    """config: {region, buckets: [..], endpoints: [host, ..], keys: [{access_key, secret_key, session_token, publish}, ..]}"""

    HOST = re.compile(
        r"^(?:(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\.)?"
        r"s3(?:[.-](?P<region>[a-z]{2}(?:-[a-z]+)+-\d))?\.amazonaws\.com$"
    )
    DEFAULT_REGION = "us-east-1"
    KEY_FIELDS = ("access_key", "secret_key", "session_token")
    SMALLEST_PART = 5 * 1024 * 1024

    def endpoint(self, place: Place) -> str:
        return f"{place.bucket}.s3.{self.region}.amazonaws.com"


class SigV4Body(Body):
    """Adds the digests of a signed payload, bodies in aws-chunks, and the checksums in headers and trailers."""

    SIGNED = ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")
    UNSIGNED = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    CHECKSUMS = {"x-amz-checksum-crc32": "crc32", "x-amz-checksum-sha1": "sha1", "x-amz-checksum-sha256": "sha256"}

    def __init__(self, request: Request, signature: Signature, secret: str):
        super().__init__(request)
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
        if payload.startswith("STREAMING-"):
            self.check_md5(upload)
        else:
            super().check(upload)
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
    names = canonical_names(request, signature)
    headers = "".join(f"{name}:{header_value(request, name)}\n" for name in names)
    return "\n".join(
        [
            request.method,
            quote(unquote(request.path), safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            headers,
            ";".join(names),
            signature.payload,
        ]
    )


def canonical_names(request: Request, signature: Signature) -> list[str]:
    """The signed headers that were sent, each once, in lower case and in order: the only list that a signature can be made with."""
    return sorted({name.lower() for name in signature.signed_headers if is_sent(request, name)})


def is_sent(request: Request, name: str) -> bool:
    return name.lower() == "host" or name in request.headers


def header_value(request: Request, name: str) -> str:
    values = [request.host] if name == "host" else request.headers.get_all(name, [])
    return ",".join(" ".join(value.split()) for value in values)


def speaks_sigv4(request: Request) -> bool:
    return request.headers.get("Authorization", "").startswith(ALGORITHM) or any(name.startswith("X-Amz-") for name, _ in request.params)


def signing_key(secret: str, scope: str, prefix: str = "AWS4") -> bytes:
    key = (prefix + secret).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
