# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plugin with credentials that are in no file: the same services, stores and settings as in the tests of Python's side."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from clouds import CASES, CONTENT, INSTANCES, KEY, WEB, got
from fleet import a_few

every = pytest.mark.parametrize("cloud", CASES, indirect=True, ids="-".join)
on_instances = pytest.mark.parametrize("cloud", [(name, "instance") for name in INSTANCES], indirect=True, ids=INSTANCES)
for_tokens = pytest.mark.parametrize("cloud", [(name, "web_identity") for name in WEB], indirect=True, ids=WEB)


@pytest.fixture
def sign(cloud, java):
    """What the plugin makes of the configuration that the module writes; the changes are of the identity."""

    def ask(key=KEY, expires=600, **changes):
        storage = cloud.signer(**changes).to_config()
        return java({"storage": storage, "key": key, "now": int(time.time()), "expires": expires})

    return ask


@every
def test_reads_what_the_identity_may_read(cloud, sign):
    answer = sign()
    assert got(cloud.through_rules(answer["url"])) == (200, CONTENT), answer
    assert set(parse_qs(urlsplit(answer["url"]).query)) <= set(answer["parameters"])
    assert got(cloud.through_rules(sign(key="none")["url"]))[0] == 404


@every
def test_both_sides_sign_for_as_long(cloud, sign):
    cloud.identity.change({"lifetime": 30})
    begun = time.time()
    answer, ours = sign(), cloud.signer().signed_s(600)
    # What a busy machine lets pass between a clock that was read and a token that was made. Azure tells of whole seconds twice.
    between = time.time() - begun + 2
    # Google signs with a key of its own, which outlives the token of who may have it sign.
    assert answer["seconds"] == 600 if cloud.name == "gcs" else abs(answer["seconds"] - 30) <= between
    assert abs(answer["seconds"] - ours) <= between
    assert sign(expires=5)["seconds"] == 5


def refusal(cloud, sign, **changes):
    said = sign(**changes)["error"]
    assert not any(secret in said for secret in cloud.secrets())
    assert cloud.token_path.read_text().strip()[-40:] not in said
    return said


@on_instances
def test_an_instance_without_an_identity(cloud, sign):
    cloud.identity.attached = False
    said = refusal(cloud, sign)
    assert said.startswith(f"Failed to get credentials for {cloud.signer().describe('').rstrip('/')} from {cloud.identity_url}: ")
    assert said.endswith(cloud.unattached)


@on_instances
def test_where_there_is_no_metadata_service(cloud, sign):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        said = refusal(cloud, sign, endpoint=url)
    assert f"from {url}: nothing listens there, or a firewall refuses it. Use it on" in said
    assert "modelfleet_firewall_destinations" in said


@on_instances
def test_what_is_no_metadata_service(cloud, sign):
    assert f"from {cloud.url}: " in refusal(cloud, sign, endpoint=cloud.url)


# The others say for how long, and OSS looks at the clock of who asks.
says_until_when = pytest.mark.parametrize("cloud", [*CASES[:3], CASES[-1]], indirect=True, ids="-".join)


@says_until_when
def test_credentials_that_are_over_when_they_come_tell_of_a_clock(cloud, sign):
    cloud.origin.clock_ahead = -7200
    said = refusal(cloud, sign)
    assert f"from {cloud.identity_url}: what it gives expired at " in said and said.endswith(". Correct the clock of this machine.")


@for_tokens
@pytest.mark.parametrize(
    ("content", "said"), [(None, "does not exist"), ("", "holds no token"), ("two words", "holds no token"), ("tökén", "holds no token")]
)
def test_a_token_that_is_not_there(cloud, sign, content, said):
    path = cloud.token_path.with_name("other")
    if content is not None:
        path.write_text(content)
    assert f"object_storage.identity.token_path names {path}, which {said}" in refusal(cloud, sign, token_path=str(path))
    assert cloud.identity.issued == 0


@for_tokens
@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"exp": 1}, "has expired"),
        ({"aud": "others"}, "does not accept the token"),
        ({"iss": "https://others.example.com"}, "does not accept the token"),
        ({"sub": "system:serviceaccount:models:other"}, "the token in"),
    ],
)
def test_a_token_that_is_not_taken(cloud, sign, authority, claims, said):
    cloud.token_path.write_text(authority.token(**claims))
    whole = refusal(cloud, sign)
    assert said in whole and str(cloud.token_path) in whole and cloud.identity_url in whole
    assert cloud.identity.issued == 0


INSTANCE = {"source": "instance"}


