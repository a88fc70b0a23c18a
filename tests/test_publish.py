# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing to each store with its own library, against the strict origin, by the stores' real names and with TLS, through a proxy."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from fleet import only_in_all

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "collections"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lab/origin"))

from ansible_collections.modelfleet.serving.plugins.module_utils import _publish_object
from ansible_collections.modelfleet.serving.plugins.module_utils._bundle import blob_key, blobs, manifest_key, parse_manifest
from ansible_collections.modelfleet.serving.plugins.module_utils._publish_answers import Progress
from ansible_collections.modelfleet.serving.plugins.modules import model_archive, model_bundle, storage_object
from strict_origin import server

REPOSITORY = Path(__file__).resolve().parent.parent
CONTENT = b"model " * 1000
OTHER = b"other " * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEYS = ["models/a.mar", "models/ä b+c%2Fd~e/モデル 'x'.mar"]
SECRET = "cGxhbnRlZC1zZWNyZXQ"  # part of every secret here, so that a leak is found
READ, WRITE, STRANGE = (base64.b64encode(f"{SECRET}-{use}".encode()).decode() for use in ("read", "write", "strange"))
NAMES = ["*.s3.us-east-1.amazonaws.com", "s3.us-east-1.amazonaws.com", "*.s3.eu-west-1.amazonaws.com"]
NAMES += ["*.s3.oss-cn-hangzhou.aliyuncs.com", "*.s3.oss-cn-beijing.aliyuncs.com", "storage.googleapis.com", "oauth2.googleapis.com"]
NAMES += ["*.blob.core.windows.net", "*.obs.cn-north-4.myhuaweicloud.com", "*.obs.cn-east-3.myhuaweicloud.com", "files.example.com"]


def service_account(key, email="publisher@lab.iam.gserviceaccount.com"):
    account = {"type": "service_account", "client_email": email, "private_key": key, "private_key_id": "1", "project_id": "lab"}
    return json.dumps({**account, "token_uri": "https://oauth2.googleapis.com/token"})


class Store:
    """How one store is described, to the module and to the origin."""

    def __init__(self, name, storage, credentials, origin, bucket_key="bucket", wrong=None, region=None):
        self.name = name
        self.storage = {name: storage}
        self.credentials = {name: credentials}
        self.origin = {name: origin}
        self.bucket_key = bucket_key
        # Each: what to change in the credentials, and what the message must say then.
        self.wrong = wrong or []
        self.region = region


