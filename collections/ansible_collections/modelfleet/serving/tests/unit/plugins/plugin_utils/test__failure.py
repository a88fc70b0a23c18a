# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.plugin_utils._failure import sentences_of

ARGUMENTS = {
    "msg": "Validation of arguments failed:\nmissing required arguments: sha256 found in modelfleet_models",
    "argument_errors": ["missing required arguments: sha256 found in modelfleet_models", "argument 'b' is of type str."],
    "argument_spec_data": {f"option_{number}": {"type": "str", "description": "a page of it"} for number in range(100)},
    "validate_args_context": {"type": "role", "name": "modelfleet.serving.modelfleet", "argument_spec_name": "main"},
}


@pytest.mark.parametrize(
    ("result", "action", "sentences"),
    [
        ({"argument_errors": ["no b."]}, "ansible.builtin.validate_argument_spec", ["The arguments are wrong: no b."]),
        ({"msg": "Failed to lock x: y. Do z."}, "modelfleet.serving.model_artifact", ["Failed to lock x: y. Do z."]),
        ({"msg": "Task failed: Module failed: Failed to\n  lock\tx."}, "m", ["Failed to lock x."]),
        ({"msg": "One is wrong\nTwo is wrong"}, "ansible.builtin.assert", ["One is wrong", "Two is wrong"]),
        ({"msg": ["One is wrong", "Two is wrong"]}, "ansible.builtin.assert", ["One is wrong", "Two is wrong"]),
        (
            ARGUMENTS,
            "ansible.builtin.validate_argument_spec",
            [
                "The variables of the role modelfleet.serving.modelfleet are wrong: missing required arguments: sha256 found in "
                "modelfleet_models; argument 'b' is of type str."
            ],
        ),
        (
            {"msg": "non-zero return code", "rc": 3, "cmd": ["/bin/check", "secret"], "stderr": "first\nno GPU\n", "stdout": "x"},
            "ansible.builtin.command",
            ["/bin/check ended with 3: no GPU"],
        ),
        ({"msg": "non-zero return code", "rc": 3, "cmd": "false", "stderr": ""}, "command", ["false ended with 3: it wrote nothing"]),
        (
            {"msg": "MODULE FAILURE: See stdout/stderr", "rc": 1, "module_stderr": "Traceback\n  File x\nKeyError: 'a'\n"},
            "m",
            ["The module ended with 1: KeyError: 'a'"],
        ),
        ({"censored": "the output has been hidden", "msg": "secret"}, "m", ["It failed, and what it says is hidden (no_log)."]),
        ({"msg": "secret", "_ansible_no_log": True}, "m", ["It failed, and what it says is hidden (no_log)."]),
        ({"stderr": "what it wrote"}, "m", ["what it wrote"]),
        ({}, "m", ["It failed and does not say why; -v shows its result."]),
        ({"msg": None}, "m", ["It failed and does not say why; -v shows its result."]),
        ({"msg": "a\x1b[2Jb"}, "m", ["a b"]),
    ],
)
def test_what_went_wrong_is_a_sentence(result, action, sentences):
    assert sentences_of(result, action) == sentences
