# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _bentoml, _runtime_bentoml
from ansible_collections.modelfleet.serving.plugins.modules import bentoml_model
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_bentoml import FakeBentoML

SWITCH = "modelfleet-bentoml.service"


@pytest.fixture
def host(tmp_path, monkeypatch):
    fake = FakeBentoML(tmp_path, monkeypatch)
    yield fake
    fake.close()


@pytest.fixture
def apply(host, run_module):
    return lambda *models, check=False, diff=False, **options: run_module(
        bentoml_model.main, host.arguments(*models, **options), check=check, diff=diff
    )


def absent(entry):
    return {"name": entry["name"], "version": entry["version"], "state": "absent"}


def actions(result):
    return [one["action"] for one in result["models"]]


def test_starts_a_server_and_has_its_port_lead_there_once(host, apply):
    model = host.model("1.0")
    result = apply(model, diff=True)
    (one,) = result["models"]
    assert (result["changed"], one["action"], one["workers_ready"], one["file"]) == (True, "started", 1, host.file_of(model))
    assert host.told() == [f"enable --now {host.unit_of(model)}", f"start {SWITCH}", f"enable {SWITCH}"]
    assert host.leads() == {"letters": host.file_of(model)}
    assert result["diff"]["before"] == "" and result["diff"]["after"] == f"letters 1.0: {one['file']}, default\n"
    recorded = host.recorded()["letters", "1.0"]
    assert (recorded["runtime"], recorded["kind"], recorded["default"], recorded["device"]) == ("bentoml", "bundle", True, "cpu")
    again = apply(model)
    assert not again["changed"] and actions(again) == ["unchanged"] and not host.told()


def test_check_mode_predicts_and_changes_nothing(host, apply):
    model = host.model("1.0", unit=False)
    predicted = apply(model, check=True, diff=True)
    assert predicted["changed"] and actions(predicted) == ["started"]
    assert not host.told() and not host.record.exists() and not host.sections.exists()
    host.unit(model)
    assert predicted["diff"] == apply(model, diff=True)["diff"]
    assert not apply(model, check=True)["changed"]


def test_versions_are_served_beside_each_other(host, apply):
    old = host.model("1.0")
    new = host.model("2.0", port=old["port"])
    predicted = apply(old, new, check=True, diff=True)
    done = apply(old, new, diff=True)
    assert actions(predicted) == actions(done) == ["started", "started"] and predicted["diff"] == done["diff"]
    assert len(host.served) == 2 and host.leads() == {"letters": host.file_of(old)}
    assert {key: one["default"] for key, one in host.recorded().items()} == {("letters", "1.0"): True, ("letters", "2.0"): False}
    assert not apply(old, new)["changed"]
    # Which one answers is for a rollout to change.
    refused = apply(old, {**new, "default": True})
    assert "Refused model letters: this host answers with version 1.0, and would with 2.0. Nothing was changed: run the" in refused["msg"]


def test_the_list_says_which_of_two_new_versions_answers(host, apply):
    old = host.model("1.0")
    new = host.model("2.0", port=old["port"], default=True)
    predicted = apply(old, new, check=True, diff=True)
    assert predicted["diff"] == apply(old, new, diff=True)["diff"]
    assert host.leads() == {"letters": host.file_of(new)}


def test_the_next_version_answers_before_the_old_one_goes(host, apply):
    old = host.model("1.0")
    apply(old)
    host.told()
    new = host.model("2.0", port=old["port"])
    done = apply(new, absent(old))
    assert actions(done) == ["started", "removed"] and host.leads() == {"letters": host.file_of(new)}
    assert host.told() == [f"enable --now {host.unit_of(new)}", f"reload {SWITCH}", f"disable --now {host.unit_of(old)}"]
    assert list(host.recorded()) == [("letters", "2.0")] and not apply(new, absent(old))["changed"]
    # With the last one goes its port.
    assert actions(apply(absent(new))) == ["removed"] and host.leads() == {}
    assert host.told() == [f"disable --now {SWITCH}", f"disable --now {host.unit_of(new)}"]


def test_what_goes_leaves_the_port_to_a_version_that_stays(host, apply):
    old = host.model("1.0")
    new = host.model("2.0", port=old["port"])
    apply(old, new)
    assert actions(apply(absent(old), new)) == ["removed", "default_set"] and host.leads() == {"letters": host.file_of(new)}


