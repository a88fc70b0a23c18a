# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: host_sbom
author: ModelFleet developers (@modelfleet)
version_added: 0.1.0
short_description: Make a bill of materials of a host
description:
  - Turns what M(modelfleet.serving.verify_info) found on a host into a software bill of materials in the JSON of CycloneDX 1.6.
  - The same components give the same text, it has no time in it, and its serial number is derived from the rest.
  - Digests are those of the files that are there. A Python package and a commit of a hub's repository are many files, and have none.
positional: _input
options:
  _input:
    description: The C(components) of the module's result.
    type: list
    elements: dict
    required: true
  host:
    description: Name of the host.
    type: str
    required: true
seealso:
  - module: modelfleet.serving.verify_info
  - name: CycloneDX
    description: The format.
    link: https://cyclonedx.org/docs/1.6/json/
"""

EXAMPLES = r"""
- name: Show what is on this host
  ansible.builtin.debug:
    msg: "{{ verified.components | modelfleet.serving.host_sbom(inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: The bill of materials.
  type: dict
"""

import json
import re
import uuid
from urllib.parse import quote

# Where the releases of Dragonfly are published, by the name of the release.
REPOSITORIES = {"client": "dragonflyoss/client", "scheduler": "dragonflyoss/dragonfly"}
# Derived from the project's own name, so that serial numbers of others are not in the way.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "modelfleet.serving")


def host_sbom(components, host):
    entries = {}
    for component in components:
        entry = _MAKERS[component["kind"]](component)
        # Two environments may have one package.
        entries[entry["bom-ref"]] = {**entries.get(entry["bom-ref"], {}), **entry}
    listed = [entries[ref] for ref in sorted(entries)]
    # A reference of its own, whatever the host is called.
    root = f"host:{quote(host, safe='')}"
    body = {
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "modelfleet.serving"}]},
            "component": {"type": "device", "bom-ref": root, "name": host},
        },
        "components": listed,
        "dependencies": [{"ref": root, "dependsOn": [entry["bom-ref"] for entry in listed]}],
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


def _entry(kind, ref, component, sha256="", purl="", **properties):
    entry = {"type": kind, "bom-ref": ref, "name": component["name"]}
    if component.get("version"):
        entry["version"] = component["version"]
    if sha256:
        entry["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    if purl:
        entry["purl"] = purl
    named = [{"name": f"modelfleet:{name}", "value": str(value)} for name, value in sorted(properties.items())]
    return {**entry, **({"properties": named} if named else {})}


def _program(one):
    repository = REPOSITORIES.get(one["release"])
    purl = f"pkg:github/{repository}@v{_quoted(one['version'])}#{_quoted(one['name'])}" if repository else ""
    ref = f"program:{_quoted(one['release'])}/{_quoted(one['name'])}@{_quoted(one['version'])}"
    return _entry("application", ref, one, one["sha256"], purl, archive_sha256=one["archive_sha256"])


def _file(one):
    return _entry("library", f"file:{_quoted(one['name'])}", one, one["sha256"], path=one["path"])


def _python(one):
    # As the specification of purl writes names of PyPI.
    name = re.sub(r"[-_.]+", "-", one["name"]).lower()
    purl = f"pkg:pypi/{_quoted(name)}@{_quoted(one['version'])}"
    return _entry("library", f"{one['environment']}:{purl}", one, purl=purl, environment=one["environment"])


def _model(one):
    ref = f"model:{_quoted(one['name'])}@{_quoted(one['version'])}"
    # What is of a hub is many files, and has none of its own.
    purl = f"pkg:huggingface/{quote(one['repo'], safe='/')}@{one['commit']}" if one.get("repo") else ""
    # Of a bundle the digest is that of its manifest, which has those of its files.
    return _entry(
        "machine-learning-model", ref, one, one["sha256"], purl, packing=one["packing"], served=str(one["served"]).lower(), size=one["size"]
    )


def _package(one):
    distribution = one["distribution"]
    qualifiers = {"arch": one["architecture"]}
    version = one["version"]
    if one["manager"] == "rpm" and ":" in version:
        qualifiers["epoch"], version = version.split(":", 1)
    if distribution["id"] and distribution["version"]:
        qualifiers["distro"] = f"{distribution['id']}-{distribution['version']}"
    written = "&".join(f"{name}={quote(value, safe='')}" for name, value in sorted(qualifiers.items()))
    namespace = f"{_quoted(distribution['id'])}/" if distribution["id"] else ""
    purl = f"pkg:{one['manager']}/{namespace}{_quoted(one['name'])}@{_quoted(version)}?{written}"
    return _entry("library", purl, one, purl=purl)


def _quoted(text):
    return quote(text, safe="")


_MAKERS = {"program": _program, "file": _file, "python": _python, "model": _model, "package": _package}


class FilterModule:
    def filters(self):
        return {"host_sbom": host_sbom}
