#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_archive
short_description: Build a model archive for TorchServe, reproducibly
version_added: 0.1.0
description:
  - Builds a C(.mar) from the files of a model, as C(torch-model-archiver) does and with its manifest, or reports on one that exists.
  - The same files and options give the same bytes with the same version of C(torch-model-archiver), so that the sha256 is that of the
    model and not of the moment. Entries are sorted, have one fixed time and mode, and are stored without compression. Weights hardly
    compress, and compression libraries differ in their bytes.
  - An archive that has the same content already is left alone.
  - A link among the files of a directory is followed to a file in O(directory) and refused if it leads elsewhere, and so is
    whatever a wildcard finds elsewhere, so that nothing gets into an archive unseen. What is named by an option may be anywhere.
  - A directory in O(extra_files) is packed without C(__pycache__), C(__MACOSX) and hidden directories.
author:
  - ModelFleet developers (@modelfleet)
requirements:
  - torch-model-archiver, to build
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - ansible.builtin.files
attributes:
  check_mode:
    support: partial
    details: The sha256 of an archive that would be built is not known yet.
  diff_mode:
    details: Shows the files in the archive with their sha256.
options:
  src:
    description: An archive to report on. Nothing is built then.
    type: path
  directory:
    description: The directory with the model. The other paths are relative to it.
    type: path
  dest:
    description: The archive to build. Its directory is created.
    type: path
  model_name:
    description: Name of the model.
    type: str
  version:
    description: Version of the model.
    type: str
  handler:
    description:
      - A file with the handler, for example V(handler.py), or the name of one of TorchServe's handlers, for example V(image_classifier).
      - As for C(torch-model-archiver) the suffix may be missing, and V(handler.py:function) names the entry point.
    type: str
  model_file:
    description: Python file with the architecture of an eager-mode model.
    type: str
  serialized_file:
    description: File with the weights.
    type: str
  extra_files:
    description: More files, wildcards, or directories whose contents are packed.
    type: list
    elements: str
    default: []
  config_file:
    description: YAML file with the model's configuration, for example V(model-config.yaml).
    type: str
  requirements_file:
    description:
      - The model's C(requirements.txt), for whoever reads the archive. No host installs it, and the module warns of that.
      - What it lists belongs into C(torchserve_pip_packages) of the role P(modelfleet.serving.torchserve#role).
    type: str
  runtime:
    description: What runs the handler.
    type: str
    choices: [python, python3, LSP]
    default: python
"""

EXAMPLES = r"""
- name: Build the archive of a model
  modelfleet.serving.model_archive:
    directory: /srv/models/resnet50
    model_name: resnet50
    version: "1.0"
    handler: image_classifier
    model_file: model.py
    serialized_file: resnet50.pth
    extra_files:
      - index_to_name.json
    dest: /srv/archives/resnet50-1.0.mar
  register: archive

- name: Publish it
  modelfleet.serving.storage_object:
    storage: "{{ modelfleet_storage }}"
    credentials: "{{ modelfleet_publish_credentials }}"
    object: models/resnet50/1.0/resnet50.mar
    src: "{{ archive.path }}"
    sha256: "{{ archive.sha256 }}"
"""

RETURN = r"""
path:
  description: The archive.
  returned: success
  type: str
  sample: /srv/archives/resnet50-1.0.mar
sha256:
  description: The sha256 of the archive, empty when it would be built in check mode.
  returned: success
  type: str
  sample: 9f2c1a4be3f2d6c7b8a90123456789abcdef0123456789abcdef0123456789ab
bytes:
  description: The size of the archive, 0 when it would be built in check mode.
  returned: success
  type: int
  sample: 102400000
model_name:
  description: Name of the model in the archive's manifest, empty for a file O(src) without one.
  returned: success
  type: str
  sample: resnet50
version:
  description: Version of the model in the archive's manifest, empty for a file O(src) without one.
  returned: success
  type: str
  sample: "1.0"
files:
  description: The names in the archive.
  returned: when it is built
  type: list
  elements: str
  sample: [MAR-INF/MANIFEST.json, index_to_name.json, model.py, resnet50.pth]
"""

import glob
import hashlib
import json
import os
import tempfile
import traceback
import zipfile

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._model import NAME_RULE, is_name
from ansible_collections.modelfleet.serving.plugins.module_utils._model_archive import (
    DAMAGED,
    MANIFEST,
    NOT_INSTALLED,
    described,
    read_manifest,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule

_EPOCH = (1980, 1, 1, 0, 0, 0)
_CREATED = "01/01/1980 00:00:00"
_MODE = 0o100644 << 16
_SKIPPED = ("__MACOSX", "__pycache__")
_LSP_HANDLERS = ("BaseHandler", "TorchScriptHandler")
_BLOCK = 1 << 20


class MissingLibrary(Exception):
    pass


class Archive:
    """The archive that the options describe: a name for each file."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.dest = module.params["dest"]
        self.directory = module.params["directory"]
        self.name, self.version = module.params["model_name"], module.params["version"]
        self.root = os.path.realpath(self.directory)
        self.files = {}

    def run(self):
        for option in ("model_name", "version"):
            if not is_name(self.params[option]):
                raise self._error("{} {!r} {}".format(option, self.params[option], NAME_RULE), "Choose another")
        if not os.path.isdir(self.directory):
            raise self._error("there is no directory {}".format(self.directory), "Check directory")
        handlers, manifest = self._ask_the_archiver()
        self._collect(handlers)
        before, after = _read_archive(self.dest), {MANIFEST: hashlib.sha256(manifest).hexdigest()}
        for name in sorted(self.files):
            after[name] = self._digest(self.files[name])
        changed = before != after
        if changed and not self.module.check_mode:
            self._write(manifest)
        built = os.path.exists(self.dest) and not (changed and self.module.check_mode)
        sha256, size = _digest_of(self.dest) if built else ("", 0)
        if os.path.exists(self.dest):
            arguments = self.module.load_file_common_arguments(self.params, path=self.dest)
            changed = self.module.set_fs_attributes_if_different(arguments, changed)
        return {
            "changed": changed,
            "path": self.dest,
            "sha256": sha256,
            "bytes": size,
            "model_name": self.name,
            "version": self.version,
            "files": list(after),
            "diff": {"before_header": self.dest, "after_header": self.dest, "before": _shown(before), "after": _shown(after)},
        }

    def _error(self, reason, remedy):
        return ModelFleetError("Failed to build {}: {}. {}.".format(self.dest, reason, remedy))

    def _ask_the_archiver(self):
        """The names of TorchServe's own handlers, and the manifest."""
        try:
            from model_archiver.model_archiver_config import ModelArchiverConfig
            from model_archiver.model_packaging_utils import ModelExportUtils, model_handlers
        except ImportError:
            raise MissingLibrary(traceback.format_exc()) from None
        given = {key: self.params[key] for key in ("model_file", "serialized_file", "config_file", "requirements_file", "runtime")}
        config = ModelArchiverConfig(model_name=self.name, version=self.version, handler=self.params["handler"], **given)
        manifest = {**json.loads(ModelExportUtils.generate_manifest_json(config)), "createdOn": _CREATED}
        return model_handlers, (json.dumps(manifest, indent=2) + "\n").encode()

    def _collect(self, handlers):
        own = _LSP_HANDLERS if self.params["runtime"] == "LSP" else sorted(handlers)
        if self.params["handler"] not in own:
            self._add_handler(self.params["handler"], own)
        for option in ("model_file", "serialized_file", "config_file", "requirements_file"):
            if self.params[option]:
                self._add_named(option, self.params[option])
        for pattern in self.params["extra_files"]:
            self._add_extra(pattern)

    def _add_handler(self, handler, own):
        path = handler.split(":")[0]
        suffix = ".so" if self.params["runtime"] == "LSP" else ".py"
        if not path.endswith(suffix):
            path += suffix
        if not os.path.isfile(self._path(path)):
            raise self._error(
                "handler {!r} is neither the file {} nor a handler of TorchServe ({})".format(handler, self._path(path), ", ".join(own)),
                "Correct handler",
            )
        self._add(os.path.basename(path), self._path(path))

    def _add_named(self, option, value):
        path = self._path(value)
        if not os.path.isfile(path):
            raise self._error("{} {} is not a file".format(option, path), "Put it there or correct {}".format(option))
        self._add(os.path.basename(path), path)

    def _add_extra(self, pattern):
        path = self._path(pattern)
        # A file may be called as a wildcard looks.
        named = os.path.exists(path)
        found = [path] if named else sorted(glob.glob(os.path.join(glob.escape(self.directory), pattern)))
        found = [one for one in found if not self._is_dest(one)]
        if not found:
            problem = "that is the archive itself" if named else "there is no such file"
            raise self._error("extra_files has {}, but {}".format(path, problem), "Put it there or correct extra_files")
        for one in found:
            if not named:
                self._check_place(one)
            if os.path.isdir(one):
                self._add_directory(one)
            else:
                self._add(os.path.basename(one), one)

    def _add_directory(self, top):
        for directory, subdirectories, names in os.walk(top):
            subdirectories[:] = [name for name in subdirectories if name not in _SKIPPED and not name.startswith(".")]
            for name in subdirectories:
                if os.path.islink(os.path.join(directory, name)):
                    raise self._error(
                        "{} is a link to a directory".format(os.path.join(directory, name)), "Name that directory in extra_files"
                    )
            for name in names:
                path = os.path.join(directory, name)
                if self._is_dest(path):
                    continue
                if os.path.islink(path):
                    self._check_place(path)
                self._add(os.path.relpath(path, top), path)

    def _is_dest(self, path):
        """An archive that was built before is not packed into its successor."""
        return os.path.realpath(path) == os.path.realpath(self.dest)

    def _check_place(self, path):
        """Any part of a path may be a link."""
        if os.path.commonpath([self.root, os.path.realpath(path)]) != self.root:
            raise self._error("{} leads out of {}".format(path, self.directory), "Name it in extra_files by itself, or copy it there")

    def _add(self, name, path):
        if name.split("/")[0] == "MAR-INF":
            raise self._error("{} would take the place of the manifest".format(path), "Leave MAR-INF out")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise self._error("the name of {!r} is not UTF-8, as names in an archive are".format(path), "Rename it") from None
        other = self.files.setdefault(name, path)
        if not os.path.isfile(path):
            raise self._error("{} is not a regular file".format(path), "Leave it out")
        if os.path.realpath(other) != os.path.realpath(path):
            raise self._error("{} and {} would both be {} in the archive".format(other, path, name), "Rename one of them")

    def _path(self, value):
        return os.path.join(self.directory, value)

    def _digest(self, path):
        try:
            return _digest_of(path)[0]
        except OSError as exc:
            raise self._error("{} cannot be read ({})".format(path, exc.strerror), "Check its permissions") from exc

    def _write(self, manifest):
        directory = os.path.dirname(os.path.abspath(self.dest))
        temporary = None
        try:
            os.makedirs(directory, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=".modelfleet-", dir=directory)
            with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_entry(MANIFEST), manifest)
                for name in sorted(self.files):
                    self._pack(archive, name, self.files[name])
            self.module.atomic_move(temporary, self.dest)
        except OSError as exc:
            place = exc.filename or directory
            raise self._error("{} ({})".format(exc.strerror, place), "Check the free space and permissions of {}".format(place)) from exc
        finally:
            if temporary and os.path.exists(temporary):
                os.unlink(temporary)

    def _pack(self, archive, name, path):
        entry = _entry(name)
        with open(path, "rb") as source:
            # The size decides on the form of the header before the content is known.
            expected, written = os.fstat(source.fileno()).st_size, 0
            entry.file_size = expected
            with archive.open(entry, "w") as packed:
                for block in iter(lambda: source.read(_BLOCK), b""):
                    written += len(block)
                    if written > expected:
                        break
                    packed.write(block)
        if written != expected:
            raise self._error("{} changed while it was read".format(path), "Build again when nothing writes there")


