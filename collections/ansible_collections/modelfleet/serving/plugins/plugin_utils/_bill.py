# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bills of materials in the JSON of CycloneDX 1.6: of a host, and of a release of this collection."""

from __future__ import annotations

import json
import re
import uuid
from urllib.parse import quote

# Where the releases of Dragonfly are published, by the name of the release.
REPOSITORIES = {"client": "dragonflyoss/client", "scheduler": "dragonflyoss/dragonfly"}
# Derived from the project's own name, so that serial numbers of others are not in the way.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "modelfleet.serving")


def bill(root, components):
    """What the root, a component itself, consists of or brings. No time is in it, and the same components have the same serial number."""
    listed = sorted(components, key=lambda one: one["bom-ref"])
    body = {
        "metadata": {"tools": {"components": [{"type": "application", "name": "modelfleet.serving"}]}, "component": root},
        "components": listed,
        "dependencies": [{"ref": root["bom-ref"], "dependsOn": [one["bom-ref"] for one in listed]}],
    }
    serial = uuid.uuid5(NAMESPACE, json.dumps(body, sort_keys=True))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        **body,
    }


def entry(kind, ref, component, sha256="", purl="", **properties):
    """A component, which has a name and may have a version, with properties of this project's own."""
    made = {"type": kind, "bom-ref": ref, "name": component["name"]}
    if component.get("version"):
        made["version"] = component["version"]
    if sha256:
        made["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    if purl:
        made["purl"] = purl
    named = [{"name": f"modelfleet:{name}", "value": str(value)} for name, value in sorted(properties.items())]
    return {**made, **({"properties": named} if named else {})}


def program_purl(release, name, version):
    """Of a program of a release of Dragonfly, or of all of it; empty of what is not Dragonfly's."""
    repository = REPOSITORIES.get(release)
    part = f"#{quoted(name)}" if name else ""
    return f"pkg:github/{repository}@v{quoted(version)}{part}" if repository else ""


def python_purl(name, version):
    # As the specification of purl writes names of PyPI.
    written = re.sub(r"[-_.]+", "-", name).lower()
    return f"pkg:pypi/{quoted(written)}@{quoted(version)}"


def quoted(text):
    return quote(text, safe="")
