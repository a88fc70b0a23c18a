"""A fourth model beside the three, on BentoML: its next version under load and back, and gone again at the end."""

from __future__ import annotations

import json
import sys

import pytest
from conftest import FIRST, MODEL_NAMES, record, said, serves, versions
from fleet import FILES, GPU_HOSTS, MODELS, REPOSITORY, recap

sys.path.insert(0, str(REPOSITORY / "lab/model"))
import make_bento

PORT = 8301
SWITCH = "modelfleet-bentoml.service"
# By version, the step of the model and what it makes of abc.
MADE = {"1.0": (1, "bcd"), "2.0": (25, "zab")}
# Runs on the host until a file is there, and says how often it got what: one client asks without a pause, each time by another connection,
# the others keep theirs and ask now and then.
LOOP = f"""
import collections, http.client, json, os, threading, time
seen = collections.Counter()

def ask(pause, keeps):
    connection = None
    while not os.path.exists("/run/enough"):
        kept = connection is not None
        connection = connection or http.client.HTTPConnection("127.0.0.1", {PORT}, timeout=60)
        try:
            connection.request("POST", "/answer", '{{"text": "abc"}}', {{"Content-Type": "application/json"}})
            seen[connection.getresponse().read().decode()] += 1
        except (OSError, http.client.HTTPException) as exc:
            connection.close()
            connection = None
            # Whoever keeps a connection knows that it may be closed while nothing is asked.
            if kept and isinstance(exc, (BrokenPipeError, ConnectionResetError)):
                continue
            seen[repr(exc)] += 1
        if connection and not keeps:
            connection.close()
            connection = None
        time.sleep(pause)

clients = [threading.Thread(target=ask, args=(0.05, False))]
clients += [threading.Thread(target=ask, args=(pause, True)) for pause in (0.5, 2, 3, 6, 7, 8, 9, 10)]
for client in clients:
    client.start()
for client in clients:
    client.join()
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def moved():
    """The entries of both versions, which one play publishes."""
    (FILES / "moved.json").write_text('{"text": "abc"}', encoding="utf-8")
    for version, (step, answer) in MADE.items():
        make_bento.make(FILES / f"moved-{version}", version, step, 8)
        (FILES / f"moved-{version}.txt").write_text(answer + "\n", encoding="utf-8")
    entry = {"name": "moved", "bundle": "models/moved", "size": "9MiB", "runtime": "bentoml", "port": PORT, "route": "answer"}
    return versions({**entry, "check": {"input_file": "moved.json"}}, MADE, "moved-{}.txt")


@pytest.fixture(scope="module")
def plain(first):
    """The entry of a bundle that is no bento."""
    bundle = {key: first[1][key] for key in ("bundle", "sha256", "size")}
    return {"name": "plain", "version": "1.0", **bundle, "runtime": "bentoml", "port": PORT + 1}


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


def test_what_is_no_bento_is_refused(fleet, play, first, moved, plain):
    done = play("site", [*first, moved["1.0"], plain], code=2)
    assert "has no bento.yaml; publish the directory of a built bento" in said(done)
    assert everywhere(fleet, moved["1.0"])


def test_it_goes_and_the_others_stay(fleet, play, first, moved, plain):
    gone = [{**entry, "state": "absent"} for entry in (*moved.values(), plain)]
    play("site", [*first, *gone])
    for name in GPU_HOSTS:
        host = fleet[name]
        assert moved_says(host) == ("",) and serves(host) == FIRST and not host.active(SWITCH)
        assert not [file for file in host.stored() if file.startswith(("moved-", "plain-"))]
        assert host.check_output("find /etc/systemd/system -name 'bentoml-*'") == "" and host.check_output("ls /var/lib/bentoml") == ""
        assert {name for name, _version in record(host)["models"]} == set(MODEL_NAMES) and record(host)["previous"] == {}
    done = play("site", [*first, *gone])
    assert {name: row["changed"] for name, row in recap(done).items()} == dict.fromkeys(recap(done), 0)
