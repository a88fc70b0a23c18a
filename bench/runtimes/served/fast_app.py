# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control: nothing but HTTP around the model. A worker has one request in work, as the workers of the servers have."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI, Request
from model import Model

app = FastAPI()
model = Model("/cache/model")
thread = ThreadPoolExecutor(1)


@app.post("/predict")
async def predict(request: Request) -> dict:
    content = await request.body()
    (answer,) = await asyncio.get_running_loop().run_in_executor(thread, model.answer, [content])
    return answer