def pairs(id_key, secret_key, token_key):
    """Those of the stores that have pairs of keys: the origin's, what reads, what writes, what goes wrong."""

    def pair(name, secret, **more):
        return {id_key: name, secret_key: secret, **more}

    keys = [
        pair("READER", READ, publish=False),
        pair("PUBLISHER", WRITE, publish=True),
        pair("TEMPORARY", WRITE, **{token_key: SECRET, "publish": True}),
    ]
    wrong = [
        ({id_key: "NOBODY"}, f"does not know the {id_key}"),
        ({secret_key: STRANGE}, f"does not accept the signature (403 SignatureDoesNotMatch). Check {secret_key}"),
        (pair("READER", READ), "permission is denied"),
    ]
    return {"keys": keys}, pair("READER", READ), pair("PUBLISHER", WRITE), wrong


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    def rsa():
        made = subprocess.run(
            ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], capture_output=True, check=True
        )
        public = subprocess.run(["openssl", "pkey", "-pubout"], input=made.stdout, capture_output=True, check=True)
        return made.stdout.decode(), public.stdout.decode()

    s3, s3_read, s3_write, s3_wrong = pairs("access_key", "secret_key", "session_token")
    oss, oss_read, oss_write, oss_wrong = pairs("access_key_id", "access_key_secret", "security_token")
    obs, obs_read, obs_write, obs_wrong = pairs("access_key_id", "secret_access_key", "security_token")
    (reader, reader_public), (writer, writer_public), (stranger, _) = rsa(), rsa(), rsa()
    reader_email = "reader@lab.iam.gserviceaccount.com"
    token = {"name": "X-Token", "value": WRITE}
    found = [
        Store(
            "s3",
            {"bucket": "models", "region": "us-east-1", **s3_read},
            s3_write,
            {"region": "us-east-1", "buckets": ["models"], **s3},
            wrong=[*s3_wrong, ({"session_token": SECRET}, "the session_token does not fit the credentials")],
            region=("eu-west-1", "the bucket belongs to us-east-1, not to eu-west-1", "Set region to us-east-1"),
        ),
        Store(
            "oss",
            {"bucket": "models", "region": "cn-hangzhou", **oss_read},
            oss_write,
            {"region": "cn-hangzhou", "buckets": ["models"], **oss},
            wrong=oss_wrong,
            region=("cn-beijing", "the bucket belongs to ", "cn-hangzhou"),
        ),
        Store(
            "gcs",
            {"bucket": "models", "service_account_json": service_account(reader, reader_email)},
            {"service_account_json": service_account(writer)},
            {
                "buckets": ["models"],
                "accounts": [
                    {"client_email": reader_email, "public_key": reader_public, "publish": False},
                    {"client_email": "publisher@lab.iam.gserviceaccount.com", "public_key": writer_public, "publish": True},
                ],
            },
            wrong=[
                (
                    {"service_account_json": service_account(stranger)},
                    "the token server does not accept the key of the service account (invalid_grant)",
                ),
                ({"service_account_json": service_account(reader, reader_email)}, "permission is denied (403"),
            ],
        ),
        Store(
            "abs",
            {"account_name": "lab", "account_key": READ, "container": "models"},
            {"account_key": WRITE},
            {"accounts": [{"account_name": "lab", "account_key": WRITE, "read_keys": [READ], "containers": ["models"], "publish": True}]},
            bucket_key="container",
            wrong=[({"account_key": STRANGE}, "does not accept the signature (403 AuthenticationFailed). Check account_key")],
        ),
        Store(
            "obs",
            {"bucket": "models", "region": "cn-north-4", **obs_read},
            obs_write,
            {"region": "cn-north-4", "buckets": ["models"], **obs},
            wrong=obs_wrong,
            region=("cn-east-3", "the bucket belongs to ", "cn-north-4"),
        ),
        Store(
            "http",
            {"url": "https://files.example.com"},
            {"headers": [token]},
            {"hosts": ["files.example.com"], "bucket": "models", "publish_headers": [token]},
            bucket_key=None,
            wrong=[
                ({"headers": [{"name": "X-Token", "value": STRANGE}]}, "the server asks for other credentials (401)"),
                ({"headers": []}, "the server asks for other credentials (401)"),
            ],
        ),
    ]
    return {store.name: store for store in found}


@pytest.fixture(params=["s3", "oss", "gcs", "abs", "obs", "http"])
def store(request, stores):
    return stores[request.param]


