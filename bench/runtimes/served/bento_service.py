# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""BentoML's service. It takes a picture as the body of a request, or, where BATCH is more than one, makes batches of pictures of forms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType
from model import Model

BATCH = int(os.environ["BATCH"])
WORKERS = int(os.environ["WORKERS"])
# What a batch may take before requests are refused. How long one waits is not a setting: BentoML finds that out.
LATENCY_MS = 10_000

if BATCH == 1:

    @bentoml.service(workers=WORKERS, traffic={"timeout": 60})
    class Service:
        def __init__(self):
            self.model = Model("/cache/model")

        @bentoml.api
        def predict(self, picture: Annotated[Path, ContentType("image/png")], /) -> dict:
            return self.model.answer([picture.read_bytes()])[0]

else:

    @bentoml.service(workers=WORKERS, traffic={"timeout": 60})
    class Service:
        def __init__(self):
            self.model = Model("/cache/model")

        @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=LATENCY_MS)
        def predict(self, pictures: list[Path]) -> list[dict]:
            return self.model.answer([picture.read_bytes() for picture in pictures])
