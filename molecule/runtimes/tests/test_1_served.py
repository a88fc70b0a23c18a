"""What the first run has left on every host: one list, two runtimes, and nothing that one of them has of the other."""

from __future__ import annotations

import json

import pytest
from conftest import FIRST, PORT, SCENARIO, letters_say, record, said, serves, unit_of
from fleet import GPU_HOSTS, MODELS, REPOSITORY, recap


def test_every_host_gives_both_known_answers(fleet, first):
    for name in GPU_HOSTS:
        assert serves(fleet[name]) == FIRST
        assert fleet[name].gives(first[0])
        assert fleet[name].served() == {"demo"}


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_the_server_is_a_unit_that_starts_at_boot(fleet, first, name):
    host, unit = fleet[name], unit_of(first[1])
    assert host.active(unit) and host.check_output("systemctl is-enabled %s", unit) == "enabled"
    assert host.check_output("systemctl --failed --no-legend --plain") == ""
    assert {key: one.get("runtime", "torchserve") for key, one in record(host)["models"].items()} == {
        ("demo", "1.0"): "torchserve",
        ("letters", "1.0"): "openai",
    }


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_it_sees_its_own_model_and_nobody_else_sees_it(fleet, first, name):
    host, pid = fleet[name], fleet[name].main_pid(unit_of(first[1]))
    assert host.check_output("ps -o user:32= -p %s", pid).strip() == "openai-server"
    # Its root, as it is for the process.
    root = f"/proc/{pid}/root"
    (directory,) = (file for file in host.stored() if file.startswith("letters-1.0-"))
    assert host.check_output("ls %s", f"{root}{MODELS}") == directory
    assert host.check_output("ls %s", f"{root}/var/lib/modelfleet") == "models"
    listening = [line.split()[3] for line in host.check_output("ss -Hltn sport = :%s", str(PORT)).splitlines()]
    assert listening == [f"127.0.0.1:{PORT}"]


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_one_copy_is_on_the_disk(fleet, name):
    host = fleet[name]
    inode, links, owner = host.check_output(f"stat -c '%i %h %U' {MODELS}/letters-1.0-*/model.gguf").split()
    assert int(links) >= 3 and owner == "root"
    for place in ("pieces", "blobs"):
        assert host.check_output("find %s -inum %s -type f", f"/var/lib/modelfleet/{place}", inode), place


def test_the_report_has_both(fleet):
    report = json.loads((REPOSITORY / "reports" / SCENARIO.lab_name / "report.json").read_text(encoding="utf-8"))
    assert report["ok"] and report["problems"] == []
    for name in GPU_HOSTS:
        rows = {row["model"]: row for row in report["hosts"][name]["models"]}
        assert {model: (row["version"], row["answer_ok"], row["workers_ready"]) for model, row in rows.items()} == {
            "demo": ("1.0", True, 1),
            "letters": ("1.0", True, 1),
        }
        assert all(row["first_inference_seconds"] > 0 for row in rows.values())


@pytest.mark.parametrize("playbook", ["smoke", "verify", "doctor", "prune"])
def test_a_play_that_looks_changes_nothing(fleet, play, first, playbook, tmp_path):
    reports = {f"{name}_report_path": str(tmp_path / f"{name}.json") for name in ("doctor", "verify")}
    done = play(playbook, first, verify_sbom_dir=str(tmp_path / "sbom"), **reports)
    assert {name: row["changed"] for name, row in recap(done).items()} == dict.fromkeys(recap(done), 0)
    assert set(GPU_HOSTS) <= set(recap(done))


def test_another_option_restarts_the_one_server_and_nothing_else(fleet, play, first):
    torchserve = {name: fleet[name].main_pid("torchserve") for name in GPU_HOSTS}
    server = {name: fleet[name].main_pid(unit_of(first[1])) for name in GPU_HOSTS}
    changed = [first[0], {**first[1], "options": ["--ctx-size", "128"]}]
    play("site", changed)
    assert {name: fleet[name].main_pid("torchserve") for name in GPU_HOSTS} == torchserve
    for name in GPU_HOSTS:
        assert fleet[name].main_pid(unit_of(first[1])) != server[name]
        assert fleet[name].program(unit_of(first[1])).endswith("--ctx-size 128 ")
        assert serves(fleet[name]) == FIRST
    again = play("site", changed)
    assert {name: row["changed"] for name, row in recap(again).items()} == dict.fromkeys(recap(again), 0)
    play("site", first)
    assert {name: serves(fleet[name]) for name in GPU_HOSTS} == dict.fromkeys(GPU_HOSTS, FIRST)


