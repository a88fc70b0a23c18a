"""A container that dies, a host that boots, and images that are another's or not there."""

from __future__ import annotations

import subprocess

import pytest
from conftest import IMAGES, MODEL, containers, process
from fleet import wait_until


@pytest.mark.parametrize("name", ["dfdaemon", "torchserve"])
@pytest.mark.parametrize("who", ["the program", "its monitor"])
def test_it_comes_back_after_a_kill(fleet, name, who):
    host = fleet["gpu-1"]
    before = process(host, name)["Pid"]
    host.check_output("kill -9 %s", before if who == "the program" else host.main_pid(f"{name}.service"))
    wait_until(lambda: process(host, name)["Pid"] != before and host.active(f"{name}.service"), f"{name} coming back")
    wait_until(lambda: host.gives(MODEL), "the model served again")


def test_an_orderly_stop_leaves_no_container(fleet):
    host = fleet["gpu-1"]
    host.check_output("systemctl stop torchserve")
    assert set(containers(host)) == {"dfdaemon"} and host.check_output("podman ps --all --quiet | wc -l") == "1"
    host.check_output("systemctl start torchserve")
    wait_until(lambda: host.gives(MODEL), "the model served again")


def test_it_serves_after_a_boot(fleet):
    host = fleet["gpu-1"]
    subprocess.run(["podman", "restart", "--time", "30", host.container], check=True, capture_output=True)
    wait_until(lambda: host.gives(MODEL), "the model served again", 300)
    assert set(containers(host)) == {"dfdaemon", "torchserve"}


def test_a_tag_is_refused(play):
    done = play("site", code=2, dfdaemon_image="docker.io/dragonflyoss/client:v1.5.10")
    assert "The dfdaemon_image has no digest" in " ".join(done.stdout.split())


def test_an_image_that_is_nowhere_restarts_nothing(fleet, play):
    host = fleet["gpu-1"]
    before = process(host, "dfdaemon")["Pid"]
    done = play("site", "--limit", "gpu-1", code=2, dfdaemon_image=f"sha256:{'0' * 64}", dfdaemon_image_archive="")
    assert "its name leads to no registry" in " ".join(done.stdout.split())
    assert process(host, "dfdaemon")["Pid"] == before


def test_an_archive_of_another_image_restarts_nothing(fleet, play):
    host = fleet["gpu-1"]
    before = process(host, "dfdaemon")["Pid"]
    done = play(
        "site", "--limit", "gpu-1", code=2, dfdaemon_image=f"sha256:{'0' * 64}", dfdaemon_image_archive=IMAGES["client_next"]["archive"]
    )
    assert "what came is another one" in " ".join(done.stdout.split())
    assert process(host, "dfdaemon")["Pid"] == before


def test_verify_names_a_container_of_another_image(fleet, play, tmp_path):
    path = tmp_path / "verify.json"
    play("verify", "--limit", "gpu-1", code=2, verify_report_path=str(path), dfdaemon_image=IMAGES["torchserve"]["image"])
    assert "container dfdaemon is not what was installed" in path.read_text(encoding="utf-8")
