"""One byte of a program, of a Python file, of a model and of what TorchServe unpacked, each on one host: named with host, file and remedy.

One run looks at all of them. Each has its byte back before the first assertion.
"""

from __future__ import annotations

import json
import re
from contextlib import ExitStack, contextmanager

import pytest
from fleet import GPU_HOSTS, Scenario, only_in_all

pytestmark = only_in_all

# Runs on the host: the last byte of a file, in place, so that every name of it has the change.
FLIP = """
import sys
with open(sys.argv[1], "r+b") as handle:
    handle.seek(-1, 2)
    byte = handle.read(1)
    handle.seek(-1, 2)
    handle.write(bytes([byte[0] ^ 1]))
"""
PROGRAM = "/opt/dragonfly/client/current/dfget"


@contextmanager
def flipped(host, path):
    host.check_output("python3 -c %s %s", FLIP, path)
    try:
        yield
    finally:
        host.check_output("python3 -c %s %s", FLIP, path)


@contextmanager
def added(host, path):
    host.check_output("touch %s", path)
    try:
        yield
    finally:
        host.check_output("rm %s", path)


def first(host, pattern):
    """The first file of that pattern on the host."""
    return host.check_output(f"ls -d {pattern}").split()[0]


@pytest.fixture(scope="module")
def verify(tmp_path_factory):
    """Runs of the play: returns (return code, report, all that was printed)."""
    directory = tmp_path_factory.mktemp("verify")

    def run(*arguments, **variables):
        path = directory / "verify.json"
        said = json.dumps({"verify_report_path": str(path), "verify_sbom_dir": str(directory / "sbom"), **variables})
        finished = Scenario("default").play("playbooks/verify.yml", "-e", said, *arguments)
        assert path.exists(), finished.stdout[-3000:]
        assert not re.search(r"changed=[1-9]", finished.stdout), "it changes nothing"
        return finished.returncode, json.loads(path.read_text(encoding="utf-8")), finished.stdout

    run.directory = directory
    return run


def keys(report):
    return {(one["host"], one["subject"], one["what"]) for one in report["findings"]}


@pytest.fixture(scope="module")
def well(verify):
    """What is said of the fleet as it was installed: an image may lack files of its packages."""
    _code, report, printed = verify()
    assert not {subject for _host, subject, _what in keys(report)} & {"host", "verify", "programs", "python", "endpoint plugin"}, printed[
        -3000:
    ]
    return report


@pytest.fixture(scope="module")
def broken(fleet, archive, verify, well):
    # A program that does not run, as the kernel lets nobody write one that does.
    paths = {
        ("seed-1", "programs"): (flipped, fleet["seed-1"].check_output("readlink -f %s", PROGRAM)),
        ("gpu-1", "python"): (flipped, first(fleet["gpu-1"], "/opt/torchserve/venv-*/lib/python3*/site-packages/ts/__init__.py")),
        ("gpu-2", "models"): (flipped, archive["path"]),
        ("gpu-3", "unpacked"): (flipped, first(fleet["gpu-3"], "/var/lib/torchserve/tmp/models/*/*.py")),
        ("gpu-3", "endpoint plugin"): (added, "/opt/torchserve/plugins/other.jar"),
    }
    with ExitStack() as stack:
        for (name, _subject), (change, path) in paths.items():
            stack.enter_context(change(fleet[name], path))
        return {key: path for key, (_change, path) in paths.items()}, verify()


def test_a_fleet_that_is_as_it_was_installed(verify, well):
    assert set(well["hosts"]) == {"scheduler-1", "seed-1", *GPU_HOSTS} and well["not_checked"] == []
    assert all(one["files"] and one["bytes"] for one in well["hosts"].values())
    for name in GPU_HOSTS:
        bill = json.loads((verify.directory / f"sbom/{name}.cdx.json").read_text(encoding="utf-8"))
        assert {"dfdaemon", "dfget", "torchserve", "dragonfly-endpoint.jar", "demo"} <= {one["name"] for one in bill["components"]}


@pytest.mark.parametrize(
    ("host", "subject"),
    [("seed-1", "programs"), ("gpu-1", "python"), ("gpu-2", "models"), ("gpu-3", "unpacked"), ("gpu-3", "endpoint plugin")],
)
def test_what_was_changed_is_named(broken, host, subject):
    paths, (code, report, printed) = broken
    found = [one for one in report["findings"] if (one["host"], one["subject"]) == (host, subject) and paths[host, subject] in one["cause"]]
    assert (code, report["code"]) == (2, 2)
    assert found and all(one["severity"] == "problem" and "find out who did it" in one["remedy"] for one in found), report["findings"]
    assert paths[host, subject] in printed


def test_nothing_else_is_named(broken, well):
    """The archive and its blob are one file, and what was unpacked of the archive differs from the one that changed."""
    paths, (_code, report, _printed) = broken
    known = {*paths, ("gpu-2", "unpacked")}
    assert {key for key in keys(report) - keys(well) if key[:2] not in known} == set()


def test_the_fleet_is_as_it_was_installed_again(verify, broken, well):
    assert keys(verify()[1]) == keys(well)
