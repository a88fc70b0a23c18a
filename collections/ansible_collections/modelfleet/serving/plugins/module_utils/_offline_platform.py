# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts run, as bundles name it. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError


@dataclass(frozen=True)
class Platform:
    """A distribution and an architecture, as in debian-13-x86_64."""

    name: str
    distribution: str  # with its version, as in debian-13
    architecture: str  # as Ansible's facts name it
    python: str  # of the distribution
    glibc: tuple

    @property
    def has_apt(self):
        return self.distribution.startswith(("debian-", "ubuntu-"))

    @property
    def dpkg_architecture(self):
        return {"x86_64": "amd64", "aarch64": "arm64"}[self.architecture]

    def wheel_tags(self):
        """The platforms of wheels that run there, the best first, as pip takes them."""
        lowest = {"x86_64": 5, "aarch64": 17}[self.architecture]
        older = {"x86_64": ("manylinux2014", "manylinux2010", "manylinux1"), "aarch64": ("manylinux2014",)}[self.architecture]
        newer = [f"manylinux_2_{minor}" for minor in range(self.glibc[1], lowest - 1, -1)]
        return [f"{tag}_{self.architecture}" for tag in (*newer, *older, "linux")]


# The Python and the C library of each distribution.
DISTRIBUTIONS = {
    "debian-12": ("3.11", (2, 36)),
    "debian-13": ("3.13", (2, 41)),
    "ubuntu-22.04": ("3.10", (2, 35)),
    "ubuntu-24.04": ("3.12", (2, 39)),
    "el-9": ("3.9", (2, 34)),
}
ARCHITECTURES = ("x86_64", "aarch64")


def platform(name):
    """The Platform of that name. Raises ModelFleetError."""
    distribution, _dash, architecture = name.rpartition("-")
    if distribution not in DISTRIBUTIONS or architecture not in ARCHITECTURES:
        raise ModelFleetError(
            f"Refused the platform {name!r}: it is none that bundles are made for. Use one of {', '.join(DISTRIBUTIONS)}, followed by "
            f"-{' or -'.join(ARCHITECTURES)}, as in debian-13-x86_64."
        )
    return Platform(name, distribution, architecture, *DISTRIBUTIONS[distribution])
