# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import os
import socket
import ssl
import stat
import threading

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _certificates as pki
from ansible_collections.modelfleet.serving.plugins.modules import host_certificates
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519

GPU = {"name": "gpu-1", "address": "127.0.0.1"}
SEED = {"name": "seed-1", "address": "127.0.0.2"}
PASSPHRASE = "cGxhbnRlZC1zZWNyZXQ"
DAY = datetime.timedelta(days=1)
NOW = pki.now()


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "prod.pki"


@pytest.fixture
def provide(run_module, directory):
    def run(*hosts, check=False, diff=False, **options):
        args = {"hosts": list(hosts or [GPU]), "directory": str(directory), **options}
        if options.get("ca_path"):
            args.pop("directory")
        return run_module(host_certificates.main, args, check=check, diff=diff)

    return run


def files_of(directory):
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def certificate(path):
    return pki.certificates_of(path.read_bytes(), str(path))[0]


def shift(monkeypatch, days):
    monkeypatch.setattr(pki, "now", lambda: NOW + days * DAY)


def write(path, *certificates, key=None, passphrase=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(pki.pem_of(certificates, key, passphrase))
    return str(path)


def issue(tmp_path, authority=None, name="gpu-1", address="127.0.0.1", days=100, at=None, key=None):
    """Somebody's own authority and a certificate of it, as options of the module."""
    at = at or NOW
    root, root_key = authority or pki.new_authority("Example", 1000, at)
    made, host_key = pki.new_host(name, address, days, root, root_key, at)
    return {
        "ca_path": write(tmp_path / "own/ca.pem", root),
        "hosts": [
            {
                "name": name,
                "address": address,
                "certificate_path": write(tmp_path / f"own/{name}.pem", made),
                "key_path": write(tmp_path / f"own/{name}.key", key=key or host_key),
            }
        ],
    }


def handshake(directory, server, client, trusted):
    """What becomes of a connection between two hosts by Python's own TLS, which both verify; empty where it comes about."""
    contexts = []
    for name, purpose in ((server, ssl.PROTOCOL_TLS_SERVER), (client, ssl.PROTOCOL_TLS_CLIENT)):
        context = ssl.SSLContext(purpose)
        context.load_cert_chain(pki.host_file(str(directory), name))
        context.load_verify_locations(cadata=trusted)
        context.verify_mode = ssl.CERT_REQUIRED
        contexts.append(context)
    one, other = socket.socketpair()
    one.settimeout(10)
    other.settimeout(10)
    problems = []

    def serve():
        try:
            with contexts[0].wrap_socket(one, server_side=True) as secure:
                secure.recv(1)
        except OSError as exc:
            problems.append(str(exc))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with contexts[1].wrap_socket(other, server_hostname="127.0.0.1") as secure:
            secure.send(b"x")
    except OSError as exc:
        problems.append(str(exc))
    thread.join()
    return " ".join(problems)


def test_an_authority_and_certificates_with_which_hosts_know_each_other(provide, directory):
    result = provide(GPU, {**SEED, "address": "127.0.0.1"})
    assert result["changed"] and [host["reason"] for host in result["hosts"]] == ["there was none"] * 2
    assert result["rotation"] == "none" and len(result["trusted"]) == 1
    assert sorted(files_of(directory)) == ["ca.pem", "hosts/gpu-1.pem", "hosts/seed-1.pem"]
    for path in directory.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    trusted = pki.pem_of([certificate(directory / "ca.pem")])
    assert handshake(directory, "seed-1", "gpu-1", trusted) == ""
    stranger = pki.pem_of([pki.new_authority("Example", 10, NOW)[0]])
    assert "CERTIFICATE_VERIFY_FAILED" in handshake(directory, "seed-1", "gpu-1", stranger)


def test_a_second_run_changes_nothing(provide, directory):
    provide(GPU, SEED)
    before = files_of(directory)
    result = provide(GPU, SEED)
    assert not result["changed"] and [host["reason"] for host in result["hosts"]] == ["", ""]
    assert files_of(directory) == before
    # A new host, named alone as with --limit, gets its own and touches no other.
    result = provide({"name": "gpu-2", "address": "127.0.0.3"})
    assert result["changed"] and files_of(directory).items() > before.items()


def test_check_mode_and_diff_tell_the_truth_and_no_secret(provide, directory):
    result = provide(GPU, check=True, diff=True)
    assert result["changed"] and not directory.exists()
    assert [os.path.basename(one["after_header"]) for one in result["diff"]] == ["ca.pem", "gpu-1.pem"]
    assert "CN=gpu-1, number" in result["diff"][1]["after"] and "# there was none" in result["diff"][1]["after"]
    provide(GPU)
    before = files_of(directory)
    result = provide({**GPU, "address": "127.0.0.9"}, check=True, diff=True)
    assert result["changed"] and files_of(directory) == before
    assert "it is not for 127.0.0.9" in result["diff"][0]["after"] and result["diff"][0]["before"].startswith("CN=gpu-1, number")
    assert "PRIVATE" not in str(dict(result))


def test_keys_are_encrypted_where_there_is_a_passphrase(provide, directory):
    result = provide(GPU, passphrase=PASSPHRASE)
    assert PASSPHRASE not in str(dict(result))
    for content in files_of(directory).values():
        assert b"BEGIN ENCRYPTED" in content
    assert not provide(GPU, passphrase=PASSPHRASE)["changed"]
    for passphrase, said in (("", "is encrypted. Set modelfleet_pki_passphrase, from a vault"), ("x", "Correct modelfleet_pki_passphrase")):
        result = provide(GPU, passphrase=passphrase)
        assert result["failed"] and said in result["msg"] and str(directory / "ca.pem") in result["msg"]


def test_keys_in_clear_are_told(provide, directory, monkeypatch):
    told = []
    monkeypatch.setattr(host_certificates.CheckedModule, "warn", lambda _module, message: told.append(message))
    provide(GPU, check=True)
    assert told == []
    provide(GPU)
    provide(GPU)
    (said,) = told
    assert f"{directory / 'ca.pem'} is not encrypted: whoever reads it can join the fleet. Set modelfleet_pki_passphrase" in said
    provide(GPU, directory=f"{directory}.encrypted", passphrase=PASSPHRASE)
    assert told == [said]


@pytest.mark.parametrize(("days", "issued"), [(0, False), (334, False), (336, True), (400, True)])
def test_a_certificate_is_renewed_before_its_end(provide, monkeypatch, directory, days, issued):
    provide(GPU)
    before = files_of(directory)
    shift(monkeypatch, days)
    result = provide(GPU)
    assert result["changed"] is issued and (files_of(directory) != before) is issued
    assert bool(result["hosts"][0]["reason"]) is issued
    assert result["hosts"][0]["expires"] > (pki.now() + 25 * DAY).timestamp()
    assert not provide(GPU)["changed"]


def test_one_that_ends_with_its_authority_is_not_issued_by_every_run(provide, monkeypatch):
    result = provide(GPU, authority_days=100)
    assert result["hosts"][0]["expires"] == result["trusted"][0]["expires"]
    shift(monkeypatch, 90)
    assert not provide(GPU)["changed"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(b"x"), "there is no certificate in it"),
        (lambda path: path.write_bytes(b""), "there is no certificate in it"),
        (lambda path: path.write_bytes(path.read_bytes().partition(b"-----BEGIN PRIVATE")[0]), "there is no private key in it"),
        (lambda path: path.write_bytes(path.read_bytes()[:200] + b"-----END CERTIFICATE-----\n"), "a certificate in it is damaged"),
    ],
)
def test_a_damaged_certificate_is_issued_anew(provide, directory, spoil, reason):
    provide(GPU)
    spoil(directory / "hosts/gpu-1.pem")
    result = provide(GPU)
    assert result["changed"] and reason in result["hosts"][0]["reason"]
    assert not provide(GPU)["changed"]


