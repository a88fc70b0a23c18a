"""In their order: each test begins with what the one before left. Whoever asks from outside gets an answer all the time."""

from __future__ import annotations

import re
import subprocess

import pytest
from conftest import HOSTS, SCENARIO, SEEN
from fleet import clients, recap, wait_until

HOST = "http://127.0.0.1:8081/models/demo"


def serves(host):
    """(the default version, all versions) of the demo model."""
    status, default = host.request("GET", HOST)
    assert status == 200, default
    _status, every = host.request("GET", f"{HOST}/all")
    return default[0]["modelVersion"], sorted(one["modelVersion"] for one in every)


def failed(answers, but=()):
    return [answer for answer in answers if answer[0] != 200 and answer[1] not in but]


def switches(answers, server):
    """How often a host's answers turned from one version to another."""
    seen = [answer[2] for answer in answers if answer[1] == server and answer[0] == 200]
    return sum(one != other for one, other in zip(seen, seen[1:], strict=False))


def said(done):
    """What a play said; a long sentence comes in several lines."""
    return " ".join(done.stdout.split())


def outcomes(done):
    """{host: outcome} of the table."""
    return dict(re.findall(r"(gpu-\d) demo \S+ \S+ (activated|finished|went back|untouched|rolled back|NOT UNDONE)", said(done)))


@pytest.fixture(scope="module")
def good(versions):
    return versions("2.0", seed=2)


def test_a_good_version(fleet, load, rollout, good, record):
    done = rollout(good)
    answers = load.answers(of="a good version")
    assert done.returncode == 0, done.stdout[-5000:]
    assert failed(answers) == []
    for name in HOSTS:
        assert serves(fleet[name]) == ("2.0", ["2.0"])
        assert switches(answers, name) == 1, "an answer of the old version came after one of the new"
        found = record(fleet[name])
        assert (list(found["models"]), list(found["previous"]), list(found["staged"])) == (["2.0"], ["1.0"], [])
        assert found["previous"]["1.0"]["file"] in fleet[name].stored()
    assert outcomes(done) == dict.fromkeys(HOSTS, "activated")
    assert len(re.findall("activated 4 passed", said(done))) == len(HOSTS)


def test_again_it_changes_nothing(load, rollout, good):
    done = rollout(good)
    assert done.returncode == 0, done.stdout[-5000:]
    assert {name: count["changed"] for name, count in recap(done).items()} == dict.fromkeys(recap(done), 0)
    assert failed(load.answers()) == []


BAD = {
    "does not load": ({"version": "3.1", "seed": 31, "fault": "load"}, "ready"),
    "answers wrongly": ({"version": "3.2", "seed": 32, "knows": 99}, "answers"),
    "is slow": ({"version": "3.3", "seed": 33, "fault": "slow"}, "traffic"),
    "crashes": ({"version": "3.4", "seed": 34, "fault": "crash"}, "traffic"),
    "leaks memory": ({"version": "3.5", "seed": 35, "fault": "leak"}, "traffic"),
}
# Of these versions the host that tries them answers some requests badly, and no other host does.
SEEN_BY_FEW = ("crashes", "leaks memory")


@pytest.mark.parametrize("kind", BAD)
def test_a_version_that(kind, fleet, load, rollout, versions, record, request):
    made, gate = BAD[kind]
    entry = versions(**made)
    killed = request.getfixturevalue("little_memory") if kind == "leaks memory" else None
    main = fleet["gpu-1"].main_pid("torchserve")
    done = rollout(entry)
    answers = load.answers(of=f"a version that {kind}")
    assert done.returncode == 2, done.stdout[-5000:]
    assert failed(answers, but=("gpu-1",) if kind in SEEN_BY_FEW else ()) == []
    # The worker is killed, and nothing else.
    assert killed is None or killed() > 0
    assert fleet["gpu-1"].main_pid("torchserve") == main
    assert outcomes(done) == {**dict.fromkeys(HOSTS, "untouched"), "gpu-1": "went back"}
    assert re.search(rf"gpu-1 demo 2\.0 {re.escape(entry['version'])} went back {gate} ", said(done)), done.stdout[-5000:]
    for name in HOSTS:
        assert serves(fleet[name]) == ("2.0", ["2.0"])
        assert record(fleet[name])["staged"] == {}
    # Only the first host was asked to serve it.
    for name in HOSTS[1:]:
        assert fleet[name].run("journalctl -u torchserve --output=cat | grep -F %s", f"url=demo-{entry['version']}").stdout == ""


def test_the_other_content_of_a_version_is_refused(fleet, rollout, good):
    done = rollout({**good, "sha256": "f" * 64})
    assert done.returncode == 2 and "Refused model demo 2.0" in said(done)
    assert [serves(fleet[name]) for name in HOSTS] == [("2.0", ["2.0"])] * len(HOSTS)


