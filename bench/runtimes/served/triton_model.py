# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For Triton's Python backend, whose stub has no PYTHONPATH."""

from __future__ import annotations

import sys

import numpy
import triton_python_backend_utils as triton

sys.path.insert(0, "/bench/served")

from model import Model


class TritonPythonModel:
    def initialize(self, args):
        self.model = Model("/cache/model")

    def execute(self, requests):
        pictures = [triton.get_input_tensor_by_name(request, "picture").as_numpy().reshape(-1).tolist() for request in requests]
        answers = iter(self.model.answer([picture for those in pictures for picture in those]))
        return [self.response([next(answers) for _picture in those]) for those in pictures]

    def response(self, answers):
        classes = numpy.array([answer["classes"] for answer in answers], dtype=numpy.int32)
        scores = numpy.array([answer["scores"] for answer in answers], dtype=numpy.float32)
        return triton.InferenceResponse([triton.Tensor("classes", classes), triton.Tensor("scores", scores)])
