# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bill of materials of a release: what is in the archive, and what the archive pins and brings to hosts."""

from __future__ import annotations

import json
import sys

import yaml
from archive import COLLECTION, MANIFEST, REPOSITORY, read, sha256_of

sys.path.insert(0, str(REPOSITORY / COLLECTION.parents[2]))
from ansible_collections.modelfleet.serving.plugins.plugin_utils._bill import bill, entry, program_purl, python_purl, quoted

# Which variable has the version that the collection installs when nobody says another one, by the role and the name of the release.
DRAGONFLY = {"client": ("dfdaemon", "dfdaemon_version"), "scheduler": ("dragonfly_scheduler", "dragonfly_scheduler_version")}


def bill_of(archive):
    """From the archive alone, so that it says what is shipped. What has no pin, as a package of a distribution, is not in it."""
    members = read(archive)
    info = json.loads(members[MANIFEST][2])["collection_info"]
    name = f"{info['namespace']}.{info['name']}"
    root = entry("application", f"collection:{name}@{info['version']}", {"name": name, "version": info["version"]}, sha256_of(archive))
    root["licenses"] = [{"license": {"id": one}} for one in info["license"]]
    files = json.loads(members["FILES.json"][2])["files"]
    root["components"] = [
        entry("file", f"archive:{quoted(one['name'])}", one, one["chksum_sha256"]) for one in files if one["ftype"] == "file"
    ]
    return bill(root, [*_dragonfly(members), *_torchserve(members)])


def _variables(members, role, folder):
    return yaml.safe_load(members[f"roles/{role}/{folder}/main.yml"][2])


def _dragonfly(members):
    for release, (role, variable) in DRAGONFLY.items():
        version = str(_variables(members, role, "defaults")[variable])
        component = {"name": f"dragonfly-{release}", "version": version}
        # The digests of its archives are pinned beside the inventory of a fleet.
        yield entry(
            "application", f"release:{release}@{quoted(version)}", component, purl=program_purl(release, "", version), default="true"
        )


def _torchserve(members):
    default = str(_variables(members, "torchserve", "defaults")["torchserve_version"])
    for version, sha256 in _variables(members, "modelfleet", "vars")["__modelfleet_torchserve_sha256"].items():
        purl = python_purl("torchserve", version)
        component = {"name": "torchserve", "version": version}
        yield entry("library", f"wheel:{purl}", component, sha256, purl, default=str(version == default).lower())
