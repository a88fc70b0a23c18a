# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials that are in no file, against the services of the lab that give them out and the stores that refuse them afterwards."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import sys
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.modelfleet.serving.plugins.module_utils import _identity, _storage_gcs
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.modules import model_artifact, storage_object
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_dragonfly import FIELDS, FakeDragonfly
from clouds import CASES, CONTENT, INSTANCES, KEY, WEB, got
from fleet import a_few

every = pytest.mark.parametrize("cloud", CASES, indirect=True, ids="-".join)
on_instances = pytest.mark.parametrize("cloud", [(name, "instance") for name in INSTANCES], indirect=True, ids=INSTANCES)
for_tokens = pytest.mark.parametrize("cloud", [(name, "web_identity") for name in WEB], indirect=True, ids=WEB)


def lives_s(url):
    """For how many seconds, about, a URL says that it opens its object."""
    query = {name.lower(): values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    if "se" in query:
        return round(datetime.fromisoformat(query["se"].replace("Z", "+00:00")).timestamp() - time.time())
    if "expires" in query:
        return round(int(query["expires"]) - time.time())
    return next(int(value) for name, value in query.items() if name.endswith("-expires"))


@every
def test_reads_what_the_identity_may_read(cloud):
    store = cloud.signer()
    assert got(store.presign("GET", KEY, 600)) == (200, CONTENT)
    assert got(store.presign("GET", KEY, 600), Range="bytes=5-9") == (206, CONTENT[5:10])
    assert got(store.presign("GET", "none", 600))[0] == 404
    assert 598 <= lives_s(store.presign("GET", KEY, 600)) <= 600
    assert cloud.identity.issued == 1, "it is asked when its time is nearly over"


@every
def test_nobody_is_asked_before_something_is_signed(cloud):
    store = cloud.signer()
    assert store.origin_hosts() and store.describe("a") and store.to_config()["identity"] == cloud.own
    assert cloud.identity.issued == 0


# Google signs with a key of its own, which outlives the token of who may have it sign.
not_google = pytest.mark.parametrize("cloud", [case for case in CASES if case[0] != "gcs"], indirect=True, ids="-".join)


@not_google
def test_a_url_lives_no_longer_than_what_signs_it(cloud):
    cloud.identity.change({"lifetime": 5})
    store = cloud.signer()
    url = store.presign("GET", KEY, 600)
    assert 1 <= lives_s(url) <= 5 and store.signed_s(600) <= 5
    assert got(url)[0] == 200
    time.sleep(5.5)
    assert got(url)[0] in (400, 403)
    assert got(store.presign("GET", KEY, 600)) == (200, CONTENT)
    assert cloud.identity.issued >= 2


@pytest.mark.parametrize("cloud", [case for case in CASES if case[0] == "gcs"], indirect=True, ids="-".join)
def test_what_google_signs_lives_as_long_as_its_key(cloud):
    cloud.identity.change({"lifetime": 3})
    store = cloud.signer()
    url = store.presign("GET", KEY, 7 * 24 * 3600)
    assert lives_s(url) == 12 * 3600
    time.sleep(3.5)
    assert got(url)[0] == 200
    assert got(store.presign("GET", KEY, 600)) == (200, CONTENT), "with another token"
    assert cloud.identity.issued >= 2


@not_google
def test_a_store_refuses_what_has_expired_whatever_the_url_says(cloud):
    cloud.identity.change({"lifetime": 4})
    store = cloud.signer()
    url = store.presign("GET", KEY, 600)
    cloud.origin.clock_ahead = 5
    status, body = got(url)
    assert status in (400, 403)
    assert any(said in body for said in (b"xpired", b"The security token is invalid.", b"not valid in the specified time frame"))


@pytest.fixture
def at_once(monkeypatch):
    """Nobody waits between two attempts."""
    monkeypatch.setattr(_identity, "time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.mark.parametrize("cloud", [(name, "instance") for name in a_few(INSTANCES)], indirect=True)
def test_what_is_good_yet_is_used_while_nobody_answers(cloud, at_once):
    cloud.identity.change({"lifetime": 8})
    store = cloud.signer()
    store.presign("GET", KEY, 600)
    cloud.identity.attached = False
    time.sleep(4.5)
    assert got(store.presign("GET", KEY, 600)) == (200, CONTENT)
    time.sleep(3.5)
    with pytest.raises(ModelFleetError, match="Failed to get credentials for"):
        store.presign("GET", KEY, 600)


def refusal(cloud, **changes):
    with pytest.raises(ModelFleetError) as raised:
        cloud.signer(**changes).presign("GET", KEY, 600)
    said = str(raised.value)
    assert not any(secret in said for secret in cloud.secrets())
    assert cloud.token_path.read_text().strip()[-40:] not in said
    return said


@on_instances
def test_an_instance_without_an_identity(cloud):
    cloud.identity.attached = False
    said = refusal(cloud)
    place = cloud.signer().describe("").rstrip("/")
    assert said == f"Failed to get credentials for {place} from {cloud.identity_url}: {cloud.unattached}"


@on_instances
def test_where_there_is_no_metadata_service(cloud, at_once, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        said = refusal(cloud, endpoint=url)
        assert f"from {url}" in said and "nothing listens there, or a firewall refuses it. Use it on" in said
        assert "modelfleet_firewall_destinations" in said
        # What drops packets, as a hop limit does.
        free.listen(0)
        monkeypatch.setattr(_identity, "_TIMEOUT_S", 0.2)
        assert "it does not answer in 0.2 s. Use it on" in refusal(cloud, endpoint=url)


@on_instances
def test_what_is_no_metadata_service(cloud):
    """A web server that answers everything, or nothing, is not taken for one."""
    said = refusal(cloud, endpoint=cloud.url)
    assert f"from {cloud.url}" in said


# The others say for how long, and OSS looks at the clock of who asks.
says_until_when = pytest.mark.parametrize("cloud", [*CASES[:3], CASES[-1]], indirect=True, ids="-".join)


@says_until_when
def test_credentials_that_are_over_when_they_come_tell_of_a_clock(cloud):
    cloud.origin.clock_ahead = -7200
    said = refusal(cloud)
    assert f"from {cloud.identity_url}: what it gives expired at " in said and said.endswith(". Correct the clock of this machine.")


@for_tokens
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory. Have the token there"),
        ("", "it holds no token, which is one word of plain ASCII"),
        ("two words", "it holds no token, which is one word of plain ASCII"),
        ("tökén", "it holds no token, which is one word of plain ASCII"),
    ],
)
def test_a_token_that_is_not_there(cloud, content, said):
    path = cloud.token_path.with_name("other")
    if content is not None:
        path.write_text(content)
    whole = refusal(cloud, token_path=str(path))
    assert f"storage.{cloud.name}.identity.token_path {path}: {said}" in whole and "tökén" not in whole
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
def test_a_token_that_is_not_taken(cloud, authority, claims, said):
    cloud.token_path.write_text(authority.token(**claims))
    whole = refusal(cloud)
    assert said in whole and str(cloud.token_path) in whole and cloud.identity_url in whole
    assert cloud.identity.issued == 0
    # Whoever renews the token need tell nobody.
    cloud.token_path.write_text(authority.token())
    assert got(cloud.signer().presign("GET", KEY, 600))[0] == 200


# A whole download


CURL = r"""#!{python}
# Stands for dfdaemon behind its socket, as a seed peer goes on where it was: one range after the other, all with one URL.
import base64, hashlib, json, os, ssl, sys, time, urllib.error, urllib.request

sys.path[:0] = {path!r}
from fake_dragonfly_fields import fields

(download,) = fields(sys.stdin.buffer.read()[5:])[1]
download = fields(download)
url, output, task = (download[key][0].decode() for key in (1, 11, 23))
name = hashlib.sha256(task.encode()).hexdigest()
context = ssl.create_default_context(cafile={ca!r})
piece = os.path.join({data!r}, "pieces", "content", "tasks", name[:3], name)
os.makedirs(os.path.dirname(piece), exist_ok=True)
with open({log!r}, "a") as log:
    log.write(url + "\n")
with open(piece, "ab") as handle:
    while handle.tell() < {size}:
        start = handle.tell()
        wanted = {{"Range": "bytes=%d-%d" % (start, min(start + {step}, {size}) - 1)}}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=wanted), timeout=10, context=context) as answer:
                handle.write(answer.read())
                handle.flush()
        except urllib.error.HTTPError as exc:
            details = base64.b64encode(json.dumps({{"message": "refused", "header": {{}}, "status_code": exc.code}}).encode()).decode()
            print("HTTP/2 200 \r\ncontent-type: application/grpc\r\n\r")
            print("grpc-status: 13\r\ngrpc-message: refused\r\ngrpc-status-details-bin: " + details.rstrip("=") + "\r")
            sys.exit(0)
        time.sleep(0.5)
os.link(piece, output)
print("HTTP/2 200 \r\ncontent-type: application/grpc\r\n\r\ngrpc-status: 0\r")
"""


def ran(module, args, capfd):
    """What the module prints, as Ansible runs it."""
    capfd.readouterr()
    with patch_module_args({**args, "_ansible_verbosity": 4, "_ansible_diff": True}), pytest.raises(SystemExit):
        module.main()
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    return json.loads(out), out + err


@pytest.mark.parametrize("cloud", a_few(CASES), indirect=True, ids="-".join)
def test_a_download_goes_on_when_its_credentials_expire(cloud, tmp_path, capfd, monkeypatch):
    (tmp_path / "host").mkdir()
    host = FakeDragonfly(tmp_path / "host")
    try:
        (tmp_path / "fake_dragonfly_fields.py").write_text(FIELDS)
        log = tmp_path / "urls"
        # Azure tells of whole seconds twice, for a token and for the key that is had for it.
        lifetime, pieces = (6, 16) if cloud.name == "abs" else (3, 8)
        values = {"python": sys.executable, "path": [str(tmp_path)], "data": str(host.path), "log": str(log), "size": len(CONTENT)}
        values["ca"] = cloud.ca
        host.curl.write_text(CURL.format(**values, step=len(CONTENT) // pieces))
        monkeypatch.setattr(_storage_gcs, "SIGNED_S", 3)
        # A piece is there for half a second: all of them take longer than the credentials live.
        cloud.identity.change({"lifetime": lifetime})
        sha256 = hashlib.sha256(CONTENT).hexdigest()
        artifact = {"name": "demo", "version": "1", "object": KEY, "sha256": sha256}
        args = {**host.options(), "storage": cloud.storage(), "artifacts": [artifact], "retry_s": 20}
        result, printed = ran(model_artifact, args, capfd)
        assert not result.get("failed"), result
        (one,) = result["artifacts"]
        assert one["action"] == "fetched" and hashlib.sha256(Path(one["path"]).read_bytes()).hexdigest() == sha256
        urls = log.read_text().split()
        assert len(urls) >= 2 and len(set(urls)) == len(urls), "each attempt signs anew"
        assert cloud.identity.issued >= 2
        for secret in (*cloud.secrets(), cloud.token_path.read_text().strip(), "ignature=", "sig="):
            assert secret not in printed
    finally:
        host.close()


@every
def test_a_download_says_who_gave_nothing(cloud, tmp_path, capfd, authority):
    (tmp_path / "host").mkdir()
    host = FakeDragonfly(tmp_path / "host")
    try:
        cloud.identity.attached = False
        cloud.token_path.write_text(authority.token(exp=1))
        artifact = {"name": "demo", "version": "1", "object": KEY, "sha256": "0" * 64}
        result, printed = ran(model_artifact, {**host.options(), "storage": cloud.storage(), "artifacts": [artifact]}, capfd)
        assert result["failed"] and f"Failed to get credentials for {cloud.signer().describe('').rstrip('/')} from" in printed
    finally:
        host.close()


@every
def test_publishes_with_an_identity(cloud, tmp_path, capfd):
    (tmp_path / "model.mar").write_bytes(CONTENT)
    args = {"storage": cloud.storage(), "object": "published.mar", "src": str(tmp_path / "model.mar"), "ca_path": cloud.ca}
    result, printed = ran(storage_object, args, capfd)
    assert result["changed"] and not result.get("failed"), result
    assert cloud.origin.objects.get("models", "published.mar").path.read_bytes() == CONTENT
    again, more = ran(storage_object, args, capfd)
    assert not again["changed"] and not again.get("failed")
    for secret in (*cloud.secrets(), cloud.token_path.read_text().strip()):
        assert secret not in printed + more


# Of nobody whom the stores know.
KEYS = {
    "s3": {"access_key": "AKIAREADER", "secret_key": "s3cret"},
    "oss": {"access_key_id": "LTAIREADER", "access_key_secret": "s3cret"},
    "abs": {"account_key": base64.b64encode(b"another key").decode()},
    "obs": {"access_key_id": "READER", "secret_access_key": "s3cret"},
}


# The key of a service account is another test's.
@not_google
def test_an_identity_may_publish_where_keys_read(cloud, tmp_path, capfd):
    keys = KEYS[cloud.name]
    (tmp_path / "model.mar").write_bytes(CONTENT)
    storage = {cloud.name: {**cloud.storage()[cloud.name], **keys}}
    del storage[cloud.name]["identity"]
    credentials = {cloud.name: {"identity": cloud.storage()[cloud.name]["identity"]}}
    args = {"storage": storage, "credentials": credentials, "object": "published.mar", "src": str(tmp_path / "model.mar")}
    args["ca_path"] = cloud.ca
    result, _printed = ran(storage_object, args, capfd)
    assert result["changed"] and not result.get("failed"), result
    # And the other way round.
    cloud.identity.attached = False
    args = {**args, "storage": cloud.storage(), "credentials": {cloud.name: keys}, "object": "other.mar"}
    result, _printed = ran(storage_object, args, capfd)
    assert result["failed"] and "Failed to get credentials" not in result["msg"], "its own identity is not asked"
