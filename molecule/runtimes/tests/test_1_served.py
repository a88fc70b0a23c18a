"""What the first run has left on every host: one list, three runtimes, and nothing that one of them has of another."""

from __future__ import annotations

import json

import pytest
from conftest import FIRST, MODEL_NAMES, PORT, SCENARIO, TRITON, letters_say, record, said, serves, triton_has, unit_of
from fleet import GPU_HOSTS, MODELS, REPOSITORY, recap


def test_every_host_gives_all_known_answers(fleet, first):
    for name in GPU_HOSTS:
        assert serves(fleet[name]) == FIRST
        assert fleet[name].gives(first[0])
        assert fleet[name].served() == {"demo"}
        assert triton_has(fleet[name]) == {"table": "READY"}


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_each_server_is_a_unit_that_starts_at_boot(fleet, first, name):
    host = fleet[name]
    for unit in (unit_of(first[1]), "triton.service"):
        assert host.active(unit) and host.check_output("systemctl is-enabled %s", unit) == "enabled"
    assert host.check_output("systemctl --failed --no-legend --plain") == ""
    assert {key: one.get("runtime", "torchserve") for key, one in record(host)["models"].items()} == {
        ("demo", "1.0"): "torchserve",
        ("letters", "1.0"): "openai",
        ("table", "1.0"): "triton",
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
def test_triton_sees_its_own_models_and_calls_nobody(fleet, name):
    host = fleet[name]
    pid = host.main_pid("triton")
    assert host.check_output("ps -o user:32= -p %s", pid).strip() == "triton"
    root = f"/proc/{pid}/root"
    assert host.check_output("ls %s", f"{root}/var/lib/modelfleet") == "triton"
    (version,) = host.check_output("ls %s", f"{root}{TRITON}/versions").split()
    assert version.startswith("table-1.0-")
    assert host.check_output("readlink %s", f"{TRITON}/models/table") == f"../versions/{version}"
    for port in (8200, 8201, 8202):
        listening = [line.split()[3] for line in host.check_output("ss -Hltn sport = :%s", str(port)).splitlines()]
        # gRPC's name of the same address.
        assert [place.replace("[::ffff:127.0.0.1]", "127.0.0.1") for place in listening] == [f"127.0.0.1:{port}"]
    # The workers are its own, in the same sandbox, and their files root's.
    writable = host.run("nsenter --target %s --mount --setuid $(id -u triton) --setgid $(id -g triton) touch %s", pid, f"{TRITON}/models/x")
    assert writable.rc != 0 and "Read-only" in writable.stderr
    assert host.check_output(f"find {TRITON}/versions ! -user root") == ""


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_metrics_of_triton_name_the_model(fleet, name):
    found = fleet[name].check_output("curl --silent --fail http://127.0.0.1:8202/metrics")
    assert 'nv_inference_request_success{model="table",version="1"}' in found


COPIES = {"letters": (f"{MODELS}/letters-1.0-*/model.gguf", 3), "table": (f"{TRITON}/versions/table-1.0-*/1/table.bin", 4)}


@pytest.mark.parametrize("model", COPIES)
@pytest.mark.parametrize("name", GPU_HOSTS)
def test_one_copy_is_on_the_disk(fleet, name, model):
    host = fleet[name]
    path, least = COPIES[model]
    inode, links, owner = host.check_output(f"stat -c '%i %h %U' {path}").split()
    assert int(links) >= least and owner == "root"
    for place in ("pieces", "blobs", "models"):
        assert host.check_output("find %s -inum %s -type f", f"/var/lib/modelfleet/{place}", inode), place


def test_the_report_has_them_all(fleet):
    report = json.loads((REPOSITORY / "reports" / SCENARIO.lab_name / "report.json").read_text(encoding="utf-8"))
    assert report["ok"] and report["problems"] == []
    for name in GPU_HOSTS:
        rows = {row["model"]: row for row in report["hosts"][name]["models"]}
        told = {model: (row["version"], row["answer_ok"], row["workers_ready"]) for model, row in rows.items()}
        assert told == dict.fromkeys(MODEL_NAMES, ("1.0", True, 1))
        assert all(row["first_inference_seconds"] > 0 for row in rows.values())


@pytest.mark.parametrize("playbook", ["smoke", "verify", "doctor", "prune"])
def test_a_play_that_looks_changes_nothing(fleet, play, first, playbook, tmp_path):
    reports = {f"{name}_report_path": str(tmp_path / f"{name}.json") for name in ("doctor", "verify")}
    done = play(playbook, first, verify_sbom_dir=str(tmp_path / "sbom"), **reports)
    assert {name: row["changed"] for name, row in recap(done).items()} == dict.fromkeys(recap(done), 0)
    assert set(GPU_HOSTS) <= set(recap(done))


def test_another_option_restarts_the_one_server_and_nothing_else(fleet, play, first):
    others = {name: (fleet[name].main_pid("torchserve"), fleet[name].main_pid("triton")) for name in GPU_HOSTS}
    server = {name: fleet[name].main_pid(unit_of(first[1])) for name in GPU_HOSTS}
    changed = [first[0], {**first[1], "options": ["--ctx-size", "128"]}, first[2]]
    play("site", changed)
    assert {name: (fleet[name].main_pid("torchserve"), fleet[name].main_pid("triton")) for name in GPU_HOSTS} == others
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


def test_another_option_of_triton_restarts_it_and_its_models_are_back(fleet, play, first):
    others = {name: (fleet[name].main_pid("torchserve"), fleet[name].main_pid(unit_of(first[1]))) for name in GPU_HOSTS}
    before = {name: fleet[name].main_pid("triton") for name in GPU_HOSTS}
    play("site", first, triton_options=["--log-verbose=0"])
    for name in GPU_HOSTS:
        assert fleet[name].main_pid("triton") != before[name]
        assert (fleet[name].main_pid("torchserve"), fleet[name].main_pid(unit_of(first[1]))) == others[name]
        assert serves(fleet[name]) == FIRST
    play("site", first)
    assert {name: serves(fleet[name]) for name in GPU_HOSTS} == dict.fromkeys(GPU_HOSTS, FIRST)


def without(entry, key):
    return {name: value for name, value in entry.items() if name != key}


WRONG = {
    "two models on one port": (
        lambda demo, letters, table: [demo, letters, table, {**letters, "name": "numbers"}],
        f"The port {PORT} of the model numbers 1.0 is that of the model letters; give each its own.",
    ),
    "an archive for a server": (
        lambda demo, letters, table: [{**demo, "name": "letters", "runtime": "openai", "port": 8102}],
        "The model letters 1.0 is an object, and the runtime openai loads a bundle or huggingface only",
    ),
    "an archive for Triton": (
        lambda demo, letters, table: [{**without(demo, "workers"), "name": "archive", "runtime": "triton"}, letters, table],
        "The model archive 1.0 is an object, and the runtime triton loads a bundle only",
    ),
    "two versions of one name": (
        lambda demo, letters, table: [demo, letters, table, {**letters, "version": "2.0", "port": 8102}],
        "The model letters has several versions (1.0, 2.0) in modelfleet_models, and its runtime openai serves one at a time",
    ),
    "the port of a daemon": (
        lambda demo, letters, table: [demo, {**letters, "port": 8081}, table],
        "The port 8081 of the model letters 1.0 is that of torchserve",
    ),
    "a port of Triton": (
        lambda demo, letters, table: [demo, {**letters, "port": 8200}, table],
        "The port 8200 of the model letters 1.0 is that of Triton",
    ),
    "a secret where everyone reads it": (
        lambda demo, letters, table: [demo, {**letters, "options": ["--api-key", "planted-key"]}, table],
        "which is a secret by its name",
    ),
    "a runtime that does not exist": (lambda demo, letters, table: [demo, {**letters, "runtime": "tritno"}, table], "tritno"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_list_is_refused_before_the_first_change(kind, fleet, play, first):
    make, words = WRONG[kind]
    done = play("site", make(*first), code=2)
    assert words in said(done) and "planted-key" not in done.stdout, done.stdout[-3000:]
    assert {row["changed"] for row in recap(done).values()} == {0}
    assert serves(fleet["gpu-1"]) == FIRST


def test_a_triton_with_known_holes_is_refused_and_what_runs_is_left(fleet, play, first):
    before = fleet["gpu-1"].main_pid("triton")
    done = play("site", first, "--limit", "gpu-1", code=2, triton_accept_known_holes=False)
    assert "Refused to run Triton" in said(done) and "has the release 2.51.0, with CVE-2025-23319" in said(done)
    assert fleet["gpu-1"].main_pid("triton") == before and serves(fleet["gpu-1"]) == FIRST


def test_a_bundle_that_triton_would_not_find_is_refused(fleet, play, first, table):
    host = fleet["gpu-1"]
    plain = {**table["4.0"], "name": "plain", "version": "1.0"}
    done = play("site", [*first, plain], "--limit", "gpu-1", code=2)
    assert "Refused model plain 1.0 for Triton" in said(done) and "has no config.pbtxt" in said(done)
    assert triton_has(host) == {"table": "READY"} and serves(host) == FIRST
    assert host.check_output("ls %s", f"{TRITON}/models") == "table"
    play("site", [*first, {**plain, "state": "absent"}], "--limit", "gpu-1")
    assert [file for file in host.stored() if file.startswith("plain")] == []
