# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Google Cloud Storage as far as publishing and fetching models goes, with RSA signatures truly verified.

The XML API with V4 query signatures or an access token, the token endpoint that sells tokens for signed assertions, and of the JSON API
uploads (in one piece, multipart, resumable), metadata, downloads and deletion.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email import message_from_bytes
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from .crc32c import crc32c
from .messages import Part, Request, Response, StoreError
from .objects import BLOCK, Objects, StoredObject, Upload
from .reading import byte_range, object_headers

ALGORITHM = "GOOG4-RSA-SHA256"
SKEW = timedelta(minutes=15)
LONGEST = 7 * 24 * 3600
ABANDONED = timedelta(hours=1)  # without a request; Google keeps a session for a week, this origin an open file for each
PIECE = 256 * 1024  # a resumable upload's chunks are multiples of it
LARGEST_MULTIPART = 64 * 1024 * 1024
SMALL = 8 * 1024 * 1024
META = "x-goog-meta-"
AUDIENCES = (
    "https://oauth2.googleapis.com/token",
    "https://www.googleapis.com/oauth2/v4/token",
    "https://accounts.google.com/o/oauth2/token",
)
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPE = "https://www.googleapis.com/auth/"
WRITING = {SCOPE + name for name in ("cloud-platform", "devstorage.full_control", "devstorage.read_write")}
READING = WRITING | {SCOPE + name for name in ("cloud-platform.read-only", "devstorage.read_only")}
JSON_PATH = re.compile(r"^/(?:(?P<kind>upload|download)/)?storage/v1/b/(?P<bucket>[^/]+)(?:/o(?:/(?P<key>[^/]+))?)?$")
ACTIONS = {"GET": "get", "HEAD": "get", "PUT": "create", "POST": "create", "DELETE": "delete"}
# What the faults of the control API are called here.
XML_CODES = {"SlowDown": "ServiceUnavailable"}
REASONS = {"AccessDenied": "forbidden", "NoSuchKey": "notFound", "SlowDown": "backendError", "InternalError": "backendError"}


@dataclass
class Proof:
    """A request whose signature or token has been verified."""

    api: str  # xml | json | token
    kind: str = ""  # of the JSON API: upload | download | ""
    bucket: str = ""
    key: str = ""
    params: dict[str, str] = field(default_factory=dict)
    facts: dict = field(default_factory=dict)  # what the client says about the object that it uploads
    content: bytes = b""  # of a multipart upload
    content_type: str = ""


