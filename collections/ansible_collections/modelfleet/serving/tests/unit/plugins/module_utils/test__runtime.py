# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of a runtime, every one can be asked, and in the same way."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.modelfleet.serving.plugins.module_utils import _model_record, _runtime
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime import DEFAULT, RUNTIMES, runtime_options

# As the comment above RUNTIMES has them.
INTERFACE = re.findall(
    r"\b([a-z_]+)(\((?:[^()]|\(\))*\))", Path(_runtime.__file__).read_text().partition("# A runtime is")[2].partition("\nRUNTIMES")[0]
)
ROLE = Path(_runtime.__file__).parents[2] / "roles/variables/meta/argument_specs.yml"


def test_the_interface_is_written_down():
    assert {"describe", "load", "unload", "predict", "set_default", "wait_ready", "traffic"} <= {name for name, _parameters in INTERFACE}


@pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=RUNTIMES)
def test_every_runtime_has_it(runtime):
    for name, parameters in INTERFACE:
        found = inspect.signature(getattr(runtime, name)).parameters.values()
        asked = str(inspect.Signature([one.replace(annotation=inspect.Parameter.empty) for one in found if one.name != "self"]))
        assert asked == parameters, name
    assert set(runtime.KINDS) <= {"object", "bundle", "huggingface"} and isinstance(runtime.SIDE_BY_SIDE, bool)


def test_an_option_of_two_runtimes_is_the_same_in_both():
    merged = runtime_options()
    for runtime in RUNTIMES.values():
        assert {name: merged[name] for name in runtime.OPTIONS} == runtime.OPTIONS


def test_an_inventory_and_a_record_know_the_same():
    options = yaml.safe_load(ROLE.read_text())["argument_specs"]["main"]["options"]["modelfleet_models"]["options"]
    assert (options["runtime"]["choices"], options["runtime"]["default"]) == (list(RUNTIMES), DEFAULT)
    assert _model_record.TORCHSERVE == DEFAULT
    for runtime in RUNTIMES.values():
        assert set(runtime.KEYS) <= set(options)
