# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Azure Blob Storage as far as publishing and fetching models goes, with SharedKey, service SAS and user delegation SAS truly verified.

Block blobs in one piece or in blocks. No stored access policies, no account SAS: what would need them is refused. So is a user delegation
SAS of a version that signs other fields than those from 2020-12-06 on.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import secrets
import threading
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime, formatdate, parsedate_to_datetime
from urllib.parse import unquote
from xml.sax.saxutils import escape

from .messages import Part, Request, Response, StoreError
from .objects import BLOCK, Objects, Upload
from .reading import byte_range, object_headers

SKEW = timedelta(minutes=15)
OLDEST, NEWEST = "2018-11-09", "2026-10-06"  # versions of the service that are played
SCOPED = "2020-12-06"  # the first version that signs the encryption scope
DELEGATED_UNTIL = "2025-07-05"  # the first whose user delegation SAS signs whom it is delegated to
# What a SAS says of the user delegation key that it is signed with, in the order of the signature.
DELEGATION = ("skoid", "sktid", "skt", "ske", "sks", "skv")
LONGEST_KEY = timedelta(days=7)
PERMISSIONS = "racwdxyltmfeopi"  # in the order in which a signature must name them
SAS_TIMES = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%MZ", "%Y-%m-%d")
RANGE = re.compile(r"bytes=\d+-\d*")  # Azure has no ranges that count from the end
META = "x-ms-meta-"
CHALLENGE = (
    "Bearer authorization_uri=https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000/oauth2/authorize "
    "resource_id=https://storage.azure.com"
)
UNAUTHENTICATED = (
    "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature."
)
# What the faults of the control API are called here.
RENAMED = {"AccessDenied": "AuthorizationFailure", "NoSuchKey": "BlobNotFound", "SlowDown": "ServerBusy"}


@dataclass
class Target:
    """What a request is about."""

    account: str
    container: str
    blob: str


@dataclass
class Proof:
    """What the verified signature says."""

    target: Target
    publish: bool  # the key may write
    params: dict[str, str]  # query parameters
    permissions: str | None = None  # of a SAS; None for SharedKey and tokens, which may do everything that theirs may
    token: dict | None = None  # of a request for a user delegation key


