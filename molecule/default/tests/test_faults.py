"""Faults: each ends in an error that names the thing, and what was served before is still served."""

from __future__ import annotations

import hashlib
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from fleet import GPU_HOSTS, MODELS, only_in_all, small_disk, wait_until


@pytest.fixture(autouse=True)
def still_served(fleet, origin, serves):
    """Whatever a test breaks: afterwards every host gives the known answer, nothing half-fetched is left."""
    yield
    origin.heal()
    for name in GPU_HOSTS:
        wait_until(lambda host=fleet[name]: serves(host), f"{name} serving")
        assert fleet[name].check_output("find /var/lib/modelfleet/incoming -type f") == ""


def test_origin_answers_403(fleet, origin, make_mar):
    key = "faults/forbidden.mar"
    digest = origin.put(key, make_mar("forbidden"))
    origin.fault(key=key, status=403)
    before = fleet["gpu-1"].stored()
    status, answer = fleet["gpu-1"].register(key, sha256=digest)
    assert status == 502, answer
    assert "403" in answer["message"] and key in answer["message"]
    assert fleet["gpu-1"].stored() == before


def test_object_does_not_exist(fleet):
    status, answer = fleet["gpu-1"].register("faults/nowhere.mar", sha256="0" * 64)
    assert status == 404, answer
    assert "faults/nowhere.mar" in answer["message"]


def test_wrong_sha256(fleet, origin, make_mar):
    key = "faults/wrong-digest.mar"
    digest = origin.put(key, make_mar("wrongdigest"))
    wrong = "1" * 64
    before = fleet["gpu-1"].stored()
    status, answer = fleet["gpu-1"].register(key, sha256=wrong)
    assert status == 502, answer
    assert key in answer["message"] and wrong in answer["message"] and digest in answer["message"]
    assert fleet["gpu-1"].stored() == before


def test_object_overwritten_then_repaired(fleet, origin, make_mar):
    """Every host refuses the wrong bytes, and the next call heals without anybody's help, although every holder caches the wrong ones."""
    key = "faults/overwritten.mar"
    good, bad = make_mar("overwritten"), make_mar("overwritten", version="6.6.6")
    origin.put(key, bad)
    digest = hashlib.sha256(good).hexdigest()
    for name in GPU_HOSTS:
        status, answer = fleet[name].register(key, sha256=digest)
        assert status == 502, answer
        assert key in answer["message"]
    origin.put(key, good)
    for name in GPU_HOSTS:
        status, answer = fleet[name].register(key, sha256=digest, initial_workers=1)
        assert status == 200, answer
        assert fleet[name].unregister("overwritten")[0] == 200


def test_a_mar_that_is_not_a_zip(fleet, origin):
    key = "faults/not-a-zip.mar"
    digest = origin.put(key, b"no zip at all" * (1 << 19))
    before = fleet["gpu-1"].stored()
    status, answer = fleet["gpu-1"].register(key, sha256=digest)
    assert status == 400, answer
    assert key in answer["message"]
    assert fleet["gpu-1"].stored() == before


def test_two_calls_for_one_file_are_one_download(fleet, origin, make_mar):
    key = "faults/twice.mar"
    content = make_mar("twice")
    digest = origin.put(key, content)
    host = fleet["gpu-2"]
    before = host.traffic()["REMOTE_PEER"]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _call: host.register(key, sha256=digest, initial_workers=1), range(2)))
    assert sorted(status for status, _answer in answers) == [200, 409], answers
    assert host.traffic()["REMOTE_PEER"] - before == len(content)
    assert host.unregister("twice")[0] == 200


def test_the_same_bytes_under_another_name_are_local(fleet, origin, make_mar):
    """The same content under another key: dfdaemon has it, nobody sends a byte."""
    host = fleet["gpu-1"]
    content = make_mar("again")
    digest = origin.put("faults/first-name.mar", content)
    assert host.register("faults/first-name.mar", sha256=digest, initial_workers=1)[0] == 200
    assert host.unregister("again")[0] == 200
    host.check_output("rm %s", f"{MODELS}/again-1.0-{digest[:12]}.mar")
    origin.put("faults/second-name.mar", content)
    before = host.traffic()
    status, answer = host.register("faults/second-name.mar", sha256=digest, initial_workers=1)
    assert status == 200, answer
    after = host.traffic()
    assert {source: after[source] - before[source] for source in after} == {
        "BACK_TO_SOURCE": 0,
        "REMOTE_PEER": 0,
        "LOCAL_PEER": len(content),
    }
    assert origin.bytes_sent("faults/second-name.mar") == 0
    assert host.unregister("again")[0] == 200


def test_dfdaemon_killed_while_peers_are_connected(fleet, origin, make_mar):
    key = "faults/after-kill.mar"
    digest = origin.put(key, make_mar("afterkill"))
    for name in ("seed-1", "gpu-1"):
        host = fleet[name]
        old = host.main_pid("dfdaemon")
        host.check_output("systemctl kill --signal=KILL dfdaemon")
        wait_until(
            lambda host=host, old=old: (
                host.main_pid("dfdaemon") not in ("0", old) and host.run("ss -Hltn sport = :4005").stdout and host.active("dfdaemon")
            ),
            f"dfdaemon on {name} listening again",
            seconds=30,
        )
    for name in GPU_HOSTS:
        status, answer = fleet[name].register(key, sha256=digest, initial_workers=1)
        assert status == 200, answer
        assert fleet[name].unregister("afterkill")[0] == 200


