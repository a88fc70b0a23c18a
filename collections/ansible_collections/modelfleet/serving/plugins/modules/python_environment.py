#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: python_environment
short_description: Make a Python environment, whole or not at all
version_added: 0.1.0
description:
  - Makes a virtual environment, installs packages into it, tries it, and only then writes the file C(.installed) into it. An environment
    with that file is left alone; whatever an attempt that failed has left is removed by the next one.
  - So an environment is never changed. Another content belongs into another O(path), and what runs from the old one goes on.
  - The SHA-256 of each file that it has then is in its file C(.files.json), with which M(modelfleet.serving.verify_info) compares it.
  - All users can read it, whatever the umask of the user who makes it.
  - Needs nothing but the Python that the environment is made from. Ansible's own Python on the host may be another one.
  - Makes the link C(site-packages) in the environment, because the name of the directory itself depends on the version of Python.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
options:
  path:
    description: The environment.
    type: path
    required: true
  python:
    description: The Python that it is made from, as a path or as a name to look for.
    type: str
    default: python3
  system_site_packages:
    description: Whether the environment sees the packages of the system's Python.
    type: bool
    default: false
  packages:
    description:
      - What to install, each as a line of pip's requirements file.
      - A line with C(--hash) is installed only if the file has this hash. What it depends on and no line names follows without one.
    type: list
    elements: str
    default: []
  hashes:
    description: Hashes for lines in O(packages) that have none, as C(sha256:) with the digest, by the line.
    type: dict
    default: {}
  require_hashes:
    description:
      - Install nothing without a hash. Each line of O(packages) and O(first) must have one, and so must what they depend on, as a line of
        its own, unless the system's Python has it.
    type: bool
    default: false
  own:
    description:
      - Names of projects in O(packages) that are installed into the environment even where the system's Python has them.
      - A line with C(--hash) always is.
    type: list
    elements: str
    default: []
  first:
    description: What to install before O(packages), with dependencies, all into the environment.
    type: list
    elements: str
    default: []
  first_index_url:
    description:
      - The one package index for O(first) and what it depends on. With two indexes at once either could answer for any package.
    type: str
  index_url:
    description: The package index. Without it, what pip is configured for.
    type: str
  wheels:
    description: Directory on the host with wheels. With it no index is asked.
    type: path
  wheel_sha256:
    description: SHA-256 of the wheels in O(wheels) by file name. One that differs is refused, and one that is not named is not used.
    type: dict
    default: {}
  probe:
    description: Python program that the environment runs. When it fails, its last line is the module's message, and nothing is installed.
    type: str
  content:
    description: What C(.installed) says. The time is added.
    type: str
    default: ""
  others:
    description: Regular expression for the names of other environments in the same directory, which are returned.
    type: str
seealso:
  - module: ansible.builtin.pip
"""

EXAMPLES = r"""
- name: Make an environment
  modelfleet.serving.python_environment:
    path: /opt/example/venv-2
    packages:
      - PyYAML==6.0.2 --hash=sha256:d584d9ec91ad65861cc08d42e834324ef890a082e591037abe114850ff7bbc3e
      - example
"""

RETURN = r"""
path:
  description: The environment.
  returned: success
  type: str
complete:
  description: Whether it was there before.
  returned: success
  type: bool
others:
  description: The other environments in the same directory, whole or not, sorted.
  returned: success
  type: list
  elements: str
