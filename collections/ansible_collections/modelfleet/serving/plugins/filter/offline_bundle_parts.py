# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: offline_bundle_parts
short_description: What a bundle for hosts without internet consists of
version_added: 0.1.0
description:
  - Makes of what each host needs the options of M(modelfleet.serving.offline_bundle), each thing once, and of
    M(modelfleet.serving.offline_bundle_check).
positional: _input
options:
  _input:
    description:
      - What each host needs, by host, as the role P(modelfleet.serving.offline_bundle#role) says it.
      - C(platform); C(releases) with C(name), C(version), C(architecture), C(url), C(archive) and C(sha256); C(wheels), empty or as in
        O(modelfleet.serving.offline_bundle#module:wheels), with C(used) whether the host takes them from the bundle; C(packages), names;
        C(packages_used); C(images), names.
    type: dict
    required: true
  directory:
    description: Where the bundle is or will be. An archive that lies in it is downloaded, and is one that the host takes from there.
    type: str
    required: true
  pins:
    description: What M(modelfleet.serving.release_lock) returned of releases without a digest.
    type: list
    elements: dict
    default: []
  apt_sources:
    description: Where packages come from, by platform or by distribution.
    type: dict
    default: {}
  pip:
    description: The program of a Python with pip, by its version.
    type: dict
    default: {}
author:
  - ModelFleet developers (@modelfleet)
seealso:
  - module: modelfleet.serving.offline_bundle
"""

EXAMPLES = r"""
- name: Show what a bundle would hold
  ansible.builtin.debug:
    msg: "{{ hosts | modelfleet.serving.offline_bundle_parts('/srv/bundle') }}"
  vars:
    hosts:
      gpu-1: {platform: debian-13-x86_64, releases: [], wheels: {}, packages: [curl], packages_used: true, images: []}
"""

RETURN = r"""
_value:
  description:
    - C(platforms), C(files), C(wheels), C(packages) and C(images) are options of M(modelfleet.serving.offline_bundle).
    - C(unpinned) are the releases without a digest, as M(modelfleet.serving.release_lock) takes them.
    - C(needs) is that option of M(modelfleet.serving.offline_bundle_check).
  type: dict
"""

import os
import urllib.parse

from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._offline_platform import platform

# Of Dragonfly, whose programs they are.
_LICENCE = "Apache-2.0"


def _release(one, directory):
    """The path of a release in the bundle, and where it comes from (dict with url or src)."""
    path = f"releases/{os.path.basename(urllib.parse.unquote(urllib.parse.urlsplit(one['url']).path))}"
    own = one["archive"] and os.path.abspath(one["archive"]) != os.path.join(os.path.abspath(directory), path)
    return path, {"src": one["archive"]} if own else {"url": one["url"]}


def _image(name):
    """The path of an image in the bundle."""
    repository, _at, digest = name.rpartition("@sha256:")
    return f"images/{os.path.basename(repository).partition(':')[0]}-{digest[:12]}.tar"


def _parts(hosts, directory, pins, apt_sources, pip):
    pinned = {pin["name"]: pin["sha256"] for pin in pins}
    files, wheels, images, names, needs, unpinned = {}, {}, {}, {}, [], []
    for host, said in sorted(hosts.items()):
        target = platform(said["platform"])

        def need(path, host=host):
            needs.append({"path": path, "host": host})

        for one in said["releases"]:
            path, source = _release(one, directory)
            key = "-".join(str(one[part]) for part in ("name", "version", "architecture"))
            digest = one["sha256"] or pinned.get(key, "")
            if not digest:
                unpinned.append({**{part: str(one[part]) for part in ("name", "version", "architecture")}, **source})
            elif files.get(path, {}).get("sha256", digest) != digest:
                raise ModelFleetError(
                    f"Failed to plan the bundle: {path} has two digests, {digest} for {host} and another one for other hosts. Correct "
                    "the sha256 of one, or have its URL end with another name."
                )
            files[path] = {"path": path, "licence": _LICENCE, **source, **({"sha256": digest} if digest else {})}
            if "url" in source:
                need(path)
        if said["wheels"]:
            one = {key: value for key, value in said["wheels"].items() if key != "used"}
            version = one["python"] or target.python
            wheels[one["path"]] = {**one, "platform": target.name, "pip": pip.get(version, "")}
            if said["wheels"]["used"]:
                need(one["path"])
        if target.has_apt and said["packages"]:
            names.setdefault(target, set()).update(said["packages"])
            if said["packages_used"]:
                need(f"packages/{target.name}")
        for name in said["images"]:
            images[_image(name)] = {"path": _image(name), "image": name, "platform": target.name}
            need(_image(name))
    return {
        "platforms": sorted({said["platform"] for said in hosts.values()}),
        "files": [files[path] for path in sorted(files)],
        "wheels": [wheels[path] for path in sorted(wheels)],
        "packages": [
            {
                "path": f"packages/{target.name}",
                "platform": target.name,
                "names": sorted(names[target]),
                "sources": apt_sources.get(target.name, apt_sources.get(target.distribution, [])),
            }
            for target in sorted(names, key=lambda one: one.name)
        ],
        "images": [images[path] for path in sorted(images)],
        "unpinned": [one for number, one in enumerate(unpinned) if one not in unpinned[:number]],
        "needs": needs,
    }


def offline_bundle_parts(hosts, directory, pins=(), apt_sources=None, pip=None):
    try:
        return _parts(hosts, directory, pins, apt_sources or {}, pip or {})
    except ModelFleetError as exc:
        raise AnsibleFilterError(str(exc)) from exc
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise AnsibleFilterError(
            f"Failed to plan the bundle: what a host needs is not as it must be ({exc}). Correct its variables."
        ) from exc


class FilterModule:
    def filters(self):
        return {"offline_bundle_parts": offline_bundle_parts}
