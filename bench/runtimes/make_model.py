#!/usr/bin/env python3
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the model, and pictures with its answers, in a directory: the same in every place.

It is a network without training, of 45 million multiplications.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import zipfile
from pathlib import Path

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

HERE = Path(__file__).resolve().parent
PICTURES = 8
WIDTH, HEIGHT = 200, 160
# (channels, stride) of the convolutions, each with a kernel of 3 by 3.
LAYERS = ((32, 2), (64, 2), (128, 2), (128, 1))
CLASSES = 1000


def network() -> onnx.ModelProto:
    """Random weights of a size that keeps the scale of what goes through."""
    random = numpy.random.default_rng(14)
    nodes, weights, before, name = [], [], 3, "pictures"

    def add(title, shape, inputs):
        values = random.standard_normal(shape) * numpy.sqrt(2 / inputs)
        weights.append(numpy_helper.from_array(values.astype(numpy.float32), title))

    for number, (channels, stride) in enumerate(LAYERS):
        add(f"weights{number}", (channels, before, 3, 3), before * 9)
        options = {"kernel_shape": [3, 3], "strides": [stride, stride], "pads": [1, 1, 1, 1]}
        nodes.append(helper.make_node("Conv", [name, f"weights{number}"], [f"sums{number}"], **options))
        nodes.append(helper.make_node("Relu", [f"sums{number}"], [f"layer{number}"]))
        before, name = channels, f"layer{number}"
    add("classes", (before, CLASSES), before / 8)
    nodes.append(helper.make_node("GlobalAveragePool", [name], ["means"]))
    nodes.append(helper.make_node("Flatten", ["means"], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "classes"], ["logits"]))
    inputs = [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["batch", 3, 96, 96])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])]
    graph = helper.make_graph(nodes, "bench", inputs, outputs, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made)
    return made


def picture(seed: int) -> bytes:
    """Coarse colours with some noise, so that a PNG of it is neither tiny nor as large as it can be."""
    random = numpy.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=numpy.uint8)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    noise = random.integers(0, 8, (HEIGHT, WIDTH, 3))
    noisy = numpy.clip(numpy.asarray(coarse).astype(int) + noise, 0, 255).astype(numpy.uint8)
    stream = io.BytesIO()
    Image.fromarray(noisy).save(stream, "PNG")
    return stream.getvalue()


def archive(path: Path, model: Path) -> None:
    manifest = {
        "createdOn": "01/01/2026 00:00:00",
        "runtime": "python",
        "archiverVersion": "0.12.0",
        "model": {"modelName": "bench", "modelVersion": "1.0", "handler": "torchserve_handler.py"},
    }
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        packed.write(model, "model.onnx")
        for name in ("torchserve_handler.py", "model.py"):
            packed.write(HERE / "served" / name, name)


def main() -> None:
    top = Path(sys.argv[1])
    top.mkdir(parents=True, exist_ok=True)
    onnx.save(network(), top / "model.onnx")
    archive(top / "bench.mar", top / "model.onnx")
    sys.path.insert(0, str(HERE / "served"))
    from model import Model

    model = Model(top)
    pictures = [picture(seed) for seed in range(PICTURES)]
    known = [{"picture": base64.b64encode(one).decode(), "answer": model.answer([one])[0]} for one in pictures]
    (top / "known.json").write_text(json.dumps(known))


if __name__ == "__main__":
    main()
