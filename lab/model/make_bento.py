#!/usr/bin/env python3
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a built bento as `bentoml export` leaves one, of which every answer is known beforehand, without BentoML.

It moves each letter of a text by a step of its own along the alphabet; after z comes a. The step is in the model that the bento has in it.
The route `answer` does that, and `slow` after the seconds that it is told. The same arguments give the same bytes.

Run: make_bento.py DIRECTORY [--version VERSION] [--step STEP] [--padding-mib MIB]
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

BENTOML = "1.4.39"
TIME = "'2026-01-01T00:00:00+00:00'"
SERVICE = """\
from __future__ import annotations

import asyncio
import json

import bentoml


@bentoml.service(workers=1)
class Moved:
    model = bentoml.models.BentoModel("moved:{version}")

    def __init__(self) -> None:
        with open(self.model.path_of("step.json"), encoding="utf-8") as handle:
            self.step = json.load(handle)["step"]

    def moved(self, text: str) -> str:
        return "".join(chr((ord(one) - 97 + self.step) % 26 + 97) for one in text)

    @bentoml.api
    def answer(self, text: str) -> str:
        return self.moved(text)

    @bentoml.api
    async def slow(self, text: str, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return self.moved(text)
"""
BENTO = f"""\
service: service:Moved
name: moved
version: '{{version}}'
bentoml_version: {BENTOML}
creation_time: {TIME}
labels: {{{{}}}}
models: []
entry_service: Moved
services:
- name: Moved
  service: ''
  models:
  - tag: moved:{{version}}
    module: ''
    creation_time: {TIME}
  dependencies: []
  config:
    workers: 1
envs: []
args: {{{{}}}}
spec: 2
"""
MODEL = f"""\
name: moved
version: '{{version}}'
module: ''
labels: {{{{}}}}
options: {{{{}}}}
metadata: {{{{}}}}
context:
  framework_name: ''
  framework_versions: {{{{}}}}
  bentoml_version: {BENTOML}
  python_version: 3.11.2
signatures: {{{{}}}}
api_version: v1
creation_time: {TIME}
"""


def make(directory, version, step, padding_mib=0):
    """Write the bento into ``directory``, which is made."""
    directory = Path(directory)
    model = directory / "models/moved" / version
    texts = {
        directory / "bento.yaml": BENTO.format(version=version),
        directory / "src/service.py": SERVICE.format(version=version),
        model / "model.yaml": MODEL.format(version=version),
        model / "step.json": json.dumps({"step": step}) + "\n",
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if padding_mib:
        (model / "weights").write_bytes(random.Random(step).randbytes(padding_mib << 20))


def main():
    parser = argparse.ArgumentParser(description="Make a built bento of which every answer is known beforehand.")
    parser.add_argument("directory")
    parser.add_argument("--version", default="1.0")
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--padding-mib", type=int, default=0)
    arguments = parser.parse_args()
    make(arguments.directory, arguments.version, arguments.step, arguments.padding_mib)


if __name__ == "__main__":
    main()
