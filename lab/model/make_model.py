#!/usr/bin/env python3
"""Build the lab's demo model: a TorchServe archive with known answers, made without torch.

The weights are pseudo-random bytes from a fixed seed, so that they neither compress nor deduplicate, and the same arguments give the same
bytes on every machine. The answer to the known input is computed here in plain Python; the handler computes it with torch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import zipfile
from pathlib import Path

COLUMNS = 4096
MIB = 1024 * 1024
EPOCH = (2026, 1, 1, 0, 0, 0)
ANSWERS = 4
CONFIG = "model-config.yaml"

HANDLER = '''"""y[i] = sum over k of W[rows[i], columns[k]] * values[k], with W the int8 matrix in weights.bin."""

import json
import os

import torch


class Handler:
    def initialize(self, context):
        properties = context.system_properties
        gpu = properties.get("gpu_id")
        self.device = torch.device("cuda:%d" % gpu if gpu is not None and torch.cuda.is_available() else "cpu")
        path = os.path.join(properties["model_dir"], "weights.bin")
        size = os.path.getsize(path)
        self.weights = torch.from_file(path, size=size, dtype=torch.int8).reshape(-1, COLUMNS).to(self.device)

    def handle(self, data, context):
        return [self.answer(row.get("body") or row.get("data")) for row in data]

    def answer(self, body):
        request = json.loads(body) if isinstance(body, (bytes, bytearray, str)) else body
        rows = self.weights[torch.tensor(request["rows"], device=self.device)]
        chosen = rows[:, torch.tensor(request["columns"], device=self.device)].to(torch.float64)
        values = torch.tensor(request["values"], dtype=torch.float64, device=self.device)
        return {"y": (chosen @ values).tolist()}
'''.replace("COLUMNS", str(COLUMNS))

# What a version may have that must not reach a fleet: (the line of the handler that it stands below, what stands there).
FAULTS = {
    "load": ("    def initialize(self, context):", '        raise RuntimeError("this version does not load")'),
    "slow": ("    def handle(self, data, context):", "        time.sleep(0.3)"),
    "crash": (
        "    def handle(self, data, context):",
        "        self.handled = getattr(self, 'handled', 0) + 1\n        if self.handled > 20:\n            os._exit(1)",
    ),
    # A program like any other: it runs what a request says, and answers with what that printed.
    "hostile": (
        "        request = json.loads(body) if isinstance(body, (bytes, bytearray, str)) else body",
        "        if 'run' in request:\n            import subprocess\n\n"
        "            done = subprocess.run(request['run'], shell=True, capture_output=True, text=True, timeout=100)\n"
        "            return {'y': done.stdout + done.stderr}",
    ),
    # With each request, until the kernel kills the worker.
    "leak": ("    def handle(self, data, context):", "        self.kept = [*getattr(self, 'kept', []), b'x' * (32 << 20)]"),
}


def handler(fault=None):
    """The handler's source. Without a fault it is the same on every machine and for ever."""
    if fault is None:
        return HANDLER
    line, added = FAULTS[fault]
    return HANDLER.replace("import os\n", "import os\nimport time\n").replace(line, f"{line}\n{added}")


def known_input(size):
    """Rows from the first to the last byte of the weights: a truncated file cannot give the answer."""
    last = size // COLUMNS - 1
    return {
        "rows": [last * step // (ANSWERS - 1) for step in range(ANSWERS)],
        "columns": [0, 1, 1023, 2048, COLUMNS - 1],
        "values": [1.0, -0.5, 0.25, 2.0, -1.0],
    }


def expected(request, byte_at):
    """The handler's answer in plain Python."""

    def weight(row, column):
        value = byte_at[row * COLUMNS + column]
        return value - 256 if value > 127 else value

    pairs = list(zip(request["columns"], request["values"], strict=True))
    return {"y": [sum(weight(row, column) * value for column, value in pairs) for row in request["rows"]]}


def entry(name):
    info = zipfile.ZipInfo(name, EPOCH)
    info.create_system = 3
    info.external_attr = 0o100644 << 16
    return info


def build(path, name, version, size_mib, seed, config=None, fault=None):
    """Write the archive, with ``config`` as its model-config.yaml; return (known input, its answer)."""
    size = size_mib * MIB
    request = known_input(size)
    wanted = {row * COLUMNS + column for row in request["rows"] for column in request["columns"]}
    kept = {}
    manifest = {
        "createdOn": "01/01/2026 00:00:00",
        "runtime": "python",
        "model": {"modelName": name, "serializedFile": "weights.bin", "handler": "handler.py", "modelVersion": version},
        "archiverVersion": "0.12.0",
    }
    if config is not None:
        manifest["model"]["configFile"] = CONFIG
    generator = random.Random(seed)
    temporary = path.with_name(path.name + ".part")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(entry("MAR-INF/MANIFEST.json"), json.dumps(manifest, indent=2) + "\n")
        archive.writestr(entry("handler.py"), handler(fault))
        if config is not None:
            archive.writestr(entry(CONFIG), config)
        info = entry("weights.bin")
        info.file_size = size
        with archive.open(info, "w") as weights:
            for start in range(0, size, MIB):
                block = generator.randbytes(MIB)
                weights.write(block)
                kept.update({place: block[place - start] for place in wanted if start <= place < start + MIB})
    temporary.rename(path)
    return request, expected(request, kept)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="demo")
    parser.add_argument("--version", default="1.0")
    parser.add_argument("--size-mib", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1, help="another seed gives other weights and other answers")
    parser.add_argument("--fault", choices=sorted(FAULTS), help="what is wrong with this version")
    parser.add_argument("--config", type=Path, help="file that becomes the archive's model-config.yaml")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="directory for <name>-<version>.mar, <name>-<version>.input.json and <name>-<version>.expected.json",
    )
    args = parser.parse_args(argv)
    if args.size_mib < 1:
        parser.error("--size-mib must be at least 1")
    args.out.mkdir(parents=True, exist_ok=True)
    base = args.out / f"{args.name}-{args.version}"
    archive = base.with_name(base.name + ".mar")
    config = args.config.read_bytes() if args.config else None
    request, answer = build(archive, args.name, args.version, args.size_mib, args.seed, config, args.fault)
    base.with_name(base.name + ".input.json").write_text(json.dumps(request) + "\n")
    base.with_name(base.name + ".expected.json").write_text(json.dumps(answer) + "\n")
    with archive.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    json.dump({"file": str(archive), "sha256": digest, "bytes": archive.stat().st_size}, sys.stdout)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