# Runs on the host: a repository in the cache of a hub as distribute leaves one there, with the model that it serves already.
COMMIT = "0f" * 20
CACHE = "/var/lib/modelfleet/huggingface/modelfleet-hf/hub/models--org--letters"
MAKE = f"""
set -eu
install -d {CACHE}/blobs {CACHE}/snapshots/{COMMIT}
blob=$(sha256sum {MODELS}/letters-1.0-*/model.gguf | cut -d ' ' -f 1)
ln {MODELS}/letters-1.0-*/model.gguf {CACHE}/blobs/$blob
ln -s ../../blobs/$blob {CACHE}/snapshots/{COMMIT}/model.gguf
"""


def test_a_commit_of_a_hub_is_served_from_its_cache(fleet):
    host = fleet["gpu-1"]
    entry = {
        "name": "numbers",
        "version": "1",
        "huggingface": {"repo": "org/letters", "revision": COMMIT},
        "runtime": "openai",
        "port": 8102,
    }

    def serve(**more):
        models = ["-e", json.dumps({"modelfleet_models": [{**entry, **more}]})]
        done = SCENARIO.play(str(SCENARIO.directory / "files/serve.yml"), *models)
        assert done.returncode == 0, done.stdout[-3000:]
        return recap(done)["gpu-1"]["changed"]

    host.check_output("sh -c %s", MAKE)
    try:
        assert serve() > 0 and serve() == 0
        assert letters_say(host, 8102, "numbers") == FIRST[1]
        root = f"/proc/{host.main_pid(f'openai-server-numbers-1-{COMMIT[:12]}')}/root"
        assert host.check_output("ls %s", f"{root}/var/lib/modelfleet") == "huggingface"
        assert host.check_output("ls %s", f"{root}{CACHE}").split() == ["blobs", "snapshots"]
        assert serve(state="absent") > 0 and serve(state="absent") == 0
        assert letters_say(host, 8102, "numbers") == "" and letters_say(host) == FIRST[1]
    finally:
        host.check_output("rm -rf /var/lib/modelfleet/huggingface/modelfleet-hf")


WRONG = {
    "two models on one port": (
        lambda demo, letters: [demo, letters, {**letters, "name": "numbers"}],
        f"The port {PORT} of the model numbers 1.0 is that of the model letters; give each its own.",
    ),
    "an archive for a server": (
        lambda demo, letters: [{**demo, "name": "letters", "runtime": "openai", "port": 8102}],
        "The model letters 1.0 is an object, and the runtime openai loads a bundle or huggingface only",
    ),
    "two versions of one name": (
        lambda demo, letters: [demo, letters, {**letters, "version": "2.0", "port": 8102}],
        "The model letters has several versions (1.0, 2.0) in modelfleet_models, and its runtime openai serves one at a time",
    ),
    "the port of a daemon": (
        lambda demo, letters: [demo, {**letters, "port": 8081}],
        "The port 8081 of the model letters 1.0 is that of torchserve",
    ),
    "a secret where everyone reads it": (
        lambda demo, letters: [demo, {**letters, "options": ["--api-key", "planted-key"]}],
        "which is a secret by its name",
    ),
    "a runtime that does not exist": (lambda demo, letters: [demo, {**letters, "runtime": "tritno"}], "tritno"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_list_is_refused_before_the_first_change(kind, fleet, play, first):
    make, words = WRONG[kind]
    done = play("site", make(*first), code=2)
    assert words in said(done) and "planted-key" not in done.stdout, done.stdout[-3000:]
    assert {row["changed"] for row in recap(done).values()} == {0}
    assert letters_say(fleet["gpu-1"]) == FIRST[1]
