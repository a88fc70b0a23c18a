# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures by gpg. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import datetime
import re
import tempfile

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

_FINGERPRINT = re.compile(r"(?:[0-9A-F]{40}|[0-9A-F]{64})\Z")


def primary_fingerprints(listed):
    """The fingerprint of each primary key in the lines (list of str) of ``gpg --with-colons``: the first one that follows it is its own."""
    found = []
    waiting = False
    for line in listed:
        fields = line.split(":")
        if fields[0] in ("sec", "pub"):
            waiting = True
        elif fields[0] == "fpr" and waiting and len(fields) > 9:
            found.append(fields[9])
            waiting = False
    return found


def fingerprint(text):
    """A fingerprint as gpg prints it, whatever the case and the spaces in ``text`` (str). Raises ModelFleetError for a shorter key id."""
    whole = re.sub(r"\s", "", text).upper()
    if not _FINGERPRINT.match(whole):
        raise ModelFleetError(
            f"Refused the key {text!r}: it is no whole fingerprint, and a shorter id fits other keys as well. Take the 40 digits that "
            "gpg --list-keys prints."
        )
    return whole


def _gpg(module, *arguments, problem, remedy):
    """(status, output, errors) of gpg; with a ``problem`` (str), what fails is raised with it."""
    program = module.get_bin_path("gpg")
    if not program:
        raise ModelFleetError("Failed to find gpg on this machine. Install the package gnupg.")
    rc, out, err = module.run_command([program, "--batch", "--no-tty", *arguments])
    if rc and problem:
        said = " ".join(err.split()) or "gpg said nothing."
        raise ModelFleetError(f"{problem}: {said} {remedy}.")
    return rc, out, err


def signing_key(module, key):
    """The fingerprint (str) of the one secret key that ``key`` (str) names: nothing is signed by whichever of two comes first."""
    # gpg shows none while its agent is still coming up.
    for _turn in range(2):
        _rc, out, err = _gpg(module, "--with-colons", "--list-secret-keys", "--", key, problem=None, remedy=None)
        found = primary_fingerprints(out.splitlines())
        if found:
            break
    if len(found) != 1:
        raise ModelFleetError(
            f"Failed to sign with {key!r}: it names {len(found)} secret keys of gpg on this machine{_said(err)}. Give the fingerprint of "
            "one that gpg --list-secret-keys shows."
        )
    return found[0]


def _said(text):
    return f" ({' '.join(text.split())})" if text.strip() else ""


def public_key(module, key):
    """The public key (str, ASCII armour) of a fingerprint."""
    arguments = ("--armor", "--export-options", "export-minimal", "--export", key)
    return _gpg(module, *arguments, problem=f"Failed to read the public key {key}", remedy="Look at gpg --list-keys")[1]


def sign(module, key, path, signature, clear=False):
    """Sign the file ``path`` into the file ``signature``: beside it, or with ``clear`` around its text."""
    how = "--clear-sign" if clear else "--detach-sign"
    arguments = ("--yes", "--armor", "--digest-algo", "SHA256", "--local-user", key, "--output", signature, how, path)
    _gpg(
        module,
        *arguments,
        problem=f"Failed to sign {path} with the key {key}",
        remedy="See whether gpg --local-user can sign here without asking: an agent that has the passphrase, a key that has not expired",
    )


def signature_problem(module, signature, path, key, keys):
    """Why the file ``signature`` is no good signature of the file ``path`` by the primary key ``key`` (fingerprint), or None.

    ``keys`` are files with public keys. They need not be trusted: whoever's key it is, its fingerprint must be ``key``. gpg's own keys are
    neither read nor changed.
    """
    home = tempfile.mkdtemp(dir=module.tmpdir)
    own = ("--homedir", home, "--no-autostart")
    for file in keys:
        _gpg(
            module,
            *own,
            "--quiet",
            "--import",
            file,
            problem=f"Failed to read the public key in {file}",
            remedy="Export it with gpg --export",
        )
    _rc, out, err = _gpg(module, *own, "--status-fd", "1", "--verify", signature, path, problem=None, remedy=None)
    said = [line.split()[1:] for line in out.splitlines() if line.startswith("[GNUPG:] ")]
    words = {line[0]: line[1:] for line in said if line}
    valid = words.get("VALIDSIG", [])
    by = valid[-1] if valid else ""
    if "BADSIG" in words:
        return "it is not what was signed"
    if "NO_PUBKEY" in words or "ERRSIG" in words:
        return f"it was signed by a key that is not known here ({''.join([*words.get('NO_PUBKEY', []), *words.get('ERRSIG', [])][:1])})"
    if by and by != key:
        return f"it was signed by the key {by}, not by {key}"
    if "EXPKEYSIG" in words:
        expired = next((line[1] for line in said if line[0] == "KEYEXPIRED" and len(line) > 1), "")
        return f"the key {key} that signed it has expired{_day(expired)}"
    if "REVKEYSIG" in words:
        return f"the key {key} that signed it was revoked"
    if "EXPSIG" in words:
        return "the signature has expired"
    if "GOODSIG" in words and by == key:
        return None
    return f"gpg finds no signature in it ({' '.join(err.split())})"


def _day(seconds):
    try:
        return f" on {datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return ""
