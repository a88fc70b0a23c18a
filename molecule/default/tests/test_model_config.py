"""What a model-config.yaml in the archive says against the entry in the list of models, on a real TorchServe."""

from __future__ import annotations

import pytest
from fleet import MODELS, wait_until


def described(host, name):
    status, versions = host.request("GET", f"http://127.0.0.1:8081/models/{name}/all")
    return versions[0] if status == 200 else None


def workers(host, name):
    found = described(host, name)
    return (found["minWorkers"], found["maxWorkers"], [worker["status"] for worker in found["workers"]]) if found else None


@pytest.fixture
def entry(origin, make_mar):
    def publish(name, config, **keys):
        key = f"config/{name}.mar"
        return {"name": name, "version": "1.0", "object": key, "sha256": origin.put(key, make_mar(name, config=config)), **keys}

    return publish


def test_the_entry_decides_how_many_workers(fleet, models_on, entry, serves):
    """More than the archive says and fewer, registered, asked again, and restored after a restart."""
    host = fleet["gpu-1"]
    more = entry("more", "minWorkers: 1\nmaxWorkers: 1\n", workers=2)
    fewer = entry("fewer", "minWorkers: 2\nmaxWorkers: 2\n")
    try:
        done = models_on("gpu-1", more, fewer)
        assert [model["action"] for model in done["models"]] == ["registered", "registered"], done
        assert workers(host, "more") == (2, 2, ["READY", "READY"])
        assert workers(host, "fewer") == (1, 1, ["READY"])
        assert not models_on("gpu-1", more, fewer)["changed"]
        host.check_output("systemctl restart torchserve")
        wait_until(lambda: host.active("torchserve-models"), "everything restored")
        assert workers(host, "more") == (2, 2, ["READY", "READY"])
        assert workers(host, "fewer") == (1, 1, ["READY"])
        assert serves(host)
        assert not models_on("gpu-1", more, fewer)["changed"]
    finally:
        gone = [{"name": name, "version": "1.0", "state": "absent"} for name in ("more", "fewer")]
        assert [model["action"] for model in models_on("gpu-1", *gone)["models"]] == ["removed", "removed"]


def test_a_timeout_that_the_archive_decides_is_an_error(fleet, models_on, entry):
    model = entry("slow", "responseTimeout: 60\n", response_timeout=33)
    done = models_on("gpu-1", model)
    assert "model slow 1.0 with response_timeout: 33" in done["msg"]
    assert "took responseTimeout: 60" in done["msg"]
    assert described(fleet["gpu-1"], "slow") is None
    assert fleet["gpu-1"].run("ls %s | grep slow", MODELS).stdout == ""
