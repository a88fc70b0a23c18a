"""A model of the hub on three hosts: one copy from the hub for the fleet, one on the disk of a host, and the hub's own client finds it."""

from __future__ import annotations

import hashlib
import json

import pytest
import yaml
from conftest import (
    ADDRESSES,
    CDN,
    CONTROLLER,
    HUB,
    LOCK,
    SEEN,
    SMALL,
    SMALL_REQUESTS,
    VERSIONS,
    asked,
    distribute,
    offline,
    pin,
    play,
    unwrapped,
    weights,
)
from fleet import GPU_HOSTS, recap

LARGE = 22  # MiB, each of three files
# Runs on the host: bytes of all files below the directories, each inode once; and the number of names that each large file has.
DISK = """
import json, os, sys
found, names = {}, {}
for top in sys.argv[1:]:
    for parent, _directories, files in os.walk(top):
        for path in (os.path.join(parent, name) for name in files):
            status = os.lstat(path)
            found[status.st_ino] = status.st_blocks * 512
            if status.st_size > 4 << 20:
                names.setdefault(status.st_ino, []).append(path.split("/")[4])
print(json.dumps([sum(found.values()), sorted(sorted(places) for places in names.values())]))
"""
PLACES = ("pieces/content", "blobs", "huggingface", "models", "incoming")


def disk(host):
    """(bytes, [the first part of every name of a large file]) below /var/lib/modelfleet."""
    return json.loads(host.check_output("python3 -c %s" + " %s" * len(PLACES), DISK, *(f"/var/lib/modelfleet/{one}" for one in PLACES)))


@pytest.fixture(scope="module")
def before(fleet):
    return {name: disk(fleet[name]) for name in GPU_HOSTS}


@pytest.fixture(scope="module")
def bert(repository, before):
    return repository("org/bert", LARGE, files=3)


@pytest.fixture(scope="module")
def brought(bert, origin):
    """The play that brings it, and what the hub was asked meanwhile."""
    pin(bert)
    origin.count_anew()
    finished = distribute(bert)
    assert finished.returncode == 0, finished.stdout[-5000:]
    return finished, asked(origin)


def test_a_branch_is_pinned_and_its_commit_printed(bert, fleet, before):
    entry = bert.wanted()
    entry["huggingface"]["revision"] = "main"
    refused = play("playbooks/distribute.yml", [entry])
    assert refused.returncode != 0 and "the revision 'main' of org/bert is no commit" in unwrapped(refused.stdout)
    assert "run modelfleet.serving.pin, which prints the commit" in unwrapped(refused.stdout)

    pinned = play("playbooks/pin.yml", [entry])
    assert pinned.returncode == 0, pinned.stdout[-3000:]
    assert bert.commit in pinned.stdout
    files = yaml.safe_load(LOCK.read_text(encoding="utf-8"))["modelfleet_huggingface_pins"][f"org/bert@{bert.commit}"]["files"]
    assert set(files) == {*bert.large, *SMALL} and {path: files[path]["sha256"] for path in bert.large} == bert.large
    again = play("playbooks/pin.yml", [entry])
    assert {counts["changed"] for counts in recap(again).values()} == {0}
    # That was the controller's: no host was changed.
    assert {name: disk(fleet[name]) for name in GPU_HOSTS} == before


def test_the_hub_gives_one_copy_for_the_fleet(bert, brought):
    finished, counted = brought
    bytes_sent = counted[HUB]["bytes"] + counted[CDN]["bytes"]
    SEEN.setdefault("one copy from the hub", [("bytes / size", "requests at the hub", "by whom", "at its CDN")]).append(
        (f"{bytes_sent / bert.size:.4f}", counted[HUB]["requests"], counted[HUB]["by"], counted[CDN]["requests"])
    )
    assert bytes_sent <= 1.05 * bert.size
    # A host proves its right, and asks for the address of each large file. The controller asks for the small ones, for all hosts.
    assert counted[HUB]["by"] == {**dict.fromkeys(ADDRESSES.values(), 1 + len(bert.large)), CONTROLLER: SMALL_REQUESTS}
    requests = len(ADDRESSES) * (1 + len(bert.large)) + SMALL_REQUESTS
    assert f"The hub was asked {requests} times, {SMALL_REQUESTS} of them by the controller for all." in unwrapped(finished.stdout)
    assert "Not all small files of the hub came by the controller" not in unwrapped(finished.stderr)


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_one_copy_is_on_the_disk(bert, brought, before, fleet, name):
    used, names = disk(fleet[name])
    grown = used - before[name][0]
    rows = SEEN.setdefault("one copy on the disk", [("host", "grown by", "of", "names of a large file")])
    rows.append((name, grown, bert.size, names[-1]))
    # Every small file takes a block.
    assert bert.size <= grown <= 1.01 * bert.size
    assert [one for one in names if one not in before[name][1]] == [["blobs", "huggingface", "pieces"]] * 3


@pytest.mark.parametrize("name", GPU_HOSTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_hubs_own_client_finds_and_loads_it_offline(bert, brought, fleet, clients, origin, name, version):
    origin.count_anew()
    done = offline(fleet[name], version, bert)
    assert done.rc == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["version"].startswith(version)
    assert found["snapshot"] == bert.snapshot() and found["revisions"] == [bert.commit]
    assert found["files"] == sorted([*bert.large, *SMALL]) and found["config"] == json.loads(SMALL["config.json"])
    assert set(found["tensors"]) == set(bert.large)
    assert {name: counted["requests"] for name, counted in asked(origin).items() if counted["requests"]} == {}


def test_what_it_loads_are_the_numbers(bert, brought, fleet, clients):
    """Of a file whose content is known here."""
    found = json.loads(offline(fleet["gpu-1"], VERSIONS[-1], bert).stdout)["tensors"]
    assert found == {
        path: hashlib.sha256(weights(f"org/bert {n}", LARGE)[-(LARGE << 20) :]).hexdigest() for n, path in enumerate(sorted(bert.large))
    }


def test_a_second_run_asks_and_moves_nothing(bert, brought, fleet, origin):
    origin.count_anew()
    before = {name: disk(fleet[name]) for name in GPU_HOSTS}
    for playbook in ("playbooks/distribute.yml", "playbooks/site.yml"):
        again = play(playbook, [bert.wanted()])
        assert again.returncode == 0, again.stdout[-3000:]
    again = play("playbooks/site.yml", [bert.wanted()])
    assert {name: counts["changed"] for name, counts in recap(again).items()} == dict.fromkeys(recap(again), 0)
    assert {host: counted["requests"] for host, counted in asked(origin).items()} == dict.fromkeys(asked(origin), 0)
    assert {name: disk(fleet[name]) for name in GPU_HOSTS} == before
