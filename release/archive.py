# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive of the collection: the tracked files and the plugin's jar, the same bytes whenever and wherever it is built."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
COLLECTION = Path("collections/ansible_collections/modelfleet/serving")
WHEEL = REPOSITORY / ".cache/wheels/torchserve-0.12.0-py3-none-any.whl"
CONFIG = Path(__file__).with_name("ansible.cfg")
MANIFEST, FILES = FIRST = ("MANIFEST.json", "FILES.json")
# The time of everything in the archive: that of everything in the jar.
EPOCH = 315532800  # 1980-01-01


class Stop(Exception):
    """An error that the user can act on."""


def run(*command, place=None, warnings=True, **environment):
    """Run a program, beside this Python's own first; its output as text. Nothing of a user's configuration of Ansible counts."""
    errors = subprocess.STDOUT if warnings else subprocess.PIPE
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHONPATH"))}
    env = {**kept, "PATH": path, "ANSIBLE_CONFIG": str(CONFIG), "ANSIBLE_NOCOLOR": "1", **environment}
    try:
        done = subprocess.run([*map(str, command)], cwd=place, env=env, stdout=subprocess.PIPE, stderr=errors, text=True, check=False)
    except OSError as exc:
        raise Stop(f"Cannot run {command[0]}: {exc}. Install it, or name another one.") from exc
    if done.returncode != 0:
        raise Stop(f"{' '.join(map(str, command[:4]))} ended with status {done.returncode}:\n{done.stdout}{done.stderr or ''}".strip())
    return done.stdout


def sha256_of(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def check_compiler(javac, jdk):
    """The classes of two JDKs differ, so one makes the jar of every release. None takes whichever is there."""
    said = run(javac, "-version").strip()
    if jdk and not said.startswith(f"javac {jdk}."):
        raise Stop(f"The plugin's jar is built with JDK {jdk}, and {javac} is {said}. Give one in JAVAC=/path/to/bin/javac.")


def build(dest, javac="javac", jdk=None):
    """Build the archive into a directory; return its path. One that is there is replaced."""
    check_compiler(javac, jdk)
    with tempfile.TemporaryDirectory(prefix="modelfleet-release-") as folder:
        staged = _stage(Path(folder))
        _jar(staged, javac)
        run("ansible-galaxy", "collection", "build", "--output-path", folder, staged)
        (built,) = Path(folder).glob("*.tar.gz")
        target = Path(dest) / built.name
        target.parent.mkdir(parents=True, exist_ok=True)
        normalise(built, target)
    return target


def _stage(folder):
    """The tracked files alone, as they are now."""
    names = run("git", "ls-files", "-z", COLLECTION, place=REPOSITORY).split("\0")
    for name in filter(None, names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    return folder / COLLECTION


def _jar(staged, javac):
    files = staged / "roles/endpoint_plugin/files"
    options = {"src": files / "src", "dest": files / "dragonfly-endpoint.jar", "javac": javac, "mode": "0644", "torchserve_wheel": WHEEL}
    run(
        *("ansible", "localhost", "-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}"),
        *("-m", "modelfleet.serving.endpoint_plugin", "-a", json.dumps({name: str(value) for name, value in options.items()})),
        place=files,
        ANSIBLE_COLLECTIONS_PATH=str(staged.parents[2]),
    )


def read(archive):
    """(is a directory, mode, content) of everything in an archive, by its name."""
    with tarfile.open(archive) as tar:
        return {one.name: (one.isdir(), one.mode, b"" if one.isdir() else tar.extractfile(one).read()) for one in tar}


def normalise(source, target):
    """Write an archive of ansible-galaxy again without what differs from build to build.

    That is the time of the build, the times of the files, and the order in which the directory of a file system has them. The last is
    also that of FILES.json, whose digest MANIFEST.json has.
    """
    members = read(source)
    manifest, files = (json.loads(members[name][2]) for name in FIRST)
    files["files"].sort(key=lambda entry: entry["name"])
    listed = _text(files)
    manifest["file_manifest_file"]["chksum_sha256"] = hashlib.sha256(listed).hexdigest()
    for name, content in zip(FIRST, (_text(manifest), listed)):
        members[name] = (*members[name][:2], content)
    written = target.with_name(f".{target.name}.part")
    try:
        # Neither a name nor a time in the header.
        with written.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
            for name in [*FIRST, *sorted(set(members) - set(FIRST))]:
                directory, mode, content = members[name]
                entry = tarfile.TarInfo(name)
                entry.type = tarfile.DIRTYPE if directory else tarfile.REGTYPE
                entry.mode, entry.mtime, entry.size = mode, EPOCH, len(content)
                tar.addfile(entry, io.BytesIO(content))
        written.replace(target)
    finally:
        written.unlink(missing_ok=True)


def _text(data):
    # As ansible-galaxy writes them.
    return json.dumps(data, indent=True).encode()
