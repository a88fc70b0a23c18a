# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import datetime

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.gateway_findings import gateway_findings
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
TOKEN = "0123456789abcdef" * 3


def pem_of(key, password=None):
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def certificate_of(key, begins=NOW - DAY, ends=NOW + DAY, name="models.example.com"):
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(begins).not_valid_after(ends).sign(key, hashes.SHA256())
    return made.public_bytes(Encoding.PEM).decode()


KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _part in range(2))
GOOD = {
    "inventory_hostname": "gpu-1.example.com",
    "gateway_address": "10.0.0.1",
    "gateway_port": 8443,
    "gateway_certificate": "/etc/pki/models.crt",
    "gateway_key": "/etc/pki/models.key",
    "gateway_client_ca": "/etc/pki/clients.pem",
    "gateway_clients": [
        {"name": "anna", "token": TOKEN},
        {"name": "bert", "token": TOKEN + "x", "requests_per_minute": 60},
        {"name": "batch", "certificate": "batch.example.com"},
    ],
    "gateway_requests_per_minute": 6000,
    "gateway_max_body_bytes": 6553500,
    "gateway_drain_seconds": 30,
    "max_request_size": 6553500,
    "daemons": ["torchserve", "dfdaemon", "scheduler"],
    "listening": {"modelfleet_address": "10.0.0.1"},
    "certificate": certificate_of(KEY),
    "key": pem_of(KEY),
    "client_ca": certificate_of(OTHER, name="clients"),
}


def moved(**variables):
    """With what moves a port of another daemon of the host."""
    return {"listening": {**GOOD["listening"], **variables}}


def test_a_port_that_is_free_after_all():
    """Of a daemon that does not run here, by another protocol, and of one whose own variables are wrong, which is said of them."""
    quic = moved(dfdaemon_config={"storage": {"server": {"quicPort": 8443}}})
    wrong = moved(torchserve_config={"inference_address": "https://0.0.0.0:8443"})
    no_scheduler = {**moved(dragonfly_scheduler_port=8443), "daemons": ["torchserve", "dfdaemon"]}
    for change in (quic, wrong, no_scheduler, {"listening": None}):
        assert gateway_findings({**GOOD, **change}, NOW) == []


