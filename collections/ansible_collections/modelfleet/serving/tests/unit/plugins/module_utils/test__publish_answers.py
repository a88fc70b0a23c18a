# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import ssl
import sys
import types
import urllib.error

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _publish_answers as answers
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._publish import CLIENTS
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import STORES

SECRET = "https://store.example.com/a?X-Amz-Signature=PLANTED"


class ProxyError(Exception):
    """A library's own."""


class ReadTimeoutError(Exception):
    """A library's own."""


def wrapped(inner):
    """As libraries do: the reason in an attribute, in the arguments, as the cause."""
    try:
        try:
            raise urllib.error.URLError(inner)
        except urllib.error.URLError as exc:
            raise RuntimeError(SECRET, exc) from None
    except RuntimeError as exc:
        return exc


def untrusted():
    error = ssl.SSLCertVerificationError(1, SECRET)
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("inner", "said", "remedy"),
    [
        (untrusted(), "its certificate is not trusted (self-signed certificate)", "ca_path"),
        (ssl.SSLError(1, SECRET), "TLS failed", "endpoint"),
        (socket.gaierror(-2, SECRET), "its name is not known here", "DNS"),
        (ConnectionRefusedError(111, SECRET), "nothing listens there", "endpoint"),
        (ConnectionResetError(104, SECRET), "the connection broke", "log"),
        (OSError("Tunnel connection failed: 403 Forbidden"), "the proxy does not connect to it", "proxy"),
        (ProxyError(SECRET), "the proxy does not connect to it", "proxy"),
        (ReadTimeoutError(SECRET), "it does not answer in time", "network"),
        (TimeoutError(SECRET), "it does not answer in time", "network"),
        (OSError(101, SECRET), "Network is unreachable", "network"),
        (ValueError(SECRET), "the connection failed (RuntimeError)", "network"),
    ],
)
def test_trouble_of_the_network_is_told_apart(inner, said, remedy):
    refused = answers.network_refusal(wrapped(inner), "https://store.example.com")
    assert said in refused.reason and remedy in refused.remedy
    assert "PLANTED" not in refused.reason + refused.remedy


@pytest.mark.parametrize("name", sorted(CLIENTS))
@pytest.mark.parametrize("kind", sorted(answers._REFUSALS))
def test_every_refusal_has_words_for_every_store(name, kind):
    refused = answers.refusal(kind, CLIENTS[name].NAMES, 403, "Some.Code", option="region", right="a", wrong="b")
    assert refused.reason.endswith("(403 Some.Code)") and refused.remedy


@pytest.mark.parametrize("code", [SECRET, "a b", "x" * 61, None, ""])
def test_what_is_no_code_is_not_shown(code):
    assert answers.refusal("denied", CLIENTS["s3"].NAMES, 403, code).reason == "permission is denied (403)"


def test_every_store_has_a_client():
    assert set(CLIENTS) == set(STORES)


