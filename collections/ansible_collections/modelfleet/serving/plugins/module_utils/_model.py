# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The entries of a list of models. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import re

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

# Name and version become parts of one file name, and TorchServe refuses file names with two dots in a row.
# ModelName.java has the same rule; tests/plugin/test_names.py compares the two.
_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NAME_RULE = "must be of letters, digits, dots, dashes and underscores, 100 at most, with a letter or digit first and no two dots in a row"
# What a registration takes, by the name that TorchServe describes it with.
DESCRIBED = {
    "batch_size": "batchSize",
    "max_batch_delay": "maxBatchDelay",
    "response_timeout": "responseTimeout",
    "startup_timeout": "startupTimeout",
}
# What a version of a model is, for the argument specification of a module that takes a list of them.
MODEL_OPTIONS = {
    "name": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "object": {"type": "str"},
    "bundle": {"type": "str"},
    "sha256": {"type": "str"},
    "workers": {"type": "int", "default": 1},
    "batch_size": {"type": "int"},
    "max_batch_delay": {"type": "int"},
    "response_timeout": {"type": "int"},
    "startup_timeout": {"type": "int"},
    "device": {"type": "str", "choices": ["cpu", "gpu"]},
}
# Words that come before the version they are added to: 2.0rc1 is older than 2.0.
_BEFORE = ("a", "alpha", "b", "beta", "c", "dev", "pre", "preview", "rc")


def is_name(text):
    """Whether ``text`` (str) can be the name or the version of a model."""
    return bool(_NAME.fullmatch(text))


def model_file(name, version, sha256):
    """Name of a model's file in the model store; two contents never share a name."""
    return f"{model_directory(name, version, sha256)}.mar"


def model_directory(name, version, sha256):
    """Name of a bundle's directory in the model store; ``sha256`` is that of its manifest."""
    return f"{name}-{version}-{sha256[:12]}"


def version_key(version):
    """A key that sorts versions as people count them: 9.0, 10.0rc1, 10.0, 10.0.1."""
    parts = re.findall(r"[0-9]+|[a-z]+", version.lower())
    # A number is newer than the end of the version, a word such as "post" as well; a word such as "rc" is older.
    key = [(3, int(part), "") if part.isdigit() else (0 if part in _BEFORE else 2, 0, part) for part in parts]
    # The text itself keeps apart what counts the same.
    return [*key, (1, 0, "")], version


def is_served(model):
    """Whether a runtime serves an entry of the list. What is of a hub and names none is for consumers of its cache."""
    return bool(model.get("runtime")) or not model.get("huggingface")


def title(model):
    return f"model {model['name']} {model['version']}"


def content_of(model):
    """What the content of an entry is named by: the sha256 of an object or of a bundle's manifest, or a commit of a hub."""
    return model["huggingface"]["revision"] if model.get("huggingface") else model["sha256"]


def content_title(model):
    return f"{'commit' if model.get('huggingface') else 'sha256'} {content_of(model)}"


def file_of(model):
    """Name of what the entry is where its like lies: a bundle's directory, the file of an object, the directory of a commit."""
    if model.get("huggingface"):
        return content_of(model)
    return (model_directory if model.get("bundle") else model_file)(model["name"], model["version"], model["sha256"])


def asked(model):
    """The parameters of a registration that the entry names, {key: int}."""
    return {key: model[key] for key in DESCRIBED if model.get(key) is not None}


def differences(model, description, device):
    """Yield (key, wanted, key in TorchServe's description, what that says) of what the entry asks and TorchServe does otherwise.

    ``description`` is one version of TorchServe.describe; a prediction says nothing of what it does not know. ``device`` ("cpu" or "gpu")
    is where the workers must be. Workers are not compared: their number can be changed at any time.
    """
    for key, wanted in asked(model).items():
        found = description.get(DESCRIBED[key])
        if found != wanted and not (found is None and description.get("predicted")):
            yield key, wanted, DESCRIBED[key], found
    found = description.get("deviceType")
    # Without a word about the device, a worker on a GPU does no harm.
    if found and found != device and (device == "gpu" or model.get("device")):
        yield "device", device, "deviceType", found


def check_list(models, via):
    """Fail on a list that contradicts itself or misses a key; ``via`` is the option of torchserve_model. Raises ModelFleetError."""
    seen, defaults = set(), {}
    for model in models:
        if (model["name"], model["version"]) in seen:
            raise ModelFleetError(f"The list of models names {title(model)} twice. Keep one entry for each name and version.")
        seen.add((model["name"], model["version"]))
        for key in ("name", "version"):
            if not is_name(model[key]):
                raise ModelFleetError(f"The {key} {model[key]!r} in the list of models {NAME_RULE}; rename it.")
        if model["state"] == "absent" or model.get("huggingface"):
            continue
        if not model["sha256"]:
            raise ModelFleetError(f"The {title(model)} in the list of models has no sha256. Give its sha256.")
        if model["object"] and model["bundle"]:
            raise ModelFleetError(f"The {title(model)} in the list of models has an object and a bundle. Give the one that it is.")
        if via == "plugin" and not model["object"] and not model["bundle"]:
            raise ModelFleetError(f"The {title(model)} in the list of models has no object and no bundle. Give the one that it is.")
        if not re.fullmatch(r"[0-9a-fA-F]{64}", model["sha256"]):
            raise ModelFleetError(
                f"The sha256 of {title(model)} is not 64 hexadecimal digits. Give the output of sha256sum of its .mar, or what publish "
                "printed for its bundle."
            )
        model["sha256"] = model["sha256"].lower()
        for key in ("workers", *asked(model)):
            least = 0 if key == "max_batch_delay" else 1
            if model[key] < least:
                raise ModelFleetError(f"The {key} of {title(model)} must be at least {least}, not {model[key]}.")
        if model["default"] and defaults.setdefault(model["name"], model["version"]) != model["version"]:
            raise ModelFleetError(
                f"The list of models makes both {defaults[model['name']]} and {model['version']} the default version of {model['name']}. "
                "Set default on one."
            )
