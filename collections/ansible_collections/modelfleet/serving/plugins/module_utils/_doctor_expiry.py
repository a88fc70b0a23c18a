# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When keys and certificates expire. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import calendar
import re
import socket
import ssl
import time

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._reach import split_address
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json

_TIMES = {0x17: 12, 0x18: 14}  # UTCTime and GeneralizedTime, with how many digits they have


def keys_expire(path):
    """When the first of TorchServe's keys in the file ``path`` expires (epoch); None where none does, or there is no such file."""
    try:
        keys = from_json(read_text(path) or "{}")
        stamps = [key["expiration time"] for key in keys.values() if "expiration time" in key]
        return min((_epoch_of(stamp) for stamp in stamps), default=None)
    except (ModelFleetError, ValueError, TypeError, AttributeError):
        return None  # TorchServe writes it a moment after its start


def _epoch_of(stamp):
    return calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))


def certificate_expires(address, name, timeout_s):
    """When the certificate that the server ``name`` shows at ``address`` expires (epoch); raises OSError where there is none.

    Whether anybody trusts it is not asked.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host, port = split_address(address)
    with socket.create_connection((host, port), timeout=timeout_s) as plain, context.wrap_socket(plain, server_hostname=name) as secure:
        return not_after(secure.getpeercert(binary_form=True))


def file_expires(path):
    """When the first certificate in the file ``path`` expires (epoch); None where there is none in it, or no such file."""
    try:
        found = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", read_text(path) or "", re.DOTALL)
        ends = [not_after(ssl.PEM_cert_to_DER_cert(one)) for one in found]
    except (ModelFleetError, ValueError):
        return None
    return min((end for end in ends if end is not None), default=None)


def not_after(certificate):
    """The end of the validity of a certificate (bytes, DER) as epoch; None for what is none.

    Python shows the fields of a certificate only if it trusts it, which here is not what is asked.
    """
    try:
        fields = list(_elements(next(_elements(next(_elements(certificate))[1]))[1]))
        # Behind the version, which may be missing: serial number, algorithm, issuer, validity.
        validity = fields[4 if fields[0][0] == 0xA0 else 3][1]
        kind, stamp = list(_elements(validity))[1]
        digits = re.match(rf"\d{{{_TIMES[kind]}}}", stamp.decode()).group()
        # Two digits of a year are those of 1950 to 2049.
        year = digits if len(digits) == 14 else ("19" if digits >= "5" else "20") + digits
        return calendar.timegm(time.strptime(year, "%Y%m%d%H%M%S"))
    except (IndexError, KeyError, StopIteration, AttributeError, ValueError):
        return None


def _elements(data):
    """The tag and content of each element of DER."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, at = int.from_bytes(data[at : at + count], "big"), at + count
        yield tag, data[at : at + length]
        at += length
