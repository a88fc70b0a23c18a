# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import datetime
import io
import urllib.error
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _identity
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._identity import Renewed
from ansible_collections.modelfleet.serving.plugins.module_utils._identity_abs import UserDelegationKey
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import publishing_store, store_from_unchecked
from ansible_collections.modelfleet.serving.plugins.module_utils._storage_signing import Keys

NOW = datetime.datetime.fromtimestamp(1760000000, datetime.timezone.utc)
KEY = "models/ünï 模型+a%2Fb//~'\"&=?#.mar"
INSTANCE = {"source": "instance"}
WEB = {
    "s3": {"role_arn": "arn:aws:iam::1:role/reader"},
    "oss": {"role_arn": "acs:ram::1:role/reader", "oidc_provider_arn": "acs:ram::1:oidc-provider/cluster"},
    "gcs": {"audience": "//iam.googleapis.com/projects/1", "service_account": "reader@example.iam.gserviceaccount.com"},
    "abs": {"tenant_id": "11111111-1111-4111-8111-111111111111", "client_id": "22222222-2222-4222-8222-222222222222"},
}
STORES = {
    "s3": {"bucket": "models"},
    "oss": {"bucket": "models", "region": "cn-hangzhou"},
    "gcs": {"bucket": "models"},
    "abs": {"account_name": "examplemodels", "container": "models"},
    "obs": {"bucket": "models", "region": "cn-north-4"},
}


def store(name, identity=None, **changes):
    return store_from_unchecked({name: {**STORES[name], "identity": {**INSTANCE, **(identity or {})}, **changes}})


def web(name, **changes):
    found = {"source": "web_identity", "token_path": "/run/token", **WEB[name], **changes}
    return {key: value for key, value in found.items() if value is not None}


@pytest.mark.parametrize("name", STORES)
def test_config_json_has_the_identity_and_no_key(name):
    config = store(name, {"endpoint": "http://127.0.0.1:8080"}).to_config()
    assert config["identity"] == {"source": "instance", "endpoint": "http://127.0.0.1:8080"}
    assert not any("key" in key or "secret" in key or "account_path" in key for key in config)
    if name in WEB:
        assert store(name, web(name)).to_config()["identity"] == web(name)


@pytest.mark.parametrize(
    ("name", "identity", "servers"),
    [
        ("s3", INSTANCE, ["http://169.254.169.254"]),
        ("s3", web("s3"), ["https://sts.us-east-1.amazonaws.com"]),
        ("oss", INSTANCE, ["http://100.100.100.200"]),
        ("oss", web("oss"), ["https://sts.aliyuncs.com"]),
        ("gcs", INSTANCE, ["http://169.254.169.254", "https://iamcredentials.googleapis.com"]),
        ("gcs", web("gcs"), ["https://sts.googleapis.com", "https://iamcredentials.googleapis.com"]),
        ("abs", INSTANCE, ["http://169.254.169.254", "https://examplemodels.blob.core.windows.net"]),
        ("abs", web("abs"), ["https://login.microsoftonline.com", "https://examplemodels.blob.core.windows.net"]),
        ("obs", INSTANCE, ["http://169.254.169.254"]),
        ("obs", {"endpoint": "http://10.0.0.1:8080/"}, ["http://10.0.0.1:8080"]),
    ],
)
def test_whom_the_signing_machine_must_reach(name, identity, servers):
    assert store(name, identity).identity.servers() == servers


def test_each_cloud_of_a_vendor_has_its_own():
    china = store("s3", web("s3"), region="cn-north-1").identity
    assert china.servers() == ["https://sts.cn-north-1.amazonaws.com.cn"]
    government = store("abs", web("abs"), endpoint_suffix="core.usgovcloudapi.net").identity
    assert government.servers()[0] == "https://login.microsoftonline.us"


KEYS = {
    "s3": {"access_key": "AK", "secret_key": "PLANTED"},
    "oss": {"access_key_id": "AK", "access_key_secret": "PLANTED"},
    "gcs": {"service_account_file": "/PLANTED"},
    "abs": {"account_key": "UExBTlRFRA=="},
    "obs": {"access_key_id": "AK", "secret_access_key": "PLANTED"},
}


@pytest.mark.parametrize("name", KEYS)
def test_one_kind_of_credentials(name):
    with pytest.raises(ModelFleetError) as raised:
        store(name, **KEYS[name])
    said = str(raised.value)
    assert "Leave one of them out" in said or "mutually exclusive: service_account_json|service_account_file|identity found" in said
    assert "PLANTED" not in said
    with pytest.raises(ModelFleetError) as raised:
        store_from_unchecked({name: STORES[name]})
    said = str(raised.value)
    assert "or identity, so that they need not be in a file." in said or "service_account_file, identity found in storage -> gcs" in said


