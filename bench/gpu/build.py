"""Make the archives of one kind: build.py plain|cuda|cpu DIRECTORY (run from the repository root)."""
import json
import sys
import zipfile
from pathlib import Path

import torch
import torch._inductor

HERE, WHAT, OUT = Path(__file__).parent, sys.argv[1], Path(sys.argv[2])
sys.path.insert(0, str(HERE.parent / "lab/model"))
sys.path.insert(0, str(HERE))
from gpu_net import make  # noqa: E402
from make_model import entry  # noqa: E402

SOURCE = (HERE / "gpu_handler.py").read_text()
AOT = HERE.parent / "collections/ansible_collections/modelfleet/serving/roles/torchserve/files/aot_handler.py"
X = [[((7 * i + 3 * j) % 11 - 5) / 10 for j in range(64)] for i in range(64)]
OFFSETS = {"neta": 117.0, "netb": 31.0}


def net(offset):
    return make(offset)


def mar(name, handler, files=(), config=None):
    model = {"modelName": name, "handler": handler[0], "modelVersion": "1.0"}
    if config:
        model["configFile"] = "model-config.yaml"
    manifest = {"createdOn": "01/01/2026 00:00:00", "runtime": "python", "model": model, "archiverVersion": "0.12.0"}
    with zipfile.ZipFile(OUT / f"{name}-1.0.mar", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(entry("MAR-INF/MANIFEST.json"), json.dumps(manifest))
        archive.writestr(entry(handler[0]), handler[1])
        if config:
            archive.writestr(entry("model-config.yaml"), config)
        for path in files:
            archive.writestr(entry(Path(path).name), Path(path).read_bytes())


def known(name, request, answer):
    (OUT / f"{name}-1.0.input.json").write_text(json.dumps(request))
    (OUT / f"{name}-1.0.expected.json").write_text(json.dumps(answer))


def plain(device):
    for name, offset in OFFSETS.items():
        with torch.no_grad():
            y = net(offset)(torch.tensor(X)).tolist()
        mar(name, ("handler.py", SOURCE.replace("OFFSET", repr(offset))), [HERE / "gpu_net.py"])
        known(name, {"x": X}, {"y": y, "on": device})
        print(name, y[:4], flush=True)


def aot(kind):
    module, x = net(5.0).to(kind), torch.tensor(X, device=kind)
    with torch.no_grad():
        expected = net(5.0)(torch.tensor(X)).tolist()
        path = torch._inductor.aoti_compile_and_package(torch.export.export(module, (x,)), package_path=str(OUT / f"net_{kind}.pt2"))
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("metadata.json"):
                print("METADATA", kind, name, archive.read(name).decode(), flush=True)
        print("MEMBERS", kind, archive.namelist(), flush=True)
    handler = ("aot_handler.py", AOT.read_text())
    names = {"cuda": [("aotgpu", None), ("aotoncpu", "deviceType: cpu\n")], "cpu": [("aotwrong", None), ("aotcpu", "deviceType: cpu\n")]}[kind]
    for name, config in names:
        mar(name, handler, [path], config)
        known(name, {"inputs": [X]}, {"outputs": [expected]})


if WHAT == "plain":
    plain(sys.argv[3])
else:
    aot(WHAT)
