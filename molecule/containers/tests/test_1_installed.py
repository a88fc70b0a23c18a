"""What the first run has left: a mixed fleet that serves, with containers that may no more than the units of packages."""

from __future__ import annotations

import pytest
from conftest import CONTAINED, IMAGES, MODEL, SCENARIO, containers, process
from fleet import GPU_HOSTS, recap

CASES = [(host, name) for host, names in CONTAINED.items() for name in sorted(names)]


def test_every_host_serves(fleet):
    for name in GPU_HOSTS:
        assert fleet[name].gives(MODEL)


def test_the_origin_sent_the_model_about_once():
    assert SCENARIO.origin.bytes_sent(MODEL["object"]) < 1.2 * (65 << 20)


def test_who_runs_what(fleet):
    images = {"dragonfly-scheduler": "scheduler", "dfdaemon": "client", "torchserve": "torchserve"}
    for name, host in fleet.items():
        expected = {one: IMAGES[images[one]]["image"].removeprefix("sha256:") for one in CONTAINED[name]}
        assert containers(host) == expected, name
        for unit in {"dfdaemon"} if name != "scheduler-1" else {"dragonfly-scheduler"}:
            assert host.active(f"{unit}.service") and host.check_output("systemctl is-enabled %s", unit) == "enabled"


@pytest.mark.parametrize(("host", "name"), CASES)
def test_a_container_is_its_user_and_may_nothing_else(fleet, host, name):
    status = process(fleet[host], name)
    number = fleet[host].check_output("id -u %s", name)
    assert set(status["Uid"].split()) == {number}
    assert status["CapEff"] == status["CapBnd"] == "0" * 16 and status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    groups = set(fleet[host].check_output("id -G %s", name).split())
    assert groups <= set(status["Groups"].split()) | set(status["Gid"].split())
    mounts = fleet[host].check_output("cat /proc/%s/mountinfo", status["Pid"]).splitlines()
    (root,) = [line.split()[5] for line in mounts if line.split()[4] == "/"]
    assert "ro" in root.split(",")


@pytest.mark.parametrize(("host", "name"), CASES)
def test_a_process_belongs_to_its_unit(fleet, host, name):
    """By which limits, the journal, and who looks for the owner of a port know it."""
    cgroup = fleet[host].check_output("cat /proc/%s/cgroup", process(fleet[host], name)["Pid"])
    assert f"/{name}.service/" in cgroup


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_a_model_is_once_on_the_disk(fleet, name):
    inode, links = fleet[name].check_output("stat -c '%%i %%h' %s", MODEL["path"]).split()
    found = fleet[name].check_output("find /var/lib/modelfleet/pieces -inum %s", inode)
    assert int(links) >= 2 and found


def test_torchserve_sees_no_pieces(fleet):
    assert fleet["gpu-1"].run("podman exec torchserve ls /var/lib/modelfleet/pieces/content").rc != 0
    assert fleet["gpu-1"].run("podman exec torchserve touch /var/lib/modelfleet/state/other").rc != 0


def test_nobody_pulled(fleet):
    for name, host in fleet.items():
        if CONTAINED[name]:
            assert host.run("podman events --stream=false --filter event=pull --since 24h").stdout.strip() == ""


@pytest.mark.parametrize("playbook", ["smoke", "verify", "doctor", "site"])
def test_a_play_that_looks_changes_nothing(play, playbook, tmp_path):
    reports = {f"{name}_report_path": str(tmp_path / f"{name}.json") for name in ("doctor", "verify")}
    done = play(playbook, **reports)
    assert {name: row["changed"] for name, row in recap(done).items()} == dict.fromkeys(recap(done), 0)
