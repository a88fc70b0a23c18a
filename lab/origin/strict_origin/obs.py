# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Huawei Cloud OBS: its own signature in a URL and in the header, and AWS Signature Version 4 at the same addresses.

The causes, codes and words of a refusal are those of the OBS API reference, Appendix "Error Codes".
"""

from __future__ import annotations

import re
import secrets
from urllib.parse import quote

from .hmacsha1 import HmacSha1
from .messages import Request, StoreError
from .s3 import SigV4, speaks_sigv4
from .xmlstore import Place, Proof, Refusal, XmlStore


class Obs(SigV4, HmacSha1):
    """config: {region, buckets: [..], keys: [{access_key_id, secret_access_key, security_token, publish}, ..]}"""

    HOST = re.compile(r"^(?:(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\.)?obs\.(?P<region>[a-z]{2}(?:-[a-z0-9]+)+)\.myhuaweicloud\.com$")
    KEY_FIELDS = ("access_key_id", "secret_access_key", "security_token")
    REQUEST_ID = "x-obs-request-id"
    # The SDK sends what its user calls a v4 signature with the token in lower case.
    TOKEN_PARAMS = ("X-Amz-Security-Token", "x-amz-security-token")
    SCHEME = "OBS"
    ID = "AccessKeyId"
    TOKEN = "x-obs-security-token"
    PREFIX = "x-obs-"
    SUBRESOURCES = re.compile(
        "acl|append|delete|encryption|length|metadata|modify|name|object-lock|partnumber|position|rename|restore|retention|tagging|truncate"
        "|uploadid|uploads|versionid|x-image-process|x-obs-.+|response-.+"
    )
    REFUSALS = {
        **XmlStore.REFUSALS,
        "malformed": Refusal(400, "InvalidArgument", "Authorization header is invalid -- one and only one ' ' (space) required"),
        "incomplete": Refusal(
            403, "AccessDenied", "Query-string authentication requires the Signature, Expires and AccessKeyId parameters"
        ),
        "bad expiry": Refusal(403, "AccessDenied", "Invalid date (should be seconds since epoch)"),
        "no date": Refusal(403, "AccessDenied", "OBS authentication requires a valid Date or x-obs-date header"),
        "twice": Refusal(400, "InvalidArgument", "A parameter of the query is given twice."),
        "unknown key": Refusal(403, "InvalidAccessKeyId", "The OBS Access Key Id you provided does not exist in our records."),
        "token missing": Refusal(403, "InvalidAccessKeyId", "The OBS Access Key Id you provided does not exist in our records."),
        "token not needed": Refusal(403, "InvalidAccessKeyId", "The security token is invalid."),
        "wrong token": Refusal(403, "InvalidAccessKeyId", "The security token is invalid."),
        "token expired": Refusal(403, "InvalidAccessKeyId", "The security token is invalid."),
        "chunked": Refusal(
            400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed."
        ),
        "expired": Refusal(403, "RequestTimeTooSkewed", "Request has expired."),
        "too early": Refusal(403, "RequestTimeTooSkewed", "Request is not yet valid."),
        "clock ahead": Refusal(403, "RequestTimeTooSkewed", "Request is not yet valid."),
        "clock behind": Refusal(403, "RequestTimeTooSkewed", "Request is no longer valid."),
    }

    def endpoint(self, place: Place) -> str:
        return f"{place.bucket}.obs.{self.region}.myhuaweicloud.com"

    def common_headers(self) -> dict[str, str]:
        # By the version of the API the SDK decides which signature it uses.
        return {**super().common_headers(), "x-obs-id-2": secrets.token_urlsafe(24), "x-obs-api": "3.0"}

    def error_fields(self, error: StoreError, request: Request, request_id: str) -> dict[str, str]:
        fields = {"Code": error.code, "Message": error.message, "RequestId": request_id, "HostId": secrets.token_urlsafe(48)}
        return {**fields, **error.details}

    def verify(self, request: Request, place: Place) -> Proof:
        if not speaks_sigv4(request):
            return self.verify_hmac_sha1(request, place)
        proof = self.verify_sigv4(request, place)
        if proof.signature.payload.endswith("-TRAILER"):
            # OBS does not know chunks that end in a checksum: for it, the chunks are the content.
            raise self.refuse("chunked")
        return proof

    def resource(self, place: Place) -> str:
        return f"/{place.bucket}/{quote(place.key, safe='/-_.~')}"

    def signed_date(self, request: Request) -> str:
        return "" if self.PREFIX + "date" in request.headers else request.headers.get("Date", "")
