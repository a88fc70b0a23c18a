# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRC-32C (Castagnoli) of a file with the standard library alone, about 50 MB/s.

A block is cut into many lanes whose checksums advance together, a byte of each at a time: one table lookup of all of them is one
bytes.translate(), one exclusive or is one of two long integers. A state is four strings, of the lowest to the highest byte of every lane.
"""

from __future__ import annotations

from pathlib import Path

POLYNOMIAL = 0x82F63B78  # reflected
LANES = 4096
LANE = 512  # bytes
BLOCK = LANES * LANE
SMALL = 256 * 1024  # below this, byte by byte is as quick


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


TABLE = _table()
PLANES = [bytes(value >> 8 * plane & 0xFF for value in TABLE) for plane in range(4)]


def _advance(crc: int, data: bytes) -> int:
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc


def _skip(crc: int) -> int:
    """The state after a lane of zero bytes."""
    return SKIP[0][crc & 0xFF] ^ SKIP[1][crc >> 8 & 0xFF] ^ SKIP[2][crc >> 16 & 0xFF] ^ SKIP[3][crc >> 24]


SKIP = [[_advance(value << 8 * plane, bytes(LANE)) for value in range(256)] for plane in range(4)]


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "little") ^ int.from_bytes(other, "little")).to_bytes(len(one), "little")


def _block(crc: int, block: bytes) -> int:
    """Advance over exactly one block."""
    planes = [bytes(LANES)] * 4
    for column in range(LANE):
        index = _xor(planes[0], block[column::LANE])
        planes = [*(_xor(planes[n + 1], index.translate(PLANES[n])) for n in range(3)), index.translate(PLANES[3])]
    for lane in zip(*planes):
        crc = _skip(crc) ^ int.from_bytes(bytes(lane), "little")
    return crc


def crc32c(path: Path) -> int:
    head = path.stat().st_size % BLOCK
    with path.open("rb") as stream:
        first = stream.read(head)
        if head < SMALL:
            crc = _advance(0xFFFFFFFF, first)
        else:
            # A start value of all ones is the inverse of the first four bytes, and zeros before them change nothing.
            inverted = bytes(byte ^ 0xFF for byte in first[:4]) + first[4:]
            crc = _block(0, inverted.rjust(BLOCK, b"\0"))
        while block := stream.read(BLOCK):
            crc = _block(crc, block)
    return crc ^ 0xFFFFFFFF
