# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services that give out credentials: what they refuse, and that the stores know what they give for as long as it is good."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from urllib.parse import urlencode

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from conftest import Running, received, refused
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from strict_origin import server
from strict_origin.abs import Abs
from strict_origin.gcs import Gcs
from strict_origin.identity_abs import AbsIdentity
from strict_origin.identity_gcs import SCOPE, GcsIdentity
from strict_origin.identity_obs import ObsIdentity
from strict_origin.identity_oss import OssIdentity
from strict_origin.identity_s3 import S3Identity
from strict_origin.messages import StoreError
from strict_origin.objects import Objects
from strict_origin.obs import Obs
from strict_origin.oss import Oss
from strict_origin.s3 import S3

ISSUER = {"url": "https://issuer.example.com", "audience": "the-fleet", "subject": "reader"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Clock:
    def __init__(self):
        self.moment = datetime.now(timezone.utc)

    def __call__(self):
        return self.moment

    def pass_s(self, seconds):
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def issuer(key):
    return {**ISSUER, "public_key": key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()}


def token(key, clock, algorithm="RS256", **claims):
    def encoded(part):
        return base64.urlsafe_b64encode(part).decode().rstrip("=")

    claims = {"iss": ISSUER["url"], "aud": ISSUER["audience"], "sub": "reader", "exp": int(clock().timestamp()) + 600, **claims}
    signed = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": algorithm}, claims))
    return signed + "." + encoded(key.sign(signed.encode(), PKCS1v15(), SHA256()))


def answered(identity, method, path, headers=None, body=b"", host="169.254.169.254"):
    response = identity.answer(received(method, f"http://{host}{path}", headers, body))
    return response.status, response.body.decode()


# Services whose sessions are opened by PUT: how they are made, the header, where sessions are, and what an instance asks for.
IMDS = {
    "s3": ("X-aws-ec2-metadata-token", "/latest/api/token", "/latest/meta-data/iam/security-credentials/"),
    "oss": ("X-aliyun-ecs-metadata-token", "/latest/api/token", "/latest/meta-data/ram/security-credentials/"),
    "obs": ("X-Metadata-Token", "/meta-data/latest/api/token", "/openstack/latest/securitykey"),
}


EMAIL = "reader@lab.iam.gserviceaccount.com"


@pytest.fixture
def made(tmp_path, clock, issuer):
    def make(name, **config):
        config = {"issuer": issuer, **config}
        if name == "s3":
            store = S3({"region": "us-east-1", "buckets": ["models"], "keys": []}, Objects(tmp_path), now=clock)
            return S3Identity({"role_arn": "arn:aws:iam::1:role/reader", **config}, store, clock)
        here = {"buckets": ["models"], "keys": []}
        if name == "oss":
            store = Oss({"region": "cn-hangzhou", **here}, Objects(tmp_path), now=clock)
            return OssIdentity({"role_arn": "acs:ram::1:role/reader", "oidc_provider_arn": "acs:ram::1:p", **config}, store, clock)
        if name == "obs":
            return ObsIdentity(config, Obs({"region": "cn-north-4", **here}, Objects(tmp_path), now=clock), clock)
        if name == "gcs":
            store = Gcs({"buckets": ["models"], "accounts": []}, Objects(tmp_path), now=clock)
            return GcsIdentity({"client_email": EMAIL, "audience": "//pool", **config}, store, clock)
        account = {"account_name": "lab", "account_key": base64.b64encode(b"key").decode(), "containers": ["models"]}
        store = Abs({"accounts": [account]}, Objects(tmp_path), now=clock)
        return AbsIdentity({"tenant_id": "tenant", "client_id": "client", **config}, store, clock)

    return make


@pytest.mark.parametrize("name", IMDS)
def test_nothing_without_a_session(made, clock, name):
    header, sessions, path = IMDS[name]
    identity = made(name)
    assert answered(identity, "GET", path)[0] == 401, "the first version has none"
    assert answered(identity, "GET", path, {header: "guessed"})[0] == 401
    assert answered(identity, "PUT", sessions)[0] == 400
    assert answered(identity, "GET", sessions, {header + "-ttl-seconds": "60"})[0] == 405
    assert answered(identity, "PUT", sessions, {header + "-ttl-seconds": "60", "X-Forwarded-For": "10.0.0.1"})[0] == 403
    for bad in ("0", "21601", "-1", "1h", "100000"):
        assert answered(identity, "PUT", sessions, {header + "-ttl-seconds": bad})[0] == 400
    status, session = answered(identity, "PUT", sessions, {header + "-ttl-seconds": "60"})
    assert status == 200
    assert answered(identity, "GET", path, {header: session})[0] == 200
    assert answered(identity, "POST", path, {header: session})[0] == 405
    clock.pass_s(61)
    assert answered(identity, "GET", path, {header: session})[0] == 401


def opened(identity, name):
    header, sessions, _path = IMDS[name]
    return {header: answered(identity, "PUT", sessions, {header + "-ttl-seconds": "60"})[1]}


def test_an_instance_without_a_role(made):
    identity = made("s3")
    identity.change({"attached": False})
    assert answered(identity, "GET", IMDS["s3"][2], opened(identity, "s3"))[0] == 404


def test_the_credentials_of_another_role_are_not_given(made):
    identity = made("s3")
    assert answered(identity, "GET", IMDS["s3"][2], opened(identity, "s3")) == (200, "reader")
    assert answered(identity, "GET", IMDS["s3"][2] + "writer", opened(identity, "s3"))[0] == 404


def role_keys(identity):
    return json.loads(answered(identity, "GET", IMDS["s3"][2] + "reader", opened(identity, "s3"))[1])


def presigned(found, method="GET", key="a.mar"):
    request = AWSRequest(method, f"https://models.s3.us-east-1.amazonaws.com/{key}")
    keys = Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["Token"])
    S3SigV4QueryAuth(keys, "s3", "us-east-1", 3600).add_auth(request)
    return received(method, request.url)


