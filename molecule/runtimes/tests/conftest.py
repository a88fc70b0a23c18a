"""What the scenario's tests share: both models as a user of a host asks them, their versions, and plays with a list of them."""

from __future__ import annotations

import json
import sys

import pytest
from fleet import FILES, GPU_HOSTS, REPOSITORY, Scenario, declared_models, make_model, published, wait_until

sys.path.insert(0, str(REPOSITORY / "lab/model"))
import make_gguf

SCENARIO = Scenario("runtimes")
RECORD = "/var/lib/modelfleet/state/models.json"
PORT = 8101
# How the language model goes on after abc, by its step; and what both models answer at a version, TorchServe's with its number.
SAYS = {1: "defghi", 25: "bazyxw", 3: "filoru"}
FIRST, SECOND = ("1.0", SAYS[1]), ("2.0", SAYS[25])


@pytest.fixture(scope="session")
def fleet():
    return SCENARIO.hosts()


@pytest.fixture(scope="session")
def origin():
    return SCENARIO.origin


@pytest.fixture(scope="session")
def first():
    """The entries that the fleet begins with, TorchServe's before the other."""
    return [{key: value for key, value in model.items() if key != "path"} for model in declared_models(SCENARIO.directory / "inventory")]


@pytest.fixture(scope="session")
def second(first, demo, letters):
    """The entries of the next version of both."""
    return [demo("2.0", seed=2), letters["2.0"]]


@pytest.fixture(scope="session")
def demo(first, origin):
    """A callable that publishes a version of TorchServe's model and returns its entry."""

    def publish(version, seed, fault=None):
        archive = make_model(FILES, "demo", version, seed=seed, fault=fault)
        key = f"models/demo/{version}/demo.mar"
        check = {"input_file": f"demo-{version}.input.json", "expected_file": f"demo-{version}.expected.json"}
        sha256 = origin.put(key, archive.read_bytes())
        return {**first[0], "version": version, "object": key, "sha256": sha256, "size": "9MiB", "check": check}

    return publish


@pytest.fixture(scope="session")
def letters(first):
    """The entries of the language model's other versions, by version; one play publishes them."""
    made = {"2.0": (25, 25), "3.1": (None, 1), "3.2": (3, 1)}  # the step of the model, and that of its known answer
    for version, (step, known) in made.items():
        directory = FILES / f"letters-{version}"
        directory.mkdir(exist_ok=True)
        make_gguf.make(directory / "model.gguf", step or 1, 8)
        if step is None:
            # As if it had been cut off while it was written.
            with open(directory / "model.gguf", "r+b") as handle:
                handle.write(b"GGML")
        (FILES / f"letters-{version}.txt").write_text(SAYS[known] + "\n", encoding="utf-8")
    artifacts = [{"directory": f"letters-{version}", "bundle": "models/letters"} for version in made]
    done = SCENARIO.play("playbooks/publish.yml", "-e", json.dumps({"modelfleet_artifacts": artifacts}), json_results=True)
    check = first[1]["check"]
    return {
        version: {**first[1], "version": version, "sha256": entry["sha256"], "check": {**check, "expected_file": f"letters-{version}.txt"}}
        for version, entry in zip(made, published(done), strict=True)
    }


@pytest.fixture(scope="session")
def play():
    """A callable that runs a play for which these are the models; it must end with ``code``."""

    def run(playbook, entries, *args, code=0, **variables):
        finished = SCENARIO.play(f"playbooks/{playbook}.yml", *args, "-e", json.dumps({"modelfleet_models": entries, **variables}))
        assert finished.returncode == code, finished.stdout[-6000:] + finished.stderr[-2000:]
        return finished

    return run


@pytest.fixture
def restored(play, fleet, first):
    """The fleet with the first versions of both, whatever a test before has left."""
    if any(serves(fleet[name]) != FIRST for name in GPU_HOSTS):
        play("rollout", first)
    assert {name: serves(fleet[name]) for name in GPU_HOSTS} == dict.fromkeys(GPU_HOSTS, FIRST)


def unit_of(entry):
    return f"openai-server-letters-{entry['version']}-{entry['sha256'][:12]}.service"


def letters_say(host, port=PORT, name="letters"):
    """What the language model says after abc; nothing where nobody listens."""
    asked = {"model": name, "prompt": "abc", "max_tokens": 6, "temperature": 0, "seed": 0}
    command = "curl --silent --fail --max-time 60 --header 'Content-Type: application/json' --data %s %s"
    done = host.run(command, json.dumps(asked), f"http://127.0.0.1:{port}/v1/completions")
    return json.loads(done.stdout)["choices"][0]["text"] if done.rc == 0 else ""


def serves(host):
    """(TorchServe's default version of its model, what the other says)."""
    status, found = host.request("GET", "http://127.0.0.1:8081/models/demo")
    return found[0]["modelVersion"] if status == 200 else status, letters_say(host)


def record(host):
    """{part: {(name, version): entry}} of what is recorded on a host."""
    found = json.loads(host.check_output("cat %s", RECORD))
    return {part: {(one["name"], one["version"]): one for one in found.get(part, [])} for part in ("models", "previous", "staged")}


def said(finished):
    """What a play said; a long sentence comes in several lines."""
    return " ".join(finished.stdout.split())


def all_serve(fleet, wanted):
    """Whether every host does, as soon as it can."""
    wait_until(lambda: all(serves(fleet[name]) == wanted for name in GPU_HOSTS), f"{wanted} on every host")
    return True
