# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of hosts, and the authority that issues them. PRIVATE to the collection: it can have breaking changes at any time.

On the controller only, whose ansible-core needs the library cryptography too. A certificate and its key lie in one file, so that either is
replaced with the other in one step.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import urllib.parse

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:
    x509 = None

AUTHORITY, NEXT, PREVIOUS = "ca.pem", "next.pem", "previous.pem"
HOSTS = "hosts"
# A certificate is valid from then on: clocks differ, as much as preflight allows and more.
_BACK = datetime.timedelta(hours=1)
_DAY = datetime.timedelta(days=1)
_KEY = re.compile(rb"-----BEGIN ((?:[A-Z]+ )*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_LARGEST = 1 << 20


def need_library():
    """Raises ModelFleetError where the library is not there."""
    if x509 is None:
        raise ModelFleetError(
            "Failed to work with certificates: the Python of the controller has no library cryptography. Install it with pip or as "
            "python3-cryptography for the Python that runs Ansible, or set modelfleet_mtls to false."
        )


def now():
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


# Files


def read_pem(path):
    """The content (bytes) of the file ``path``. Raises ModelFleetError."""
    try:
        with open(path, "rb") as handle:
            return handle.read(_LARGEST)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "no file has such a name"
        raise ModelFleetError(f"Failed to read {path}: {reason}. Put the file there on the controller, or correct its path.") from exc


def certificates_of(data, path):
    """The certificates in ``data`` (bytes), which is from the file ``path``, at least one. Raises ModelFleetError."""
    blocks = [match.group() + b"\n" for match in _CERTIFICATE.finditer(data)]
    try:
        found = [x509.load_pem_x509_certificate(block) for block in blocks]
        # What is damaged inside is seen only when it is read.
        for one in found:
            str((one.subject, one.issuer, one.extensions))
    except Exception as exc:  # the library has no base for what a damaged certificate is
        raise ModelFleetError(
            f"Refused {path}: a certificate in it is damaged ({_short(exc)}). Give the file of the authority, unchanged."
        ) from exc
    if not found:
        raise ModelFleetError(
            f"Refused {path}: there is no certificate in it. Give one in PEM, which begins with -----BEGIN CERTIFICATE-----."
        )
    return found


def key_of(data, path, passphrase=""):
    """The private key in ``data`` (bytes), which is from the file ``path``. Raises ModelFleetError, which never shows anything of it."""
    block = _KEY.search(data)
    if not block:
        raise ModelFleetError(f"Refused {path}: there is no private key in it. Give the file of the key in PEM, unchanged.")
    encrypted = b"ENCRYPTED" in block.group()
    if encrypted and not passphrase:
        raise ModelFleetError(f"Failed to read the key in {path}: it is encrypted. Set modelfleet_pki_passphrase, from a vault.")
    try:
        key = serialization.load_pem_private_key(block.group() + b"\n", passphrase.encode() if encrypted else None)
    except Exception as exc:  # as above; its text may be of the key
        remedy = "Correct modelfleet_pki_passphrase" if encrypted else "Give the key file unchanged"
        raise ModelFleetError(f"Failed to read the key in {path}: it cannot be {'decrypted' if encrypted else 'used'}. {remedy}.") from exc
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        raise ModelFleetError(f"Refused the key in {path}: Dragonfly takes RSA, elliptic curves and Ed25519. Issue it for one of these.")
    return key


def pem_of(certificates, key=None, passphrase=""):
    """Certificates, and a key behind them that is encrypted where there is a passphrase, as the text of a file."""
    text = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)
    if key is not None:
        encryption = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
        text += key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return text.decode()


def host_file(directory, name):
    """Where the certificate of the host ``name`` lies; an inventory may call it anything."""
    return os.path.join(directory, HOSTS, urllib.parse.quote(name, safe="") + ".pem")


def _short(exc):
    return " ".join(str(exc).split())[:100] or type(exc).__name__


# What is in a certificate


def not_before(certificate):
    return _utc(certificate, "not_valid_before")


def not_after(certificate):
    return _utc(certificate, "not_valid_after")


def _utc(certificate, name):
    """The library has the times without a zone before 42."""
    moment = getattr(certificate, f"{name}_utc", None)
    return moment if moment is not None else getattr(certificate, name).replace(tzinfo=datetime.timezone.utc)


def subject_of(certificate):
    """For people; a subject may be empty or hold what a terminal obeys."""
    return "".join(one if one.isprintable() else "?" for one in certificate.subject.rfc4514_string()) or "no name"


