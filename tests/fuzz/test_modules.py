# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a module is given, it ends by a result or by one sentence, and touches nothing that it was not told of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inputs import options_like, texts
from sandbox import MODULES, World, spec_of

programs = st.lists(st.tuples(st.sampled_from([0, 0, 0, 1, 124, 127, 257]), texts, texts), min_size=1, max_size=3)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_ends_with_a_result_or_a_sentence(sandbox, name):
    spec = spec_of(name)

    @given(options_like(spec["argument_spec"], sandbox.paths(), spec), st.booleans(), st.booleans(), programs)
    def ends(params, check, diff, said):
        sandbox.run(name, params, check, diff, World(said))

    ends()