def test_a_rotation_never_leaves_two_hosts_that_do_not_know_each_other(provide, directory):
    """Between two steps some hosts have what is new and others what was."""
    hosts = [GPU, {**SEED, "address": "127.0.0.1"}]
    provide(*hosts)
    states = [(files_of(directory), pki.pem_of([certificate(directory / "ca.pem")]))]
    for step, stage, authorities in (("trust", "trust", 2), ("issue", "issue", 2), ("finish", "none", 1)):
        assert provide(*hosts, rotation=step, check=True)["changed"]
        result = provide(*hosts, rotation=step)
        assert result["changed"] and result["rotation"] == stage and len(result["trusted"]) == authorities
        # Done once, and what comes between is no step.
        assert not provide(*hosts, rotation=step)["changed"]
        assert not provide(*hosts)["changed"]
        paths = [directory / name for name in ("ca.pem", "next.pem", "previous.pem") if (directory / name).exists()]
        states.append((files_of(directory), pki.pem_of([certificate(path) for path in paths])))
    for before, after in zip(states, states[1:]):
        for (files, _trusted), (_files, trusted) in ((before, after), (after, before)):
            (directory / "hosts/seed-1.pem").write_bytes(files["hosts/seed-1.pem"])
            for name in ("gpu-1", "seed-1"):
                (directory / f"hosts/{name}.pem").write_bytes(files[f"hosts/{name}.pem"])
            assert handshake(directory, "seed-1", "gpu-1", trusted) == ""
    assert states[0][0]["ca.pem"] != states[-1][0]["ca.pem"]
    # Whoever had a certificate of the old one and nothing else is a stranger now.
    for name in ("gpu-1", "seed-1"):
        (directory / f"hosts/{name}.pem").write_bytes(states[0][0][f"hosts/{name}.pem"])
    assert "CERTIFICATE_VERIFY_FAILED" in handshake(directory, "seed-1", "gpu-1", states[-1][1])