def test_a_store_takes_what_was_given_until_it_expires(made, clock):
    identity = made("s3")
    identity.change({"lifetime": 60})
    found = role_keys(identity)
    assert role_keys(identity) == found, "the same for half of its time"
    assert identity.store.authorize(presigned(found))[0] == "models/a.mar"
    assert refused(identity.store, presigned(found, "PUT")) == (403, "AccessDenied")
    assert refused(identity.store, presigned({**found, "Token": "another"})) == (400, "InvalidToken")
    clock.pass_s(31)
    later = role_keys(identity)
    assert later["AccessKeyId"] != found["AccessKeyId"]
    assert identity.store.authorize(presigned(found)), "both are good"
    clock.pass_s(29)
    assert refused(identity.store, presigned(found)) == (400, "ExpiredToken")
    assert identity.store.authorize(presigned(later))


def test_what_may_publish_does(made):
    identity = made("s3", publish=True)
    assert identity.store.authorize(presigned(role_keys(identity), "PUT"))


def assumed(identity, web_token, **changes):
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": "arn:aws:iam::1:role/reader",
        "RoleSessionName": "test",
        "WebIdentityToken": web_token,
        **changes,
    }
    return answered(identity, "POST", "/", FORM, urlencode(form).encode(), "sts.us-east-1.amazonaws.com")


@pytest.mark.parametrize(
    ("claims", "status", "code"),
    [
        ({"exp": 1}, 400, "ExpiredTokenException"),
        ({"aud": "others"}, 400, "InvalidIdentityToken"),
        ({"aud": []}, 400, "InvalidIdentityToken"),
        ({"iss": "https://others.example.com"}, 400, "InvalidIdentityToken"),
        ({"sub": "others"}, 403, "AccessDenied"),
        ({"algorithm": "none"}, 400, "InvalidIdentityToken"),
    ],
)
def test_sts_gives_nothing_for_another_token(made, key, clock, claims, status, code):
    identity = made("s3")
    said = assumed(identity, token(key, clock, **claims))
    assert said[0] == status and f"<Code>{code}</Code>" in said[1]
    assert identity.issued == 0


def test_sts_knows_who_signed(made, clock):
    identity = made("s3")
    strange = rsa.generate_private_key(65537, 2048)
    assert "InvalidIdentityToken" in assumed(identity, token(strange, clock))[1]
    assert "InvalidIdentityToken" in assumed(identity, "no.token")[1]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"RoleArn": "arn:aws:iam::1:role/writer"}, 403, "AccessDenied"),
        ({"RoleSessionName": "a b"}, 400, "ValidationError"),
        ({"Version": "2010-01-01"}, 400, "InvalidAction"),
        ({"Action": "AssumeRole"}, 400, "InvalidAction"),
    ],
)
def test_sts_is_asked_by_the_letter(made, key, clock, changes, status, code):
    said = assumed(made("s3"), token(key, clock), **changes)
    assert said[0] == status and f"<Code>{code}</Code>" in said[1]


