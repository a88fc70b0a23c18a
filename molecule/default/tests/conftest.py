"""What the scenario's tests share."""

from __future__ import annotations

import json

import pytest
from fleet import REPOSITORY, Scenario, declared_models, make_model

SCENARIO = Scenario("default")


@pytest.fixture(scope="session")
def fleet():
    return SCENARIO.hosts()


@pytest.fixture(scope="session")
def origin():
    return SCENARIO.origin


@pytest.fixture(scope="session")
def models():
    """The models that the scenario's inventory declares, with the path of each in the model store."""
    return declared_models(SCENARIO.directory / "inventory")


@pytest.fixture(scope="session")
def archive(models):
    """The model that is one object."""
    (model,) = (one for one in models if "object" in one)
    return model


@pytest.fixture(scope="session")
def bundle(models):
    """The model that is a bundle."""
    (model,) = (one for one in models if "bundle" in one)
    return model


@pytest.fixture(scope="session")
def serves(archive):
    """A callable that asserts that a host still gives the known answer."""
    return lambda host: host.gives(archive)


@pytest.fixture
def make_mar(tmp_path):
    """A callable that returns the bytes of a small .mar."""
    return lambda name, version="1.0", size_mib=8, config=None: make_model(tmp_path, name, version, size_mib, config).read_bytes()


@pytest.fixture
def models_on():
    """A callable that makes a host serve entries of a list of models, as ``site`` does; returns what the module returned."""

    def serve(host, *models):
        arguments = json.dumps({"models": models, "timeout": 120})
        done = SCENARIO.play(host, "-m", "modelfleet.serving.torchserve_model", "-a", arguments, program="ansible", json_results=True)
        return json.loads(done.stdout.partition(" => ")[2])

    return serve


@pytest.fixture
def play():
    """A callable that runs a play on the scenario's fleet and returns the finished process."""
    return SCENARIO.play


@pytest.fixture(scope="session")
def report():
    """A callable that returns the report of the last run."""
    path = REPOSITORY / "reports" / SCENARIO.lab_name / "report.json"
    return lambda: json.loads(path.read_text(encoding="utf-8"))
