# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the fuzzing goes on: a moment with the same inputs in every run, or with FUZZ=long (make fuzz-tests) for as many as FUZZ_INPUTS
says, other ones each time. A failure prints the input; put it beside the property as an @example, or into the test of what was mended."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from sandbox import Sandbox

# Ansible refuses half of a surrogate pair where modules run in the controller's process, as here; on a host they get it.
os.environ["ANSIBLE_MODULE_STRICT_UTF8_RESPONSE"] = "false"
LONG = os.environ.get("FUZZ") == "long"
INPUTS = int(os.environ.get("FUZZ_INPUTS", "10000")) if LONG else 15

settings.register_profile(
    "fuzz",
    max_examples=INPUTS,
    deadline=None,
    derandomize=not LONG,
    database=None,
    print_blob=LONG,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
settings.load_profile("fuzz")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """Runs a module in this process; see Sandbox. What it takes the place of is back for the tests of others."""
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as found:
        yield found