def report(path, warn=lambda _text: None):
    """What an archive says about itself. Another file has no name and version."""
    if not path:
        raise ModelFleetError("Failed to report on an archive: src is empty. Name the archive, or give directory instead to build one.")
    try:
        sha256, size = _digest_of(path)
        with zipfile.ZipFile(path) as archive:
            name, version, requirements = described(read_manifest(archive))
    except OSError as exc:
        raise ModelFleetError("Failed to read {}: {}. Check src.".format(path, exc.strerror or exc)) from exc
    except (*DAMAGED, KeyError, ValueError) as exc:
        if path.endswith(".mar"):
            raise ModelFleetError(
                "Failed to read {}: it is no model archive, {} is missing in it or damaged. Build it with torch-model-archiver or this"
                " module.".format(path, MANIFEST)
            ) from exc
        name = version = requirements = ""
    if requirements:
        warn(NOT_INSTALLED.format(path=path, name=requirements))
    return {"changed": False, "path": path, "sha256": sha256, "bytes": size, "model_name": name, "version": version}


def _entry(name):
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = 3
    entry.external_attr = _MODE
    return entry


def _read_archive(path):
    """{name: sha256} of an archive; {} for anything else. What this module would not write as it is counts as one unknown file."""
    found, ours = {}, True
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                ours &= (entry.date_time, entry.external_attr, entry.compress_type) == (_EPOCH, _MODE, zipfile.ZIP_STORED)
                with archive.open(entry) as packed:
                    found[entry.filename] = _digest_stream(packed)[0]
            ours &= not archive.comment and len(archive.infolist()) == len(found)
        if ours and list(found) == [MANIFEST, *sorted(set(found) - {MANIFEST})]:
            return found
        return {"(an archive of another form)": _digest_of(path)[0]}
    except (OSError, *DAMAGED):
        return {}


