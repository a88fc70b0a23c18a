# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule, DiscreetModule


@pytest.mark.parametrize("options", [{"config": {"password": "hush"}}, {"confg": {"password": "hush"}}, {"config": ["hush"]}])
def test_neither_the_journal_nor_the_result_has_the_options(monkeypatch, capfd, options):
    journal = []
    monkeypatch.setattr(AnsibleModule, "log", lambda self, msg, log_args=None: journal.append(f"{msg} {log_args}"))
    with patch_module_args(options), pytest.raises(SystemExit):
        DiscreetModule(argument_spec={"config": {"type": "dict", "required": True}}).exit_json(changed=False)
    out = capfd.readouterr().out
    # Newer versions of ansible-core leave it out where it is empty.
    assert json.loads(out).get("invocation", {}) == {} and "hush" not in out
    assert "hush" not in str(journal)


SPEC = {
    "name": {"type": "str", "default": "n"},
    "path": {"type": "path", "required": True},
    "token": {"type": "str", "no_log": True},
    "timeout": {"type": "int", "default": 5},
    "share": {"type": "float"},
    "entries": {"type": "list", "elements": "dict", "options": {"wait_s": {"type": "int"}, "names": {"type": "list", "elements": "str"}}},
    "free": {"type": "dict"},
    "body": {"type": "raw"},
}


def end_of(capfd, options, kind=CheckedModule):
    with patch_module_args(options), pytest.raises(SystemExit):
        module = kind(argument_spec=SPEC)
        module.exit_json(changed=False, params=module.params)
    return json.loads(capfd.readouterr().out)


@pytest.mark.parametrize("kind", [CheckedModule, DiscreetModule])
def test_a_module_that_fails_while_it_tidies_up_after_a_failure_has_one_result(capfd, kind):
    with patch_module_args({"path": "/x"}), pytest.raises(SystemExit):
        module = kind(argument_spec=SPEC)
        try:
            module.fail_json(msg="why")
        finally:
            module.fail_json(msg="what came of it")
    assert json.loads(capfd.readouterr().out)["msg"] == "why"


@pytest.mark.parametrize("kind", [CheckedModule, DiscreetModule])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": "/a\0b"}, "Failed to use path: it holds a NUL or half of a surrogate pair, which no text has; write it without."),
        ({"path": "/x", "token": "PLANTED\ud800"}, "Failed to use token: it holds"),
        ({"path": "/x", "free": {"a": [{"\0": 1}]}}, "Failed to use free: it holds"),
        ({"path": "/x", "entries": [{}, {"names": ["a", "\udfff"]}]}, "Failed to use entries[1].names[1]: it holds"),
        ({"path": "/x", "timeout": -1}, "Failed to use timeout -1: it must be from 0 to 31536000 seconds."),
        ({"path": "/x", "entries": [{"wait_s": 10**9}]}, "Failed to use entries[0].wait_s 1000000000: it must be"),
        ({"path": "/x", "share": float("nan")}, "Failed to use share: it is no number that can be reckoned with; write another."),
        ({"path": "/x", "timeout": 10**400}, "Failed to use timeout: it is no number"),
        (
            {"path": "/x", "share": 10**400},
            "Failed to read the options: one has another type than it must have. Compare each with ansible-doc.",
        ),
        ({"path": None}, "missing required arguments: path"),
    ],
)
def test_what_no_option_can_mean_is_refused(capfd, options, said, kind):
    result = end_of(capfd, options, kind)
    assert result["failed"] and result["msg"].startswith(said)
    assert "PLANTED" not in str(result)


def test_what_is_null_was_not_given(capfd):
    params = end_of(capfd, {"path": "/x", "name": None, "entries": [{"wait_s": None, "names": ["a"]}], "free": {"a": None}})["params"]
    assert (params["name"], params["entries"], params["free"]) == ("n", [{"wait_s": None, "names": ["a"]}], {"a": None})


def test_what_is_json_may_hold_anything(capfd):
    assert end_of(capfd, {"path": "/x", "body": {"a": ["\0\ud800", 10**30]}})["params"]["body"] == {"a": ["\0\ud800", 10**30]}
