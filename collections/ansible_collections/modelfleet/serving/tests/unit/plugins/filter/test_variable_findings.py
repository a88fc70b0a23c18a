# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy

import pytest
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible_collections.modelfleet.serving.plugins.filter.variable_findings import FilterModule
from jinja2 import Undefined

variable_findings = FilterModule().filters()["variable_findings"]
SECRET = "cGxhbnRlZC1zZWNyZXQ"
GOOD = {
    "modelfleet_storage": {"s3": {"bucket": "models", "access_key": "reader", "secret_key": SECRET}},
    "modelfleet_models": [{"name": "resnet50", "version": "1.0", "object": "models/resnet50.mar", "sha256": "9f" * 32}],
    "modelfleet_address": "10.0.0.21",
    "dfdaemon_version": "1.5.10",
    "ansible_host": "gpu-1\n",
}


class Templates(dict):
    """Variables of a host, one of which cannot be read yet."""

    def __getitem__(self, name):
        value = super().__getitem__(name)
        if isinstance(value, AnsibleError):
            raise value
        return value


def findings(**changes):
    return variable_findings({"gpu-1": Templates({**copy.deepcopy(GOOD), **changes})})


def test_good_variables_have_none():
    assert findings() == []
    assert findings(modelfleet_artifacts=[{"src": "resnet50.mar"}], modelfleet_publish_ca_path="", torchserve_version="0.12.0") == []
    for account in ('{"type": "service_account"}\n', {"type": "service_account", "private_key": "lines\n"}):
        assert findings(modelfleet_storage={"gcs": {"bucket": "models", "service_account_json": account}}) == []


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        (
            {"modelfleet_storage": {"s3": {**GOOD["modelfleet_storage"]["s3"], "secret_key": SECRET + "\n"}}},
            "modelfleet_storage.s3.secret_key",
        ),
        (
            {"modelfleet_publish_credentials": {"http": {"headers": [{"name": "X-Key", "value": SECRET + "\n"}]}}},
            "modelfleet_publish_credentials.http.headers[0] (X-Key).value",
        ),
        ({"modelfleet_models": [{**GOOD["modelfleet_models"][0], "object": "a.mar\n"}]}, "modelfleet_models[0] (resnet50).object"),
        ({"modelfleet_models": [{**GOOD["modelfleet_models"][0], "name": "resnet50\n"}]}, "modelfleet_models[0].name"),
        ({"modelfleet_address": "10.0.0.21\n"}, "modelfleet_address"),
        ({"torchserve_pip_index_url": "https://pypi.example.com/simple\n"}, "torchserve_pip_index_url"),
        ({"torchserve_pip_packages": ["torchserve", "PyYAML\n"]}, "torchserve_pip_packages[1]"),
        ({"modelfleet_publish_environment": {"HTTPS_PROXY": "http://proxy:3128\n"}}, "modelfleet_publish_environment.HTTPS_PROXY"),
    ],
)
def test_no_text_ends_with_a_line_end(changes, place):
    said = findings(**changes)
    assert f"The variable {place} ends with a line end; write it without; where a command makes the text, echo adds" in said[0]
    assert SECRET not in str(said)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"modelfleet_models": [GOOD["modelfleet_models"][0], {"name": "bert", "version": "2", "object": "bert.mar"}]},
            "The variable modelfleet_models[1] (bert) is not what its role takes: missing parameter(s) required by 'object': sha256",
        ),
        (
            {"modelfleet_models": [{**GOOD["modelfleet_models"][0], "bundle": "bundles/resnet50"}]},
            "The variable modelfleet_models[0] (resnet50) is not what its role takes: parameters are mutually exclusive: object|bundle",
        ),
        (
            {"modelfleet_models": [{"name": "bert", "version": "2", "sha256": "9f" * 32}]},
            "The variable modelfleet_models[0] (bert) is not what its role takes: one of the following is required: object, bundle, hug",
        ),
        (
            {"modelfleet_models": [{**GOOD["modelfleet_models"][0], "tarball": "bert.tar"}]},
            "modelfleet_models.tarball. Supported parameters include: batch_size, bundle, check",
        ),
        (
            {"modelfleet_storage": {}},
            "The variable modelfleet_storage is not what its role takes: one of the following is required: s3, oss",
        ),
        ({"torchserve_device": "tpu"}, "value of torchserve_device must be one of: cpu, gpu, got: tpu."),
        ({"dfdaemon_keep_releases": "some"}, "The variable dfdaemon_keep_releases is not what its role takes: "),
        ({"dfdaemon_config": SECRET}, "The variable dfdaemon_config is not what its role takes: "),
        (
            {"modelfleet_storage": AnsibleUndefinedVariable("'vault_read_access_key' is undefined")},
            "The variable modelfleet_storage cannot be read: 'vault_read_access_key' is undefined; define it, a secret in vault.yml.",
        ),
        (
            {"modelfleet_storage": AnsibleError("Decryption failed")},
            "The variable modelfleet_storage cannot be read: Decryption failed; correct it.",
        ),
    ],
)
def test_one_sentence_names_variable_and_remedy(changes, sentence):
    (said,) = findings(**changes)
    assert said.startswith(sentence) or sentence in said
    assert SECRET not in said


def test_what_a_role_says_of_itself_is_not_known_yet():
    for name in ("torchserve_inference_port", "ansible_facts", "__torchserve_venv"):
        assert findings(torchserve_config=AnsibleUndefinedVariable(f"'{name}' is undefined")) == []
    # A whole value that is undefined is an object, not an exception.
    assert findings(dfdaemon_release_url=Undefined("object of type 'dict' has no attribute 'architecture'")) == []
    assert "'mirror' is undefined; define it" in findings(dfdaemon_release_url=Undefined(name="mirror"))[0]


def test_variables_of_the_play_count_where_a_host_has_none():
    common = {"modelfleet_storage": {}, "modelfleet_files_dir": "/files\n"}
    (said,) = variable_findings({"gpu-1": GOOD}, common=common)
    assert said.startswith("The variable modelfleet_files_dir ends with a line end")
    assert "modelfleet_storage is not what" in " ".join(variable_findings({"gpu-1": {}}, common=common))


def test_hosts_are_named_where_others_have_it_not():
    bad = {**GOOD, "torchserve_device": "tpu"}
    (said,) = variable_findings({"gpu-1": GOOD, "gpu-2": bad})
    assert said.endswith("(On gpu-2.)")


def test_a_variable_that_reads_another_hosts_is_left_to_its_role():
    assert findings(modelfleet_publish_environment=AnsibleError("'hostvars' is undefined")) == []