class Origin:
    def __init__(self, config):
        self.servers = server.start(config)
        self.ports = {name: one.server_address[1] for name, one in self.servers.items()}
        self.objects = self.servers["http"].origin.objects

    def config(self, name, **values):
        """What a store is told later, for one test."""
        (store,) = [one for one in self.servers["http"].origin.stores if type(one).__name__.lower() == name]
        for key, value in values.items():
            setattr(store, key, value)

    def holds(self, key):
        found = self.objects.get("models", key)
        return found and found.path.read_bytes()

    def store(self, key, content):
        upload = self.objects.upload()
        upload.write(content)
        self.objects.put("models", key, upload)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=test", "-keyout", str(folder / "key"), "-out", str(folder / "crt")]
    command += ["-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in NAMES)]
    subprocess.run(command, check=True, capture_output=True)
    return {"certificate": str(folder / "crt"), "key": str(folder / "key")}


@pytest.fixture
def origin(tmp_path, certificate, stores, monkeypatch):
    running = Origin(
        {
            "data": str(tmp_path / "data"),
            "address": "127.0.0.1",
            "listen": {"http": 0, "https": 0, "control": 0, "proxy": 0},
            "tls": certificate,
            **{name: section for store in stores.values() for name, section in store.origin.items()},
        }
    )
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{running.ports['proxy']}")
    for name in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    yield running
    server.stop(running.servers)


@pytest.fixture
def publish(store, origin, tmp_path, certificate, capfd):
    """Run the module, or that for bundles, as Ansible does; returns what it printed."""
    (tmp_path / "model.mar").write_bytes(CONTENT)
    (tmp_path / "other.mar").write_bytes(OTHER)

    def run(check=False, src="model.mar", credentials=None, **changes):
        credentials = {store.name: {**store.credentials[store.name], **credentials}} if credentials else store.credentials
        module = model_bundle if "bundle" in changes else storage_object
        args = {"storage": store.storage, "credentials": credentials, "ca_path": certificate["certificate"]}
        args.update({"src": src and str(tmp_path / src), **({"object": KEYS[0]} if module is storage_object else {}), **changes})
        args = {name: value for name, value in args.items() if value is not None}
        capfd.readouterr()
        with patch_module_args({**args, "_ansible_check_mode": check, "_ansible_diff": True}), pytest.raises(SystemExit):
            module.main()
        out = capfd.readouterr().out
        results = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        assert len(results) == 1, out
        assert SECRET not in out
        for secret in (READ, WRITE, STRANGE, "Signature=", "sig=", "Bearer"):
            assert secret not in out.replace("no_log", "")
        assert "Traceback" not in out
        return results[0]

    return run


@pytest.mark.parametrize("key", KEYS)
def test_publishes_once(publish, origin, key):
    predicted = publish(object=key, check=True)
    assert predicted["changed"] and not origin.holds(key)
    done = publish(object=key, sha256=SHA256)
    assert "msg" not in done, done
    assert done["changed"] and done["sha256"] == SHA256 and done["bytes"] == len(CONTENT)
    assert origin.holds(key) == CONTENT
    again = publish(object=key)
    assert not again["changed"] and again["sha256"] == SHA256 and again["diff"]["before"] == again["diff"]["after"]


def test_other_content_is_replaced_only_when_told(publish, origin):
    publish()
    refused = publish(src="other.mar")
    assert refused["failed"] and "has other content already" in refused["msg"] and SHA256 in refused["msg"]
    assert "has other content already" in publish(src="other.mar", check=True)["msg"]
    assert origin.holds(KEYS[0]) == CONTENT
    assert publish(src="other.mar", overwrite=True)["changed"]
    assert origin.holds(KEYS[0]) == OTHER
    assert not publish(src="other.mar")["changed"]


def test_what_has_no_recorded_digest_is_read(publish, origin):
    origin.store(KEYS[0], CONTENT)
    assert not publish()["changed"]
    origin.store(KEYS[0], OTHER)
    assert "has other content already" in publish()["msg"]
    assert publish(overwrite=True)["changed"]
    assert origin.holds(KEYS[0]) == CONTENT


SSE, SSE_KEY = "server-side-encryption", "server-side-encryption-aws-kms-key-id"
KMS_KEY = "projects/lab/locations/us/keyRings/models/cryptoKeys/models"
DEMANDS = {
    "AES256": ("s3", {"demands": {SSE: "AES256"}}, {"server_side_encryption": "AES256"}, "server_side_encryption (AES256, aws:kms or"),
    "KMS": (
        "s3",
        {"demands": {SSE: "aws:kms", SSE_KEY: "key-1"}},
        {"server_side_encryption": "aws:kms", "sse_kms_key_id": "key-1"},
        "permission is denied (403 AccessDenied). Allow these credentials to",
    ),
    "a key of Google": (
        "gcs",
        {"kms_key_name": KMS_KEY},
        {"kms_key_name": KMS_KEY},
        "(412 orgPolicyConstraintFailed). Set kms_key_name in",
    ),
    "OBS": (
        "obs",
        {"demands": {SSE: "aws:kms", SSE_KEY: "key-1"}},
        {"server_side_encryption": "kms", "sse_kms_key_id": "key-1"},
        "a policy demands encrypted objects set server_side_encryption (AES256 or kms) in the credentials.",
    ),
}


def in_small_parts(monkeypatch):
    for place, size in ("_publish_s3._MULTIPART_FROM", 5 << 20), ("_publish_gcs._CHUNK", 4 << 20), ("_publish_abs._BLOCK", 1 << 20):
        monkeypatch.setattr(f"ansible_collections.modelfleet.serving.plugins.module_utils.{place}", size)


@pytest.mark.parametrize(("store", "told", "options", "said"), DEMANDS.values(), ids=DEMANDS, indirect=["store"])
def test_a_bucket_that_demands_encryption(publish, origin, store, told, options, said, tmp_path, monkeypatch):
    """In one piece and in parts; what is missing is named."""
    in_small_parts(monkeypatch)
    (tmp_path / "large.mar").write_bytes(random.Random(2).randbytes(11 << 20))
    origin.config(store.name, **told)
    for src in ("model.mar", "large.mar"):
        refused = publish(src=src, object=src)
        assert refused["failed"] and said in refused["msg"], refused["msg"]
        assert not origin.holds(src)
        assert publish(src=src, object=src, credentials=options)["changed"]
        assert not publish(src=src, object=src, credentials=options)["changed"]
        assert origin.holds(src) == (tmp_path / src).read_bytes()


@pytest.mark.parametrize("store", ["s3"], indirect=True)
@pytest.mark.parametrize("options", [{}, {"checksum_algorithm": "SHA256"}], ids=["unasked", "asked"])
def test_a_bucket_with_object_lock_gets_its_checksum(publish, origin, options, tmp_path, monkeypatch):
    in_small_parts(monkeypatch)
    (tmp_path / "large.mar").write_bytes(random.Random(3).randbytes(11 << 20))
    origin.config("s3", object_lock=True)
    for src in ("model.mar", "large.mar"):
        result = publish(src=src, object=src, credentials=options)
        assert result["changed"], result
        assert origin.holds(src) == (tmp_path / src).read_bytes()


@pytest.mark.parametrize(
    ("store", "option", "said"),
    [
        ("s3", {"requester_pays": True}, "where the requesters of the bucket pay set requester_pays in modelfleet_storage."),
        ("gcs", {"user_project": "payer"}, "whoever asks has to pay for it (400 required). Set user_project in modelfleet_storage to"),
    ],
    indirect=["store"],
)
def test_a_bucket_whose_requesters_pay(publish, origin, store, option, said):
    origin.config(store.name, requester_pays=True)
    assert said in publish()["msg"]
    storage = {store.name: {**store.storage[store.name], **option}}
    assert publish(storage=storage)["changed"]
    assert not publish(storage=storage)["changed"]
    origin.store(KEYS[0], CONTENT)  # without a recorded digest it is read
    assert not publish(storage=storage)["changed"]
    assert publish(storage=storage, state="absent", src=None)["changed"]


@pytest.mark.parametrize("store", ["abs"], indirect=True)
def test_a_container_of_one_encryption_scope(publish, origin, monkeypatch):
    (abs_store,) = [one for one in origin.servers["http"].origin.stores if type(one).__name__ == "Abs"]
    monkeypatch.setitem(abs_store.accounts["lab"], "encryption_scope", "fleet")
    refused = publish(credentials={"encryption_scope": "other"})
    said = "one encryption scope only (403 RequestForbiddenByContainerEncryptionPolicy). Name that in encryption_scope"
    assert refused["failed"] and said in refused["msg"], refused["msg"]
    assert publish(credentials={"encryption_scope": "fleet"})["changed"]
    assert not publish()["changed"]


def test_absent(publish, origin):
    publish()
    assert publish(state="absent", src=None, check=True)["changed"]
    assert origin.holds(KEYS[0]) == CONTENT
    assert publish(state="absent", src=None)["changed"]
    assert origin.holds(KEYS[0]) is None
    assert not publish(state="absent", src=None)["changed"]


def test_empty_file(publish, origin, tmp_path):
    (tmp_path / "empty").touch()
    assert publish(src="empty")["changed"]
    assert not publish(src="empty")["changed"]


def test_large_file_goes_in_parts(publish, origin, store, tmp_path, monkeypatch):
    in_small_parts(monkeypatch)
    made = []
    monkeypatch.setattr(storage_object, "Progress", lambda *options: made.append(Progress(*options)) or made[-1])
    content = random.Random(1).randbytes(12 << 20)
    (tmp_path / "large.mar").write_bytes(content)
    assert publish(src="large.mar")["changed"]
    assert origin.holds(KEYS[0]) == content
    # What a file object was read for last may be counted only at its end.
    assert made[0].done == len(content) or (store.name in ("gcs", "http") and made[0].done >= 8 << 20)
    assert not publish(src="large.mar")["changed"]


@pytest.mark.parametrize("store", ["s3", "gcs", "abs", "http"], indirect=True)
def test_two_publishers_at_once(publish, origin, monkeypatch):
    """Both have seen that there is nothing; the store's own precondition decides."""
    origin.store(KEYS[0], OTHER)
    client = _publish_object.CLIENTS
    monkeypatch.setattr(_publish_object, "CLIENTS", {name: late(one) for name, one in client.items()})
    result = publish()
    assert result["failed"] and "has other content already" in result["msg"], result
    assert origin.holds(KEYS[0]) == OTHER


def late(client):
    class Late(client):
        looked = False

        def head(self, key):
            if not self.looked:
                self.looked = True
                return None
            return super().head(key)

    return Late


@pytest.mark.parametrize("store", ["s3", "oss", "abs", "http"], indirect=True)
def test_publishing_machine_may_have_another_endpoint(publish, store, tmp_path, monkeypatch):
    """The block for the hosts stays as it is; an address takes the bucket into the path."""
    host = {"hosts": ["127.0.0.1"]} if store.name == "http" else {"endpoints": ["127.0.0.1"]}
    config = {"data": str(tmp_path / "near"), "address": "127.0.0.1", "listen": {"http": 0, "control": 0, "proxy": 0}}
    near = Origin({**config, store.name: {**store.origin[store.name], **host}})
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name)
    try:
        url = {"url" if store.name == "http" else "endpoint": f"http://127.0.0.1:{near.ports['http']}"}
        for key in KEYS:
            assert publish(object=key, credentials=url)["changed"]
            assert near.holds(key) == CONTENT
            assert not publish(object=key, credentials=url)["changed"]
    finally:
        server.stop(near.servers)


