# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _runtime_openai
from ansible_collections.modelfleet.serving.plugins.modules import openai_model
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_openai import FakeOpenAI


@pytest.fixture
def host(tmp_path, monkeypatch):
    fake = FakeOpenAI(tmp_path, monkeypatch)
    yield fake
    fake.close()


@pytest.fixture
def apply(host, run_module):
    return lambda *models, check=False, diff=False, **options: run_module(
        openai_model.main, host.arguments(*models, **options), check=check, diff=diff
    )


def absent(entry):
    return {"name": entry["name"], "version": entry["version"], "state": "absent"}


def test_starts_a_server_once(host, apply):
    model = host.model("1.0")
    result = apply(model, diff=True)
    (one,) = result["models"]
    assert (result["changed"], one["action"], one["workers_ready"], one["file"]) == (
        True,
        "started",
        1,
        f"letters-1.0-{model['sha256'][:12]}",
    )
    assert host.told() == [f"enable --now {host.unit_of(model)}"]
    assert result["diff"]["before"] == "" and result["diff"]["after"] == f"letters 1.0: {one['file']}, port {model['port']}\n"
    recorded = host.recorded()["letters", "1.0"]
    assert (recorded["runtime"], recorded["kind"], recorded["default"], recorded["device"]) == ("openai", "bundle", True, "cpu")
    again = apply(model)
    assert (again["changed"], again["models"][0]["action"]) == (False, "unchanged") and not host.told()


def test_check_mode_predicts_and_changes_nothing(host, apply):
    model = host.model("1.0", unit=False)
    predicted = apply(model, check=True, diff=True)
    assert predicted["changed"] and predicted["models"][0]["action"] == "started"
    assert not host.told() and not host.record.exists()
    host.unit(model, f"letters-1.0-{model['sha256'][:12]}")
    assert predicted["diff"] == apply(model, diff=True)["diff"]
    assert not apply(model, check=True)["changed"]


def test_a_server_that_does_not_come_up_is_stopped_again(host, apply):
    model = host.model("1.0")
    host.broken[host.unit_of(model)] = {"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code", "NRestarts": "3"}
    result = apply(model, timeout=60)
    assert (
        result["failed"]
        and "The server of model letters 1.0 is not ready after 0 s: systemd says activating, auto-restart, exit-code. See"
        in (result["msg"])
    )
    assert host.told()[-1] == f"disable --now {host.unit_of(model)}" and not host.record.exists()


@pytest.mark.parametrize(
    ("path", "answer", "words"),
    [
        ("/health", (503, {"error": {"message": "Loading model"}}), "/health answers 503: Loading model"),
        ("/v1/models", (200, {"data": [{"id": "other"}]}), "it serves other and not letters; have its command say {name} where the server"),
        ("/v1/models", (200, b"<html>"), "/v1/models answers 200: <html>"),
        ("/v1/models", (200, {"data": 3}), '/v1/models answers 200: {"data": 3}'),
    ],
)
def test_what_is_not_ready(host, apply, path, answer, words):
    model = host.model("1.0")
    assert apply(model)["changed"]
    host.served[host.unit_of(model)].answers[path] = answer
    result = apply(model, timeout=0)
    assert result["failed"] and words in result["msg"] and f"journalctl -u {host.unit_of(model)}" in result["msg"]
    # It served before, so that it is left to systemd.
    assert host.told()[-1].startswith("enable")


def test_a_model_for_a_gpu_must_use_one(host, apply, monkeypatch):
    model = host.model("1.0", device="gpu")
    monkeypatch.setattr(_runtime_openai, "family_uses_gpu", lambda pid: False)
    result = apply(model, timeout=0)
    assert result["failed"] and "it runs on the CPU, not on a GPU" in result["msg"]
    monkeypatch.setattr(_runtime_openai, "family_uses_gpu", lambda pid: True)
    assert apply(model)["changed"] and host.recorded()["letters", "1.0"]["device"] == "gpu"


def test_what_serves_is_never_replaced(host, apply):
    old = host.model("1.0")
    apply(old)
    host.told()
    new = host.model("2.0", port=old["port"])
    refused = apply(new)
    assert refused["failed"] and "Refused model letters 2.0: this host serves version 1.0 at port" in refused["msg"]
    assert "Nothing was changed: run the playbook rollout, or list 1.0 with state: absent." in refused["msg"] and not host.told()
    # Unless the list says so, the old one first: they have one port.
    done = apply(new, absent(old))
    assert [one["action"] for one in done["models"]] == ["started", "removed"]
    assert host.told() == [f"disable --now {host.unit_of(old)}", f"enable --now {host.unit_of(new)}"]
    assert list(host.recorded()) == [("letters", "2.0")]
    assert not apply(new, absent(old))["changed"]