def _digest_stream(stream):
    digest, size = hashlib.sha256(), 0
    for block in iter(lambda: stream.read(_BLOCK), b""):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size


def _digest_of(path):
    with open(path, "rb") as handle:
        return _digest_stream(handle)


def _shown(files):
    return "".join("{} sha256:{}\n".format(name, digest) for name, digest in files.items())


def main():
    module = CheckedModule(
        argument_spec={
            "src": {"type": "path"},
            "directory": {"type": "path"},
            "dest": {"type": "path"},
            "model_name": {"type": "str"},
            "version": {"type": "str"},
            "handler": {"type": "str"},
            "model_file": {"type": "str"},
            "serialized_file": {"type": "str"},
            "extra_files": {"type": "list", "elements": "str", "default": []},
            "config_file": {"type": "str"},
            "requirements_file": {"type": "str"},
            "runtime": {"type": "str", "choices": ["python", "python3", "LSP"], "default": "python"},
        },
        mutually_exclusive=[("src", "directory"), ("src", "dest")],
        required_one_of=[("src", "directory")],
        required_by={"directory": ("dest", "model_name", "version", "handler")},
        add_file_common_args=True,
        supports_check_mode=True,
    )
    try:
        if module.params["src"] is not None:
            result = report(module.params["src"], module.warn)
        else:
            result = Archive(module).run()
            if module.params["requirements_file"]:
                module.warn(NOT_INSTALLED.format(path=result["path"], name=module.params["requirements_file"]))
    except MissingLibrary as exc:
        module.fail_json(msg=missing_required_lib("torch-model-archiver"), exception=str(exc))
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