def test_wrong_credentials(publish, store, origin):
    for change, said in store.wrong:
        result = publish(credentials=change)
        assert result["failed"] and said in result["msg"], (change, result["msg"])
    assert origin.holds(KEYS[0]) is None


def test_missing_bucket(publish, store):
    if store.bucket_key is None:
        pytest.skip("an HTTP server has no buckets")
    storage = copy.deepcopy(store.storage)
    storage[store.name][store.bucket_key] = "elsewhere"
    for check in (True, False):
        result = publish(storage=storage, check=check)
        assert result["failed"] and f"there is no {store.bucket_key} of this name (404" in result["msg"], result


def test_wrong_region(publish, store):
    if store.region is None:
        pytest.skip("this store has no such answer")
    region, *said = store.region
    storage = copy.deepcopy(store.storage)
    storage[store.name]["region"] = region
    result = publish(storage=storage)
    assert result["failed"] and all(part in result["msg"] for part in said), result["msg"]


@pytest.mark.parametrize("store", ["gcs"], indirect=True)
def test_an_account_of_another_google(publish, store):
    account = json.loads(store.credentials["gcs"]["service_account_json"])
    text = json.dumps({**account, "universe_domain": "sovereign.example.com"})
    result = publish(credentials={"service_account_json": text})
    assert result["failed"] and "the service account is one of sovereign.example.com. Set endpoint to" in result["msg"], result
    # Such accounts sign their own token, which this store does not take; the library does ask it.
    result = publish(credentials={"service_account_json": text, "endpoint": "https://storage.googleapis.com"})
    assert result["failed"] and result["msg"].startswith("Failed to look at gs://models/models/a.mar"), result


