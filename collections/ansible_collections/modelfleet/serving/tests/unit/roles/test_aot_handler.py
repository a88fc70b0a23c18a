# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The handler for packages of AOTInductor, without a torch."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
import zipfile
from contextlib import nullcontext
from pathlib import Path

import pytest

HANDLER = Path(__file__).parents[3] / "roles/torchserve/files/aot_handler.py"
AVX512 = {"AOTI_DEVICE_KEY": "cpu", "AOTI_MACHINE": "x86_64", "AOTI_CPU_ISA": "AVX512"}


class Tensor:
    def __init__(self, values):
        self.values = values

    def cpu(self):
        return self

    def tolist(self):
        return self.values


@pytest.fixture
def torch(monkeypatch):
    torch = types.ModuleType("torch")
    torch.isa = "AVX512"
    torch.backends = types.SimpleNamespace(cpu=types.SimpleNamespace(get_cpu_capability=lambda: torch.isa))
    torch.cuda = types.SimpleNamespace(is_available=lambda: False, current=0)
    torch.cuda.set_device = lambda device: setattr(torch.cuda, "current", device.index)
    torch.device = lambda name: types.SimpleNamespace(type=name.partition(":")[0], index=int(name.partition(":")[2] or 0))
    torch.tensor = lambda values, device: Tensor(values)
    torch.inference_mode = nullcontext
    inductor = types.ModuleType("torch._inductor")

    def load(path):
        torch.loaded_on = torch.cuda.current
        return lambda one: Tensor([2 * value for value in one.values])

    inductor.aoti_load_package = load
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._inductor", inductor)
    return torch


@pytest.fixture
def handler(torch):
    spec = importlib.util.spec_from_file_location("aot_handler", HANDLER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.AotHandler()


def package(directory, said, name="net.pt2"):
    with zipfile.ZipFile(directory / name, "w") as archive:
        archive.writestr("net/data/aotinductor/model/net_metadata.json", json.dumps(said))
    return types.SimpleNamespace(system_properties={"model_dir": str(directory), "gpu_id": None})


def test_answers_with_what_the_package_computes(handler, tmp_path):
    handler.initialize(package(tmp_path, AVX512))
    rows = [{"body": {"inputs": [[1, 2]]}}, {"body": b'{"inputs": [[3]]}'}]
    assert handler.handle(rows, None) == [{"outputs": [[2, 4]]}, {"outputs": [[6]]}]


@pytest.mark.parametrize(
    ("said", "isa", "words"),
    [
        (AVX512, "AVX2", "was compiled for AVX512, and this processor is AVX2 to torch; compile one on a host like this"),
        ({**AVX512, "AOTI_CPU_ISA": "AVX2"}, "AVX512", "was compiled for AVX2"),
        ({"AOTI_DEVICE_KEY": "cuda"}, "AVX512", "was compiled for cuda, and this worker is on cpu"),
    ],
)
def test_refuses_what_was_compiled_for_something_else(handler, torch, tmp_path, said, isa, words):
    torch.isa = isa
    with pytest.raises(RuntimeError, match=words):
        handler.initialize(package(tmp_path, said))


@pytest.mark.parametrize("said", [AVX512, {**AVX512, "AOTI_CPU_ISA": "AVX512 AMX_TILE"}, {**AVX512, "AOTI_CPU_ISA": "AVX512_VNNI"}, {}])
def test_takes_what_was_compiled_for_this(handler, tmp_path, said):
    handler.initialize(package(tmp_path, said))
    assert handler.handle([{"body": {"inputs": [[1]]}}], None) == [{"outputs": [[2]]}]


def test_loads_onto_the_gpu_that_the_worker_was_given(handler, torch, tmp_path):
    torch.cuda.is_available = lambda: True
    context = package(tmp_path, {"AOTI_DEVICE_KEY": "cuda"})
    context.system_properties["gpu_id"] = 3
    handler.initialize(context)
    assert torch.loaded_on == 3


def test_an_archive_has_one_package(handler, tmp_path):
    package(tmp_path, AVX512, "other.pt2")
    with pytest.raises(RuntimeError, match="has 2 files"):
        handler.initialize(package(tmp_path, AVX512))
