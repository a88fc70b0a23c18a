"""Servers and hosts that go away, and models that are taken away; the last test takes away everything."""

from __future__ import annotations

import json
import subprocess

import pytest
from conftest import FIRST, PORT, SCENARIO, SECOND, TRITON, all_serve, letters_say, record, said, serves, table_says, triton_has, unit_of
from fleet import GPU_HOSTS, MODELS, recap, wait_until

pytestmark = pytest.mark.usefixtures("restored")
RESTARTS = "systemctl show --property=NRestarts --value %s"


@pytest.mark.parametrize("number", [1, 2])
def test_a_server_that_is_killed_comes_back_alone(number, fleet, play, first):
    host = fleet["gpu-1"]
    units = ["torchserve", unit_of(first[1]), "triton.service"]
    unit = units.pop(number)
    others, before = [host.main_pid(one) for one in units], int(host.check_output(RESTARTS, unit))
    host.check_output("systemctl kill --signal=KILL %s", unit)
    wait_until(lambda: serves(host) == FIRST, "the killed server back")
    assert int(host.check_output(RESTARTS, unit)) == before + 1
    assert [host.main_pid(one) for one in units] == others
    done = play("site", first)
    assert {name: row["changed"] for name, row in recap(done).items()} == dict.fromkeys(recap(done), 0)


def test_torchserve_that_is_killed_leaves_the_others_alone(fleet, first):
    host, units = fleet["gpu-2"], (unit_of(first[1]), "triton")
    pids = [host.main_pid(unit) for unit in units]
    host.check_output("systemctl kill --signal=KILL torchserve")
    assert (letters_say(host), table_says(host)) == FIRST[1:] and [host.main_pid(unit) for unit in units] == pids
    wait_until(lambda: serves(host) == FIRST and host.gives(first[0]), "TorchServe back")


@pytest.fixture
def diagnosed(play, first, tmp_path):
    """A callable that runs doctor; returns {(host, what): finding} of what it found."""

    def run():
        path = tmp_path / "doctor.json"
        play("doctor", first, code=2, doctor_report_path=str(path))
        findings = json.loads(path.read_text(encoding="utf-8"))["findings"]
        return {(one["host"], one["what"]): one for one in findings if one["severity"] != "ok"}

    return run


def test_a_server_that_somebody_stopped_is_named_and_started_again(fleet, play, first, diagnosed):
    host, unit = fleet["gpu-3"], unit_of(first[1])
    host.check_output("systemctl stop %s", unit)
    found = diagnosed()["gpu-3", "letters 1.0 is not ready"]
    assert "systemd says inactive" in found["cause"] and unit.removesuffix(".service") in found["remedy"]
    assert "letters 1.0 is not ready" in said(play("smoke", first, code=2))
    play("site", first)
    assert {name: serves(fleet[name]) for name in GPU_HOSTS} == dict.fromkeys(GPU_HOSTS, FIRST)


def test_a_triton_that_somebody_stopped_is_named_and_started_again(fleet, play, first, diagnosed):
    host = fleet["gpu-3"]
    host.check_output("systemctl stop triton")
    assert any(name == "gpu-3" and "triton" in what.lower() for name, what in diagnosed())
    assert "table 1.0 is not ready" in said(play("smoke", first, code=2))
    play("site", first)
    assert {name: serves(fleet[name]) for name in GPU_HOSTS} == dict.fromkeys(GPU_HOSTS, FIRST)


def test_a_model_that_somebody_unloaded_is_named_and_loaded_again(fleet, play, first, diagnosed):
    host = fleet["gpu-3"]
    pid = host.main_pid("triton")
    host.check_output("curl --silent --fail --request POST http://127.0.0.1:8200/v2/repository/models/table/unload")
    wait_until(lambda: table_says(host) is None, "Triton without its model")
    found = diagnosed()["gpu-3", "table 1.0 is not ready"]
    assert "unloaded" in found["cause"] and "triton" in found["remedy"]
    play("site", first)
    assert serves(host) == FIRST and host.main_pid("triton") == pid


# Runs on the host: the last byte of a file, in place, so that every name of it has the change.
FLIP = """
import sys
with open(sys.argv[1], "r+b") as handle:
    handle.seek(-1, 2)
    byte = handle.read(1)
    handle.seek(-1, 2)
    handle.write(bytes([byte[0] ^ 1]))
"""


