"""A fleet from its first host to its last. The tests build on each other: it grows, is upgraded and taken back, shrinks, and is gone."""

from __future__ import annotations

import pytest
from conftest import DAEMONS, HOSTS, MORE, changed
from fleet import GPU_HOSTS, MODELS, clients, recap, wait_until

OTHERS = ("scheduler-1", "seed-1", "gpu-1", "gpu-2")
DYNCONFIG = "/etc/dragonfly/dfdaemon-dynconfig.yaml"
BEFORE, CLIENT = clients()
NEW = {
    "torchserve_version": "0.12.0",
    "dfdaemon_version": CLIENT["version"],
    "dfdaemon_release_url": f"http://mirror.modelfleet.internal{CLIENT['url_path']}",
    "dfdaemon_release_sha256": CLIENT["sha256"],
    # The same programs under another version: no older scheduler runs without a manager.
    "dragonfly_scheduler_version": "2.5.1-again",
}


def test_a_gpu_host_joins_and_touches_only_itself(installed, fleet, play, processes, serves):
    before = processes(OTHERS)
    finished = play("add", "--limit", "gpu-3")
    assert set(recap(finished)) - {"localhost"} == {"gpu-3"} == changed(finished)
    assert serves("gpu-3") and processes(OTHERS) == before
    assert fleet["gpu-3"].traffic()["BACK_TO_SOURCE"] == 0, "it came from the others"
    # The hook of this scenario is a command, which always counts as a change.
    assert changed(play("add", "--limit", "gpu-3", modelfleet_return="")) == set()


def test_a_scheduler_and_seed_peer_joins_and_nothing_restarts(installed, fleet, play, processes, schedulers):
    joined = (*OTHERS, "gpu-3")
    before = processes(joined)
    play("add", "--limit", "spare-1", *MORE)
    for unit in DAEMONS["spare-1"]:
        assert fleet["spare-1"].active(unit)
    # dfdaemon has read of it by itself.
    for name in ("seed-1", *GPU_HOSTS):
        assert ".13:8002" in fleet[name].check_output("cat %s", DYNCONFIG)
        wait_until(lambda name=name: schedulers(name) == {"scheduler-1", "spare-1"}, f"{name} using both schedulers")
    assert processes(joined) == before
    # What the play wrote is what site writes.
    assert changed(play("site", *MORE)) == set()


def test_another_version_and_back_without_a_failed_request(installed, fleet, play, load, serves):
    for wanted, torchserve, client in ((NEW, "venv-0.12.0", CLIENT["version"]), ({}, "venv-0.11.1", BEFORE["version"])):
        answered = {name: len(found) for name, found in load().items()}
        finished = play("upgrade", *MORE, **wanted)
        assert changed(finished) >= {*HOSTS}
        for name in GPU_HOSTS:
            assert torchserve in fleet[name].program("torchserve") and serves(name)
        for name in ("seed-1", *GPU_HOSTS):
            assert fleet[name].check_output("readlink /opt/dragonfly/client/current") == client
            assert client in fleet[name].check_output("/proc/%s/exe --version", fleet[name].main_pid("dfdaemon"))
        found = load()
        assert {name: {*answers} for name, answers in found.items()} == {name: {"200"} for name in GPU_HOSTS}
        assert all(len(found[name]) > answered[name] for name in GPU_HOSTS)
        assert changed(play("upgrade", *MORE, **wanted)) == set()


def test_a_pair_that_does_not_work_is_refused(installed, play, processes):
    before = processes(HOSTS)
    finished = play("upgrade", *MORE, code=2, dragonfly_scheduler_version="2.5.0")
    assert "without a manager" in " ".join(finished.stdout.split())
    assert changed(finished) == set() and processes(HOSTS) == before


@pytest.mark.parametrize(("host", "what"), [("seed-1", "last seed peer"), ("scheduler-1", "last scheduler")])
def test_what_the_rest_needs_is_not_removed(installed, play, host, what):
    """Without the spare one in the inventory."""
    finished = play("remove_host", code=2, modelfleet_remove_hosts=host)
    assert what in " ".join(finished.stdout.split()) and changed(finished) == set()


