# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model, the same for every server: from the bytes of PNG pictures to the five best classes of each."""

from __future__ import annotations

import io
from pathlib import Path

import numpy
import onnxruntime
from PIL import Image

SIDE = 96
MEAN = numpy.array([0.485, 0.456, 0.406], dtype=numpy.float32).reshape(3, 1, 1)
DEVIATION = numpy.array([0.229, 0.224, 0.225], dtype=numpy.float32).reshape(3, 1, 1)
BEST = 5


def preprocess(content: bytes) -> numpy.ndarray:
    picture = Image.open(io.BytesIO(content)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    channels = numpy.asarray(picture, dtype=numpy.float32).transpose(2, 0, 1) / numpy.float32(255)
    return (channels - MEAN) / DEVIATION


def postprocess(logits: numpy.ndarray) -> dict:
    best = numpy.argsort(-logits, kind="stable")[:BEST]
    shares = numpy.exp(logits - logits.max())
    return {"classes": best.tolist(), "scores": (shares[best] / shares.sum()).tolist()}


class Model:
    def __init__(self, directory):
        options = onnxruntime.SessionOptions()
        # A server has a worker for each core.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        path = str(Path(directory, "model.onnx"))
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def predict(self, batch: numpy.ndarray) -> numpy.ndarray:
        return self.session.run(["logits"], {"pictures": batch})[0]

    def answer(self, contents: list) -> list[dict]:
        return [postprocess(row) for row in self.predict(numpy.stack([preprocess(content) for content in contents]))]
