"""What a fleet has that never saw more than its controller, its store and the bundle."""

from __future__ import annotations

import hashlib
import json
import subprocess

import pytest
import yaml
from conftest import BUNDLE, SERVER, URL, packets
from fleet import DAEMON_HOSTS, GPU_HOSTS, REPOSITORY, SIGNATURES

PACKAGES = ("default-jre-headless", "python3-venv", "nftables")


@pytest.fixture(scope="module")
def model():
    declared = yaml.safe_load((REPOSITORY / "inventory/lab/group_vars/all/modelfleet.yml").read_text(encoding="utf-8"))
    (model,) = declared["modelfleet_models"]
    return model


def test_every_file_of_the_bundle_is_as_signed():
    """By programs that nobody here wrote."""
    manifest = BUNDLE / "MANIFEST.json"
    subprocess.run(["gpg", "--verify", f"{manifest}.asc", manifest], check=True, capture_output=True)
    files = json.loads(manifest.read_text())["files"]
    lines = "".join(f"{file['sha256']}  {file['path']}\n" for file in files)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet"], input=lines, cwd=BUNDLE, check=True, text=True)
    kinds = {file["path"].partition("/")[0] for file in files}
    assert kinds == {"releases", "wheels", "packages", "collection", "plugin", "key.asc"}
    wheels = [file for file in files if file["path"].startswith("wheels/")]
    assert any("/torchserve-0.12.0-" in file["path"] and file["licence"] for file in wheels)
    assert not any(word in manifest.read_text() for word in SIGNATURES)


def comes_from_the_bundle(host, package):
    said = host.check_output("apt-cache policy %s", package)
    return "Installed: (none)" not in said and f"{URL}/packages/debian-13-x86_64 ./ Packages" in said


@pytest.mark.parametrize("name", DAEMON_HOSTS)
def test_packages_come_from_the_bundle_and_from_nowhere_else(fleet, name):
    host = fleet[name]
    sites = host.check_output("apt-get indextargets --format '$(SITE)'").split()
    assert set(sites) == {f"{URL}/packages/debian-13-x86_64"}
    for package in PACKAGES if name in GPU_HOSTS else ("nftables",):
        assert comes_from_the_bundle(host, package)


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_models_give_their_known_answers(fleet, model, name):
    assert fleet[name].gives(model)


def test_a_rollout_and_smoke(fleet, play, rolled_out):
    play("smoke", **rolled_out)
    # A rollout asks dfdaemon itself for what is new, by curl, where site leaves that to TorchServe's plugin.
    assert all(comes_from_the_bundle(fleet[name], "curl") for name in GPU_HOSTS)
    version = fleet["gpu-1"].request("GET", "http://127.0.0.1:8081/models/demo/all")[1]
    assert "2.0" in {one["modelVersion"] for one in version}


def test_the_bundle_is_there_to_be_read(fleet):
    host, manifest = fleet["gpu-1"], hashlib.sha256((BUNDLE / "MANIFEST.json").read_bytes()).hexdigest()
    assert host.check_output("curl --silent --fail %s | sha256sum", f"{URL}/MANIFEST.json").split()[0] == manifest
    for request in ("PUT", "POST", "DELETE"):
        assert (
            host.check_output("curl --silent --output /dev/null --write-out '%%{http_code}' --request %s %s", request, f"{URL}/x") == "501"
        )
    server = fleet[SERVER]
    assert server.run("nsenter --target %s --mount touch /run/modelfleet-bundle/x", server.main_pid("modelfleet-bundle.service")).rc != 0
    assert host.run("curl --silent --fail --path-as-is %s", f"{URL}/../../etc/hostname").rc != 0


@pytest.mark.parametrize("name", (*DAEMON_HOSTS, SERVER))
def test_nothing_left_the_lab(fleet, name):
    assert packets(fleet[name]) == 0


def test_what_would_leave_is_counted(fleet):
    """Or the zeros above would say nothing."""
    host = fleet["gpu-3"]
    assert host.run("python3 -c %s", "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)").rc != 0
    assert packets(host) > 0