def test_site_puts_no_other_version_in_the_place_of_the_one_that_serves(fleet, load, rollout, versions):
    done = rollout({**versions("3.6", seed=36), "default": True}, playbook="site")
    assert done.returncode == 2 and "run the playbook rollout with 3.6" in said(done), done.stdout[-5000:]
    assert [serves(fleet[name]) for name in HOSTS] == [("2.0", ["2.0"])] * len(HOSTS)
    assert failed(load.answers()) == []


def test_prune_keeps_what_the_fleet_goes_back_to(fleet, rollout, good, record):
    done = rollout(good, playbook="prune", dfdaemon_prune_keep=0)
    assert done.returncode == 0, done.stdout[-5000:]
    for name in HOSTS:
        assert re.search(rf"{name} demo 1\.0 recorded ", said(done)), done.stdout[-5000:]
        assert record(fleet[name])["previous"]["1.0"]["file"] in fleet[name].stored()


def test_back_without_the_origin(fleet, load, rollout, good, origin, record):
    before = origin.call("GET", "/counters")["objects"]
    done = rollout(good, playbook="rollback")
    assert done.returncode == 0, done.stdout[-5000:]
    assert failed(load.answers(of="a rollback")) == []
    SEEN.append("a rollback: " + re.search(r"The host that took longest was back after [\d.]+ s\.", said(done))[0])
    assert origin.call("GET", "/counters")["objects"] == before
    for name in HOSTS:
        assert serves(fleet[name]) == ("1.0", ["1.0"])
        assert list(record(fleet[name])["previous"]) == ["2.0"]
    assert outcomes(done) == dict.fromkeys(HOSTS, "rolled back")
    again = rollout(good, playbook="rollback")
    assert again.returncode == 0 and {count["changed"] for count in recap(again).values()} == {0}


def test_the_old_list_undoes_what_a_dead_controller_left(fleet, load, rollout, interrupted, first, good, record):
    with interrupted(good, "gpu-2") as run:
        run.kill()
    assert list(record(fleet["gpu-1"])["models"]) == ["2.0"]
    load.answers()
    done = rollout(first)
    assert done.returncode == 0, done.stdout[-5000:]
    assert failed(load.answers(of="undoing what a dead controller left")) == []
    for name in HOSTS:
        assert serves(fleet[name]) == ("1.0", ["1.0"])
        assert record(fleet[name])["staged"] == {}


def test_a_controller_that_dies_between_two_hosts(fleet, load, rollout, interrupted, good, record):
    with interrupted(good, "gpu-2") as run:
        run.kill()
    assert list(record(fleet["gpu-1"])["models"]) == ["2.0"]
    assert list(record(fleet["gpu-2"])["models"]) == ["1.0"]
    # A reboot comes back with what was recorded.
    subprocess.run(["podman", "restart", "--time", "0", fleet["gpu-2"].container], check=True, capture_output=True)
    wait_until(lambda: serves(fleet["gpu-2"]) == ("1.0", ["1.0"]), "the old version after a reboot")
    load.answers()
    done = rollout(good)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "came to no end here" in said(done)
    assert [serves(fleet[name]) for name in HOSTS] == [("2.0", ["2.0"])] * len(HOSTS)
    assert failed(load.answers(of="finishing what a dead controller left")) == []


def test_torchserve_that_is_killed_in_the_middle(fleet, load, rollout, interrupted, versions):
    third = versions("4.0", seed=4)
    with interrupted(third, "gpu-1") as run:
        fleet["gpu-1"].check_output("systemctl kill --signal=KILL torchserve.service")
        finished = run.finish()
    assert failed(load.answers(of="TorchServe killed"), but=("gpu-1", "<NOSRV>", "-")) == []
    # Undone by itself, or, where it was back soon enough, done all the same.
    version = "4.0" if finished.returncode == 0 else "2.0"
    assert [serves(fleet[name]) for name in HOSTS] == [(version, [version])] * len(HOSTS), finished.stdout[-5000:]
    done = rollout(third)
    assert done.returncode == 0, done.stdout[-5000:]
    assert [serves(fleet[name]) for name in HOSTS] == [("4.0", ["4.0"])] * len(HOSTS)


def test_a_host_that_goes_away_after_the_first_batch(fleet, load, rollout, interrupted, versions):
    fourth = versions("5.0", seed=5)
    with interrupted(fourth, "gpu-2") as run:
        subprocess.run(["podman", "stop", "--time", "0", fleet["gpu-3"].container], check=True, capture_output=True)
        finished = run.finish()
    assert finished.returncode != 0, finished.stdout[-5000:]
    assert serves(fleet["gpu-1"]) == ("5.0", ["5.0"])
    for name in ("gpu-2", "gpu-4", "gpu-5"):
        assert serves(fleet[name]) == ("4.0", ["4.0"])
    assert failed(load.answers(of="a host that goes away"), but=("gpu-3", "-")) == []
    subprocess.run(["podman", "start", fleet["gpu-3"].container], check=True, capture_output=True)
    wait_until(lambda: serves(fleet["gpu-3"]) == ("4.0", ["4.0"]), "the old version after a start")
    done = rollout(fourth)
    assert done.returncode == 0, done.stdout[-5000:]
    assert [serves(fleet[name]) for name in HOSTS] == [("5.0", ["5.0"])] * len(HOSTS)