def test_nothing_is_wrong():
    assert gateway_findings(GOOD, NOW) == []
    # The chain behind it, and no certificates of clients at all.
    chain = {**GOOD, "certificate": GOOD["certificate"] + GOOD["client_ca"]}
    assert gateway_findings(chain, NOW) == []
    tokens = {**GOOD, "gateway_client_ca": "", "client_ca": "", "gateway_clients": GOOD["gateway_clients"][:2]}
    assert gateway_findings(tokens, NOW) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gateway_certificate": "", "certificate": ""}, "The gateway_certificate is empty, and the gateway speaks TLS only"),
        ({"gateway_key": "", "key": ""}, "The gateway_key is empty"),
        ({"certificate": ""}, "The file /etc/pki/models.crt of gateway_certificate cannot be read, or is empty"),
        ({"certificate": "what"}, "holds no certificate in PEM"),
        ({"certificate": GOOD["certificate"] + GOOD["key"]}, "holds a private key as well"),
        ({"key": "what"}, "The file /etc/pki/models.key of gateway_key holds no private key in PEM"),
        ({"key": pem_of(KEY, b"secret")}, "has a password, which nobody types at a start"),
        ({"key": pem_of(OTHER)}, "does not belong to the first certificate in /etc/pki/models.crt"),
        ({"certificate": certificate_of(OTHER) + certificate_of(KEY)}, "does not belong to the first certificate"),
        (
            {"certificate": certificate_of(KEY, ends=NOW - DAY / 2)},
            "(CN=models.example.com) cannot be used: it has expired on 2026-05-31 12:00 UTC",
        ),
        (
            {"certificate": certificate_of(KEY, begins=NOW + DAY / 2)},
            "it is valid only from 2026-06-01 12:00 UTC on; correct the clock of the controller",
        ),
        (
            {"certificate": GOOD["certificate"] + certificate_of(OTHER, ends=NOW - DAY / 2, name="between")},
            "(CN=between) cannot be used: it has expired",
        ),
        ({"client_ca": ""}, "The file /etc/pki/clients.pem of gateway_client_ca cannot be read"),
        (
            {"client_ca": certificate_of(OTHER, ends=NOW - DAY / 2, name="clients")},
            "The CA of the clients (CN=clients) cannot be used: it has expired",
        ),
        ({"gateway_client_ca": ""}, "comes by a certificate, and gateway_client_ca is empty"),
        ({"gateway_clients": []}, "The list gateway_clients is empty"),
        ({"gateway_address": "models.example.com"}, "The gateway_address is not an IP address ('models.example.com')"),
        ({"gateway_port": 443}, "The gateway_port is 443, and the gateway has no privileges"),
        (
            {"gateway_port": 8080},
            "The gateway_port is 8080, which TorchServe has on this host (inference); use another one, or move that of",
        ),
        (
            moved(dfdaemon_config={"upload": {"server": {"port": 8443}}}),
            "gateway_port is 8443, which dfdaemon has on this host (upload); use another one, or move that of dfdaemon in dfdaemon_config.",
        ),
        (
            moved(
                torchserve_metrics_port=8443, torchserve_config={"inference_address": "http://0.0.0.0:8443", "grpc_management_port": 8443}
            ),
            "which TorchServe has on this host (inference, metrics, grpc_management); use another one, or move that of TorchServe in",
        ),
        (
            moved(dragonfly_scheduler_port=8443),
            "which the scheduler has on this host (api); use another one, or move that of the scheduler",
        ),
        ({"inventory_hostname": "gpu 1"}, "The host 'gpu 1' has a name that HAProxy does not take"),
        ({"gateway_requests_per_minute": 0}, "The gateway_requests_per_minute is 0; set it to 1 or more."),
        ({"gateway_drain_seconds": 90}, "systemd ends the stop of TorchServe after 60"),
        ({"gateway_max_body_bytes": "10MB"}, "The gateway_max_body_bytes is no number of bytes ('10MB')"),
        ({"gateway_max_body_bytes": 7000000}, "TorchServe takes 6553500 bytes; raise max_request_size"),
    ],
)
def test_one_thing_is_wrong(change, words):
    (finding,) = gateway_findings({**GOOD, **change}, NOW)
    assert words in finding


@pytest.mark.parametrize(
    ("number", "change", "words"),
    [
        (0, {"name": "two words"}, "The name of the client gateway_clients[0] must be of letters, digits"),
        (0, {"name": "bert"}, "The client gateway_clients[1] (bert) has the name of another one"),
        (0, {"token": ""}, "The token of the client gateway_clients[0] (anna) is empty; make one with: openssl rand -hex 32."),
        (0, {"token": None}, "The token of the client gateway_clients[0] (anna) is empty"),
        (0, {"token": "secret-31-characters-0123456789"}, "has 31 characters, and must have 32 to 256"),
        (0, {"token": "secret with blanks that are not allowed"}, "has a character that HTTP does not take"),
        (0, {"token": TOKEN + "x"}, "has the token of the client gateway_clients[0] (anna), so that nobody could tell them apart"),
        (0, {"certificate": "anna"}, "must have either a token or a certificate"),
        (1, {"requests_per_minute": 0}, "The requests_per_minute of the client gateway_clients[1] (bert) must be 1 or more"),
        (2, {"certificate": "two words"}, "must be its common name"),
    ],
)
def test_something_is_wrong_with_a_client(number, change, words):
    settings = copy.deepcopy(GOOD)
    settings["gateway_clients"][number].update(change)
    (finding,) = gateway_findings(settings, NOW)
    assert words in finding
    assert "secret" not in finding and TOKEN not in finding


def test_a_certificate_that_two_have():
    settings = {**GOOD, "gateway_clients": [*GOOD["gateway_clients"], {"name": "other", "certificate": "batch.example.com"}]}
    (finding,) = gateway_findings(settings, NOW)
    assert "has the common name of the client gateway_clients[2] (batch)" in finding


def test_everything_at_once_and_no_secret():
    findings = gateway_findings({"gateway_clients": [{"name": "x", "token": "secret"}], "gateway_key": "k", "key": "secret"}, NOW)
    assert len(findings) >= 6 and not [finding for finding in findings if "secret" in finding]
