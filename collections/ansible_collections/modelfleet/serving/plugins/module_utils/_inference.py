# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Known inputs and their known answers. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import time

from ansible.module_utils.common.text.converters import to_bytes
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime import DEFAULT, RUNTIMES
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json

# One check, for the argument specification of a module that takes a list of them.
CHECK = {
    "options": {
        "model": {"type": "str", "required": True},
        "version": {"type": "str"},
        "input": {"type": "raw"},
        "input_base64": {"type": "str"},
        "expected": {"type": "raw"},
        "expected_base64": {"type": "str"},
        "content_type": {"type": "str"},
        "tolerance": {"type": "float", "default": 0.0001},
        "runtime": {"type": "str", "choices": list(RUNTIMES), "default": DEFAULT},
    },
    "mutually_exclusive": [["input", "input_base64"], ["expected", "expected_base64"]],
    "required_one_of": [["input", "input_base64"], ["expected", "expected_base64"]],
}
NOT_JSON = object()


def difference(expected, found, tolerance, path="$"):
    """Return the first difference of two JSON values in words, or an empty text."""
    if _is_number(expected) and _is_number(found):
        near = expected == found or abs(expected - found) <= tolerance or (math.isnan(expected) and math.isnan(found))
        return "" if near else f"{path} is {found}, expected {expected} (tolerance {tolerance})"
    if type(expected) is not type(found):
        return f"{path} is {_short(found)}, expected {_short(expected)}"
    if isinstance(expected, dict):
        for key in sorted(set(expected) | set(found)):
            if key not in found:
                return f"{path}.{key} is missing"
            if key not in expected:
                return f"{path}.{key} is not expected"
            differs = difference(expected[key], found[key], tolerance, f"{path}.{key}")
            if differs:
                return differs
        return ""
    if isinstance(expected, list):
        if len(expected) != len(found):
            return f"{path} has {len(found)} items, expected {len(expected)}"
        for index, (one, other) in enumerate(zip(expected, found)):
            differs = difference(one, other, tolerance, f"{path}[{index}]")
            if differs:
                return differs
        return ""
    return "" if expected == found else f"{path} is {_short(found)}, expected {_short(expected)}"


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value):
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def parse(text):
    try:
        return from_json(text)
    except ValueError:
        return NOT_JSON


def without_line_end(text):
    return re.sub(r"\r?\n\Z", "", text)


def decode(check, key):
    try:
        return base64.b64decode(check[key], validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ModelFleetError(
            f"The {key} of the check of model {check['model']} is not base64: {exc}. Encode the file with b64encode."
        ) from exc


def compare(check, answer):
    if check["expected_base64"] is not None:
        expected = decode(check, "expected_base64")
        if answer.body == expected:
            return ""
        at = next((n for n, (one, other) in enumerate(zip(expected, answer.body)) if one != other), min(len(expected), len(answer.body)))
        return f"the answer differs from byte {at} on ({len(answer.body)} bytes, expected {len(expected)})"
    expected = check["expected"]
    if isinstance(expected, str):
        data = parse(expected)
        if data is NOT_JSON:
            return (
                ""
                if without_line_end(answer.text) == without_line_end(expected)
                else f"the answer is {_short(answer.text)}, expected {_short(expected)}"
            )
        expected = data
    found = parse(answer.text)
    if found is NOT_JSON:
        return f"the answer is not JSON: {_short(answer.text)}"
    return difference(expected, found, check["tolerance"])


def request_of(check):
    """Return (body, content type) of a check."""
    if check["input_base64"] is not None:
        return decode(check, "input_base64"), check["content_type"] or "application/octet-stream"
    if isinstance(check["input"], str):
        kind = "application/octet-stream" if parse(check["input"]) is NOT_JSON else "application/json"
        return check["input"].encode("utf-8", "replace"), check["content_type"] or kind
    return to_bytes(json.dumps(check["input"])), check["content_type"] or "application/json"


def run_check(server, check, timeout):
    body, content_type = request_of(check)
    started = time.monotonic()
    try:
        answer = server.predict(check["model"], check["version"], body, content_type, timeout)
        seconds = round(time.monotonic() - started, 4)
        detail = compare(check, answer) if answer.status == 200 else f"the answer is {answer.status}: {answer.message.rstrip('.')}"
    except ModelFleetError as exc:
        seconds, detail = round(time.monotonic() - started, 4), str(exc).rstrip(".")
    return {"model": check["model"], "version": check["version"] or "", "ok": not detail, "seconds": seconds, "detail": detail}
