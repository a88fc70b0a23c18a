#!/usr/bin/env python3
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a TorchServe archive whose handler uses torch.compile, and of which every answer is known beforehand, without torch.

Its answer is max(0, 2 x + offset) of each number x. The offset stands in the code, so that models of two offsets compile to two libraries
which can take each other's place. The same arguments give the same bytes.

Run: make_compiled.py NAME OFFSET --out DIRECTORY, which gets NAME-1.0.mar, NAME-1.0.input.json and NAME-1.0.expected.json
"""

from __future__ import annotations

import argparse
import json
import zipfile
from pathlib import Path

from make_model import entry

VERSION = "1.0"
# Whole numbers that a double holds exactly, whatever the instructions; as many as any vector has lanes, and a rest.
NUMBERS = [float(number) for number in range(-500, 503)]
HANDLER = """\
import json

import torch


def changed(numbers):
    return torch.relu(numbers * 2.0 + OFFSET)


class Handler:
    def initialize(self, context):
        self.changed = torch.compile(changed)

    def handle(self, data, context):
        return [self.answer(row.get("body") or row.get("data")) for row in data]

    def answer(self, body):
        request = json.loads(body) if isinstance(body, (bytes, bytearray, str)) else body
        return {"y": self.changed(torch.tensor(request["x"], dtype=torch.float64)).tolist()}
"""


def expected(numbers, offset):
    """The handler's answer in plain Python."""
    return {"y": [max(0.0, 2.0 * number + offset) for number in numbers]}


def make(directory, name, offset):
    """Write the archive, what it is asked and what it answers; return the path of the archive."""
    base = Path(directory) / f"{name}-{VERSION}"
    archive = base.with_name(base.name + ".mar")
    manifest = {
        "createdOn": "01/01/2026 00:00:00",
        "runtime": "python",
        "model": {"modelName": name, "handler": "handler.py", "modelVersion": VERSION},
        "archiverVersion": "0.12.0",
    }
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        file.writestr(entry("MAR-INF/MANIFEST.json"), json.dumps(manifest, indent=2) + "\n")
        file.writestr(entry("handler.py"), HANDLER.replace("OFFSET", repr(float(offset))))
    base.with_name(base.name + ".input.json").write_text(json.dumps({"x": NUMBERS}) + "\n", encoding="utf-8")
    base.with_name(base.name + ".expected.json").write_text(json.dumps(expected(NUMBERS, offset)) + "\n", encoding="utf-8")
    return archive


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("offset", type=int)
    parser.add_argument("--out", type=Path, required=True, help="directory, which is made")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print(make(args.out, args.name, args.offset))


if __name__ == "__main__":
    main()
