#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: endpoint_plugin
short_description: Build TorchServe's endpoint plugin
version_added: 0.1.0
description:
  - Compiles the Java sources of the plugin that adds C(POST /dragonfly/models) to TorchServe against TorchServe's own C(model-server.jar).
  - The same inputs give the same bytes. The jar records a digest of its inputs and is built again only when they change.
author:
  - ModelFleet developers (@modelfleet)
requirements:
  - javac of a JDK, 11 or newer
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - ansible.builtin.files
attributes:
  check_mode:
    support: partial
    details: With the wheel or the JDK still missing it predicts that the jar will be built.
  diff_mode:
    support: none
    details: The jar is a binary file.
options:
  src:
    description: Directory with the sources, laid out as in a jar.
    type: path
    required: true
  dest:
    description: The jar. Its directory is created.
    type: path
    required: true
  torchserve_jar:
    description: TorchServe's C(model-server.jar).
    type: path
  torchserve_wheel:
    description: TorchServe's wheel, which has C(model-server.jar) in it.
    type: path
  torchserve_wheel_sha256:
    description: SHA-256 that O(torchserve_wheel) must have. Empty for whichever is there.
    type: str
    default: ""
  javac:
    description: The Java compiler, a name in C(PATH) or a path.
    type: str
    default: javac
"""

EXAMPLES = r"""
- name: Build the endpoint plugin
  modelfleet.serving.endpoint_plugin:
    src: /usr/local/src/endpoint
    torchserve_wheel: /var/cache/torchserve-0.12.0-py3-none-any.whl
    dest: /var/cache/dragonfly-endpoint.jar
    mode: "0644"
"""

RETURN = r"""
path:
  description: The jar.
  returned: success
  type: str
  sample: /var/cache/dragonfly-endpoint.jar
sha256:
  description: The sha256 of the jar, empty when it does not exist yet in check mode.
  returned: success
  type: str
  sample: 3b2f5c8e0f0e0b0c6f3f5d9d1f4a1e7f8a9b0c1d2e3f405162738495a6b7c8d9
inputs_sha256:
  description: One digest of everything that the jar is made of, empty when something is still missing in check mode.
  returned: success
  type: str
  sample: 9c1185a5c5e9fc54612808977ee8f548b2258d31d2a6f5f0b6a6e9d5c4b3a291