def test_another_port_of_the_version_that_answers(host, apply):
    model = host.model("1.0")
    apply(model)
    moved = host.model("1.0")
    assert moved["sha256"] == model["sha256"] and moved["port"] != model["port"]
    # As systemd has the unit after its restart.
    host.served.pop(host.unit_of(model)).close()
    host.serve(host.unit_of(moved))
    assert actions(apply(moved)) == ["default_set"] and list(host.ports) == [moved["port"]]


def test_a_port_is_told_again_while_it_still_takes_over_what_it_was_told(host, apply):
    old = host.model("1.0")
    apply(old)
    host.told()
    host.states[SWITCH]["ActiveState"] = "reloading"
    new = host.model("2.0", port=old["port"])
    assert actions(apply(new, absent(old))) == ["started", "removed"] and f"reload {SWITCH}" in host.told()


@pytest.mark.parametrize("state", ["active", "inactive"])
def test_a_port_that_does_not_lead_where_is_written(host, apply, state):
    """As after a run that ended before HAProxy knew it, or where somebody has stopped HAProxy."""
    old = host.model("1.0")
    new = host.model("2.0", port=old["port"])
    apply(old, new)
    (section,) = _bentoml.read_sections().values()
    written = _bentoml.Section(section.port, host.file_of(new), host.address_of(new))
    host.sections.write_text(_bentoml.sections_text({"letters": written}))
    host.states[SWITCH]["ActiveState"] = state
    host.told()
    assert actions(apply(old, new)) == ["unchanged", "default_set"]
    assert host.told() == [f"{'reload' if state == 'active' else 'start'} {SWITCH}"]
    assert host.ports[old["port"]].headers == {_bentoml.HEADER: host.file_of(new)}
    assert not apply(old, new)["changed"]


def test_a_server_that_does_not_come_up_is_stopped_again(host, apply):
    model = host.model("1.0")
    host.broken[host.unit_of(model)] = {"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code", "NRestarts": "3"}
    result = apply(model, timeout=60)
    assert "The server of model letters 1.0 is not ready after 0 s: systemd says activating, auto-restart, exit-code." in result["msg"]
    assert host.told()[-1] == f"disable --now {host.unit_of(model)}" and not host.record.exists() and not host.sections.exists()


def test_a_model_that_is_not_ready(host, apply):
    model = host.model("1.0")
    apply(model)
    host.served[host.unit_of(model)].answers["/readyz"] = (503, {"error": "loading"})
    result = apply(model, timeout=0)
    assert "/readyz answers 503: loading. See journalctl -u bentoml-letters-1.0-" in result["msg"]


def test_a_model_for_a_gpu_must_use_one(host, apply, monkeypatch):
    model = host.model("1.0", device="gpu")
    monkeypatch.setattr(_runtime_bentoml, "family_uses_gpu", lambda pid: False)
    assert "it runs on the CPU, not on a GPU" in apply(model, timeout=0)["msg"]
    monkeypatch.setattr(_runtime_bentoml, "family_uses_gpu", lambda pid: True)
    assert apply(model)["changed"] and host.recorded()["letters", "1.0"]["device"] == "gpu"


def test_a_port_that_does_not_come_to_lead_there(host, apply, monkeypatch):
    old = host.model("1.0")
    apply(old)
    new = host.model("1.0", name="numbers")
    monkeypatch.setattr(_runtime_bentoml, "TURN_S", 0)
    host.lost = True
    result = apply(new)
    assert "Failed to have numbers 1.0 answer at port" in result["msg"] and "journalctl -u modelfleet-bentoml.service" in result["msg"]
    assert host.leads() == {"letters": host.file_of(old)} and host.unit_of(new) not in host.served
    host.lost, host.refuses = False, "bad configuration"
    refused = apply(new)
    assert "Failed to reload modelfleet-bentoml.service: bad configuration." in refused["msg"]
    assert host.leads() == {"letters": host.file_of(old)} and host.unit_of(new) not in host.served