@pytest.mark.parametrize(
    ("name", "identity", "said"),
    [
        (
            "s3",
            {"source": "PLANTED"},
            "one of: instance, web_identity, got: PLANTED found in storage -> s3 -> identity",
        ),
        ("obs", {"source": "web_identity"}, "value of source must be one of: instance"),
        ("s3", {"role": "a"}, "storage.s3.identity.role."),
        ("s3", web("s3", role_arn=None), "source is web_identity but all of the following are missing: role_arn"),
        ("oss", web("oss", oidc_provider_arn=None), "source is web_identity but all of the following are missing: oidc_provider_arn"),
        ("gcs", web("gcs", service_account=None), "source is web_identity but all of the following are missing: service_account"),
        ("abs", web("abs", token_path=None), "source is web_identity but all of the following are missing: token_path"),
        ("s3", {"role_arn": "a"}, "storage.s3.identity.role_arn 'a': it is for source: web_identity. Leave it out, or change source."),
        ("gcs", {"audience": "//a"}, "storage.gcs.identity.audience '//a': it is for source: web_identity."),
        ("s3", web("s3", token_path="token"), "storage.s3.identity.token_path 'token': it must be an absolute path."),
        ("s3", web("s3", role_arn="a b"), "storage.s3.identity.role_arn 'a b': it looks like arn:aws:iam::"),
        (
            "oss",
            web("oss", role_arn="arn:aws:iam::1:role/a"),
            "oss.identity.role_arn 'arn:aws:iam::1:role/a': it looks like acs:ram::",
        ),
        ("gcs", web("gcs", audience="projects/1"), "storage.gcs.identity.audience 'projects/1': it is the name of a provider"),
        (
            "gcs",
            web("gcs", service_account="reader"),
            "gcs.identity.service_account 'reader': it is the email of a service account.",
        ),
        ("gcs", {"iam_endpoint": "iam.example.com"}, "storage.gcs.identity.iam_endpoint 'iam.example.com': it must be http:// or https://"),
        ("abs", web("abs", tenant_id="a/b"), "storage.abs.identity.tenant_id 'a/b': it is an identifier"),
        ("abs", {"client_id": "a?b"}, "storage.abs.identity.client_id 'a?b': it is an identifier"),
        ("s3", {"endpoint": "http://h/path"}, "storage.s3.identity.endpoint 'http://h/path': it must be"),
        ("s3", {"endpoint": "http://u:PLANTED@h"}, "storage.s3.identity.endpoint: it must be"),
        ("s3", {"endpoint": "http://h\n"}, "storage.s3.identity.endpoint: it ends with a line end; write it without"),
    ],
)
def test_a_bad_identity_is_named(name, identity, said):
    with pytest.raises(ModelFleetError) as raised:
        store(name, identity)
    assert said in str(raised.value) and ("PLANTED" not in str(raised.value) or identity["source"] == "PLANTED")


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("identity", [{}, [], "instance", False, 1])
def test_what_is_no_identity_at_all_is_named(name, identity):
    with pytest.raises(ModelFleetError, match="Failed to read the storage description: "):
        store_from_unchecked({name: {**STORES[name], "identity": identity}})


def test_azure_takes_tokens_by_tls_only():
    with pytest.raises(ModelFleetError, match=r"storage\.abs.endpoint 'http://10.0.0.5:10000': with identity it must be https://"):
        store("abs", endpoint="http://10.0.0.5:10000")


def test_an_identity_in_place_of_keys_and_keys_in_place_of_an_identity():
    read = {"s3": {**STORES["s3"], "access_key": "AK", "secret_key": "SK"}}
    one = publishing_store(read, {"s3": {"identity": web("s3")}})
    assert one.identity.source == "web_identity" and one.access_key is None
    two = publishing_store({"s3": {**STORES["s3"], "identity": INSTANCE}}, {"s3": {"access_key": "W", "secret_key": "X"}})
    assert two.identity is None and two.access_key == "W"
    with pytest.raises(ModelFleetError, match=r"credentials\.s3\.identity\.token_path 'token': it must be an absolute path"):
        publishing_store(read, {"s3": {"identity": web("s3", token_path="token")}})
    with pytest.raises(ModelFleetError, match=r"Failed to use credentials\.s3: it has no credentials. Give access_key and secret_key, or"):
        publishing_store(read, {"s3": {"endpoint": "https://minio.example.com"}})


# What gives out credentials


def test_what_is_given_is_asked_for_again_before_it_expires():
    given = []

    def issue(now):
        given.append(now)
        return Keys("AK", "SK", "T", now.timestamp() + 3600)

    renewed = Renewed(issue)
    for later, asked in ((0, 1), (3299, 1), (3301, 2), (3400, 2), (6700, 3)):
        renewed.get(NOW + datetime.timedelta(seconds=later))
        assert len(given) == asked, later


