# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alibaba Cloud OSS: its own signatures V1 and V4, in a URL and in the header, and its S3-compatible addresses.

The causes of a refusal have the numbers (EC) of the OSS documentation, "EC error codes".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

from .hmacsha1 import HmacSha1
from .messages import Request, Response, StoreError
from .s3 import SigV4, SigV4Proof, is_sent, signing_key, speaks_sigv4
from .xmlstore import LONGEST, MISMATCH, SKEW, Place, Proof, Refusal, XmlStore, expiry, http_date

ALGORITHM = "OSS4-HMAC-SHA256"
SIGNED_ANYWAY = ("content-type", "content-md5")  # where the request has them, beside x-oss-*
ELSEWHERE = "The bucket you are attempting to access must be addressed using the specified endpoint. "
NO_RIGHT = "You have no right to access this object because of bucket acl."
UNKNOWN_KEY = "The OSS Access Key Id you provided does not exist in our records."
# The same causes have other numbers in the S3-compatible API.
S3_NUMBERS = {
    "0002-00000040": "0002-00000429",
    "0002-00000069": "0002-00000418",
    "0002-00000211": "0002-00000428",
    "0002-00000504": "0002-00000501",
}


class Oss(SigV4, HmacSha1):
    """config: {region, buckets: [..], endpoints: [host, ..], keys: [{access_key_id, access_key_secret, security_token, publish}, ..]}"""

    HOST = re.compile(
        r"^(?:(?P<bucket>[a-z0-9][a-z0-9-]{1,61}[a-z0-9])\.)?(?:(?P<api>s3)\.)?"
        r"oss-(?P<region>[a-z]{2}(?:-[a-z0-9]+)+?)(?:-internal)?\.aliyuncs\.com$"
    )
    KEY_FIELDS = ("access_key_id", "access_key_secret", "security_token")
    REQUEST_ID = "x-oss-request-id"
    SCHEME = "OSS"
    ID = "OSSAccessKeyId"
    TOKEN = "security-token"
    PREFIX = "x-oss-"
    SUBRESOURCES = re.compile(
        "acl|append|callback|callback-var|delete|encryption|objectmeta|partnumber|position|restore|security-token|symlink|tagging|uploadid"
        "|uploads|versionid|x-oss-(?:ac-.+|async-process|process|request-payer|traffic-limit)|response-.+"
    )
    REFUSALS = {
        **XmlStore.REFUSALS,
        "anonymous": Refusal(403, "AccessDenied", NO_RIGHT, "0003-00000001"),
        "not allowed": Refusal(403, "AccessDenied", NO_RIGHT, "0003-00000001"),
        "malformed": Refusal(400, "InvalidArgument", "Authorization header is invalid.", "0002-00000061"),
        "incomplete": Refusal(
            403,
            "AccessDenied",
            "Query-string authentication requires the Signature, Expires and OSSAccessKeyId parameters",
            "0002-00000067",
        ),
        "incomplete v4": Refusal(
            403,
            "AccessDenied",
            "Query-string authentication version 4 requires the x-oss-signature-version, x-oss-credential, x-oss-date, x-oss-expires and"
            " x-oss-signature parameters",
            "0002-00000215",
        ),
        "bad expiry": Refusal(403, "AccessDenied", "Invalid date (should be seconds since epoch).", "0002-00000070"),
        "bad expiry v4": Refusal(400, "InvalidArgument", "x-oss-expires must be a number of seconds from 1 to 604800.", "0002-00000232"),
        "bad date v4": Refusal(403, "AccessDenied", "x-oss-date must be in the form 20060102T150405Z."),
        "no date": Refusal(403, "AccessDenied", "OSS authentication requires a valid Date."),
        "twice": Refusal(400, "InvalidArgument", "A parameter of the query is given twice."),
        "unknown key": Refusal(403, "InvalidAccessKeyId", UNKNOWN_KEY, "0002-00000902"),
        "token missing": Refusal(403, "InvalidAccessKeyId", UNKNOWN_KEY, "0002-00000003"),
        "token not needed": Refusal(403, "InvalidAccessKeyId", UNKNOWN_KEY, "0002-00000002"),
        "wrong token": Refusal(403, "InvalidSecurityToken", "The security token you provided is invalid.", "0002-00000006"),
        "token expired": Refusal(403, "SecurityTokenExpired", "The security token you provided has expired.", "0002-00000007"),
        "mismatch": MISMATCH._replace(ec="0002-00000040"),
        "mismatch v4": MISMATCH._replace(ec="0002-00000201"),
        "additional headers": Refusal(
            400, "InvalidArgument", "The additional headers must be in lower case, sorted, and joined by semicolons.", "0002-00000210"
        ),
        "absent header": Refusal(400, "InvalidArgument", "A header that is signed is not in the request.", "0002-00000211"),
        "scope in query": Refusal(400, "InvalidArgument", "The x-oss-credential parameter is invalid.", "0002-00000224"),
        "scope in header": Refusal(400, "InvalidArgument", "Invalid credential in Authorization header.", "0002-00000213"),
        "region in query": Refusal(400, "InvalidArgument", "Invalid signing region in x-oss-credential parameter.", "0002-00000226"),
        "region in header": Refusal(400, "InvalidArgument", "Invalid signing region in Authorization header.", "0002-00000228"),
        "date in query": Refusal(400, "InvalidArgument", "Invalid signing date in x-oss-credential parameter."),
        "date in header": Refusal(400, "InvalidArgument", "Invalid signing date in Authorization header.", "0002-00000212"),
        "payload": Refusal(400, "InvalidArgument", "x-oss-content-sha256 must be UNSIGNED-PAYLOAD."),
        "expired": Refusal(403, "AccessDenied", "Request has expired.", "0002-00000069"),
        "expired v4": Refusal(403, "AccessDenied", "Request has expired.", "0002-00000236"),
        "too early": Refusal(403, "AccessDenied", "Request is not yet valid.", "0002-00000235"),
        "clock ahead": XmlStore.REFUSALS["clock ahead"]._replace(ec="0002-00000504"),
        "clock behind": XmlStore.REFUSALS["clock behind"]._replace(ec="0002-00000504"),
        "no bucket": Refusal(404, "NoSuchBucket", "The specified bucket does not exist.", "0015-00000101"),
        "no bucket in host": Refusal(403, "SecondLevelDomainForbidden", ELSEWHERE + "Use OSS third level domain."),
        "no key": Refusal(404, "NoSuchKey", "The specified key does not exist.", "0026-00000001"),
        "no upload": XmlStore.REFUSALS["no upload"]._replace(ec="0017-00000244"),
        "elsewhere": Refusal(403, "AccessDenied", ELSEWHERE + "Please send all future requests to this endpoint.", "0003-00001403"),
        "chunked": Refusal(
            400,
            "InvalidArgument",
            "aws-chunked encoding is not supported with the specified x-amz-content-sha256 value.",
            "0017-00000804",
        ),
    }

    # -- answers -------------------------------------------------------------------------------------------------------

    def endpoint(self, place: Place) -> str:
        return f"oss-{self.region}.aliyuncs.com"

    def error_fields(self, error: StoreError, request: Request, request_id: str) -> dict[str, str]:
        details = dict(error.details)
        number = details.pop("EC", "")
        fields = {"Code": error.code, "Message": error.message, "RequestId": request_id, "HostId": request.hostname, **details}
        return {**fields, "EC": number, "RecommendDoc": f"https://api.aliyun.com/troubleshoot?q={number}"} if number else fields

    def render(self, error: StoreError, request: Request) -> Response:
        response = super().render(error, request)
        if "EC" in error.details:
            response.headers["x-oss-ec"] = error.details["EC"]
        if request.method == "HEAD":
            response.headers["x-oss-err"] = base64.b64encode(response.body).decode()
        return response

    # -- signatures ----------------------------------------------------------------------------------------------------

    def verify(self, request: Request, place: Place) -> Proof:
        if place.api and not place.virtual:
            raise self.refuse("no bucket in host")
        if place.api == "s3" or (not place.api and speaks_sigv4(request)):
            try:
                proof = self.verify_sigv4(request, place)
            except StoreError as error:
                if number := error.details.get("EC"):
                    error.details["EC"] = S3_NUMBERS.get(number, number)
                raise
            self._check_chunked(proof)
            return proof
        authorization = request.headers.get("Authorization", "")
        if authorization.startswith(ALGORITHM) or any(name.startswith("x-oss-signature") for name, _ in request.params):
            return self.verify_v4(request, place)
        return self.verify_hmac_sha1(request, place)

    def _check_chunked(self, proof: SigV4Proof) -> None:
        """OSS knows the chunks that are signed one by one, and not those that end in a checksum."""
        payload = proof.signature.payload
        if payload.startswith("STREAMING-") and payload != "STREAMING-AWS4-HMAC-SHA256-PAYLOAD":
            raise self.refuse("chunked", ArgumentName="x-amz-content-sha256", ArgumentValue=payload)

    def resource(self, place: Place) -> str:
        return f"/{place.bucket}/{place.key}"

    def signed_date(self, request: Request) -> str:
        return request.headers.get("x-oss-date") or request.headers.get("Date", "")

    def verify_v4(self, request: Request, place: Place) -> Proof:
        params = dict(request.params)
        authorization = request.headers.get("Authorization")
        names = [name.lower() for name, _ in request.params]
        if len(names) != len(set(names)):
            raise self.refuse("twice")
        if authorization and "x-oss-signature" in params:
            raise self.refuse("two mechanisms", ArgumentName="Authorization")
        given = self._from_oss_header(request, authorization) if authorization else self._from_oss_query(params)
        credential, date, additional, signature, where = given
        name, _, scope = credential.partition("/")
        self._check_oss_scope(credential, date, place.region, where)

        tokens = [params["x-oss-security-token"]] if params.get("x-oss-security-token") else []
        tokens += request.headers.get_all("x-oss-security-token", [])
        key = self.known_key(name, tokens, OSSAccessKeyId=name)
        if request.headers.get("x-oss-content-sha256", "UNSIGNED-PAYLOAD") != "UNSIGNED-PAYLOAD":
            raise self.refuse("payload")
        names = self._additional_headers(request, additional)
        canonical = canonical_request_v4(request, self.resource(place), names)
        to_sign = "\n".join([ALGORITHM, date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        expected = hmac.new(signing_key(key.secret, scope, "aliyun_v4"), to_sign.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise self.refuse(
                "mismatch v4", OSSAccessKeyId=name, SignatureProvided=signature, StringToSign=to_sign, CanonicalRequest=canonical
            )
        return Proof(key, self.PREFIX)

    def _additional_headers(self, request: Request, additional: str | None) -> list[str]:
        if additional is None:
            return []
        names = additional.split(";")
        if "" in names or names != sorted({name.lower() for name in names}):
            raise self.refuse("additional headers", ArgumentName="AdditionalHeaders", ArgumentValue=additional)
        if not all(is_sent(request, name) for name in names):
            raise self.refuse("absent header", ArgumentName="AdditionalHeaders", ArgumentValue=additional)
        return names

    def _from_oss_query(self, params: dict[str, str]) -> tuple[str, str, str | None, str, str]:
        needed = ("x-oss-signature-version", "x-oss-credential", "x-oss-date", "x-oss-expires", "x-oss-signature")
        if any(not params.get(name) for name in needed) or params["x-oss-signature-version"] != ALGORITHM:
            raise self.refuse("incomplete v4")
        expires, date = params["x-oss-expires"], params["x-oss-date"]
        if not re.fullmatch("[0-9]{1,6}", expires) or not 1 <= int(expires) <= LONGEST:
            raise self.refuse("bad expiry v4", ArgumentName="x-oss-expires", ArgumentValue=expires)
        made, now = self._time(date), self.now()
        if made - now > SKEW:
            raise self.refuse("too early")
        if now > (ends := made + timedelta(seconds=int(expires))):
            raise self.refuse("expired v4", **expiry(ends, now))
        return params["x-oss-credential"], date, params.get("x-oss-additional-headers"), params["x-oss-signature"], "query"

    def _from_oss_header(self, request: Request, authorization: str) -> tuple[str, str, str | None, str, str]:
        algorithm, _, rest = authorization.partition(" ")
        fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
        if algorithm != ALGORITHM or not fields.get("Credential") or not fields.get("Signature"):
            raise self.refuse("malformed", ArgumentName="Authorization")
        date = request.headers.get("x-oss-date") or http_date(request.headers.get("Date"), "%Y%m%dT%H%M%SZ")
        self.check_clock(self._time(date), date)
        return fields["Credential"], date, fields.get("AdditionalHeaders"), fields["Signature"], "header"

    def _time(self, date: str) -> datetime:
        try:
            return datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
        except ValueError:
            raise self.refuse("bad date v4") from None

    def _check_oss_scope(self, credential: str, date: str, region: str, where: str) -> None:
        parts = credential.split("/")
        if len(parts) != 5 or parts[3:] != ["oss", "aliyun_v4_request"]:
            raise self.refuse(f"scope in {where}", ArgumentName="Credential", ArgumentValue=credential)
        if parts[2] != region:
            raise self.refuse(f"region in {where}", ArgumentName="Credential", ArgumentValue=credential)
        if parts[1] != date[:8]:
            raise self.refuse(f"date in {where}", ArgumentName="Credential", ArgumentValue=credential)


def canonical_request_v4(request: Request, resource: str, additional: list[str]) -> str:
    headers = {name.lower(): value.strip() for name, value in request.headers.items()} | {"host": request.host}
    signed = sorted((name, value) for name, value in headers.items() if name.startswith("x-oss-") or name in (*additional, *SIGNED_ANYWAY))
    query = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in request.params if name != "x-oss-signature")
    return "\n".join(
        [
            request.method,
            quote(resource, safe="/"),
            "&".join(f"{name}={value}" if value else name for name, value in query),
            "".join(f"{name}:{value}\n" for name, value in signed),
            ";".join(additional),
            request.headers.get("x-oss-content-sha256", "UNSIGNED-PAYLOAD"),
        ]
    )
