"""What the scenario's tests share: the fleet, its store, and what it serves."""

from __future__ import annotations

import pytest
from fleet import REPOSITORY, Scenario, declared_models

SCENARIO = Scenario("hardening")
SEEN = []  # lines for the end


@pytest.fixture(scope="session")
def fleet():
    return SCENARIO.hosts()


@pytest.fixture(scope="session")
def origin():
    return SCENARIO.origin


@pytest.fixture(scope="session")
def archive():
    """The model of inventory/lab, with its path in the model store."""
    (model,) = declared_models(REPOSITORY / "inventory/lab")
    return model


@pytest.fixture(scope="session")
def serves(archive):
    """A callable that asserts that a host still gives the known answer."""
    return lambda host: host.gives(archive)


def pytest_terminal_summary(terminalreporter):
    for line in SEEN:
        terminalreporter.write_line(line)