"""

import datetime
import os
import re
import shutil
import tempfile

from ansible_collections.modelfleet.serving.plugins.module_utils._environment import MARKER, RECORD, record_text
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import put_file, sha256_of
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule

HASH = re.compile(r"\s+(?:\\\s*)?--hash[= ]\S+")


class Environment:
    def __init__(self, module):
        self.module, self.params, self.path = module, module.params, module.params["path"]
        self.marker = os.path.join(self.path, MARKER)
        self.program = os.path.join(self.path, "bin", "python")

    def others(self):
        directory, own = os.path.split(self.path.rstrip("/"))
        pattern = self.params["others"]
        if not pattern or not os.path.isdir(directory):
            return []
        try:
            pattern = re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as exc:
            raise ModelFleetError(
                f"Failed to look for other environments with {pattern!r}: it is no regular expression ({exc}). Correct others."
            ) from exc
        names = (entry.name for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False))
        return [os.path.join(directory, name) for name in sorted(names) if name != own and pattern.fullmatch(name)]

    def make(self):
        before = os.umask(0o022)
        try:
            self.clear()
            self.create()
            self.install()
            self.link()
            self.probe()
            self.record()
            made = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
            put_file(self.module, self.marker, f"{self.params['content']}made: {made}\n", params={"mode": "0644"})
        finally:
            os.umask(before)

    def clear(self):
        try:
            if os.path.lexists(self.path):
                shutil.rmtree(self.path)
            # A directory that exists keeps its permissions.
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
        except OSError as exc:
            raise ModelFleetError(f"Failed to clear the way for the environment {self.path}: {exc}. Move away what is there.") from exc

    def create(self):
        python = self.params["python"]
        found = python if os.path.isabs(python) else self.module.get_bin_path(python)
        if not found or not os.access(found, os.X_OK):
            raise ModelFleetError(
                f"Failed to make the environment {self.path}: there is no program {python}. Install it, or name another Python."
            )
        command = [found, "-m", "venv", *(["--system-site-packages"] if self.params["system_site_packages"] else []), self.path]
        self.call(command, f"Failed to make the environment {self.path} with {found}", "Install the venv module of this Python")

    def install(self):
        params, source = self.params, []
        if params["wheels"]:
            source = ["--no-index", f"--find-links={self.wheels()}"]
        index = [f"--index-url={params['index_url']}"] if params["index_url"] else []
        first_index = [f"--index-url={params['first_index_url']}"] if params["first_index_url"] else index
        packages = [f"{line} --hash={params['hashes'][line]}" if line in params["hashes"] else line for line in params["packages"]]
        own_names = [_canonical(name) for name in params["own"]]
        first = [line for line in params["first"] if _name(line)]
        hashed = [line for line in packages if HASH.search(line)]
        own = [line for line in packages if line not in hashed and _canonical(_name(line)) in own_names]
        # The system's Python may have them too, which would be enough for pip. Of what they depend on, that is enough.
        alone = ["--ignore-installed", "--no-deps"]
        if params["require_hashes"]:
            self.check_hashes([*params["first"], *packages])
            # Then what these depend on and is not there: pip refuses that, for it has no hash.
            for arguments in (alone, []):
                self.pip(params["first"], source or first_index, *arguments, "--require-hashes")
                self.pip(packages, source or index, *arguments, "--require-hashes")
            return
        self.pip(first, source or first_index, *alone)
        self.pip([_present(line) if line in first else line for line in params["first"]], source or first_index)
        self.pip(hashed, source or index, *alone, "--require-hashes")
        self.pip(own, source or index, *alone)
        rest = [_present(line) if line in hashed + own else line for line in packages]
        self.pip([line for line in rest if line], source or index)

    def wheels(self):
        """The directory with the wheels, or one with links to those that are named and are what they should be."""
        directory, named = self.params["wheels"], self.params["wheel_sha256"]
        if not named:
            return directory
        trusted = tempfile.mkdtemp(dir=self.module.tmpdir)
        for name, expected in named.items():
            path = os.path.join(directory, os.path.basename(name))
            try:
                found = sha256_of(path)
            except OSError as exc:
                raise ModelFleetError(
                    f"Failed to read the wheel {path} on this host: {exc.strerror}. Run again, which copies it, or check the disk."
                ) from exc
            if found != expected:
                raise ModelFleetError(
                    f"Refused the wheel {path} on this host: its sha256 is {found}, expected {expected}. Nothing was installed. Remove it, "
                    "find out who changed it, and run again."
                )
            os.symlink(os.path.abspath(path), os.path.join(trusted, os.path.basename(name)))
        return trusted

    def check_hashes(self, lines):
        bare = [line for line in lines if not HASH.search(line)]
        if bare:
            raise ModelFleetError(
                f"Refused to install {', '.join(bare)} into {self.path}: require_hashes is set, and there is no hash of it. Add "
                "--hash=sha256:… to the line, as pip hash prints it for a wheel that you trust."
            )

    def pip(self, lines, source, *arguments):
        if not lines:
            return
        with tempfile.NamedTemporaryFile("w", dir=self.module.tmpdir, suffix=".txt", encoding="utf-8") as requirements:
            requirements.write("".join(f"{line}\n" for line in lines))
            requirements.flush()
            # A cache of pip would be a second copy of everything, which nobody removes.
            quiet = ["--disable-pip-version-check", "--no-input", "--no-cache-dir"]
            command = [self.program, "-m", "pip", "install", *quiet, *arguments, *source]
            names = ", ".join(HASH.sub("", line) for line in lines)
            origin = self.params["wheels"] or next(
                (one.partition("=")[2] for one in source), "the package index that pip is configured for"
            )
            self.call(
                [*command, "--requirement", requirements.name],
                f"Failed to install {names} from {origin} into {self.path}",
                "See whether this host reaches it and it has these packages for this Python",
            )

    def link(self):
        _rc, out, _err = self.call(
            [self.program, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            f"Failed to run the environment {self.path}",
            "Try its bin/python",
        )
        link = os.path.join(self.path, "site-packages")
        try:
            os.symlink(out.strip(), link)
        except (OSError, ValueError) as exc:
            raise ModelFleetError(f"Failed to make the link {link}: {exc}. Try bin/python of this environment.") from exc

    def probe(self):
        if self.params["probe"]:
            rc, out, err = self.module.run_command([self.program, "-c", self.params["probe"]], cwd="/")
            if rc != 0:
                raise ModelFleetError(_tail(err or out, 1), stdout=out, stderr=err)

    def record(self):
        try:
            text = record_text(self.path, sha256_of)
        except OSError as exc:
            raise ModelFleetError(
                f"Failed to record the files of the environment {self.path}: {exc.filename}: {exc.strerror}. Check the disk."
            ) from exc
        put_file(self.module, os.path.join(self.path, RECORD), text, params={"mode": "0644"})

    def call(self, command, problem, remedy):
        try:
            rc, out, err = self.module.run_command(command, cwd="/", environ_update={"PYTHONNOUSERSITE": "1"}, handle_exceptions=False)
        except OSError as exc:
            raise ModelFleetError(f"{problem}: {exc}. {remedy}.") from exc
        if rc != 0:
            raise ModelFleetError(f"{problem}: {_tail(err.strip() or out, 8)} {remedy}.", stdout=out, stderr=err)
        return rc, out, err


def _name(line):
    """The project of a requirement, with its extras; empty for a URL or a path, which do not tell."""
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[^]]*\])?(?=\s*([<>=!~;@]|--|$))", line.strip())
    return found.group() if found else ""


def _canonical(name):
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()


def _present(line):
    """A requirement that what was just installed for ``line`` meets, for the sake of its dependencies."""
    line = HASH.sub("", line)
    return _name(line) if "@" in line or not _name(line) else line


def _tail(text, count):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[-count:]) or "it said nothing."


def main():
    module = DiscreetModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "python": {"type": "str", "default": "python3"},
            "system_site_packages": {"type": "bool", "default": False},
            "packages": {"type": "list", "elements": "str", "default": []},
            "hashes": {"type": "dict", "default": {}},
            "require_hashes": {"type": "bool", "default": False},
            "own": {"type": "list", "elements": "str", "default": []},
            "first": {"type": "list", "elements": "str", "default": []},
            "first_index_url": {"type": "str"},
            "index_url": {"type": "str"},
            "wheels": {"type": "path"},
            "wheel_sha256": {"type": "dict", "default": {}},
            "probe": {"type": "str"},
            "content": {"type": "str", "default": ""},
            "others": {"type": "str"},
        },
        supports_check_mode=True,
    )
    environment = Environment(module)
    complete = os.path.exists(environment.marker)
    changed = not complete
    try:
        result = {"changed": changed, "complete": complete, "path": environment.path, "others": environment.others()}
        if module._diff and changed:
            header = {"before_header": environment.marker, "after_header": environment.marker}
            result["diff"] = {**header, "before": "", "after": module.params["content"]}
        if changed and not module.check_mode:
            environment.make()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