def test_sts_gives_credentials_for_a_good_token(made, key, clock):
    identity = made("s3")
    status, body = assumed(identity, token(key, clock, aud=["others", "the-fleet"]))
    found = {name: body.partition(f"<{name}>")[2].partition("<")[0] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")}
    assert status == 200
    assert identity.store.authorize(presigned({**found, "Token": found["SessionToken"]}))


# Alibaba Cloud and Huawei Cloud


def test_a_region_of_huawei_without_sessions(made):
    identity = made("obs", sessions=False)
    assert answered(identity, "PUT", IMDS["obs"][1], {"X-Metadata-Token-Ttl-Seconds": "60"})[0] == 404
    status, body = answered(identity, "GET", IMDS["obs"][2])
    assert status == 200 and set(json.loads(body)["credential"]) == {"access", "secret", "securitytoken", "expires_at"}
    identity.change({"attached": False})
    assert answered(identity, "GET", IMDS["obs"][2]) == (401, "Please configure Cloud Service Agency first")


@pytest.mark.parametrize(
    ("claims", "query", "form", "status", "code"),
    [
        ({}, {}, {}, 200, None),
        ({"exp": 1}, {}, {}, 400, "AuthenticationFail.OIDCToken.Expired"),
        ({"aud": "others"}, {}, {}, 400, "AuthenticationFail.OIDCToken.AudienceNotMatch"),
        ({"iss": "others"}, {}, {}, 400, "AuthenticationFail.OIDCToken.IssuerNotMatch"),
        ({"sub": "others"}, {}, {}, 403, "AuthenticationFail.NoPermission"),
        ({}, {}, {"RoleArn": "acs:ram::1:role/writer"}, 403, "AuthenticationFail.NoPermission"),
        ({}, {}, {"OIDCProviderArn": "acs:ram::1:other"}, 404, "EntityNotExist.OIDCProvider"),
        ({}, {"Action": "AssumeRole"}, {}, 400, "InvalidAction.NotFound"),
        ({}, {"Timestamp": "today"}, {}, 400, "InvalidTimeStamp.Format"),
        ({}, {"Timestamp": "2020-01-01T00:00:00Z"}, {}, 400, "InvalidTimeStamp.Expired"),
        ({}, {"SignatureNonce": ""}, {}, 400, "InvalidTimeStamp.Expired"),
    ],
)
def test_sts_of_alibaba_cloud(made, key, clock, claims, query, form, status, code):
    identity = made("oss")
    common = {"Action": "AssumeRoleWithOIDC", "Version": "2015-04-01", "Format": "JSON", "SignatureNonce": "1"}
    query = {**common, "Timestamp": clock().strftime("%Y-%m-%dT%H:%M:%SZ"), **query}
    own = {"RoleArn": "acs:ram::1:role/reader", "OIDCProviderArn": "acs:ram::1:p", "RoleSessionName": "test"}
    body = urlencode({**own, "OIDCToken": token(key, clock, **claims), **form}).encode()
    found = answered(identity, "POST", "/?" + urlencode(query), FORM, body, "sts.aliyuncs.com")
    assert found[0] == status and json.loads(found[1]).get("Code") == code
    if status == 200:
        assert json.loads(found[1])["Credentials"]["AccessKeyId"] in identity.store.keys


# Google

FLAVOR = {"Metadata-Flavor": "Google"}
ACCOUNT = "/computeMetadata/v1/instance/service-accounts/default/"
EXCHANGE = {
    "audience": "//pool",
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "scope": SCOPE,
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
}


def test_googles_metadata_server(made):
    identity = made("gcs")
    assert answered(identity, "GET", ACCOUNT + "token")[0] == 403
    assert answered(identity, "GET", ACCOUNT + "token", {**FLAVOR, "X-Forwarded-For": "10.0.0.1"})[0] == 403
    assert answered(identity, "GET", ACCOUNT + "other", FLAVOR)[0] == 404
    assert answered(identity, "GET", ACCOUNT + "email", FLAVOR) == (200, EMAIL)
    assert json.loads(answered(identity, "GET", ACCOUNT + "token", FLAVOR)[1])["token_type"] == "Bearer"
    identity.change({"attached": False})
    assert answered(identity, "GET", ACCOUNT + "token", FLAVOR)[0] == 404


@pytest.mark.parametrize(
    ("claims", "form", "error"),
    [
        ({"exp": 1}, {}, "invalid_grant"),
        ({"aud": "others"}, {}, "invalid_grant"),
        ({"sub": "others"}, {}, "unauthorized_client"),
        ({}, {"audience": "//others"}, "invalid_target"),
        ({}, {"grant_type": "client_credentials"}, "invalid_request"),
        ({}, {"scope": "email"}, "invalid_request"),
    ],
)
def test_googles_exchange_refuses(made, key, clock, claims, form, error):
    identity = made("gcs")
    body = urlencode({**EXCHANGE, "subject_token": token(key, clock, **claims), **form}).encode()
    status, said = answered(identity, "POST", "/v1/token", FORM, body, "sts.googleapis.com")
    assert (status, json.loads(said)["error"]) == (400, error) and identity.issued == 0


def test_iam_signs_for_who_may_have_it_sign(made, key, clock):
    identity = made("gcs")
    body = urlencode({**EXCHANGE, "subject_token": token(key, clock)}).encode()
    federated = json.loads(answered(identity, "POST", "/v1/token", FORM, body)[1])["access_token"]
    own = json.loads(answered(identity, "GET", ACCOUNT + "token", FLAVOR)[1])["access_token"]
    blob = json.dumps({"payload": base64.b64encode(b"to sign").decode()}).encode()
    path = f"/v1/projects/-/serviceAccounts/{EMAIL}:signBlob"

    def sign(bearer, path=path, body=blob):
        return answered(identity, "POST", path, {"Authorization": f"Bearer {bearer}"}, body, "iamcredentials.googleapis.com")

    for bearer in (federated, own):
        status, said = sign(bearer)
        assert status == 200
        signature = base64.b64decode(json.loads(said)["signedBlob"])
        identity.store.public_keys[EMAIL].verify(signature, b"to sign", PKCS1v15(), SHA256())
    assert sign("guessed")[0] == 401
    assert sign(own, path.replace("reader@", "writer@"))[0] == 403
    assert sign(own, body=b'{"payload": "!"}')[0] == 400
    identity.creator = False
    assert sign(own)[0] == 403
    clock.pass_s(3600)
    assert sign(own)[0] == 401 and sign(federated)[0] == 401


# Azure

METADATA = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fstorage.azure.com%2F"
VERSION = "2021-12-02"


def test_azures_metadata_service(made):
    identity = made("abs")
    assert answered(identity, "GET", METADATA)[0] == 400
    assert answered(identity, "GET", METADATA, {"Metadata": "true", "X-Forwarded-For": "10.0.0.1"})[0] == 400
    assert answered(identity, "GET", METADATA.partition("&")[0], {"Metadata": "true"})[0] == 400
    assert answered(identity, "GET", METADATA + "&client_id=another", {"Metadata": "true"})[0] == 400
    assert answered(identity, "GET", METADATA + "&client_id=client", {"Metadata": "true"})[0] == 200
    identity.change({"attached": False})
    assert json.loads(answered(identity, "GET", METADATA, {"Metadata": "true"})[1])["error_description"] == "Identity not found"


@pytest.mark.parametrize(
    ("claims", "form", "tenant", "status", "number"),
    [
        ({"exp": 1}, {}, "tenant", 401, "AADSTS700024"),
        ({"iss": "others"}, {}, "tenant", 401, "AADSTS700211"),
        ({"aud": "others"}, {}, "tenant", 401, "AADSTS700212"),
        ({"sub": "others"}, {}, "tenant", 401, "AADSTS700213"),
        ({}, {"client_id": "another"}, "tenant", 400, "AADSTS700016"),
        ({}, {}, "another", 400, "AADSTS90002"),
        ({}, {"scope": "https://graph.microsoft.com/.default"}, "tenant", 400, "AADSTS900144"),
    ],
)
def test_entra_refuses(made, key, clock, claims, form, tenant, status, number):
    identity = made("abs")
    fields = {
        "client_id": "client",
        "scope": "https://storage.azure.com/.default",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": token(key, clock, **claims),
        "grant_type": "client_credentials",
    }
    found = answered(identity, "POST", f"/{tenant}/oauth2/v2.0/token", FORM, urlencode({**fields, **form}).encode())
    assert found[0] == status and number in found[1] and identity.issued == 0


class Account:
    """The storage account, by the token of an identity."""

    def __init__(self, identity, clock):
        self.identity, self.clock, self.store = identity, clock, identity.store
        self.bearer = json.loads(answered(identity, "GET", METADATA, {"Metadata": "true"})[1])["access_token"]

    def time(self, seconds):
        return (self.clock() + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def call(self, method, path, body=b"", secure=True, **headers):
        headers = {"Authorization": f"Bearer {self.bearer}", "x-ms-version": VERSION, **headers}
        request = received(method, f"https://lab.blob.core.windows.net{path}", headers, body)
        request.secure = secure
        return self.store.handle(request, self.store.authorize(request)[1])

    def key(self, start=-900, end=600):
        body = f"<KeyInfo><Start>{self.time(start)}</Start><Expiry>{self.time(end)}</Expiry></KeyInfo>".encode()
        answer = self.call("POST", "/?restype=service&comp=userdelegationkey", body).body.decode()
        names = ("SignedOid", "SignedTid", "SignedStart", "SignedExpiry", "SignedService", "SignedVersion", "Value")
        return [answer.partition(f"<{name}>")[2].partition("<")[0] for name in names]

    def read(self, key, version=VERSION, **changes):
        """With a SAS that is signed as the documentation has it."""
        *signed, value = key
        query = {"sv": version, "sr": "b", "sp": "r", "se": self.time(300)}
        query.update(zip(("skoid", "sktid", "skt", "ske", "sks", "skv"), signed))
        lines = ["r", "", query["se"], "/blob/lab/models/a.mar", *signed, "", "", "", "", "", version, "b", *[""] * 7]
        digest = hmac.new(base64.b64decode(value), "\n".join(lines).encode(), hashlib.sha256).digest()
        query["sig"] = base64.b64encode(digest).decode()
        url = "https://lab.blob.core.windows.net/models/a.mar?" + urlencode({**query, **changes})
        return self.store.authorize(received("GET", url))[0]


def failed(call, *args, **options):
    with pytest.raises(StoreError) as caught:
        call(*args, **options)
    return caught.value.status, caught.value.code


def test_a_user_delegation_sas_is_good_with_its_key_only_and_for_its_time(made, clock):
    account = Account(made("abs"), clock)
    key = account.key()
    assert account.read(key) == "models/a.mar"
    refused = (403, "AuthenticationFailed")
    for part in range(6):
        other = [*key[:part], "2026-01-01T00:00:00Z" if part in (2, 3) else "other", *key[part + 1 :]]
        assert failed(account.read, other) == refused
    assert failed(account.read, [*key[:-1], base64.b64encode(bytes(32)).decode()]) == refused
    assert failed(account.read, key, sp="rw") == refused
    assert failed(account.read, account.key(start=60)) == refused, "not yet"
    assert failed(account.read, key, version="2025-07-05") == (501, "NotImplemented")
    clock.pass_s(601)
    assert failed(account.read, key) == refused


def test_an_account_takes_the_token_of_an_identity_by_tls_and_until_it_expires(made, clock):
    account = Account(made("abs", publish=True), clock)
    assert account.call("PUT", "/models/a.mar", b"x", **{"x-ms-blob-type": "BlockBlob", "Content-Length": "1"}).status == 201
    assert account.call("GET", "/models/a.mar").status == 200
    assert failed(account.call, "GET", "/models/a.mar", secure=False) == (403, "AuthenticationFailed")
    assert failed(account.call, "GET", "/models/a.mar", **{"x-ms-version": "2016-05-31"})[0] in (400, 403)
    assert failed(account.call, "GET", "/models/a.mar", Authorization="Bearer other") == (401, "InvalidAuthenticationInfo")
    for start, end in ((0, 8 * 24 * 3600), (600, 300), (-900, -1)):
        assert failed(account.key, start, end) == (400, "InvalidXmlNodeValue")
    clock.pass_s(3601)
    assert failed(account.call, "GET", "/models/a.mar") == (401, "InvalidAuthenticationInfo")
    reader = Account(made("abs", delegator=False), clock)
    assert failed(reader.call, "PUT", "/models/a.mar", b"x") == (403, "AuthorizationPermissionMismatch")
    assert failed(reader.key) == (403, "AuthorizationPermissionMismatch")


def test_it_answers_by_its_names_and_on_its_own_port(tmp_path, certificate, issuer):
    running = Running(
        {
            "data": str(tmp_path / "data"),
            "address": "127.0.0.1",
            "listen": {"http": 0, "https": 0, "control": 0, "proxy": 0},
            "tls": certificate,
            "s3": {"region": "us-east-1", "buckets": ["models"], "keys": []},
            "identities": {"s3": {"listen": 0, "names": ["sts.example.org"], "issuer": issuer}},
        }
    )
    try:
        assert running.control("GET", "/identities/s3") == {"lifetime": 3600, "attached": True, "issued": 0}
        assert running.control("PUT", "/identities/s3", {"lifetime": 5, "attached": False})["lifetime"] == 5
        origin = running.servers["http"].origin
        assert origin.plays("169.254.169.254") and origin.plays("sts.eu-west-1.amazonaws.com") and origin.plays("sts.example.org")
        assert not origin.plays("sts.example.com")
        for port, host in ((running.ports["http"], "169.254.169.254"), (running.ports["identity-s3"], "anything")):
            request = urllib.request.Request(f"http://127.0.0.1:{port}/latest/meta-data/", headers={"Host": host})
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(request, timeout=10)
    finally:
        server.stop(running.servers)
