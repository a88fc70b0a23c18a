# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.host_sbom import host_sbom
from ansible_collections.modelfleet.serving.plugins.module_utils import _podman
from ansible_collections.modelfleet.serving.plugins.module_utils._verify import Look
from ansible_collections.modelfleet.serving.plugins.module_utils._verify_containers import verify_container
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_podman import ANOTHER, CLIENT, DIGEST, ID, LIST, OLD_ID, FakePodman

WANTED = {"name": "dfdaemon", "image": CLIENT, "version": "1.5.10"}


@pytest.fixture
def podman():
    fake = FakePodman()
    fake.images = {CLIENT: ID}
    fake.containers = {"dfdaemon": ID}
    return fake


def looked(fake):
    look = Look()
    verify_container(look, WANTED, fake.run_command)
    return look


@pytest.mark.parametrize(
    ("image", "registry", "reference"),
    [
        (CLIENT, "registry.example.org", CLIENT),
        (f"docker.io/dragonflyoss/client:v1.5.10@{DIGEST}", "docker.io", f"docker.io/dragonflyoss/client@{DIGEST}"),
        (f"registry:5000/a/b-c.d:1_2@{DIGEST}", "registry:5000", f"registry:5000/a/b-c.d@{DIGEST}"),
        (f"localhost/modelfleet/client@{DIGEST}", None, f"localhost/modelfleet/client@{DIGEST}"),
        (DIGEST, None, DIGEST),
    ],
)
def test_names_of_images(image, registry, reference):
    assert _podman.image_problem(image) is None
    assert (_podman.registry_of(image), _podman.reference(image)) == (registry, reference)


@pytest.mark.parametrize("image", [None, 1, "", "client", f"client@{DIGEST}", f"{CLIENT}\n", DIGEST.upper(), f"docker.io/Client@{DIGEST}"])
def test_other_names_are_a_problem(image):
    assert _podman.image_problem(image)


def test_an_image_of_several_architectures_has_two_digests(podman):
    podman.images = {CLIENT: ID, CLIENT.replace(DIGEST, LIST): ID}
    found = _podman.Podman(podman.run_command).image(CLIENT)
    assert found == {"id": ID, "digests": [DIGEST, LIST]}


def test_what_runs_of_the_image_is_as_it_should_be_and_said_not_to_be_hashed(podman):
    look = looked(podman)
    assert look.findings == [] and look.components == [{"kind": "container", **WANTED, "id": ID}]
    (left,) = look.unverified
    assert left["part"] == "containers" and "what came and not what is there" in left["why"]
    (component,) = host_sbom(look.components, "gpu-1")["components"]
    assert component["purl"] == f"pkg:oci/client@sha256%3A{'1' * 64}" and component["version"] == "1.5.10"


def test_a_container_of_another_image(podman):
    podman.containers = {"dfdaemon": OLD_ID}
    (found,) = looked(podman).findings
    assert found["state"] == "changed" and f"has {ID}" in found["detail"] and OLD_ID in found["detail"]


def test_an_image_that_is_gone_and_no_podman(podman):
    podman.images = {CLIENT.replace(DIGEST, ANOTHER): OLD_ID}
    (found,) = looked(podman).findings
    assert found["state"] == "missing" and "nothing would start again" in found["detail"]
    podman.version = None
    (found,) = looked(podman).findings
    assert found["state"] == "unreadable" and "Install podman" in found["detail"]


def test_a_host_that_runs_none_is_not_said_twice(podman):
    podman.containers = {}
    assert looked(podman).findings == []


@pytest.mark.parametrize(("version", "old"), [("4.0.2", True), ("4.1.0", False), ("5.4.2", False), ("3.4.4", True), ("10.0", False)])
def test_versions(version, old):
    assert _podman.is_old(version) is old
