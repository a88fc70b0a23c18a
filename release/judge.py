# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an archive is fit to be released: what Galaxy says of it, and whether it works where there is nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from archive import REPOSITORY, Stop, read, run, sha256_of

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
# Where an archive must work: of each, the first Python that is there. requirements-dev.txt has another ansible-core for each.
PYTHONS = (("3.11",), ("3.13", "3.12"))
COMPLETED = "Importer processing completed successfully"
# galaxy-importer, which gives ansible-lint three minutes: on a machine that does other things as well that says nothing of an archive.
PATIENT = """
import sys
from galaxy_importer import main
from galaxy_importer.loaders import collection

class Patient(collection.Popen):
    def communicate(self, input=None, timeout=None):
        return super().communicate(input)

collection.Popen = Patient
sys.exit(main.main())
"""
# The groups that the plays name, so that none is said to match nothing.
GROUPS = ("dragonfly_schedulers", "dragonfly_seed_peers", "gpu_hosts", "modelfleet_gateways")
PLUGINS = ("callback", "filter", "lookup", "modules")


def importer(cache):
    """The directory of galaxy-importer's programs, installed when its lock is another one than that of the environment."""
    place = cache / "galaxy-importer"
    mark = place / "complete"
    lock = f"{sys.version_info[:2]} {sha256_of(REQUIREMENTS)}"
    if not mark.exists() or mark.read_text(encoding="utf-8") != lock:
        run(sys.executable, "-m", "venv", "--clear", place)
        run(place / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--requirement", REQUIREMENTS)
        mark.write_text(lock, encoding="utf-8")
    return place / "bin"


def judge(archive, programs):
    """What galaxy-importer says of an archive. It ends well with warnings too, and Galaxy then shows them to everybody.

    ansible-test has run on the sources, on both ansible-cores.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = {"RUN_ANSIBLE_TEST": "false", "RUN_ANSIBLE_DOC": "true", "RUN_ANSIBLE_LINT": "true", "CHECK_CHANGELOG": "true"}
        said = run(
            *(programs / "python", "-c", PATIENT, archive.absolute()),
            place=folder,
            HOME=folder,
            PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
            **{f"GALAXY_IMPORTER_{name}": value for name, value in settings.items()},
        )
    bad = [line for line in said.splitlines() if re.match(r"(DEBUG|WARNING|ERROR|CRITICAL)\b", line)]
    if bad or COMPLETED not in said:
        raise Stop(f"galaxy-importer is not content with {archive.name}:\n{said}")
    return said


def cores():
    """(Python, directory of programs) of each ansible-core that this machine's Pythons allow."""
    found = []
    for versions in PYTHONS:
        done = subprocess.run([REPOSITORY / "tests/core", *versions], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode not in (0, 3):
            raise Stop(f"tests/core {' '.join(versions)} ended with status {done.returncode}.")
        if done.returncode == 0:
            version, programs = done.stdout.strip().split(maxsplit=1)
            found.append((version, Path(programs)))
    return found


def install(archive, programs):
    """Install an archive where nothing else is, check the syntax of each of its plays there and read the documentation of each plugin.

    Return how many plays and plugins there were.
    """
    members = read(archive)
    plays = sorted(name for name in members if re.fullmatch(r"playbooks/[^_/]\w*\.yml", name))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        inventory = {"all": {"children": {group: {"hosts": {"a": {}}} for group in GROUPS}}}
        (place / "hosts.json").write_text(json.dumps(inventory), encoding="utf-8")

        def ansible(program, *arguments, **options):
            return run(programs / program, *arguments, place=place, HOME=folder, ANSIBLE_COLLECTIONS_PATH=folder, **options)

        ansible("ansible-galaxy", "collection", "install", "--offline", "-p", folder, archive.absolute())
        names = [f"modelfleet.serving.{Path(play).stem}" for play in plays]
        said = ansible("ansible-playbook", "-i", "hosts.json", "--syntax-check", *names)
        checked = set(re.findall(r"^playbook: (\S+)$", said, re.MULTILINE))
        if "WARN" in said or checked != {f"{folder}/ansible_collections/modelfleet/serving/{play}" for play in plays}:
            raise Stop(f"The plays of {archive.name} are not as they should be once it is installed:\n{said}")
        # Some ansible-cores warn here of a collection of their own. What cannot be read ends it.
        dumped = json.loads(ansible("ansible-doc", "--metadata-dump", "modelfleet.serving", warnings=False))["all"]
    documented = [name for kind in dumped.values() for name in kind if name.startswith("modelfleet.serving.")]
    if missing := _plugins(members) - set(documented):
        raise Stop(f"ansible-doc does not know these plugins of {archive.name} once it is installed: {', '.join(sorted(missing))}")
    return len(plays), len(documented)


def _plugins(members):
    """What ansible-doc must know: every module and plugin, and every role."""
    files = {Path(name) for name in members if re.fullmatch(rf"plugins/({'|'.join(PLUGINS)})/[^_/]\w*\.(py|yml)", name)}
    # A file that is documented by others has several filters in it.
    alone = {file for file in files if file.suffix == ".yml" or b"\nDOCUMENTATION = " in members[str(file)][2]}
    roles = {Path(name) for name in members if re.fullmatch(r"roles/\w+", name)}
    return {f"modelfleet.serving.{path.stem}" for path in alone | roles}
