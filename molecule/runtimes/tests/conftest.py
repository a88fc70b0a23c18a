"""What the scenario's tests share: the models as a user of a host asks them, their versions, and plays with a list of them."""

from __future__ import annotations

import json
import sys

import pytest
from fleet import FILES, GPU_HOSTS, REPOSITORY, Scenario, declared_models, make_model, published, wait_until

sys.path.insert(0, str(REPOSITORY / "lab/model"))
import make_gguf
import make_triton

SCENARIO = Scenario("runtimes")
RECORD = "/var/lib/modelfleet/state/models.json"
PORT = 8101
MODEL_NAMES = ("demo", "letters", "table")
TRITON = "/var/lib/modelfleet/triton"
# What Triton is asked here, and what it answers at the first version; how the language model goes on after abc, by its step; and what all
# models answer at a version, TorchServe's with its number.
TABLE = {"inputs": [{"name": "index", "shape": [1], "datatype": "INT32", "data": [0]}]}
SAYS = {1: "defghi", 25: "bazyxw", 3: "filoru"}
VALUE = 117
FIRST, SECOND = ("1.0", SAYS[1], VALUE), ("2.0", SAYS[25], VALUE + 1000)


@pytest.fixture(scope="session")
def fleet():
    return SCENARIO.hosts()


@pytest.fixture(scope="session")
def origin():
    return SCENARIO.origin


@pytest.fixture(scope="session")
def first():
    """The entries that the fleet begins with, in the order of MODEL_NAMES."""
    return [{key: value for key, value in model.items() if key != "path"} for model in declared_models(SCENARIO.directory / "inventory")]


@pytest.fixture(scope="session")
def second(first, demo, letters, table):
    """The entries of the next version of each."""
    return [demo("2.0", seed=2), letters["2.0"], table["2.0"]]


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
    return versions(first[1], made, "letters-{}.txt")


@pytest.fixture(scope="session")
def table(first):
    """The same of Triton's model."""
    made = {"2.0": (1000, None), "3.1": (0, "load"), "3.2": (5, None), "4.0": (0, None)}
    for version, (offset, fault) in made.items():
        _request, outputs = make_triton.make(FILES / f"table-{version}", offset, 8, fault)
        if version == "3.2":
            outputs[0]["data"][0] += 1
        (FILES / f"table-{version}.outputs.json").write_text(json.dumps(outputs), encoding="utf-8")
    # One that Triton would not find.
    (FILES / "table-4.0/config.pbtxt").unlink()
    return versions(first[2], made, "table-{}.outputs.json")


def versions(entry, made, expected):
    """{version: the entry of it} of what lies in a directory of its own for each, published by one play."""
    name = entry["name"]
    artifacts = [{"directory": f"{name}-{version}", "bundle": f"models/{name}"} for version in made]
    done = SCENARIO.play("playbooks/publish.yml", "-e", json.dumps({"modelfleet_artifacts": artifacts}), json_results=True)
    return {
        version: {
            **entry,
            "version": version,
            "sha256": row["sha256"],
            "check": {**entry["check"], "expected_file": expected.format(version)},
        }
        for version, row in zip(made, published(done), strict=True)
    }


@pytest.fixture(scope="session")
def play():
    """A callable that runs a play for which these are the models; it must end with ``code``."""

    def run(playbook, entries, *args, code=0, **variables):
        return SCENARIO.play_to_the_end(playbook, *args, code=code, modelfleet_models=entries, **variables)

    return run


@pytest.fixture
def restored(play, fleet, first):
    """The fleet with the first versions of all, whatever a test before has left."""
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


def table_says(host, number="1"):
    """What stands first in Triton's table; nothing where it has none."""
    place = f"http://127.0.0.1:8200/v2/models/table/versions/{number}/infer"
    done = host.run("curl --silent --fail --max-time 60 --data %s %s", json.dumps(TABLE), place)
    return json.loads(done.stdout)["outputs"][0]["data"][0] if done.rc == 0 else None


def triton_has(host):
    """{name: state} of Triton's own index."""
    done = host.check_output("curl --silent --fail --request POST http://127.0.0.1:8200/v2/repository/index")
    return {one["name"]: one.get("state") for one in json.loads(done)}


def serves(host):
    """(TorchServe's default version of its model, what the language model says, what Triton's says)."""
    status, found = host.request("GET", "http://127.0.0.1:8081/models/demo")
    return found[0]["modelVersion"] if status == 200 else status, letters_say(host), table_says(host)


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
