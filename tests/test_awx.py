# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX is told: by the options that its own collection has, and with surveys whose answers are variables of this one."""

from __future__ import annotations

import importlib
import json
import sys
from unittest import mock

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from test_distribute import STUB
from test_repository import COLLECTION, PLAYBOOKS, REPOSITORY, load

AWX = REPOSITORY / "awx"
MODULES = ("execution_environment", "project", "inventory", "inventory_source", "job_template", "workflow_job_template")
SURVEYS = load(AWX / "surveys.yml")["awx_surveys"]
QUESTIONS = [(play, question) for play, questions in SURVEYS.items() for question in questions]
# An answer in place of the right one, by the kind of the question, and what AWX has of a number that somebody sends by its API.
WRONG = {"multiplechoice": "perhaps", "integer": "soon", "float": "twice", "text": "gpu-3\n"}
# What a survey may say of each kind, by the checks that AWX makes of one.
KINDS = {"text", "textarea", "password", "integer", "float", "multiplechoice", "multiselect"}


def spec_of(module):
    """The options of a module of awx.awx, as the module itself has them."""
    found = importlib.import_module(f"ansible_collections.awx.awx.plugins.modules.{module}")
    with mock.patch.object(found, "ControllerAPIModule", side_effect=InterruptedError) as construct, pytest.raises(InterruptedError):
        found.main()
    connection = {"controller_host": {}, "controller_oauthtoken": {"no_log": True}}
    return {**construct.call_args.kwargs["argument_spec"], **connection}