class Abs:
    """config: {suffix, endpoints: [host | {host, account}, ..], accounts: [..]}, an account being
    {account_name, account_key, read_keys: [keys that only read], containers, publish: whether account_key may write,
    encryption_scope: the only one that its blobs may have}

    An endpoint that is only a host name is path-style (/<account>/<container>/<blob>), one with an account is a custom domain.
    """

    def __init__(self, config: dict, objects: Objects, now=lambda: datetime.now(timezone.utc)):
        suffix = config.get("suffix", "core.windows.net")
        self.host = re.compile(rf"^(?P<account>[a-z0-9]{{3,24}})\.blob\.{re.escape(suffix)}$")
        self.domains: dict[str, str] = {}
        for end in config.get("endpoints", []):
            host, account = (end["host"], end["account"]) if isinstance(end, dict) else (end, "")
            self.domains[host.lower()] = account
        self.accounts = {account["account_name"]: account for account in config["accounts"]}
        self.objects = objects
        self.now = now
        # Access tokens that were issued, and the user delegation keys that were given for them: by what a SAS says of them.
        self.tokens: dict[str, dict] = {}
        self._delegations: dict[tuple, dict] = {}
        self._blocks: dict[tuple[str, str, str], dict[str, Upload]] = {}
        self._lock = threading.Lock()

    # -- which requests are ours, and how errors look ------------------------------------------------------------------

    def claims(self, hostname: str) -> bool:
        return hostname in self.domains or bool(self.host.match(hostname))

    def locate(self, request: Request) -> Target:
        path = request.path[1:]
        match = self.host.match(request.hostname)
        account = match["account"] if match else self.domains[request.hostname]
        if not account:
            account, _, path = path.partition("/")
        container, _, blob = path.partition("/")
        return Target(unquote(account), unquote(container), unquote(blob))

    def render(self, error: StoreError, request: Request) -> Response:
        code = RENAMED.get(error.code, error.code)
        ident = request_id()
        message = f"{error.message}\nRequestId:{ident}\nTime:{self.now():%Y-%m-%dT%H:%M:%S.%f}0Z"
        fields = {"Code": code, "Message": message, **error.details}
        rows = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
        headers = {"Content-Type": "application/xml", "x-ms-error-code": code, "x-ms-request-id": ident, "x-ms-version": NEWEST}
        return Response(
            error.status, {**headers, **error.headers}, f'\ufeff<?xml version="1.0" encoding="utf-8"?><Error>{rows}</Error>'.encode()
        )

    # -- one request ---------------------------------------------------------------------------------------------------

    def authorize(self, request: Request) -> tuple[str, Proof]:
        """Verify the request; return the name of the object it is about and what its signature allows."""
        target = self.locate(request)
        names = [name for name, _ in request.params]
        params = dict(request.params)
        version = request.headers.get("x-ms-version")
        if version is not None and not (re.fullmatch(r"\d{4}-\d\d-\d\d", version) and OLDEST <= version <= NEWEST):
            message = "The value for one of the HTTP headers is not in the correct format."
            raise StoreError(400, "InvalidHeaderValue", message, HeaderName="x-ms-version", HeaderValue=version)
        if "sig" in params and len(names) != len(set(names)):
            raise unauthenticated("Signature fields not well formed.")
        if target.account not in self.accounts:
            raise StoreError(404, "ResourceNotFound", "The specified resource does not exist.")
        if (request.headers.get("Authorization") or "").startswith("Bearer "):
            token = self._bearer(request)
            if (request.method, params.get("restype"), params.get("comp")) == ("POST", "service", "userdelegationkey"):
                if not token["delegator"]:
                    raise mismatch()
                return "abs:userdelegationkey", Proof(target, True, params, token=token)
            proof = Proof(target, token["publish"], params)
        elif request.headers.get("Authorization"):
            proof = self._shared_key(request, target, params)
        elif "sig" in params:
            proof = self._sas(request, target, params)
        elif request.method in ("GET", "HEAD") and (version or "") < "2019-12-12":
            raise StoreError(409, "PublicAccessNotPermitted", "Public access is not permitted on this storage account.")
        else:
            message = "Server failed to authenticate the request. Please refer to the information in the www-authenticate header."
            raise StoreError(401, "NoAuthenticationInformation", message, {"WWW-Authenticate": CHALLENGE})
        if not proof.publish and request.method not in ("GET", "HEAD"):
            raise mismatch()
        if target.container not in self.accounts[target.account]["containers"]:
            raise StoreError(404, "ContainerNotFound", "The specified container does not exist.")
        return f"{target.container}/{target.blob}", proof

    def handle(self, request: Request, proof: Proof, no_range: bool = False) -> Response:
        response = self._handle(request, proof, no_range)
        own = {"x-ms-request-id": request_id(), "x-ms-version": request.headers.get("x-ms-version") or proof.params.get("sv") or NEWEST}
        return Response(response.status, {**own, **response.headers}, response.body)

    def _handle(self, request: Request, proof: Proof, no_range: bool) -> Response:
        if proof.token:
            return self._delegate(request, proof.token)
        comp = proof.params.get("comp")
        if not proof.target.blob or "restype" in proof.params:
            if request.method in ("GET", "HEAD") and proof.params.get("restype") == "container" and not comp and proof.permissions is None:
                return Response(200, {"ETag": '"0x8D0000000000000"', "Last-Modified": formatdate(0, usegmt=True)})
            raise StoreError(501, "NotImplemented", "This origin has no operations on containers beyond reading their properties.")
        if request.method in ("GET", "HEAD") and not comp:
            return self._get(request, proof, no_range)
        if request.method == "PUT" and not comp:
            return self._put(request, proof)
        if request.method == "PUT" and comp == "block":
            return self._put_block(request, proof)
        if request.method == "PUT" and comp == "blocklist":
            return self._put_block_list(request, proof)
        if request.method == "DELETE" and not comp:
            allowed(proof, "d")
            self._existing(proof.target)
            self.objects.delete(proof.target.container, proof.target.blob)
            return Response(202, {"x-ms-delete-type-permanent": "true"})
        raise StoreError(501, "NotImplemented", "The requested operation is not implemented on the specified resource.")

    # -- signatures ----------------------------------------------------------------------------------------------------

    def _keys(self, account: dict) -> list[tuple[str, bool]]:
        """The account's keys, each with whether it may write."""
        return [(account["account_key"], bool(account.get("publish"))), *((key, False) for key in account.get("read_keys", []))]

    def _match(self, account: dict, to_sign: str, signature: str) -> bool | None:
        """Whether the key that made the signature may write; None if none of the account's keys did."""
        for key, publish in self._keys(account):
            expected = hmac.new(base64.b64decode(key), to_sign.encode(), hashlib.sha256).digest()
            if hmac.compare_digest(base64.b64encode(expected), signature.encode()):
                return publish
        return None

    def _shared_key(self, request: Request, target: Target, params: dict[str, str]) -> Proof:
        scheme, _, credential = request.headers["Authorization"].partition(" ")
        name, _, signature = credential.partition(":")
        if scheme != "SharedKey" or not signature:
            message = "The authentication information was not provided in the correct format. Verify the value of Authorization header."
            raise StoreError(400, "InvalidAuthenticationInfo", message)
        date = request.headers.get("x-ms-date") or request.headers.get("Date")
        if not date or not request.headers.get("x-ms-version"):
            raise unauthenticated("Request date header not specified" if not date else "The x-ms-version header is required.")
        try:
            made = parsedate_to_datetime(date)
        except (TypeError, ValueError):
            raise unauthenticated(f"Request date header not well formed: '{date}'") from None
        if made.tzinfo is None or abs(self.now() - made) > SKEW:
            raise unauthenticated(f"Request date header too old: '{date}'")
        if name != target.account:
            raise unauthenticated(f"The account of the Authorization header, {name}, is not that of the URI.")
        to_sign = shared_key_string(request, target.account)
        publish = self._match(self.accounts[target.account], to_sign, signature)
        if publish is None:
            shown = to_sign.replace("\n", "\\n")
            detail = f"The MAC signature found in the HTTP request '{signature}' is not the same as any computed signature."
            raise unauthenticated(f"{detail} Server used following string to sign: '{shown}'.")
        return Proof(target, publish, params)

    def _bearer(self, request: Request) -> dict:
        token = self.tokens.get(request.headers["Authorization"].partition(" ")[2])
        if not request.secure:
            raise unauthenticated("Authentication scheme Bearer is not supported over HTTP.")
        if (request.headers.get("x-ms-version") or "") < "2017-11-09":
            raise unauthenticated("Authentication scheme Bearer is not supported in this version.")
        if token is None or token["until"] <= self.now():
            detail = "Lifetime validation failed. The token is expired." if token else "Signature validation failed."
            message = "Server failed to authenticate the request. Please refer to the information in the www-authenticate header."
            raise StoreError(401, "InvalidAuthenticationInfo", message, {"WWW-Authenticate": CHALLENGE}, AuthenticationErrorDetail=detail)
        return token

    def _delegate(self, request: Request, token: dict) -> Response:
        try:
            asked = {one.tag: one.text or "" for one in ET.fromstring(request.body.read(64 * 1024))}
        except ET.ParseError:
            raise StoreError(400, "InvalidXmlDocument", "XML specified is not syntactically valid.") from None
        start, end, now = sas_time(asked.get("Start", "")), sas_time(asked.get("Expiry", "")), self.now()
        if not start or not end or not start < end or end <= now or end - now > LONGEST_KEY or abs(start - now) > LONGEST_KEY:
            raise StoreError(400, "InvalidXmlNodeValue", "The value for one of the XML nodes is not in the correct format.")
        version = request.headers.get("x-ms-version") or ""
        signed = (token["oid"], token["tid"], asked["Start"], asked["Expiry"], "b", version)
        names = ("SignedOid", "SignedTid", "SignedStart", "SignedExpiry", "SignedService", "SignedVersion")
        with self._lock:
            given = self._delegations.setdefault(signed, {"key": secrets.token_bytes(32), "publish": token["publish"]})
        value = base64.b64encode(given["key"]).decode()
        rows = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in (*zip(names, signed), ("Value", value)))
        body = f'<?xml version="1.0" encoding="utf-8"?><UserDelegationKey>{rows}</UserDelegationKey>'.encode()
        return Response(200, {"Content-Type": "application/xml"}, body)

    def _delegation(self, params: dict[str, str]) -> dict:
        """The user delegation key that a SAS says it is signed with."""
        if not SCOPED <= params["sv"] < DELEGATED_UNTIL:
            raise StoreError(501, "NotImplemented", "This origin plays no user delegation SAS of this version.")
        given = self._delegations.get(tuple(params.get(name, "") for name in DELEGATION))
        if given is None:
            raise unauthenticated("The user delegation key is not known, or not what the SAS says of it.")
        if not sas_time(params["skt"]) <= self.now() < sas_time(params["ske"]):
            raise unauthenticated("The user delegation key is not valid in the specified time frame: it is expired, or not valid yet.")
        return given

    def _sas(self, request: Request, target: Target, params: dict[str, str]) -> Proof:
        if "si" in params:
            raise unauthenticated("SAS identifier cannot be found for specified signed identifier")
        for name in ("sv", "sr", "sp", "se"):
            if not params.get(name):
                raise unauthenticated(f"{name} is mandatory. Cannot be empty")
        version, resource, permissions = params["sv"], params["sr"], params["sp"]
        order = [PERMISSIONS.find(one) for one in permissions]
        well_formed = (
            re.fullmatch(r"\d{4}-\d\d-\d\d", version)
            and OLDEST <= version <= NEWEST
            and resource in ("b", "c")
            and -1 not in order
            and order == sorted(set(order))
            and params.get("spr", "https") in ("https", "https,http")
            # Older versions know no encryption scope, and their signatures do not cover it.
            and ("ses" not in params or version >= SCOPED)
        )
        expiry, start = sas_time(params["se"]), sas_time(params["st"]) if "st" in params else None
        if not well_formed or expiry is None or ("st" in params and start is None):
            raise unauthenticated("Signature fields not well formed.")
        now = self.now()
        if now >= expiry or (start and now < start):
            began = f"Start [{http_date(start)}] - " if start else ""
            raise unauthenticated(
                f"Signature not valid in the specified time frame: {began}Expiry [{http_date(expiry)}] - Current [{http_date(now)}]"
            )
        to_sign = sas_string(target, params)
        if "skoid" in params:
            given = self._delegation(params)
            expected = base64.b64encode(hmac.new(given["key"], to_sign.encode(), hashlib.sha256).digest())
            publish = given["publish"] if hmac.compare_digest(expected, params["sig"].encode()) else None
        else:
            publish = self._match(self.accounts[target.account], to_sign, params["sig"])
        if publish is None:
            raise unauthenticated(f"Signature did not match. String to sign used was {to_sign}")
        if params.get("spr") == "https" and not request.secure:
            raise StoreError(
                403, "AuthorizationProtocolMismatch", "This request is not authorized to perform this operation using this protocol."
            )
        if params.get("sip") and not within(request.client, params["sip"]):
            message = f"This request is not authorized to perform this operation using this source IP {request.client}."
            raise StoreError(403, "AuthorizationSourceIPMismatch", message, SourceIP=request.client)
        return Proof(target, publish, params, permissions)

    # -- reading -------------------------------------------------------------------------------------------------------

    def _existing(self, target: Target):
        item = self.objects.get(target.container, target.blob)
        if item is None:
            raise StoreError(404, "BlobNotFound", "The specified blob does not exist.")
        return item

    def _get(self, request: Request, proof: Proof, no_range: bool) -> Response:
        allowed(proof, "r")
        item = self._existing(proof.target)
        headers = {
            **object_headers(item, META),
            "x-ms-blob-type": "BlockBlob",
            "x-ms-creation-time": formatdate(item.modified, usegmt=True),
            "x-ms-lease-status": "unlocked",
            "x-ms-lease-state": "available",
            "x-ms-server-encrypted": "true",
        }
        for param, header in (
            ("rscc", "Cache-Control"),
            ("rscd", "Content-Disposition"),
            ("rsce", "Content-Encoding"),
            ("rscl", "Content-Language"),
            ("rsct", "Content-Type"),
        ):
            if proof.permissions is not None and proof.params.get(param):
                headers[header] = proof.params[param]
        if (wanted := request.headers.get("If-Match")) and wanted not in ("*", headers["ETag"]):
            raise unmet()
        if request.headers.get("If-None-Match") in ("*", headers["ETag"]):
            return Response(304, headers)
        header = request.headers.get("x-ms-range") or request.headers.get("Range") or ""
        wanted = byte_range(header, item.size) if RANGE.fullmatch(header) and not no_range and request.method == "GET" else None
        if wanted is None:
            return Response(200, headers, Part(item, 0, item.size))
        start, end = wanted
        if start >= end:
            message = "The range specified is invalid for the current size of the resource."
            raise StoreError(416, "InvalidRange", message, {"Content-Range": f"bytes */{item.size}"})
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{item.size}"
        return Response(206, headers, Part(item, start, end))

    # -- writing -------------------------------------------------------------------------------------------------------

    def _receive(self, request: Request) -> Upload:
        """Read the whole body, checked against its length and its MD5."""
        if request.headers.get("Content-Length") is None:
            raise StoreError(411, "MissingContentLengthHeader", "The Content-Length header was not specified.")
        for name in ("x-ms-content-crc64", "x-ms-structured-body", "x-ms-copy-source"):
            if name in request.headers:
                raise StoreError(501, "NotImplemented", f"This origin cannot verify {name}, and accepts nothing that it cannot verify.")
        upload = self.objects.upload()
        try:
            while block := request.body.read(BLOCK):
                upload.write(block)
            if upload.size != int(request.headers["Content-Length"]):
                raise StoreError(400, "IncompleteBody", "The request body is shorter than its Content-Length.")
            md5 = request.headers.get("Content-MD5")
            mine = base64.b64encode(upload.md5.digest()).decode()
            if md5 and md5 != mine:
                message = "The MD5 value specified in the request did not match with the MD5 value calculated by the server."
                raise StoreError(400, "Md5Mismatch", message, UserSpecifiedMd5=md5, ServerCalculatedMd5=mine)
        except BaseException:
            upload.discard()
            raise
        return upload

    def _may_create(self, request: Request, proof: Proof, permissions: str) -> None:
        """Refuse what the permissions or the conditions of a write do not allow."""
        allowed(proof, permissions)
        scope = self.accounts[proof.target.account].get("encryption_scope")
        if scope and request.headers.get("x-ms-encryption-scope", scope) != scope:
            message = "This request is forbidden by the encryption policy of the container."
            raise StoreError(403, "RequestForbiddenByContainerEncryptionPolicy", message)
        item = self.objects.get(proof.target.container, proof.target.blob)
        if item and request.headers.get("If-None-Match") == "*":
            raise StoreError(409, "BlobAlreadyExists", "The specified blob already exists.")
        if (wanted := request.headers.get("If-Match")) and not (item and wanted in ("*", f'"{item.etag}"')):
            raise unmet()
        if item and proof.permissions is not None and "w" not in proof.permissions:
            raise StoreError(403, "UnauthorizedBlobOverwrite", "This request is not authorized to perform blob overwrites.")

    def _commit(self, request: Request, proof: Proof, upload: Upload, content_type: str) -> Response:
        item = self.objects.put(
            proof.target.container,
            proof.target.blob,
            upload,
            # As in Azure, every write gives another ETag, and none is made from the content.
            etag=f"0x8D{time.time_ns() // 100 % 16**13:013X}",
            content_type=request.headers.get("x-ms-blob-content-type") or content_type or "application/octet-stream",
            metadata={name.lower()[len(META) :]: value for name, value in request.headers.items() if name.lower().startswith(META)},
        )
        self._forget(proof.target)
        headers = {
            "ETag": f'"{item.etag}"',
            "Last-Modified": formatdate(item.modified, usegmt=True),
            "x-ms-request-server-encrypted": "true",
        }
        return Response(201, headers)

    def _put(self, request: Request, proof: Proof) -> Response:
        self._may_create(request, proof, "cw")
        kind = request.headers.get("x-ms-blob-type")
        if kind is None:
            message = "An HTTP header that's mandatory for this request is not specified."
            raise StoreError(400, "MissingRequiredHeader", message, HeaderName="x-ms-blob-type")
        if kind != "BlockBlob":
            raise StoreError(501, "NotImplemented", "This origin has block blobs only.")
        upload = self._receive(request)
        md5 = base64.b64encode(upload.md5.digest()).decode()
        wanted = request.headers.get("x-ms-blob-content-md5")
        if wanted and wanted != md5:
            upload.discard()
            message = "The MD5 value specified in the request did not match with the MD5 value calculated by the server."
            raise StoreError(400, "Md5Mismatch", message, UserSpecifiedMd5=wanted, ServerCalculatedMd5=md5)
        response = self._commit(request, proof, upload, request.headers.get("Content-Type", ""))
        response.headers["Content-MD5"] = md5
        return response

    def _put_block(self, request: Request, proof: Proof) -> Response:
        allowed(proof, "w")
        ident = proof.params.get("blockid", "")
        try:
            length = len(base64.b64decode(ident, validate=True))
        except (binascii.Error, ValueError):
            length = 0
        if not 1 <= length <= 64:
            message = "Value for one of the query parameters specified in the request URI is invalid."
            raise StoreError(400, "InvalidQueryParameterValue", message, QueryParameterName="blockid", QueryParameterValue=ident)
        upload = self._receive(request)
        upload.stream.close()
        with self._lock:
            blocks = self._blocks.setdefault(self._place(proof.target), {})
            if blocks and len(next(iter(blocks))) != len(ident):
                upload.discard()
                raise StoreError(400, "InvalidBlobOrBlock", "The specified blob or block content is invalid.")
            replaced = blocks.get(ident)
            blocks[ident] = upload
        if replaced:
            replaced.discard()
        return Response(201, {"Content-MD5": base64.b64encode(upload.md5.digest()).decode(), "x-ms-request-server-encrypted": "true"})

    def _put_block_list(self, request: Request, proof: Proof) -> Response:
        self._may_create(request, proof, "w")
        body = self._receive(request)
        body.stream.close()
        try:
            listed = [(one.tag, one.text or "") for one in ET.fromstring(body.path.read_bytes())]
        except ET.ParseError:
            raise StoreError(400, "InvalidXmlDocument", "XML specified is not syntactically valid.") from None
        finally:
            body.discard()
        with self._lock:
            blocks = dict(self._blocks.get(self._place(proof.target), {}))
        # Committed blocks are not kept apart from the blob that they became.
        if any(tag not in ("Latest", "Uncommitted") or ident not in blocks for tag, ident in listed):
            raise StoreError(400, "InvalidBlockList", "The specified block list is invalid.")
        whole = self.objects.upload()
        for _, ident in listed:
            with blocks[ident].path.open("rb") as stream:
                while block := stream.read(BLOCK):
                    whole.write(block)
        return self._commit(request, proof, whole, "")

    @staticmethod
    def _place(target: Target) -> tuple[str, str, str]:
        return target.account, target.container, target.blob

    def _forget(self, target: Target) -> None:
        with self._lock:
            blocks = self._blocks.pop(self._place(target), {})
        for block in blocks.values():
            block.discard()