@pytest.mark.parametrize(
    ("name", "module", "library"),
    [
        ("s3", "boto3", "boto3"),
        ("oss", "boto3", "boto3"),
        ("obs", "boto3", "boto3"),
        ("gcs", "google.cloud", "google-cloud-storage"),
        ("abs", "azure.storage.blob", "azure-storage-blob"),
    ],
)
def test_the_missing_library_is_named(monkeypatch, name, module, library):
    for loaded in [one for one in sys.modules if one == module or one.startswith(module + ".")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(answers.MissingLibrary) as raised:
        CLIENTS[name](types.SimpleNamespace(), None, True)
    assert raised.value.library == library and raised.value.trace


@pytest.mark.parametrize(
    ("name", "module", "library", "old"),
    [
        ("s3", "boto3", "boto3", "1.26.27"),
        ("oss", "botocore", "botocore", "1.35.99"),
        ("obs", "boto3", "boto3", "1.9.3"),
        ("gcs", "google.cloud.storage", "google-cloud-storage", "2.19.0"),
        ("abs", "azure.storage.blob", "azure-storage-blob", "12.14.1"),
    ],
)
def test_an_old_library_is_named_with_what_to_install(monkeypatch, name, module, library, old):
    """It has nothing but its version here: whatever else it lacks must not be looked for first."""
    parts = module.split(".")
    for loaded in [one for one in sys.modules if one.split(".")[0] in (parts[0], "boto3")]:
        monkeypatch.delitem(sys.modules, loaded)
    for depth in range(1, len(parts) + 1):
        fake = types.ModuleType(".".join(parts[:depth]))
        fake.__path__, fake.__version__ = [], old
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
        if depth > 1:
            setattr(sys.modules[".".join(parts[: depth - 1])], parts[depth - 1], fake)
    if module == "botocore":  # a new boto3 with it
        boto3 = types.ModuleType("boto3")
        boto3.__version__ = "1.36.0"
        monkeypatch.setitem(sys.modules, "boto3", boto3)
    if module == "boto3":
        monkeypatch.setitem(sys.modules, "botocore", types.ModuleType("botocore"))
    with pytest.raises(ModelFleetError) as raised:
        CLIENTS[name](types.SimpleNamespace(), None, True)
    assert f"{library} {old} of {sys.executable} is too old. Install {library}>=" in str(raised.value)


@pytest.mark.parametrize(
    ("status", "error", "headers", "said"),
    [
        (403, {"Code": "ExpiredToken"}, {}, "the session_token has expired (403 ExpiredToken)"),
        (403, {"Code": "RequestTimeTooSkewed"}, {}, "the clock of this machine is wrong, says the store (403 RequestTimeTooSkewed)"),
        (301, {"Code": "301"}, {"x-amz-bucket-region": "eu-west-1"}, "the bucket belongs to eu-west-1, not to us-east-1 (301)"),
        (400, {"Code": "AuthorizationHeaderMalformed", "Region": "eu-west-1"}, {}, "the bucket belongs to eu-west-1, not to us-east-1"),
        (400, {"Code": "AuthorizationHeaderMalformed", "Region": "RegionOne"}, {}, "the bucket belongs to RegionOne, not to us-east-1"),
        (400, {"Code": "Other", "Region": SECRET}, {}, "the store refuses (400 Other)"),
        (403, {"Code": "AccessDenied", "Endpoint": "b.example.com"}, {}, "the bucket belongs to b.example.com, not to s3.example.com"),
        (503, {"Code": "SlowDown"}, {}, "the store is overloaded or out of order (503 SlowDown)"),
        (418, {"Code": SECRET}, {}, "the store refuses (418)"),
        (400, {"Code": "KMS.DisabledException"}, {}, "the store cannot use the key of the encryption (400 KMS.DisabledException)"),
        (403, {"Code": "AccessDenied", "Message": "not authorized to perform: kms:GenerateDataKey"}, {}, "the store cannot use the key of"),
        (
            400,
            {"Code": "InvalidRequest", "Message": "The object was stored using a form of Server Side Encryption. The correct"},
            {},
            "the object is encrypted with a key of its publisher (400 InvalidRequest)",
        ),
        (
            400,
            {"Code": "InvalidRequest", "Message": "Object is WORM protected and cannot be overwritten"},
            {},
            "the object is under retention",
        ),
        (409, {"Code": "FileImmutable"}, {}, "the object is under retention or a legal hold (409 FileImmutable)"),
    ],
)
def test_what_s3_says(status, error, headers, said):
    client = CLIENTS["s3"].__new__(CLIENTS["s3"])
    client.store, client.place, client._extra = types.SimpleNamespace(region="us-east-1"), "https://s3.example.com", {}
    client._payer = {}
    refused = client._refusal({"Error": error, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers}})
    assert refused.reason.startswith(said)
    assert "PLANTED" not in refused.reason + refused.remedy


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (412, "ConditionNotMet", None),
        (409, "BlobAlreadyExists", None),
        (412, "LeaseIdMissing", "the blob is leased (412 LeaseIdMissing). Break the lease"),
        (412, "LeaseLost", "the blob is leased"),
        (412, "", "the store refuses (412)"),
        (409, "BlobImmutableDueToPolicy", "the object is under retention or a legal hold (409 BlobImmutableDueToPolicy). Publish under"),
        (409, "BlobUsesCustomerSpecifiedEncryption", "the object is encrypted with a key of its publisher"),
        (409, "SnapshotsPresent", "the store refuses (409 SnapshotsPresent)"),
    ],
)
def test_what_azure_says_of_a_condition(status, code, said):
    error = type("HttpResponseError", (Exception,), {"status_code": status, "error_code": code})
    client = CLIENTS["abs"].__new__(CLIENTS["abs"])
    client.place, client._error = "https://store.example.com", error
    check_condition(client._refusal(error()), said)


