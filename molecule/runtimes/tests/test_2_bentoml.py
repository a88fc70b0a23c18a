"""A third model beside the two, on BentoML: its next version under load and back, and gone again at the end."""

from __future__ import annotations

import json
import sys

import pytest
from conftest import FIRST, SCENARIO, record, said, serves
from fleet import FILES, GPU_HOSTS, MODELS, REPOSITORY, published, recap

sys.path.insert(0, str(REPOSITORY / "lab/model"))
import make_bento

PORT = 8301
SWITCH = "modelfleet-bentoml.service"
# By version, the step of the model and what it makes of abc.
MADE = {"1.0": (1, "bcd"), "2.0": (25, "zab")}
# Runs on the host: asks without a pause until a file is there, and says how often it got what.
LOOP = f"""
import collections, json, os, time, urllib.request
seen = collections.Counter()
request = urllib.request.Request("http://127.0.0.1:{PORT}/answer", b'{{"text": "abc"}}', {{"Content-Type": "application/json"}})
while not os.path.exists("/run/enough"):
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            seen[answer.read().decode()] += 1
    except OSError as exc:
        seen[repr(exc)] += 1
    time.sleep(0.05)
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def moved():
    """The entries of both versions, which one play publishes."""
    (FILES / "moved.json").write_text('{"text": "abc"}', encoding="utf-8")
    for version, (step, answer) in MADE.items():
        make_bento.make(FILES / f"moved-{version}", version, step, 8)
        (FILES / f"moved-{version}.txt").write_text(answer + "\n", encoding="utf-8")
    artifacts = [{"directory": f"moved-{version}", "bundle": "models/moved"} for version in MADE]
    done = SCENARIO.play("playbooks/publish.yml", "-e", json.dumps({"modelfleet_artifacts": artifacts}), json_results=True)
    return {
        version: {
            **{"name": "moved", "version": version, "bundle": "models/moved", "sha256": entry["sha256"], "size": "9MiB"},
            **{"runtime": "bentoml", "port": PORT, "route": "answer"},
            "check": {"input_file": "moved.json", "expected_file": f"moved-{version}.txt"},
        }
        for version, entry in zip(MADE, published(done), strict=True)
    }


def unit_of(entry):
    return f"bentoml-moved-{entry['version']}-{entry['sha256'][:12]}.service"


def moved_says(host):
    """What the model makes of abc, and the directory of the version that answers."""
    command = "curl --silent --fail --max-time 60 --include --header 'Content-Type: application/json' --data %s %s"
    done = host.run(command, '{"text": "abc"}', f"http://127.0.0.1:{PORT}/answer")
    lines = done.stdout.splitlines()
    answered = [line.split()[1] for line in lines if line.lower().startswith("x-modelfleet-model:")]
    return (lines[-1], *answered) if done.rc == 0 else ("",)


def everywhere(fleet, entry):
    wanted = (MADE[entry["version"]][1], f"moved-{entry['version']}-{entry['sha256'][:12]}")
    return {name: moved_says(fleet[name]) for name in GPU_HOSTS} == dict.fromkeys(GPU_HOSTS, wanted)


def test_it_is_served_beside_the_others(fleet, play, first, moved):
    play("site", [*first, moved["1.0"]])
    assert everywhere(fleet, moved["1.0"])
    done = play("site", [*first, moved["1.0"]])
    assert {name: row["changed"] for name, row in recap(done).items()} == dict.fromkeys(recap(done), 0)
    for name in GPU_HOSTS:
        host, unit = fleet[name], unit_of(moved["1.0"])
        assert serves(host) == FIRST and host.active(unit) and host.active(SWITCH)
        pid = host.main_pid(unit)
        assert host.check_output("ps -o user:32= -p %s", pid).strip() == "bentoml"
        root = f"/proc/{pid}/root"
        assert host.check_output("ls %s", f"{root}{MODELS}").split() == [f"moved-1.0-{moved['1.0']['sha256'][:12]}"]
        assert host.check_output("ls %s", f"{root}/var/lib/modelfleet") == "models"
        links, owner = host.check_output(f"stat -c '%h %U' {MODELS}/moved-1.0-*/models/moved/1.0/weights").split()
        assert int(links) >= 2 and owner == "root"
        listening = sorted(line.split()[3] for line in host.check_output("ss -Hltn sport = :%s", str(PORT)).splitlines())
        assert len(listening) == 2 and listening[0] == f"127.0.0.1:{PORT}" and listening[1].startswith("127.")


@pytest.mark.parametrize("playbook", ["smoke", "verify", "doctor", "prune"])
def test_a_play_that_looks_changes_nothing(play, first, moved, playbook, tmp_path):
    reports = {f"{name}_report_path": str(tmp_path / f"{name}.json") for name in ("doctor", "verify")}
    done = play(playbook, [*first, moved["1.0"]], verify_sbom_dir=str(tmp_path / "sbom"), **reports)
    assert {name: row["changed"] for name, row in recap(done).items()} == dict.fromkeys(recap(done), 0)


def test_the_next_version_and_back_while_clients_ask(fleet, play, first, moved):
    host = fleet["gpu-1"]
    unit = "systemd-run --unit=clients --property=StandardOutput=file:/run/seen --quiet python3 -c %s"
    host.check_output(unit, LOOP)
    try:
        play("rollout", [*first, moved["2.0"]])
        assert everywhere(fleet, moved["2.0"])
        for name in GPU_HOSTS:
            assert record(fleet[name])["previous"]["moved", "1.0"]["runtime"] == "bentoml"
            assert not fleet[name].active(unit_of(moved["1.0"]))
        play("rollback", [*first, moved["2.0"]], modelfleet_rollback_models=["moved"])
        assert everywhere(fleet, moved["1.0"])
    finally:
        host.check_output("touch /run/enough")
    host.check_output("sh -c 'while systemctl is-active --quiet clients; do sleep 1; done'")
    seen = json.loads(host.check_output("cat /run/seen"))
    assert set(seen) == {"bcd", "zab"}, seen


def test_what_is_no_bento_is_refused(fleet, play, first, moved):
    letters = {key: first[1][key] for key in ("bundle", "sha256", "size")}
    plain = {"name": "plain", "version": "1.0", **letters, "runtime": "bentoml", "port": PORT + 1}
    done = play("site", [*first, moved["1.0"], plain], code=2)
    assert "has no bento.yaml; publish the directory of a built bento" in said(done)
    assert everywhere(fleet, moved["1.0"])


def test_it_goes_and_the_others_stay(fleet, play, first, moved):
    play("site", [*first, *({**entry, "state": "absent"} for entry in moved.values())])
    for name in GPU_HOSTS:
        host = fleet[name]
        assert moved_says(host) == ("",) and serves(host) == FIRST and not host.active(SWITCH)
        assert not [file for file in host.stored() if file.startswith("moved-")]
        assert set(record(host)["models"]) == {("demo", "1.0"), ("letters", "1.0")}