def test_a_first_port_that_cannot_be_had(host, apply):
    model = host.model("1.0")
    host.refuses = "cannot bind socket"
    refused = apply(model)
    assert "Failed to start modelfleet-bentoml.service: cannot bind socket. See journalctl -u" in refused["msg"]
    assert host.told()[-3:] == [f"start {SWITCH}", f"disable --now {SWITCH}", f"disable --now {host.unit_of(model)}"]
    assert host.leads() == {} and not host.record.exists()


def test_a_configuration_that_somebody_changed(host, apply):
    model = host.model("1.0")
    apply(model)
    host.sections.write_text(host.sections.read_text() + "\nlisten mine\n    bind 127.0.0.1:9999\n")
    assert "models.cfg on this host: somebody has changed it. Remove it, and run the playbook site." in apply(model)["msg"]


def test_a_configuration_that_somebody_removed(host, apply):
    """The version that answered before does so again, and not the newest one."""
    old = host.model("1.0")
    new = host.model("2.0", port=old["port"])
    apply(old, new)
    host.sections.unlink()
    assert actions(apply(old, new)) == ["default_set", "unchanged"] and host.leads() == {"letters": host.file_of(old)}


BUNDLES = {
    "no bento": ({"bento.yaml": None}, "has no bento.yaml; publish the directory of a built bento, as bentoml export makes it"),
    "a bento without its model": (
        {"models/letters/1.0/model.yaml": None},
        "has no models/letters/1.0, which its bento.yaml names, and a server fetches nothing; publish what bentoml export makes",
    ),
}


@pytest.mark.parametrize("kind", BUNDLES)
def test_a_bundle_that_is_not_what_bentoml_serves(host, apply, kind):
    files, words = BUNDLES[kind]
    model = host.model("1.0", files=files)
    for check in (True, False):
        result = apply(model, check=check)
        assert "Refused model letters 1.0 for BentoML: " in result["msg"] and words in result["msg"]
        assert result["msg"].endswith("Nothing was changed.") and not host.told()


def test_a_bento_with_what_a_hub_has_in_its_own_cache(host, apply):
    text = "services:\n- models:\n  - tag: org--bert:0f3a\n    registry: huggingface\n"
    assert apply(host.model("1.0", files={"bento.yaml": text}))["changed"]


def test_a_bundle_that_is_not_its_manifest_is_not_served(host, apply):
    model = host.model("1.0")
    (host.store / host.file_of(model) / "src/service.py").write_bytes(b"# letters 1.1\n")
    result = apply(model)
    assert "Failed to start the server of model letters 1.0: " in result["msg"] and "has src/service.py with sha256" in result["msg"]
    assert not host.told()


def test_another_content_or_a_port_that_is_taken(host, apply):
    model = host.model("1.0")
    apply(model)
    host.told()
    refused = apply({**model, "sha256": "0" * 64})
    assert f"and sha256 {'0' * 64} would be letters-1.0-000000000000. Nothing was changed: publish" in refused["msg"]
    taken = apply(host.model("1.0", name="numbers", port=model["port"]))
    assert f"this host serves letters at its port {model['port']}. Nothing was changed: give it another port" in taken["msg"]
    assert not host.told()


def test_a_unit_that_is_not_there(host, apply):
    result = apply(host.model("1.0", unit=False))
    assert "this host has no bentoml-letters-1.0-" in result["msg"] and "Run the playbook site" in result["msg"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bundle": None}, "The model letters 1.0 in the list of models has no bundle. Give the one that it is."),
        ({"port": None}, "The model letters 1.0 in the list of models has no port from 1024 to 65535."),
        ({"port": 80}, "has no port from 1024 to 65535. Give it one."),
        ({"sha256": "9f"}, "The sha256 of model letters 1.0 is not 64 hexadecimal digits."),
    ],
)
def test_bad_entries(host, apply, change, words):
    assert words in apply({**host.model("1.0"), **change})["msg"] and not host.told()


def test_lists_that_contradict_themselves(host, apply):
    one = host.model("1.0")
    ports = apply(one, host.model("2.0"))
    assert "The list of models gives versions of letters several ports. Give all of them the same." in ports["msg"]
    names = apply(one, host.model("1.0", name="numbers", port=one["port"]))
    assert f"gives the port {one['port']} to letters and to numbers. Give each its own." in names["msg"]
    assert not host.told()