@pytest.mark.parametrize(
    ("errors", "body", "said"),
    [
        ([{"reason": "conditionNotMet"}], None, None),
        # An upload's error has the store's words in its answer only.
        ([], {"error": {"errors": [{"reason": "conditionNotMet"}]}}, None),
        (
            [{"reason": "orgPolicyConstraintFailed"}],
            None,
            "a policy demands encryption with a key of your own (412 orgPolicyConstraintFailed)",
        ),
        ([{"reason": "retentionPolicyNotMet"}], None, "the object is under retention or a legal hold (412 retentionPolicyNotMet)"),
        ([], {"error": "?"}, "the store refuses (412)"),
        ([], None, "the store refuses (412)"),
    ],
)
def test_what_google_says_of_a_condition(errors, body, said):
    client = CLIENTS["gcs"].__new__(CLIENTS["gcs"])
    response = None if body is None else types.SimpleNamespace(json=lambda: body)
    check_condition(client._refusal(types.SimpleNamespace(code=412, errors=errors, response=response)), said)


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (
            400,
            "Bucket is a requester pays bucket but no user project provided.",
            "whoever asks has to pay for it (400 required). Set user_project",
        ),
        (403, "Permission denied on Cloud KMS key.", "the store cannot use the key of the encryption (403 required). Check kms_key_name"),
        (403, "Other.", "permission is denied (403 required)"),
    ],
)
def test_what_google_says_in_words_only(status, text, said):
    client = CLIENTS["gcs"].__new__(CLIENTS["gcs"])
    error = type("BadRequest", (Exception,), {"code": status, "errors": [{"reason": "required"}], "response": None})
    check_condition(client._refusal(error(text)), said)


def check_condition(answer, said):
    """None: another publisher came first."""
    if said is None:
        assert isinstance(answer, answers.Taken)
    else:
        assert isinstance(answer, answers.Refusal) and "{}. {}".format(answer.reason, answer.remedy).startswith(said)


def s3_client(**changes):
    store = {"region": "us-east-1", "access_key": "AK", "secret_key": "SK", "session_token": None, "path_style": True, "writes": {}}
    store.update(s3_endpoint_url="https://s3.example.com", identity=None, **changes)
    return CLIENTS["s3"](types.SimpleNamespace(**store))


def test_s3_does_not_care_what_the_machine_is_set_to(monkeypatch, tmp_path):
    (tmp_path / "config").write_text("[broken\n")
    environment = {"AWS_PROFILE": "nobody", "AWS_DEFAULTS_MODE": "odd", "AWS_CONFIG_FILE": str(tmp_path / "config")}
    environment.update(AWS_SHARED_CREDENTIALS_FILE="", AWS_USE_FIPS_ENDPOINT="true", AWS_ENDPOINT_URL="https://other.example.com")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    client = s3_client(region="RegionOne").client
    assert (client.meta.region_name, client.meta.endpoint_url) == ("RegionOne", "https://s3.example.com")


def test_a_region_that_boto3_does_not_take():
    with pytest.raises(answers.Refusal, match="boto3 takes no region like region_one"):
        s3_client(region="region_one")


def test_progress_is_one_line_a_second(tmp_path):
    now = [0.0]
    progress = answers.Progress(str(tmp_path / "progress"), 300 << 20, clock=lambda: now[0])
    for _step in range(40):
        now[0] += 0.1
        progress.add(1 << 20)
    progress.close()
    lines = (tmp_path / "progress").read_text().splitlines()
    assert 3 <= len(lines) <= 4
    assert lines[0].endswith(" of 300.0 MiB (3 %), 10.0 MiB/s"), lines


def test_progress_without_a_file_is_silent_and_an_empty_file_is_whole(tmp_path):
    answers.Progress(None, 10).add(5)
    now = [0.0]
    progress = answers.Progress(str(tmp_path / "progress"), 0, clock=lambda: now[0])
    now[0] = 2.0
    progress.at(0)
    assert "0 B of 0 B (100 %)" in (tmp_path / "progress").read_text()


def test_reading_a_file_is_progress_behind_what_was_read(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    progress = answers.Progress(None, 10)
    with open(tmp_path / "file", "rb") as handle:
        reader = answers.Reader(handle, progress)
        assert reader.read(4) == b"0123" and progress.done == 0
        assert reader.read(4) == b"4567" and progress.done == 4
        reader.seek(0)
        assert reader.read() == b"0123456789" and progress.done == 0
        assert reader.tell() == 10


def test_a_ca_bundle_that_is_none(tmp_path):
    answers.check_ca(None)
    (tmp_path / "ca").write_text("no certificate")
    with pytest.raises(ModelFleetError, match="it holds no certificate"):
        answers.check_ca(str(tmp_path / "ca"))