def test_a_model_that_is_damaged_on_the_disk_is_not_started(fleet, first):
    host, unit = fleet["gpu-3"], unit_of(first[1])
    path = host.check_output(f"ls {MODELS}/letters-1.0-*/model.gguf")
    entry = {key: first[1][key] for key in ("name", "version", "bundle", "sha256", "port")}
    host.check_output("systemctl disable --now %s", unit)

    def start():
        arguments = ["-m", "modelfleet.serving.openai_model", "-a", json.dumps({"models": [entry], "timeout": 120})]
        return SCENARIO.play("gpu-3", *arguments, program="ansible", json_results=True)

    host.check_output("python3 -c %s %s", FLIP, path)
    try:
        refused = start()
    finally:
        host.check_output("python3 -c %s %s", FLIP, path)
    assert "Failed to start the server of model letters 1.0" in said(refused) and "has model.gguf with sha256" in said(refused)
    assert letters_say(host) == "" and not host.active(unit)
    assert '"action": "started"' in start().stdout and letters_say(host) == FIRST[1]


def test_a_server_that_is_killed_in_the_middle_of_a_rollout(fleet, play, second):
    options = ["-e", json.dumps({"modelfleet_models": second})]
    with SCENARIO.beside("playbooks/rollout.yml", *options) as run:
        wait_until(lambda: run.ended or ("letters", "2.0") in record(fleet["gpu-1"])["staged"], "letters 2.0 on gpu-1", seconds=600)
        assert not run.ended, run.finish().stdout[-5000:]
        fleet["gpu-1"].check_output("systemctl kill --signal=KILL %s", unit_of(second[1]))
        finished = run.finish()
    # Undone by itself, or, where it was back soon enough, done all the same.
    wanted = SECOND if finished.returncode == 0 else FIRST
    assert all_serve(fleet, wanted), finished.stdout[-5000:]
    play("rollout", second)
    assert {name: serves(fleet[name]) for name in GPU_HOSTS} == dict.fromkeys(GPU_HOSTS, SECOND)


def test_a_reboot_brings_all_back(fleet, play, first):
    host = fleet["gpu-2"]
    subprocess.run(["podman", "restart", "--time", "30", host.container], check=True, capture_output=True)
    wait_until(lambda: serves(host) == FIRST and host.gives(first[0]), "the rebooted host serving what it served")
    wait_until(lambda: host.active("dfdaemon") and host.active("torchserve-models"), "the rebooted host's units running")
    done = play("smoke", first)
    assert {row["changed"] for row in recap(done).values()} == {0}


def test_a_model_that_is_absent_leaves_nothing(fleet, play, first):
    gone = [first[0], *({**one, "state": "absent"} for one in first[1:])]
    play("site", gone)
    for name in GPU_HOSTS:
        host = fleet[name]
        assert letters_say(host) == "" and host.gives(first[0])
        assert table_says(host) is None and "READY" not in triton_has(host).values()
        assert host.check_output("find %s -mindepth 2", TRITON) == ""
        assert host.check_output("ss -Hltn sport = :%s", str(PORT)) == ""
        assert host.run("find /etc/systemd/system -name %s", f"{unit_of(first[1])}*").stdout == ""
        assert [file for file in host.stored() if file.startswith(("letters-1.0-", "table-1.0-"))] == []
        assert host.run("find /var/lib/openai-server -mindepth 1 -name 'letters-1.0-*'").stdout == ""
        assert set(record(host)["models"]) == {("demo", "1.0")}
    again = play("site", gone)
    assert {name: row["changed"] for name, row in recap(again).items()} == dict.fromkeys(recap(again), 0)
    play("site", first)
    assert all_serve(fleet, FIRST)


def test_everything_is_taken_away(fleet, play, first):
    play("uninstall", first, modelfleet_uninstall_confirm=True, modelfleet_uninstall_purge=True)
    for name in GPU_HOSTS:
        host = fleet[name]
        for user in ("openai-server", "triton", "bentoml", "modelfleet-bentoml"):
            assert host.run("getent passwd %s", user).rc == 2
            assert host.run("pgrep -u %s", user).stdout == ""
            assert host.check_output("find /etc/systemd /usr/lib/sysusers.d /etc/tmpfiles.d -name %s", f"*{user}*") == ""
        places = "/var/lib/openai-server /var/lib/triton /var/lib/bentoml /etc/modelfleet-bentoml /var/lib/modelfleet"
        assert host.run(f"ls -d {places}").stdout == ""
