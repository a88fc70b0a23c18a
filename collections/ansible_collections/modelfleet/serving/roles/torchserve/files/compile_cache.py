# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what the code that torch compiles on this host depends on, as JSON: {"fingerprint": digits, "parts": {what: value}}.

Run by the Python of TorchServe in its environment: by its unit before each start, which keeps it in a file for the workers (see
sitecustomize.py), and by the module compile_cache_info. Two hosts with one fingerprint may have one compile cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys

COMPILER_S = 60


def parts(torch, cpuinfo="/proc/cpuinfo"):
    """What torch's own key of a compile cache has, and what it leaves out."""
    return {
        "torch": f"{torch.__version__} {torch.version.git_version}",
        "triton": triton(),
        "cuda": str(torch.version.cuda or torch.version.hip or ""),
        "gpus": gpus(torch),
        "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "cpu_flags": cpu_flags(cpuinfo),
        "threads": torch.get_num_threads(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": compiler(os.environ.get("CXX", "g++")),
    }


def triton():
    try:
        import triton as found
    except ImportError:
        return ""
    return str(found.__version__)


def gpus(torch):
    """Each kind once: a worker may get any of them."""
    if not torch.cuda.is_available():
        return []
    count = torch.cuda.device_count()
    return sorted(
        {"{} {}.{}".format(torch.cuda.get_device_name(index), *torch.cuda.get_device_capability(index)) for index in range(count)}
    )


def cpu_flags(path):
    """A digest of what the processor can do, which is what code for -march=native may use."""
    with open(path, encoding="utf-8", errors="replace") as handle:
        lines = [line.split(":", 1)[1].split() for line in handle if line.split(":")[0].strip().lower() in ("flags", "features")]
    # All cores of a host need not be alike.
    return hashlib.sha256(" ".join(sorted(set(lines[0]).intersection(*lines)) if lines else []).encode()).hexdigest()[:16]


def compiler(command):
    """The first line of what the C++ compiler says of itself; nothing where there is none."""
    try:
        done = subprocess.run([*shlex.split(command), "--version"], capture_output=True, timeout=COMPILER_S, check=True)
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return ""
    return (done.stdout.decode("utf-8", "replace").splitlines() or [""])[0].strip()


def fingerprint(found):
    """16 hexadecimal digits, which become part of names of files."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="keep it in a file, without which every worker starts cold, and never fail")
    args = parser.parse_args(argv)
    if args.write and os.path.exists(args.write):
        # That of an earlier start.
        os.unlink(args.write)
    try:
        import torch

        found = parts(torch)
        text = json.dumps({"fingerprint": fingerprint(found), "parts": found}) + "\n"
        if args.write:
            with open(args.write, "w", encoding="utf-8") as handle:
                handle.write(text)
    except Exception as exc:  # torch itself may raise anything
        print(f"<4>No compile cache is used: what torch compiles for here is not known ({type(exc).__name__}: {exc}).", file=sys.stderr)
        return 0 if args.write else 1
    if not args.write:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
