"""The same models by the ways that articles and Dragonfly itself offer: what each costs at the hub and on the disk, and to whom it gives a
gated model. These tests say what others' programs do, so that a change of theirs is seen here; the times are shown and not judged."""

from __future__ import annotations

import time

import pytest
from conftest import CDN, HUB, SEEN, TOKENS, VERSIONS, asked, distribute, pin, play, weights
from fleet import GPU_HOSTS

CA = "/etc/ssl/certs/modelfleet-lab-ca.crt"
SIZE = 64  # MiB
ONLINE = "import sys, huggingface_hub; print(huggingface_hub.snapshot_download(sys.argv[1]))"


def client(host, repo, home, **environment):
    """The hub's own client on a host, as root, with the hub in reach; seconds."""
    environment = {"HF_HOME": home, "HF_HUB_DISABLE_XET": "1", "SSL_CERT_FILE": CA, "REQUESTS_CA_BUNDLE": CA, **environment}
    words = " ".join(f"{name}={value}" for name, value in environment.items())
    began = time.monotonic()
    done = host.run(f"env {words} PYTHONPATH=/opt/huggingface/{VERSIONS[-1]} python3 -B -c %s %s", ONLINE, repo)
    assert done.rc == 0, done.stderr
    return time.monotonic() - began


def used(host, *places):
    """Bytes on the disk below the places, each inode once."""
    return int(host.check_output(f"du -s -c -B1 /var/lib/modelfleet {' '.join(places)} 2>/dev/null | tail -1").split()[0])


def sent(origin):
    counted = asked(origin)
    return counted[HUB]["bytes"] + counted[CDN]["bytes"], counted[HUB]["requests"]


@pytest.fixture(scope="module")
def table():
    return SEEN.setdefault(
        f"a model of {SIZE} MiB on two hosts, one after the other",
        [("way", "seconds, first host", "later host", "hub bytes / size", "requests", "disk / size")],
    )


def row(table, way, seconds, origin, grown, model):
    bytes_sent, requests = sent(origin)
    ratios = bytes_sent / model.size, grown / model.size
    table.append((way, f"{seconds[0]:.1f}", f"{seconds[1]:.1f}", f"{ratios[0]:.2f}", requests, f"{ratios[1]:.2f}"))
    return ratios


def test_each_host_asks_the_hub_itself(repository, fleet, clients, origin, table):
    model = repository("org/direct", SIZE)
    before = used(fleet["gpu-2"])
    origin.count_anew()
    seconds = [client(fleet[name], model.repo, "/var/lib/direct") for name in GPU_HOSTS[:2]]
    grown = used(fleet["gpu-2"], "/var/lib/direct") - before
    from_hub, on_disk = row(table, "the hub's client, no Dragonfly", seconds, origin, grown, model)
    assert 1.99 <= from_hub <= 2.01 and 0.99 <= on_disk <= 1.02


def test_the_hubs_client_by_a_proxy_rule_for_the_hub(repository, fleet, clients, origin, table):
    """The cache of the client and that of dfdaemon are two copies, and a URL that is signed anew is another file."""
    model = repository("org/proxied", SIZE)
    rules = [{"regex": "^http://(huggingface[.]co/.*/resolve/|cdn-lfs[.]hf[.]co/)"}]
    changed = play("playbooks/site.yml", dfdaemon_config={"proxy": {"rules": rules}})
    assert changed.returncode == 0, changed.stdout[-3000:]
    try:
        before = used(fleet["gpu-2"])
        origin.count_anew()
        proxied = {"HF_ENDPOINT": f"http://{HUB}", "HTTP_PROXY": "http://127.0.0.1:4001", "http_proxy": "http://127.0.0.1:4001"}
        seconds = [client(fleet[name], model.repo, "/var/lib/proxied", **proxied) for name in GPU_HOSTS[:2]]
        grown = used(fleet["gpu-2"], "/var/lib/proxied") - before
        _from_hub, on_disk = row(table, "the hub's client by dfdaemon's proxy", seconds, origin, grown, model)
        assert on_disk >= 1.9
    finally:
        assert play("playbooks/site.yml").returncode == 0


def test_ours(repository, fleet, clients, origin, table):
    model = repository("org/ours", SIZE)
    pin(model)
    before = used(fleet["gpu-2"])
    origin.count_anew()
    seconds = []
    for name in GPU_HOSTS[:2]:
        began = time.monotonic()
        finished = distribute(model, limit=name)
        seconds.append(time.monotonic() - began)
        assert finished.returncode == 0, finished.stdout[-3000:]
    grown = used(fleet["gpu-2"]) - before
    from_hub, on_disk = row(table, "distribute (the whole play)", seconds, origin, grown, model)
    assert from_hub <= 1.05 and 0.99 <= on_disk <= 1.02


# -- hf:// of Dragonfly ------------------------------------------------------------------------------------------------


def dfget(host, path, who=None, base=f"https://{HUB}", target="/var/lib/modelfleet/incoming/native"):
    """One file by Dragonfly's own scheme, as root; (exit status, sha256 of what came)."""
    token = f"--hf-token {TOKENS[who]}" if who else ""
    host.run("rm -f %s", target)
    done = host.run(f"/opt/dragonfly/client/current/dfget {token} --hf-base-url {base} hf://{path} -O {target}")
    content = host.run("sha256sum %s", target)
    return done.rc, content.stdout.split()[0] if content.rc == 0 else None


def test_hf_of_dragonfly_asks_nobody_who_may_have_what_it_has(repository, fleet, origin):
    """Why models of a hub do not come by it here."""
    # A task has the name of the file and no content in its own.
    model = repository(f"org/native-{time.time_ns()}", 13, gated="auto", granted=["alice"])
    (path, sha256), name = *model.large.items(), f"{model.repo}/{next(iter(model.large))}"
    rows = SEEN.setdefault("hf:// of Dragonfly, a gated model", [("who", "where", "came", "requests at the hub")])

    def tried(who, where, host, **more):
        origin.count_anew()
        rc, came = dfget(fleet[host], name, who, **more)
        counted = asked(origin)[HUB]["requests"]
        rows.append((who or "nobody", where, "all of it" if came == sha256 else f"nothing (rc {rc})", counted))
        return came == sha256, counted

    for who in (None, "bob", "wrong"):
        assert not tried(who, "a host that has nothing", "gpu-2")[0]
    came, requests = tried("alice", "a host that has nothing", "gpu-1")
    assert came and requests > 1
    for who in ("bob", None, "wrong"):
        assert tried(who, "the host that has it", "gpu-1") == (True, 0), path
    # Not even the hub is a part of the name.
    assert tried(None, "the host that has it, no hub", "gpu-1", base="http://127.0.0.1:9") == (True, 0)
    model.put({path: weights("another", 13)})
    assert tried("alice", "after the branch moved", "gpu-1") == (True, 0)