def test_a_second_run_is_told_who_works_there(fleet, interrupted, wanted, good, versions):
    # Two other plays take the processors, so that no time says anything.
    with interrupted(versions("6.0", seed=6), "gpu-1", modelfleet_rollout_gates=["ready", "answers"]) as run:
        for playbook in ("rollout", "site"):
            done = SCENARIO.play(f"playbooks/{playbook}.yml", "--limit", "gpu-1", *wanted(good))
            assert done.returncode == 2 and "Refused: a run of" in said(done), done.stdout[-5000:]
        finished = run.finish()
    assert finished.returncode == 0, finished.stdout[-5000:]
    assert [serves(fleet[name]) for name in HOSTS] == [("6.0", ["6.0"])] * len(HOSTS)


def test_a_version_in_the_place_of_the_old_one(fleet, load, rollout, versions):
    load.answers()
    done = rollout(versions("7.0", seed=7), modelfleet_rollout_replace=True)
    assert done.returncode == 0, done.stdout[-5000:]
    assert failed(load.answers(of="a version in the place of the old one")) == [], "a host that answers nothing is out of the balancing"
    assert [serves(fleet[name]) for name in HOSTS] == [("7.0", ["7.0"])] * len(HOSTS)


def test_another_release_and_back(fleet, load, rollout, versions):
    served = versions("7.0", seed=7)
    before, client = clients()
    older = {
        "torchserve_version": "0.11.1",
        "dfdaemon_version": before["version"],
        "dfdaemon_release_archive": before["path"],
        "dfdaemon_release_sha256": before["sha256"],
        # The same programs under another version: no older scheduler runs without a manager.
        "dragonfly_scheduler_version": "2.5.1-before",
    }
    for wanted, torchserve, dfdaemon in ((older, "0.11.1", before["version"]), ({}, "0.12.0", client["version"])):
        load.answers()
        done = rollout(served, playbook="upgrade", **wanted)
        assert done.returncode == 0, done.stdout[-5000:]
        assert failed(load.answers(of=f"TorchServe {torchserve} and dfdaemon {dfdaemon} in place of the others")) == []
        for name in HOSTS:
            assert f"venv-{torchserve}" in fleet[name].program("torchserve")
            assert dfdaemon in fleet[name].check_output("/proc/%s/exe --version", fleet[name].main_pid("dfdaemon"))
            assert serves(fleet[name]) == ("7.0", ["7.0"])


def speaks(host):
    """(in clear text, by mutual TLS): whether dfdaemon answers its peers so."""
    place, keys = f"{host.check_output('hostname -I').split()[0]}:4000/", "/etc/dragonfly/tls"
    asked = ("--http2-prior-knowledge http://", f"--cacert {keys}/ca.pem --cert {keys}/dfdaemon.pem https://")
    return tuple(host.run(f"curl --silent --max-time 10 --output /dev/null {how}{place}").rc == 0 for how in asked)


def test_clear_text_and_mutual_tls_and_another_authority(fleet, load, rollout, versions):
    """Dragonfly's daemons speak one or the other, so for a moment hosts do not reach each other; nobody who asks a model may notice."""
    served = {**versions("7.0", seed=7), "default": True}
    changes = (
        ("site", {"modelfleet_mtls": False}, (True, False), "clear text"),
        ("site", {}, (False, True), "mutual TLS in the place of clear text"),
        ("rotate_certificates", {}, (False, True), "another authority"),
    )
    done = rollout(served)
    assert done.returncode == 0, done.stdout[-5000:]
    before = fleet["gpu-1"].check_output("cat /etc/dragonfly/tls/ca.pem")
    for number, (playbook, variables, wanted, what) in enumerate(changes):
        load.answers()
        done = rollout(served, playbook=playbook, **variables)
        assert done.returncode == 0, done.stdout[-5000:]
        assert failed(load.answers(of=what)) == []
        assert {speaks(fleet[name]) for name in HOSTS} == {wanted}
        # What is new comes to every host, from each other.
        new = versions(f"7.{number + 1}", seed=70 + number)
        done = rollout(served, new, playbook="distribute", **variables)
        assert done.returncode == 0, done.stdout[-5000:]
        assert {name for name, row in recap(done).items() if row["changed"]} == set(HOSTS)
        assert failed(load.answers(of=f"what is new, with {what}")) == []
    after = fleet["gpu-1"].check_output("cat /etc/dragonfly/tls/ca.pem")
    assert after.count("BEGIN CERTIFICATE") == 1 and after != before
    assert [serves(fleet[name]) for name in HOSTS] == [("7.0", ["7.0"])] * len(HOSTS)


def test_no_connection_was_lost_in_all_of_it(load):
    """What is counted above are answers, and what never came to the balancer has none."""
    assert load.stop() == {"connect": 0, "read": 0, "write": 0}
