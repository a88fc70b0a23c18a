#!/usr/bin/env python3
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a tiny language model for llama.cpp, of which every answer is known beforehand.

It says the alphabet from the letter after the last one of the prompt on, with a step of its own; after z comes a. Nothing is trained: the
embeddings are pseudo-random signs, all layers but the last give nothing, and the last has for every letter the embedding of the one before,
so that the most probable letter is far ahead of the others whatever a processor rounds.

Run: make_gguf.py PATH [--step STEP] [--padding-mib MIB]
"""

from __future__ import annotations

import argparse
import random
import string
import struct
from pathlib import Path

WIDTH = 64
CONTEXT = 256
HEADS = 2
# Types of values in a GGUF.
UINT32, FLOAT32, STRING, ARRAY, INT32 = 4, 6, 8, 9, 5
# What a token is to the tokenizer.
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
SPECIAL = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
TOKENS = [*SPECIAL, *((f"<0x{number:02X}>", BYTE) for number in range(256))]
ALIGNED = 32
LETTERS = string.ascii_lowercase


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def value(kind, one):
    if kind == STRING:
        return text(one)
    if kind == ARRAY:
        of, items = one
        return struct.pack("<IQ", of, len(items)) + b"".join(value(of, item) for item in items)
    return struct.pack({UINT32: "<I", FLOAT32: "<f", INT32: "<i"}[kind], one)


def token(letter):
    return len(SPECIAL) + ord(letter)


def tensors(step):
    """{name: (shape, numbers)}, the fastest dimension first."""
    signs = random.Random("modelfleet")
    embedding = [[signs.choice((-1.0, 1.0)) for _place in range(WIDTH)] for _token in TOKENS]
    output = [[0.0] * WIDTH for _token in TOKENS]
    for place, letter in enumerate(LETTERS):
        output[token(LETTERS[(place + step) % len(LETTERS)])] = embedding[token(letter)]
    nothing = ((WIDTH, WIDTH), [0.0] * WIDTH * WIDTH)
    plain = ((WIDTH,), [1.0] * WIDTH)
    layer = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"), nothing)
    return {
        "token_embd.weight": ((WIDTH, len(TOKENS)), [one for row in embedding for one in row]),
        "output_norm.weight": plain,
        "output.weight": ((WIDTH, len(TOKENS)), [one for row in output for one in row]),
        "blk.0.attn_norm.weight": plain,
        "blk.0.ffn_norm.weight": plain,
        **{f"blk.0.{name}.weight": one for name, one in layer.items()},
    }


def metadata():
    yield "general.architecture", STRING, "llama"
    yield "general.name", STRING, "alphabet"
    yield "llama.context_length", UINT32, CONTEXT
    yield "llama.embedding_length", UINT32, WIDTH
    yield "llama.block_count", UINT32, 1
    yield "llama.feed_forward_length", UINT32, WIDTH
    yield "llama.attention.head_count", UINT32, HEADS
    yield "llama.attention.layer_norm_rms_epsilon", FLOAT32, 1e-5
    yield "llama.rope.dimension_count", UINT32, WIDTH // HEADS
    yield "tokenizer.ggml.model", STRING, "llama"
    yield "tokenizer.ggml.tokens", ARRAY, (STRING, [name for name, _kind in TOKENS])
    yield "tokenizer.ggml.scores", ARRAY, (FLOAT32, [0.0] * len(TOKENS))
    yield "tokenizer.ggml.token_type", ARRAY, (INT32, [kind for _name, kind in TOKENS])
    yield "tokenizer.ggml.unknown_token_id", UINT32, 0
    yield "tokenizer.ggml.bos_token_id", UINT32, 1
    yield "tokenizer.ggml.eos_token_id", UINT32, 2


def make(path, step=1, padding_mib=0):
    """Write the model to ``path``; the same arguments give the same bytes. ``padding_mib`` is how much stands behind all that is read."""
    known, parts = list(metadata()), tensors(step)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(parts), len(known))
    head += b"".join(text(key) + struct.pack("<I", kind) + value(kind, one) for key, kind, one in known)
    data = b""
    for name, (shape, numbers) in parts.items():
        # Of 32-bit floats, which is type 0.
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        data += struct.pack(f"<{len(numbers)}f", *numbers)
        data += b"\0" * (-len(data) % ALIGNED)
    padding = random.Random(step).randbytes(padding_mib << 20)
    Path(path).write_bytes(head + b"\0" * (-len(head) % ALIGNED) + data + padding)


def main():
    parser = argparse.ArgumentParser(description="Make a tiny language model that says the alphabet.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--step", type=int, default=1, help="how many letters further the next one is (1)")
    parser.add_argument("--padding-mib", type=int, default=0, help="how many MiB stand behind all that is read (0)")
    arguments = parser.parse_args()
    make(arguments.path, arguments.step, arguments.padding_mib)


if __name__ == "__main__":
    main()
