# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a module is given, it ends by a result or by one sentence, and touches nothing that it was not told of."""

from __future__ import annotations

import json

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


# What the property has found: (module, options, the end or a part of what is said). {named} is a directory of the sandbox.
HOLDER = {"run": "r", "user": "u", "controller": "c", "pid": 1}
FOUND = [
    ("gpu_info", {"nvidia_smi": "\ud800"}, "Failed to use nvidia_smi: it holds a NUL or half of a surrogate pair"),
    ("gpu_info", {"nvidia_smi": "a\0b"}, "Failed to use nvidia_smi: it holds a NUL"),
    ("doctor_info", {"timeout_s": -1}, "Failed to use timeout_s -1: it must be from 0 to"),
    ("doctor_info", {"timeout_s": 10**30}, "Failed to use timeout_s"),
    ("doctor_info", {"reach": [{"what": "it", "name": "a" * 70 + ".b", "port": 1}]}, None),
    ("doctor_info", {"reach": [{"what": "it", "name": "x", "addresses": ["x:²"]}]}, "Refused the address"),
    ("doctor_info", {"reach": [{"what": "it", "name": "x", "addresses": ["x:99999"]}]}, "Refused the address"),
    ("doctor_info", {"key_file": "{named}/bad.json"}, None),
    ("daemon", {"name": "x.service", "needs": False}, "Failed to read the options: one has another type than it must have."),
    ("traffic_check", {"model": "m", "version": "1", "since": 10**400, "before": 0}, "Failed to read the options"),
    ("traffic_check", {"model": "m", "seconds": "9" * 5000, "since": 0, "before": 0}, "Failed to read the options"),
    ("traffic_check", {"model": "m", "version": "1", "since": float("nan"), "before": 0.0}, "Failed to use since"),
    ("traffic_check", {"model": "m", "version": "1", "since": 1e15, "before": 0.0, "seconds": 1}, None),
    ("traffic_check", {"model": "m", "version": "1", "since": 0, "before": 0, "requests": 1 << 40}, "Failed to use requests"),
    ("model_archive", {"src": None}, "one of the following is required: src, directory"),
    ("endpoint_plugin", {"src": "/x", "dest": "{named}/dir", "torchserve_jar": "{named}/file"}, "there is a directory. Give dest"),
    ("endpoint_plugin", {"src": "/x", "dest": "{named}/new.jar", "torchserve_jar": ""}, "there is no file ''"),
    ("dfdaemon_info", {"health_url": ""}, None),
    ("rollout_lock", {"path": "{named}/bad.json", "holder": HOLDER}, "Refused: a run of ? on ?"),
    ("rollout_lock", {"path": "{named}/" + "x" * 255, "holder": HOLDER}, "Failed to lock this host: "),
    ("python_environment", {"path": "{named}/dir", "others": "["}, "it is no regular expression"),
    ("python_environment", {"path": "{named}/new"}, "Failed to make the link"),
    ("release_lock", {"path": "{named}/bad.json", "releases": []}, "this module did not write it"),
    (
        "haproxy_server",
        {"backend": "b; disable server b/x", "servers": [], "state": "drain"},
        "Failed to use the name 'b; disable server b/x'",
    ),
    ("verify_info", {"packages": ["a"]}, None),
    ("inference_check", {"checks": [{"model": "m", "input": "\ud800", "expected": 1}]}, "answers at"),
    (
        "dragonfly_manager_admin",
        {"url": "http://[1:2", "jwt_key": "0" * 40, "root_password": "0123456789"},
        "the option url is no URL of http or https",
    ),
    ("dragonfly_preheat", {"urls": ["http://[1:2"]}, "Failed to preheat urls[0]: it is no URL of http or https with a host"),
    (
        "dragonfly_manager_database",
        {"type": "postgres", "password": "p", "state": "dumped", "path": "{named}/dir"},
        "it is a directory. Name a file in it.",
    ),
    ("kubernetes_info", {"kubeconfig": "{named}/bad.json"}, "Failed to read the kubeconfig"),
    ("model_artifact", {"artifacts": [], "storage": {"http": {"url": "http://h"}}, "piece_length": "9" * 5000 + "MiB"}, "piece_length"),
]


@pytest.mark.parametrize(("name", "params", "said"), FOUND)
def test_what_was_found_ends_with_a_result_or_a_sentence(sandbox, name, params, said):
    result = sandbox.run(name, json.loads(json.dumps(params).replace("{named}", str(sandbox.named))))
    assert result.get("failed", False) == (said is not None), result
    assert (said or "") in result.get("msg", ""), result