"""

import hashlib
import os
import shutil
import tempfile
import zipfile

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import sha256_of
from ansible_collections.modelfleet.serving.plugins.module_utils._model_archive import DAMAGED
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule

_JAR_IN_WHEEL = "ts/frontend/model-server.jar"
_INPUTS = "ModelFleet-Inputs-Sha256"
_RECIPE = "1"  # Part of the inputs: raise it when this module makes another jar of the same sources.
_EPOCH = (1980, 1, 1, 0, 0, 0)


class PluginBuild:
    def __init__(self, module):
        self.module = module
        self.src = module.params["src"]
        self.dest = module.params["dest"]

    def run(self):
        if os.path.isdir(self.dest):
            raise ModelFleetError("Failed to build {}: there is a directory. Give dest the name of a file.".format(self.dest))
        missing = self._missing()
        if missing and not self.module.check_mode:
            raise ModelFleetError(missing)
        inputs = "" if missing else self._inputs()
        changed = bool(missing and not os.path.exists(self.dest)) or (not missing and inputs != self._built_from())
        if changed and not self.module.check_mode:
            self._build(inputs)
        if os.path.exists(self.dest):
            changed = self.module.set_fs_attributes_if_different(
                self.module.load_file_common_arguments(self.module.params, path=self.dest), changed
            )
        return {"changed": changed, "path": self.dest, "sha256": _sha256(self.dest), "inputs_sha256": inputs}

    def _missing(self):
        """What keeps the jar from being built, as the message for the user."""
        params = self.module.params
        # An empty one counts as given.
        torchserve = params["torchserve_jar"] or params["torchserve_wheel"] or ""
        if not os.path.isfile(torchserve):
            return "Failed to build {}: there is no file {!r}. Check the path of TorchServe's wheel or model-server.jar.".format(
                self.dest, torchserve
            )
        if not _files(self.src, ".java"):
            return "Failed to build {}: there are no Java sources in {}. Check src.".format(self.dest, self.src)
        if not self.module.get_bin_path(params["javac"]):
            return (
                "Failed to build {}: there is no Java compiler {!r} on this host. Install a JDK (Debian: default-jdk-headless), set"
                " endpoint_plugin_build_host to a host that has one, or give a built jar in endpoint_plugin_jar."
            ).format(self.dest, params["javac"])
        return None

    def _inputs(self):
        digest = hashlib.sha256(_RECIPE.encode())
        for name in _files(self.src):
            digest.update("\0{}\0{}".format(name, _sha256(os.path.join(self.src, name))).encode())
        digest.update(hashlib.sha256(self._torchserve_jar()).digest())
        return digest.hexdigest()

    def _torchserve_jar(self):
        jar, wheel = self.module.params["torchserve_jar"], self.module.params["torchserve_wheel"]
        try:
            self._check_wheel(wheel, self.module.params["torchserve_wheel_sha256"].lower())
            if jar:
                with open(jar, "rb") as handle:
                    return handle.read()
            with zipfile.ZipFile(wheel) as archive:
                return archive.read(_JAR_IN_WHEEL)
        except (OSError, KeyError, ValueError, *DAMAGED) as exc:
            raise ModelFleetError("Failed to read model-server.jar from {}: {}. Check the file.".format(jar or wheel, exc)) from exc

    def _check_wheel(self, wheel, expected):
        found = sha256_of(wheel) if wheel and expected else expected
        if found != expected:
            raise ModelFleetError(
                "Refused {}: its sha256 is {}, expected {}. Nothing was built. Remove it, find out who changed it, and run again.".format(
                    wheel, found, expected
                )
            )

    def _built_from(self):
        try:
            with zipfile.ZipFile(self.dest) as jar:
                manifest = jar.read("META-INF/MANIFEST.MF").decode()
        except (OSError, KeyError, ValueError, *DAMAGED):
            return None
        fields = dict(line.split(": ", 1) for line in manifest.replace("\r\n ", "").splitlines() if ": " in line)
        return fields.get(_INPUTS)

    def _build(self, inputs):
        workdir = tempfile.mkdtemp(prefix="modelfleet-endpoint-")
        try:
            classes = os.path.join(workdir, "classes")
            server = os.path.join(workdir, "model-server.jar")
            with open(server, "wb") as handle:
                handle.write(self._torchserve_jar())
            self._compile(server, classes)
            jar = os.path.join(workdir, "plugin.jar")
            self._pack(classes, jar, inputs)
            try:
                os.makedirs(os.path.dirname(os.path.abspath(self.dest)), exist_ok=True)
            except OSError as exc:
                raise ModelFleetError("Failed to create the directory of {}: {}. Check its parents.".format(self.dest, exc)) from exc
            self.module.atomic_move(jar, self.dest)
        finally:
            shutil.rmtree(workdir, ignore_errors=True)

    def _compile(self, server, classes):
        command = [self.module.get_bin_path(self.module.params["javac"]), "--release", "11", "-proc:none", "-encoding", "UTF-8"]
        command += ["-cp", server, "-d", classes]
        command += [os.path.join(self.src, name) for name in _files(self.src, ".java")]
        rc, out, err = self.module.run_command(command)
        if rc != 0:
            raise ModelFleetError(
                "Failed to compile {}: javac ended with {}. It must be of a JDK 11 or newer, and TorchServe 0.8.1 or newer.".format(
                    self.src, rc
                ),
                stdout=out,
                stderr=err,
            )

    def _pack(self, classes, jar, inputs):
        """Sorted entries, one fixed time and no compression library in between: equal inputs make equal bytes."""
        # A line of a manifest has 72 bytes at most; a longer one goes on after a newline and a space.
        head, rest = inputs[:40], inputs[40:]
        entries = {"META-INF/MANIFEST.MF": "Manifest-Version: 1.0\r\n{}: {}\r\n {}\r\n\r\n".format(_INPUTS, head, rest).encode()}
        for root in (self.src, classes):
            for name in _files(root):
                if not name.endswith(".java"):
                    with open(os.path.join(root, name), "rb") as handle:
                        entries[name] = handle.read()
        with zipfile.ZipFile(jar, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(entries):
                info = zipfile.ZipInfo(name, _EPOCH)
                info.external_attr = 0o644 << 16
                archive.writestr(info, entries[name])


def _files(root, suffix=""):
    found = []
    for directory, _dirs, names in os.walk(root):
        found += [os.path.relpath(os.path.join(directory, name), root) for name in names if name.endswith(suffix)]
    return sorted(found)


def _sha256(path):
    return sha256_of(path) if os.path.exists(path) else ""


def main():
    module = CheckedModule(
        argument_spec={
            "src": {"type": "path", "required": True},
            "dest": {"type": "path", "required": True},
            "torchserve_jar": {"type": "path"},
            "torchserve_wheel": {"type": "path"},
            "torchserve_wheel_sha256": {"type": "str", "default": ""},
            "javac": {"type": "str", "default": "javac"},
        },
        mutually_exclusive=[("torchserve_jar", "torchserve_wheel")],
        required_one_of=[("torchserve_jar", "torchserve_wheel")],
        add_file_common_args=True,
        supports_check_mode=True,
    )
    try:
        result = PluginBuild(module).run()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
