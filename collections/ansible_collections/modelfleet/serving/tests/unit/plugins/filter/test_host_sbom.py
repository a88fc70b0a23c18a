# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bill of materials says, and the rules of the schema of CycloneDX 1.6 for what is in it."""

from __future__ import annotations

import copy
import json
import re

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.host_sbom import host_sbom

DIGEST = "9f" * 32
DEBIAN = {"manager": "deb", "distribution": {"id": "debian", "version": "12"}, "architecture": "amd64"}
ROCKY = {"manager": "rpm", "distribution": {"id": "rocky", "version": "9.4"}, "architecture": "x86_64"}
COMPONENTS = [
    {"kind": "program", "release": "client", "name": "dfdaemon", "version": "1.5.10", "sha256": DIGEST, "archive_sha256": "3b" * 32},
    {"kind": "program", "release": "scheduler", "name": "scheduler", "version": "2.5.1", "sha256": DIGEST, "archive_sha256": "3b" * 32},
    {"kind": "program", "release": "mine", "name": "mine", "version": "1", "sha256": DIGEST, "archive_sha256": "3b" * 32},
    {"kind": "file", "name": "dragonfly-endpoint.jar", "version": "", "path": "/opt/a.jar", "sha256": DIGEST},
    {"kind": "python", "environment": "venv-1", "name": "Torch_Serve.x", "version": "0.12.0+cu124"},
    {"kind": "python", "environment": "venv-2", "name": "Torch_Serve.x", "version": "0.12.0+cu124"},
    {"kind": "model", "name": "tiny", "version": "1.0", "sha256": DIGEST, "packing": "object", "served": True, "size": 12},
    {"kind": "model", "name": "bert", "version": "1", "sha256": "", "packing": "huggingface", "served": False, "size": 12,
     "repo": "org/bert", "commit": "0f" * 20},
    {"kind": "package", "name": "openjdk-17-jre-headless", "version": "17.0.1+9-1~deb12u1", **DEBIAN},
    {"kind": "package", "name": "python3.11", "version": "1:3.11", **ROCKY},
]  # fmt: skip


def components(bom):
    return {one["bom-ref"]: one for one in bom["components"]}


def check_schema(bom):
    """What the schema demands of the parts that are used here."""
    assert bom["$schema"] == "http://cyclonedx.org/schema/bom-1.6.schema.json"
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", bom["serialNumber"])
    assert isinstance(bom["version"], int) and bom["version"] >= 1
    assert set(bom) == {"$schema", "bomFormat", "specVersion", "serialNumber", "version", "metadata", "components", "dependencies"}
    assert set(bom["metadata"]) == {"tools", "component"} and set(bom["metadata"]["tools"]) == {"components"}
    kinds = {"application", "framework", "library", "container", "platform", "operating-system", "device", "device-driver", "firmware"}
    every = [bom["metadata"]["component"], *bom["metadata"]["tools"]["components"], *bom["components"]]
    for one in every:
        assert set(one) <= {"type", "bom-ref", "name", "version", "hashes", "purl", "properties"}
        assert one["type"] in kinds | {"file", "machine-learning-model", "data", "cryptographic-asset"}
        assert isinstance(one["name"], str) and all(
            isinstance(one[key], str) and one[key] for key in ("bom-ref", "version", "purl") if key in one
        )
        assert len(one.get("version", "")) <= 1024
        for digest in one.get("hashes", []):
            assert set(digest) == {"alg", "content"} and digest["alg"] == "SHA-256"
            assert re.fullmatch(r"[a-fA-F0-9]{64}", digest["content"])
        for entry in one.get("properties", []):
            assert set(entry) == {"name", "value"} and isinstance(entry["value"], str)
        assert re.fullmatch(r"pkg:[a-z]+/[^\s]+@[^\s@]+", one.get("purl", "pkg:a/b@c"))
    refs = [one["bom-ref"] for one in every if "bom-ref" in one]
    assert len(refs) == len(set(refs)) and not [ref for ref in refs if ref.startswith("urn:cdx:")]
    for entry in bom["dependencies"]:
        assert set(entry) == {"ref", "dependsOn"} and {entry["ref"], *entry["dependsOn"]} <= set(refs)
        assert len(entry["dependsOn"]) == len(set(entry["dependsOn"]))


def test_it_follows_the_schema():
    check_schema(host_sbom(COMPONENTS, "gpu-1"))
    check_schema(host_sbom([], "a host / with ümlauts"))


def test_what_it_says():
    bom = host_sbom(COMPONENTS, "gpu-1")
    found = components(bom)
    assert len(found) == len(COMPONENTS)
    program = found["program:client/dfdaemon@1.5.10"]
    assert program["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]
    assert program["purl"] == "pkg:github/dragonflyoss/client@v1.5.10#dfdaemon"
    assert program["properties"] == [{"name": "modelfleet:archive_sha256", "value": "3b" * 32}]
    assert "purl" not in found["program:mine/mine@1"]
    purls = {one["purl"] for one in bom["components"] if "purl" in one}
    assert "pkg:pypi/torch-serve-x@0.12.0%2Bcu124" in purls
    assert "pkg:deb/debian/openjdk-17-jre-headless@17.0.1%2B9-1~deb12u1?arch=amd64&distro=debian-12" in purls
    assert "pkg:rpm/rocky/python3.11@3.11?arch=x86_64&distro=rocky-9.4&epoch=1" in purls
    model = found["model:tiny@1.0"]
    assert model["type"] == "machine-learning-model" and model["hashes"][0]["content"] == DIGEST
    assert {"name": "modelfleet:served", "value": "true"} in model["properties"]
    of_a_hub = found["model:bert@1"]
    assert of_a_hub["purl"] == f"pkg:huggingface/org/bert@{'0f' * 20}" and "hashes" not in of_a_hub
    assert "version" not in found["file:dragonfly-endpoint.jar"]


def test_the_same_host_has_the_same_bill():
    first = json.dumps(host_sbom(COMPONENTS, "gpu-1"))
    assert json.dumps(host_sbom(copy.deepcopy(COMPONENTS)[::-1], "gpu-1")) == first


@pytest.mark.parametrize("change", [{"sha256": "00" * 32}, {"version": "1.5.11"}])
def test_what_is_another_one_has_another_serial_number(change):
    serials = {host_sbom([{**COMPONENTS[0], **one}], "gpu-1")["serialNumber"] for one in ({}, change)}
    assert len(serials | {host_sbom(COMPONENTS[:1], "gpu-2")["serialNumber"]}) == 3
