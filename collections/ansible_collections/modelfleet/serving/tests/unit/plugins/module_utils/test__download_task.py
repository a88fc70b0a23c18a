# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _download_task

HEAD = "HTTP/2 200 \r\ncontent-type: application/grpc\r\ndate: Fri, 27 Nov 2026 02:54:44 GMT\r\n"


def test_request_as_protobuf_has_it():
    sent = _download_task.request("http://o/x", {"X-Key": "k"}, "/out", "t", 4 << 20, back_to_source=False)
    download = (
        b"\x0a\x0ahttp://o/x"
        b"\x38\x06"
        b"\x4a\x0a\x0a\x05X-Key\x12\x01k"
        b"\x50\x80\x80\x80\x02"
        b"\x5a\x04/out"
        b"\x62\x03\x08\xa0\x38"
        b"\x68\x01"
        b"\xb0\x01\x01"
        b"\xba\x01\x01t"
    )
    message = b"\x0a" + bytes([len(download)]) + download
    assert sent == b"\0" + len(message).to_bytes(4, "big") + message


def test_long_values_have_long_lengths():
    url = "http://o/" + "ä" * 200
    sent = _download_task.request(url, {}, "/out", "t", None, back_to_source=True)
    assert b"\x0a" + bytes([409 & 0x7F | 0x80, 409 >> 7]) + url.encode() in sent
    assert b"\x50" not in sent.partition(url.encode())[2], "dfdaemon chooses the length of a piece"


def test_answer_that_is_well():
    assert _download_task.answer(HEAD + "\r\ngrpc-status: 0\r\n") == _download_task.Answer(0, "", 0)


@pytest.mark.parametrize("message", ["404", "404 ", "404 Not", "404 Not Found"])
def test_answer_of_the_origin(message):
    """With base64 of each length: gRPC leaves its padding out."""
    details = base64.b64encode(json.dumps({"message": message, "header": {}, "status_code": 404}).encode()).decode().rstrip("=")
    trailers = f"grpc-status: 13\r\ngrpc-message: backend%20error:%20404\r\ngrpc-status-details-bin: {details}\r\n"
    assert _download_task.answer(HEAD + trailers) == _download_task.Answer(13, message, 404)


def test_answer_of_dfdaemon_itself():
    said = "No%20such%20file%20or%20directory%20(os%20error%202)"
    assert _download_task.answer(f"{HEAD}grpc-status: 13\r\ngrpc-message: {said}\r\n\r\n") == _download_task.Answer(
        13, "No such file or directory (os error 2)", 0
    )


@pytest.mark.parametrize(
    "printed",
    [
        "",
        HEAD,
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "grpc-status: x\r\n",
        "grpc-status: -1\r\n",
        "grpc-status: ٣\r\n",
        "grpc-status: 99999\r\n",
    ],
)
def test_what_is_no_answer_of_dfdaemon(printed):
    assert _download_task.answer(printed).status is None


NESTED = base64.b64encode(b"[" * 99_999).decode()


@pytest.mark.parametrize("details", ["!", "bnVsbA", "W10", "eyJzdGF0dXNfY29kZSI6ICJ4In0", "ä", NESTED], ids=range(6))
def test_details_that_are_none(details):
    found = _download_task.answer(f"{HEAD}grpc-status: 2\r\ngrpc-message: x\r\ngrpc-status-details-bin: {details}\r\n")
    assert found == _download_task.Answer(2, "x", 0)
