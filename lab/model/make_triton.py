#!/usr/bin/env python3
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a model for Triton's Python backend, of which every answer is known beforehand: value[i] = table[index[i]] + offset.

The table is pseudo-random bytes from a fixed seed, so that it does not compress; versions with other offsets have it in common.

Run: make_triton.py DIRECTORY [--offset OFFSET] [--size-mib MIB] [--fault load]
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

MIB = 1024 * 1024
INDEX = [0, 1, 4096, 65535]

CONFIG = """backend: "python"
max_batch_size: 0
input [{ name: "index", data_type: TYPE_INT32, dims: [ -1 ] }]
output [{ name: "value", data_type: TYPE_INT32, dims: [ -1 ] }]
instance_group [{ kind: KIND_CPU }]
parameters { key: "offset" value { string_value: "OFFSET" } }
"""

MODEL = '''"""value[i] = table[index[i]] + offset."""

import json
import os

import numpy
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        self.offset = int(json.loads(args["model_config"])["parameters"]["offset"]["string_value"])
        path = os.path.join(args["model_repository"], args["model_version"], "table.bin")
        self.table = numpy.memmap(path, dtype=numpy.uint8, mode="r")

    def execute(self, requests):
        return [triton.InferenceResponse([triton.Tensor("value", self.value(request))]) for request in requests]

    def value(self, request):
        index = triton.get_input_tensor_by_name(request, "index").as_numpy()
        return self.table[index].astype(numpy.int32) + numpy.int32(self.offset)
'''
INITIALIZE = "def initialize(self, args):\n"
FAULTS = {"load": MODEL.replace(INITIALIZE, INITIALIZE + '        raise RuntimeError("this version does not load")\n')}


def make(directory, offset=0, size_mib=8, fault=None):
    """Make the model in ``directory`` (Path); returns (the request, the outputs) of its known answer."""
    table = random.Random(14).randbytes(size_mib * MIB)
    (directory / "1").mkdir(parents=True, exist_ok=True)
    (directory / "config.pbtxt").write_text(CONFIG.replace("OFFSET", str(offset)), encoding="utf-8")
    (directory / "1/model.py").write_text(FAULTS[fault] if fault else MODEL, encoding="utf-8")
    (directory / "1/table.bin").write_bytes(table)
    shape = [len(INDEX)]
    request = {"inputs": [{"name": "index", "shape": shape, "datatype": "INT32", "data": INDEX}]}
    outputs = [{"name": "value", "datatype": "INT32", "shape": shape, "data": [table[index] + offset for index in INDEX]}]
    return request, outputs


def main():
    parser = argparse.ArgumentParser(description="Make a model for Triton's Python backend; its request and answer lie beside it.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--size-mib", type=int, default=8)
    parser.add_argument("--fault", choices=sorted(FAULTS))
    arguments = parser.parse_args()
    known = make(arguments.directory, arguments.offset, arguments.size_mib, arguments.fault)
    for what, content in zip(("input", "outputs"), known, strict=True):
        path = arguments.directory.with_name(f"{arguments.directory.name}.{what}.json")
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