def test_a_whole_rotation_in_check_mode(provide, directory):
    """No step is taken, so none finds the one before."""
    provide(GPU)
    before = files_of(directory)
    assert [provide(GPU, rotation=step, check=True)["changed"] for step in ("trust", "issue", "finish")] == [True, True, False]
    provide(GPU, rotation="trust")
    assert [provide(GPU, rotation=step, check=True)["changed"] for step in ("trust", "issue", "finish")] == [False, True, False]
    assert files_of(directory).items() > before.items()


def test_a_rotation_that_was_killed_goes_on(provide, directory):
    provide(GPU)
    provide(GPU, rotation="trust")
    # Between the two files of the step.
    (directory / "previous.pem").write_text(pki.pem_of([certificate(directory / "ca.pem")]))
    assert not provide(GPU, rotation="trust")["changed"]
    assert provide(GPU, rotation="issue")["rotation"] == "issue"
    assert provide(GPU, rotation="finish")["rotation"] == "none"


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (["issue"], "Refused to issue with the next authority: there is none. Begin with the step trust."),
        (["trust", "finish"], "Refused to finish: the next authority does not issue yet. Take the step issue first."),
    ],
)
def test_steps_in_another_order_are_refused(provide, directory, steps, said):
    provide(GPU)
    for step in steps[:-1]:
        provide(GPU, rotation=step)
    before = files_of(directory)
    result = provide(GPU, rotation=steps[-1])
    assert result["failed"] and result["msg"] == said and files_of(directory) == before


def test_what_was_issued_to_a_host_that_left_is_removed(provide, directory):
    provide(GPU, SEED)
    assert provide(GPU, state="absent", check=True)["changed"] and (directory / "hosts/gpu-1.pem").exists()
    result = provide(GPU, state="absent", diff=True)
    assert result["changed"] and result["hosts"] == [] and result["diff"][0]["after"] == ""
    assert sorted(files_of(directory)) == ["ca.pem", "hosts/seed-1.pem"]
    assert not provide(GPU, state="absent")["changed"]


# The authority of the fleet is not what it must be


def expired(directory):
    made = pki.new_authority("ModelFleet", 1, NOW - 10 * DAY)
    write(directory / "ca.pem", made[0], key=made[1])


def of_tomorrow(directory):
    made = pki.new_authority("ModelFleet", 10, NOW + 2 * DAY)
    write(directory / "ca.pem", made[0], key=made[1])


def with_the_key_of_another(directory):
    write(directory / "ca.pem", pki.new_authority("ModelFleet", 10, NOW)[0], key=ec.generate_private_key(ec.SECP256R1()))


def of_a_host(directory):
    authority = pki.new_authority("ModelFleet", 10, NOW)
    made = pki.new_host("gpu-1", "127.0.0.1", 10, *authority, NOW)
    write(directory / "ca.pem", made[0], key=made[1])


def lost_in_a_rotation(directory):
    made = pki.new_authority("ModelFleet", 10, NOW)
    write(directory / "next.pem", made[0], key=made[1])


def no_certificate(directory):
    directory.mkdir()
    (directory / "ca.pem").write_bytes(b"\xff\xfe")


def no_file(directory):
    (directory / "ca.pem").mkdir(parents=True)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (expired, "it has expired on"),
        (of_tomorrow, "it is valid only from"),
        (with_the_key_of_another, "the key behind it is that of another"),
        (of_a_host, "it is not that of an authority"),
        (lost_in_a_rotation, "a rotation is on its way. Bring that file back"),
        (no_certificate, "there is no certificate in it. Give one in PEM"),
        (no_file, "Is a directory. Put the file there"),
    ],
)
def test_an_authority_that_cannot_issue_is_named_and_nothing_is_written(provide, directory, spoil, said):
    spoil(directory)
    before = files_of(directory)
    result = provide(GPU)
    assert result["failed"] and said in result["msg"] and str(directory / "ca.pem") in result["msg"]
    assert files_of(directory) == before


