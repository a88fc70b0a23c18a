"""What one host compiled, on itself, on another of its kind, on one of another kind, and where it is wrong."""

from __future__ import annotations

import json

import pytest
import yaml
from fleet import GPU_HOSTS, MODELS, REPOSITORY, Scenario, declared_models, recap, wait_until

SCENARIO = Scenario("compile")
CACHES = "/var/lib/modelfleet/compile-caches"
LOCK = REPOSITORY / ".cache" / SCENARIO.lab_name / "compile_caches.lock.yml"
FLEET = SCENARIO.hosts()
RISEN, SUNK = declared_models(SCENARIO.directory / "inventory")


def kind(host):
    """What the workers of a host use."""
    return json.loads(host.check_output("cat /run/torchserve/compile_cache.json"))["fingerprint"]


def cache(host, model=RISEN):
    return f"{CACHES}/{model['sha256'][:12]}-{kind(host)}"


def libraries(host, directory):
    """{path: what changes with each writing} of what a compiler made there."""
    lines = host.check_output("find %s -name '*.so' -printf %s", directory, "%P %i %T@\\n").splitlines()
    return dict(line.split(" ", 1) for line in lines)


def site(*args, pins, code=0):
    finished = SCENARIO.play("playbooks/site.yml", *args, "-e", json.dumps({"modelfleet_compile_cache_pins": pins}))
    assert finished.returncode == code, finished.stdout[-6000:] + finished.stderr[-2000:]
    return finished


def forget(host, *, keep=False):
    """As a host that joins: the model is not served, and nothing is compiled unless that is kept."""
    assert host.unregister("risen/1.0")[0] == 200
    if not keep:
        host.check_output("rm -r %s", cache(host))


@pytest.fixture(scope="module")
def pins():
    """What compile pins, from the state that the first run has left."""
    LOCK.unlink(missing_ok=True)
    finished = SCENARIO.play("playbooks/compile.yml")
    assert finished.returncode == 0, finished.stdout[-6000:]
    return yaml.safe_load(LOCK.read_text(encoding="utf-8"))["modelfleet_compile_cache_pins"]


def test_the_first_start_is_cold_and_right():
    for name in GPU_HOSTS:
        assert FLEET[name].gives(RISEN) and FLEET[name].gives(SUNK)
        assert libraries(FLEET[name], cache(FLEET[name]))
    assert kind(FLEET["gpu-1"]) == kind(FLEET["gpu-2"]) != kind(FLEET["gpu-3"])


def test_one_host_of_each_kind_compiles_once(pins):
    assert set(pins) == {f"{one['sha256']}-{kind(FLEET[name])}" for one in (RISEN, SUNK) for name in ("gpu-1", "gpu-3")}
    again = SCENARIO.play("playbooks/compile.yml", "-e", f"@{LOCK}")
    assert again.returncode == 0 and all(counts["changed"] == 0 for counts in recap(again).values())


def test_the_same_host_is_warm_after_a_restart(pins):
    host = FLEET["gpu-1"]
    before = libraries(host, cache(host))
    host.check_output("systemctl restart torchserve")
    wait_until(lambda: host.gives(RISEN), "an answer after the restart")
    assert libraries(host, cache(host)) == before != {}


def test_another_host_of_its_kind_compiles_nothing(pins):
    host = FLEET["gpu-2"]
    forget(host)
    site("--limit", host.name, pins=pins)
    sha256 = pins[f"{RISEN['sha256']}-{kind(host)}"]["sha256"]
    came = set(libraries(host, f"{MODELS}/risen.compile-1.0-{kind(host)}-{sha256[:12]}"))
    before = libraries(host, cache(host))
    assert set(before) == came != set()
    assert host.gives(RISEN)
    assert libraries(host, cache(host)) == before


def test_a_host_of_another_kind_is_cold_and_right(pins):
    host, others = FLEET["gpu-3"], kind(FLEET["gpu-1"])
    forget(host)
    site("--limit", host.name, pins={key: pin for key, pin in pins.items() if key.endswith(others)})
    assert not [name for name in host.stored() if others in name]
    assert libraries(host, cache(host)) and host.gives(RISEN)


def test_the_cache_of_another_model_is_refused(pins):
    host = FLEET["gpu-2"]
    before = libraries(host, cache(host))
    risen, sunk = (f"{one['sha256']}-{kind(host)}" for one in (RISEN, SUNK))
    finished = site("--limit", host.name, pins={**pins, risen: pins[sunk]}, code=2)
    assert "compile-cache.json says model 'sunk', and risen is wanted" in " ".join(finished.stdout.split())
    assert libraries(host, cache(host)) == before and host.gives(RISEN)


def test_a_wrong_answer_ends_a_cache(pins):
    """The library of one model in the place of that of the other one: torch takes it for its own."""
    host = FLEET["gpu-1"]
    mine, other = cache(host), cache(host, SUNK)
    ((own,), (foreign,)) = (set(libraries(host, one)) - set(libraries(host, two)) for one, two in ((mine, other), (other, mine)))
    forget(host, keep=True)
    host.check_output("cp %s %s", f"{other}/{foreign}", f"{mine}/{own}")
    wrong = host.check_output("sha256sum < %s", f"{mine}/{own}")
    finished = site("--limit", host.name, pins=pins)
    assert "it was thrown away" in " ".join(finished.stdout.split() + finished.stderr.split())
    assert host.gives(RISEN)
    assert host.check_output("sha256sum < %s", f"{mine}/{own}") != wrong
