"""Another image and back, the other way and back, and the end."""

from __future__ import annotations

from conftest import CONTAINED, IMAGES, MODEL, containers, kept
from fleet import GPU_HOSTS, recap

NEXT = {"dfdaemon_image": IMAGES["client_next"]["image"], "dfdaemon_image_archive": IMAGES["client_next"]["archive"]}


def image_of(name):
    return IMAGES[name]["image"].removeprefix("sha256:")


def test_another_image_and_back(fleet, play):
    before = {name: kept(fleet[name]) for name in GPU_HOSTS}
    play("upgrade", **NEXT)
    hosts = [name for name, names in CONTAINED.items() if "dfdaemon" in names]
    assert {containers(fleet[name])["dfdaemon"] for name in hosts} == {image_of("client_next")}
    # Back without an archive, as the image before is still there.
    play("upgrade", dfdaemon_image_archive="")
    assert {containers(fleet[name])["dfdaemon"] for name in hosts} == {image_of("client")}
    for name in GPU_HOSTS:
        assert fleet[name].gives(MODEL) and kept(fleet[name]) == before[name]


def test_the_other_way_and_back(fleet, play):
    host, before = fleet["gpu-1"], kept(fleet["gpu-1"])
    for method, expected in (("package", set()), ("container", CONTAINED["gpu-1"])):
        play("site", "--limit", "gpu-1", modelfleet_install_method=method)
        assert set(containers(host)) == expected
        assert host.gives(MODEL) and kept(host) == before
        done = play("site", "--limit", "gpu-1", modelfleet_install_method=method)
        assert recap(done)["gpu-1"]["changed"] == 0


def test_nothing_is_left(fleet, play):
    play("uninstall", modelfleet_uninstall_confirm=True, modelfleet_uninstall_purge=True)
    for name, names in CONTAINED.items():
        host = fleet[name]
        if names:
            assert host.check_output("podman ps --all --quiet") == "" and host.check_output("podman images --quiet") == ""
        assert host.run("ls /opt/dragonfly /opt/torchserve /etc/dragonfly /run/dragonfly").stdout == ""
        assert host.run("id dfdaemon").rc != 0