def test_what_lives_shortly_is_asked_for_again_after_half_of_its_life():
    given = []

    def issue(now):
        given.append(now)
        return Keys("AK", "SK", "T", now.timestamp() + 60)

    renewed = Renewed(issue)
    for later, asked in ((0, 1), (29, 1), (31, 2)):
        renewed.get(NOW + datetime.timedelta(seconds=later))
        assert len(given) == asked, later


@pytest.mark.parametrize(("expires_s", "signed_s"), [(600, 600), (3600, 3600), (7200, 3600), (604800, 3600)])
@pytest.mark.parametrize("name", ["s3", "oss", "obs", "abs"])
def test_a_url_lives_no_longer_than_what_signs_it(name, expires_s, signed_s, monkeypatch):
    one = store(name)
    key = (
        UserDelegationKey(("o", "t", "2025-10-09T08:38:20Z", "2025-10-09T09:53:20Z", "b", "2021-12-02"), b"key", NOW.timestamp() + 3600)
        if name == "abs"
        else Keys("AK", "SK", "T", NOW.timestamp() + 3600)
    )
    monkeypatch.setattr(type(one.identity), "current", lambda self, now=None: key)
    assert one.signed_s(expires_s, NOW) == signed_s
    query = parse_qs(urlsplit(one.presign("GET", KEY, expires_s, now=NOW)).query)
    end = (NOW + datetime.timedelta(seconds=signed_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert [str(signed_s)] in query.values() or [str(int(NOW.timestamp()) + signed_s)] in query.values() or [end] in query.values()


# Made once by Azure's own library for Python, azure-storage-blob 12.19.1, with this version of the service.
@pytest.mark.parametrize(
    ("method", "signature"),
    [("GET", "d8BBiZ7LlVenksYyn0soFI7rz8VJMALlWChZ3RTcsvg="), ("PUT", "AaxqJ0LHkyBJ9/1psRbnOXD6njp4w5UPevmGaqgzB9M=")],
)
def test_a_user_delegation_sas_is_what_the_vendors_library_makes(method, signature, monkeypatch):
    signed = (
        "33333333-3333-4333-8333-333333333333",
        "11111111-1111-4111-8111-111111111111",
        "2025-10-09T08:38:20Z",
        "2025-10-09T09:53:20Z",
        "b",
        "2021-12-02",
    )
    key = UserDelegationKey(signed, base64.b64decode(base64.b64encode(b"a key of an example account")), NOW.timestamp() + 3600)
    one = store("abs")
    monkeypatch.setattr(type(one.identity), "current", lambda self, now=None: key)
    query = parse_qs(urlsplit(one.presign(method, KEY, 600, now=NOW)).query, strict_parsing=True)
    assert set(query) == {"sv", "sr", "sp", "se", "spr", "sig", "skoid", "sktid", "skt", "ske", "sks", "skv"}
    assert query["sig"] == [signature] and query["se"] == ["2025-10-09T09:03:20Z"]


# Answers that nobody expects


@pytest.fixture
def answers(monkeypatch):
    """What open_url gives, one after the other: a text, a status, or an exception."""
    waiting, asked = [], []

    def open_url(url, **options):
        asked.append((url, options))
        answer = waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            raise urllib.error.HTTPError(url, answer, "", {}, io.BytesIO(b"PLANTED"))
        return io.BytesIO(answer if isinstance(answer, bytes) else answer.encode())

    monkeypatch.setattr(_identity, "open_url", open_url)
    monkeypatch.setattr(_identity, "time", SimpleNamespace(sleep=lambda seconds: None))
    waiting_and_asked = SimpleNamespace(waiting=waiting, asked=asked)
    yield waiting_and_asked
    assert not waiting, "everything was asked for"


def failing(answers, name, *given, identity=None):
    answers.waiting.extend(given)
    with pytest.raises(ModelFleetError) as raised:
        store(name, identity).presign("GET", "a.mar", 60, now=NOW)
    said = str(raised.value)
    assert said.startswith("Failed to get credentials for ") and "PLANTED" not in said
    return said


GOOD = '{"Code": "Success", "AccessKeyId": "AK", "SecretAccessKey": "SK", "Token": "T", "Expiration": "2025-10-09T09:53:20Z"}'


def test_a_metadata_service_is_asked_past_proxies_and_without_redirects(answers):
    answers.waiting.extend(["session", "reader", GOOD])
    store("s3").presign("GET", "a.mar", 60, now=NOW)
    assert [url for url, _options in answers.asked] == [
        "http://169.254.169.254/latest/api/token",
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/reader",
    ]
    assert [options["method"] for _url, options in answers.asked] == ["PUT", "GET", "GET"]
    for _url, options in answers.asked:
        assert (options["use_proxy"], options["follow_redirects"], options["use_netrc"]) == (False, "none", False)


def test_what_may_pass_is_asked_again(answers):
    answers.waiting.extend([503, "session", 429, TimeoutError("timed out"), "reader", 500, GOOD])
    assert store("s3").presign("GET", "a.mar", 60, now=NOW)
    assert "it answers 503" not in failing(answers, "s3", 503, 503, 503)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([403], "its metadata service is off (403). Switch it on"),
        ([404], "it gives no session (404). Use it on an EC2 instance"),
        (["two words"], "it answers with something else than a token. Check storage.s3.identity.endpoint."),
        ([b"\xff\xfe"], "it answers with something else than a token"),
        (["session", 404], "no role is attached to this instance"),
        (["session", ""], "no role is attached to this instance"),
        (["session", 401], "it names no role (401)"),
        (["session", "<html>PLANTED</html>"], "it names no role"),
        (["session", "../up"], "it names no role"),
        (["session", "reader", 404], "it gives nothing for the role reader (404)"),
        (["session", "reader", "PLANTED"], "it answers with something else than credentials"),
        (["session", "reader", "[]"], "it answers with something else than credentials"),
        (["session", "reader", "{}"], "it answers with something else than credentials"),
        (["session", "reader", '{"Code": "AssumeRoleUnauthorizedAccess"}'], "the role reader cannot be assumed. Let the service"),
        (["session", "reader", GOOD.replace('"SK"', "1")], "it answers with something else than credentials"),
        (["session", "reader", GOOD.replace("2025-10-09T09:53:20Z", "tomorrow")], "it does not say when its credentials expire"),
        (["session", "reader", GOOD.replace("2025", "2024")], "expired at 2024-10-09T09:53:20Z. Correct the clock of this machine."),
    ],
)
def test_answers_of_s3(answers, given, said):
    assert said in failing(answers, "s3", *given)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("obs", [500, 500, 500], "it gives no session (500)"),
        ("obs", [404, 404], "no agency is configured for this server (404)"),
        ("obs", [404, '{"credential": "PLANTED"}'], "it answers with something else than credentials"),
        ("obs", ["session", 403], "it refuses (403)"),
        ("abs", [400], "this machine has no such managed identity (400)"),
        ("abs", [405], "it gives no token (405)"),
        ("abs", ['{"access_token": "a b", "expires_in": "3600"}'], "it answers with something else than a token"),
        ("abs", ['{"access_token": "PLANTED", "expires_in": "soon"}'], "it does not say when its credentials expire"),
        (
            "abs",
            ['{"access_token": "PLANTED", "expires_in": "3600"}', 403],
            "the identity may not have a user delegation key (403). Give it",
        ),
        ("abs", ['{"access_token": "PLANTED", "expires_in": 3600}', 404], "it gives no user delegation key (404)"),
        ("abs", ['{"access_token": "PLANTED", "expires_in": 3600}', "<Value>!</Value>"], "something else than a user delegation key"),
        ("gcs", [404], "this machine has no service account (404). Attach one"),
        ("gcs", [403], "it gives no token (403)"),
        ("gcs", ["<html>"], "it names no service account"),
        ("gcs", ["a@b.c", '{"access_token": ""}'], "it answers with something else than a token"),
        ("gcs", ["a@b.c", '{"access_token": "PLANTED", "expires_in": 3600}', 403], "the identity may not sign as a@b.c (403). Give it"),
        ("gcs", ["a@b.c", '{"access_token": "PLANTED", "expires_in": 3600}', 400], "it refuses to sign as a@b.c (400)"),
        ("gcs", ["a@b.c", '{"access_token": "PLANTED", "expires_in": 3600}', '{"signedBlob": "!"}'], "something else than a signature"),
        ("gcs", ["a@b.c", '{"access_token": "PLANTED", "expires_in": 3600}', "{}"], "something else than a signature"),
        ("oss", ["session", "reader", GOOD], "it answers with something else than credentials"),
    ],
)
def test_answers_of_the_others(answers, name, given, said):
    assert said in failing(answers, name, *given)


@pytest.mark.parametrize("name", WEB)
@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 418])
def test_a_refusal_of_a_token_names_no_token(answers, name, status, tmp_path):
    (tmp_path / "token").write_text("PLANTED")
    said = failing(answers, name, status, identity=web(name, token_path=str(tmp_path / "token")))
    assert f"({status})" in said


def test_a_token_may_be_missing_unreadable_or_none(tmp_path):
    for path, said in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ModelFleetError, match=f"Failed to read storage.s3.identity.token_path {path}: {said}. Have the token there"):
            store("s3", web("s3", token_path=str(path))).presign("GET", "a", 60)
