#!/usr/bin/env python3
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the collection's archive, see whether it is fit to be released, and sign it.

A release is of a clean commit whose changelog has its version. It is built twice, in two places and with two umasks, judged by
galaxy-importer, installed on each ansible-core, and signed together with its bill of materials.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from pathlib import Path

import archive
import judge
import sign
import yaml
from archive import COLLECTION, REPOSITORY, Stop, run
from contents import bill_of

# As semver.org has it, without what follows a plus sign, of which Galaxy makes nothing.
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?")


def say(text):
    print(f"release: {text}", flush=True)


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def unreleasable(collection):
    """Why the sources are not those of a release, as sentences; nothing when they are."""
    version = str(load(collection / "galaxy.yml")["version"])
    if not VERSION.fullmatch(version):
        yield f"The version {version} in galaxy.yml is no semantic version."
    if version not in (load(collection / "changelogs/changelog.yaml")["releases"] or {}):
        yield f"The changelog has no version {version}: run make changelog, and commit what it writes."
    if fragments := sorted(path.name for path in (collection / "changelogs/fragments").glob("[!.]*")):
        yield f"No version has the changes in {', '.join(fragments)}: make changelog moves them into the version of galaxy.yml."
    changed = run("git", "status", "--porcelain", place=collection).splitlines()
    if changed:
        yield f"The checkout is not its commit: {len(changed)} files differ, the first is {changed[0].split()[-1]}."
    # A tag that is there is that of this commit; without one, the releaser sets it when all is done.
    tagged = run("git", "tag", "--list", f"v{version}", "--format", "%(*objectname)%(objectname)", place=collection).strip()
    if tagged and not tagged.startswith(run("git", "rev-parse", "HEAD", place=collection).strip()):
        yield f"The tag v{version} is at another commit: a version is released once."


def build_twice(dest, javac, jdk):
    """Two builds, of which nothing may differ but what nobody can see in the archive."""
    with tempfile.TemporaryDirectory(prefix="another-place-for-the-second-build-") as folder:
        digests = []
        for place, mask in ((dest, 0o022), (Path(folder), 0o077)):
            before = os.umask(mask)
            try:
                built = archive.build(place, javac, jdk)
            finally:
                os.umask(before)
            digests.append(archive.sha256_of(built))
            say(f"built in {built.parent}, umask {mask:03o}: {digests[-1]}")
        if digests[0] != digests[1]:
            raise Stop("Two builds of the same sources are not the same. Compare them, for example with diffoscope.")
    return Path(dest) / built.name


def judge_all(built, rehearsal, cache):
    """Stop at the first thing that makes an archive unfit."""
    say("galaxy-importer says:")
    print(judge.judge(built, judge.importer(cache)).strip(), flush=True)
    cores = judge.cores()
    if len(cores) < (1 if rehearsal else len(judge.PYTHONS)):
        wanted = " and ".join(versions[0] for versions in judge.PYTHONS)
        here = ", ".join(version for version, _programs in cores) or "none"
        raise Stop(f"A release is installed on the ansible-cores for Python {wanted}, and here is {here}: install the other one.")
    for version, programs in cores:
        plays, plugins = judge.install(built, programs)
        said = run(programs / "ansible", "--version").splitlines()[0]
        say(f"installed on {said}, Python {version}: {plays} plays are well-formed, {plugins} plugins and roles are documented")


def release(dest, javac, jdk, key, rehearsal, cache):
    """All of it or nothing lies in dest afterwards."""
    fingerprint = "" if rehearsal else sign.fingerprint_of(key)
    if reasons := [] if rehearsal else list(unreleasable(REPOSITORY / COLLECTION)):
        raise Stop("\n".join(["This is not what can be released.", *reasons]))
    if old := sorted(path.name for path in dest.glob("*")):
        raise Stop(f"{dest} is not empty: it has {', '.join(old[:3])}. Remove it, or give another place in DEST.")
    dest.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{dest.name}-", dir=dest.parent) as folder:
        made = Path(folder) / "made"
        made.mkdir()
        built = build_twice(made, javac, jdk)
        judge_all(built, rehearsal, cache)
        bill = built.with_name(f"{built.name.removesuffix('.tar.gz')}.cdx.json")
        bill.write_text(json.dumps(bill_of(built), indent=2) + "\n", encoding="utf-8")
        for path in sign.sign(built, [bill], fingerprint):
            say(f"{archive.sha256_of(path)}  {path.name}")
        made.rename(dest)
    say(f"in {dest}, signed by {fingerprint}" if fingerprint else f"in {dest}: a rehearsal, so nothing is signed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("build", "rehearse", "release"))
    parser.add_argument("--dest", type=Path, required=True, help="directory for what is made")
    parser.add_argument("--javac", default="javac", help="the Java compiler (default: javac)")
    parser.add_argument("--jdk", help="the version of the JDK that it must be of (default: any)")
    parser.add_argument("--key", default="", help="the key of gpg that signs a release, for example its fingerprint")
    parser.add_argument("--cache", type=Path, default=REPOSITORY / ".cache", help="directory for galaxy-importer (default: .cache)")
    args = parser.parse_args()
    try:
        if args.what == "build":
            built = archive.build(args.dest, args.javac, args.jdk)
            say(f"{archive.sha256_of(built)}  {built}")
        else:
            release(args.dest, args.javac, args.jdk, args.key, args.what == "rehearse", args.cache)
    except Stop as exc:
        print(f"release: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
