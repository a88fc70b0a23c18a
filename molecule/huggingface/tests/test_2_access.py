"""Who gets a gated model: every kind of token, on a host that has nothing of it, that had it before, and that has the bytes."""

from __future__ import annotations

import json

import pytest
from conftest import ADDRESSES, CDN, HUB, SEEN, VERSIONS, asked, distribute, offline, pin, unwrapped
from fleet import GPU_HOSTS, recap

# Whose directory it is; bob of the hosts is in no such group, and alice neither before a test says so.
TENANTS = "tenants"
REFUSALS = {
    "bob": "the account of this host's token has not been granted access (403)",
    "nobody": "it is gated, and this host gave no token (401)",
    "expired": "it refused the token of this host (401)",
    "revoked": "it refused the token of this host (401)",
    "wrong": "it refused the token of this host (401)",
}
# Two hosts at a time, and every refusal.
PAIRS = [("bob", "nobody"), ("expired", "revoked"), ("wrong", "bob")]


@pytest.fixture(scope="module")
def gated(repository):
    model = repository("org/gated", gated="auto", granted=["alice"])
    pin(model)
    return model


@pytest.fixture(scope="module")
def entry(gated):
    return gated.wanted(group=TENANTS)


@pytest.fixture(scope="module")
def copy(repository):
    """A public repository with the same large file."""
    model = repository("org/copy", seed="org/gated")
    pin(model)
    return model


def has(host, model):
    return host.run("test -e %s", model.snapshot(TENANTS)).rc == 0


def holds(host, model):
    """Whether the large file is among those that this host verified."""
    (sha256,) = model.large.values()
    return host.run("test -e /var/lib/modelfleet/blobs/%s", sha256).rc == 0


def refused(finished, pair):
    """Whether gpu-1 went on and the others were each refused with their sentence."""
    said, counts = unwrapped(finished.stdout), recap(finished)
    assert finished.returncode != 0 and counts["gpu-1"]["failed"] == 0, said[-3000:]
    for name, who in zip(GPU_HOSTS[1:], pair, strict=True):
        assert counts[name]["failed"] == 1
        assert f"of org/gated from {HUB}: {REFUSALS[who]}" in said, said[-3000:]
    return True


def note(pair, where):
    rows = SEEN.setdefault("who gets a gated model", [("token of", "bytes", "outcome")])
    rows += [row for row in [("alice", where, "has it"), *((who, where, "refused, has nothing") for who in pair)] if row not in rows]


@pytest.mark.parametrize("pair", PAIRS)
def test_a_host_without_the_right_gets_nothing(gated, entry, fleet, origin, pair):
    assert not any(has(fleet[name], gated) for name in GPU_HOSTS[1:])
    origin.count_anew()
    finished = distribute(entry, users=dict(zip(GPU_HOSTS, ("alice", *pair), strict=True)))
    assert refused(finished, pair)
    assert has(fleet["gpu-1"], gated)
    # One refusal is enough, and who was refused has the controller ask for nothing.
    assert [asked(origin)[HUB]["by"][ADDRESSES[name]] for name in GPU_HOSTS[1:]] == [1, 1]
    for name in GPU_HOSTS[1:]:
        assert not has(fleet[name], gated) and not holds(fleet[name], gated)
    note(pair, "at the hub")


@pytest.mark.parametrize("pair", PAIRS)
def test_the_bytes_on_the_disk_give_no_right(gated, entry, copy, fleet, pair):
    """They are there by a public repository that has the same file."""
    assert not any(has(fleet[name], gated) for name in GPU_HOSTS[1:])
    assert distribute(copy, users={}).returncode == 0
    assert all(holds(fleet[name], gated) for name in GPU_HOSTS)
    finished = distribute(copy, entry, users=dict(zip(GPU_HOSTS, ("alice", *pair), strict=True)))
    assert refused(finished, pair)
    assert has(fleet["gpu-1"], gated)
    for name in GPU_HOSTS[1:]:
        assert not has(fleet[name], gated) and holds(fleet[name], gated)
    note(pair, "on the disk")


@pytest.mark.parametrize("pair", PAIRS)
def test_who_loses_the_right_loses_the_model(gated, entry, fleet, pair):
    """A host had it, and its token is another's now."""
    assert distribute(entry).returncode == 0
    assert all(has(fleet[name], gated) for name in GPU_HOSTS)
    finished = distribute(entry, users=dict(zip(GPU_HOSTS, ("alice", *pair), strict=True)))
    assert refused(finished, pair)
    assert has(fleet["gpu-1"], gated)
    assert not any(has(fleet[name], gated) for name in GPU_HOSTS[1:])
    note(pair, "had it")


def test_a_revoked_right_holds_for_the_time_that_the_inventory_says_and_no_longer(gated, entry, fleet, origin):
    assert distribute(entry).returncode == 0
    gated.set(granted=[])
    try:
        origin.count_anew()
        again = distribute(entry)
        assert again.returncode == 0 and recap(again)["gpu-1"]["changed"] == 0
        assert asked(origin)[HUB]["requests"] == 0
        forced = distribute(entry, modelfleet_huggingface_access_seconds=0)
        assert forced.returncode != 0
        assert unwrapped(forced.stdout).count(REFUSALS["bob"]) >= len(GPU_HOSTS)
        # One request of each, and nothing of the model.
        counted = asked(origin)
        assert counted[HUB]["requests"] == len(GPU_HOSTS) and counted[CDN]["requests"] == counted[HUB]["bytes"] == 0
        assert not any(has(fleet[name], gated) for name in GPU_HOSTS)
    finally:
        gated.set(granted=["alice"])
    assert distribute(entry).returncode == 0
    assert all(has(fleet[name], gated) for name in GPU_HOSTS)


def test_only_the_access_group_reads_it_and_nobody_changes_it(gated, entry, fleet, clients):
    assert distribute(entry).returncode == 0
    host = fleet["gpu-1"]
    host.run("gpasswd --delete alice %s", TENANTS)
    for user in ("alice", "bob", "torchserve", "dfdaemon", "nobody"):
        tried = offline(host, VERSIONS[-1], gated, user, TENANTS)
        assert tried.rc != 0, user
        assert host.run("runuser -u %s -- ls %s", user, gated.snapshot(TENANTS)).stderr.strip().endswith("Permission denied"), user
    host.check_output("usermod --append --groups %s alice", TENANTS)
    for version in VERSIONS:
        done = offline(host, version, gated, "alice", TENANTS)
        assert done.rc == 0 and json.loads(done.stdout)["snapshot"] == gated.snapshot(TENANTS), done.stderr
    (path,) = gated.large
    for command in ("touch %s/planted", f"sh -c 'echo >> %s/{path}'", f"rm %s/{path}", "sh -c 'echo > %s/../../refs/main'"):
        tried = host.run(f"runuser -u alice -- {command}", gated.snapshot(TENANTS))
        assert tried.rc != 0 and "ermission denied" in tried.stderr, (command, tried.stderr)
