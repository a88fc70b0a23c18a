# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A handler for a package of AOTInductor (*.pt2), which needs no compiler on the host. Copy it into the archive beside the package.

A request is JSON, {"inputs": [tensor, ...]} with each tensor as nested lists, and its answer {"outputs": [tensor, ...]}. For another model,
extend AotHandler and have ``to_tensors`` and ``to_answer`` do otherwise; TorchServe takes the one class in a file that has ``handle``.
"""

from __future__ import annotations

import glob
import json
import os
import zipfile

import torch


class AotHandler:
    def initialize(self, context):
        directory, gpu = context.system_properties["model_dir"], context.system_properties.get("gpu_id")
        packages = glob.glob(os.path.join(directory, "*.pt2"))
        if len(packages) != 1:
            raise RuntimeError(f"{directory} has {len(packages)} files *.pt2, not one; put the package into the archive.")
        self.device = torch.device(f"cuda:{gpu}" if torch.cuda.is_available() and gpu is not None else "cpu")
        problem = package_problem(packages[0], self.device.type)
        if problem:
            raise RuntimeError(f"{packages[0]} {problem}; compile one on a host like this.")
        if self.device.type == "cuda":
            # A package is loaded onto the current GPU, which is the first one unless somebody says otherwise.
            torch.cuda.set_device(self.device)
        # Not as torch._inductor.aoti_load_package: the submodule is imported by nobody else.
        from torch._inductor import aoti_load_package

        self.model = aoti_load_package(packages[0])

    def handle(self, data, context):
        with torch.inference_mode():
            return [self.to_answer(self.model(*self.to_tensors(row))) for row in data]

    def to_tensors(self, row):
        body = row.get("body", row.get("data"))
        body = json.loads(body) if isinstance(body, (bytes, bytearray, str)) else body
        return [torch.tensor(one, device=self.device) for one in body["inputs"]]

    def to_answer(self, found):
        found = found if isinstance(found, (list, tuple)) else [found]
        return {"outputs": [one.cpu().tolist() for one in found]}


def package_problem(path, device):
    """What keeps the package from giving right answers here, in words; None for nothing. It says what it was compiled for itself."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("metadata.json")]
        said = {}
        for name in names:
            said.update(json.loads(archive.read(name)))
    kind = said.get("AOTI_DEVICE_KEY")
    if kind and kind != device:
        return f"was compiled for {kind}, and this worker is on {device}"
    # AVX512 VNNI and the like are AVX512 to torch.
    isa, here = said.get("AOTI_CPU_ISA", "").split(" ")[0].split("_")[0], torch.backends.cpu.get_cpu_capability().split(" ")[0]
    if isa and isa != here:
        return f"was compiled for {isa}, and this processor is {here} to torch"
    return None