# Certificates of the user's own


def test_certificates_of_ones_own_are_only_looked_at(provide, tmp_path, directory):
    own = issue(tmp_path)
    result = provide(*own.pop("hosts"), **own)
    assert not result["changed"] and result["hosts"][0]["reason"] == "" and not directory.exists()
    assert result["hosts"][0]["expires"] == int((NOW + 100 * DAY).timestamp())


def test_certificates_by_way_of_others_and_of_rsa(provide, tmp_path):
    """As a company's PKI has them: an authority that is offline, one below it that issues, keys of RSA with a passphrase."""
    root, root_key = pki.new_authority("Root", 1000, NOW)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    below = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "Below")]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + 500 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    made, host_key = pki.new_host("gpu-1", "127.0.0.1", 100, below, key, NOW)
    host = {
        **GPU,
        "certificate_path": write(tmp_path / "gpu-1.pem", made, below),
        "key_path": write(tmp_path / "gpu-1.key", key=host_key, passphrase=PASSPHRASE),
    }
    ca_path = write(tmp_path / "ca.pem", pki.new_authority("Other", 10, NOW)[0], root)
    assert not provide(host, ca_path=ca_path, passphrase=PASSPHRASE)["changed"]
    write(tmp_path / "gpu-1.pem", made)
    result = provide(host, ca_path=ca_path, passphrase=PASSPHRASE)
    assert result["failed"] and "none of the trusted authorities issued it" in result["msg"]


def own_expired(tmp_path):
    return issue(tmp_path, pki.new_authority("Example", 1000, NOW - 50 * DAY), at=NOW - 30 * DAY, days=10)


def own_of_tomorrow(tmp_path):
    return issue(tmp_path, pki.new_authority("Example", 1000, NOW - DAY), at=NOW + DAY)


def own_authority_expired(tmp_path):
    return issue(tmp_path, pki.new_authority("Example", 1, NOW - 10 * DAY), at=NOW - 10 * DAY)


def own_of_another_authority(tmp_path):
    own = issue(tmp_path)
    return {**own, "ca_path": write(tmp_path / "other.pem", pki.new_authority("Other", 10, NOW)[0])}


def own_for_another_address(tmp_path):
    own = issue(tmp_path, address="127.0.0.7")
    own["hosts"][0]["address"] = "127.0.0.1"
    return own


def own_key_of_another(tmp_path):
    return issue(tmp_path, key=ec.generate_private_key(ec.SECP256R1()))


def own_key_of_a_kind_that_is_not_taken(tmp_path):
    return issue(tmp_path, key=x25519.X25519PrivateKey.generate())


def own_without(name):
    def make(tmp_path):
        own = issue(tmp_path)
        own["hosts"][0].pop(name)
        return own

    return make


def own_text(name, content):
    def make(tmp_path):
        own = issue(tmp_path)
        path = tmp_path / "spoilt"
        path.write_bytes(content)
        (own if name == "ca_path" else own["hosts"][0])[name] = str(path)
        return own

    return make


def own_swapped(tmp_path):
    own = issue(tmp_path)
    own["hosts"][0]["certificate_path"] = own["ca_path"]
    return own


def own_ca_is_a_host(tmp_path):
    own = issue(tmp_path)
    return {**own, "ca_path": own["hosts"][0]["certificate_path"]}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (own_expired, "Refused the certificate of gpu-1 in {own}/gpu-1.pem: it has expired on"),
        (own_of_tomorrow, "correct the clock of the controller, or that of the authority"),
        (own_authority_expired, "Refused the certificate of CN=Example"),
        (own_of_another_authority, "none of the trusted authorities issued it; give the authority's own certificate"),
        (own_for_another_address, "it is not for 127.0.0.1; issue it with the subjectAltName IP:127.0.0.1"),
        (own_key_of_another, "its key is that of another certificate; give the two that were made together"),
        (own_key_of_a_kind_that_is_not_taken, "Dragonfly takes RSA, elliptic curves and Ed25519"),
        (own_without("certificate_path"), "The host gpu-1 has no certificate or no key, so there would be no TLS"),
        (own_without("key_path"), "The host gpu-1 has no certificate or no key, so there would be no TLS"),
        (own_text("ca_path", b"no PEM"), "there is no certificate in it"),
        (own_text("certificate_path", b""), "there is no certificate in it"),
        (own_text("certificate_path", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "a certificate in it is damaged"),
        (own_text("key_path", b"\x00\xff"), "there is no private key in it"),
        (own_text("key_path", "-----BEGIN {0}-----\nAAAA\n-----END {0}-----\n".format("PRIVATE KEY").encode()), "it cannot be used"),
        (own_swapped, "it is that of an authority; give that of the host first in its file"),
        (own_ca_is_a_host, "it is not that of an authority; give the CA's own"),
    ],
)
def test_what_dragonfly_would_refuse_is_named(provide, tmp_path, spoil, said):
    own = spoil(tmp_path)
    result = provide(*own.pop("hosts"), **own)
    assert result["failed"] and said.format(own=tmp_path / "own") in result["msg"], result["msg"]
    assert "PRIVATE" not in str(dict(result))


