"""Old versions leave the hosts: the disk has their bytes again, and what serves or is in use stays whatever the policy says."""

from __future__ import annotations

import json
import re

import pytest
from fleet import GPU_HOSTS, MODELS, make_model, only_in_all, published, recap, wait_until
from test_distribute import used

pytestmark = only_in_all
MIB = 1 << 20
SIZE = 24 * MIB
ROW = re.compile(r"(gpu-\d) +(\S+) +(\S+) +(removed|served|loaded|listed|pinned|previous) +\S+ +\S+")
# The file is closed again: the mapping alone is what holds it.
MAP = """
import mmap, sys, time
with open(sys.argv[1], "rb") as handle:
    held = mmap.mmap(handle.fileno(), 0, prot=mmap.PROT_READ)
time.sleep(3600)
"""


def states(finished):
    """{(host, model, version): state} of the table that a run ends with."""
    return {tuple(row[:3]): row[3] for row in ROW.findall(finished.stdout)}


def changed(finished):
    return {name: recap(finished)[name]["changed"] for name in GPU_HOSTS}


@pytest.fixture
def old(play, bundle, tmp_path_factory):
    """A version of the bundle with weights of its own, in the store, as an entry of the list of models."""
    archive = make_model(tmp_path_factory.mktemp("old"), "unpacked", "0.9", size_mib=24)
    artifact = {"src": str(archive), "bundle": bundle["bundle"]}
    (entry,) = published(play("playbooks/publish.yml", "-e", json.dumps({"modelfleet_artifacts": [artifact]}), json_results=True))
    return entry


@pytest.fixture
def bring(play, models, old):
    """A callable that brings the old version to every host, where it is not listed afterwards."""

    def run():
        listed = [{key: value for key, value in model.items() if key != "path"} for model in models]
        brought = play("playbooks/distribute.yml", "-e", json.dumps({"modelfleet_models": [*listed, old]}))
        assert brought.returncode == 0, brought.stdout[-3000:]

    return run


@pytest.fixture
def prune(play):
    def run(*options, code=0, **variables):
        finished = play("playbooks/prune.yml", "-e", json.dumps(variables), *options)
        assert finished.returncode == code, finished.stdout[-3000:]
        return finished

    return run


def path_of(entry):
    return f"{MODELS}/{entry['name']}-{entry['version']}-{entry['sha256'][:12]}"


def test_the_previous_version_stays_and_then_its_bytes_are_free_again(fleet, bring, prune, old, bundle):
    prune(dfdaemon_prune_keep=0)
    before = {name: used(fleet[name]) for name in GPU_HOSTS}
    bring()
    taken = {name: used(fleet[name]) for name in GPU_HOSTS}
    kept = prune()
    for name in GPU_HOSTS:
        assert taken[name] - before[name] >= SIZE
        assert states(kept)[name, "unpacked", "0.9"] == "previous"
        assert states(kept)[name, "unpacked", "1.0"] == "served"
        assert used(fleet[name]) == taken[name]
    assert changed(kept) == dict.fromkeys(GPU_HOSTS, 0)

    said = prune("--check", dfdaemon_prune_keep=0)
    assert {name: used(fleet[name]) for name in GPU_HOSTS} == taken
    done = prune(dfdaemon_prune_keep=0)
    freed, would_free = (re.findall(r"gpu-\d: freed [\d.]+ MiB\.", " ".join(one.stdout.split())) for one in (done, said))
    assert len(freed) == len(GPU_HOSTS)
    assert (states(said), would_free) == (states(done), freed)
    assert changed(said) == changed(done) == dict.fromkeys(GPU_HOSTS, 1)
    for name in GPU_HOSTS:
        host = fleet[name]
        assert states(done)[name, "unpacked", "0.9"] == "removed"
        assert host.run("test -e %s", path_of(old)).rc == 1
        # Of all that came with it, dfdaemon's own files included.
        assert used(host) - before[name] <= 0.02 * SIZE
        assert host.run("test -e %s", bundle["path"]).rc == 0
    assert changed(prune(dfdaemon_prune_keep=0)) == dict.fromkeys(GPU_HOSTS, 0)


def test_dfdaemon_has_forgotten_it_and_gets_it_again(fleet, bring, prune, old):
    """A task of which only the file were gone could not be downloaded any more."""
    bring()
    prune(dfdaemon_prune_keep=0)
    bring()
    for name in GPU_HOSTS:
        assert fleet[name].run("test -e %s", f"{path_of(old)}/weights.bin").rc == 0
    prune(dfdaemon_prune_keep=0)


def test_what_serves_survives_a_policy_that_keeps_nothing(fleet, prune, archive, bundle, serves):
    done = prune(dfdaemon_prune_keep=0, modelfleet_models=[])
    for name in GPU_HOSTS:
        host = fleet[name]
        for model in archive, bundle:
            assert states(done)[name, model["name"], model["version"]] == "served"
            assert host.run("test -e %s", model["path"]).rc == 0
        assert serves(host)
    # It is still what a restart restores.
    host = fleet["gpu-1"]
    host.check_output("systemctl restart torchserve")
    wait_until(lambda: host.active("torchserve-models") and serves(host), "the models serving again")


def test_what_a_process_has_mapped_survives(fleet, bring, prune, old):
    """Of a runtime that nobody told this collection of."""
    bring()
    host = fleet["gpu-1"]
    host.check_output("systemd-run --quiet --unit=holds-weights python3 -c %s %s", MAP, f"{path_of(old)}/weights.bin")
    try:
        wait_until(
            lambda: f"{path_of(old)}/weights.bin" in host.check_output("cat /proc/%s/maps", host.main_pid("holds-weights")), "the mapping"
        )
        done = prune(dfdaemon_prune_keep=0)
        assert states(done)["gpu-1", "unpacked", "0.9"] == "loaded"
        assert states(done)["gpu-2", "unpacked", "0.9"] == "removed"
        assert re.search(r"gpu-1: unpacked 0.9 is used by python3\S* \(\d+\)", " ".join(done.stdout.split()))
        assert host.run("test -e %s", f"{path_of(old)}/weights.bin").rc == 0
    finally:
        host.check_output("systemctl stop holds-weights")
    assert states(prune(dfdaemon_prune_keep=0))["gpu-1", "unpacked", "0.9"] == "removed"


def test_a_limit_that_what_serves_is_above_is_an_error_that_names_it(fleet, prune, serves):
    done = prune("--limit", "gpu-1", code=2, dfdaemon_prune_limit="1MiB")
    said = " ".join(done.stdout.split())
    assert "within the limit of 1MiB" in said and "demo 1.0 (served, 6" in said
    assert serves(fleet["gpu-1"])


def test_without_dfdaemon_nothing_is_removed(fleet, bring, prune, old):
    bring()
    host = fleet["gpu-3"]
    host.check_output("systemctl stop dfdaemon")
    try:
        done = prune("--limit", "gpu-3", code=2, dfdaemon_prune_keep=0)
        assert "Failed to ask dfdaemon at /run/dragonfly/dfdaemon.sock what it has" in " ".join(done.stdout.split())
        assert host.run("test -e %s", f"{path_of(old)}/weights.bin").rc == 0
    finally:
        host.check_output("systemctl start dfdaemon")
    prune(dfdaemon_prune_keep=0)
