# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of whatever serves. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._model import is_served
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime_bentoml import BentoMLRuntime
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime_openai import OpenAIRuntime
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime_torchserve import TorchServeRuntime
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime_triton import TritonRuntime

# A runtime is a class with these:
#   KINDS            of what it loads: "object", one file, "bundle", a directory, and "huggingface", a commit of a hub's repository
#   KEYS             of an entry in modelfleet_models that other runtimes do not have
#   SIDE_BY_SIDE     whether two versions of a model can be loaded at once; otherwise one takes the place of the other
#   OPTIONS          {option: specification}, what a module needs to be told to reach it; an option of two runtimes is the same in both
#   entry_problems(model, settings)   yields what is wrong with an entry, to be read after its name, on the controller
#   place            where it is asked, for messages          journal(name, version)   the command that shows what it said of a version
#   wait_up(seconds) until it answers at all; says nothing when it does not
#   describe(name, devices=())   {version: {"file", "workers", "ready", "default"}} of what is registered; ready are the workers that are
#                    so where {version: device} says that they must be
#   path(model)      where on this host's disk lies what it loads; ``file`` of the model is what the record calls it
#   load(model)      register what lies there, verified, and wait until it is ready; it is not the default then if
#                    another version is; gone again after an error
#   wait_ready(model)                      device(model)   "cpu" or "gpu", where its workers must be
#   set_default(name, version)
#   unload(name, version)   another version must be the default if it is one
#   predict(name, version, body, content_type, timeout)   an Answer
#   traffic(name, since, until)   [(version or None, status, milliseconds)] of the requests that it answered between two times
#                    (seconds since the epoch), by its own account; None where it keeps none
RUNTIMES = {"torchserve": TorchServeRuntime, "openai": OpenAIRuntime, "triton": TritonRuntime, "bentoml": BentoMLRuntime}
DEFAULT = "torchserve"


def runtime_name(model):
    """The runtime of an entry in modelfleet_models, None for what no runtime serves."""
    return str(model.get("runtime") or DEFAULT) if is_served(model) else None


def runtime_options():
    """The options of a module that works with any runtime."""
    options = {"runtime": {"type": "str", "choices": list(RUNTIMES), "default": DEFAULT}}
    for runtime in RUNTIMES.values():
        options.update(runtime.OPTIONS)
    return options


def runtime_of(module, name=None):
    """The runtime ``name``, by default the one that the module's options name. Raises ModelFleetError for one that only a record names."""
    name = name or module.params["runtime"]
    if name not in RUNTIMES:
        raise ModelFleetError(
            f"Failed to use the runtime {name!r}, which the record of this host names: this release of modelfleet.serving has no such one. "
            "Use the release that wrote the record."
        )
    return RUNTIMES[name](module)