def test_another_content_or_a_port_that_is_taken(host, apply):
    model = host.model("1.0")
    apply(model)
    host.told()
    other = {**model, "sha256": "0" * 64}
    refused = apply(other)
    assert (
        refused["failed"]
        and "and sha256 " + "0" * 64 + " would be letters-1.0-000000000000. Nothing was changed: publish" in refused["msg"]
    )
    taken = apply(host.model("1.0", name="numbers", port=model["port"]))
    assert (
        taken["failed"]
        and f"this host serves letters 1.0 at its port {model['port']}. Nothing was changed: give it another" in taken["msg"]
    )
    assert not host.told()


def test_a_bundle_that_is_not_its_manifest_is_not_served(host, apply):
    model = host.model("1.0")
    (host.store / f"letters-1.0-{model['sha256'][:12]}" / "model.gguf").write_bytes(b"letters 1.1")
    result = apply(model)
    assert (
        result["failed"]
        and "Failed to start the server of model letters 1.0: " in result["msg"]
        and "has model.gguf with sha256" in (result["msg"])
    )
    assert not host.told()


def test_a_commit_of_a_hub(host, apply):
    model = host.commit("1.0")
    commit = model["huggingface"]["revision"]
    result = apply(model)
    assert (result["models"][0]["action"], result["models"][0]["file"]) == ("started", commit)
    assert host.told() == [f"enable --now {host.unit_of(model)}"]
    recorded = host.recorded()["letters", "1.0"]
    assert (recorded["kind"], recorded["file"], recorded["sha256"]) == ("huggingface", commit, "")
    assert recorded["params"] == {"repo": "org/letters", "revision": commit, "group": "modelfleet-hf"}
    assert not apply(model)["changed"]
    refused = apply({**model, "huggingface": {**model["huggingface"], "revision": "0f" * 20}})
    assert refused["failed"] and f"and commit {'0f' * 20} would be {'0f' * 20}. Nothing was changed" in refused["msg"]


def test_a_commit_with_another_content_is_not_served(host, apply):
    model = host.commit("1.0")
    blobs = host.hub / "modelfleet-hf/hub/models--org--letters/blobs"
    (config,) = (path for path in blobs.iterdir() if len(path.name) == 40)
    config.write_bytes(b"[]")
    result = apply(model)
    assert result["failed"] and f"has config.json with the content {'0637a088a01e8ddab3bf3fa98dbe804cbde1a0dc'}, expected" in result["msg"]
    config.unlink()
    result = apply(model)
    assert result["failed"] and "has config.json, which cannot be read (No such file or directory)" in result["msg"]
    assert not host.told()


def test_a_unit_that_is_not_there(host, apply):
    result = apply(host.model("1.0", unit=False))
    assert result["failed"] and "this host has no openai-server-letters-1.0-" in result["msg"] and "Run the playbook site" in result["msg"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bundle": None}, "The model letters 1.0 in the list of models has no bundle and no huggingface."),
        ({"huggingface": {"repo": "org/x", "revision": "0f" * 20}}, "letters 1.0 in the list of models has a bundle and"),
        (
            {"huggingface": {"repo": "../x", "revision": "0f" * 20}},
            "huggingface of model letters 1.0 in the list of models cannot be used: the repo",
        ),
        ({"port": None}, "The model letters 1.0 in the list of models has no port from 1024 to 65535."),
        ({"port": 80}, "has no port from 1024 to 65535. Give it one."),
        ({"sha256": "9f"}, "The sha256 of model letters 1.0 is not 64 hexadecimal digits."),
    ],
)
def test_bad_entries(host, apply, change, words):
    result = apply({**host.model("1.0"), **change})
    assert result["failed"] and words in result["msg"] and not host.told()


def test_lists_that_contradict_themselves(host, apply):
    one = host.model("1.0")
    versions = apply(one, host.model("2.0"))
    assert versions["failed"] and "The list of models has several versions of letters. Keep one" in versions["msg"]
    ports = apply(one, host.model("1.0", name="numbers", port=one["port"]))
    assert ports["failed"] and f"gives the port {one['port']} to letters and to numbers. Give each its own." in ports["msg"]
    assert not host.told()