def gone(on_disk, before, name):
    left, lost = on_disk(name) - before[name], before[name] - on_disk(name)
    assert (sorted(left), sorted(lost)) == ([], [])
    return True


def test_a_scheduler_and_seed_peer_leaves(installed, before, on_disk, fleet, play, processes, schedulers):
    staying = (*OTHERS, "gpu-3")
    running = processes(staying)
    play("remove_host", *MORE, modelfleet_remove_hosts="spare-1", modelfleet_uninstall_purge=True)
    assert gone(on_disk, before, "spare-1")
    for name in ("seed-1", *GPU_HOSTS):
        assert ".13:8002" not in fleet[name].check_output("cat %s", DYNCONFIG)
        wait_until(lambda name=name: schedulers(name) == {"scheduler-1"}, f"{name} using the scheduler that stays")
    assert processes(staying) == running
    # The inventory without it is what runs.
    assert changed(play("site")) == set()


def test_a_gpu_host_leaves(installed, before, on_disk, fleet, play, processes, serves):
    running = processes(OTHERS)
    wanted = {"modelfleet_remove_hosts": "gpu-3", "modelfleet_uninstall_purge": True}
    finished = play("remove_host", **wanted)
    # The firewalls of the others shut it out.
    assert changed(finished) == {"gpu-3", *OTHERS} and "Delete gpu-3 from the inventory" in finished.stdout
    assert gone(on_disk, before, "gpu-3")
    assert processes(OTHERS) == running and serves("gpu-1") and serves("gpu-2")
    assert changed(play("remove_host", **wanted, modelfleet_drain="")) == set()


@pytest.fixture
def uninstall(play):
    def run(*args, **variables):
        return play("uninstall", "--limit", "all:!gpu-3", *args, modelfleet_uninstall_confirm=True, **variables)

    return run


def test_uninstall_keeps_models_and_cache(installed, fleet, play, uninstall, origin, processes, serves):
    running = processes(OTHERS)
    predicted = uninstall("--check")
    assert changed(predicted) == {*OTHERS} and processes(OTHERS) == running
    assert changed(uninstall()) == {*OTHERS}
    for name in OTHERS:
        for unit in DAEMONS[name]:
            assert not fleet[name].active(unit) and fleet[name].run("systemctl cat %s", unit).rc == 1
        assert fleet[name].run("ls /opt/dragonfly /opt/torchserve /etc/dragonfly /etc/torchserve").stdout == ""
    for name in ("gpu-1", "gpu-2"):
        assert "demo-1.0" in fleet[name].check_output("ls %s", MODELS)
    assert changed(uninstall()) == set()
    # Installed again, the fleet has all that it had.
    origin.count_anew()
    play("site", "--limit", "all:!gpu-3")
    assert all(serves(name) for name in ("gpu-1", "gpu-2"))
    assert origin.bytes_sent("models/demo/1.0/demo.mar") == 0


def break_gpu_1(host):
    """A unit that is gone while its daemon runs, a daemon that cannot start, an account and files that are gone."""
    host.check_output("rm /etc/systemd/system/torchserve.service && systemctl daemon-reload")
    host.check_output("sed -i 's/^scheduler:/scheduler: [/' %s && systemctl kill --signal=KILL dfdaemon", DYNCONFIG)
    host.check_output("rm -rf /opt/torchserve /etc/tmpfiles.d/modelfleet.conf && userdel dragonfly-scheduler")


def test_uninstall_leaves_what_was_there_before(installed, before, on_disk, fleet, uninstall):
    break_gpu_1(fleet["gpu-1"])
    uninstall(modelfleet_uninstall_purge=True)
    for name in OTHERS:
        assert gone(on_disk, before, name)
    assert changed(uninstall(modelfleet_uninstall_purge=True)) == set()