def test_dfdaemon_is_down(fleet, origin, make_mar):
    key = "faults/no-proxy.mar"
    digest = origin.put(key, make_mar("noproxy"))
    host = fleet["gpu-3"]
    host.check_output("systemctl stop dfdaemon")
    try:
        status, answer = host.register(key, sha256=digest, response_timeout=5)
    finally:
        host.check_output("systemctl start dfdaemon")
    assert status == 502, answer
    assert "127.0.0.1:4001" in answer["message"]


def test_one_host_is_away_and_another_serves_more_than_the_list_says(fleet, origin, make_mar, play, report):
    """The others go on, and the report at the end names both."""
    digest = origin.put("faults/drift.mar", make_mar("drift"))
    assert fleet["gpu-2"].register("faults/drift.mar", sha256=digest, initial_workers=1)[0] == 200
    subprocess.run(["podman", "pause", fleet["gpu-3"].container], check=True, capture_output=True)
    try:
        finished = play("playbooks/site.yml")
    finally:
        subprocess.run(["podman", "unpause", fleet["gpu-3"].container], check=True, capture_output=True)
        fleet["gpu-2"].unregister("drift")
    assert finished.returncode == 2, finished.stdout[-3000:]
    hosts = report()["hosts"]
    assert {name for name, host in hosts.items() if not host["ok"]} == {"gpu-2", "gpu-3"}
    assert hosts["gpu-3"]["problems"][0].startswith("Reach the host: unreachable")
    assert ["is not in modelfleet_models" in problem for problem in hosts["gpu-2"]["problems"]] == [True]
    assert all(row["answer_ok"] for name in ("gpu-1", "gpu-2") for row in hosts[name]["models"])


def test_torchserve_killed(fleet, serves):
    host = fleet["gpu-1"]
    old = host.main_pid("torchserve")
    host.check_output("systemctl kill --signal=KILL torchserve")
    wait_until(lambda: host.main_pid("torchserve") not in ("0", old), "TorchServe starting again")
    wait_until(lambda: serves(host), "TorchServe serving what it served")


def test_host_rebooted_without_the_network(fleet, origin, serves):
    """From local disk alone: neither the origin nor another host is asked."""
    host = fleet["gpu-2"]
    requests = origin.call("GET", "/counters")
    subprocess.run(["podman", "restart", "--time", "30", host.container], check=True, capture_output=True)
    wait_until(lambda: serves(host), "the rebooted host serving what it served")
    assert origin.call("GET", "/counters")["objects"] == requests["objects"]
    wait_until(lambda: host.active("dfdaemon") and host.active("torchserve-models"), "the rebooted host's units running")


@only_in_all
def test_scheduler_is_unreachable(fleet, play):
    """A wrong address stops the run before the daemon that works is touched."""
    host = fleet["gpu-3"]
    old = host.main_pid("dfdaemon")
    finished = play("playbooks/site.yml", "--limit", "gpu-3", "-e", "dragonfly_scheduler_port=8999")
    assert finished.returncode != 0
    assert ":8999" in finished.stdout
    assert host.main_pid("dfdaemon") == old
    assert play("playbooks/site.yml", "--limit", "gpu-3").returncode == 0


def test_disk_is_full(fleet, origin, make_mar, serves):
    """dfdaemon has no room for the model: the answer names it, its journal says why, nothing is left behind; with room it is served."""
    host = fleet["gpu-3"]
    key = "faults/big.mar"
    digest = origin.put(key, make_mar("big", size_mib=64))
    with small_disk(host, "48m", "dfdaemon", "torchserve"):
        wait_until(lambda: host.request("GET", "http://127.0.0.1:8081/models")[0] == 200, "TorchServe answering")
        began = host.check_output("date +%s")
        status, answer = host.register(key, sha256=digest)
        assert status == 502, answer
        assert key in answer["message"] and "dfdaemon at 127.0.0.1:4001" in answer["message"]
        said = host.check_output("journalctl --no-pager --output=cat --all -u dfdaemon --since %s", f"@{began}")
        assert "No space left on device" in said
        assert host.stored() == set()
        assert host.check_output("find /var/lib/modelfleet/incoming -type f") == ""
    wait_until(lambda: serves(host), "the host with its disk back serving")
    status, answer = host.register(key, sha256=digest, initial_workers=1)
    assert status == 200, answer
    assert host.unregister("big")[0] == 200


@only_in_all
def test_a_served_version_is_never_replaced(fleet, archive, play):
    changed = {key: value for key, value in archive.items() if key != "path"} | {"sha256": "2" * 64}
    finished = play("playbooks/site.yml", "-e", json.dumps({"modelfleet_models": [changed]}))
    assert finished.returncode != 0
    assert "rollout" in finished.stdout and archive["name"] in finished.stdout


@only_in_all
def test_a_run_that_died_before_its_restart_is_healed_by_the_next(fleet, play):
    """The file is new, the daemon is old, no handler is pending: the next run must see it."""
    host = fleet["gpu-3"]
    old = host.main_pid("dfdaemon")
    record = host.check_output("ls /run/dragonfly/started.sha256")
    host.check_output("sed -i 's/^[0-9a-f]\\{8\\}/00000000/' %s", record)
    finished = play("playbooks/site.yml", "--limit", "gpu-3")
    assert finished.returncode == 0, finished.stdout[-3000:]
    assert host.main_pid("dfdaemon") != old
