# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from types import SimpleNamespace

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _rollout, _torchserve
from ansible_collections.modelfleet.serving.plugins.modules import (
    bentoml_model,
    model_rollout,
    openai_model,
    torchserve_model,
    triton_model,
)
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_bentoml import FakeBentoML
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_openai import FakeOpenAI
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_torchserve import FakeTorchServe, description
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_triton import FakeTriton


@pytest.fixture
def fake(tmp_path, monkeypatch):
    server = FakeTorchServe(tmp_path)
    monkeypatch.setattr(_torchserve.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(_rollout, "BACK_S", 0)
    yield server
    server.close()


class Host:
    def __init__(self, fake, tmp_path, run_module):
        self.fake, self.run_module = fake, run_module
        self.store, self.state = tmp_path / "models", tmp_path / "state"
        self.store.mkdir()
        self.state.mkdir()
        self.record = self.state / "models.json"

    def model(self, version, on_disk=True, **options):
        """An entry of the list, its file on the disk."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr(zipfile.ZipInfo("weights"), f"demo {version}")
        content = packed.getvalue()
        sha256 = hashlib.sha256(content).hexdigest()
        if on_disk:
            (self.store / f"demo-{version}-{sha256[:12]}.mar").write_bytes(content)
        return {"name": "demo", "version": version, "object": f"models/demo/{version}.mar", "sha256": sha256, **options}

    def arguments(self, models, **options):
        return {
            "models": models,
            "base_url": self.fake.url,
            "key_file": str(self.fake.key_file),
            "model_store": str(self.store),
            "record": str(self.record),
            "record_group": "root",
            "timeout": 1,
            **options,
        }

    def site(self, *models, check=False):
        return self.run_module(torchserve_model.main, self.arguments(list(models), via="api", replace_default=False), check=check)

    def serve(self, *models):
        done = self.site(*models)
        assert not done.get("failed"), done["msg"]

    def step(self, state, *models, check=False, diff=False, **options):
        arguments = self.arguments(list(models), state=state, **{"grace_s": 0, **options})
        return self.run_module(model_rollout.main, arguments, check=check, diff=diff)

    def steps(self, *models, through=("prepared", "switched", "finished"), **options):
        for state in through:
            done = self.step(state, *models, **options)
            assert not done.get("failed"), done["msg"]
        return done

    def recorded(self, part="models"):
        return {one["version"]: one for one in json.loads(self.record.read_text()).get(part, [])}

    @property
    def served(self):
        return sorted(self.fake.models.get("demo", {})), self.fake.defaults.get("demo")


@pytest.fixture
def host(fake, tmp_path, run_module):
    made = Host(fake, tmp_path, run_module)
    made.serve(made.model("1.0"))
    fake.calls.clear()
    return made


def test_a_new_version_step_by_step(host):
    new = host.model("2.0")
    (prepared,) = host.step("prepared", new)["models"]
    assert (prepared["action"], prepared["from"], prepared["on_disk"], prepared["workers_ready"]) == ("prepared", "1.0", True, 1)
    # A start restores the old one, whatever happens from here on.
    assert host.served == (["1.0", "2.0"], "1.0") and list(host.recorded()) == ["1.0"] and list(host.recorded("staged")) == ["2.0"]
    assert host.step("switched", new)["models"][0]["action"] == "switched"
    assert host.served == (["1.0", "2.0"], "2.0") and list(host.recorded()) == ["1.0"]
    assert host.recorded()["1.0"]["default"] is True
    assert host.step("finished", new)["models"][0]["action"] == "finished"
    assert host.served == (["2.0"], "2.0")
    assert [one["default"] for one in host.recorded().values()] == [True] and list(host.recorded()) == ["2.0"]
    assert list(host.recorded("previous")) == ["1.0"] and host.recorded("staged") == {}
    assert (host.store / host.recorded("previous")["1.0"]["file"]).exists()


def test_each_step_is_done_once(host):
    new = host.model("2.0")
    for state in ("prepared", "switched", "finished"):
        assert host.step(state, new)["changed"]
        assert not host.step(state, new)["changed"]
    for state in ("prepared", "switched", "finished", "undone"):
        assert not host.step(state, new)["changed"]
        assert not host.step(state, new, check=True)["changed"]


def test_check_mode_is_the_plan(host):
    new = host.model("2.0", on_disk=False)
    planned = host.step("prepared", new, check=True, diff=True)
    assert planned["changed"] and planned["models"][0]["action"] == "prepared" and planned["models"][0]["on_disk"] is False
    assert planned["diff"]["before"] == "demo: answers 1.0, registered 1.0, current 1.0, previous -, staged -\n"
    assert host.fake.changes() == [] and "staged" not in json.loads(host.record.read_text())
    host.model("2.0")
    done = host.steps(new, through=["prepared"], diff=True)
    assert done["diff"]["after"] == "demo: answers 1.0, registered 1.0, 2.0, current 1.0, previous -, staged 2.0\n"


def test_undone_before_and_after_the_switch(host):
    new = host.model("2.0")
    for through in (["prepared"], ["prepared", "switched"]):
        host.steps(new, through=through)
        assert host.step("undone", new, check=True)["changed"]
        assert host.step("undone", new)["models"][0]["action"] == "undone"
        assert host.served == (["1.0"], "1.0")
        assert list(host.recorded()) == ["1.0"] and host.recorded("staged") == {} and host.recorded("previous") == {}
        assert not host.step("undone", new)["changed"]


def test_a_worker_that_stays_on_the_cpu_is_not_ready_on_a_gpu(host):
    new = host.model("2.0")
    host.steps(new, through=["prepared"])
    (seen,) = host.step("prepared", {**new, "device": "gpu"}, check=True)["models"]
    assert (seen["workers_ready"], seen["action"]) == (0, "prepared")
    (seen,) = host.step("prepared", {**new, "device": "cpu"}, check=True, device="gpu")["models"]
    assert (seen["workers_ready"], seen["action"]) == (1, "unchanged")


def test_a_version_that_does_not_load_leaves_the_old_one(host):
    host.fake.failures = [(500, "InternalServerException", "Failed to start workers", description("2.0", "x", status="DIED"))] * 2
    failed = host.step("prepared", host.model("2.0"))
    assert failed["failed"] and "Failed to register model demo 2.0" in failed["msg"]
    assert host.served == (["1.0"], "1.0")
    assert list(host.recorded("staged")) == ["2.0"]
    assert host.step("undone", host.model("2.0"))["changed"]
    assert host.recorded("staged") == {} and list(host.recorded()) == ["1.0"]


def test_in_place_of_the_old_version_and_back(host):
    new = host.model("2.0")
    host.steps(new, through=["prepared"], replace=True)
    assert host.served == (["2.0"], "2.0") and list(host.recorded()) == ["1.0"]
    assert host.step("undone", new, replace=True)["changed"]
    assert host.served == (["1.0"], "1.0") and list(host.recorded()) == ["1.0"]
    # Never both at once.
    registered = [call for call in host.fake.calls if call.startswith(("POST /models", "DELETE"))]
    assert registered == ["DELETE /models/demo/1.0", "POST /models", "DELETE /models/demo/2.0", "POST /models"]


def test_nothing_is_replaced_that_could_not_come_back(host):
    (host.store / host.recorded()["1.0"]["file"]).write_bytes(b"rotten")
    failed = host.step("prepared", host.model("2.0"), replace=True, check=True)
    assert failed["failed"] and "has sha256" in failed["msg"]
    assert host.served == (["1.0"], "1.0")


def test_another_version_than_the_one_that_was_left_half_way(host):
    host.steps(host.model("2.0"), through=["prepared", "switched"])
    host.steps(host.model("3.0"))
    assert host.served == (["3.0"], "3.0")
    assert list(host.recorded("previous")) == ["1.0"] and host.recorded("staged") == {}


def test_the_old_list_takes_away_what_was_left_half_way(host):
    host.steps(host.model("2.0"), through=["prepared", "switched"])
    old = host.model("1.0")
    assert host.step("prepared", old, check=True)["changed"]
    assert host.step("prepared", old)["models"][0]["action"] == "undone"
    assert host.served == (["1.0"], "1.0")
    assert not host.step("prepared", old)["changed"]


def test_goes_on_after_the_runtime_came_back_with_the_old_version(host):
    new = host.model("2.0")
    host.steps(new, through=["prepared", "switched"])
    host.fake.put("demo", description("1.0", host.recorded()["1.0"]["file"]))
    failed = host.step("finished", new)
    assert failed["failed"] and "it is not what" in failed["msg"]
    assert list(host.recorded()) == ["1.0"]
    host.steps(new)
    assert host.served == (["2.0"], "2.0")


def test_finishes_nothing_that_it_did_not_begin(host):
    host.fake.put("demo", description("2.0", "x"))
    failed = host.step("finished", host.model("2.0"))
    assert failed["failed"] and "Failed to finish the rollout of model demo 2.0" in failed["msg"]
    assert list(host.recorded()) == ["1.0"]


def test_goes_on_after_a_crash_between_the_record_and_the_old_version(host):
    new, old = host.model("2.0"), host.recorded()["1.0"]["file"]
    host.steps(new)
    host.fake.models["demo"]["1.0"] = description("1.0", old)
    assert host.step("prepared", new, check=True)["changed"]
    assert host.step("prepared", new)["models"][0]["action"] == "finished"
    assert host.served == (["2.0"], "2.0")


def test_a_version_that_stays_beside_it(host):
    host.steps(host.model("2.0"), keep=[{"name": "demo", "version": "1.0"}])
    assert host.served == (["1.0", "2.0"], "2.0")
    assert {version: one["default"] for version, one in host.recorded().items()} == {"1.0": False, "2.0": True}
    assert host.recorded("previous") == {}
    # And back, without any of them leaving.
    host.steps(host.model("1.0"), keep=[{"name": "demo", "version": "2.0"}])
    assert host.served == (["1.0", "2.0"], "1.0")


def test_the_first_version_of_a_model(host):
    new = {**host.model("1.0"), "name": "other"}
    (host.store / f"other-1.0-{new['sha256'][:12]}.mar").write_bytes((host.store / host.recorded()["1.0"]["file"]).read_bytes())
    host.steps(new, through=["prepared"])
    assert host.step("undone", new)["changed"] and "other" not in host.fake.models
    host.steps(new)
    assert host.fake.defaults["other"] == "1.0" and list(host.fake.models) == ["demo", "other"]


def test_only_one_version_is_kept_to_go_back_to(host):
    host.steps(host.model("2.0"))
    (done,) = host.steps(host.model("3.0"))["models"]
    assert [(one["name"], one["version"]) for one in done["removable"]] == [("demo", "1.0")]
    assert list(host.recorded("previous")) == ["2.0"]


def test_what_site_serves_again_is_not_taken_away(host):
    """The previous version, listed beside the new one."""
    host.steps(host.model("2.0"))
    host.serve(host.model("1.0"), host.model("2.0", default=True))
    (done,) = host.steps(host.model("3.0"), keep=[{"name": "demo", "version": "1.0"}])["models"]
    assert done["removable"] == []
    assert host.served == (["1.0", "3.0"], "3.0")


@pytest.mark.parametrize("replace", [False, True])
def test_rolls_back_from_local_disk_and_forward_again(host, replace):
    host.steps(host.model("2.0"))
    leave = {"name": "demo", "version": "2.0"}
    assert host.step("rolled_back", leave, check=True, replace=replace)["changed"] and host.served == (["2.0"], "2.0")
    (done,) = host.step("rolled_back", leave, replace=replace)["models"]
    assert (done["action"], done["from"], done["previous"], done["workers_ready"]) == ("rolled_back", "2.0", "1.0", 1)
    assert host.served == (["1.0"], "1.0") and list(host.recorded()) == ["1.0"]
    assert host.recorded("previous")["2.0"]["rolled_back"] is True
    assert not host.step("rolled_back", leave, replace=replace)["changed"]
    host.steps(host.model("2.0"))
    assert host.served == (["2.0"], "2.0") and list(host.recorded("previous")) == ["1.0"]


def test_requests_on_their_way_are_answered_before_a_version_goes(host, monkeypatch):
    host.steps(host.model("2.0"))
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        host.fake.calls.append("waits")

    clock = SimpleNamespace(monotonic=lambda: 100 + sum(waited), sleep=sleep, time=lambda: 1_700_000_000.5)
    monkeypatch.setattr(_rollout, "time", clock)
    host.fake.calls.clear()
    done = host.step("rolled_back", {"name": "demo", "version": "2.0"}, grace_s=5)
    # How long it took is until another version answered.
    assert (waited, done["seconds"], done["time"]) == ([5], 0, 1_700_000_000.5)
    assert [call for call in host.fake.calls if call.startswith(("waits", "PUT", "DELETE"))] == [
        "PUT /models/demo/1.0/set-default",
        "waits",
        "DELETE /models/demo/2.0",
    ]


def test_a_previous_version_that_is_gone_or_rotten_changes_nothing(host):
    host.steps(host.model("2.0"))
    path = host.store / host.recorded("previous")["1.0"]["file"]
    host.fake.calls.clear()
    path.write_bytes(b"rotten")
    failed = host.step("rolled_back", {"name": "demo", "version": "2.0"})
    assert failed["failed"] and "has sha256" in failed["msg"]
    path.unlink()
    failed = host.step("rolled_back", {"name": "demo", "version": "2.0"}, check=True)
    assert failed["failed"] and f"{path} is no longer on this host" in failed["msg"]
    assert host.fake.changes() == [] and host.served == (["2.0"], "2.0")


def test_nothing_to_go_back_to(host):
    failed = host.step("rolled_back", {"name": "demo", "version": "1.0"})
    assert failed["failed"] and "no previous version" in failed["msg"]


def test_a_previous_version_that_does_not_load_any_more_leaves_what_serves(host):
    host.steps(host.model("2.0"))
    for replace in (False, True):
        host.fake.failures = [(400, "BadRequestException", "no", None)]
        failed = host.step("rolled_back", {"name": "demo", "version": "2.0"}, replace=replace)
        assert failed["failed"] and "answered 400" in failed["msg"]
        assert host.served == (["2.0"], "2.0") and list(host.recorded()) == ["2.0"] and list(host.recorded("previous")) == ["1.0"]


def test_other_content_under_the_same_number_is_refused(host):
    host.steps(host.model("2.0"))
    for version in ("2.0", "1.0"):
        failed = host.step("prepared", {**host.model(version), "sha256": "f" * 64}, check=True)
        assert failed["failed"] and f"Refused model demo {version}" in failed["msg"] and "under a new version" in failed["msg"]


def test_what_no_run_recorded_is_not_replaced(host):
    host.record.unlink()
    failed = host.step("prepared", host.model("2.0"))
    assert failed["failed"] and "which is not in the record" in failed["msg"]
    assert host.fake.changes() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sha256": None}, "has no sha256"),
        ({"object": None}, "has no object and no bundle"),
        ({"bundle": "models/demo"}, "has an object and a bundle"),
        ({"workers": 0}, "at least 1"),
    ],
)
def test_bad_lists(host, change, words):
    failed = host.step("prepared", {**host.model("2.0"), **change})
    assert failed["failed"] and words in failed["msg"]


def test_two_versions_of_one_model(host):
    failed = host.step("prepared", host.model("2.0"), host.model("3.0"))
    assert failed["failed"] and "both 2.0 and 3.0" in failed["msg"]


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_site_leaves_a_rollout_that_came_to_no_end_alone(host, version, check):
    host.steps(host.model("2.0"), through=["prepared", "switched"])
    before = host.record.read_text()
    host.fake.calls.clear()
    refused = host.site(host.model(version, default=True), check=check)
    assert refused["failed"] and "a rollout to 2.0 came to no end on this host" in refused["msg"]
    assert "Nothing was changed: run the playbook rollout" in refused["msg"]
    assert host.fake.changes() == [] and host.record.read_text() == before


def test_a_module_in_the_middle_of_a_rollout_does_not_make_the_new_version_the_recorded_one(host):
    host.steps(host.model("2.0"), through=["prepared", "switched"])
    done = host.run_module(torchserve_model.main, host.arguments([host.model("1.0")], via="api"))
    assert not done.get("failed"), done["msg"]
    assert host.recorded()["1.0"]["default"] is True and list(host.recorded("staged")) == ["2.0"]


def test_site_puts_no_other_content_under_the_number_of_a_retired_version(host):
    host.steps(host.model("2.0"))
    refused = host.site({**host.model("1.0"), "sha256": "f" * 64}, host.model("2.0"))
    assert refused["failed"] and "for the way back from a rollout" in refused["msg"] and "under a new version" in refused["msg"]


def test_site_takes_a_retired_version_away(host):
    host.steps(host.model("2.0"))
    path = host.store / host.recorded("previous")["1.0"]["file"]
    host.serve({"name": "demo", "version": "1.0", "state": "absent"})
    assert not path.exists() and host.recorded("previous") == {} and list(host.recorded()) == ["2.0"]


class UnitForEachVersion:
    """What the runtimes have in common whose versions have units: FAKE, MODULE and RUNTIME say which it is."""

    @pytest.fixture
    def host(self, tmp_path, monkeypatch):
        fake = self.FAKE(tmp_path, monkeypatch)
        yield fake
        fake.close()

    @pytest.fixture
    def step(self, host, run_module):
        def run(state, *models, check=False, **options):
            listed = [{**{key: value for key, value in model.items() if key != "port"}, "runtime": self.RUNTIME} for model in models]
            return run_module(model_rollout.main, host.arguments(*listed, state=state, grace_s=0, **options), check=check)

        return run

    @pytest.fixture
    def versions(self, host, run_module):
        old = host.model("1.0")
        run_module(self.MODULE.main, host.arguments(old))
        host.told()
        return old, host.model("2.0", port=old["port"])

    def parts(self, host):
        return {
            part: [one["version"] for one in entries] for part, entries in json.loads(host.record.read_text()).items() if part != "format"
        }


class TestOpenAI(UnitForEachVersion):
    """A server of its own for each version: one takes the place of the other."""

    FAKE, MODULE, RUNTIME = FakeOpenAI, openai_model, "openai"

    def test_there_and_back(self, host, step, versions):
        old, new = versions
        planned = step("prepared", new, check=True)
        assert (planned["models"][0]["action"], planned["models"][0]["from"], planned["models"][0]["runtime"]) == (
            "prepared",
            "1.0",
            "openai",
        )
        assert not host.told()
        assert step("prepared", new)["models"][0]["workers_ready"] == 1
        assert host.told() == [f"disable --now {host.unit_of(old)}", f"enable --now {host.unit_of(new)}"]
        assert self.parts(host) == {"models": ["1.0"], "staged": ["2.0"]}
        assert not step("switched", new)["changed"]
        assert step("finished", new)["models"][0]["action"] == "finished"
        assert self.parts(host) == {"models": ["2.0"], "previous": ["1.0"]} and not host.told()
        assert not step("prepared", new)["changed"]
        # Whoever goes back need not know what serves it.
        leaving = {"name": "letters", "version": "2.0"}
        assert step("rolled_back", leaving)["models"][0]["action"] == "rolled_back"
        assert host.told() == [f"disable --now {host.unit_of(new)}", f"enable --now {host.unit_of(old)}"]
        assert self.parts(host) == {"models": ["1.0"], "previous": ["2.0"]}

    def test_a_version_that_does_not_come_up_gives_its_place_back(self, host, step, versions):
        old, new = versions
        host.broken[host.unit_of(new)] = {"ActiveState": "failed", "SubState": "failed", "Result": "exit-code", "NRestarts": "3"}
        failed = step("prepared", new)
        assert failed["failed"] and "The server of model letters 2.0 is not ready after 0 s: systemd says failed" in failed["msg"]
        assert step("undone", new)["models"][0]["action"] == "undone"
        assert host.told()[-1] == f"enable --now {host.unit_of(old)}" and self.parts(host) == {"models": ["1.0"]}

    def test_a_file_is_refused_before_anything_changes(self, host, step, versions):
        refused = step("prepared", {**versions[1], "bundle": None, "object": "l.mar"})
        assert "has the kind object, and the runtime openai loads bundle or huggingface only" in refused["msg"] and not host.told()

    def test_commits_of_a_hub_there_and_back_and_what_nothing_goes_back_to(self, host, step, run_module):
        old, new = host.commit("1.0"), host.commit("2.0")
        run_module(openai_model.main, host.arguments(old))
        for state in ("prepared", "switched", "finished"):
            assert not step(state, new).get("failed")
        assert step("rolled_back", {"name": "letters", "version": "2.0"})["models"][0]["action"] == "rolled_back"
        assert host.told()[-2:] == [f"disable --now {host.unit_of(new)}", f"enable --now {host.unit_of(old)}"]
        # The same commit under another number: what lies there is needed.
        again = host.commit("3.0", content="letters 2.0")
        for state in ("prepared", "switched"):
            assert not step(state, again).get("failed")
        assert step("finished", again)["models"][0]["removable"] == []
        assert self.parts(host) == {"models": ["3.0"], "previous": ["1.0"]}
        last = host.commit("4.0")
        for state in ("prepared", "switched"):
            assert not step(state, last).get("failed")
        (gone,) = step("finished", last)["models"][0]["removable"]
        assert gone == {"name": "letters", "version": "1.0", "huggingface": old["huggingface"]}

    def test_models_of_both_runtimes_in_one_step(self, fake, host, run_module, versions):
        _old, new = versions
        content = b"demo"
        entry = {"name": "demo", "version": "2.0", "object": "demo.mar", "sha256": hashlib.sha256(content).hexdigest()}
        listed = [entry, {**{key: value for key, value in new.items() if key != "port"}, "runtime": "openai"}]
        options = {"base_url": fake.url, "key_file": str(fake.key_file), "state": "prepared"}
        result = run_module(model_rollout.main, host.arguments(*listed, **options), check=True, diff=True)
        assert [(one["name"], one["runtime"], one["action"]) for one in result["models"]] == [
            ("demo", "torchserve", "prepared"),
            ("letters", "openai", "prepared"),
        ]
        assert [one["before_header"] for one in result["diff"]] == [fake.url, "http://127.0.0.1"]

    def test_a_record_of_a_newer_release(self, host, run_module, versions):
        record = json.loads(host.record.read_text())
        record["models"][0]["runtime"] = "other"
        host.record.write_text(json.dumps(record))
        leaving = {"name": "letters", "version": "1.0"}
        result = run_module(model_rollout.main, host.arguments(leaving, state="rolled_back"))
        assert result["failed"] and "Failed to use the runtime 'other', which the record of this host names" in result["msg"]


class TestBentoML(UnitForEachVersion):
    """Versions are beside each other, and the port of the model leads to one of them."""

    FAKE, MODULE, RUNTIME = FakeBentoML, bentoml_model, "bentoml"

    def test_there_and_back(self, host, step, versions):
        old, new = versions
        reload = "reload modelfleet-bentoml.service"
        planned = step("prepared", new, check=True)["models"][0]
        assert (planned["action"], planned["from"], planned["runtime"]) == ("prepared", "1.0", "bentoml") and not host.told()
        assert step("prepared", new)["models"][0]["workers_ready"] == 1
        assert host.told() == [f"enable --now {host.unit_of(new)}"] and host.leads() == {"letters": host.file_of(old)}
        assert self.parts(host) == {"models": ["1.0"], "staged": ["2.0"]}
        assert step("switched", new)["models"][0]["action"] == "switched"
        assert host.told() == [reload] and host.leads() == {"letters": host.file_of(new)} and len(host.served) == 2
        assert step("finished", new)["models"][0]["action"] == "finished"
        assert host.told() == [f"disable --now {host.unit_of(old)}"]
        assert self.parts(host) == {"models": ["2.0"], "previous": ["1.0"]} and not step("prepared", new)["changed"]
        # Whoever goes back need not know what serves it.
        assert step("rolled_back", {"name": "letters", "version": "2.0"})["models"][0]["action"] == "rolled_back"
        assert host.told() == [f"enable --now {host.unit_of(old)}", reload, f"disable --now {host.unit_of(new)}"]
        assert self.parts(host) == {"models": ["1.0"], "previous": ["2.0"]} and host.leads() == {"letters": host.file_of(old)}

    def test_a_version_that_is_not_let_pass_goes_and_the_port_leads_back(self, host, step, versions):
        old, new = versions
        for state in ("prepared", "switched"):
            assert not step(state, new).get("failed")
        host.told()
        assert step("undone", new)["models"][0]["action"] == "undone"
        assert host.told() == ["reload modelfleet-bentoml.service", f"disable --now {host.unit_of(new)}"]
        assert host.leads() == {"letters": host.file_of(old)} and self.parts(host) == {"models": ["1.0"]}

    def test_a_version_that_does_not_come_up_leaves_the_old_one(self, host, step, versions):
        old, new = versions
        host.broken[host.unit_of(new)] = {"ActiveState": "failed", "SubState": "failed", "Result": "exit-code", "NRestarts": "3"}
        failed = step("prepared", new)
        assert "The server of model letters 2.0 is not ready after 0 s: systemd says failed" in failed["msg"]
        assert host.leads() == {"letters": host.file_of(old)} and host.unit_of(old) in host.served
        assert step("undone", new)["changed"] and self.parts(host) == {"models": ["1.0"]}

    def test_without_room_for_both(self, host, step, versions):
        old, new = versions
        for state in ("prepared", "switched", "finished"):
            assert not step(state, new, replace=True).get("failed")
        assert host.told()[:2] == ["disable --now modelfleet-bentoml.service", f"disable --now {host.unit_of(old)}"]
        assert host.leads() == {"letters": host.file_of(new)} and self.parts(host) == {"models": ["2.0"], "previous": ["1.0"]}

    def test_a_bundle_that_is_no_bento_or_a_file_is_refused(self, host, step, versions):
        plain = host.model("3.0", files={"bento.yaml": None}, port=versions[0]["port"])
        assert "has no bento.yaml; publish" in step("prepared", plain)["msg"] and len(host.served) == 1
        refused = step("prepared", {**versions[1], "bundle": None, "object": "l.mar"})
        assert "has the kind object, and the runtime bentoml loads bundle only" in refused["msg"]


class TestTriton:
    """One version of a model is loaded at a time: one takes the place of the other."""

    @pytest.fixture
    def host(self, tmp_path, monkeypatch):
        fake = FakeTriton(tmp_path, monkeypatch)
        yield fake
        fake.close()

    @pytest.fixture
    def step(self, host, run_module):
        def run(state, *models, check=False, **options):
            listed = [{**model, "runtime": "triton"} for model in models]
            return run_module(model_rollout.main, host.arguments(*listed, state=state, grace_s=0, **options), check=check)

        return run

    @pytest.fixture
    def versions(self, host, run_module):
        old, new = host.model("1.0"), host.model("2.0")
        assert run_module(triton_model.main, host.arguments(old))["changed"]
        host.told()
        return old, new

    def parts(self, host):
        return {
            part: [one["version"] for one in entries] for part, entries in json.loads(host.record.read_text()).items() if part != "format"
        }

    def serves(self, host):
        return {name: link.split("-")[1] for name, link in host.links().items()}

    def test_there_and_back(self, host, step, versions):
        _old, new = versions
        planned = step("prepared", new, check=True)["models"][0]
        assert (planned["action"], planned["from"], planned["runtime"]) == ("prepared", "1.0", "triton") and not host.told()
        assert step("prepared", new)["models"][0]["workers_ready"] == 1
        assert host.told() == ["unload double", "load double"] and self.serves(host) == {"double": "2.0"}
        assert self.parts(host) == {"models": ["1.0"], "staged": ["2.0"]}
        assert not step("switched", new)["changed"]
        assert step("finished", new)["models"][0]["action"] == "finished"
        assert self.parts(host) == {"models": ["2.0"], "previous": ["1.0"]} and not host.told()
        assert not step("prepared", new)["changed"]
        # Whoever goes back need not know what serves it.
        assert step("rolled_back", {"name": "double", "version": "2.0"})["models"][0]["action"] == "rolled_back"
        assert host.told() == ["unload double", "load double"] and self.serves(host) == {"double": "1.0"}
        assert self.parts(host) == {"models": ["1.0"], "previous": ["2.0"]}

    def test_a_version_that_does_not_load_gives_its_place_back(self, host, step, versions):
        _old, new = versions
        host.broken["double"] = "ImportError"
        failed = step("prepared", new)
        assert failed["failed"] and "Triton does not load model double 2.0: load failed for model" in failed["msg"]
        host.broken.clear()
        assert step("undone", new)["models"][0]["action"] == "undone"
        assert self.serves(host) == {"double": "1.0"} and self.parts(host) == {"models": ["1.0"]}

    def test_a_file_is_refused_before_anything_changes(self, host, step, versions):
        refused = step("prepared", {**versions[1], "bundle": None, "object": "double.mar"})
        assert "has the kind object, and the runtime triton loads bundle only" in refused["msg"] and not host.told()
