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

from urllib.parse import quote

from ansible_collections.modelfleet.serving.plugins.plugin_utils._bill import bill, entry, program_purl, python_purl, quoted


def host_sbom(components, host):
    entries = {}
    for component in components:
        one = _MAKERS[component["kind"]](component)
        # Two environments may have one package.
        entries[one["bom-ref"]] = {**entries.get(one["bom-ref"], {}), **one}
    # A reference of its own, whatever the host is called.
    return bill({"type": "device", "bom-ref": f"host:{quote(host, safe='')}", "name": host}, entries.values())


def _program(one):
    purl = program_purl(one["release"], one["name"], one["version"])
    ref = f"program:{quoted(one['release'])}/{quoted(one['name'])}@{quoted(one['version'])}"
    return entry("application", ref, one, one["sha256"], purl, archive_sha256=one["archive_sha256"])


def _container(one):
    # The digest of a name is that of what a registry sent; the id is that of the image's configuration wherever it came from.
    repository, _at, digest = one["image"].rpartition("@")
    purl = f"pkg:oci/{quoted(repository.rpartition('/')[2].partition(':')[0])}@{quote(digest, safe='')}" if repository else ""
    return entry("container", f"container:{quoted(one['name'])}", one, one["id"], purl, image=one["image"])


def _file(one):
    return entry("library", f"file:{quoted(one['name'])}", one, one["sha256"], path=one["path"])


def _python(one):
    purl = python_purl(one["name"], one["version"])
    return entry("library", f"{one['environment']}:{purl}", one, purl=purl, environment=one["environment"])


def _model(one):
    ref = f"model:{quoted(one['name'])}@{quoted(one['version'])}"
    # What is of a hub is many files, and has none of its own.
    purl = f"pkg:huggingface/{quote(one['repo'], safe='/')}@{one['commit']}" if one.get("repo") else ""
    # Of a bundle the digest is that of its manifest, which has those of its files.
    return entry(
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
    namespace = f"{quoted(distribution['id'])}/" if distribution["id"] else ""
    purl = f"pkg:{one['manager']}/{namespace}{quoted(one['name'])}@{quoted(version)}?{written}"
    return entry("library", purl, one, purl=purl)


_MAKERS = {"program": _program, "container": _container, "file": _file, "python": _python, "model": _model, "package": _package}


class FilterModule:
    def filters(self):
        return {"host_sbom": host_sbom}