def options():
    roles = ("variables", "rollout", "torchserve", "smoke")
    found = [load(COLLECTION / f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"] for role in roles]
    return {name: option for one in found for name, option in one.items()}


@pytest.fixture
def told(run, tmp_path):
    """Run the play against a collection awx.awx that only notes what it is told; returns a callable that gives [(module, arguments)]."""
    collection = tmp_path / "ansible_collections/awx/awx"
    for kind in ("action", "modules"):
        (collection / f"plugins/{kind}").mkdir(parents=True)
    for name in MODULES:
        (collection / f"plugins/action/{name}.py").write_text(STUB)
        (collection / f"plugins/modules/{name}.py").touch()

    def play(code=0, **variables):
        log = tmp_path / "log"
        log.write_text("")
        said = {"log": str(log), "answers": {name: {"changed": False} for name in MODULES}, **variables}
        done = run("ansible-playbook", "-i", "localhost,", "-c", "local", AWX / "configure.yml", "-e", json.dumps(said),
                   ANSIBLE_COLLECTIONS_PATH=f"{tmp_path}:{REPOSITORY / 'collections'}")  # fmt: skip
        assert done.returncode == code, done.stdout
        return done, [(call["module"], call["args"]) for call in map(json.loads, log.read_text().splitlines())]

    return play


def test_awx_takes_what_it_is_told(told):
    _done, calls = told(awx_gpu_hosts=1000, awx_slice_hosts=300)
    assert {module for module, _args in calls} == set(MODULES)
    for module, args in calls:
        judged = ArgumentSpecValidator(spec_of(module)).validate(args)
        assert judged.error_messages == [], module
    templates = {args["name"]: args for module, args in calls if module == "job_template"}
    assert {args["playbook"].removeprefix("playbooks/") for args in templates.values()} <= {path.name for path in PLAYBOOKS}
    assert all(args.get("job_slice_count", 1) == 1 for args in templates.values()), "a slice of AWX has no schedulers"
    for args in templates.values():
        assert bool(args["survey_enabled"]) is ("survey_spec" in args)
    workflows = {args["name"]: args for module, args in calls if module == "workflow_job_template"}
    for name, args in workflows.items():
        nodes = {node["identifier"]: node for node in args["workflow_nodes"]}
        assert len(nodes) == len(args["workflow_nodes"]), name
        followers = {one["identifier"] for node in nodes.values() for those in node.get("related", {}).values() for one in those}
        assert set(nodes) - followers == {args["workflow_nodes"][0]["identifier"]}, "what nothing leads to begins"
        assert followers <= set(nodes)
        # A way on after a failure would make the workflow green.
        assert all(set(node.get("related", {})) <= {"success_nodes"} for node in nodes.values())
        for node in nodes.values():
            job = node["unified_job_template"]
            assert job["type"] == "workflow_approval" or job["name"] in templates
            assert "limit" not in node or templates[job["name"]]["ask_limit_on_launch"]
        assert all(WRONG.get(one["type"]) for one in args["survey_spec"]["spec"])
    slices = [node["limit"] for node in workflows["ModelFleet site in slices"]["workflow_nodes"] if node["identifier"].startswith("slice-")]
    assert slices == ["gpu_hosts[0:299]", "gpu_hosts[300:599]", "gpu_hosts[600:899]", "gpu_hosts[900:1199]"], "every host is in one of them"


@pytest.mark.parametrize("settings", [{"awx_slice_hosts": "many"}, {"awx_gpu_hosts": 0}, {"awx_credentials": "ModelFleet hosts"}])
def test_a_setting_that_cannot_be_is_one_sentence(told, settings):
    done, calls = told(code=2, **settings)
    assert calls == [] and "correct awx/settings.yml" in " ".join(done.stdout.split()) and "Traceback" not in done.stdout


@pytest.mark.parametrize(("play", "question"), QUESTIONS, ids=[question["variable"] for _play, question in QUESTIONS])
class TestQuestion:
    def test_is_one_that_awx_can_ask(self, play, question):
        assert question["type"] in KINDS
        assert {"variable", "question_name", "question_description", "type", "default"} <= set(question)
        assert ("choices" in question) is (question["type"] in ("multiplechoice", "multiselect"))
        assert question["default"] in question.get("choices", [question["default"]])
        assert (COLLECTION / f"playbooks/{play}.yml").exists()

    def test_is_about_a_variable_with_its_default(self, play, question):
        option = options()[question["variable"]]
        defaults = load(COLLECTION / "roles/modelfleet/defaults/main.yml")
        shown = {"bool": "multiplechoice", "int": "integer", "float": "float", "str": "text"}
        assert question["type"] == shown[option["type"]], play
        assert str(question["default"]).lower() == str(defaults[question["variable"]]).lower()

    def test_an_answer_of_the_wrong_type_is_one_sentence(self, play, question):
        sys.path.insert(0, str(REPOSITORY / "collections"))
        from ansible_collections.modelfleet.serving.plugins.filter.variable_findings import FilterModule

        findings = FilterModule().filters()["variable_findings"]
        good = {"modelfleet_storage": {"s3": {"bucket": "models", "access_key": "a", "secret_key": "s"}}, "modelfleet_address": "10.0.0.21"}
        assert findings({"gpu-1": {**good, question["variable"]: question["default"]}}) == []
        (sentence,) = findings({"gpu-1": {**good, question["variable"]: WRONG[question["type"]]}})
        what = "ends with a line end" if question["type"] == "text" else "is not what its role takes"
        assert f"The variable {question['variable']} {what}" in sentence and "\n" not in sentence, play


def test_what_jobs_run_in_has_what_the_collection_needs():
    """ansible-builder itself is not here: the keys of its third schema."""
    said = load(AWX / "execution-environment.yml")
    assert said["version"] == 3 and set(said) <= {"version", "images", "dependencies", "build_arg_defaults", "options"}
    for name in ("galaxy", "python", "system"):
        assert (AWX / said["dependencies"][name]).exists()
    version = load(COLLECTION / "galaxy.yml")["version"]
    (wanted,) = [
        one for one in yaml.safe_load((AWX / "requirements.yml").read_text())["collections"] if one["name"] == "modelfleet.serving"
    ]
    assert f">={version.rpartition('.')[0]}." in wanted["version"]
    assert (
        load(COLLECTION / "meta/runtime.yml")["requires_ansible"].removesuffix(".0") in said["dependencies"]["ansible_core"]["package_pip"]
    )