class Gcs:
    """config: {buckets, accounts: [{client_email, public_key: PEM, private_key_id, publish}, ..], hosts: [name, ..]}

    ``kms_key_name`` is a policy that refuses new objects which are not encrypted with that key; ``requester_pays: true`` refuses every
    request that names no project to pay.
    A host whose name begins with oauth2. is the token endpoint alone; one outside googleapis.com is both.
    """

    def __init__(self, config: dict, objects: Objects, now=lambda: datetime.now(timezone.utc)):
        self.hosts = [host.lower() for host in config.get("hosts") or ("storage.googleapis.com", "oauth2.googleapis.com")]
        self.buckets = set(config["buckets"])
        self.accounts = {account["client_email"]: account for account in config["accounts"]}
        self.public_keys = {name: load_pem_public_key(account["public_key"].encode()) for name, account in self.accounts.items()}
        self.kms_key_name = config.get("kms_key_name")
        self.requester_pays = config.get("requester_pays", False)
        self.objects = objects
        self.now = now
        self._tokens: dict[str, dict] = {}
        self._sessions: dict[str, dict] = {}
        self._checksums: dict[str, str] = {}
        self._lock = threading.Lock()

    # -- which requests are ours, and how errors look ------------------------------------------------------------------

    def claims(self, hostname: str) -> bool:
        return hostname in self.hosts or any(hostname.endswith("." + host) for host in self.hosts if not host.startswith("oauth2."))

    def _api(self, request: Request) -> str:
        hostname = request.hostname
        if hostname.startswith("oauth2.") or (request.path == "/token" and not hostname.endswith("googleapis.com")):
            return "token"
        return "json" if hostname in self.hosts and JSON_PATH.match(request.path) else "xml"

    def render(self, error: StoreError, request: Request) -> Response:
        api = self._api(request)
        if api == "token":
            return json_response(error.status, {"error": error.code, "error_description": error.message}, error.headers)
        if api == "json":
            if ("alt", "media") in request.params:
                return Response(error.status, {"Content-Type": "text/html; charset=UTF-8", **error.headers}, error.message.encode())
            one = {"message": error.message, "domain": "global", "reason": REASONS.get(error.code, error.code), **error.details}
            return json_response(error.status, {"error": {"code": error.status, "message": error.message, "errors": [one]}}, error.headers)
        fields = {"Code": XML_CODES.get(error.code, error.code), "Message": error.message, **error.details}
        rows = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
        body = f"<?xml version='1.0' encoding='UTF-8'?><Error>{rows}</Error>".encode()
        return Response(error.status, {"Content-Type": "application/xml; charset=UTF-8", **error.headers}, body)

    # -- one request ---------------------------------------------------------------------------------------------------

    def authorize(self, request: Request) -> tuple[str, Proof]:
        """Verify the request; return the name of the object it is about. What is not about one object has a name with a colon."""
        api = self._api(request)
        if api == "token":
            return "gcs:token", Proof("token")
        if api == "json":
            return self._authorize_json(request)
        bucket, key = self._locate(request)
        if (request.headers.get("Authorization") or "").startswith("Bearer "):
            caller, account, scopes = self._token(request, "AuthenticationRequired")
            self._scoped(request, scopes, "AccessDenied")
        else:
            caller, account = self._verify(request)
        if bucket not in self.buckets:
            raise StoreError(404, "NoSuchBucket", "The specified bucket does not exist.")
        if request.method not in ("GET", "HEAD") and not account.get("publish"):
            raise StoreError(403, "AccessDenied", "Access denied.", Details=denied(caller, ACTIONS.get(request.method, "create")))
        self._check_payer(request, "UserProjectMissing")
        return f"{bucket}/{key}", Proof("xml", "", bucket, key, dict(request.params))

    def handle(self, request: Request, proof: Proof, no_range: bool = False) -> Response:
        if proof.api == "token":
            return self._sell_token(request)
        response = self._handle_json(request, proof, no_range) if proof.api == "json" else self._handle_xml(request, proof, no_range)
        response.headers.setdefault("X-GUploader-UploadID", secrets.token_urlsafe(24))
        return response

    def _check_payer(self, request: Request, code: str) -> None:
        if self.requester_pays and not (dict(request.params).get("userProject") or request.headers.get("x-goog-user-project")):
            raise StoreError(400, code, "Bucket is a requester pays bucket but no user project provided.")

    def _locate(self, request: Request) -> tuple[str, str]:
        path = request.path[1:]
        for host in self.hosts:
            if request.hostname.endswith("." + host):
                return request.hostname[: -len(host) - 1], unquote(path)
        bucket, _, key = path.partition("/")
        return unquote(bucket), unquote(key)

    # -- V4 query signatures -------------------------------------------------------------------------------------------

    def _verify(self, request: Request) -> tuple[str, dict]:
        given = [(name.lower(), value) for name, value in request.params if name.lower().startswith("x-goog-")]
        params = dict(given)
        if "x-goog-signature" not in params and "x-goog-algorithm" not in params:
            raise StoreError(
                403, "AccessDenied", "Access denied.", Details=denied("Anonymous caller", ACTIONS.get(request.method, "create"))
            )
        for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"):
            if not params.get(f"x-goog-{name.lower()}"):
                raise malformed(f"X-Goog-{name}", "The parameter is required for a V4 signature.")
        if len(given) != len(params):
            raise malformed("", "A parameter of the signature is given twice.")
        if params["x-goog-algorithm"] != ALGORITHM:
            raise malformed("X-Goog-Algorithm", f"Only {ALGORITHM} is accepted.")
        email, scope = self._scope(params)
        self._check_time(params)
        signed = params["x-goog-signedheaders"].split(";")
        canonical = canonical_request(request, signed)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = "\n".join([ALGORITHM, params["x-goog-date"], scope, digest])
        account = self.accounts.get(email)
        if account is None:
            raise StoreError(403, "InvalidSecurity", "The provided security credentials are not valid.")
        try:
            signature = bytes.fromhex(params["x-goog-signature"])
        except ValueError:
            raise malformed("X-Goog-Signature", "Signature was not hex encoded") from None
        if not self._signed(email, signature, to_sign.encode()):
            raise StoreError(
                403,
                "SignatureDoesNotMatch",
                "Access denied.",
                Details="The request signature we calculated does not match the signature you provided. "
                "Check your Google secret key and signing method.",
                StringToSign=to_sign,
                CanonicalRequest=canonical,
            )
        return email, account

    @staticmethod
    def _scope(params: dict[str, str]) -> tuple[str, str]:
        parts = params["x-goog-credential"].rsplit("/", 4)
        if len(parts) != 5 or not all(parts):
            raise malformed("X-Goog-Credential", "The credential is <account>/YYYYMMDD/LOCATION/storage/goog4_request.")
        email, date, location, service, terminator = parts
        if service != "storage" or terminator != "goog4_request" or not re.fullmatch(r"[a-z0-9-]+", location):
            raise malformed("X-Goog-Credential", "The credential is <account>/YYYYMMDD/LOCATION/storage/goog4_request.")
        if date != params["x-goog-date"][:8]:
            raise malformed("X-Goog-Credential", "The date of the credential is not that of X-Goog-Date.")
        return email, "/".join(parts[1:])

    def _check_time(self, params: dict[str, str]) -> None:
        try:
            made = datetime.strptime(params["x-goog-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
        except ValueError:
            raise malformed("X-Goog-Date", "The date is not of the form YYYYMMDD'T'HHMMSS'Z'.") from None
        expires = params["x-goog-expires"]
        if not expires.isdecimal() or not 1 <= int(expires) <= LONGEST:
            raise malformed("X-Goog-Expires", f"The value is a number of seconds from 1 to {LONGEST}.")
        end = made + timedelta(seconds=int(expires))
        now = self.now()
        if made - now > SKEW:
            raise StoreError(403, "AccessDenied", "Access denied.", Details=f"Request signature is not valid before {made.isoformat()}")
        if now > end:
            details = f"The provided token has expired. Request signature expired at: {end.isoformat()}"
            raise StoreError(400, "ExpiredToken", "Invalid argument.", Details=details)

    def _signed(self, email: str, signature: bytes, message: bytes) -> bool:
        try:
            self.public_keys[email].verify(signature, message, PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True

    # -- access tokens -------------------------------------------------------------------------------------------------

    def _sell_token(self, request: Request) -> Response:
        if request.method != "POST" or request.path != "/token":
            raise StoreError(404, "not_found", "The token endpoint is POST /token.")
        form = parse_qs(request.body.read(64 * 1024).decode("utf-8", "replace"))
        if form.get("grant_type") != [GRANT]:
            raise StoreError(400, "unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', [''])[0]}")
        try:
            signed, _, signature = form["assertion"][0].rpartition(".")
            header, claims = (json.loads(unbase64(part)) for part in signed.split("."))
            signature = unbase64(signature)
            algorithm, key_name = header["alg"], header.get("kid")
            email, scopes = claims["iss"], set(claims.get("scope", "").split())
            issued, expires = int(claims["iat"]), int(claims["exp"])
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError):
            raise StoreError(400, "invalid_request", "Bad Request") from None
        account = self.accounts.get(email) if isinstance(email, str) else None
        if account is None:
            raise StoreError(400, "invalid_grant", "Invalid grant: account not found")
        key_id = account.get("private_key_id")
        known = not key_id or key_name in (None, key_id)
        if algorithm != "RS256" or not known or not self._signed(email, signature, signed.encode()):
            raise StoreError(400, "invalid_grant", "Invalid JWT Signature.")
        if claims.get("aud") not in AUDIENCES:
            raise StoreError(400, "invalid_grant", f"Invalid JWT: Failed audience check. The right audience is {AUDIENCES[0]}")
        now, skew = self.now().timestamp(), SKEW.total_seconds()
        if not issued <= expires <= issued + 3600 or issued > now + skew or expires < now:
            raise StoreError(
                400,
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
                "Check your iat and exp values in the JWT claim.",
            )
        if not scopes:
            raise StoreError(400, "invalid_scope", "Empty or missing scope not allowed.")
        token = "ya29.c." + secrets.token_urlsafe(48)
        with self._lock:
            self._tokens = {text: facts for text, facts in self._tokens.items() if facts["expires"] > now}
            self._tokens[token] = {"email": email, "scopes": scopes, "expires": now + 3600}
        return json_response(200, {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}, {"Cache-Control": "no-store"})

    def know(self, token: str, email: str, scopes: set[str], until: datetime) -> None:
        """Take a token that somebody else sold."""
        with self._lock:
            self._tokens[token] = {"email": email, "scopes": scopes, "expires": until.timestamp()}

    def expiry_of(self, token: str) -> datetime | None:
        with self._lock:
            facts = self._tokens.get(token)
        return facts and datetime.fromtimestamp(facts["expires"], timezone.utc)

    def _token(self, request: Request, code: str) -> tuple[str, dict, set[str]]:
        token = request.headers["Authorization"].partition(" ")[2]
        with self._lock:
            facts = self._tokens.get(token)
        if facts is None or facts["expires"] < self.now().timestamp():
            challenge = {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/", error="invalid_token"'}
            where = {"locationType": "header", "location": "Authorization"} if code == "authError" else {}
            raise StoreError(401, code, "Invalid Credentials", challenge, **where)
        return facts["email"], self.accounts[facts["email"]], facts["scopes"]

    @staticmethod
    def _scoped(request: Request, scopes: set[str], code: str) -> None:
        if not scopes & (READING if request.method in ("GET", "HEAD") else WRITING):
            raise StoreError(403, code, "Provided scope(s) are not authorized")

    # -- XML API -------------------------------------------------------------------------------------------------------

    def _handle_xml(self, request: Request, proof: Proof, no_range: bool) -> Response:
        if not proof.key:
            if request.method == "HEAD":
                return Response(200)
            raise StoreError(501, "NotImplemented", "This origin has no bucket operations beyond HEAD.")
        if request.method in ("GET", "HEAD"):
            item = self.objects.get(proof.bucket, proof.key)
            if item is None or proof.params.get("generation", generation(item)) != generation(item):
                raise StoreError(
                    404, "NoSuchKey", "The specified key does not exist.", Details=f"No such object: {proof.bucket}/{proof.key}"
                )
            return self._media(request, item, no_range)
        if request.method == "PUT":
            self._precondition(request.headers.get("x-goog-if-generation-match"), proof.bucket, proof.key, "PreconditionFailed")
            upload = self._receive(request)
            facts = {name.lower()[len(META) :]: value for name, value in request.headers.items() if name.lower().startswith(META)}
            item = self.objects.put(proof.bucket, proof.key, upload, content_type=request.headers.get("Content-Type", ""), metadata=facts)
            return Response(200, {"ETag": f'"{item.etag}"', "x-goog-generation": generation(item), "x-goog-hash": self._hash(item)})
        if request.method == "DELETE":
            if self.objects.get(proof.bucket, proof.key) is None:
                raise StoreError(
                    404, "NoSuchKey", "The specified key does not exist.", Details=f"No such object: {proof.bucket}/{proof.key}"
                )
            self.objects.delete(proof.bucket, proof.key)
            return Response(204)
        raise StoreError(501, "NotImplemented", "This origin does not implement this method of the XML API.")

    def _receive(self, request: Request) -> Upload:
        upload = self.objects.upload()
        sha256 = hashlib.sha256()
        try:
            while block := request.body.read(BLOCK):
                upload.write(block)
                sha256.update(block)
            if (length := request.headers.get("Content-Length")) and int(length) != upload.size:
                raise StoreError(400, "IncompleteBody", "The body is shorter than its Content-Length.")
            wanted = request.headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD")
            if wanted not in ("UNSIGNED-PAYLOAD", sha256.hexdigest()):
                raise StoreError(400, "InvalidArgument", "Invalid argument.", Details="x-goog-content-sha256 does not match the body.")
            md5 = request.headers.get("Content-MD5")
            given = {"md5Hash": md5} if md5 else {}
            self._check_hashes(upload, given | hashes(request.headers.get("x-goog-hash")), "BadDigest")
        except BaseException:
            upload.discard()
            raise
        return upload

    def _media(self, request: Request, item: StoredObject, no_range: bool) -> Response:
        headers = {
            **object_headers(item, META),
            "x-goog-generation": generation(item),
            "x-goog-metageneration": "1",
            "x-goog-stored-content-encoding": "identity",
            "x-goog-stored-content-length": str(item.size),
            "x-goog-storage-class": "STANDARD",
            "x-goog-hash": self._hash(item),
        }
        if (wanted := request.headers.get("If-Match")) and wanted not in ("*", headers["ETag"]):
            raise StoreError(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")
        if request.headers.get("If-None-Match") in ("*", headers["ETag"]):
            return Response(304, headers)
        wanted = None if no_range else byte_range(request.headers.get("Range"), item.size)
        if wanted is None:
            return Response(200, headers, Part(item, 0, item.size))
        start, end = wanted
        if start >= end:
            message = "The requested range cannot be satisfied."
            raise StoreError(416, "InvalidRange", message, {"Content-Range": f"bytes */{item.size}"})
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{item.size}"
        return Response(206, headers, Part(item, start, end))

    # -- checksums -----------------------------------------------------------------------------------------------------

    def _crc32c(self, item: StoredObject) -> str:
        with self._lock:
            known = self._checksums.get(str(item.path))
        if known is None:
            known = encoded(crc32c(item.path))
            with self._lock:
                self._checksums[str(item.path)] = known
        return known

    def _hash(self, item: StoredObject) -> str:
        # Of a large object that came in by another door the slow checksum is left out: clients do without.
        known = item.size <= SMALL or str(item.path) in self._checksums
        parts = [f"crc32c={self._crc32c(item)}"] if known else []
        return ",".join([*parts, f"md5={md5_hash(item)}"] if md5_hash(item) else parts)

    @staticmethod
    def _check_hashes(upload: Upload, facts: dict, code: str) -> str | None:
        """Compare what the client says of the content with what came; return the crc32c if it was computed."""
        checksum = None
        if md5 := facts.get("md5Hash"):
            mine = base64.b64encode(upload.md5.digest()).decode()
            if md5 != mine:
                raise StoreError(400, code, f'Provided MD5 hash "{md5}" doesn\'t match calculated MD5 hash "{mine}".')
        if given := facts.get("crc32c"):
            upload.stream.flush()
            checksum = encoded(crc32c(upload.path))
            if given != checksum:
                raise StoreError(400, code, f'Provided CRC32C "{given}" doesn\'t match calculated CRC32C "{checksum}".')
        return checksum

    # -- JSON API ------------------------------------------------------------------------------------------------------

    def _authorize_json(self, request: Request) -> tuple[str, Proof]:
        match = JSON_PATH.match(request.path)
        params = dict(request.params)
        bucket, key = unquote(match["bucket"]), unquote(match["key"] or "")
        proof = Proof("json", match["kind"] or "", bucket, key, params)
        if proof.kind == "upload" and "upload_id" in params:
            # The address of a session is its own proof; a token that is shown must be good all the same.
            session = self._session(params["upload_id"])
            if request.headers.get("Authorization"):
                self._token(request, "authError")
            return f"{session['bucket']}/{session['key']}", proof
        action = ACTIONS.get(request.method, "get")
        if not (request.headers.get("Authorization") or "").startswith("Bearer "):
            where = {"locationType": "header", "location": "Authorization"}
            raise StoreError(401, "required", denied("Anonymous caller", action), **where)
        caller, account, scopes = self._token(request, "authError")
        self._scoped(request, scopes, "forbidden")
        if bucket not in self.buckets:
            raise StoreError(404, "notFound", "The specified bucket does not exist.")
        if request.method not in ("GET", "HEAD") and not account.get("publish"):
            raise StoreError(403, "forbidden", denied(caller, action))
        self._check_payer(request, "required")
        if proof.kind == "upload":
            self._describe(request, proof)
        media = proof.kind == "download" or params.get("alt") == "media"
        if not proof.key or (request.method in ("GET", "HEAD") and not media):
            return "gcs:metadata", proof
        return f"{bucket}/{proof.key}", proof

    def _describe(self, request: Request, proof: Proof) -> None:
        """Read what an upload says about its object."""
        kind = proof.params.get("uploadType")
        if request.method != "POST" or kind not in ("media", "multipart", "resumable"):
            raise StoreError(400, "badRequest", f"Bad uploadType: {kind}")
        if self.kms_key_name and proof.params.get("kmsKeyName") != self.kms_key_name:
            message = "Constraint 'constraints/gcp.restrictNonCmekServices' violated: the object needs a key of Cloud Key Management."
            raise StoreError(412, "orgPolicyConstraintFailed", message)
        facts = b""
        if kind == "multipart":
            facts, proof.content_type, proof.content = self._multipart(request)
        elif kind == "resumable":
            facts = request.body.read(1 << 20)
        try:
            proof.facts = json.loads(facts or b"{}")
            metadata = proof.facts.get("metadata") or {}
            texts = [*metadata.values(), *(proof.facts.get(name, "") for name in ("name", "contentType", "md5Hash", "crc32c"))]
            if not all(isinstance(text, str) for text in texts):
                raise ValueError
        except (ValueError, AttributeError):
            raise StoreError(400, "parseError", "Parse Error") from None
        proof.key = proof.params.get("name") or proof.facts.get("name") or ""
        if not proof.key:
            raise StoreError(400, "required", "Required parameter: name")

    @staticmethod
    def _multipart(request: Request) -> tuple[bytes, str, bytes]:
        """Return the metadata, the content's type and the content of a multipart/related body."""
        boundary = request.headers.get_param("boundary")
        if not isinstance(boundary, str) or request.headers.get_content_type() != "multipart/related":
            raise StoreError(400, "badContent", "Unsupported content with type: " + request.headers.get_content_type())
        body = bytearray(b"\r\n")
        while block := request.body.read(BLOCK):
            body += block
            if len(body) > LARGEST_MULTIPART:
                raise StoreError(413, "uploadTooLarge", "Request is too large: use a resumable upload.")
        parts = bytes(body).split(f"\r\n--{boundary}".encode())
        if len(parts) != 4 or parts[0] or not parts[3].startswith(b"--"):
            raise StoreError(400, "badRequest", "Malformed multipart body.")
        (_, _, facts), (heads, _, content) = (part.partition(b"\r\n\r\n") for part in parts[1:3])
        return facts, message_from_bytes(heads.lstrip() + b"\r\n\r\n").get("Content-Type", ""), content

    def _handle_json(self, request: Request, proof: Proof, no_range: bool) -> Response:
        if proof.kind == "upload":
            if "upload_id" in proof.params:
                return self._continue(request, proof)
            if proof.params["uploadType"] == "resumable":
                return self._begin(request, proof)
            return self._upload(request, proof)
        if not proof.key:
            if request.method == "GET" and request.path.endswith(f"/b/{proof.bucket}"):
                return json_response(200, {"kind": "storage#bucket", "id": proof.bucket, "name": proof.bucket, "location": "US"})
            raise StoreError(501, "notImplemented", "This origin has no operations on buckets beyond reading their metadata.")
        item = self.objects.get(proof.bucket, proof.key)
        if item is None or proof.params.get("generation", generation(item)) != generation(item):
            raise StoreError(404, "notFound", f"No such object: {proof.bucket}/{proof.key}")
        self._precondition(proof.params.get("ifGenerationMatch"), proof.bucket, proof.key, "conditionNotMet")
        if request.method in ("GET", "HEAD"):
            if proof.kind == "download" or proof.params.get("alt") == "media":
                return self._media(request, item, no_range)
            return json_response(200, self._resource(request, proof.bucket, proof.key, item))
        if request.method == "DELETE":
            self.objects.delete(proof.bucket, proof.key)
            return Response(204)
        raise StoreError(501, "notImplemented", "This origin does not change the metadata of an object.")

    def _resource(self, request: Request, bucket: str, key: str, item: StoredObject) -> dict:
        base = f"{'https' if request.secure else 'http'}://{request.host}"
        place = f"storage/v1/b/{bucket}/o/{quote(key, safe='~')}"
        when = datetime.fromtimestamp(item.modified, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        resource = {
            "kind": "storage#object",
            "id": f"{bucket}/{key}/{generation(item)}",
            "selfLink": f"{base}/{place}",
            "mediaLink": f"{base}/download/{place}?generation={generation(item)}&alt=media",
            "name": key,
            "bucket": bucket,
            "generation": generation(item),
            "metageneration": "1",
            "contentType": item.content_type,
            "storageClass": "STANDARD",
            "size": str(item.size),
            "crc32c": self._crc32c(item),
            "etag": base64.b64encode(generation(item).encode()).decode(),
            "timeCreated": when,
            "updated": when,
        }
        if md5 := md5_hash(item):
            resource["md5Hash"] = md5
        if item.metadata:
            resource["metadata"] = item.metadata
        return resource

    def _precondition(self, wanted: str | None, bucket: str, key: str, code: str) -> None:
        """Refuse unless the object is of the generation that the client expects; 0 says that there is none."""
        if wanted is None:
            return
        item = self.objects.get(bucket, key)
        if wanted != (generation(item) if item else "0"):
            where = {"locationType": "header", "location": "If-Match"} if code == "conditionNotMet" else {}
            raise StoreError(412, code, "At least one of the pre-conditions you specified did not hold.", **where)

    def _store(self, request: Request, bucket: str, key: str, upload: Upload, facts: dict, content_type: str) -> Response:
        checksum = self._check_hashes(upload, facts, "invalid")
        item = self.objects.put(
            bucket,
            key,
            upload,
            content_type=facts.get("contentType") or content_type or "application/octet-stream",
            metadata=facts.get("metadata") or {},
        )
        if checksum:
            with self._lock:
                self._checksums[str(item.path)] = checksum
        return json_response(200, self._resource(request, bucket, key, item))

    def _upload(self, request: Request, proof: Proof) -> Response:
        self._precondition(proof.params.get("ifGenerationMatch"), proof.bucket, proof.key, "conditionNotMet")
        content_type = proof.content_type
        if proof.params["uploadType"] == "media":
            upload, content_type = self._receive(request), request.headers.get("Content-Type", "")
        else:
            upload = self.objects.upload()
            upload.write(proof.content)
        try:
            return self._store(request, proof.bucket, proof.key, upload, proof.facts, content_type)
        except StoreError:
            upload.discard()
            raise

    # -- resumable uploads ---------------------------------------------------------------------------------------------

    def _begin(self, request: Request, proof: Proof) -> Response:
        wanted = proof.params.get("ifGenerationMatch")
        self._precondition(wanted, proof.bucket, proof.key, "conditionNotMet")
        upload_id = secrets.token_urlsafe(48)
        session = {
            "bucket": proof.bucket,
            "key": proof.key,
            "facts": proof.facts,
            "content_type": request.headers.get("X-Upload-Content-Type", ""),
            "total": request.headers.get("X-Upload-Content-Length"),
            "if_generation_match": wanted,
            "upload": self.objects.upload(),
            "done": None,
            "used": self.now(),
        }
        with self._lock:
            abandoned = [name for name, one in self._sessions.items() if self.now() - one["used"] > ABANDONED]
            for name in abandoned:
                self._sessions.pop(name)["upload"].discard()
            self._sessions[upload_id] = session
        base = f"{'https' if request.secure else 'http'}://{request.host}"
        location = f"{base}/upload/storage/v1/b/{proof.bucket}/o?uploadType=resumable&upload_id={upload_id}"
        return Response(200, {"Location": location, "X-GUploader-UploadID": upload_id})

    def _session(self, upload_id: str) -> dict:
        with self._lock:
            if upload_id not in self._sessions:
                raise StoreError(404, "notFound", "Not Found")
            self._sessions[upload_id]["used"] = self.now()
            return self._sessions[upload_id]

    def _continue(self, request: Request, proof: Proof) -> Response:
        session = self._session(proof.params["upload_id"])
        upload: Upload = session["upload"]
        if request.method == "DELETE":
            with self._lock:
                self._sessions.pop(proof.params["upload_id"], None)
            upload.discard()
            return Response(499)
        if request.method != "PUT":
            raise StoreError(405, "methodNotAllowed", "Method Not Allowed")
        if session["done"]:
            return session["done"]
        length = int(request.headers.get("Content-Length") or 0)
        match = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", request.headers.get("Content-Range", f"bytes 0-{length - 1}/{length}"))
        if not match and request.headers.get("Content-Range"):
            raise StoreError(400, "badRequest", "Failed to parse Content-Range header.")
        first, last, total = match.groups() if match else (None, None, "0")
        if total != "*" and (session["total"] or total) != total:
            raise StoreError(400, "badRequest", "The total of Content-Range is not what X-Upload-Content-Length announced.")
        if first is not None:
            count = int(last) - int(first) + 1
            final = total != "*" and int(last) + 1 == int(total)
            if count != length or (total != "*" and int(last) >= int(total)):
                raise StoreError(400, "badRequest", "Content-Range does not match the body.")
            if not final and count % PIECE:
                raise StoreError(
                    400,
                    "badRequest",
                    f"Invalid request.  The number of bytes uploaded is required to be equal or greater than {PIECE}, "
                    f"except for the final request (it's recommended to be the exact multiple of {PIECE}).",
                )
            if int(first) == upload.size:
                self._receive_chunk(request, upload, count)
        if total == "*" or upload.size != int(total):
            ranges = {"Range": f"bytes=0-{upload.size - 1}"} if upload.size else {}
            return Response(308, {"X-GUploader-UploadID": proof.params["upload_id"], **ranges})
        try:
            self._precondition(session["if_generation_match"], session["bucket"], session["key"], "conditionNotMet")
            facts = session["facts"] | hashes(request.headers.get("x-goog-hash"))
            session["done"] = self._store(request, session["bucket"], session["key"], upload, facts, session["content_type"])
        except StoreError:
            with self._lock:
                self._sessions.pop(proof.params["upload_id"], None)
            upload.discard()
            raise
        return session["done"]

    @staticmethod
    def _receive_chunk(request: Request, upload: Upload, count: int) -> None:
        """Keep what arrives, in whole pieces if the connection breaks off."""
        while count:
            piece = b""
            while len(piece) < min(PIECE, count):
                block = request.body.read(min(PIECE, count) - len(piece))
                if not block:
                    return
                piece += block
            upload.write(piece)
            count -= len(piece)


def json_response(status: int, value: dict, headers: dict[str, str] | None = None) -> Response:
    return Response(status, {"Content-Type": "application/json; charset=UTF-8", **(headers or {})}, json.dumps(value).encode())


def malformed(parameter: str, details: str) -> StoreError:
    return StoreError(400, "MalformedSecurityHeader", "Your request has a malformed header.", ParameterName=parameter, Details=details)


def denied(caller: str, action: str) -> str:
    permission = f"storage.objects.{action}"
    return (
        f"{caller} does not have {permission} access to the Google Cloud Storage object. "
        f"Permission '{permission}' denied on resource (or it may not exist)."
    )


def canonical_request(request: Request, signed: list[str]) -> str:
    """What a V4 signature covers. Every header of Google's that is sent, and the host, must be among it."""
    must = {"host"} | {name.lower() for name in request.headers if name.lower().startswith("x-goog-")}
    for name in sorted(must - set(signed)):
        raise malformed(name, "Header was included in the request, but not in signedheaders.")
    if signed != sorted({name.lower() for name in signed}):
        raise malformed("X-Goog-SignedHeaders", "The names are in lower case, sorted, each once.")
    values = {}
    for name in signed:
        given = [request.host] if name == "host" else request.headers.get_all(name, [])
        if not given:
            raise malformed(name, "Header was included in signedheaders, but not in the request.")
        values[name] = ",".join(" ".join(value.split()) for value in given)
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in request.params if name.lower() != "x-goog-signature"
    )
    return "\n".join(
        [
            request.method,
            quote(unquote(request.path), safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            "".join(f"{name}:{value}\n" for name, value in values.items()),
            ";".join(signed),
            request.headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD"),
        ]
    )


def generation(item: StoredObject) -> str:
    """A number that is another one with other content or at another time."""
    return f"{int(item.modified)}{int(hashlib.sha256(item.etag.encode()).hexdigest(), 16) % 10**6:06d}"


def md5_hash(item: StoredObject) -> str:
    return base64.b64encode(bytes.fromhex(item.etag)).decode() if re.fullmatch(r"[0-9a-f]{32}", item.etag) else ""


def encoded(checksum: int) -> str:
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()


def hashes(header: str | None) -> dict[str, str]:
    """The checksums of an x-goog-hash header, under their names in the JSON API."""
    names = {"crc32c": "crc32c", "md5": "md5Hash"}
    pairs = (part.strip().partition("=") for part in (header or "").split(","))
    return {names[name]: value for name, _, value in pairs if name in names}


def unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as exc:
        raise ValueError(str(exc)) from None
