# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs containers, and their images. PRIVATE to the collection: it can have breaking changes at any time.

A check takes what ``preflight_info`` knows: ``params``, ``run_command``, ``facts`` (dict, what it saw), ``error`` and ``warning``
(both with the check and the message).
"""

from __future__ import annotations

import glob
import os
import re

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._podman import OLDEST, Podman, image_problem, is_old, registry_of
from ansible_collections.modelfleet.serving.plugins.module_utils._reach import connects

# The devices of NVIDIA under the names of CDI, in the two directories that podman reads.
CDI = ("/etc/cdi", "/run/cdi")
CDI_KIND = "nvidia.com/gpu"
REGISTRIES = ("/etc/containers/registries.conf", "/etc/containers/registries.conf.d")
# Whose name is not where it is.
ELSEWHERE = {"docker.io": "registry-1.docker.io"}
CONNECT_S = 5


def podman(host):
    """Nothing of it matters to a host without containers."""
    images = [one for one in host.params["images"] if not image_problem(one["image"])]
    if not images:
        return
    here = Podman(host.run_command)
    host.facts["podman"] = version = here.version()
    if not version and not host.params["podman_from_packages"]:
        host.error(
            "podman", f"There is no podman on this host; install {OLDEST} or newer, or name its package in modelfleet_container_packages."
        )
    elif version and is_old(version):
        host.error(
            "podman",
            f"podman {version} is too old, for containers here need {OLDEST}; upgrade it or the distribution, or set the "
            "…_install_method of this host to package.",
        )
        return
    for one in images:
        _image(host, here if version else None, one)


def _image(host, here, wanted):
    image, variable = wanted["image"], wanted["variable"]
    try:
        if here and here.image(image):
            return
    except ModelFleetError as exc:
        host.error("image", str(exc))
        return
    if wanted["archive"]:
        return
    registry = registry_of(image)
    if not registry:
        host.error(
            "image",
            f"The image {image} in {variable} is not on this host, and its name leads to no registry; build it here, or set "
            f"{variable}_archive.",
        )
    elif not _goes_elsewhere():
        place = ELSEWHERE.get(registry, registry)
        problem = connects(place if ":" in place else f"{place}:443", CONNECT_S)
        if problem:
            host.error(
                "image",
                f"The image {image} in {variable} is not on this host, which does not reach {place} ({problem}); open the way there, "
                f"name a registry of yours, or set {variable}_archive.",
            )


def _goes_elsewhere():
    """Whether podman may reach a registry by another way than its name: a proxy, or what the host's administrator configured."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy")):
        return True
    for path in (REGISTRIES[0], *glob.glob(os.path.join(REGISTRIES[1], "*.conf"))):
        if re.search(r"^\s*(location|mirror)\s*=", _read(path), re.MULTILINE):
            return True
    return False


def cdi(host):
    if not host.params["cdi"]:
        return
    specifications = [path for directory in CDI for ending in ("yaml", "yml", "json") for path in glob.glob(f"{directory}/*.{ending}")]
    if not any(CDI_KIND in _read(path) for path in specifications):
        host.error(
            "cdi",
            f"No file in {' or '.join(CDI)} describes the devices {CDI_KIND}, so that no container gets a GPU; install "
            "nvidia-container-toolkit and run nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml.",
        )


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


CHECKS = (podman, cdi)