def test_what_is_described_badly_is_named(java):
    s3 = {"type": "s3", "bucket_name": "models", "identity": INSTANCE}
    oss = {"type": "oss", "bucket_name": "models", "region": "cn-hangzhou", "identity": INSTANCE}
    gcs = {"type": "gcs", "bucket_name": "models", "identity": INSTANCE}
    abs_ = {"type": "abs", "account_name": "fleet", "container_name": "models", "identity": INSTANCE}
    obs = {"type": "obs", "bucket_name": "models", "region": "cn-north-4", "identity": INSTANCE}
    for storage, said in (
        ({**s3, "access_key": "PLANTED"}, "object_storage.access_key must not stand beside identity"),
        ({**s3, "session_token": "PLANTED"}, "object_storage.session_token must not stand beside identity"),
        ({**s3, "identity": {}}, "object_storage.identity.source is missing"),
        ({**s3, "identity": []}, "object_storage.identity is missing or not an object"),
        ({**s3, "identity": {"source": "PLANTED"}}, "object_storage.identity.source must be one of instance, web_identity"),
        ({**s3, "identity": {"source": "web_identity"}}, "object_storage.identity.role_arn is missing"),
        ({**s3, "identity": {"source": "web_identity", "role_arn": "a"}}, "object_storage.identity.token_path is missing"),
        ({**s3, "identity": {"source": "instance", "endpoint": "http://h/x"}}, "object_storage.identity.endpoint must be a URL"),
        ({**oss, "access_key_secret": "PLANTED"}, "object_storage.access_key_secret must not stand beside identity"),
        ({**oss, "identity": {"source": "web_identity", "role_arn": "a"}}, "object_storage.identity.oidc_provider_arn is missing"),
        ({**gcs, "service_account_path": "/PLANTED"}, "object_storage.service_account_path must not stand beside identity"),
        ({**gcs, "identity": {"source": "web_identity", "audience": "//a"}}, "object_storage.identity.service_account is missing"),
        ({**gcs, "identity": {**INSTANCE, "iam_endpoint": "h/x"}}, "object_storage.identity.iam_endpoint must be a URL"),
        ({**abs_, "account_key": "PLANTED"}, "object_storage.account_key must not stand beside identity"),
        ({**abs_, "endpoint": "http://h"}, "object_storage.endpoint must begin with https://"),
        ({**abs_, "identity": {"source": "web_identity", "tenant_id": "a/b"}}, "object_storage.identity.tenant_id must be letters"),
        ({**obs, "secret_key": "PLANTED"}, "object_storage.secret_key must not stand beside identity"),
        ({**obs, "identity": {"source": "web_identity"}}, "object_storage.identity.source must be one of instance"),
    ):
        answer = java({"storage": storage, "key": "a.mar", "now": 0, "expires": 60})
        assert said in answer["error"] and "PLANTED" not in answer["error"], answer


@pytest.mark.parametrize("cloud", a_few(case for case in CASES if case[0] != "gcs"), indirect=True, ids="-".join)
def test_a_download_goes_on_when_its_credentials_expire(cloud, torchserve, dfdaemon, config, mar):
    content, sha256 = mar(filler=bytes(80_000))
    cloud.put(KEY, content)
    # Azure tells of whole seconds twice, for a token and for the key that is had for it.
    lifetime, pieces = (6, 16) if cloud.name == "abs" else (3, 8)
    # A piece takes half a second: all of them longer than the credentials live.
    dfdaemon.step, dfdaemon.ca = len(content) // pieces, cloud.ca if cloud.name == "abs" else ""
    cloud.identity.change({"lifetime": lifetime})
    config(object_storage=cloud.signer().to_config(), retry_seconds=20)
    status, answer = torchserve.register(file_name=KEY, sha256=sha256)
    assert status == 200, answer
    urls = [request["target"] for request in dfdaemon.requests]
    assert len(urls) >= 2 and len(set(urls)) == len(urls), "each attempt signs anew"
    assert cloud.identity.issued >= 2
    assert hashlib.sha256((torchserve.store / answer["file"]).read_bytes()).hexdigest() == sha256
    logs = "".join(path.read_text(errors="replace") for path in [torchserve.home / "out.log", *(torchserve.home / "logs").glob("*.log")])
    assert sha256 in logs
    for secret in (*cloud.secrets(), cloud.token_path.read_text().strip(), "ignature=", "sig="):
        assert secret not in logs


@pytest.mark.parametrize("cloud", [case for case in CASES if case[0] == "gcs"], indirect=True, ids="-".join)
def test_each_attempt_signs_with_what_is_good_then(cloud, torchserve, dfdaemon, config, mar):
    content, sha256 = mar()
    cloud.put(KEY, content)
    dfdaemon.step = len(content)
    cloud.identity.change({"lifetime": 3})
    config(object_storage=cloud.signer().to_config(), retry_seconds=20)
    dfdaemon.failures = [(503, "proxy")] * 4
    status, answer = torchserve.register(file_name=KEY, sha256=sha256)
    assert status == 200, answer
    assert cloud.identity.issued >= 2


@on_instances
def test_a_refusal_may_be_of_another_hosts_credentials(cloud, torchserve, dfdaemon, config, mar):
    content, sha256 = mar()
    dfdaemon.objects[urlsplit(cloud.signer().presign("GET", "a.mar", 60)).path[1:]] = content
    config(object_storage=cloud.signer().to_config(), retry_seconds=60)
    dfdaemon.failures = [(403, "backend")]
    assert torchserve.register(file_name="a.mar", sha256=sha256)[0] == 200
    assert len(dfdaemon.requests) == 2
    dfdaemon.failures = [(403, "backend")] * 3
    status, answer = torchserve.register(file_name="b.mar", sha256="1" * 64)
    assert status == 502 and "the origin refused with 403" in answer["message"] and len(dfdaemon.requests) == 4


@on_instances
def test_the_call_says_who_gave_nothing(cloud, torchserve, config):
    cloud.identity.attached = False
    config(object_storage=cloud.signer().to_config())
    status, _headers, body = torchserve.call("GET", "/dragonfly/models")
    assert status == 200 and json.loads(body)["status"] == "ready", "nobody is asked to say so"
    status, answer = torchserve.register(file_name="a.mar", sha256="1" * 64)
    assert status == 502 and answer["message"].endswith(cloud.unattached)