def unauthenticated(detail: str) -> StoreError:
    return StoreError(403, "AuthenticationFailed", UNAUTHENTICATED, AuthenticationErrorDetail=detail)


def mismatch() -> StoreError:
    message = "This request is not authorized to perform this operation using this permission."
    return StoreError(403, "AuthorizationPermissionMismatch", message)


def unmet() -> StoreError:
    return StoreError(412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")


def allowed(proof: Proof, permissions: str) -> None:
    """Refuse a SAS that has none of these permissions."""
    if proof.permissions is not None and not set(permissions) & set(proof.permissions):
        raise mismatch()


def sas_string(target: Target, params: dict[str, str]) -> str:
    """What a SAS of one container or blob signs. The fields are decoded; names are as they are stored."""
    place = f"/blob/{target.account}/{target.container}" + (f"/{target.blob}" if params["sr"] == "b" else "")
    fields = [params.get("sp", ""), params.get("st", ""), params.get("se", ""), place]
    # A user delegation key in place of a stored policy, and whom the SAS is for.
    by = (*DELEGATION, "saoid", "suoid", "scid") if "skoid" in params else ("si",)
    fields += [params.get(name, "") for name in (*by, "sip", "spr", "sv", "sr", "snapshot")]
    if params["sv"] >= SCOPED:
        fields.append(params.get("ses", ""))
    return "\n".join(fields + [params.get(name, "") for name in ("rscc", "rscd", "rsce", "rscl", "rsct")])


def shared_key_string(request: Request, account: str) -> str:
    """What an Authorization header signs, of version 2015-02-21 and later."""
    headers = request.headers
    length = headers.get("Content-Length", "")
    lines = [request.method, headers.get("Content-Encoding", ""), headers.get("Content-Language", ""), "" if length == "0" else length]
    lines += [headers.get(name, "") for name in ("Content-MD5", "Content-Type")]
    # With x-ms-date, which is signed below, the Date header counts as empty.
    lines.append("" if headers.get("x-ms-date") else headers.get("Date", ""))
    lines += [headers.get(name, "") for name in ("If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range")]
    names = sorted({name.lower() for name in headers if name.lower().startswith("x-ms-")}, key=header_order)
    lines += [f"{name}:{','.join(' '.join(value.split()) for value in headers.get_all(name))}" for name in names]
    resource = f"/{account}{request.path}"
    params: dict[str, list[str]] = {}
    for name, value in request.params:
        params.setdefault(name.lower(), []).append(value)
    return "\n".join([*lines, resource, *(f"{name}:{','.join(sorted(params[name]))}" for name in sorted(params))])


def header_order(name: str) -> tuple:
    """Azure sorts header names like words: hyphens do not count, and punctuation comes before digits and letters."""
    return [(one.isalnum(), one) for one in name if one != "-"], name


def sas_time(text: str) -> datetime | None:
    text = re.sub(r"(\.\d{6})\dZ$", r"\1Z", text)
    for form in SAS_TIMES:
        try:
            return datetime.strptime(text, form).replace(tzinfo=timezone.utc)
        except ValueError:
            pass
    return None


def http_date(moment: datetime) -> str:
    return format_datetime(moment.replace(microsecond=0), usegmt=True)


def within(client: str, allowed_range: str) -> bool:
    """Whether an address is the one, or in the range, that a SAS is limited to."""
    first, _, last = allowed_range.partition("-")
    try:
        return ipaddress.ip_address(first) <= ipaddress.ip_address(client) <= ipaddress.ip_address(last or first)
    except (ValueError, TypeError):
        return False


def request_id() -> str:
    hexadecimal = secrets.token_hex(16)
    return "-".join(hexadecimal[start:end] for start, end in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
