# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services that give out credentials: what they refuse, and that the stores know what they give for as long as it is good."""

from __future__ import annotations

import base64
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
from strict_origin.identity_s3 import S3Identity
from strict_origin.objects import Objects
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
}


@pytest.fixture
def made(tmp_path, clock, issuer):
    def make(name, **config):
        config = {"issuer": issuer, **config}
        if name == "s3":
            store = S3({"region": "us-east-1", "buckets": ["models"], "keys": []}, Objects(tmp_path), now=clock)
            return S3Identity({"role_arn": "arn:aws:iam::1:role/reader", **config}, store, clock)
        raise AssertionError(name)

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
