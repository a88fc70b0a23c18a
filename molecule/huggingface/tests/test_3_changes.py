"""What happens to a model at its hub after a fleet has it: another commit, another history, another name, no repository, no hub."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
from conftest import (
    ADDRESSES,
    CDN,
    CONTROLLER,
    HUB,
    MIRROR,
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

CHANGED = "model-00002-of-00002.safetensors"


@pytest.fixture(scope="module")
def model(repository):
    made = repository("org/changing", 5, files=2)
    pin(made)
    finished = distribute(made)
    assert finished.returncode == 0, finished.stdout[-3000:]
    return made


@contextmanager
def away(fleet, *names):
    """These names of the hub lead nowhere on the hosts."""
    line = "127.0.0.9 " + " ".join(names)
    hosts = [fleet[name] for name in GPU_HOSTS]
    for host in hosts:
        host.check_output("cp /etc/hosts /tmp/hosts && echo %s >> /etc/hosts", line)
    try:
        yield
    finally:
        for host in hosts:
            host.check_output("cat /tmp/hosts > /etc/hosts")


def works(fleet, model, commit):
    for name in GPU_HOSTS:
        done = offline(fleet[name], VERSIONS[-1], model)
        assert done.rc == 0, done.stderr
        assert json.loads(done.stdout)["snapshot"] == model.snapshot(commit=commit)
    return True


def test_a_new_commit_moves_what_it_changed(model, fleet, clients, origin):
    first, changed = model.commit, weights("changed", 5)
    model.put({CHANGED: changed}, {"config.json": '{"hidden_size": 16}\n'})
    pin(model)
    origin.count_anew()
    models = [{**model.wanted(), "version": "2"}, {**model.wanted(revision=first), "version": "1", "state": "absent"}]
    finished = play("playbooks/site.yml", models)
    assert finished.returncode == 0, finished.stdout[-3000:]
    counted = asked(origin)
    # Beside it, the first byte for each of those who ask how large it is.
    assert len(changed) <= counted[CDN]["bytes"] <= len(changed) + 100
    # The small one came once, by the controller.
    assert counted[HUB]["bytes"] == len('{"hidden_size": 16}\n')
    assert counted[HUB]["by"] == {**dict.fromkeys(ADDRESSES.values(), 2), CONTROLLER: 2}
    assert works(fleet, model, model.commit)
    for name in GPU_HOSTS:
        assert fleet[name].check_output("ls %s", f"{model.folder()}/snapshots").split() == [model.commit]
        assert len(fleet[name].check_output("ls %s", f"{model.folder()}/blobs").split()) == 2 + len(set(SMALL.values()))


def test_a_branch_that_was_pushed_over_changes_nothing_here(model, fleet, clients, origin):
    """The commit is not in its history any more, and the hub still has it."""
    held = model.commit
    other = origin.call(
        "PUT", f"/hub/commits/{model.repo}", json.dumps({"files": {"config.json": {"text": "{}"}}, "parent": None}).encode()
    )["commit"]
    again = distribute(model.wanted(), modelfleet_huggingface_access_seconds=0)
    assert again.returncode == 0, again.stdout[-3000:]
    assert {counts["changed"] for counts in recap(again).values()} == {0}
    assert works(fleet, model, held)
    # Whoever pins the branch sees that.
    pinned = play("playbooks/pin.yml", [{**model.wanted(), "huggingface": {"repo": model.repo, "revision": "main"}}])
    assert pinned.returncode == 0 and other in pinned.stdout and held not in pinned.stdout.partition("Show the commits")[2]


def test_a_renamed_repository_goes_on(model, fleet, clients):
    model.set(name="org/renamed")
    again = distribute(model.wanted(), modelfleet_huggingface_access_seconds=0)
    assert again.returncode == 0, again.stdout[-3000:]
    assert works(fleet, model, model.commit)


def test_a_hub_that_does_not_answer_takes_nothing_away(model, repository, fleet, clients, origin):
    new = repository("org/new")
    pin(model, new)
    with away(fleet, HUB):
        again = distribute(model.wanted(), modelfleet_huggingface_access_seconds=0)
        assert again.returncode == 0, again.stdout[-3000:]
        assert {counts["changed"] for counts in recap(again).values()} == {0}
        assert f"could not prove its right to it. Failed to reach {HUB}" in unwrapped(again.stderr)
        assert works(fleet, model, model.commit)
        more = distribute(model, new)
        said = unwrapped(more.stdout)
        assert more.returncode != 0 and f"Failed to reach {HUB}" in said and "Check network, proxies and the state of the hub" in said
        assert works(fleet, model, model.commit)


def test_a_repository_that_was_deleted_is_served_on(model, fleet, clients, origin):
    origin.call("DELETE", "/hub/repositories/org/renamed")
    again = distribute(model.wanted(), modelfleet_huggingface_access_seconds=0)
    said = unwrapped(again.stderr)
    # It is said, and neither is it taken from who has it nor does the fleet stand still.
    assert again.returncode == 0 and {counts["changed"] for counts in recap(again).values()} == {0}, said[-3000:]
    assert "could not prove its right to it." in said
    assert "it has no such repository, or none that the account of this host's token may see (404)" in said
    assert works(fleet, model, model.commit)
    gone = play("playbooks/site.yml", [{**model.wanted(), "state": "absent"}])
    assert gone.returncode == 0, gone.stdout[-3000:]
    for name in GPU_HOSTS:
        assert fleet[name].run("test -e %s", model.folder()).rc == 1


def test_a_mirror_gives_the_bytes_and_gets_no_token(repository, fleet, clients, origin):
    """What it lacks, and whether a host may have it, is the hub's to say."""
    settings = {"ca_path": "/etc/ssl/certs/modelfleet-lab-ca.crt", "endpoint": [f"https://{MIRROR}", f"https://{HUB}"]}
    settings["token"] = "{{ lab_tokens[lab_users[inventory_hostname] | default('nobody')] }}"
    public, gated = repository("org/public", 5), repository("org/closed", 5, gated="auto", granted=["alice"])
    pin(public, gated, modelfleet_huggingface=settings)
    origin.count_anew()
    finished = distribute(public, gated, modelfleet_huggingface=settings)
    assert finished.returncode == 0, finished.stdout[-3000:]
    counted = asked(origin)
    assert works(fleet, public, public.commit) and works(fleet, gated, gated.commit)
    # With a token it would have refused; who may have them was asked at the hub.
    assert counted[CDN]["bytes"] + counted[MIRROR]["bytes"] + counted[HUB]["bytes"] <= 1.05 * (public.size + gated.size)
    # A host asks the hub for both rights, and for the file that the mirror refuses. The controller asks the mirror first, too, and for
    # each content once: both repositories have the same small files, and it takes those of the last in the list, which the mirror refuses.
    assert counted[HUB]["by"] == {**dict.fromkeys(ADDRESSES.values(), 3), CONTROLLER: SMALL_REQUESTS}
    assert counted[MIRROR]["by"] == {**dict.fromkeys(ADDRESSES.values(), 2), CONTROLLER: SMALL_REQUESTS // 2}


def test_the_hub_says_when_it_takes_more_requests(repository, fleet, origin):
    limits = origin.call("GET", "/hub/settings")["limits"]
    model = repository("org/limited", 5)
    pin(model)
    few = {who: {"api": 1000, "resolvers": 1} for who in ("anonymous", "user")}
    origin.call("PUT", "/hub/settings", json.dumps({"limits": few}).encode())
    try:
        finished = distribute(model)
        said = unwrapped(finished.stdout)
        assert finished.returncode != 0 and "it takes no more requests from this host for now (429). Run again after" in said, said[-3000:]
    finally:
        origin.call("PUT", "/hub/settings", json.dumps({"limits": limits}).encode())
