"""What breaks halfway through a distribution: it ends right, or in an error that names the thing; nothing partial has a final name, and the
next run finishes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess

import pytest
from conftest import DISTRIBUTE, HOSTS, SCENARIO, SEEN, SIZE, variables
from fleet import MODELS, published, recap, small_disk, table_of, wait_until

PIECE = 4 << 20
# One digest of all files below the directory in which it runs, and of their names.
TREE = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"


def problems(finished):
    """{host: what is wrong with it} as the run says at its end; its recap names the same hosts."""
    lines = table_of(finished)
    found = {}
    for line in lines[lines.index("Wrong:") + 1 :] if "Wrong:" in lines else []:
        host, _colon, sentence = line.partition(": ")
        found[host] = f"{found[host]} {sentence}" if host in found else sentence
    assert {name for name, row in recap(finished).items() if row["failed"]} == set(found)
    assert finished.returncode == (2 if found else 0)
    return found


def note(model, what, finished):
    times = model.origin.bytes_sent(model.key) / len(model.content)
    last = next((line for line in table_of(finished) if line.startswith("The last host")), "No host had everything.")
    SEEN.append(f"{what}: {last} The origin sent {times:.2f} times the object.")


@pytest.mark.parametrize(("name", "unit"), [("seed-1", "dfdaemon"), ("scheduler-1", "dragonfly-scheduler"), ("gpu-2", "dfdaemon")])
def test_killed(fleet, model, finishes, name, unit):
    """The daemon is back within seconds, and this run ends right."""
    with model.on_its_way() as run:
        old = fleet[name].main_pid(unit)
        fleet[name].check_output("systemctl kill --signal=KILL %s", unit)
        finished = run.finish()
    note(model, f"{unit} of {name} killed", finished)
    assert fleet[name].main_pid(unit) not in ("0", old)
    assert problems(finished) == {}
    assert model.on() == list(HOSTS)
    assert model.origin.bytes_sent(model.key) < len(HOSTS) * SIZE
    finishes(model)


def test_the_seed_peer_stays_away(fleet, model, finishes):
    """The scheduler sends a few of the hosts to the origin in its place, and the run names the seed peer."""
    with model.on_its_way() as run:
        fleet["seed-1"].check_output("systemctl kill --signal=KILL dfdaemon && systemctl stop dfdaemon")
        try:
            finished = run.finish()
        finally:
            fleet["seed-1"].check_output("systemctl start dfdaemon")
    note(model, "seed peer away", finished)
    found = problems(finished)
    assert set(found) == {"seed-1"}
    assert "Failed to ask dfdaemon at http://127.0.0.1:4003/healthy" in found["seed-1"] and "systemctl status dfdaemon" in found["seed-1"]
    assert model.on() == list(HOSTS)
    assert model.origin.bytes_sent(model.key) < len(HOSTS) * SIZE
    finishes(model)


def reset(model):
    """Have the origin reset the connection of every answer halfway through a piece, return when it has done so a few times."""
    seen = model.origin.sent(model.key)["get"]
    model.origin.fault(model.key, reset_at=2 << 20, slow=4 << 20)
    wait_until(lambda: model.origin.sent(model.key)["get"] >= seen + 4, "connections being reset")


def test_the_origin_resets_connections_for_a_while(model, finishes):
    with model.on_its_way() as run:
        reset(model)
        model.slow()
        finished = run.finish()
    note(model, "connections reset for a while", finished)
    assert problems(finished) == {}
    assert model.on() == list(HOSTS)
    finishes(model)


def test_the_origin_resets_every_connection(model, finishes):
    with model.on_its_way("-e", "dfdaemon_distribute_retry_seconds=20") as run:
        reset(model)
        found = problems(run.finish())
    assert set(found) == set(HOSTS)
    for sentence in found.values():
        assert sentence.startswith("Bring the artifacts: Failed to get ") and model.key in sentence
        assert "Look at its journal" in sentence
    assert model.on() == []
    finishes(model)


def test_the_object_is_changed_at_the_origin(model, finishes):
    """Every host refuses what is half one and half the other, asks once more, and says what it got and what it wants."""
    other = os.urandom(SIZE)
    with model.on_its_way() as run:
        model.publish(other)
        found = problems(run.finish())
    assert set(found) == set(HOSTS)
    for sentence in found.values():
        assert sentence.startswith("Bring the artifacts: Failed to verify ") and model.key in sentence
        assert f"has the sha256 {hashlib.sha256(other).hexdigest()}, but {model.sha256} was asked for" in sentence
        assert "Publish the right file under this key, or correct the sha256 of the model." in sentence
    assert model.on() == []
    model.publish()
    finishes(model)


def test_the_disk_of_one_host_is_full(fleet, model, finishes):
    """Somebody else fills it. That host says so, the others have everything."""
    host = fleet["gpu-4"]
    with small_disk(host, "512m", "dfdaemon"):
        wait_until(host.traffic, "dfdaemon answering")
        with model.on_its_way("-e", "dfdaemon_distribute_retry_seconds=20") as run:
            host.run("dd if=/dev/zero of=/var/lib/modelfleet/filler bs=64K")
            assert host.check_output("df --output=avail /var/lib/modelfleet | tail -1").strip() == "0"
            found = problems(run.finish())
        assert set(found) == {"gpu-4"}
        assert found["gpu-4"].startswith("Bring the artifacts: Failed to get ") and model.key in found["gpu-4"]
        assert "the disk of /var/lib/modelfleet/pieces has 0 B free. Free some and run again" in found["gpu-4"]
        assert model.on() == list(HOSTS[:3])
        host.check_output("rm /var/lib/modelfleet/filler")
        finishes(model)
    # The host has its own disk again, without it.
    finishes(model)


def test_the_controller_is_killed(fleet, model, finishes):
    """The hosts may go on with what they do or not: on two of them that is killed, too."""
    with model.on_its_way() as run:
        run.kill()
    for name in HOSTS[:2]:
        fleet[name].run("kill -9 $(cat /var/lib/modelfleet/blobs/.lock)")
    assert model.on() == []
    finishes(model)


@pytest.fixture
def many(fleet, tmp_path):
    """A directory of 5,000 small files and 200 MiB of weights, and the entry for it once it is published as a bundle."""
    for number in range(5000):
        directory = tmp_path / f"{number % 50:02}"
        directory.mkdir(exist_ok=True)
        (directory / f"{number}.json").write_bytes(os.urandom(1024 + number))
    with (tmp_path / "weights.bin").open("wb") as weights:
        for _mib in range(200):
            weights.write(os.urandom(1 << 20))
    artifact = {"directory": str(tmp_path), "bundle": "faults/many"}
    (entry,) = published(SCENARIO.play("playbooks/publish.yml", "-e", json.dumps({"modelfleet_artifacts": [artifact]}), json_results=True))
    yield tmp_path, {**entry, "name": "many", "version": "1.0"}
    for name in HOSTS:
        fleet[name].check_output("rm -rf %s", f"{MODELS}/many-1.0-{entry['sha256'][:12]}")


def test_many_small_files_are_few_requests(fleet, origin, many):
    """Together the hosts ask the origin for each piece about once, however many files there are."""
    directory, entry = many

    def asked():
        rows = origin.sent_below("faults/many/").values()
        return {what: sum(row.get(what, 0) for row in rows) for what in ("get", "probe", "bytes")}

    before, blobs = asked(), len(origin.sent_below("faults/many/"))
    finished = SCENARIO.play(DISTRIBUTE, *variables(entry), json_results=True)
    assert problems(finished) == {}
    sent = {what: count - before[what] for what, count in asked().items()}
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    last = next(line for line in table_of(finished) if line.startswith("The last host"))
    SEEN.append(f"5,000 small files and 200 MiB in {blobs} objects: {last} Of the origin came {sent} for {size} bytes.")
    assert sent["get"] <= size // PIECE + (len(HOSTS) + 1) * blobs
    assert sent["probe"] <= 3 * (len(HOSTS) + 1) * blobs
    assert sent["bytes"] <= 1.1 * size
    wanted = subprocess.run(TREE, shell=True, cwd=directory, capture_output=True, text=True, check=True).stdout.strip()
    for name in HOSTS:
        assert fleet[name].check_output(f"cd {MODELS}/many-1.0-{entry['sha256'][:12]} && {TREE}") == wanted