def _extension(certificate, kind):
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def is_authority(certificate):
    constraints = _extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def issued_by(certificate, issuer):
    """Whether ``issuer`` signed ``certificate``."""
    if certificate.issuer != issuer.subject or not is_authority(issuer):
        return False
    key, algorithm = issuer.public_key(), certificate.signature_hash_algorithm
    try:
        if isinstance(key, rsa.RSAPublicKey):
            how = getattr(certificate, "signature_algorithm_parameters", None) or padding.PKCS1v15()
            key.verify(certificate.signature, certificate.tbs_certificate_bytes, how, algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(algorithm))
        else:
            key.verify(certificate.signature, certificate.tbs_certificate_bytes)
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError, AttributeError):
        return False
    return True


def is_trusted(chain, trusted, at):
    """Whether the first of ``chain`` leads to one of ``trusted``, by way of the others."""
    one, others = chain[0], list(chain[1:])
    while True:
        if any(one == root or issued_by(one, root) for root in trusted if not_before(root) <= at <= not_after(root)):
            return True
        above = next((other for other in others if issued_by(one, other) and not_before(other) <= at <= not_after(other)), None)
        if above is None:
            return False
        others.remove(above)
        one = above


def is_for(certificate, address):
    names = _extension(certificate, x509.SubjectAlternativeName)
    if names is None:
        return False
    try:
        return ipaddress.ip_address(address) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        return address.lower() in [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def same_key(certificate, key):
    def public(which):
        return which.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    return public(certificate.public_key()) == public(key.public_key())


def validity_problem(certificate, at):
    """Empty, or why ``certificate`` is not valid now and what to do."""
    if at < not_before(certificate):
        return f"it is valid only from {_moment(not_before(certificate))} on; correct the clock of the controller, or that of the authority"
    if at > not_after(certificate):
        return f"it has expired on {_moment(not_after(certificate))}; issue another one"
    return ""


def _moment(when):
    return when.strftime("%Y-%m-%d %H:%M UTC")


def host_problems(chain, key, address, trusted, at):
    """Everything for which Dragonfly would refuse the certificate of a host, each with its remedy."""
    certificate = chain[0]
    found = [validity_problem(certificate, at)]
    if not same_key(certificate, key):
        found.append("its key is that of another certificate; give the two that were made together")
    if is_authority(certificate):
        found.append("it is that of an authority; give that of the host first in its file")
    elif not is_trusted(chain, trusted, at):
        found.append("none of the trusted authorities issued it; give the authority's own certificate, or have that issue it")
    if not is_for(certificate, address):
        kind = "IP" if re.fullmatch(r"[0-9.]+|.*:.*", address) else "DNS"
        found.append(f"it is not for {address}; issue it with the subjectAltName {kind}:{address}")
    usage = _extension(certificate, x509.ExtendedKeyUsage)
    needed = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    if usage is not None and not needed <= set(usage):
        found.append(
            "its extendedKeyUsage lets it be only one of server and client, and a peer is both; issue it with serverAuth and clientAuth"
        )
    return [problem for problem in found if problem]


def read_trusted(path, at):
    """The certificates of authorities in the file ``path``. Raises ModelFleetError for one that nobody should trust."""
    found = certificates_of(read_pem(path), path)
    for one in found:
        problem = validity_problem(one, at) or ("" if is_authority(one) else "it is not that of an authority; give the CA's own")
        if problem:
            raise ModelFleetError(f"Refused the certificate of {subject_of(one)} in {path}: {problem.rstrip('.')}.")
    return found


# Issuing


def new_authority(name, days, at):
    """A key and its certificate, by which it issues others."""
    key = ec.generate_private_key(ec.SECP256R1())
    # Two authorities of a fleet must have two names: a certificate is looked for by that of its issuer.
    number = x509.random_serial_number()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} {number:040x}"[:64])])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(subject, subject, key, number, at - _BACK, at + days * _DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def new_host(name, address, days, authority, authority_key, at):
    """A key and its certificate for the host ``name`` at ``address``. It ends no later than what it is issued by."""
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        names = [x509.IPAddress(ipaddress.ip_address(address))]
    except ValueError:
        names = [x509.DNSName(address)]
    # As much of it as there may be; who it is says the address.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name.encode()[:64].decode(errors="ignore"))])
    begin = max(at - _BACK, not_before(authority))
    certificate = (
        _builder(subject, authority.subject, key, x509.random_serial_number(), begin, host_end(days, authority, at))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        .sign(authority_key, None if isinstance(authority_key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    return certificate, key


def host_end(days, authority, at):
    return min(at + days * _DAY, not_after(authority))


def _builder(subject, issuer, key, number, begin, end):
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(number)
        .not_valid_before(begin)
        .not_valid_after(end)
    )