def test_untrusted_certificate(publish):
    result = publish(ca_path=None)
    assert result["failed"] and "its certificate is not trusted (" in result["msg"] and "ca_path" in result["msg"], result["msg"]
    assert publish(ca_path=None, validate_certs=False)["changed"]


def test_no_way_to_the_store(publish, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    result = publish()
    assert result["failed"] and "Failed to look at " in result["msg"] and "proxy" in result["msg"], result["msg"]


def tree(origin, bundle, sha256):
    """What a host makes of a bundle: {path: (mode, content)}."""
    manifest = parse_manifest(origin.holds(manifest_key(bundle, sha256)), "m")
    stored, found = {one: origin.holds(blob_key(bundle, one)) for one in blobs(manifest)}, {}
    for file in manifest.files:
        content = stored[file.pack][file.offset : file.offset + file.size] if file.pack else stored.get(file.sha256, b"")
        assert hashlib.sha256(content).hexdigest() == file.sha256
        found[file.path] = (file.mode, content)
    return found


def large_and_small(folder):
    """A directory with what is a blob of its own, what is packed, and what is nowhere."""
    contents = {"weights.bin": random.Random(4).randbytes(5 << 20), "empty": b"", **{f"small/{n:03}.txt": b"%d" % n for n in range(300)}}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return {name: ("0644", content) for name, content in contents.items()}


@pytest.mark.parametrize("bundle", ["models/demo", "models/ä b+c%2Fd~e/モデル 'x'"])
def test_publishes_a_bundle_once(publish, origin, bundle, tmp_path):
    contents = large_and_small(tmp_path / "model")
    predicted = publish(src="model", bundle=bundle, check=True)
    assert predicted["changed"] and predicted["blobs_sent"] == 2 and not origin.holds(manifest_key(bundle, predicted["sha256"]))
    done = publish(src="model", bundle=bundle, sha256=predicted["sha256"])
    assert "msg" not in done, done
    assert {**done, "invocation": None} == {**predicted, "invocation": None}
    assert (done["files"], done["blobs"], done["bytes"]) == (302, 2, sum(len(content) for _mode, content in contents.values()))
    assert tree(origin, bundle, done["sha256"]) == contents
    again = publish(src="model", bundle=bundle)
    assert not again["changed"] and again["blobs_sent"] == 0 and again["diff"]["before"] == again["diff"]["after"]
    # A second version with the same weights sends its pack and its manifest.
    (tmp_path / "model/small/000.txt").write_bytes(b"zero")
    second = publish(src="model", bundle=bundle)
    assert second["blobs_sent"] == 1 and second["bytes_sent"] < 100_000
    assert tree(origin, bundle, second["sha256"]) == {**contents, "small/000.txt": ("0644", b"zero")}
    assert tree(origin, bundle, done["sha256"]) == contents


def test_a_damaged_blob_is_replaced(publish, origin, tmp_path):
    contents = large_and_small(tmp_path / "model")
    done = publish(src="model", bundle="models/demo")
    (damaged, _whole) = blobs(parse_manifest(origin.holds(manifest_key("models/demo", done["sha256"])), "m"))
    origin.store(blob_key("models/demo", damaged), OTHER)
    assert publish(src="model", bundle="models/demo")["blobs_sent"] == 1
    assert tree(origin, "models/demo", done["sha256"]) == contents


def test_who_may_not_write_publishes_no_bundle(publish, store, tmp_path):
    large_and_small(tmp_path / "model")
    for change, said in store.wrong:
        result = publish(src="model", bundle="models/demo", credentials=change)
        assert result["failed"] and said in result["msg"] and not result.get("changed"), (change, result["msg"])


def test_archive_is_that_of_torch_model_archiver(run, tmp_path, capfd):
    """The same names, contents and manifest, but for the moment; built twice, the same bytes."""
    model = tmp_path / "model"
    (model / "extra/deep").mkdir(parents=True)
    for name in (
        "handler.py",
        "model.py",
        "weights.pt",
        "labels.json",
        "extra/a.txt",
        "extra/deep/b.txt",
        "model-config.yaml",
        "requirements.txt",
    ):
        (model / name).write_text(name)
    options = {"model_name": "demo", "version": "1.0", "handler": "handler.py", "model_file": "model.py", "serialized_file": "weights.pt"}
    options |= {"config_file": "model-config.yaml", "requirements_file": "requirements.txt"}
    dest = tmp_path / "ours.mar"
    args = {"directory": str(model), "dest": str(dest), "extra_files": ["labels.json", "extra"], **options}
    with patch_module_args(args), pytest.raises(SystemExit):
        model_archive.main()
    assert json.loads(capfd.readouterr().out)["changed"]
    named = [part for key, value in options.items() for part in ("--" + key.replace("_", "-"), value)]
    theirs = run("torch-model-archiver", *named, "--extra-files", "labels.json,extra", "--export-path", tmp_path, cwd=model)
    assert theirs.returncode == 0, theirs.stdout

    def content(path):
        with zipfile.ZipFile(path) as archive:
            found = {name: archive.read(name) for name in archive.namelist()}
        manifest = json.loads(found.pop("MAR-INF/MANIFEST.json"))
        return found, {**manifest, "createdOn": ""}

    assert content(dest) == content(tmp_path / "demo.mar")


@pytest.fixture
def fleet(run, origin, stores, certificate, tmp_path):
    """Run the publish play once for each of some stores, in one go."""
    (tmp_path / "files/model").mkdir(parents=True)
    (tmp_path / "files/model/handler.py").write_text("class Handler: pass\n")
    archive = {"directory": "model", "model_name": "demo", "version": "1.10", "handler": "handler.py"}
    (tmp_path / "files/notes.txt").write_text("notes\n")
    common = {"modelfleet_files_dir": str(tmp_path / "files"), "modelfleet_publish_ca_path": certificate["certificate"]}

    def play(store, more):
        # The origin has one set of objects, so each store gets its own keys.
        artifacts = [{"archive": archive, "object": f"{store.name}/demo.mar"}, {"src": "notes.txt", "object": f"{store.name}/notes.txt"}]
        artifacts += more
        variables = {"modelfleet_storage": copy.deepcopy(store.storage), "modelfleet_publish_credentials": store.credentials}
        if store.name == "gcs":  # a key file may also be a mapping
            block = variables["modelfleet_storage"]["gcs"]
            block["service_account_json"] = json.loads(block["service_account_json"])
        variables = {**common, **variables, "modelfleet_artifacts": artifacts}
        return {"ansible.builtin.import_playbook": "modelfleet.serving.publish", "vars": variables}

    def run_plays(names, *options, more=(), failed=0):
        (tmp_path / "play.yml").write_text(yaml.safe_dump([play(stores[name], list(more)) for name in names]), encoding="utf-8")
        done = run("ansible-playbook", "-i", "localhost,", *options, tmp_path / "play.yml")
        assert (done.returncode == 0) == (not failed), done.stdout
        recap = re.search(r"localhost +: ok=\d+ +changed=(\d+) .* failed=(\d+) ", done.stdout)
        assert int(recap.group(2)) == failed, done.stdout
        return int(recap.group(1)), done.stdout

    return run_plays


@only_in_all
def test_no_play_prints_a_secret(fleet, stores, origin):
    keys = [json.loads(block["gcs"]["service_account_json"])["private_key"] for block in (stores["gcs"].storage, stores["gcs"].credentials)]
    secrets = [SECRET, READ, WRITE, *(line for key in keys for line in key.splitlines()[1:-1])]
    bundle = {"directory": "model", "bundle": "models/model"}
    # A task counts once a play. In check mode each play would build the archive and send the bundle, then the first one does.
    for mode, wanted in (["--check"], 18), ([], 8):
        changed, output = fleet(stores, "-vvv", "--diff", *mode, more=[bundle])
        assert [secret for secret in secrets if secret in output] == []
        assert changed == wanted, output
    assert all(origin.holds(f"{name}/{file}") for name in stores for file in ("demo.mar", "notes.txt"))


def test_second_run_changes_nothing_and_shows_the_same(fleet):
    first, shown = fleet(["s3"])
    second, again = fleet(["s3"])
    assert (first, second) == (2, 0)
    entries = shown[shown.index("    modelfleet_models:\n") :].split("\n\n")[0]
    assert entries in again
    (entry,) = yaml.safe_load(entries)["modelfleet_models"]
    assert entry.pop("sha256")
    # A file that is no archive has no entry.
    assert entry == {"name": "demo", "version": "1.10", "object": "s3/demo.mar", "size": "1MiB", "workers": 1}


def test_what_was_published_is_shown_when_another_failed(fleet, origin):
    """Whichever comes first, with a change counted where there was one."""
    origin.store("s3/taken.txt", OTHER)
    more = [{"src": "notes.txt", "object": "s3/taken.txt"}, {"src": "notes.txt", "object": "s3/more.txt"}]
    for changed in (2, 0):
        counted, output = fleet(["s3"], more=more, failed=1)
        assert counted == changed, output
        words = " ".join(output.split())
        assert "modelfleet_models: - name: demo" in words and "object: s3/demo.mar" in words
        assert "Not published, for the reasons above: s3/taken.txt. Correct what was said and run" in words
    assert origin.holds("s3/demo.mar") and origin.holds("s3/more.txt") and origin.holds("s3/taken.txt") == OTHER


@only_in_all
def test_bundles_from_all_that_can_be_one(fleet, origin, tmp_path):
    """What an archive is built from, an archive, and a directory; the same files once."""
    archive = {"directory": "model", "model_name": "demo", "version": "1.10", "handler": "handler.py"}
    large_and_small(tmp_path / "files/data")
    more = [
        {"archive": archive, "bundle": "models/demo"},
        {"src": "archives/demo-1.10.mar", "bundle": "models/demo"},
        {"directory": "data", "bundle": "models/data"},
    ]
    for wanted in (3, 0):
        changed, output = fleet(["s3"], more=more)
        assert changed == wanted, output
        built, unpacked, directory = yaml.safe_load(output[output.index("    modelfleet_models:\n") :].split("\n\n")[0])[
            "modelfleet_models"
        ][1:]
        assert built == unpacked
        sha256 = built.pop("sha256")
        assert built == {"name": "demo", "version": "1.10", "bundle": "models/demo", "size": "1MiB", "workers": 1}
        assert set(tree(origin, "models/demo", sha256)) == {"MAR-INF/MANIFEST.json", "handler.py"}
        assert (directory["name"], directory["bundle"], directory["size"]) == ("", "models/data", "6MiB")
        assert f"302 files in 2 blobs, of which the store lacked {2 if wanted else 0} (" in output
    changed, output = fleet(["s3"], "--check", more=[{**more[2], "sha256": "1" * 64}, {**more[2], "sha256": directory["sha256"]}], failed=1)
    assert changed == 0 and f"but {'1' * 64} was asked for" in output and "Not published, for the reasons above: models/data." in output


def test_bundles_are_published_when_an_object_failed(fleet, origin, tmp_path):
    origin.store("s3/taken.txt", OTHER)
    large_and_small(tmp_path / "files/data")
    more = [{"src": "notes.txt", "object": "s3/taken.txt"}, {"directory": "data", "bundle": "models/data"}]
    for changed in (3, 0):
        counted, output = fleet(["s3"], more=more, failed=1)
        assert counted == changed, output
        words = " ".join(output.split())
        assert "object: s3/demo.mar" in words and "bundle: models/data" in words
        assert "Not published, for the reasons above: s3/taken.txt. Correct" in words


@pytest.mark.parametrize(
    ("artifact", "said"),
    [
        ({"directory": "model"}, "missing parameter(s) required by 'directory': bundle"),
        ({"src": "notes.txt", "object": "a", "bundle": "b"}, "parameters are mutually exclusive: object|bundle"),
        ({"bundle": "models/demo"}, "one of the following is required: src, archive, directory"),
        ({"src": "notes.txt", "bundle": "models/notes"}, "is neither a directory nor a model archive"),
        ({"directory": "nowhere", "bundle": "models/demo"}, "files/nowhere as a bundle: No such file or directory. Check src."),
        ({"directory": "model", "bundle": "../demo"}, "Failed to use the bundle '../demo': leave out"),
    ],
)
def test_bundles_that_cannot_be(fleet, origin, artifact, said):
    _changed, output = fleet(["s3"], more=[artifact], failed=1)
    assert said in " ".join(output.split()), output
    assert origin.holds("models/demo") is None


def test_a_mar_needs_no_key_and_another_file_does(fleet, origin, tmp_path):
    """The key is made from the archive's own name and version, whether it was built here or not."""
    fleet(["s3"])
    more = [{"src": "archives/demo-1.10.mar"}]
    changed, output = fleet(["s3"], more=more)
    assert changed == 1 and origin.holds("models/demo/1.10/demo.mar")
    _changed, output = fleet(["s3"], more=[*more, {"src": "notes.txt"}], failed=1)
    assert "notes.txt is no .mar, so its key cannot be made from its name and version; add its object" in " ".join(output.split())


def test_publish_runs_on_a_copy_of_the_sample(run, origin, certificate, tmp_path):
    """Filled in as its README says, with the files where its variables look for them."""
    inventory = tmp_path / "inventory/prod"
    shutil.copytree(REPOSITORY / "inventory/sample", inventory)
    secrets = {"read_access_key": "READER", "read_secret_key": READ, "publish_access_key": "PUBLISHER", "publish_secret_key": WRITE}
    (inventory / "group_vars/all/vault.yml").write_text(yaml.safe_dump({f"vault_{name}": value for name, value in secrets.items()}))
    menu = inventory / "group_vars/all/modelfleet.yml"
    text = menu.read_text()
    for name in ("modelfleet_publish_credentials", "smoke_report_path"):
        # What the menu has in comments, with what is indented below it.
        text = re.sub(
            rf"^# {name}:.*\n(#   .*\n)*", lambda found: re.sub("^# ", "", found.group(0), flags=re.MULTILINE), text, flags=re.MULTILINE
        )
    artifact = {"src": "labels.json", "object": "models/resnet50/labels.json", "sha256": SHA256}
    menu.write_text(text + yaml.safe_dump({"modelfleet_artifacts": [artifact], "modelfleet_publish_ca_path": certificate["certificate"]}))
    (tmp_path / "files").mkdir()
    (tmp_path / "files/labels.json").write_bytes(CONTENT)
    for mode, held in (["--check"], None), ([], CONTENT):
        done = run("ansible-playbook", "-i", inventory, *mode, "playbooks/publish.yml")
        assert done.returncode == 0 and "changed=1 " in done.stdout, done.stdout
        assert origin.holds(artifact["object"]) == held
    for host in ("localhost", "gpu-1.example.com"):
        shown = run("ansible", "-i", inventory, "-c", "local", "-m", "ansible.builtin.debug", "-a", "var=smoke_report_path", host)
        assert f"{tmp_path}/reports/smoke.json" in shown.stdout, shown.stdout