def test_a_file_that_cannot_be_read_is_named(provide, tmp_path):
    own = issue(tmp_path)
    own["hosts"][0]["key_path"] = str(tmp_path / "nowhere")
    result = provide(*own.pop("hosts"), **own)
    assert result["failed"] and f"Failed to read {tmp_path / 'nowhere'}: No such file or directory. Put the file there" in result["msg"]


def test_every_host_with_something_wrong_is_named_at_once(provide, tmp_path):
    authority = pki.new_authority("Example", 1000, NOW)
    hosts = []
    for name in ("gpu-1", "gpu-2"):
        hosts += issue(tmp_path, authority, name=name, address="127.0.0.8")["hosts"]
    own = [{**host, "address": "127.0.0.1"} for host in hosts]
    result = provide(*own, ca_path=str(tmp_path / "own/ca.pem"))
    assert result["failed"] and "of gpu-1 in" in result["msg"] and "of gpu-2 in" in result["msg"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"days": 0}, "Refused days 0: it must be from 1 to 36500 days."),
        ({"authority_days": 40000}, "Refused authority_days 40000"),
        ({"days": 20, "renew_days": 20}, "Refused renew_days 20: it must be from 0 to less than days (20)"),
        ({"hosts": [GPU, GPU]}, "gpu-1 is there twice"),
        ({"hosts": [{"name": "", "address": "127.0.0.1"}]}, "a host is called by 1 to 200 printable characters"),
        ({"hosts": [{"name": "gpu-1", "address": "not an address"}]}, "set modelfleet_address to an IP address"),
        ({"directory": ""}, "set one of directory and ca_path"),
        ({"passphrase": "x" * 1001}, "Refused the passphrase: it is longer than 1000 bytes"),
        ({"directory": "/dev/null/pki"}, "Failed to make /dev/null/pki: Not a directory. Make it on the controller"),
    ],
)
def test_options_that_are_of_no_use(provide, directory, options, said):
    result = provide(**options)
    assert result["failed"] and said in result["msg"] and not directory.exists()


def test_a_rotation_of_ones_own_authority_says_how(provide, tmp_path):
    own = issue(tmp_path)
    result = provide(*own.pop("hosts"), rotation="trust", **own)
    assert result["failed"] and "Put the old and the new certificate into modelfleet_pki_ca_path" in result["msg"]


def test_a_controller_without_the_library(provide, monkeypatch):
    monkeypatch.setattr(pki, "x509", None)
    result = provide()
    assert result["failed"] and "has no library cryptography. Install it" in result["msg"]


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1", "gpu-1.example.com"])
def test_every_kind_of_address(provide, directory, address):
    provide({"name": "gpu-1", "address": address})
    made = certificate(directory / "hosts/gpu-1.pem")
    assert pki.is_for(made, address) and not pki.is_for(made, "10.9.9.9")


def test_names_that_are_no_file_names(provide, directory):
    provide({"name": "../../gpu/1", "address": "127.0.0.1"}, {"name": "..", "address": "127.0.0.2"})
    assert set(files_of(directory)) == {"ca.pem", "hosts/...pem", "hosts/..%2F..%2Fgpu%2F1.pem"}


@pytest.mark.filterwarnings("ignore:Properties that return")
def test_an_older_library(provide, monkeypatch):
    """Before 42 it has the times of a certificate without a zone."""
    provide(GPU)

    class Older:
        def __init__(self, real):
            self.real = real

        def __getattr__(self, name):
            if name.endswith("_utc"):
                raise AttributeError(name)
            return getattr(self.real, name)

    made = pki.new_authority("Example", 10, NOW)[0]
    if hasattr(made, "not_valid_after"):
        assert pki.not_after(Older(made)) == pki.not_after(made)


def test_a_key_is_found_behind_what_else_is_in_its_file():
    key = ec.generate_private_key(ec.SECP256R1())
    for form in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL):
        text = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        assert pki.key_of(b"# made yesterday\n" + text, "x").private_numbers() == key.private_numbers()
